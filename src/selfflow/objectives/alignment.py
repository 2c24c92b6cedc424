"""Alignment: an early layer of the student must also say what a teacher sees of the same sample.

Who teaches is what tells methods apart: the student's own average (`SelfFlow`), or a network trained elsewhere
(`Repa`). Loss, head, weights and schedule are the same, so that a comparison is of the teachers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from torch import Tensor, nn

from selfflow.objectives.auxiliary import cosine
from selfflow.objectives.base import Losses, effective_rank
from selfflow.objectives.flow_matching import FlowMatching, layout
from selfflow.objectives.targets import Standardise
from selfflow.times import Times
from selfflow.tokens import Tokens


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


class Aligned(FlowMatching):
    """`L = L_velocity + γ · (1 - cos(head(student layer l), teacher))`; a subclass says who teaches.

    Args:
        net: as for `FlowMatching`; its taps must work.
        width: of the tapped features.
        student_layer: l, 1-indexed.
        gamma: weight γ of the representation loss.
        head: from student features to the teacher's; `Head(width)` by default.
        alignment: which tokens count in the representation loss, and when.
        target: what to ask of the teacher's features; None for the features themselves.
        options: as for `FlowMatching`.

    Raises:
        ValueError: for a layer below 1 or a negative γ.
    """

    def __init__(
        self,
        net: nn.Module,
        width: int,
        student_layer: int,
        gamma: float,
        head: nn.Module | None = None,
        alignment: Alignment | None = None,
        target: Standardise | None = None,
        **options: Any,
    ) -> None:
        super().__init__(net, **options)
        if student_layer < 1 or gamma < 0:
            raise ValueError(f"student layer {student_layer} is 1-indexed and gamma {gamma} is ≥ 0")
        self.student_layer, self.gamma = student_layer, gamma
        self.head, self.target, self.alignment = head or Head(width), target, alignment or Alignment()
        if self.alignment.steps != (0, None):
            self._count_steps()

    @property
    def recordable(self) -> bool:
        return self.target is None  # statistics of real tokens only are gathered by looking which they are

    @property
    def phase(self) -> bool:
        """Whether the teacher rests, that is, is not asked in the present step."""
        return hasattr(self, "steps_done") and not self.alignment.acts(self.step)

    def teach(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Tensor | None:
        """The teacher's features `(b, n, f)`, without gradient; None for what it knows nothing of."""
        raise NotImplementedError

    def losses(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Losses:
        total, parts, (student,) = self.student_pass(data, values, noise, times, context, taps=(self.student_layer,))
        teacher = None if self.phase else self.teach(data, values, noise, times, context)
        if teacher is None:
            return Losses(total + 0 * self.head(student).mean(), parts)  # DDP wants a gradient of every parameter
        (spans, mask), weights = layout(data), self.alignment.weights(times)
        counted = mask if weights is None else weights.expand(values.shape[:2]) * (1 if mask is None else mask)
        target = teacher if self.target is None else self.target(teacher, spans, mask)
        similarity = cosine(self.head(student), target, counted)
        representation = 1 - similarity
        if weights is not None and counted is not None:  # where no token counts, the loss does not either
            representation = representation * (counted.sum() > 0)
        total = total + self.gamma * representation
        parts |= {
            "loss_representation": representation.detach(),
            "cosine": similarity.detach(),
            "rank_student": effective_rank(student, mask),
            "rank_teacher": effective_rank(teacher, mask),
        }
        if self.target is not None:
            parts["rank_target"] = effective_rank(target, mask)
        return Losses(total, parts)

    def after_step(self) -> None:
        super().after_step()
        if self.target is not None:
            self.target.after_step()
