"""Sheets: many pictures on one, each with its caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

LEAST_CELL = 128  # pixels; captions are unreadable in less
GAP, TEXT_SIZE, LINE, MOST_LINES = 8, 11, 13, 4


def sheet(pictures: Sequence[np.ndarray] | np.ndarray, captions: Sequence[str], columns: int, path: str | Path) -> Path:
    """Write pictures in rows of `columns`, captions under them, as a PNG.

    Small pictures are enlarged by a whole number, so that their pixels stay square and sharp. Rows are as tall as their
    longest caption needs, up to four lines.

    Args:
        pictures: uint8 `(H, W, 3)` each, all of one size.
        captions: one for each; an empty one takes no room.

    Raises:
        ValueError: for no pictures, pictures of several sizes, or another number of captions.
    """
    from PIL import Image, ImageDraw, ImageFont

    from selfflow.pictures import save_png

    shapes = {p.shape for p in pictures}
    if len(shapes) != 1 or len(captions) != len(pictures) or columns < 1:
        raise ValueError(
            f"a sheet takes pictures of one size, a caption for each and at least one column; got {len(pictures)} of "
            f"shapes {sorted(shapes)}, {len(captions)} captions, {columns} columns"
        )
    height, width = pictures[0].shape[:2]
    scale = max(1, -(-LEAST_CELL // width))
    height, width = height * scale, width * scale
    font = ImageFont.load_default(TEXT_SIZE)
    texts = [wrap(caption, width, font) for caption in captions]
    starts = range(0, len(pictures), columns)
    room = [max(len(lines) for lines in texts[s : s + columns]) * LINE for s in starts]
    columns = min(columns, len(pictures))
    canvas = Image.new(
        "RGB", (GAP + columns * (width + GAP), GAP + sum(height + r + GAP for r in room)), (246, 246, 246)
    )
    pen, top = ImageDraw.Draw(canvas), GAP
    for start, text_height in zip(starts, room, strict=True):
        for column, i in enumerate(range(start, min(start + columns, len(pictures)))):
            left = GAP + column * (width + GAP)
            picture = Image.fromarray(np.asarray(pictures[i]))
            canvas.paste(picture.resize((width, height), Image.Resampling.NEAREST), (left, top))
            for k, line in enumerate(texts[i]):
                pen.text((left, top + height + 1 + k * LINE), line, fill=(30, 30, 30), font=font)
        top += height + text_height + GAP
    return save_png(canvas, Path(path))


def wrap(text: str, width: float, font: Any) -> list[str]:
    """Lines of words no wider than `width` where words allow it; what is beyond four lines becomes an ellipsis."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > MOST_LINES:
        lines = [*lines[: MOST_LINES - 1], lines[MOST_LINES - 1] + " …"]
    return lines
