"""Many samples on disk: batches that survive an interruption, then one `.npz` for the ADM evaluator."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np


class Shards:
    """`n` samples in a directory, written as `shards/FIRST-LAST.npz` and merged into `samples.npz`.

    `request.json` keeps what was asked for, so that a run resumes only what it began. Batches may change size between
    runs. Every file is written to a temporary name and renamed.

    Args:
        directory: made when absent.
        n: samples in all.
        request: whatever determines the samples, JSON-able.

    Raises:
        ValueError: when the directory holds samples of another request.
    """

    def __init__(self, directory: Path, n: int, request: dict[str, Any]) -> None:
        if n < 1:
            raise ValueError(f"{n} samples asked for; at least 1 is needed")
        self.directory, self.folder, self.n = directory, directory / "shards", n
        self.folder.mkdir(parents=True, exist_ok=True)
        request = json.loads(json.dumps(request | {"n": n}))
        file = directory / "request.json"
        if not file.exists() or not self._files():  # nothing drawn yet: nothing to contradict
            replace(file, lambda f: f.write((json.dumps(request, indent=2) + "\n").encode()))
            return
        earlier = json.loads(file.read_text())
        changed = [
            f"{k} was {earlier.get(k)!r} and is {request.get(k)!r}"
            for k in sorted(earlier.keys() | request.keys())
            if earlier.get(k) != request.get(k)
        ]
        if changed:
            raise ValueError(f"{directory} holds samples of another request ({'; '.join(changed)}); choose another")

    def _files(self) -> list[tuple[int, int, Path]]:
        found = []
        for path in self.folder.glob("[0-9]*-[0-9]*.npz"):
            first, last = path.stem.split("-")
            found.append((int(first), int(last) + 1, path))
        return sorted(found)

    def missing(self, batch: int) -> Iterator[range]:
        """The numbers of the samples that are not there yet, in runs of at most `batch`."""
        if batch < 1:
            raise ValueError(f"the batch is {batch}; at least 1 sample goes into one")
        start = 0
        for first, stop, _ in [*self._files(), (self.n, self.n, self.folder)]:
            yield from (range(a, min(a + batch, first)) for a in range(start, first, batch))
            start = stop

    def write(self, numbers: range, samples: np.ndarray, labels: np.ndarray) -> None:
        """Keep the samples of one run of `missing`."""
        if not len(numbers) == len(samples) == len(labels):
            raise ValueError(f"{len(samples)} samples and {len(labels)} labels were given for {len(numbers)} numbers")
        path = self.folder / f"{numbers[0]:07d}-{numbers[-1]:07d}.npz"
        replace(path, lambda file: np.savez(file, arr_0=samples, arr_1=labels))

    def merge(self, name: str = "samples.npz") -> Path:
        """All samples in one file: `arr_0` the samples, `arr_1` their labels. One shard is in memory at a time.

        Raises:
            ValueError: when samples are missing or a shard is damaged.
        """
        absent = [i for run in self.missing(self.n) for i in (run[0], run[-1])]
        if absent:
            raise ValueError(f"{self.directory} lacks samples between {absent[0]} and {absent[-1]}; run it again")
        drawn = sum(stop - first for first, stop, _ in self._files())
        if drawn != self.n:
            raise ValueError(f"the shards in {self.folder} overlap ({drawn} samples for {self.n}); delete some of them")
        path = self.directory / name
        replace(path, self._merge)
        return path

    def _merge(self, file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for key in ("arr_0", "arr_1"):
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    for first, _, shard in self._files():
                        array = _load(shard, key)
                        if first == 0:
                            header = {"descr": array.dtype.str, "fortran_order": False}
                            np.lib.format.write_array_header_1_0(member, header | {"shape": (self.n, *array.shape[1:])})
                        member.write(np.ascontiguousarray(array).tobytes())


def _load(path: Path, key: str) -> np.ndarray:
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return arrays[key]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and run again") from error


def replace(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file under a temporary name and rename it, so that a reader sees all of it or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
