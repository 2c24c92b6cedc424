"""How placed things stand to one another, by geometry alone.

The same code speaks of the truth and of things read from a picture: it looks at nothing but `Thing`s. Its tolerances
are about two pixels of a 64-pixel picture (15.6 mm each): less than the `GAP` that drawn scenes keep between things.

    left of   wholly to the left, up to `TOUCH`; what overlaps sideways is in one column and is neither left nor right
    on        its underside is at the top of the other, its middle above it; or it lies in a plate
    in        wholly between the walls of an upright cup or glass and below its rim, or within the rim of a plate
    above     anywhere higher in the same column, also in mid-air, and not in the other
    beside    left or right of the other at some shared height, and nothing stands between

Every function takes a sequence of things and two indices, and is False for a thing and itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from .geometry import PLATE_HEIGHT, PLATE_WIDTH, bounds, opening
from .scene import TABLE, Thing, check_known

RELATIONS = ("on", "in", "left of", "above", "beside")
FLAT = ("box", "book")  # kinds with a flat top, on which others stand

TOUCH = 0.032  # two surfaces this near touch, m: two pixels at 64, one for each of them
REACH = 0.024  # a middle this far beyond an edge is still over it, m: a pixel and a half
FIT = 0.006  # a thing this much wider than a hollow still fits in, m; sizes come in three, so this may be narrow
UPRIGHT = 0.35  # a plate tipped by more than this holds nothing, rad

Bounds = tuple[float, float, float, float]


@lru_cache(maxsize=8192)
def extent(thing: Thing) -> Bounds:
    """Left, bottom, right and top of a thing's matter, m: `geometry.bounds`, remembered."""
    return bounds(thing)


@lru_cache(maxsize=8192)
def hollow(thing: Thing) -> Bounds | None:
    """Left, floor, right and rim of what a thing holds others in, m; None if it is no upright cup, glass or plate."""
    if thing.kind != "plate":
        return opening(thing)
    if abs(math.sin(thing.angle)) > math.sin(UPRIGHT) or math.cos(thing.angle) < 0:
        return None
    s = thing.extent
    half, height = PLATE_WIDTH * s / 2, PLATE_HEIGHT * s
    return thing.x - half, thing.y + 0.55 * height, thing.x + half, thing.y + height


@lru_cache(maxsize=8192)
def top(thing: Thing) -> Bounds:
    """Left, height, right and again height of the surface that a thing offers to others, m."""
    left, _, right, height = extent(thing)
    if thing.kind in ("cup", "glass"):  # without its handle
        space = hollow(thing)
        if space is not None:
            left, right = space[0], space[2]
    return left, height, right, height


def _over(upper: Bounds, lower: Bounds) -> bool:
    """Whether two things share a column: the middle of one is over the other."""
    a, b = (upper[0] + upper[2]) / 2, (lower[0] + lower[2]) / 2
    return lower[0] - REACH <= a <= lower[2] + REACH or upper[0] - REACH <= b <= upper[2] + REACH


def in_(things: Sequence[Thing], i: int, j: int) -> bool:
    """Whether thing i is in the hollow of thing j."""
    space = None if i == j else hollow(things[j])
    if space is None:
        return False
    left, floor, right, rim = space
    a, bottom, b, _ = extent(things[i])
    middle = (a + b) / 2
    if b - a > right - left + FIT or not left - REACH <= middle <= right + REACH:
        return False
    # In a cup the underside is well below the rim; in a plate, which is shallow, it may be a little off either way.
    highest = rim if things[j].kind == "plate" else rim - TOUCH
    return floor - TOUCH <= bottom <= highest


def on(things: Sequence[Thing], i: int, j: int) -> bool:
    """Whether thing i stands on thing j. What lies in a plate is on it, too; what is in a cup is not on it.

    What is in one thing is on no other: the floor of a plate is no higher above a book than two pixels.
    """
    if i == j:
        return False
    if in_(things, i, j):
        return things[j].kind == "plate"
    a, bottom, b, _ = extent(things[i])
    left, height, right, _ = top(things[j])
    if abs(bottom - height) > TOUCH or not left - REACH <= (a + b) / 2 <= right + REACH:
        return False
    return not any(in_(things, i, k) for k in range(len(things)) if k != j)


def left_of(things: Sequence[Thing], i: int, j: int) -> bool:
    """Whether thing i is wholly to the left of thing j."""
    if i == j:
        return False
    a, b = extent(things[i]), extent(things[j])
    return a[2] <= b[0] + TOUCH and a[0] + a[2] < b[0] + b[2]


def above(things: Sequence[Thing], i: int, j: int) -> bool:
    """Whether thing i is higher than thing j in one column, touching or not."""
    if i == j or in_(things, i, j):
        return False
    a, b = extent(things[i]), extent(things[j])
    return a[1] >= b[3] - TOUCH and _over(a, b)


def beside(things: Sequence[Thing], i: int, j: int) -> bool:
    """Whether two things are neighbours: side by side at some shared height, and none between them."""
    if left_of(things, j, i):
        i, j = j, i
    if not left_of(things, i, j):
        return False
    a, b = extent(things[i]), extent(things[j])
    if a[1] > b[3] + TOUCH or b[1] > a[3] + TOUCH:
        return False
    return not any(left_of(things, i, k) and left_of(things, k, j) for k in range(len(things)) if k not in (i, j))


_TESTS = dict(zip(RELATIONS, (on, in_, left_of, above, beside), strict=True))


def related(name: str, things: Sequence[Thing], i: int, j: int) -> bool:
    """Whether a relation of `RELATIONS` holds between things i and j. Raises ValueError for an unknown name."""
    check_known("relation", name, RELATIONS)
    return _TESTS[name](things, i, j)


def supports(things: Sequence[Thing]) -> list[int | None]:
    """For each thing the index of what carries it: what it is in, else what it is on; None on the table or in the air.

    Of several (a book across two boxes) it is the one whose top is nearest to its underside, then to its middle.
    A thing that stands on the table is carried by the table, whatever leans on it.
    """
    carriers: list[int | None] = []
    for i, thing in enumerate(things):
        bottom = extent(thing)[1]
        best: tuple[float, ...] | None = None
        carrier = None
        for j, other in enumerate(things):
            inside = in_(things, i, j)
            # Of two that are read as being on each other, the higher stands on the lower.
            if not inside and (not on(things, i, j) or extent(other)[1] >= bottom):
                continue
            space = hollow(other) if inside else None
            height = space[1] if space is not None else top(other)[1]
            rank = (0.0 if inside else 1.0, abs(bottom - height), abs(thing.x - other.x))
            if best is None or rank < best:
                best, carrier = rank, j
        carriers.append(None if best is not None and best[0] and abs(bottom - TABLE) < best[1] else carrier)
    return carriers


def on_table(things: Sequence[Thing], i: int) -> bool:
    """Whether the underside of thing i is at the table's height."""
    return abs(extent(things[i])[1] - TABLE) <= TOUCH


def root(things: Sequence[Thing], i: int) -> int:
    """The lowest thing of the column that thing i stands in: itself, or what carries what carries it."""
    carriers = supports(things)
    for _ in things:
        below = carriers[i]
        if below is None:
            break
        i = below
    return i


def carried(carriers: Sequence[int | None], i: int) -> list[int]:
    """The indices of all that thing i carries, directly or not, given `supports`; without i itself."""
    found = [i]
    for here in found:
        found += [k for k, below in enumerate(carriers) if below == here and k not in found]
    return found[1:]
