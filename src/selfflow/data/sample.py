"""What a source gives: one captioned picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np


class DecodeError(ValueError):
    """A record that cannot be read: the loader skips and counts it."""


@dataclass(frozen=True)
class Sample:
    """A captioned picture.

    Attributes:
        id: stable and unique within its source, e.g. `"emoji/noto/1234"`.
        picture: uint8 `(H, W, 3)` RGB.
        text: its caption.
        meta: whatever an evaluation needs.
    """

    id: str
    picture: np.ndarray
    text: str
    meta: Mapping[str, Any] = field(default_factory=dict)


class Source(Protocol):
    """Samples by index; the same index always gives the same sample."""

    name: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Raises `DecodeError` for a broken record, IndexError beyond the end."""
        ...
