"""SiT-XL/2 as Self-Flow published it for ImageNet 256 × 256: its names and shapes inside, our conventions outside.

A class-conditional transformer over the 16 × 16 patches of a 32 × 32 × 4 latent (Peebles & Xie 2022, 2212.09748; Ma et
al. 2024, 2401.08740), conditioned per token as Self-Flow needs (2603.06507). Inside, it lives in another world than the
rest of this library; `SiT.trace` and `_read` / `_emit` are the only places that know both:

| | outside | inside |
|---|---|---|
| clock | t, 1 is noise | u = 1 - t, 0 is noise |
| output | velocity = noise - data | data - noise, followed by as many unused channels |
| values of a token, read | (row, column, channel) | (channel, row, column) |
| values of a token, emitted | (row, column, channel) | (row, column, channel), twice the channels |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from selfflow.modalities.visual import Patches
from selfflow.shapes import Float, Int
from selfflow.times import Times, as_times


@dataclass(frozen=True)
class SiTConfig:
    """Shape of the network; the defaults are the published SiT-XL/2.

    Attributes:
        depth, width, heads: of the transformer.
        classes: real ones; class number `classes` is the null class of guidance.
        patch: side of a patch in latent pixels.
        channels: of a latent pixel.
        grid: patches along each side of the latent.
        frequencies: cosines and sines, together, that describe a time.
    """

    depth: int = 28
    width: int = 1152
    heads: int = 16
    classes: int = 1000
    patch: int = 2
    channels: int = 4
    grid: int = 16
    frequencies: int = 256

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"SiT's {name} is {value!r}; it must be a positive integer")
        if self.width % self.heads:
            raise ValueError(f"SiT's width {self.width} does not divide into {self.heads} heads")
        if self.width % 4:
            raise ValueError(f"SiT's width is {self.width}; sine-cosine positions on two axes need a multiple of 4")
        if self.frequencies % 2:
            raise ValueError(f"SiT's frequencies are {self.frequencies}; cosines and sines come in pairs")

    @property
    def tokens(self) -> int:
        return self.grid**2

    @property
    def values(self) -> int:
        """Numbers in a token."""
        return self.channels * self.patch**2

    @property
    def side(self) -> int:
        """Of the latent, in latent pixels."""
        return self.grid * self.patch

    @property
    def patches(self) -> Patches:
        """Latents `(b, channels, side, side)` to tokens `(b, n, values)` and back."""
        return Patches(self.patch, self.channels, prediction="velocity", name="latent")


def sine_cosine_positions(grid: int, width: int) -> Float[Tensor, "n width"]:
    """Fixed row-major positions: half the width for the column, half for the row, each sines then cosines.

    Only the starting value of `pos_embed`; an imported checkpoint brings its own.
    """
    frequencies = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.outer(torch.arange(grid, dtype=torch.float64), frequencies)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width / 2)
    column, row = axis.repeat(grid, 1), axis.repeat_interleave(grid, dim=0)
    return torch.cat([column, row], dim=1).float()


class TimeEmbedder(nn.Module):
    def __init__(self, width: int, frequencies: int) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, u: Tensor) -> Tensor:
        """`u (…)` in [0, 1], unscaled, to `(…, width)`: cosines, then sines, of periods up to 2π · 10⁴."""
        half = self.frequencies // 2
        u = u.to(torch.promote_types(u.dtype, torch.float32))
        rates = torch.exp(-math.log(10_000) / half * torch.arange(half, dtype=u.dtype, device=u.device))
        angles = u[..., None] * rates
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(next(self.mlp.parameters()).dtype))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


class MLP(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


def modulation(width: int, parts: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """The norm without weights of its own, then the shift and scale of each token's condition."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.mlp = MLP(width)
        self.adaLN_modulation = modulation(width, 6)

    def forward(self, x: Tensor, condition: Float[Tensor, "b k d"], times: Times) -> Tensor:
        parts = times.spread(self.adaLN_modulation(condition)).chunk(6, dim=-1)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = parts
        x = x + gate * self.attn(modulated(x, shift, scale))
        return x + gate_mlp * self.mlp(modulated(x, shift_mlp, scale_mlp))


class FinalLayer(nn.Module):
    def __init__(self, width: int, values: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, values)
        self.adaLN_modulation = modulation(width, 2)

    def forward(self, x: Tensor, condition: Tensor, times: Times) -> Tensor:
        shift, scale = times.spread(self.adaLN_modulation(condition)).chunk(2, dim=-1)
        return self.linear(modulated(x, shift, scale))


class Projector(nn.Module):
    """Self-Flow's representation head: the student's features to the teacher's. Sampling does not use it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, 2 * width)
        self.linear2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear2(F.silu(self.linear1(x)))


class SiT(nn.Module):
    """The published network. `state_dict()` has exactly the published names and shapes.

    Attributes:
        projector: the representation head; the release applied it to the student's layer 8 of 28 and compared with
            the teacher's layer 20 (both counted from 1; see `trace` and `features`).
    """

    def __init__(self, config: SiTConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SiTConfig()
        d = config.width
        # A parameter, because the published count includes it; fixed, because it was not trained.
        self.pos_embed = nn.Parameter(sine_cosine_positions(config.grid, d)[None], requires_grad=False)
        self.x_embedder = nn.ModuleDict({"proj": nn.Linear(config.values, d)})
        self.t_embedder = TimeEmbedder(d, config.frequencies)
        self.y_embedder = nn.ModuleDict({"embedding_table": nn.Embedding(config.classes + 1, d)})
        self.blocks = nn.ModuleList(Block(d, config.heads) for _ in range(config.depth))
        self.final_layer = FinalLayer(d, 2 * config.values)
        self.projector = Projector(d)

    @property
    def null_class(self) -> int:
        return self.config.classes

    def forward(
        self, x_t: Float[Tensor, "b n values"], t: Tensor | Times, labels: Int[Tensor, "b"]
    ) -> Float[Tensor, "b n values"]:
        """`velocity = noise - data` at `x_t`.

        Args:
            x_t: tokens of the scaled latent (see `SiTConfig.patches`), row-major, values (row, column, channel).
            t: `(b,)`, `(b, n)` or `Times`; 0 is data, 1 is noise.
            labels: class numbers; `null_class` means none.

        Raises:
            ValueError: when the shapes do not fit the network.
        """
        return self.trace(x_t, t, labels)[0]

    def trace(
        self, x_t: Tensor, t: Tensor | Times, labels: Tensor, layers: Sequence[int] = ()
    ) -> tuple[Float[Tensor, "b n values"], dict[int, Float[Tensor, "b n d"]]]:
        """The velocity, and the output of each block in `layers`, counted from 1."""
        x, condition, times = self._embed(x_t, t, labels)
        x, features = self._blocks(x, condition, times, layers, self.config.depth)
        return -self._emit(self.final_layer(x, condition, times)), features

    def features(self, x_t: Tensor, t: Tensor | Times, labels: Tensor, layer: int) -> Float[Tensor, "b n d"]:
        """The output of block `layer`, counted from 1; the blocks after it are not computed."""
        return self._blocks(*self._embed(x_t, t, labels), [layer], layer)[1][layer]

    def _embed(self, x_t: Tensor, t: Tensor | Times, labels: Tensor) -> tuple[Tensor, Tensor, Times]:
        config, times = self.config, as_times(t)
        if x_t.ndim != 3 or x_t.shape[1:] != (config.tokens, config.values):
            raise ValueError(
                f"x_t is {tuple(x_t.shape)}; this network takes (b, {config.tokens}, {config.values}) tokens"
            )
        b = len(x_t)
        if labels.shape != (b,) or times.per_token.shape not in ((b, 1), (b, config.tokens)):
            raise ValueError(
                f"times {tuple(times.per_token.shape)} and labels {tuple(labels.shape)} do not fit x_t "
                f"{tuple(x_t.shape)}; give times (b,) or (b, n), and labels (b,)"
            )
        condition = self.t_embedder(1 - times.levels) + self.y_embedder["embedding_table"](labels)[:, None]
        return self.x_embedder["proj"](self._read(x_t)) + self.pos_embed, condition, times

    def _blocks(
        self, x: Tensor, condition: Tensor, times: Times, layers: Sequence[int], last: int
    ) -> tuple[Tensor, dict[int, Tensor]]:
        if any(not 1 <= layer <= self.config.depth for layer in layers):
            raise ValueError(f"layers {list(layers)} asked for; this network has layers 1 to {self.config.depth}")
        features = {}
        for layer, block in enumerate(self.blocks[:last], start=1):
            x = block(x, condition, times)
            if layer in layers:
                features[layer] = x
        return x, features

    def _read(self, x_t: Tensor) -> Tensor:
        """Values (row, column, channel), ours, to (channel, row, column), which the first layer was trained on."""
        return rearrange(x_t, "b n (p q c) -> b n (c p q)", p=self.config.patch, q=self.config.patch)

    def _emit(self, values: Tensor) -> Tensor:
        """Drop the upper half of the head's channels (a variance that was never trained); the order is ours already."""
        return values.unflatten(-1, (-1, 2 * self.config.channels))[..., : self.config.channels].flatten(-2)
