"""What a generated patch takes over of a picture that is known or made up: those of its pixels that are copies.

Shared by whoever finds such pictures: windows of known ones (`matching`), words that are printed (`stencils`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Deviations, of values in [-1, 1]: of what the network says from the truth; of a pixel from the one it is a copy of.
SAID, ALIKE = 0.3, 0.02


class Taken(NamedTuple):
    """What generated tokens of one modality took over from known ones, as `mix` of each is given it; None where
    nothing is known."""

    matched: tuple[Tensor, Tensor, Tensor] | None
    printed: tuple[Tensor, Tensor, Tensor] | None
    copied: tuple[Tensor, Tensor] | None

    def detached(self) -> Taken:
        """The same, of which nothing is learned."""
        return Taken(*(None if parts is None else tuple(x.detach() for x in parts) for parts in self))  # type: ignore[arg-type]


class Taking(nn.Module):
    """The odds that a pixel is a copy of what was found, and the mixture they make.

    Args:
        width: of the network's features.
        side: of a patch, in pixels.
        channels: of a pixel.
        names: of the modalities whose generated tokens take over; each token is one patch.
        trust: how far each is believed at first: noisy values and what was said, of what is found; the evidence of nine
            pixels and of the whole patch, and the distance from what was said, of which pixels; and what follows.
        gate: log odds that a pixel is a copy, at first, when nothing tells.
    """

    def __init__(
        self, width: int, side: int, channels: int, names: Sequence[str], trust: Sequence[float], gate: float = -1.0
    ) -> None:
        super().__init__()
        self.side, self.channels, self.trusted, self.gate = side, channels, tuple(trust), gate
        given = width + (channels + 1) * side**2
        self.looks = nn.ModuleDict({name: nn.Linear(given, width) for name in names})
        self.gates = nn.ModuleDict({name: nn.Linear(width, side**2) for name in names})
        self.trust = nn.Parameter(torch.tensor(self.trusted))

    def init_weights(self) -> None:
        for look, gate in zip(self.looks.children(), self.gates.children(), strict=True):
            assert isinstance(look, nn.Linear)
            assert isinstance(gate, nn.Linear)
            nn.init.trunc_normal_(look.weight, std=look.in_features**-0.5)
            nn.init.zeros_(look.bias)
            nn.init.zeros_(gate.weight)
            nn.init.constant_(gate.bias, self.gate)
        with torch.no_grad():
            self.trust.copy_(torch.tensor(self.trusted))

    def estimate(self, said: Tensor, x_t: Tensor, t: Tensor, same: float) -> tuple[Tensor, Tensor]:
        """The data by what was said and by its noisy values, `(b, n, c)`, and how precise that is, `(b, n or 1, 1)`.

        Log likelihoods of data c are -precision / 2 · |estimate - c|², but for what does not depend on c.

        Args:
            said, x_t: `(b, n, c)` float32.
            t: `(b, n or 1, 1)` float32.
            same: deviation of data from what it is taken for.
        """
        trust = self.trust.float()
        by_noise, by_said = trust[0] / variance(t, same), trust[1] / SAID**2
        precision = by_noise * (1 - t) ** 2 + by_said
        return (by_noise * (1 - t) * x_t + by_said * said) / precision, precision

    def odds(self, name: str, y: Tensor, said: Tensor, found: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Log odds that each pixel of each patch is a copy of what was found, `(b, n, side²)` float32.

        Evidence, and what two layers make of it and of how what was found differs from what was said.

        Args:
            y: `(b, n, width)`, what the output layer is given.
            said, found: `(b, n, c)`, what it said of the data, and what may be taken over.
            x_t, t: the noisy values `(b, n, c)` and their times, `(b, n)` or `(b, 1)`.
        """
        with torch.autocast(y.device.type, enabled=False):
            noisy, other, copied = (v.detach().float().unflatten(-1, (-1, self.channels)) for v in (x_t, said, found))
            t, trust = t.float()[..., None, None], self.trust.float()
            as_said, as_found = ((noisy - (1 - t) * v).square() for v in (other, copied))
            evidence = 0.5 * ((as_said - as_found) / variance(t, ALIKE)).sum(dim=-1)
            square = evidence.unflatten(-1, (self.side, self.side)).flatten(0, 1)[:, None]
            near = 9 * F.avg_pool2d(square, 3, stride=1, padding=1, count_include_pad=False).view(evidence.shape)
            far = 0.5 * (other - copied).square().sum(dim=-1) / SAID**2
            told = trust[2] * near + trust[3] * evidence.sum(dim=-1, keepdim=True) - trust[4] * far
            seen = torch.cat([(copied - other).flatten(2), evidence.sign() * evidence.abs().log1p()], dim=-1)
        prior = self.gates[name](F.silu(self.looks[name](torch.cat([y, seen.to(y.dtype)], dim=-1))))
        return prior.float() + told

    def mix(self, said: Tensor, found: Tensor, known: Tensor, odds: Tensor) -> Tensor:
        """`said (b, n, c)` with those pixels of what was found that the odds let in, where anything is known."""
        gate = odds.sigmoid().repeat_interleave(self.channels, dim=-1) * known
        return said + gate * (found - said)


def variance(t: Tensor, deviation: float) -> Tensor:
    """Of x_t about its mean, where data deviate so much from theirs."""
    return t.square() + ((1 - t) * deviation) ** 2
