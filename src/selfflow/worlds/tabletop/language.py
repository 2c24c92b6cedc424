"""Scene -> caption -> claim, by one small grammar. Every caption is true of its scene, and every caption can be parsed.

    caption  = [ opener ] ( row | chain ) [ "on the table" ]
    opener   = "a picture of" | "there is" | "there are"
    row      = "from left to right" [","] column { ("," | "and" | ", and") column }
    chain    = phrase { joint phrase | loaded }  joint: speaks of the phrase before it and the phrase after it
    column   = a chain whose joints are up or down only
    joint    = up or down | ["to the"] ("left" | "right") "of" | "next to" | "beside"
             | "and" | "," | ", and"             these three state no relation
    up, down = "on" | "on top of" | "in" | "inside" | "above" | "under" | "below" | "beneath" | "holding" | "containing"
    loaded   = "with" phrase { "and" phrase } ("on it" | "in it")     "a cup with a ball in it"
    phrase   = see `nouns`; motions and sounds, see `narrate`

A caption names every thing there is ("a red ball" is false of two). In a chain such as "a green cup left of a blue box
with a red ball on it" each joint is true of its own two neighbours, so however a reader groups it, it is true; what
follows "on it" speaks of the thing that carries. Left and right are said of what stands on the table, above and below
of what touches. Words and fingers are always said of a sign and a hand, and poses of a doll that does not just stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from .claim import Claim, Relation
from .narrate import MOTION_WORDS, caption_motion, parse_motion, tells_motion
from .nouns import ARTICLES, COUNT_WORDS, NOUN_WORDS, NUMBERS, PLURALS, SIZE_WORDS, Reader, alike, phrase, phrase_of
from .relations import FLAT, supports
from .scene import WORDS, Scene, Thing, pick

__all__ = [
    "ARTICLES",
    "COUNT_WORDS",
    "NUMBERS",
    "PLURALS",
    "SIZE_WORDS",
    "WORDS_OF_LANGUAGE",
    "Reader",
    "caption",
    "caption_motion",
    "parse",
    "phrase",
]

OPENERS = ("a picture of", "there is", "there are")
LEFT = ("left of", "to the left of")
RIGHT = ("right of", "to the right of")
ON = ("on", "on top of")
UNDER = ("under", "below", "beneath")
IN = ("in", "inside")
HOLDING = ("holding", "containing")
BESIDE = ("next to", "beside")
ROW = "from left to right"
AND = (", and", "and", ",")

# Each joint is a relation and whether it is turned round.
_UP_DOWN: dict[str, tuple[str, bool]] = {
    **dict.fromkeys(ON, ("on", False)),
    **dict.fromkeys(IN, ("in", False)),
    **dict.fromkeys(HOLDING, ("in", True)),
    **dict.fromkeys(UNDER, ("above", True)),
    "above": ("above", False),
}
_SIDEWAYS: dict[str, tuple[str, bool]] = {
    **dict.fromkeys(LEFT, ("left of", False)),
    **dict.fromkeys(RIGHT, ("left of", True)),
    **dict.fromkeys(BESIDE, ("beside", False)),
}

WORDS_OF_LANGUAGE: tuple[str, ...] = tuple(
    sorted(
        {word for text in (*OPENERS, ROW, "the table with it", *_UP_DOWN, *_SIDEWAYS, *AND) for word in text.split()}
        | NOUN_WORDS
        | MOTION_WORDS
    )
    + [f'"{word}"' for word in WORDS]
)  # fmt: skip
"""Every word of captions (and the comma), the words on signs in their quotes: enough for a word-level tokenizer."""


# ------------------------------------------------------------------------------------------------------------- speaking


def caption(scene: Scene, rng: np.random.Generator, said: Mapping[int, str] | None = None) -> str:
    """One of the ways to say what a scene shows. Colours and kinds are always said, sizes about half the time.

    Args:
        said: phrases to be used for some of the things, by index.

    Raises:
        ValueError: for a scene without things.
    """
    if not scene.things:
        raise ValueError("an empty scene has no caption; draw at least one thing")
    teller = _Teller(scene.things, rng, said or {})
    body = teller.body()
    if not body.startswith(ROW):
        if teller.plain and rng.random() < 0.15:
            body += " on the table"
        first = body.split()[0]
        if first in COUNT_WORDS and rng.random() < 0.25:
            be = "are" if COUNT_WORDS[first] > 1 else "is"
            body = pick(rng, ("a picture of ", f"there {be} ")) + body
    return body


class _Teller:
    """The words for the things of one scene."""

    def __init__(self, things: Sequence[Thing], rng: np.random.Generator, said: Mapping[int, str]) -> None:
        self.things, self.rng, self.said = things, rng, said
        carriers = supports(things)
        self.loads: dict[int, list[int]] = {i: [] for i in range(len(things))}
        for i, below in enumerate(carriers):
            if below is not None:
                self.loads[below].append(i)
        for loads in self.loads.values():
            loads.sort(key=lambda i: things[i].x)
        self.columns = sorted((i for i, below in enumerate(carriers) if below is None), key=lambda i: things[i].x)
        self.plain = len(self.columns) == len(things)

    def body(self) -> str:
        rng, columns = self.rng, self.columns
        groups = self._groups()
        chance = rng.random()
        if len(groups) == 1:
            return self._group(groups[0])
        if len(columns) == 2:
            return self._pair(columns[0], columns[1])
        if len(columns) == 3 and len(groups) == 2 and chance < 0.6:
            return self._twins(groups)
        if chance < 0.5:
            items = [self._downwards(i) for i in columns]
            comma = "," if not self.plain and rng.random() < 0.5 else ""
            return f"{ROW}{',' if rng.random() < 0.7 else ''} {', '.join(items[:-1])}{comma} and {items[-1]}"
        if len(columns) == 3 and chance < 0.7:
            k = int(rng.random() * 2)
            other = columns[2 - 2 * k]
            return f"{self._pair(columns[k], columns[k + 1], joined=True)}, and {self._column(other)}"
        shuffled = sorted(groups, key=lambda _: rng.random())
        items = [self._group(group) for group in shuffled]
        return f"{', '.join(items[:-1])}{'' if self.plain else ','} and {items[-1]}"

    def _phrase(self, i: int) -> str:
        return self.said[i] if i in self.said else phrase(self.things[i], self.rng)

    def _groups(self) -> list[list[int]]:
        """The columns, those that are single things of one look taken together, from left to right."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for i in self.columns:
            single = not self.loads[i] and i not in self.said
            groups.setdefault(alike(self.things[i]) if single else (i,), []).append(i)
        return list(groups.values())

    def _group(self, group: list[int]) -> str:
        if len(group) > 1:
            return phrase_of([self.things[i] for i in group], self.rng)
        return self._column(group[0])

    def _pair(self, left: int, right: int, *, joined: bool = False) -> str:
        """Two columns and how they stand. Where only "and" joins them, any words for them will do."""
        rng = self.rng
        chance = rng.random() * (0.9 if joined else 1.0)
        if chance < 0.3:
            return f"{self._ending(left)} {pick(rng, LEFT)} {self._beginning(right)}"
        if chance < 0.6:
            return f"{self._ending(right)} {pick(rng, RIGHT)} {self._beginning(left)}"
        first, second = (left, right) if rng.random() < 0.5 else (right, left)
        if chance < 0.9:
            return f"{self._ending(first)} {pick(rng, BESIDE)} {self._beginning(second)}"
        return f"{self._column(first)}{' and' if self.plain else ', and'} {self._column(second)}"

    def _twins(self, groups: list[list[int]]) -> str:
        """Three columns, two of them alike. Of twins only one is beside the third."""
        pair, single = sorted(groups, key=len, reverse=True)
        one = self._group(pair)
        if self.columns[1] == single[0] or self.rng.random() < 0.2:
            joint = "and" if not self.loads[single[0]] else ", and"
            return f"{one}{'' if joint[0] == ',' else ' '}{joint} {self._column(single[0])}"
        leftmost = self.columns[0] in pair
        if self.rng.random() < 0.5:
            return f"{one} {pick(self.rng, LEFT if leftmost else RIGHT)} {self._beginning(single[0])}"
        return f"{self._ending(single[0])} {pick(self.rng, RIGHT if leftmost else LEFT)} {one}"

    # A column can be told so that its lowest thing is the last that is spoken of, or so that it is the first.

    def _column(self, i: int) -> str:
        return self._ending(i) if self.rng.random() < 0.7 else self._beginning(i)

    def _ending(self, i: int) -> str:
        return self._loaded(i) if self._laden(i) and self.rng.random() < 0.3 else self._downwards(i)

    def _beginning(self, i: int) -> str:
        loads, rng = self.loads[i], self.rng
        if not loads:
            return self._phrase(i)
        if self.things[i].kind not in FLAT or len(loads) > 1:
            return self._loaded(i)
        if self._laden(i) and rng.random() < 0.5:
            return self._loaded(i)
        return f"{self._phrase(i)} {pick(rng, UNDER)} {self._beginning(loads[0])}"

    def _laden(self, i: int) -> bool:
        """Whether a thing carries others that carry nothing themselves."""
        return bool(self.loads[i]) and not any(self.loads[k] for k in self.loads[i])

    def _loaded(self, i: int) -> str:
        """ "a blue box with a red ball on it"."""
        rng, kind = self.rng, self.things[i].kind
        loads = [self._phrase(k) for k in self.loads[i]]
        if len(loads) == 1 and kind in ("cup", "glass") and rng.random() < 0.4:
            return f"{self._phrase(i)} {pick(rng, HOLDING)} {loads[0]}"
        where = "in it" if kind in ("cup", "glass") else "on it"
        return f"{self._phrase(i)} with {' and '.join(loads)} {where}"

    def _downwards(self, i: int) -> str:
        """ "a red ball on a blue box on a book"."""
        loads, rng = self.loads[i], self.rng
        if not loads:
            return self._phrase(i)
        if len(loads) > 1:
            return self._loaded(i)
        kind = self.things[i].kind
        joint = pick(rng, IN if kind in ("cup", "glass") else (*ON, "in") if kind == "plate" else (*ON, *ON, "above"))
        return f"{self._downwards(loads[0])} {joint} {self._phrase(i)}"


# -------------------------------------------------------------------------------------------------------------- reading


def parse(text: str) -> Claim:
    """What a caption asserts, of a picture or of a motion.

    Raises ValueError naming the first word that does not belong and what could stand in its place, or the claim's own
    error (too many things).
    """
    reader = Reader(text)
    if tells_motion(reader):
        return parse_motion(reader)
    reader.take(OPENERS)
    row = reader.take((ROW,)) is not None
    if row:
        reader.take((",",))
    claim = _Claim(reader)
    joints = (*_UP_DOWN, *AND) if row else (*_UP_DOWN, *_SIDEWAYS, *AND)
    while reader.words and [word.lower() for word in reader.words] != ["on", "the", "table"]:
        joint = reader.take(("with", *sorted(joints, key=len, reverse=True)))  # "on top of" before "on"
        if joint is None:
            raise reader.error(f"one of: {', '.join(repr(words) for words in ('with', *joints))}")
        if joint == "with":
            claim.load()
        else:
            claim.join(joint)
    return claim.whole(row)


class _Claim:
    """A claim that is being read."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.phrases = [reader.phrase()]
        self.relations: list[Relation] = []
        self.spoken = 0  # the phrase that a joint speaks of
        self.starts = [0]  # where the items of a row begin

    def join(self, joint: str) -> None:
        before, here = self.spoken, len(self.phrases)
        self.phrases.append(self.reader.phrase())
        self.spoken = here
        if joint in AND:
            self.starts.append(here)
        else:
            name, turned = (_UP_DOWN | _SIDEWAYS)[joint]
            self.relations.append(Relation(name, here, before) if turned else Relation(name, before, here))

    def load(self) -> None:
        """ "with a red ball on it": what follows speaks of the carrier again."""
        loads = [len(self.phrases)]
        self.phrases.append(self.reader.phrase())
        while self.reader.take(("and",)):
            loads.append(len(self.phrases))
            self.phrases.append(self.reader.phrase())
        where = self.reader.take(("on it", "in it"))
        if where is None:
            raise self.reader.error("'on it' or 'in it'")
        self.relations += [Relation(where.split()[0], load, self.spoken) for load in loads]

    def whole(self, row: bool) -> Claim:
        if row:
            lifted = {r.first for r in self.relations}
            ends = [*self.starts[1:], len(self.phrases)]
            items = [range(start, end) for start, end in zip(self.starts, ends, strict=True)]
            bases = [next((i for i in item if i not in lifted), item[0]) for item in items]
            self.relations += [Relation("left of", a, b) for a, b in pairwise(bases)]
        return Claim(tuple(self.phrases), tuple(self.relations))
