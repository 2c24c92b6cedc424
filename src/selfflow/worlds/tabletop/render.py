"""Scene -> picture: every shape is a signed distance, and a pixel's coverage is read off it.

Only + - * /, square roots, minima and maxima of float32 numbers are used. IEEE 754 fixes each of them to the last bit,
so one scene has the same bytes on every machine; exp, sin or a sum over an axis would not promise that.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from .scene import COLOURS, TABLE, Scene, Thing

MIN_SIZE, MAX_SIZE = 16, 1024
WALL = (226.0, 211.0, 190.0)
WOOD = (139.0, 101.0, 70.0)
EDGE = TABLE + 0.09  # height of the far edge of the table

CUP_AXIS = -0.12  # the body of a cup stands left of its centre, and the handle right of it
_CONE_SLOPE = math.sqrt(1.25)
_CUP_SLOPE = math.sqrt(1 + 0.08**2)


def distance(kind: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to a thing that fills -0.5 <= u <= 0.5, 0 <= v <= 1 (negative inside); u and v broadcast."""
    if kind == "ball":
        return np.sqrt(u * u + (v - 0.5) * (v - 0.5)) - 0.5
    if kind == "box":
        radius = 0.05
        across, up = np.abs(u) - (0.5 - radius), np.abs(v - 0.5) - (0.5 - radius)
        outside_across, outside_up = np.maximum(across, 0), np.maximum(up, 0)
        outside = np.sqrt(outside_across * outside_across + outside_up * outside_up)
        return outside + np.minimum(np.maximum(across, up), 0) - radius
    if kind == "cone":
        return np.maximum((np.abs(u) + 0.5 * v - 0.5) / _CONE_SLOPE, -v)
    if kind == "cup":
        side = (np.abs(u - CUP_AXIS) - (0.30 + 0.08 * v)) / _CUP_SLOPE
        body = np.maximum(side, np.abs(v - 0.5) - 0.5)
        ring = np.sqrt((u - 0.24) * (u - 0.24) + (v - 0.56) * (v - 0.56))
        return np.minimum(body, np.abs(ring - 0.185) - 0.075)
    raise ValueError(f"unknown kind {kind!r}")


def _light(kind: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """How bright a surface is, about 1, with the light at the upper left."""
    if kind == "ball":
        return 1.13 - 0.55 * ((u + 0.16) * (u + 0.16) + (v - 0.66) * (v - 0.66))
    if kind == "box":
        return 0.97 - 0.06 * u + 0.14 * np.clip((v - 0.80) * 12, 0, 1)
    if kind == "cone":
        return 1.02 - 0.36 * u
    return 1.02 - 0.22 * (u - CUP_AXIS) + 0.10 * np.clip((v - 0.84) * 12, 0, 1)


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres: x (1, size) rightwards and height (size, 1) upwards, float32."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    return centres[None, :], (1 - centres)[:, None]


def _background(scene: Scene, size: int) -> np.ndarray:
    """The wall, a little darker towards the top, and the table, a little darker towards the viewer: (size, size, 3)."""
    _, height = _grid(size)
    wall = np.asarray(WALL, np.float32) * (1 + 0.04 * scene.wall) * (1.03 - 0.07 * height)
    wood = np.asarray(WOOD, np.float32) * (1 + 0.08 * scene.wood) * (0.86 + 0.9 * height)
    column = wall + np.clip((EDGE - height) * size + 0.5, 0, 1) * (wood - wall)
    return np.repeat(column.astype(np.float32)[:, None, :], size, axis=1)


def _window(low: float, high: float, size: int) -> slice:
    """The pixels whose squares touch [low, high], with one to spare."""
    return slice(max(0, math.floor(low * size) - 1), min(size, math.ceil(high * size) + 1))


def _paint_shadow(canvas: np.ndarray, thing: Thing) -> None:
    size = canvas.shape[0]
    centre, across, deep = float(thing.x), 0.60 * thing.extent, 0.055
    x, height = _grid(size)
    rows = _window(1 - TABLE - deep, 1 - TABLE + deep, size)
    columns = _window(centre - across, centre + across, size)
    u, v = (x[:, columns] - (centre + 0.02)) / across, (height[rows] - (TABLE - 0.01)) / deep
    canvas[rows, columns] *= (1 - 0.45 * np.clip(1 - u * u - v * v, 0, 1))[..., None]


def _paint(canvas: np.ndarray, thing: Thing, base: float) -> None:
    size = canvas.shape[0]
    x, height = _grid(size)
    centre, extent = float(thing.x), thing.extent  # a numpy float64 would widen the arrays, and change the last bit
    rows = _window(1 - base - extent, 1 - base, size)
    columns = _window(centre - extent / 2, centre + extent / 2, size)
    u, v = (x[:, columns] - centre) / extent, (height[rows] - base) / extent
    covered = np.clip(0.5 - distance(thing.kind, u, v) * (extent * size), 0, 1)[..., None]
    surface = np.asarray(COLOURS[thing.colour], np.float32) * (_light(thing.kind, u, v)[..., None])
    area = canvas[rows, columns]
    area += covered * (np.minimum(surface, 255) - area)


def check_size(size: int) -> None:
    """Raise ValueError unless a picture may have this size."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"picture size {size!r}; choose a whole number of pixels from {MIN_SIZE} to {MAX_SIZE}")


def render(scene: Scene, size: int = 32) -> np.ndarray:
    """The picture of a scene: uint8 (size, size, 3) RGB, antialiased.

    Raises ValueError for a size outside 16 to 1024: below, a small thing has too few pixels to have a shape.
    """
    check_size(size)
    canvas = _background(scene, int(size))
    for thing in scene.things:
        if thing.on is None:
            _paint_shadow(canvas, thing)
    for index, thing in enumerate(scene.things):
        _paint(canvas, thing, scene.base(index))
    return (np.clip(canvas, 0, 255) + np.float32(0.5)).astype(np.uint8)
