"""The step loop recorded: on a GPU a small network waits for its launches, of which a recorded loop has one.

A recording needs everything to stay where it is in memory, and every shape to stay as it is. So a `Loop` owns its
noise, its room for keys and values, and the places of its tokens; a request copies its own into them. Shapes are few,
because what is remembered is padded to buckets and masked: padding has no weight in attention, so this is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from selfflow.nn.recording import Record
from selfflow.runtime.engine import Space
from selfflow.runtime.memory import Piece


def bucket(m: int) -> int:
    """The number of remembered tokens that m are padded to: at most 64 more, or a quarter."""
    grain = max(64, 1 << max(0, m.bit_length() - 3))
    return -(-m // grain) * grain


class Loop:
    """All steps of one shape on one schedule: recorded as a whole, or step by step for those who look on.

    Args:
        shape: of the noise, `(b, n, c)`.
        spaces: room for what the network remembers, one for each call of it that a step may make.
        velocity: `(x, t, r)` to the velocity; t and r are floats, and everything else it reads stays where it is.
        times: falling, as from `selfflow.times.schedule`.
        whole: record all steps as one.
    """

    def __init__(
        self, shape: Sequence[int], spaces: Sequence[Space], velocity: Callable[[Tensor, float, float], Tensor],
        times: Tensor, device: torch.device, record: Record, whole: bool,
    ) -> None:  # fmt: skip
        self.x = torch.zeros(*shape, device=device)
        self.data = torch.zeros_like(self.x)
        self.spaces = list(spaces)
        self.times = times

        def step(t: float, r: float, by: float) -> None:
            v = velocity(self.x, t, r)
            self.data.copy_(self.x - t * v)
            self.x.add_(by * v)

        # The difference of two float32 numbers as a sampler takes it, not that of their decimal expansions.
        steps = [(float(t), float(r), float(r - t)) for t, r in pairwise(times)]
        if whole:

            def run() -> None:
                for given in steps:
                    step(*given)

            self.parts = [record(run)]
        else:
            self.parts = [record(partial(step, *given)) for given in steps]

    def __call__(
        self,
        noise: Tensor,
        rows: Sequence[Sequence[Sequence[Piece]]],
        callback: Callable[[int, Tensor, Tensor, Tensor], bool | None] | None = None,
    ) -> Tensor:
        """Data from noise `(b, n, c)`; `rows`: for each space what its samples know."""
        for space, known in zip(self.spaces, rows, strict=True):
            space.fill(known)
        self.x.copy_(noise)
        for i, part in enumerate(self.parts, start=1):
            part()
            if callback is not None and callback(i, self.times[i], self.x.clone(), self.data.clone()):
                break
        return self.x.clone()
