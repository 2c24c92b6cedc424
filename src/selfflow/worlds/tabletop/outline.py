"""The outline of every kind, placed over the pixels of one colour: how well it covers them, and where best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np

from .geometry import LETTER_HEIGHT, bounds, placed, sign_board
from .render import distance
from .scene import KINDS, MAX_FINGERS, MAX_WORD, POSES, SIZES, Thing

PHASES = 4  # places of an outline within a pixel, along each axis
HIDDEN = 0.45  # weight of a pixel that another thing's colour fills: this one may be behind it
DIM = 0.2  # weight of a glass's pane, which lets through what is behind it
WRITTEN = 0.15  # weight of where a sign has its letters
NEAR = 2.2  # pixels by which the width and height of a shape and of its form may differ
BEST, SEARCHED = 4, 10  # forms whose place is improved


class Outline(NamedTuple):
    """Coverage of a thing in its own colour, and how much each pixel counts, from `row`, `column` of its origin on."""

    row: int
    column: int
    cover: np.ndarray
    weight: np.ndarray


class Evidence(NamedTuple):
    """One colour in a picture, float32 (size, size): its share of each pixel, that of the shape in question alone, and
    weights that are low where another thing's colour is."""

    share: np.ndarray
    shape: np.ndarray
    weight: np.ndarray
    total: float


class Placed(NamedTuple):
    """A form, where it was put (in phases from the left and from the bottom), and how well it covers what is there."""

    fit: float
    form: Thing
    x: int
    y: int


@lru_cache(maxsize=20_000)
def outline(form: Thing, size: int, phase_x: int, phase_y: int) -> Outline:
    """The outline of a form (a thing with its origin at 0, 0) for pictures of that size, `phase / PHASES` of a pixel
    right of and above a pixel's corner."""
    thing = replace(form, x=phase_x / PHASES / size, y=phase_y / PHASES / size)
    left, bottom, right, top = bounds(thing, solid=False)
    first, last = math.floor(left * size) - 1, math.ceil(right * size) + 1
    high, low = math.floor(-top * size) - 1, math.ceil(-bottom * size) + 1
    x = ((np.arange(first, last) + 0.5) / size)[None, :].astype(np.float32)
    y = (-(np.arange(high, low) + 0.5) / size)[:, None].astype(np.float32)
    cover = np.zeros((low - high, last - first), np.float32)
    weight = np.ones_like(cover)
    for part in placed(thing):
        here = np.clip(0.5 - distance(part.shape, x, y) * size, 0, 1)
        if part.role == "pages":
            cover = np.minimum(cover, 1 - here)
        elif part.role == "pane":
            weight -= (1 - DIM) * here
        elif part.role == "eye":
            weight -= here * weight
        else:
            cover = np.maximum(cover, here)
    if thing.kind == "sign":
        capital = LETTER_HEIGHT[thing.size]
        width, height = sign_board(thing.size, len(thing.word))
        across = (x - thing.x) * math.cos(thing.angle) + (y - thing.y) * math.sin(thing.angle)
        up = (y - thing.y) * math.cos(thing.angle) - (x - thing.x) * math.sin(thing.angle)
        letters = (np.abs(across) < width / 2 - 0.03) & (np.abs(up - 0.05 - height / 2) < capital / 2 + 0.5 / size)
        weight[letters] = WRITTEN
    return Outline(high, first, cover, np.maximum(weight, 0).astype(np.float32))


def _over(form: Thing, x: int, y: int, size: int) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray, float]:
    """The window of the picture that a form at (x, y), in phases, covers; its coverage and weight; what is outside."""
    shape = outline(form, size, x % PHASES, y % PHASES)
    top, left = size - y // PHASES + shape.row, x // PHASES + shape.column
    height, width = shape.cover.shape
    rows = slice(min(max(top, 0), size), max(min(top + height, size), 0))
    columns = slice(min(max(left, 0), size), max(min(left + width, size), 0))
    if rows.stop - rows.start == height and columns.stop - columns.start == width:
        return (rows, columns), shape.cover, shape.weight, 0.0
    inner = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    if rows.start >= rows.stop or columns.start >= columns.stop:
        inner, rows, columns = (slice(0, 0), slice(0, 0)), slice(0, 0), slice(0, 0)
    cover = shape.cover[inner]
    return (rows, columns), cover, shape.weight[inner], float(shape.cover.sum() - cover.sum())


def fit(form: Thing, x: int, y: int, seen: Evidence) -> float:
    """Intersection over union, in [0, 1], of an outline and the shape: what of the outline the colour fills, over the
    outline and the shape together. x and y are in phases, from the left and from the bottom."""
    here, cover, weight, lost = _over(form, x, y, len(seen.share))
    weight = weight * seen.weight[here]
    own = seen.shape[here]
    both = float(np.vdot(weight, np.minimum(cover, seen.share[here])))
    either = float(np.vdot(weight, np.maximum(cover, own)))
    return both / max(either + seen.total - float(np.add.reduce(own, axis=None)) + HIDDEN * lost, 1e-6)


def explained(form: Thing, x: int, y: int, seen: Evidence) -> float:
    """Pixels of the colour that the outline fills, less those that it fills in vain: for shapes run together."""
    here, cover, weight, lost = _over(form, x, y, len(seen.share))
    weight, share = weight * seen.weight[here], seen.share[here]
    inside = np.minimum(cover, share)
    # Colour where the outline has none, as in a cup's hollow, counts against it too.
    vain = 1.5 * (cover - inside) + 0.5 * (share - inside) * (cover < 0.5)
    return float(np.vdot(weight, inside - vain)) - HIDDEN * lost


@cache
def forms() -> tuple[Thing, ...]:
    """Every kind, in every size, pose, finger count and length of word, in one colour, its origin at 0, 0."""
    found: list[Thing] = []
    for kind in KINDS:
        for size in SIZES:
            if kind == "sign":
                found += [Thing(kind, "red", size, 0, 0, word="A" * n) for n in range(1, MAX_WORD + 1)]
            elif kind == "hand":
                found += [Thing(kind, "red", size, 0, 0, fingers=n) for n in range(MAX_FINGERS + 1)]
            elif kind == "doll":
                found += [Thing(kind, "red", size, 0, 0, limbs=limbs) for limbs in POSES.values()]
            else:
                found.append(Thing(kind, "red", size, 0, 0))
    return tuple(found)


@cache
def extents(form: Thing) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a form, m from its origin."""
    return bounds(form)


Measure = Callable[[Thing, int, int, Evidence], float]


def climb(form: Thing, x: int, y: int, seen: Evidence, measure: Measure = fit) -> Placed:
    """The best place near one, going uphill in steps of half a pixel and then of a quarter."""
    best = measure(form, x, y, seen)
    for step in (PHASES // 2, PHASES // 4):
        for _ in range(6):
            moved = False
            for dx, dy in ((step, 0), (-step, 0), (0, step), (0, -step)):
                value = measure(form, x + dx, y + dy, seen)
                if value > best + 1e-6:
                    best, x, y, moved = value, x + dx, y + dy, True
            if not moved:
                break
    return Placed(best, form, x, y)


def place(seen: Evidence, box: tuple[int, int, int, int]) -> list[Placed]:
    """The forms of about a whole shape's width and height that cover it best, at most `BEST`, each where it does so.

    Args:
        box: of the shape's own pixels: first column, first row, and one past the last of each.
    """
    size = len(seen.share)
    wide, tall = box[2] - box[0], box[3] - box[1]
    tries = []
    for form in forms():
        left, bottom, right, top = extents(form)
        if abs((right - left) * size - wide) < NEAR and abs((top - bottom) * size - tall) < NEAR:
            x = round(((box[0] + box[2]) / 2 - (left + right) / 2 * size) * PHASES)
            y = round((size - (box[1] + box[3]) / 2 - (bottom + top) / 2 * size) * PHASES)
            tries.append(Placed(fit(form, x, y, seen), form, x, y))
    tries.sort(key=lambda t: -t.fit)
    return [climb(t.form, t.x, t.y, seen) for t in tries[:BEST]]


def search(seen: Evidence, box: tuple[int, int, int, int], measure: Measure = fit) -> Placed:
    """The form that covers best a shape that may be partly hidden, or several run together: each with its edges on the
    shape's edges. Much slower than `place`."""
    size = len(seen.share)
    tries = []
    for form in forms():
        left, bottom, right, top = extents(form)
        for x in {box[0] - left * size, box[2] - right * size, (box[0] + box[2] - (left + right) * size) / 2}:
            for y in {
                size - box[3] - bottom * size,
                size - box[1] - top * size,
                size - (box[1] + box[3]) / 2 - (bottom + top) / 2 * size,
            }:
                at = round(x * PHASES), round(y * PHASES)
                tries.append(Placed(measure(form, *at, seen), form, *at))
    tries.sort(key=lambda t: -t.fit)
    return max((climb(t.form, t.x, t.y, seen, measure) for t in tries[:SEARCHED]), key=lambda p: p.fit)
