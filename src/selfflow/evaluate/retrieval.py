"""Family retrieval: is a generated picture nearest to the true one, among the pictures it is most easily mistaken for?

Every generated picture has its own candidates: real pictures of close kin, e.g. one emoji in all skin tones and styles.
It scores when the nearest of them (by the cosine of centred features) is the one that was asked for.

The ceiling cannot be the true pictures themselves, since each is nearest to itself by definition. It is the true
pictures disturbed so that no pixel can be matched exactly (`disturbed`), and those robbed of fine detail (`coarse`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from selfflow.evaluate.distances import wilson
from selfflow.evaluate.features import check_pictures


@dataclass(frozen=True)
class Retrieval:
    """Top-1 accuracy over `count` questions, its 95 % Wilson interval, what blind guessing would get, and every hit."""

    accuracy: float
    low: float
    high: float
    chance: float
    count: int
    hits: tuple[bool, ...]

    @property
    def times_chance(self) -> float:
        return self.accuracy / self.chance


@dataclass(frozen=True)
class Question:
    """Which candidate is the right one.

    Attributes:
        candidates: rows of the pictures to choose from, one for each distinct picture.
        right: which of them shows what was asked for.
    """

    candidates: tuple[int, ...]
    right: int


def ask(pictures: Mapping[int, np.ndarray], rows: Sequence[int], target: int) -> Question:
    """The question whose candidates are `rows`, with identical pictures merged into one, and whose answer is `target`.

    Raises:
        ValueError: when the target is not among the rows.
    """
    if target not in rows:
        raise ValueError(f"the target {target} is not among the candidates {list(rows)}")
    first: dict[bytes, int] = {}
    for row in rows:
        first.setdefault(pictures[row].tobytes(), row)
    candidates = tuple(first.values())
    return Question(candidates, candidates.index(first[pictures[target].tobytes()]))


def retrieve(
    generated: np.ndarray, questions: Sequence[Question], real: Mapping[int, np.ndarray], centre: np.ndarray
) -> Retrieval:
    """Score generated pictures.

    Args:
        generated: features `(k, f)`.
        questions: one for each; those with a single candidate are left out.
        real: features `(f,)` by row.
        centre: `(f,)`, mean of real features, subtracted from all: what every picture shares should not count.

    Raises:
        ValueError: when no question has two candidates.
    """
    if len(generated) != len(questions):
        raise ValueError(f"{len(generated)} pictures came with {len(questions)} questions; give one each")
    hits, chances = [], []
    for feature, question in zip(generated, questions, strict=True):
        if len(question.candidates) < 2:
            continue
        others = _unit(np.stack([real[row] for row in question.candidates]) - centre)
        hits.append(int((others @ _unit(feature - centre)).argmax()) == question.right)
        chances.append(1 / len(question.candidates))
    if not hits:
        raise ValueError("no question has two candidates or more; there is nothing to retrieve")
    low, high = wilson(sum(hits), len(hits))
    return Retrieval(float(np.mean(hits)), low, high, float(np.mean(chances)), len(hits), tuple(hits))


def disturbed(pictures: np.ndarray, seed: int = 0) -> np.ndarray:
    """Shift by 1 or 2 pixels each way, blur lightly (1 2 1 binomial) and add noise of 2 grey levels.

    Args:
        pictures: uint8 `(n, H, W, 3)`.
    """
    check_pictures(pictures)
    rng = np.random.default_rng(seed)
    height, width = pictures.shape[1:3]
    padded = np.pad(pictures.astype(np.float32), ((0, 0), (3, 3), (3, 3), (0, 0)), mode="edge")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    blurred = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4
    shifts = rng.integers(1, 3, (len(pictures), 2)) * rng.choice([-1, 1], (len(pictures), 2))
    moved = np.stack(
        [b[2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width] for b, (dy, dx) in zip(blurred, shifts, strict=True)]
    )
    return (moved + rng.normal(0, 2, moved.shape)).round().clip(0, 255).astype(np.uint8)


def coarse(pictures: np.ndarray, side: int = 32) -> np.ndarray:
    """Average down to `side` pixels and bring back to size (bicubic): right in all but detail.

    Args:
        pictures: uint8 `(n, H, W, 3)`.
    """
    check_pictures(pictures)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float()
    small = F.interpolate(x, size=(side, side), mode="area")
    back = F.interpolate(small, size=tuple(x.shape[2:]), mode="bicubic").round().clamp(0, 255)
    return back.permute(0, 2, 3, 1).to(torch.uint8).numpy()


def shuffled(pictures: np.ndarray, tiles: int = 4, seed: int = 0) -> np.ndarray:
    """`tiles` × `tiles` pieces of each picture exchanged among themselves: right in all but how it hangs together.

    Args:
        pictures: uint8 `(n, H, W, 3)`, whose sides `tiles` divides.
    """
    check_pictures(pictures)
    n, height, width, _ = pictures.shape
    if height % tiles or width % tiles:
        raise ValueError(f"pictures of {height} × {width} pixels do not divide into {tiles} × {tiles} pieces")
    pieces = pictures.reshape(n, tiles, height // tiles, tiles, width // tiles, 3).swapaxes(2, 3)
    pieces = pieces.reshape(n, tiles * tiles, height // tiles, width // tiles, 3)
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(tiles * tiles), (n, 1)), axis=1)
    moved = np.take_along_axis(pieces, order[:, :, None, None, None], axis=1)
    return moved.reshape(n, tiles, tiles, height // tiles, width // tiles, 3).swapaxes(2, 3).reshape(pictures.shape)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
