"""What happens in a motion, by its frames and contacts: the truth that captions of motions are held against.

falls onto   comes down by `FELL` or more and meets what is below it
falls into   is in a cup, glass or plate in the last frame that it was not in in the first
falls over   is turned by more than `TIPPED`; balls do not fall over
falls        comes down by `FELL` or more
rolls        a ball goes `WENT` or more sideways; `slides`: anything else does
hits         meets another at `STRUCK` or faster
pushes       hits or touches what then slides or rolls to that side
pours        is turned by more than `TIPPED`, and what was in it no longer is
bounces      rises by `ROSE` or more after it has come down on something
stays        is in no frame further than `STAYED` from where it was
sounds       a blow on this material is at least `HEARD` times as loud as the loudest
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

from .claim import EVENTS, GRIPPER, TABLE_TOP, Claim, Event, Verdict, judge, pose_of
from .relations import extent, in_, related
from .scene import FPS, Contact, Motion, Thing, check_known

FELL = 0.04  # m
WENT = 0.06  # m
ROSE = 0.02  # m
STAYED = 0.02  # m
TIPPED = 0.9  # rad
STRUCK = 0.2  # m/s
LANDED = 0.3  # m/s
HEARD = 0.5


class Course:
    """A motion, asked what happens in it."""

    def __init__(self, motion: Motion) -> None:
        self.motion = motion
        self.first: Sequence[Thing] = motion.frames[0].things
        self.last: Sequence[Thing] = motion.frames[-1].things

    @cached_property
    def middles(self) -> list[list[tuple[float, float]]]:
        """Of each thing, the middle of its extent in every frame, m."""
        return [[_middle(frame.things[i]) for frame in self.motion.frames] for i in range(len(self.first))]

    @cached_property
    def heard(self) -> dict[str, float]:
        """The loudest blow on each material, over the loudest of all; empty when nothing is heard."""
        from .sound import blows_of

        loudest: dict[str, float] = {}
        for blow in blows_of(self.motion):
            loudest[blow.material] = max(blow.loudness, loudest.get(blow.material, 0.0))
        top = max(loudest.values(), default=1.0)
        return {material: loud / top for material, loud in loudest.items()}

    def way(self, i: int) -> float:
        """How far a thing goes to the right, m; negative to the left."""
        return self.middles[i][-1][0] - self.middles[i][0][0]

    def side(self, i: int) -> str | None:
        """The side to which a thing has gone `WENT` or more."""
        way = self.way(i)
        return None if abs(way) < WENT else "right" if way > 0 else "left"

    def fall(self, i: int) -> float:
        """How far below where it has been a thing comes, m."""
        highest, most = -1.0, 0.0
        for _, y in self.middles[i]:
            highest = max(highest, y)
            most = max(most, highest - y)
        return most

    def began(self, i: int) -> int:
        """The first frame in which a thing is elsewhere than in the first; the number of frames if it never is."""
        x, y = self.middles[i][0]
        moved = (k for k, (a, b) in enumerate(self.middles[i]) if math.hypot(a - x, b - y) > 0.008)
        return next(moved, len(self.motion.frames))

    def meetings(self, i: int, j: int | None = None) -> Iterator[tuple[Contact, int]]:
        """The contacts of a thing, all or those with j, `TABLE_TOP` or `GRIPPER`; and with what each of them is."""
        for contact in self.motion.contacts:
            if i in (contact.first, contact.second):
                other = contact.second if contact.first == i else contact.first
                if j is None or other == j:
                    yield contact, other

    def landings(self, i: int) -> Iterator[tuple[Contact, int, float]]:
        """The contacts with what is below a thing after it has come down, with what, and its height then, m."""
        ys = [y for _, y in self.middles[i]]
        for contact, other in self.meetings(i):
            k = min(int(contact.time * FPS), len(ys) - 1)
            low = min(ys[k : k + 2])
            if contact.speed >= LANDED and contact.y < low and max(ys[: k + 1]) - low >= FELL / 2:
                yield contact, other, low

    def happens(self, name: str, i: int, j: int | None = None, side: str | None = None) -> bool:
        """Whether thing i does what an event of that name says, to thing j or the table, to that side."""
        check_known("event", name, EVENTS)
        if name == "pushes":
            if j is None or self.side(j) != side:
                return False
            return any(i == other for _, other in self.meetings(j))
        if i < 0:
            return False
        if name in ("rolls", "slides"):
            return (self.first[i].kind == "ball") == (name == "rolls") and self.side(i) == side is not None
        if name == "falls over":
            turned = abs(self.last[i].angle - self.first[i].angle)
            return self.first[i].kind != "ball" and turned > TIPPED
        if name == "falls":
            return self.fall(i) >= FELL
        if name == "stays":
            x, y = self.middles[i][0]
            return all(math.hypot(a - x, b - y) <= STAYED for a, b in self.middles[i])
        if name == "bounces":
            return any(self._rises(i, contact, low) for contact, _, low in self.landings(i))
        assert j is not None
        if name == "falls into":
            return j >= 0 and in_(self.last, i, j) and not in_(self.first, i, j) and self.fall(i) >= FELL
        if name == "pours":
            turned = abs(self.last[i].angle - self.first[i].angle)
            return turned > TIPPED and in_(self.first, j, i) and not in_(self.last, j, i)
        if name == "falls onto":
            return any(other == j for _, other, _ in self.landings(i))
        return any(contact.speed >= STRUCK for contact, _ in self.meetings(i, j))

    def _rises(self, i: int, contact: Contact, low: float) -> bool:
        k = int(contact.time * FPS) + 1
        return any(y - low >= ROSE for _, y in self.middles[i][k : k + 8])


def _middle(thing: Thing) -> tuple[float, float]:
    left, bottom, right, height = extent(thing)
    return (left + right) / 2, (bottom + height) / 2


def judge_motion(claim: Claim, motion: Motion) -> Verdict:
    """How much of a claim is true of a motion: of its things, of what happens, and how they stand in the end.

    Each phrase speaks of the thing of the first frame that it fits best, the first of several.
    """
    course = Course(motion)
    looks = judge(replace(claim, relations=(), events=()), motion.frames[0].things)
    seats = _seats(claim, motion.frames[0].things)
    facts: list[str | None] = []
    for relation in claim.relations:
        i, j = seats.get(relation.first), seats.get(relation.second)
        first, second = claim.phrases[relation.first], claim.phrases[relation.second]
        holds = i is not None and j is not None and related(relation.name, course.last, i, j)
        facts.append(None if holds else f"in the end the {first} is not {relation.name} the {second}")
    facts += [_fault(claim, event, course, seats) for event in claim.events]
    faults = tuple(dict.fromkeys((*looks.faults, *(fact for fact in facts if fact))))
    return Verdict(looks.true + facts.count(None), looks.total + len(facts), faults)


def _fault(claim: Claim, event: Event, course: Course, seats: dict[int, int]) -> str | None:
    """What to say if an event does not happen; None if it does."""
    if event.name == "sounds":
        if event.material is None:
            return None if not course.heard else "something is heard"
        return None if course.heard.get(event.material, 0.0) >= HEARD else f"no {event.material} is heard"
    ends = {TABLE_TOP: TABLE_TOP, GRIPPER: GRIPPER} | seats
    i = ends.get(event.first)
    j = None if event.second is None else ends.get(event.second)
    missing = i is None or (j is None and event.second is not None)
    if not missing and course.happens(event.name, i or 0, j, event.side):
        return None
    names = {TABLE_TOP: "the table", GRIPPER: "the gripper"} | {k: f"the {p}" for k, p in enumerate(claim.phrases)}
    said = "does not do what is said" if event.second is None else f"does not do it to {names[event.second]}"
    return f"{names[event.first]} {said} ({event.name}{'' if event.side is None else ' ' + event.side})"


def _seats(claim: Claim, things: Sequence[Thing]) -> dict[int, int]:
    """The thing that each phrase speaks of."""
    seats: dict[int, int] = {}
    for number, phrase in enumerate(claim.phrases):
        free = [i for i in range(len(things)) if i not in seats.values()]

        def fit(i: int, phrase=phrase) -> int:  # type: ignore[no-untyped-def]
            told = ("kind", "colour", "size", "word", "fingers", "material")
            said = [(getattr(phrase, name), getattr(things[i], name)) for name in told]
            return sum(a == b for a, b in said if a is not None) + (phrase.pose == pose_of(things[i]))

        if free:
            seats[number] = max(free, key=fit)
    return seats
