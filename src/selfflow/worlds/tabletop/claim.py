"""What a caption asserts, and whether things on a table make it true.

A claim speaks of the whole picture: the things it names are all the things there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations

from .scene import COLOURS, KINDS, MAX_THINGS, SIZES, Scene, Thing, check_known

RELATIONS = ("left of", "on", "beside")
_MOST_SEEN = 7  # more shapes than this are clutter; the largest come first and are enough to judge by


@dataclass(frozen=True)
class Phrase:
    """`count` things of one kind, and of one colour and one size where those are said."""

    kind: str
    colour: str | None = None
    size: str | None = None
    count: int = 1

    def __post_init__(self) -> None:
        check_known("kind", self.kind, KINDS)
        if self.colour is not None:
            check_known("colour", self.colour, tuple(COLOURS))
        if self.size is not None:
            check_known("size", self.size, tuple(SIZES))
        if not 1 <= self.count <= MAX_THINGS:
            raise ValueError(f"{self.count} things of a kind; choose 1 to {MAX_THINGS}")

    def __str__(self) -> str:
        return " ".join(word for word in (self.size, self.colour, self.kind) if word is not None)


@dataclass(frozen=True)
class Relation:
    """Every thing of phrase `first` is left of, on, or beside every thing of phrase `second` (indices of phrases)."""

    name: str
    first: int
    second: int

    def __post_init__(self) -> None:
        check_known("relation", self.name, RELATIONS)


@dataclass(frozen=True)
class Claim:
    """Phrases and relations between them. Raises ValueError for more things than a scene holds."""

    phrases: tuple[Phrase, ...]
    relations: tuple[Relation, ...] = ()

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
        return self.true / self.total


def root(things: Sequence[Thing], index: int) -> int:
    """The thing on the table that carries a thing: itself, or the box it stands on."""
    on = things[index].on
    return index if on is None else on


def related(name: str, things: Sequence[Thing], first: int, second: int) -> bool:
    """Whether a relation holds between two things.

    A stack is one column, placed where its box is: its things are neither left nor right of one another. Beside means
    in two columns with no other between them.
    """
    if name == "on":
        return things[first].on == second
    a, b = root(things, first), root(things, second)
    if name == "left of":
        return a != b and things[a].x < things[b].x
    low, high = sorted((things[a].x, things[b].x))
    roots = {root(things, index) for index in range(len(things))}
    return a != b and not any(low < things[other].x < high for other in roots - {a, b})


def relations(things: Sequence[Thing]) -> list[Relation]:
    """Every "left of" and "on" that holds; the indices are those of the things."""
    pairs = permutations(range(len(things)), 2)
    return [Relation(name, a, b) for a, b in pairs for name in ("left of", "on") if related(name, things, a, b)]


def describe(scene: Scene) -> Claim:
    """The fullest claim that is true of a scene: each thing with its size, and every relation (not where exactly)."""
    phrases = tuple(Phrase(thing.kind, thing.colour, thing.size) for thing in scene.things)
    return Claim(phrases, tuple(relations(scene.things)))


def judge(claim: Claim, things: Sequence[Thing]) -> Verdict:
    """How much of a claim is true of these things, under the reading that favours it most.

    The facts, all of one weight: the kind, and where they are said the colour and the size, of each thing, and each
    relation between two things. Every thing that nobody asked for is one more fact, a false one.
    """
    # What stood on one of those left out stands on nothing that is judged.
    things = [
        replace(thing, on=None) if thing.on is not None and thing.on >= _MOST_SEEN else thing
        for thing in things[:_MOST_SEEN]
    ]
    slots = [index for index, phrase in enumerate(claim.phrases) for _ in range(phrase.count)]
    seats: list[int | None] = [*range(len(things)), *[None] * (len(slots) - len(things))]
    readings = (_facts(claim, things, slots, seating) for seating in permutations(seats, len(slots)))
    facts = max(readings, key=lambda facts: facts.count(None))
    faults = tuple(dict.fromkeys(fact for fact in facts if fact))
    return Verdict(facts.count(None), len(facts), faults)


def _facts(
    claim: Claim, things: Sequence[Thing], slots: list[int], seating: tuple[int | None, ...]
) -> list[str | None]:
    """One entry for each fact of one reading: None where it is true, else what is wrong."""
    facts: list[str | None] = []
    for slot, seat in zip(slots, seating, strict=True):
        phrase = claim.phrases[slot]
        thing = None if seat is None else things[seat]
        for name in ("kind", "colour", "size"):
            wanted = getattr(phrase, name)
            if wanted is None:
                continue
            if thing is None:
                facts.append(f"a {phrase} is missing")
            elif getattr(thing, name) != wanted:
                facts.append(f"a {phrase} was asked for; its {name} is {getattr(thing, name)}")
            else:
                facts.append(None)
    for relation in claim.relations:
        for a, b in _pairs(slots, seating, relation):
            holds = a is not None and b is not None and related(relation.name, things, a, b)
            first, second = claim.phrases[relation.first], claim.phrases[relation.second]
            facts.append(None if holds else f"the {first} is not {relation.name} the {second}")
    extra = [thing for index, thing in enumerate(things) if index not in seating]
    return facts + [f"nobody asked for a {thing}" for thing in extra]


def _pairs(
    slots: list[int], seating: tuple[int | None, ...], relation: Relation
) -> list[tuple[int | None, int | None]]:
    """The pairs of seats that a relation between two phrases speaks of."""
    ends = {relation.first, relation.second}
    both = combinations([(slot, seat) for slot, seat in zip(slots, seating, strict=True) if slot in ends], 2)
    return [(a[1], b[1]) if a[0] == relation.first else (b[1], a[1]) for a, b in both if a[0] != b[0]]
