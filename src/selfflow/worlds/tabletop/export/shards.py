"""WebDataset shards: tar files whose members with one stem are one example.

    000012.json           text, task, seed, fps, sound_rate
    000012.png            picture (a still; what an edit leads to; what references compose)
    000012.before.png     000012.mask.png     000012.reference0.png …
    000012.mp4            clip, with its sound; colour at full resolution (yuv444p)
    000012.wav            its sound, 16-bit
    000012.actions.npy    000012.states.npy

The same examples give the same bytes.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from .files import claim_folder, json_bytes, npy_bytes, png_bytes, whole
from .video import mp4_bytes, wav_bytes

if TYPE_CHECKING:
    from ..tasks import Example


def write_shards(
    directory: str | Path,
    example: Callable[[int], Example],
    count: int,
    *,
    split: str = "train",
    per_shard: int = 1000,
    settings: dict[str, Any] | None = None,
    progress: bool = True,
) -> list[Path]:
    """Write `example(0)` to `example(count - 1)` as `directory / {split}-000000.tar`, …; shards already there stay.

    Args:
        directory: of the shards; made if need be.
        example: a sample by index.
        count: how many.
        split: the first part of every shard's name.
        per_shard: examples in a shard; the last may hold fewer.
        settings: what makes this data set what it is, JSON-ready; another run into the folder must agree.
        progress: show a progress bar.

    Returns:
        The shards, in order.

    Raises:
        ValueError: for counts below 1, or a folder that holds something else.
    """
    if count < 1 or per_shard < 1:
        raise ValueError(f"{count} examples in shards of {per_shard}; choose 1 or more of both")
    directory = Path(directory)
    claim_folder(directory / split, {"format": "shards", "count": count, "per_shard": per_shard, **(settings or {})})
    starts = range(0, count, per_shard)
    paths = [directory / split / f"{split}-{k:06d}.tar" for k in range(len(starts))]
    with tqdm(total=count, desc="examples", disable=not progress) as bar:
        for path, start in zip(paths, starts, strict=True):
            indices = range(start, min(start + per_shard, count))
            if path.exists():
                bar.update(len(indices))
                continue
            with whole(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
                for i in indices:
                    for suffix, data in members(example(i)).items():
                        member = tarfile.TarInfo(f"{i:06d}.{suffix}")
                        member.size, member.mode = len(data), 0o644
                        tar.addfile(member, io.BytesIO(data))
                    bar.update()
    return paths


def members(example: Example) -> dict[str, bytes]:
    """The files of an example, by suffix."""
    facts = {"text": example.text, "task": example.task, "seed": example.seed}
    facts |= {key: value for key in ("fps", "sound_rate") if (value := getattr(example, key)) is not None}
    found = {"json": json_bytes(facts)}
    pictures = {"png": example.picture, "before.png": example.before, "mask.png": example.mask}
    pictures |= {f"reference{k}.png": picture for k, picture in enumerate(example.references or ())}
    found |= {name: png_bytes(picture) for name, picture in pictures.items() if picture is not None}
    rate = int(example.sound_rate or 1)
    if example.clip is not None:
        found["mp4"] = mp4_bytes(example.clip, int(example.fps or 0), example.sound, rate, pixels="yuv444p")
    if example.sound is not None:
        found["wav"] = wav_bytes(example.sound, rate)
    arrays = {"actions.npy": example.actions, "states.npy": example.states}
    return found | {name: npy_bytes(array) for name, array in arrays.items() if array is not None}
