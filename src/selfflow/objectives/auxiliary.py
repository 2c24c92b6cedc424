"""Losses on features of the very pass that predicts the velocity: no teacher, no second pass, any objective.

`LayerSync` lets an early layer follow a later one; `CleanData` asks an early layer for the clean data itself. (A third
of the kind, a velocity said at mid depth, needs output layers of the network: `FlowMatching(mid_weight=…)`.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfflow.objectives.base import token_mean
from selfflow.tokens import Span


def cosine(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over tokens of the cosine between `(b, n, f)` features, over the feature axis, in float32."""
    with torch.autocast(prediction.device.type, enabled=False):
        return token_mean(F.cosine_similarity(prediction.float(), target.float(), dim=-1), weights)


class Auxiliary(nn.Module):
    """A weighted loss on features after some `layers`, 1-indexed, of the student's pass.

    Raises:
        ValueError: for layers below 1 or a negative weight.
    """

    def __init__(self, layers: tuple[int, ...], weight: float) -> None:
        super().__init__()
        if min(layers) < 1 or weight < 0:
            raise ValueError(f"layers {layers} are 1-indexed and weight {weight} is ≥ 0")
        self.layers, self.weight = layers, weight

    def forward(self, features: Sequence[Tensor], values: Tensor, spans: Sequence[Span], mask: Tensor | None) -> Tensor:
        """The loss, 0-d float32, unweighted.

        Args:
            features: `(b, n, f)` after each of `layers`.
            values: clean data `(b, n, c)` of the same tokens.
            spans: which of them are of which modality, with how many channels.
            mask: `(b, n)`, False where a token only pads.
        """
        raise NotImplementedError


class LayerSync(Auxiliary):
    """`1 - cos(layer l, layer k)`, k without gradient (Haghighi et al. 2025, 2510.12581, with λ = 0.2).

    Args:
        student_layer, teacher_layer: l and k.
        weight: λ.
    """

    def __init__(self, student_layer: int, teacher_layer: int, weight: float = 0.2) -> None:
        super().__init__((student_layer, teacher_layer), weight)
        if student_layer == teacher_layer:
            raise ValueError(f"layer {student_layer} cannot be aligned with itself; choose two layers")

    def forward(self, features: Sequence[Tensor], values: Tensor, spans: Sequence[Span], mask: Tensor | None) -> Tensor:
        student, teacher = features
        return 1 - cosine(student, teacher.detach(), mask)


class CleanData(Auxiliary):
    """Smooth L1 between a projection of layer l and the clean data of the token (SRA 2, with λ = 1).

    In latents this aligns with what their encoder knows; in pixels it is an early denoiser.

    Args:
        width: of the features.
        layer: l.
        channels: of a token's data; name → number where there are several modalities, each with an output layer.
        weight: λ.
    """

    def __init__(self, width: int, layer: int, channels: int | Mapping[str, int], weight: float = 1.0) -> None:
        super().__init__((layer,), weight)
        self.trunk = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU())
        named = channels if isinstance(channels, Mapping) else {"any": channels}
        self.out = nn.ModuleDict({name: nn.Linear(2 * width, c) for name, c in named.items()})

    def forward(self, features: Sequence[Tensor], values: Tensor, spans: Sequence[Span], mask: Tensor | None) -> Tensor:
        hidden = self.trunk(features[0])
        errors, start = [], 0
        for span in spans:
            cut = slice(start, start := start + span.length)
            said = self.out[span.modality if span.modality in self.out else self._only(span)](hidden[:, cut])
            target = values[:, cut, : span.channels].float()
            errors.append(F.smooth_l1_loss(said.float(), target, reduction="none").mean(dim=-1))
        return token_mean(torch.cat(errors, dim=1), mask)

    def _only(self, span: Span) -> str:
        """The output layer for everything, where there is one."""
        if "any" not in self.out:
            raise ValueError(f"no output layer for {span.modality!r}; there are some for {sorted(self.out)}")
        return "any"
