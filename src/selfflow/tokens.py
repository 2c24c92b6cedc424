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
from typing import NamedTuple

import torch
from torch import Tensor

from selfflow.shapes import Bool, Float

AXES = ("time", "row", "column", "index")


class Span(NamedTuple):
    """A run of tokens of one modality: how many, and how many of the channels are theirs."""

    modality: str
    length: int
    channels: int


@dataclass(frozen=True)
class Tokens:
    """`n` tokens for each of `b` samples: of one modality, or of several that are generated together (`join`).

    Attributes:
        data: `(b, n, c)` floating values, or `(b, n)` integer vocabulary indices.
        positions: `(b, n, 4)` float32, the axes `time, row, column, index`.
        modality: which input and output layer of the network serves them, e.g. `"text"`, `"visual"`; of joined tokens
            the names with a plus sign between.
        mask: `(b, n)` bool, True where a token is real and False where it only pads; None when all are real.
        joined: the spans of joined tokens; empty for tokens of one modality.
        shared: whether joined modalities have one noise level in training, or each draws its own.
        grid: rows and columns of patches where the tokens are whole pictures, one after the other, row by row; empty
            for all else.

    Raises:
        ValueError: when the shapes do not belong together.
    """

    data: Tensor
    positions: Tensor
    modality: str
    mask: Tensor | None = None
    joined: tuple[Span, ...] = ()
    shared: bool = True
    grid: tuple[int, ...] = ()

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
        if self.grid and (len(self.grid) != 2 or len(self) % (self.grid[0] * self.grid[1])):
            raise ValueError(f"{len(self)} {self.modality} tokens are no pictures of {self.grid} patches")
        if self.mask is not None and self.mask.dtype != torch.bool:
            raise ValueError(
                f"{self.modality} mask is of {self.mask.dtype}; it must be bool, True where a token is real"
            )

    def __len__(self) -> int:
        return self.data.shape[1]

    @property
    def batch(self) -> int:
        """Number of samples `b`."""
        return self.data.shape[0]

    @property
    def spans(self) -> tuple[Span, ...]:
        """The runs of one modality that these tokens consist of, in order."""
        return self.joined or (Span(self.modality, len(self), self.data.shape[-1]),)

    @staticmethod
    def join(parts: Sequence[Tokens], shared: bool = True) -> Tokens:
        """Tokens to be generated together: a clip and its sound, frames and actions.

        One after the other along the tokens. The data has the channels of the widest modality; what a narrower one has
        no use for is filled with zeros, and neither network nor loss looks at it, so that samplers and objectives
        handle one tensor whatever it holds. A single part is returned as it is.

        Raises:
            ValueError: when there is nothing to join, batches differ, or a part holds vocabulary indices.
        """
        if not parts or len({t.batch for t in parts}) != 1 or any(not t.data.is_floating_point() for t in parts):
            shapes = [(t.modality, tuple(t.data.shape)) for t in parts]
            raise ValueError(f"join needs values of one batch, one or more modalities, got {shapes}")
        if len(parts) == 1:
            return parts[0]
        spans = tuple(span for t in parts for span in t.spans)
        width = max(span.channels for span in spans)
        data = torch.cat([torch.nn.functional.pad(t.data, (0, width - t.data.shape[-1])) for t in parts], dim=1)
        mask = None if all(t.mask is None for t in parts) else torch.cat([t.full_mask for t in parts], dim=1)
        positions = torch.cat([t.positions for t in parts], dim=1)
        return Tokens(data, positions, "+".join(s.modality for s in spans), mask, spans, shared)

    def split(self) -> list[Tokens]:
        """The inverse of `join`: one `Tokens` per span, with its own channels."""
        if not self.joined:
            return [self]
        parts, start = [], 0
        for name, length, channels in self.joined:
            cut = slice(start, start + length)
            mask = None if self.mask is None else self.mask[:, cut]
            parts.append(Tokens(self.data[:, cut, :channels], self.positions[:, cut], name, mask))
            start += length
        return parts

    @property
    def full_mask(self) -> Tensor:
        """The mask, made of ones when there is none."""
        if self.mask is not None:
            return self.mask
        return torch.ones(self.data.shape[:2], dtype=torch.bool, device=self.data.device)

    def take(self, keep: Tensor) -> Tokens | None:
        """Only the tokens where `keep` `(b, n)` or `(n,)` is True, in order; None when no sample keeps any.

        Samples that keep fewer than others are padded and masked. `put` is the way back.
        """
        found = self._order(keep)
        if found is None:
            return None
        order, mask = found
        data, positions = (_rows(x, order) for x in (self.data, self.positions))
        return Tokens(data, positions, self.modality, mask)

    def put(self, keep: Tensor, values: Tensor) -> Tokens:
        """These tokens with `values` `(b, k, c)`, in the order of `take(keep)`, in the places it took them from."""
        found = self._order(keep)
        if found is None:
            return self
        order, mask = found
        index = order[..., None].expand(-1, -1, self.data.shape[-1])
        if mask is not None:  # padding writes back what is there
            values = torch.where(mask[..., None], values, _rows(self.data, order))
        return self.with_data(self.data.scatter(1, index, values.to(self.data.dtype)))

    def _order(self, keep: Tensor) -> tuple[Tensor, Tensor | None] | None:
        """The places kept `(b, k)`, first those of each sample that are, and which of these are real."""
        if self.joined:
            raise ValueError(f"{self.modality} tokens are joined; take from their parts, before joining")
        keep = keep.to(self.data.device).expand(self.data.shape[:2]) & self.full_mask
        counts = keep.sum(dim=1)
        k = int(counts.max())
        if k == 0:
            return None
        order = (~keep).to(torch.uint8).argsort(dim=1, stable=True)[:, :k]
        return order, None if bool((counts == k).all()) else lengths_to_mask(counts, k)

    def with_data(self, data: Tensor) -> Tokens:
        """The same places holding other values: `x_t` in place of the clean data."""
        return replace(self, data=data)

    def to(self, device: torch.device | str) -> Tokens:
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, data=self.data.to(device), positions=self.positions.to(device), mask=mask)

    def repeat(self, times: int) -> Tokens:
        """The whole batch `times` times over."""
        if times == 1:
            return self
        mask = None if self.mask is None else self.mask.repeat(times, 1)
        data = self.data.repeat(times, *(1,) * (self.data.ndim - 1))
        return replace(self, data=data, positions=self.positions.repeat(times, 1, 1), mask=mask)

    def each(self, times: int) -> Tokens:
        """Each sample `times` times in a row."""
        return self if times == 1 else self[torch.arange(self.batch, device=self.data.device).repeat_interleave(times)]

    def __getitem__(self, rows: slice | Tensor) -> Tokens:
        """Some of the samples: `tokens[2:4]`."""
        mask = None if self.mask is None else self.mask[rows]
        return replace(self, data=self.data[rows], positions=self.positions[rows], mask=mask)


@dataclass(frozen=True)
class Chain:
    """Known tokens read one after the other, each seeing those before it: the frames of a rollout so far.

    What was read stays valid when another link is added, which is what makes a rollout cheap.
    """

    links: tuple[Tokens, ...]

    def __len__(self) -> int:
        return sum(map(len, self.links))

    def to(self, device: torch.device | str) -> Chain:
        return Chain(tuple(t.to(device) for t in self.links))

    def __getitem__(self, rows: slice | Tensor) -> Chain:
        return Chain(tuple(t[rows] for t in self.links))


def _rows(x: Tensor, order: Tensor) -> Tensor:
    """`x (b, n, …)` at the places `order (b, k)`."""
    return x.gather(1, order.reshape(*order.shape, *(1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:]))


def stack(tokens: Sequence[Tokens]) -> Tokens:
    """Join along the batch; shorter ones are padded at the end and masked.

    Raises:
        ValueError: when modalities differ or there is nothing to stack.
    """
    if not tokens or len({t.modality for t in tokens}) != 1 or any(t.joined for t in tokens):
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
    grids = {t.grid if len(t) == n else () for t in tokens}
    return Tokens(data, positions, tokens[0].modality, mask, grid=grids.pop() if len(grids) == 1 else ())


def padded(tokens: Tokens, more: int) -> Tokens:
    """The tokens with a mask, and `more` at the end that only pad."""
    data = torch.nn.functional.pad(tokens.data, (0, 0) * (tokens.data.ndim - 2) + (0, more))
    positions = torch.nn.functional.pad(tokens.positions, (0, 0, 0, more))
    mask = torch.nn.functional.pad(tokens.full_mask, (0, more))
    return replace(tokens, data=data, positions=positions, mask=mask, grid=tokens.grid if more == 0 else ())


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
