"""Fruits on a turntable: real videos of one full turn each, shown at any speed and in either direction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from selfflow.data.indexed import Indexed, check_frames
from selfflow.data.licences import PACKS
from selfflow.data.packs import decode_picture, find, read_npz, square
from selfflow.data.sample import Sample

FPS = 10
FASTEST = 3  # frames of a sequence that one step turns on, about 4.5 degrees each


@lru_cache(maxsize=1)
def _pack(directory: Path) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    arrays = read_npz(directory / "fruits360_rot64.npz")
    lines = (directory / "sequences.jsonl").read_text(encoding="utf-8").splitlines()
    return arrays, [json.loads(line) for line in lines]


class Turntables(Indexed):
    """Clips that begin at every frame of every sequence of the split (varieties), `FPS` frames a second.

    Actions are float32 (frames, 1): row j is how many frames of the sequence, -3 to 3, lie between frames j and j + 1
    of the clip. Half of the clips turn evenly, the others change speed every few frames. A sequence is one full turn
    and goes on at its beginning; the few with gaps are left out. `meta`: `sequence`, `variety`, and `rows` shown.

    Args:
        frames: of a clip.
        seed: 0 or more, of the speeds.

    Raises:
        PackMissing: when the pack is not here.
        ValueError: for an unknown split, or a size or number of frames out of range.
    """

    licence, attribution, share_alike = PACKS["fruits360_rot64"]

    def __init__(
        self, split: str = "train", size: int = 64, seed: int = 0, frames: int = 16, directory: Path | None = None
    ) -> None:
        check_frames(frames)
        self.pack, self.sequences = _pack(Path(directory or find("fruits360_rot64")))
        whole = {s["seq"] for s in self.sequences if s["split"] == split and not s["gaps"]}
        self.starts = np.flatnonzero(np.isin(self.pack["seq"], list(whole)))
        super().__init__("fruits", len(self.starts), size, split, seed)
        self.frames = frames
        order = np.argsort(self.pack["seq"], kind="stable")
        bounds = np.searchsorted(self.pack["seq"][order], np.arange(len(self.sequences) + 1))
        self._rows = [order[a:b] for a, b in pairwise(bounds)]

    def text(self, index: int) -> str:
        return str(self.sequences[int(self.pack["seq"][self.starts[self.checked(index)]])]["caption"])

    def captions(self) -> Iterator[str]:
        """The caption of every sequence of the split once."""
        return (str(s["caption"]) for s in self.sequences if s["split"] == self.split)

    def sample(self, index: int) -> Sample:
        start = int(self.starts[index])
        sequence = int(self.pack["seq"][start])
        rows, steps = self._rows[sequence], self._steps(self.rng(index))
        places = int(np.searchsorted(rows, start)) + np.concatenate([[0], np.cumsum(steps)[:-1]])
        shown = rows[places % len(rows)]
        found = {row: self._frame(row) for row in set(shown.tolist())}
        return Sample(
            self.id(index),
            None,
            self.text(index),
            {"sequence": sequence, "variety": self.sequences[sequence]["variety"], "rows": shown.tolist()},
            clip=np.stack([found[row] for row in shown.tolist()]),
            fps=FPS,
            actions=steps[:, None].astype(np.float32),
            control_hz=FPS,
            body="turntable",
        )

    def _steps(self, rng: np.random.Generator) -> np.ndarray:
        """Even turning at one of the six speeds, or a new one, rest included, every two to six frames."""
        if rng.random() < 0.5:
            return np.full(self.frames, (1 + int(rng.random() * FASTEST)) * (1 if rng.random() < 0.5 else -1))
        steps = list[int]()
        while len(steps) < self.frames:
            steps += [int(rng.random() * (2 * FASTEST + 1)) - FASTEST] * (2 + int(rng.random() * 5))
        return np.array(steps[: self.frames])

    def _frame(self, row: int) -> np.ndarray:
        start, end = self.pack["offsets"][row : row + 2]
        return square(decode_picture(self.pack["data"][start:end].tobytes(), f"fruit frame {row}"), self.size)
