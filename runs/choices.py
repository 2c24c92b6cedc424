"""Two choices behind the recipes, measured: what the output layer predicts, and which optimiser moves the blocks.

`nano` on tabletop scenes with flow matching; each variant differs from the recipe in one thing and has three seeds.
A step of Muon costs more than one of AdamW, so AdamW is also run for as many more steps as take the same time. Figures:
held-out velocity loss per noise level, and how many of the facts in held-out captions the pictures show, with floor and
ceiling (`tabletop-text`).

    .venv/bin/python runs/choices.py [--steps 600] [--seeds 3] [--json docs/figures/choices.json]

About two minutes a run on one core. Resumes when run again.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from selfflow.config import Config
from selfflow.data.scenes import TabletopScenes
from selfflow.evaluate.suite import run_suite
from selfflow.pipeline import Pipeline
from selfflow.recipes import flow_matching, nano
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from selfflow.train.run import train
from selfflow.train.trainer import read_metrics

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


def predicting(what: Any) -> Callable[[Config], Config]:
    return lambda c: replace(c, picture=replace(c.picture, prediction=what))


def adamw(rate: float) -> Callable[[Config], Config]:
    return lambda c: replace(c, optim=replace(c.optim, kind="adamw", learning_rate=rate))


VARIANTS: dict[str, Callable[[Config], Config]] = {
    "recipe": lambda c: c,
    "predicts velocity": predicting("velocity"),
    "predicts residual": predicting("residual"),
    "AdamW, 2.5e-3": adamw(2.5e-3),
    "AdamW, 5e-3": adamw(5e-3),
}


def run(name: str, seed: int, steps: int, out: Path, samples: int) -> dict[str, Any]:
    """Train one variant with one seed and score it."""
    config = VARIANTS[name](flow_matching(nano()))
    config = replace(config, train=replace(config.train, steps=steps, seed=seed, device="cpu", threads=1))
    directory = out / f"{name.replace(' ', '-').replace(',', '')}-{steps}-{seed}"
    train(config, directory)
    seconds = statistics.median(m["seconds"] for m in read_metrics(directory / "metrics.jsonl"))
    pipe = Pipeline.from_pretrained(directory, dtype=fast_dtype("cpu"))
    held_out = TabletopScenes(count=256, size=config.picture.size, split="test", kinds=config.data.kinds)
    losses = pipe.held_out_velocity_loss([held_out[i] for i in range(len(held_out))], LEVELS)
    figures = run_suite(pipe, "tabletop-text", None, samples=samples, progress=False)["figures"]
    return {
        "seed": seed,
        "seconds a step": seconds,
        "velocity loss": {str(t): v for t, (v, _) in losses.items()},
        "figures": figures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/choices"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--json", type=Path, default=Path("docs/figures/choices.json"))
    a = parser.parse_args()
    results: dict[str, Any] = {"recipe": "nano, flow matching", "seeds": a.seeds, "levels": LEVELS, "variants": {}}

    def measure(name: str, steps: int, label: str) -> float:
        runs = [run(name, seed, steps, a.out, a.samples) for seed in range(a.seeds)]
        mean = {t: float(np.mean([r["velocity loss"][t] for r in runs])) for t in runs[0]["velocity loss"]}
        results["variants"][label] = {"steps": steps, "mean velocity loss": mean, "runs": runs}
        print(f"{label} ({steps} steps)", {t: round(v, 4) for t, v in mean.items()}, flush=True)
        write_json(a.json, results)
        return statistics.median(r["seconds a step"] for r in runs)

    seconds = {name: measure(name, a.steps, name) for name in VARIANTS}
    for name in (n for n in VARIANTS if n.startswith("AdamW")):
        steps = round(a.steps * seconds["recipe"] / seconds[name])
        if steps > a.steps:
            measure(name, steps, f"{name}, equal time")


if __name__ == "__main__":
    main()
