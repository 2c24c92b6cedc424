"""Two evaluations side by side: what one model, or one number of steps, costs against another, figure by figure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selfflow.evaluate.distances import bootstrap
from selfflow.evaluate.protocol import Figure


@dataclass(frozen=True)
class Change:
    """One figure of two evaluations.

    Attributes:
        name: of the figure.
        value, other: what this one has and what it is compared with.
        worse: how much worse this one is, relative to `other`; below 0 it is better, None where `other` is 0 and
            this one is not.
        half: half of the 95 % interval of `worse`; sample by sample where both tell every sample (same prompts, same
            noise), else as if the two were independent, which is too wide. None as `worse`.
        floor: what needs no understanding, or chance where that is better.
        told: whether the better of the two beats its floor: where neither does, nothing could be lost.
    """

    name: str
    value: float
    other: float
    worse: float | None
    half: float | None
    floor: float | None
    told: bool

    @property
    def apart(self) -> bool:
        """Whether the two differ by more than chance explains."""
        return self.worse is not None and self.half is not None and abs(self.worse) > self.half


def changes(these: Mapping[str, Any], those: Mapping[str, Any]) -> list[Change]:
    """The scores that two evaluations share, in the order of the first.

    A score has an interval and something to be compared with (a floor, a chance or a ceiling), and is not itself a
    floor or a control.

    Args:
        these, those: what `selfflow.evaluate.suite.run_suite` returned, or its JSON.

    Raises:
        ValueError: when they were not asked the same: other samples, another seed; or share no score.
    """
    asked = [{k: e.get("options", {}).get(k) for k in ("samples", "seed")} for e in (these, those)]
    if asked[0] != asked[1]:
        raise ValueError(f"one evaluation is of {asked[0]}, the other of {asked[1]}; compare like with like")
    found = []
    for name, figure in these["figures"].items():
        against = those["figures"].get(name)
        if against is None or not figure.get("judged", True):
            continue
        bars = [b for b in (figure.get("floor"), figure.get("chance")) if b is not None]
        if (not bars and figure.get("ceiling") is None) or None in _ends(figure) + _ends(against):
            continue
        less = "lower is better" in figure.get("note", "")
        found.append(_change(name, figure, against, less, (min if less else max)(bars, default=None)))
    if not found:
        raise ValueError("the two evaluations share no score; were they of the same suite?")
    return found


def _change(name: str, figure: Mapping[str, Any], against: Mapping[str, Any], less: bool, bar: float | None) -> Change:
    value, other = float(figure["value"]), float(against["value"])
    gain, size = (other - value if less else value - other), abs(other)
    worse = 0.0 if gain == 0 else None if size == 0 else -gain / size
    half = None if size == 0 else _spread(figure, against) / size
    told = bool(Figure.read(figure if gain > 0 else against).beats_floor)
    return Change(name, value, other, worse, half, bar, told)


def _spread(figure: Mapping[str, Any], against: Mapping[str, Any]) -> float:
    """Half of the 95 % interval of the difference of two values."""
    one, two = (np.array(e.get("each") or [], np.float64) for e in (figure, against))  # None becomes NaN
    if len(one) and np.array_equal(np.isnan(one), np.isnan(two)):
        low, high = bootstrap((one - two)[~np.isnan(one)])
        return (high - low) / 2
    (low, high), (other_low, other_high) = _ends(figure), _ends(against)
    return math.hypot(high - low, other_high - other_low) / 2


def _ends(figure: Mapping[str, Any]) -> list[Any]:
    return [figure.get("low"), figure.get("high")]


def report(found: Sequence[Change], within: float) -> str:
    """Lines of text: a table, and how many scores are no more than `within` (relative) worse."""
    width = max(len(c.name) for c in found)
    lines = [f"{'':{width}}  {'this':>9}  {'other':>9}  {'floor':>9}  {'worse by':>9}  {'±':>7}"]
    for c in found:
        worse = "–" if c.worse is None else f"{100 * c.worse:.1f} %"
        half = "" if c.half is None else f"{100 * c.half:.0f} %"
        floor = "" if c.floor is None else f"{c.floor:.4g}"
        verdict = "" if not c.apart else "better" if c.worse is not None and c.worse < 0 else "worse"
        cells = f"{c.value:9.4g}  {c.other:9.4g}  {floor:>9}  {worse:>9}  {half:>7}"
        lines.append(f"{c.name:{width}}  {cells}  {verdict}".rstrip())
    nothing = sum(c.value == c.other == 0 for c in found)
    both = f"{nothing} of them are 0 in both; of" if nothing else "Of"
    lines.append(_counted(found, within, "scores are"))
    lines.append(f"{both} those in which the better of the two beats its floor:")
    lines.append(_counted([c for c in found if c.told], within, "are"))
    return "\n".join(lines)


def _counted(found: Sequence[Change], within: float, words: str) -> str:
    known = [c for c in found if c.worse is not None]
    lost = [c for c in known if c.worse is not None and c.worse > within]
    return (
        f"{len(known) - len(lost)} of {len(known)} {words} at most {100 * within:g} % worse; of the others "
        f"{sum(c.apart for c in lost)} of {len(lost)} by more than chance explains"
    )


def load(path: Path) -> dict[str, Any]:
    """An evaluation from its JSON.

    Raises:
        ValueError: for a file that is not one.
    """
    try:
        found = json.loads(path.read_text())
        if not isinstance(found["figures"], dict):
            raise TypeError("its figures are no dictionary")
        for name, figure in found["figures"].items():
            if not math.isfinite(figure["value"]):
                raise ValueError(f"{name} is {figure['value']}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no evaluation written by `selfflow evaluate --json` ({error})") from None
    return found
