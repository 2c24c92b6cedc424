"""Picture files: PNG with metadata, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from PIL.Image import Image
from PIL.PngImagePlugin import PngInfo


def check_png(path: Path) -> None:
    """Whether a picture can be written there, for who asks before it is drawn.

    Raises:
        ValueError: when the path does not end in .png.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path} does not end in .png; pictures are written as PNG")


def save_png(image: Image, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a PNG under a temporary name, then rename it. `metadata` becomes text chunks; empty writes none.

    Raises:
        ValueError: when the path does not end in .png.
    """
    check_png(path)
    info = PngInfo()
    for key, value in (metadata or {}).items():
        info.add_itxt(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    image.save(temporary, "PNG", pnginfo=info)
    os.replace(temporary, path)
    return path
