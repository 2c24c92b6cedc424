"""How the benchmarks measure: everything that is compared runs in turn, in one process, and is reported as a ratio."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

Action = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """One line of the report.

    Attributes:
        name: what is compared.
        value: the figure; None when it could not be measured, and then `note` says why.
        unit: "×" for a ratio.
        target: the claim it is held against, such as "≤ 1.35"; empty when there is none.
        note: anything needed to read it.
        details: seconds, sizes and the like, for the JSON.
        held: whether a claim other than a target holds, said by who measured it.
    """

    name: str
    value: float | None
    unit: str = "×"
    target: str = ""
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    held: bool | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the target is met, or what else was claimed; None without a claim or a figure."""
        if self.held is not None or not self.target or self.value is None:
            return self.held
        sign, bound = self.target.split()
        return self.value <= float(bound) if sign == "≤" else self.value >= float(bound)


def clock() -> Callable[[], float]:
    """Seconds: of this process's CPU time with one thread, where other processes then hardly count; else by the wall.

    With one thread and a quiet machine the two agree.
    """
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def interleaved(
    actions: dict[str, Action],
    rounds: int,
    warmup: int = 1,
    fewer: Mapping[str, int] | None = None,
    walls: dict[str, list[float]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each action in each round: `a b c, c b a, a b c …`, so that drift falls on all alike.

    Args:
        fewer: rounds of actions that take long.
        walls: is filled with seconds by the wall, whatever the clock.
    """
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    now = clock()
    for i in range(-warmup, rounds):
        for name in list(actions)[:: 1 if i % 2 else -1]:
            if i >= (fewer or {}).get(name, rounds):
                continue
            began, wall = now(), time.perf_counter()
            actions[name]()
            if i >= 0:
                seconds[name].append(now() - began)
                if walls is not None:
                    walls.setdefault(name, []).append(time.perf_counter() - wall)
    return seconds


def compared(seconds: dict[str, list[float]], above: str, below: str) -> tuple[float, dict[str, Any]]:
    """The ratio of the fastest rounds, and for the JSON beside it the median of the ratios round by round."""
    pairs = [a / b for a, b in zip(seconds[above], seconds[below], strict=True)]
    details = {
        "median_of_rounds": round(statistics.median(pairs), 4),
        "seconds": {name: round(min(s), 5) for name, s in seconds.items()},
        "rounds": len(pairs),
    }
    return min(seconds[above]) / min(seconds[below]), details


def summary(seconds: list[float]) -> dict[str, float]:
    """Milliseconds: the median, what 95 % do not exceed, and the best."""
    ordered = sorted(1000 * s for s in seconds)
    return {
        "p50": round(statistics.median(ordered), 2),
        "p95": round(ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))], 2),
        "best": round(ordered[0], 2),
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model na")]
        model = names[0] if names else model
    return {
        "cpu": model,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "clock": clock().__name__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def table(rows: list[Row]) -> str:
    """The rows in columns."""
    marks = {None: "", True: "holds", False: "MISSED"}
    cells = [("", "measured", "target", "", "")]
    for row in rows:
        value = "not run" if row.value is None else f"{row.value:.2f} {row.unit}"
        cells.append((row.name, value, row.target, marks[row.holds], row.note))
    widths = [max(len(line[i]) for line in cells) for i in range(4)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), line[1].rjust(widths[1]), line[2].ljust(widths[2]),
                   line[3].ljust(widths[3]), line[4]]).rstrip()
        for line in cells
    )  # fmt: skip
