"""Motion -> sound: every contact strikes the things that meet, and each rings in the modes of its material and size.

Modal synthesis (van den Doel, Kry & Pai, "FoleyAutomatic", SIGGRAPH 2001): a struck body is a bank of damped sinusoids.
Bodies of one material and shape scale: frequencies go as one over the size. The materials differ in pitch and in
damping, which people tell them by (Klatzky, Pai & Krotkov, "Perception of material from contact sounds", 2000).

A response is linear and cached, so a contact is one multiply-add. It is built from + - * / and square roots alone,
which IEEE 754 fixes to the last bit: sines and exponentials only seed it, rounded where two machines might differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .scene import MATERIALS, SIZES, SOUND_HZ, Contact, Motion, Thing, check_known, generator

MIN_RATE, MAX_RATE = 4_000, 192_000
TABLE_SIZE = 0.60  # of the board that sounds when the table is struck, m
TABLE_SHARE = 0.25  # of the blow that the table (or a wall out of sight) sounds with: it is heavy
REFERENCE = 16.0  # J, of a blow as loud as 1 before the limit: a medium metal ball that fell half a metre
FAINTEST = 0.02  # softer contacts are not heard
LEVEL = 0.5  # of the sound over its loudness: several things ring at once, and bent peaks make tones of their own
KNEE = 0.5  # amplitudes up to here pass unchanged, louder ones are bent to stay below 1
NOISE_SEED = 7_000
LONGEST = 2.0  # seconds that anything rings


@dataclass(frozen=True)
class Voice:
    """How a material sounds.

    Attributes:
        pitch: of the lowest mode of a medium body, Hz.
        modes: (frequency over pitch, amplitude, seconds to fall by 1/e).
        click: amplitude of the noise at the onset.
        smooth: milliseconds over which the noise is averaged: soft bodies have a dull click.
    """

    pitch: float
    modes: tuple[tuple[float, float, float], ...]
    click: float
    smooth: float = 0.0


VOICES: dict[str, Voice] = {
    "rubber": Voice(140.0, ((1.0, 1.0, 0.022), (1.72, 0.45, 0.014), (2.6, 0.18, 0.009)), 0.10, 0.8),
    "wood": Voice(
        430.0,
        ((1.0, 0.9, 0.032), (1.57, 0.55, 0.024), (2.42, 0.45, 0.016), (3.7, 0.25, 0.010), (5.3, 0.12, 0.007)),
        0.20,
    ),
    "metal": Voice(
        980.0,
        (
            (1.0, 0.55, 0.30),
            (1.48, 0.45, 0.26),
            (2.09, 0.42, 0.22),
            (2.87, 0.34, 0.18),
            (3.96, 0.28, 0.14),
            (5.2, 0.2, 0.1),
        ),
        0.15,
    ),
    "glass": Voice(2350.0, ((1.0, 0.9, 0.20), (1.34, 0.3, 0.15), (2.1, 0.35, 0.09), (2.9, 0.15, 0.06)), 0.12),
}


class Blow(NamedTuple):
    """One body struck at a time (s): its material, size (m) and the amplitude before the limit."""

    time: float
    material: str
    size: float
    loudness: float


def check_rate(rate: int) -> None:
    """Raise ValueError unless sound may have this many samples a second."""
    if isinstance(rate, bool) or not isinstance(rate, int | np.integer) or not MIN_RATE <= rate <= MAX_RATE:
        raise ValueError(f"sound rate {rate!r}; choose a whole number of Hz from {MIN_RATE} to {MAX_RATE}")


def _ring(frequency: float, decay: float, n: int, rate: int) -> np.ndarray:
    """`n` samples of a sine that starts at zero and falls by 1/e in `decay` seconds: powers of one complex number."""
    turn, shrink = 2 * math.pi * frequency / rate, math.exp(-1 / (decay * rate))
    real, imaginary = np.ones(1), np.zeros(1)
    c, s = round(shrink * math.cos(turn), 12), round(shrink * math.sin(turn), 12)
    while len(real) < n:  # z^0 … z^(k-1) times z^k are z^k … z^(2k-1)
        real, imaginary = (
            np.concatenate([real, c * real - s * imaginary]),
            np.concatenate([imaginary, s * real + c * imaginary]),
        )
        c, s = c * c - s * s, 2 * c * s
    return imaginary[:n]


@lru_cache(maxsize=256)
def response(material: str, size: float, rate: int = SOUND_HZ) -> np.ndarray:
    """What a body of that material and size (m) sounds like when struck with loudness 1: float64 (n,), read-only.

    It begins at its first sample and ends where nothing is heard any more, at most `LONGEST` seconds later.
    """
    check_rate(rate)
    check_known("material", material, MATERIALS)
    if not 0 < size < math.inf:
        raise ValueError(f"a body of {size!r} m; choose a positive size")
    voice = VOICES[material]
    scale = SIZES["medium"] / size
    n = int(min(LONGEST, 7.0 * max(decay for _, _, decay in voice.modes)) * rate)
    total = np.zeros(n)
    for ratio, amplitude, decay in voice.modes:
        frequency = voice.pitch * scale * ratio
        if frequency < 0.45 * rate:
            total += amplitude * _ring(frequency, decay, n, rate)
    click = int(0.012 * rate)
    noise = 2 * generator(NOISE_SEED, tuple(VOICES).index(material)).random(click) - 1
    width = max(1, int(voice.smooth / 1000 * rate))
    smooth = np.zeros(click)
    for k in range(width):
        smooth += noise[np.maximum(np.arange(click) - k, 0)] / math.sqrt(width)
    fall = 1 - np.arange(click) / click
    total[:click] += voice.click * smooth * (fall * fall) * (fall * fall)
    tail = n // 8  # so that the end is no second click
    total[n - tail :] *= 1 - (np.arange(tail) + 1) / tail
    total.flags.writeable = False
    return total


def loudness(contact: Contact) -> float:
    """Amplitude of a contact before the limit: the square root of its energy, impulse times speed of approach, over
    `REFERENCE`; 0 for one too faint to hear."""
    loud = math.sqrt(max(0.0, contact.impulse * contact.speed) / REFERENCE)
    return loud if loud >= FAINTEST else 0.0


def struck(contact: Contact, things: tuple[Thing, ...]) -> list[tuple[str, float, float]]:
    """What sounds at a contact: (material, size in m, share of the blow) of each partner."""
    bodies = []
    for index in (contact.first, contact.second):
        if index >= 0:
            bodies.append((things[index].material, things[index].extent, 1.0))
        elif index == -2:
            bodies.append(("metal", SIZES["small"], TABLE_SHARE))
        else:
            bodies.append(("wood", TABLE_SIZE, TABLE_SHARE))
    return bodies


def limited(samples: np.ndarray) -> np.ndarray:
    """Samples bent smoothly to stay inside (-1, 1); those up to `KNEE` as they are."""
    over = np.maximum(np.abs(samples) - KNEE, 0) / (1 - KNEE)
    return np.where(over > 0, np.sign(samples) * (KNEE + (1 - KNEE) * 0.999 * over / np.sqrt(1 + over * over)), samples)


def blows_of(motion: Motion) -> list[Blow]:
    """Everything that is struck in a motion, in order of time; what is too faint to hear is left out."""
    things = motion.frames[0].things if motion.frames else ()
    return [
        Blow(contact.time, material, size, loud * share)
        for contact in motion.contacts
        if (loud := loudness(contact)) > 0
        for material, size, share in struck(contact, things)
    ]


def mixed(blows: Iterable[Blow], n: int, rate: int = SOUND_HZ) -> np.ndarray:
    """The sound of blows: float32 (n,) inside (-1, 1). Each begins on its exact sample."""
    total = np.zeros(n)
    for blow in blows:
        start = round(blow.time * rate)
        if 0 <= start < n:
            wave = response(blow.material, blow.size, rate)[: n - start]
            total[start : start + len(wave)] += blow.loudness * wave
    return limited(LEVEL * total).astype(np.float32)


def synthesise(motion: Motion, rate: int = SOUND_HZ) -> np.ndarray:
    """The sound of a motion: float32 (n,) inside (-1, 1), n = seconds of the frames times the rate.

    Sample k is heard k / rate seconds after the first frame. A contact starts on its exact sample, and before the
    first of them every sample is 0. Raises ValueError for a rate that is no whole number from 4000 to 192000 Hz.
    """
    check_rate(rate)
    return mixed(blows_of(motion), round(motion.seconds * rate), int(rate))
