"""Clip -> paths: where the pixels of each colour are in every frame, and how near they come to anything else.

A thing is known by its colour, which things of one motion do not share (see `motion.Bag`); things of one colour are
followed as one. No shape is recognised here: area, centre and edges of a colour survive noise, blur and turning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .pixels import BACKGROUND, GRIPPER, NAMES, READ_SIZE, Pixels, grown, pixels, regions, share
from .render import STEEL, WALL, WOOD
from .scene import COLOURS, TABLE, check_fps
from .verdict import check_picture

LEAST, STILL = 12.0, 4.0  # pixels (at 64) of a colour that is there; of one known to be there, that still is
FAR = 99.0  # a gap to nothing


@dataclass(frozen=True)
class Track:
    """What moves in a clip of `t` frames and `n` colours; where a colour is absent, nan.

    Attributes:
        colours: of `COLOURS`, those that are there in some frame.
        fps: frames a second.
        area: (t, n) m², of the pixels of that colour, 0 where it is absent.
        x, y: (t, n) m, of their centre.
        box: (t, n, 4) m, left, bottom, right and top, to a part of a pixel.
        gap: (t, n, n + 2) m, to each other colour, the table (n), and the gripper (n + 1) where it has a finger on
            either side; 99 to what is not there.
        gripper: (t,) bool, whether one is there.
        reach: (t, n) m, to the gripper, on whichever side its fingers are.
        mask: (t, n, size, size) bool, the pixels of that colour without specks.
    """

    colours: tuple[str, ...]
    fps: float
    area: np.ndarray
    x: np.ndarray
    y: np.ndarray
    box: np.ndarray
    gap: np.ndarray
    gripper: np.ndarray
    reach: np.ndarray
    mask: np.ndarray

    @property
    def frames(self) -> int:
        return len(self.area)


def check_clip_array(clip: np.ndarray, least: int = 1) -> None:
    """Raise ValueError unless it is a clip: uint8 (frames, size, size, 3), of at least `least` frames."""
    if not isinstance(clip, np.ndarray) or clip.dtype != np.uint8 or clip.ndim != 4:
        what = f"{clip.dtype} {clip.shape}" if isinstance(clip, np.ndarray) else type(clip).__name__
        raise ValueError(f"a clip is a uint8 array (frames, size, size, 3), not {what}")
    if len(clip) < least:
        raise ValueError(f"a clip of {len(clip)} frames; it needs at least {least}")
    check_picture(clip[0])


def read_clip(clip: np.ndarray, fps: float) -> Track:
    """What moves in a clip.

    Args:
        clip: uint8 (frames, size, size, 3), size 24 or more; above 64 it is averaged down.
        fps: frames a second.

    Raises ValueError for what is no clip, or an fps that is not positive and finite.
    """
    check_clip_array(clip)
    check_fps(fps)
    seen = [pixels(picture) for picture in clip]
    size = seen[0].size
    least = LEAST * (size / READ_SIZE) ** 2
    there = _present(np.stack([f.classes for f in seen]), np.stack([f.colours for f in seen]), least)
    table = _table(there)
    n, t = len(there), len(clip)
    area, x, y = np.zeros((t, n)), np.full((t, n), np.nan), np.full((t, n), np.nan)
    box, gap = np.full((t, n, 4), np.nan), np.full((t, n, n + 2), FAR)
    held, reach, shape = np.zeros(t, dtype=bool), np.full((t, n), FAR), np.zeros((t, n, size, size), dtype=bool)
    for k, frame in enumerate(seen):
        rgb = frame.colours.astype(np.int32) >> 3
        classes = table[(rgb[..., 0] << 10) + (rgb[..., 1] << 5) + rgb[..., 2]]
        frame = Pixels(frame.colours, classes, frame.behind)
        rims = []
        for i, colour in enumerate(there):
            own = shape[k, i] = _main(classes == colour)
            classes[(classes == colour) & ~own] = BACKGROUND
            rows, columns = _window(own)
            mask = share(frame, colour, rows, columns).astype(np.float64)
            rims.append(np.add(_rim(mask > 0.5), (rows.start, columns.start)))
            total = mask.sum()
            if total < least * STILL / LEAST:
                continue
            area[k, i] = total / size**2
            across, down = mask.sum(axis=0), mask.sum(axis=1)
            x[k, i] = (across @ np.arange(len(across)) / total + columns.start + 0.5) / size
            y[k, i] = 1 - (down @ np.arange(len(down)) / total + rows.start + 0.5) / size
            left, right = np.add(_edges(mask.max(axis=0)), columns.start)
            top, bottom = np.add(_edges(mask.max(axis=1)), rows.start)
            box[k, i] = left / size, 1 - bottom / size, right / size, 1 - top / size
            gap[k, i, n] = box[k, i, 1] - TABLE
        gripper = _rim(_hanging(classes == GRIPPER))
        held[k] = len(gripper) > 0
        for i in range(n):
            if np.isnan(x[k, i]):
                continue
            for j in range(i):
                if not np.isnan(x[k, j]):
                    gap[k, i, j] = gap[k, j, i] = _distance(rims[i], rims[j]) / size
            # Only what is between its fingers is held by a gripper; a finger at one side holds nothing up.
            tall = (gripper[:, 0] >= rims[i][:, 0].min(initial=size)) & (gripper[:, 0] <= rims[i][:, 0].max(initial=0))
            middle = x[k, i] * size
            reach[k, i] = _distance(rims[i], gripper) / size
            if (gripper[tall, 1] < middle).any() and (gripper[tall, 1] > middle).any():
                gap[k, i, n + 1] = reach[k, i]
    real = np.flatnonzero((area >= least / size**2).sum(axis=0) >= min(2, t))  # the others were mixtures after all
    gap = gap[:, real][:, :, [*real, n, n + 1]]
    colours = tuple(NAMES[there[i]] for i in real)
    paths = area[:, real], x[:, real], y[:, real], box[:, real]
    return Track(colours, float(fps), *paths, gap, held, reach[:, real], shape[:, real])


def _present(classes: np.ndarray, colours: np.ndarray, least: float) -> tuple[int, ...]:
    """The colours that something has in two frames or more: enough pixels, and neither a rim nor a mixture."""
    found, fleeting = [], []
    for colour in range(len(NAMES)):
        own = classes == colour
        blocks = own[:, 1:, 1:] & own[:, :-1, 1:] & own[:, 1:, :-1] & own[:, :-1, :-1]
        enough = (own.sum(axis=(1, 2)) >= least) & (blocks.sum(axis=(1, 2)) >= least / 4)
        if enough.sum() >= min(2, len(classes)):
            found.append(colour)
            if enough.mean() < 0.9 or np.median(own.sum(axis=(1, 2))) < 2 * least:
                fleeting.append(colour)
    lasting = [colour for colour in found if colour not in fleeting]
    return tuple(c for c in found if c in lasting or not _is_mixture(c, colours[classes == c].mean(axis=0), lasting))


def _is_mixture(colour: int, mean: np.ndarray, others: list[int]) -> bool:
    """Whether what looks like a colour is another mixed with the wall, or behind the glass that a third is."""
    palette = [np.array(COLOURS[NAMES[c]], float) for c in others]
    wall = np.array(WALL)
    for other in palette:  # the pane itself, before the wall
        way = other - wall
        part = float(np.clip((mean - wall) @ way / (way @ way), 0, 1))
        if np.linalg.norm(mean - wall - part * way) < 30:
            return True
    behind = [_behind(a, b) for a in palette for b in palette if a is not b]
    away = min((float(np.abs(mean - shade).sum()) for shade in behind), default=np.inf)
    return away < min(60.0, float(np.abs(mean - COLOURS[NAMES[colour]]).sum()))


def _behind(colour: np.ndarray, glass: np.ndarray) -> np.ndarray:
    """A colour behind the pane of a glass of another, which adds a quarter of its tint and of white (see `render`)."""
    return 0.75 * colour + 0.25 * (0.65 * glass + 82)


@lru_cache(maxsize=64)
def _table(there: tuple[int, ...]) -> np.ndarray:
    """The class of every colour, by its first five bits a channel, where only those of the palette are about.

    The rim of red on the wall is pink, and red behind a blue glass is purple: it takes the whole clip to tell.
    """
    shades, classes = [], []
    palette = {colour: np.array(COLOURS[NAMES[colour]], float) for colour in there}
    for colour, own in palette.items():
        mixed = [own * light for light in (1.08, 0.92, 0.76)] + [own * 0.78 + 56, own * 0.58 + 107]
        mixed += [_behind(own, other) for key, other in palette.items() if key != colour]
        shades += mixed
        classes += [colour] * len(mixed)
    wall = [np.multiply(WALL, light) for light in (0.90, 0.98, 1.06)]
    wall += [_behind(np.array(WALL), other) for other in palette.values()]
    wood = [np.multiply(WOOD, light) for light in (0.42, 0.6, 0.8, 1.0, 1.2)]
    neutral = [np.full(3, grey) for grey in (14.0, 212.0, 246.0)]  # eyes, letters and pages
    steel = [np.multiply(STEEL, 0.85), np.multiply(STEEL, 1.1), np.multiply(STEEL, 0.7) + 76]
    shades += [*wall, *wood, *neutral, *steel]
    classes += [BACKGROUND] * (len(wall) + len(wood) + len(neutral)) + [GRIPPER] * len(steel)
    means = np.minimum(np.array(shades), 255)
    ticks = np.arange(32) * 8 + 3.5
    cube = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    nearest = ((means**2).sum(axis=1) - 2 * cube @ means.T).argmin(axis=1)
    return np.array(classes, dtype=np.int64)[nearest]


def _window(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns that hold a mask, with two to spare; one pixel if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return slice(0, 1), slice(0, 1)
    return slice(max(0, rows[0] - 2), rows[-1] + 3), slice(max(0, columns[0] - 2), columns[-1] + 3)


def _main(mask: np.ndarray) -> np.ndarray:
    """A mask without its specks: connected parts of less than an eighth of the largest."""
    labels = regions(mask)
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    return (counts >= max(1.0, counts.max() / 8))[labels]


def _hanging(mask: np.ndarray) -> np.ndarray:
    """The part of a mask that hangs from the top of the picture, as the gripper does and a dark rim does not."""
    if not mask[:2].any():
        return np.zeros_like(mask)
    labels = regions(mask)
    top = np.unique(labels[:2][mask[:2]])
    return np.isin(labels, top[np.bincount(labels.ravel())[top] > len(mask) / 2])


def _rim(mask: np.ndarray) -> np.ndarray:
    """Rows and columns (k, 2) of the pixels of a mask next to others."""
    return np.argwhere(mask & grown(~mask)).astype(np.float64)


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    """Pixels between the nearest of two sets of pixels, 0 if they touch."""
    if not len(first) or not len(second):
        return FAR
    apart = first[:, None, :] - second[None, :, :]
    return max(0.0, float(np.sqrt((apart**2).sum(axis=-1).min())) - 1)


def _edges(profile: np.ndarray) -> tuple[float, float]:
    """First and last edge of what is covered, to a part of a pixel."""
    inside = np.flatnonzero(profile > 0.5)
    if not len(inside):
        return 0.0, 0.0
    first, last = int(inside[0]), int(inside[-1])
    before = profile[first - 1] if first else 0.0
    after = profile[last + 1] if last + 1 < len(profile) else 0.0
    low = first + (1 - profile[first]) - before
    high = last + profile[last] + after
    return float(low), float(high)


def speeds(values: np.ndarray, fps: float) -> np.ndarray:
    """Change a second between frames: (t - 1, n)."""
    return np.diff(values, axis=0) * fps


def runs(flags: Sequence[bool] | np.ndarray) -> list[tuple[int, int]]:
    """First and one-past-last index of each stretch of true."""
    edge = np.diff(np.concatenate([[0], np.asarray(flags, dtype=np.int8), [0]]))
    return list(zip(np.flatnonzero(edge == 1).tolist(), np.flatnonzero(edge == -1).tolist(), strict=True))
