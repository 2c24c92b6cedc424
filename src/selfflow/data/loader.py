"""An endless, resumable stream of batches whose order is a function of the seed alone."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from selfflow.data.sample import DecodeError, Sample, Source

log = logging.getLogger(__name__)

# A batch may meet this many broken records, or as many as it has rows, before the data set is given up as damaged.
TOLERATED = 16


@dataclass(frozen=True)
class Batch:
    """Samples to train on together.

    Attributes:
        samples: what the source gave, in order.
        skipped: broken records met while gathering this batch.
        task: what is to be learned from them (`selfflow.tasks`).
        source: name of where they are from.
    """

    samples: list[Sample]
    skipped: int = 0
    task: str = "picture"
    source: str = ""

    @property
    def ids(self) -> list[str]:
        """Where each sample came from."""
        return [sample.id for sample in self.samples]

    def split(self, parts: int) -> list[Batch]:
        """Equal micro-batches, in order."""
        return [replace(self, samples=self.samples[cut]) for cut in equal_cuts(len(self.samples), parts)]


def equal_cuts(count: int, parts: int) -> list[slice]:
    """The rows of each of so many equal micro-batches, in order. Raises ValueError where they do not divide."""
    if parts < 1 or count % parts:
        raise ValueError(f"a batch of {count} does not divide into {parts} equal micro-batches")
    size = count // parts
    return [slice(i * size, (i + 1) * size) for i in range(parts)]


def share(batch_size: int, rank: int, world_size: int) -> slice:
    """The rows of the global batch that a process holds."""
    if batch_size < 1 or world_size < 1 or batch_size % world_size or not 0 <= rank < world_size:
        raise ValueError(
            f"a batch of {batch_size} cannot be shared by {world_size} processes (rank {rank}); use a multiple"
        )
    size = batch_size // world_size
    return slice(rank * size, (rank + 1) * size)


class Loader:
    """Batches from a source, for ever: epoch after epoch, each in its own order.

    Sample p of the stream is record `order(p // n)[p mod n]`, where `order(e)` is a permutation drawn from (seed, e).
    Position alone is the state, so resuming is exact however many workers read ahead. Decoding runs in threads:
    Pillow and numpy let go of the interpreter lock, and threads share the source's memory.

    Args:
        source: by index.
        batch_size: over all processes; this one yields its own `batch_size / world_size` rows.
        seed: of the order.
        workers: threads that read ahead; 0 decodes when asked.
        task: what is to be learned from its samples.

    Raises:
        ValueError: for an empty source, or a batch that does not divide.
    """

    def __init__(
        self,
        source: Source,
        batch_size: int,
        seed: int,
        workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        task: str = "picture",
    ) -> None:
        if len(source) < 1:
            raise ValueError(f"{getattr(source, 'name', source)} holds no samples")
        if workers < 0:
            raise ValueError(f"workers is {workers}; it must be 0 or more")
        self.source, self.batch_size, self.seed, self.task = source, batch_size, seed, task
        self.rows = share(batch_size, rank, world_size)
        self.position, self.skipped = 0, 0
        self._named = 0
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="loader") if workers else None
        self._ahead: deque[Future[Batch]] = deque()
        self._order = lru_cache(maxsize=2)(self._permutation)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._pool is None:
            batch = self._gather(self.position)
        else:
            while len(self._ahead) < 2 * self._workers:
                self._ahead.append(self._pool.submit(self._gather, self.position + len(self._ahead) * self.batch_size))
            try:
                batch = self._ahead[0].result()
            except BaseException:  # also an interrupted wait: what was read ahead must not slip by a batch
                self._forget()
                raise
            self._ahead.popleft()
        self.position += self.batch_size
        self.skipped += batch.skipped
        return batch

    def skip(self, batch: Batch | None = None) -> None:
        """Go past the next batch, which another drew: this one, where its broken records are to be counted."""
        self._forget()
        self.position += self.batch_size
        self.skipped += 0 if batch is None else batch.skipped

    def state_dict(self) -> dict[str, Any]:
        """Where the next batch begins, in samples, and how many broken records were skipped so far."""
        return {"position": self.position, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; what was read ahead is dropped."""
        position, skipped = int(state["position"]), int(state["skipped"])
        if position < 0:
            raise ValueError(f"position {position} of a loader's state is below 0")
        self._forget()
        self.position, self.skipped = position, skipped

    def _forget(self) -> None:
        for future in self._ahead:
            future.cancel()
        self._ahead.clear()

    def _permutation(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        return torch.randperm(len(self.source), generator=generator).tolist()

    def _gather(self, position: int) -> Batch:
        n, samples, skipped = len(self.source), [], 0
        for p in range(position + self.rows.start, position + self.rows.stop):
            sample, missed = self._readable(self._order(p // n)[p % n])
            samples.append(sample)
            skipped += missed
        if skipped > max(len(samples), TOLERATED):
            raise ValueError(
                f"{skipped} of {skipped + len(samples)} records of {self.source.name} tried for one batch cannot be "
                "read; is the data set intact?"
            )
        return Batch(samples, skipped, self.task, getattr(self.source, "name", ""))

    def _readable(self, index: int) -> tuple[Sample, int]:
        """The record at `index`, or the next one that can be read, and how many could not."""
        n = len(self.source)
        for missed in range(min(n, 100)):
            try:
                return self.source[(index + missed) % n], missed
            except DecodeError as error:
                self._named += 1
                if self._named <= 10:  # a broken disk must not fill another with its log
                    log.warning("skipped record %d of %s: %s", (index + missed) % n, self.source.name, error)
        raise ValueError(
            f"{min(n, 100)} records in a row of {self.source.name} cannot be read, from record {index} on; "
            "is the data set intact?"
        )
