"""What a caption asserts, and whether things on a table make it true.

A claim speaks of the whole picture: the things it names are all the things there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

from .relations import RELATIONS, related
from .scene import KINDS, MATERIALS, MAX_FINGERS, MAX_THINGS, PAINTS, POSES, SIZES, Scene, Thing, check_known

# Up to this many things every way to match words with things is tried; beyond it the best fit is sought step by step.
_TRIED = 5

Seating = tuple[int | None, ...]  # for each thing that is asked for, the index of one that is there


@dataclass(frozen=True)
class Phrase:
    """`count` things of one kind; colour, size, material, word, raised fingers and pose where those are said."""

    kind: str
    colour: str | None = None
    size: str | None = None
    material: str | None = None
    word: str | None = None
    fingers: int | None = None
    pose: str | None = None
    count: int = 1
    picture: int | None = None

    def __post_init__(self) -> None:
        check_known("kind", self.kind, KINDS)
        for what, value, known in (
            ("colour", self.colour, tuple(PAINTS)), ("size", self.size, tuple(SIZES)),
            ("material", self.material, MATERIALS), ("pose", self.pose, tuple(POSES)),
        ):  # fmt: skip
            if value is not None:
                check_known(what, value, known)
        if self.fingers is not None and not 0 <= self.fingers <= MAX_FINGERS:
            raise ValueError(f"{self.fingers} raised fingers; choose 0 to {MAX_FINGERS}")
        if not 1 <= self.count <= MAX_THINGS:
            raise ValueError(f"{self.count} things of a kind; choose 1 to {MAX_THINGS}")

    def __str__(self) -> str:
        words = " ".join(word for word in (self.size, self.colour, self.material, self.kind) if word is not None)
        words += "" if self.word is None else f' "{self.word}"'
        return words if self.picture is None else f"{words} from picture {self.picture}"


@dataclass(frozen=True)
class Relation:
    """Each thing of phrase `first` stands in relation `name` to each of phrase `second` (indices of phrases)."""

    name: str
    first: int
    second: int

    def __post_init__(self) -> None:
        check_known("relation", self.name, RELATIONS)


EVENTS = (
    "falls",
    "falls onto",
    "falls into",
    "falls over",
    "rolls",
    "slides",
    "hits",
    "pushes",
    "pours",
    "bounces",
    "stays",
    "sounds",
)
TABLE_TOP, GRIPPER = -1, -2  # ends of an event that are no things, as in `Contact`


@dataclass(frozen=True)
class Event:
    """Something that happens in a motion; see `happen` for when it does.

    Attributes:
        name: of `EVENTS`.
        first: index of the phrase that does it; `GRIPPER` may push. -1 for a sound.
        second: index of the phrase it is done to, or `TABLE_TOP`; None where nothing is.
        side: `"left"` or `"right"`, of what rolls, slides or is pushed.
        material: of a sound.
    """

    name: str
    first: int = -1
    second: int | None = None
    side: str | None = None
    material: str | None = None

    def __post_init__(self) -> None:
        check_known("event", self.name, EVENTS)


@dataclass(frozen=True)
class Claim:
    """Phrases, relations between them, and of a motion what happens; its relations are those of the last frame.

    Raises ValueError for more things than a scene holds.
    """

    phrases: tuple[Phrase, ...]
    relations: tuple[Relation, ...] = ()
    events: tuple[Event, ...] = ()

    def __post_init__(self) -> None:
        count = sum(phrase.count for phrase in self.phrases)
        if not 1 <= count <= MAX_THINGS:
            raise ValueError(f"{count} things are asked for; a scene holds 1 to {MAX_THINGS}")
        for relation in self.relations:
            ends = {relation.first, relation.second}
            if len(ends) < 2 or not ends <= set(range(len(self.phrases))):
                raise ValueError(f"{relation} does not join two of {len(self.phrases)} phrases")


@dataclass(frozen=True)
class Verdict:
    """How many of a claim's facts are true, and words for what is not."""

    true: int
    total: int
    faults: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """The share of facts that are true, in [0, 1]; 1.0 exactly when there are no faults."""
        return self.true / self.total if self.total else 1.0


def pose_of(thing: Thing) -> str | None:
    """The pose of `POSES` whose limbs are nearest to a doll's; None for other kinds."""
    if not thing.limbs:
        return None
    return min(POSES, key=lambda name: sum((a - b) ** 2 for a, b in zip(POSES[name], thing.limbs, strict=True)))


def told(thing: Thing, count: int = 1) -> Phrase:
    """All that can be seen of a thing, but where it is."""
    fingers = thing.fingers if thing.kind == "hand" else None
    return Phrase(
        thing.kind, thing.colour, thing.size, word=thing.word or None, fingers=fingers, pose=pose_of(thing), count=count
    )


def resolved(claim: Claim, things: Sequence[Thing]) -> Claim:
    """The claim with its "the ball from picture 2" told in full, given the thing of each picture.

    What the words say of a thing themselves stays as it is said. Raises ValueError when there is no such picture.
    """
    phrases = []
    for phrase in claim.phrases:
        if phrase.picture is None:
            phrases.append(phrase)
            continue
        if not 1 <= phrase.picture <= len(things):
            raise ValueError(f"there is no picture {phrase.picture}; {len(things)} were given")
        seen = told(things[phrase.picture - 1])
        said = {name: getattr(phrase, name) for name in ("kind", "colour", "size", "word", "fingers", "pose")}
        phrases.append(replace(seen, **{name: value for name, value in said.items() if value is not None}))
    return replace(claim, phrases=tuple(phrases))


def relations(things: Sequence[Thing]) -> list[Relation]:
    """Every "on", "in" and "left of" that holds; the indices are those of the things."""
    pairs = list(permutations(range(len(things)), 2))
    return [Relation(name, a, b) for a, b in pairs for name in ("left of", "on", "in") if related(name, things, a, b)]


def describe(scene: Scene) -> Claim:
    """The fullest claim that is true of a scene and can be seen: each thing with all that tells it, every relation."""
    phrases = tuple(told(thing) for thing in scene.things)
    return Claim(phrases, tuple(relations(scene.things)))


def judge(claim: Claim, things: Sequence[Thing]) -> Verdict:
    """How much of a claim is true of these things, under the reading that favours it most.

    The facts, all of one weight: the kind, and where they are said the colour, size, word, raised fingers and pose of
    each thing, and each relation between two things. A material is no fact: it is heard rather than seen. Every thing
    that nobody asked for is one more fact, a false one.
    """
    things = list(things)[:MAX_THINGS]
    holds = _Holding(things)
    slots = [index for index, phrase in enumerate(claim.phrases) for _ in range(phrase.count)]
    seats: list[int | None] = [*range(len(things)), *[None] * (len(slots) - len(things))]

    def facts(seating: Seating) -> list[str | None]:
        return _facts(claim, things, holds, slots, seating)

    if max(len(slots), len(seats)) <= _TRIED:
        # The order of a set is not the same in every process, so ties go by the seating itself.
        seatings = sorted(set(permutations(seats, len(slots))), key=lambda s: tuple(-1 if i is None else i for i in s))
        best = max(map(facts, seatings), key=lambda found: found.count(None))
    else:
        best = _improved(facts, _greedy(claim, things, slots), len(things))
    return Verdict(best.count(None), len(best), tuple(dict.fromkeys(fact for fact in best if fact)))


class _Holding:
    """Which relations hold between things, each worked out once."""

    def __init__(self, things: Sequence[Thing]) -> None:
        self.things, self.known = things, dict[tuple[str, int, int], bool]()

    def __call__(self, name: str, i: int, j: int) -> bool:
        key = (name, i, j)
        if key not in self.known:
            self.known[key] = related(name, self.things, i, j)
        return self.known[key]


def _greedy(claim: Claim, things: Sequence[Thing], slots: list[int]) -> Seating:
    """Each slot in turn takes the free thing that fits its phrase best."""
    free, seating = set(range(len(things))), list[int | None]()
    for slot in slots:
        fits = {i: sum(f is None for f in _told(claim.phrases[slot], things[i])) for i in sorted(free)}
        best = max(fits, key=lambda i: fits[i], default=None)
        free.discard(-1 if best is None else best)
        seating.append(best)
    return tuple(seating)


def _improved(facts: Callable[[Seating], list[str | None]], seating: Seating, things: int) -> list[str | None]:
    """Exchange two seats, or one with a free thing, for as long as that makes more facts true."""
    best = facts(seating)
    while None in best and best.count(None) < len(best):
        free = [i for i in range(things) if i not in seating]
        others: list[Seating] = []
        for a in range(len(seating)):
            others += [(*seating[:a], i, *seating[a + 1 :]) for i in free]
            for b in range(a):
                changed = list(seating)
                changed[a], changed[b] = seating[b], seating[a]
                others.append(tuple(changed))
        found = max(((facts(other), other) for other in others), key=lambda pair: pair[0].count(None), default=None)
        if found is None or found[0].count(None) <= best.count(None):
            break
        best, seating = found
    return best


def _told(phrase: Phrase, thing: Thing | None) -> list[str | None]:
    """One entry for each thing that a phrase says: None where it is true, else what is wrong."""
    facts: list[str | None] = []
    for name in ("kind", "colour", "size", "word", "fingers", "pose"):
        wanted = getattr(phrase, name)
        if wanted is None:
            continue
        if thing is None:
            facts.append(f"a {phrase} is missing")
            continue
        found = pose_of(thing) if name == "pose" else getattr(thing, name)
        facts.append(None if found == wanted else f"a {phrase} was asked for with {name} {wanted}; it has {found}")
    return facts


def _facts(
    claim: Claim, things: Sequence[Thing], related: _Holding, slots: list[int], seating: Seating
) -> list[str | None]:
    """One entry for each fact of one reading: None where it is true, else what is wrong."""
    facts: list[str | None] = []
    for slot, seat in zip(slots, seating, strict=True):
        facts += _told(claim.phrases[slot], None if seat is None else things[seat])
    for relation in claim.relations:
        for a, b in _pairs(slots, seating, relation):
            holds = a is not None and b is not None and related(relation.name, a, b)
            first, second = claim.phrases[relation.first], claim.phrases[relation.second]
            facts.append(None if holds else f"the {first} is not {relation.name} the {second}")
    extra = [thing for index, thing in enumerate(things) if index not in seating]
    return facts + [f"nobody asked for a {thing}" for thing in extra]


def _pairs(slots: list[int], seating: Seating, relation: Relation) -> list[tuple[int | None, int | None]]:
    """The pairs of seats that a relation between two phrases speaks of."""
    ends = {relation.first, relation.second}
    both = combinations([(slot, seat) for slot, seat in zip(slots, seating, strict=True) if slot in ends], 2)
    return [(a[1], b[1]) if a[0] == relation.first else (b[1], a[1]) for a, b in both if a[0] != b[0]]
