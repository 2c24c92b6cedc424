"""The data that needs no download: captioned tabletop scenes, drawn from a seed as they are asked for."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator

import numpy as np

from selfflow.data.sample import Sample
from selfflow.worlds.tabletop.draw import draw
from selfflow.worlds.tabletop.language import caption, parse
from selfflow.worlds.tabletop.render import check_size, render
from selfflow.worlds.tabletop.scene import KINDS, SIZES, Scene, check_known, generator
from selfflow.worlds.tabletop.split import SPLITS, novel
from selfflow.worlds.tabletop.split import split as split_of
from selfflow.worlds.tabletop.verdict import Score


class TabletopScenes:
    """`count` scenes of one split, each fixed by (split, seed, index).

    A scene of the train split shows nothing held out; a caption of the test split says something held out, so no
    caption of the test split is ever seen in training. `size` is that of the pictures, uint8 (size, size, 3); the
    scenes and captions do not depend on it. Only `kinds` and `sizes` are drawn, all where empty, and at most `most`
    things, up to three by default. `meta["scene"]` holds the `Scene`.

    Raises ValueError for a count below 1, a size outside 16 to 1024, an unknown split, kind or size of things, a `most`
    outside 1 to 3, or a negative seed, and IndexError for an index outside 0 to count - 1.
    """

    name = "tabletop"

    def __init__(
        self,
        count: int = 20_000,
        size: int = 64,
        split: str = "train",
        seed: int = 0,
        kinds: Collection[str] = (),
        sizes: Collection[str] = (),
        most: int = 3,
    ) -> None:
        if count < 1:
            raise ValueError(f"count {count} is no number of scenes; choose 1 or more")
        check_size(size)
        if split not in SPLITS:
            raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
        for kind in kinds:
            check_known("kind", kind, KINDS)
        for name in sizes:
            check_known("size", name, tuple(SIZES))
        if not 1 <= most <= 3:
            raise ValueError(f"at most {most} things were asked for; choose 1 to 3")
        generator(seed)
        self.kinds, self.sizes, self.most = tuple(kinds) or KINDS, frozenset(sizes or SIZES), most
        self._told: dict[int, tuple[Scene, str]] = {}  # drawing a scene takes longer than rendering it
        self.count, self.size, self.split, self.seed = count, size, split, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        index = operator.index(index)
        if not 0 <= index < self.count:
            raise IndexError(f"index {index} of {self.count} scenes; choose 0 to {self.count - 1}")
        scene, text = self.told(index)
        name = f"tabletop/{self.split}/{self.seed}/{index}"
        return Sample(id=name, picture=render(scene, self.size), text=text, meta={"scene": scene})

    def judge(self, asked: Sample, picture: np.ndarray) -> Score:
        """How well a picture uint8 `(size, size, 3)` shows what a sample's caption says."""
        from selfflow.worlds.tabletop.check import score_text

        return score_text(picture, asked.text)

    def captions(self) -> Iterator[str]:
        """All captions, without drawing a picture."""
        return (self.told(index)[1] for index in range(self.count))

    def told(self, index: int) -> tuple[Scene, str]:
        """The scene of an index and its caption."""
        if index not in self._told:
            self._told[index] = self._tell(index)
        return self._told[index]

    def _tell(self, index: int) -> tuple[Scene, str]:
        rng = generator(self.seed, index)
        while True:
            scene = draw(rng, kinds=self.kinds)
            if len(scene.things) > self.most or any(thing.size not in self.sizes for thing in scene.things):
                continue
            if split_of(scene) != self.split:
                continue
            text = caption(scene, rng)
            # A test scene may be told by its old parts only ("a ball and a cup"): then another scene is drawn.
            if self.split == "train" or novel(parse(text)):
                return scene, text
