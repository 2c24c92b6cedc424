"""Draws of a model's own and what was thought of them, on disk: a source of samples to learn judging from."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from selfflow.data.sample import DecodeError, Sample

_KEPT = 8  # files in memory


@dataclass(frozen=True)
class Shard:
    """Some samples of a source, each drawn several times.

    Attributes:
        source, task: whose samples they are, and what was drawn of them.
        indices: of the samples in their source, `(b,)`.
        pictures: uint8 `(b, k, H, W, 3)`.
        right: whether nothing is wrong with a draw, `(b, k)`.
        score: how much is right, in [0, 1], `(b, k)`.
    """

    source: str
    task: str
    indices: np.ndarray
    pictures: np.ndarray
    right: np.ndarray
    score: np.ndarray

    def save(self, path: Path) -> None:
        """Write it; the file appears whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.tmp")
        with temporary.open("wb") as file:
            np.savez(
                file, source=self.source, task=self.task, indices=self.indices, pictures=self.pictures,
                right=self.right, score=self.score,
            )  # fmt: skip
        os.replace(temporary, path)

    @staticmethod
    def load(path: Path) -> Shard:
        """Read it. Raises `DecodeError` for a damaged file."""
        try:
            with np.load(path, allow_pickle=False) as held:
                found = {name: held[name] for name in ("indices", "pictures", "right", "score")}
                shard = Shard(str(held["source"]), str(held["task"]), **found)
        except Exception as error:  # of the zip file, of its arrays, of what is missing
            raise DecodeError(f"{path} is damaged: {type(error).__name__}: {error}; delete it") from None
        if not len(shard.indices) == len(shard.pictures) == len(shard.right) == len(shard.score):
            raise DecodeError(f"{path} is damaged: its arrays are of different lengths; delete it")
        return shard


class Drawn:
    """The samples of some shards of one source and task; `meta` holds their `draws`, `right` and `score`.

    Args:
        source: by index.
        task: of the draws.
        paths: of shards, all of that source and task, of one size.
        size: samples of each.
    """

    def __init__(self, source: Any, task: str, paths: Sequence[Path], size: int) -> None:
        self.source, self.name, self.task = source, f"{source.name}:{task}", task
        self.paths, self.size = list(paths), size
        self._kept: OrderedDict[int, Shard] = OrderedDict()

    def __len__(self) -> int:
        return len(self.paths) * self.size

    def __getitem__(self, index: int) -> Sample:
        """Raises IndexError beyond the end, `DecodeError` for a damaged file."""
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {self.name}; choose 0 to {len(self) - 1}")
        number, row = divmod(index, self.size)
        if number not in self._kept:
            self._kept[number] = Shard.load(self.paths[number])
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        shard = self._kept[number]
        meta: Mapping[str, Any] = {
            "draws": shard.pictures[row], "right": shard.right[row], "score": shard.score[row]
        }  # fmt: skip
        return replace(self.source[int(shard.indices[row])], meta=meta)
