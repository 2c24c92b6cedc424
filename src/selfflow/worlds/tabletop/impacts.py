"""Clip -> impacts: when what is seen is struck, how loud that may be, and what would sound.

A blow is an abrupt change of velocity: the paths of `track` change theirs, from one frame to the next, by what gravity
does not explain. Mass times that change is the impulse of the blow, and mass comes of what a thing is seen to be
(`look`) and of its area. So the loudness is known to about a factor of three without any truth of the simulator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .check_clip import hollow_things, mixed_in, usual_area
from .hear import BOARD, Body
from .look import Look
from .scene import GRAVITY, MATERIALS, SIZES
from .sound import REFERENCE
from .track import Track, speeds
from .turn import largest

DENSITY = {"rubber": 20.0, "wood": 15.0, "glass": 30.0, "metal": 45.0}  # of `physics`, kg/m² as seen from the side
BOUNCE = 0.5  # usual share of the speed that is left after a blow
FRICTION = 0.7  # greatest of what slides here
STEADY = 0.03  # loudness that errors of reading, and slow turning, feign
SLIP, SLIP_AREA = 0.7 / 64, 0.05  # m, and a share of the area: of a frame that is misread
EVEN = 0.1  # share of the turns of a path that is left when a frame which was misread is mended
HELD, STILL = 1.5 / 64, 0.006  # m above all else of what is held in the air, and m in two frames of what stands still
LANDED = 0.045  # loudness from which on something may have landed
BETWEEN = 0.5  # share of its way from frame to frame that a thing may be away from what it strikes
NEAR = 2.5 / 64  # m between things that touch, or meet between two frames


@dataclass(frozen=True)
class Impact:
    """What may be struck about a frame.

    Attributes:
        time: seconds, of the frame.
        loudness: about, of all that changes its velocity there.
        most: the same where what lands and stays has lost its weight too, and things that are alike sound as one.
        least: the same of what turns abruptly: neither friction nor a slow turn does.
        certain: the part of that which is read without doubt: of what is whole and in nothing hollow.
        bodies: what would sound; None if that is not known.
    """

    time: float
    loudness: float
    most: float
    least: float
    certain: float
    bodies: frozenset[Body] | None


def impacts(track: Track, known: Mapping[str, Look]) -> list[Impact]:
    """What may be struck, frame by frame: one for each frame but the first and the last."""
    low, high, unslowed = _loudness(track, known)
    abrupt = unslowed - _opened(unslowed)
    usual = usual_area(track)
    whole = np.abs(track.area / np.maximum(usual, 1e-9) - 1) < 0.15
    hollow = hollow_things(track, usual, standing=False)
    # What is carried stops and sets off without a blow.
    abrupt[_carried(track, hollow)] = 0
    clear = whole & ~np.array([mixed_in(track, k, hollow) for k in range(track.frames)], dtype=bool).reshape(low.shape)
    found = []
    for k in range(1, track.frames - 1):
        around = slice(k - 1, k + 2)
        bodies = _bodies(track, known, low, around)
        # Things that are alike sound as one: what is heard of them adds up.
        alike = max(Counter(bodies).values(), default=1) if bodies is not None else 1
        sure = clear[around].all(axis=0)
        found.append(
            Impact(
                k / track.fps,
                float(low[k].sum()),
                alike * float(high[k].sum()),
                float(abrupt[k].sum()),
                float(abrupt[k][sure].sum()),
                None if bodies is None else frozenset(bodies),
            )
        )
    return found


def _loudness(track: Track, known: Mapping[str, Look]) -> np.ndarray:
    """How loud blows would be that change the velocities as seen, at each frame: (3, t, n), as things either rest or
    fall, as they do neither, and but for what friction slows."""
    change = np.zeros((3, *track.area.shape))
    if track.frames > 2:
        place = np.stack([track.x, track.y], axis=-1)
        fall = np.array([0.0, GRAVITY / track.fps])
        step = np.nan_to_num(np.diff(speeds(place, track.fps), axis=0))
        resting, falling = np.linalg.norm(step, axis=-1), np.linalg.norm(step + fall, axis=-1)
        pieces = _without_patches(track, place)
        for other in (_mended(place, track.area), pieces, _mended(pieces, track.area)):
            mended = np.nan_to_num(np.diff(speeds(other, track.fps), axis=0))
            calmer = np.linalg.norm(mended, axis=-1) < np.linalg.norm(step, axis=-1)
            step = np.where(calmer[..., None], mended, step)
        way = np.sign(np.nan_to_num(speeds(place, track.fps)[:-1, :, 0]))
        slow = [0.0 if _rolls(known.get(colour)) else FRICTION * GRAVITY / track.fps for colour in track.colours]
        step[..., 0] += way * np.clip(-way * step[..., 0], 0, slow)
        sliding = np.minimum(np.linalg.norm(step, axis=-1), np.linalg.norm(step + fall, axis=-1))
        change[:, 1:-1] = np.minimum(resting, falling), np.maximum(resting, falling), sliding
    mass = usual_area(track) * [_density(known.get(colour)) for colour in track.colours]
    change *= np.sqrt(mass / ((1 + BOUNCE) * REFERENCE))
    change[1] = np.where(change[0] > LANDED, change[1], change[0])
    return np.maximum(change - STEADY, 0)


def _mended(place: np.ndarray, area: np.ndarray) -> np.ndarray:
    """Paths (t, n, 2) without slips of reading.

    Such is a frame aside of an even course, or one aside of both its neighbours and of another area than both.
    """
    place = place.copy()
    place[1:-1] = np.where(_there_and_back(place)[..., None], (place[:-2] + place[2:]) / 2, place[1:-1])
    beside = (place[:-2] + place[2:]) / 2
    aside = np.linalg.norm(place[1:-1] - beside, axis=-1) > SLIP
    usual = np.maximum(np.maximum(area[:-2], area[2:]), 1e-9)
    other = (np.minimum(np.abs(area[1:-1] - area[:-2]), np.abs(area[1:-1] - area[2:])) / usual) > SLIP_AREA
    mended = place.copy()
    mended[1:-1] = np.where((aside & other)[..., None], beside, place[1:-1])
    return mended


def _without_patches(track: Track, place: np.ndarray) -> np.ndarray:
    """Paths (t, n, 2) of the largest part of each thing: patches elsewhere may take its colour for a moment."""
    main = place.copy()
    size = track.mask.shape[-1]
    for k, i in np.argwhere(track.area > 0):
        mask = track.mask[k, i]
        part = largest(mask)
        if 0 < part.sum() < mask.sum():
            (y, x), (down, right) = (np.argwhere(one).mean(axis=0) for one in (mask, part))
            main[k, i] += (right - x) / size, (y - down) / size
    return main


def _there_and_back(place: np.ndarray) -> np.ndarray:
    """Where a thing seems to leave an even course for one frame, which no blow does: (t - 2, n), of all but the ends.

    A blow turns a path once. A frame that is misread seems to turn it three times, there, back, and there again, and
    next to nothing of this is left once that frame is put between its neighbours.
    """
    turn = np.diff(place, 2, axis=0)
    found = np.zeros(turn.shape[:2], dtype=bool)
    if len(turn) > 2:
        before, here, after = turn[:-2], turn[1:-1], turn[2:]
        total = sum(np.linalg.norm(one, axis=-1) for one in (before, here, after))
        left = sum(np.linalg.norm(one + here / 2, axis=-1) for one in (before, after))
        found[1:-1] = (np.linalg.norm(here / 2, axis=-1) > SLIP) & (left < EVEN * total)
    return found


def _carried(track: Track, hollow: np.ndarray) -> np.ndarray:
    """Which hollow things stand still in the air, so that an unseen hand holds them, and what is in these: (t, n)."""
    found = np.zeros(track.area.shape, dtype=bool)
    place = np.stack([track.x, track.y], axis=-1)
    size = track.mask.shape[-1]
    for k in range(track.frames - 2):
        still = np.linalg.norm(place[k + 1 : k + 3] - place[k], axis=-1).max(axis=0) < STILL
        for i in np.flatnonzero(hollow & still & track.mask[k].any(axis=(1, 2))):
            rows, columns = np.nonzero(track.mask[k, i])
            under = slice(rows.max() + 1, rows.max() + 2 + round(HELD * size))
            below = track.mask[k, :, under, columns.min() : columns.max() + 1].any()
            if not below and track.gap[k, i, len(hollow)] > NEAR:  # and well above the table
                left, bottom, right, top = track.box[k, i]
                inside = (track.x[k] > left) & (track.x[k] < right) & (track.y[k] > bottom) & (track.y[k] < top)
                found[k] |= inside
                found[k, i] = True
    return found


def _rolls(look: Look | None) -> bool:
    return look is not None and look.thing.kind == "ball"


def _density(look: Look | None) -> float:
    materials = look.materials if look is not None else MATERIALS
    return float(np.mean([DENSITY[material] for material in materials]))


def _opened(values: np.ndarray) -> np.ndarray:
    """What lasts for three frames or more: (t, n), the morphological opening along time."""
    room = np.pad(values, ((2, 2), (0, 0)))
    lasting = np.minimum(np.minimum(room[:-2], room[1:-1]), room[2:])
    return np.maximum(np.maximum(lasting[:-2], lasting[1:-1]), lasting[2:])


def _bodies(track: Track, known: Mapping[str, Look], loud: np.ndarray, frames: slice) -> list[Body] | None:
    """What sounds when what changes its velocity in some frames strikes what it touches."""
    n = len(track.colours)
    gap = track.gap[frames].min(axis=0)
    # What is fast is seen some way before it strikes, and some way after, but never as near as it comes.
    way = np.nan_to_num(np.hypot(np.diff(track.x[frames], axis=0), np.diff(track.y[frames], axis=0))).max(axis=0)
    struck = {i for i in range(n) if loud[frames, i].max() > 0}
    struck |= {j for i in tuple(struck) for j in np.flatnonzero(gap[i, :n] < NEAR + BETWEEN * way[i]).tolist()}
    bodies = [BOARD]
    if track.gripper[frames].any():
        bodies.append(Body("metal", SIZES["small"]))
    for i in sorted(struck):
        look = known.get(track.colours[i])
        if look is None:
            return None
        bodies += [Body(material, look.thing.extent) for material in look.materials]
    return bodies
