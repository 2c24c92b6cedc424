"""Whether a picture shows what a caption says."""

from __future__ import annotations

import numpy as np

from .check_physics import faults_of
from .claim import Claim, judge
from .language import parse
from .paints import palette
from .read import Seen, read_scene
from .verdict import Score

FORMED = 0.42  # fit below which a thing is malformed: true renders, noisy or blurred, give more


def malformed(things: list[Seen]) -> list[str]:
    """What is wrong with the shapes of things themselves, in words."""
    faults = [fault for thing in things for fault in thing.oddities]
    return faults + [
        f"the {t} is malformed: its outline fits to {t.fit:.2f}" for t in things if t.fit < FORMED and not t.oddities
    ]


def score_text(picture: np.ndarray, claim_or_caption: Claim | str) -> Score:
    """How well a picture shows what is asked.

    Tones that are asked for (`scene.TONES`) are read beside the eight colours, less surely: of 300 true pictures 0.92
    are without fault, and 0.17 of the same with one colour the nearest other paint (`benchmarks/tones.py`).

    Args:
        picture: uint8 (size, size, 3).
        claim_or_caption: of this world's language.

    Returns:
        The share of facts that are true: those of `claim.judge`, and a false one for each thing that is malformed, is
        inside another or rests on nothing. `facts`: `asked` and `true` (numbers of facts), `things` read, and how many
        `malformed` and `impossible`.

    Raises:
        ValueError: for what is no picture, or no caption of this language.
    """
    claim = parse(claim_or_caption) if isinstance(claim_or_caption, str) else claim_or_caption
    names = palette(phrase.colour for phrase in claim.phrases)
    return judged(claim, read_scene(picture, names), len(picture))


def judged(claim: Claim, things: list[Seen], size: int) -> Score:
    """The score of things read from a picture of that size."""
    verdict = judge(claim, things)
    shapes, physics = malformed(things), [str(fault) for fault in faults_of(things, size)]
    total = verdict.total + len(shapes) + len(physics)
    facts = {
        "asked": verdict.total,
        "true": verdict.true,
        "things": things,
        "malformed": len(shapes),
        "impossible": len(physics),
    }
    return Score(verdict.true / total if total else 1.0, (*verdict.faults, *shapes, *physics), facts)
