"""LeRobotDataset v3.0 on disk, without the lerobot package: parquet by pyarrow, mp4 by PyAV.

    meta/info.json                                     what there is; written last: with it the data set is complete
    meta/stats.json   meta/tasks.parquet
    meta/episodes/chunk-000/file-000.parquet           one row an episode; written last of its file's three
    data/chunk-000/file-000.parquet                    one row a frame
    videos/observation.images.front/chunk-000/file-000.mp4

Files number k of data, videos and episodes hold the same episodes, so that a stopped run goes on with the next file.
Fields after huggingface/lerobot, `src/lerobot/datasets` (v3.0).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .files import SETTINGS, claim_folder, json_bytes, whole, write_bytes
from .video import check_clip, check_even, write_film

CAMERA = "observation.images.front"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
CHUNK = 1000  # files in a chunk
COUNTERS = ("frame_index", "episode_index", "index", "task_index")
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}


@dataclass(frozen=True)
class Episode:
    """A demonstration of k control steps.

    Attributes:
        text: the instruction.
        clip: uint8 `(k, H, W, 3)`, H and W even: what is seen when each action is chosen.
        states: float `(k, s)`.
        actions: float `(k, a)`.

    Raises:
        ValueError: for other shapes, odd sides, lengths that differ, values that are not finite, or no text.
    """

    text: str
    clip: np.ndarray
    states: np.ndarray
    actions: np.ndarray

    def __post_init__(self) -> None:
        check_even(check_clip(self.clip))
        for name in ("states", "actions"):
            values = getattr(self, name)
            if values.ndim != 2 or len(values) != len(self.clip) or not np.isfinite(values).all():
                raise ValueError(
                    f"{name} of an episode of {len(self.clip)} frames are finite ({len(self.clip)}, n), not "
                    f"{values.shape}{'' if np.isfinite(values).all() else ' with NaN or infinity'}"
                )
        if not self.text:
            raise ValueError("an episode needs an instruction; its text is empty")


def write_lerobot(
    directory: str | Path,
    episode: Callable[[int], Episode],
    count: int,
    fps: int,
    *,
    names: Sequence[str] | None = None,
    robot: str = "tabletop",
    per_file: int = 100,
    settings: dict[str, Any] | None = None,
    progress: bool = True,
) -> Path:
    """Write `episode(0)` to `episode(count - 1)` as a LeRobotDataset v3.0, going on where a stopped run left off.

    `LeRobotDataset("tabletop", root=directory)` reads it.

    Args:
        directory: of the data set; made if need be.
        episode: a demonstration by index; all with pictures, states and actions of one shape.
        count: how many.
        fps: control steps a second.
        names: of the numbers in a state and in an action, which then are equally many.
        robot: the robot's type, a word for readers.
        per_file: episodes in a file: what a stopped run loses at most.
        settings: what makes this data set what it is, JSON-ready; another run into the folder must agree.
        progress: show a progress bar.

    Returns:
        The directory.

    Raises:
        ValueError: for counts below 1, a folder that holds something else, or episodes of several shapes.
        ImportError: without pyarrow or PyAV, saying how to install them.
    """
    pq = _pyarrow()[1]
    if count < 1 or per_file < 1:
        raise ValueError(f"{count} episodes in files of {per_file}; choose 1 or more of both")
    directory = Path(directory)
    # What is refused of the first episode is refused before the folder is claimed, which could hold nothing else then.
    drawn = {} if (directory / SETTINGS).exists() else {0: episode(0)}
    claim_folder(directory, {"format": "lerobot", "count": count, "per_file": per_file, **(settings or {})})
    tasks: dict[str, int] = {}
    rows: list[dict[str, Any]] = []
    with tqdm(total=count, desc="episodes", disable=not progress) as bar:

        def episodes(numbers: Iterable[int]) -> Iterator[Episode]:
            for i in numbers:
                yield drawn.pop(i) if i in drawn else episode(i)
                bar.update()

        for k, start in enumerate(range(0, count, per_file)):
            place = {"chunk_index": k // CHUNK, "file_index": k % CHUNK}
            path = directory / EPISODES_PATH.format(**place)
            if path.exists():
                found = pq.read_table(path).to_pylist()
                for row in found:
                    tasks.setdefault(row["tasks"][0], len(tasks))
                bar.update(len(found))
            else:
                numbers = range(start, min(start + per_file, count))
                found = _write_file(directory, place, episodes(numbers), start, rows, tasks, fps)
            rows += found
    _write_meta(directory, rows, tasks, fps, names, robot)
    return directory


def _write_file(
    directory: Path,
    place: dict[str, int],
    episodes: Iterable[Episode],
    first: int,
    before: list[dict[str, Any]],
    tasks: dict[str, int],
    fps: int,
) -> list[dict[str, Any]]:
    """Write the video, the data and, last, the rows of some episodes; returns the rows.

    An episode is drawn when the video comes to it, and its pictures are let go then.
    """
    start = before[-1]["dataset_to_index"] if before else 0
    rows, tables = list[dict[str, Any]](), list[dict[str, np.ndarray]]()

    def clips() -> Iterator[np.ndarray]:
        index, shapes = start, set[tuple[tuple[int, ...], ...]]()
        for number, e in enumerate(episodes, first):
            shapes.add((e.clip.shape[1:], e.states.shape[1:], e.actions.shape[1:]))
            if len(shapes) > 1:
                raise ValueError(
                    f"episodes have pictures, states and actions of several shapes: {sorted(shapes)}; one is wanted"
                )
            length, shown = len(e.clip), index - start
            task = tasks.setdefault(e.text, len(tasks))
            columns: dict[str, np.ndarray] = {
                "observation.state": e.states.astype(np.float32),
                "action": e.actions.astype(np.float32),
                "timestamp": (np.arange(length) / fps).astype(np.float32),
                "frame_index": np.arange(length),
                "episode_index": np.full(length, number),
                "index": np.arange(index, index + length),
                "task_index": np.full(length, task),
            }
            row: dict[str, Any] = {"episode_index": number, "tasks": [e.text], "length": length}
            for kind in ("data", f"videos/{CAMERA}", "meta/episodes"):
                row |= {f"{kind}/{key}": value for key, value in place.items()}
            row |= {"dataset_from_index": index, "dataset_to_index": index + length}
            for end, frames in (("from", shown), ("to", shown + length)):
                row[f"videos/{CAMERA}/{end}_timestamp"] = frames / fps
            for name, values in {CAMERA: e.clip, **columns}.items():
                row |= {f"stats/{name}/{key}": value for key, value in _statistics(values).items()}
            rows.append(row)
            tables.append(columns)
            index += length
            yield e.clip

    write_film(directory / VIDEO_PATH.format(video_key=CAMERA, **place), clips(), fps, keyframes=2)
    pa, pq = _pyarrow()

    def column(name: str) -> Any:
        values = np.concatenate([columns[name] for columns in tables])
        if values.ndim == 1:
            return pa.array(values)
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])

    with whole(directory / DATA_PATH.format(**place)) as temporary:
        pq.write_table(pa.table({name: column(name) for name in tables[0]}), temporary)
    with whole(directory / EPISODES_PATH.format(**place)) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)
    return rows


def _statistics(values: np.ndarray) -> dict[str, Any]:
    """Least, greatest, mean, deviation, count and quantiles over an episode; of a clip per channel, in [0, 1]."""
    if values.ndim == 4:
        count = len(values)
        values = values.reshape(-1, 3) / 255.0
        shape: tuple[int, ...] = (3, 1, 1)
    else:
        count, values = len(values), values.reshape(len(values), -1).astype(np.float64)
        shape = (values.shape[1],)
    found = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
    found |= dict(zip(QUANTILES, np.quantile(values, list(QUANTILES.values()), axis=0), strict=True))
    return {name: v.reshape(shape).tolist() for name, v in found.items()} | {"count": [count]}


def _together(rows: list[dict[str, Any]], feature: str) -> dict[str, Any]:
    """The statistics of all episodes from those of each; quantiles are averaged, as LeRobot does."""
    parts = {
        key: np.array([row[f"stats/{feature}/{key}"] for row in rows], np.float64)
        for key in ("min", "max", "mean", "std", "count", *QUANTILES)
    }
    weight = parts["count"].reshape(-1, *[1] * (parts["mean"].ndim - 1)) / parts["count"].sum()
    mean = (weight * parts["mean"]).sum(0)
    variance = (weight * (parts["std"] ** 2 + (parts["mean"] - mean) ** 2)).sum(0)
    found = {"min": parts["min"].min(0), "max": parts["max"].max(0), "mean": mean, "std": np.sqrt(variance)}
    found |= {key: (weight * parts[key]).sum(0) for key in QUANTILES}
    return {key: v.tolist() for key, v in found.items()} | {"count": [int(parts["count"].sum())]}


def _write_meta(
    directory: Path,
    rows: list[dict[str, Any]],
    tasks: dict[str, int],
    fps: int,
    names: Sequence[str] | None,
    robot: str,
) -> None:
    pa, pq = _pyarrow()
    features = ("observation.state", "action", "timestamp", *COUNTERS, CAMERA)
    write_bytes(directory / "meta/stats.json", json_bytes({f: _together(rows, f) for f in features}, indent=4))
    # LeRobot reads this file by pandas, with the instruction as the index; this note tells pandas so.
    note = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": n, "field_name": n, "pandas_type": p, "numpy_type": t, "metadata": None}
            for n, p, t in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table({"task_index": pa.array(list(tasks.values()), pa.int64()), "task": list(tasks)})
    with whole(directory / "meta/tasks.parquet") as temporary:
        pq.write_table(table.replace_schema_metadata({b"pandas": json.dumps(note).encode()}), temporary)

    def numbers(feature: str) -> dict[str, Any]:
        width = len(rows[0][f"stats/{feature}/mean"])
        return {"dtype": "float32", "shape": [width], "names": None if names is None else list(names)}

    height, width = _video_size(directory)
    scalar = {"shape": [1], "names": None}
    video = {"video.height": height, "video.width": width, "video.codec": "h264", "video.pix_fmt": "yuv420p"}
    video |= {"video.fps": fps, "video.channels": 3, "video.is_depth_map": False, "has_audio": False}
    info = {
        "codebase_version": "v3.0",
        "robot_type": robot,
        "total_episodes": len(rows),
        "total_frames": rows[-1]["dataset_to_index"],
        "total_tasks": len(tasks),
        "chunks_size": CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": fps,
        "splits": {"train": f"0:{len(rows)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": {
            CAMERA: {
                "dtype": "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": video,
            },
            "observation.state": numbers("observation.state"),
            "action": numbers("action"),
            "timestamp": {"dtype": "float32", **scalar},
            **{name: {"dtype": "int64", **scalar} for name in COUNTERS},
        },
    }
    write_bytes(directory / "meta/info.json", json_bytes(info, indent=4))


def _video_size(directory: Path) -> tuple[int, int]:
    """Height and width of the first video."""
    import av

    with av.open(str(directory / VIDEO_PATH.format(video_key=CAMERA, chunk_index=0, file_index=0))) as container:
        stream = container.streams.video[0]
        return stream.height, stream.width


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError("writing a LeRobotDataset needs pyarrow: pip install 'selfflow[data,video]'") from None
    return pyarrow, pyarrow.parquet
