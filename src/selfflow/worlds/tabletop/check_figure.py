"""The anatomy of dolls and hands: which limbs and fingers are there, at which angle, and whether one is too many."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .geometry import HAND_HEIGHT, Capsule, finger_place, parts
from .pixels import grown
from .render import silhouette
from .scene import MAX_FINGERS, Thing

LIMBS = ("left arm", "right arm", "left leg", "right leg")
EXTRA = 1.0 / 64**2  # of the picture: a pixel at 64, outside of the outline; noise and blur leave 0.4 there
PRESENT = 0.5  # share of a limb's or finger's length that must be filled
_ANGLES = (np.arange(0.25, 2.95, 0.1), np.arange(0.0, 1.05, 0.1))  # of arms, of legs, radians
_ALONG = np.linspace(0.40, 1.05, 7)  # where on a limb to look, from its root


def _sampled(share: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The share of a colour at points given in metres, between pixels."""
    size = len(share)
    column = np.clip(x * size - 0.5, 0, size - 1.001)
    row = np.clip((1 - y) * size - 0.5, 0, size - 1.001)
    left, top = column.astype(np.int64), row.astype(np.int64)
    u, v = column - left, row - top
    upper = share[top, left] * (1 - u) + share[top, left + 1] * u
    lower = share[top + 1, left] * (1 - u) + share[top + 1, left + 1] * u
    return upper * (1 - v) + lower * v


def _turned(thing: Thing, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    c, s = np.cos(thing.angle), np.sin(thing.angle)
    return thing.x + c * x - s * y, thing.y + s * x + c * y


def read_doll(share: np.ndarray, doll: Thing) -> tuple[Thing, int, tuple[str, ...]]:
    """A doll with the angles of its limbs as they are seen, how many limbs it has, and in words what is wrong.

    Args:
        share: float32 (size, size), how much of each pixel belongs to the shape of the doll's colour.
        doll: where it was found.
    """
    angles, missing = [], []
    for index, (role, given) in enumerate(zip(LIMBS, doll.limbs, strict=True)):
        limb = next(part.shape for part in parts(doll) if part.role == role)
        assert isinstance(limb, Capsule)
        root, length = limb.a, float(np.hypot(limb.b[0] - limb.a[0], limb.b[1] - limb.a[1]))
        tried = np.append(_ANGLES[index // 2], given)
        side = -1 if index % 2 == 0 else 1
        along = _ALONG[None, :] * length
        x = root[0] + side * along * np.sin(tried)[:, None]
        y = root[1] - along * np.cos(tried)[:, None]
        filled = _sampled(share, *_turned(doll, x, y)).mean(axis=1)
        # The pose that was found holds unless another angle is clearly better.
        best = int(filled.argmax())
        chosen = best if filled[best] > filled[-1] + 0.12 else len(tried) - 1
        angles.append(round(float(tried[chosen]), 3))
        if filled[chosen] < PRESENT:
            missing.append(role)
    doll = replace(doll, limbs=tuple(angles))
    too_many = _unexplained(share, doll)
    faults = tuple(f"the {doll} lacks its {role}" for role in missing)
    if too_many:
        faults += (f"the {doll} has a limb too many",)
    return doll, len(LIMBS) - len(missing) + too_many, faults


def read_hand(share: np.ndarray, hand: Thing) -> tuple[Thing, tuple[str, ...]]:
    """A hand with as many fingers as are seen raised, and in words what is wrong; arguments as of `read_doll`."""
    height = HAND_HEIGHT[hand.size]
    raised = 0
    for index in range(MAX_FINGERS):
        (ax, ay), (bx, by), _ = finger_place(index, height)
        along = np.linspace(0.75 if index == 0 else 0.45, 1.0, 7)  # the palm reaches half way up the thumb
        filled = _sampled(share, *_turned(hand, ax + along * (bx - ax), ay + along * (by - ay))).mean()
        raised += bool(filled > PRESENT)
    hand = replace(hand, fingers=raised)
    too_many = _unexplained(share, hand)
    return hand, ((f"the {hand} has a finger too many",) if too_many else ())


def _unexplained(share: np.ndarray, thing: Thing) -> int:
    """1 if there is more colour that hangs together with a thing outside of its outline than blur leaves there."""
    explained = grown(silhouette(thing, len(share)) > 0.25)
    left = np.where(explained, 0, share)
    return int(left.sum() > EXTRA * share.size)
