"""Sound as tokens of a codec: one latent for each hop, in place of the transform of `selfflow.modalities.audio`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selfflow.nn.transformer import Modality, Prediction
from selfflow.shapes import Float
from selfflow.tokens import AXES, Tokens


@dataclass(frozen=True)
class AudioLatents:
    """A waveform in, one token for each hop out: its latent. What `Audio` is without a codec.

    A latent depends on its own hop and earlier ones (`Shape.causal`), so the beginning of a sound has the same tokens
    whatever follows: what is known of it is known without a glimpse of the rest. Decoding looks a few hops both ways.

    Args:
        codec: `selfflow.codecs.autoencoder.SoundAutoencoder` or `selfflow.codecs.mel.MelSpectrogram`.
        prediction: what the network predicts of a token.

    Raises:
        ValueError: for a codec of something else, or one that looks ahead.
    """

    codec: Any
    prediction: Prediction = "data"
    name: str = "audio"

    def __post_init__(self) -> None:
        if not getattr(self.codec, "hears", False):
            raise ValueError(
                f'sound takes a codec of sound ("mel", or one of selfflow train codec-sound), not '
                f"{type(self.codec).__name__}"
            )
        if not self.codec.causal:
            raise ValueError(
                "this codec of sound looks ahead: what is known of a sound would depend on what follows. "
                "Train one whose shape is causal, as codec-sound's is"
            )

    @property
    def rate(self) -> int:
        """Samples a second."""
        return int(self.codec.rate)

    @property
    def hop(self) -> int:
        """Samples of a token."""
        return int(self.codec.factor)

    @property
    def modality(self) -> Modality:
        return Modality(channels=self.codec.channels, prediction=self.prediction)

    def count(self, samples: int) -> int:
        """Tokens of a waveform: `ceil(samples / hop)`."""
        return -(-samples // self.hop)

    def known(self, samples: int) -> int:
        """Tokens that the beginning of a sound, so many samples, decides whatever follows."""
        return samples // self.hop

    def tokens(self, wave: Float[Tensor, "b samples"], start: float = 0.0) -> Tokens:
        """Waveforms to tokens `(b, ceil(samples / hop), channels)`, float32; silence fills the last one.

        Args:
            wave: `(b, samples)` at `rate`, in [-1, 1].
            start: time of the first sample, seconds. The place of a token is the centre of its hop.

        Raises:
            ValueError: for another shape, no samples, or samples that are not finite.
        """
        latents = self.codec.encode(wave).transpose(1, 2)
        n = latents.shape[1]
        places = torch.zeros(n, len(AXES), device=latents.device)
        places[:, 0] = start + (torch.arange(n, device=latents.device) + 0.5) * (self.hop / self.rate)
        return Tokens(latents.contiguous(), places.expand(len(latents), -1, -1), self.name)

    @property
    def learned(self) -> bool:
        """Whether the codec was trained, and goes where its model goes."""
        return bool(self.codec.learned)

    @property
    def joins(self) -> bool:
        """Whether a sound may be made window by window, each going on from the last."""
        return bool(self.codec.continues)

    @property
    def unsettled(self) -> int:
        """Tokens at the end of a window that the next one makes again."""
        return int(self.codec.unsettled)

    @property
    def lap(self) -> int:
        """Samples by which a token reaches into its neighbours'."""
        return 0

    def waveform(
        self, data: Float[Tensor, "b n c"], samples: int, begins: Tensor | None = None
    ) -> Float[Tensor, "b samples"]:
        """The inverse of `tokens`, as far as there is one: the first `samples` samples, float32; may pass ±1.

        Args:
            begins: `(b, k)`, the first samples, where they are known: a codec that can goes on from them.

        Raises:
            ValueError: when the data is not that of waveforms of this length.
        """
        wanted = (self.count(samples), self.codec.channels)
        if samples < 1 or data.ndim != 3 or tuple(data.shape[1:]) != wanted:
            raise ValueError(
                f"{self.name} data has shape {tuple(data.shape)}; {samples} samples in hops of {self.hop} "
                f"need (b, {wanted[0]}, {wanted[1]})"
            )
        wave: Tensor = self.codec.decode(data.transpose(1, 2).float(), begins)
        return wave[:, :samples]
