"""Matched pairs for a test of surprise: one motion or still that can be, and one that cannot and is otherwise the same.

The two clips of a pair show the same things, colours and light and are identical, bit for bit, before the frame
`first`; then one law is broken in the second, and physics goes on from there. A model that has learnt the law finds the
second more surprising (has the higher loss on it); one that has not must be at chance, so what is possible must not be
told by easier signs. Such signs are balanced over the pairs of each kind, as benchmarks/tabletop_pairs.py measures:

- *motion against rest*: under `solidity` a thing goes through another where it should stop in half of the pairs, and in
  the other half stops at nothing where it should go on; under `support` it stays up where it should fall in half of
  them, and in the other half falls though it is held up. Neither more motion nor more height is a sign.
- *more or less to see*: under `permanence` a thing appears as often as one vanishes; the rest change colour or kind.
- *sudden change*: `continuity` and `permanence` have one, for there it *is* the violation. So the light on wall and
  wood changes one to `LIGHTS` times, alike in both clips: every clip changes suddenly, and most of its pixels do.
- *stills*: impossible ones show the same things at the same heights where the fault allows it: a thing hangs as high as
  it stood on a support that is now elsewhere, or is as deep in its neighbour as it stood clear of it.

After IntPhys (Riochet et al. 2018, 1803.07616), whose blocks these kinds follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .geometry import bounds, stood
from .motion import MAX_START, PLANS, TRIES, Bag, Plan, beside, bystanders, inside, rolling, width_of
from .physics import Velocity, World, overlap
from .render import WALL
from .scene import (
    COLOURS,
    FPS,
    FRAMES,
    GAP,
    MADE_OF,
    Gripper,
    Motion,
    Scene,
    Thing,
    between,
    check_known,
    generator,
    pick,
)

PAIR_KINDS = ("solidity", "permanence", "support", "continuity")
STILL_KINDS = ("solidity", "support")
FIRST, LAST = 3, 12  # frames between which a violation is first seen
LIGHTS = 4  # most changes of the light
SHOWN = 0.05  # least displacement, or depth of an overlap, that a violation leads to, m: three pixels at 64


@dataclass(frozen=True)
class Pair:
    """Two motions of one scene.

    Attributes:
        possible, impossible: of `FRAMES` frames; their contacts are those of their own world.
        kind: of `PAIR_KINDS`.
        first: the first frame in which they differ.
    """

    possible: Motion
    impossible: Motion
    kind: str
    first: int


@dataclass
class Trial:
    """A plan, and how its impossible run differs.

    Attributes:
        plan: of both runs; a gripper in it holds what is between its fingers until the frame `opens`.
        passing: pairs of things that pass through one another in the impossible run.
        after: the frame after which that run is broken, by `breaks`; it says whether that could be done.
        unseen: index of a thing that neither clip shows: what passes through it is possible, and what stops is not.
        kept: index of a thing that the impossible run shows where it was, wherever `breaks` has put it.
    """

    plan: Plan
    passing: tuple[tuple[int, int], ...] = ()
    after: int = -1
    breaks: Callable[[World], bool] = lambda world: True
    opens: int = FRAMES
    unseen: int | None = None
    kept: int | None = None


def _run(trial: Trial, scene: Scene, impossible: bool) -> Motion | None:
    """The motion; None if what should be broken cannot be at that moment."""
    plan = trial.plan
    through = impossible == (trial.unseen is None)
    world = World(scene, velocities=plan.velocities, passing=trial.passing if through else ())
    frames = [world.scene()]
    for frame in range(1, FRAMES):
        if impossible and frame - 1 == trial.after and not trial.breaks(world):
            return None
        if plan.gripper is not None:
            x, y, opening = plan.goal
            world.command(x, y, opening if frame > trial.opens else 0.0)
        world.step(1 / FPS)
        frames.append(world.scene())
    if impossible and trial.kept is not None:
        there = frames[trial.after].things[trial.kept]
        frames[trial.after :] = [frame.having(trial.kept, there) for frame in frames[trial.after :]]
    motion = Motion("", tuple(frames), tuple(world.contacts))
    return motion if trial.unseen is None else _without(motion, trial.unseen)


def _without(motion: Motion, index: int) -> Motion:
    """The motion without a thing and what is heard of it."""
    frames = (replace(f, things=f.things[:index] + f.things[index + 1 :]) for f in motion.frames)
    contacts = (
        replace(c, first=c.first - (c.first > index), second=c.second - (c.second > index))
        for c in motion.contacts
        if index not in (c.first, c.second)
    )
    return replace(motion, frames=tuple(frames), contacts=tuple(contacts))


def _lit(motion: Motion, kind: str, lights: Sequence[tuple[int, float, float]]) -> Motion:
    """The motion by that name, with other shades of wall and wood from some frames on."""
    frames = motion.frames
    for at, wall, wood in lights:
        frames = (*frames[:at], *(replace(frame, wall=wall, wood=wood) for frame in frames[at:]))
    return replace(motion, name=kind, frames=frames)


def _solidity(bag: Bag, inverse: bool) -> Trial | None:
    """A thing falls onto another, or rolls against it, and stops, or goes through it; inverse, nothing is there."""
    rng = bag.rng
    velocities: dict[int, Velocity] = {}
    if rng.random() < 0.5:
        fixed = stood(bag.thing("box box book", "medium large"), between(rng, 0.3, 0.7))
        moving = stood(bag.thing("ball box book cup doll", "small medium"), fixed.x, 0.0)
        moving = moving.at(fixed.x + between(rng, -0.2, 0.2) * width_of(fixed), moving.y)
        low, high = bounds(fixed)[3] + 0.12, 0.98 - bounds(moving)[3]
        moving = moving.at(moving.x, moving.y + between(rng, min(low, high), high))
    else:
        side = pick(rng, (-1, 1))
        moving = bag.thing("ball", "small medium")
        start = 0.5 - side * between(rng, 0.25, 0.48 - moving.extent / 2)
        moving = stood(moving, start)
        edge = start + side * (moving.extent / 2 + between(rng, 0.15, 0.3))
        fixed = beside(bag.thing("box box glass cup hand", "medium large"), edge, side)
        velocities = {int(fixed.kind != "glass"): rolling(moving, side * between(rng, 0.9, 1.6))}
    if _contrast(COLOURS[moving.colour], COLOURS[fixed.colour]) > _contrast(COLOURS[moving.colour], WALL):
        return None  # only what goes through another would be seen before such a contrast
    # What moves is in front, lest it seem to go on behind the other; but in a glass it is seen through the pane.
    plan = Plan([moving, fixed] if fixed.kind == "glass" else [fixed, moving], velocities)
    hidden = plan.things.index(fixed) if inverse else None
    return Trial(plan, passing=((0, 1),), unseen=hidden)


def _contrast(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference between two colours in any channel."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def _moving(bag: Bag) -> tuple[Plan, int]:
    """Something is under way, and which of the things that is."""
    plan = PLANS[pick(bag.rng, ("drop", "roll", "roll"))](bag)
    return plan, next(iter(plan.velocities), 0)


def _permanence(bag: Bag, inverse: bool) -> Trial | None:
    """A thing that moves or rests vanishes, appears, or becomes another colour or kind, or all stay as they are."""
    rng = bag.rng
    plan, index = _moving(bag)
    how = pick(rng, ("vanish", "appear", "colour", "kind"))
    if rng.random() < 0.5 or how == "appear":  # it befalls a thing that only stands there
        index = len(plan.things)
        bystanders(bag, plan)
        del plan.things[index + 1 :]
        if len(plan.things) == index:
            return None
    victim = plan.things[index]
    if how == "vanish" and index < len(plan.things) - 1:  # only the last can be taken away
        if any(thing.kind == "glass" for thing in plan.things):  # and nothing may come after its glass
            return None
        things = [*plan.things[:index], *plan.things[index + 1 :], victim]
        velocities = {len(things) - 1: velocity for velocity in plan.velocities.values()}
        plan, index = Plan(things, velocities), len(things) - 1
    other: Thing | None = None
    if how == "appear":
        del plan.things[index]
        other = victim
    elif how == "colour":
        other = replace(victim, colour=pick(rng, [colour for colour in COLOURS if colour != victim.colour]))
    elif how == "kind":  # balls and boxes have the same height; others would have to be stood again
        kinds = {"ball": "box", "box": "ball"}
        if victim.kind not in kinds:
            return None
        kind = kinds[victim.kind]
        other = replace(victim, kind=kind, material=pick(rng, MADE_OF[kind]))

    def breaks(world: World) -> bool:
        now = world.scene().things
        at = now[index] if index < len(now) else victim
        angle = 0.0 if how == "kind" else at.angle
        world.replace(index, None if other is None else replace(other.at(at.x, at.y, angle), limbs=at.limbs))
        return overlap(world.scene()) < 0.002

    return Trial(plan, after=FIRST + int(rng.random() * (LAST - FIRST)), breaks=breaks)


def _support(bag: Bag, inverse: bool) -> Trial | None:
    """A thing falls when it is let go, rolls off an edge, or is in the air; or it stays up there. Inverse, it is
    held up and stays, or falls all the same."""
    if inverse:
        return _sink(bag)
    rng, plan, edge, side = bag.rng, Plan(), 0.0, 1
    how = pick(rng, ("released", "edge", "edge", "air"))
    after = opens = FIRST - 1 + int(rng.random() * 5)
    if how == "released":
        held = bag.thing("ball box book", "small medium")
        x, tip = between(rng, 0.25, 0.75), between(rng, 0.42, 0.65)
        left, bottom, right, top = bounds(held.at(0.0, 0.0))
        height = tip + between(rng, 0.0, 0.03) - (bottom + top) / 2
        plan.add(held.at(x, height))
        plan.gripper = Gripper(x, tip, right - left)
        plan.goal = (x, tip, right - left + 0.1)
        after = opens + 1
    elif how == "air":
        falling = bag.thing("ball box book cup glass plate doll", "small medium")
        falling = stood(falling, between(rng, 0.2, 0.8), between(rng, 0.45, 0.7))
        plan.add(falling)
    else:
        side = pick(rng, (-1, 1))
        under = stood(bag.thing("book box", "medium large"), 0.5 - side * between(rng, 0.15, 0.3))
        ball = bag.thing("ball", "small")
        edge = under.x + side * width_of(under) / 2
        x = edge - side * between(rng, 0.05, 0.15)
        plan.add(stood(ball, x, bounds(under)[3]), rolling(ball, side * between(rng, 0.5, 1.0)))
        plan.add(under)

    def breaks(world: World) -> bool:
        now = world.scene().things[0]
        vx, _, spin = plan.velocities.get(0, (0.0, 0.0, 0.0))
        world.suspend(0, (vx, 0.0, spin))
        return how != "edge" or ((now.x - edge) * side > 0.0 and now.y > plan.things[0].y - 0.02)

    return Trial(plan, after=after, breaks=breaks, opens=opens)


def _sink(bag: Bag) -> Trial:
    """A thing rolls on another, or has come down on it; or it falls through that."""
    rng, plan = bag.rng, Plan()
    under = stood(bag.thing("box box book", "medium large large"), between(rng, 0.25, 0.75))
    x, side = under.x + between(rng, -0.2, 0.2) * width_of(under), pick(rng, (-1, 1))
    if rng.random() < 0.5:
        ball = bag.thing("ball", "small")
        plan.add(stood(ball, x, bounds(under)[3]), rolling(ball, side * between(rng, 0.1, 0.5)))
    else:
        height = bounds(under)[3] + between(rng, 0.02, 0.12)  # for what only stands is told by its stillness
        plan.add(stood(bag.thing("ball box book cup glass plate", "small medium"), x, height))
    plan.things.insert(0, under)
    plan.velocities = {index + 1: velocity for index, velocity in plan.velocities.items()}

    def breaks(world: World) -> bool:
        world.replace(0, under.at(under.x, -5.0))
        return True

    return Trial(plan, after=FIRST + int(rng.random() * 5), breaks=breaks, kept=0)


def _continuity(bag: Bag, inverse: bool) -> Trial | None:
    """A moving thing goes on, or is suddenly elsewhere and goes on from there."""
    rng = bag.rng
    plan, index = _moving(bag)
    shift = pick(rng, (-1, 1)) * between(rng, 0.2, 0.5)

    def breaks(world: World) -> bool:
        now = world.scene().things[index]
        world.replace(index, now.at(now.x + shift, now.y))
        return inside(world.scene()) and overlap(world.scene()) < 0.002

    return Trial(plan, after=FIRST - 1 + int(rng.random() * (LAST - FIRST)), breaks=breaks)


TRIALS: dict[str, Callable[[Bag, bool], Trial | None]] = {
    "solidity": _solidity,
    "permanence": _permanence,
    "support": _support,
    "continuity": _continuity,
}


def _difference(trial: Trial, kind: str, possible: Motion, impossible: Motion) -> int | None:
    """The first frame in which two motions differ, if the violation is plain to see and comes in time."""
    frames = list(zip(possible.frames, impossible.frames, strict=True))
    first = next((k for k, (a, b) in enumerate(frames) if a != b), FRAMES)
    if not FIRST <= first <= LAST:
        return None
    if kind == "permanence":
        return first
    apart = max(max(abs(p.x - q.x), abs(p.y - q.y)) for a, b in frames for p, q in zip(a.things, b.things, strict=True))
    shallow = kind == "solidity" and trial.unseen is None and max(overlap(b) for _, b in frames[first:]) < SHOWN
    if apart < SHOWN or shallow:
        return None
    return first


def matched_pair(seed: int | np.random.Generator, kind: str) -> Pair:
    """A possible and an impossible motion that are the same before a frame.

    Args:
        seed: 0 or more, or random numbers.
        kind: of `PAIR_KINDS`, the law that is broken.

    Raises:
        ValueError: for an unknown kind or a negative seed.
    """
    check_known("kind of pair", kind, PAIR_KINDS)
    rng = seed if isinstance(seed, np.random.Generator) else generator(seed)
    inverse = rng.random() < 0.5  # drawn once: one of the two may come to pass less often
    for _ in range(TRIES):
        bag = Bag(rng)
        trial = TRIALS[kind](bag, inverse)
        if trial is None:
            continue
        plan = trial.plan
        scene = World(Scene(tuple(plan.things), between(rng, -1, 1), between(rng, -1, 1), plan.gripper)).scene()
        if not inside(scene) or overlap(scene) > MAX_START:
            continue
        impossible = _run(trial, scene, True)
        if impossible is None or not inside(*impossible.frames):
            continue
        possible = _run(trial, scene, False)
        if possible is None or not inside(*possible.frames):
            continue
        first = _difference(trial, kind, possible, impossible)
        if first is not None:
            changes = sorted(1 + int(rng.random() * (FRAMES - 1)) for _ in range(1 + int(rng.random() * LIGHTS)))
            lights = [(at, between(rng, -1, 1), between(rng, -1, 1)) for at in changes]
            return Pair(_lit(possible, kind, lights), _lit(impossible, kind, lights), kind, first)
    raise RuntimeError(f"no {kind} pair came to pass in {TRIES} tries from seed {seed}")  # pragma: no cover


def _still_solidity(bag: Bag) -> tuple[Thing, Thing, Thing]:
    """What stays, a thing that stands on it or beside it, and that thing sunk into what stays."""
    rng = bag.rng
    fixed = stood(bag.thing("box book", "medium large"), between(rng, 0.35, 0.65))
    depth = between(rng, SHOWN, 0.09)
    if rng.random() < 0.5:
        thing = stood(bag.thing("ball box cup glass doll hand", "small medium"), fixed.x, bounds(fixed)[3])
        thing = thing.at(fixed.x + between(rng, -0.2, 0.2) * width_of(fixed), thing.y)
        return fixed, thing, thing.at(thing.x, thing.y - depth)
    side = pick(rng, (-1, 1))
    thing = bag.thing("box glass hand ball", "small medium")
    left, _, right, _ = bounds(fixed)
    thing = beside(thing, (right if side > 0 else left) + side * depth, side)
    return fixed, thing, thing.at(thing.x - 2 * side * depth, thing.y)


def _still_support(bag: Bag) -> tuple[Thing, Thing, Thing]:
    """What stays, a thing that stands on it, and that thing higher up, or as high with nothing under it."""
    rng = bag.rng
    fixed = stood(bag.thing("box book cup", "medium large"), between(rng, 0.25, 0.75))
    thing = stood(bag.thing("ball box cup glass plate book sign doll hand", "small medium"), 0.5, bounds(fixed)[3])
    thing = thing.at(fixed.x + between(rng, -0.1, 0.1) * width_of(fixed), thing.y)
    if rng.random() < 0.5:
        return fixed, thing, thing.at(thing.x, thing.y + between(rng, SHOWN, 0.2))
    left, _, right, _ = bounds(fixed)
    side = pick(rng, (-1, 1))
    return fixed, thing, beside(thing, (right if side > 0 else left) + side * between(rng, GAP, 0.2), side)


def matched_stills(seed: int | np.random.Generator, kind: str) -> tuple[Scene, Scene]:
    """A possible scene and an impossible one of the same things in the same light.

    Args:
        seed: 0 or more, or random numbers.
        kind: of `STILL_KINDS`: things inside one another against apart, or in the air against standing.

    Raises:
        ValueError: for an unknown kind or a negative seed.
    """
    check_known("kind of still", kind, STILL_KINDS)
    rng = seed if isinstance(seed, np.random.Generator) else generator(seed)
    for _ in range(TRIES):
        bag = Bag(rng)
        fixed, thing, moved = (_still_solidity if kind == "solidity" else _still_support)(bag)
        plan = Plan([fixed, thing, moved])
        bystanders(bag, plan)
        others, shades = plan.things[3:], (between(rng, -1, 1), between(rng, -1, 1))
        possible, impossible = (World(Scene((fixed, each, *others), *shades)).scene() for each in (thing, moved))
        sunk = overlap(impossible)
        broken = sunk > SHOWN / 2 if kind == "solidity" else sunk < MAX_START
        if inside(possible, impossible) and overlap(possible) < MAX_START and broken and _rests(possible):
            return possible, impossible
    raise RuntimeError(f"no {kind} stills came to pass in {TRIES} tries from seed {seed}")  # pragma: no cover


def _rests(scene: Scene) -> bool:
    """Whether everything stays where it is for half a second, within a fifth of a pixel."""
    world = World(scene)
    world.step(0.5)
    after = world.scene().things
    return all(max(abs(a.x - b.x), abs(a.y - b.y)) < 0.003 for a, b in zip(scene.things, after, strict=True))
