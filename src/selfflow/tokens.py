"""Tokens: what every picture, sentence, clip or sound becomes before the network sees it.

A token is a vector (or a vocabulary index) at a place. Places have four axes, in this order:

| axis   | unit                                                    |
|--------|---------------------------------------------------------|
| time   | seconds                                                 |
| row    | picture sides: the square root of the picture's area is 1, the centre is 0 |
| column | the same unit and origin as rows                        |
| index  | position in a sequence without extent (text; the number of a reference)    |

Because rows and columns are measured in one resolution-free unit from the centre, the same drawing at twice the
resolution has the same coordinates, and a wide picture is neither stretched nor shifted against a square one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from selfflow.shapes import Bool, Float

AXES = ("time", "row", "column", "index")


@dataclass(frozen=True)
class Tokens:
    """`n` tokens of one modality for each of `b` samples.

    Attributes:
        data: `(b, n, c)` floating values, or `(b, n)` integer vocabulary indices.
        positions: `(b, n, 4)` float32, the axes `time, row, column, index`.
        modality: which input and output layer of the network serves them, e.g. `"text"`, `"visual"`.
        mask: `(b, n)` bool, True where a token is real and False where it only pads; None when all are real.

    Raises:
        ValueError: when the shapes do not belong together.
    """

    data: Tensor
    positions: Tensor
    modality: str
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.data.ndim != (3 if self.data.is_floating_point() else 2):
            raise ValueError(
                f"{self.modality} tokens are (b, n, c) values or (b, n) integer indices, "
                f"not {self.data.dtype} of shape {tuple(self.data.shape)}"
            )
        shape = self.data.shape[:2]
        if self.positions.shape != (*shape, len(AXES)):
            raise ValueError(
                f"{self.modality} positions have shape {tuple(self.positions.shape)}; tokens of shape "
                f"{tuple(self.data.shape)} need {(*shape, len(AXES))} ({', '.join(AXES)})"
            )
        if self.mask is not None and self.mask.shape != shape:
            raise ValueError(f"{self.modality} mask has shape {tuple(self.mask.shape)}; it must be {tuple(shape)}")

    def __len__(self) -> int:
        return self.data.shape[1]

    @property
    def batch(self) -> int:
        """Number of samples `b`."""
        return self.data.shape[0]

    def with_data(self, data: Tensor) -> Tokens:
        """The same places holding other values: `x_t` in place of the clean data."""
        return replace(self, data=data)

    def to(self, device: torch.device | str) -> Tokens:
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, data=self.data.to(device), positions=self.positions.to(device), mask=mask)

    def __getitem__(self, rows: slice | Tensor) -> Tokens:
        """Some of the samples: `tokens[2:4]`."""
        mask = None if self.mask is None else self.mask[rows]
        return replace(self, data=self.data[rows], positions=self.positions[rows], mask=mask)


def stack(tokens: Sequence[Tokens]) -> Tokens:
    """Join along the batch; shorter ones are padded at the end and masked.

    Raises:
        ValueError: when modalities differ or there is nothing to stack.
    """
    if not tokens or len({t.modality for t in tokens}) != 1:
        raise ValueError(f"stack needs tokens of one modality, got {[t.modality for t in tokens]}")
    n = max(len(t) for t in tokens)

    def padded(x: Tensor) -> Tensor:
        return x if x.shape[1] == n else torch.cat([x, x.new_zeros(x.shape[0], n - x.shape[1], *x.shape[2:])], dim=1)

    mask = None
    if any(len(t) != n or t.mask is not None for t in tokens):
        full = [torch.ones(t.data.shape[:2], dtype=torch.bool, device=t.data.device) for t in tokens]
        mask = torch.cat([padded(f if t.mask is None else t.mask) for t, f in zip(tokens, full, strict=True)])
    data, positions = (
        torch.cat([padded(x) for x in xs]) for xs in zip(*((t.data, t.positions) for t in tokens), strict=True)
    )
    return Tokens(data, positions, tokens[0].modality, mask)


def grid_positions(rows: int, columns: int, *, time: float = 0.0, index: float = 0.0) -> Float[Tensor, "n 4"]:
    """Places of a `rows × columns` grid of square patches, row-major.

    Patch centres, measured from the centre of the picture in units of the square root of its area, so that neighbouring
    patches are `1 / sqrt(rows · columns)` apart in both directions whatever the shape.
    """
    side = (rows * columns) ** 0.5
    row = (torch.arange(rows, dtype=torch.float32) + 0.5 - rows / 2) / side
    column = (torch.arange(columns, dtype=torch.float32) + 0.5 - columns / 2) / side
    places = torch.zeros(rows, columns, len(AXES))
    places[..., 0], places[..., 1], places[..., 2], places[..., 3] = time, row[:, None], column, index
    return places.flatten(0, 1)


def sequence_positions(n: int) -> Float[Tensor, "n 4"]:
    """Places of a sequence without extent: 0, 1, 2, … on the index axis."""
    places = torch.zeros(n, len(AXES))
    places[:, 3] = torch.arange(n)
    return places


def lengths_to_mask(lengths: Tensor, n: int) -> Bool[Tensor, "b n"]:
    """True at the first `lengths[i]` of `n` places of row i."""
    return torch.arange(n, device=lengths.device) < lengths[:, None]
