"""Progressive distillation: the same network and loss as a flow map, with a frozen teacher for every jump.

The first teacher is the guided velocity, taken in twice as many Euler steps as the student is to take. When the student
has learned that, it is frozen and becomes the teacher of one that takes half as many steps, and so on down the ladder
(Salimans & Ho 2022, 2202.00512). It serves the last number of steps only, but never learns from a moving target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from selfflow.objectives.base import Practice, ema_update
from selfflow.objectives.flow_map import FlowMap, Guided, guided_velocity, recalled, two_jumps
from selfflow.objectives.flow_matching import FlowMatching
from selfflow.times import Draws, Times, schedule, shift
from selfflow.tokens import Span, Tokens


class Progressive(FlowMap):
    """`E |u(x_t, t, r) - two jumps of the teacher|²` over the steps `(t, r)` of one schedule after the other.

    Every sample jumps, along a step of a schedule: there are no anchors, and no density of times.

    Args:
        ladder: numbers of steps, each half of the one before it; each has an equal part of the run. Where the run turns
            out longer than it was, the rung that was reached stays: its teacher has replaced the one before.
        alpha: shift of the schedules, that of sampling.
        net, steps, interval, ema_decay, modalities, ema_warmup: as for `FlowMap`. (Of a `Practice` the weight alone.)

    Raises:
        ValueError: for a ladder that does not halve.
    """

    ADDED = ("rung_reached",)  # tensors that checkpoints from before lack; these go by their steps, as they did
    rung_reached: Tensor

    def __init__(
        self,
        net: nn.Module,
        steps: int,
        ladder: Sequence[int] = (16, 8, 4),
        alpha: float = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
        ema_decay: float = 0.99,
        modalities: Mapping[str, Practice] | None = None,
        ema_warmup: bool = False,
    ) -> None:
        super().__init__(net, steps, interval, ema_decay=ema_decay, modalities=modalities, ema_warmup=ema_warmup)
        if not ladder or min(ladder) < 1 or any(a != 2 * b for a, b in pairwise(ladder)):
            raise ValueError(f"ladder {tuple(ladder)} must halve from rung to rung, as (16, 8, 4) does")
        self.ladder, self.alpha = tuple(ladder), alpha
        self.register_buffer("rung_reached", torch.tensor(-1))  # -1: not known
        self._rung: int | None = None
        self.register_load_state_dict_post_hook(Progressive._forget_rung)

    def _forget_rung(self, *_: Any) -> None:
        self._rung = None

    @property
    def rung(self) -> int:
        """Which number of steps is being learned, 0-based. It changes in `after_step` alone, with the teacher."""
        if self._rung is None:
            reached = int(self.rung_reached)
            self._rung = self._due if reached < 0 else reached
        return self._rung

    @property
    def _due(self) -> int:
        """The rung that the present step belongs to, of a run of `steps`."""
        return min(self.step * len(self.ladder) // self.steps, len(self.ladder) - 1)

    def draw_times(self, b: int, spans: Sequence[Span], draws: Draws) -> Times:
        """A random step of the present schedule, for every sample."""
        count = self.ladder[self.rung]
        times, step = schedule(count, self.alpha).to(draws.device), (draws.uniform(b) * count).long()
        return Times.shared(times[step], times[step + 1])

    @property
    def phase(self) -> bool:
        """Whether the teacher is still the first one, which is guided."""
        return self.rung == 0

    def draw(self, data: Tensor | Tokens, draws: Draws) -> tuple[Tensor, Times]:
        return FlowMatching.draw(self, data, draws)  # no anchors

    @staticmethod
    def _kinds(times: Times) -> list[tuple[str, slice]]:
        return [("jump", slice(None))]

    @torch.no_grad()
    def jump(self, data: Tensor | Tokens, x_t: Tensor, times: Times, context: Sequence[Guided]) -> Tensor:
        assert times.targets is not None
        even = [shift(1 / self.alpha, t) for t in (times.levels, times.targets)]
        middle = shift(self.alpha, (even[0] + even[1]) / 2)  # the step that a schedule twice as fine has there
        u = guided_velocity(self.teacher, context, self.interval) if self.phase else recalled(self.teacher, context)
        return two_jumps(u, data, x_t, times, middle)

    def after_step(self) -> None:
        before = self.rung
        super().after_step()
        self._rung = max(before, self._due)
        self.rung_reached.fill_(self._rung)
        if self._rung != before:
            ema_update(self.teacher, self.ema, 0.0)
