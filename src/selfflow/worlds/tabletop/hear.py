"""Sound -> blows: when something is struck, how hard, and which bodies it sounds like.

Nothing is learned. Blows are where the spectrum rises (spectral flux). What they are is found by analysis by synthesis:
the magnitudes of a coarse spectrogram are taken for a sum of those of `sound.response`, each begun at a blow, and their
amplitudes are those of the least Kullback-Leibler divergence (non-negative matrix factorisation with known parts: Lee &
Seung, "Algorithms for non-negative matrix factorization", NIPS 2000). A whole sound is explained at once, so that what
still rings from one blow is not taken for a part of the next.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .scene import MATERIALS, SIZES, SOUND_HZ
from .sound import LEVEL, TABLE_SIZE, check_rate, response

HOP = 0.002  # s between spectra of the flux
WINDOW = 0.016  # s of one of them
SILENT = 0.003  # peak amplitude of a sound that counts as none
APART = 0.030  # s: blows closer together are one
ORDER = 24  # of the linear prediction
FRAME, STEP = 0.032, 0.016  # s of a spectrum of the spectrogram that is explained, and between them
PHASES = 16  # moments within a step at which a blow may begin
FLOOR = 1e-3  # magnitude that is taken for granted everywhere: noise
PRICE = 0.1  # what an unlikely body must explain more than likely ones, as a share
ROUNDS = 80  # of the multiplicative updates
_BANDS = np.geomspace(90.0, 7_600.0, 41)  # edges, Hz


class Body(NamedTuple):
    """What can sound: a material and a size in m."""

    material: str
    size: float


BOARD = Body("wood", TABLE_SIZE)
BODIES = (*(Body(material, size) for material in MATERIALS for size in SIZES.values()), BOARD)


@dataclass(frozen=True)
class Onset:
    """A blow that is heard.

    Attributes:
        time: seconds from the first sample.
        material: of `MATERIALS`, the body that sounds most.
        strength: its loudness, as of `sound.loudness`, in (0, 1].
        sure: in [0, 1], by how much the material explains more of what is heard than any other.
    """

    time: float
    material: str
    strength: float
    sure: float = 1.0


@dataclass(frozen=True)
class Explained:
    """What the blows of a sound are made of: (blows, `BODIES`) each.

    Attributes:
        loudness: of the bodies, as of `sound.loudness` times their share of the blow.
        heard: what each adds to the magnitudes of the spectrogram.
        missed: the share of those magnitudes that no body adds.
    """

    loudness: np.ndarray
    heard: np.ndarray
    missed: float = 0.0


def check_samples(samples: np.ndarray) -> None:
    """Raise ValueError unless it is a sound: finite float (n,), n at least 1, in [-1, 1]."""
    if not isinstance(samples, np.ndarray) or samples.dtype.kind != "f" or samples.ndim != 1:
        what = f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
        raise ValueError(f"a sound is a float array (n,) in [-1, 1], not {what}")
    if samples.size == 0:
        raise ValueError("the sound is empty; it needs at least one sample")
    if not np.isfinite(samples).all():
        raise ValueError(f"{int((~np.isfinite(samples)).sum())} samples of the sound are not finite")
    if np.abs(samples).max() > 1:
        raise ValueError(f"the sound reaches {np.abs(samples).max():g}; samples lie in [-1, 1]")


# ------------------------------------------------------------------------------------------------------- when
def _spectra(samples: np.ndarray, starts: np.ndarray, n: int) -> np.ndarray:
    """Magnitudes (starts, bins) of Hann windows of n samples; what lies outside the sound is silent."""
    room = np.zeros(len(samples) + 2 * n)
    room[n : n + len(samples)] = samples
    rows = room[np.clip(starts + n, 0, len(room) - n)[:, None] + np.arange(n)]
    return np.abs(np.fft.rfft(rows * np.hanning(n + 1)[:n])) * (4 / n)


def blows_heard(samples: np.ndarray, rate: int) -> list[float]:
    """The seconds at which the spectrum rises most sharply. Blows within 30 ms of one another are one."""
    if np.abs(samples).max() < SILENT:
        return []
    n, hop = round(WINDOW * rate), round(HOP * rate)
    spectra = _spectra(samples, np.arange(-n, max(len(samples) - n, -n) + 1, hop), n)
    lag = round(WINDOW / HOP)
    before = np.zeros_like(spectra)
    before[lag:] = spectra[:-lag]
    # The neighbouring bins too: a ring whose pitch wavers is no blow.
    wide = np.maximum(before, np.maximum(np.roll(before, 1, axis=1), np.roll(before, -1, axis=1)))
    rise = np.maximum(spectra - wide, 0).sum(axis=1)
    floor = np.maximum(0.02 * rise.max(), 0.12 * before.sum(axis=1)) + 4 * float(np.median(rise)) + SILENT
    found: list[int] = []
    reach = round(APART / HOP)
    for k in np.argsort(-rise):
        if rise[k] <= floor[k]:
            continue
        # The flux of one blow lasts a window; a weaker one within it cannot be told apart.
        if rise[k] >= rise[max(0, k - reach // 2) : k + reach // 2 + 1].max() and all(
            abs(k - other) * HOP >= APART for other in found
        ):
            found.append(int(k))
    return sorted(_onset(samples, (k * hop) - n, n) / rate for k in found)


def _onset(samples: np.ndarray, start: int, n: int) -> int:
    """The sample at which the blow begins whose flux is greatest in the window of n samples at `start`.

    What rings is predictable from its own past (linear prediction), a blow is not.
    """
    first, end = max(0, start - n // 4), min(len(samples), start + n)
    past = samples[max(0, first - 2 * n) : first]
    surprise = np.abs(samples[first:end])
    usual = 0.0
    if len(past) > 2 * ORDER and np.abs(past).max() > SILENT / 4:
        rows = np.lib.stride_tricks.sliding_window_view(samples[first - len(past) : end], ORDER + 1)
        known = rows[: len(past) - ORDER]
        ridge = 1e-6 * float((past * past).mean()) * len(known) * np.eye(ORDER)
        weights = np.linalg.solve(known[:, :-1].T @ known[:, :-1] + ridge, known[:, :-1].T @ known[:, -1])
        wrong = np.abs(rows[:, -1] - rows[:, :-1] @ weights)
        usual, surprise = float(wrong[: len(known)].max()), wrong[len(known) :]
    return first + int(np.argmax(surprise > max(0.2 * surprise.max(), min(2 * usual, 0.9 * surprise.max()))))


# ------------------------------------------------------------------------------------------------------- what
def _spectrogram(samples: np.ndarray, rate: int) -> np.ndarray:
    """Root energy (steps, bands), the first window being centred on the first sample."""
    n = round(FRAME * rate)
    energy = _spectra(samples, np.arange(-n // 2, len(samples), round(STEP * rate)), n) ** 2
    band = np.searchsorted(_BANDS, np.arange(energy.shape[1]) * rate / n)
    gather = np.equal.outer(band, np.arange(1, len(_BANDS))).astype(np.float64)
    return np.sqrt(energy @ gather)


@lru_cache(maxsize=512)
def _part(body: Body, phase: int, rate: int) -> np.ndarray:
    """The spectrogram of a body struck with loudness 1, a share `phase / PHASES` of a step after the first sample."""
    wave = response(*body, rate)
    late = np.concatenate([np.zeros(round(phase / PHASES * STEP * rate)), wave])
    return LEVEL * _spectrogram(late, rate)


def explain(
    samples: np.ndarray, rate: int, times: Sequence[float], likely: Sequence[Collection[Body]] | None = None
) -> Explained:
    """What blows at those times are made of.

    Args:
        samples: float (n,) in [-1, 1].
        rate: samples a second.
        times: seconds.
        likely: for each of them, which of `BODIES` may well sound; the others do only where these explain far worse.
            None: any may.
    """
    heard = _spectrogram(samples.astype(np.float64), rate)
    step = round(STEP * rate) / rate
    parts = np.zeros((len(times), len(BODIES), *heard.shape))
    price = np.ones((len(times), len(BODIES)))
    for k, time in enumerate(times):
        first, phase = divmod(round(time / step * PHASES), PHASES)
        for b, body in enumerate(BODIES):
            part = _part(body, phase, rate)[: max(0, len(heard) - first)]
            parts[k, b, first : first + len(part)] = part
            if likely is not None and body not in likely[k]:
                price[k, b] += PRICE
    rows, seen = parts.reshape(price.size, heard.size), heard.ravel()
    total = rows.sum(axis=1)
    cost = np.maximum(total * price.ravel(), 1e-12)
    loud = np.full(len(rows), 0.05)
    for _ in range(ROUNDS if len(rows) else 0):
        loud *= (rows @ (seen / (loud @ rows + FLOOR))) / cost
    missed = float(np.maximum(seen - loud @ rows - FLOOR, 0).sum()) / max(float(seen.sum()), FLOOR * heard.size)
    return Explained(loud.reshape(price.shape), (loud * total).reshape(price.shape), missed)


def read_sound(samples: np.ndarray, rate: int = SOUND_HZ) -> list[Onset]:
    """The blows in a sound, in order of time. Blows within 30 ms of one another are one.

    Args:
        samples: float (n,) in [-1, 1].
        rate: samples a second.

    Raises ValueError for an array that is no such sound: empty, not finite, too loud; or a rate outside 4 to 192 kHz.
    """
    check_samples(samples)
    check_rate(rate)
    times = blows_heard(samples.astype(np.float64), rate)
    found = explain(samples, rate, times)
    onsets = []
    for time, loudness, heard in zip(times, found.loudness, found.heard, strict=True):
        # The table sounds with whatever strikes it, and tells nothing of that.
        share = {
            m: sum(h for b, h in zip(BODIES, heard, strict=True) if b != BOARD and b.material == m) for m in MATERIALS
        }
        first, second = sorted(share, key=lambda name: -share[name])[:2]
        sure = 1 - share[second] / share[first] if share[first] > 0 else 0.0
        onsets.append(Onset(time, first, float(np.clip(loudness.max(), 1e-3, 1)), float(sure)))
    return onsets
