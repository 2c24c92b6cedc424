"""On-policy distillation: the student is taught where its own jumps take it, by a solver of the teacher's field.

A flow map learned on interpolations of data and noise is sampled elsewhere: guidance leads away from the data's own
path, and each jump starts from the error of those before it. So every other row is taken from pure noise along the
steps of the very schedule that will be sampled, by the student's own moving average, to a step drawn at random. From
there the teacher follows its guided velocity to the step's end, in several Euler steps; the mean velocity of that way
is what the student shall say. The other rows are anchors, as of any flow map.

The mismatch and its cure are those of imitation learning (DAgger, Ross et al. 2011, 1011.0686) and of language models
(Agarwal et al. 2024, 2306.13649); of few-step samplers, those of backward distillation (Kohler et al. 2024, 2405.05224)
and of the backward simulation of DMD2 (Yin et al. 2024, 2405.14867), which teach by other losses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from selfflow.objectives.base import Practice
from selfflow.objectives.flow_map import (
    FlowMap,
    Guided,
    Jumps,
    anchors_and_jumps,
    guided_velocity,
    recalled,
    some_rows,
)
from selfflow.objectives.flow_matching import FlowMatching
from selfflow.times import Density, Draws, Times, schedule, shift
from selfflow.tokens import Span, Tokens


@dataclass(frozen=True)
class Along(Jumps):
    """Times of a batch in which every other row makes a step of one schedule.

    Attributes:
        way: the schedule, `(count + 1,)` from 1 down to 0.
    """

    way: Tensor | None = None


class OnPolicy(FlowMap):
    """`E |u(x, t, r) - solver|²` over the steps `(t, r)` of what is sampled, x being where the student arrives.

    Args:
        served: numbers of steps to practise. Each step of training practises one of them, as often as it is named.
        finest: Euler steps that the teacher takes for the whole way: of a schedule of n steps it takes `finest / n` for
            each, rounded up.
        alpha: shift of the schedules, that of sampling.
        net, steps, interval, dual, density, ema_decay, modalities, ema_warmup: as for `FlowMap`.

    Raises:
        ValueError: for numbers of steps that are none.
    """

    def __init__(
        self,
        net: nn.Module,
        steps: int,
        served: Sequence[int] = (4, 4, 2, 1),
        finest: int = 12,
        alpha: float = 1.0,
        interval: tuple[float, float] = (0.0, 1.0),
        dual: bool = False,
        density: Density | None = None,
        ema_decay: float = 0.99,
        modalities: Mapping[str, Practice] | None = None,
        ema_warmup: bool = False,
    ) -> None:
        super().__init__(
            net, steps, interval, dual, density=density, ema_decay=ema_decay, modalities=modalities,
            ema_warmup=ema_warmup,
        )  # fmt: skip
        if not served or min(served) < 1 or finest < 1:
            raise ValueError(f"served {tuple(served)} and finest {finest} are numbers of steps, each 1 or more")
        self.served, self.finest, self.alpha = tuple(served), finest, alpha

    def draw_times(self, b: int, spans: Sequence[Span], draws: Draws) -> Times:
        return self.draw_anchors(b, spans, draws)

    def draw(self, data: Tensor | Tokens, draws: Draws) -> tuple[Tensor, Times]:
        noise, anchors = FlowMatching.draw(self, data, draws)
        count = self.served[int(draws.coin_apart() * len(self.served))]  # how many passes this takes, so in all alike
        step = (draws.uniform(len(noise)) * count).long().to(noise.device)
        way = schedule(count, self.alpha).to(noise.device)
        levels, targets = anchors.levels.clone(), anchors.levels.clone()
        rows = anchors_and_jumps(draws.first % 2)["jump"]
        # All that is made together is at one time when it is sampled, whatever times it is trained with.
        levels[rows], targets[rows] = way[step][rows, None], way[step + 1][rows, None]
        return noise, Along(levels, anchors.which, anchors.families, targets, draws.first % 2, way)

    def place(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: Sequence[Guided]
    ) -> Tensor:
        x_t = super().place(data, values, noise, times, context)
        for name, rows in self._kinds(times):
            if name == "jump":
                x_t[rows] = self.arrive(data[rows], noise[rows], times[rows], [some_rows(g, rows) for g in context])
        return x_t

    @torch.no_grad()
    def arrive(self, data: Tensor | Tokens, noise: Tensor, times: Times, context: Sequence[Guided]) -> Tensor:
        """Where the average's own jumps along the schedule take noise by each row's level, `(b, n, c)` float32."""
        assert isinstance(times, Along)
        assert times.way is not None
        jumps, x = [*pairwise(times.way[:-1])], noise
        if not jumps:  # a single step begins at noise: nothing need be read
            return x
        u = recalled(self.ema, context)
        for t, r in jumps:
            before = times.levels[:, :1, None] < t  # rows that have not arrived yet
            jump = times.between(t.expand_as(times.levels), r.expand_as(times.levels))
            x = torch.where(before, x - (t - r) * u(data, x, jump), x)
        return x

    @torch.no_grad()
    def jump(self, data: Tensor | Tokens, x_t: Tensor, times: Times, context: Sequence[Guided]) -> Tensor:
        """The mean velocity of the teacher's own way from `times` to their targets, `(b, n, c)` float32."""
        assert isinstance(times, Along)
        assert times.way is not None
        assert times.targets is not None
        steps = -(-self.finest // (len(times.way) - 1))
        velocity = guided_velocity(self.teacher, context, self.interval)
        first, last = (shift(1 / self.alpha, t) for t in (times.levels, times.targets))  # where steps are even
        ends = [shift(self.alpha, first + (last - first) * k / steps) for k in range(steps + 1)]
        x = x_t
        for t, r in pairwise(ends):
            x = x - times.spread(t - r)[..., None] * velocity(data, x, times.between(t, r))
        return (x_t - x) / times.spread(times.levels - times.targets)[..., None]
