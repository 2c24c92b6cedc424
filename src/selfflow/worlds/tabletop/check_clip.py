"""Clip -> score: whether what moves obeys the laws of solid things, from pixels alone.

The things are followed by colour (`track`); six laws are measured on their paths. The score is that of the law kept
worst: one vanished ball makes a clip impossible, however well the rest is kept. `facts` has the score of each law.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from .scene import FPS, GRAVITY
from .track import Track, read_clip, runs, speeds
from .verdict import Score

MIN_FRAMES = 4
PIXEL = 1 / 64  # m
# What reading true clips errs by, with noise and blur such as small models leave (see benchmarks/tabletop_av.py).
GONE, GROWN = 0.38, 1.9  # of its usual area
SMALL = 30 * PIXEL**2  # m², of which less is read with errors
JUMP, JUMP_SMALL = 0.075, 0.2  # m, of one frame beyond those before and after it; of something small
FASTEST = 7.0  # m/s: a fall from the top of the picture ends at 4
FALL = 0.35  # of g, by which the fall of something free may differ
FREE = 3  # steps between frames that something is free for, on end, so that its fall can be measured
BRIEF, BRIEF_FALL = 2, 0.55  # the same two of what touches nothing at all
BRIEF_DROP = 4.5 * PIXEL  # m, that it must fall meanwhile
BRIEF_PULL, SLOW_WAY = 0.2, 0.8 * PIXEL  # of g, and m: the least of what falls, if slowly, meanwhile
KINK = 0.7 * PIXEL  # m, by which a path may leave the parabola that it nearly is
EVEN = 0.35 * PIXEL  # m, by which even steps may differ
ASIDE = 4.0 * PIXEL  # m, that an arc goes sideways, and down
ARC, ARC_BEND, ARC_PULL = 7, 0.2 * PIXEL, 0.1  # steps, m, and g: an arc so long, even, and free of pulls sideways
RISE = 0.045  # m, and a share of the height: by which a bounce may rise above the height it fell from
SUNK = 0.030  # m, below the table top
HIDDEN = 10 * PIXEL**2  # m², of a solid thing behind another that it touches
SPIN = 0.3  # share of the energy of what moves sideways, or turns as fast, that a bounce may turn upwards
SHADED = 0.08  # share of a thing that the blurred rim of another may hide
SEEN_THROUGH = 0.6  # share of a thing in a glass that its pane may hide from the reader


@dataclass(frozen=True)
class Flaw:
    """Something that cannot be: the law, the colour, the frame, in words, and how bad, in (0, 1]."""

    law: str
    colour: str
    frame: int
    text: str
    weight: float = 1.0


def score_clip(clip: np.ndarray, fps: float = FPS) -> Score:
    """How well a clip keeps the laws of solid things.

    Each law has a score in [0, 1], 1 if it is kept: `permanence` (nothing vanishes, appears, or changes its colour or
    area), `continuity` (nothing jumps), `gravity` (what touches nothing falls at 9.81 m/s², within a third), `support`
    (nothing stays where it is in the air), `bounces` (nothing rises higher off the table than it came from) and
    `solidity` (nothing is inside the table, another thing, or goes through the wall of a glass). The value is the least
    of them.

    Args:
        clip: uint8 (frames, size, size, 3), of 4 frames and 24 pixels or more, things of different colours.
        fps: frames a second.

    Raises ValueError for what is no such clip.
    """
    track = read_clip(clip, fps)
    if track.frames < MIN_FRAMES:
        raise ValueError(f"a clip of {track.frames} frames shows no motion to judge; it needs {MIN_FRAMES}")
    return score_track(track)


def score_track(track: Track) -> Score:
    """As `score_clip`, of what was read from it."""
    flaws = [flaw for law in LAWS for flaw in law(track)]
    facts = {}
    things = max(1, len(track.colours))
    for name in ("permanence", "continuity", "gravity", "support", "bounces", "solidity"):
        worst: dict[str, float] = {}
        for flaw in flaws:
            if flaw.law == name:
                worst[flaw.colour] = max(worst.get(flaw.colour, 0.0), flaw.weight)
        # One thing of many that breaks a law halves the score; the rest is shared by the others.
        facts[name] = 1.0 if not worst else 0.5 * (1 - sum(worst.values()) / things)
    faults = dict.fromkeys(flaw.text for flaw in flaws)
    return Score(max(0.0, min(facts.values(), default=1.0)), tuple(faults), facts)


def _seconds(track: Track, frame: int) -> str:
    return f"{frame / track.fps:.2f} s"


def usual_area(track: Track) -> np.ndarray:
    """Of each colour while it is there, m² (n,)."""
    areas = [track.area[:, i][track.area[:, i] > 0] for i in range(len(track.colours))]
    return np.array([np.quantile(a, 0.75) if len(a) else 0.0 for a in areas])


# ------------------------------------------------------------------------------------------------------ the laws
def _permanence(track: Track) -> Iterator[Flaw]:
    usual = usual_area(track)
    for i, colour in enumerate(track.colours):
        part = track.area[:, i] / usual[i]
        for start, end in runs(part < GONE):
            if end - start < 2 and not (part[start] == 0 and usual[i] > SMALL and start > 0):
                continue
            if start == 0:
                yield Flaw("permanence", colour, end, f"something {colour} appears at {_seconds(track, end)}")
            else:
                yield Flaw("permanence", colour, start, f"the {colour} thing vanishes at {_seconds(track, start)}")
        for start, end in runs(part > GROWN):
            if end - start >= 2:
                yield Flaw("permanence", colour, start, f"the {colour} thing grows at {_seconds(track, start)}", 0.5)


def _continuity(track: Track) -> Iterator[Flaw]:
    usual = usual_area(track)
    whole = np.abs(track.area / usual - 1) < 0.15
    middle = (track.box[:, :, :2] + track.box[:, :, 2:]) / 2
    for i, colour in enumerate(track.colours):
        # A jump moves the pixels and their edges alike; one of them alone is an error of reading.
        steps = np.minimum(
            np.hypot(np.diff(track.x[:, i]), np.diff(track.y[:, i])),
            np.hypot(np.diff(middle[:, i, 0]), np.diff(middle[:, i, 1])),
        )
        for k in range(1, len(steps) - 1):
            beyond = steps[k] - np.nanmax([steps[k - 1], steps[k + 1], 0.0])
            if (
                beyond > (JUMP if usual[i] > SMALL and whole[k : k + 2, i].all() else JUMP_SMALL)
                or steps[k] * track.fps > FASTEST
            ):
                text = f"the {colour} thing jumps by {steps[k]:.2f} m at {_seconds(track, k + 1)}"
                yield Flaw("continuity", colour, k + 1, text)


def free_steps(track: Track) -> tuple[np.ndarray, np.ndarray]:
    """What can have touched nothing from one frame to the next, but for other things that touch nothing else either.

    Between two frames a thing may meet another and leave it again; it has not if they are further apart than they go.

    Returns:
        `(free, clear)`: free (t - 1, n) bool; clear (t - 1, n, n), whether two things cannot have met.
    """
    t, n = track.area.shape
    place = np.stack([track.x, track.y], axis=-1)
    step = np.zeros((t + 1, n + 2, 2))
    step[1:t, :n] = np.nan_to_num(np.diff(place, axis=0))
    step[0], step[t] = step[1], step[t - 1]
    fall = GRAVITY / track.fps**2
    usual = usual_area(track)
    whole = np.abs(track.area / usual - 1) < 0.15  # of what is half hidden the middle is not known
    hollow = hollow_things(track, usual, standing=False)
    whole &= ~np.array([mixed_in(track, k, hollow) for k in range(t)], dtype=bool).reshape(t, n)
    # Of something small a part may be missed, and that part may be what holds.
    touch = np.append(np.where(usual < SMALL, 4.0, 0.9), (0.9, 0.9)) * PIXEL
    free, clear = np.zeros((t - 1, n), dtype=bool), np.zeros((t - 1, n, n), dtype=bool)
    for k in range(t - 1):
        apart, rests = np.zeros((n, n + 2)), np.zeros((n, n + 2), dtype=bool)
        # What it did before tells how far it goes, and so does what it did after, if nothing stopped it.
        for v in (step[k], step[k + 1]):
            apart = np.maximum(apart, np.linalg.norm(v[:n, None] - v[None], axis=-1))
            rests |= np.linalg.norm(v[None], axis=-1) <= 0.5 * np.linalg.norm(v[:n, None], axis=-1)
        # What falls beside it falls alike; to what rests it comes nearer.
        apart += fall * rests
        apart[:, n + 1] += 0.05  # the gripper's own way is not followed
        near, far = track.gap[k], track.gap[k + 1]
        apart_enough = near + far > apart + (1.2 + 0.8 * rests) * PIXEL
        alone = (np.minimum(near, far) > touch) & apart_enough
        alone[np.arange(n), np.arange(n)] = True
        clear[k] = alone[:, :n]
        # Walls out of sight stand at the edges of the picture.
        edge = np.minimum(track.box[k : k + 2, :, 0], 1 - track.box[k : k + 2, :, 2])
        aloft = alone[:, n:].all(axis=1) & whole[k] & whole[k + 1]
        aloft &= edge.sum(axis=0) > np.abs(step[k : k + 2, :n, 0]).max(axis=0) + 2 * PIXEL
        for _ in range(n):
            aloft &= (clear[k] | aloft[None, :]).all(axis=1)
        free[k] = aloft
    return free, clear


def _falling(track: Track) -> Iterator[Flaw]:
    free, clear = free_steps(track)
    told: set[str] = set()
    for i, colour in enumerate(track.colours):
        for start, end in runs(free[:, i]):
            if end - start < BRIEF:
                continue
            # Things that touch only one another push each other apart: one of them falls faster for it.
            group = {i}
            for _ in track.colours:
                group |= {j for a in group for j in np.flatnonzero(~clear[start:end, a].all(axis=0)).tolist()}
            drop = track.y[start, i] - track.y[end, i]
            pulls = np.array([_pull(track, start, end, j) for j in sorted(group)])
            down = _pull(track, start, end, i)
            if end - start < FREE:
                plain = len(group) == 1 and drop > BRIEF_DROP
                # What falls slowly does not fall far in so short a time; what only rests is not pulled at all.
                slowly = np.ptp(track.y[start : end + 1, i]) > SLOW_WAY and (pulls > BRIEF_PULL).all()
                if not plain and not (slowly and (pulls < 1).all()):
                    continue
            far = FALL if end - start >= FREE else BRIEF_FALL
            if not ((pulls < 1 - far).all() or (pulls > 1 + far).all()):
                continue
            rest = _resting(track, start, end, i)
            if rest is None and _kinked(track, start, end, i):
                continue
            told.add(colour)
            if rest is not None:
                yield Flaw("support", colour, rest, f"the {colour} thing hangs in the air at {_seconds(track, rest)}")
            else:
                yield _wrong_fall(track, colour, start, down)
    for flaw in (*_slow_arcs(track), *_long_arcs(track)):
        if flaw.colour not in told:
            told.add(flaw.colour)
            yield flaw


def _slow_arcs(track: Track) -> Iterator[Flaw]:
    """What leaves another thing in an arc that is too flat.

    It comes too near the other for `free_steps`, which holds that they may have met again between two frames. But what
    holds a thing up slows it sideways, too, and not evenly: on an arc that is even both ways nothing does.
    """
    usual = usual_area(track)
    whole = np.abs(track.area / usual - 1) < 0.15
    apart = track.gap.min(axis=2)
    edge = np.minimum(track.box[:, :, 0], 1 - track.box[:, :, 2]) > 2 * PIXEL
    for i, colour in enumerate(track.colours):
        if usual[i] < SMALL:
            continue
        for start, end in runs(whole[:, i] & (apart[:, i] > 0) & edge[:, i]):
            for k in range(start, end - FREE):
                arc = slice(k, k + FREE + 1)
                x, y = track.x[arc, i], track.y[arc, i]
                even = np.ptp(np.diff(y, n=2)) < EVEN and np.abs(np.diff(x, n=2)).max() < EVEN
                left = (apart[arc, i] > 0.9 * PIXEL)[-2:].all()
                clear = (apart[arc, i] > 0.9 * PIXEL).all()
                down = _pull(track, k, k + FREE, i)
                far = clear or (abs(x[-1] - x[0]) > ASIDE and left)
                if even and far and BRIEF_PULL < down < 1 - BRIEF_FALL and y[0] - y[-1] > ASIDE:
                    yield _wrong_fall(track, colour, k, down)
                    break


def _long_arcs(track: Track) -> Iterator[Flaw]:
    """What falls too slowly along a parabola for long, whatever is near it.

    What is poured leaves a glass so close to its rim, or to its pane, that no gap is read. But what a slope, a wall or
    another thing holds up it also pushes sideways, or holds up unevenly; an arc of `ARC` steps that is even to a fifth
    of a pixel both ways, and on which nothing pulls sideways, is a fall.
    """
    usual = usual_area(track)
    aloft = (np.abs(track.area / usual - 1) < 0.15) & (track.gap[:, :, -2] > PIXEL) & (track.reach > 2 * PIXEL)
    aloft &= np.minimum(track.box[:, :, 0], 1 - track.box[:, :, 2]) > 2 * PIXEL
    for i, colour in enumerate(track.colours):
        for start, end in runs(aloft[:, i]):
            for k in range(start, end - ARC):
                arc = slice(k, k + ARC + 1)
                x, y = track.x[arc, i], track.y[arc, i]
                aside, down = abs(_acceleration(x, track.fps)), _acceleration(-y, track.fps)
                even = max(_bend(x), _bend(y)) < ARC_BEND and aside < ARC_PULL
                if even and BRIEF_PULL < down < 1 - FALL and y[0] - y[-1] > ASIDE:
                    yield _wrong_fall(track, colour, k, down)
                    break


def _wrong_fall(track: Track, colour: str, frame: int, down: float) -> Flaw:
    text = f"the {colour} thing falls at {GRAVITY * down:.1f} m/s² instead of 9.8"
    return Flaw("gravity", colour, frame, f"{text} from {_seconds(track, frame)}", min(1.0, abs(down - 1)))


def _resting(track: Track, start: int, end: int, i: int) -> int | None:
    """The first frame of those over some steps from which a thing stays where it is for `FREE` steps and more."""
    for k in range(start, end - FREE + 1):
        x, y = track.x[k : k + FREE + 1, i], track.y[k : k + FREE + 1, i]
        if max(np.ptp(x), np.ptp(y)) < 0.7 * PIXEL:
            return k
    return None


def _kinked(track: Track, start: int, end: int, i: int) -> bool:
    """Whether a path over some steps is no parabola: something was struck after all."""
    return end - start >= FREE and _bend(track.y[start : end + 1, i]) > KINK


def _bend(path: np.ndarray) -> float:
    """How far, in m, a path along one axis is from the parabola nearest to it."""
    k = np.arange(len(path))
    return float(np.abs(path - np.polyval(np.polyfit(k, path, 2), k)).max())


def _pull(track: Track, start: int, end: int, i: int) -> float:
    """The acceleration downwards over some steps, in g; nan where the thing is absent."""
    y = track.y[start : end + 1, i]
    return float("nan") if np.isnan(y).any() else _acceleration(-y, track.fps)


def _acceleration(path: np.ndarray, fps: float) -> float:
    """Of a path along one axis, in g."""
    return float(2 * np.polyfit(np.arange(len(path)) / fps, path, 2)[0] / GRAVITY)


def _bounces(track: Track) -> Iterator[Flaw]:
    n = len(track.colours)
    usual = usual_area(track)
    vx, vy = speeds(track.x, track.fps), speeds(track.y, track.fps)
    middle = (track.y[1:] + track.y[:-1]) / 2 + GRAVITY / (8 * track.fps**2)
    # The height that all the speed would lift a thing by, and that which it rises to.
    power, reach = np.nan_to_num((vx**2 + vy**2) / (2 * GRAVITY)), middle + vy**2 / (2 * GRAVITY)
    for i, colour in enumerate(track.colours):
        for k in range(2, track.frames - 2):
            turns = vy[k - 2, i] < 0 and vy[k - 1, i] < vy[k + 1, i] > 0 and track.y[k, i] <= track.y[k + 1, i]
            seen = track.area[k - 2 : k + 3, i] > 0.8 * usual[i]
            fall = abs(vy[k - 2, i]) / track.fps
            if not turns or not seen.all() or track.gap[k, i, n] > fall + 2 * PIXEL:
                continue
            near = track.gap[k - 1 : k + 3, i].min(axis=0) < 1.5 * PIXEL
            if near[n + 1]:
                continue
            # What it touches may lift it too, by all that it has.
            given = sum(float(power[max(0, k - 3) : k + 1, j].max()) for j in np.flatnonzero(near[:n]) if j != i)
            low = float(min(track.y[k, i], track.y[k - 1, i]))
            before = float((reach + SPIN * vx**2 / (2 * GRAVITY))[k - 2 : k, i].max()) - low + given
            after = float(reach[k + 1, i]) - low
            if after > before * (1 + RISE) + RISE:
                text = f"the {colour} thing bounces to {after:.2f} m from {before:.2f} m at {_seconds(track, k)}"
                yield Flaw("bounces", colour, k, text)


def _solidity(track: Track) -> Iterator[Flaw]:
    n = len(track.colours)
    usual = usual_area(track)
    hollow = hollow_things(track, usual)
    # What stands in a glass is tinted by its pane, and hides a part of that: neither is read as well.
    tipped = hollow_things(track, usual, standing=False)
    behind = np.array([mixed_in(track, k, hollow | tipped) for k in range(track.frames)])
    for i, colour in enumerate(track.colours):
        deep = -track.gap[:, i, n]
        for start, end in runs(deep > SUNK):
            if end - start >= 2:
                text = f"the {colour} thing is in the table at {_seconds(track, start)}"
                yield Flaw("solidity", colour, start, text, min(1.0, float(deep[start:end].max()) / 0.1))
        for j, other in enumerate(track.colours):
            if i == j:
                continue
            touching = track.gap[:, i, j] < PIXEL
            lost = np.where(touching, usual[i] - track.area[:, i], 0.0)
            solid = max(HIDDEN, SHADED * usual[i])
            limit = np.where(behind[:, i] | behind[:, j], max(solid, SEEN_THROUGH * usual[i]), solid)
            for start, end in runs(lost > limit):
                if end - start >= 2 or lost[start] > 2 * limit[start]:
                    text = f"the {colour} thing and the {other} one are in one another at {_seconds(track, start)}"
                    yield Flaw("solidity", colour, start, text, min(1.0, float(lost[start:end].max() / usual[i])))
            if hollow[j]:
                for k in _crossings(track, i, j):
                    text = f"the {colour} thing goes through the wall of the {other} one at {_seconds(track, k)}"
                    yield Flaw("solidity", colour, k, text)


def hollow_things(track: Track, usual: np.ndarray, standing: bool = True) -> np.ndarray:
    """Which things are cups or glasses: less than half of their box is filled, all the time, if they stand, or, also if
    they are tipped later, when first seen."""
    wide = track.box[:, :, 2] - track.box[:, :, 0]
    high = track.box[:, :, 3] - track.box[:, :, 1]
    found = []
    for i in range(len(track.colours)):
        there = np.flatnonzero(~np.isnan(wide[:, i]))
        if not standing:
            there = there[:1]
        w, h = np.median(wide[there, i]), np.median(high[there, i])
        sway = np.maximum(np.abs(wide[there, i] - w), np.abs(high[there, i] - h))
        steady = sway.max(initial=0) < 4 * PIXEL and np.median(sway) < PIXEL
        found.append(bool(steady and usual[i] < 0.62 * w * h and h > 6 * PIXEL and w > 6 * PIXEL))
    return np.array(found, dtype=bool)


def mixed_in(track: Track, k: int, hollow: np.ndarray) -> list[bool]:
    """Which things are in a hollow one, or are one with something in it, in a frame."""
    boxes = track.box[k]
    found = [False] * len(boxes)
    for j in np.flatnonzero(hollow):
        low, high = np.maximum(boxes[:, :2], boxes[j, :2]), np.minimum(boxes[:, 2:], boxes[j, 2:])
        for i in np.flatnonzero((high - low > 2 * PIXEL).all(axis=1)):
            if i != j:
                found[i] = found[j] = True
    return found


def _crossings(track: Track, i: int, j: int) -> Iterator[int]:
    """Frames at which the middle of i has come into or out of the hollow j, though not by its open top."""
    left, bottom, right, top = (track.box[:, j, c] for c in range(4))
    x, y = track.x[:, i], track.y[:, i]
    margin = 0.2 * (right - left)
    inside = (x > left + margin) & (x < right - margin) & (y > bottom) & (y < top - PIXEL)
    beside = ((x < left) | (x > right)) & (y < top - 2 * PIXEL) | (y < bottom - PIXEL)
    above = y >= top - PIXEL
    was = ""
    for k in range(track.frames):
        now = "inside" if inside[k] else "beside" if beside[k] else "above" if above[k] else was
        if {was, now} == {"inside", "beside"}:
            yield k
        was = now


LAWS: tuple[Callable[[Track], Iterator[Flaw]], ...] = (
    _permanence,
    _continuity,
    _falling,
    _bounces,
    _solidity,
)
