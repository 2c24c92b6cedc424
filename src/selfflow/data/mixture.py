"""Several sources and tasks in one stream: each micro-batch is of one of them, drawn by weight."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from selfflow.data.loader import Batch
from selfflow.tasks import named


@dataclass(frozen=True)
class Ingredient:
    """A source, what to learn from it, and how often relative to the others."""

    source: str
    task: str
    weight: float = 1.0

    @staticmethod
    def parse(text: str) -> Ingredient:
        """`SOURCE:TASK` or `SOURCE:TASK:WEIGHT`, as in `emoji:picture:2`.

        Raises:
            ValueError: for another form, an unknown task, or a weight that is not above 0.
        """
        source, task, weight = [*text.split(":"), "1"][:3] if 2 <= len(text.split(":")) <= 3 else ("", "", "")
        try:
            number = float(weight)
        except ValueError:
            number = 0.0
        if not source or not 0 < number < float("inf"):
            raise ValueError(f"a part of a mixture is SOURCE:TASK or SOURCE:TASK:WEIGHT, weight above 0, not {text!r}")
        return Ingredient(source, named(task).name, number)


@dataclass(frozen=True)
class MixedBatch:
    """The micro-batches of one step, each of one source and task: of samples, or as tokens already.

    Attributes:
        batches: `selfflow.data.loader.Batch` or `selfflow.data.encoded.Encoded`.
    """

    batches: list[Any]

    @property
    def ids(self) -> list[str]:
        return [name for batch in self.batches for name in batch.ids]

    def split(self, parts: int) -> list[Any]:
        if parts != len(self.batches):
            raise ValueError(f"{len(self.batches)} micro-batches were drawn; they are not {parts}")
        return self.batches


class MixtureLoader:
    """An endless stream over several loaders; the interface of `selfflow.data.loader.Loader`.

    Which loader serves micro-batch p is a function of (seed, p) alone, the same in every process.

    Args:
        loaders: one per ingredient, each giving micro-batches.
        weights: how often, relative to each other.
        batch_size: samples in a step, over all processes and micro-batches.
        seed: of the choice.
        parts: micro-batches in a step.

    Raises:
        ValueError: when there is nothing to mix.
    """

    mixes = True

    def __init__(
        self, loaders: Sequence[Any], weights: Sequence[float], batch_size: int, seed: int, parts: int = 1
    ) -> None:
        if not loaders or len(loaders) != len(weights):
            raise ValueError(f"{len(loaders)} sources with {len(weights)} weights; give one or more, one weight each")
        self.loaders, self.weights, self.batch_size = list(loaders), list(weights), batch_size
        self.seed, self.parts, self.position = seed, parts, 0

    def __iter__(self) -> Iterator[Batch | MixedBatch]:
        return self

    def __next__(self) -> Batch | MixedBatch:
        batches = [next(self.loaders[i]) for i in self._chosen()]
        self.position += 1
        return batches[0] if self.parts == 1 else MixedBatch(batches)

    def _chosen(self) -> list[int]:
        """Which loaders serve this step."""
        # A generator of Python's own, seeded by a string, draws the same everywhere.
        rng = random.Random(f"{self.seed}/{self.position}")
        return rng.choices(range(len(self.loaders)), self.weights, k=self.parts)

    def skip(self, batch: Batch | MixedBatch | None = None) -> None:
        """Go past the next step, whose batches another drew: these, where their broken records are to be counted."""
        parts: list[Any] = [None] * self.parts
        if batch is not None:
            parts = [*batch.batches] if isinstance(batch, MixedBatch) else [batch]
        for i, part in zip(self._chosen(), parts, strict=True):
            self.loaders[i].skip(part)
        self.position += 1

    def state_dict(self) -> dict[str, Any]:
        states = [loader.state_dict() for loader in self.loaders]
        return {"position": self.position, "loaders": states, "skipped": sum(s["skipped"] for s in states)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if len(state["loaders"]) != len(self.loaders):
            raise ValueError(f"the state is of {len(state['loaders'])} sources; this mixture has {len(self.loaders)}")
        for loader, own in zip(self.loaders, state["loaders"], strict=True):
            loader.load_state_dict(own)
        self.position = int(state["position"])
