"""Folders that `datasets.load_dataset` of Hugging Face reads as they are.

    DIR/train/metadata.jsonl        one line an example: file_name, text, seed, task, …
    DIR/train/000000.png            a still; or what an edit leads to, or what references compose
    DIR/train/before/000000.png     of an edit, column before; its changed region, column mask
    DIR/train/references/000000-0.png
    DIR/train/000000.mp4            a clip with its sound, in place of the picture

`load_dataset(DIR)` gives a column for each: pictures come as PIL images, references as a list of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .files import claim_folder, json_bytes, png_bytes, write_bytes
from .video import write_mp4

if TYPE_CHECKING:
    from ..tasks import Example

METADATA = "metadata.jsonl"


def write_folder(
    directory: str | Path,
    example: Callable[[int], Example],
    count: int,
    *,
    split: str = "train",
    settings: dict[str, Any] | None = None,
    progress: bool = True,
) -> Path:
    """Write `example(0)` to `example(count - 1)` into `directory / split`, going on where a stopped run left off.

    Metadata gets its name when all is there; until then it grows under a hidden one.

    Args:
        directory: of the data set; made if need be.
        example: a sample by index.
        count: how many.
        split: the name of the folder inside.
        settings: what makes this data set what it is, JSON-ready; another run into the folder must agree.
        progress: show a progress bar.

    Returns:
        `directory / split`.

    Raises:
        ValueError: for a count below 1, or a folder that holds something else.
    """
    if count < 1:
        raise ValueError(f"a data set of {count} examples; choose 1 or more")
    directory = Path(directory) / split
    claim_folder(directory, {"format": "folder", "count": count, **(settings or {})})
    if (directory / METADATA).exists():
        return directory
    partial = directory / f".{METADATA}.part"
    done = _complete_lines(partial)
    with partial.open("ab") as file:
        for i in tqdm(range(done, count), "examples", initial=done, total=count, disable=not progress):
            file.write(json_bytes(_write_example(directory, f"{i:06d}", example(i))))
            file.flush()
    partial.replace(directory / METADATA)
    return directory


def _complete_lines(path: Path) -> int:
    """How many whole lines a file holds; the rest of a line that was cut off is removed."""
    if not path.exists():
        return 0
    data = path.read_bytes()
    whole_part = data[: data.rfind(b"\n") + 1]
    if len(whole_part) < len(data):
        write_bytes(path, whole_part)
    return whole_part.count(b"\n")


def _write_example(directory: Path, name: str, example: Example) -> dict[str, Any]:
    """Write the files of one example; returns its line of metadata."""
    row: dict[str, Any] = {}
    if example.clip is not None:
        row["file_name"] = f"{name}.mp4"
        write_mp4(
            directory / f"{name}.mp4", example.clip, int(example.fps or 0), example.sound, example.sound_rate or 1
        )
    elif example.picture is not None:
        row["file_name"] = _picture(directory, f"{name}.png", example.picture)
    if example.before is not None:
        row["before_file_name"] = _picture(directory, f"before/{name}.png", example.before)
    if example.mask is not None:
        row["mask_file_name"] = _picture(directory, f"mask/{name}.png", example.mask)
    if example.references is not None:
        row["references_file_names"] = [
            _picture(directory, f"references/{name}-{k}.png", picture) for k, picture in enumerate(example.references)
        ]
    row |= {"text": example.text, "task": example.task, "seed": example.seed}
    for key in ("actions", "states"):
        if (values := getattr(example, key)) is not None:
            row[key] = values.tolist()
    return row


def _picture(directory: Path, name: str, picture: Any) -> str:
    write_bytes(directory / name, png_bytes(picture))
    return name


def read_metadata(directory: str | Path) -> list[dict[str, Any]]:
    """The lines of the metadata of a finished folder, such as `DIR/train`."""
    lines = (Path(directory) / METADATA).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
