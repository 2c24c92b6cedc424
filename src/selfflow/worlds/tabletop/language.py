"""Scene -> caption -> claim, by one small grammar. Every caption is true of its scene, and every caption can be parsed.

    caption  = [ opener ] ( row | chain ) [ "on the table" ]
    opener   = "a picture of" | "there is" | "there are"
    row      = "from left to right" [","] phrase { ("," | "and" | ", and") phrase }
    chain    = phrase { joint phrase }           joint: each speaks of the phrase before it and the phrase after it
    joint    = ["to the"] ("left" | "right") "of" | "next to" | "beside" | "on" | "on top of" | "under" | "below"
             | "and" | "," | ", and"             these three state no relation
             | "with" … "on it"                  "a blue box with a red ball on it"
    phrase   = ("a" | "an" | "one" | "two" | "three") [size] [colour] kind
    size     = "small" | "little" | "medium" | "large" | "big"
    colour   = a name in COLOURS                 kind = a name in KINDS, or its plural

A caption names every thing there is ("a red ball" is false of two). In a chain such as "a green cup left of a red ball
on a blue box" each joint is true of its own two neighbours, so however a reader groups it, it is true.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .claim import Claim, Phrase, Relation
from .scene import COLOURS, KINDS, SIZES, Scene, pick

SIZE_WORDS = {"small": ("small", "little"), "medium": ("medium",), "large": ("large", "big")}
COUNT_WORDS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3}
PLURALS = {kind: f"{kind}es" if kind.endswith("x") else f"{kind}s" for kind in KINDS}
OPENERS = ("a picture of", "there is", "there are")

LEFT = ("left of", "to the left of")
RIGHT = ("right of", "to the right of")
ON = ("on", "on top of")
UNDER = ("under", "below")
BESIDE = ("next to", "beside")
ROW = "from left to right"

# Each joint is a relation and whether it is turned round, or states nothing.
_JOINTS: dict[str, tuple[str, bool] | None] = {
    ", and": None,
    "and": None,
    ",": None,
    **dict.fromkeys(LEFT, ("left of", False)),
    **dict.fromkeys(RIGHT, ("left of", True)),
    **dict.fromkeys(ON, ("on", False)),
    **dict.fromkeys((*UNDER, "with"), ("on", True)),
    **dict.fromkeys(BESIDE, ("beside", False)),
}
_SIZE_OF = {word: size for size, words in SIZE_WORDS.items() for word in words}
_KIND_OF = {word: kind for kind, plural in PLURALS.items() for word in (kind, plural)}

WORDS: tuple[str, ...] = tuple(
    sorted({word for text in (*OPENERS, ROW, "on the table", "on it", *_JOINTS) for word in text.split()}
           | {*COUNT_WORDS, *_SIZE_OF, *COLOURS, *_KIND_OF})
)  # fmt: skip
"""Every word (and the comma) of the language, sorted: enough for a word-level tokenizer."""


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of the ways to say what a scene shows. Colours and kinds are always said, sizes about half the time."""
    things = scene.things
    top_of = {thing.on: index for index, thing in enumerate(things) if thing.on is not None}
    columns = sorted((i for i, thing in enumerate(things) if thing.on is None), key=lambda i: things[i].x)
    alike = {(thing.kind, thing.colour) for thing in things}

    if len(alike) == 1:
        body = _phrase(scene, columns, rng)
    elif len(columns) == 3:
        body = _three(scene, columns, rng)
    else:
        body = _chain([_column(scene, index, top_of.get(index), rng) for index in columns], rng, stacked=bool(top_of))

    if not top_of and not body.startswith(ROW) and rng.random() < 0.15:
        body += " on the table"
    if rng.random() < 0.25 and not body.startswith(ROW):
        opener = pick(rng, ("a picture of", "there"))
        body = f"there {_be(body)} {body}" if opener == "there" else f"{opener} {body}"
    return body


def _be(body: str) -> str:
    return "are" if COUNT_WORDS[body.split()[0]] > 1 else "is"


def _phrase(scene: Scene, indices: Sequence[int], rng: np.random.Generator) -> str:
    """The noun phrase of things of one colour and kind; their size is said only if they share it."""
    things = [scene.things[index] for index in indices]
    sizes = {thing.size for thing in things}
    words = [things[0].colour, things[0].kind if len(things) == 1 else PLURALS[things[0].kind]]
    if len(sizes) == 1 and rng.random() < 0.5:
        words.insert(0, pick(rng, SIZE_WORDS[things[0].size]))
    if len(things) > 1:
        return " ".join((("two", "three")[len(things) - 2], *words))
    article = "one" if rng.random() < 0.1 else "an" if words[0][0] in "aeiou" else "a"
    return " ".join((article, *words))


def _column(scene: Scene, index: int, top: int | None, rng: np.random.Generator) -> str:
    box = _phrase(scene, [index], rng)
    if top is None:
        return box
    thing = _phrase(scene, [top], rng)
    chance = rng.random()
    if chance < 0.6:
        return f"{thing} {pick(rng, ON)} {box}"
    return f"{box} {pick(rng, UNDER)} {thing}" if chance < 0.8 else f"{box} with {thing} on it"


def _chain(parts: list[str], rng: np.random.Generator, *, stacked: bool, beside: bool = True) -> str:
    """One part as it is, or two joined by where they are.

    After a stack the bare "and" wants its comma. Of twins only one is beside the third thing: `beside` is False there.
    """
    if len(parts) == 1:
        return parts[0]
    left, right = parts
    chance = rng.random()
    if chance < 0.35:
        return f"{left} {pick(rng, LEFT)} {right}"
    if chance < 0.70:
        return f"{right} {pick(rng, RIGHT)} {left}"
    if rng.random() < 0.5:
        left, right = right, left
    if chance < 0.85 and beside:
        return f"{left} {pick(rng, BESIDE)} {right}"
    return f"{left}, and {right}" if stacked else f"{left} and {right}"


def _three(scene: Scene, columns: list[int], rng: np.random.Generator) -> str:
    """Three things in a row, not all alike."""
    looks = [(scene.things[index].kind, scene.things[index].colour) for index in columns]
    for twins, other in (((0, 1), 2), ((1, 2), 0), ((0, 2), 1)):
        if looks[twins[0]] == looks[twins[1]] and rng.random() < 0.6:
            pair, single = _phrase(scene, [columns[i] for i in twins], rng), _phrase(scene, [columns[other]], rng)
            if other == 1:
                return f"{pair} and {single}"
            ends = [pair, single] if other == 2 else [single, pair]
            return _chain(ends, rng, stacked=False, beside=False)
    chance = rng.random()
    order = columns if chance < 0.6 else sorted(columns, key=lambda _: rng.random())
    first, second, third = (_phrase(scene, [index], rng) for index in order)
    return f"{ROW}, {first}, {second} and {third}" if chance < 0.6 else f"{first}, {second} and {third}"


def parse(text: str) -> Claim:
    """What a caption asserts.

    Raises ValueError naming the first word that does not belong and what could stand in its place, or the claim's own
    error (too many things).
    """
    reader = _Reader(text)
    reader.take(OPENERS)
    row = reader.take((ROW,)) is not None
    if row:
        reader.take((",",))
    phrases = [reader.phrase()]
    relations: list[Relation] = []
    joints = ("and", ",", ", and") if row else tuple(_JOINTS)
    while reader.words and reader.words != ["on", "the", "table"]:
        joint = reader.take(sorted(joints, key=len, reverse=True))  # "on top of" before "on"
        if joint is None:
            raise reader.error(f"one of: {', '.join(repr(words) for words in joints)}")
        here = len(phrases)
        phrases.append(reader.phrase())
        if joint == "with" and reader.take(("on it",)) is None:
            raise reader.error("'on it'")
        meaning = _JOINTS[joint]
        if meaning is not None:
            name, turned = meaning
            relations.append(Relation(name, here, here - 1) if turned else Relation(name, here - 1, here))
        if row:
            relations += [Relation("left of", earlier, here) for earlier in range(here)]
    return Claim(tuple(phrases), tuple(relations))


class _Reader:
    """The words of a caption that are still to be read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words: list[str] = re.findall(r"[^\s,.]+|,", text.lower())

    def take(self, options: Sequence[str]) -> str | None:
        """Read the first of these word groups that comes next, if any does."""
        for option in options:
            words = option.split()
            if self.words[: len(words)] == words:
                del self.words[: len(words)]
                return option
        return None

    def phrase(self) -> Phrase:
        count = self.take(tuple(COUNT_WORDS))
        if count is None:
            raise self.error(f"one of: {', '.join(COUNT_WORDS)}")
        size, colour = self.take(tuple(_SIZE_OF)), self.take(tuple(COLOURS))
        kind = self.take(tuple(_KIND_OF))
        if kind is None:
            missing = [] if colour else ["a colour (" + ", ".join(COLOURS) + ")"]
            raise self.error(" or ".join([*missing, "a kind (" + ", ".join(KINDS) + ")"]))
        return Phrase(_KIND_OF[kind], colour, None if size is None else _SIZE_OF[size], COUNT_WORDS[count])

    def error(self, wanted: str) -> ValueError:
        found = repr(self.words[0]) if self.words else "the end"
        return ValueError(f"cannot read {found} in {self.text!r}: expected {wanted}")


assert set(SIZE_WORDS) == set(SIZES)
