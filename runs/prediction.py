"""Velocity or clean-data prediction? `nano` on tabletop scenes, each way, three seeds: the choice behind the default.

The two differ in nothing but what the output layer predicts. Figures: held-out velocity loss per noise level, and how
many of the facts in held-out captions the pictures show (`tabletop` suite), with its floor and ceiling.

    .venv/bin/python runs/prediction.py [--steps 600] [--seeds 3] [--json docs/figures/prediction.json]

About three minutes a run on one core. Resumes when run again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from selfflow.data.scenes import TabletopScenes
from selfflow.evaluate.suite import run_suite
from selfflow.pipeline import Pipeline
from selfflow.recipes import nano
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from selfflow.train.run import train

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/prediction"))
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--json", type=Path, default=Path("docs/figures/prediction.json"))
    a = parser.parse_args()
    held_out = TabletopScenes(count=256, size=nano().picture.size, split="test")
    results: dict[str, Any] = {"recipe": "nano", "steps": a.steps, "seeds": a.seeds, "levels": LEVELS}
    for prediction in ("data", "velocity"):
        runs = []
        for seed in range(a.seeds):
            config = nano()
            config = replace(
                config,
                picture=replace(config.picture, prediction=prediction),
                train=replace(config.train, steps=a.steps, seed=seed, device="cpu", threads=1),
            )
            directory = a.out / f"{prediction}-{seed}"
            train(config, directory)
            pipe = Pipeline.from_pretrained(directory, dtype=fast_dtype("cpu"))
            losses = pipe.held_out_velocity_loss([held_out[i] for i in range(256)], LEVELS)
            suite = run_suite(pipe, "tabletop", None, samples=a.samples, progress=False)
            runs.append({"velocity loss": {t: v for t, (v, _) in losses.items()}, "tabletop": suite["figures"]})
        mean = {t: float(np.mean([r["velocity loss"][t] for r in runs])) for t in LEVELS}
        results[prediction] = {"mean velocity loss": mean, "runs": runs}
        print(prediction, {t: round(v, 4) for t, v in mean.items()})
    a.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(a.json, results)


if __name__ == "__main__":
    main()
