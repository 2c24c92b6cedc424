"""A picture's pixels, before anything is recognised: which colour each has, and which of one colour hang together.

A pixel takes the nearest shade of the palette, of the background or of the gripper. Shades mixed with white count as
their colour: so do a highlight, and the rim of a thing, which is half wall.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from .render import EDGE, STEEL, WALL, WOOD
from .scene import COLOURS, PAINTS
from .verdict import check_picture

READ_SIZE = 64  # larger pictures are averaged down to this: it is plenty
NAMES = tuple(COLOURS)  # the palette, unless another is given
BACKGROUND, GRIPPER = 32, 33  # classes after those of any palette
_LIGHT = (1.08, 0.92, 0.76)  # brightness of a thing's colour
_WHITE = (0.20, 0.38)  # share of white in a highlight
_BEHIND = (0.25, 0.48)  # share of what is behind, along a rim
_BITS = 5  # of each channel, in the table of classes


def _shades(wooden: bool, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Shades (n, 3) and the class of each, before the wall or before the table."""
    wall = [np.multiply(WALL, light) for light in (0.90, 0.98, 1.06)]
    wood = [np.multiply(WOOD, light) for light in (0.42, 0.6, 0.8, 1.0, 1.2)]
    edge = [(1 - part) * wall[1] + part * wood[3] for part in (0.3, 0.5, 0.7)]  # of the table against the wall
    # Letters, eyes and pages are nothing of their own, unless things are as dark or as light.
    neutral = [np.full(3, grey) for grey in (14.0,) * ("black" not in names) + (212.0, 246.0) * ("white" not in names)]
    shades = [*wall, *wood, *edge, *neutral]
    classes = [BACKGROUND] * len(shades)
    behind = wood[2] if wooden else wall[1]
    for index, colour in [*((i, PAINTS[name]) for i, name in enumerate(names)), (GRIPPER, STEEL)]:
        own = [np.multiply(colour, light) for light in _LIGHT]
        own += [np.multiply(colour, 1 - white) + 255 * white for white in _WHITE]
        own += [np.multiply(colour, 1 - part) + behind * part for part in _BEHIND if index != GRIPPER]
        shades += own
        classes += [index] * len(own)
    return np.minimum(np.array(shades), 255), np.array(classes)


@lru_cache(maxsize=256)
def _table(wooden: bool, names: tuple[str, ...]) -> np.ndarray:
    """The class of every colour, by its first five bits a channel."""
    shades, classes = _shades(wooden, names)
    step = 1 << (8 - _BITS)
    ticks = np.arange(0, 256, step) + (step - 1) / 2
    grid = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    # Of the squared distance what depends on the shade.
    return classes[((shades**2).sum(axis=-1) - 2 * grid @ shades.T).argmin(axis=-1)].astype(np.int8)


@dataclass(frozen=True)
class Pixels:
    """A picture made ready to read.

    Attributes:
        colours: float32 (size, size, 3).
        classes: int (size, size): index into the names, or `BACKGROUND`, or `GRIPPER`.
        behind: float32 (size, 3), the background of each row.
        names: the palette, of `PAINTS`.
    """

    colours: np.ndarray
    classes: np.ndarray
    behind: np.ndarray
    names: tuple[str, ...] = NAMES

    @property
    def size(self) -> int:
        return len(self.classes)


def pixels(picture: np.ndarray, names: tuple[str, ...] = NAMES) -> Pixels:
    """A picture's pixels. Raises ValueError for what is no picture (see `check_picture`)."""
    check_picture(picture)
    return classified(averaged(picture).astype(np.float32), names)


def averaged(picture: np.ndarray) -> np.ndarray:
    """A picture of at most `READ_SIZE` pixels a side: the mean of what each covers."""
    if len(picture) <= READ_SIZE:
        return picture
    return np.asarray(Image.fromarray(picture).resize((READ_SIZE, READ_SIZE), Image.Resampling.BOX))


def classified(colours: np.ndarray, names: tuple[str, ...] = NAMES) -> Pixels:
    """Pixels of float32 (size, size, 3) in [0, 255]."""
    size = len(colours)
    high = colours.astype(np.uint8) >> (8 - _BITS)
    code = (high[..., 0].astype(np.int32) << (2 * _BITS)) + (high[..., 1].astype(np.int32) << _BITS) + high[..., 2]
    far = round((1 - EDGE) * size)  # rows of wall
    classes = np.concatenate([_table(False, names)[code[:far]], _table(True, names)[code[far:]]]).astype(np.int64)
    free = (classes == BACKGROUND).astype(np.float32)
    count = free.sum(axis=1)
    usual = np.where((np.arange(size) < far)[:, None], np.array(WALL), np.array(WOOD))
    mean = (free[:, None, :] @ colours)[:, 0] / np.maximum(count, 1)[:, None]
    behind = np.where(count[:, None] > size / 8, mean, usual).astype(np.float32)
    return Pixels(colours, classes, behind, names)


def share(seen: Pixels, colour: int, rows: slice, columns: slice) -> np.ndarray:
    """How much of each pixel of a window is of that colour rather than of the background, float32 in [0, 1]."""
    own = seen.classes[rows, columns] == colour
    near = grown(own)
    behind = seen.behind[rows][:, None, :]
    way = np.array(PAINTS[seen.names[colour]], np.float32) * np.float32(0.97) - behind
    along = ((seen.colours[rows, columns] - behind) * way).sum(axis=-1) / (way * way).sum(axis=-1)
    soft = np.clip(0.5 + 1.2 * (along - 0.5), 0, 1)
    free = seen.classes[rows, columns] == BACKGROUND
    mask = np.where(own | (near & free), soft, 0)
    return np.where(_shrunk(own), 1, mask).astype(np.float32)


def grown(mask: np.ndarray) -> np.ndarray:
    """A mask and its eight neighbours."""
    rows = mask.copy()
    rows[1:] |= mask[:-1]
    rows[:-1] |= mask[1:]
    both = rows.copy()
    both[:, 1:] |= rows[:, :-1]
    both[:, :-1] |= rows[:, 1:]
    return both


def _shrunk(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask whose four neighbours are in it."""
    inner = np.zeros_like(mask)
    inner[1:-1, 1:-1] = mask[1:-1, 1:-1] & mask[:-2, 1:-1] & mask[2:, 1:-1] & mask[1:-1, :-2] & mask[1:-1, 2:]
    return inner


def regions(mask: np.ndarray) -> np.ndarray:
    """The 8-connected regions of a mask, numbered from 1 as they are met reading; 0 outside. Int (rows, columns)."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2), np.int8)
    padded[:, 1:-1] = mask
    change = np.diff(padded, axis=1)
    row, start = np.nonzero(change == 1)
    stop = np.nonzero(change == -1)[1]
    # Runs along rows: a loop over those is short. Each joins the runs it touches in the row above.
    parent = list(range(len(row)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    rows, starts, stops = row.tolist(), start.tolist(), stop.tolist()
    above = 0
    for i, (r, a, b) in enumerate(zip(rows, starts, stops, strict=True)):
        while rows[above] < r - 1:
            above += 1
        k = above
        while rows[k] == r - 1 and starts[k] <= b:
            if stops[k] >= a:
                one, two = root(k), root(i)
                parent[max(one, two)] = min(one, two)
            k += 1
    labels = np.zeros((height, width), np.int64)
    numbers: dict[int, int] = {}
    for i, (r, a, b) in enumerate(zip(rows, starts, stops, strict=True)):
        labels[r, a:b] = numbers.setdefault(root(i), len(numbers) + 1)
    return labels
