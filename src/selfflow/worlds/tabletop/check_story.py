"""Clip + caption -> score: whether what the caption says happens is seen to happen, from pixels alone.

The things are followed by colour (`track`), their kinds are read in the first frame, how far they turn is told by their
outlines (`turn`). Each event means what it does in `happen`; a true one that is read a pixel short still counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from .claim import GRIPPER, TABLE_TOP, Claim, Event, Phrase, judge
from .happen import FELL, ROSE, STAYED, WENT
from .language import parse
from .read import read_scene
from .relations import REACH, TOUCH
from .scene import FPS, POSES, Thing
from .track import Track, read_clip
from .turn import FITTING, largest, recognised, turned
from .verdict import Score, check_read

PIXEL = 1 / 64  # m
SHORT = 0.9  # share of what makes an event by which it may be missed
TURNED = 0.8  # rad, seen of what is turned by `TIPPED`
KEPT = STAYED + 0.75 * PIXEL  # m, that something may seem to move that stays
MET = 1.7 * PIXEL  # m, between things that are seen to touch
NEARBY = 12 * PIXEL  # m, from what a gripper pushes to its fingers, which are thin and read badly
CLOSING = 0.1  # m/s, of things that meet
STOPPED = 0.12  # m/s, by which a landing changes the velocity upwards
LOOKS = 2  # frames that are looked at again
AFTER = 9  # frames within which a bounce rises


class Witness:
    """A clip, asked what happens in it. Things are known by the index of their colour in the track."""

    def __init__(self, track: Track, things: Mapping[str, Thing]) -> None:
        self.track, self.things = track, things
        self.box = np.stack([_filled(track.box[:, :, c]) for c in range(4)], axis=-1)
        self.middle = (self.box[..., :2] + self.box[..., 2:]) / 2
        self.step = np.diff(self.middle, axis=0)
        self.turned = lru_cache(maxsize=None)(self._turned)

    def side(self, i: int) -> str | None:
        """The side to which a thing goes."""
        way = self.middle[-1, i, 0] - self.middle[0, i, 0]
        return None if abs(way) < SHORT * WENT else "right" if way > 0 else "left"

    def falls(self, i: int) -> bool:
        y = self.middle[:, i, 1]
        return bool((np.maximum.accumulate(y) - y).max() >= SHORT * FELL)

    def stays(self, i: int) -> bool:
        """Whether in each frame some edge or the middle is where it was: others may hide the rest."""
        moved = np.zeros(self.track.frames)
        for axis in (0, 1):
            marks = (self.box[:, i, axis], self.box[:, i, axis + 2], self.middle[:, i, axis])
            moved = np.maximum(moved, np.min([np.abs(mark - mark[0]) for mark in marks], axis=0))
        return bool(moved.max() <= KEPT)

    def bounces(self, i: int) -> bool:
        y = self.middle[:, i, 1]
        for k in range(1, len(y) - 1):
            fallen, risen = y[: k + 1].max() - y[k], y[k : k + AFTER].max() - y[k]
            if y[k] <= y[k - 1 : k + 2].min() and fallen >= FELL / 4 and risen >= SHORT * ROSE:
                return True
        return False

    def meetings(self, i: int, j: int) -> list[int]:
        """The frames at which two things touch, or after which they have met by the next; j may be the table."""
        gap = self._gap(i, j)
        other = self.step[:, j] if j >= 0 else np.zeros_like(self.step[:, i])
        going = np.linalg.norm(self.step[:, i] - other, axis=1)
        near = gap < MET
        for k in range(1, len(gap) - 1):
            near[k] |= gap[k] + gap[k + 1] < going[k - 1] + MET and gap[k] < gap[k - 1]
        # How they went before the first frame is not seen: one of them goes far, and they are not far apart.
        first = max(float(np.linalg.norm(self.step[0, m])) for m in (i, j) if m >= 0)
        near[0] |= gap[0] + gap[1] < first + 2 * MET
        return np.flatnonzero(near).tolist()

    def hits(self, i: int, j: int) -> bool:
        other = self.step[:, j] if j >= 0 else np.zeros_like(self.step[:, i])
        going = np.linalg.norm(self.step[:, i] - other, axis=1) * self.track.fps
        return any(going[max(0, k - 2) : k + 2].max() >= CLOSING for k in self.meetings(i, j))

    def lands(self, i: int, j: int) -> bool:
        """Whether a thing comes down onto another, or the table, and is stopped or slowed by it."""
        y = self.middle[:, i, 1]
        speed = self.step[:, i, 1] * self.track.fps
        for k in self.meetings(i, j):
            low = y[max(0, k - 1) : k + 2].min()
            if y[: k + 1].max() - low < FELL / 4 or not self._over(i, j, k):
                continue
            # What rolls over an edge comes down, too, and touches what it leaves; but nothing turns it upwards.
            before, after = speed[max(0, k - 2) : k + 1].min(initial=0), speed[k : k + 3].max(initial=-np.inf)
            if k >= len(speed) - 1 or after - before >= STOPPED:
                return True
        return False

    def _over(self, i: int, j: int, k: int) -> bool:
        """Whether the middle of the one is above a part of the other, and above its lower half, in a frame."""
        if j < 0:
            return True
        a, b = self.box[k, i], self.box[k, j]
        return bool(a[0] <= b[2] + PIXEL and a[2] >= b[0] - PIXEL and self.middle[k, i, 1] > (b[1] + b[3]) / 2)

    def inside(self, i: int, j: int, k: int) -> bool:
        """Whether a thing is within the box of a hollow one in a frame, its underside below the rim."""
        left, bottom, right, top = self.box[k, j]
        x, low = self._spot(i, k)
        return bool(left < x < right and bottom - PIXEL <= low <= top - TOUCH + PIXEL)

    def on(self, i: int, j: int) -> bool:
        """Whether a thing stands on another in the last frame."""
        left, _, right, top = self.box[-1, j]
        # Of a plate that something stands in, half may be cut off; so either way of finding its place will do.
        spots = (self._spot(i, -1), (float(self.middle[-1, i, 0]), float(self.box[-1, i, 1])))
        return any(left - REACH <= x <= right + REACH and abs(low - top) <= TOUCH + PIXEL for x, low in spots)

    def happens(self, event: Event, i: int, j: int | None) -> bool:
        """Whether thing i does what an event says, to thing j, `TABLE_TOP`, or nothing."""
        name = event.name
        if name == "pushes":
            if j is None or j < 0 or self.side(j) != event.side:
                return False
            return bool((self.track.reach[:, j] < NEARBY).any()) if i == GRIPPER else bool(self.meetings(i, j))
        if i < 0:
            return False
        if name in ("rolls", "slides"):
            ball = self.things[self.track.colours[i]].kind == "ball"
            return ball == (name == "rolls") and self.side(i) == event.side
        if name == "stays":
            return self.stays(i)
        if name == "falls":
            return self.falls(i)
        if name == "falls over":
            return self.turned(i) > TURNED
        if name == "bounces":
            return self.bounces(i)
        if j is None or j < TABLE_TOP:
            return False
        if name == "falls onto":
            return self.lands(i, j)
        if name == "hits":
            return self.hits(i, j)
        if j < 0:
            return False
        if name == "pours":
            return self.turned(i) > TURNED and self.inside(j, i, 0)
        return self.falls(i) and self.inside(i, j, -1) and not self.inside(i, j, 0)

    def _spot(self, i: int, k: int) -> tuple[float, float]:
        """The middle and the underside of a thing in a frame, m, without what else looks its colour, as rims do."""
        mask = self.track.mask[k, i]
        rows, columns = np.nonzero(largest(mask))
        if not len(rows):
            return float(self.middle[k, i, 0]), float(self.box[k, i, 1])
        return float(columns.min() + columns.max() + 1) / (2 * len(mask)), 1 - float(rows.max() + 1) / len(mask)

    def _gap(self, i: int, j: int) -> np.ndarray:
        return np.nan_to_num(self.track.gap[:, i, j if j >= 0 else len(self.track.colours)], nan=np.inf)

    def _turned(self, i: int) -> float:
        thing = self.things[self.track.colours[i]]
        return 0.0 if thing.kind == "ball" else abs(turned(thing, self.track.mask[:, i]))


def _filled(values: np.ndarray) -> np.ndarray:
    """Values (frames, n) where frames in which a thing is not seen have those of the last before, or the first."""
    values = values.copy()
    for k in range(1, len(values)):
        values[k] = np.where(np.isnan(values[k]), values[k - 1], values[k])
    for k in range(len(values) - 2, -1, -1):
        values[k] = np.where(np.isnan(values[k]), values[k + 1], values[k])
    return values


def score_story(clip: np.ndarray, claim_or_caption: Claim | str, fps: float = FPS) -> Score:
    """How well a clip shows what its caption tells: the things it names, and what happens to them.

    What is said of sound is not judged here; see `score_av`.

    Args:
        clip: uint8 (frames, size, size, 3), of 2 frames and 24 pixels or more, things of different colours.
        claim_or_caption: of this world's language.
        fps: frames a second.

    Returns:
        The share of what is said that is seen. `facts`: `things named` and `what happens`, the shares of the two.

    Raises:
        ValueError: for what is no such clip, no caption of this language, or one of a colour that is not read.
    """
    claim = parse(claim_or_caption) if isinstance(claim_or_caption, str) else claim_or_caption
    check_read(phrase.colour for phrase in claim.phrases)
    track = read_clip(clip, fps)
    if track.frames < 2:
        raise ValueError("a clip of 1 frame shows nothing that happens; it needs 2")
    return tell(track, read_scene(clip[0]), read_scene(clip[-1]), claim)


def tell(track: Track, first: Sequence[Thing], last: Sequence[Thing], claim: Claim) -> Score:
    """As `score_story`, of what was read from the clip, its first frame and its last.

    The things named are looked for in both frames, for what tumbles is hard to read; the better one counts.
    """
    named = Claim(claim.phrases)
    shown = judge(named, first)
    if shown.faults:
        first = _again(claim, track, first)
        shown = max((judge(named, things) for things in (first, last)), key=lambda verdict: verdict.score)
    seats = [_seat(phrase, track, first) for phrase in claim.phrases]
    pairs = [(track.colours[i], phrase) for phrase, i in zip(claim.phrases, seats, strict=True) if i is not None]
    witness = Witness(track, {colour: _known(phrase, colour, first) for colour, phrase in pairs})
    checks: list[tuple[bool, str]] = []
    for relation in claim.relations:
        i, j = seats[relation.first], seats[relation.second]
        one, other = claim.phrases[relation.first], claim.phrases[relation.second]
        right = i is not None and j is not None and _stands(witness, relation.name, i, j)
        checks.append((right, f"in the end the {one} is not {relation.name} the {other}"))
    for event in claim.events:
        if event.name != "sounds":
            ends = [_end(end, seats) for end in (event.first, event.second)]
            missing = ends[0] is None or (ends[1] is None and event.second is not None)
            seen = not missing and witness.happens(event, ends[0] or 0, ends[1])
            checks.append((seen, _denied(event, claim)))
    kept = sum(fine for fine, _ in checks)
    facts = {"things named": shown.score, "what happens": kept / len(checks) if checks else 1.0}
    total = shown.total + len(checks)
    faults = (*shown.faults, *(text for fine, text in checks if not fine))
    return Score((shown.true + kept) / total if total else 1.0, tuple(dict.fromkeys(faults)), facts)


def _end(end: int | None, seats: list[int | None]) -> int | None:
    return end if end is None or end < 0 else seats[end]


def _stands(witness: Witness, name: str, i: int, j: int) -> bool:
    if name == "in":
        return witness.inside(i, j, -1)
    return witness.on(i, j) or (name == "on" and witness.inside(i, j, -1))


def _seat(phrase: Phrase, track: Track, first: Sequence[Thing]) -> int | None:
    """The index in the track of what a phrase speaks of: by its colour, or, where none is said, by its kind."""
    colours = [phrase.colour] if phrase.colour else [thing.colour for thing in first if thing.kind == phrase.kind]
    return next((track.colours.index(colour) for colour in colours if colour in track.colours), None)


def _again(claim: Claim, track: Track, first: Sequence[Thing]) -> list[Thing]:
    """The things of the first frame; those that are not what was said are looked at again, for they may be tilted."""
    things = list(first)
    for phrase in claim.phrases:
        if phrase.colour not in track.colours:
            continue
        own = [thing for thing in first if thing.colour == phrase.colour]
        if len(own) == 1 and not judge(Claim((phrase,)), own).faults:
            continue
        found, fit = recognised(track.mask[:LOOKS, track.colours.index(phrase.colour)])
        if fit >= FITTING:
            things = [thing for thing in things if thing.colour != phrase.colour]
            things.append(replace(found, colour=phrase.colour))
    return things


def _known(phrase: Phrase, colour: str, first: Sequence[Thing]) -> Thing:
    """The thing of a colour, as far as its outline goes: as it is seen, or else as the phrase says."""
    for seen in first:
        if seen.colour == colour and seen.kind == phrase.kind:
            word = "A" if seen.kind == "sign" else ""
            return Thing(seen.kind, colour, seen.size, word=word, fingers=seen.fingers, limbs=seen.limbs)
    return Thing(
        phrase.kind,
        colour,
        phrase.size or "medium",
        word="A" if phrase.kind == "sign" else "",
        fingers=phrase.fingers or 0,
        limbs=POSES[phrase.pose or next(iter(POSES))] if phrase.kind == "doll" else (),
    )


def _denied(event: Event, claim: Claim) -> str:
    """What to say of an event that is not seen."""
    names = {TABLE_TOP: "the table", GRIPPER: "the gripper"} | {k: f"the {p}" for k, p in enumerate(claim.phrases)}
    what = event.name if event.second is None else f"{event.name} {names[event.second]}"
    return f"{names[event.first]} is not seen to do what is said ({what}{f', {event.side}' if event.side else ''})"
