"""Long work in bounded memory: a world that is played on and on, and sound without end.

Both look back on a window of what came before, no longer than what the model was trained on. When the window is full,
its oldest part is dropped and the rest is taken as a beginning: places in time start from 0 again, and what is kept is
read anew, as the model read beginnings in training. So every frame is made by a call of `solve` that could have been a
request of its own; nothing that was dropped lives on in the keys of what was kept, and positions never leave the range
that was trained, however long it goes on. (Keeping the keys, and turning them to new places, would spare reading some
hundred tokens a slide. It is exact in the first layer only: deeper keys have seen the frames that were dropped.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from selfflow.data.sample import Sample
from selfflow.runtime.memory import PieceCache

if TYPE_CHECKING:
    from selfflow.runtime.runtime import Runtime


class Rollout:
    """A learned world, played step by step. Made by `Runtime.rollout`.

    Frames come in moments of `depth`, what one token of a clip holds (the first of `lead`). Of a moment that has begun,
    the actions that are not yet known are taken to be as the last one; it is made again, from the same noise, when they
    are, and what was shown stays as it was shown.

    Args:
        runtime: the model.
        picture: the first frame, uint8 `(H, W, 3)`.
        text: what is said of the world.
        body: whose actions; its quantiles must be known.
        hz: actions, and frames, a second.
        seed: of the noise; moment j draws from (seed, j).
        steps: sampling steps.
        window: moments looked at, the one being made included; by default as many as a training clip has.
        drop: moments dropped when the window is full. 1 keeps time and memory of every moment the same; more reads
            less often.
        sampling: what else `solve` takes.
    """

    def __init__(
        self, runtime: Runtime, picture: np.ndarray, text: str, body: str, hz: float, seed: int = 0,
        steps: int | None = None, window: int | None = None, drop: int | None = None, **sampling: Any,
    ) -> None:  # fmt: skip
        self.depth, self.lead = runtime.modalities.depth, runtime.modalities.lead
        self.window = max(2, runtime.modalities.moments(runtime.config.data.frames)) if window is None else window
        self.drop = max(1, self.window // 4) if drop is None else drop
        if not 1 <= self.drop < self.window:
            raise ValueError(f"of a window of {self.window} moments {self.drop} cannot be dropped; 1 ≤ drop < window")
        picture = np.asarray(picture)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise ValueError(f"a first frame is uint8 (H, W, 3), not {picture.dtype} of shape {picture.shape}")
        self.runtime, self.text, self.body, self.hz, self.seed = runtime, text, body, hz, seed
        self.sampling = {"steps": steps, **sampling}
        self._frames: list[np.ndarray] = [picture.copy()]  # of the window, the first frame in front
        self._actions: list[np.ndarray] = []
        self._dropped = 0  # moments
        # Its own: what is read of frames that pass by is of no use to others, and would drive out what is.
        self.memory = PieceCache(64 << 20)

    @property
    def seen(self) -> int:
        """Frames shown so far."""
        return self._dropped * self.depth + len(self._frames) - 1

    def step(self, actions: np.ndarray) -> np.ndarray:
        """What is seen after each of these actions: `(k, a)` in raw units to uint8 `(k, H, W, 3)`.

        Raises:
            ValueError: for another shape, or values that are not finite; the world stays as it was.
        """
        actions = np.asarray(actions, np.float32)
        if actions.ndim != 2 or 0 in actions.shape or not np.isfinite(actions).all():
            raise ValueError(f"actions are finite values (k, a), at least one; got shape {actions.shape}")
        if self._actions and actions.shape[1] != len(self._actions[0]):
            raise ValueError(f"actions have {actions.shape[1]} values; those before had {len(self._actions[0])}")
        before = list(self._frames), list(self._actions), self._dropped
        try:
            return self._step(actions)
        except BaseException:  # a mistake, or a stop from outside, leaves the world as it was
            self._frames, self._actions, self._dropped = before
            raise

    def _step(self, actions: np.ndarray) -> np.ndarray:
        self._actions.extend(actions)
        shown: list[np.ndarray] = []
        while len(shown) < len(actions):
            moment, within = divmod(len(self._frames) + self.depth - self.lead, self.depth)
            if moment == self.window:
                gone = self.drop * self.depth
                self._frames, self._actions = self._frames[gone:], self._actions[gone:]
                self._dropped += self.drop
                continue
            made = self._moment(moment)[within : within + len(actions) - len(shown)]
            self._frames.extend(made)
            shown.extend(made)
        return np.stack(shown)

    def _moment(self, moment: int) -> np.ndarray:
        """The frames `(depth, H, W, 3)` of one moment of the window, after all that came before."""
        count = self.lead + moment * self.depth
        past = max(0, count - self.depth)
        clip = np.zeros((count, *self._frames[0].shape), np.uint8)
        clip[: max(past, 1)] = self._frames[: max(past, 1)]
        known = self._actions[:count]
        actions = np.stack(known + known[-1:] * (count - len(known)))
        asked = Sample(
            "rollout", None, self.text, clip=clip, fps=self.hz, actions=actions, control_hz=self.hz, body=self.body
        )
        cell = self.runtime.modalities.cell
        tokens = (clip.shape[1] // cell) * (clip.shape[2] // cell)
        keep = {"visual": torch.arange(tokens * (moment + 1)) < tokens * moment}
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self._dropped + moment)
        with self.runtime.using(self.memory):
            (made,) = self.runtime.solve("imagine", [asked], keep=keep, generator=generator, **self.sampling)
        return made.clip[past:]


def stream_sound(
    runtime: Runtime, text: str, seconds: float, seed: int = 0, window: float | None = None, **sampling: Any
) -> Iterator[np.ndarray]:
    """Sound of any length in chunks, float32 in [-1, 1], each given as soon as it is certain.

    The first window is the task `sound`; every further one continues the last half of the one before. What is not yet
    certain at the end of a window is made again with the next. Of the lapped transform (`selfflow.modalities.audio`),
    whose tokens overlap by half a hop on either side, that is the last token, and half a hop before it; of mel
    spectrograms the tokens of a window's last frames, and the phases go on from what was given. So chunks join without
    a seam.

    Args:
        seconds: of the whole.
        seed: of the noise; window j draws from (seed, j).
        window: seconds of one window, by default those of a training sound.
        sampling: what else `solve` takes.

    Raises:
        ValueError: for a model without sound, or whose sound is latents of a codec that was trained: what was made
            would come back from its waveform as other tokens than were made, and chunks would not join; for lengths
            not above 0.
    """
    audio = runtime.modalities.audio
    if audio is None:
        raise ValueError("this model has no sound; train one whose configuration gives audio a rate")
    if not audio.joins:
        raise ValueError(
            "this model hears through a codec that was trained, whose latents do not come back from a sound as they "
            "were made: its sounds are made whole (`speak`), not in a stream"
        )
    if not (seconds > 0 and np.isfinite(seconds)):
        raise ValueError(f"{seconds} seconds of sound were asked for; give a number above 0")
    total = max(1, round(seconds * audio.rate))
    length = runtime.config.data.seconds if window is None else window
    n = max(2 * audio.unsettled + 2, round(length * audio.rate / audio.hop))
    return _windows(runtime, text, total, n, seed, sampling)


def _windows(
    runtime: Runtime, text: str, total: int, n: int, seed: int, sampling: dict[str, Any]
) -> Iterator[np.ndarray]:
    audio = runtime.modalities.audio
    hop, lap, settled, kept = audio.hop, audio.lap, n - audio.unsettled, n // 2
    fresh = settled - kept  # tokens that a further window adds
    known = np.zeros(0, np.float32)
    start = given = number = 0  # samples before this window, samples given so far, number of the window
    while given < total:
        sound = np.zeros(n * hop, np.float32)
        sound[: len(known)] = known
        asked = Sample("stream", None, text, sound=sound, sound_rate=audio.rate)
        task, keep = ("sound", None) if number == 0 else ("continue-sound", {"audio": torch.arange(n) < kept})
        generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
        (made,) = runtime.solve(task, [asked], keep=keep, generator=generator, **sampling)
        # What laps over the border to the tokens that are made again waits for those that take their place.
        end = start + settled * hop - lap if start + n * hop < total else total
        yield made.sound[given - start : end - start].astype(np.float32)
        given, number = end, number + 1
        known, start = made.sound[fresh * hop : settled * hop + 2 * lap], start + fresh * hop
