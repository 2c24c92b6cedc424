"""Judges of clips: what moves, and how. Their features are what clips are compared in (`video_distance`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.evaluate.judge import Judge, trained
from selfflow.evaluate.measures import opened
from selfflow.modalities.pixels import values_of

SIDE, FRAMES = 32, 16  # what a judge sees of a clip
SPRITES, TABLETOP = 720, 360  # true clips that judges are trained on


def to_small(clips: np.ndarray) -> np.ndarray:
    """Clips uint8 `(n, f, H, W, 3)` to float32 `(n, 3, FRAMES, SIDE, SIDE)` in [-1, 1]: evenly chosen frames, averaged.

    Raises:
        ValueError: for another shape or type.
    """
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[4] != 3:
        raise ValueError(f"clips are uint8 (n, frames, H, W, 3), not {clips.dtype} {clips.shape}")
    frames = np.linspace(0, clips.shape[1] - 1, FRAMES).round().astype(int)
    parts = []
    for clip in clips:
        x = values_of(torch.from_numpy(np.ascontiguousarray(clip[frames])).movedim(-1, 1))
        parts.append(F.interpolate(x, size=(SIDE, SIDE), mode="area").movedim(1, 0))
    return torch.stack(parts).numpy()


def sprite_judge(pipe: Any) -> Judge:
    """Which animation of `lpc.ANIMATIONS`, and which of `lpc.DIRECTIONS`.

    Raises:
        PackMissing: without the pack lpc64.
    """
    from selfflow.data.lpc import ANIMATIONS, DIRECTIONS

    source = opened("sprites-clip", pipe, "train", count=SPRITES)

    def data() -> tuple[np.ndarray, np.ndarray]:
        clips, labels = [], []
        for i in range(SPRITES):
            s = source[i]
            clips.append(to_small(s.clip[None])[0])
            falls = s.meta["animation"] == "hurt"
            side = -1 if falls else DIRECTIONS.index(s.meta["direction"])
            labels.append((ANIMATIONS.index(s.meta["animation"]), side))
        return np.stack(clips), np.array(labels)

    settings = {"frames": source.frames, "size": source.size, "count": SPRITES, "seen": [FRAMES, SIDE]}
    answers = len(ANIMATIONS), len(DIRECTIONS)
    return trained("sprites", settings, lambda: Judge(3, answers, (12, 24, 48, 96), 3), data, 12, _noisy)


def motion_judge(pipe: Any) -> Judge:
    """Which motion of `motions()` a tabletop clip shows.

    Raises:
        ImportError: without the extra `world`.
    """
    from selfflow.worlds.tabletop.tasks import example

    size, frames, names = pipe.config.picture.size, pipe.config.data.frames, motions()

    def data() -> tuple[np.ndarray, np.ndarray]:
        clips, labels = [], []
        for seed in range(TABLETOP):
            case = example("clip", seed, size, "train", frames=frames, sound=False)
            clips.append(to_small(np.asarray(case.clip)[None])[0])
            labels.append((names.index(case.truth.name),))  # type: ignore[attr-defined]
        return np.stack(clips), np.array(labels)

    settings = {"frames": frames, "size": size, "count": TABLETOP, "seen": [FRAMES, SIDE], "motions": names}
    return trained("tabletop", settings, lambda: Judge(3, (len(names),), (12, 24, 48, 96), 3), data, 16, _noisy)


def motions() -> list[str]:
    """The motions of tabletop clips."""
    from selfflow.worlds.tabletop.motion import MOTIONS

    return list(MOTIONS)


def animations() -> list[str]:
    """The animations of sprites."""
    from selfflow.data.lpc import ANIMATIONS

    return list(ANIMATIONS)


def _noisy(x: Tensor, generator: torch.Generator) -> Tensor:
    """Clips with a little noise and of another brightness, so that what a network leaves behind does not mislead."""
    light = 1 + 0.1 * torch.randn((len(x), 1, 1, 1, 1), generator=generator)
    return x * light + 0.1 * torch.randn(x.shape, generator=generator)
