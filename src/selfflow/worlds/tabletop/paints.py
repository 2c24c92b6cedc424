"""How colours resemble one another: by their distance in CIELAB, and by their names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from .scene import COLOURS, PAINTS, TONES

GREY = 15.0  # CIELAB from grey, at most, where a colour resembles none of `COLOURS`: those have 37 and more
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # of linear sRGB
_WHITE = np.array([0.9505, 1.0, 1.089])  # D65


@cache
def apart(first: str, second: str) -> float:
    """The distance of two of `PAINTS` in CIELAB (CIE 1976); 2.3 is just seen."""
    return float(np.linalg.norm(lab(PAINTS[first]) - lab(PAINTS[second])))


@cache
def like(colour: str) -> tuple[str, ...]:
    """Which of `COLOURS` a paint resembles: itself; of a tone the nearest, unless grey, and what its name says."""
    if colour not in TONES:
        return (colour,)
    hue = float(np.linalg.norm(lab(PAINTS[colour])[1:]))
    near = [min(COLOURS, key=lambda name: apart(name, colour))] if hue > GREY else []
    return tuple(dict.fromkeys((*near, *(word for word in colour.split() if word in COLOURS))))


def palette(asked: Iterable[str | None]) -> tuple[str, ...]:
    """The colours to read a picture in: `COLOURS`, and the tones that are asked for."""
    return tuple(dict.fromkeys((*COLOURS, *(colour for colour in asked if colour is not None))))


def lab(rgb: Sequence[object] | np.ndarray) -> np.ndarray:
    """CIELAB of sRGB colours in [0, 255], `(..., 3)`: lightness, how red (less green), how yellow (less blue)."""
    value = np.asarray(rgb, np.float64) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    whole = linear @ _XYZ.T / _WHITE
    x, y, z = np.moveaxis(np.where(whole > (6 / 29) ** 3, np.cbrt(whole), whole / (3 * (6 / 29) ** 2) + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
