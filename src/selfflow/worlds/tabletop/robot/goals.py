"""What the robot is asked to do: a starting scene, a goal in it, the words that say it, and whether it is reached.

    task        what is asked                                                     relation of the thing to its anchor
    pick-place  lift a ball or box and set it down                                on a plate; left of, right of, beside
    stack       lift a box onto another, not smaller one                          on
    put-in      lift a ball and let it into a glass or cup                        in
    push-to     shove a box, book or cup along the table, without lifting it      beside

Every scene holds, apart from the thing and its anchor, up to two distractors: often the same kind in another colour, so
that the words have to be read. Colour and kind together name one thing only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..geometry import bounds, box_of, gripper_parts, placed, stood
from ..relations import in_, on
from ..scene import (
    COLOURS,
    GAP,
    KINDS,
    MARGIN,
    SIZES,
    TABLE,
    WORDS,
    Gripper,
    Scene,
    Thing,
    between,
    check_known,
    generator,
    pick,
)
from ..split import SPLITS, held_out

TASKS = ("pick-place", "stack", "put-in", "push-to")
NEAR = 0.10  # beside: at most this much free space between the two, m
LIFTED = 0.05  # picked up: so far above where it stood, m
DRAGGED = 0.02  # not lifted: never more than this above where it stood, m
STILL = 0.002  # at rest: no motion larger than this between frames, m (and radians at 0.1 m)

# Free space that the layout keeps: for a finger with play beside a thing to be grasped, for the closed gripper behind
# a thing to be pushed, and for the way it is pushed.
FINGER_ROOM, PUSH_ROOM, PUSH_WAY = 0.06, 0.13, (0.16, 0.34)

_PHRASES: dict[str, tuple[str, ...]] = {
    "pick-place on": (
        "put {} on {}",
        "place {} on {}",
        "pick up {} and put it on {}",
        "lift {} and set it down on {}",
    ),
    "pick-place left of": (
        "put {} to the left of {}",
        "place {} left of {}",
        "pick up {} and put it to the left of {}",
        "lift {} and set it down on the left of {}",
    ),
    "pick-place right of": (
        "put {} to the right of {}",
        "place {} right of {}",
        "pick up {} and put it to the right of {}",
        "lift {} and set it down on the right of {}",
    ),
    "pick-place beside": (
        "put {} beside {}",
        "place {} next to {}",
        "pick up {} and put it next to {}",
        "lift {} and set it down beside {}",
    ),
    "stack on": (
        "stack {} on {}",
        "stack {} on top of {}",
        "put {} on top of {}",
        "pick up {} and stack it on {}",
    ),
    "put-in in": (
        "put {} in {}",
        "put {} into {}",
        "drop {} into {}",
        "pick up {} and let it fall into {}",
    ),
    "push-to beside": (
        "push {} to {}",
        "push {} over to {}",
        "slide {} along the table to {}",
        "push {} until it stands beside {}",
        "without lifting it, push {} next to {}",
    ),
}
_NOUN = rf"the (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(KINDS)})"
_PATTERNS = {
    re.compile(phrase.format(_NOUN, _NOUN)): tuple(asked.split(" ", 1))
    for asked, phrases in _PHRASES.items()
    for phrase in phrases
}
MAX_INSTRUCTION = 100
"""No instruction has more letters."""


@dataclass(frozen=True)
class Goal:
    """Bring thing `thing` into `relation` (`"on"`, `"in"`, `"left of"`, `"right of"`, `"beside"`) to thing `anchor`."""

    task: str
    thing: int
    relation: str
    anchor: int


@dataclass(frozen=True)
class Start:
    """How an episode begins: the scene with its gripper, what is asked in it, and the words that ask it."""

    scene: Scene
    goal: Goal
    instruction: str


def draw_start(task: str, seed: int, split: str = "train") -> Start:
    """The episode of a task and seed.

    Args:
        task: of `TASKS`.
        seed: 0 or more.
        split: in `"test"` the look of the thing or of its anchor, a word on them, or the relation asked for is held out
            (`split.held_out`); in `"train"` none of these is, of the distractors, too. How things come to stand is not
            looked at: a start of either split may show two kinds side by side that `split.split` calls a test.

    Raises:
        ValueError: for an unknown task or split, or a negative seed.
    """
    check_known("task", task, TASKS)
    check_known("split", split, SPLITS)
    rng = generator(seed, TASKS.index(task))
    while True:
        things, relation = _cast(task, rng)
        order = sorted(range(len(things)), key=lambda _: rng.random())
        ours = _novel(things[:2], relation) if split == "test" else not _novel(things, relation)
        if ours and _fits(things, task, relation):
            break
    scene = Scene(
        tuple(_laid_out(things, task, relation, order, rng)),
        wall=between(rng, -1, 1),
        wood=between(rng, -1, 1),
        gripper=Gripper(between(rng, 0.1, 0.9), between(rng, 0.76, 0.86), between(rng, 0.1, 0.3)),
    )
    goal = Goal(task, 0, relation, 1)
    return Start(scene, goal, instruct(goal, scene.things, rng))


def _novel(things: Sequence[Thing], relation: str) -> bool:
    """Whether the looks or words of these things, or the relation of the first to the second, are held out."""
    looks = any(held_out(thing.colour, thing.kind) for thing in things)
    words = any(held_out("word", thing.word) for thing in things if thing.word)
    first, second = (thing.kind for thing in things[:2]) if relation else ("", "")
    asked = {
        "": False,
        "on": held_out("in" if second == "plate" else "on", first, second),
        "in": held_out("in", first, second),
        "left of": held_out("left of", first, second),
        "right of": held_out("left of", second, first),
        "beside": False,  # it holds of either side
    }
    return looks or words or asked[relation]


def _cast(task: str, rng: np.random.Generator) -> tuple[list[Thing], str]:
    """The thing, its anchor, and up to two distractors, nowhere yet; and the relation asked for."""
    relation = "on"
    if task == "stack":
        thing = _thing(rng, ("box",), ("small", "small", "medium"))
        anchor = _thing(rng, ("box",), ("small", "medium", "large") if thing.size == "small" else ("medium", "large"))
    elif task == "put-in":
        relation = "in"
        thing = _thing(rng, ("ball",), ("small",))
        kind = pick(rng, ("glass", "cup"))
        anchor = _thing(rng, (kind,), ("large",) if kind == "cup" else ("medium", "large"))
    elif task == "push-to":
        relation = "beside"
        thing = _thing(rng, ("box", "book", "cup"), ("small",))
        anchor = _thing(rng, ("sign", "box", "cup", "plate", "book"), ("small", "medium"))
    else:
        relation = pick(rng, ("on", "on", "left of", "right of", "beside"))
        if relation == "on":
            thing = _thing(rng, ("box", "ball"), ("small",))
            anchor = _thing(rng, ("plate",), ("medium", "large") if thing.kind == "box" else ("medium",))
        else:
            thing = _thing(rng, ("box",), ("small",))
            anchor = _thing(rng, ("sign", "box", "cup", "plate", "book"), ("small", "medium"))
    things = [thing, anchor]
    for _ in range(int(rng.random() * 3)):
        kinds = (thing.kind, anchor.kind, "ball", "box", "cup", "book", "glass")
        things.append(_thing(rng, kinds, ("small",)))
    return things, relation


def _thing(rng: np.random.Generator, kinds: Sequence[str], sizes: Sequence[str]) -> Thing:
    kind, colour, size = pick(rng, kinds), pick(rng, tuple(COLOURS)), pick(rng, sizes)
    if kind == "sign":  # a short word, for room
        return Thing(kind, colour, "small", word=pick(rng, [word for word in WORDS if len(word) <= 3]))
    return Thing(kind, colour, size)


@dataclass(frozen=True)
class _Block:
    """A stretch of table that the layout moves as one: its width, and `(index, left edge)` of the things on it."""

    width: float
    edges: tuple[tuple[int, float], ...]


def _blocks(things: Sequence[Thing], task: str, relation: str, rng: np.random.Generator) -> list[_Block]:
    """The thing with room to grasp or push it, the anchor with room for the thing, and each distractor."""
    thing, anchor, *others = (_width(thing) for thing in things)
    to_left = relation == "left of" or (relation == "beside" and rng.random() < 0.5)  # the thing shall come to the left
    rest = [_Block(width, ((2 + i, 0.0),)) for i, width in enumerate(others)]
    if task == "push-to":
        way = between(rng, *PUSH_WAY)
        width = PUSH_ROOM + thing + way + anchor
        if to_left:
            return [_Block(width, ((0, PUSH_ROOM), (1, PUSH_ROOM + thing + way))), *rest]
        return [_Block(width, ((1, 0.0), (0, anchor + way))), *rest]
    spot = thing + 2 * FINGER_ROOM if relation in ("left of", "right of", "beside") else 0.0
    graspable = _Block(thing + 2 * FINGER_ROOM, ((0, FINGER_ROOM),))
    return [graspable, _Block(anchor + spot, ((1, spot if to_left else 0.0),)), *rest]


def _width(thing: Thing) -> float:
    left, _, right, _ = bounds(thing)
    return right - left


def _fits(things: Sequence[Thing], task: str, relation: str) -> bool:
    """Whether colour and kind tell the things apart, and the table has room for them."""
    thing, anchor, *others = (_width(thing) for thing in things)
    needed = thing + anchor + sum(others) + GAP * (len(things) - 1) + 2 * MARGIN
    if task == "push-to":
        needed += PUSH_ROOM + PUSH_WAY[1]
    else:
        needed += 2 * FINGER_ROOM + (thing + 2 * FINGER_ROOM if relation in ("left of", "right of", "beside") else 0)
    return needed <= 1.0 and len({(thing.colour, thing.kind) for thing in things}) == len(things)


def _laid_out(
    things: Sequence[Thing], task: str, relation: str, order: Sequence[int], rng: np.random.Generator
) -> list[Thing]:
    """The things side by side on the table, in a random order, the free space between them at random."""
    blocks = _blocks(things, task, relation, rng)
    blocks = [blocks[i] for i in order if i < len(blocks)]
    slack = 1.0 - 2 * MARGIN - sum(block.width for block in blocks) - GAP * (len(blocks) - 1)
    cuts = sorted(between(rng, 0.0, slack) for _ in blocks)
    result = list(things)
    x = MARGIN
    for block, cut in zip(blocks, cuts, strict=True):
        for index, edge in block.edges:
            thing = stood(things[index].at(0.0, TABLE))
            result[index] = thing.at(x + cut + edge - bounds(thing)[0], thing.y)
        x += block.width + GAP
    return result


def instruct(goal: Goal, things: Sequence[Thing], rng: np.random.Generator) -> str:
    """One of the ways to ask for a goal. Colour and kind are always said, sizes about a third of the time."""
    phrase = pick(rng, _PHRASES[f"{goal.task} {goal.relation}"])
    nouns = []
    for thing in (things[goal.thing], things[goal.anchor]):
        size = f"{thing.size} " if rng.random() < 1 / 3 else ""
        nouns.append(f"the {size}{thing.colour} {thing.kind}")
    return phrase.format(*nouns)


def parse_goal(instruction: str, things: Sequence[Thing]) -> Goal:
    """What an instruction asks for among these things.

    Raises:
        ValueError: if it is no instruction of this grammar, or names a thing that is not there or not alone.
    """
    words = " ".join(instruction.lower().strip(" .").split())
    for pattern, (task, relation) in _PATTERNS.items():
        if found := pattern.fullmatch(words):
            groups = found.groups()
            return Goal(task, _named(things, *groups[:3]), relation, _named(things, *groups[3:]))
    known = ", ".join(repr(phrases[0].format("…", "…")) for phrases in _PHRASES.values())
    raise ValueError(f"{instruction!r} asks for nothing known; say for example {known}")


def _named(things: Sequence[Thing], size: str | None, colour: str, kind: str) -> int:
    found = [
        i
        for i, thing in enumerate(things)
        if (thing.colour, thing.kind) == (colour, kind) and size in (None, thing.size)
    ]
    if len(found) != 1:
        there = ", ".join(map(str, things)) or "nothing"
        raise ValueError(f"{len(found)} things are 'the {size or ''} {colour} {kind}'; there are: {there}")
    return found[0]


def clearance(thing: Thing) -> float:
    """How far the lowest point of a thing is above the table, m."""
    return bounds(thing)[1] - TABLE


def holds(goal: Goal, things: Sequence[Thing]) -> bool:
    """Whether the thing stands where the goal wants it."""
    thing, anchor = things[goal.thing], things[goal.anchor]
    if goal.relation == "in":
        return in_(things, goal.thing, goal.anchor)
    if goal.relation == "on":  # what one sets on a plate lies in it
        return on(things, goal.thing, goal.anchor) or in_(things, goal.thing, goal.anchor)
    left, right = bounds(thing), bounds(anchor)
    side = goal.relation
    if side == "beside":
        side = "left of" if left[0] + left[2] < right[0] + right[2] else "right of"
    gap = right[0] - left[2] if side == "left of" else left[0] - right[2]
    return -0.005 < gap <= NEAR and clearance(thing) < 0.01


def at_rest(scenes: Iterable[Scene]) -> bool:
    """Whether nothing moves by more than `STILL` between these frames."""
    return all(
        max(abs(a.x - b.x), abs(a.y - b.y), 0.1 * abs(a.angle - b.angle)) <= STILL
        for before, after in pairwise(scenes)
        for a, b in zip(before.things, after.things, strict=True)
    )


def released(thing: Thing, gripper: Gripper, free: float = 0.002) -> bool:
    """Whether the gripper is at least so far from the thing, in m, measured between the boxes around their parts."""
    for finger in gripper_parts(gripper):
        left, bottom, right, top = box_of(finger.shape)
        for part in placed(thing):
            l, b, r, t = box_of(part.shape)
            if part.solid and l < right + free and r > left - free and b < top + free and t > bottom - free:
                return False
    return True


def reached(goal: Goal, recent: Sequence[Scene], highest: float) -> bool:
    """Whether a goal has been reached.

    Args:
        recent: the last frames, one control step of them: everything must be at rest over them.
        highest: the greatest `clearance` of the thing since the start, m: it must have been lifted; when pushed, not.
    """
    scene = recent[-1]
    thing, gripper = scene.things[goal.thing], scene.gripper
    asked = highest <= DRAGGED if goal.task == "push-to" else highest >= LIFTED
    free = gripper is None or released(thing, gripper)
    return asked and free and at_rest(recent) and holds(goal, scene.things)
