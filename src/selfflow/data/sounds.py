"""Named sounds: drums, tabla, bells, blips and loops (the Sonic Pi samples)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from selfflow.data.digits import check_seconds
from selfflow.data.indexed import Indexed
from selfflow.data.licences import PACKS
from selfflow.data.packs import find, read_npz
from selfflow.data.sample import Sample
from selfflow.data.waves import levelled, placed

RATE = 16_000


@lru_cache(maxsize=1)
def _pack(directory: Path) -> dict[str, np.ndarray]:
    found = read_npz(directory / "sonicpi16k.npz")
    # The recordings are stored as second differences, in zigzag order, high and low bytes apart.
    zigzag = (found.pop("hi").astype(np.uint16) << 8) | found.pop("lo")
    second = ((zigzag >> 1) ^ (np.uint16(0) - (zigzag & 1))).view(np.int16)
    first = np.cumsum(second, dtype=np.int16)
    return found | {"audio": np.cumsum(first, dtype=np.int16)}


class NamedSounds(Indexed):
    """Recordings at 16 kHz under their names, such as "drum kit: cowbell", all equally loud.

    Each comes up `variants` times: first from its beginning, by its plain name; then, where it is longer than
    `seconds`, also from elsewhere in it, and in other words. The test has the first only. A taster: 195 sounds, most
    unlike each other. `meta`: `row` (of the pack), `name`.

    Args:
        seconds: of a sample, 0.1 to 3; what is shorter ends in silence.
        variants: of each recording, in training.

    Raises:
        PackMissing: when the pack is not here.
        ValueError: for an unknown split, or lengths out of range.
    """

    licence, attribution, share_alike = PACKS["sonicpi_cc0_16k"]

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        seconds: float = 0.8,
        variants: int = 8,
        directory: Path | None = None,
    ) -> None:
        check_seconds(seconds, variants)
        self.pack = _pack(Path(directory or find("sonicpi_cc0_16k")))
        self.rows = np.flatnonzero((self.pack["test"] != 0) == (split == "test"))
        super().__init__("sounds", len(self.rows) * (variants if split == "train" else 1), size, split, seed)
        self.length_heard = round(seconds * RATE)

    def text(self, index: int) -> str:
        variant, place = divmod(self.checked(index), len(self.rows))
        name = str(self.pack["caption"][self.rows[place]])
        return (name, name.replace(": ", ", "), f"the sound of {name.replace(': ', ', ')}")[variant % 3]

    def sample(self, index: int) -> Sample:
        variant, place = divmod(index, len(self.rows))
        row = int(self.rows[place])
        begin, end = self.pack["offsets"][row : row + 2]
        wave = levelled(self.pack["audio"][begin:end] / np.float32(32768))
        spare = max(0, len(wave) - self.length_heard)
        start = int(self.rng(index).random() * (spare + 1)) if variant else 0
        sound = levelled(placed(wave, self.length_heard, start, RATE))
        about = {"row": row, "name": str(self.pack["name"][row])}
        return Sample(self.id(index), None, self.text(index), about, sound=sound, sound_rate=RATE)
