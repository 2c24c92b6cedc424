"""Makes `letters.png` from the font beside it: `python make.py`. Only for whoever changes the font.

The package ships the result, so that a letter is the same bytes whatever version of FreeType a machine has.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CAPITAL, PAD, CELL = 60, 12, 48  # texels: height of a capital, room above and below, width of a letter with its space
FINE = 8  # pixels a texel while measuring
STEPS = 10  # grey levels a texel of distance; 128 is the outline, less is inside


def _distance(letter: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """Signed distance in texels to the outline of a letter, (CAPITAL + 2 PAD, CELL)."""
    rows, columns = (CAPITAL + 2 * PAD) * FINE, CELL * FINE
    picture = Image.new("L", (columns, rows), 0)
    middle = (columns / 2, (PAD + CAPITAL) * FINE)
    ImageDraw.Draw(picture).text(middle, letter, font=font, fill=255, anchor="ms")
    if letter == "Q":  # its tail is drawn up to the base line, so that a word is one capital high and Q is no O
        _, top, _, bottom = picture.getbbox() or (0, 0, columns, rows)
        squeezed = picture.crop((0, top, columns, bottom)).resize((columns, CAPITAL * FINE))
        picture.paste(0, (0, 0, columns, rows))
        picture.paste(squeezed, (0, PAD * FINE))
    inside = np.asarray(picture) > 127
    down, right = np.nonzero(inside[1:] != inside[:-1]), np.nonzero(inside[:, 1:] != inside[:, :-1])
    edge_y = np.concatenate([down[0] + 1.0, right[0] + 0.5])
    edge_x = np.concatenate([down[1] + 0.5, right[1] + 1.0])
    y, x = (np.arange(CAPITAL + 2 * PAD) + 0.5) * FINE, (np.arange(CELL) + 0.5) * FINE
    squared = [((row - edge_y) ** 2 + (x[:, None] - edge_x) ** 2).min(axis=1) for row in y]
    sign = np.where(inside[FINE // 2 :: FINE, FINE // 2 :: FINE], -1.0, 1.0)
    return sign * np.sqrt(np.stack(squared)) / FINE


def main() -> None:
    path = str(HERE / "DejaVuSansMono-Bold-subset.ttf")
    points = 1000
    _, top, _, bottom = ImageFont.truetype(path, points).getbbox("H", anchor="ls")
    font = ImageFont.truetype(path, points * CAPITAL * FINE / (bottom - top))
    cells = [np.clip(128 + STEPS * _distance(letter, font), 0, 255) for letter in LETTERS]
    Image.fromarray(np.concatenate(cells, axis=1).round().astype(np.uint8)).save(HERE / "letters.png", optimize=True)


if __name__ == "__main__":
    main()
