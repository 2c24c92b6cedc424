"""What every source by index shares: checked arguments, its own random numbers, rights."""

from __future__ import annotations

import operator
import zlib
from collections.abc import Iterator
from itertools import islice

import numpy as np

from selfflow.data.packs import square
from selfflow.data.sample import Sample
from selfflow.worlds.tabletop.scene import check_known, generator

SPLITS = ("train", "test")
MOST_FRAMES = 512


class Indexed:
    """A source of `length` samples, each fixed by (name, split, seed, index).

    Attributes:
        name: under which `selfflow.data.registry` knows it.
        licence, attribution, share_alike: of its data; see `selfflow.data.licences`.
    """

    licence: str
    attribution: str
    share_alike: bool
    # How many texts `captions` tells: all where a text costs nothing, fewer where a sample has to be made for it.
    told = 1 << 62

    def __init__(self, name: str, length: int, size: int, split: str, seed: int) -> None:
        """Raises ValueError for an empty source, an unknown split, a negative seed or a size outside 8 to 512."""
        check_known("split", split, SPLITS)
        if length < 1:
            raise ValueError(f"{name} has {length} samples; choose 1 or more")
        if not 8 <= size <= 512:
            raise ValueError(f"size {size} is not between 8 and 512 pixels")
        generator(seed)
        self.name, self.length, self.size, self.split, self.seed = name, length, size, split, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        """Raises IndexError beyond the end, `DecodeError` for a broken record."""
        return self.sample(self.checked(index))

    def checked(self, index: int) -> int:
        """The index as an int. Raises IndexError unless it is one of the source's."""
        index = operator.index(index)
        if not 0 <= index < self.length:
            raise IndexError(f"index {index} of {self.name}; choose 0 to {self.length - 1}")
        return index

    def sample(self, index: int) -> Sample:
        raise NotImplementedError

    def text(self, index: int) -> str:
        """The text of a sample, without its picture, clip or sound where that is possible."""
        return self[index].text

    def captions(self) -> Iterator[str]:
        """Texts to learn a vocabulary from: those of the first `told` samples."""
        return islice((self.text(i) for i in range(self.length)), self.told)

    def id(self, index: int) -> str:
        return f"{self.name}/{self.split}/{self.seed}/{index}"

    def rng(self, index: int) -> np.random.Generator:
        """Random numbers of a sample's own. Take `random()` only: numpy promises no other stream for good."""
        return generator(zlib.crc32(self.name.encode()), SPLITS.index(self.split), self.seed, index)


def check_frames(frames: int) -> None:
    """Raise ValueError unless a clip may have this many frames."""
    if not 1 <= frames <= MOST_FRAMES:
        raise ValueError(f"a clip of {frames} frames; choose 1 to {MOST_FRAMES}")


def squares(clip: np.ndarray, size: int) -> np.ndarray:
    """The frames of a clip, uint8 `(f, H, W, 3)`, at `size` pixels."""
    if clip.shape[1:3] == (size, size):
        return clip
    return np.stack([square(frame, size) for frame in clip])
