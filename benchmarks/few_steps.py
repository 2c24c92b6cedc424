"""A flow map beside its teacher: quality at 1, 2, 4 and 8 steps against 25 and 50 guided ones, on the same seeds.

    python benchmarks/few_steps.py --teacher DIR --few DIR [--samples 64] [--json FILE]

For held-out captions of the tabletop, both draw from the same noise. Reported of each number of steps: the error in
pixels, in [0, 1], to the teacher's picture of most steps (root of the mean square; beside it the same of the teacher
with as few steps); the share of captions' facts that pictures show; and seconds a picture. `--edits` does the same for
held-out edits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfflow.data.scenes import TabletopScenes
from selfflow.evaluate.distances import bootstrap
from selfflow.evaluate.protocol import Options, seed_of
from selfflow.evaluate.tabletop_report import examples
from selfflow.pipeline import Pipeline
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from selfflow.worlds.tabletop.check import score_edit, score_text
from timing import machine

FEW, MANY = (1, 2, 4, 8), (25, 50)
Draw = Callable[[Pipeline, int, slice, list[torch.Generator]], np.ndarray]
Score = Callable[[int, np.ndarray], float]


def captions(size: int, samples: int, seed: int, data: Any) -> tuple[list[str], Draw, Score]:
    """Held-out captions: their names, how to draw some of them, and how right a picture is, in [0, 1]."""
    shown = {k: v for k in ("kinds", "sizes", "most") if (v := getattr(data, k))}
    source = TabletopScenes(samples, size, "test", seed, **shown)
    cases = [source[i] for i in range(samples)]

    def draw(pipe: Pipeline, steps: int, rows: slice, generators: list[torch.Generator]) -> np.ndarray:
        texts = [case.text for case in cases[rows]]
        return pipe(texts, num_inference_steps=steps, generator=generators, output_type="np").images

    return [case.id for case in cases], draw, lambda i, picture: score_text(picture, cases[i].text).value


def edits(size: int, samples: int, seed: int, data: Any) -> tuple[list[str], Draw, Score]:
    """The same of held-out edits."""
    cases = examples("edit", size, Options(samples=samples, seed=seed))

    def draw(pipe: Pipeline, steps: int, rows: slice, generators: list[torch.Generator]) -> np.ndarray:
        pictures = np.stack([case.before for case in cases[rows]])
        return pipe.edit(pictures, [case.text for case in cases[rows]], steps=steps, generator=generators)

    def score(i: int, picture: np.ndarray) -> float:
        return score_edit(cases[i].before, picture, cases[i].text).value

    return [str(i) for i in range(samples)], draw, score


def compare(
    teacher: Pipeline, few: Pipeline, cases: tuple[list[str], Draw, Score], few_steps: Sequence[int],
    many_steps: Sequence[int], batch: int, seed: int,
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """Name of the model → one row per number of steps; those of the teacher begin with the most steps."""
    names, draw, score = cases

    def drawn(pipe: Pipeline, steps: int) -> tuple[np.ndarray, float]:
        begun, pictures = time.perf_counter(), []
        for start in range(0, len(names), batch):
            rows = slice(start, start + batch)
            generators = [torch.Generator().manual_seed(seed_of(seed, name)) for name in names[rows]]
            pictures.append(draw(pipe, steps, rows, generators))
        return np.concatenate(pictures), (time.perf_counter() - begun) / len(names)

    best, rows = None, dict[str, list[dict[str, Any]]]()
    for name, pipe, counts in (
        ("teacher", teacher, [*sorted(many_steps, reverse=True), *few_steps]), ("few", few, few_steps),
    ):  # fmt: skip
        for steps in counts:
            pictures, seconds = drawn(pipe, steps)
            best = pictures if best is None else best
            error = np.square((pictures.astype(np.float64) - best) / 255).mean(axis=(1, 2, 3)) ** 0.5
            right = np.array([score(i, picture) for i, picture in enumerate(pictures)])
            low, high = bootstrap(right, seed=seed)
            rows.setdefault(name, []).append(
                {
                    "steps": steps, "error": float(error.mean()), "right": float(right.mean()), "right_low": low,
                    "right_high": high, "seconds": seconds,
                }
            )  # fmt: skip
            print(f"{name:8} {steps:3} steps  error {error.mean():.4f}  right {right.mean():.3f}  {seconds:.3f} s")
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--few", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, nargs="+", default=list(FEW), help="of both")
    parser.add_argument("--teacher-steps", type=int, nargs="+", default=list(MANY), help="of the teacher alone")
    parser.add_argument("--edits", action="store_true", help="held-out edits too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args(arguments)
    if a.threads:
        torch.set_num_threads(a.threads)
    teacher, few = (Pipeline.from_pretrained(d, a.device, fast_dtype(a.device)) for d in (a.teacher, a.few))
    size = teacher.config.picture.size
    results: dict[str, Any] = {
        "teacher": few.config.objective.few_steps.teacher, "machine": machine(), "samples": a.samples, "seed": a.seed,
        "guidance": teacher.config.sampling.guidance,
    }  # fmt: skip
    for name, of in (("captions", captions), ("edits", edits)):
        if name == "captions" or a.edits:
            print(name)
            cases = of(size, a.samples, a.seed, teacher.config.data)
            results[name] = compare(teacher, few, cases, a.steps, a.teacher_steps, a.batch, a.seed)
            if a.json:
                write_json(a.json, results)


if __name__ == "__main__":
    main()
