"""Sound -> blows: when something is struck, what it is made of, and whether that fits what moves.

Nothing is learned. Blows are where the spectrum rises (spectral flux); the material is that whose response, together
with the table's, explains best what has been added after a blow: analysis by synthesis on a coarse spectrogram.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .check_clip import meetings
from .scene import FPS, MATERIALS, SIZES, SOUND_HZ, Motion
from .sound import TABLE_SHARE, TABLE_SIZE, VOICES, check_rate, loudness, response, struck
from .track import Track, read_clip
from .verdict import Score

TOLERANCE = 0.060  # s between a blow and the contact that is seen
EXACT = 0.030  # s between a blow and a contact whose time is known
HOP = 0.002  # s between spectra
SILENT = 0.003  # peak amplitude of a sound that counts as none
APART = 0.030  # s: contacts closer together are one blow
CLEAR = 0.08  # loudness of a contact that must be heard
DOUBT = 0.3  # share of onsets of a wrong material that is left to the reader's own errors
RING = 0.25  # s in which what rings falls by 1/e
HARD = 1.3  # m/s, change of velocity of what must be heard
FAINT = 0.08  # strength of what may be heard though too slight to be seen
ORDER = 24  # of the linear prediction
WINDOW = 0.016  # s of one spectrum of the flux
_BANDS = np.geomspace(60.0, 7_600.0, 33)  # edges, Hz, of the coarse spectrogram that tells materials apart
_SLICES = ((0.0, 0.032), (0.024, 0.056), (0.056, 0.088), (0.088, 0.152))  # s after the blow


@dataclass(frozen=True)
class Onset:
    """A blow that is heard.

    Attributes:
        time: seconds from the first sample.
        material: of `MATERIALS`, the thing that sounds most.
        strength: amplitude of what it adds, in (0, 1].
        sure: in [0, 1], by how much the material explains what is heard better than any other.
    """

    time: float
    material: str
    strength: float
    sure: float = 1.0


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


def _spectra(samples: np.ndarray, starts: np.ndarray, n: int) -> np.ndarray:
    """Magnitudes (starts, bins) of Hann windows of n samples; what lies outside the sound is silent."""
    room = np.zeros(len(samples) + 2 * n)
    room[n : n + len(samples)] = samples
    rows = room[np.clip(starts + n, 0, len(room) - n)[:, None] + np.arange(n)]
    return np.abs(np.fft.rfft(rows * np.hanning(n + 1)[:n])) * (4 / n)


def _peaks(samples: np.ndarray, rate: int) -> list[int]:
    """The samples at which the spectrum rises most sharply."""
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
    return sorted(_onset(samples, (k * hop) - n, n) for k in found)


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


def _slices(samples: np.ndarray, at: int, rate: int) -> np.ndarray:
    """Root energy (slices, bands) of what follows a sample."""
    rows = []
    for begin, end in _SLICES:
        n = round((end - begin) * rate)
        spectrum = _spectra(samples, np.array([at + round(begin * rate)]), n)[0] ** 2
        frequencies = np.arange(len(spectrum)) * rate / n
        band = np.searchsorted(_BANDS, frequencies)
        energy = np.bincount(band, weights=spectrum, minlength=len(_BANDS) + 1)[1 : len(_BANDS)]
        rows.append(energy)
    return np.array(rows)


@lru_cache(maxsize=16)
def _templates(rate: int) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Materials, their slices (k, slices, bands) for each size, and those of the table."""
    names = tuple(material for material in VOICES for _ in SIZES)
    bodies = [response(material, size, rate) for material in VOICES for size in SIZES.values()]
    table = _slices(response("wood", TABLE_SIZE, rate), 0, rate)
    return names, np.array([_slices(body, 0, rate) for body in bodies]), table


def _material(samples: np.ndarray, at: int, until: int, rate: int) -> tuple[str, float]:
    """The material that explains best what a blow has added, and how sure that is."""
    names, bodies, table = _templates(rate)
    heard = _slices(samples[: max(until, at + round(0.012 * rate))], at, rate)
    # What rang before goes on ringing, fainter: it is no part of the blow.
    past = _slices(samples[:at], at - round(0.032 * rate), rate)[0]
    whole = [k for k, (_, end) in enumerate(_SLICES) if at + end * rate <= until] or [0]
    added = np.sqrt(np.maximum(heard - 1.3 * past, 0))[whole].ravel()
    if not added.any():
        return MATERIALS[0], 0.0
    added /= np.sqrt(added @ added)
    rests = dict.fromkeys(MATERIALS, 1.0)
    for name, body in zip(names, bodies, strict=True):
        for share in (0.0, TABLE_SHARE):
            mix = np.sqrt(body[whole] + share * share * table[whole]).ravel()
            rests[name] = min(rests[name], 1 - float(mix @ added) ** 2 / float(mix @ mix))
    best, second = sorted(rests, key=lambda name: rests[name])[:2]
    return best, 1 - rests[best] / rests[second]


def read_sound(samples: np.ndarray, rate: int = SOUND_HZ) -> list[Onset]:
    """The blows in a sound, in order of time. Blows within 30 ms of one another are one.

    Args:
        samples: float (n,) in [-1, 1].
        rate: samples a second.

    Raises ValueError for an array that is no such sound: empty, not finite, too loud; or a rate outside 4 to 192 kHz.
    """
    check_samples(samples)
    check_rate(rate)
    samples = samples.astype(np.float64)
    if np.abs(samples).max() < SILENT:
        return []
    starts = _peaks(samples, rate)
    onsets = []
    for at, after in zip(starts, [*starts[1:], len(samples)], strict=True):
        near = round(0.02 * rate)
        past = np.abs(samples[max(0, at - near) : at]).max(initial=0.0)
        peak = np.abs(samples[at : at + near]).max(initial=0.0)
        material, sure = _material(samples, at, after, rate)
        onsets.append(Onset(at / rate, material, float(max(peak - 0.5 * past, 1e-3)), sure))
    return onsets


@dataclass(frozen=True)
class Moment:
    """What should be heard.

    Attributes:
        begin, end: seconds; between them something is struck once or several times.
        materials: of the things that meet; empty when nobody can tell.
        clear: whether it is loud enough, and apart enough from louder ones, that it must be heard.
        loudest: seconds of the hardest blow of them.
    """

    begin: float
    end: float
    materials: frozenset[str]
    clear: bool
    loudest: float


def moments_of(motion: Motion) -> list[Moment]:
    """What should be heard of a motion: its audible contacts, those within 30 ms of one another together."""
    things = motion.frames[0].things if motion.frames else ()
    audible = [(c.time, loudness(c), c) for c in motion.contacts if loudness(c) > 0 and c.time < motion.seconds - 0.02]
    moments: list[Moment] = []
    ring = 0.0
    while audible:
        group = [audible.pop(0)]
        while audible and audible[0][0] - group[-1][0] < APART:
            group.append(audible.pop(0))
        loudest = max(loud for _, loud, _ in group)
        partners = [(body, loud * share) for _, loud, c in group for body, _, share in struck(c, things)]
        materials = frozenset(body for body, loud in partners if loud >= 0.5 * loudest)
        ring *= np.exp(-(group[0][0] - (moments[-1].end if moments else 0.0)) / RING)
        masked = any(loud > loudest for time, loud, _ in audible if time < group[-1][0] + 2 * EXACT)
        clear = bool(loudest >= max(CLEAR, 0.5 * ring)) and not masked
        hardest = max(group, key=lambda blow: blow[1])[0]
        moments.append(Moment(group[0][0], group[-1][0], materials, clear, hardest))
        ring = float(np.hypot(ring, loudest))
    return moments


def judge_sound(
    onsets: Sequence[Onset],
    moments: Sequence[Moment],
    maybe: Sequence[Moment] = (),
    tolerance: float = EXACT,
    least: float = 0.0,
) -> Score:
    """What is heard against what should be.

    The value is the worst of three checks, for one blow out of place is enough to see that sound and picture do not
    belong together: `presence`, the share of clear blows that are heard; `timing`, the share of onsets that belong to a
    blow; `material`, the share of those onsets (by strength and by how sure the reading is) whose material takes part
    in the blow, 1 if nearly all do.

    Args:
        onsets: in order of time.
        moments: that should be heard, in order of time.
        maybe: further moments at which a sound would be no surprise.
        tolerance: seconds between an onset and what it belongs to.
        least: strength of an onset that must belong to something.
    """
    faults: list[str] = []
    unheard = [b for b in moments if b.clear and not any(abs(o.time - b.loudest) <= tolerance for o in onsets)]
    clear = sum(b.clear for b in moments)
    faults += [f"something is struck at {b.begin:.2f} s, but nothing is heard" for b in unheard]
    strong = [o for o in onsets if o.strength >= least]
    stray = [o for o in strong if not any(_near(o, b, tolerance) for b in (*moments, *maybe))]
    faults += [f"a {o.material} blow is heard at {o.time:.2f} s, but nothing is struck" for o in stray]
    right = wrong = 0.0
    unlike = []
    for onset in onsets:
        known = [b for b in moments if _near(onset, b, tolerance) and b.materials]
        if not known:
            continue
        weight = onset.strength * onset.sure
        if any(onset.material in b.materials for b in known):
            right += weight
        else:
            wrong += weight
            names = " and ".join(sorted(min(known, key=lambda b: abs(b.begin - onset.time)).materials))
            unlike.append(f"what is struck at {onset.time:.2f} s sounds like {onset.material}, but it is {names}")
    doubt = wrong / (right + wrong) if right + wrong > 0 else 0.0
    if doubt > DOUBT:
        faults += unlike
    facts = {
        "presence": 1 - len(unheard) / clear if clear else 1.0,
        "timing": 1 - len(stray) / len(strong) if strong else 1.0,
        "material": 1 - doubt if doubt > DOUBT else 1.0,
    }
    return Score(min(facts.values()), tuple(faults), facts)


def moments_seen(track: Track) -> tuple[list[Moment], list[Moment]]:
    """When something is struck, as far as paths of pixels tell: `(blows, times at which a sound would be no surprise)`.

    Nobody can see a material. Only hard blows must be heard, of the softer ones any may be.
    """
    seen = [Moment(m.begin, m.end, frozenset(), m.change > HARD, m.time) for m in meetings(track)]
    # What happens before the second and after the last frame but one changes no velocity between frames.
    last = (track.frames - 1) / track.fps
    ends = [Moment(t, t + 1 / track.fps, frozenset(), False, t) for t in (0.0, last - 1 / track.fps, last)]
    return [m for m in seen if m.clear], [*(m for m in seen if not m.clear), *ends]


def score_av(clip: np.ndarray, fps: float, samples: np.ndarray, rate: int = SOUND_HZ) -> Score:
    """How well a sound fits what is seen to be struck, from pixels and samples alone; see `judge_sound`.

    Args:
        clip: uint8 (frames, size, size, 3).
        fps: frames a second.
        samples: (n,) in [-1, 1].
        rate: samples a second.

    Raises ValueError for what is no clip or no sound.
    """
    must, may = moments_seen(read_clip(clip, fps))
    return judge_sound(read_sound(samples, rate), must, may, TOLERANCE, FAINT)


def score_sound(samples: np.ndarray, rate: int, clip_or_motion: np.ndarray | Motion) -> Score:
    """How well a sound fits a motion whose contacts are known, or a clip (at `FPS`) whose contacts are seen.

    Raises ValueError for what is no sound, or no clip.
    """
    if isinstance(clip_or_motion, Motion):
        return judge_sound(read_sound(samples, rate), moments_of(clip_or_motion))
    return score_av(clip_or_motion, FPS, samples, rate)


def _near(onset: Onset, moment: Moment, tolerance: float) -> bool:
    return moment.begin - tolerance <= onset.time <= moment.end + tolerance
