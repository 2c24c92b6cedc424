"""Picture -> things: a plain reader of tabletop pictures, and a score for how well a picture shows what was asked.

Nothing is learned. Pixels take the nearest colour of the palette or of the background; connected pixels of one colour
are a shape; its area and centre of mass place each kind's outline over it, and the outline that overlaps most (by
intersection over union) is its kind, size and place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from PIL import Image

from .claim import Claim, Verdict, describe, judge
from .render import WALL, WOOD, distance
from .scene import COLOURS, KINDS, SIZES, TABLE, Scene, Thing

MIN_READ_SIZE = 24  # below this, half of the small things cannot be told apart
READ_SIZE = 64  # larger pictures are averaged down to this: it is plenty, and labelling stays fast
REST = 0.08  # a thing rests on what is at most this far, in picture widths, from its underside
_LEAST_AREA = 0.3 * 0.5 * SIZES["small"] ** 2  # of a shape: 0.3 of the smallest thing there is, a small cone

_SHADES = [np.multiply(WALL, s) for s in (0.92, 1.0, 1.07)] + [np.multiply(WOOD, s) for s in (0.5, 0.7, 0.9, 1.1)]
_BACKGROUND = np.array(_SHADES)
_PALETTE = np.array(list(COLOURS.values()), dtype=np.float64)


@dataclass(frozen=True)
class Seen(Thing):
    """A thing read from a picture. `base` is the height of its underside; `fit` in [0, 1] is how well the outline of
    its kind covers its pixels (true renders give 0.7 and more)."""

    base: float = TABLE
    fit: float = 1.0


def read(picture: np.ndarray) -> list[Seen]:
    """The things in a picture, uint8 (size, size, 3) RGB of at least 24 x 24, largest first.

    Raises ValueError for an array that is no such picture.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[0] != picture.shape[1] or picture.shape[2] != 3:
        raise ValueError(f"a picture is uint8 (size, size, 3), not {picture.dtype} {picture.shape}")
    if picture.shape[0] < MIN_READ_SIZE:
        raise ValueError(f"a picture of {picture.shape[0]} pixels is too small to read; choose {MIN_READ_SIZE} or more")
    if picture.shape[0] > READ_SIZE:
        picture = np.asarray(Image.fromarray(picture).resize((READ_SIZE, READ_SIZE), Image.Resampling.BOX))
    pixels = picture.astype(np.float64)
    # First with the whole palette, to learn which colours are there; then with those only, because the blend of red
    # and wall along the rim of a red thing is nearest to pink.
    present = sorted({colour for colour, _ in _shapes(pixels, range(len(_PALETTE)))})
    things = [_recognise(tuple(COLOURS)[colour], shape) for colour, shape in _shapes(pixels, present)]
    things.sort(key=lambda thing: -thing.extent)
    return [replace(thing, on=_support(things, index)) for index, thing in enumerate(things)]


def score(picture: np.ndarray, wanted: Scene | Claim) -> Verdict:
    """How well a picture shows a scene or what a caption claims: the facts of `judge`, and one false fact more for each
    thing that rests neither on the table nor on a box.

    A scene asks for all its things, sizes and relations, but not for exact positions: no caption says them.
    """
    claim = describe(wanted) if isinstance(wanted, Scene) else wanted
    things = read(picture)
    verdict = judge(claim, things)
    floating = [f"the {t} rests on nothing" for t in things if t.on is None and abs(t.base - TABLE) > REST]
    return Verdict(verdict.true, verdict.total + len(floating), (*verdict.faults, *floating))


def _shapes(pixels: np.ndarray, colours: Sequence[int]) -> list[tuple[int, np.ndarray]]:
    """The connected shapes of the given palette colours, each as (colour, mask). Rims, one pixel thin, are no shapes:
    a shape holds a solid square of 3 x 3."""
    if not colours:
        return []
    references = np.concatenate([_PALETTE[list(colours)], _BACKGROUND])
    nearest = ((pixels[:, :, None, :] - references) ** 2).sum(axis=-1).argmin(axis=-1)
    least = _LEAST_AREA * pixels.shape[0] ** 2
    found = []
    for index, colour in enumerate(colours):
        for mask in _components(nearest == index):
            if mask.sum() >= least and _is_solid(mask):
                found.append((colour, mask))
    return found


def _is_solid(mask: np.ndarray) -> bool:
    rows = mask[:-2] & mask[1:-1] & mask[2:]
    return bool((rows[:, :-2] & rows[:, 1:-1] & rows[:, 2:]).any())


def _components(mask: np.ndarray) -> list[np.ndarray]:
    """The 4-connected parts of a mask, each a mask."""
    width = mask.shape[1]
    left = set(np.flatnonzero(mask).tolist())
    parts = []
    while left:
        stack = [left.pop()]
        part = np.zeros(mask.size, dtype=bool)
        while stack:
            here = stack.pop()
            part[here] = True
            column = here % width
            beside = [here - width, here + width]
            beside += [here - 1] if column > 0 else []
            beside += [here + 1] if column < width - 1 else []
            for neighbour in beside:
                if neighbour in left:
                    left.remove(neighbour)
                    stack.append(neighbour)
        parts.append(part.reshape(mask.shape))
    return parts


@cache
def _moments(kind: str) -> tuple[float, float, float]:
    """Area and centre of mass (u, v) of a kind's outline of size one."""
    ticks = (np.arange(400) + 0.5) / 400
    inside = distance(kind, ticks[None, :] - 0.5, ticks[:, None]) < 0
    v, u = np.nonzero(inside)
    return float(inside.mean()), float(ticks[u].mean() - 0.5), float(ticks[v].mean())


def _recognise(colour: str, mask: np.ndarray) -> Seen:
    """Put the outline of every kind over a shape, by area and centre of mass; keep the kind that overlaps most."""
    size = mask.shape[0]
    rows, columns = np.nonzero(mask)
    area, x, height = len(rows) / size**2, (columns.mean() + 0.5) / size, 1 - (rows.mean() + 0.5) / size
    centres = (np.arange(size) + 0.5) / size
    best: Seen | None = None
    for kind in KINDS:
        full, centre_u, centre_v = _moments(kind)
        extent = float(np.sqrt(area / full))
        left, base = x - centre_u * extent, height - centre_v * extent
        u, v = (centres[None, :] - left) / extent, (1 - centres[:, None] - base) / extent
        outline = np.clip(0.5 - distance(kind, u, v) * (extent * size), 0, 1)
        fit = float(np.minimum(outline, mask).sum() / np.maximum(outline, mask).sum())
        if best is None or fit > best.fit:
            name = min(SIZES, key=lambda name: abs(np.log(SIZES[name] / extent)))
            best = Seen(kind, colour, name, float(np.clip(left, 0, 1)), base=float(base), fit=fit)
    assert best is not None
    return best


def _support(things: Sequence[Seen], index: int) -> int | None:
    """The box, if any, that a thing stands on."""
    thing = things[index]
    for other, box in enumerate(things):
        if other == index or box.kind != "box":
            continue
        if abs(thing.base - (box.base + box.extent)) < REST and abs(thing.x - box.x) < box.extent / 2:
            return other
    return None
