"""Sound as tokens: the modified discrete cosine transform (MDCT), levelled over frequency and companded.

A waveform is cut into hops of 20 ms. At each border between two hops the samples on either side are turned into each
other (the window), then each hop is transformed by a DCT-IV: both steps are orthogonal, so the whole is, and there are
exactly as many numbers as samples. This is the MDCT of Princen & Bradley 1987 with the sine window, written as a lapped
transform (Malvar 1992). At the two ends nothing overlaps, so that the first and the last sample are exact, too.

Sound is loud in few places and at low frequencies: the coefficients span five decades, which a flow with noise of one
size cannot serve. Each is divided by a curve falling with frequency and companded, `sign(x) · |x|^power`, as speech and
music coders do: a small error of a token then becomes an error in proportion to the sound around it, not a hiss in
silence. The curve and the power are chosen by measurement (docs/modalities.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.nn.transformer import Modality, Prediction
from selfflow.shapes import Float
from selfflow.tokens import AXES, Tokens


@dataclass(frozen=True)
class Audio:
    """A waveform in, one token for each hop out: its `hop` coefficients from low to high frequency, invertible.

    Attributes:
        rate: samples a second.
        hop: samples of a token; even.
        power: of the companding, above 0 and at most 1; 1 leaves the coefficients linear.
        level: size of a coefficient at frequency 0 that becomes ±1 (for waveforms of root mean square 0.1).
        knee: frequency in Hz above which sound gets weaker.
        slope: how fast: coefficients are divided by `level · (1 + f / knee)^-slope`.
        prediction: what the network predicts of a token.
    """

    rate: int = 16_000
    hop: int = 320
    power: float = 0.5
    level: float = 0.16
    knee: float = 1000.0
    slope: float = 0.5
    prediction: Prediction = "data"
    name: str = "audio"

    def __post_init__(self) -> None:
        if self.rate < 1 or self.hop < 2 or self.hop % 2:
            raise ValueError(f"rate {self.rate} must be at least 1 and hop {self.hop} even, at least 2")
        if not (0 < self.power <= 1 and self.level > 0 and self.knee > 0 and math.isfinite(self.slope)):
            raise ValueError(f"power is in (0, 1], level and knee are above 0, slope is finite; got {self}")

    @property
    def modality(self) -> Modality:
        return Modality(channels=self.hop, prediction=self.prediction)

    def count(self, samples: int) -> int:
        """Tokens of a waveform: `ceil(samples / hop)`."""
        return -(-samples // self.hop)

    def known(self, samples: int) -> int:
        """Tokens that the beginning of a sound, so many samples, decides whatever follows: a hop is lapped by half."""
        return max(0, (samples - self.hop // 2) // self.hop)

    learned = False  # whether a network takes part in making tokens
    joins = True  # a sound may be made window by window, each going on from the last
    unsettled = 1  # tokens at the end of a window that the next one makes again

    @property
    def lap(self) -> int:
        """Samples by which a token reaches into its neighbours'."""
        return self.hop // 2

    def tokens(self, wave: Float[Tensor, "b samples"], start: float = 0.0) -> Tokens:
        """Waveforms to tokens `(b, ceil(samples / hop), hop)`, float32; silence fills the last one.

        Args:
            wave: `(b, samples)` at `rate`, in [-1, 1], of about the loudness that `normalise` gives.
            start: time of the first sample, seconds. The place of a token is the centre of its hop.

        Raises:
            ValueError: for another shape, no samples, or samples that are not finite.
        """
        if wave.ndim != 2 or 0 in wave.shape or not wave.is_floating_point():
            raise ValueError(f"waveforms are (b, samples) floating values, got {wave.dtype} {tuple(wave.shape)}")
        if not bool(wave.isfinite().all()):
            row, place = (~wave.isfinite()).nonzero()[0].tolist()
            raise ValueError(f"waveforms must be finite; sample {place} of waveform {row} is {float(wave[row, place])}")
        b, samples = wave.shape
        n = self.count(samples)
        hops = F.pad(wave.float(), (0, n * self.hop - samples)).reshape(b, n, self.hop)
        levelled = mdct(hops) / self._curve(wave.device)
        places = torch.zeros(n, len(AXES), device=wave.device)
        places[:, 0] = start + (torch.arange(n, device=wave.device) + 0.5) * (self.hop / self.rate)
        return Tokens(levelled.sign() * levelled.abs() ** self.power, places.expand(b, -1, -1), self.name)

    def waveform(
        self, data: Float[Tensor, "b n c"], samples: int, begins: Tensor | None = None
    ) -> Float[Tensor, "b samples"]:
        """The inverse of `tokens`: the first `samples` samples, float32. What a network made may pass ±1.

        `begins` is of no use here: tokens that are known say exactly how a sound begins.

        Raises:
            ValueError: when the data is not that of waveforms of this length.
        """
        wanted = (self.count(samples), self.hop)
        if samples < 1 or data.ndim != 3 or tuple(data.shape[1:]) != wanted:
            raise ValueError(
                f"{self.name} data has shape {tuple(data.shape)}; {samples} samples in hops of {self.hop} "
                f"need (b, {wanted[0]}, {wanted[1]})"
            )
        data = data.float()
        levelled = data.sign() * data.abs() ** (1 / self.power)
        return inverse_mdct(levelled * self._curve(data.device)).flatten(1)[:, :samples]

    def _curve(self, device: torch.device) -> Tensor:
        """What each of the `hop` coefficients is divided by."""
        frequency = (torch.arange(self.hop, device=device) + 0.5) * (self.rate / 2 / self.hop)
        # At twice the rate the same sound has twice the samples, so twice the energy in the same coefficients.
        return self.level * (self.rate / 16_000) ** 0.5 * (1 + frequency / self.knee) ** -self.slope


def mdct(hops: Float[Tensor, "b n hop"]) -> Float[Tensor, "b n hop"]:
    """Coefficients of the hops of a waveform, low to high frequency; orthogonal: sums of squares are kept."""
    transform, near, far = _lapped(hops.shape[2], hops.device)
    return _turn(hops, near, far) @ transform


def inverse_mdct(coefficients: Float[Tensor, "b n hop"]) -> Float[Tensor, "b n hop"]:
    """The inverse of `mdct`."""
    transform, near, far = _lapped(coefficients.shape[2], coefficients.device)
    return _turn(coefficients @ transform, near, -far)  # a DCT-IV is its own inverse, a turn back is the other way


def _turn(hops: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """Turn the samples on either side of each border into each other: the last of a hop and the first of the next."""
    before, after = (half.clone() for half in hops.chunk(2, dim=2)[::-1])
    left, right = before[:, :-1].flip(2), after[:, 1:]  # at the same distance from the border
    before[:, :-1], after[:, 1:] = (left * near - right * far).flip(2), right * near + left * far
    return torch.cat([after, before], dim=2)


@lru_cache(maxsize=8)
def _lapped(hop: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The DCT-IV `(hop, hop)` and, by distance from the border, cosine and sine of the turn `(hop / 2)`."""
    place = torch.arange(hop, dtype=torch.float64) + 0.5
    transform = (2 / hop) ** 0.5 * torch.cos(math.pi / hop * place[:, None] * place)
    window = torch.sin(math.pi / 2 / hop * place)  # the rising half, hop / 2 before the border to hop / 2 after
    near, far = window[hop // 2 :], window[: hop // 2].flip(0)
    return transform.float().to(device), near.float().to(device), far.float().to(device)


def normalise(wave: Tensor, rms: float = 0.1) -> Tensor:
    """Waveforms `(..., samples)`, each scaled to a root mean square, or less where its peak would pass 1.

    Silence stays silent. Normalise before padding: silence counts.
    """
    loudness = wave.square().mean(dim=-1, keepdim=True).sqrt()
    peak = wave.abs().amax(dim=-1, keepdim=True)
    tiny = torch.finfo(wave.dtype).tiny
    return wave * torch.minimum(rms / loudness.clamp_min(tiny), 1 / peak.clamp_min(tiny)).clamp_max(1e6)


def resample(wave: Tensor, rate: int, to: int) -> Tensor:
    """Waveforms `(..., samples)` at another rate: `(..., ceil(samples · to / rate))`, band-limited exactly.

    The spectrum is cut off, or continued with zeros, at half the lower rate. Sample j stays at time j / rate, so
    doubling the rate keeps every given sample. The same waveform is returned when the rates are equal.

    Raises:
        ValueError: for rates below 1 or no samples.
    """
    if rate < 1 or to < 1 or wave.ndim < 1 or 0 in wave.shape:
        raise ValueError(f"resample needs samples and rates of at least 1; got {tuple(wave.shape)}, {rate} to {to}")
    if rate == to:
        return wave
    common = math.gcd(rate, to)
    down, up = rate // common, to // common
    samples = wave.shape[-1]
    # Whole multiples of `down` become whole multiples of `up`; the silence keeps the end from ringing into the start.
    pieces = -(-(samples + 256) // down)
    spectrum = torch.fft.rfft(F.pad(wave, (0, pieces * down - samples)), dim=-1)
    low = min(pieces * down, pieces * up)
    spectrum = F.pad(spectrum[..., : low // 2 + 1], (0, pieces * up // 2 - low // 2))
    if low % 2 == 0:  # the coefficient at half the lower rate stands for two where that rate is the own one
        spectrum[..., low // 2] *= 0.5 if up > down else 2
    longer = torch.fft.irfft(spectrum, n=pieces * up, dim=-1) * (up / down)
    return longer[..., : -(-samples * up // down)]
