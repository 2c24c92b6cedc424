"""A trained model on one GPU, rewarded: it draws, Tabletop's checkers judge, and it learns from right and wrong.

Purpose: weights, and whether what a small network gained on two CPU cores (docs/rewards.md) holds for every task with a
hundred times the draws. Rewards until the time is up, writes the averaged weights in bf16 with their card, and scores
stills, edits and compositions beside the model as it was.

Expected (a guess; to be replaced by figures): 64 samples, 8 draws each, take 0.3 s to draw and are judged by 14
processes in 1.5 s; so 15 to 20 steps a minute, 60,000 draws in eight minutes; stills right 0.39 → 0.5 of 64, edits
0.55 → 0.65 of 96. Reading pictures, not drawing them, is what a step waits for.

    SELFFLOW_DATA=data python runs/gpu/reward.py --model weights/micro-all --out out/gpu/rewarded --minutes 8
    python runs/gpu/reward.py --model DIR --device cpu --toy --out /tmp/toy      # seconds: four tiny steps

The same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from selfflow.config import Config
from selfflow.evaluate.against import changes, load, report
from selfflow.evaluate.suite import run_suite
from selfflow.model_directory import read_config
from selfflow.pipeline import Pipeline
from selfflow.recipes import rewarded
from selfflow.release import release
from selfflow.train.deadline import Deadline
from selfflow.train.run import train
from selfflow.train.trainer import in_parts, read_metrics
from selfflow.weight_files import has_weights

SUITES = ("tabletop-text", "tabletop-edit", "tabletop-reference")


def configure(a: argparse.Namespace) -> Config:
    config = rewarded(read_config(a.model), a.steps)
    o = config.objective
    return replace(
        config,
        data=replace(config.data, cache=str(a.cache)),
        objective=replace(o, reward=replace(o.reward, draws=a.draws, processes=a.processes)),
        train=replace(
            config.train, batch_size=a.batch, accumulate=a.accumulate, save_every=a.every, device=a.device, threads=0
        ),
    )


def drawn(out: Path) -> None:
    """How many of the draws of each source were right, in ten parts of the run."""
    for step, means in in_parts(read_metrics(out / "metrics.jsonl")):
        told = {name: share for name, share in sorted(means.items()) if name.startswith("right_")}
        print(f"to step {step}: " + ", ".join(f"{name} {share:.3f}" for name, share in told.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model directory to begin with")
    parser.add_argument("--out", type=Path, default=Path("out/gpu/rewarded"), help="the run; kept between commands")
    parser.add_argument("--carry", type=Path, default=Path(os.environ.get("OUT", "out/gpu")) / "rewarded-weights")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--batch", type=int, default=128, help="samples a step, each drawn several times")
    parser.add_argument("--accumulate", type=int, default=2, help="micro-batches a step, each of one task")
    parser.add_argument("--draws", type=int, default=8, help="of each sample")
    parser.add_argument("--minutes", type=float, default=8, help="begin no further step after this")
    parser.add_argument("--samples", type=int, default=96, help="of each suite; 0 leaves scoring out")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="that judge")
    parser.add_argument("--cache", type=Path, default=Path("out/gpu/drawn"), help="where Tabletop's samples are kept")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="four tiny steps")
    a = parser.parse_args(arguments)
    if a.toy:
        a.steps, a.every, a.batch, a.accumulate, a.draws, a.samples, a.processes = 4, 2, 2, 1, 2, 0, 0
        a.cache = a.out.with_name(f"{a.out.name}-drawn")
    deadline = Deadline(time.monotonic() + 60 * a.minutes, a.steps)
    if a.minutes > 0:
        state = train(configure(a), a.out, progress=False, init=a.model, watch=[deadline])
        print(f"step {state.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in state.metrics.items()), flush=True)
        drawn(a.out)
    if not has_weights(a.out):
        print("time was up before the first checkpoint; the same command goes on")
        return
    print(f"weights in {release(a.out, a.carry)}")
    if a.samples:
        score(a)


def score(a: argparse.Namespace) -> None:
    """The model as it was, once, and what it became."""
    for suite in SUITES:
        before, after = a.out / f"{suite}-before.json", a.carry / f"{suite}.json"
        for model, path in ((a.model, before), (a.carry, after)):
            if path == after or not path.exists():
                pipe = Pipeline.from_pretrained(model, device=a.device)
                run_suite(pipe, suite, path, samples=a.samples, seed=0, progress=False)
        print(f"\n{suite}: what it became against what it was")
        print(report(changes(load(after), load(before)), 0.05), flush=True)


if __name__ == "__main__":
    main()
