"""Self-Flow: a student sees its sample at two noise levels and must also say what its cleaner-sighted EMA sees.

Self-Supervised Flow Matching (arXiv 2603.06507), section 3. The student's tokens are at time t or s; the teacher, an
exponential moving average of the student, sees all of them at min(t, s), the same data and the same noise. A head on an
early student layer predicts a later teacher layer. Nothing external is involved.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from selfflow import flow
from selfflow.objectives.alignment import Aligned
from selfflow.objectives.base import Practice
from selfflow.times import Density, Draws, Times, dual_times
from selfflow.tokens import Span, Tokens


class SelfFlow(Aligned):
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
        density: p(t), as for `FlowMatching`.
        options: as for `Aligned`.

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
        min_gap: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(net, width, student_layer, gamma, density=density, ema_decay=ema_decay, **options)
        if teacher_layer < 1:
            raise ValueError(f"teacher layer {teacher_layer} is 1-indexed")
        self.practice = Practice(density or Density(), mask_ratio)
        # Refuses bad shares now rather than in the first step.
        dual_times(Density(), 1, 1, mask_ratio, Draws(torch.Generator()), plain_share, min_gap)
        self.teacher_layer, self.plain_share, self.min_gap = teacher_layer, plain_share, min_gap
        self._stop = {"stop": True} if "stop" in inspect.signature(net.forward).parameters else {}

    def draw_times(self, b: int, spans: Sequence[Span], draws: Draws) -> Times:
        return self.draw_dual_times(b, spans, draws, self.plain_share, self.min_gap)

    @torch.no_grad()
    def teach(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Tensor:
        """The teacher's features `(b, n, f)`: all tokens at min(t, s), run only as far as its layer."""
        clean = times.cleanest()
        x_t = flow.interpolate(values, noise, clean.per_token)
        _, (features,) = self._call(self.ema, data, x_t, clean, context, taps=(self.teacher_layer,), **self._stop)
        return features
