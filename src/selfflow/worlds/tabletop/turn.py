"""Masks -> how far a thing has turned, and what it is however it is turned, by analysis by synthesis.

The outline of a thing is laid over its pixels at every angle, frame by frame. Of all courses of the angle the one is
taken that covers the pixels well and turns little and evenly (Viterbi, over angle and speed): so a box, which looks the
same after a quarter turn, is still seen to have made one, for it was seen on the way.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from .geometry import placed
from .pixels import regions
from .render import coverage, silhouette
from .scene import POSES, SIZES, Thing

ANGLES = 48
FASTEST = 8  # of these angles that a thing may turn from one frame to the next: 21 radians a second
TURNING, SWAYING = 0.004, 0.003  # of a whole outline that is missed, what each angle turned costs, and each of a change
FITTING = 0.6  # how well an outline covers what it is the outline of
TILTED = 0.05  # by how much more, at another angle, that of a thing which is tilted
ROOM = 44  # pixels of the window in which outlines are compared


def turned(thing: Thing, masks: np.ndarray) -> float:
    """By how many radians a thing is turned in the last frame against the first, counter-clockwise.

    Args:
        thing: its kind, size and what else tells its outline; colour and place do not matter.
        masks: bool (frames, size, size), its pixels; frames without any tell nothing.
    """
    alike = _likeness(thing, masks)
    speeds = np.arange(-FASTEST, FASTEST + 1)
    sway = SWAYING * np.abs(speeds[:, None] - speeds[None])  # to the row from the column
    ahead = (np.arange(ANGLES)[:, None] - speeds[None]) % ANGLES  # whence each speed leads to each angle
    cost, came = np.repeat(1 - alike[0][:, None], len(speeds), axis=1), []
    for row in alike[1:]:
        ways = cost[:, None, :] + sway[None]
        came.append(ways.argmin(axis=2))  # (angle before, speed now): the speed before
        cost = np.take_along_axis(ways.min(axis=2), ahead, axis=0) + TURNING * np.abs(speeds) + (1 - row)[:, None]
    angle, speed = np.unravel_index(int(cost.argmin()), cost.shape)
    total = 0
    for back in reversed(came):
        total += int(speeds[speed])
        angle = (angle - speeds[speed]) % ANGLES
        speed = back[angle, speed]
    return 2 * math.pi / ANGLES * total


def is_tilted(thing: Thing, masks: np.ndarray) -> bool:
    """Whether the outline of a thing that was taken for upright covers its pixels better at another angle."""
    fits = _likeness(thing, masks).mean(axis=0)
    return thing.kind != "ball" and float(fits.max() - fits[[-1, 0, 1]].max()) > TILTED


def recognised(masks: np.ndarray) -> tuple[Thing, float]:
    """The thing whose outline covers the pixels best, at whatever angle, and how well, in [0, 1].

    Its kind and size are known by it, and a doll's pose.

    Args:
        masks: bool (frames, size, size), its pixels.
    """
    fits = [float(_likeness(form, masks).max(axis=1).mean()) for form in _forms()]
    best = int(np.argmax(fits))
    return _forms()[best], fits[best]


@lru_cache(maxsize=1)
def _forms() -> tuple[Thing, ...]:
    found = []
    for size in SIZES:
        found += [Thing(kind, "red", size) for kind in ("ball", "box", "cup", "glass", "plate", "book")]
        found += [Thing("sign", "red", size, word="A"), Thing("hand", "red", size, fingers=5)]
        found += [Thing("doll", "red", size, limbs=limbs) for limbs in POSES.values()]
    return tuple(found)


def _likeness(thing: Thing, masks: np.ndarray) -> np.ndarray:
    """How well the outline at each angle covers the pixels of each frame: (frames, ANGLES) in [0, 1]."""
    plain = replace(thing, colour="red", x=0.5, y=0.5, angle=0.0, material="")
    outlines = _outlines(plain, masks.shape[-1])
    # The walls of a glass are thin: where they are not seen, what is left is in pieces.
    whole = masks if thing.kind in ("cup", "glass") else [largest(mask) for mask in masks]
    seen = np.stack([_centred(mask.astype(np.float32)) for mask in whole])
    both = seen @ outlines.T
    either = (seen**2).sum(axis=1)[:, None] + (outlines**2).sum(axis=1) - both
    return np.asarray(both / np.maximum(either, 1e-6))


@lru_cache(maxsize=256)
def _outlines(thing: Thing, size: int) -> np.ndarray:
    angles = 2 * math.pi / ANGLES * np.arange(ANGLES)
    return np.stack([_centred(_coloured(thing.at(0.5, 0.5, float(angle)), size)) for angle in angles])


def _coloured(thing: Thing, size: int) -> np.ndarray:
    """How much of each pixel a thing covers with its colour: its matter, but the pages of a book are white."""
    cover = silhouette(thing, size, solid=True)
    for part in placed(thing):
        if part.role == "pages":
            cover = cover * (1 - coverage(part.shape, size))
    return cover


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask."""
    labels = regions(mask)
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    return np.asarray((labels == counts.argmax()) & mask)


def _centred(cover: np.ndarray) -> np.ndarray:
    """A mask in a window about its centroid, moved by parts of a pixel: float32 (ROOM * ROOM,)."""
    total = float(cover.sum())
    if not total > 0:
        return np.zeros(ROOM * ROOM, np.float32)
    size = len(cover)
    y = float(cover.sum(axis=1) @ np.arange(size)) / total
    x = float(cover.sum(axis=0) @ np.arange(size)) / total
    room = np.zeros((size + 2 * ROOM, size + 2 * ROOM), np.float32)
    room[ROOM : ROOM + size, ROOM : ROOM + size] = cover
    top, left = y + ROOM / 2, x + ROOM / 2
    i, j = int(top), int(left)
    a, b = top - i, left - j
    box = room[i : i + ROOM + 1, j : j + ROOM + 1]
    rows = (1 - a) * box[:-1] + a * box[1:]
    return np.asarray((1 - b) * rows[:, :-1] + b * rows[:, 1:], np.float32).ravel()
