"""PushT to play in: a round finger pushes a T to its place, as in the demonstrations of `selfflow.data.pusht`.

The physics and the looks are those of the environment that the demonstrations were recorded in (Chi et al. 2023,
2303.04137), written anew for pymunk 7. Replayed whole from their first states, held-out demonstrations end with the
block within 0.1 units of 512 of where it was recorded; pictures differ by one level of 255 (a test holds both).
"""

from __future__ import annotations

from typing import Any

import numpy as np

BOARD = 512.0  # side of the board, in the units of actions and states
HZ, SUBSTEPS = 10, 10  # actions a second, and steps of the physics in one
STIFFNESS, DAMPING = 100.0, 20.0  # of the spring that draws the finger to its target
FINGER = 15.0  # radius
GOALS = {"center": (256.0, 256.0, np.pi / 4), "x356": (356.0, 356.0, np.pi / 4)}
SUCCESS = 0.95  # share of the goal that the block has to cover
_BARS = (((-60, 30), (60, 30), (60, 0), (-60, 0)), ((-15, 30), (-15, 120), (15, 120), (15, 30)))
_GREEN, _GREY, _BLUE, _WALL = (144, 238, 144), (119, 136, 153), (65, 105, 225), (211, 211, 211)


class PushTEnv:
    """One board.

    Args:
        goal: of `GOALS`.
        size: of its pictures, pixels.

    Raises:
        ValueError: for an unknown goal.
        ImportError: without the extra `world`.
    """

    def __init__(self, goal: str = "center", size: int = 64) -> None:
        try:
            import pymunk
        except ImportError:
            raise ImportError("playing PushT needs pymunk: pip install 'selfflow[world]'") from None
        if goal not in GOALS:
            raise ValueError(f"unknown goal {goal!r}; choose one of {', '.join(GOALS)}")
        self.goal, self.size = np.array(GOALS[goal]), size
        self.space = pymunk.Space()
        self.space.damping = 0  # nothing glides on: what is not pushed stands still
        corners = [(5, 5), (506, 5), (506, 506), (5, 506)]
        for a, b in zip(corners, [*corners[1:], corners[0]], strict=True):
            self.space.add(pymunk.Segment(self.space.static_body, a, b, 2))
        self.finger = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        self.space.add(self.finger, pymunk.Circle(self.finger, FINGER))
        # The original's inertia is twice that of the cross bar, and its centre the mean of both bars'.
        self.block = pymunk.Body(1, 2 * pymunk.moment_for_poly(1, _BARS[0]))
        bars = [pymunk.Poly(self.block, bar) for bar in _BARS]
        self.block.center_of_gravity = (bars[0].center_of_gravity + bars[1].center_of_gravity) / 2
        self.space.add(self.block, *bars)

    def reset(self, seed: int) -> None:
        """A board drawn from a seed, as widely as the original draws them."""
        self.put(drawn(seed))

    def put(self, state: Any) -> None:
        """Finger x and y, block x, y and angle, all at rest."""
        self.finger.velocity = self.block.velocity = (0, 0)
        self.block.angular_velocity = 0
        x, y, block_x, block_y, angle = map(float, state)
        self.finger.position = (x, y)
        self.block.angle = angle  # first: it turns the block about its centre, not about its origin
        self.block.position = (block_x, block_y)
        self.space.reindex_shapes_for_body(self.finger)
        self.space.reindex_shapes_for_body(self.block)

    def step(self, action: Any) -> float:
        """Draw the finger towards x, y for a tenth of a second; returns the share of the goal that is covered.

        Raises:
            ValueError: for an action that is not two finite numbers.
        """
        target = np.asarray(action, np.float64)
        if target.shape != (2,) or not np.isfinite(target).all():
            raise ValueError(f"an action is x and y on the board, finite; got {action}")
        dt = 1 / HZ / SUBSTEPS
        for _ in range(SUBSTEPS):
            pull = STIFFNESS * (target - self.finger.position) - DAMPING * np.array(self.finger.velocity)
            self.finger.velocity = tuple((np.array(self.finger.velocity) + pull * dt).tolist())
            self.space.step(dt)
        return self.coverage()

    def state(self) -> np.ndarray:
        """float32 (6,), as `selfflow.data.pusht` has it: finger, block, sine and cosine of the block's angle."""
        angle = self.block.angle
        return np.array([*self.finger.position, *self.block.position, np.sin(angle), np.cos(angle)], np.float32)

    def coverage(self) -> float:
        """The share of the goal that the block covers."""
        there = _turned(_POINTS, self.goal[2]) + self.goal[:2]
        return float(_inside(_turned(there - np.array(self.block.position), -self.block.angle)).mean())

    def picture(self) -> np.ndarray:
        """The board from above, uint8 `(size, size, 3)`."""
        from PIL import Image, ImageDraw

        canvas = Image.new("RGB", (512, 512), (255, 255, 255))
        pen = ImageDraw.Draw(canvas)
        for bar in _BARS:
            pen.polygon([tuple(p) for p in _turned(np.array(bar, float), self.goal[2]) + self.goal[:2]], _GREEN)
        pen.rectangle((3, 3, 508, 508), outline=_WALL, width=4)
        self._disc(pen, FINGER, _BLUE)
        self._disc(pen, FINGER - 4, _light(_BLUE))
        for bar in _BARS:
            corners = [tuple(p) for p in _turned(np.array(bar, float), self.block.angle) + self.block.position]
            pen.polygon(corners, _light(_GREY))
            pen.line([*corners, corners[0]], _GREY, 4, "curve")
        small = canvas.resize((96, 96), Image.Resampling.BILINEAR)  # the recordings were 96 pixels wide
        return np.asarray(small.resize((self.size, self.size), Image.Resampling.LANCZOS))

    def _disc(self, pen: Any, radius: float, colour: tuple[int, ...]) -> None:
        x, y = self.finger.position
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def drawn(seed: int) -> np.ndarray:
    """The state of a board drawn from a seed, as `PushTEnv.put` takes it, as widely as the original draws them."""
    u = np.random.default_rng(seed).random(5)
    return np.array([*(50 + 400 * u[:2]), *(100 + 300 * u[2:4]), 2 * np.pi * u[4] - np.pi])


def _light(colour: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(255, int(1.2 * c)) for c in colour)


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    """Points `(n, 2)` turned about the origin."""
    cos, sin = np.cos(angle), np.sin(angle)
    return points @ np.array([[cos, sin], [-sin, cos]])


def _inside(points: np.ndarray) -> np.ndarray:
    """Which points `(n, 2)`, in the block's own frame, lie in it."""
    x, y = points.T
    return ((np.abs(x) <= 60) & (y >= 0) & (y <= 30)) | ((np.abs(x) <= 15) & (y >= 30) & (y <= 120))


_GRID = np.stack(np.meshgrid(np.arange(-59.5, 60), np.arange(0.5, 120)), axis=2).reshape(-1, 2)
_POINTS = _GRID[_inside(_GRID)]  # of the T, one a unit
