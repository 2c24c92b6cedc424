"""A run as long as the time allows: its steps are those that fit, so that the learning rate comes down in time."""

from __future__ import annotations

import time
from collections import deque

from selfflow.train.trainer import TrainState

_LOOK = 20  # steps between two looks at the clock
_SPEED = 200  # steps by which the speed is judged: the first ones, of a machine that warms up, are soon forgotten


class Deadline:
    """A hook that sets how many steps a run has, again and again, by how fast the last ones were.

    Args:
        moment: of `time.monotonic()`, by which the last step is to be done; what is written after it takes longer.
        most: steps at most.
    """

    def __init__(self, moment: float, most: int) -> None:
        self.moment, self.most = moment, most
        self._seen: deque[tuple[float, int]] = deque(maxlen=_SPEED)

    def __call__(self, state: TrainState) -> None:
        now = time.monotonic()
        self._seen.append((now, state.step))
        if now >= self.moment:
            self._end(state, state.step + 1)
        elif len(self._seen) > 1 and state.step % _LOOK == 0:
            began, first = self._seen[0]
            speed = (state.step - first) / max(now - began, 1e-9)
            self._end(state, state.step + max(1, int(speed * (self.moment - now))))

    def _end(self, state: TrainState, steps: int) -> None:
        """Finished runs stay so; a flow map's jumps grow over what the run turns out to be."""
        if state.step >= state.steps:
            return
        state.steps = min(self.most, steps)
        if hasattr(state.objective, "steps"):
            state.objective.steps = state.steps  # type: ignore[assignment]
