"""What references cost: time of a sampling step and peak memory of an edit with none, one, four and ten of them.

    python benchmarks/references.py [--json FILE] [--rounds 15]

The recipe `micro-all` with random weights, 64² pictures, guidance 3 (two sides a step). By `Pipeline` in float32, and
in bf16 where the machine is fast in it, and by `Runtime`, as the commands and the studio do; each in a process of its
own, whose peak of memory is told, with interpreter, torch and model. A reference is read once a request, and every
request brings new ones; a step then attends to their keys and values. Times are medians of rounds taken in turn, of
the CPU where there is one thread; the ratio to no reference is what counts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import statistics
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfflow.modalities.text import BytePairs
from selfflow.pipeline import Pipeline, build_network
from selfflow.recipes import micro_all
from selfflow.runtime import Runtime
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from timing import clock, machine

COUNTS = (0, 1, 4, 10)
KINDS = ("pipeline, float32", "pipeline", "runtime")
GOAL_RATIO, GOAL_MB = 1.5, 1500
STEPS = 8


def seconds_a_step(pipe: Pipeline, count: int, number: int) -> tuple[float, float]:
    """Median seconds of a step, and seconds until the first, of one request; `number` tells its references apart."""
    rng = np.random.default_rng(number)
    references = [rng.integers(0, 256, (64, 64, 3), np.uint8) for _ in range(count)]
    now = clock()
    marks = [now()]

    def mark(*_: Any) -> None:
        marks.append(now())

    if count:
        pipe.compose([references], ["the ball from picture 1"], steps=STEPS, guidance=3.0, callback=mark)
    else:
        pipe(prompt="the ball from picture 1", num_inference_steps=STEPS, guidance_scale=3.0, callback=mark)
    steps = [b - a for a, b in pairwise(marks[1:])]
    return statistics.median(steps), marks[1] - marks[0]


def measure(kind: str, rounds: int) -> dict[str, Any]:
    torch.set_num_threads(max(1, min(2, len(os.sched_getaffinity(0)))))
    config, text = micro_all(), BytePairs.train(["the ball from picture 1 in the cup from picture 2"] * 9, 300)
    torch.manual_seed(0)
    dtype = torch.float32 if kind == "pipeline, float32" else fast_dtype("cpu")
    pipe = Pipeline(build_network(config, text), text, config, dtype)
    if kind == "runtime":
        pipe = Runtime(pipe)
    for count in COUNTS:
        seconds_a_step(pipe, count, 0)
    taken: dict[int, list[tuple[float, float]]] = {count: [] for count in COUNTS}
    for number in range(1, rounds + 1):
        for count in COUNTS:
            taken[count].append(seconds_a_step(pipe, count, number))
    rows = {}
    for count in COUNTS:
        step = statistics.median(s for s, _ in taken[count])
        ratios = [s / base for (s, _), (base, _) in zip(taken[count], taken[0], strict=True)]
        first = statistics.median(f for _, f in taken[count])
        rows[count] = {"step_ms": 1000 * step, "ratio": statistics.median(ratios), "first_step_ms": 1000 * first}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "threads": torch.get_num_threads(), "dtype": str(pipe.dtype), "rounds": rounds, "rows": rows, "peak_mb": peak,
        "holds": rows[10]["ratio"] <= GOAL_RATIO and peak <= GOAL_MB,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    a = parser.parse_args()
    found: dict[str, Any] = {"machine": machine(), "goals": {"ratio": GOAL_RATIO, "peak_mb": GOAL_MB}}
    for kind in KINDS:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            found[kind] = told = alone.submit(measure, kind, a.rounds).result()
        print(f"{kind}, {told['threads']} threads, {told['dtype']}")
        print("references  step, ms  to none  until the first step, ms")
        for count, row in told["rows"].items():
            print(f"{count:10}  {row['step_ms']:8.1f}  {row['ratio']:7.2f}  {row['first_step_ms']:8.1f}")
        print(f"peak memory {told['peak_mb']:.0f} MB (goal {GOAL_MB}); ratio goal {GOAL_RATIO}")
    write_json(a.json, found)


if __name__ == "__main__":
    main()
