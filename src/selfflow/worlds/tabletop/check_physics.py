"""What of the laws of solids the places of things break: overlap and missing support, measured on their geometry.

Works alike on true things and on things read from a picture. Because the thing in front hides what is behind it, the
outlines put over the pixels are measured, not the pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from .geometry import Shape, bounds, box_of, placed
from .render import distance
from .scene import TABLE, Thing
from .verdict import Fault

EDGE = 3  # steps at the sides of a thing by which it cannot rest on another: there they only touch
STEP = 0.004  # metres between the points at which outlines are compared: a quarter of a pixel at 64
# Pixels at 64 that reading a true picture may err by (see benchmarks/tabletop_check.py): beyond, it is a fault.
LEAST_OVERLAP, LEAST_GAP = 0.9, 1.2
REFERENCE_SIZE = 64


def separation(first: Thing, second: Thing) -> float:
    """How far apart the matter of two things is, m; negative: how deep they are in one another."""
    a, b = bounds(first), bounds(second)
    apart = max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3])
    if apart > 2 * STEP:
        return apart
    least = math.inf
    for p in placed(first):
        for q in placed(second):
            if p.solid and q.solid:
                least = min(least, _between(p.shape, q.shape))
    return least


def _between(p: Shape, q: Shape) -> float:
    """Twice the smallest signed distance that one point has to both: exact for discs, near enough for the others."""
    a, b = box_of(p), box_of(q)
    left, bottom, right, top = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    if left > right + STEP or bottom > top + STEP:
        return math.hypot(max(left - right, 0.0), max(bottom - top, 0.0))
    x = np.linspace(left, right, 2 + int(max(right - left, 0) / STEP))[None, :]
    y = np.linspace(bottom, top, 2 + int(max(top - bottom, 0) / STEP))[:, None]
    return 2 * float(np.maximum(distance(p, x, y), distance(q, x, y)).min())


def _columns(thing: Thing) -> tuple[int, np.ndarray]:
    """The matter of a thing on a grid of `STEP`: its first column, and bool (rows from y = -0.5 m upwards, columns)."""
    left, bottom, right, top = bounds(thing)
    first, last = math.floor(left / STEP), math.ceil(right / STEP)
    low, high = math.floor((bottom + 0.5) / STEP), math.ceil((top + 0.5) / STEP)
    low = max(low, 0)
    x = ((np.arange(first, last) + 0.5) * STEP)[None, :]
    y = ((np.arange(low, high) + 0.5) * STEP - 0.5)[:, None]
    solid = np.zeros((max(high, 1), last - first), dtype=bool)
    for part in placed(thing):
        if part.solid:
            solid[low:high] |= distance(part.shape, x, y) < 0
    return first, solid


def drop(things: Sequence[Thing], index: int) -> float:
    """How far a thing could fall straight down before its matter meets the table or another thing's, m, at least 0."""
    thing = things[index]
    left, bottom, right, _ = bounds(thing)
    fall = max(bottom - TABLE, 0.0)
    first, solid = _columns(thing)
    first, solid = first + EDGE, solid[:, EDGE:-EDGE]
    for other, below in enumerate(things):
        box = bounds(below)
        if other == index or box[2] < left or box[0] > right or box[1] > bounds(thing)[3] or box[3] < bottom - fall:
            continue
        start, matter = _columns(below)
        low, high = max(first, start), min(first + solid.shape[1], start + matter.shape[1])
        if low >= high:
            continue
        upper, lower = solid[:, low - first : high - first], matter[:, low - start : high - start]
        fall = min(fall, _fall(upper, lower) * STEP)
    return fall


def _fall(upper: np.ndarray, lower: np.ndarray) -> float:
    """The fewest rows from any filled cell of `upper` down to a filled cell of `lower` in its column, less one."""
    rows = max(len(upper), len(lower))
    upper = np.pad(upper, ((0, rows - len(upper)), (0, 0)))
    lower = np.pad(lower, ((0, rows - len(lower)), (0, 0)))
    row = np.arange(rows)[:, None]
    below = np.maximum.accumulate(np.where(lower, row, -(10**6)), axis=0)  # the highest filled row at or below
    gaps = np.where(upper & ~lower, row - below - 1, 10**6)
    # Where the two overlap nothing is known of what is below that; it rests.
    return 0.0 if (upper & lower).any() else float(gaps.min())


def faults_of(things: Sequence[Thing], size: int = REFERENCE_SIZE) -> list[Fault]:
    """Overlaps and unsupported things among what is placed, in pixels of a picture of that size."""
    found = []
    scale = size / REFERENCE_SIZE
    for i, j in combinations(range(len(things)), 2):
        deep = -separation(things[i], things[j]) * size
        if deep > LEAST_OVERLAP * scale:
            found.append(Fault("overlap", (i, j), deep, f"the {things[i]} is {deep:.1f} pixels inside the {things[j]}"))
    for i, thing in enumerate(things):
        deep = (TABLE - bounds(thing)[1]) * size
        if deep > LEAST_OVERLAP * scale:
            found.append(Fault("overlap", (i, -1), deep, f"the {thing} is {deep:.1f} pixels inside the table"))
        gap = drop(things, i) * size
        if gap > LEAST_GAP * scale:
            found.append(Fault("unsupported", (i,), gap, f"the {thing} floats {gap:.1f} pixels above what is below it"))
    return found
