"""The world as the model dreams it: frames from actions, a few at a time, without end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

STEPS = 2  # sampling steps a frame's dream takes at most, so that it keeps up


def dream(runtime: Any, first: np.ndarray, text: str, body: str, hz: float, seed: int) -> Any:
    """What offers `step(actions (k, a)) -> frames (k, H, W, 3)`: the runtime's own rollout, where it has one."""
    if hasattr(runtime, "rollout"):
        return runtime.rollout(first, text, body, hz, seed=seed, steps=STEPS)
    return Dream(runtime, first, text, body, hz, seed)


class Dream:
    """Frames that follow a picture when actions are taken; lives on the model's thread.

    The model is asked for as many frames as one of its tokens is deep, beginning with the last one of the former
    request. Within such a request the actions that are not chosen yet are taken to be the last one held, so that every
    frame is seen as soon as its action is known, from the same noise, and dreamt again with the next.

    Args:
        pipe: what offers `imagine`.
        first: uint8 `(H, W, 3)`.
        text, body, hz: what the model is told; whose actions; actions a second.
        seed: of the noise.
    """

    def __init__(
        self, pipe: Any, first: np.ndarray, text: str, body: str, hz: float, seed: int, steps: int = STEPS
    ) -> None:
        self.pipe, self.first, self.text, self.body, self.hz = pipe, first, text, body, hz
        self.seed, self.steps, self.request = seed, steps, 0
        self.length = max(4, pipe.modalities.moving.frames)
        self.taken: list[np.ndarray] = []

    def step(self, actions: np.ndarray) -> np.ndarray:
        """Actions `(k, a)` in raw units to what is seen after each, uint8 `(k, H, W, 3)`."""
        frames: list[np.ndarray] = []
        while len(actions):
            count = self.length - 1 - len(self.taken)
            now, actions = actions[:count], actions[count:]
            known = len(self.taken)
            self.taken.extend(now)  # (`+=` would be numpy's addition)
            held = [*self.taken, *[self.taken[-1]] * (self.length - len(self.taken))]
            clip = self.pipe.imagine(
                self.first[None], [self.text], np.stack(held)[None], self.body, self.hz, steps=self.steps,
                generator=torch.Generator().manual_seed(self.seed * 1_000_003 + self.request),
            )[0]  # fmt: skip
            frames += list(clip[known + 1 : len(self.taken) + 1])
            if len(self.taken) == self.length - 1:
                self.first, self.taken, self.request = clip[-1], [], self.request + 1
        return np.stack(frames)
