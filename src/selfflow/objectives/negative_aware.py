"""Learning from one's own draws: nearer to those that were found right, away from those that were found wrong.

DiffusionNFT (Zheng et al. 2025, 2509.16117, section 3): a reward becomes, for each draw, the odds r that it is a good
one, and the velocity v_old of the policy that drew it is led apart by the network's own,

    v₊ = (1 - β) · v_old + β · v,      v₋ = (1 + β) · v_old - β · v,

of which the first is to fit the draw as far as it is good, the second as far as it is not:

    E  r · |v₊ - (noise - draw)|² + (1 - r) · |v₋ - (noise - draw)|².

Where r tells nothing the minimum is v_old, whatever was drawn and by what sampler, guided or not; so draws need no
likelihood, no path and no second network, and any noise level of any draw teaches. The policy that draws is the moving
average: as in Self-Flow a teacher goes slowly behind its student, here it shows and the student is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from selfflow import flow
from selfflow.objectives.base import Losses, token_mean
from selfflow.objectives.flow_matching import FlowMatching, layout
from selfflow.shapes import Float
from selfflow.times import Times
from selfflow.tokens import Chain, Tokens

_LEAST = 1e-4  # mean error of the clean data below which errors are not enlarged further


@dataclass(frozen=True)
class Judged:
    """What is known of a batch of draws, and what was thought of them: the context that `NegativeAware` takes.

    Attributes:
        known: of each sample; draws of one sample follow one another.
        odds: r of each draw, `(b,)` in [0, 1].
        told: what to log, name → 0-d tensor.
    """

    known: list[Tokens | Chain]
    odds: Float[Tensor, "b"]
    told: Mapping[str, Tensor] = field(default_factory=dict)


class NegativeAware(FlowMatching):
    """Flow matching, and where the context is `Judged` the loss above, in units of the clean data.

    An error of velocity at time t is one of the clean data over t: so measured no noise level outweighs the others. A
    draw counts by its errors over the mean of their sizes under v_old, which is what remains to be explained of it.
    (The paper weighs the errors of v₊ and v₋ by their own sizes.)

    Args:
        net, options: as for `FlowMatching`; the losses at mid depth and of what is copied are of true data alone.
        strength: β, in (0, 1]: the smaller, the further v goes for the same odds.

    Raises:
        ValueError: for a strength outside (0, 1].
    """

    def __init__(self, net: nn.Module, strength: float = 1.0, **options: Any) -> None:
        super().__init__(net, **options)
        if not 0 < strength <= 1:
            raise ValueError(f"strength {strength} of rewards lies in (0, 1]")
        self.strength = strength

    @property
    def recordable(self) -> bool:
        return False  # draws are made, and read by whoever judges them, in every step

    def losses(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Losses:
        judged = context[0] if context else None
        if not isinstance(judged, Judged):
            return super().losses(data, values, noise, times, context)
        x_t = flow.interpolate(values, noise, times.per_token)
        said, _ = self._call(self.net, data, x_t, times, (judged.known,))
        with torch.no_grad():
            old, _ = self._call(self.ema, data, x_t, times, (judged.known,))
        old, said, truth = old.float(), said.float(), flow.velocity(values, noise)
        apart = self.strength * (said - old)
        t, (_, mask) = flow.align(times.per_token, x_t), layout(data)
        real = torch.ones_like(values[..., 0]) if mask is None else mask.float()
        size = (t * (old - truth)).abs().mean(dim=2)
        size = (size * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        scale = t * size.clamp(min=_LEAST).rsqrt()[:, None, None] / self.strength**0.5
        loss = values.new_zeros(())
        for share, guess in ((judged.odds, old + apart), (1 - judged.odds, old - apart)):
            weight = scale * share.sqrt()[:, None, None]
            loss = loss + self._velocity_loss(weight * guess, weight * truth, data)[0]
        moved = token_mean((t * (said.detach() - old)).square().mean(dim=2), mask)
        return Losses(loss, {"loss_judged": loss.detach(), "moved": moved, **judged.told})
