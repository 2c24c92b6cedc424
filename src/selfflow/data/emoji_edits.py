"""Emoji as edits: the pack's pairs (before, instruction, after), and the same emoji in another style."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from selfflow.data.emoji import Emoji
from selfflow.data.indexed import Indexed
from selfflow.data.packs import find, read_npz
from selfflow.data.sample import Sample
from selfflow.worlds.tabletop.edits import differing
from selfflow.worlds.tabletop.scene import check_known, pick

TRAIN, IGNORED = 0, 3  # of the pack's split; 1 and 2 are the test: concepts, and combinations, never seen


@lru_cache(maxsize=2)
def _pairs(directory: Path) -> dict[str, np.ndarray]:
    return read_npz(directory / "emoji64_pairs.npz")


def _family(emoji: Emoji, row: int) -> str:
    return str(emoji.record(row)["family"])


class EmojiEdits(Indexed):
    """`before` → instruction → picture, within one style; the mask is where the two differ, grown by a pixel.

    Training draws the kind of edit first, by the number of its pairs to the power `balance`: at 1 every pair is as
    likely as any other, which makes three of four a skin tone; at 0 every kind is. The test goes through all held-out
    pairs in the pack's order: first or last picture of a concept never seen, or of a combination of style and variant
    never seen. `meta`: `before`, `after` (rows of the pack), `kind`, `style` (index), `family` (of the result), and
    `unseen`, 1 for concepts and 2 for combinations.

    Args:
        kinds: keep only these (`clock`, `colour`, `direction`, `expression`, `gender`, `hair`, `keycap_text`,
            `moon_phase`, `skin_tone`, `skin_tone_one_of_two`, `symbol`).
        styles, permissive_only: as `Emoji`.

    Raises:
        PackMissing: when the pack is not here.
        ValueError: for an unknown split, kind or style, a size out of range, or when nothing is left.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        kinds: Collection[str] = (),
        styles: Sequence[str] | None = None,
        permissive_only: bool = False,
        balance: float = 0.5,
        directory: Path | None = None,
    ) -> None:
        self.emoji = emoji = Emoji("train", styles, permissive_only, size, directory)
        self.licence, self.attribution, self.share_alike = emoji.licence, emoji.attribution, emoji.share_alike
        self.arrays, kept = emoji.arrays, emoji.kept
        self.pairs = _pairs(Path(directory or find("emoji64")))
        self.kinds = [str(kind) for kind in self.pairs["types"]]
        for kind in kinds:
            check_known("kind", kind, self.kinds)
        if not 0 <= balance <= 1:
            raise ValueError(f"balance {balance} is not between 0 and 1")
        held_out, style = self.pairs["split"] != TRAIN, self.arrays["style"]
        chosen = held_out if split == "test" else ~held_out
        chosen = chosen & np.isin(style[self.pairs["before"]], kept)
        chosen &= np.isin(style[self.pairs["after"]], kept)
        if kinds:
            chosen &= np.isin(self.pairs["type"], [self.kinds.index(kind) for kind in kinds])
        self.chosen = np.flatnonzero(chosen)
        super().__init__("emoji-edits", len(self.chosen), size, split, seed)
        by_kind = [self.chosen[self.pairs["type"][self.chosen] == kind] for kind in range(len(self.kinds))]
        self._by_kind = [rows for rows in by_kind if len(rows)]
        weights = np.array([len(rows) ** balance for rows in self._by_kind])
        self._shares = np.cumsum(weights) / weights.sum()

    def pair(self, index: int) -> int:
        """The row of the pack's pairs that a sample shows."""
        if self.split == "test":
            return int(self.chosen[self.checked(index)])
        rng = self.rng(self.checked(index))
        rows = self._by_kind[min(int(np.searchsorted(self._shares, rng.random(), "right")), len(self._by_kind) - 1)]
        return int(rows[int(rng.random() * len(rows))])

    def text(self, index: int) -> str:
        return str(self.pairs["instructions"][self.pairs["instruction"][self.pair(index)]])

    def sample(self, index: int) -> Sample:
        pair = self.pair(index)
        first, last = int(self.pairs["before"][pair]), int(self.pairs["after"][pair])
        before, after = self.emoji.picture(first), self.emoji.picture(last)
        about = {
            "before": first,
            "after": last,
            "kind": self.kinds[int(self.pairs["type"][pair])],
            "style": int(self.arrays["style"][last]),
            "family": _family(self.emoji, last),
            "unseen": int(self.pairs["split"][pair]),
        }
        mask = differing(before, after)
        return Sample(self.id(index), after, self.text(index), about, references=(before,), mask=mask)

    def captions(self) -> Iterator[str]:
        """Every instruction once."""
        return (str(text) for text in self.pairs["instructions"])


class EmojiStyles(Indexed):
    """An emoji drawn in a style that is asked for in words, or shown.

        kind     references                                   text
        redraw   the same emoji in another style              "redraw in glossy 3D style"
        style    1 to 3 other emoji in the wanted style       "red apple, in the style of these pictures"

    Each picture of the split is once the result of each kind, kinds in turn. References of training are from training;
    those that show the style in a test, too. `meta`: `kind`, `row` (of the result), `rows` (of the references), `style`
    (index) and `family`.

    Args:
        kinds: of `"redraw"`, `"style"`.
        styles, permissive_only: as `Emoji`.

    Raises:
        PackMissing: when the pack is not here.
        ValueError: for an unknown split, kind or style, a size out of range, or fewer than two styles.
    """

    REDRAW = ("redraw in {} style", "draw this in {} style", "the same emoji in {} style")
    ONE = ("{}, in the style of picture 1", "{} in the style of this picture", "{}, drawn like picture 1")
    SEVERAL = ("{}, in the style of these pictures", "{} in the style of the pictures", "{}, drawn like these pictures")

    def __init__(
        self,
        split: str = "train",
        size: int = 64,
        seed: int = 0,
        kinds: Sequence[str] = ("redraw", "style"),
        styles: Sequence[str] | None = None,
        permissive_only: bool = False,
        directory: Path | None = None,
    ) -> None:
        self.emoji = emoji = Emoji("train", styles, permissive_only, size, directory)
        self.licence, self.attribution, self.share_alike = emoji.licence, emoji.attribution, emoji.share_alike
        self.arrays, kept = emoji.arrays, emoji.kept
        for kind in kinds:
            check_known("kind", kind, ("redraw", "style"))
        if len(kept) < 2:
            raise ValueError(f"redrawing needs two styles or more; there is only {styles}")
        self.kinds = tuple(kinds)
        parts, style = self.arrays["split"], self.arrays["style"]
        chosen = parts == TRAIN if split == "train" else (parts != TRAIN) & (parts != IGNORED)
        table = self.arrays["table"][:, kept]
        usable = parts != IGNORED if split == "test" else parts == TRAIN
        self._others = np.where((table >= 0) & usable[table], table, -1)
        several = (self._others >= 0).sum(axis=1) > 1  # else there is nothing to redraw it from
        rows = np.flatnonzero(chosen & np.isin(style, kept))
        self._rows = {"style": rows, "redraw": rows[several[self.arrays["emoji"][rows]]]}
        super().__init__("emoji-styles", sum(len(self._rows[k]) for k in self.kinds), size, split, seed)
        self._shown = {s: np.flatnonzero((parts == TRAIN) & (style == s)).tolist() for s in kept}

    def plan(self, index: int) -> tuple[str, int, list[int], str]:
        """Kind, row of the result, rows of the references and text of a sample."""
        index = self.checked(index)
        rng = self.rng(index)
        kind, place = self._place(index)
        row = int(self._rows[kind][place])
        style = int(self.arrays["style"][row])
        form = 0 if self.split == "test" else int(rng.random() * 3)
        if kind == "redraw":
            others = self._others[self.arrays["emoji"][row]]
            source = pick(rng, [int(r) for r in others if r >= 0 and r != row])
            return kind, row, [source], self.REDRAW[form].format(self.emoji.style_words[style])
        count, rows, families = 1 + int(rng.random() * 3), list[int](), {_family(self.emoji, row)}
        while len(rows) < count:
            shown = pick(rng, self._shown[style])
            if _family(self.emoji, shown) not in families:
                rows.append(shown)
                families.add(_family(self.emoji, shown))
        name = str(self.emoji.record(row)["name"]).replace(":", ",")
        return kind, row, rows, (self.ONE if count == 1 else self.SEVERAL)[form].format(name)

    def _place(self, index: int) -> tuple[str, int]:
        """Kinds in turn while all have rows left, then what remains."""
        counts = {kind: len(self._rows[kind]) for kind in self.kinds}
        even = min(counts.values())
        if index < even * len(self.kinds):
            return self.kinds[index % len(self.kinds)], index // len(self.kinds)
        longest = max(counts, key=lambda kind: counts[kind])
        return longest, index - even * (len(self.kinds) - 1)

    def text(self, index: int) -> str:
        return self.plan(index)[3]

    def sample(self, index: int) -> Sample:
        kind, row, rows, text = self.plan(index)
        about = {"kind": kind, "row": row, "rows": rows, "style": int(self.arrays["style"][row])}
        about["family"] = _family(self.emoji, row)
        references = tuple(self.emoji.picture(other) for other in rows)
        return Sample(self.id(index), self.emoji.picture(row), text, about, references=references)
