"""What a sign says, letter by letter: each place is compared with all of A to Z, so any word is read, not only known
ones."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from . import font
from .geometry import LETTER_HEIGHT, LETTER_WIDTH, sign_board
from .render import INK, PAPER, dark_letters
from .scene import PAINTS, Thing

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
UNREAD = "?"  # stands for a letter that looks like none
LEAST = 0.45  # correlation with the best letter, below which none was read
_PHASES = 8
_COARSE = (-0.5, -0.25, 0.0, 0.25, 0.5)  # pixels that a board may have been misplaced by
_CLOSE = (-0.125, 0.0, 0.125)
_FINE = 4
_MARGIN = 16  # pixels added around the picture, for signs that leave it


@lru_cache(maxsize=4096)
def _alphabet(cell: float, capital: float, phase_x: int, phase_y: int) -> tuple[np.ndarray, np.ndarray]:
    """The 26 letters, float32 (26, rows · columns), and the root of how much each pixel counts, (rows · columns).

    A letter's space, `cell` wide and `capital` high (pixels), has its lower left corner `phase / _PHASES` of a pixel
    right of and below that of the patch's pixel one in from the left and from the bottom. What lies outside of it
    belongs to its neighbours, and does not count.
    """
    rows, columns = _patch(cell, capital)
    x = (np.arange(columns * _FINE) + 0.5) / _FINE - 1 - phase_x / _PHASES
    y = rows - (np.arange(rows * _FINE) + 0.5) / _FINE - 1 + phase_y / _PHASES
    u, v = np.broadcast_arrays((x / capital)[None, :].astype(np.float32), (y / capital)[:, None].astype(np.float32))
    # Q hangs below the line; any further, a light wall would pass for light letters.
    within = (u > 0) & (u < cell / capital) & (v > -1.2 / capital) & (v < 1 + 0.8 / capital)
    # Pixels that its neighbours share count little: their ink is in them too.
    root = np.sqrt(np.maximum(2 * _mean(within, rows, columns) - 1, 0))
    covers = [np.clip(0.5 - font.distance(letter, u, v) * (capital * _FINE), 0, 1) * within for letter in LETTERS]
    return _standard(np.stack([_mean(cover, rows, columns) for cover in covers]), root), root


def _mean(fine: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return fine.reshape(rows, _FINE, columns, _FINE).mean(axis=(1, 3)).ravel().astype(np.float32)


def _patch(cell: float, capital: float) -> tuple[int, int]:
    return math.ceil(capital) + 3, math.ceil(cell) + 3


def _standard(values: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Values, weighted by the square of `root`, with mean 0 and norm 1 along the last axis; times `root`."""
    weight = root * root
    values = (values - (values @ weight / weight.sum())[..., None]) * root
    return values / np.maximum(np.sqrt((values * values).sum(axis=-1, keepdims=True)), 1e-3)


def read_word(colours: np.ndarray, sign: Thing) -> tuple[str, float]:
    """What a sign says, and how well its letters fit.

    Args:
        colours: float32 (size, size, 3), the picture.
        sign: upright, where it was found; of its word only the length is used.

    Returns:
        `(word, fit)`: `UNREAD` in place of a letter that looks like none, and the mean correlation in [-1, 1].
    """
    size, count = len(colours), len(sign.word)
    capital = LETTER_HEIGHT[sign.size] * size
    cell = LETTER_WIDTH * capital
    board = np.array(PAINTS[sign.colour], np.float32)
    way = np.float32(255 * (INK if dark_letters(sign.colour) else PAPER)) - board
    ink = np.pad(((colours - board) @ way) / float(way @ way), _MARGIN, mode="edge")
    left = sign.x * size - count * cell / 2
    foot = size - (sign.y + 0.05 + (sign_board(sign.size, count)[1] - LETTER_HEIGHT[sign.size]) / 2) * size  # row
    coarse = [(_letters(ink, left + right, foot + down, cell, capital, count), down, right)
              for down in _COARSE for right in _COARSE]  # fmt: skip
    _, down, right = max(coarse)
    (fit, word) = max(
        _letters(ink, left + right + x, foot + down + y, cell, capital, count) for y in _CLOSE for x in _CLOSE
    )
    return word, fit


def _letters(ink: np.ndarray, left: float, foot: float, cell: float, capital: float, count: int) -> tuple[float, str]:
    """The mean correlation, and the letters, of a word whose first letter's lower left corner is there, in pixels."""
    rows, columns = _patch(cell, capital)
    row, phase_y = divmod(round(foot * _PHASES), _PHASES)
    top = min(max(row + 1 - rows + _MARGIN, 0), len(ink) - rows)
    word, total = "", 0.0
    for k in range(count):
        column, phase_x = divmod(round((left + k * cell) * _PHASES), _PHASES)
        start = min(max(column - 1 + _MARGIN, 0), len(ink) - columns)
        letters, root = _alphabet(cell, capital, phase_x, phase_y)
        scores = letters @ _standard(ink[top : top + rows, start : start + columns].reshape(-1), root)
        at = int(scores.argmax())
        word += LETTERS[at] if scores[at] >= LEAST else UNREAD
        total += float(scores[at])
    return total / count, word
