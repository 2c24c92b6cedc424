"""Several pictures are shown, and one of them is spoken of: by its number, and often by nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from selfflow.data.indexed import Indexed
from selfflow.data.licences import GENERATED
from selfflow.data.sample import Sample
from selfflow.data.tabletop_tasks import TabletopTask
from selfflow.worlds.tabletop.scene import pick

_AS_IT_IS = ("picture {0}", "show picture {0}", "picture {0} as it is")
_CHANGED = ("in picture {0}, {1}", "{1} in picture {0}")
_SHOWN = (2, 2, 3, 4)


class TabletopAmong(Indexed):
    """Edits of one of two to four pictures, and pictures that are to be shown again.

        in turn    text                                  picture
        0          "picture 2"                           the second, as it is
        1          "in picture 1, paint the ball red"    the first, changed

    What a composition has to find before all else, which picture a number means, is here the whole of it: every patch
    of the picture to be made says whether the right one was found, and in its own place. `meta`: `number`, of the
    picture that is meant.

    Args:
        count: samples.
        memory, directory: of the edits whose pictures these are (`TabletopTask`).

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
        self.edits = TabletopTask("edit", count, size, split, seed, memory=memory, directory=directory)
        super().__init__("tabletop-among", count, size, split, seed)

    def _meant(self, index: int) -> tuple[list[int], int]:
        """The edits whose first pictures are shown, and the place of the one that is meant among them."""
        rng = self.rng(index)
        shown = min(pick(rng, _SHOWN), self.length)
        place = int(rng.random() * shown)
        others = [(index + 1 + int(rng.random() * (self.length - 1))) % self.length for _ in range(shown - 1)]
        return [*others[:place], index, *others[place:]], place

    def _told(self, index: int, place: int, instruction: str) -> str:
        return pick(self.rng(index), _CHANGED if index % 2 else _AS_IT_IS).format(place + 1, instruction)

    def text(self, index: int) -> str:
        return self._told(index, self._meant(index)[1], self.edits.text(index))

    def sample(self, index: int) -> Sample:
        rows, place = self._meant(index)
        own, changed = self.edits[index], bool(index % 2)
        shown = tuple((own if row == index else self.edits[row]).references[0] for row in rows)
        return Sample(
            self.id(index),
            own.picture if changed else own.references[0],
            self._told(index, place, own.text),
            {"number": place + 1},
            references=shown,
            mask=own.mask if changed else None,
        )

    def captions(self) -> Iterator[str]:
        """Texts to learn a vocabulary from."""
        return (self._told(i, self._meant(i)[1], text) for i, text in enumerate(self.edits.captions()))
