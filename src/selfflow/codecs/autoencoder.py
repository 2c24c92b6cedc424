"""Small autoencoders to train oneself: of pictures and clips, and of sound.

They are made to decode fast: at the sizes of this project a decoder as large as the published ones would take longer
than all sampling steps together. So no layer works at full resolution (pixels are first folded into channels), nothing
attends, and the widths are small. Norms look at one place at a time: what is decoded depends on what is near, not on
how large the picture is, and in clips not on what comes later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from selfflow.codecs.base import Codec
from selfflow.codecs.sound import SoundCodec

MOMENTUM = 0.05  # of the running statistics, in the long run


@dataclass(frozen=True)
class Shape:
    """Of an autoencoder.

    Attributes:
        channels: of a latent.
        strides: by how much each level folds, from the values inwards; their product is the codec's factor.
        widths: channels of each level, from the values inwards.
        blocks: residual blocks of each level.
        time_factor: frames per latent frame; 1 encodes every frame by itself.
        noise: standard deviation of what is added to the latents while training: the decoder learns to forgive what
            a generator gets wrong, and near latents are made to mean near things.
        causal: of sounds, whether a latent depends on its own and earlier samples only. (Frames of a clip never look at
            later ones.)
        own: of pictures, blocks of an encoder of which each latent sees its own patch only, all pixels of a single
            level (`selfflow.codecs.patchwise`); 0 for one that looks around. `blocks` are then the decoder's.
    """

    channels: int = 8
    strides: tuple[int, ...] = (2, 2)
    widths: tuple[int, ...] = (64, 128)
    blocks: tuple[int, ...] = (1, 2)
    time_factor: int = 1
    noise: float = 0.1
    causal: bool = False
    own: int = 0

    def __post_init__(self) -> None:
        levels = {len(self.strides), len(self.widths), len(self.blocks)}
        if len(levels) != 1 or 0 in levels or min(*self.strides, *self.widths, self.channels, self.time_factor) < 1:
            raise ValueError(f"an autoencoder has as many strides as widths and blocks, all at least 1; got {self}")
        if not 0 <= self.noise < 10 or min(self.blocks) < 0:
            raise ValueError(f"noise {self.noise} lies in [0, 10) and blocks {self.blocks} are 0 or more")
        if self.own < 0 or (self.own and (len(self.strides), self.time_factor, self.causal) != (1, 1, False)):
            raise ValueError(f"an encoder of {self.own} blocks of its own has one level, of pictures alone; got {self}")


class Norm(nn.Module):
    """Root-mean-square norm over the channels of each place (Zhang & Sennrich 2019), `(b, c, …)`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(dim=1, keepdim=True) + 1e-6).to(x.dtype)
        return x * scale * self.weight.to(x.dtype).reshape(-1, *[1] * (x.ndim - 2))


class Backwards(nn.Conv1d):
    """A convolution whose place j sees places up to j, none later."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (self.kernel_size[0] - 1, 0)))


def convolution(
    axes: int, width: int, out: int, kernel: int = 3, zero: bool = False, causal: bool = False
) -> nn.Conv1d | nn.Conv2d:
    """Over 1 or 2 axes, keeping their lengths; with all weights 0 where asked. A causal one is over 1."""
    if causal:
        layer: nn.Conv1d | nn.Conv2d = Backwards(width, out, kernel)
    else:
        layer = (nn.Conv1d if axes == 1 else nn.Conv2d)(width, out, kernel, padding=kernel // 2)
    if zero:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
    return layer


class Residual(nn.Module):
    """`x + conv(silu(norm(conv(silu(norm(x))))))`, which begins as the identity."""

    def __init__(self, axes: int, width: int, causal: bool = False) -> None:
        super().__init__()
        self.norms = nn.ModuleList([Norm(width), Norm(width)])
        each = (convolution(axes, width, width, zero=last, causal=causal) for last in (False, True))
        self.convolutions = nn.ModuleList(each)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, convolve in zip(self.norms, self.convolutions, strict=True):
            y = convolve(F.silu(norm(y)))
        return x + y


class Fold(nn.Module):
    """`stride` places along each axis become one with so many more channels."""

    def __init__(self, axes: int, stride: int) -> None:
        super().__init__()
        self.axes, self.stride = axes, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.axes == 1:
            return rearrange(x, "b c (n s) -> b (c s) n", s=self.stride)
        return F.pixel_unshuffle(x, self.stride)


class Unfold(Fold):
    """The inverse of `Fold`."""

    def forward(self, x: Tensor) -> Tensor:
        if self.axes == 1:
            return rearrange(x, "b (c s) n -> b c (n s)", s=self.stride)
        return F.pixel_shuffle(x, self.stride)


def encoder(axes: int, values: int, shape: Shape) -> nn.Sequential:
    """Values to features of the innermost width, before the latents."""
    layers, width, causal = list[nn.Module](), values, shape.causal and axes == 1
    for stride, wider, blocks in zip(shape.strides, shape.widths, shape.blocks, strict=True):
        layers += [Fold(axes, stride), convolution(axes, width * stride**axes, wider, causal=causal)]
        layers += [Residual(axes, wider, causal) for _ in range(blocks)]
        width = wider
    return nn.Sequential(*layers)


def decoder(axes: int, values: int, shape: Shape) -> nn.Sequential:
    """Features of the innermost width to values."""
    layers, widths = list[nn.Module](), (values, *shape.widths)
    for level in reversed(range(len(shape.strides))):
        stride, narrower = shape.strides[level], widths[level]
        layers += [Residual(axes, widths[level + 1]) for _ in range(shape.blocks[level])]
        spread = convolution(axes, widths[level + 1], narrower * stride**axes)
        with torch.no_grad():  # all places that unfold from one begin alike: no checkerboard to unlearn (1707.02937)
            for p in spread.parameters():
                p.copy_(p[:narrower].repeat_interleave(stride**axes, dim=0))
        layers += [Norm(widths[level + 1]), spread, Unfold(axes, stride)]
    return nn.Sequential(*layers)


class Causal(nn.Module):
    """Adds to every frame what follows from it and the one before, `(b, f, c, h, w)`; the first comes after itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.mix = Norm(2 * width), convolution(2, 2 * width, width, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        before = torch.cat([x[:, :1], x[:, :-1]], dim=1)
        pairs = torch.cat([before, x], dim=2).flatten(0, 1)
        return x + self.mix(F.silu(self.norm(pairs))).unflatten(0, x.shape[:2])


class Autoencoder(Codec):
    """What pictures, clips and sound share: a trunk, latents normalised by running statistics, and the way back.

    Latents leave the encoder less the mean, over the standard deviation, that each channel had during training: batch
    norm without learned scales, as in FLUX.2's autoencoder. The decoder is trained on them as they are.
    """

    def __init__(self, axes: int, values: int, shape: Shape) -> None:
        super().__init__()
        self.shape, self.values = shape, values
        self.channels, self.factor, self.time_factor = shape.channels, prod(shape.strides), shape.time_factor
        inner = shape.widths[-1]
        self.encoder, self.decoder = encoder(axes, values, shape), decoder(axes, values, shape)
        self.to_latents = nn.Sequential(Norm(inner), convolution(axes, inner, shape.channels, 1))
        self.from_latents = convolution(axes, shape.channels, inner)
        norm = nn.BatchNorm1d if axes == 1 else nn.BatchNorm2d
        self.statistics = norm(shape.channels, eps=1e-4, affine=False)

    def forward(self, values: Tensor, noise: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        """Values, of the shape that `_encode` takes, to (restored values, latents), with gradients.

        In training the latents are normalised by the statistics of the batch, which the running ones follow.

        Args:
            noise: draws standard normal numbers of a shape; `shape.noise` times these are added to the latents.
        """
        raw = self._raw(values)
        if self.training and self.statistics.num_batches_tracked is not None:
            # A plain mean at first, so that the values they start from do not linger.
            self.statistics.momentum = max(MOMENTUM, 1 / (1 + int(self.statistics.num_batches_tracked)))
        latents = self.statistics(raw.flatten(0, -4) if raw.ndim == 5 else raw).reshape(raw.shape)
        return self._decode(latents + self.shape.noise * noise(*raw.shape).to(raw.device)), latents

    @property
    def decoder_parameters(self) -> int:
        """How many numbers decoding uses."""
        return sum(p.numel() for part in self._decoding() for p in part.parameters())

    def _decoding(self) -> list[nn.Module]:
        return [self.from_latents, self.decoder]

    def _raw(self, values: Tensor) -> Tensor:
        """Latents before they are normalised, float32."""
        return self.to_latents(self.encoder(values)).float()

    def _encode(self, values: Tensor) -> Tensor:
        # Not by calling `statistics`: encoding must not depend on the batch, whatever mode the module is in.
        raw, s = self._raw(values), self.statistics
        flat = raw.flatten(0, -4) if raw.ndim == 5 else raw
        return F.batch_norm(flat, s.running_mean, s.running_var, eps=s.eps).reshape(raw.shape)

    def _decode(self, latents: Tensor) -> Tensor:
        return self.decoder(self.from_latents(latents))

    def options(self) -> dict[str, Any]:
        return {"shape": dataclasses.asdict(self.shape)}


class VisualAutoencoder(Autoencoder):
    """Pictures and clips `(…, 3, H, W)` in [-1, 1].

    With a `time_factor` above 1 the features of so many frames are joined into one latent frame, and each latent frame
    sees the one before; without, every frame is a picture by itself. Never does a frame see a later one, and of a
    picture remains what remains of the first frame of a clip.
    """

    kind = "visual"

    def __init__(self, shape: Shape | None = None) -> None:
        super().__init__(2, 3, shape or Shape())
        if self.time_factor > 1:
            inner, several = self.shape.widths[-1], self.time_factor * self.shape.widths[-1]
            self.join, self.after_join = convolution(2, several, inner, 1), Residual(2, inner)
            self.part, self.before_part = convolution(2, inner, several, 1), Residual(2, inner)
            self.past, self.past_again = Causal(inner), Causal(inner)

    def _decoding(self) -> list[nn.Module]:
        clip = [self.part, self.before_part, self.past_again] if self.time_factor > 1 else []
        return super()._decoding() + clip

    def _raw(self, values: Tensor) -> Tensor:
        if self.time_factor == 1:
            return super()._raw(values)
        k, sizes = self.time_factor, values.shape[:2]
        features = self.encoder(values.flatten(0, 1)).unflatten(0, sizes)
        filled = torch.cat([features[:, :1].expand(-1, k - 1, -1, -1, -1), features], dim=1)
        joined = self.after_join(self.join(rearrange(filled, "b (f k) c h w -> (b f) (k c) h w", k=k)))
        mixed = self.past(joined.unflatten(0, (sizes[0], -1)))
        return self.to_latents(mixed.flatten(0, 1)).float().unflatten(0, mixed.shape[:2])

    def _decode(self, latents: Tensor) -> Tensor:
        if self.time_factor == 1:
            return super()._decode(latents)
        k, sizes = self.time_factor, latents.shape[:2]
        mixed = self.past_again(self.from_latents(latents.flatten(0, 1)).unflatten(0, sizes))
        parts = self.part(self.before_part(mixed.flatten(0, 1)))
        frames = rearrange(parts, "(b f) (k c) h w -> b (f k) c h w", b=sizes[0], k=k)[:, k - 1 :]
        return self.decoder(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])


class SoundAutoencoder(SoundCodec, Autoencoder):
    """Waveforms `(b, samples)` in [-1, 1] to latents `(b, channels, ceil(samples / factor))`.

    With a causal shape no latent has heard what follows it; the decoder looks both ways in any case.
    """

    kind = "sound"

    def __init__(self, shape: Shape | None = None, rate: int = 16_000) -> None:
        super().__init__(1, 1, shape or SOUND)
        if self.time_factor != 1 or rate < 1:
            raise ValueError(f"sound has time_factor 1, not {self.time_factor}, and a rate of at least 1, not {rate}")
        self.rate = rate

    @property
    def causal(self) -> bool:
        return self.shape.causal

    def _heard(self, wave: Tensor) -> Tensor:
        return self._encode(wave.to(self.device)[:, None])

    def _said(self, latents: Tensor, begins: Tensor | None) -> Tensor:
        return self._decode(latents.to(self.device))[:, 0]

    def options(self) -> dict[str, Any]:
        return super().options() | {"rate": self.rate}


PICTURE_4 = Shape(channels=8, strides=(2, 2), widths=(64, 128), blocks=(1, 2))
PICTURE_8 = Shape(channels=16, strides=(2, 2, 2), widths=(56, 96, 120), blocks=(1, 1, 2))
CLIP = Shape(channels=16, strides=(2, 2, 2), widths=(48, 72, 112), blocks=(1, 1, 1), time_factor=4)
SOUND = Shape(channels=64, strides=(5, 4, 4, 4), widths=(48, 96, 160, 192), blocks=(1, 1, 2, 2), causal=True)
