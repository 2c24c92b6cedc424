"""What cannot be, on purpose: motions and sounds broken in one known way, to see whether the checkers notice.

A checker that cannot fail is worthless. Each function breaks one law and leaves the rest as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .geometry import bounds
from .scene import (
    COLOURS,
    FPS,
    GRAVITY,
    MATERIALS,
    SIZES,
    SOUND_HZ,
    TABLE,
    Contact,
    Motion,
    Scene,
    between,
    check_known,
    generator,
    pick,
)
from .sound import TABLE_SIZE, Blow, blows_of, loudness, mixed, synthesise

SLOW = 0.4  # of g, under slow gravity
GAIN = 1.35  # of the speed of a bounce that gains energy
TOGETHER = 2 / FPS  # s within which a picture does not tell two blows apart
PLAIN = 0.2  # loudness of a blow that is plainly heard: of a medium wooden ball dropped 7 cm
TURN = 0.8  # m/s, change of velocity that is plainly seen
LEFT = 4  # frames that must be left to see what is wrong


def corrupt_motion(motion: Motion, kind: str, seed: int = 0) -> Motion:
    """The motion with one law broken.

    Args:
        motion: a possible one, of 10 frames or more.
        kind: of `MOTION_FAULTS`: `"vanish"` something is gone from some frame on; `"recolour"` it changes colour;
            `"teleport"` it jumps by 0.25 m or more; `"hover"` it stays where it is in the air; `"pass through"` it goes
            on through what it meets; `"slow gravity"` everything falls at 0.4 g; `"gain energy"` it bounces off faster
            than it came.
        seed: which thing, when and where to.

    Raises:
        ValueError: for an unknown kind, or where nothing in the motion can be broken that way.
    """
    check_known("fault of a motion", kind, tuple(MOTION_FAULTS))
    if len(motion.frames) < 10 or not motion.frames[0].things:
        raise ValueError(f"a motion to break has 10 frames of something, not {len(motion.frames)}")
    return MOTION_FAULTS[kind](motion, generator(seed, 51))


def corrupt_sound(motion: Motion, kind: str, seed: int = 0, rate: int = SOUND_HZ, plain: bool = False) -> np.ndarray:
    """The sound of a motion, broken in one way: float32 (n,) as `synthesise` gives.

    Args:
        motion: with at least one contact loud enough to hear.
        kind: of `SOUND_FAULTS`: `"shifted"` by 120 to 240 ms; `"wrong material"` that nothing which sounds has, the
            table apart; `"missing"` its loudest blow and those within two frames of it, which a picture does not tell
            apart; `"extra"` a blow, as of something dropped, where nothing is struck.
        seed: how far, which, and when.
        rate: samples a second.
        plain: only where the clip shows it too. Who sees but pictures cannot miss, or find late, what is hardly heard
            or seen: for `"shifted"` and `"missing"` the loudest blow must have a loudness of `PLAIN` or more, turn the
            velocity of something by `TURN` or more (2.6 pixels a frame at 64), and come after the second frame and
            before the last but one. These are facts of the motion, whatever a checker finds.

    Raises:
        ValueError: for an unknown kind, or where the sound cannot be broken that way.
    """
    check_known("fault of a sound", kind, SOUND_FAULTS)
    rng = generator(seed, 52)
    blows = blows_of(motion)
    n = round(motion.seconds * rate)
    if not any(0 <= blow.time < motion.seconds for blow in blows):
        raise ValueError(f"nothing is heard in this motion, so no sound can be {kind}")
    if plain and kind in ("shifted", "missing") and not _is_plain(motion):
        raise ValueError(f"the loudest blow of this motion is not plain to hear and see, so none can be {kind}")
    if kind == "shifted":
        sound = synthesise(motion, rate)
        shift = round(between(rng, 0.12, 0.24) * rate)
        silence = np.zeros(shift, np.float32)
        early = min(blow.time for blow in blows) * rate < shift + 0.02 * rate  # too early to come earlier still
        return np.concatenate([silence, sound[:-shift]] if early else [sound[shift:], silence])
    if kind == "wrong material":
        others = [name for name in MATERIALS if all(blow.material != name for blow in blows)]
        if not others:
            raise ValueError("things of every material sound in this motion, so that none would be wrong")
        wrong = pick(rng, others)
        return mixed([b if b.size == TABLE_SIZE else b._replace(material=wrong) for b in blows], n, rate)
    if kind == "missing":
        loudest = max(blows, key=lambda blow: blow.loudness)
        return mixed((blow for blow in blows if abs(blow.time - loudest.time) > TOGETHER), n, rate)
    times = [t for t in np.arange(0.05, motion.seconds - 0.1, 0.01) if all(abs(t - blow.time) > 0.15 for blow in blows)]
    if not times:
        raise ValueError("this motion leaves no quiet moment for a blow that should not be there")
    extra = Blow(pick(rng, times), pick(rng, MATERIALS), SIZES["medium"], 0.5)
    return mixed([*blows, extra], n, rate)


def _is_plain(motion: Motion) -> bool:
    """Whether the loudest blow is loud, and changes a velocity that is seen before and after; see `corrupt_sound`."""
    blow = max(motion.contacts, key=loudness)
    frame = int(blow.time * FPS)
    if loudness(blow) < PLAIN or not 1 <= frame < len(motion.frames) - 2:
        return False
    turned = []
    for index in (blow.first, blow.second):
        if index >= 0:
            step = np.diff(_path(motion, index)[frame - 1 : frame + 3, :2], axis=0) * FPS
            change = step[2] - step[0]
            fallen = change[0], change[1] + 2 * GRAVITY / FPS
            turned.append(min(math.hypot(*change), math.hypot(*fallen)))
    return max(turned) >= TURN


# ------------------------------------------------------------------------------------------------------ motions
def _with(motion: Motion, change: Callable[[int, Scene], Scene]) -> Motion:
    return replace(motion, frames=tuple(change(k, scene) for k, scene in enumerate(motion.frames)))


def _path(motion: Motion, index: int) -> np.ndarray:
    """x, y and angle (frames, 3) of a thing."""
    return np.array([(s.things[index].x, s.things[index].y, s.things[index].angle) for s in motion.frames])


def _along(motion: Motion, index: int, path: np.ndarray) -> Motion:
    """The motion with another path for one thing."""
    return _with(motion, lambda k, scene: scene.having(index, scene.things[index].at(*map(float, path[k]))))


def _start(motion: Motion, rng: np.random.Generator) -> tuple[int, int]:
    """Some thing, and a frame with enough frames before and after it."""
    return int(rng.random() * len(motion.frames[0].things)), 3 + int(rng.random() * (len(motion.frames) - 3 - LEFT))


def _vanish(motion: Motion, rng: np.random.Generator) -> Motion:
    index, start = _start(motion, rng)

    def without(k: int, scene: Scene) -> Scene:
        return scene if k < start else replace(scene, things=scene.things[:index] + scene.things[index + 1 :])

    return _with(motion, without)


def _recolour(motion: Motion, rng: np.random.Generator) -> Motion:
    index, start = _start(motion, rng)
    colour = pick(rng, [name for name in COLOURS if all(name != thing.colour for thing in motion.frames[0].things)])

    def dyed(k: int, scene: Scene) -> Scene:
        return scene if k < start else scene.having(index, replace(scene.things[index], colour=colour))

    return _with(motion, dyed)


def _teleport(motion: Motion, rng: np.random.Generator) -> Motion:
    index, start = _start(motion, rng)
    path = _path(motion, index)
    edges = [bounds(scene.things[index]) for scene in motion.frames[start:]]
    low, high = -min(left for left, *_ in edges), 1 - max(right for _, _, right, _ in edges)
    steps = [step for step in np.linspace(low, high, 41) if abs(step) >= 0.25]
    if not steps:
        raise ValueError("there is no room in the picture to jump to")
    # Beside the others if there is room, so that nothing else is wrong.
    free = [step for step in steps if _is_free(motion, index, range(start, len(motion.frames)), step, 0.0)]
    path[start:, 0] += pick(rng, free or steps)
    return _along(motion, index, path)


def _is_free(motion: Motion, index: int, frames: range, dx: float, dy: float) -> bool:
    """Whether a thing so displaced would be in the picture and clear of the others in those frames."""
    for k in frames:
        left, bottom, right, top = np.add(bounds(motion.frames[k].things[index]), (dx, dy, dx, dy))
        if left < 0 or right > 1 or top > 1:
            return False
        for other, thing in enumerate(motion.frames[k].things):
            a, b, c, d = bounds(thing)
            if other != index and left < c and right > a and bottom < d and top > b:
                return False
    return True


def _hover(motion: Motion, rng: np.random.Generator) -> Motion:
    """Something stays where it is in the air; where nothing is in the air, something is lifted for good."""
    things, end = motion.frames[0].things, len(motion.frames)
    choices = []
    for index in range(len(things)):
        for start in range(2, end - LEFT - 1):
            bottom = bounds(motion.frames[start].things[index])[1]
            hung = replace(motion, frames=(motion.frames[start],) * end)
            below = [_is_free(hung, index, range(1), 0.0, -drop) for drop in (0.0, 0.04, 0.08)]
            later = _along(motion, index, np.tile(_path(motion, index)[start], (end, 1)))
            if bottom > TABLE + 0.1 and all(below) and _is_free(later, index, range(start, end), 0.0, 0.0):
                path = _path(motion, index)
                path[start:] = path[start]
                choices.append((index, path))
    if not choices:
        for index in range(len(things)):
            top = max(bounds(scene.things[index])[3] for scene in motion.frames)
            if top < 0.9 and all(_is_free(motion, index, range(end), 0.0, lift) for lift in (0.02, 0.05, 0.09)):
                choices.append((index, np.add(_path(motion, index), (0.0, 0.09, 0.0))))
    if not choices:
        raise ValueError("nothing in this motion has room to hover in")
    return _along(motion, *pick(rng, choices))


def _struck(motion: Motion, least: float) -> list[tuple[int, Contact, int]]:
    """(thing, contact, last frame before it) of what moves into something at that speed (m/s) or more."""
    found = []
    for contact in motion.contacts:
        k = int(contact.time * FPS)
        if contact.speed < least or not 2 <= k < len(motion.frames) - LEFT:
            continue
        for index in (contact.first, contact.second):
            if index >= 0:
                a, b = motion.frames[k - 1].things[index], motion.frames[k].things[index]
                if math.hypot(b.x - a.x, b.y - a.y) * FPS > 0.7 * least:
                    found.append((index, contact, k))
    return found


def _pass_through(motion: Motion, rng: np.random.Generator) -> Motion:
    """What strikes something goes on as if nothing were there, falling if it fell."""
    struck = _struck(motion, 0.8)
    if not struck:
        raise ValueError("nothing in this motion meets another thing fast enough to pass through it")
    index, _, k = pick(rng, struck)
    path = _path(motion, index)
    speed = (path[k] - path[k - 1]) * FPS
    fell = path[k, 1] - 2 * path[k - 1, 1] + path[k - 2, 1] < -0.5 * GRAVITY / FPS**2
    time = np.arange(1, len(path) - k)[:, None] / FPS
    pull = np.array([0.0, -GRAVITY if fell else 0.0, 0.0])
    path[k + 1 :] = path[k] + (speed + pull / (2 * FPS)) * time + pull * time**2 / 2
    return _along(motion, index, path)


def _slow_gravity(motion: Motion, rng: np.random.Generator) -> Motion:
    """The same motion seen slower: under `SLOW` times g all times are longer by one over its square root."""
    paths = [_path(motion, index) for index in range(len(motion.frames[0].things))]
    pace = math.sqrt(SLOW)
    shown = math.ceil((len(motion.frames) - 1) * pace) + 1  # what comes later is not seen any more
    if not any(_falls(path[:shown]) for path in paths):
        raise ValueError("nothing in this motion falls long enough to see how fast")
    at = np.arange(len(motion.frames)) * pace
    scenes = []
    for k in range(len(motion.frames)):
        things = tuple(
            thing.at(*(_between_frames(path[:, c], at[k]) for c in range(3)))
            for thing, path in zip(motion.frames[int(at[k])].things, paths, strict=True)
        )
        scenes.append(replace(motion.frames[int(at[k])], things=things))
    contacts = tuple(
        replace(c, time=c.time / pace, impulse=c.impulse * pace, speed=c.speed * pace) for c in motion.contacts
    )
    return replace(motion, frames=tuple(scenes), contacts=contacts)


def _falls(path: np.ndarray, frames: int = 4) -> bool:
    """Whether a path has that many frames of free fall on end."""
    free = np.abs(np.diff(path[:, 1], n=2) * FPS**2 / GRAVITY + 1) < 0.1
    return any(free[k : k + frames].all() for k in range(len(free) - frames + 1))


def _between_frames(values: np.ndarray, at: float) -> float:
    """A path between two frames: the parabola of free fall if it falls there, a straight line otherwise."""
    k = min(int(at), len(values) - 2)
    t = at - k
    bends = [values[i] - 2 * values[i - 1] + values[i - 2] for i in (k + 1, k + 2) if 2 <= i < len(values)]
    bend = bends[int(np.argmin(np.abs(np.array(bends) + GRAVITY / FPS**2)))] if bends else 0.0
    bend = bend if abs(bend * FPS**2 / GRAVITY + 1) < 0.1 else 0.0
    return float(values[k] + (values[k + 1] - values[k]) * t - bend * t * (1 - t) / 2)


def _gain_energy(motion: Motion, rng: np.random.Generator) -> Motion:
    """What bounces off the table leaves it faster than it came, and so again."""
    struck = [(i, c, k) for i, c, k in _struck(motion, 1.0) if c.second == -1 and _is_up(motion, i, c)]
    if not struck:
        raise ValueError("nothing in this motion bounces off the table fast enough to gain energy")
    index, contact, k = pick(rng, struck)
    path = _path(motion, index)
    floor = min(path[k, 1], path[k + 1, 1])
    speed, time = contact.speed * GAIN, contact.time
    sideways = (path[k] - path[k - 1]) * FPS
    for frame in range(k + 1, len(path)):
        while frame / FPS - time > 2 * speed / GRAVITY:
            time += 2 * speed / GRAVITY
        t = frame / FPS - time
        path[frame] = path[k] + sideways * (frame - k) / FPS
        path[frame, 1] = floor + speed * t - GRAVITY * t * t / 2
    return _along(motion, index, path)


def _is_up(motion: Motion, index: int, contact: Contact) -> bool:
    """Whether a thing was falling when it met the table, was in the air before, and is clear of other things."""
    k = int(contact.time * FPS)
    for scene in motion.frames[k : k + LEFT]:
        left, bottom, right, top = np.add(bounds(scene.things[index]), (-0.05, 0, 0.05, 0.05))
        for other, thing in enumerate(scene.things):
            a, b, c, d = bounds(thing)
            if other != index and left < c and right > a and bottom < d and top > b:
                return False
    heights = _path(motion, index)[:, 1]
    return heights[k - 1] - heights[k] > 0.03 and bounds(motion.frames[k - 1].things[index])[1] > TABLE + 0.03


MOTION_FAULTS: dict[str, Callable[[Motion, np.random.Generator], Motion]] = {
    "vanish": _vanish,
    "recolour": _recolour,
    "teleport": _teleport,
    "hover": _hover,
    "pass through": _pass_through,
    "slow gravity": _slow_gravity,
    "gain energy": _gain_energy,
}
SOUND_FAULTS = ("shifted", "wrong material", "missing", "extra")
