"""The tasks by name: edit, compose, clip, sound, dub, animate, act, imagine … each one call of `solve`.

Everything is batched and of uint8 pictures, float32 sounds in [-1, 1] and actions in raw units. `sampling` is what
`Pipeline.solve` takes: steps, guidance, interval, generator …
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from selfflow.data.sample import Sample


class Performing:
    """Mixed into `selfflow.pipeline.Pipeline`, whose `solve` and `config` it uses."""

    config: Any
    modalities: Any
    solve: Any
    _policy: Callable[..., np.ndarray]

    # ----------------------------------------------------------------------------------------------------- pictures

    def edit(self, pictures: np.ndarray, instructions: Sequence[str], **sampling: Any) -> np.ndarray:
        """Pictures uint8 `(n, H, W, 3)` and n instructions to pictures uint8 `(n, H, W, 3)`."""
        asked = [
            _ask(i, text, picture=np.zeros_like(p), references=(p,)) for i, p, text in _each(pictures, instructions)
        ]
        return np.stack([s.picture for s in self.solve("edit", asked, **sampling)])

    def compose(
        self,
        references: Sequence[Sequence[np.ndarray]],
        texts: Sequence[str],
        size: tuple[int, int] | None = None,
        **sampling: Any,
    ) -> np.ndarray:
        """For each of n texts one to ten pictures uint8 `(h, w, 3)`, of any sizes; to pictures uint8 `(n, H, W, 3)`.

        Args:
            size: height and width; the training size by default.
        """
        blank = self._blank(size)
        asked = [_ask(i, text, picture=blank, references=tuple(r)) for i, r, text in _each(references, texts)]
        return np.stack([s.picture for s in self.solve("edit", asked, **sampling)])

    def inpaint(self, pictures: np.ndarray, holes: np.ndarray, texts: Sequence[str], **sampling: Any) -> np.ndarray:
        """Fill holes: bool `(n, H, W)`, True where to paint. Every patch that a hole touches is painted anew.

        Outpainting is the same with the hole around the picture.
        """
        holes = np.asarray(holes, dtype=bool)
        if holes.shape != np.shape(pictures)[:3]:
            raise ValueError(
                f"holes have shape {holes.shape}; pictures {np.shape(pictures)} need {np.shape(pictures)[:3]}"
            )
        patch = self.modalities.cell
        n, height, width = holes.shape
        if height % patch or width % patch:
            raise ValueError(f"{height} × {width} pixels do not divide into patches of {patch}")
        touched = holes.reshape(n, height // patch, patch, width // patch, patch).any(axis=(2, 4)).reshape(n, -1)
        asked = [_ask(i, text, picture=p) for i, p, text in _each(pictures, texts)]
        keep = {"visual": torch.from_numpy(~touched)}
        made = np.stack([s.picture for s in self.solve("inpaint", asked, keep=keep, **sampling)])
        return np.where(_grown(touched, holes.shape, patch)[..., None], made, pictures)

    # -------------------------------------------------------------------------------------------- clips and sound

    def clip(self, texts: Sequence[str], frames: int, fps: float, **sampling: Any) -> np.ndarray:
        """n captions to clips uint8 `(n, frames, H, W, 3)`."""
        asked = [_ask(i, text, clip=self._blank(None, frames), fps=fps) for i, text in enumerate(texts)]
        return np.stack([s.clip for s in self.solve("clip", asked, **sampling)])

    def speak(self, texts: Sequence[str], seconds: float, **sampling: Any) -> np.ndarray:
        """n captions to sounds float32 `(n, seconds · rate)` in [-1, 1]."""
        silence = np.zeros(round(seconds * self._rate()), np.float32)
        asked = [_ask(i, text, sound=silence, sound_rate=self._rate()) for i, text in enumerate(texts)]
        return np.stack([s.sound for s in self.solve("sound", asked, **sampling)])

    def sound(self, clips: np.ndarray, fps: float, texts: Sequence[str], rate: int, **sampling: Any) -> np.ndarray:
        """Dub: clips uint8 `(n, frames, H, W, 3)` and n captions to sounds float32 `(n, frames / fps · rate)`."""
        silence = self._silence(np.shape(clips)[1], fps, rate)
        asked = [_ask(i, t, clip=c, fps=fps, sound=silence, sound_rate=rate) for i, c, t in _each(clips, texts)]
        return np.stack([s.sound for s in self.solve("dub", asked, **sampling)])

    def visualise(
        self, sounds: np.ndarray, rate: int, texts: Sequence[str], frames: int, fps: float, **sampling: Any
    ) -> np.ndarray:
        """Sounds float32 `(n, samples)` and n captions to clips uint8 `(n, frames, H, W, 3)`."""
        blank = self._blank(None, frames)
        asked = [_ask(i, t, clip=blank, fps=fps, sound=s, sound_rate=rate) for i, s, t in _each(sounds, texts)]
        return np.stack([s.clip for s in self.solve("visualise", asked, **sampling)])

    def clip_and_sound(
        self, texts: Sequence[str], frames: int, fps: float, rate: int, **sampling: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """n captions to clips uint8 `(n, frames, H, W, 3)` and their sounds float32 `(n, frames / fps · rate)`."""
        silence, blank = self._silence(frames, fps, rate), self._blank(None, frames)
        asked = [_ask(i, t, clip=blank, fps=fps, sound=silence, sound_rate=rate) for i, t in enumerate(texts)]
        made = self.solve("clip+sound", asked, **sampling)
        return np.stack([s.clip for s in made]), np.stack([s.sound for s in made])

    def animate(
        self, pictures: np.ndarray, texts: Sequence[str], frames: int, fps: float, **sampling: Any
    ) -> np.ndarray:
        """First frames uint8 `(n, H, W, 3)` and n captions to clips that begin with them."""
        asked = [_ask(i, t, clip=_begun(p, frames), fps=fps) for i, p, t in _each(pictures, texts)]
        made = np.stack([s.clip for s in self.solve("animate", asked, **sampling)])
        made[:, 0] = pictures
        return made

    def animate_with_sound(
        self, pictures: np.ndarray, texts: Sequence[str], frames: int, fps: float, rate: int, **sampling: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `animate`, with sounds float32 `(n, frames / fps · rate)` beside the clips."""
        silence = self._silence(frames, fps, rate)
        asked = [
            _ask(i, t, clip=_begun(p, frames), fps=fps, sound=silence, sound_rate=rate)
            for i, p, t in _each(pictures, texts)
        ]
        made = self.solve("animate+sound", asked, **sampling)
        clips = np.stack([s.clip for s in made])
        clips[:, 0] = pictures
        return clips, np.stack([s.sound for s in made])

    def continue_clip(
        self, clips: np.ndarray, count: int, texts: Sequence[str], fps: float, **sampling: Any
    ) -> np.ndarray:
        """Clips uint8 `(n, k, H, W, 3)` and n captions to clips `(n, k + count, H, W, 3)` that begin with them.

        The model looks at the last frames that fill whole tokens; where there are too few for one, the first is held
        before them.
        """
        clips, moments = np.asarray(clips), self.modalities.moments
        past = clips[:, -self.modalities.past(clips.shape[1]) :]
        if (missing := self.modalities.lead - past.shape[1]) > 0:
            past = np.concatenate([past[:, :1].repeat(missing, axis=1), past], axis=1)
        frames = past.shape[1]
        longer = np.concatenate([past, np.zeros((len(past), count, *past.shape[2:]), np.uint8)], axis=1)
        cells = past.shape[2] // self.modalities.cell * (past.shape[3] // self.modalities.cell)
        keep = torch.arange(moments(frames + count)).repeat_interleave(cells) < moments(frames)
        asked = [_ask(i, t, clip=c, fps=fps) for i, c, t in _each(longer, texts)]
        made = np.stack([s.clip for s in self.solve("continue", asked, keep={"visual": keep}, **sampling)])
        return np.concatenate([clips, made[:, frames:]], axis=1)

    def continue_sound(self, sounds: np.ndarray, seconds: float, texts: Sequence[str], **sampling: Any) -> np.ndarray:
        """Sounds float32 `(n, k)` at the model's rate and n captions to sounds `(n, k + seconds · rate)`.

        They begin with those given, but for what fills no token at their end and, of the lapped transform, half a hop
        in which one passes into the other.

        Raises:
            ValueError: for sounds shorter than the first token.
        """
        rate, sounds = self._rate(), np.asarray(sounds, np.float32)
        audio, (_, samples) = self.modalities.audio, sounds.shape
        if not (known := audio.known(samples)):
            raise ValueError(
                f"{samples} samples of a sound are less than its first token; give {audio.hop + audio.lap} or more"
            )
        longer = np.pad(sounds, ((0, 0), (0, round(seconds * rate))))
        asked = [_ask(i, t, sound=s, sound_rate=rate) for i, s, t in _each(longer, texts)]
        keep = {"audio": torch.arange(audio.count(longer.shape[1])) < known}
        made = np.stack([s.sound for s in self.solve("continue-sound", asked, keep=keep, **sampling)])
        untouched = known * audio.hop - audio.lap
        made[:, :untouched] = sounds[:, :untouched]
        return made

    # ------------------------------------------------------------------------------------------- worlds and robots

    def actions(
        self, images: np.ndarray, texts: Sequence[str], body: str, states: np.ndarray | None, width: int, count: int,
        hz: float, **sampling: Any,
    ) -> np.ndarray:  # fmt: skip
        """What to do next: `(n, count, width)` actions in raw units, from what is seen uint8 `(n, H, W, 3)`.

        Args:
            body: whose actions; its quantiles must be known.
            states: `(n, s)` in raw units; None of a model that learned to do without (`train.state_drop`).
            width: numbers in one action.
            count, hz: how many actions, and how many a second.
        """
        blank = np.zeros((count, width), np.float32)
        asked = [
            _ask(i, t, picture=p, actions=blank, states=s, control_hz=hz, body=body)
            for i, (p, t, s) in enumerate(zip(images, texts, _felt(states, len(texts)), strict=True))
        ]
        return np.stack([s.actions for s in self.solve("act", asked, **sampling)])

    def policy(self, chunk: int = 16, execute: int = 8, steps: int = 4, seed: int = 0) -> Callable[..., np.ndarray]:
        """A policy for the tabletop robot: `(images, states, instructions, step) -> (n, 3)` actions in [-1, 1].

        It decides `chunk` actions at once, carries out `execute` of them, and looks again.
        """
        from selfflow.worlds.tabletop.robot.env import to_action, to_target
        from selfflow.worlds.tabletop.scene import CONTROL_HZ

        plan: list[np.ndarray] = []

        def act(images: np.ndarray, states: np.ndarray, instructions: list[str], step: int) -> np.ndarray:
            if step == 0:
                plan.clear()
            if not plan:
                metres = np.array([to_target(s) for s in states], np.float32)
                generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
                chunks = self.actions(
                    images, instructions, "tabletop", metres, 3, chunk, CONTROL_HZ, steps=steps, generator=generator
                )
                plan.extend(np.moveaxis(chunks[:, :execute], 1, 0))
            return np.stack([to_action(*a) for a in plan.pop(0)])

        return act

    def act(self, images: np.ndarray, states: np.ndarray, instructions: list[str], step: int) -> np.ndarray:
        """The next action of each of n tabletop episodes that run side by side; see `policy`."""
        if step == 0 or not hasattr(self, "_policy"):
            self._policy = self.policy()
        return self._policy(images, states, instructions, step)

    def imagine(
        self, pictures: np.ndarray, texts: Sequence[str], actions: np.ndarray, body: str, hz: float, **sampling: Any
    ) -> np.ndarray:
        """What is seen when this is done: clips uint8 `(n, k, H, W, 3)` from first frames and actions `(n, k, a)`."""
        count = np.shape(actions)[1]
        asked = [
            _ask(i, t, clip=_begun(p, count), fps=hz, actions=np.asarray(a, np.float32), control_hz=hz, body=body)
            for i, (p, t, a) in enumerate(zip(pictures, texts, actions, strict=True))
        ]
        keep = {"visual": torch.zeros(1, dtype=torch.bool)}  # nothing is known of it but its first frame
        made = np.stack([s.clip for s in self.solve("imagine", asked, keep=keep, **sampling)])
        made[:, 0] = pictures
        return made

    def plan(
        self, images: np.ndarray, texts: Sequence[str], body: str, states: np.ndarray | None, width: int, count: int,
        hz: float, **sampling: Any,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """What to do next, and what will then be seen: clips uint8 `(n, count, H, W, 3)` that begin with what is seen
        now, and actions `(n, count, width)`. Arguments as for `actions`.
        """
        blank = np.zeros((count, width), np.float32)
        asked = [
            _ask(i, t, clip=_begun(p, count), fps=hz, actions=blank, states=s, control_hz=hz, body=body)
            for i, (p, t, s) in enumerate(zip(images, texts, _felt(states, len(texts)), strict=True))
        ]
        made = self.solve("plan", asked, **sampling)
        clips = np.stack([s.clip for s in made])
        clips[:, 0] = images
        return clips, np.stack([s.actions for s in made])

    def inverse(
        self, clips: np.ndarray, texts: Sequence[str], body: str, width: int, hz: float, **sampling: Any
    ) -> np.ndarray:
        """What was done: actions `(n, k, width)` in raw units, action j chosen when frame j of the clips uint8
        `(n, k, H, W, 3)` was seen.
        """
        blank = np.zeros((np.shape(clips)[1], width), np.float32)
        asked = [_ask(i, t, clip=c, fps=hz, actions=blank, control_hz=hz, body=body) for i, c, t in _each(clips, texts)]
        return np.stack([s.actions for s in self.solve("inverse", asked, **sampling)])

    # ------------------------------------------------------------------------------------------------------ helpers

    def _blank(self, size: tuple[int, int] | None, frames: int = 0) -> np.ndarray:
        height, width = size or (self.config.picture.size,) * 2
        return np.zeros((frames, height, width, 3) if frames else (height, width, 3), np.uint8)

    def _rate(self) -> int:
        if not self.config.audio.rate:
            raise ValueError("this model has no sound; train one whose configuration gives audio a rate")
        return int(self.config.audio.rate)

    def _silence(self, frames: int, fps: float, rate: int) -> np.ndarray:
        if not 1 <= fps <= 60:
            raise ValueError(f"{fps} frames a second; choose 1 to 60")
        return np.zeros(round(frames / fps * rate), np.float32)


def _ask(number: int, text: str, **given: Any) -> Sample:
    """What is asked for, with blanks for what is to be made."""
    return Sample(f"request/{number}", given.pop("picture", None), text, **given)


def _each(things: Sequence[Any] | np.ndarray, texts: Sequence[str]) -> list[tuple[int, Any, str]]:
    if isinstance(texts, str) or len(things) != len(texts):
        raise ValueError(
            f"{len(things)} inputs were given with {texts if isinstance(texts, str) else len(texts)!r} texts; "
            "give a list of one text per input"
        )
    return [(i, thing, text) for i, (thing, text) in enumerate(zip(things, texts, strict=True))]


def _felt(states: np.ndarray | None, count: int) -> list[np.ndarray | None]:
    """The state of each of `count` samples, as the one moment of a stream."""
    return [None] * count if states is None else [np.asarray(s, np.float32)[None] for s in states]


def _begun(picture: np.ndarray, frames: int) -> np.ndarray:
    """A clip to be filled in, whose first frame is given."""
    clip = np.zeros((frames, *picture.shape), np.uint8)
    clip[0] = picture
    return clip


def _grown(touched: np.ndarray, shape: tuple[int, ...], patch: int) -> np.ndarray:
    """Patches `(n, rows · columns)` as pixels `(n, H, W)`."""
    n, height, width = shape
    grid = touched.reshape(n, height // patch, width // patch)
    return grid.repeat(patch, axis=1).repeat(patch, axis=2)
