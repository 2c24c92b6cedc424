"""Demonstrations in LeRobot's format, v2.0, v2.1 or v3.0, from a directory and without the lerobot package.

What is written where: `selfflow.data.lerobot_files`. `selfflow.worlds.tabletop.export.lerobot` writes v3.0.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from selfflow.data.indexed import Indexed, check_frames
from selfflow.data.lerobot_files import Episode, Info, needed, read_table
from selfflow.data.packing import Store
from selfflow.data.packs import decode_picture, square
from selfflow.data.sample import DecodeError, Sample

STATE, ACTION = "observation.state", "action"
BODIES = ("tabletop", "pusht", "sprite", "turntable")
"""Bodies of the package's own sources, in units of their own."""
HELD_OUT = 10  # one episode in so many, by a hash of its number
_BLOCK = 16  # frames decoded and kept together
_FILES = 256  # data files whose states and actions are kept


class LeRobot(Indexed):
    """Windows of demonstrations, one from every frame on, that never leave their episode.

    Frame j is what one camera sees when action j is chosen, its centre square at `size` pixels, as of every source.
    Actions and states are float32 (frames, a) and (frames, s), the columns `action` and `observation.state` as they
    were recorded. Beyond the end of an episode the last frame, state and action are repeated: an action that says where
    to be then asks to stay there; one that says by how much to move does not, and would go on.

    About one episode in `HELD_OUT` is of the test split, by a hash of its number. Data and videos are read when they
    are asked for. `meta`: `episode`, `start` (its frame with which the window begins), `steps` (frames it has).

    Attributes:
        body: `robot_type` of `info.json`; the source's own name where there is none, or one of `BODIES`.
        hz: frames, states and actions a second.
        widths: column → values in a row, of `action` and `observation.state`.

    Args:
        directory: holds `meta`, `data` and, but for pictures in the data files, `videos`.
        frames: of a window.
        cameras: the first of these that the data set has is shown, by its name with or without `observation.images.`;
            needed where it has several.
        hz: of the windows, the recorded rate divided by a whole number: frames between are left out, with their
            states and actions. 0 takes every frame.
        name: of the source; `lerobot/` and the directory's by default.
        memory: bytes of decoded pictures that are kept.
        cache: a directory in which they are kept for later runs; none by default.

    Raises:
        FileNotFoundError: for a file that `meta` promises.
        ValueError: for another version, a camera or rate that it does not have, a missing or misshapen column, an empty
            split; a size or number of frames out of range.
        ImportError: without pyarrow or PyAV, saying how to install them.
    """

    licence, attribution, share_alike = "as its owner has it", "", False

    def __init__(
        self,
        directory: str | Path,
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        frames: int = 16,
        cameras: Sequence[str] = (),
        hz: float = 0.0,
        name: str = "",
        memory: int = 512 << 20,
        cache: Path | None = None,
    ) -> None:
        needed()
        check_frames(frames)
        self.directory, self.frames = Path(directory), frames
        name = name or f"lerobot/{self.directory.absolute().name}"
        info = Info(self.directory)
        self.camera, self.widths = info.camera(cameras), {key: info.width(key) for key in (ACTION, STATE)}
        self.fps, self.stride = info.fps, info.stride(hz)
        self.hz = self.fps / self.stride
        self.body = name if info.robot in ("", "unknown", *BODIES) else info.robot
        self.tasks, every = info.tasks(), info.episodes(self.camera)
        self.episodes = [e for e in every if e.length > 0 and held_out(e.number) == (split == "test")]
        if not self.episodes:
            raise ValueError(
                f"{self.directory} has no episode of the split {split!r}: of its {len(every)}, about one in {HELD_OUT} "
                "is held out, by a hash of its number; record more"
            )
        for path in dict.fromkeys(p for e in self.episodes for p in (e.data, e.video) if p is not None):
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing, and {info.path} promises it; copy the whole data set")
        self._ends = np.cumsum([e.length for e in self.episodes])
        super().__init__(name, int(self._ends[-1]), size, split, seed)
        self.store = Store(memory, cache)
        self._rows = lru_cache(_FILES)(self._read)

    def check_width(self, width: int) -> None:
        """Raise ValueError unless a token of so many channels holds an action, and a state."""
        for key, values in self.widths.items():
            if values > width:
                raise ValueError(
                    f"{self.name}: {key} has {values} values, and a token of this model holds {width}; "
                    f"give --config.control.width {max(self.widths.values())}"
                )

    def captions(self) -> Iterator[str]:
        return iter(self.tasks.values())

    def text(self, index: int) -> str:
        episode, start = self._at(self.checked(index))
        return self._told(episode, self._of(episode), start)

    def sample(self, index: int) -> Sample:
        episode, start = self._at(index)
        found = self._of(episode)
        rows = np.minimum(start + self.stride * np.arange(self.frames), episode.length - 1)
        values = {key: found[key][rows].astype(np.float32) for key in self.widths}
        for key, array in values.items():
            if not np.isfinite(array).all():
                raise DecodeError(f"{episode.data}: {key} of episode {episode.number} has NaN or infinity")
        return Sample(
            self.id(index),
            None,
            self._told(episode, found, start),
            {"episode": episode.number, "start": start, "steps": episode.length},
            clip=self._seen(episode, rows),
            fps=self.hz,
            actions=values[ACTION],
            states=values[STATE],
            control_hz=self.hz,
            body=self.body,
        )

    def _at(self, index: int) -> tuple[Episode, int]:
        """The episode of a sample, and the frame with which its window begins."""
        place = int(np.searchsorted(self._ends, index, "right"))
        episode = self.episodes[place]
        return episode, episode.length - int(self._ends[place] - index)

    # ------------------------------------------------------------------------------------------- states and actions

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        """The columns of a data file, `(rows, values)` each."""
        shapes = self.widths | {"episode_index": 1, "task_index": 1}
        table, columns = read_table(path, list(shapes)), {}
        for key, width in shapes.items():
            values = table.column(key).combine_chunks()
            while hasattr(values, "flatten") and hasattr(values.type, "value_type"):
                values = values.flatten()
            if len(values) != width * table.num_rows:
                raise ValueError(
                    f"{path}: {key} has {len(values)} values in {table.num_rows} rows; by meta/info.json it has "
                    f"{width} in each"
                )
            columns[key] = values.to_numpy(zero_copy_only=False).reshape(-1, width)
        return columns

    def _of(self, episode: Episode) -> dict[str, np.ndarray]:
        """The rows of an episode."""
        found = self._rows(episode.data)
        rows = np.flatnonzero(found["episode_index"][:, 0] == episode.number)
        if len(rows) != episode.length:
            raise DecodeError(
                f"{episode.data} has {len(rows)} rows of episode {episode.number}; by meta it has {episode.length}"
            )
        return {key: values[rows] for key, values in found.items()}

    def _told(self, episode: Episode, found: dict[str, np.ndarray], start: int) -> str:
        """What is asked at that frame: an episode may hold several tasks one after the other."""
        number = int(found["task_index"][start, 0])
        if number not in self.tasks:
            raise DecodeError(f"{episode.data} has task_index {number}; meta/tasks knows {sorted(self.tasks)}")
        return self.tasks[number]

    # ------------------------------------------------------------------------------------------------------ pictures

    def _seen(self, episode: Episode, rows: np.ndarray) -> np.ndarray:
        """Those frames, uint8 `(n, size, size, 3)`, of blocks that windows beside each other share."""
        source = episode.video or episode.data
        about = source.stat()
        what = (str(source.absolute()), about.st_mtime_ns, about.st_size, self.camera, self.size, self.fps)
        digest, blocks = hashlib.sha256(repr(what).encode()).hexdigest()[:16], dict[int, np.ndarray]()
        for block in dict.fromkeys((rows // _BLOCK).tolist()):
            make = self._decoded(episode, block * _BLOCK)
            blocks[block] = self.store.get(f"{digest}-{episode.number}-{block}", make)["frames"]
        return np.stack([blocks[row // _BLOCK][row % _BLOCK] for row in rows.tolist()])

    def _decoded(self, episode: Episode, first: int) -> Callable[[], dict[str, np.ndarray]]:
        """What makes the block of frames from `first` on."""
        count = min(_BLOCK, episode.length - first)

        def make() -> dict[str, np.ndarray]:
            if episode.video is None:
                pictures = _from_table(episode, self.camera, first, count)
            else:
                pictures = _from_video(episode, episode.video, self.fps, first, count)
            return {"frames": np.stack([square(picture, self.size) for picture in pictures])}

        return make


def held_out(number: int) -> bool:
    """Whether an episode is of the test split: always the same ones, whatever was recorded since."""
    return zlib.crc32(f"episode {number}".encode()) % HELD_OUT == 0


def _from_video(episode: Episode, path: Path, fps: float, first: int, count: int) -> list[np.ndarray]:
    """Frames `first` to `first + count - 1` of an episode: those shown nearest to their times."""
    av, found = needed()[0], dict[int, np.ndarray]()
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            # From the last keyframe before; half a frame earlier, as times are rounded.
            begin = max(0.0, episode.begin + (first - 0.5) / fps)
            container.seek(int(begin / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time is None:
                    continue
                place = round((frame.time - episode.begin) * fps) - first
                if 0 <= place < count and place not in found:
                    found[place] = frame.to_ndarray(format="rgb24")
                if place >= count - 1:
                    break
    except (av.FFmpegError, IndexError) as error:
        raise DecodeError(f"{path} is no video that can be decoded ({error}); record or copy it anew") from error
    if missing := [first + k for k in range(count) if k not in found]:
        raise DecodeError(
            f"{path} shows nothing at {episode.begin + missing[0] / fps:.3f} s, where frame {missing[0]} of episode "
            f"{episode.number} should be: by meta it has {episode.length} frames, {fps:g} a second"
        )
    return [found[k] for k in range(count)]


def _from_table(episode: Episode, camera: str, first: int, count: int) -> list[np.ndarray]:
    """The same of an episode whose pictures are PNG or JPEG files in the data file."""
    rows = [("episode_index", "=", episode.number), ("frame_index", ">=", first), ("frame_index", "<", first + count)]
    found = [
        record and record["bytes"] for record in read_table(episode.data, [camera], rows).column(camera).to_pylist()
    ]
    if len(found) != count or not all(found):
        raise DecodeError(
            f"{episode.data} lacks pictures of {camera} among frames {first} to {first + count - 1} of episode "
            f"{episode.number}; a data set of dtype image has their bytes in its data files"
        )
    return [decode_picture(data, f"{episode.data}, frame {first + k}") for k, data in enumerate(found)]
