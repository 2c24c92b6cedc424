"""Photographs of hands that sign the digits: fingers that can be counted."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from selfflow.data.digits import WORDS
from selfflow.data.indexed import Indexed
from selfflow.data.licences import PACKS
from selfflow.data.packs import decode_picture, find, read_npz, square
from selfflow.data.sample import Sample

_SHAPES = (
    "a hand with its fingers closed to an O",
    "a hand with one finger raised",
    "a hand with two fingers raised",
    "a hand with the thumb and two fingers raised",
    "a hand with four fingers raised",
    "an open hand with five fingers raised",
    "a hand with the thumb touching the little finger",
    "a hand with the thumb touching the ring finger",
    "a hand with the thumb touching the middle finger",
    "a hand with the thumb touching the index finger",
)


@lru_cache(maxsize=1)
def _pack(directory: Path) -> dict[str, np.ndarray]:
    return read_npz(directory / "signdigits64.npz")


class Hands(Indexed):
    """Hands that sign 0 to 9 in American Sign Language.

    Each picture comes up three times in training: as "a hand signing the digit 7", as "a photo of a hand signing
    seven", and by what the fingers do. The test has the first only. `meta`: `row` (of the pack), `digit`, and `fingers`
    raised, for 0 to 5, else None.

    Raises:
        PackMissing: when the pack is not here.
        ValueError: for an unknown split, or a size out of range.
    """

    licence, attribution, share_alike = PACKS["signdigits64"]

    def __init__(self, split: str = "train", size: int = 64, seed: int = 0, directory: Path | None = None) -> None:
        self.pack = _pack(Path(directory or find("signdigits64")))
        self.rows = np.flatnonzero((self.pack["test"] != 0) == (split == "test"))
        super().__init__("hands", len(self.rows) * (3 if split == "train" else 1), size, split, seed)

    def text(self, index: int) -> str:
        variant, place = divmod(self.checked(index), len(self.rows))
        digit = int(self.pack["label"][self.rows[place]])
        return (f"a hand signing the digit {digit}", f"a photo of a hand signing {WORDS[digit]}", _SHAPES[digit])[
            variant
        ]

    def sample(self, index: int) -> Sample:
        row = int(self.rows[index % len(self.rows)])
        start, end = self.pack["offsets"][row : row + 2]
        picture = decode_picture(self.pack["data"][start:end].tobytes(), f"hand {row}")
        digit = int(self.pack["label"][row])
        about = {"row": row, "digit": digit, "fingers": digit if digit <= 5 else None}
        return Sample(self.id(index), square(picture, self.size), self.text(index), about)
