"""What every objective shares: the shape of its answer, the EMA, and means over real tokens."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from selfflow.times import Density


@dataclass(frozen=True)
class Losses:
    """A loss to minimise and what to log.

    Attributes:
        total: 0-d, with gradient.
        parts: name → 0-d tensor without gradient.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Practice:
    """How one modality is trained.

    Attributes:
        density: p(t).
        mask_ratio: R_M, the share of tokens at Self-Flow's second noise level: 0.25 for pictures, 0.10 video, 0.50
            sound in the paper.
        weight: of its velocity loss, which is a mean over its own tokens.
        draws: of noise and times for each sample in which it comes first. What is known is read once for all of them,
            so that where much is known and little generated (an action chunk from what a camera sees) they cost little,
            and the gradient is less noisy. 0 is as many as that makes worth while (`worthwhile`), by the longest
            of a process's own samples: several processes may then draw otherwise than one. Distillation takes one.
    """

    density: Density = field(default_factory=Density)
    mask_ratio: float = 0.25
    weight: float = 1.0
    draws: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.mask_ratio <= 0.5 or self.weight < 0:
            raise ValueError(f"mask_ratio {self.mask_ratio} lies in [0, 0.5] and weight {self.weight} is ≥ 0")
        if not 0 <= self.draws <= 64:
            raise ValueError(f"draws of noise for a sample are {self.draws}; choose 1 to 64, or 0 to leave it open")


def worthwhile(known: int, generated: int) -> int:
    """How many draws of noise a sample is worth of which so many tokens are read, once, and so many generated in each.

    Of the squared length of a gradient's noise a share w differs from draw to draw and the rest from sample to sample.
    With a cost of reading R and of one draw G the noise that is left for equal time is least with `√(w / (1 - w) · R /
    G)` draws. Measured, w is 0.7 of edits and 0.87 to 0.96 of compositions (docs/evidence.md), and a token read costs
    less than one generated: about one draw more for each time that what is read would fill what is generated, up to
    four.
    """
    return min(1 + known // generated, 4)


def ema_copy(module: nn.Module) -> nn.Module:
    """A frozen copy to hold the exponential moving average, in evaluation mode."""
    return copy.deepcopy(module).eval().requires_grad_(False)


@torch.no_grad()
def ema_update(average: nn.Module, module: nn.Module, decay: float) -> None:
    """`average ← decay · average + (1 - decay) · module`, for parameters; buffers are copied.

    Works shard by shard under FSDP2, since both were sharded alike.
    """
    averages, values = [p.detach() for p in average.parameters()], [p.detach() for p in module.parameters()]
    torch._foreach_lerp_(averages, values, 1 - decay)
    for a, b in zip(average.buffers(), module.buffers(), strict=True):
        a.copy_(b)


def token_mean(per_token: Tensor, weights: Tensor | None) -> Tensor:
    """Mean of `(b, n)` over tokens, weighted or masked by `(b, n)`, float32; 0 where no token has a weight."""
    per_token = per_token.float()
    if weights is None:
        return per_token.mean()
    return (per_token * weights).sum() / weights.float().sum().clamp(min=1e-8)


@torch.no_grad()
def effective_rank(features: Tensor, mask: Tensor | None = None, most: int = 1024) -> Tensor:
    """How many directions features use: `(Σλ)² / Σλ²` of their covariance, the participation ratio, in [1, width].

    1 means collapse onto one direction, `width` an even spread. (Cheaper than the entropy form of Roy & Vetterli 2007
    and never larger than it.)

    Args:
        features: `(b, n, width)`.
        mask: `(b, n)`, False where a token only pads and does not count.
        most: tokens to look at; of more, so many from all over samples and places.
    """
    x = features.detach().float().flatten(0, -2)
    rows = _scattered(len(x), most, x.device)
    x = x[rows]
    real = torch.ones_like(x[:, :1]) if mask is None else mask.flatten()[rows, None].float()
    x = (x - (x * real).sum(0) / real.sum().clamp(min=1)) * real
    with torch.autocast(x.device.type, enabled=False):
        covariance = x.T @ x
    return covariance.diagonal().sum() ** 2 / covariance.square().sum().clamp(min=1e-20)


def _scattered(count: int, most: int, device: torch.device) -> Tensor:
    """Numbers of at most `most` of `count` tokens, none twice, spread evenly however the tokens are arranged.

    Steps of the golden section of them all, by a number that has no divisor in common with their count: every other
    step (a whole number of rows, say) would look at some columns of a grid only.
    """
    stride = round(0.618 * count)
    while math.gcd(stride, count) > 1:
        stride += 1
    return torch.arange(min(most, count), device=device) * stride % count
