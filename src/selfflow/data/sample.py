"""What a source gives: one sample, of whatever it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


class DecodeError(ValueError):
    """A record that cannot be read: the loader skips and counts it."""


@dataclass(frozen=True)
class Sample:
    """Text with what it tells of: a picture, a clip, a sound, actions, in any combination. What a sample lacks is None.

    Everything of a sample begins at the same moment: frame j is seen at `j / fps` seconds, sample j of the sound heard
    at `j / sound_rate`, row j of the actions chosen, and of the states measured, at `j / control_hz`.

    Attributes:
        id: stable and unique within its source, e.g. `"emoji/noto/1234"`.
        picture: uint8 `(H, W, 3)` RGB: the still, or what an edit ends with.
        text: caption or instruction; empty when there is none.
        meta: whatever an evaluation needs.
        references: pictures, each uint8 `(h, w, 3)`, in the order of their numbers; an edit has one, what it begins
            with.
        mask: bool `(H, W)`, where an edit changes the picture.
        clip: uint8 `(frames, H, W, 3)`.
        fps: frames of the clip a second.
        sound: float32 `(samples,)` in [-1, 1], one channel.
        sound_rate: samples of the sound a second.
        actions: float32 `(k, a)`, raw units; row j is chosen when state j is seen.
        states: float32 `(k', s)`, raw units.
        control_hz: actions and states a second.
        body: whose actions and states they are, e.g. `"tabletop"`; it names their statistics.
    """

    id: str
    picture: Any  # an array or None; those who ask for pictures open sources that have them
    text: str
    meta: Mapping[str, Any] = field(default_factory=dict)
    references: tuple[np.ndarray, ...] = ()
    mask: np.ndarray | None = None
    clip: np.ndarray | None = None
    fps: float = 0.0
    sound: np.ndarray | None = None
    sound_rate: int = 0
    actions: np.ndarray | None = None
    states: np.ndarray | None = None
    control_hz: float = 0.0
    body: str = ""


class Source(Protocol):
    """Samples by index; the same index always gives the same sample.

    A source of actions may have an attribute `raw`: `{"actions": (i, …), "states": (j, …)}`, the values of one that are
    not to be scaled by quantiles, such as a gripper that is told 0 or 1.
    """

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Raises `DecodeError` for a broken record, IndexError beyond the end."""
        ...
