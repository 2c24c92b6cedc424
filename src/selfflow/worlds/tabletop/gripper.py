"""The gripper as bodies: a carriage on a gantry, and two fingers that stop at what resists them.

A kinematic body goes to the commanded place at limited speed and acceleration and draws the carriage after it; the
carriage draws the fingers. Both pulls are of limited force, and neither target runs ahead of what it draws by more than
`LEAD`: a gripper that meets something presses on it and no more, its fingers close until both touch what is between
them and hold it by friction, and what is held stays in the middle.
"""

from __future__ import annotations

import math

import pymunk

from .geometry import BAR_HEIGHT, FINGER_LENGTH, FINGER_WIDTH
from .scene import Gripper

SPEED, ACCELERATION = 1.0, 6.0  # of the carriage along x and along y, m/s and m/s²
OPENING_SPEED = 0.8  # m/s
LIFT, GRIP = 250.0, 120.0  # N, greatest force on the carriage and of each finger
FRICTION = 2.0  # of the fingers' pads; a pair has the product
LEAD = 0.004  # m
FINGERS = 0b10  # collision category: table and walls let the gripper pass, whose targets stay above the table
GROUP = 1_000_000
FAR = 10.0  # m: a pin joint this long acts along x alone


class Gantry:
    """The bodies of a gripper in a space of pymunk.

    Attributes:
        bodies: carriage, left finger, right finger.
    """

    def __init__(self, space: pymunk.Space, gripper: Gripper | None) -> None:
        start = gripper or Gripper()
        self._goal = (start.x, start.y, start.opening)
        self._tip = FINGER_LENGTH  # of the carriage above the finger tips
        self._target = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        self._target.position = (start.x, start.y + self._tip)
        carriage = self._moving(2.0, self._target.position)
        left = self._moving(0.4, (start.x - start.opening / 2, start.y))
        right = self._moving(0.4, (start.x + start.opening / 2, start.y))
        self.bodies = (carriage, left, right)
        bar = pymunk.Poly(carriage, _box(-0.06, 0.0, 0.06, BAR_HEIGHT))
        pads = (
            pymunk.Poly(left, _box(-FINGER_WIDTH, 0.0, 0.0, FINGER_LENGTH + BAR_HEIGHT, 0.006), radius=0.006),
            pymunk.Poly(right, _box(0.0, 0.0, FINGER_WIDTH, FINGER_LENGTH + BAR_HEIGHT, 0.006), radius=0.006),
        )
        for shape in (bar, *pads):
            shape.friction = FRICTION
            shape.filter = pymunk.ShapeFilter(group=GROUP, categories=FINGERS)
        pull = pymunk.PivotJoint(self._target, carriage, (0.0, 0.0), (0.0, 0.0))
        pull.max_force, pull.error_bias = LIFT, math.exp(-100.0)
        space.add(self._target, carriage, left, right, bar, *pads, pull)
        widest = Gripper.HIGH[2] + LEAD
        stop = pymunk.SlideJoint(left, right, (-FAR, 0.0), (0.0, 0.0), FAR, FAR + widest)  # fingers do not cross
        stop.error_bias = math.exp(-200.0)
        space.add(stop)
        self._pins = []
        for finger, side in ((left, -1), (right, 1)):
            groove = pymunk.GrooveJoint(carriage, finger, (-1.0, -self._tip), (1.0, -self._tip), (0.0, 0.0))
            groove.error_bias = math.exp(-200.0)
            pin = pymunk.PinJoint(carriage, finger, (-side * FAR, -self._tip), (0.0, 0.0))
            pin.max_force, pin.max_bias = GRIP, OPENING_SPEED / 2
            pin.error_bias = math.exp(-OPENING_SPEED / 2 / LEAD)
            self._pins.append(pin)
            space.add(groove, pin)

    @staticmethod
    def _moving(mass: float, at: tuple[float, float]) -> pymunk.Body:
        body = pymunk.Body(mass, math.inf)
        body.position = at
        return body

    def command(self, x: float, y: float, opening: float) -> None:
        """Where to go, clamped to the ranges of `Gripper`."""
        clamped = (
            min(max(v, low), high) for v, low, high in zip((x, y, opening), Gripper.LOW, Gripper.HIGH, strict=True)
        )
        x, y, opening = clamped
        self._goal = (x, y, opening)

    def drive(self, dt: float) -> None:
        """Set targets for the next step."""
        carriage, left, right = self.bodies
        goal_x, goal_y, goal_opening = self._goal
        (tx, ty), (vx, vy), (cx, cy) = self._target.position, self._target.velocity, carriage.position
        self._target.velocity = (
            _follow(goal_x - tx, vx, tx - cx, dt),
            _follow(goal_y + self._tip - ty, vy, ty - cy, dt),
        )
        opening = right.position.x - left.position.x
        aim = min(max(goal_opening, opening - 2 * LEAD), opening + 2 * LEAD)
        for pin in self._pins:
            pin.distance = FAR + aim / 2

    def gripper(self) -> Gripper:
        """Where it is, rounded to 1e-6 m."""
        _, left, right = self.bodies
        values = (
            (left.position.x + right.position.x) / 2,
            (left.position.y + right.position.y) / 2,
            right.position.x - left.position.x,
        )
        x, y, opening = (
            round(min(max(v, low), high), 6) for v, low, high in zip(values, Gripper.LOW, Gripper.HIGH, strict=True)
        )
        return Gripper(x, y, opening)


def _box(left: float, bottom: float, right: float, top: float, r: float = 0.0) -> list[tuple[float, float]]:
    return [(left + r, bottom + r), (right - r, bottom + r), (right - r, top - r), (left + r, top - r)]


def _follow(error: float, speed: float, ahead: float, dt: float) -> float:
    """The next speed of a target: towards its goal in time to stop there, and waiting for the carriage it draws."""
    wanted = min(SPEED, math.sqrt(2 * ACCELERATION * abs(error)), abs(error) / dt)
    wanted = math.copysign(wanted, error)
    change = min(max(wanted - speed, -ACCELERATION * dt), ACCELERATION * dt)
    if abs(wanted) < abs(speed) and wanted * speed >= 0:
        change = wanted - speed  # braking follows the curve exactly, so that the target never overshoots
    speed += change
    return 0.0 if ahead * speed > 0 and abs(ahead) > LEAD else speed
