"""Data echoing (Choi et al. 2019, 1907.05550): batches are used again while the next is still being drawn.

A GPU that trains a small network takes samples faster than processors simulate them. Rather than wait it takes another
look at what it has: micro-batches already seen, in new company, with new noise, new noise levels and other texts and
references hidden.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from selfflow.data.encoded import Encoded
from selfflow.data.mixture import MixedBatch
from selfflow.data.processes import ProcessLoader


class Echo:
    """Fresh batches of `loader` as soon as there is one, and between them batches put together of earlier ones.

    Which batch is fresh depends on how fast the processes are: such runs do not repeat themselves bit for bit. A
    resumed run begins to remember anew.

    Args:
        loader: draws `Encoded` batches, or mixed ones, ahead.
        most: how often a batch is used, on average, at most: after `most - 1` repetitions the next is waited for.
        held: bytes of batches to remember; the oldest are forgotten first.
        device: where they are kept, ready for use.
        seed: of the choice among them.

    Raises:
        ValueError: for `most` below 1, or nothing to be held.
    """

    def __init__(
        self, loader: ProcessLoader, most: int, held: int, device: torch.device | str = "cpu", seed: int = 0
    ) -> None:
        if most < 1 or held < 1:
            raise ValueError(f"batches are used {most} times at most and take {held} bytes; both are 1 or more")
        self.loader, self.most, self.held, self.device = loader, most, held, device
        self.batch_size, self.mixes = loader.batch_size, loader.mixes
        self.repeated = 0  # batches given that were no fresh ones
        self._rng = random.Random(seed)
        self._kept: deque[tuple[Encoded, int]] = deque()
        self._bytes, self._in_a_row = 0, 0

    def __iter__(self) -> Iterator[Encoded | MixedBatch]:
        return self

    def __next__(self) -> Encoded | MixedBatch:
        if self._kept and self._in_a_row < self.most - 1 and not self.loader.ready:
            self._in_a_row += 1
            self.repeated += 1
            return self._again()
        batch = next(self.loader)
        mixed = isinstance(batch, MixedBatch)
        parts = [part.to(self.device) for part in (batch.batches if mixed else [batch])]
        for part in parts:
            self._keep(part)
        self._parts = len(parts) if mixed else 0
        self._in_a_row = 0
        return MixedBatch(parts) if mixed else parts[0]

    def state_dict(self) -> dict[str, Any]:
        """The state of `loader`, and how many batches were repeated so far."""
        return {**self.loader.state_dict(), "repeated": self.repeated}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; a run that was begun without repeating has repeated none."""
        self.loader.load_state_dict(state)
        self.repeated = int(state.get("repeated", 0))

    def close(self) -> None:
        """End the processes, and forget."""
        self.loader.close()
        self._kept.clear()
        self._bytes = 0

    def _keep(self, part: Encoded) -> None:
        size = part.nbytes
        self._kept.append((part, size))
        self._bytes += size
        while self._bytes > self.held and len(self._kept) > 1:
            self._bytes -= self._kept.popleft()[1]

    def _again(self) -> Encoded | MixedBatch:
        chosen = [self._kept[self._rng.randrange(len(self._kept))][0] for _ in range(self._parts or 1)]
        return MixedBatch(chosen) if self._parts else chosen[0]
