"""Motions worth watching: what happens in 0.8 s after things are let go, rolled, thrown or pushed, drawn from a seed.

Each kind of motion proposes a first frame and velocities; physics does the rest. A proposal is taken when nothing
overlaps at the start, nothing leaves the picture in the first `FRAMES` frames, and what the motion is called has come
to pass by then. So a longer motion from the same seed is the same motion, seen for longer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from .geometry import bounds, opening, stood
from .physics import Velocity, World, overlap
from .scene import (
    COLOURS,
    CONTROL_HZ,
    FPS,
    FRAMES,
    GAP,
    GRAVITY,
    MADE_OF,
    MARGIN,
    MAX_FINGERS,
    POSES,
    SIZES,
    TABLE,
    WORDS,
    Gripper,
    Motion,
    Scene,
    Thing,
    between,
    check_frames,
    check_known,
    generator,
    pick,
)

MOTIONS = ("drop", "roll", "stack", "topple", "pour", "push")
MAX_START = 0.0002  # overlap that a first frame may have, m: what touches is laid by arithmetic
TIPPED = 0.35  # share of what is poured that comes out of another glass
MAX_POUR = 0.0015  # overlap that what is poured may be pressed into other things by, m
TRIES = 200


@dataclass(frozen=True)
class Tipping:
    """Which thing is tipped, about which point (m), how fast at most (radians/s) and how far (radians), and whither."""

    index: int
    pivot: tuple[float, float]
    spin: float
    angle: float
    side: int

    def rate(self, frame: int, done: float) -> float:
        """How fast, from a frame to the next, when it has turned so far: soon at full speed, and then it stops."""
        return min(self.spin, self.spin * (frame + 1) / 2, (self.angle - done) * FPS)


@dataclass
class Plan:
    """A proposed beginning: things, the velocities of some, perhaps a gripper and where it goes, or what is tipped."""

    things: list[Thing] = field(default_factory=list)
    velocities: dict[int, Velocity] = field(default_factory=dict)
    gripper: Gripper | None = None
    goal: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tipping: Tipping | None = None

    def add(self, thing: Thing, velocity: Velocity | None = None) -> int:
        self.things.append(thing)
        if velocity is not None:
            self.velocities[len(self.things) - 1] = velocity
        return len(self.things) - 1


class Bag:
    """Things to draw from: any kind, size and material asked for, no colour twice until all eight are used."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.colours: list[str] = []

    def thing(self, kinds: str, sizes: str = "small medium large") -> Thing:
        """A thing of one of the kinds and sizes (words, with spaces), upright, standing on the table at x = 0.5."""
        rng = self.rng
        self.colours = self.colours or list(COLOURS)
        colour = self.colours.pop(int(rng.random() * len(self.colours)))
        kind = pick(rng, kinds.split())
        thing = Thing(
            kind,
            colour,
            pick(rng, sizes.split()),
            material=pick(rng, MADE_OF[kind]),
            word=pick(rng, WORDS) if kind == "sign" else "",
            fingers=int(rng.random() * (MAX_FINGERS + 1)) if kind == "hand" else 0,
            limbs=POSES[pick(rng, tuple(POSES))] if kind == "doll" else (),
        )
        return stood(thing)


def width_of(thing: Thing) -> float:
    left, _, right, _ = bounds(thing)
    return right - left


def beside(thing: Thing, edge: float, side: int) -> Thing:
    """The thing moved along x until it begins at the edge and lies to that side of it (-1 left, 1 right)."""
    left, _, right, _ = bounds(thing)
    return thing.at(thing.x + edge - (left if side > 0 else right), thing.y)


def rolling(ball: Thing, speed: float) -> Velocity:
    """The velocity of a ball that rolls without sliding."""
    return speed, 0.0, -speed / (ball.extent / 2)


def _drop(bag: Bag) -> Plan:
    """A thing falls onto the table, onto another, or into a cup or glass."""
    rng, plan = bag.rng, Plan()
    where = pick(rng, ("table", "thing", "thing", "hollow", "hollow"))
    x = between(rng, 0.3, 0.7)
    height, below = TABLE, None
    if where == "hollow":
        falling = bag.thing("ball", "small")
        vessel = stood(bag.thing("glass glass cup", "large" if rng.random() < 0.7 else "medium"), x)
        hollow = opening(vessel)
        if hollow is None or hollow[2] - hollow[0] < falling.extent + 0.008:
            vessel = stood(bag.thing("glass", "large"), x)
        below = vessel
        slack = max(0.0, (_hollow_width(vessel) - falling.extent) / 2 - 0.003)
        height, x = bounds(vessel)[3], x + between(rng, -0.8, 0.8) * slack
    else:
        falling = bag.thing("ball ball box cup book plate doll", "small medium")
        if where == "thing":
            below = stood(bag.thing("box box book plate cup"), x)
            height, x = bounds(below)[3], x + between(rng, -0.3, 0.3) * width_of(below)
        if falling.kind in ("box", "book", "doll"):
            falling = falling.at(0.5, 0.5, between(rng, -0.5, 0.5))
    falling = stood(falling, x, 0.0)
    tall = bounds(falling)[3]
    plan.add(falling.at(x, falling.y + between(rng, min(height + 0.15, 0.97 - tall), 0.98 - tall)))
    if below is not None:  # last, for what is in a glass is seen through its pane
        plan.add(below)
    return plan


def _hollow_width(vessel: Thing) -> float:
    hollow = opening(vessel)
    assert hollow is not None
    return hollow[2] - hollow[0]


def _roll(bag: Bag) -> Plan:
    """A ball rolls into things, or over the edge of a book or box."""
    rng, plan = bag.rng, Plan()
    side = pick(rng, (-1, 1))  # the way it goes
    ball = bag.thing("ball", "small medium")
    speed = side * between(rng, 0.7, 1.6)
    if rng.random() < 0.35:
        under = bag.thing("book book box", "medium large")
        half = width_of(under) / 2
        x = 0.5 - side * between(rng, 0.12, 0.3)
        plan.add(stood(under, x))
        plan.add(stood(ball, x - side * between(rng, 0.2, 0.9) * half, bounds(plan.things[0])[3]), rolling(ball, speed))
        return plan
    start = 0.5 - side * between(rng, 0.25, 0.48 - ball.extent / 2)
    plan.add(stood(ball, start), rolling(ball, speed))
    edge = start + side * (ball.extent / 2 + between(rng, 0.12, 0.35))
    struck = beside(bag.thing("ball box cup glass sign doll hand book plate"), edge, side)
    plan.add(struck)
    if struck.kind in ("box", "book") and rng.random() < 0.5:
        plan.add(stood(bag.thing("box ball cup", "small"), struck.x, bounds(struck)[3]))
    return plan


def _stack(bag: Bag) -> Plan:
    """Two to four things fall a little, onto one another, and stay."""
    rng, plan = bag.rng, Plan()
    count = 2 + int(rng.random() * 3)
    x, height = between(rng, 0.25, 0.75), TABLE
    base = bag.thing("box box book plate", "small medium large")
    plan.add(stood(base, x, height + (between(rng, 0.03, 0.12) if rng.random() < 0.3 else 0.0)))
    for _ in range(count - 1):
        below = plan.things[-1]
        size = pick(rng, ("small", "medium"))
        above = bag.thing("box box book cup plate", size)
        x = below.x + between(rng, -0.12, 0.12) * min(width_of(below), width_of(above))
        plan.add(stood(above, x, bounds(below)[3] + between(rng, 0.04, 0.14)))
    return plan


def _topple(bag: Bag) -> Plan:
    """A tower is struck by a ball, or leans too far, or something tall is knocked over."""
    rng, plan = bag.rng, Plan()
    side = pick(rng, (-1, 1))
    how = pick(rng, ("struck", "struck", "leaning", "tall"))
    x = 0.5 + side * between(rng, -0.1, 0.15)
    if how == "tall":
        tower = [stood(bag.thing("sign doll hand", "small medium large"), x)]
    else:
        tower, height, lean = [], TABLE, side * between(rng, 0.34, 0.47) if how == "leaning" else 0.0
        for k in range(3 if how == "struck" else 4):
            block = bag.thing("box box book" if k else "box", "small")
            tower.append(stood(block, x + (between(rng, -0.012, 0.012) if k else 0.0), height))
            height = bounds(tower[-1])[3]
            x += lean * SIZES["small"]
    for block in tower:
        plan.add(block)
    if how != "leaning":
        ball = bag.thing("ball", "small medium")
        speed = side * between(rng, 1.6, 2.8)
        low, high = min(bounds(t)[0] for t in tower), max(bounds(t)[2] for t in tower)
        start = (low if side > 0 else high) - side * (ball.extent / 2 + between(rng, 0.05, 0.25))
        if rng.random() < 0.25:
            plan.add(stood(ball, start), rolling(ball, speed))
        else:  # thrown, so that it comes in higher up
            top = max(bounds(t)[3] for t in tower)
            aim = between(rng, max(TABLE + ball.extent / 2 + 0.02, 0.5 * (TABLE + top)), top)
            plan.add(ball.at(start, aim), (speed, between(rng, 0.2, 0.8), 0.0))
    return plan


def _pour(bag: Bag) -> Plan:
    """Two or three small balls fall into a large glass: from above, in an arc from the side, or out of another."""
    rng, plan = bag.rng, Plan()
    if rng.random() < TIPPED:
        return _tip(bag)
    count, side = 2 + int(rng.random() * 2), pick(rng, (-1, 1))
    arc = rng.random() < 0.5
    glass = stood(bag.thing("glass", "large"), 0.5 + side * between(rng, 0.0, 0.2))
    left, _, right, rim = opening(glass) or (0.0, 0.0, 0.0, 0.0)
    r = SIZES["small"] / 2
    height = rim + r + between(rng, 0.02, 0.06)
    for k in range(count):
        ball = bag.thing("ball", "small")
        if arc:
            # Thrown so that it comes down through the middle of the rim after its own time; the first is nearest.
            time = 0.16 + 0.13 * k + between(rng, 0.0, 0.02)
            away = -side * (0.14 + 0.17 * k + between(rng, 0.0, 0.02))
            x, y = glass.x + away, rim + r + between(rng, 0.0, 0.08)
            rise = (rim - y) / time + GRAVITY * time / 2
            plan.add(ball.at(x, y), (-away / time, rise, 0.0))
        else:
            x = between(rng, left + r + 0.004, right - r - 0.004)
            plan.add(ball.at(x, height))
            height += between(rng, 0.005, 0.03) + 2 * r
    plan.add(glass)  # last, for what is in it is seen through its pane
    return plan


def _tip(bag: Bag) -> Plan:
    """A glass at the edge of a stack, with two balls in it, is tipped about its lower corner over a larger glass.

    It is a medium one: only that holds small balls and stays in the picture when it turns above the rim of a large one.
    """
    rng, plan, side = bag.rng, Plan(), pick(bag.rng, (-1, 1))
    below, above = pick(rng, (("box medium", "box medium"), ("box large", "book medium")))
    stack = [stood(bag.thing(*below.split()))]
    stack.append(stood(bag.thing(*above.split()), 0.5, bounds(stack[0])[3]))
    pourer, glass = stood(bag.thing("glass", "medium")), stood(bag.thing("glass", "large"))
    tall, far = bounds(pourer)[3] - TABLE, between(rng, 0.08, 0.19)
    widest, reach = max(width_of(thing) for thing in stack), tall + far + width_of(glass) / 2
    edge = 0.5 + side * (between(rng, widest, 1 - reach) - 0.5)
    for thing in stack:
        plan.add(beside(thing, edge, -side))
    pivot = (edge, bounds(stack[1])[3])
    pourer = stood(pourer, edge - side * width_of(pourer) / 2, pivot[1])
    left, floor, right, _ = opening(pourer) or (0.0, 0.0, 0.0, 0.0)
    r, gap = SIZES["small"] / 2, 0.0008
    aside = side * ((right - left) / 2 - r - gap)  # the lower ball is at the wall over which nothing is poured
    floor += r + gap
    rise = math.sqrt(4 * r * r - 4 * aside * aside) + gap
    plan.tipping = Tipping(plan.add(pourer), pivot, between(rng, 6.3, 7.5), between(rng, 1.55, 1.7), side)
    plan.add(bag.thing("ball", "small").at(pourer.x - aside, floor))
    plan.add(bag.thing("ball", "small").at(pourer.x + aside, floor + rise))
    plan.add(stood(glass, edge + side * (tall + far)))
    return plan


def _push(bag: Bag) -> Plan:
    """A thing is pushed along the table by the gripper, by a rolling ball, or by another that slides into it."""
    rng, plan = bag.rng, Plan()
    side = pick(rng, (-1, 1))
    how = pick(rng, ("gripper", "ball", "slide"))
    start = 0.5 - side * between(rng, 0.2, 0.34)
    kinds = "box book cup glass plate"
    if how == "gripper":
        pushed = beside(bag.thing(kinds + " ball", "small medium"), start, side)
        plan.add(pushed)
        x = start - side * between(rng, 0.065, 0.1)
        plan.gripper = Gripper(min(max(x, 0.05), 0.95), TABLE + between(rng, 0.005, 0.03), 0.0)
        room = (1 - bounds(pushed)[2] if side > 0 else bounds(pushed)[0]) - MARGIN
        way = abs(x - start) + min(room, between(rng, 0.2, 0.5)) - 0.03
        plan.goal = (plan.gripper.x + side * way, plan.gripper.y, plan.gripper.opening)
        return plan
    if how == "ball":
        pusher = replace(bag.thing("ball", "medium large"), material=pick(rng, ("metal", "glass")))
        speed = side * between(rng, 1.0, 2.0)
    else:
        pusher = bag.thing("box book", "small medium")
        speed = side * between(rng, 1.6, 2.6)
    pushed = beside(bag.thing(kinds, "small medium"), start + side * between(rng, 0.03, 0.08), side)
    plan.add(pushed)
    plan.add(beside(pusher, start, -side), rolling(pusher, speed) if how == "ball" else (speed, 0.0, 0.0))
    return plan


PLANS: dict[str, Callable[[Bag], Plan]] = {
    "drop": _drop,
    "roll": _roll,
    "stack": _stack,
    "topple": _topple,
    "pour": _pour,
    "push": _push,
}


def bystanders(bag: Bag, plan: Plan) -> None:
    """Up to two more things, standing where there is room on the table."""
    taken = []
    if plan.gripper is not None:
        low, high = sorted((plan.gripper.x, plan.goal[0]))
        taken.append((low - 0.1, high + 0.1))
    for _ in range(int(bag.rng.random() * 3)):
        thing = bag.thing("ball box cup glass plate book sign doll hand", "small medium")
        spans = [*taken, *(bounds(other)[::2] for other in plan.things)]
        for _ in range(5):
            moved = thing.at(between(bag.rng, MARGIN, 1 - MARGIN), thing.y)
            left, _, right, _ = bounds(moved)
            clear = all(right + GAP < low or left - GAP > high for low, high in spans)
            if clear and left > MARGIN and right < 1 - MARGIN:
                plan.add(moved)
                break


def _run(plan: Plan, scene: Scene, name: str, frames: int) -> Motion:
    """The motion that a plan leads to. Its gripper is sent towards its goal ten times a second, a little at a time."""
    turned, tipping = 0.0, plan.tipping
    world = World(scene, velocities=plan.velocities)
    scenes, actions, states = [scene], [], []
    each = FPS // CONTROL_HZ
    for frame in range(frames):
        if plan.gripper is not None and frame % each == 0:
            now = scenes[-1].gripper or plan.gripper
            change = min(max(plan.goal[0] - now.x, -0.1), 0.1)
            actions.append((now.x + change, *plan.goal[1:]))
            states.append((now.x, now.y, now.opening))
            world.command(*actions[-1])
        if frame + 1 < frames:
            if tipping is not None:
                rate = tipping.rate(frame, turned)
                turned += rate / FPS
                world.turn(tipping.index, tipping.pivot, -tipping.side * rate)
            world.step(1 / FPS)
            scenes.append(world.scene())
    return Motion(
        name,
        tuple(scenes),
        tuple(world.contacts),
        np.array(actions, dtype=float).reshape(-1, 3),
        np.array(states, dtype=float).reshape(-1, 3),
    )


def _path(motion: Motion, index: int) -> float:
    """How far a thing has gone by the end, m."""
    a, b = motion.frames[0].things[index], motion.frames[-1].things[index]
    return math.hypot(a.x - b.x, a.y - b.y)


def _comes_to_pass(name: str, plan: Plan, motion: Motion) -> bool:
    """Whether a motion does what it is called."""
    last, hits = motion.frames[-1].things, motion.contacts
    acting = range(len(plan.things))
    if name == "drop":
        falling = max(acting, key=lambda i: plan.things[i].y - last[i].y)
        return any(falling in (hit.first, hit.second) and hit.speed > 1.0 for hit in hits)
    if name == "roll":
        ball = next(iter(plan.velocities))
        falls = plan.things[ball].y - last[ball].y > 0.04
        return _path(motion, ball) > 0.15 and (falls or any(hit.second >= 0 and hit.speed > 0.2 for hit in hits))
    if name == "stack":
        tower = [last[i] for i in acting]
        return all(abs(math.sin(thing.angle)) < 0.03 and thing.y > under.y + 0.02 for under, thing in pairwise(tower))
    if name == "topple":
        return any(abs(last[i].angle - plan.things[i].angle) > 0.6 for i in acting if plan.things[i].kind != "ball")
    if name == "pour":
        hollow = opening(last[acting[-1]])
        inside = [i for i in acting[:-1] if hollow and hollow[0] < last[i].x < hollow[2] and last[i].y < hollow[3]]
        return len(inside) >= 2 and max(overlap(frame) for frame in motion.frames) < MAX_POUR
    return _path(motion, 0) > 0.06 and abs(last[0].angle) < 0.2


def draw_motion(seed: int | np.random.Generator, name: str | None = None, frames: int = FRAMES) -> Motion:
    """A motion from a seed.

    Args:
        seed: 0 or more, or random numbers.
        name: one of `MOTIONS`; None draws it too.
        frames: how many, at `FPS`.

    Raises:
        ValueError: for an unknown name, fewer than one frame, or a negative seed.
    """
    rng = seed if isinstance(seed, np.random.Generator) else generator(seed)
    check_frames(frames)
    if name is None:
        name = pick(rng, MOTIONS)
    check_known("motion", name, MOTIONS)
    for _ in range(TRIES):
        bag = Bag(rng)
        plan = PLANS[name](bag)
        acting = Plan(list(plan.things), plan.velocities, plan.gripper, plan.goal, plan.tipping)
        bystanders(bag, plan)
        scene = Scene(tuple(plan.things), between(rng, -1, 1), between(rng, -1, 1), plan.gripper)
        scene = World(scene).scene()  # rounded as every later frame is
        if not inside(scene) or overlap(scene) > MAX_START:
            continue
        motion = _run(plan, scene, name, max(frames, FRAMES))
        seen = Motion(name, motion.frames[:FRAMES], tuple(c for c in motion.contacts if c.time <= (FRAMES - 1) / FPS))
        if inside(*seen.frames) and _comes_to_pass(name, acting, seen):
            return _shortened(motion, frames)
    raise RuntimeError(f"no {name} came to pass in {TRIES} tries from seed {seed}")  # pragma: no cover


def inside(*scenes: Scene) -> bool:
    """Whether everything is in the picture, but for a pixel's tenth."""
    edges = (bounds(thing, solid=False) for thing in {thing for scene in scenes for thing in scene.things})
    return all(left > -0.002 and right < 1.002 and top < 1.0 for left, _, right, top in edges)


def _shortened(motion: Motion, frames: int) -> Motion:
    """The first frames of a motion, with what happens and is done up to the last of them."""
    contacts = tuple(contact for contact in motion.contacts if contact.time <= (frames - 1) / FPS)
    steps = -(-frames * CONTROL_HZ // FPS)
    return Motion(motion.name, motion.frames[:frames], contacts, motion.actions[:steps], motion.states[:steps])
