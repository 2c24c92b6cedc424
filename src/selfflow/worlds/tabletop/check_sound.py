"""Sound -> score: whether what is heard is struck when it is heard, as loud as it may be, and of that material.

What should be heard is known from a motion's contacts (`moments_of`), or seen in a clip (`moments_seen`); what is heard
comes of `hear`. Neither knows how the sound was made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .hear import APART, BOARD, BODIES, Body, Explained, Onset, blows_heard, check_samples, explain, read_sound
from .impacts import Impact, impacts
from .look import Look, looks
from .scene import FPS, MADE_OF, SOUND_HZ, Motion
from .sound import check_rate, loudness, struck
from .track import Track, read_clip
from .turn import FITTING, is_tilted, recognised
from .verdict import Score

__all__ = [
    "Moment",
    "Onset",
    "judge_seen",
    "judge_sound",
    "moments_of",
    "moments_seen",
    "moments_tracked",
    "read_sound",
    "score_av",
    "score_sound",
]

EXACT = 0.030  # s between a blow and a contact whose time is known
SEEN = 0.075  # s between a blow and the frame in which its effect is seen: 1.5 frames
CLEAR = 0.08  # loudness of a contact that must be heard
RING = 0.25  # s in which what rings falls by 1/e
HEARD = 0.06  # share of its loudness that a contact must be heard with
FAINT = 0.02  # loudness of what is heard that needs no cause
DOUBT = 0.2  # share of a sound that bodies may explain which are not there
# Of true sounds at most 0.27 is of no body that can be struck, of steady noise at least 0.44.
FOREIGN, NOISE = 0.4, 0.6  # share of a sound that may be of no body; with which it is nothing but noise
# Of what is seen. Errors are large: a path tells the loudness to about a factor of three.
CLOSE = 0.06  # s between a blow and the time that two frames together tell
STRIKING, DIMLY = 0.07, 0.10  # loudness, as seen, of what must be heard: of what is read without doubt, and of any
TOO_SOFT, SILENCED = 0.3, 0.1  # times the loudness seen that something must be heard with, of either
SLIGHT = 0.26  # loudness of what may be heard though nothing is seen to be struck
TOO_LOUD = 4.4  # times the loudness seen that a blow may be heard with
LAGS = np.arange(-0.26, 0.261, 0.01)  # s by which a sound may be late
LATE = 0.8  # share of the best agreement with the picture that a sound in time has
ALIKE = 0.5  # share of a sound that agrees with the picture at its best lag, if it is of that picture at all


@dataclass(frozen=True)
class Moment:
    """What should be heard.

    Attributes:
        begin, end: seconds; between them something is struck once or several times.
        loudest: seconds of the hardest blow of them.
        bodies: that may sound; None when nobody can tell.
        least: loudness that must be heard; 0 if nothing must.
        most: loudness that may be.
        seen: loudness that is seen, about; 0 if that is not known.
    """

    begin: float
    end: float
    loudest: float
    bodies: frozenset[Body] | None = None
    least: float = 0.0
    most: float = math.inf
    seen: float = 0.0


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
        bodies = frozenset(Body(*body[:2]) for _, _, c in group for body in struck(c, things))
        ring *= math.exp(-(group[0][0] - (moments[-1].end if moments else 0.0)) / RING)
        hardest, most, _ = max(group, key=lambda blow: blow[1])
        masked = any(loud > most for time, loud, _ in audible if time < group[-1][0] + 2 * EXACT)
        clear = most >= max(CLEAR, 0.5 * ring) and not masked
        moments.append(Moment(group[0][0], group[-1][0], hardest, bodies, HEARD * most if clear else 0.0))
        ring = math.hypot(ring, most)
    return moments


def moments_seen(clip: np.ndarray, fps: float = FPS) -> list[Moment]:
    """What should be heard of a clip, from its pixels alone.

    What happens before the second frame and after the last but one changes no velocity between frames: there anything
    may be heard.

    Args:
        clip: uint8 (frames, size, size, 3).
        fps: frames a second.

    Raises ValueError for what is no clip.
    """
    return moments_tracked(read_clip(clip, fps), clip[0])


def moments_tracked(track: Track, first: np.ndarray) -> list[Moment]:
    """As `moments_seen`, of what was read from a clip, and its first frame."""
    return _moments(track, impacts(track, _known(track, looks(first))))


def _known(track: Track, seen: Mapping[str, Look]) -> dict[str, Look]:
    """What the things of a clip are; those that are tilted are known by their outlines, and may be of any material."""
    known = dict(seen)
    for i, colour in enumerate(track.colours):
        look, first = known.get(colour), track.mask[:1, i]
        if look is None:
            thing, fit = recognised(first)
            if fit >= FITTING:
                known[colour] = Look(thing, MADE_OF[thing.kind])
        elif len(look.materials) < len(MADE_OF[look.thing.kind]) and is_tilted(look.thing, first):
            known[colour] = Look(look.thing, MADE_OF[look.thing.kind])
    return known


def judge_sound(
    samples: np.ndarray, rate: int, moments: Sequence[Moment], tolerance: float = EXACT, faint: float = FAINT
) -> Score:
    """What is heard against what should be.

    The value is the worst of four checks, for one blow out of place is enough to see that sound and picture do not
    belong together: `presence`, the share of moments that must be heard and are; `timing`, the share of blows heard
    that belong to a moment and are not far too loud for it, or, if the whole would fit far better earlier or later, how
    much less it fits as it is; `material`, the share of the sound that bodies explain which are struck, 1 if it is next
    to all; `ring`, whether it is the sound of bodies at all: without it a steady noise would be heard at every moment.

    Args:
        samples: (n,) in [-1, 1].
        rate: samples a second.
        moments: in order of time.
        tolerance: seconds between a blow and what it belongs to.
        faint: loudness of a blow that needs no moment.

    Raises ValueError for what is no sound.
    """
    check_samples(samples)
    check_rate(rate)
    times = blows_heard(samples.astype(np.float64), rate)
    # A blow that the ring of others drowned is looked for where it should be.
    must = [m for m in moments if m.least > 0]
    times = sorted([*times, *(m.loudest for m in must if all(abs(t - m.loudest) > tolerance for t in times))])
    near = [[m for m in moments if m.most > 0 and m.begin - tolerance <= time <= m.end + tolerance] for time in times]
    likely = [_likely(some) for some in near]
    found = explain(samples, rate, times, likely)
    loud = found.loudness.max(axis=1, initial=0.0)
    faults: list[str] = []
    unheard = [m for m in must if _heard(m, times, loud, min(tolerance, CLOSE)) < m.least]
    faults += [f"something is struck at {m.loudest:.2f} s, but nothing is heard" for m in unheard]
    blows = [k for k in range(len(times)) if loud[k] > FAINT]
    stray = [k for k in blows if loud[k] > faint + sum(m.most for m in near[k])]
    faults += [f"a {_material(found, k)} blow is heard at {times[k]:.2f} s, but nothing is struck so" for k in stray]
    doubt, unlike = _doubt(found, times, likely)
    faults += unlike
    if found.missed > FOREIGN:
        faults.append(f"{100 * found.missed:.0f} % of what is heard is of nothing that can be struck")
    lag, agreement = _lag(np.array(times), loud, moments)
    if lag:
        faults.append(f"the sound fits what is seen {abs(lag):.2f} s {'earlier' if lag < 0 else 'later'}")
    facts = {
        "presence": 1 - len(unheard) / len(must) if must else 1.0,
        "timing": min(1 - len(stray) / len(blows) if blows else 1.0, agreement),
        "material": 1 - doubt if unlike else 1.0,
        "ring": float(np.clip((NOISE - found.missed) / (NOISE - FOREIGN), 0, 1)),
    }
    return Score(min(facts.values()), tuple(faults), facts)


def _likely(near: Sequence[Moment]) -> frozenset[Body]:
    """What may sound at those moments, of any size, for sizes are misjudged; anything, if that is not known."""
    known = [moment.bodies for moment in near if moment.bodies is not None]
    if not near or len(known) < len(near):
        return frozenset(BODIES)
    materials = {body.material for bodies in known for body in bodies - {BOARD}}
    return frozenset({BOARD, *(body for body in BODIES if body.material in materials)})


def _heard(moment: Moment, times: Sequence[float], loud: np.ndarray, tolerance: float) -> float:
    """How loud the blows are that may be those of a moment."""
    return sum(float(a) for t, a in zip(times, loud, strict=True) if abs(t - moment.loudest) <= tolerance)


def _lag(times: np.ndarray, loud: np.ndarray, moments: Sequence[Moment]) -> tuple[float, float]:
    """By how many seconds a sound is displaced from what is seen, and how well it agrees as it is: (0, 1) if well."""
    seen = np.array([(m.begin, m.seen) for m in moments if m.seen > 0]).reshape(-1, 2)
    if not len(seen) or not loud.sum() > 0:
        return 0.0, 1.0
    apart = np.abs(times[:, None, None] + LAGS[None, :, None] - seen[:, 0])
    at_most = TOO_LOUD * (np.maximum(1 - apart / SEEN, 0) @ seen[:, 1])  # (blows, lags)
    agreement = np.minimum(at_most, loud[:, None]).sum(axis=0)
    best, now = float(agreement.max()), float(agreement[np.abs(LAGS) <= CLOSE].max())
    if best < ALIKE * loud.sum() or now >= LATE * best:
        return 0.0, 1.0
    return float(LAGS[agreement.argmax()]), now / best


def _material(found: Explained, k: int) -> str:
    return BODIES[int(found.heard[k].argmax())].material


def _doubt(found: Explained, times: Sequence[float], likely: Sequence[frozenset[Body]]) -> tuple[float, list[str]]:
    """The share of what is heard that bodies explain which are not likely, and, if that is too much, in words."""
    wrong = np.array([[body not in some for body in BODIES] for some in likely], dtype=bool).reshape(found.heard.shape)
    doubt = min(1.0, float(found.heard[wrong].sum()) / max(float(found.heard.sum()), 1e-9))
    if doubt <= DOUBT:
        return doubt, []
    faults = []
    for k, time in enumerate(times):
        part = np.where(wrong[k], found.heard[k], 0)
        if part.sum() > DOUBT * found.heard[k].sum() and part.sum() > 0:
            names = " or ".join(sorted({body.material for body in likely[k]}))
            heard = BODIES[int(part.argmax())].material
            faults.append(f"what is struck at {time:.2f} s sounds like {heard}, but it is {names}")
    return doubt, faults


def _moments(track: Track, seen: Sequence[Impact]) -> list[Moment]:
    known = [impact.bodies for impact in seen if impact.bodies is not None]
    everything = None if len(known) < len(seen) else frozenset({BOARD}).union(*known)
    last = (track.frames - 1) / track.fps
    edges = ((0.0, 1 / track.fps - SEEN), (last - 1 / track.fps + SEEN, last + 1 / track.fps))
    moments = [Moment(begin, end, begin, everything) for begin, end in edges]
    moments += [
        Moment(i.time, i.time, i.time, i.bodies, 0.0, TOO_LOUD * i.most, i.loudness) for i in seen if i.most > 0
    ]
    times = np.array([i.time for i in seen])
    certain, loud = (np.array([getattr(i, name) for i in seen]) for name in ("certain", "least"))
    must = [(time, TOO_SOFT * how - FAINT) for time, how in _strikes(times, certain) if how > STRIKING]
    must += [(time, SILENCED * how) for time, how in _strikes(times, loud) if how > DIMLY]
    moments += [Moment(time, time, time, everything, least, 0.0) for time, least in must if least > 0]
    return sorted(moments, key=lambda moment: moment.begin)


def _strikes(times: np.ndarray, loud: np.ndarray) -> list[tuple[float, float]]:
    """When something is struck hardest, seconds and loudness, by how loud the blow at each frame would be.

    A blow a part f of the way from one frame to the next changes the velocity by 1 - f at the one and by f at the
    other: so the middle of the two, weighted by the change, is its time, far finer than a frame.
    """
    both = loud[:-1] + loud[1:]
    tops = [k for k in range(len(both)) if 0 < both[k] >= both[max(0, k - 1) : k + 2].max()]
    return [(float(loud[k : k + 2] @ times[k : k + 2] / both[k]), float(both[k])) for k in tops]


def score_av(clip: np.ndarray, fps: float, samples: np.ndarray, rate: int = SOUND_HZ) -> Score:
    """How well a sound fits what is seen to be struck, from pixels and samples alone; see `judge_sound`.

    What is seen tells when, about how hard, and what: kinds by their outlines, materials by their surfaces.

    Args:
        clip: uint8 (frames, size, size, 3).
        fps: frames a second.
        samples: (n,) in [-1, 1].
        rate: samples a second.

    Raises ValueError for what is no clip or no sound.
    """
    check_samples(samples)
    check_rate(rate)
    return judge_seen(samples, rate, moments_seen(clip, fps))


def judge_seen(samples: np.ndarray, rate: int, moments: Sequence[Moment]) -> Score:
    """As `judge_sound`, for what `moments_seen` gives, which is less exact than contacts that are known."""
    return judge_sound(samples, rate, moments, SEEN, SLIGHT)


def score_sound(samples: np.ndarray, rate: int, clip_or_motion: np.ndarray | Motion) -> Score:
    """How well a sound fits a motion whose contacts are known, or a clip (at `FPS`) whose contacts are seen.

    Raises ValueError for what is no sound, or no clip.
    """
    if isinstance(clip_or_motion, Motion):
        return judge_sound(samples, rate, moments_of(clip_or_motion))
    return score_av(clip_or_motion, FPS, samples, rate)
