"""PushT: a person pushes a T to its place with a round finger, seen from above; two sets, two places."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from selfflow.data.indexed import Indexed, check_frames, squares
from selfflow.data.licences import PACKS
from selfflow.data.packing import pack, unpack
from selfflow.data.packs import find
from selfflow.data.sample import Sample
from selfflow.worlds.tabletop.scene import check_known

HZ = 10
SETS = {
    "center": "push the T block to the goal in the middle",
    "x356": "push the T block to the goal at the lower right",
}
"""Name → what is asked."""
_PACKED = 32  # frames packed together
_GREEN = np.array((144, 238, 144), np.float32)  # of the goal
_NEARLY_WHITE = 235


class Frames:
    """Rows of a large array of an `.npz`, read once from front to back as far as was asked, and kept packed.

    The pictures of both sets take 618 MB as they are; packed, with the file, 50 MB.

    Raises:
        ValueError: naming the file, when it is damaged.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path, self._lock, self._packed = path, threading.Lock(), list[bytes]()
        try:
            # From memory: a file held open would be shared, with its place, by processes that fork.
            self._file = zipfile.ZipFile(io.BytesIO(path.read_bytes())).open(f"{key}.npy")  # noqa: SIM115
            version = np.lib.format.read_magic(self._file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            self.shape, fortran, self.dtype = read(self._file)
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        if fortran or len(self.shape) != 4:
            raise ValueError(f"{path} is damaged: {key} has shape {self.shape}, not (frames, height, width, channels)")

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Rows `start` to `stop`, as a new array."""
        first, last = rows.start // _PACKED, (rows.stop - 1) // _PACKED
        with self._lock:
            while len(self._packed) <= last:
                self._packed.append(pack({"frames": self._next()}))
        parts = [unpack(data)["frames"] for data in self._packed[first : last + 1]]
        offset = first * _PACKED
        return np.concatenate(parts)[rows.start - offset : rows.stop - offset]

    def _next(self) -> np.ndarray:
        count = min(_PACKED, self.shape[0] - _PACKED * len(self._packed))
        shape = (count, *self.shape[1:])
        try:
            data = self._file.read(int(np.prod(shape)) * self.dtype.itemsize)
            return np.frombuffer(data, self.dtype).reshape(shape)
        except (zipfile.BadZipFile, EOFError, ValueError) as error:
            raise ValueError(f"{self.path} is damaged: {error}") from error


class _Set(NamedTuple):
    pictures: Frames
    actions: np.ndarray
    states: np.ndarray
    ends: np.ndarray
    test: np.ndarray


@lru_cache(maxsize=2)
def _open(path: Path) -> _Set:
    try:
        with np.load(path, allow_pickle=False) as found:
            x, y, block_x, block_y, angle = found["state"].T
            # One set wraps the angle at a full turn, the other does not: as a direction it is the same in both.
            states = np.stack([x, y, block_x, block_y, np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
            actions = found["action"].astype(np.float32)
            return _Set(Frames(path, "img"), actions, states, found["episode_ends"], found["test_episode"] != 0)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


class PushT(Indexed):
    """Windows of human demonstrations, one from every step on, at `HZ` frames, actions and states a second.

    Frame j is what is seen when action j is chosen. Actions are float32 (frames, 2): where the finger shall go, x and y
    in 0 to 512 of the board. States are float32 (frames, 6): x and y of the finger, x and y of the block, and sine and
    cosine of its angle. Beyond the end of an episode the last frame and state are repeated, and the action asks the
    finger to stay where it is. `meta`: `set`, `episode`, `start`, `steps`.

    Args:
        sets: of `SETS`.
        frames: of a window.
        goal: False wipes the green goal away, so that only the words say where to push.

    Raises:
        PackMissing: when the pack is not here.
        ValueError: for an unknown split or set, or a size or number of frames out of range.
    """

    licence, attribution, share_alike = PACKS["pusht64"]

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        frames: int = 16,
        sets: Sequence[str] = tuple(SETS),
        goal: bool = True,
        directory: Path | None = None,
    ) -> None:
        check_frames(frames)
        for name in sets:
            check_known("set", name, tuple(SETS))
        root = Path(directory or find("pusht64"))
        self.sets = {name: _open(root / f"pusht64_{name}.npz") for name in sets}
        self.windows = [
            (name, episode, begin, end)
            for name, found in self.sets.items()
            for episode, (begin, end) in enumerate(
                zip([0, *found.ends[:-1].tolist()], found.ends.tolist(), strict=True)
            )
            if found.test[episode] == (split == "test")
        ]
        self._ends = np.cumsum([end - begin for _, _, begin, end in self.windows])
        super().__init__("pusht", int(self._ends[-1]) if len(self._ends) else 0, size, split, seed)
        self.frames, self.goal = frames, goal

    def _at(self, index: int) -> tuple[str, int, int, int, int]:
        """Set, episode, its first row and last row + 1, and the window's first row."""
        place = int(np.searchsorted(self._ends, index, "right"))
        name, episode, begin, end = self.windows[place]
        return name, episode, begin, end, end - int(self._ends[place] - index)

    def text(self, index: int) -> str:
        return SETS[self._at(self.checked(index))[0]]

    def captions(self) -> Iterator[str]:
        return (SETS[name] for name in self.sets)

    def sample(self, index: int) -> Sample:
        name, episode, begin, end, start = self._at(index)
        found = self.sets[name]
        rows = np.arange(start, start + self.frames)
        beyond, rows = rows >= end, np.minimum(rows, end - 1)
        states, actions = found.states[rows], found.actions[rows]
        actions[beyond] = states[beyond, :2]
        clip = found.pictures[start : int(rows[-1]) + 1]
        clip = squares(clip if self.goal else without_goal(clip), self.size)
        return Sample(
            self.id(index),
            None,
            SETS[name],
            {"set": name, "episode": episode, "start": start - begin, "steps": end - begin},
            clip=clip[rows - start],
            fps=HZ,
            actions=actions,
            states=states,
            control_hz=HZ,
            body="pusht",
        )


def without_goal(clip: np.ndarray) -> np.ndarray:
    """The pictures with white in place of the goal's green; where the two met in a pixel, with as much of it."""
    values = clip.astype(np.float32)
    share = (values[..., 1] - values[..., ::2].max(axis=-1)).clip(0)[..., None] / (_GREEN[1] - _GREEN[0])
    white = values + share * (255 - _GREEN)
    white[(share[..., 0] > 0) & (white.min(axis=-1) > _NEARLY_WHITE)] = 255  # an outline would tell where it was
    return np.rint(white.clip(0, 255)).astype(np.uint8)
