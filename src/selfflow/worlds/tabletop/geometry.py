"""The shape of every kind, once: physics collides these parts, the renderer paints them, checkers measure with them.

A thing is a few convex parts in its own frame (metres, before `angle` and `(x, y)` are applied). `solid` parts are
matter; the others are only seen (a glass's pane, a doll's eyes).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

from .scene import SIZES, TABLE, Gripper, Scene, Thing

Point = tuple[float, float]


@dataclass(frozen=True)
class Disc:
    """A disc of radius r about (x, y)."""

    x: float
    y: float
    r: float


@dataclass(frozen=True)
class Capsule:
    """All points within r of the segment from a to b."""

    a: Point
    b: Point
    r: float


@dataclass(frozen=True)
class Hull:
    """A convex polygon, its corners counter-clockwise, grown by a rounding r."""

    points: tuple[Point, ...]
    r: float = 0.0


Shape = Disc | Capsule | Hull


@dataclass(frozen=True)
class Part:
    """A shape, whether it is matter, and what it is: `"body"`, `"handle"`, `"pane"`, `"pages"`, `"board"`, `"post"`,
    `"head"`, `"torso"`, `"left arm"`, `"right arm"`, `"left leg"`, `"right leg"`, `"eye"`, `"palm"`, `"wrist"`,
    `"finger"` or `"thumb"`."""

    shape: Shape
    role: str = "body"
    solid: bool = True


def _rect(left: float, bottom: float, right: float, top: float, r: float = 0.0) -> Hull:
    """An upright rectangle whose *outside* is the given one; r rounds its corners."""
    return Hull(((left + r, bottom + r), (right - r, bottom + r), (right - r, top - r), (left + r, top - r)), r)


# --------------------------------------------------------------------------- proportions, in units of a thing's size
CUP_WIDTH, CUP_HEIGHT, CUP_WALL = 0.90, 0.95, 0.13
GLASS_WIDTH, GLASS_HEIGHT, GLASS_WALL = 0.90, 1.20, 0.09
THINNEST = 0.024  # m: a wall of a cup or glass is never thinner, for it must be seen at 64 pixels
PLATE_WIDTH, PLATE_FOOT, PLATE_HEIGHT = 1.40, 0.80, 0.30
BOOK_WIDTH, BOOK_HEIGHT = 1.25, 0.42
# In metres, for these must stay legible whatever the size says.
DOLL_HEIGHT = {"small": 0.34, "medium": 0.42, "large": 0.52}
HAND_HEIGHT = {"small": 0.36, "medium": 0.44, "large": 0.54}
LETTER_HEIGHT = {"small": 0.10, "medium": 0.125, "large": 0.16}  # of a sign's capitals
LETTER_WIDTH = 0.80  # of a letter with its space, over the height of a capital


def _hollow(kind: str, s: float) -> tuple[float, float, float]:
    """Width, height and thickness of the walls of a cup or glass of size s, m."""
    width, height, wall = (
        (CUP_WIDTH, CUP_HEIGHT, CUP_WALL) if kind == "cup" else (GLASS_WIDTH, GLASS_HEIGHT, GLASS_WALL)
    )
    return width * s, height * s, max(wall * s, THINNEST)


def sign_board(size: str, letters: int) -> tuple[float, float]:
    """Width and height of a sign's board, m: room for its letters and a border all round."""
    capital = LETTER_HEIGHT[size]
    return letters * LETTER_WIDTH * capital + 0.07, capital + 0.07


def finger_place(index: int, height: float) -> tuple[Point, Point, float]:
    """Root, tip and half width of finger 0 (thumb) to 4 (little finger), for a hand of that height, in its frame."""
    r = 0.045 * height
    if index == 0:
        return (-0.20 * height, 0.26 * height), (-0.355 * height, 0.44 * height), r
    x = (-0.225 + 0.15 * (index - 1)) * height
    tip = (0.90, 0.955, 0.91, 0.82)[index - 1] * height
    return (x, 0.45 * height), (x, tip), r


@lru_cache(maxsize=4096)
def _parts(kind: str, size: str, letters: int, fingers: int, limbs: tuple[float, ...]) -> tuple[Part, ...]:
    s = SIZES[size]
    if kind == "ball":  # origin: its centre
        return (Part(Disc(0.0, 0.0, s / 2)),)
    if kind == "box":  # origin: its centre
        return (Part(_rect(-s / 2, -s / 2, s / 2, s / 2, 0.05 * s)),)
    if kind in ("cup", "glass"):  # origin: the middle of its foot
        width, height, wall = _hollow(kind, s)
        body = (
            Part(_rect(-width / 2, 0.0, width / 2, wall)),
            Part(_rect(-width / 2, 0.0, -width / 2 + wall, height, 0.3 * wall)),
            Part(_rect(width / 2 - wall, 0.0, width / 2, height, 0.3 * wall)),
        )
        if kind == "glass":
            pane = _rect(-width / 2 + wall, wall, width / 2 - wall, 0.93 * height)
            return (Part(pane, "pane", solid=False), *body)
        edge, out, low, high, r = width / 2, width / 2 + 0.20 * s, 0.32 * s, 0.68 * s, 0.05 * s
        handle = (((edge, low), (out, low)), ((out, low), (out, high)), ((out, high), (edge, high)))
        return (*body, *(Part(Capsule(a, b, r), "handle") for a, b in handle))
    if kind == "plate":  # origin: the middle of its foot
        foot, rim, height = PLATE_FOOT * s / 2, PLATE_WIDTH * s / 2, PLATE_HEIGHT * s
        low, wall = 0.55 * height, 0.16 * s
        return (
            Part(Hull(((-foot, 0.0), (foot, 0.0), (foot + 0.05 * s, low), (-foot - 0.05 * s, low)))),
            Part(Hull(((-foot, 0.0), (-foot + wall, low), (-rim + 0.5 * wall, height), (-rim, height)))),
            Part(Hull(((foot, 0.0), (rim, height), (rim - 0.5 * wall, height), (foot - wall, low)))),
        )
    if kind == "book":  # lies flat; origin: its centre; its spine is at the left
        width, height, cover = BOOK_WIDTH * s / 2, BOOK_HEIGHT * s / 2, 0.11 * s
        return (
            Part(_rect(-width, -height, width, height, 0.02 * s)),
            Part(_rect(-width + 0.22 * s, -height + cover, width + 0.001, height - cover), "pages", solid=False),
        )
    if kind == "sign":  # origin: the middle of its foot
        width, height = sign_board(size, letters)
        post = 0.05
        return (
            Part(_rect(-0.09, 0.0, 0.09, 0.03), "post"),
            Part(_rect(-0.025, 0.0, 0.025, post + 0.02), "post"),
            Part(_rect(-width / 2, post, width / 2, post + height, 0.008), "board"),
        )
    if kind == "doll":  # origin: the middle of its torso
        h = DOLL_HEIGHT[size]
        half, wide, limb = 0.15 * h, 0.085 * h, 0.045 * h
        shoulder, hip, arm, leg = 0.11 * h, -0.15 * h, 0.30 * h, 0.34 * h

        def swing(x: float, y: float, length: float, angle: float, side: int) -> Capsule:
            across, down = round(math.sin(angle), 7), round(math.cos(angle), 7)  # as in `placed`
            return Capsule((x, y), (x + side * length * across, y - length * down), limb)

        return (
            Part(swing(-wide, shoulder, arm, limbs[0], -1), "left arm"),
            Part(swing(wide, shoulder, arm, limbs[1], 1), "right arm"),
            Part(swing(-0.6 * wide, hip, leg, limbs[2], -1), "left leg"),
            Part(swing(0.6 * wide, hip, leg, limbs[3], 1), "right leg"),
            Part(_rect(-wide, -half, wide, half, 0.4 * wide), "torso"),
            Part(Disc(0.0, half + 0.125 * h, 0.135 * h), "head"),
            Part(Disc(-0.05 * h, half + 0.145 * h, 0.024 * h), "eye", solid=False),
            Part(Disc(0.05 * h, half + 0.145 * h, 0.024 * h), "eye", solid=False),
        )
    h = HAND_HEIGHT[
        size
    ]  # a hand; origin: the middle of its foot, which is its wrist. One to five: index finger first.
    palm = (
        Part(_rect(-0.15 * h, 0.0, 0.15 * h, 0.22 * h, 0.02 * h), "wrist"),
        Part(_rect(-0.28 * h, 0.14 * h, 0.28 * h, 0.52 * h, 0.06 * h), "palm"),
    )
    order = (1, 2, 3, 4, 0)[:fingers]
    raised = (Part(Capsule(*finger_place(i, h)), "thumb" if i == 0 else "finger") for i in order)
    return (*raised, *palm)


def parts(thing: Thing) -> tuple[Part, ...]:
    """The parts of a thing in its own frame, in the order they are painted."""
    return _parts(thing.kind, thing.size, len(thing.word), thing.fingers, thing.limbs)


def placed(thing: Thing) -> tuple[Part, ...]:
    """The parts of a thing where it is, in metres of the picture."""
    # Rounded, so that a last bit in which two machines' sines differ does not reach a picture.
    c, s = round(math.cos(thing.angle), 7), round(math.sin(thing.angle), 7)

    def move(p: Point) -> Point:
        return thing.x + c * p[0] - s * p[1], thing.y + s * p[0] + c * p[1]

    def moved(shape: Shape) -> Shape:
        if isinstance(shape, Disc):
            return Disc(*move((shape.x, shape.y)), shape.r)
        if isinstance(shape, Capsule):
            return Capsule(move(shape.a), move(shape.b), shape.r)
        return Hull(tuple(move(p) for p in shape.points), shape.r)

    return tuple(replace(part, shape=moved(part.shape)) for part in parts(thing))


def box_of(shape: Shape) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a shape."""
    if isinstance(shape, Disc):
        return shape.x - shape.r, shape.y - shape.r, shape.x + shape.r, shape.y + shape.r
    points = (shape.a, shape.b) if isinstance(shape, Capsule) else shape.points
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    return min(xs) - shape.r, min(ys) - shape.r, max(xs) + shape.r, max(ys) + shape.r


def bounds(thing: Thing, solid: bool = True) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of a thing where it is; of its matter, or of all that is seen of it."""
    boxes = [box_of(part.shape) for part in placed(thing) if part.solid or not solid]
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    return min(lefts), min(bottoms), max(rights), max(tops)


def stood(thing: Thing, x: float | None = None, height: float = TABLE) -> Thing:
    """The thing with its lowest point at that height (the table's, unless told otherwise) and its origin at x."""
    return thing.at(thing.x if x is None else x, thing.y + height - bounds(thing)[1])


def opening(thing: Thing) -> tuple[float, float, float, float] | None:
    """Left, bottom, right and top of the hollow of an upright cup or glass; None when tipped, and for other kinds."""
    if thing.kind not in ("cup", "glass") or abs(math.sin(thing.angle)) > 0.2 or math.cos(thing.angle) < 0:
        return None
    width, height, wall = _hollow(thing.kind, thing.extent)
    half = width / 2 - wall
    return thing.x - half, thing.y + wall, thing.x + half, thing.y + height


# The gripper: a stem from the top of the picture, a crossbar, and two fingers whose tips are at `Gripper.y`.
FINGER_LENGTH, FINGER_WIDTH, BAR_HEIGHT = 0.16, 0.028, 0.035


def gripper_parts(gripper: Gripper) -> tuple[Part, ...]:
    """The parts of the gripper where it is: roles `"stem"`, `"bar"`, `"left finger"`, `"right finger"`."""
    x, y, half = gripper.x, gripper.y, gripper.opening / 2
    top = y + FINGER_LENGTH
    reach = half + FINGER_WIDTH
    return (
        Part(_rect(x - 0.02, top, x + 0.02, 1.2), "stem"),
        Part(_rect(x - max(reach, 0.06), top, x + max(reach, 0.06), top + BAR_HEIGHT, 0.008), "bar"),
        Part(_rect(x - reach, y, x - half, top + 0.01, 0.006), "left finger"),
        Part(_rect(x + half, y, x + reach, top + 0.01, 0.006), "right finger"),
    )


def visible(scene: Scene) -> Iterable[tuple[int, Part]]:
    """Everything to paint, back to front: `(index of the thing, part)`; the gripper is -2."""
    for i, thing in enumerate(scene.things):
        for part in placed(thing):
            yield i, part
    if scene.gripper is not None:
        for part in gripper_parts(scene.gripper):
            yield -2, part
