"""What is held out of training: colours with kinds, and relations between kinds, that no training scene shows.

A pair is held out by a hash of its words, so the split does not move when a seed, a count or the order of a list does.
A test scene shows at least one such pair, in new company or old; a training scene shows none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache

from .claim import Claim, relations
from .scene import Scene

SPLITS = ("train", "test")
# Chosen so that each held-out pair has another colour and another kind: nothing is held out as a whole.
_SALT = "tabletop 12522"
_SHARE = 1 / 7


@cache
def held_out(*words: str) -> bool:
    """Whether ("red", "ball") or ("left of", "ball", "cup") is kept for the test.

    "a right of b" is "b left of a". Two things of one kind are never held out by how they stand.
    """
    if len(words) == 3 and words[0] == "left of" and words[1] == words[2]:
        return False
    digest = hashlib.sha256("|".join((_SALT, *words)).encode()).digest()
    return int.from_bytes(digest[:8], "big") < _SHARE * 2**64


def split(scene: Scene) -> str:
    """The split a scene belongs to: "test" if it shows anything held out, else "train"."""
    looks = ((thing.colour, thing.kind) for thing in scene.things)
    placed = ((r.name, scene.things[r.first].kind, scene.things[r.second].kind) for r in relations(scene.things))
    return "test" if _any_held_out([*looks, *placed]) else "train"


def novel(claim: Claim) -> bool:
    """Whether a caption itself says something held out, so that no training caption says the same."""
    return _any_held_out(_said(claim))


def _said(claim: Claim) -> Iterator[tuple[str, ...]]:
    for phrase in claim.phrases:
        if phrase.colour is not None:
            yield phrase.colour, phrase.kind
    for relation in claim.relations:
        if relation.name != "beside":
            yield relation.name, claim.phrases[relation.first].kind, claim.phrases[relation.second].kind


def _any_held_out(pairs: Iterable[tuple[str, ...]]) -> bool:
    return any(held_out(*pair) for pair in pairs)
