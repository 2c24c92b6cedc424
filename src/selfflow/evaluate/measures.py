"""What the suites of many sources share: which held-out samples are asked for, and figures with their intervals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from selfflow.evaluate.distances import bootstrap, frechet, kid, wilson
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
    """How many are right, with a Wilson interval; floor and ceiling are hits as well."""
    hits = np.asarray(hits, bool)
    return Figure(
        float(hits.mean()), *wilson(int(hits.sum()), len(hits)), chance=chance, floor=_average(floor),
        ceiling=_average(ceiling), count=len(hits), note=note, each=each_of(hits),
    )  # fmt: skip


def mean(
    values: Sequence[float] | np.ndarray, options: Options, *, floor: Any = None, ceiling: Any = None, note: str = "",
    judged: bool = True,
) -> Figure:  # fmt: skip
    """The mean of what is finite, with a bootstrap interval; floor and ceiling are values as well.

    Raises:
        ValueError: when no value is finite.
    """
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found)]
    if not len(found):
        raise ValueError("there is no finite value to take the mean of")
    return Figure(
        float(found.mean()), *bootstrap(found, seed=options.seed), floor=_average(floor), ceiling=_average(ceiling),
        count=len(found), note=note, judged=judged, each=each_of(values),
    )  # fmt: skip


def unsurprised(losses: Sequence[tuple[float, float]], what: str, options: Options) -> Figure:
    """The share of pairs, (loss on the possible, loss on the impossible), in which what can be surprises less."""
    values = np.array([1.0 if can < cannot else 0.5 if can == cannot else 0.0 for can, cannot in losses])
    return Figure(
        float(values.mean()), *bootstrap(values, seed=options.seed), chance=0.5, count=len(values),
        note=f"share of pairs with the lower loss on the possible {what}", each=each_of(values),
    )  # fmt: skip


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
        wrong: features of what must be told apart: the floor.
    """
    components = min(COMPONENTS, reference.shape[1], len(reference) - 1)

    def distance(x: np.ndarray) -> float:
        return frechet(x, reference, components)

    # The spread over halves is the error of the whole, as in `kid`; resampling would repeat samples, and lie too high.
    rng, half, value = np.random.default_rng(options.seed), max(2, len(made) // 2), distance(made)
    spread = np.std([distance(made[rng.permutation(len(made))[:half]]) for _ in range(50)], ddof=1)
    low, high = max(0.0, value - 1.96 * float(spread)), value + 1.96 * float(spread)
    note = f"lower is better; {components} components"
    figures = {"fréchet": Figure(value, low, high, None, distance(wrong), distance(true), len(made), note)}
    if min(len(made), len(reference)) >= 4:
        value, error = kid(made, reference, seed=options.seed)
        figures["kid"] = Figure(
            value, value - 1.96 * error, value + 1.96 * error, None, kid(wrong, reference, seed=options.seed)[0],
            kid(true, reference, seed=options.seed)[0], len(made), "lower is better",
        )  # fmt: skip
    return figures


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
