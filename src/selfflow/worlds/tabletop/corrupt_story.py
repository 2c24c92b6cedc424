"""Captions of motions that are false on purpose: the right things are named, but that is not what they do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .claim import Claim
from .happen import judge_motion
from .language import caption_motion, parse
from .motion import MOTIONS, draw_motion
from .narrate import STANDS
from .nouns import phrase
from .scene import Motion, Thing, check_known, generator, pick

TRIES = 12


def corrupt_story(motion: Motion, kind: str, seed: int = 0) -> str:
    """A caption that names the things of a motion and tells what they do not do.

    Args:
        motion: that is not told.
        kind: of `STORY_FAULTS`: `"other way"` left is right; `"exchanged"` one does what another does; `"other doing"`
            what happens in another motion is told of these things; `"nothing"` all of them stand by.
        seed: which things, and which other motion.

    Raises:
        ValueError: for an unknown kind, or where what would be told is true.
    """
    check_known("fault of a story", kind, tuple(STORY_FAULTS))
    if not motion.frames or not motion.frames[0].things:
        raise ValueError("nothing can be told of a motion without things")
    rng = generator(seed, 53)
    for _ in range(TRIES):
        text = STORY_FAULTS[kind](motion, rng)
        if text and not _is_true(text, motion):
            return text
    raise ValueError(f"no caption of this motion is false in this way ({kind})")


def _is_true(text: str, motion: Motion) -> bool:
    """Whether all that can be seen of what a caption tells is true."""
    claim: Claim = parse(text)
    shown = replace(claim, events=tuple(event for event in claim.events if event.name != "sounds"))
    return not judge_motion(shown, motion).faults


def _other_way(motion: Motion, rng: np.random.Generator) -> str:
    text = caption_motion(motion, rng)
    other = {"left": "right", "right": "left"}
    return re.sub(r"to the (left|right)", lambda found: f"to the {other[found[1]]}", text)


def _exchanged(motion: Motion, rng: np.random.Generator) -> str:
    count = len(motion.frames[0].things)
    if count < 2:
        raise ValueError("a motion of one thing has none to exchange it with")
    order = list(range(count))
    i = int(rng.random() * count)
    j = (i + 1 + int(rng.random() * (count - 1))) % count
    order[i], order[j] = order[j], order[i]
    looks = motion.frames[0].things
    return caption_motion(_looking(motion, [looks[k] for k in order]), rng)


def _other_doing(motion: Motion, rng: np.random.Generator) -> str:
    other = draw_motion(rng, pick(rng, [name for name in MOTIONS if name != motion.name]), len(motion.frames))
    looks = motion.frames[0].things
    if len(other.frames[0].things) != len(looks):
        return ""
    return caption_motion(_looking(other, looks), rng)


def _nothing(motion: Motion, rng: np.random.Generator) -> str:
    names = [phrase(thing, rng) for thing in motion.frames[0].things]
    return f"{' and '.join(names)} {STANDS[len(names) > 1]}"


def _looking(motion: Motion, looks: tuple[Thing, ...] | list[Thing]) -> Motion:
    """The motion, its things looking like others."""
    frames = tuple(
        replace(scene, things=tuple(a.at(b.x, b.y, b.angle) for a, b in zip(looks, scene.things, strict=True)))
        for scene in motion.frames
    )
    return replace(motion, frames=frames)


STORY_FAULTS: dict[str, Callable[[Motion, np.random.Generator], str]] = {
    "other way": _other_way,
    "exchanged": _exchanged,
    "other doing": _other_doing,
    "nothing": _nothing,
}
