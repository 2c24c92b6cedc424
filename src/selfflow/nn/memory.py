"""Memory: the keys and values of known tokens, computed once and attended to by everything generated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Memory:
    """Keys and values of `m` known tokens in each of the network's layers.

    Known tokens never look at noisy ones, so a memory depends on neither the noise nor t: it is exact at every
    sampling step, and across requests.

    Attributes:
        keys, values: one `(b, m, h, head_width)` tensor per layer read; of a network that copies, read whole, one more
            of each, `(b, m, 1, …)` (`selfflow.nn.copying`); of one that matches another, last, `(b, p, 1, …)`, of the
            p tokens with windows (`selfflow.nn.matching`).
        mask: `(b, m)` bool, True where the token is real; None when all are.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    mask: Tensor | None = None

    def __len__(self) -> int:
        return self.keys[0].shape[1]

    @property
    def batch(self) -> int:
        return self.keys[0].shape[0]

    @property
    def full_mask(self) -> Tensor:
        """The mask, made of ones when there is none."""
        if self.mask is not None:
            return self.mask
        return torch.ones(self.keys[0].shape[:2], dtype=torch.bool, device=self.keys[0].device)

    def _map(self, f: Callable[[Tensor], Tensor]) -> Memory:
        mask = None if self.mask is None else f(self.mask)
        return Memory(tuple(f(k) for k in self.keys), tuple(f(v) for v in self.values), mask)

    def __add__(self, other: Memory) -> Memory:
        """Both memories together, along the tokens: how a rollout or a further reference is appended."""
        if self.batch != other.batch or len(self.keys) != len(other.keys):
            raise ValueError(
                f"a memory of {self.batch} samples × {len(self.keys)} layers cannot be joined to one of "
                f"{other.batch} samples × {len(other.keys)} layers"
            )
        mask = None
        if self.mask is not None or other.mask is not None:
            mask = torch.cat([self.full_mask, other.full_mask], dim=1)
        pairs = [(self.keys, other.keys), (self.values, other.values)]
        keys, values = (tuple(torch.cat(kv, dim=1) for kv in zip(a, b, strict=True)) for a, b in pairs)
        return Memory(keys, values, mask)

    def side_by_side(self, parts: int) -> Memory:
        """`parts` equal parts of the batch, read together, as neighbours of one another along the tokens."""

        def beside(x: Tensor) -> Tensor:
            return x.unflatten(0, (parts, -1)).transpose(0, 1).flatten(1, 2)

        return self if parts == 1 else self._map(beside)

    def repeat(self, times: int) -> Memory:
        """Each sample `times` times over: one prompt, several pictures."""
        return self if times == 1 else self._map(lambda x: x.repeat_interleave(times, dim=0))

    def __getitem__(self, rows: slice | Tensor) -> Memory:
        """Some of the samples."""
        return self._map(lambda x: x[rows])

    @staticmethod
    def stack(memories: Sequence[Memory]) -> Memory:
        """Join along the batch; shorter memories are padded at the end and masked."""
        m = max(len(x) for x in memories)

        def padded(x: Tensor) -> Tensor:
            return torch.cat([x, x.new_zeros(x.shape[0], m - x.shape[1], *x.shape[2:])], dim=1)

        def joined(layers: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
            return tuple(torch.cat([padded(x) for x in layer]) for layer in zip(*layers, strict=True))

        needs_mask = any(len(x) != m or x.mask is not None for x in memories)
        mask = torch.cat([padded(x.full_mask) for x in memories]) if needs_mask else None
        return Memory(joined([x.keys for x in memories]), joined([x.values for x in memories]), mask)
