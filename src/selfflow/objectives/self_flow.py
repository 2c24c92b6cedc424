"""Self-Flow: a student sees its sample at two noise levels and must also say what its cleaner-sighted EMA sees.

Self-Supervised Flow Matching (arXiv 2603.06507), section 3. The student's tokens are at time t or s; the teacher, an
exponential moving average of the student, sees all of them at min(t, s), the same data and the same noise. A head on an
early student layer predicts a later teacher layer. Nothing external is involved.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfflow import flow
from selfflow.objectives.base import Losses, Practice, effective_rank, token_mean
from selfflow.objectives.flow_matching import FlowMatching
from selfflow.times import Density, Draws, Times, dual_times
from selfflow.tokens import Span, Tokens


class Head(nn.Sequential):
    """Linear(d → 2d), SiLU, Linear(2d → d'): from student features to teacher features."""

    def __init__(self, width: int, target_width: int | None = None) -> None:
        super().__init__(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, target_width or width))


def cosine(prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over tokens of the cosine between `(b, n, f)` features, over the feature axis, in float32."""
    with torch.autocast(prediction.device.type, enabled=False):
        return token_mean(F.cosine_similarity(prediction.float(), target.float(), dim=-1), mask)


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
        density, ema_decay, modalities: as for `FlowMatching`.
        head: from student features to teacher features; `Head(width)` by default.

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
    ) -> None:
        super().__init__(net, density, ema_decay, modalities)
        if student_layer < 1 or teacher_layer < 1 or gamma < 0:
            raise ValueError(f"layers {student_layer}, {teacher_layer} are 1-indexed and gamma {gamma} is ≥ 0")
        self.practice = Practice(density or Density(), mask_ratio)
        dual_times(Density(), 1, 1, mask_ratio, Draws(torch.Generator()), plain_share)  # refuses bad shares now
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.gamma, self.plain_share = gamma, plain_share
        self.head = head or Head(width)
        self._stop = {"stop": True} if "stop" in inspect.signature(net.forward).parameters else {}

    def draw_times(self, b: int, spans: Sequence[Span], draws: Draws) -> Times:
        first = self.practised(spans[0])
        ratios = [self.practised(span).mask_ratio for span in spans]
        ratio = torch.tensor(ratios).repeat_interleave(torch.tensor([span.length for span in spans]))
        return dual_times(first.density, b, len(ratio), ratio.to(draws.device), draws, self.plain_share)

    def losses(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Losses:
        mask = data.mask if isinstance(data, Tokens) else None
        x_t = flow.interpolate(values, noise, times.per_token)
        velocity, (student,) = self._call(self.net, data, x_t, times, context, taps=(self.student_layer,))
        teacher = self.teach(data, values, noise, times, context)
        generation, logged = self._velocity_loss(velocity, values, noise, data)
        similarity = cosine(self.head(student), teacher, mask)
        total = generation + self.gamma * (1 - similarity)
        parts = {
            **logged,
            "loss_representation": 1 - similarity.detach(),
            "cosine": similarity.detach(),
            "rank_student": effective_rank(student),
            "rank_teacher": effective_rank(teacher),
        }
        return Losses(total, parts)

    @torch.no_grad()
    def teach(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Tensor:
        """The teacher's features `(b, n, f)`: all tokens at min(t, s), run only as far as its layer."""
        clean = times.cleanest()
        x_t = flow.interpolate(values, noise, clean.per_token)
        _, (features,) = self._call(self.ema, data, x_t, clean, context, taps=(self.teacher_layer,), **self._stop)
        return features
