"""Motion -> caption -> claim: what truly happens, told in one sentence, and read back.

    motion   = clause { ("," | "and" | ", and") clause } [ sound ] [ others ]
    clause   = [ subject | ", which" ] doing       without a subject, the last one goes on; "which" is the last target
    subject  = thing { ("," | "and" | ", and") thing } | "the gripper"
    thing    = phrase | "the" [colour] kind        the latter is one that has been spoken of
    doing    = ("drops" | "falls") "onto" target | "lands on" target | ("drops" | "falls") "into" target
             | "pours" thing { ("," | "and" | ", and") thing } "into" target
             | "rolls" way | "slides" way | ("hits" | "bumps into" | "strikes") target | "pushes" target way
             | "bounces" | "falls over" | "topples" | "falls down" | "tumbles" | "stays there"
    way      = "to the" ("left" | "right")         target = thing | "the table" | "it"
    sound    = "with a" noise { "and a" noise } | "without a sound"
    noise    = "rubber thud" | "dull thud" | "wooden knock" | "metal clink" | "metallic clang" | "glass ting"
             | "glassy ring"
    others   = "while" subject ("stands by" | "stand by") | "near" subject   the latter says only that they are there

With more than one subject verbs stand in the plural ("two" are never counted: no two things of a motion look alike).
"Stays there" says that in the end it is on, or in, what it fell onto. A noise is the sound of a material.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .claim import GRIPPER, TABLE_TOP, Claim, Event, Phrase, Relation
from .happen import HEARD, Course
from .nouns import COUNT_WORDS, Reader, phrase
from .relations import in_, on
from .scene import Motion, pick

# How each event is said, of one and of several.
DOINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "falls onto": (("drops onto", "drop onto"), ("falls onto", "fall onto"), ("lands on", "land on")),
    "falls into": (("drops into", "drop into"), ("falls into", "fall into")),
    "falls over": (("falls over", "fall over"), ("topples", "topple")),
    "falls": (("falls down", "fall down"), ("tumbles", "tumble")),
    "rolls": (("rolls", "roll"),),
    "slides": (("slides", "slide"),),
    "hits": (("hits", "hit"), ("bumps into", "bump into"), ("strikes", "strike")),
    "pushes": (("pushes", "push"),),
    "pours": (("pours", "pour"),),
    "bounces": (("bounces", "bounce"),),
    "stays there": (("stays there", "stay there"),),
}
NOISES = {
    "rubber": ("rubber thud", "dull thud"),
    "wood": ("wooden knock",),
    "metal": ("metal clink", "metallic clang"),
    "glass": ("glass ting", "glassy ring"),
}
SILENT = "without a sound"
WAYS = {"left": "to the left", "right": "to the right"}
STANDS = ("stands by", "stand by")
_DOING_OF = {way: name for name, ways in DOINGS.items() for pair in ways for way in pair}
_NOISE_OF = {way: material for material, ways in NOISES.items() for way in ways}
_TO_SOMETHING = ("falls onto", "falls into", "hits", "pushes")
_ASIDE = ("rolls", "slides", "pushes")
_JOINTS = (", and", "and", ",")

_OTHERS = ", which the gripper table it with a while near and"
MOTION_WORDS = frozenset(
    word for text in (*_DOING_OF, *_NOISE_OF, *WAYS.values(), *STANDS, SILENT, _OTHERS) for word in text.split()
)
_TELLING = frozenset(way.split()[0] for way in _DOING_OF)


# ------------------------------------------------------------------------------------------------------------- speaking


def caption_motion(motion: Motion, rng: np.random.Generator) -> str:
    """One of the ways to say what happens in a motion, in what order, and with which sound: only what is true of it.

    Every thing is named. Raises ValueError for a motion without things.
    """
    if not motion.frames or not motion.frames[0].things:
        raise ValueError("nothing can be told of a motion without things")
    return _Teller(motion, rng).text()


class _Teller:
    def __init__(self, motion: Motion, rng: np.random.Generator) -> None:
        self.course, self.rng = Course(motion), rng
        self.things = self.course.first
        self.spoken: set[int] = set()
        self.clauses: list[str] = []
        self.told: set[int] = set()  # things that have been a subject

    def text(self) -> str:
        course, rng = self.course, self.rng
        movers = [i for i in range(len(self.things)) if self._main(i) is not None]
        movers.sort(key=lambda i: (course.began(i), -abs(course.way(i)) - course.fall(i)))
        pushed = [i for i in movers if any(True for _ in course.meetings(i, GRIPPER)) and course.side(i)]
        if pushed:
            i = pushed[0]
            self.clauses.append(f"the gripper pushes {self._name(i)} {WAYS[course.side(i) or '']}")
            self.told.add(i)
        for i in movers:
            self._pouring(i, movers)
        for i in movers:
            if i not in self.told:
                self._clause(i, movers)
        text = ", and ".join(self.clauses)
        if text and rng.random() < 0.6:
            text += f" {self._sound()}"
        others = [i for i in range(len(self.things)) if i not in self.spoken]
        still = [self._name(i) for i in others if course.happens("stays", i)]
        near = [self._name(i) for i in others if not course.happens("stays", i)]
        if still:
            stand = f"{_listed(still)} {STANDS[len(still) > 1]}"
            text = f"{text} while {stand}" if self.clauses else stand
        # Told as a still, in the odd case that nothing is worth telling and nothing is quite at rest.
        return f"{text} near {_listed(near)}" if near and text else text or _listed(near)

    def _main(self, i: int) -> tuple[str, int | None] | None:
        """What a thing chiefly does: the name of the event, and to what. None where it does nothing worth telling."""
        course, n = self.course, range(len(self.things))
        hollow = [j for j in n if j != i and self.things[j].kind in ("cup", "glass")]
        vessels = [j for j in hollow if course.happens("falls into", i, j)]
        if vessels:
            return "falls into", vessels[0]
        if course.happens("falls over", i):
            return "falls over", None
        landing = next((other for _, other, _ in course.landings(i) if other >= TABLE_TOP), None)
        if landing is not None and abs(course.way(i)) < course.fall(i):
            return "falls onto", landing
        if course.side(i):
            return ("rolls" if self.things[i].kind == "ball" else "slides"), None
        if landing is not None:
            return "falls onto", landing
        return ("falls", None) if course.happens("falls", i) else None

    def _pouring(self, i: int, movers: Sequence[int]) -> None:
        """Say of a cup or glass that is tipped what it pours into another."""
        poured = {k: self._main(k) for k in movers if self.course.happens("pours", i, k)}
        for vessel in sorted({main[1] for main in poured.values() if main and main[0] == "falls into" and main[1]}):
            what = [k for k, main in poured.items() if main == ("falls into", vessel)]
            names = self._name(i), _listed([self._name(k) for k in what])
            self.clauses.append(f"{names[0]} {DOINGS['pours'][0][0]} {names[1]} into {self._target(vessel)}")
            self.told |= {i, *what}

    def _clause(self, i: int, movers: Sequence[int]) -> None:
        course, rng = self.course, self.rng
        name, j = self._main(i) or ("falls", None)
        group = [i]
        if name in ("falls into", "falls over", "falls"):
            group += [k for k in movers if k not in self.told and k != i and self._main(k) == (name, j)]
        self.told |= set(group)
        many = len(group) > 1
        doing = pick(rng, DOINGS[name])[many]
        text = f"{_listed([self._name(k) for k in group])} {doing}"
        if j is not None:
            text += f" {self._target(j)}"
        if name in ("rolls", "slides"):
            text += f" {WAYS[course.side(i) or '']}"
            struck = None if many else self._struck(i)
            if struck is not None:
                target = self._name(struck)
                if course.side(struck) == course.side(i) and struck not in self.told and rng.random() < 0.5:
                    text += f" and pushes {target} {WAYS[course.side(i) or '']}"
                    if not course.happens("falls over", struck):
                        self.told.add(struck)
                else:
                    text += f" and {pick(rng, DOINGS['hits'])[0]} {target}"
                if course.happens("falls over", struck) and struck not in self.told and rng.random() < 0.6:
                    text += f", which {pick(rng, DOINGS['falls over'])[0]}"
                    self.told.add(struck)
        if name == "falls onto" and not many:
            stays = j is not None and j >= 0 and (on(course.last, i, j) or in_(course.last, i, j))
            if course.happens("bounces", i) and rng.random() < 0.8:
                text += " and bounces"
            elif stays and rng.random() < 0.7:
                text += " and stays there"
        self.clauses.append(text)

    def _struck(self, i: int) -> int | None:
        """The first thing that a mover hits, which lay still before."""
        for contact, other in self.course.meetings(i):
            if other >= 0 and contact.speed >= 0.3 and self.course.began(other) >= self.course.began(i):
                return other
        return None

    def _name(self, i: int) -> str:
        if i in self.spoken:
            return f"the {self.things[i].colour} {self.things[i].kind}"
        self.spoken.add(i)
        return phrase(self.things[i], self.rng)

    def _target(self, j: int) -> str:
        return "the table" if j == TABLE_TOP else self._name(j)

    def _sound(self) -> str:
        heard = self.course.heard
        if not heard:
            return SILENT
        loud = sorted((m for m in heard if heard[m] >= HEARD), key=lambda m: (-heard[m], m))[:2]
        if self.rng.random() < 0.5:
            loud = loud[:1]
        return "with " + " and ".join(f"a {pick(self.rng, NOISES[material])}" for material in loud)


def _listed(names: Sequence[str]) -> str:
    if len(names) < 3:
        return " and ".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


# -------------------------------------------------------------------------------------------------------------- reading


def tells_motion(reader: Reader) -> bool:
    """Whether a text tells what happens rather than how things stand."""
    return any(word.lower() in _TELLING | {"stands", "stand"} for word in reader.words)


def parse_motion(reader: Reader) -> Claim:
    """What a caption of a motion asserts. Raises ValueError as `language.parse` does."""
    story = _Story(reader)
    story.read()
    return Claim(tuple(story.phrases), tuple(story.relations), tuple(story.events))


class _Story:
    """A sentence about a motion that is being read."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.phrases: list[Phrase] = []
        self.relations: list[Relation] = []
        self.events: list[Event] = []
        self.subject: list[int] = []
        self.target: int | None = None

    def read(self) -> None:
        reader = self.reader
        self.subject = self._subject()
        if reader.take(STANDS):
            self.events += [Event("stays", i) for i in self.subject]
        else:
            self._doing()
        while reader.words:
            if reader.take((", which",)):
                if self.target is None:
                    raise ValueError(f"cannot read 'which' in {reader.text!r}: nothing before it that it could be")
                self.subject = [self.target]
                self._doing()
            elif reader.take((SILENT,)):
                self.events.append(Event("sounds"))
            elif reader.take(("with",)):
                self._sound()
            elif reader.take(("near",)):
                self._near()
            elif reader.take(("while",)):
                others = self._subject()
                if reader.take(STANDS) is None:
                    raise reader.error("'stands by' or 'stand by'")
                self.events += [Event("stays", i) for i in others]
            elif reader.take(_JOINTS):
                if not reader.next_is(tuple(_DOING_OF)):
                    self.subject = self._subject()
                self._doing()
            else:
                raise reader.error("one of: 'and', ', which', 'with', 'without a sound', 'while', 'near'")

    def _near(self) -> None:
        self._thing()
        while self.reader.take(_JOINTS):
            self._thing()

    def _subject(self) -> list[int]:
        if self.reader.take(("the gripper",)):
            return [GRIPPER]
        things = [self._thing()]
        while not self.reader.next_is((*_DOING_OF, *STANDS)):
            if self.reader.take(_JOINTS) is None:
                raise self.reader.error(f"what it does: {', '.join(map(repr, _DOING_OF))}")
            things.append(self._thing())
        return things

    def _thing(self) -> int:
        if self.reader.take(("the",)):
            said = self.reader.described()
            known = [i for i, p in enumerate(self.phrases) if p.kind == said.kind and said.colour in (None, p.colour)]
            if len(known) != 1:
                fault = "nothing before it is" if not known else "several before it are"
                raise ValueError(f"cannot read 'the {said}' in {self.reader.text!r}: {fault} a {said}")
            return known[0]
        if not self.reader.next_is(tuple(COUNT_WORDS)):
            raise self.reader.error("a thing, such as 'a red ball', or 'the gripper'")
        self.phrases.append(self.reader.phrase())
        return len(self.phrases) - 1

    def _doing(self) -> None:
        reader = self.reader
        said = reader.take(sorted(_DOING_OF, key=len, reverse=True))
        if said is None:
            raise reader.error(f"what it does: {', '.join(map(repr, _DOING_OF))}")
        name = _DOING_OF[said]
        if name == "stays there":
            self._stays_there()
            return
        if name == "pours":
            self._pours()
            return
        second: int | None = None
        if name in _TO_SOMETHING:
            if reader.take(("the table",)):
                second = TABLE_TOP
            elif reader.take(("it",)):
                second = self.target
            else:
                second = self._thing()
            self.target = second if second is not None and second >= 0 else self.target
        side = None
        if name in _ASIDE:
            way = reader.take(tuple(WAYS.values()))
            if way is None:
                raise reader.error("'to the left' or 'to the right'")
            side = way.split()[-1]
        if GRIPPER in self.subject and name != "pushes":
            raise ValueError(f"cannot read {said!r} in {reader.text!r}: the gripper only pushes")
        self.events += [Event(name, i, second, side) for i in self.subject]

    def _pours(self) -> None:
        reader = self.reader
        what = [self._thing()]
        while reader.take(("into",)) is None:
            if reader.take(_JOINTS) is None:
                raise reader.error("'into' and a cup or glass")
            what.append(self._thing())
        self.target = self._thing()
        self.events += [Event("pours", i, k) for i in self.subject for k in what]
        self.events += [Event("falls into", k, self.target) for k in what]

    def _stays_there(self) -> None:
        onto = ("falls onto", "falls into")
        fallen = [event for event in self.events if event.name in onto and event.second is not None]
        if not fallen:
            raise ValueError(f"cannot read 'stays there' in {self.reader.text!r}: it has not fallen onto anything")
        last = fallen[-1]
        if last.second is not None and last.second >= 0:
            # What fell onto the rim of a cup and stays stands on it: it would else have fallen into it.
            name = "in" if last.name == "falls into" else "on"
            self.relations += [Relation(name, i, last.second) for i in self.subject]

    def _sound(self) -> None:
        reader = self.reader
        while True:
            reader.take(("a",))
            noise = reader.take(tuple(_NOISE_OF))
            if noise is None:
                raise reader.error(f"a sound: {', '.join(_NOISE_OF)}")
            self.events.append(Event("sounds", material=_NOISE_OF[noise]))
            if not reader.next_is(tuple(f"and a {way}" for way in _NOISE_OF)):
                return
            reader.take(("and",))
