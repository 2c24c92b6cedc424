"""Bytes of pictures and the values that networks take them for: exact both ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def values_of(pixels: Tensor) -> Tensor:
    """uint8 of any shape to float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def bytes_of(values: Tensor) -> Tensor | None:
    """The uint8 that `values_of` makes exactly these values of; None when there are none."""
    if values.numel() == 0 or not -1 <= float(values.min()) <= float(values.max()) <= 1:
        return None
    pixels = ((values + 1) * 127.5).round().to(torch.uint8)
    return pixels if torch.equal(values_of(pixels), values.float()) else None


def to_values(pictures: Sequence[np.ndarray], device: torch.device | str = "cpu") -> Tensor:
    """Pictures uint8 `(H, W, 3)` to `(b, 3, H, W)` float32 in [-1, 1]; clips `(f, H, W, 3)` to `(b, f, 3, H, W)`.

    They are moved to the device as bytes.

    Raises:
        ValueError: when they are of several sizes, or no uint8 pictures.
    """
    shapes = sorted({p.shape for p in pictures})
    if len(shapes) != 1:
        raise ValueError(f"pictures of one batch have shapes {shapes}; open the source with one size")
    if pictures[0].dtype != np.uint8 or pictures[0].ndim not in (3, 4) or shapes[0][-1] != 3:
        raise ValueError(f"a picture is uint8 (height, width, 3), not {pictures[0].dtype} of shape {shapes[0]}")
    return values_of(torch.from_numpy(np.stack(pictures)).to(device).movedim(-1, -3)).contiguous()


def to_pixels(values: Tensor) -> np.ndarray:
    """The inverse of `to_values`: `(…, 3, H, W)` in [-1, 1] to `(…, H, W, 3)` uint8, rounded to nearest."""
    scaled = ((values.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.movedim(-3, -1).cpu().numpy()
