"""What a checker says: how much of what was asked is there, and in words what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .scene import COLOURS, TONES

MIN_READ_SIZE = 24  # pixels: below this, half of the small things cannot be told apart


@dataclass(frozen=True)
class Fault:
    """Something that cannot be, and how far it goes.

    Attributes:
        kind: `"overlap"`, `"unsupported"`, or another short name of a checker's own.
        things: indices into what was read; of an overlap two, -1 being the table.
        pixels: how deep, how wide or how far, in pixels of the picture given.
        text: the fault in words.
    """

    kind: str
    things: tuple[int, ...]
    pixels: float
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Score:
    """The result of a check.

    Attributes:
        value: in [0, 1]; 1 is without fault.
        faults: what is wrong, in words; empty only if nothing is.
        facts: what was measured, by name.

    Raises:
        ValueError: for a value outside [0, 1].
    """

    value: float
    faults: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0.0 <= self.value <= 1.0:
            raise ValueError(f"a score is {self.value}; it lies in [0, 1]")


def tally(checks: Sequence[tuple[bool, str]], facts: Mapping[str, object] | None = None) -> Score:
    """The score of `(is it right, what to say if not)`: the share that is right, 1 for no checks at all."""
    faults = tuple(text for right, text in checks if not right)
    return Score(1 - len(faults) / max(len(checks), 1), faults, dict(facts or {}))


def check_picture(picture: np.ndarray, least: int = MIN_READ_SIZE) -> None:
    """Raise ValueError unless it is a square RGB picture, uint8 (size, size, 3), of at least `least` pixels a side."""
    if not isinstance(picture, np.ndarray):
        raise ValueError(f"a picture is a uint8 array (size, size, 3), not {type(picture).__name__}")
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[0] != picture.shape[1] or picture.shape[2] != 3:
        raise ValueError(f"a picture is uint8 (size, size, 3), not {picture.dtype} {picture.shape}")
    if picture.shape[0] < least:
        raise ValueError(f"a picture of {picture.shape[0]} pixels is too small to read; choose {least} or more")


def check_read(colours: Iterable[str | None]) -> None:
    """Raise ValueError for one of `TONES`: pictures are read in eight colours, and not all they show are told."""
    for colour in colours:
        if colour in TONES:
            raise ValueError(
                f"{colour!r} is read where all colours are told, as of captions; here ask for {', '.join(COLOURS)}"
            )
