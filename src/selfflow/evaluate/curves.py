"""What several seeds measured along the steps of a run, or along the depth of a network: at equal time, and drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfflow.evaluate.distances import interval


def at_time(curve: Mapping[int, float], pace: float, seconds: float) -> float:
    """The loss of a run of `pace` seconds a step after some time of training.

    Between the steps measured its logarithm is taken as straight; before the first and after the last it stands still.

    Args:
        curve: step → loss above 0.

    Raises:
        ValueError: without steps.
    """
    if not curve:
        raise ValueError("nothing was measured on the way; a run is compared at one step at least")
    steps = sorted(curve)
    return float(np.exp(np.interp(seconds / pace, steps, np.log([curve[s] for s in steps]))))


def along(rows: Iterable[Sequence[float]]) -> list[dict[str, Any]]:
    """Rows of one seed each `(k)` → k intervals over seeds."""
    return [interval(values) for values in zip(*rows, strict=True)]


def less(x: Sequence[Mapping[str, Any]], y: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Intervals of the differences x - y, paired by seed."""
    return [
        interval([a - b for a, b in zip(p["values"], q["values"], strict=False)]) for p, q in zip(x, y, strict=True)
    ]


def band(
    axis: Any, x: Sequence[float], values: Sequence[Mapping[str, Any]], colour: str, label: str, style: str = "-"
) -> None:
    """A line of means with their intervals as a band."""
    mean, half = np.array([v["mean"] for v in values]), np.array([v["half"] or 0.0 for v in values])
    axis.plot(x, mean, style, color=colour, label=label, linewidth=1.2)
    axis.fill_between(x, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)


def legend(axis: Any, of: Any = None, **options: Any) -> None:
    """A legend that has every label of `of` (by default of `axis`) once."""
    found: dict[str, Any] = {}
    for handle, label in zip(*(of or axis).get_legend_handles_labels(), strict=True):
        found.setdefault(label, handle)
    axis.legend(list(found.values()), list(found), **options)


def draw(path: Path, rows: int, columns: int, paint: Callable[[Any], None]) -> None:
    """A PNG of panels, painted on axes `(rows, columns)`; without matplotlib (extra `bench`) it says so instead."""
    try:
        import matplotlib
    except ImportError:
        print("no figure: matplotlib is not installed (pip install 'selfflow[bench]')")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=(2.6 * columns, 2.5 * rows), squeeze=False)
    paint(axes)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
