"""Noun phrases: the words for one thing, or for several that look alike, and how they are read.

    phrase   = count [ "closed" | "standing" ] [size] [colour] [material] noun
    count    = "a" | "an" | "one" | "two" … "ten"
    size     = "small" | "little" | "medium" | "large" | "big"
    colour   = a name in PAINTS
    material = "rubber" | "wooden" | "glass" | "metal"        "glass" is a material before a noun, a noun elsewhere
    noun     = kind ["from picture" DIGITS]                   the thing in a picture given beside the words
             | "sign" ["that says" | "that say" | "saying" | "with the word" WORD]
             | "hand" ["with" number "raised" fingers | "with" number fingers "up"
                      | ("raising" | "showing") number fingers]
    fingers  = "finger" | "fingers"                            number = "no" | "one" … "five"
             | "fist"                                          a hand with no finger raised, as a "closed hand" is
             | "doll" [pose]
    pose     = "with its arms up" | "with raised arms" | "with its arms out" | "stretching out its arms"
             | "with its" ("left" | "right") "arm up" | "raising its" ("left" | "right") "arm" | "with its legs apart"
    kind     = a name in KINDS, or its plural                  WORD = 1 to 6 letters in double quotes

Of several dolls "their" stands for "its". A doll of whom no pose is said may stand as it likes; left and right are the
viewer's. Materials are said only where they are not the kind's usual one, and then not always.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .claim import Phrase, pose_of
from .scene import COLOURS, KINDS, MADE_OF, MATERIALS, MAX_FINGERS, MAX_THINGS, MAX_WORD, PAINTS, SIZES, Thing, pick

SIZE_WORDS = {"small": ("small", "little"), "medium": ("medium",), "large": ("large", "big")}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
ARTICLES = ("a", "an", "one")
COUNT_WORDS = {"a": 1, "an": 1, **{word: n for n, word in enumerate(NUMBERS) if n}}
PLURALS = {kind: f"{kind}es" if kind.endswith(("x", "s")) else f"{kind}s" for kind in KINDS}
MATERIAL_WORDS = {material: "wooden" if material == "wood" else material for material in MATERIALS}
SAYS = ("that says", "that say", "saying", "with the word")
FINGER = ("fingers", "finger")
POSE_WORDS = {
    "arms up": ("with its arms up", "with raised arms"),
    "arms out": ("with its arms out", "stretching out its arms"),
    "left arm up": ("with its left arm up", "raising its left arm"),
    "right arm up": ("with its right arm up", "raising its right arm"),
    "legs apart": ("with its legs apart",),
}

_SIZE_OF = {word: size for size, words in SIZE_WORDS.items() for word in words}
_MATERIAL_OF = {word: material for material, word in MATERIAL_WORDS.items()}
_KIND_OF = {word: kind for kind, plural in PLURALS.items() for word in (kind, plural)}
_KIND_OF |= {"fist": "hand", "fists": "hand"}
_POSE_OF = {
    way.replace("its", their): pose for pose, ways in POSE_WORDS.items() for way in ways for their in ("its", "their")
}
_FINGERS_OF = {
    way.format(number, finger): n
    for n, number in enumerate(NUMBERS[: MAX_FINGERS + 1])
    for finger in FINGER
    for way in ("with {} raised {}", "with {} {} up", "raising {} {}", "showing {} {}")
}

NOUN_WORDS = frozenset(
    {
        word
        for text in (*SAYS, *_POSE_OF, *_FINGERS_OF, "closed standing from picture", *PAINTS)
        for word in text.split()
    }
    | {*COUNT_WORDS, *_SIZE_OF, *_MATERIAL_OF, *_KIND_OF, *map(str, range(1, MAX_THINGS + 1))}
)
"""Every word of noun phrases but the words on signs."""


# ------------------------------------------------------------------------------------------------------------- speaking


def alike(thing: Thing) -> tuple[object, ...]:
    """What things must share to be counted together in a phrase."""
    return thing.kind, thing.colour, thing.word, thing.fingers, pose_of(thing)


def phrase(thing: Thing, rng: np.random.Generator, size: bool | None = None) -> str:
    """The noun phrase of one thing; its size is said, left out, or (None) said half the time."""
    return phrase_of([thing], rng, size)


def phrase_of(things: Sequence[Thing], rng: np.random.Generator, size: bool | None = None) -> str:
    """The noun phrase of things that are `alike`; size and material are said only if they share them."""
    thing, many = things[0], len(things) > 1
    words = [thing.colour]
    if len({t.material for t in things}) == 1 and thing.material != MADE_OF[thing.kind][0] and rng.random() < 0.7:
        words.append(MATERIAL_WORDS[thing.material])
    if len({t.size for t in things}) == 1 and (rng.random() < 0.5 if size is None else size):
        words.insert(0, pick(rng, SIZE_WORDS[thing.size]))
    noun = PLURALS[thing.kind] if many else thing.kind
    pose = pose_of(thing)
    if thing.kind == "hand" and thing.fingers == 0:
        fist = pick(rng, ("fist", "hand", "hand"))
        noun = noun.replace("hand", fist)
        if fist == "hand":
            words.insert(0, "closed")
    elif pose == "standing" and rng.random() < 0.5:
        words.insert(0, "standing")
    words.append(noun)
    if thing.kind == "sign":
        says = pick(rng, ("that say" if many else "that says", "saying", "with the word"))
        words.append(f'{says} "{thing.word}"')
    if thing.fingers:
        way = pick(rng, ("with {} raised {}", "with {} raised {}", "with {} {} up", "raising {} {}", "showing {} {}"))
        words.append(way.format(NUMBERS[thing.fingers], "finger" if thing.fingers == 1 else "fingers"))
    if pose in POSE_WORDS:
        way = pick(rng, POSE_WORDS[pose])
        words.append(way.replace("its", "their") if many else way)
    if many:
        return " ".join((NUMBERS[len(things)], *words))
    article = "one" if rng.random() < 0.1 else "an" if words[0][0] in "aeiou" else "a"
    return " ".join((article, *words))


# -------------------------------------------------------------------------------------------------------------- reading


class Reader:
    """The words of a text that are still to be read."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise ValueError(f"a text is words, such as 'a red ball', not {type(text).__name__}")
        self.text = text
        # A closing full stop says nothing; straight and typographic quotes are one.
        plain = text.replace("“", '"').replace("”", '"').strip().removesuffix(".")
        self.words: list[str] = re.findall(r'"[^"]*"?|[^\s,"]+|,', plain)

    def next_is(self, options: Sequence[str]) -> bool:
        """Whether one of these word groups comes next."""
        lower = [word.lower() for word in self.words[:8]]
        return any(lower[: len(words)] == words for words in (option.split() for option in options))

    def take(self, options: Sequence[str]) -> str | None:
        """Read the first of these word groups that comes next, if any does."""
        lower = [word.lower() for word in self.words[:8]]
        for option in options:
            words = option.split()
            if lower[: len(words)] == words:
                del self.words[: len(words)]
                return option
        return None

    def phrase(self) -> Phrase:
        """Read a noun phrase."""
        count = self.take(tuple(COUNT_WORDS))
        if count is None:
            if self.take(("the",)):
                return self.described()
            raise self.error(f"one of: {', '.join(COUNT_WORDS)}")
        return self.described(COUNT_WORDS[count])

    def described(self, count: int = 1) -> Phrase:
        """Read a noun phrase without its count."""
        closed, standing = self.take(("closed",)), self.take(("standing",))
        size, colour = self.take(tuple(_SIZE_OF)), self.take(tuple(PAINTS))
        material = None
        if len(self.words) > 1 and self.words[1].lower() in _KIND_OF:
            material = self.take(tuple(_MATERIAL_OF))
        noun = self.take(tuple(_KIND_OF))
        if noun is None:
            missing = [] if colour else ["a colour (" + ", ".join(COLOURS) + ")"]
            raise self.error(" or ".join([*missing, "a kind (" + ", ".join(KINDS) + ")"]))
        kind = _KIND_OF[noun]
        if (closed and kind != "hand") or (standing and kind != "doll"):
            raise ValueError(f"cannot read {noun!r} in {self.text!r}: expected {'a hand' if closed else 'a doll'}")
        fingers = 0 if closed or noun.startswith("fist") else None
        word, pose = None, "standing" if standing else None
        if kind == "sign" and self.take(SAYS):
            word = self.quoted()
        elif kind == "hand" and fingers is None and (said := self.take(tuple(_FINGERS_OF))):
            fingers = _FINGERS_OF[said]
        elif kind == "doll" and (said := self.take(tuple(_POSE_OF))):
            pose = _POSE_OF[said]
        picture = self._number() if self.take(("from picture",)) else None
        return Phrase(
            kind,
            colour,
            None if size is None else _SIZE_OF[size],
            None if material is None else _MATERIAL_OF[material],
            word,
            fingers,
            pose,
            count,
            picture,
        )

    def quoted(self) -> str:
        """Read a word in double quotes."""
        if not self.words or not re.fullmatch(rf'"[A-Za-z]{{1,{MAX_WORD}}}"', self.words[0]):
            raise self.error(f'a word of 1 to {MAX_WORD} letters in double quotes, such as "CAT"')
        return self.words.pop(0).strip('"').upper()

    def _number(self) -> int:
        number = self.take(tuple(map(str, range(MAX_THINGS, 0, -1))))
        if number is None:
            raise self.error(f"the number of a picture, 1 to {MAX_THINGS}")
        return int(number)

    def error(self, wanted: str) -> ValueError:
        found = repr(self.words[0]) if self.words else "the end"
        return ValueError(f"cannot read {found} in {self.text!r}: expected {wanted}")


assert set(SIZE_WORDS) == set(SIZES)
