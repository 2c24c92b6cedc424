"""Signs seen from near: letters of more than a patch, where those of a whole table have less."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from selfflow.data.indexed import Indexed
from selfflow.data.licences import GENERATED
from selfflow.data.sample import Sample
from selfflow.data.tabletop_tasks import opened
from selfflow.worlds.tabletop.scene import Thing, check_known
from selfflow.worlds.tabletop.tasks import example

NEARER = 1.5  # times: of 64 pixels the largest sign takes 57
_ASIDE = 0.03  # of the picture's side, at most, between its middle and the sign's
_TASKS = ("still", "edit")


class TabletopNear(Indexed):
    """A sign in the middle of the picture, half as large again as on the table: a still, or an edit of its word.

    In a scene a word is a few pixels, and where its letters stand is open until the sign is drawn; here it is much of
    the picture, and in its middle. What is told is what would be of a table, after "seen from near"; signs bear any
    letters (`worlds.tabletop.spelling`).

    Args:
        task: `"still"` or `"edit"`.
        directory, memory: of what was drawn (`TabletopTask`).

    Raises:
        ValueError: for another task, and as `TabletopTask`.
    """

    licence, attribution, share_alike = GENERATED
    told = 3000

    def __init__(
        self,
        task: str = "still",
        count: int = 20_000,
        size: int = 64,
        split: str = "train",
        seed: int = 0,
        memory: int = 512 << 20,
        directory: Path | None = None,
    ) -> None:
        check_known("task", task, _TASKS)
        super().__init__("tabletop-near" if task == "still" else "tabletop-near-words", count, size, split, seed)
        self.task = task
        self.store = opened(memory, directory)

    def sample(self, index: int) -> Sample:
        name = f"near-{NEARER}-{_ASIDE}-{self.task}-{self.size}-{self.seed}-{index}-{self.split}"
        found = self.store.get(name, partial(self._drawn, index))
        shown = () if self.task == "still" else (found["before"],)
        return Sample(
            self.id(index), found["picture"], str(found["text"]), {}, references=shown, mask=found.get("mask")
        )

    def _drawn(self, index: int) -> dict[str, np.ndarray]:
        number = self.seed * 10**9 + index
        kinds, count = (("sign",), 1) if self.task == "still" else (("change word",), None)
        one = example(self.task, number, round(NEARER * self.size), self.split, count=count, kinds=kinds, letters=True)
        scene: Any = one.truth
        sign = scene.things[0] if self.task == "still" else scene.before.things[scene.index]
        cut = self._cut(index, sign)
        pictures = {"picture": one.picture, "before": one.before, "mask": one.mask}
        kept = {name: np.ascontiguousarray(array[cut]) for name, array in pictures.items() if array is not None}
        return {"text": np.array(f"seen from near, {one.text}")} | kept

    def _cut(self, index: int, sign: Thing) -> tuple[slice, slice]:
        """Rows and columns of the large picture, about the sign and a little aside."""
        rng = self.rng(index)
        middle = (1 - sign.y, sign.x)  # rows go down
        first: Sequence[int] = [
            int(np.clip(NEARER * at + _ASIDE * (2 * rng.random() - 1) - 0.5, 0, NEARER - 1) * self.size)
            for at in middle
        ]
        return slice(first[0], first[0] + self.size), slice(first[1], first[1] + self.size)
