"""REPA: the teacher is a network trained elsewhere, which sees the clean picture (Yu et al. 2024, 2410.06940).

What Self-Flow is measured against. Loss, head and student layer are those of `SelfFlow`; there is one noise level a
sample, and the features to predict are an encoder's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from selfflow.objectives.alignment import Aligned, Head
from selfflow.times import Times
from selfflow.tokens import Tokens

Encoder = Callable[[Tensor | Tokens], Tensor | None]


class Repa(Aligned):
    """`L = L_velocity + λ · (1 - cos(head(student layer l), encoder(data)))`, one t per sample.

    Args:
        net: as for `FlowMatching`; its taps must work.
        width: of the tapped features.
        student_layer: l, 1-indexed. REPA takes 8 of 28; 0.3 of the depth, as for Self-Flow.
        encoder: clean data, as the objective is given it, to features `(b, n, encoder_width)`, one for each token; None
            for data it knows nothing of (sound, actions), which is then trained by flow matching alone. It is no part
            of the objective: neither trained nor saved with it.
        encoder_width: of the encoder's features.
        gamma: λ, 0.5 in REPA.
        options: as for `Aligned`.
    """

    def __init__(
        self,
        net: nn.Module,
        width: int,
        student_layer: int,
        encoder: Encoder,
        encoder_width: int,
        gamma: float = 0.5,
        **options: Any,
    ) -> None:
        options.setdefault("head", Head(width, encoder_width))
        super().__init__(net, width, student_layer, gamma, **options)
        self._encoder = (encoder,)  # in a tuple, so that a module is not taken for a part of this one

    @property
    def recordable(self) -> bool:
        return False  # encoders look where the tokens lie, and what else they do is their own affair

    @torch.no_grad()
    def teach(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Tensor | None:
        """What the encoder makes of the clean data."""
        return self._encoder[0](data)
