"""How colours resemble one another: by their distance in CIELAB, and by their names."""

from __future__ import annotations

import math
from functools import cache

from .scene import COLOURS, PAINTS, TONES

GREY = (
    15.0  # of a colour, its distance from grey: with less it resembles none of `COLOURS`, of which each has 45 or more
)
_WHITE = (0.9505, 1.0, 1.089)  # D65


@cache
def apart(first: str, second: str) -> float:
    """The distance of two of `PAINTS` in CIELAB (CIE 1976); 2.3 is just seen."""
    return math.dist(_lab(first), _lab(second))


@cache
def like(colour: str) -> tuple[str, ...]:
    """Which of `COLOURS` a paint resembles: itself; of a tone the nearest, unless grey, and what its name says."""
    if colour not in TONES:
        return (colour,)
    _, *hue = _lab(colour)
    near = [min(COLOURS, key=lambda name: apart(name, colour))] if math.hypot(*hue) > GREY else []
    return tuple(dict.fromkeys((*near, *(word for word in colour.split() if word in COLOURS))))


@cache
def _lab(colour: str) -> tuple[float, float, float]:
    """Of an sRGB colour: lightness, and how red (less green) and yellow (less blue) it is."""
    r, g, b = (_linear(value / 255) for value in PAINTS[colour])
    x, y, z = (
        _root(value / white)
        for value, white in zip(
            (0.4124 * r + 0.3576 * g + 0.1805 * b, 0.2126 * r + 0.7152 * g + 0.0722 * b,
             0.0193 * r + 0.1192 * g + 0.9505 * b), _WHITE, strict=True,
        )
    )  # fmt: skip
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)


def _root(value: float) -> float:
    return math.cbrt(value) if value > (6 / 29) ** 3 else value / (3 * (6 / 29) ** 2) + 4 / 29
