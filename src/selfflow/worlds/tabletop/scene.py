"""What is on the table: things, where they are, and a scene of up to ten of them.

Units are SI, and the picture is a window 1 m wide and 1 m high: x runs from 0 (left) to 1 (right), y from 0 (bottom) to
1 (top), angles are radians, counter-clockwise. Things rest on the table top at y = `TABLE`. At 64 pixels a pixel is
15.6 mm; nothing else in the world knows about pixels.

A scene is data and may show anything, also what cannot be: things inside one another, things on nothing. Whether it
can be is a question for `physics` and for the checkers.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

KINDS = ("ball", "box", "cup", "glass", "plate", "book", "sign", "doll", "hand")
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (208, 30, 40),
    "orange": (250, 134, 18),
    "yellow": (252, 222, 48),
    "green": (46, 150, 66),
    "cyan": (60, 204, 218),
    "blue": (34, 78, 204),
    "purple": (124, 48, 168),
    "pink": (250, 128, 190),
}
# More colours, which things have where `tones` paints them; nothing else draws them. Read where captions tell them.
TONES: dict[str, tuple[int, int, int]] = {
    "white": (244, 244, 240),
    "grey": (128, 130, 134),
    "black": (28, 28, 32),
    "brown": (110, 62, 28),
    "coral": (255, 120, 96),
    "gold": (206, 158, 24),
    "lime": (160, 222, 44),
    "turquoise": (30, 180, 160),
    "violet": (150, 108, 240),
    "magenta": (216, 24, 150),
    **{f"light {name}": (r + 255 >> 1, g + 255 >> 1, b + 255 >> 1) for name, (r, g, b) in COLOURS.items()},
    **{f"dark {name}": (r * 5 // 9, g * 5 // 9, b * 5 // 9) for name, (r, g, b) in COLOURS.items()},
}
PAINTS = COLOURS | TONES
# Metres, before a kind's own proportions (see `geometry`): a ball's diameter, a box's side.
SIZES: dict[str, float] = {"small": 0.15, "medium": 0.23, "large": 0.34}
MATERIALS = ("rubber", "wood", "glass", "metal")
# What each kind may be made of; the first is its usual material, and captions leave it unsaid.
MADE_OF: dict[str, tuple[str, ...]] = {
    "ball": ("rubber", "wood", "glass", "metal"),
    "box": ("wood", "metal", "rubber"),
    "cup": ("metal", "wood", "rubber"),
    "glass": ("glass",),
    "plate": ("metal", "wood", "glass"),
    "book": ("wood",),
    "sign": ("wood",),
    "doll": ("wood",),
    "hand": ("rubber",),
}
# Angles of left arm, right arm, left leg, right leg (the viewer's left), from straight down, outwards positive.
POSES: dict[str, tuple[float, float, float, float]] = {
    "standing": (0.45, 0.45, 0.25, 0.25),
    "arms out": (1.57, 1.57, 0.25, 0.25),
    "arms up": (2.65, 2.65, 0.25, 0.25),
    "left arm up": (2.65, 0.45, 0.25, 0.25),
    "right arm up": (0.45, 2.65, 0.25, 0.25),
    "legs apart": (0.45, 0.45, 0.75, 0.75),
}
WORDS = (
    "GO",
    "UP",
    "ON",
    "HI",
    "CAT",
    "DOG",
    "SUN",
    "TEA",
    "BUS",
    "RED",
    "BOOK",
    "FISH",
    "MILK",
    "STOP",
    "OPEN",
    "HOME",
)
MAX_FINGERS = 5
MAX_THINGS = 10
MAX_WORD = 6

GRAVITY = 9.81  # m/s²
TABLE = 0.16  # height of the table top, m
MARGIN = 0.015  # free space that drawn scenes keep at the left, right and top of the picture, m
GAP = 0.04  # free space between neighbours that do not touch, m: 2.6 pixels at 64
FPS = 20  # frames a second of clips
FRAMES = 16  # of a clip, unless asked otherwise
CONTROL_HZ = 10  # actions a second
PHYSICS_HZ = 480  # steps a second of the simulation: 24 a frame, 48 a control step
SOUND_HZ = 16_000  # samples a second

T = TypeVar("T")


def check_known(what: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    if value not in choices:
        raise ValueError(f"unknown {what} {value!r}; choose one of {', '.join(choices)}")


def check_fps(fps: float) -> None:
    """Raise ValueError unless a clip may have that many frames a second."""
    if not isinstance(fps, int | float | np.number) or not 0.0 < fps < np.inf:
        raise ValueError(f"{fps!r} frames a second; choose a positive number")


def check_seed(seed: int) -> None:
    """Raise ValueError unless random numbers may begin with that."""
    if not isinstance(seed, int | np.integer):
        raise ValueError(f"seed {seed!r} is no whole number; choose 0 or more")
    if seed < 0:
        raise ValueError(f"seed {seed} is negative; choose 0 or more")


def check_frames(frames: int) -> None:
    """Raise ValueError unless a motion may have that many frames."""
    if not isinstance(frames, int | np.integer) or frames < 1:
        raise ValueError(f"a motion of {frames!r} frames; choose a whole number, 1 or more")


@dataclass(frozen=True)
class Thing:
    """One thing and its pose.

    Attributes:
        kind, colour, size, material: of `KINDS`, `PAINTS`, `SIZES`, `MATERIALS` (empty: the kind's usual one).
        x, y: metres, of the origin of its `geometry` (the middle of a ball or box).
        angle: radians, counter-clockwise.
        word: 1 to 6 letters A-Z on a sign, empty otherwise.
        fingers: raised on a hand, 0 to 5; 0 for other kinds.
        limbs: of a doll, the four angles of `POSES`; empty otherwise (and then a doll stands).

    Raises:
        ValueError: naming the first attribute that is unknown, not finite, or does not belong to the kind.
    """

    kind: str
    colour: str
    size: str = "medium"
    x: float = 0.5
    y: float = TABLE
    angle: float = 0.0
    material: str = ""
    word: str = ""
    fingers: int = 0
    limbs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_known("kind", self.kind, KINDS)
        check_known("colour", self.colour, tuple(PAINTS))
        check_known("size", self.size, tuple(SIZES))
        if not self.material:
            object.__setattr__(self, "material", MADE_OF[self.kind][0])
        check_known(f"material of a {self.kind}", self.material, MADE_OF[self.kind])
        if not all(math.isfinite(v) and abs(v) < 100 for v in (self.x, self.y, self.angle, *self.limbs)):
            raise ValueError(f"the pose of {self} is x {self.x}, y {self.y}, angle {self.angle}; it must be finite")
        if self.kind == "sign":
            if not (
                1 <= len(self.word) <= MAX_WORD and self.word.isascii() and self.word.isalpha() and self.word.isupper()
            ):
                raise ValueError(f"a sign says {self.word!r}; it needs a word of 1 to {MAX_WORD} letters A-Z")
        elif self.word:
            raise ValueError(f"a {self.kind} cannot say {self.word!r}; only a sign has a word")
        if not 0 <= self.fingers <= (MAX_FINGERS if self.kind == "hand" else 0):
            raise ValueError(f"a {self.kind} with {self.fingers} fingers; a hand raises 0 to {MAX_FINGERS}, others 0")
        if self.kind == "doll" and not self.limbs:
            object.__setattr__(self, "limbs", POSES["standing"])
        if len(self.limbs) != (4 if self.kind == "doll" else 0):
            raise ValueError(f"a {self.kind} has {len(self.limbs)} limb angles; a doll has 4, others none")

    @property
    def extent(self) -> float:
        """The size in metres."""
        return SIZES[self.size]

    def at(self, x: float, y: float, angle: float | None = None) -> Thing:
        """The same thing elsewhere."""
        return replace(self, x=x, y=y, angle=self.angle if angle is None else angle)

    def __str__(self) -> str:
        return f"{self.size} {self.colour} {self.kind}"


@dataclass(frozen=True)
class Gripper:
    """A two-finger gripper on a gantry.

    Attributes:
        x: of its middle, m, in [0.05, 0.95].
        y: of its finger tips, m, in [TABLE, 0.9].
        opening: distance between the fingers, m, in [0, 0.36].
    """

    x: float = 0.5
    y: float = 0.8
    opening: float = 0.36

    LOW = (0.05, TABLE, 0.0)
    HIGH = (0.95, 0.9, 0.36)

    def __post_init__(self) -> None:
        for name, low, high in zip(("x", "y", "opening"), self.LOW, self.HIGH, strict=True):
            value = getattr(self, name)
            if not low - 1e-6 <= value <= high + 1e-6:
                raise ValueError(f"the gripper's {name} is {value}; it lies in [{low}, {high}] m")


@dataclass(frozen=True)
class Scene:
    """Things, drawn in order (the last in front), the shades of wall and wood in [-1, 1], and perhaps a gripper."""

    things: tuple[Thing, ...] = ()
    wall: float = 0.0
    wood: float = 0.0
    gripper: Gripper | None = None

    def __post_init__(self) -> None:
        if len(self.things) > MAX_THINGS:
            raise ValueError(f"a scene holds 0 to {MAX_THINGS} things, not {len(self.things)}")
        for name, shade in (("wall", self.wall), ("wood", self.wood)):
            if not -1.0 <= shade <= 1.0:
                raise ValueError(f"the shade of the {name} is {shade}; choose -1 to 1")

    def having(self, index: int, thing: Thing) -> Scene:
        """The scene with another thing in place of one."""
        things = list(self.things)
        things[index] = thing
        return replace(self, things=tuple(things))


@dataclass(frozen=True)
class Contact:
    """Two solids meeting.

    Attributes:
        time: seconds from the first frame.
        first, second: indices of things; -1 is the table, -2 the gripper, -3 the side walls out of sight.
        impulse: N·s.
        speed: of approach along the normal, m/s.
        x, y: where, m.
    """

    time: float
    first: int
    second: int
    impulse: float
    speed: float
    x: float
    y: float


@dataclass(frozen=True)
class Motion:
    """What happens over time: one scene a frame, the contacts, and, if a gripper acts, its control steps.

    Attributes:
        name: `"drop"`, `"roll"`, `"stack"`, `"topple"`, `"pour"`, `"push"`, or of a robot task.
        frames: `FPS` scenes a second of the same things; only poses and the gripper change.
        contacts: in order of time.
        actions: `(k, 3)` float64 at `CONTROL_HZ`: target x, y, opening for the next step; `(0, 3)` without a gripper.
        states: `(k, 3)` float64: x, y, opening of the gripper when that action is chosen.
    """

    name: str
    frames: tuple[Scene, ...]
    contacts: tuple[Contact, ...] = ()
    actions: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)), compare=False)
    states: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)), compare=False)

    @property
    def seconds(self) -> float:
        return len(self.frames) / FPS


def generator(*seed: int) -> np.random.Generator:
    """The random numbers of this world: PCG64 from one or more integers. Raises ValueError for what is no such seed."""
    for part in seed:
        check_seed(part)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([operator.index(part) for part in seed])))


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, evenly.

    Everything random in this world is made of `rng.random()`: numpy promises that stream, but not that of `choice`.
    """
    return options[int(rng.random() * len(options))]


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number in [low, high), evenly."""
    return low + (high - low) * rng.random()
