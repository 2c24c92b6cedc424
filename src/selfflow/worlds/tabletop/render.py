"""Scene -> picture: every part is a signed distance, and a pixel's coverage is read off it.

Only + - * /, square roots, minima and maxima of float32 numbers are used. IEEE 754 fixes each of them to the last bit,
so one scene has the same bytes on every machine; exp, sin or a sum over an axis would not promise that.

A thing is painted into a layer of three maps over its window: how much of what lies behind is kept, how much of its
own colour is added, and how much white. Light and material only write these maps, and a layer is cached, so that in a
clip a thing at rest is painted once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from functools import lru_cache, reduce
from typing import NamedTuple

import numpy as np

from . import font
from .geometry import (
    LETTER_HEIGHT,
    LETTER_WIDTH,
    Capsule,
    Disc,
    Part,
    Point,
    Shape,
    bounds,
    box_of,
    gripper_parts,
    placed,
    sign_board,
)
from .scene import PAINTS, TABLE, Gripper, Motion, Scene, Thing

MIN_SIZE, MAX_SIZE = 16, 1024
WALL = (226.0, 211.0, 190.0)
WOOD = (139.0, 101.0, 70.0)
STEEL = (78.0, 84.0, 94.0)  # the gripper
EDGE = TABLE + 0.035  # height of the far edge of the table top
FRONT = TABLE - 0.045  # height of its near edge; below it is the front of the table
SHADOW = 0.42  # how much a thing's shadow takes from the table, at most
INK, PAPER = 0.06, 0.97  # brightness of dark and of light letters
PAGES = 0.93  # brightness of a book's pages

Window = tuple[slice, slice]
Field = np.ndarray | np.float32  # one number a pixel, or one for all


class Layer(NamedTuple):
    """A thing over a window: `picture = kept · picture + tint · colour + white`; float32 (rows, columns)."""

    window: Window
    kept: np.ndarray
    tint: np.ndarray
    white: np.ndarray


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres: x (1, size) rightwards and height (size, 1) upwards, float32."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    return centres[None, :], (1 - centres)[:, None]


def _window(box: tuple[float, float, float, float], size: int) -> Window:
    """The pixels that a box may touch; empty when it is out of sight."""
    left, bottom, right, top = box
    rows = max(0, math.floor((1 - top) * size - 0.5)), min(size, math.ceil((1 - bottom) * size + 0.5))
    columns = max(0, math.floor(left * size - 0.5)), min(size, math.ceil(right * size + 0.5))
    return slice(rows[0], max(rows)), slice(columns[0], max(columns))


def _within(inner: Window, outer: Window) -> Window:
    """A window as seen from one that holds it."""
    rows, columns = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(inner, outer, strict=True))
    return rows, columns


def _area(window: Window) -> int:
    return (window[0].stop - window[0].start) * (window[1].stop - window[1].start)


def around(parts: Iterable[Part]) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of some parts together."""
    lefts, bottoms, rights, tops = zip(*(box_of(part.shape) for part in parts), strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)


def distance(shape: Shape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to a shape in metres, negative inside; x (1, w) and y (h, 1) are metres, float32."""
    if isinstance(shape, Disc):
        x, y = x - float(shape.x), y - float(shape.y)
        return np.sqrt(x * x + y * y) - shape.r
    if isinstance(shape, Capsule):
        return np.sqrt(_squared(shape.a, shape.b, x, y)) - shape.r
    if _rectangular(shape.points):
        return _rectangle(shape.points, x, y) - shape.r
    sides, squares = [], []
    for a, b in zip(shape.points, shape.points[1:] + shape.points[:1], strict=True):
        ex, ey = float(b[0] - a[0]), float(b[1] - a[1])
        length = math.sqrt(ex * ex + ey * ey)
        sides.append((x - float(a[0])) * (ey / length) - (y - float(a[1])) * (ex / length))
        squares.append(_squared(a, b, x, y))
    return np.copysign(np.sqrt(reduce(np.minimum, squares)), reduce(np.maximum, sides)) - shape.r


def _squared(a: Point, b: Point, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distance to a segment."""
    ex, ey = float(b[0] - a[0]), float(b[1] - a[1])
    scale = 1 / max(ex * ex + ey * ey, 1e-12)
    x, y = x - float(a[0]), y - float(a[1])
    along = np.minimum(np.maximum(x * (ex * scale) + y * (ey * scale), 0), 1)
    x, y = x - along * ex, y - along * ey
    return x * x + y * y


def _rectangular(points: tuple[Point, ...]) -> bool:
    if len(points) != 4:
        return False
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = points
    skew = abs(ax - bx + cx - dx) + abs(ay - by + cy - dy)
    return skew < 1e-9 and abs((bx - ax) * (dx - ax) + (by - ay) * (dy - ay)) < 1e-9


def _rectangle(points: tuple[Point, ...], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to a rectangle, upright or turned: half the work of any other polygon."""
    (ax, ay), (bx, by), (cx, cy), _ = points
    ex, ey = float(bx - ax), float(by - ay)
    width, height = math.sqrt(ex * ex + ey * ey), math.sqrt((cx - bx) * (cx - bx) + (cy - by) * (cy - by))
    ex, ey = ex / width, ey / width
    x, y = x - float(ax + cx) / 2, y - float(ay + cy) / 2
    if ey != 0:
        x, y = x * ex + y * ey, y * ex - x * ey
    across, up = np.abs(x) - width / 2, np.abs(y) - height / 2
    wide, tall = np.maximum(across, 0), np.maximum(up, 0)
    return np.sqrt(wide * wide + tall * tall) + np.minimum(np.maximum(across, up), 0)


def _covered(distance: np.ndarray, size: float) -> np.ndarray:
    return np.minimum(np.maximum(0.5 - distance * size, 0), 1)


# --------------------------------------------------------------------------- background
@lru_cache(maxsize=4)
def _grain(size: int) -> np.ndarray:
    """Boards of the table: brightness (size, size), 1 on the wall."""
    x, height = _grid(size)
    lines = np.abs((height * 61 + 0.6 * x) % 1 - 0.5) * (0.10 * np.abs((height * 17 - 1.3 * x) % 1 - 0.5) + 0.05)
    return np.where(height < EDGE, 1.02 - lines, 1).astype(np.float32)


@lru_cache(maxsize=4)
def _background(size: int, wall: float, wood: float) -> np.ndarray:
    """The wall, a little darker towards the top and the right, and the table: float32 (3, size, size)."""
    x, height = _grid(size)
    paint = (1 + 0.04 * wall) * (1.045 - 0.06 * height - 0.03 * x)
    top = np.where(height > FRONT, 1.02 + (EDGE - height) * 1.3, 0.74 + 0.6 * height)
    wooden = ((1 + 0.08 * wood) * top) * _grain(size)
    share = np.minimum(np.maximum((EDGE - height) * size + 0.5, 0), 1)
    near = np.minimum(np.maximum(1 - np.abs(height - FRONT) * min(size, 160), 0), 1)  # the rounded near edge
    wooden = wooden * (1 + 0.10 * near)
    planes = [w * paint + share * (t * wooden - w * paint) for w, t in zip(WALL, WOOD, strict=True)]
    return np.stack(planes).astype(np.float32)


def _shade_table(canvas: np.ndarray, thing: Thing) -> None:
    """The soft shadow of a thing that stands on the table or is near it."""
    size = canvas.shape[1]
    left, bottom, right, _ = _footprint(thing)
    near = 1 - max(0.0, bottom - TABLE) / 0.20
    if near <= 0 or bottom < TABLE - 0.05:
        return
    deep, across = 0.040, (right - left) / 2 + 0.035
    centre = (left + right) / 2 + 0.015
    rows, columns = _window((centre - across, TABLE - deep, centre + across, EDGE), size)
    x, height = _grid(size)
    u, v = (x[:, columns] - centre) / across, (height[rows] - (TABLE - 0.004)) / deep
    dark = np.maximum(1 - u * u - v * v, 0) * (SHADOW * near)
    dark *= np.minimum(np.maximum((EDGE - height[rows]) * size + 0.5, 0), 1)
    canvas[:, rows, columns] *= 1 - dark


def _footprint(thing: Thing) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of what is within 3 cm of a thing's lowest point."""
    boxes = [box_of(part.shape) for part in placed(thing) if part.solid]
    lowest = min(box[1] for box in boxes)
    feet = [box for box in boxes if box[1] < lowest + 0.03]
    return min(box[0] for box in feet), lowest, max(box[2] for box in feet), max(box[3] for box in feet)


# --------------------------------------------------------------------------- light and material
def _triangle(t: np.ndarray) -> np.ndarray:
    """A wave of period 1 between 0 and 1."""
    return np.abs(t - np.floor(t) - 0.5) * 2


def _turned(thing: Thing, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places in the frame of the thing itself, m."""
    c, s = round(math.cos(thing.angle), 7), round(math.sin(thing.angle), 7)
    x, y = x - float(thing.x), y - float(thing.y)
    return x * c + y * s, y * c - x * s


def _spot(u: np.ndarray, v: np.ndarray, across: float, up: float, radius: float) -> np.ndarray:
    """A soft round spot, 1 in its middle."""
    u, v = u - across, v - up
    return np.maximum(1 - (u * u + v * v) * (1 / (radius * radius)), 0)


def _material(
    thing: Thing, round_: bool, d: np.ndarray, place: tuple[np.ndarray, ...], u: np.ndarray, v: np.ndarray
) -> tuple[np.ndarray, Field]:
    """Brightness of a surface's own colour, about 1, and how far a highlight turns it to white.

    Args:
        thing: of which it is a part.
        round_: whether it bulges like a ball; else it is flat.
        d: signed distance to its outline, m.
        place: x and y of the pixels, m.
        u, v: the same from -0.5 to 0.5 across and up the part.
    """
    rim = np.minimum(np.maximum(1 + d * 80, 0), 1)
    if round_:
        light = 0.84 + 0.28 * _spot(u, v, -0.17, 0.19, 0.8)
    else:
        # The rim is darker away from the light, so that an arm before its torso is told apart.
        light = 1.03 - 0.08 * u + 0.06 * v - rim * (0.09 + 0.12 * (u - v))
    if thing.kind in ("book", "sign", "doll", "hand"):
        return light, np.float32(0)
    if thing.material == "wood":
        across, along = _turned(thing, *place)
        rings = along + across * across * 0.8 + 0.05 * across
        return light * (0.93 + 0.08 * _triangle(rings * 17) + 0.04 * _triangle(rings * 53)), np.float32(0)
    if thing.material == "metal":
        slope = u * 0.55 - v
        band = np.maximum(1 - np.abs(slope + 0.16) * 7, 0)
        gloss = 0.24 if thing.kind in ("cup", "plate") else 0.45  # thin walls must not break in two
        return light + 0.04 - 0.18 * np.maximum(1 - np.abs(slope - 0.24) * 5, 0), gloss * band
    if thing.material == "glass":
        return light * 0.9 if thing.kind == "glass" else light, 0.85 * _spot(u, v, -0.2, 0.22, 0.13)
    if thing.kind == "ball":  # the band of a toy ball, which shows it rolling
        _, along = _turned(thing, *place)
        band = np.minimum(np.maximum((0.12 * thing.extent - np.abs(along)) * 64, 0), 1)
        return light * (0.97 + 0.13 * band), np.float32(0)
    return light, np.float32(0)


def _paint(layer: Layer, role: str, parts: list[Part], thing: Thing, size: int) -> None:
    """Paint parts that look alike as one, without seams."""
    box = around(parts)
    inner = _window(box, size)
    here = _within(inner, layer.window)
    if not _area(inner):
        return
    grid_x, grid_y = _grid(size)
    x, y = grid_x[:, inner[1]], grid_y[inner[0]]
    if len(parts) == 1:
        d = distance(parts[0].shape, x, y)
    else:
        d = np.full((y.shape[0], x.shape[1]), 1, np.float32)
        for part in parts:
            window = _window(box_of(part.shape), size)
            if _area(window):
                area = d[_within(window, inner)]
                np.minimum(area, distance(part.shape, grid_x[:, window[1]], grid_y[window[0]]), out=area)
    cover = _covered(d, size)
    left, bottom, right, top = box
    u, v = (x - float(left + right) / 2) / float(right - left), (y - float(bottom + top) / 2) / float(top - bottom)
    if role == "pane":
        streak = np.maximum(1 - np.abs(u + 0.30) * 12, 0)
        _over(layer, here, cover * (0.25 + 0.22 * streak), np.float32(0.95), 0.32 + 0.6 * streak)
    elif role == "pages":
        _over(layer, here, cover, np.float32(0), PAGES - 0.10 * _triangle(_turned(thing, x, y)[1] * 90))
    elif role == "eye":
        _over(layer, here, cover, np.float32(0.12), np.float32(0))
    else:
        light, white = _material(thing, isinstance(parts[0].shape, Disc), d, (x, y), u, v)
        if role in ("post", "wrist"):
            light = light * 0.84
        if thing.material == "glass" and thing.kind != "glass":
            cover = cover * np.maximum(0.80 + 0.15 * np.minimum(np.maximum(1 + d * 50, 0), 1), white)
        _over(layer, here, cover, light, white)


def _over(layer: Layer, here: Window, cover: np.ndarray, light: Field, white: Field) -> None:
    rest = 1 - cover
    layer.kept[here] *= rest
    layer.tint[here] *= rest
    layer.white[here] *= rest
    layer.tint[here] += cover * light * (1 - white)
    layer.white[here] += cover * white


def _letters(thing: Thing, window: Window, size: int) -> np.ndarray:
    """Coverage of the letters of a sign over a window, float32: the mean of points within each pixel."""
    capital = LETTER_HEIGHT[thing.size]
    height = sign_board(thing.size, len(thing.word))[1]
    fine = 4 if capital * size < 24 else 2
    c, s = round(math.cos(thing.angle), 7), round(math.sin(thing.angle), 7)
    grid_x, grid_y = _grid(size * fine)
    rows, columns = (slice(part.start * fine, part.stop * fine) for part in window)
    x, y = grid_x[:, columns] - float(thing.x), grid_y[rows] - float(thing.y)
    u = (x * (c / capital) + y * (s / capital)) + len(thing.word) * LETTER_WIDTH / 2
    v = (y * (c / capital) - x * (s / capital)) - (0.05 + (height - capital) / 2) / capital
    return _mean(_covered(font.distance(thing.word, u, v), capital * size * fine), fine)


def _mean(mask: np.ndarray, fine: int) -> np.ndarray:
    """The mean of each fine × fine block, added in a fixed order."""
    total = np.zeros((mask.shape[0] // fine, mask.shape[1] // fine), np.float32)
    for i in range(fine):
        for j in range(fine):
            total += mask[i::fine, j::fine]
    return total / np.float32(fine * fine)


def dark_letters(colour: str) -> bool:
    """Whether a sign of that colour has near-black letters (else near-white): whichever contrasts best."""
    red, green, blue = PAINTS[colour]
    return 0.299 * red + 0.587 * green + 0.114 * blue > 125


LOOKS = {"handle": "body", "finger": "palm", "thumb": "palm"}


def _layer(parts: Iterable[Part], thing: Thing, size: int) -> Layer:
    """Parts, painted; all of them lie within the window, a thing's letters too."""
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(LOOKS.get(part.role, part.role), []).append(part)
    if "wrist" in groups:  # a cuff, before the palm
        groups["wrist"] = groups.pop("wrist")
    window = _window(around(part for group in groups.values() for part in group), size)
    kept, tint, white = np.ones((3, window[0].stop - window[0].start, window[1].stop - window[1].start), np.float32)
    tint[:], white[:] = 0, 0
    layer = Layer(window, kept, tint, white)
    for role, group in groups.items():
        _paint(layer, role, group, thing, size)
    if thing.kind == "sign" and _area(window):
        shade = np.float32(INK if dark_letters(thing.colour) else PAPER)
        _over(layer, (slice(None), slice(None)), _letters(thing, window, size), np.float32(0), shade)
    white *= 255
    return layer


def _thing_layer(thing: Thing, size: int) -> Layer:
    return _layer(placed(thing), thing, size)


def _gripper_layer(gripper: Gripper, size: int) -> Layer:
    return _layer(gripper_parts(gripper), Thing("box", "blue", material="rubber"), size)


# In a clip most things rest. Large layers are megabytes, and are not kept.
_kept_thing_layer = lru_cache(maxsize=64)(_thing_layer)


def _blend(canvas: np.ndarray, layer: Layer, colour: tuple[float, float, float]) -> None:
    area = canvas[:, layer.window[0], layer.window[1]]
    area *= layer.kept
    area += layer.tint * np.asarray(colour, np.float32)[:, None, None]
    area += layer.white


# --------------------------------------------------------------------------- public
def check_size(size: int) -> None:
    """Raise ValueError unless a picture may have this size."""
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"picture size {size!r}; choose a whole number of pixels from {MIN_SIZE} to {MAX_SIZE}")


def render(scene: Scene, size: int = 64, layers: Collection[int] | None = None) -> np.ndarray:
    """The picture of a scene: uint8 (size, size, 3) RGB, antialiased.

    Args:
        scene: things are painted in order, each over those before it, the gripper last.
        size: pixels, 16 to 1024, else a ValueError: below, a small thing has too few pixels to have a shape.
        layers: draw only these things, by index, over the background; the gripper is -2. None draws all.
    """
    check_size(size)
    size = int(size)
    canvas = _background(size, float(scene.wall), float(scene.wood)).copy()
    things = [thing for i, thing in enumerate(scene.things) if layers is None or i in layers]
    for thing in things:
        _shade_table(canvas, thing)
    paint = _kept_thing_layer if size <= 128 else _thing_layer
    for thing in things:
        _blend(canvas, paint(thing, size), PAINTS[thing.colour])
    if scene.gripper is not None and (layers is None or -2 in layers):
        _blend(canvas, _gripper_layer(scene.gripper, size), STEEL)
    canvas += np.float32(0.5)
    return np.ascontiguousarray(np.minimum(canvas, 255, out=canvas).astype(np.uint8).transpose(1, 2, 0))


def render_clip(motion: Motion, size: int = 64) -> np.ndarray:
    """The pictures of a motion: uint8 (frames, size, size, 3)."""
    return np.stack([render(scene, size) for scene in motion.frames])


def coverage(shape: Shape, size: int) -> np.ndarray:
    """How much of each pixel a shape covers: float32 (size, size) in [0, 1]."""
    check_size(size)
    mask = np.zeros((size, size), np.float32)
    rows, columns = _window(box_of(shape), int(size))
    x, y = _grid(int(size))
    mask[rows, columns] = _covered(distance(shape, x[:, columns], y[rows]), int(size))
    return mask


def silhouette(thing: Thing, size: int, solid: bool = False) -> np.ndarray:
    """How much of each pixel a thing covers, or only its matter: float32 (size, size) in [0, 1]."""
    check_size(size)
    mask = np.zeros((size, size), np.float32)
    for part in placed(thing):
        if part.solid or not solid:
            np.maximum(mask, coverage(part.shape, size), out=mask)
    return mask


def lettering(thing: Thing, size: int) -> np.ndarray:
    """How much of each pixel the letters of a sign cover: float32 (size, size) in [0, 1]."""
    check_size(size)
    mask = np.zeros((size, size), np.float32)
    window = _window(bounds(thing), int(size))
    mask[window] = _letters(thing, window, int(size))
    return mask


def word_mask(word: str, height_px: float) -> np.ndarray:
    """The letters of a word whose capitals are that many pixels high: float32 (rows, columns) in [0, 1].

    The base line is the lower edge of the last row, the first letter's space begins at the left edge; rows are
    height_px and columns `LETTER_WIDTH · height_px` a letter, rounded up. Raises ValueError for other letters than A-Z
    and for heights outside 2 to 1024.
    """
    if not 2 <= height_px <= MAX_SIZE:
        raise ValueError(f"letters {height_px} pixels high; choose 2 to {MAX_SIZE}")
    fine = 4 if height_px < 24 else 2
    rows, columns = math.ceil(height_px) * fine, math.ceil(len(word) * LETTER_WIDTH * height_px) * fine
    unit = np.float32(fine * height_px)
    u = (np.arange(columns, dtype=np.float32) + np.float32(0.5))[None, :] / unit
    v = (rows - np.arange(rows, dtype=np.float32) - np.float32(0.5))[:, None] / unit
    u, v = np.broadcast_arrays(u, v)
    return _mean(_covered(font.distance(word, u, v), float(unit)), fine)
