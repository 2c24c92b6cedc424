"""What a generated token takes over from known ones: an edit is mostly its input, a frame mostly the one before.

A network that speaks of every pixel anew must learn to say again what it was shown. Here it may point instead: each
generated token attends, once and over values as they are, to the known tokens of its kind, and a gate says how much of
what it finds replaces what the output layer said (the pointer and its switch of See et al. 2017, 1704.04368; of pixels
of earlier frames, Finn et al. 2016, 1605.07157). Nothing is copied where nothing is known, so a picture from text alone
is as before.

The gate is a posterior. That a token is the copy c, or is not, are two hypotheses about its clean data x; the features
say how likely the first is, and the noisy values themselves are evidence, of a known law: `x_t - (1-t) c` is noise of
deviation t if it is, and wider if it is not. The mean of x given x_t is then what each hypothesis says of it, weighted
by these odds, and that is what a prediction of the data should be.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfflow.nn.layers import HeadNorm, norm
from selfflow.nn.rotary import rotate
from selfflow.nn.taking import variance
from selfflow.tokens import Tokens

# Before anything is learned a token finds the one in its own place, five powers of e before its neighbours (8 patches a
# side, head width 64) …
SHARPNESS = 1.6
# … and believes, as far as neither features nor noisy values tell, that it is no copy.
GATE = -1.0
# Deviations of the data from a copy, of values in [-1, 1]: if it is one (attention is never quite sharp), if it is not.
SAME, OTHER = 0.02, 0.5
# How far evidence is trusted at first: of the copy against anything else, and against what the output layer said. Less
# than wholly, since a patch of which a corner changed is neither. (Of 0 to 1 each, the least loss of a trained network
# that was given copying and not yet trained with it; see docs/evidence.md.)
TRUST = (0.2, 0.5)


class Copying(nn.Module):
    """Pointers of generated tokens to known ones.

    Args:
        width: of the network's features.
        head_width: of queries and keys.
        values: how many a known token hands on, its last (of a clip: a frame of its patch).
        channels: name → channels of each modality that copies, multiples of `values`: what was found is repeated.
    """

    def __init__(self, width: int, head_width: int, values: int, channels: Mapping[str, int]) -> None:
        super().__init__()
        if wrong := {name: count for name, count in channels.items() if count % values}:
            raise ValueError(f"{values} values are copied; channels must be a multiple of it, not {wrong}")
        self.values, self.head_width = values, head_width
        self.query = nn.Linear(width, head_width, bias=False)
        self.key = nn.Linear(width, head_width, bias=False)
        self.k_norm = HeadNorm(head_width)
        # A score is of place and of content, added: while content says nothing yet, place alone decides.
        self.place = nn.Parameter(torch.full((head_width,), SHARPNESS))
        self.gates = nn.ModuleDict({name: nn.Linear(width, count // values) for name, count in channels.items()})
        self.trust = nn.Parameter(torch.tensor(TRUST))

    def init_weights(self) -> None:
        nn.init.trunc_normal_(self.key.weight, std=self.key.in_features**-0.5)
        nn.init.zeros_(self.query.weight)
        nn.init.constant_(self.place, SHARPNESS)
        for gate in self.gates.modules():
            if isinstance(gate, nn.Linear):
                nn.init.zeros_(gate.weight)
                nn.init.constant_(gate.bias, GATE)
        with torch.no_grad():
            self.trust.copy_(torch.tensor(TRUST))

    @property
    def key_width(self) -> int:
        """Of a key: content, then place."""
        return 2 * self.head_width

    def read(self, tokens: Tokens, x: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Keys `(b, m, 1, key_width)` and values `(b, m, 1, values + 1)` of known tokens with features `x`.

        A last value of 1 says that the token can be copied; of other modalities all are 0.
        """
        b, m = tokens.data.shape[:2]
        if tokens.modality not in self.gates:
            return x.new_zeros(b, m, 1, self.key_width), x.new_zeros(b, m, 1, self.values + 1, dtype=torch.float32)
        keys = self._turned(self.k_norm(self.key(norm(x))), rotation)
        values = F.pad(tokens.data[..., -self.values :].float(), (0, 1), value=1.0)
        return keys, values[:, :, None]

    def _turned(self, content: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """Content `(b, n, head_width)` and place, turned by where they are: `(b, n, 1, key_width)`."""
        both = torch.stack([content, self.place.to(content.dtype).expand_as(content)], dim=2)
        return rotate(both, *rotation).flatten(2)[:, :, None]

    def find(
        self, y: Tensor, rotation: tuple[Tensor, Tensor], keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        """`(b, n, values + 1)` float32: what each generated token points at, and how surely (the last, in [0, 1]).

        Args:
            y: `(b, n, width)`, what the output layer is given.
            keys, values: from `read`.
            mask: `(b, m)`, True where a known token is real.
        """
        queries = self._turned(self.query(y), rotation)
        there = values[:, :, 0, -1] > 0.5
        if mask is not None:
            there = there & mask
        with torch.autocast(y.device.type, enabled=False):  # pixels are copied as they are
            q, k, v = (x[:, :, 0].float() for x in (queries, keys, values))
            scores = (q @ k.transpose(1, 2)) * self.head_width**-0.5
            scores = scores.masked_fill(~there[:, None], float("-inf"))
            # A first score of 0 is of nothing: all of the weight where there is nothing to copy.
            return F.pad(scores, (1, 0)).softmax(dim=-1)[..., 1:] @ v

    def odds(self, name: str, y: Tensor, said: Tensor, found: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Log odds that each frame of each token is a copy of what was found, `(b, n, frames)` float32.

        Args:
            name: of a modality that copies.
            y: `(b, n, width)`, what the output layer is given.
            said: `(b, n, c)`, what it said of the data.
            found: from `find`.
            x_t, t: the noisy values `(b, n, c)` and their times, `(b, n)` or `(b, 1)`.
        """
        prior = self.gates[name](y).float()
        with torch.autocast(y.device.type, enabled=False):
            noisy, other = (x.float().unflatten(-1, (-1, self.values)) for x in (x_t, said.detach()))
            # Pointers learn from what is copied, not from the odds: a token that points at what it surely is not has a
            # loss of odds near 0. (Trained so, all of them did after 600 steps.)
            copied, t, trust = found.detach()[..., None, :-1], t.float()[..., None, None], self.trust.float()
            told = trust[0] * against_anything(noisy, copied, t) + trust[1] * against_said(noisy, other, copied, t)
            return prior + told

    def mix(self, said: Tensor, found: Tensor, odds: Tensor) -> Tensor:
        """`said (b, n, c)` with as much of what was found as the odds let in."""
        gate = odds.sigmoid().repeat_interleave(self.values, dim=-1)
        copied, sure = found[..., :-1], found[..., -1:]
        return said + gate * (copied.repeat(1, 1, odds.shape[-1]) - sure * said)


def against_anything(x_t: Tensor, copied: Tensor, t: Tensor) -> Tensor:
    """How much likelier `x_t (b, n, frames, values)` is if data are `copied` than if they are anything else.

    Logarithms, `(b, n, frames)`.
    """
    rest, same, other = (x_t - (1 - t) * copied).square(), variance(t, SAME), variance(t, OTHER)
    return 0.5 * ((other / same).log() - rest * (1 / same - 1 / other)).sum(dim=-1)


def against_said(x_t: Tensor, said: Tensor, copied: Tensor, t: Tensor) -> Tensor:
    """The same, than if data are what was said."""
    rest, other = ((x_t - (1 - t) * mean).square() for mean in (copied, said))
    return 0.5 * ((other - rest) / variance(t, SAME)).sum(dim=-1)


def copying_loss(odds: Tensor, found: Tensor, data: Tensor) -> Tensor:
    """Cross entropy of the odds `(b, n, frames)` with what is known of the clean `data (b, n, c)`, `(b, n)`.

    The truth is the posterior at t = 0, where `SAME` and `OTHER` are told apart by a deviation of 0.05 (of values in
    [-1, 1]). Where nothing was found there is no loss.
    """
    values = found.shape[-1] - 1
    clean, copied = data.unflatten(-1, (-1, values)), found[..., None, :-1]
    truth = against_anything(clean, copied, torch.zeros_like(clean[:, :, :1, :1])).sigmoid().detach()
    each = F.binary_cross_entropy_with_logits(odds, truth, reduction="none").mean(dim=-1)
    return each * found[..., -1].detach()
