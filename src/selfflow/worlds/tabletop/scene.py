"""What is on the table: things, a scene of one to three of them, and the draw of a scene from a seed.

Lengths are in picture widths: x runs from 0 (left) to 1 (right), heights from 0 (bottom) to 1 (top). Every thing fills
a square of its size, so a size is a width and a height at once.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

KINDS = ("ball", "box", "cup", "cone")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (208, 30, 40),
    "orange": (250, 134, 18),
    "yellow": (252, 222, 48),
    "green": (46, 150, 66),
    "cyan": (60, 204, 218),
    "blue": (34, 78, 204),
    "purple": (124, 48, 168),
    "pink": (250, 128, 190),
}
SIZES: dict[str, float] = {"small": 0.25, "medium": 0.34, "large": 0.46}

TABLE = 0.16  # height of the line everything rests on
MARGIN = 0.015  # free space at the left, right and top of the picture
GAP = 0.04  # free space between neighbours: more than one pixel at 32 x 32, so twins never melt into one shape
MAX_THINGS = 3
_ROUNDING = 1e-9

T = TypeVar("T")


def check_known(what: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"unknown {what} {value!r}; choose one of {', '.join(choices)}")


@dataclass(frozen=True)
class Thing:
    """One thing: a kind of `KINDS`, a colour of `COLOURS`, a size of `SIZES`, and the x of its centre.

    `on` is the index, within its scene, of the box it stands on; None means the table.
    """

    kind: str
    colour: str
    size: str
    x: float
    on: int | None = None

    def __post_init__(self) -> None:
        check_known("kind", self.kind, KINDS)
        check_known("colour", self.colour, tuple(COLOURS))
        check_known("size", self.size, tuple(SIZES))
        if not 0.0 <= self.x <= 1.0:
            raise ValueError(f"x = {self.x} lies outside the picture; choose 0 to 1")

    @property
    def extent(self) -> float:
        """Width and height, in picture widths."""
        return SIZES[self.size]

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """One to three things at rest, none overlapping, and the shades of the wall and the wood in [-1, 1].

    Raises ValueError naming the first thing that is out of the picture, overlaps another, or is not held up. A thing
    may not stand on a box of its own colour: the two would be one shape.
    """

    things: tuple[Thing, ...]
    wall: float = 0.0
    wood: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.things) <= MAX_THINGS:
            raise ValueError(f"a scene holds 1 to {MAX_THINGS} things, not {len(self.things)}")
        for name, shade in (("wall", self.wall), ("wood", self.wood)):
            if not -1.0 <= shade <= 1.0:
                raise ValueError(f"the shade of the {name} is {shade}; choose -1 to 1")
        for index, thing in enumerate(self.things):
            self._check_support(index, thing)
            half = thing.extent / 2
            outside = thing.x - half < -_ROUNDING or thing.x + half > 1 + _ROUNDING
            if outside or self.base(index) + thing.extent > 1:
                raise ValueError(f"the {thing} at x = {thing.x} does not fit in the picture")
        ground = sorted((t for t in self.things if t.on is None), key=lambda t: t.x)
        for left, right in pairwise(ground):
            if right.x - left.x < (left.extent + right.extent) / 2 - _ROUNDING:
                raise ValueError(f"the {left} at x = {left.x} overlaps the {right} at x = {right.x}")

    def _check_support(self, index: int, thing: Thing) -> None:
        if thing.on is None:
            return
        if thing.on == index or not 0 <= thing.on < len(self.things):
            raise ValueError(f"the {thing} stands on thing {thing.on} of a scene of {len(self.things)}")
        support = self.things[thing.on]
        if support.kind != "box" or support.on is not None:
            raise ValueError(f"the {thing} stands on a {support}; only a box that stands on the table holds a thing")
        if support.colour == thing.colour:
            raise ValueError(f"the {thing} stands on a box of its own colour; choose another colour")
        if abs(thing.x - support.x) > (support.extent - thing.extent) / 2 + _ROUNDING:
            raise ValueError(f"the {thing} at x = {thing.x} reaches over the edge of the {support} at x = {support.x}")
        if any(other.on == thing.on for i, other in enumerate(self.things) if i != index):
            raise ValueError(f"two things stand on the {support}; it holds one")

    def base(self, index: int) -> float:
        """Height of the underside of one thing."""
        on = self.things[index].on
        return TABLE if on is None else TABLE + self.things[on].extent


def generator(*seed: int) -> np.random.Generator:
    """The random numbers of this world: PCG64 from one or more integers. Raises ValueError for a negative one."""
    for part in seed:
        if part < 0:
            raise ValueError(f"seed {part} is negative; choose 0 or more")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([operator.index(part) for part in seed])))


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, evenly.

    Everything random in this world is made of `rng.random()`: numpy promises that stream, but not that of `choice`.
    """
    return options[int(rng.random() * len(options))]


def draw(seed: int | np.random.Generator) -> Scene:
    """A scene, drawn from a non-negative integer or from a generator (which moves on).

    What does not fit is drawn again. About 50 % of scenes come out with one thing, 42 % with two and 8 % with three; of
    those with two or three, 27 % have a stack and 28 % have twins or triplets of one colour and kind.
    """
    rng = seed if isinstance(seed, np.random.Generator) else generator(seed)
    while True:
        scene = _attempt(rng)
        if scene is not None:
            return scene


@dataclass(frozen=True)
class _Look:
    kind: str
    colour: str
    size: str


def _look(rng: np.random.Generator, kind: str | None = None) -> _Look:
    return _Look(kind or pick(rng, KINDS), pick(rng, tuple(COLOURS)), pick(rng, tuple(SIZES)))


def _attempt(rng: np.random.Generator) -> Scene | None:
    """One try: choose the columns (a thing, or a thing on a box), then share the free width. None if it cannot fit."""
    chance = rng.random()
    count = 1 if chance < 0.40 else 2 if chance < 0.82 else 3
    chance = rng.random()
    columns: list[tuple[_Look, _Look | None]]
    if count > 1 and chance < (0.35 if count == 2 else 0.45):
        box, load = _look(rng, "box"), _look(rng)
        if load.colour == box.colour or SIZES[load.size] > SIZES[box.size]:
            return None
        if TABLE + SIZES[box.size] + SIZES[load.size] > 1 - MARGIN:
            return None
        columns = [(box, load)]
    elif count > 1 and chance < (0.55 if count == 2 else 0.80):
        # Twins, or, in the first part of this share, triplets.
        columns = [(_look(rng), None)] * (count if chance < 0.60 else 2)
    else:
        columns = [(_look(rng), None)]
    while sum(1 + (top is not None) for _, top in columns) < count:
        columns.insert(int(rng.random() * (len(columns) + 1)), (_look(rng), None))

    extents = [SIZES[bottom.size] for bottom, _ in columns]
    free = 1 - 2 * MARGIN - GAP * (len(columns) - 1) - sum(extents)
    if free < 0:
        return None
    cuts = sorted(rng.random() * free for _ in columns)
    things: list[Thing] = []
    edge = MARGIN
    for (bottom, top), extent, cut in zip(columns, extents, cuts, strict=True):
        x = edge + cut + extent / 2
        things.append(Thing(bottom.kind, bottom.colour, bottom.size, x))
        if top is not None:
            # Never quite to the edge of the box, so that "on" is plain to see.
            room = 0.6 * (extent - SIZES[top.size])
            x += (rng.random() - 0.5) * room
            things.append(Thing(top.kind, top.colour, top.size, x, on=len(things) - 1))
        edge += extent + GAP
    return Scene(tuple(things), wall=2 * rng.random() - 1, wood=2 * rng.random() - 1)
