"""Instructions that change a scene: what they say, how they are read, and whether they have been followed.

    instruction = recolour | move | add | remove | resize | change word | raise fingers | swap
    recolour      = ("make" | "paint" | "colour" | "turn") target COLOUR | "change the colour of" target "to" COLOUR
    move          = ("move" | "put" | "place") target place
    add           = ("add" | "put" | "place") phrase [place]
    remove        = ("remove" | "take away" | "delete") target
    resize        = "make" target SIZE | "change the size of" target "to" SIZE
    change word   = "change the word on" target "to" WORD | "make" target "say" WORD | "write" WORD "on" target
    raise fingers = "raise" NUMBER FINGERS "on" target | "make" target ("raise" | "show") NUMBER FINGERS
                  | "close" target
    swap          = "swap" target ("and" | "with") target | "exchange the places of" target "and" target
    target        = "the" and the phrase of a caption without its count, naming exactly one thing
    place         = ["to the"] ("left" | "right") "of" target | "next to" target | "beside" target
                  | ("on" | "onto" | "on top of") target | ("in" | "into" | "inside") target

COLOUR, SIZE, NUMBER and WORD (in double quotes) are those of `language`. What stands on a thing goes where it goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .claim import Phrase, pose_of
from .nouns import ARTICLES, NUMBERS, SIZE_WORDS, Reader, phrase
from .relations import carried, extent, related, supports
from .scene import MAX_FINGERS, PAINTS, Thing, check_known, pick

EDIT_KINDS = ("recolour", "move", "add", "remove", "resize", "change word", "raise fingers", "swap")
SAME_PLACE = 0.05  # m: what is read within this of where it was has not moved

_PLACES = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "beside": ("next to", "beside"),
    "on": ("on", "on top of", "onto"),
    "in": ("in", "into", "inside"),
}
_PLACE_OF = {words: place for place, ways in _PLACES.items() for words in ways}
_SIZE_OF = {word: size for size, words in SIZE_WORDS.items() for word in words}
_FINGERS = ("fingers", "finger")
_SAID = (
    "make paint colour turn change the colour of to move put place add remove take away delete size word on say write",
    "raise show close swap and with exchange places",
)
INSTRUCTION_WORDS = tuple(sorted({word for text in (*_SAID, *_PLACE_OF) for word in text.split()}))
"""The words of instructions beyond those of captions."""


@dataclass(frozen=True)
class Instruction:
    """One change that is asked for.

    Attributes:
        kind: of `EDIT_KINDS`.
        target: what is to change; None for "add".
        other: what it is put beside, on or in, or is swapped with; None where nothing is.
        relation: `"left of"`, `"right of"`, `"beside"`, `"on"`, `"in"` to the other; None where none is asked for.
        new: what is added.
        colour, size, word, fingers: what the target shall have, for the kinds that say so.
    """

    kind: str
    target: Phrase | None = None
    other: Phrase | None = None
    relation: str | None = None
    new: Phrase | None = None
    colour: str | None = None
    size: str | None = None
    word: str | None = None
    fingers: int | None = None

    def __post_init__(self) -> None:
        check_known("kind of edit", self.kind, EDIT_KINDS)

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """What is spoken of."""
        return tuple(phrase for phrase in (self.target, self.other, self.new) if phrase is not None)

    def named(self, things: Sequence[Thing]) -> tuple[int, ...]:
        """The indices of the target and of the other, as far as there are such.

        Raises ValueError when a phrase fits no thing, or several.
        """
        return tuple(the_one(words, things) for words in (self.target, self.other) if words is not None)

    def done(self, before: Sequence[Thing], after: Sequence[Thing]) -> list[tuple[bool, str]]:
        """Whether the instruction has been followed and the rest left alone: `(is it right, what to say if not)`.

        The things may have been read from pictures. Raises ValueError as `named` does, for the things before.
        """
        return _checks(self, before, after)


# ------------------------------------------------------------------------------------------------------------- speaking


def fits(words: Phrase, thing: Thing) -> bool:
    """Whether a phrase is true of a thing, but for its material, which a picture does not surely tell."""
    told = ("kind", "colour", "size", "word", "fingers")
    said = ((getattr(words, name), getattr(thing, name)) for name in told)
    return all(wanted in (None, found) for wanted, found in said) and words.pose in (None, pose_of(thing))


def the_one(words: Phrase, things: Sequence[Thing]) -> int:
    """The index of the one thing that a phrase names. Raises ValueError when there is none, or several."""
    found = [i for i, thing in enumerate(things) if fits(words, thing)]
    if len(found) != 1:
        raise ValueError(f"{'several things are' if found else 'nothing is'} the {words}; name exactly one thing")
    return found[0]


def the(things: Sequence[Thing], i: int, rng: np.random.Generator) -> str | None:
    """Words that name thing i and no other: "the red ball", "the small red ball", "the red sign that says "CAT"".

    Now and then they say more or less than they must. None where nothing that is said of it tells it apart.
    """
    thing = things[i]
    size = pick(rng, SIZE_WORDS[thing.size])
    ways = [f"the {thing.colour} {thing.kind}", f"the {size} {thing.colour} {thing.kind}"]
    if rng.random() < 0.2:
        ways.insert(0, f"the {thing.kind}")
    elif rng.random() < 0.2:
        ways.insert(0, ways[1])
    full = phrase(thing, rng, size=True)
    ways.append(f"the {full.split(' ', 1)[1]}")
    for way in ways:
        if [j for j, other in enumerate(things) if fits(_named(way), other)] == [i]:
            return way
    return None


def _named(text: str) -> Phrase:
    return _target(Reader(text))


def say(asked: Instruction, target: str, other: str, rng: np.random.Generator) -> str:
    """One of the ways to ask for it, given words for the target (for "add" the whole phrase) and for the other."""
    kind = asked.kind
    number = "" if asked.fingers is None else NUMBERS[asked.fingers]
    finger = "finger" if asked.fingers == 1 else "fingers"
    place = "" if asked.relation is None else f" {pick(rng, _PLACES[asked.relation])} {other}"
    size = "" if asked.size is None else pick(rng, SIZE_WORDS[asked.size])
    ways = {
        "recolour": (
            *(f"{verb} {target} {asked.colour}" for verb in ("make", "paint", "colour", "turn")),
            f"change the colour of {target} to {asked.colour}",
        ),
        "move": tuple(f"{verb} {target}{place}" for verb in ("move", "put", "place")),
        "add": tuple(f"{verb} {target}{place}" for verb in (("add", "put", "place") if place else ("add",))),
        "remove": tuple(f"{verb} {target}" for verb in ("remove", "take away", "delete")),
        "resize": (f"make {target} {size}", f"change the size of {target} to {size}"),
        "change word": (
            f'change the word on {target} to "{asked.word}"',
            f'make {target} say "{asked.word}"',
            f'write "{asked.word}" on {target}',
        ),
        "raise fingers": (
            f"raise {number} {finger} on {target}",
            f"make {target} raise {number} {finger}",
            f"make {target} show {number} {finger}",
        )
        if asked.fingers
        else (f"close {target}",),
        "swap": (
            f"swap {target} and {other}",
            f"swap {target} with {other}",
            f"exchange the places of {target} and {other}",
        ),
    }
    return pick(rng, ways[kind])


# -------------------------------------------------------------------------------------------------------------- reading


def parse_instruction(text: str) -> Instruction:
    """What an instruction asks for.

    Raises ValueError naming the first word that does not belong and what could stand in its place.
    """
    reader = Reader(text)
    asked = _read(reader)
    if reader.words:
        raise reader.error("the end")
    return asked


def _read(reader: Reader) -> Instruction:
    if reader.take(("change the colour of",)):
        target = _target(reader)
        _expect(reader, ("to",))
        return Instruction("recolour", target, colour=_expect(reader, tuple(PAINTS)))
    if reader.take(("change the size of",)):
        target = _target(reader)
        _expect(reader, ("to",))
        return Instruction("resize", target, size=_SIZE_OF[_expect(reader, tuple(_SIZE_OF))])
    if reader.take(("change the word on",)):
        target = _target(reader)
        _expect(reader, ("to",))
        return _of("sign", reader, Instruction("change word", target, word=reader.quoted()))
    if reader.take(("write",)):
        word = reader.quoted()
        _expect(reader, ("on",))
        return _of("sign", reader, Instruction("change word", _target(reader), word=word))
    if reader.take(("exchange the places of", "swap")):
        target = _target(reader)
        _expect(reader, ("and", "with"))
        return Instruction("swap", target, _target(reader))
    if reader.take(("remove", "take away", "delete")):
        return Instruction("remove", _target(reader))
    if reader.take(("close",)):
        return _of("hand", reader, Instruction("raise fingers", _target(reader), fingers=0))
    if reader.take(("raise",)):
        number = _number(reader)
        _expect(reader, ("on",))
        return _of("hand", reader, Instruction("raise fingers", _target(reader), fingers=number))
    verb = reader.take(("add", "move", "put", "place", "make", "paint", "colour", "turn"))
    if verb is None:
        raise reader.error("an instruction: make, paint, move, put, add, remove, swap, change, write, raise or close")
    if verb == "add" or (verb in ("put", "place") and reader.next_is(ARTICLES)):
        new = reader.phrase()
        if new.count != 1:
            raise ValueError(f"{reader.text!r} asks for {new.count} things; an instruction adds one")
        if verb == "add" and not reader.words:
            return Instruction("add", new=new)
        relation = _PLACE_OF[_expect(reader, sorted(_PLACE_OF, key=len, reverse=True))]
        return Instruction("add", None, _target(reader), relation, new)
    target = _target(reader)
    if verb in ("move", "put", "place"):
        relation = _PLACE_OF[_expect(reader, sorted(_PLACE_OF, key=len, reverse=True))]
        return Instruction("move", target, _target(reader), relation)
    return _made(reader, verb, target)


def _made(reader: Reader, verb: str, target: Phrase) -> Instruction:
    """The rest of "make the red ball …", "paint the red ball …"."""
    if verb == "make":
        if reader.take(("say",)):
            return _of("sign", reader, Instruction("change word", target, word=reader.quoted()))
        if reader.take(("raise", "show")):
            return _of("hand", reader, Instruction("raise fingers", target, fingers=_number(reader)))
        size = reader.take(tuple(_SIZE_OF))
        if size is not None:
            return Instruction("resize", target, size=_SIZE_OF[size])
    return Instruction("recolour", target, colour=_expect(reader, tuple(PAINTS)))


def _of(kind: str, reader: Reader, asked: Instruction) -> Instruction:
    """The instruction, if its target is of the only kind that it can be asked of."""
    if asked.target is not None and asked.target.kind != kind:
        raise ValueError(f"{reader.text!r} asks a {asked.target.kind} for what only a {kind} can do")
    return asked


def _target(reader: Reader) -> Phrase:
    _expect(reader, ("the",))
    return reader.described()


def _expect(reader: Reader, options: Sequence[str]) -> str:
    found = reader.take(options)
    if found is None:
        raise reader.error(f"one of: {', '.join(repr(words) for words in options)}")
    return found


def _number(reader: Reader) -> int:
    number = NUMBERS.index(_expect(reader, NUMBERS[: MAX_FINGERS + 1]))
    _expect(reader, _FINGERS)
    return number


# ------------------------------------------------------------------------------------------------------------- checking


def _checks(asked: Instruction, before: Sequence[Thing], after: Sequence[Thing]) -> list[tuple[bool, str]]:
    named = asked.named(before)
    target = None if asked.target is None else named[0]
    loads = [] if target is None or asked.kind != "move" else carried(supports(before), target)
    wanted: dict[int, Thing] = dict(enumerate(before))
    if target is not None:
        told = {name: getattr(asked, name) for name in ("colour", "size", "word", "fingers")}
        wanted[target] = replace(before[target], **{name: value for name, value in told.items() if value is not None})
        if asked.kind == "remove":
            del wanted[target]
    if asked.kind == "swap":
        a, b = named
        wanted[a], wanted[b] = before[a].at(before[b].x, before[a].y), before[b].at(before[a].x, before[b].y)
    # What stands on a thing that has grown is higher, what has been moved is elsewhere: there only x counts.
    free = {target, *loads} if asked.kind == "move" else set()
    heights = asked.kind not in ("resize", "swap", "move")
    seats = _seats(wanted, after, free)

    checks: list[tuple[bool, str]] = []
    for i, thing in wanted.items():
        seat = seats.get(i)
        touched = i in named[:1] if asked.kind != "swap" else i in named
        if seat is None:
            checks.append((False, f"the {before[i]} is gone"))
            continue
        same = _alike(thing, after[seat])
        if touched and asked.kind in ("recolour", "resize", "change word", "raise fingers"):
            checks.append((same, f"the {before[i]} has not become {_said(asked)}; it is {_told(after[seat])}"))
        else:
            checks.append((same, f"the {before[i]} has become {_told(after[seat])}"))
        if i not in free:
            stays = _near(thing, after[seat], heights and not touched)
            where = "is not where it was to go" if touched and asked.kind == "swap" else "has moved"
            checks.append((stays, f"the {before[i]} {where}"))
    spare = [k for k in range(len(after)) if k not in seats.values()]
    if asked.new is not None:
        found = [k for k in spare if fits(asked.new, after[k])]
        checks.append((bool(found), f"there is no new {asked.new}"))
        spare = [k for k in spare if k not in found[:1]]
        if asked.relation is not None:
            checks.append(_holds(asked, after, found[0] if found else None, seats.get(named[0]), str(asked.new)))
    elif asked.relation is not None and target is not None:
        checks.append(_holds(asked, after, seats.get(target), seats.get(named[1]), str(asked.target)))
    if asked.kind == "remove" and target is not None:
        left = [k for k in spare if _alike(before[target], after[k]) and _near(before[target], after[k], heights)]
        checks.append((not left, f"the {before[target]} is still there"))
        spare = [k for k in spare if k not in left]
    checks += [(False, f"nobody asked for a {after[k]}") for k in spare]
    return checks


def _holds(asked: Instruction, things: Sequence[Thing], i: int | None, j: int | None, words: str) -> tuple[bool, str]:
    """Whether the relation asked for holds, and what to say if not."""
    assert asked.relation is not None
    fault = f"the {words} is not {asked.relation} the {asked.other}"
    if i is None or j is None:
        return False, fault
    if asked.relation == "right of":
        return related("left of", things, j, i), fault
    # "On" and "in" say the same of a plate; a thing beside another may have something small between them.
    if asked.relation == "beside":
        return related("left of", things, i, j) or related("left of", things, j, i), fault
    return related(asked.relation, things, i, j), fault


def _seats(wanted: dict[int, Thing], after: Sequence[Thing], free: set[int | None]) -> dict[int, int]:
    """Which thing after is which: those that are most alike and nearest find each other first.

    What shall not move comes first; for what may be anywhere only its looks count.
    """
    pairs = []
    for i, thing in wanted.items():
        for k, other in enumerate(after):
            if thing.kind != other.kind and not _near(thing, other, False):
                continue
            away = 0.0 if i in free else min(abs(thing.x - other.x) + abs(_middle(thing) - _middle(other)), 1.0)
            unlike = _unlike(thing, other)
            if unlike + 4 * away < 3.0:
                pairs.append((unlike + 4 * away, i in free, i, k))
    seats: dict[int, int] = {}
    for _, _, i, k in sorted(pairs):
        if i not in seats and k not in seats.values():
            seats[i] = k
    return seats


def _middle(thing: Thing) -> float:
    _, bottom, _, height = extent(thing)
    return (bottom + height) / 2


def _unlike(thing: Thing, other: Thing) -> float:
    told = ("kind", "colour", "size", "word", "fingers")
    wrong = sum(getattr(thing, name) != getattr(other, name) for name in told)
    return wrong + (pose_of(thing) != pose_of(other)) + (thing.kind != other.kind)


def _alike(thing: Thing, other: Thing) -> bool:
    return _unlike(thing, other) == 0


def _near(thing: Thing, other: Thing, height: bool) -> bool:
    apart = abs(_middle(thing) - _middle(other)) if height else 0.0
    return abs(thing.x - other.x) <= SAME_PLACE and apart <= SAME_PLACE


def _told(thing: Thing) -> str:
    more = f' "{thing.word}"' if thing.word else f" with {thing.fingers} fingers" if thing.kind == "hand" else ""
    return f"a {thing}{more}"


def _said(asked: Instruction) -> str:
    if asked.fingers is not None:
        return f"one with {asked.fingers} fingers"
    return next(str(value) for value in (asked.colour, asked.size, asked.word) if value is not None)
