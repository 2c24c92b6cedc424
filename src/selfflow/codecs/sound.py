"""What every codec of sound is: waveforms in, a latent for every `factor` samples out, and back."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.codecs.base import Codec, check_finite


class SoundCodec(Codec):
    """Waveforms `(b, samples)` in [-1, 1] to latents `(b, channels, ceil(samples / factor))`, and back.

    Attributes:
        hears: that it is of sound.
        continues: whether `decode` can be told how what it gives begins.
        causal: whether no latent has heard what follows it.
        rate: samples a second it is made for; latents come at `rate / factor` a second.
    """

    hears: ClassVar[bool] = True
    continues: ClassVar[bool] = False
    rate: int

    @property
    def causal(self) -> bool:
        raise NotImplementedError

    @torch.no_grad()
    def encode(self, values: Tensor) -> Tensor:
        """Waveforms to latents; silence fills the last one.

        Raises:
            ValueError: for another shape, or samples that are not finite.
        """
        if values.ndim != 2 or 0 in values.shape:
            raise ValueError(f"waveforms are (b, samples); got {tuple(values.shape)}")
        check_finite(values, "waveforms")
        return self._heard(F.pad(values.float(), (0, -values.shape[1] % self.factor)))

    @torch.no_grad()
    def decode(self, latents: Tensor, begins: Tensor | None = None) -> Tensor:
        """Latents `(b, channels, n)` to waveforms `(b, n · factor)`.

        Args:
            begins: `(b, k)`, the first samples, where they are known: one that `continues` goes on from them, any
                other has no use for them.

        Raises:
            ValueError: for another shape, or latents that are not finite.
        """
        if latents.ndim != 3 or latents.shape[1] != self.channels or 0 in latents.shape:
            raise ValueError(f"latents of sound are (b, {self.channels}, n); got {tuple(latents.shape)}")
        check_finite(latents, "latents")
        return self._said(latents.float(), begins)

    def _heard(self, wave: Tensor) -> Tensor:
        """Whole latents of a waveform, `(b, n · factor)` float32."""
        raise NotImplementedError

    def _said(self, latents: Tensor, begins: Tensor | None) -> Tensor:
        """The inverse of `_heard`, of float32 latents."""
        raise NotImplementedError
