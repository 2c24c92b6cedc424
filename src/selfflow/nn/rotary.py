"""Rotary positions on four axes: time, row, column, index (Su et al. 2021, 2104.09864, one block of pairs per axis).

An attention score then depends on *differences* of place only. Text sits at row 0, column 0, the centre of a picture,
so a picture token also learns where it is absolutely: from its offset to the text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from selfflow.tokens import AXES

# Fastest and slowest turn of each axis, in radians per unit of the axis (see `selfflow.tokens`). The fastest tells
# neighbours apart: frames and sound tokens at 25 per second, 32 patches a side, consecutive words. The slowest turns
# less than half a circle over what one sample spans: 16 seconds, 2 picture sides, 500 words.
TURNS = {
    "time": (math.pi * 25, math.pi / 16),
    "row": (math.pi * 32, math.pi / 2),
    "column": (math.pi * 32, math.pi / 2),
    "index": (1.0, 1 / 160),
}


def frequencies(head_width: int) -> Tensor:
    """`(4, head_width / 2)` radians per unit: row a holds the turns of axis a in its own columns and 0 elsewhere.

    Row and column share three quarters of the pairs, since a picture's layout is what attention mostly looks up.

    Raises:
        ValueError: when `head_width` is not a multiple of 8 or is below 16.
    """
    if head_width % 8 or head_width < 16:
        raise ValueError(f"head width {head_width} cannot hold four rotary axes; use a multiple of 8, at least 16")
    pairs = head_width // 2
    small = max(1, pairs // 8)
    wide = (pairs - 2 * small) // 2
    counts = {"time": small, "row": wide, "column": wide, "index": pairs - small - 2 * wide}
    ends = {axis: (math.log10(fast), math.log10(slow)) for axis, (fast, slow) in TURNS.items()}
    return by_axis({axis: torch.logspace(*ends[axis], count) for axis, count in counts.items()})


def by_axis(turns: Mapping[str, Tensor]) -> Tensor:
    """`(4, k)`: row a holds the turns of axis a, those that there are, in its own columns and 0 elsewhere."""
    return torch.block_diag(*(turns.get(axis, torch.zeros(0))[None] for axis in AXES))


def angles(positions: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine `(b, n, 1, head_width / 2)` of each token's turn, float32; `positions` is `(b, n, 4)`."""
    # No matrix product: autocast would compute it in bf16, and CUDA may in TF32, which is off by up to half a radian.
    turn = (positions.float()[..., None] * table.float()).sum(dim=-2)[:, :, None]
    return turn.cos(), turn.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the pairs (i, i + head_width/2) of `x (b, n, h, head_width)`; float32 inside, the dtype of `x` outside."""
    return _Rotation.apply(x, cos, sin)


class _Rotation(torch.autograd.Function):
    """Left to itself, autograd would keep x and go back through every product; the gradient is a turn the other way."""

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        a, b = x.float().chunk(2, dim=-1)
        left, right = torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)
        return torch.cat([left.to(x.dtype), right.to(x.dtype)], dim=-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _Rotation.forward(gradient, cos, -sin), None, None
