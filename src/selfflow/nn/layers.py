"""The pieces of a block: norms, modulation by time, the gated MLP and attention."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfflow.nn.rotary import rotate
from selfflow.times import Times

KeysValues = tuple[Tensor, Tensor]

# Up to this many keys, a CPU multiplies plain matrices: at 80 keys, forward and backward take 22 ms where the fused
# kernel takes 63, and forward alone 8 where it takes 11 (bf16, one core). Beyond it the scores would leave the cache.
PLAIN_KEYS = 512


def norm(x: Tensor) -> Tensor:
    """LayerNorm over the last axis without learned parameters; modulation supplies scale and shift."""
    return F.layer_norm(x, x.shape[-1:])


class HeadNorm(nn.Module):
    """RMSNorm of each head's query or key, so that attention logits cannot grow without bound (2302.05442)."""

    def __init__(self, head_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(head_width))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), eps=1e-6).to(x.dtype)


class TimeEmbedding(nn.Module):
    """`(…)` times in [0, 1] to `(…, width)`: 256 sinusoids of 1000·t, then two layers."""

    turns: Tensor

    def __init__(self, width: int, features: int = 256) -> None:
        super().__init__()
        # Scaled by 1000 as in every diffusion transformer since DDPM, so the fastest sinusoid tells t from t + 0.001.
        turns = 1000 * torch.exp(-math.log(10_000) * torch.arange(features // 2) / (features // 2))
        self.register_buffer("turns", turns, persistent=False)
        self.inner = nn.Linear(features, width)
        self.outer = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        angle = t.float()[..., None] * self.turns
        return self.outer(F.silu(self.inner(torch.cat([angle.cos(), angle.sin()], dim=-1))))


class Modulation(nn.Module):
    """Shift, scale and gate from time: one linear layer shared by every block of a kind (as in FLUX.2).

    It runs on the few distinct times of a sample, and the result is gathered to the tokens once for all blocks.
    """

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(width, parts * width)

    def forward(self, embedded: Tensor, times: Times) -> Sequence[Tensor]:
        """`parts` tensors, each `(b, n, width)`, or `(b, 1, width)` when a sample has one time."""
        return times.spread(self.linear(F.silu(embedded))).chunk(self.parts, dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, norm(x), 1 + scale)


def attend(q: Tensor, k: Tensor, v: Tensor, past: KeysValues | None, mask: Tensor | None) -> Tensor:
    """Attention of `q (b, n, h, w)` over what is remembered and over its own tokens; `(b, n, h·w)`.

    `mask` is `(b, 1, 1, m + n)`, or None in the common case that nothing is padding.
    """
    if past is not None:
        k, v = torch.cat([past[0], k], dim=1), torch.cat([past[1], v], dim=1)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if q.device.type == "cpu" and k.shape[2] <= PLAIN_KEYS:
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        out = scores.softmax(dim=-1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(1, 2).flatten(2)


class Block(nn.Module):
    """A transformer block: attention, then a SwiGLU MLP, both modulated and gated; or both at once.

    Sequential blocks are the classic form. A parallel block (FLUX's "single" block; Dehghani et al. 2023) computes
    attention and MLP from one normalised input through one fused linear on either side: fewer, larger matrix products.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, parallel: bool) -> None:
        super().__init__()
        self.heads, self.parallel = heads, parallel
        self.hidden = hidden = round(mlp_ratio * width)
        self.q_norm, self.k_norm = HeadNorm(width // heads), HeadNorm(width // heads)
        if parallel:
            self.inward = nn.Linear(width, 3 * width + 2 * hidden, bias=False)
            self.outward = nn.Linear(width + hidden, width, bias=False)
        else:
            self.qkv = nn.Linear(width, 3 * width, bias=False)
            self.project = nn.Linear(width, width, bias=False)
            self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
            self.down = nn.Linear(hidden, width, bias=False)

    @property
    def parts(self) -> int:
        """How many modulation tensors the block takes."""
        return 3 if self.parallel else 6

    def _qkv(self, fused: Tensor, rotation: KeysValues) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = fused.unflatten(-1, (3, self.heads, -1)).unbind(2)
        return rotate(self.q_norm(q), *rotation), rotate(self.k_norm(k), *rotation), v

    def forward(
        self,
        x: Tensor,
        modulation: Sequence[Tensor],
        rotation: KeysValues,
        past: KeysValues | None = None,
        mask: Tensor | None = None,
        read_only: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`x (b, n, width)` to the same shape, and the keys and values `(b, n, h, w)` of these tokens.

        With `read_only` the keys and values alone are wanted, and x is handed back as it came.
        """
        if read_only:
            width, weight = x.shape[-1], (self.inward if self.parallel else self.qkv).weight
            fused = F.linear(modulate(x, *modulation[:2]), weight[width : 3 * width])
            k, v = fused.unflatten(-1, (2, self.heads, -1)).unbind(2)
            return x, rotate(self.k_norm(k), *rotation), v
        if self.parallel:
            shift, scale, gate = modulation
            fused = self.inward(modulate(x, shift, scale))
            qkv, a, b = fused.split([3 * x.shape[-1], self.hidden, self.hidden], dim=-1)
            q, k, v = self._qkv(qkv, rotation)
            mixed = torch.cat([attend(q, k, v, past, mask), F.silu(a) * b], dim=-1)
            return torch.addcmul(x, 1 + gate, self.outward(mixed)), k, v
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation
        q, k, v = self._qkv(self.qkv(modulate(x, shift, scale)), rotation)
        x = torch.addcmul(x, 1 + gate, self.project(attend(q, k, v, past, mask)))
        a, b = self.gate_up(modulate(x, mlp_shift, mlp_scale)).chunk(2, dim=-1)
        return torch.addcmul(x, 1 + mlp_gate, self.down(F.silu(a) * b)), k, v
