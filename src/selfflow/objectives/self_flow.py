"""Self-Flow: a student sees its sample at two noise levels and must also say what its cleaner-sighted EMA sees.

Self-Supervised Flow Matching (arXiv 2603.06507), section 3. The student's tokens are at time t or s; the teacher, an
exponential moving average of the student, sees all of them at min(t, s), the same data and the same noise. A head on an
early student layer predicts a later teacher layer. Nothing external is involved.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from selfflow import flow
from selfflow.objectives.auxiliary import cosine
from selfflow.objectives.base import Losses, Practice, effective_rank
from selfflow.objectives.flow_matching import FlowMatching, layout
from selfflow.objectives.targets import Standardise
from selfflow.times import Density, Draws, Times, dual_times
from selfflow.tokens import Span, Tokens


class Head(nn.Sequential):
    """Linear(d → 2d), SiLU, Linear(2d → d'): from student features to teacher features."""

    def __init__(self, width: int, target_width: int | None = None) -> None:
        super().__init__(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, target_width or width))


Which = Literal["all", "noisier"]


@dataclass(frozen=True)
class Alignment:
    """Which tokens the representation loss counts, how much, and when; by default all, alike, always.

    The gap of a sample is the distance between its two noise levels. Where it is small the teacher sees next to nothing
    that the student does not; weighted by it, a mean is over weights, so that γ keeps its meaning.

    Attributes:
        tokens: `"all"`, or only those at the `"noisier"` of their sample's levels, which alone see less than
            the teacher.
        gap_from: δ; samples count only where the gap is larger.
        gap_power: p; a sample's weight is its gap to the power p.
        steps: from which step on γ acts, and before which it ends, None for never; outside, there is no teacher to
            pay for.

    Raises:
        ValueError: for unknown tokens, a δ outside [0, 1), a negative p, steps that do not follow one another.
    """

    tokens: Which = "all"
    gap_from: float = 0.0
    gap_power: float = 0.0
    steps: tuple[int, int | None] = (0, None)

    def __post_init__(self) -> None:
        first, end = self.steps
        if self.tokens not in get_args(Which):
            raise ValueError(f"unknown tokens {self.tokens!r}; choose one of {get_args(Which)}")
        if not (0 <= self.gap_from < 1 and self.gap_power >= 0):
            raise ValueError(f"gap_from {self.gap_from} lies in [0, 1) and gap_power {self.gap_power} is ≥ 0")
        if first < 0 or (end is not None and end < first):
            raise ValueError(f"steps {self.steps} are a first step ≥ 0 and an end after it, or None")

    def weights(self, times: Times) -> Tensor | None:
        """`(b, n)` or `(b, 1)` weights of tokens; None when all weigh alike."""
        if replace(self, steps=(0, None)) == Alignment():
            return None
        low = times.cleanest().per_token
        high = -replace(times, levels=-times.levels).cleanest().per_token
        gap = high - low
        weights = gap**self.gap_power * (gap > self.gap_from)
        return weights * (times.per_token > low) if self.tokens == "noisier" else weights

    def acts(self, step: int) -> bool:
        """Whether γ acts in the 0-based `step`."""
        first, end = self.steps
        return first <= step and (end is None or step < end)


class SelfFlow(FlowMatching):
    """`L = L_velocity + γ · (1 - cos(head(student layer l), teacher layer k))`, on dual timesteps.

    With `gamma = 0` and `plain_share = 1` (t = s) this is `FlowMatching`.

    Args:
        net: as for `FlowMatching`; its taps must work.
        width: of the tapped features.
        student_layer, teacher_layer: l and k, 1-indexed; the paper uses 0.3 and 0.7 of the depth.
        gamma: weight γ of the representation loss, 0.8 in the paper.
        mask_ratio: R_M, share of tokens at the second level; 0.25 for pictures, 0.10 video, 0.50 sound.
        plain_share: share of samples that have one level only (2607.02508 finds 25 % helps).
        min_gap: least mass of p(t) between the two levels, see `selfflow.times.dual_times`.
        density, ema_decay, modalities, options: as for `FlowMatching`.
        head: from student features to teacher features; `Head(width)` by default.
        alignment: which tokens count in the representation loss, and when.
        target: what to ask of the teacher's features; None for the features themselves.

    Raises:
        ValueError: for layers below 1, a negative γ, R_M outside [0, 0.5].
    """

    def __init__(
        self,
        net: nn.Module,
        width: int,
        student_layer: int,
        teacher_layer: int,
        gamma: float = 0.8,
        mask_ratio: float = 0.25,
        plain_share: float = 0.0,
        density: Density | None = None,
        ema_decay: float = 0.9999,
        head: nn.Module | None = None,
        modalities: Mapping[str, Practice] | None = None,
        min_gap: float = 0.0,
        alignment: Alignment | None = None,
        target: Standardise | None = None,
        **options: Any,
    ) -> None:
        super().__init__(net, density, ema_decay, modalities, **options)
        if student_layer < 1 or teacher_layer < 1 or gamma < 0:
            raise ValueError(f"layers {student_layer}, {teacher_layer} are 1-indexed and gamma {gamma} is ≥ 0")
        self.practice = Practice(density or Density(), mask_ratio)
        # Refuses bad shares now rather than in the first step.
        dual_times(Density(), 1, 1, mask_ratio, Draws(torch.Generator()), plain_share, min_gap)
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.gamma, self.plain_share, self.min_gap = gamma, plain_share, min_gap
        self.head, self.target, self.alignment = head or Head(width), target, alignment or Alignment()
        if self.alignment.steps != (0, None):
            self._count_steps()
        self._stop = {"stop": True} if "stop" in inspect.signature(net.forward).parameters else {}

    def draw_times(self, b: int, spans: Sequence[Span], draws: Draws) -> Times:
        first = self.practised(spans[0])
        ratios = [self.practised(span).mask_ratio for span in spans]
        ratio = torch.tensor(ratios).repeat_interleave(torch.tensor([span.length for span in spans]))
        return dual_times(first.density, b, len(ratio), ratio.to(draws.device), draws, self.plain_share, self.min_gap)

    def losses(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Losses:
        total, parts, (student,) = self.student_pass(data, values, noise, times, context, taps=(self.student_layer,))
        if hasattr(self, "steps_done") and not self.alignment.acts(int(self.steps_done)):
            return Losses(total + 0 * self.head(student).mean(), parts)  # DDP wants a gradient of every parameter
        (spans, mask), weights = layout(data), self.alignment.weights(times)
        counted = mask if weights is None else weights.expand(values.shape[:2]) * (1 if mask is None else mask)
        teacher = self.teach(data, values, noise, times, context)
        target = teacher if self.target is None else self.target(teacher, spans, mask)
        similarity = cosine(self.head(student), target, counted)
        representation = 1 - similarity
        if weights is not None and counted is not None:  # where no token counts, the loss does not either
            representation = representation * (counted.sum() > 0)
        total = total + self.gamma * representation
        parts |= {
            "loss_representation": representation.detach(),
            "cosine": similarity.detach(),
            "rank_student": effective_rank(student),
            "rank_teacher": effective_rank(teacher),
        }
        if self.target is not None:
            parts["rank_target"] = effective_rank(target)
        return Losses(total, parts)

    def after_step(self) -> None:
        super().after_step()
        if self.target is not None:
            self.target.after_step()

    @torch.no_grad()
    def teach(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Tensor:
        """The teacher's features `(b, n, f)`: all tokens at min(t, s), run only as far as its layer."""
        clean = times.cleanest()
        x_t = flow.interpolate(values, noise, clean.per_token)
        _, (features,) = self._call(self.ema, data, x_t, clean, context, taps=(self.teacher_layer,), **self._stop)
        return features
