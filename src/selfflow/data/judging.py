"""Pictures judged by the sources of their samples, in this process or in several others.

Reading a picture takes a CPU tens of milliseconds, drawing it a GPU a few: there several judge at once.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np

from selfflow.data.sample import Sample

_SOURCES: dict[str, Any] = {}  # of a process that judges


class Judging:
    """How good pictures are, by those of the sources that have a method `judge(sample, picture) → Score`.

    A source that has one and yet cannot judge its own samples says so: its `judges` is False.

    Args:
        sources: by name.
        processes: that judge; 0 does it here. They are started when they are first needed, and ended by `close`.

    Raises:
        ValueError: for fewer than 0 processes.
    """

    def __init__(self, sources: Mapping[str, Any], processes: int = 0) -> None:
        if processes < 0:
            raise ValueError(f"{processes} processes that judge; choose 0, which is this one, or more")
        self.sources = {name: source for name, source in sources.items() if _judges(source)}
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __contains__(self, name: str) -> bool:
        return name in self.sources

    def __call__(self, name: str, asked: Sequence[Sample], pictures: Sequence[np.ndarray]) -> list[float]:
        """Scores in [0, 1] of pictures, one for each sample asked for, all of the source of that name."""
        if not self.processes:
            judge = self.sources[name].judge
            return [float(judge(sample, picture).value) for sample, picture in zip(asked, pictures, strict=True)]
        if self._pool is None:
            context = multiprocessing.get_context("spawn")  # a fork would share torch's threads and a GPU's state
            self._pool = ProcessPoolExecutor(self.processes, context, _open, (self.sources,))
        brief = [replace(sample, picture=None, mask=None, meta={}) for sample in asked]  # what an answer is not read by
        many = -(-len(brief) // self.processes)
        return list(self._pool.map(_judged, [name] * len(brief), brief, pictures, chunksize=many))

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _judges(source: Any) -> bool:
    return hasattr(source, "judge") and getattr(source, "judges", True)


def _open(sources: dict[str, Any]) -> None:
    _SOURCES.update(sources)


def _judged(name: str, asked: Sample, picture: np.ndarray) -> float:
    return float(_SOURCES[name].judge(asked, picture).value)
