"""Recorded sounds brought to one length, loudness and rate."""

from __future__ import annotations

import numpy as np

LEVEL, PEAK = 0.1, 0.95  # root mean square of a sound, and its largest sample at most
FADE = 0.005  # seconds over which a cut is faded


def doubled(wave: np.ndarray) -> np.ndarray:
    """The wave at twice its rate: float32 `(2 n,)` from `(n,)`. Exact for what has no tone at half the old rate.

    The spectrum is continued with zeros. The wave is taken between two stretches of silence, so that its end is not
    heard at its beginning.
    """
    n, margin = len(wave), 256
    padded = np.pad(np.asarray(wave, np.float64), margin)
    spectrum = np.fft.rfft(padded)
    if len(padded) % 2 == 0:
        spectrum[-1] = 0  # a tone at half the rate has no phase; twice the rate could not place it
    wider = np.fft.irfft(spectrum, 2 * len(padded)) * 2
    return wider[2 * margin : 2 * (margin + n)].astype(np.float32)


def levelled(wave: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """The wave, float32, as loud as `level`, or less where that would take it beyond `PEAK`; silence stays silent."""
    wave = np.asarray(wave, np.float32)
    loud = float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0
    if loud == 0.0:
        return wave
    return wave * np.float32(min(level / loud, PEAK / float(np.abs(wave).max())))


def loudest(wave: np.ndarray, length: int) -> int:
    """Where the stretch of that length with the most energy begins."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    return int(np.argmax(energy[length:] - energy[:-length])) if len(wave) > length else 0


def placed(wave: np.ndarray, length: int, start: int, rate: int) -> np.ndarray:
    """`length` samples: the wave from `start` on (negative: after so much silence), faded where it is cut."""
    out = np.zeros(length, np.float32)
    piece = np.array(wave[max(start, 0) : max(start, 0) + length - max(-start, 0)], np.float32)
    fade = min(int(FADE * rate), len(piece) // 2)
    ramp = (np.arange(fade, dtype=np.float32) + 1) / (fade + 1)
    if start > 0:
        piece[:fade] *= ramp
    if fade and max(start, 0) + len(piece) < len(wave):
        piece[-fade:] *= ramp[::-1]
    out[max(-start, 0) : max(-start, 0) + len(piece)] = piece
    return out
