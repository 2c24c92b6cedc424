"""What the page of a model shows: things it made beside true ones and beside what needs no understanding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ALONE = "Emoji, by a model of emoji alone"  # the room of another model
MADE, TRUE, FLOOR, GIVEN = "made", "true", "floor", "given"


@dataclass(frozen=True)
class Verdict:
    """What a checker says: a share in [0, 1] (None where it counts something else), that in words, and the faults."""

    value: float | None
    said: str
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Piece:
    """One thing to look at or to listen to.

    Attributes:
        role: `MADE`, `TRUE`, `FLOOR` or `GIVEN`.
        name: as a reader should see it.
        picture: uint8 `(H, W, 3)`.
        clip: uint8 `(f, H, W, 3)` at `fps` frames a second.
        sound: float32 `(samples,)` in [-1, 1] at `rate` a second.
        verdict: of a checker; None where there is none.
    """

    role: str
    name: str
    picture: np.ndarray | None = None
    clip: np.ndarray | None = None
    fps: float = 0.0
    sound: np.ndarray | None = None
    rate: int = 0
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Exhibit:
    """What was asked, what was given, and what came of it."""

    asked: str
    pieces: Sequence[Piece]
    given: Sequence[Piece] = ()


@dataclass(frozen=True)
class Room:
    """A task with its exhibits.

    Attributes:
        name: of the heading; `about`: a sentence or two.
        measure: what the share in a verdict counts, such as "facts right"; empty where nothing is counted.
        floor: what the floor is.
        seconds: spent making them.
        missing: why there are none.
    """

    name: str
    about: str
    exhibits: Sequence[Exhibit] = ()
    measure: str = ""
    floor: str = ""
    seconds: float = 0.0
    missing: str = ""

    def share(self, role: str) -> float | None:
        """The mean share of the pieces of a role; None where nothing is counted."""
        found = [
            p.verdict.value
            for e in self.exhibits
            for p in e.pieces
            if p.role == role and p.verdict is not None and p.verdict.value is not None
        ]
        return float(np.mean(found)) if found else None


@dataclass(frozen=True)
class House:
    """Everything: the rooms, and what is to be said of the model.

    Attributes:
        name, parameters, size: of the model, and of its pictures, in pixels a side.
        rooms: in order.
        seconds: that the page took.
        licence: of the weights.
        licences: rows of name, licence and attribution.
        trainings: see `selfflow.release.training`.
        evaluation: what `selfflow evaluate --json` wrote, where there is any.
    """

    name: str
    parameters: int
    size: int
    rooms: Sequence[Room]
    seconds: float
    licence: str = ""
    licences: Sequence[tuple[str, str, str]] = ()
    trainings: Sequence[Mapping[str, Any]] = ()
    evaluation: Mapping[str, Any] = field(default_factory=dict)
