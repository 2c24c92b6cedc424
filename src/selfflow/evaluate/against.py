"""Two evaluations side by side: what one model, or one number of steps, costs against another, figure by figure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from selfflow.evaluate.distances import bootstrap, paired
from selfflow.evaluate.protocol import Figure


@dataclass(frozen=True)
class Change:
    """One figure of two evaluations.

    Attributes:
        name: of the figure.
        value, other: what this one has and what it is compared with.
        worse: how much worse this one is, relative to `other`; below 0 it is better. Of a PSNR relative to the squared
            error that it tells. None where nothing can be relative to `other`: it is 0 or below (and this one is not
            the same), or a gain, of which any share may be next to nothing.
        gap: 95 % interval of how much worse this one is, in units of the figure, of a PSNR of the share of the error;
            sample by sample where both tell every sample (same prompts, same noise), else as if the two were
            independent, which is too wide.
        floor: what needs no understanding, or chance where that is better.
        told: whether the better of the two beats its floor: where neither does, nothing could be lost.
    """

    name: str
    value: float
    other: float
    worse: float | None
    gap: tuple[float, float]
    floor: float | None
    told: bool

    @property
    def apart(self) -> bool:
        """Whether the two differ by more than chance explains, 19 times in 20."""
        return self.gap[0] > 0 or self.gap[1] < 0


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
    decibels, gain = figure.get("note", "").startswith("dB"), figure.get("chance") == 0
    lost = value - other if less else other - value
    worse: float | None
    if decibels and not gain:  # 5 % of 25 dB would be a third more error
        worse, gap = _of_errors(figure, against)
    else:
        worse = 0.0 if lost == 0 else None if other <= 0 or gain else lost / other
        low, high = _spread(figure, against)
        gap = (low, high) if less else (-high, -low)
    told = bool(Figure.read(figure if lost < 0 else against).beats_floor)
    return Change(name, value, other, worse, gap, bar, told)


def _of_errors(figure: Mapping[str, Any], against: Mapping[str, Any]) -> tuple[float, tuple[float, float]]:
    """How much larger the squared error is that a PSNR tells, relative to the other's, and the interval of that."""
    ratio = 10 ** ((float(against["value"]) - float(figure["value"])) / 10)
    one, two = (np.array(e.get("errors") or [], np.float64) for e in (figure, against))
    if len(one) and one.shape == two.shape:
        low, high = bootstrap(np.stack([one, two], axis=1), lambda rows: rows[:, 0].mean() / rows[:, 1].mean())
        return ratio - 1, (low - 1, high - 1)
    half = _half(figure, against)
    return ratio - 1, (ratio * 10 ** (-half / 10) - 1, ratio * 10 ** (half / 10) - 1)


def _spread(figure: Mapping[str, Any], against: Mapping[str, Any]) -> tuple[float, float]:
    """The 95 % interval of this value less the other."""
    one, two = (np.array(e.get("each") or [], np.float64) for e in (figure, against))  # None becomes NaN
    if np.isfinite(one).any() and np.array_equal(np.isnan(one), np.isnan(two)):
        low, high = paired(one, two)
        return low, high
    half = _half(figure, against)
    middle = float(figure["value"]) - float(against["value"])
    return middle - half, middle + half


def _half(figure: Mapping[str, Any], against: Mapping[str, Any]) -> float:
    """Half of the interval of a difference, of two figures as if they were independent."""
    return math.hypot(*(high - low for low, high in map(_ends, (figure, against)))) / 2


def _ends(figure: Mapping[str, Any]) -> list[Any]:
    return [figure.get("low"), figure.get("high")]


def report(found: Sequence[Change], within: float) -> str:
    """Lines of text: a table, how many scores differ, and how many are no more than `within` (relative) worse."""
    width = max(len(c.name) for c in found)
    lines = [f"{'':{width}}  {'this':>9}  {'other':>9}  {'floor':>9}  {'worse by':>9}"]
    for c in found:
        worse = "–" if c.worse is None else f"{100 * c.worse:.1f} %"
        floor = "" if c.floor is None else f"{c.floor:.4g}"
        verdict = "" if not c.apart else "better" if c.gap[1] < 0 else "worse"
        lines.append(f"{c.name:{width}}  {c.value:9.4g}  {c.other:9.4g}  {floor:>9}  {worse:>9}  {verdict}".rstrip())
    better, worse_ones = sum(c.gap[1] < 0 for c in found), sum(c.gap[0] > 0 for c in found)
    lines.append(
        f"{better} of {len(found)} scores are better and {worse_ones} worse than 95 % intervals allow for; "
        f"about {0.05 * len(found):.0f} of so many would be if nothing differed"
    )
    known = [c for c in found if c.worse is not None and not c.value == c.other == 0]
    lines.append(_counted(known, within, "scores that are not 0 in both are"))
    lines.append("Of those in which the better of the two beats its floor:")
    lines.append(_counted([c for c in known if c.told], within, "are"))
    return "\n".join(lines)


def _counted(known: Sequence[Change], within: float, words: str) -> str:
    lost = [c for c in known if c.worse is not None and c.worse > within]
    return (
        f"{len(known) - len(lost)} of {len(known)} {words} at most {100 * within:g} % worse; of the others "
        f"{sum(c.apart for c in lost)} of {len(lost)} are told apart"
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
