"""Spoken digits: six men, fifty takes of each digit (the Free Spoken Digit Dataset)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from selfflow.data.indexed import Indexed
from selfflow.data.licences import PACKS
from selfflow.data.packs import find, read_npz
from selfflow.data.sample import Sample
from selfflow.data.waves import doubled, levelled, loudest, placed

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FORMS = (
    "a man saying {word}",
    "the digit {word}, spoken by {speaker}",
    "{speaker} says {word}",
    "a voice says the digit {digit}",
    "someone saying {word}",
    "the spoken digit {digit}",
)
LEAD = 0.05  # seconds before a digit begins; in training up to as much again


def check_seconds(seconds: float, variants: int) -> None:
    """Raise ValueError unless a sound may be so long and come up so often."""
    if not 0.1 <= seconds <= 3.0:
        raise ValueError(f"{seconds} seconds of sound; choose 0.1 to 3")
    if variants < 1:
        raise ValueError(f"{variants} variants of a sound; choose 1 or more")


@lru_cache(maxsize=1)
def _pack(directory: Path) -> dict[str, np.ndarray]:
    return read_npz(directory / "fsdd8k.npz")


class SpokenDigits(Indexed):
    """Recordings of one digit each, all equally loud, brought from 8 to 16 kHz, in the official split.

    Each recording comes up `variants` times: first in plain words and `LEAD` seconds after the beginning; then in other
    words, some of which name the speaker, and a little later. The test has the first only. What is longer than
    `seconds` is cut to its loudest part. `meta`: `row` (of the pack), `digit`, `speaker`, `take`.

    Args:
        seconds: of a sample, 0.1 to 3.
        variants: of each recording, in training.
        rate: samples a second: 16000, or 8000 as recorded.

    Raises:
        PackMissing: when the pack is not here.
        ValueError: for an unknown split or rate, or lengths out of range.
    """

    licence, attribution, share_alike = PACKS["fsdd8k"]

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        seconds: float = 0.8,
        variants: int = 4,
        rate: int = 16_000,
        directory: Path | None = None,
    ) -> None:
        check_seconds(seconds, variants)
        self.pack = _pack(Path(directory or find("fsdd8k")))
        self.recorded = int(self.pack["rate"])
        if rate not in (self.recorded, 2 * self.recorded):
            raise ValueError(f"rate {rate}; choose {self.recorded} or {2 * self.recorded} samples a second")
        self.rows = np.flatnonzero((self.pack["test"] != 0) == (split == "test"))
        super().__init__("digits", len(self.rows) * (variants if split == "train" else 1), size, split, seed)
        self.rate, self.length_recorded = rate, round(seconds * self.recorded)

    def _told(self, index: int) -> tuple[int, str, np.random.Generator | None]:
        """The row of the pack, the words, and random numbers for a variant other than the first."""
        variant, place = divmod(self.checked(index), len(self.rows))
        row = int(self.rows[place])
        rng = self.rng(index) if variant else None
        form = FORMS[0] if rng is None else FORMS[int(rng.random() * len(FORMS))]
        digit, speaker = int(self.pack["label"][row]), self.pack["speakers"][self.pack["speaker"][row]]
        return row, form.format(word=WORDS[digit], digit=digit, speaker=speaker), rng

    def text(self, index: int) -> str:
        return self._told(index)[1]

    def sample(self, index: int) -> Sample:
        row, text, rng = self._told(index)
        begin, end = self.pack["offsets"][row : row + 2]
        wave = levelled(self.pack["audio"][begin:end] / np.float32(32768))
        length = self.length_recorded
        if len(wave) > length:
            start = loudest(wave, length)
        else:
            lead = LEAD if rng is None else LEAD * (1 + rng.random())
            start = -min(round(lead * self.recorded), length - len(wave))
        sound = placed(wave, length, start, self.recorded)
        if self.rate != self.recorded:
            sound = np.clip(doubled(sound), -1, 1)
        about = {
            "row": row,
            "digit": int(self.pack["label"][row]),
            "speaker": str(self.pack["speakers"][self.pack["speaker"][row]]),
            "take": int(self.pack["take"][row]),
        }
        return Sample(self.id(index), None, text, about, sound=sound, sound_rate=self.rate)
