"""What a LeRobot data set says of itself, in `meta`: its features, tasks and episodes, and where their files lie.

    v3.0    meta/info.json   meta/tasks.parquet   meta/episodes/chunk-000/file-000.parquet
            data/chunk-000/file-000.parquet                            one row a frame, many episodes in a file
            videos/observation.images.front/chunk-000/file-000.mp4     many episodes, each from some second on
    v2.x    meta/info.json   meta/tasks.jsonl   meta/episodes.jsonl
            data/chunk-000/episode_000000.parquet
            videos/chunk-000/observation.images.front/episode_000000.mp4

Templates of the paths of data and videos are in `info.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PREFIX = "observation.images."


class Episode(NamedTuple):
    """One demonstration of `length` frames: its data file, and its video from `begin` seconds on, if it is in one."""

    number: int
    length: int
    data: Path
    video: Path | None = None
    begin: float = 0.0


class Info:
    """`meta` of a data set.

    Raises:
        FileNotFoundError, ValueError: naming the file that is missing, damaged or of another version.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / "meta" / "info.json"
        found = _json(self.path, _text(self.path))
        version = str(found.get("codebase_version", "none"))
        if not version.startswith(("v2.", "v3.")):
            raise ValueError(f"{self.path} has codebase_version {version}; v2.0, v2.1 and v3.0 are read: convert it")
        if missing := [key for key in ("fps", "features", "data_path") if not found.get(key)]:
            raise ValueError(f"{self.path} lacks {', '.join(missing)}; it has {', '.join(found)}")
        self.found, self.features, self.fps = found, found["features"], float(found["fps"])
        self.by_episode, self.robot = version.startswith("v2."), str(found.get("robot_type") or "")

    def camera(self, wanted: Sequence[str]) -> str:
        """The feature that is shown; see `LeRobot`."""
        pictures = {key: f for key, f in self.features.items() if f.get("dtype") in ("video", "image")}
        known = [k for k, f in pictures.items() if not (f.get("info") or {}).get("video.is_depth_map")]
        if not known:
            raise ValueError(f"{self.path} has no camera, a feature of dtype video or image; it has {self._names}")
        if not wanted and len(known) == 1:
            return known[0]
        found = [key for name in wanted for key in known if name in (key, key.removeprefix(PREFIX))]
        if not found:
            asked = f"none of {', '.join(wanted)}" if wanted else "several cameras, and one is shown"
            names = ", ".join(key.removeprefix(PREFIX) for key in known)
            raise ValueError(f"{self.path} has {asked}; choose with --config.data.cameras one of {names}")
        return found[0]

    def width(self, key: str) -> int:
        """Values in a row of a feature."""
        if key not in self.features:
            raise ValueError(f"{self.path} has no feature {key}, and a robot's data set needs it; it has {self._names}")
        return int(np.prod(self.features[key].get("shape", ())))

    def stride(self, hz: float) -> int:
        """Every so many-th frame makes `hz` a second."""
        stride = round(self.fps / hz) if hz > 0 else 1
        if hz < 0 or stride < 1 or (hz and abs(self.fps / stride - hz) > 1e-3 * hz):
            raise ValueError(
                f"{self.path}: fps is {self.fps:g}, which cannot be thinned to {hz:g}; choose with --config.data.hz "
                f"{self.fps:g} divided by 1, 2, 3 …, or 0 for every frame"
            )
        return stride

    def tasks(self) -> dict[int, str]:
        """task_index → instruction."""
        path = self.root / "meta" / ("tasks.jsonl" if self.by_episode else "tasks.parquet")
        rows = _lines(path) if self.by_episode else read_table(path).to_pylist()
        # A table of pandas, whose index the instructions are; LeRobot lets it go without a name.
        unnamed = "__index_level_0__"
        return {
            int(_field(path, row, "task_index")): str(row[unnamed] if unnamed in row else _field(path, row, "task"))
            for row in rows
        }

    def episodes(self, camera: str) -> list[Episode]:
        """All of them, by number."""
        film = self.features[camera].get("dtype") == "video"
        if film and not self.found.get("video_path"):
            raise ValueError(f"{self.path} has {camera} of dtype video, and no video_path that says where")
        if self.by_episode:
            path = self.root / "meta" / "episodes.jsonl"
            rows = list(_lines(path))
        else:
            columns = ["episode_index", "length", "data/chunk_index", "data/file_index"]
            more = ("chunk_index", "file_index", "from_timestamp") if film else ()
            columns += [f"videos/{camera}/{key}" for key in more]
            path = self.root / "meta" / "episodes"
            rows = [row for file in sorted(path.glob("*/*.parquet")) for row in read_table(file, columns).to_pylist()]
        if not rows:
            raise FileNotFoundError(f"{path} tells of no episode; copy the whole data set, or record one")
        found = dict[int, Episode]()
        for row in rows:
            number, length = (int(_field(path, row, key)) for key in ("episode_index", "length"))
            video = self._file("video_path", number, row, f"videos/{camera}", camera) if film else None
            begin = float(row.get(f"videos/{camera}/from_timestamp", 0.0))
            found[number] = Episode(number, length, self._file("data_path", number, row, "data"), video, begin)
        return [found[number] for number in sorted(found)]

    def _file(self, key: str, number: int, row: dict[str, Any], kind: str, camera: str = "") -> Path:
        """Where the data or the video of an episode lies."""
        chunk = number // int(self.found.get("chunks_size") or 1000)
        place = {name: row.get(f"{kind}/{name}", 0) for name in ("chunk_index", "file_index")}
        place |= {"episode_chunk": chunk, "episode_index": number, "video_key": camera}
        try:
            return self.root / self.found[key].format(**place, total_episodes=self.found.get("total_episodes", 0))
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"{self.path}: {key} {self.found[key]!r} asks for what no episode has: {error}") from None

    @property
    def _names(self) -> str:
        return ", ".join(self.features)


def read_table(path: Path, columns: Sequence[str] = (), rows: Sequence[Any] | None = None) -> Any:
    """Columns of a parquet file, all where none are named; of `rows` only, as pyarrow's `filters` says them."""
    pq = needed()[1]
    try:
        names = pq.read_schema(path).names
        if missing := [name for name in columns if name not in names]:
            raise ValueError(f"it lacks the columns {', '.join(missing)}; it has {', '.join(names)}")
        return pq.read_table(path, columns=list(columns) or None, filters=rows, partitioning=None)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; copy the whole data set") from None
    except (OSError, ValueError) as error:  # pyarrow's own are both
        raise ValueError(f"{path} cannot be read as LeRobot writes it: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; give the directory of a LeRobot data set") from None


def _json(where: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{where} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{where} is no JSON object but {str(found)[:60]}")
    return found


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a JSON-lines file. (Not splitlines: JSON strings may hold other separators as they are.)"""
    return (_json(path, line) for line in _text(path).split("\n") if line.strip())


def _field(path: Path, row: dict[str, Any], key: str) -> Any:
    if key not in row:
        raise ValueError(f"{path} has a record without {key}; it has {', '.join(row)}")
    return row[key]


def needed() -> tuple[Any, Any]:
    """PyAV and pyarrow's parquet."""
    try:
        import av
        import pyarrow.parquet as pq
    except ImportError:
        raise ImportError("LeRobot data sets need pyarrow and PyAV: pip install 'selfflow[data,video]'") from None
    return av, pq
