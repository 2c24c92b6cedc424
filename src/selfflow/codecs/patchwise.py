"""A codec of pictures whose latents each see one patch: principal components first, what is not linear on top.

Two things follow from an encoder that looks at nothing but its patch. What stays the same has the same latents,
whatever changed beside it, so an edit can copy them; and latents beside a hole know nothing of what is in it. The
decoder looks around: that is where seams and crooked edges are mended.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from selfflow.codecs.autoencoder import Shape
from selfflow.codecs.base import Codec, check_finite

MOMENTUM = 0.02  # of the running mean and scale, in the long run
PATCHES = Shape(channels=48, strides=(8,), widths=(256,), blocks=(3,), noise=0.15, own=2)


class Block(nn.Module):
    """`x + mlp(norm(x))`, which begins as `x`; with `around` the mlp sees 3 × 3 neighbours, `(b, h, w, c)`."""

    def __init__(self, width: int, around: bool) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(width, eps=1e-6)
        self.around = nn.Conv2d(width, width, 3, padding=1, groups=width) if around else None
        self.widen, self.narrow = nn.Linear(width, 3 * width), nn.Linear(3 * width, width)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.around is None else self.around(x.movedim(-1, 1)).movedim(1, -1)
        return x + self.narrow(F.silu(self.widen(self.norm(y))))


class Beside(nn.Module):
    """What a linear map leaves out: blocks between two layers, the last of which begins as nothing, `(b, h, w, c)`."""

    def __init__(self, inner: int, width: int, out: int, blocks: int, around: bool) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(inner, width), nn.Linear(width, out)
        self.blocks = nn.ModuleList(Block(width, around) for _ in range(blocks))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return self.leave(self.norm(x))


class PatchAutoencoder(Codec):
    """Pictures `(n, 3, H, W)` in [-1, 1] to `(n, channels, H / patch, W / patch)` and back; clips frame by frame.

    All channels share one scale, so that the noise of training says how loudly each is told. Of a linear code the least
    error has channels whose *variance* goes with the deviation of what they tell (p + σ² ∝ √λ), and so they begin:
    neither whitened, where a patch's brightness is as uncertain as its least detail, nor as loud as in pixels, where
    details drown. The noise of training is between none and twice `shape.noise`, drawn for each picture.
    """

    kind = "patches"

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__()
        s = self.shape = shape or PATCHES
        numbers = 3 * s.strides[0] ** 2
        if not s.own or s.channels > numbers:
            raise ValueError(f"a patch of {numbers} numbers becomes fewer, by blocks of its own (own > 0); got {s}")
        self.channels, self.factor = s.channels, s.strides[0]
        self.inwards, self.outwards = nn.Linear(numbers, s.channels), nn.Linear(s.channels, numbers)
        self.encoder = Beside(numbers, s.widths[0], s.channels, s.own, around=False)
        self.decoder = Beside(s.channels, s.widths[0], numbers, s.blocks[0], around=True)
        self.mean: Tensor
        self.scale: Tensor
        self.seen: Tensor
        self.register_buffer("mean", torch.zeros(s.channels))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def begin(self, pictures: Tensor) -> None:
        """Before training: the linear maps become the principal components of patches of `pictures (n, 3, H, W)`.

        Raises:
            ValueError: when there are fewer patches than numbers in a patch, or values that are not finite.
        """
        check_finite(pictures, "pictures")
        x = self._patches(pictures).flatten(0, 2).double()
        if len(x) < x.shape[1]:
            raise ValueError(f"{len(x)} patches have no {x.shape[1]} principal components; give more pictures")
        mean = x.mean(dim=0)
        variances, components = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))  # in ascending order
        axes = components.flip(1)[:, : self.channels]
        # A component is told with a variance that goes with its deviation; 1 on average.
        deviations = variances.flip(0)[: self.channels].clamp_min(1e-8).sqrt()
        loud = (deviations * deviations.mean()).rsqrt()
        self.inwards.weight.copy_((axes * loud).T)
        self.inwards.bias.copy_(-(mean @ axes) * loud)
        self.outwards.weight.copy_(axes / loud)
        self.outwards.bias.copy_(mean)

    def forward(self, values: Tensor, noise: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        """Pictures to (restored pictures, latents), with gradients, as `Autoencoder.forward`."""
        raw = self._raw(values)
        if self.training:
            flat = raw.flatten(0, 2)
            mean = flat.mean(dim=0)
            scale = (flat - mean).square().mean().sqrt()
            with torch.no_grad():  # a plain mean at first, so that the values they start from do not linger
                share = max(MOMENTUM, 1 / (1 + int(self.seen)))
                self.mean.lerp_(mean, share)
                self.scale.lerp_(scale, share)
                self.seen += 1
        else:
            mean, scale = self.mean, self.scale
        latents = (raw - mean) / scale
        drawn = noise(*latents.shape).to(latents.device)
        # One number of each sample's noise says how loud all of it is, uniformly: its probability among its like.
        loud = torch.special.ndtr(drawn[:, :1, :1, :1]) * 2 * self.shape.noise
        return self._restore(latents + loud * drawn), latents.permute(0, 3, 1, 2)

    @property
    def decoder_parameters(self) -> int:
        """How many numbers decoding uses."""
        return sum(p.numel() for part in (self.outwards, self.decoder) for p in part.parameters())

    def _patches(self, pictures: Tensor) -> Tensor:
        sizes = {"p": self.factor, "q": self.factor}
        return rearrange(pictures, "b c (h p) (w q) -> b h w (p q c)", **sizes)

    def _raw(self, pictures: Tensor) -> Tensor:
        x = self._patches(pictures)
        return (self.inwards(x) + self.encoder(x)).float()

    def _restore(self, latents: Tensor) -> Tensor:
        x = self.outwards(latents) + self.decoder(latents)
        sizes = {"p": self.factor, "q": self.factor}
        return rearrange(x, "b h w (p q c) -> b c (h p) (w q)", **sizes)

    def _encode(self, values: Tensor) -> Tensor:
        return ((self._raw(values) - self.mean) / self.scale).permute(0, 3, 1, 2)

    def _decode(self, latents: Tensor) -> Tensor:
        return self._restore(latents.permute(0, 2, 3, 1))

    def options(self) -> dict[str, Any]:
        return {"shape": dataclasses.asdict(self.shape)}
