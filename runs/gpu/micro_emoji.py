"""Flow matching against Self-Flow on the emoji, several seeds each: at equal steps, and at equal wall-clock time.

Purpose: whether Self-Flow helps a small model in pixels on a small data set, where the literature is divided. Every run
is the recipe `micro` through `selfflow.train.run.train`; only objective, seed, batch and length are replaced. A seed
gives both objectives the same initial weights, the same order of pictures and the same noise, so differences are taken
seed by seed. Each run is evaluated with the suite `emoji` on the same held-out prompts and noise:

- equal steps: both after the last step;
- equal wall-clock: Self-Flow at its last snapshot that fits into the time flow matching took, where time is the number
  of steps times the run's own median seconds of a step (metrics.jsonl), which no stall or warm-up distorts.

Expected (a guess, for nobody has run this at full length yet; to be replaced by figures): no difference, or a small one
for Self-Flow, at equal steps, and none at equal time, as others found early, in pixels and on small data; Self-Flow's
cosine below 0.95 and its representation loss still falling. What matters is the paired difference against its error.

The script goes on where it stopped: the same command again trains, evaluates and summarises what is missing. Runs are
taken seed by seed, both objectives each, so that stopping early leaves whole pairs.

    SELFFLOW_DATA=data python runs/gpu/micro_emoji.py --out out/gpu/emoji --minutes 9
    python runs/gpu/micro_emoji.py --device cpu --toy --out /tmp/toy    # seconds: four steps on the tabletop scenes
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from selfflow.config import Config
from selfflow.evaluate.suite import run_suite
from selfflow.pipeline import Pipeline
from selfflow.recipes import micro, nano
from selfflow.train.checkpoint import latest, write_json
from selfflow.train.run import export, train
from selfflow.train.trainer import read_metrics

KINDS = ("flow_matching", "self_flow")
SNAPSHOTS = 20  # a run; equal wall-clock is met to within one of these parts
MODEL = ("config.json", "model.safetensors", "tokenizer.json")


def configure(a: argparse.Namespace, kind: str, seed: int) -> Config:
    """The recipe with what this comparison replaces."""
    config = nano() if a.toy else micro()
    if a.toy:
        config = replace(config, network=replace(config.network, width=32, depth=2, heads=2))
        config = replace(config, text=replace(config.text, vocabulary=270))
    options = {"steps": a.steps, "batch_size": a.batch, "seed": seed, "save_every": a.steps, "device": a.device}
    return replace(
        config,
        data=replace(config.data, workers=a.workers),
        objective=replace(config.objective, kind=kind),
        train=replace(config.train, threads=1 if a.toy else 0, compile=not a.toy and a.compile, **options),
    )


def marks(steps: int) -> list[int]:
    """The steps at which a run leaves a snapshot."""
    return sorted({max(1, steps * i // SNAPSHOTS) for i in range(1, SNAPSHOTS + 1)})


def train_run(config: Config, directory: Path, deadline: float) -> bool:
    """Train from snapshot to snapshot; False when the time was up, or a signal came, before the last."""
    for step in marks(config.train.steps):
        snapshot, found = directory / "snapshots" / str(step), latest(directory / "checkpoints")
        reached = int(found.name.removeprefix("step-")) if found else 0
        if snapshot.exists() or reached > step:  # passed by a run of another length, which had its own marks
            continue
        if time.monotonic() > deadline:
            return False
        if reached == step:  # stopped between checkpoint and snapshot
            export(directory)
        elif train(config, directory, progress=False, until=step).step != step:
            return False
        temporary = snapshot.with_name(f".{step}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for name in MODEL:
            shutil.copy2(directory / name, temporary / name)
        temporary.rename(snapshot)
    return True


def snapshots(directory: Path) -> list[int]:
    """Steps of the snapshots of a run, in order."""
    return sorted(int(p.name) for p in (directory / "snapshots").iterdir() if p.name.isdecimal())


def seconds_per_step(directory: Path) -> float:
    return statistics.median(m["seconds"] for m in read_metrics(directory / "metrics.jsonl"))


def evaluate(directory: Path, step: int, a: argparse.Namespace) -> dict[str, float]:
    """Figures of a snapshot, from its JSON if they are known."""
    path = directory / f"evaluation-{step}.json"
    if not path.exists():
        pipe = Pipeline.from_pretrained(directory / "snapshots" / str(step), device=a.device)
        suite, options = ("tabletop-text", {"samples": 4, "steps": 2}) if a.toy else ("emoji", {"samples": a.samples})
        run_suite(pipe, suite, path, seed=0, progress=False, **options)
    return {name: figure["value"] for name, figure in json.loads(path.read_text())["figures"].items()}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean and its standard error, which takes two values."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "standard_error": error, "values": list(values)}


def compare(pairs: Sequence[tuple[dict[str, float], dict[str, float]]]) -> dict[str, Any]:
    """For every figure each objective's mean ± standard error over seeds, and that of the paired differences."""
    return {
        name: {
            KINDS[0]: spread([fm[name] for fm, _ in pairs]),
            KINDS[1]: spread([sf[name] for _, sf in pairs]),
            "difference": spread([sf[name] - fm[name] for fm, sf in pairs]),
        }
        for name in pairs[0][0]
    }


def summarise(a: argparse.Namespace, seeds: Sequence[int]) -> dict[str, Any]:
    """Evaluate the finished pairs and put them side by side."""
    equal_steps, equal_time, runs = [], [], []
    for seed in seeds:
        fm, sf = (a.out / f"{kind}-{seed}" for kind in KINDS)
        took = seconds_per_step(fm) * a.steps
        within = [s for s in snapshots(sf) if s * seconds_per_step(sf) <= took and s <= a.steps]
        step = max(within, default=snapshots(sf)[0])
        final = evaluate(fm, a.steps, a)
        equal_steps.append((final, evaluate(sf, a.steps, a)))
        equal_time.append((final, evaluate(sf, step, a)))
        last = read_metrics(sf / "metrics.jsonl")[-1]
        runs.append(
            {
                "seed": seed,
                "seconds_per_step": {kind: seconds_per_step(a.out / f"{kind}-{seed}") for kind in KINDS},
                "equal_time_step": step,
                "self_flow_at_the_end": {k: last[k] for k in ("loss_representation", "cosine", "rank_teacher")},
            }
        )
    return {
        "steps": a.steps, "batch": a.batch, "seeds": list(seeds), "runs": runs,
        "equal_steps": compare(equal_steps), "equal_wall_clock": compare(equal_time),
    }  # fmt: skip


def report(summary: dict[str, Any]) -> str:
    """The summary as lines."""

    def number(s: dict[str, Any]) -> str:
        return f"{s['mean']:.4f}" + ("" if s["standard_error"] is None else f" ± {s['standard_error']:.4f}")

    lines = [f"{summary['steps']} steps of {summary['batch']}, seeds {summary['seeds']}; mean ± standard error"]
    for what in ("equal_steps", "equal_wall_clock"):
        lines += ["", f"{what.replace('_', ' '):36} {'flow matching':>20} {'Self-Flow':>20} {'difference':>20}"]
        for name, row in summary[what].items():
            lines.append(f"{name:36} " + " ".join(f"{number(row[k]):>20}" for k in (*KINDS, "difference")))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/gpu/emoji"), help="runs; kept between commands")
    parser.add_argument("--json", type=Path, default=Path(os.environ.get("OUT", "out/gpu")) / "micro_emoji.json")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=256, help="held-out prompts")
    parser.add_argument("--minutes", type=float, default=9, help="begin no further part after this long")
    parser.add_argument("--workers", type=int, default=8, help="that decode pictures ahead")
    parser.add_argument("--compile", action="store_true", help="torch.compile the blocks")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="four tiny steps of one seed on tabletop scenes")
    a = parser.parse_args(arguments)
    if a.toy:
        a.steps, a.batch, a.seeds, a.workers = 4, 4, a.seeds[:1], 0
    deadline = time.monotonic() + 60 * a.minutes
    whole: list[int] = []
    for seed in a.seeds:
        done = [train_run(configure(a, kind, seed), a.out / f"{kind}-{seed}", deadline) for kind in KINDS]
        if not all(done):
            print(f"time is up within seed {seed}: the same command goes on from there")
            break
        whole.append(seed)
        summary = summarise(a, whole)
        a.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(a.json, summary)
        print(report(summary), flush=True)


if __name__ == "__main__":
    main()
