"""Capital letters as signed distances: DejaVu Sans Mono Bold, measured once by `make.py` into `letters.png`.

Sampling a stored distance gives letters of any height at any angle, from 6 pixels to hundreds, and the same bytes on
every machine: no FreeType is asked. The licence of the font stands beside it.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ..geometry import LETTER_WIDTH
from .make import CAPITAL, CELL, LETTERS, PAD, STEPS


@lru_cache(maxsize=1)
def _atlas() -> np.ndarray:
    with Image.open(Path(__file__).with_name("letters.png")) as picture:
        grey = np.asarray(picture, np.float32)
    return ((grey - np.float32(128)) / np.float32(STEPS * CAPITAL)).astype(np.float32)


@lru_cache(maxsize=256)
def _texture(word: str) -> np.ndarray:
    """Signed distance to a word in heights of a capital, float32 (CAPITAL + 2 PAD + 2, CELL letters + 2)."""
    places = [LETTERS.find(letter) for letter in word]
    if not word or min(places) < 0:
        raise ValueError(f"no letters for {word!r}; the font has A-Z")
    return np.pad(np.concatenate([_atlas()[:, i * CELL : (i + 1) * CELL] for i in places], axis=1), 1, mode="edge")


def distance(word: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Signed distance to a word, in heights of a capital, negative inside.

    Args:
        word: letters A-Z, else a ValueError.
        u: rightwards from the left end, in heights of a capital; the word is `LETTER_WIDTH` a letter wide.
        v: upwards from the base line, in the same unit; same shape as u.
    """
    texture = _texture(word)
    rows, columns = texture.shape
    x = np.clip(u * (CELL / LETTER_WIDTH) + 0.5, 0, columns - 1.001)
    y = np.clip((1 - v) * CAPITAL + (PAD + 0.5), 0, rows - 1.001)
    left, top = x.astype(np.int32), y.astype(np.int32)
    x, y = x - left.astype(np.float32), y - top.astype(np.float32)
    flat, at = texture.reshape(-1), top * columns + left
    upper = flat[at] + x * (flat[at + 1] - flat[at])
    at += columns
    lower = flat[at] + x * (flat[at + 1] - flat[at])
    return upper + y * (lower - upper)
