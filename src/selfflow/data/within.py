"""Things of every kind in cups and glasses: what stands in a glass is what its words say, and no longer a ball."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from selfflow.data.indexed import Indexed
from selfflow.data.licences import GENERATED
from selfflow.data.sample import Sample
from selfflow.data.tabletop_tasks import opened
from selfflow.worlds.tabletop.draw import lay, look
from selfflow.worlds.tabletop.language import caption
from selfflow.worlds.tabletop.layout import rest, shape
from selfflow.worlds.tabletop.relations import hollow, in_
from selfflow.worlds.tabletop.render import check_size, render
from selfflow.worlds.tabletop.scene import KINDS, Scene, Thing, pick
from selfflow.worlds.tabletop.split import split
from selfflow.worlds.tabletop.verdict import Score

_HOLDERS = ("glass", "glass", "cup")
_HELD = tuple(kind for kind in KINDS if kind != "ball")  # balls are in every other source's
_ALONE = 0.6  # share of scenes with nothing beside
_ROOM = 0.9  # of what is free sideways, how much may be taken: nothing stands against a wall


class TabletopWithin(Indexed):
    """Captioned scenes in which a cup or a glass holds a thing of any kind that fits between its walls.

    Of two kinds of things that the world puts in a glass one is held out of training, so all its glasses hold balls,
    and "in a glass" says "ball" as well as the word does. Here glasses hold hands and books, too, and only the word
    tells. What stands out above the rim does; whether it would stay so is not asked. Held out is what always is
    (`worlds.tabletop.split`).

    Args:
        directory, memory: of what was drawn (`TabletopTask`).

    Raises:
        ValueError: as `TabletopTask`.
    """

    licence, attribution, share_alike = GENERATED
    told = 3000

    def __init__(
        self,
        count: int = 20_000,
        size: int = 64,
        split: str = "train",
        seed: int = 0,
        memory: int = 512 << 20,
        directory: Path | None = None,
    ) -> None:
        super().__init__("tabletop-within", count, size, split, seed)
        check_size(size)
        self.store = opened(memory, directory)

    def sample(self, index: int) -> Sample:
        found = self.store.get(f"within-{self.size}-{self.seed}-{index}-{self.split}", lambda: self._drawn(index))
        return Sample(self.id(index), found["picture"], str(found["text"]))

    def judge(self, asked: Sample, picture: np.ndarray) -> Score:
        """How well a picture uint8 `(size, size, 3)` shows what a sample's caption says."""
        from selfflow.worlds.tabletop.check import score_text

        return score_text(picture, asked.text)

    def _drawn(self, index: int) -> dict[str, np.ndarray]:
        rng = self.rng(index)
        while True:
            scene = draw_within(rng)
            if scene is not None and split(scene) == self.split:
                return {"text": np.array(caption(scene, rng)), "picture": render(scene, self.size)}


def draw_within(rng: np.random.Generator) -> Scene | None:
    """A scene in which a cup or a glass holds something; None where what was drawn does not fit."""
    holder = _standing(look(rng, pick(rng, _HOLDERS), pick(rng, ("medium", "large"))))
    held = look(rng, pick(rng, [kind for kind in _HELD if kind != holder.kind]), "small", {holder.colour})
    space = hollow(holder)
    assert space is not None  # upright
    left, bottom, right, _ = shape(held)
    spare = _ROOM * (space[2] - space[0] - (right - left))
    if spare < 0:
        return None
    middle = (space[0] + space[2] - left - right + (rng.random() - 0.5) * spare) / 2
    held = held.at(round(middle, 6), round(space[1] - bottom, 6))
    if not in_((held, holder), 0, 1):
        return None
    columns = [[held, holder]]
    if rng.random() > _ALONE:
        columns.insert(int(rng.random() * 2), [_standing(look(rng, pick(rng, KINDS)))])
    return lay(rng, columns)


def _standing(thing: Thing) -> Thing:
    placed = rest(thing, None)
    assert placed is not None  # everything stands on a table
    return placed
