"""Batches that are tokens already: what takes Python, sample by sample, is done by the processes that draw them.

They travel small. Values of pixels go as the bytes they were made of, and places that all samples share go once; what
arrives is exactly what was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from selfflow.data.loader import equal_cuts
from selfflow.data.mixture import MixedBatch
from selfflow.modalities.pixels import bytes_of, values_of
from selfflow.tokens import Tokens


@dataclass(frozen=True)
class Packed:
    """`Tokens` that take little room.

    Attributes:
        data: as of the tokens, or uint8 where `values_of` makes them of bytes.
        positions: `(b, n, 4)`, or `(1, n, 4)` where all samples share them.
        modality, mask, grid: as of the tokens.
    """

    data: Tensor
    positions: Tensor
    modality: str
    mask: Tensor | None
    grid: tuple[int, ...] = ()

    @staticmethod
    def of(tokens: Tokens) -> Packed:
        if tokens.joined:
            raise ValueError(f"{tokens.modality} tokens are joined; pack their parts")
        found = bytes_of(tokens.data) if tokens.data.is_floating_point() else None
        first = tokens.positions[:1]
        shared = tokens.batch == 1 or tokens.positions.stride(0) == 0 or bool((tokens.positions == first).all())
        # A part of a tensor would be pickled with the whole.
        places = (first if shared else tokens.positions).clone()
        return Packed(tokens.data if found is None else found, places, tokens.modality, tokens.mask, tokens.grid)

    @property
    def tokens(self) -> Tokens:
        data = values_of(self.data) if self.data.dtype == torch.uint8 else self.data
        return Tokens(data, self.positions.expand(len(data), -1, -1), self.modality, self.mask, grid=self.grid)

    def to(self, device: torch.device | str) -> Packed:
        mask = None if self.mask is None else self.mask.to(device)
        return replace(self, data=self.data.to(device), positions=self.positions.to(device), mask=mask)

    def __getitem__(self, rows: slice) -> Packed:
        positions = self.positions if len(self.positions) != len(self.data) else self.positions[rows]
        return replace(
            self, data=self.data[rows], positions=positions, mask=None if self.mask is None else self.mask[rows]
        )

    @property
    def nbytes(self) -> int:
        return sum(x.nbytes for x in (self.data, self.positions, self.mask) if x is not None)


Parcels = Mapping[str, Packed | Sequence[Packed]]


@dataclass(frozen=True)
class Encoded:
    """A batch as streams of tokens, before anything is drawn at random: texts and references are all there.

    Attributes:
        task: what is to be learned (`selfflow.tasks`).
        parcels: name → packed tokens (references: a list of them), of all samples.
        ids: where each sample came from.
        skipped: broken records met while gathering them.
        source: name of where they are from.
    """

    task: str
    parcels: Parcels
    ids: list[str]
    skipped: int = 0
    source: str = ""

    @staticmethod
    def of(
        task: str,
        streams: Mapping[str, Tokens | Sequence[Tokens]],
        ids: Sequence[str],
        skipped: int = 0,
        source: str = "",
    ) -> Encoded:
        return Encoded(task, _each(streams, Packed.of), list(ids), skipped, source)

    @property
    def streams(self) -> dict[str, Tokens | list[Tokens]]:
        """Name → tokens, as the task takes them."""
        return _each(self.parcels, lambda packed: packed.tokens)

    def split(self, parts: int) -> list[Encoded]:
        """Equal micro-batches, in order."""
        cuts = equal_cuts(len(self.ids), parts)
        return [
            Encoded(self.task, _each(self.parcels, itemgetter(cut)), self.ids[cut], source=self.source) for cut in cuts
        ]

    def to(self, device: torch.device | str) -> Encoded:
        return replace(self, parcels=_each(self.parcels, lambda packed: packed.to(device)))

    @property
    def nbytes(self) -> int:
        """What it weighs."""
        groups = [[found] if isinstance(found, Packed) else found for found in self.parcels.values()]
        return sum(packed.nbytes for group in groups for packed in group)


def _each(named: Mapping[str, Any], change: Callable[[Any], Any]) -> dict[str, Any]:
    return {
        name: [change(x) for x in found] if isinstance(found, list | tuple) else change(found)
        for name, found in named.items()
    }


class Encoding:
    """A loader whose batches come as tokens.

    Args:
        loader: of samples.
        encode: `selfflow.data.loader.Batch` → `Encoded`, such as `selfflow.train.task.Prepare.encode`.
    """

    def __init__(self, loader: Any, encode: Callable[[Any], Encoded]) -> None:
        self.loader, self.encode = loader, encode
        self.batch_size, self.mixes = loader.batch_size, getattr(loader, "mixes", False)
        self.skip, self.state_dict, self.load_state_dict = loader.skip, loader.state_dict, loader.load_state_dict

    @staticmethod
    def opened(make: Callable[[], Any], encode: Callable[[Any], Encoded]) -> Encoding:
        """Of a loader opened now: what another process is asked to do."""
        return Encoding(make(), encode)

    def __iter__(self) -> Iterator[Encoded | MixedBatch]:
        return self

    def __next__(self) -> Encoded | MixedBatch:
        batch = next(self.loader)
        if isinstance(batch, MixedBatch):
            return MixedBatch([self.encode(part) for part in batch.batches])
        return self.encode(batch)
