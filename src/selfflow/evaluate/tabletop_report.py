"""What the tabletop suites share: fixed prompts, figures with floor and ceiling, sheets of best and worst."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from selfflow.evaluate.grid import sheet
from selfflow.evaluate.measures import mean, share
from selfflow.evaluate.protocol import Figure, Options, seed_of

if TYPE_CHECKING:
    from selfflow.data.scenes import TabletopScenes
    from selfflow.worlds.tabletop.tasks import Example
    from selfflow.worlds.tabletop.verdict import Score

T = TypeVar("T")


def examples(task: str, size: int, options: Options, count: int | None = None) -> list[Example]:
    """The `options.samples` examples of the test split that a suite asks for: fixed by task, seed and place alone.

    Args:
        count: of references, where there are to be as many in each; fixed by it, too.
    """
    from selfflow.worlds.tabletop.tasks import example

    # A seed's rest decides its kind of edit (8) or motion (6): so each has its turn.
    name = task if count is None else f"{task}, {count}"
    seeds = (seed_of("tabletop", name, options.seed, i) // 24 * 24 + i % 24 for i in range(options.samples))
    return [example(task, seed, size=size, split="test", count=count) for seed in seeds]


def asked_scenes(pipe: Any, count: int, seed: int) -> TabletopScenes:
    """Held-out captions and their scenes, of such things as the model was trained on."""
    from selfflow.data.scenes import TabletopScenes

    shown = {k: v for k in ("kinds", "sizes", "most") if (v := getattr(getattr(pipe.config, "data", None), k, None))}
    return TabletopScenes(count, pipe.config.picture.size, "test", seed, **shown)


def require(pipe: object, method: str, suite: str, signature: str) -> Callable[..., Any]:
    """The method of a model that a suite needs. Raises ValueError if the model has none."""
    found = getattr(pipe, method, None)
    if not callable(found):
        raise ValueError(
            f"suite {suite} needs a model with {method}({signature}); {type(pipe).__name__} has none. "
            "See selfflow.evaluate and docs/tabletop.md"
        )
    return found


def in_batches(call: Callable[..., Sequence[T]], inputs: Sequence[Any], options: Options) -> list[T]:
    """`call(*inputs[rows], generator=…, **options.sampling)` for all rows, a batch at a time.

    Row i gets a generator of its own, seeded by (`options.drawn`, i): its result does not depend on the batch. Steps
    and guidance are left to the model where the options do not say.

    Raises:
        ValueError: when another number of results comes back than was asked for.
    """
    from tqdm import tqdm

    results: list[T] = []
    count = len(inputs[0])
    for start in tqdm(range(0, count, options.batch), "samples", unit="batch", disable=not options.progress):
        rows = range(start, min(start + options.batch, count))
        generators = [torch.Generator().manual_seed(seed_of("tabletop", options.drawn, i)) for i in rows]
        found = call(
            *(column[rows.start : rows.stop] for column in inputs), generator=generators, **options.sampling
        )  # fmt: skip
        if len(found) != len(rows):
            raise ValueError(f"the model was asked for {len(rows)} results and returned {len(found)}")
        results.extend(found)
    return results


def figures_of(
    found: Sequence[Score],
    ceiling: Sequence[Score],
    floor: Sequence[Score],
    categories: Sequence[Sequence[str]],
    options: Options,
    checks: Sequence[str] = (),
    names: tuple[str, str] = ("score", "without fault"),
) -> dict[str, Figure]:
    """The mean score, the share without fault, the mean by category and by check.

    Args:
        found, ceiling, floor: scores of the model's results, of true ones, and of what must fail; one a sample.
        categories: of each sample, any number.
        checks: names of facts in [0, 1] that each score holds; None among them (nothing to check) is passed over, and
            where the floor has nothing else, there is none.
        names: of the first two figures.
    """
    values, best, least = (np.array([s.value for s in scores]) for scores in (found, ceiling, floor))
    clean = [np.array([not s.faults for s in scores]) for scores in (found, ceiling, floor)]
    figures = {
        names[0]: mean(values, options, ceiling=best, floor=least, unit=True),
        names[1]: share(clean[0], ceiling=clean[1], floor=clean[2]),
    }
    for category in sorted({c for row in categories for c in row}):
        rows = np.array([category in row for row in categories])
        figures[f"{names[0]}, {category}"] = mean(
            values[rows], options, ceiling=best[rows], floor=least[rows], unit=True
        )
    for check in checks:
        columns = [
            np.array([np.nan if s.facts.get(check) is None else float(s.facts[check]) for s in scores])  # type: ignore[arg-type]
            for scores in (found, ceiling, floor)
        ]
        if all(np.isfinite(c).any() for c in columns[:2]):
            bar = columns[2] if np.isfinite(columns[2]).any() else None
            figures[check] = mean(columns[0], options, ceiling=columns[1], floor=bar, unit=True)
    return figures


def baseline(scores: Sequence[Score], options: Options, note: str) -> Figure:
    """A second floor, as a figure of its own."""
    return mean([s.value for s in scores], options, note=note, judged=False, unit=True)


def report(
    figures: dict[str, Figure],
    found: Sequence[Score],
    prompts: Sequence[str],
    panels: Callable[[int], list[tuple[np.ndarray, str]]],
    options: Options,
) -> dict[str, Any]:
    """What a suite returns, and its sheet: best, median and worst samples, each a row of panels.

    Args:
        figures: by name.
        found: scores of the model's results.
        prompts: what was asked, one a sample.
        panels: of sample i: pictures of one size, each with a caption; the second is the model's.
    """
    if options.sheet is not None:
        pictures, captions = [], []
        chosen = best_median_worst([s.value for s in found], max(1, options.sheet_rows // 6))
        for label, i in chosen:
            row = panels(i)
            said = "; ".join(found[i].faults) or "no fault"
            for k, (picture, caption) in enumerate(row):
                pictures.append(picture)
                captions.append(f"{label}, {found[i].value:.2f}: {said}" if k == 1 else caption)
        sheet(pictures, captions, len(row) * max(1, 6 // len(row)), options.sheet)
    worst = sorted(range(len(found)), key=lambda i: found[i].value)[:8]
    return {
        "figures": figures,
        "scores": [round(s.value, 6) for s in found],
        "faults": dict(Counter(fault for s in found for fault in s.faults).most_common(12)),
        "worst": [{"prompt": prompts[i], "score": found[i].value, "faults": list(found[i].faults)} for i in worst],
    }


def best_median_worst(values: Sequence[float], each: int) -> list[tuple[str, int]]:
    """`each` indices of the best, the middle and the worst values, with their label; none twice."""
    order = [int(i) for i in np.argsort(-np.asarray(values), kind="stable")]
    each = min(each, max(1, len(order) // 3))
    middle = (len(order) - each) // 2
    parts = {
        "best": order[:each],
        "median": [i for i in order[middle : middle + each] if i not in order[:each]],
        "worst": [i for i in order[-each:] if i not in order[: middle + each]],
    }
    return [(label, i) for label, indices in parts.items() for i in indices]


def shifted(items: Sequence[T]) -> list[T]:
    """Each item replaced by the next one: flawless examples of something else."""
    return [*items[1:], items[0]]
