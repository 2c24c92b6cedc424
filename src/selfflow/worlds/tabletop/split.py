"""What is held out of training: colours with kinds, relations between kinds, and words, that no training scene shows.

Each is held out by a hash of its words, so the split does not move when a seed, a count or the order of a list does. A
test scene shows at least one such thing, in new company or old; a training scene shows none. What is said of a test
scene need not speak of it: `novel` tells. The robot's scenes have a rule of their own (`robot.goals.draw_start`).

A scene shows what its captions may say: what is on or in what, and which of two neighbours on the table is left of the
other. "Above" counts as "on", and "on a plate" as "in a plate".
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise

from .claim import Claim, Phrase
from .instruct import Instruction
from .paints import like
from .relations import FLAT, supports
from .scene import TONES, Scene, Thing

SPLITS = ("train", "test")
NOVELTIES = ("colour", "relation", "word")
# Chosen so that the pairs held out differ in kind and colour: nothing is held out as a whole, no relation both ways.
_SALT = "tabletop 104956"
_SHARE = 1 / 7


@cache
def held_out(*words: str) -> bool:
    """Whether ("red", "ball"), ("left of", "ball", "cup") or ("word", "CAT") is kept for the test.

    "a right of b" is "b left of a". Two things of one kind are never held out by how they stand. A tone is held out
    with a kind where a colour is that it is `like`.
    """
    if words[0] in TONES:
        return any(held_out(colour, *words[1:]) for colour in like(words[0]))
    if len(words) == 3 and words[0] == "left of" and words[1] == words[2]:
        return False
    digest = hashlib.sha256("|".join((_SALT, *words)).encode()).digest()
    return int.from_bytes(digest[:8], "big") < _SHARE * 2**64


def split(scene: Scene) -> str:
    """The split a scene belongs to: "test" if it shows anything held out, else "train"."""
    return "test" if any(held_out(*words) for words in _shown(scene.things)) else "train"


def novel(said: Claim | Instruction) -> bool:
    """Whether a caption or an instruction itself says something held out, so that none of training says the same."""
    return bool(novelties(said))


def novelties(said: Claim | Instruction) -> frozenset[str]:
    """What a caption or an instruction says that is held out: of `NOVELTIES`, those of which it says any."""
    told = _asked(said) if isinstance(said, Instruction) else _said(said)
    return frozenset(_sort(words) for words in told if held_out(*words))


def _sort(words: tuple[str, ...]) -> str:
    if len(words) == 3:
        return "relation"
    return "word" if words[0] == "word" else "colour"


def _shown(things: Sequence[Thing]) -> Iterator[tuple[str, ...]]:
    carriers = supports(things)
    for thing, carrier in zip(things, carriers, strict=True):
        yield thing.colour, thing.kind
        if thing.word:
            yield "word", thing.word
        if carrier is not None:
            below = things[carrier].kind
            yield _vertical("on" if below in FLAT else "in", thing.kind, below)
    columns = sorted((t for t, carrier in zip(things, carriers, strict=True) if carrier is None), key=lambda t: t.x)
    for left, right in pairwise(columns):
        yield "left of", left.kind, right.kind


def _said(claim: Claim) -> Iterator[tuple[str, ...]]:
    yield from _named(claim.phrases)
    for relation in claim.relations:
        yield from _placed(relation.name, claim.phrases[relation.first], claim.phrases[relation.second])


def _asked(asked: Instruction) -> Iterator[tuple[str, ...]]:
    moved = asked.target or asked.new
    yield from _named(asked.phrases)
    if asked.colour is not None and asked.target is not None:
        yield asked.colour, asked.target.kind
    if asked.word is not None:
        yield "word", asked.word
    if asked.relation is not None and moved is not None and asked.other is not None:
        yield from _placed(asked.relation, moved, asked.other)


def _named(phrases: Sequence[Phrase]) -> Iterator[tuple[str, ...]]:
    for phrase in phrases:
        if phrase.colour is not None:
            yield phrase.colour, phrase.kind
        if phrase.word is not None:
            yield "word", phrase.word


def _placed(name: str, first: Phrase, second: Phrase) -> Iterator[tuple[str, str, str]]:
    """What is said by "first NAME second"; "beside" holds of either side."""
    if name == "left of":
        yield name, first.kind, second.kind
    elif name == "right of":
        yield "left of", second.kind, first.kind
    elif name != "beside":
        yield _vertical(name, first.kind, second.kind)


def _vertical(name: str, upper: str, lower: str) -> tuple[str, str, str]:
    return ("in" if name == "in" or lower == "plate" else "on"), upper, lower
