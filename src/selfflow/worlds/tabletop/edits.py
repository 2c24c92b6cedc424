"""Edits from a seed: a possible scene, an instruction that names exactly one thing in it, and the scene it asks for.

What stands on a thing goes with it when it is moved and rises or sinks with it when it is resized. A thing that carries
others is neither removed nor swapped, and nothing is done that would leave two touching things in one colour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from .claim import Phrase
from .draw import draw, look
from .instruct import EDIT_KINDS, Instruction, fits, parse_instruction, say, the
from .layout import HOLLOW, foot, possible, rest, shape
from .nouns import Reader, phrase
from .relations import FLAT, carried, extent, hollow, related, supports, top
from .scene import (
    COLOURS,
    GAP,
    KINDS,
    MARGIN,
    MAX_FINGERS,
    SIZES,
    WORDS,
    Scene,
    Thing,
    between,
    check_known,
    generator,
    pick,
)
from .verdict import check_picture

TRIES = 5_000
_NEEDS = {"change word": "sign", "raise fingers": "hand"}  # the only kind that it can be done to
_FEWEST = {"remove": 2, "swap": 2, "move": 2}


@dataclass(frozen=True)
class Edit:
    """A change of one thing (a swap: of two).

    Attributes:
        before, after: possible scenes, alike in all that the instruction does not speak of.
        instruction: of the language of `instruct`.
        kind: of `EDIT_KINDS`.
        index: of the thing in `before`; of the added one, in `after`.
    """

    before: Scene
    instruction: str
    after: Scene
    kind: str
    index: int


@dataclass(frozen=True)
class _Change:
    """What is asked for, the things as they are then, and which of them it is about, before and after."""

    asked: Instruction
    things: list[Thing]
    index: int
    other: int | None = None


def draw_edit(seed: int | np.random.Generator, kind: str | None = None) -> Edit:
    """An edit, drawn from a non-negative integer or from a generator (which moves on).

    Args:
        kind: of `EDIT_KINDS`; drawn evenly by default.

    Raises:
        ValueError: for an unknown kind or a negative seed.
    """
    rng = seed if isinstance(seed, np.random.Generator) else generator(seed)
    if kind is None:
        kind = pick(rng, EDIT_KINDS)
    check_known("kind of edit", kind, EDIT_KINDS)
    for _ in range(TRIES):
        edit = _attempt(rng, kind)
        if edit is not None:
            return edit
    raise RuntimeError(f"no {kind} came out in {TRIES} tries")  # pragma: no cover


def changed(edit: Edit, size: int = 64) -> np.ndarray:
    """Where the pictures before and after differ: every pixel that does and its eight neighbours, bool (size, size)."""
    from .render import render

    return differing(render(edit.before, size), render(edit.after, size))


def differing(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Every pixel in which two pictures (size, size, 3) differ, grown by one pixel all round, bool (size, size).

    Raises ValueError for what are no pictures of one size.
    """
    for picture in (one, two):
        check_picture(picture, 1)
    if one.shape != two.shape:
        raise ValueError(f"pictures of {len(one)} and of {len(two)} pixels; compare two of one size")
    mask = np.pad((one != two).any(axis=-1), 1)
    rows = mask[:-2] | mask[1:-1] | mask[2:]
    grown: np.ndarray = rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]
    return grown


def _attempt(rng: np.random.Generator, kind: str) -> Edit | None:
    count = max(_FEWEST.get(kind, 1), 1 + int(rng.random() * 3)) + (rng.random() < 0.15)
    before = draw(rng, count)
    things = before.things
    able = [i for i, thing in enumerate(things) if thing.kind == _NEEDS.get(kind, thing.kind)]
    if not able:
        return None
    change = _CHANGES[kind](rng, list(things), pick(rng, able))
    if change is None or not possible(change.things):
        return None
    asked = change.asked
    if asked.new is None:
        target = the(things, change.index, rng)
    else:
        target = phrase(change.things[change.index], rng)
        asked = replace(asked, new=Reader(target).phrase())
    other = "" if change.other is None else the(things, change.other, rng)
    if target is None or other is None:
        return None
    text = say(asked, target, other, rng)
    # Held against the words as a reader of pictures will: true of what is after, false of what is before.
    read = parse_instruction(text)
    followed = all(right for right, _ in read.done(things, change.things))
    idle = all(right for right, _ in read.done(things, things))
    if not followed or idle:
        return None
    return Edit(before, text, replace(before, things=tuple(change.things)), kind, change.index)


# -------------------------------------------------------------------------------------------------- what can be changed


def _recolour(rng: np.random.Generator, things: list[Thing], i: int) -> _Change | None:
    colour = pick(rng, [c for c in COLOURS if c != things[i].colour])
    return _made(things, i, Instruction("recolour", _about(things[i]), colour=colour), colour=colour)


def _resize(rng: np.random.Generator, things: list[Thing], i: int) -> _Change | None:
    size = pick(rng, [s for s in SIZES if s != things[i].size])
    return _made(things, i, Instruction("resize", _about(things[i]), size=size), size=size)


def _change_word(rng: np.random.Generator, things: list[Thing], i: int) -> _Change | None:
    word = pick(rng, [w for w in WORDS if w != things[i].word])
    return _made(things, i, Instruction("change word", _about(things[i]), word=word), word=word)


def _raise_fingers(rng: np.random.Generator, things: list[Thing], i: int) -> _Change | None:
    fingers = pick(rng, [n for n in range(MAX_FINGERS + 1) if n != things[i].fingers])
    return _made(things, i, Instruction("raise fingers", _about(things[i]), fingers=fingers), fingers=fingers)


def _made(things: list[Thing], i: int, asked: Instruction, **told: object) -> _Change | None:
    """The thing with some of its attributes changed, where it is, and its loads where they then are."""
    carriers = supports(things)
    new = replace(things[i], **told)  # type: ignore[arg-type]
    below = carriers[i]
    if shape(new) != shape(things[i]):
        placed = rest(new, None if below is None else things[below], _shift(things, i, below))
        if placed is None or (below is not None and _fellows(carriers, i)):
            return None
        new = placed
    after = _with_loads(things, carriers, i, new)
    return None if after is None else _Change(asked, after, i)


def _remove(rng: np.random.Generator, things: list[Thing], i: int) -> _Change | None:
    carriers = supports(things)
    if carried(carriers, i) or _fellows(carriers, i):
        return None
    return _Change(Instruction("remove", _about(things[i])), [t for k, t in enumerate(things) if k != i], i)


def _move(rng: np.random.Generator, things: list[Thing], i: int) -> _Change | None:
    carriers = supports(things)
    if _fellows(carriers, i):
        return None
    loads = carried(carriers, i)
    found = _place(rng, things, things[i], {i, *loads})
    if found is None:
        return None
    relation, j, placed = found
    if _already(things, relation, i, j):
        return None
    after = _with_loads(things, carriers, i, placed)
    if after is None:
        return None
    asked = Instruction("move", _about(things[i]), _about(things[j]), relation)
    return _Change(asked, _painted(after, i, j, relation), i, j)


def _add(rng: np.random.Generator, things: list[Thing], _: int) -> _Change | None:
    new = look(rng, pick(rng, KINDS), pick(rng, ("small", "small", "medium", "large")))
    if any((t.kind, t.colour) == (new.kind, new.colour) for t in things):
        return None
    asked = Instruction("add", new=_about(new))
    if rng.random() < 0.15:
        x = _spot(rng, things, new, set(), None, "")
        placed = None if x is None else rest(new.at(x, 0.0), None)
        return None if placed is None else _Change(asked, [*things, placed], len(things))
    found = _place(rng, things, new, set())
    if found is None:
        return None
    relation, j, placed = found
    after = _painted([*things, placed], len(things), j, relation)
    asked = replace(asked, other=_about(things[j]), relation=relation)
    return _Change(asked, after, after.index(placed), j)


def _swap(rng: np.random.Generator, things: list[Thing], i: int) -> _Change | None:
    carriers = supports(things)
    free = [k for k in range(len(things)) if not carried(carriers, k) and not _fellows(carriers, k)]
    others = [k for k in free if k != i]
    if i not in free or not others:
        return None
    j = pick(rng, others)
    after = list(things)
    for a, b in ((i, j), (j, i)):
        below = carriers[b]
        carrier = None if below is None else things[below]
        placed = rest(things[a].at(things[b].x, 0.0), carrier, _shift(things, b, below))
        if placed is None or abs(placed.x - things[b].x) > 0.02:
            return None
        after[a] = placed
    asked = Instruction("swap", _about(things[i]), _about(things[j]))
    return _Change(asked, after, i, j)


_CHANGES: dict[str, Callable[[np.random.Generator, list[Thing], int], _Change | None]] = {
    "recolour": _recolour,
    "move": _move,
    "add": _add,
    "remove": _remove,
    "resize": _resize,
    "change word": _change_word,
    "raise fingers": _raise_fingers,
    "swap": _swap,
}


# ------------------------------------------------------------------------------------------------------ where it can be


def _about(thing: Thing) -> Phrase:
    return Phrase(thing.kind, thing.colour)


def _fellows(carriers: Sequence[int | None], i: int) -> bool:
    """Whether a thing shares its carrier with another, which may lean on it."""
    return carriers[i] is not None and list(carriers).count(carriers[i]) > 1


def _shift(things: Sequence[Thing], i: int, below: int | None) -> float:
    """How far a thing is from the middle of its carrier, as `rest` counts it."""
    if below is None:
        return 0.0
    thing, carrier = things[i], things[below]
    around = top(carrier) if carrier.kind in FLAT else hollow(carrier)
    assert around is not None
    low, high = foot(thing) if carrier.kind in FLAT else (shape(thing)[0], shape(thing)[2])
    return thing.x + (low + high) / 2 - (around[0] + around[2]) / 2


def _with_loads(things: list[Thing], carriers: Sequence[int | None], i: int, new: Thing) -> list[Thing] | None:
    """The things with a new one in place of one, and what that carried on or in it as before; None if it cannot."""
    after = list(things)
    after[i] = new
    for k in carried(carriers, i):  # the lower come first
        below = carriers[k]
        assert below is not None
        if (after[below].x, after[below].y, shape(after[below])) == (
            things[below].x,
            things[below].y,
            shape(things[below]),
        ):
            continue
        if _fellows(carriers, k):
            if shape(after[below]) != shape(things[below]):
                return None
            dx, dy = after[below].x - things[below].x, after[below].y - things[below].y
            after[k] = things[k].at(round(things[k].x + dx, 6), round(things[k].y + dy, 6))
            continue
        placed = rest(things[k], after[below], _shift(things, k, below))
        if placed is None:
            return None
        after[k] = placed
    return after


def _place(
    rng: np.random.Generator, things: Sequence[Thing], thing: Thing, itself: set[int]
) -> tuple[str, int, Thing] | None:
    """A relation, the index of a thing, and the first thing so placed that the relation to it holds; None at times."""
    anchors = [k for k in range(len(things)) if k not in itself]
    if not anchors:
        return None
    carriers = supports(things)
    relation = pick(rng, ("on", "in", "on", "in", "left of", "right of", "beside"))
    if relation in ("on", "in"):
        kinds = (*FLAT, "plate") if relation == "on" else HOLLOW
        able = [k for k in anchors if things[k].kind in kinds and k not in carriers]
        if not able:
            return None
        j = pick(rng, able)
        width = extent(things[j])[2] - extent(things[j])[0]
        placed = rest(thing, things[j], between(rng, -0.2, 0.2) * width)
        return None if placed is None else (relation, j, placed)
    anchors = [k for k in anchors if carriers[k] is None]
    if not anchors:
        return None
    j = pick(rng, anchors)
    x = _spot(rng, things, thing, itself, j, relation)
    placed = None if x is None else rest(thing.at(x, 0.0), None)
    return None if placed is None else (relation, j, placed)


def _spot(
    rng: np.random.Generator, things: Sequence[Thing], thing: Thing, itself: set[int], anchor: int | None, relation: str
) -> float | None:
    """An x on the table where a thing has room: left of, right of or beside the anchor, with no column between."""
    taken = sorted(extent(t)[::2] for k, t in enumerate(things) if k not in itself)
    left, _, right, _ = shape(thing)
    edges = [(MARGIN - GAP, MARGIN - GAP), *_merged(taken), (1 - MARGIN + GAP, 1 - MARGIN + GAP)]
    spaces = []
    for (a0, a1), (b0, b1) in pairwise(edges):
        low, high = a1 + GAP - left, b0 - GAP - right
        if low > high:
            continue
        if anchor is not None:
            x = things[anchor].x
            before, after = b0 <= x <= b1, a0 <= x <= a1
            if not {"left of": before, "right of": after, "beside": before or after}[relation]:
                continue
        spaces.append((low, high))
    return None if not spaces else between(rng, *pick(rng, spaces))


def _merged(spans: Sequence[tuple[float, ...]]) -> list[tuple[float, float]]:
    """Spans in order, those that overlap made one."""
    merged: list[tuple[float, float]] = []
    for low, high in spans:
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return merged


def _already(things: Sequence[Thing], relation: str, i: int, j: int) -> bool:
    if relation == "right of":
        return related("left of", things, j, i)
    return related(relation, things, i, j)


def _painted(things: list[Thing], i: int, j: int, relation: str) -> list[Thing]:
    """What has come into a glass is painted before it, to be seen through its pane."""
    if relation == "in" and things[j].kind == "glass" and i > j:
        things = [*things[:j], things[i], *things[j:i], *things[i + 1 :]]
    return things


__all__ = ["EDIT_KINDS", "Edit", "changed", "differing", "draw_edit", "fits"]
