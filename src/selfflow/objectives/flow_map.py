"""Flow maps: one network that jumps from any time t to any earlier r, distilled from a velocity field.

The true map of a velocity field v carries `x_t` along it to `x_r`. Its mean velocity

    u(x_t, t, r) = (x_t - x_r) / (t - r),      u(x_t, t, t) = v(x_t, t)

is known by two properties. At r = t it is v, here the *guided* velocity of a frozen teacher. And two jumps of half the
length make one of the whole: with s = (t + r) / 2 and `x_s = x_t - (t - s) · u(x_t, t, s)`,

    u(x_t, t, r) = (u(x_t, t, s) + u(x_s, s, r)) / 2.

Half of the samples of a step teach the first (anchors), half the second, its right side said by the moving average.
Lengths grow over the run from short jumps, where u is all but v, to the whole way. No derivative along t is needed.

Self-consistency of halves is that of shortcut models (Frans et al. 2024, 2410.12557), over continuous times; for the
theory see Boffi et al. 2025 (2505.18825).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selfflow import flow
from selfflow.objectives.base import Losses, Practice, ema_copy, token_mean
from selfflow.objectives.flow_matching import FlowMatching, layout
from selfflow.times import Density, Draws, Times
from selfflow.tokens import Chain, Span, Tokens

Known = Sequence[Tokens | Chain]


@dataclass(frozen=True)
class Guided:
    """What is known of a batch, and what guidance leads away from: the context that `FlowMap` takes.

    Attributes:
        known: all of it, which the student and its average see.
        less: what is known on each further side of the teacher's guidance, less and less.
        scales: how far to lead from each of these to the one before it; as many.
    """

    known: Known
    less: Sequence[Known] = ()
    scales: Sequence[float] = ()


@dataclass(frozen=True)
class Jumps(Times):
    """Times of a batch in which every other row jumps.

    Attributes:
        odd: 1 where the first row is an odd one of the global batch, else 0.
    """

    odd: int = 0


def anchors_and_jumps(odd: int) -> dict[str, slice]:
    """Rows of either kind: even ones of the global batch are anchors, odd ones jump. `odd` is as in `Jumps`."""
    return {"anchor": slice(odd, None, 2), "jump": slice(1 - odd, None, 2)}


class FlowMap(FlowMatching):
    """`E |u(x_t, t, r) - target|²`: anchors and midpoints, see the head of this file.

    Samples on even rows of the global batch are anchors (r = t), those on odd rows jump. So batches are of two or more.

    Args:
        net: as for `FlowMatching`; it takes `selfflow.times.Times` and honours their targets, as `Transformer` does
            with `target_time`. With its present weights it is also the teacher, for ever.
        steps: length of the run, over which jumps grow.
        interval: times in which the teacher's guidance acts.
        dual: anchors have two noise levels a sample, as in Self-Flow; R_M is each modality's own.
        narrow, widen: the longest jump is this share of t at first, and all of t after that share of the run.
        ends: share of jumps that begin at pure noise, and of those that are the longest there are: where sampling
            begins, and a single step. (Draws from p(t) hardly ever lie there.)
        density, ema_decay, modalities, ema_warmup: as for `FlowMatching`. (There is no loss at mid depth nor one on
            features: the teacher has learned from those.)

    Raises:
        ValueError: for a network that cannot be told where to jump, or numbers out of range.
    """

    def __init__(
        self,
        net: nn.Module,
        steps: int,
        interval: tuple[float, float] = (0.0, 1.0),
        dual: bool = False,
        narrow: float = 0.1,
        widen: float = 0.5,
        ends: float = 0.25,
        density: Density | None = None,
        ema_decay: float = 0.99,
        modalities: Mapping[str, Practice] | None = None,
        ema_warmup: bool = False,
    ) -> None:
        super().__init__(net, density, ema_decay, modalities, ema_warmup)
        if not getattr(net, "accepts_times", False):
            raise ValueError(
                "a flow map is told where to jump: its network needs `accepts_times`, and to use the targets"
            )
        if steps < 1 or not (0 < narrow <= 1 and 0 < widen <= 1 and 0 <= ends <= 1):
            raise ValueError(
                f"steps {steps} are 1 or more, narrow {narrow} and widen {widen} lie in (0, 1], ends {ends} in [0, 1]"
            )
        self.teacher = ema_copy(net)
        self.steps, self.interval, self.dual = steps, interval, dual
        self.narrow, self.widen, self.ends = narrow, widen, ends
        self._count_steps()

    def train(self, mode: bool = True) -> FlowMap:
        super().train(mode)
        self.teacher.eval()
        return self

    @property
    def longest(self) -> float:
        """The longest jump of the present step, as a share of t."""
        return min(1.0, self.narrow + (1 - self.narrow) * self.step / (self.widen * self.steps))

    # ---------------------------------------------------------------------------------------------- where to where

    def draw_anchors(self, b: int, spans: Sequence[Span], draws: Draws) -> Times:
        """Levels to learn the velocity at."""
        return self.draw_dual_times(b, spans, draws) if self.dual else super().draw_times(b, spans, draws)

    def draw_times(self, b: int, spans: Sequence[Span], draws: Draws) -> Times:
        density, anchors = self.practised(spans[0]).density, self.draw_anchors(b, spans, draws)
        t, length = density.sample(b, draws), draws.uniform(b)
        t = torch.where(draws.uniform(b) < self.ends, 1.0, t)
        r = t * (1 - self.longest * torch.where(draws.uniform(b) < self.ends, 1.0, length))
        levels, targets = anchors.levels.clone(), anchors.levels.clone()
        rows = anchors_and_jumps(draws.first % 2)["jump"]
        levels[rows], targets[rows] = t[rows, None], r[rows, None]
        return anchors.between(levels, targets)

    def draw(self, data: Tensor | Tokens, draws: Draws) -> tuple[Tensor, Times]:
        noise, t = super().draw(data, draws)
        return noise, Jumps(t.levels, t.which, t.families, t.targets, draws.first % 2)

    @staticmethod
    def _kinds(times: Times) -> list[tuple[str, slice]]:
        """`anchor` and `jump` with their rows, where there are any. (Known without a look at the values.)"""
        assert isinstance(times, Jumps)
        rows = anchors_and_jumps(times.odd).items()
        return [(name, cut) for name, cut in rows if range(len(times.levels))[cut]]

    # ----------------------------------------------------------------------------------------------------- the loss

    def losses(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Losses:
        assert times.targets is not None
        if len(context) > 1:
            raise ValueError(f"a flow map takes one context, `Guided` or what is known, not {len(context)}")
        guided = [c if isinstance(c, Guided) else Guided(c) for c in context]
        x_t = self.place(data, values, noise, times, guided)
        truth = torch.empty_like(x_t)
        found = self._kinds(times)
        for name, rows in found:
            asked = (data[rows], x_t[rows], times[rows], [some_rows(g, rows) for g in guided])
            truth[rows] = self.anchor(*asked) if name == "anchor" else self.jump(*asked)
        said, _ = self._call(self.net, data, x_t, times, tuple(g.known for g in guided))
        loss, parts = self._velocity_loss(said, truth, data)
        error, (_, mask) = (said.detach().float() - truth).square().mean(dim=-1), layout(data)
        for name, rows in found:
            parts[f"loss_{name}"] = token_mean(error[rows], None if mask is None else mask[rows])
        return Losses(loss, parts)

    def place(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: Sequence[Guided]
    ) -> Tensor:
        """Where each sample is at its levels, `(b, n, c)`: between its data and its noise."""
        return flow.interpolate(values, noise, times.per_token)

    @torch.no_grad()
    def anchor(self, data: Tensor | Tokens, x_t: Tensor, times: Times, context: Sequence[Guided]) -> Tensor:
        """The guided velocity of the frozen teacher at `x_t`, `(b, n, c)` float32."""
        return guided_velocity(self.teacher, context, self.interval)(data, x_t, times)

    @torch.no_grad()
    def jump(self, data: Tensor | Tokens, x_t: Tensor, times: Times, context: Sequence[Guided]) -> Tensor:
        """The mean velocity of the average's two jumps of half the length, `(b, n, c)` float32."""
        assert times.targets is not None
        return two_jumps(recalled(self.ema, context), data, x_t, times, (times.levels + times.targets) / 2)


Recalled = Callable[[Tensor | Tokens, Tensor, Times], Tensor]


def recalled(net: nn.Module, context: Sequence[Guided]) -> Recalled:
    """The network's `(data, x, times) → velocity` with what is known read once, for as many calls as one likes."""
    read: Any = getattr(net, "read", lambda known: known)
    known = tuple(read(g.known) for g in context)

    def velocity(data: Tensor | Tokens, x: Tensor, times: Times) -> Tensor:
        said, _ = FlowMatching._call(net, data, x, times, known)
        return said.float()

    return velocity


def guided_velocity(net: nn.Module, context: Sequence[Guided], interval: tuple[float, float]) -> Recalled:
    """The velocity at the levels asked for, whatever their targets, led away from what knows less, per token's time."""
    sides = [recalled(net, context), *(recalled(net, [Guided(k)]) for g in context for k in g.less)]
    scales, (low, high) = [scale for g in context for scale in g.scales], interval

    def velocity(data: Tensor | Tokens, x: Tensor, times: Times) -> Tensor:
        still, t = Times(times.levels, times.which, times.families), flow.align(times.per_token, x)
        said = [side(data, x, still) for side in sides]
        return torch.where((low <= t) & (t <= high), flow.lead(said, scales), said[0])

    return velocity


def two_jumps(u: Recalled, data: Tensor | Tokens, x_t: Tensor, times: Times, s: Tensor) -> Tensor:
    """Mean velocity of the way from `times` to their targets by way of the levels `s (b, k)`."""
    assert times.targets is not None
    first, whole = (times.spread(times.levels - end)[..., None] for end in (s, times.targets))
    early = u(data, x_t, times.between(times.levels, s))
    late = u(data, x_t - first * early, times.between(s, times.targets))
    return late + first / whole.clamp(min=1e-12) * (early - late)


def some_rows(context: Guided, rows: slice) -> Guided:
    """What is known of some of the samples."""

    def some(known: Any) -> Any:
        return [group[rows] for group in known] if isinstance(known, list | tuple) else known[rows]

    return Guided(some(context.known), [some(k) for k in context.less], context.scales)
