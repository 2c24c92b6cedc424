"""The emoji64 pack: 22,545 pictures of 3,655 emoji in seven drawing styles, with splits for unseen concepts and unseen
combinations of concept and style."""

from __future__ import annotations

import json
import operator
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from selfflow.data.licences import emoji_licence
from selfflow.data.packs import decode_picture, find, read_npz, square
from selfflow.data.sample import Sample

SPLITS = {"train": 0, "test_concept": 1, "test_combo": 2}
SHARE_ALIKE = ("openmoji",)


@lru_cache(maxsize=2)
def _pack(directory: Path) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    arrays = read_npz(directory / "emoji64.npz")
    lines = (directory / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    return arrays, [json.loads(line) for line in lines]


def caption(emoji: Mapping[str, Any], style: str, variant: int = 0) -> str:
    """Words for an emoji in a style; every variant names the style and all that tells the emoji from its family.

    Args:
        emoji: a record of the pack's captions.
        style: style words, e.g. `"glossy 3D"`.
        variant: 0 is the plain form, which evaluation uses; 1 turns it round; 2 adds two keywords.
    """
    name = str(emoji["name"]).replace(":", ",")
    if variant == 1:
        return f"a {style} style emoji of {name}"
    if variant == 2:
        told = set(name.lower().replace(",", "").split())
        more = [k for k in emoji["keywords"] if not set(k.lower().split()) <= told][:2]
        if more:
            return f"{name} ({', '.join(more)}), {style} style"
    return f"{name}, {style} style"


class Emoji:
    """Captioned emoji.

    Args:
        split: `"train"`, `"test_concept"` (concepts never seen in any style) or `"test_combo"` (seen concept, held-out
            combination of style and variant).
        styles: keep only these (`noto`, `twemoji`, `openmoji`, `blobmoji`, `fluent_3d`, `fluent_color`, `fluent_flat`).
        permissive_only: leave out share-alike styles (openmoji).
        size: pixels; the pack's own are 64.

    Raises:
        PackMissing: when the pack is not here.
        ValueError: for an unknown split or style, or a size outside 8 to 512.
    """

    name = "emoji"

    def __init__(
        self,
        split: str = "train",
        styles: Sequence[str] | None = None,
        permissive_only: bool = False,
        size: int = 64,
        directory: Path | None = None,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        if not 8 <= size <= 512:
            raise ValueError(f"size {size} is not between 8 and 512 pixels")
        self.split, self.size = split, size
        self.arrays, self.emoji = _pack(Path(directory or find("emoji64")))
        self.styles = [str(s) for s in self.arrays["styles"]]
        self.style_words = [str(s) for s in self.arrays["style_words"]]
        wanted = list(self.styles if styles is None else styles)
        if unknown := sorted(set(wanted) - set(self.styles)):
            raise ValueError(f"unknown styles {unknown}; choose from {self.styles}")
        kept = [self.styles.index(s) for s in wanted if not (permissive_only and s in SHARE_ALIKE)]
        if not kept:
            raise ValueError(f"styles {wanted} leave nothing; {', '.join(SHARE_ALIKE)} is share-alike, not permissive")
        self.kept = kept
        self.licence, self.attribution, self.share_alike = emoji_licence([self.styles[style] for style in kept])
        chosen = (self.arrays["split"] == SPLITS[split]) & np.isin(self.arrays["style"], kept)
        self.rows = np.flatnonzero(chosen)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        index = operator.index(index)
        if not 0 <= index < len(self.rows):
            raise IndexError(f"index {index} of {len(self.rows)} emoji")
        return self.at(int(self.rows[index]))

    def at(self, row: int, variant: int | None = None) -> Sample:
        """The picture of a row of the pack, whatever its split; `variant` fixes the form of its caption."""
        record, style = self.record(row), int(self.arrays["style"][row])
        return Sample(
            id=f"emoji/{self.styles[style]}/{row}",
            picture=self.picture(row),
            text=self.text(row, variant),
            meta={"row": row, "emoji": record["emoji"], "style": style, "family": record["family"]},
        )

    def record(self, row: int) -> dict[str, Any]:
        """Name, keywords, family … of the emoji a row shows."""
        return self.emoji[int(self.arrays["emoji"][row])]

    def picture(self, row: int) -> np.ndarray:
        """uint8 `(size, size, 3)`."""
        start, end = self.arrays["offsets"][row : row + 2]
        return square(decode_picture(self.arrays["data"][start:end].tobytes(), f"emoji row {row}"), self.size)

    def text(self, row: int, variant: int | None = None) -> str:
        """The caption of a row. Training takes the plain form for three rows in five, so that it is known best."""
        if variant is None:
            variant = (0, 0, 0, 1, 2)[zlib.crc32(b"%d" % row) % 5] if self.split == "train" else 0
        return caption(self.record(row), self.style_words[int(self.arrays["style"][row])], variant)

    def captions(self) -> Iterator[str]:
        """All captions of the split, without decoding a picture."""
        return (self.text(int(row)) for row in self.rows)

    def families(self) -> dict[str, list[int]]:
        """Rows of every family (the same emoji in all skin tones and styles), over all splits."""
        members: dict[str, list[int]] = {}
        for row, emoji in enumerate(self.arrays["emoji"]):
            members.setdefault(self.emoji[int(emoji)]["family"], []).append(row)
        return members
