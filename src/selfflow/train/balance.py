"""Tasks that share a network, each taught in units of its own loss.

In a mixture the losses of tasks lie far apart (sound 0.3, a still 0.02), and with them the noise of their gradients. A
sum is then mostly the noise of the loudest: an optimiser that measures its step by what it is given, as Adam and Muon
do, goes where they say, and the quiet ones hardly learn.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class _Level:
    """A running mean: of all values at first, later of the last ones."""

    value: float = 0.0
    seen: int = 0

    def add(self, value: float, memory: int) -> None:
        self.seen += 1
        self.value += (value - self.value) / min(self.seen, memory)


@dataclass
class Balance:
    """Weights of tasks: the running mean of all losses over the task's own.

    A loss over its own running mean has the gradient of its logarithm: the likelihood of errors that are Gaussian, of
    a variance to be found, for each task its own (Kendall, Gal & Cipolla 2018, 1705.07115, there with a weight that is
    trained). The mean of all in front keeps learning rates and the clipping of gradients what they were.

    Attributes:
        memory: of a task, how many of its micro-batches its mean reaches back to; of all, ten times that.
        most: a weight lies in `[1 / most, most]`: a task that is learned by heart, whose loss is nothing, shall not
            take everything.
    """

    memory: int = 20
    most: float = 16.0
    _tasks: dict[str, _Level] = field(default_factory=dict)
    _all: _Level = field(default_factory=_Level)

    def weight(self, task: str) -> float:
        """Of the loss of the next micro-batch of this task; 1 for one that has not come yet."""
        level = self._tasks.get(task)
        if level is None:
            return 1.0
        return min(max(self._all.value / max(level.value, 1e-30), 1 / self.most), self.most)

    def update(self, losses: Iterable[tuple[str, float]]) -> None:
        """Take in (task, loss without its weight) of each micro-batch of a step, the same in every process."""
        for task, loss in losses:
            self._tasks.setdefault(task, _Level()).add(loss, self.memory)
            self._all.add(loss, 10 * self.memory)

    def state_dict(self) -> dict[str, Any]:
        """For JSON: task → mean and count."""
        return {
            "all": [self._all.value, self._all.seen],
            "tasks": {k: [v.value, v.seen] for k, v in self._tasks.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._all = _Level(*state["all"])
        self._tasks = {task: _Level(*found) for task, found in state["tasks"].items()}
