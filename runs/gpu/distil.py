"""A trained model on one GPU, distilled to few steps: a flow map that does every task in 1, 2, 4 or 8.

Purpose: weights, and what few steps cost in quality. Distils until the time is up, from snapshot to snapshot, then
writes the averaged weights in bf16 with their card, small enough to be carried back and committed, and scores them with
the suite `all` at 4 steps and at 2 beside the teacher at 50 guided ones.

Expected (a guess; to be replaced by figures): a step costs 1.5 to 1.9 times one of flow matching at the same batch; a
fifth to a quarter of the steps that the model was trained for brings scores at 4 steps within 5 % of 50 guided ones.

    SELFFLOW_DATA=data python runs/gpu/distil.py --model out/gpu/micro-all --out out/gpu/few --minutes 8
    python runs/gpu/distil.py --model weights/micro-all --like weights/micro-all weights/micro-all-few \
        --method on-policy
    python runs/gpu/distil.py --model DIR --device cpu --toy --out /tmp/toy      # seconds: four tiny steps

Run once, for 100 s on an H200: 69 steps of 512 at 1.3 s each, held up by what held up `micro_all.py` (see there).

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
from selfflow.pipeline import Pipeline
from selfflow.recipes import few_steps
from selfflow.release import release
from selfflow.train.deadline import Deadline
from selfflow.train.run import teacher_of, train
from selfflow.weight_files import has_weights


def configure(a: argparse.Namespace) -> Config:
    teacher, name = teacher_of(a.model)
    config = few_steps(teacher, a.steps, a.method)
    few = replace(config.objective.few_steps, teacher=name)
    return replace(
        config,
        data=replace(config.data, workers=0, processes=a.processes, cache=str(a.cache), echo=a.echo, held=a.held),
        objective=replace(config.objective, few_steps=few),
        train=replace(
            config.train,
            batch_size=a.batch,
            accumulate=a.accumulate,
            save_every=a.every,
            device=a.device,
            compile=a.compile,
            record=a.device != "cpu" and not (a.compile or a.launched or config.network.stencils),
            threads=0,
        ),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="model directory to distil")
    parser.add_argument("--out", type=Path, default=Path("out/gpu/few"), help="the run; kept between commands")
    parser.add_argument("--carry", type=Path, default=Path(os.environ.get("OUT", "out/gpu")) / "few-weights")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--accumulate", type=int, default=4, help="micro-batches a step, each of one task")
    parser.add_argument("--echo", type=int, default=16, help="how often a batch is used at most")
    parser.add_argument("--held", type=float, default=16, help="GiB of batches kept for that on the GPU")
    parser.add_argument("--method", choices=("midpoint", "on-policy", "progressive"), default="midpoint")
    parser.add_argument("--like", type=Path, nargs=2, help="an earlier state, and what it was distilled to")
    parser.add_argument("--minutes", type=float, default=8, help="begin no further part after this")
    parser.add_argument("--samples", type=int, default=32, help="of each suite; 0 leaves scoring out")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="that draw samples")
    parser.add_argument("--cache", type=Path, default=Path("out/gpu/drawn"), help="where Tabletop's samples are kept")
    parser.add_argument("--compile", action="store_true", help="blocks, instead of recording micro-steps")
    parser.add_argument("--launched", action="store_true", help="neither record nor compile")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="four tiny steps")
    a = parser.parse_args(arguments)
    if a.toy:
        a.steps, a.every, a.batch, a.samples, a.processes, a.echo = 4, 2, 8, 0, 0, 1
        a.cache = a.out.with_name(f"{a.out.name}-drawn")
    deadline = Deadline(time.monotonic() + 60 * a.minutes, a.steps)
    if a.minutes > 0:
        like = tuple(a.like) if a.like else None
        state = train(configure(a), a.out, progress=False, init=a.model, watch=[deadline], like=like)
        print(f"step {state.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in state.metrics.items()), flush=True)
    if not has_weights(a.out):
        print("time was up before the first checkpoint; the same command goes on")
        return
    print(f"weights in {release(a.out, a.carry)}")
    if a.samples:
        score(a)


def score(a: argparse.Namespace) -> None:
    """The teacher at 50 guided steps, once; what it became at 4 and at 2; and what these lost against it."""
    many = a.out / "evaluation-50.json"
    if not many.exists():
        pipe = Pipeline.from_pretrained(a.model, device=a.device)
        run_suite(pipe, "all", many, samples=a.samples, steps=50, seed=0, progress=False)
    pipe = Pipeline.from_pretrained(a.carry, device=a.device)
    for steps, within in ((4, 0.05), (2, 0.10)):
        path = a.carry / f"evaluation-{steps}.json"
        run_suite(pipe, "all", path, samples=a.samples, steps=steps, seed=0, progress=False)
        print(f"\n{steps} steps against 50 guided ones\n{report(changes(load(path), load(many)), within)}", flush=True)


if __name__ == "__main__":
    main()
