"""Batches that are tokens already: what takes Python, sample by sample, is done by the processes that draw them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch

from selfflow.data.mixture import MixedBatch
from selfflow.tokens import Tokens

Streams = Mapping[str, Tokens | Sequence[Tokens]]


@dataclass(frozen=True)
class Encoded:
    """A batch as streams of tokens, before anything is drawn at random: texts and references are all there.

    Attributes:
        task: what is to be learned (`selfflow.tasks`).
        streams: name → tokens (references: a list of them), of all samples.
        ids: where each sample came from.
        skipped: broken records met while gathering them.
    """

    task: str
    streams: Streams
    ids: list[str]
    skipped: int = 0

    def split(self, parts: int) -> list[Encoded]:
        """Equal micro-batches, in order."""
        if parts < 1 or len(self.ids) % parts:
            raise ValueError(f"a batch of {len(self.ids)} does not divide into {parts} equal micro-batches")
        size = len(self.ids) // parts
        cuts = [slice(i * size, (i + 1) * size) for i in range(parts)]
        return [Encoded(self.task, self._each(itemgetter(cut)), self.ids[cut]) for cut in cuts]

    def to(self, device: torch.device | str) -> Encoded:
        return Encoded(self.task, self._each(lambda t: t.to(device)), self.ids, self.skipped)

    @property
    def nbytes(self) -> int:
        """What the tokens weigh."""
        groups = [[found] if isinstance(found, Tokens) else found for found in self.streams.values()]
        return sum(x.nbytes for group in groups for t in group for x in (t.data, t.positions, t.mask) if x is not None)

    def _each(self, change: Callable[[Tokens], Any]) -> dict[str, Any]:
        return {
            name: change(found) if isinstance(found, Tokens) else [change(t) for t in found]
            for name, found in self.streams.items()
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
