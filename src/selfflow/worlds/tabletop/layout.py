"""Where things may stand: what rests on or in what, and whether a still layout can be, by arithmetic alone.

No physics is run. Everything stands upright; a layout that is `possible` here is one that `physics.settle` leaves as it
is, and that can be read from a picture: neighbours keep a `GAP`, and what touches never shares a colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from .geometry import PLATE_FOOT, PLATE_HEIGHT, PLATE_WIDTH, Capsule, Disc, bounds, parts
from .relations import FLAT, Bounds, carried, extent, hollow, on, supports, top
from .scene import GAP, MARGIN, TABLE, Thing

HOLLOW = ("cup", "glass", "plate")  # kinds that hold others
LOADS = ("ball", "box", "cup", "glass", "plate", "book", "sign", "doll")  # kinds that stand on a flat top
CONTENTS = {"cup": ("ball", "box"), "glass": ("ball", "box"), "plate": ("ball", "box", "cup", "glass", "book")}
CLEAR = 0.002  # m that the sides of what is in a cup keep from its walls
DEEPEST = 0.006  # m that a thing in a plate may be kept above its floor by the slopes; more would look like floating
EXACT = 2e-5  # m: positions are rounded to a micrometre


@lru_cache(maxsize=16384)
def shape(thing: Thing) -> Bounds:
    """Left, bottom, right and top of an upright thing about its own origin, m."""
    return bounds(thing if (thing.x, thing.y, thing.angle) == (0, 0, 0) else thing.at(0.0, 0.0, 0.0))


@lru_cache(maxsize=16384)
def foot(thing: Thing) -> tuple[float, float]:
    """Left and right of what an upright thing stands on, about its origin, m. A ball needs room for all of itself."""
    if thing.kind in ("ball", "box", "book"):
        return shape(thing)[0], shape(thing)[2]
    if thing.kind == "plate":
        return -PLATE_FOOT * thing.extent / 2, PLATE_FOOT * thing.extent / 2
    if thing.kind == "doll":
        legs = [part.shape for part in parts(thing) if part.role.endswith("leg")]
        ends = [leg.b[0] for leg in legs if isinstance(leg, Capsule)]
        return min(ends), max(ends)
    lowest = shape(thing)[1]
    soles = [part.shape for part in parts(thing) if part.solid and not isinstance(part.shape, (Disc, Capsule))]
    xs = [x for sole in soles for x, y in sole.points if y - sole.r < lowest + 1e-6]
    return min(xs), max(xs)


@lru_cache(maxsize=4096)
def _plate_rest(thing: Thing, size: float) -> float:
    """Height above a plate's foot of the origin of a thing that lies in its middle.

    The plate's inside is convex: the half-planes above its floor and its two slopes. A convex part stays within a
    half-plane when its lowest point along the normal does.
    """
    half, rim, height = PLATE_FOOT * size / 2, PLATE_WIDTH * size / 2, PLATE_HEIGHT * size
    low, wall = 0.55 * height, 0.16 * size
    run, rise = (rim - 0.5 * wall) - (half - wall), height - low
    length = math.hypot(run, rise)
    lines = [(0.0, 1.0, low)]
    for side in (-1, 1):
        nx, ny = -side * rise / length, run / length
        lines.append((nx, ny, nx * side * (half - wall) + ny * low))
    raised = 0.0
    for part in parts(thing):
        if part.solid:
            body = part.shape
            points = (
                ((body.x, body.y),)
                if isinstance(body, Disc)
                else (body.a, body.b)
                if isinstance(body, Capsule)
                else body.points
            )
            for nx, ny, level in lines:
                raised = max(raised, *((level + body.r - nx * x - ny * y) / ny for x, y in points))
    return raised


def rest(thing: Thing, below: Thing | None, shift: float = 0.0) -> Thing | None:
    """The thing at rest on or in another that stands where it is, or on the table; None where it cannot be.

    Args:
        thing: upright; where it is now does not matter, but for its x on the table.
        below: what shall carry it; None is the table.
        shift: of its middle from the carrier's, m. It is cut short where the thing would reach over an edge.
    """
    left, bottom, right, _ = shape(thing)
    if below is None:
        return thing.at(thing.x, round(TABLE - bottom, 6), 0.0)
    if below.kind in FLAT:
        a, height, b, _ = top(below)
        low, high = foot(thing)
        room = (b - a) - (high - low)
        if thing.kind not in LOADS or room < -1e-9:
            return None
        shift = min(max(shift, -room / 2), room / 2)
        return thing.at(round((a + b) / 2 - (low + high) / 2 + shift, 6), round(height - bottom, 6), 0.0)
    space = hollow(below)
    if space is None or thing.kind not in CONTENTS[below.kind]:
        return None
    if below.kind == "plate":
        y = below.y + _plate_rest(thing if thing.x == thing.y == 0 else thing.at(0.0, 0.0, 0.0), below.extent)
        inner = PLATE_WIDTH * below.extent - GAP / 2
        if right - left > inner or y + bottom - space[1] > DEEPEST:
            return None
        return thing.at(below.x, round(y, 6), 0.0)
    room = (space[2] - space[0]) - (right - left) - 2 * CLEAR
    if room < 0:
        return None
    shift = min(max(shift, -room / 2), room / 2)
    return thing.at(round((space[0] + space[2]) / 2 - (left + right) / 2 + shift, 6), round(space[1] - bottom, 6), 0.0)


def nestle(first: Thing, second: Thing, below: Thing) -> tuple[Thing, Thing] | None:
    """Two balls in one cup or glass: one at the bottom against a wall, the other on it against the other wall."""
    space = hollow(below)
    if space is None or below.kind == "plate" or (first.kind, second.kind) != ("ball", "ball"):
        return None
    r, s = first.extent / 2, second.extent / 2
    across = (space[2] - space[0]) - r - s
    if across < 0 or 2 * max(r, s) > space[2] - space[0] - 2 * CLEAR:
        return None
    rise = math.sqrt((r + s) ** 2 - across**2) if across < r + s else 0.0
    y = space[1] + r
    if rise == 0.0 or y + rise - s > space[3] - 2 * GAP:
        return None
    return first.at(round(space[0] + r, 6), round(y, 6)), second.at(round(space[2] - s, 6), round(y + rise, 6))


def possible(things: Sequence[Thing], gap: float = GAP) -> bool:
    """Whether a layout of upright things can be and can be told apart.

    All lies inside the picture with its `MARGIN`; each thing rests exactly on what carries it, and the middle of its
    foot is over it; what is not of one column keeps a gap sideways; what touches differs in colour.
    """
    carriers = supports(things)
    above = [set(carried(carriers, i)) for i in range(len(things))]
    for i, thing in enumerate(things):
        left, bottom, right, height = extent(thing)
        if (
            left < MARGIN - EXACT
            or right > 1 - MARGIN + EXACT
            or height > 1 - MARGIN + EXACT
            or abs(thing.angle) > EXACT
        ):
            return False
        below = carriers[i]
        if below is None:
            if abs(bottom - TABLE) > EXACT:
                return False
        elif things[below].colour == thing.colour or not _rests(things, i, below, carriers):
            return False
        for j in range(i):
            if i in above[j] or j in above[i]:
                continue
            other = extent(things[j])
            apart = max(left - other[2], other[0] - right)
            together = below is not None and below == carriers[j] and things[below].kind in ("cup", "glass")
            if (things[j].colour == thing.colour) if together else apart < gap - EXACT:
                return False
    return True


def _rests(things: Sequence[Thing], i: int, below: int, carriers: Sequence[int | None]) -> bool:
    """Whether thing i lies on its carrier just as `rest` or `nestle` would put it."""
    thing, carrier = things[i], things[below]
    if carrier.kind == "ball" or not (on(things, i, below) or hollow(carrier)):
        return False
    # In a plate the middle is the only place; elsewhere any shift that keeps the foot on its carrier is right.
    around = top(carrier) if carrier.kind in FLAT else hollow(carrier)
    if around is None:
        return False
    low, high = foot(thing) if carrier.kind in FLAT else (shape(thing)[0], shape(thing)[2])
    place = rest(thing, carrier, thing.x + (low + high) / 2 - (around[0] + around[2]) / 2)
    if place is not None and abs(place.x - thing.x) < EXACT and abs(place.y - thing.y) < EXACT:
        return True
    fellows = [j for j, other in enumerate(carriers) if other == below and j != i]
    pairs = [(first, second) for j in fellows for first, second in ((i, j), (j, i))]
    for first, second in pairs:
        pair = nestle(things[first], things[second], carrier) or nestle(things[second], things[first], carrier)
        if pair is not None:
            mirrored = tuple(t.at(round(2 * carrier.x - t.x, 6), t.y) for t in pair)
            found = (things[first], things[second])
            if any(
                all(abs(a.x - b.x) < EXACT and abs(a.y - b.y) < EXACT for a, b in zip(found, way, strict=True))
                for way in (pair, mirrored)
            ):
                return True
    return False
