"""Actions and states as tokens: one for each control step, scaled by quantiles that are saved with the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.nn.transformer import Modality, Prediction
from selfflow.shapes import Float
from selfflow.tokens import AXES, Tokens

# Normalised values are cut off here: what lies further out than a quarter of the usual range beyond it is an accident.
BOUND = 1.5


@dataclass(frozen=True)
class Actions:
    """Vectors in, one token a control step out, filled with zeros to `width` so that bodies of any build share a layer.

    Attributes:
        width: most values of a step.
        name: `"action"`, or `"state"` for what a body feels.
        prediction: what the network predicts of a token; None where it is only ever known.
    """

    width: int = 8
    name: str = "action"
    prediction: Prediction | None = "data"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width {self.width} must be at least 1")

    @property
    def modality(self) -> Modality:
        return Modality(channels=self.width, prediction=self.prediction)

    def tokens(self, values: Float[Tensor, "b k a"], hz: float, start: float = 0.0) -> Tokens:
        """Normalised values to tokens `(b, k, width)`; step j is at `start + j / hz` seconds.

        Raises:
            ValueError: for another shape, more values than `width`, or `hz` not above 0.
        """
        if values.ndim != 3 or 0 in values.shape or values.shape[2] > self.width:
            raise ValueError(
                f"{self.name} values are (b, steps, values) with at most {self.width} values, got {tuple(values.shape)}"
            )
        if not (hz > 0 and math.isfinite(hz)):
            raise ValueError(f"hz is {hz}; {self.name} tokens need a finite number of steps a second, above 0")
        b, k, a = values.shape
        places = torch.zeros(k, len(AXES), device=values.device)
        places[:, 0] = start + torch.arange(k, device=values.device) / hz
        return Tokens(F.pad(values, (0, self.width - a)), places.expand(b, -1, -1), self.name)

    def values(self, data: Float[Tensor, "b k c"], a: int) -> Float[Tensor, "b k a"]:
        """The inverse of `tokens`: the first `a` values of each step.

        Raises:
            ValueError: when the data has another width, or `a` is none of it.
        """
        if data.ndim != 3 or data.shape[2] != self.width or not 1 <= a <= self.width:
            raise ValueError(
                f"{a} values were asked of {self.name} data of shape {tuple(data.shape)}; "
                f"it must be (b, steps, {self.width}) and hold them"
            )
        return data[..., :a]


@dataclass(frozen=True)
class Range:
    """How far the values of one body's actions, or of its states, usually go.

    Attributes:
        low, high: the 1 % and the 99 % quantile of each value, `a` long.
        raw: which values are left as they are (an open or closed gripper).
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    raw: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        a = len(self.low)
        ordered = len(self.high) == a > 0 and all(lo <= hi for lo, hi in zip(self.low, self.high, strict=True))
        if not ordered or not all(map(math.isfinite, self.low + self.high)):
            raise ValueError(f"quantiles are finite, low ≤ high, one pair for each value; got {self.low}, {self.high}")
        if any(not 0 <= i < a for i in self.raw):
            raise ValueError(f"raw values {self.raw} are not among the {a} values 0 … {a - 1}")

    @classmethod
    def of(cls, rows: np.ndarray, raw: Sequence[int] = ()) -> Range:
        """The range of `(n, a)` values.

        Raises:
            ValueError: for another shape, no rows, or values that are not finite.
        """
        rows = np.asarray(rows, dtype=np.float64)
        if rows.ndim != 2 or 0 in rows.shape or not np.isfinite(rows).all():
            raise ValueError(f"a range needs finite values (n, a); these are {rows.shape} or hold NaN or infinity")
        low, high = np.quantile(rows, [0.01, 0.99], axis=0)
        return cls(tuple(low.tolist()), tuple(high.tolist()), tuple(raw))

    def to_dict(self) -> dict[str, list[float] | list[int]]:
        """Plain lists, for JSON."""
        return {"low": list(self.low), "high": list(self.high), "raw": list(self.raw)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Range:
        """The inverse of `to_dict`."""
        low, high = (tuple(float(x) for x in record[key]) for key in ("low", "high"))
        return cls(low, high, tuple(int(i) for i in record["raw"]))

    def scales(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Centre and half range of each value, float64, and which values are raw."""
        low, high = np.array(self.low), np.array(self.high)
        centre, half = (low + high) / 2, (high - low) / 2
        # What rounding leaves of a constant is no range.
        half = np.where(half > 1e-6 * np.maximum(np.abs(centre), 1e-6), half, 1.0)
        raw = np.zeros(len(low), dtype=bool)
        raw[list(self.raw)] = True
        return centre, half, raw


@dataclass(frozen=True)
class Quantiles:
    """Values of each body, scaled so that its 1 % quantile becomes -1 and its 99 % quantile 1.

    Fitted once on the training data and saved with the model: whoever acts needs the same numbers.

    Attributes:
        bodies: body → what is scaled (`"actions"`, `"states"`) → its range.
    """

    bodies: Mapping[str, Mapping[str, Range]] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        values: Mapping[str, Mapping[str, np.ndarray]],
        raw: Mapping[str, Mapping[str, Sequence[int]]] | None = None,
    ) -> Quantiles:
        """Ranges of `values[body][what]`, each `(n, a)`; `raw[body][what]` lists values to be left as they are.

        Raises:
            ValueError: naming the body, for no rows, values that are not finite, or `raw` without values.
        """
        raw, bodies = raw or {}, {}
        for body, what in ((body, what) for body, kinds in raw.items() for what in kinds):
            if what not in values.get(body, {}):
                raise ValueError(f"raw values are listed for {what} of {body!r}, of which there is no data")
        for body, kinds in values.items():
            try:
                bodies[body] = {what: Range.of(rows, raw.get(body, {}).get(what, ())) for what, rows in kinds.items()}
            except ValueError as error:
                raise ValueError(f"{body!r}: {error}") from error
        return cls(bodies)

    def normalise(self, body: str, what: str, values: np.ndarray) -> np.ndarray:
        """Values `(..., a)` in raw units to the usual range [-1, 1], cut off at ±1.5, float32; raw ones unchanged.

        A value that never changed (both quantiles equal) keeps its unit and becomes its distance from that constant.

        Raises:
            ValueError: for a body that was not fitted, another number of values, or some that are not finite.
        """
        (centre, half, raw), values = self._scales(body, what, values)
        if len(bad := np.argwhere(~np.isfinite(values))):
            place = tuple(bad[0].tolist())
            raise ValueError(f"{what} of {body!r} must be finite; the one at {place} is {values[place]}")
        return np.where(raw, values, np.clip((values - centre) / half, -BOUND, BOUND)).astype(np.float32)

    def restore(self, body: str, what: str, values: np.ndarray) -> np.ndarray:
        """The inverse of `normalise`, float32."""
        (centre, half, raw), values = self._scales(body, what, values)
        return np.where(raw, values, values * half + centre).astype(np.float32)

    def _scales(
        self, body: str, what: str, values: np.ndarray
    ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
        """What to scale with, and the values in float64."""
        if what not in self.bodies.get(body, {}):
            known = sorted(f"{what} of {body!r}" for body, kinds in self.bodies.items() for what in kinds)
            raise ValueError(f"there are no quantiles for {what} of {body!r}; there are {', '.join(known) or 'none'}")
        scales, values = self.bodies[body][what].scales(), np.asarray(values, dtype=np.float64)
        if values.ndim < 1 or values.shape[-1] != len(scales[0]):
            raise ValueError(f"{what} of {body!r} have {len(scales[0])} values in the last axis, not {values.shape}")
        return scales, values

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {body: {what: found.to_dict() for what, found in kinds.items()} for body, kinds in self.bodies.items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Quantiles:
        """The inverse of `to_dict`.

        Raises:
            ValueError: for a record of another form, naming the body.
        """
        bodies = {}
        for body, kinds in record.items():
            try:
                bodies[body] = {what: Range.from_dict(entry) for what, entry in kinds.items()}
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"the quantiles of {body!r} are damaged: {error!r}") from error
        return cls(bodies)
