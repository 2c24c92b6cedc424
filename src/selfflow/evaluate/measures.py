"""What the suites of many sources share: which held-out samples are asked for, and figures with their intervals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from selfflow.evaluate.distances import around_mean, frechet, kid_of_halves, paired, wilson
from selfflow.evaluate.grid import sheet
from selfflow.evaluate.protocol import Figure, Options, each_of

Panel = tuple[np.ndarray, str]
COMPONENTS = 16  # principal axes of a Fréchet distance: few enough for a hundred samples


def held_out(name: str, pipe: Any, **more: Any) -> Any:
    """The test split of a source of `selfflow.data.registry`, as the model's configuration has its pictures and clips.

    Raises:
        PackMissing: when its data pack is not here.
        ValueError: for share-alike data, where the model is to have seen permissive data only.
    """
    return opened(name, pipe, "test", **more)


def opened(name: str, pipe: Any, split: str, **more: Any) -> Any:
    """A split of a source, as the model's configuration has it."""
    from selfflow.data.registry import open_named

    data = pipe.config.data
    return open_named(
        name, pipe.config.picture.size, split, data.frames, permissive_only=data.permissive_only, **more
    )  # fmt: skip


def chosen(length: int, count: int, seed: int) -> list[int]:
    """`count` of `length` indices (all, where there are fewer) in random order; a smaller count is a part of a larger.

    Raises:
        ValueError: when there is nothing to choose from.
    """
    if length < 1:
        raise ValueError("there are no held-out samples to choose from")
    return [int(i) for i in np.random.default_rng(seed).permutation(length)[:count]]


def in_turn(categories: Sequence[Hashable], count: int, seed: int) -> list[int]:
    """`count` indices such that every category has its turn, in random order within each."""
    queues: dict[Hashable, list[int]] = {}
    for i in chosen(len(categories), len(categories), seed):
        queues.setdefault(categories[i], []).append(i)
    order = sorted(queues, key=str)
    found: list[int] = []
    for depth in range(max(map(len, queues.values()))):
        found += [queues[name][depth] for name in order if depth < len(queues[name])]
        if len(found) >= count:
            break
    return found[:count]


def share(
    hits: Sequence[Any] | np.ndarray,
    *,
    chance: float | None = None,
    floor: Any = None,
    ceiling: Any = None,
    note: str = "",
) -> Figure:
    """How many are right, with a Wilson interval; a tie is half right.

    Args:
        hits: of each sample.
        floor: those of the floor, sample by sample; or a number, where it is exact.
        ceiling: hits, or a number.
    """
    found = np.asarray(hits, np.float64)
    value, interval = float(found.mean()), wilson(float(found.sum()), len(found))
    return _figure(found, value, interval, chance=chance, floor=floor, ceiling=ceiling, note=note)


def mean(
    values: Sequence[float] | np.ndarray, options: Options, *, floor: Any = None, ceiling: Any = None, note: str = "",
    judged: bool = True, unit: bool = False,
) -> Figure:  # fmt: skip
    """The mean of what is finite, with its interval (`around_mean`; `unit` as there); floor and ceiling as in `share`.

    Raises:
        ValueError: when no value is finite.
    """
    every = np.asarray(values, np.float64)
    found = every[np.isfinite(every)]
    if not len(found):
        raise ValueError("there is no finite value to take the mean of")
    interval = around_mean(found, options.seed, unit)
    return _figure(
        every, float(found.mean()), interval, floor=floor, ceiling=ceiling, note=note, judged=judged, seed=options.seed
    )


def _figure(
    each: np.ndarray, value: float, interval: tuple[float | None, float | None], *, floor: Any, ceiling: Any,
    chance: float | None = None, note: str = "", judged: bool = True, seed: int = 0,
) -> Figure:  # fmt: skip
    """A mean with what it is compared with: sample by sample with a floor that was measured."""
    measured = np.ndim(floor) > 0
    return Figure(
        value, *interval, chance=chance, floor=_average(floor), ceiling=_average(ceiling),
        count=int(np.isfinite(each).sum()), note=note, judged=judged, each=each_of(each),
        floor_each=each_of(floor) if measured else None, margin=paired(each, floor, seed) if measured else None,
    )  # fmt: skip


def unsurprised(losses: Sequence[tuple[float, float]], what: str) -> Figure:
    """The share of pairs, (loss on the possible, loss on the impossible), in which what can be surprises less."""
    hits = [1.0 if can < cannot else 0.5 if can == cannot else 0.0 for can, cannot in losses]
    return share(hits, chance=0.5, note=f"share of pairs with the lower loss on the possible {what}")


def _average(values: Any) -> float | None:
    return None if values is None else float(np.nanmean(np.asarray(values, np.float64)))


def error_where(pictures: np.ndarray, true: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean absolute difference `(n,)` in levels, of the pixels of `where` `(n, H, W)`; NaN where there are none."""
    apart = np.abs(pictures.astype(np.float32) - true.astype(np.float32)).mean(axis=3)
    counts = where.sum(axis=(1, 2)).astype(np.float64)
    return np.where(counts > 0, (apart * where).sum(axis=(1, 2)) / np.maximum(counts, 1), np.nan)


def distances(
    made: np.ndarray, true: np.ndarray, wrong: np.ndarray, reference: np.ndarray, options: Options
) -> dict[str, Figure]:
    """Fréchet and kernel distance of features to `reference` (real, of other prompts).

    Args:
        made, true: features of what was made, and of what is real: the ceiling, since small sets are never at 0.
        wrong: features of what must be told apart, one for each that was made: the floor.
    """
    components = min(COMPONENTS, reference.shape[1], len(reference) - 1)

    def distance(x: np.ndarray) -> float:
        return frechet(x, reference, components)

    rng, half = np.random.default_rng(options.seed), max(2, len(made) // 2)
    some = [rng.permutation(len(made))[:half] for _ in range(50)]
    halves = [np.array([distance(x[rows]) for rows in some]) for x in (made, wrong)]
    note = f"lower is better; {components} components"
    figures = {"fréchet": _of_halves([distance(x) for x in (made, wrong, true)], halves, 0.0, len(made), note)}
    if min(len(made), len(reference)) >= 4:
        figures["kid"] = kid_figure(made, true, wrong, reference, options)
    return figures


def kid_figure(
    made: np.ndarray, true: np.ndarray, wrong: np.ndarray, reference: np.ndarray, options: Options, note: str = ""
) -> Figure:
    """Kernel distance of features, as in `distances`."""
    halves = [kid_of_halves(x, reference, seed=options.seed) for x in (made, wrong, true)]
    note = f"lower is better; {note}" if note else "lower is better"
    return _of_halves([float(x.mean()) for x in halves], halves, -np.inf, len(made), note)


def _of_halves(whole: Sequence[float], halves: Sequence[np.ndarray], least: float, count: int, note: str) -> Figure:
    """A distance of what was made, the floor and the ceiling; and of the first two for the same halves of the samples.

    The spread over halves is the error of the whole, as in `kid`; resampling would repeat samples, and lie too high.
    """
    value, floor, ceiling = whole
    reach, apart = (1.96 * float(np.std(x, ddof=1)) for x in (halves[0], halves[0] - halves[1]))
    return Figure(
        value, max(least, value - reach), value + reach, floor=floor, ceiling=ceiling, count=count, note=note,
        margin=[value - floor - apart, value - floor + apart],
    )  # fmt: skip


def draw_sheet(rows: Sequence[Sequence[Panel]], options: Options, across: int = 6) -> None:
    """Rows of panels, all of one size and number, as the sheet of a suite; nothing where none is wanted."""
    if options.sheet is None or not rows:
        return
    panels = [panel for row in rows[: options.sheet_rows] for panel in row]
    columns = len(rows[0]) * max(1, across // len(rows[0]))
    sheet([p for p, _ in panels], [caption for _, caption in panels], columns, options.sheet)


def grown(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture of whatever size as one of `size`, for a sheet."""
    from selfflow.data.packs import square

    return picture if picture.shape[:2] == (size, size) else square(picture, size)
