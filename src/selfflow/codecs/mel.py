"""A sound as its mel spectrogram, and back: nothing here is learned.

A transform that keeps every sample also keeps the phase of every wave, and to a network phases are noise: of two
recordings of one word no two coefficients of a lapped transform have the same sign. What is heard is how loud each
frequency is. So a latent here is the loudness of mel-spaced bands (Stevens et al. 1937, O'Shaughnessy's formula) in the
frames of one hop, on a logarithmic scale, as speech synthesis has long had it (Tacotron 2, 1712.05884). The way back
finds a waveform with such a spectrogram: magnitudes of every frequency that explain the bands (multiplicative updates
of Lee & Seung 2001), then phases that belong to a real waveform (Griffin & Lim 1984, in the faster form of Perraudin et
al. 2013). The sound heard is nearly the same, the waveform is another.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.codecs.sound import SoundCodec

MEL = "mel"  # the name by which `load_codec` and `audio.codec` know it
# From the logarithm of a band's magnitude to a latent, for sounds of a root mean square of 0.1: silence becomes -0.5,
# the loudest vowels 2.3, and of spoken digits the mean is 0 and the standard deviation 0.7.
CENTRE, SPREAD = -3.0, 3.0
LOUDEST = 4.0  # a latent above is not believed: its exponential would drown all others
_EXPLAIN, _MOMENTUM = 20, 0.99


@dataclass(frozen=True)
class Bands:
    """Of a mel spectrogram.

    Attributes:
        hop: samples from one frame to the next.
        frames: in a latent, one after the other; hop · frames samples are the codec's factor.
        window: samples that a frame sees; it ends where its hop does.
        count: bands of a frame.
        floor: magnitude that is added before the logarithm is taken: what is quieter counts as silence.
    """

    hop: int = 160
    frames: int = 2
    window: int = 512
    count: int = 80
    floor: float = 0.01

    def __post_init__(self) -> None:
        if self.hop < 1 or self.frames < 1 or not 2 * self.hop <= self.window <= 1 << 14 or self.window % 2:
            raise ValueError(
                f"a window of {self.window} samples is even, at least twice the hop of {self.hop} and at most 16384; "
                f"a latent has {self.frames} frames, at least one"
            )
        if not 1 <= self.count <= self.window // 2 or not self.floor > 0:
            raise ValueError(f"{self.count} bands are 1 to half the window, and the floor {self.floor} is above 0")


class MelSpectrogram(SoundCodec):
    """Waveforms `(b, samples)` to latents `(b, channels, ceil(samples / factor))`, and nearly back.

    No latent has heard what follows it.

    Args:
        bands: of the spectrogram.
        rate: samples a second.
        rounds: of the search for phases.
    """

    kind = "mel"
    continues, learned = True, False

    def __init__(self, bands: Bands | None = None, rate: int = 16_000, rounds: int = 32) -> None:
        super().__init__()
        if rate < 1 or rounds < 0:
            raise ValueError(f"rate {rate} is at least 1, and rounds {rounds} are 0 or more")
        self.bands, self.rate, self.rounds, self.values = bands or Bands(), rate, rounds, 1
        self.factor, self.channels = self.bands.hop * self.bands.frames, self.bands.count * self.bands.frames

    def options(self) -> dict[str, Any]:
        return {"bands": asdict(self.bands), "rate": self.rate, "rounds": self.rounds}

    @property
    def causal(self) -> bool:
        return True

    def _heard(self, wave: Tensor) -> Tensor:
        loud = self._spectrum(wave).abs() @ self._tables(wave).filters
        latents = ((loud + self.bands.floor).log() - CENTRE) / SPREAD
        return latents.unflatten(1, (-1, self.bands.frames)).flatten(2).transpose(1, 2)

    def _said(self, latents: Tensor, begins: Tensor | None) -> Tensor:
        """The same latents always give the same waveform."""
        frames = latents.transpose(1, 2).unflatten(2, (self.bands.frames, -1)).flatten(1, 2)
        loud = (frames.clamp(max=LOUDEST) * SPREAD + CENTRE).exp() - self.bands.floor
        size = self._explained(loud.clamp_min(0))
        spectrum, before = torch.polar(size, self._phases(size, begins)), torch.zeros((), device=size.device)
        for _ in range(self.rounds):
            found = self._spectrum(_begun(self._wave(spectrum), begins, self.bands.hop))
            ahead = found + _MOMENTUM * (found - before)
            spectrum, before = size * ahead / ahead.abs().clamp_min(1e-9), found
        return _begun(self._wave(spectrum), begins, self.bands.hop)

    @property
    def unsettled(self) -> int:
        """Latents at the end of a sound whose last samples change when it goes on: no whole window has seen them."""
        return -(-(self.bands.window - self.bands.hop) // self.factor)

    def _tables(self, like: Tensor) -> Tables:
        """Where a tensor is."""
        return tables(self.bands, self.rate, like.device)

    def _spectrum(self, wave: Tensor) -> Tensor:
        """`(b, samples)` to `(b, frames, window / 2 + 1)`: frame j ends with sample `(j + 1) · hop`."""
        b = self.bands
        seen = F.pad(wave, (b.window - b.hop, 0)).unfold(1, b.window, b.hop)
        return torch.fft.rfft(seen * self._tables(wave).window)

    def _wave(self, spectrum: Tensor) -> Tensor:
        """The waveform whose frames are closest to a spectrum: the inverse of `_spectrum` where there is one."""
        b, window = self.bands, self._tables(spectrum).window
        pieces = torch.fft.irfft(spectrum, n=b.window) * window
        weights = window.square().expand_as(pieces[:1])
        length = (pieces.shape[1] - 1) * b.hop + b.window
        added, weight = (
            F.fold(x.transpose(1, 2), (1, length), (1, b.window), stride=(1, b.hop))[:, 0, 0] for x in (pieces, weights)
        )
        # The last samples are seen by the end of a window only: they fade rather than be guessed from nearly nothing.
        return (added / weight.clamp_min(0.1))[:, b.window - b.hop :]

    def _phases(self, size: Tensor, begins: Tensor | None) -> Tensor:
        """Phases to begin the search with, `(b, frames, window / 2 + 1)`."""
        known = 0 if begins is None else begins.shape[1] // self.bands.hop
        if begins is not None and known > 1:
            # Of every frequency the last phase heard, turning on as it turned last.
            heard = self._spectrum(begins[:, : known * self.bands.hop])[:, -2:]
            turn = (heard[:, 1:] * heard[:, :1].conj()).angle()
            ahead = torch.arange(size.shape[1], device=size.device)[:, None] - (known - 1)
            return heard[:, 1:].angle() + turn * ahead
        generator = torch.Generator().manual_seed(0)  # of every sample the same
        turns = 2 * math.pi * torch.rand(1, *size.shape[1:], generator=generator)
        return turns.to(size.device).expand_as(size)

    def _explained(self, loud: Tensor) -> Tensor:
        """Magnitudes of all frequencies, none negative, that give such bands `(b, frames, count)`."""
        _, filters, inverse = self._tables(loud)
        size = (loud @ inverse).clamp_min(1e-4)
        wanted = loud @ filters.T
        for _ in range(_EXPLAIN):
            size = size * wanted / ((size @ filters) @ filters.T).clamp_min(1e-8)
        return size


class Tables(NamedTuple):
    """Of a mel spectrogram.

    Attributes:
        window: `(window,)`.
        filters: how much of each frequency each band takes, `(window / 2 + 1, count)`: triangles as wide as hearing's.
        inverse: of the filters, in the sense of least squares.
    """

    window: Tensor
    filters: Tensor
    inverse: Tensor


@lru_cache(maxsize=8)
def tables(bands: Bands, rate: int, device: torch.device) -> Tables:
    """Made once for each device."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, bands.count + 2, dtype=torch.float64) / 2595) - 1)
    hertz = torch.arange(bands.window // 2 + 1, dtype=torch.float64)[:, None] * rate / bands.window
    # A band narrower than the distance of two frequencies is made as wide, that none stays empty.
    width = edges.diff().clamp_min(rate / bands.window)
    rising, falling = (hertz - edges[1:-1]) / width[:-1] + 1, (edges[1:-1] - hertz) / width[1:] + 1
    filters = torch.minimum(rising, falling).clamp_min(0).float()
    return Tables(*(x.to(device) for x in (torch.hann_window(bands.window), filters, torch.linalg.pinv(filters))))


def _begun(wave: Tensor, begins: Tensor | None, fade: int) -> Tensor:
    """The waveform with its first samples as they are known, and no step behind them.

    What the known samples differ by before the border fades out, mirrored, behind it.
    """
    if begins is None:
        return wave
    k = begins.shape[1]
    n = min(k, wave.shape[1] - k, fade)
    wrong = (begins - wave[:, :k])[:, k - n :].flip(1) * torch.linspace(1, 0, n + 1, device=wave.device)[:n]
    return torch.cat([begins, wave[:, k : k + n] + wrong, wave[:, k + n :]], dim=1)
