"""Files that are there whole or not at all, and folders that know what they hold."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SETTINGS = ".tabletop.json"  # hidden, so that readers of data sets pass it by


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, and vanishes when it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a whole file."""
    with whole(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """JSON in UTF-8, keys in their order. Raises ValueError for NaN, which is no JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent).encode() + b"\n"


def png_bytes(picture: np.ndarray) -> bytes:
    """A picture uint8 `(H, W, 3)`, or a mask bool `(H, W)`, as PNG.

    Raises ValueError for another shape or dtype.
    """
    picture = np.asarray(picture)
    if picture.dtype == bool and picture.ndim == 2:
        picture = picture.astype(np.uint8) * 255
    elif picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
        raise ValueError(f"a picture is uint8 (H, W, 3) or bool (H, W), not {picture.dtype} {picture.shape}")
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def npy_bytes(array: np.ndarray) -> bytes:
    """An array as .npy."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def claim_folder(directory: Path, settings: dict[str, Any]) -> None:
    """Note what a folder is to hold, so that a stopped run goes on with the same, and only with the same.

    Raises:
        ValueError: when it already holds something else, naming the first setting that differs.
    """
    path = directory / SETTINGS
    if not path.exists():
        write_bytes(path, json_bytes(settings, indent=2))
        return
    present = json.loads(path.read_text(encoding="utf-8"))
    for name in (*settings, *(present.keys() - settings.keys())):
        if present.get(name) != settings.get(name):
            raise ValueError(
                f"{directory} already holds a data set with {name} {present.get(name)!r}, not {settings.get(name)!r}; "
                "choose another folder, or the same settings to go on where it stopped"
            )
