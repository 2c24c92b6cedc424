"""Pixels or latents, and which noise to practise: small flows learn table scenes from captions, and a reader judges.

    python benchmarks/picture_trial.py --codec out/codec [--steps 1200] [--seeds 3] [--json FILE]

`nano` on its small world (four kinds of things, one or two of them, 48 pixels) in 36 tokens of 8 × 8 pixels, or in as
many latents of a codec of such patches (`selfflow train codec-patches --out out/codec`): the same network, captions,
steps and optimiser, over several seeds. An arm is `pixels` or `latents` and the mean logit of the times practised.
Two figures of 128 held-out captions: the share of facts right, and of pictures with all facts right; the seconds are of
one thread, the codec's encoding included, its own training not. Runs that are there are not trained again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfflow.evaluate.suite import run_suite
from selfflow.pipeline import Pipeline
from selfflow.recipes import flow_matching, nano
from selfflow.times import Density
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from selfflow.train.run import train
from selfflow.train.trainer import read_metrics

ARMS = ("pixels:0.8", "pixels:1.2", "latents:0.8", "latents:1.2")
FIGURES = ("facts right", "all facts right", "nothing overlaps or floats")


def trial(arm: str, codec: Path, steps: int, seed: int, out: Path) -> dict[str, float]:
    """Train one arm with one seed and have its pictures read; what was measured before is read instead."""
    directory = out / f"{arm.replace(':', '-')}-{steps}-{seed}"
    if (directory / "trial.json").exists():
        return dict(json.loads((directory / "trial.json").read_text()))
    kind, mean = arm.split(":")
    config = flow_matching(nano())
    picture = replace(config.picture, patch=8)
    if kind == "latents":
        picture = replace(config.picture, patch=1, codec=str(codec))
    config = replace(
        config,
        picture=picture,
        objective=replace(config.objective, density=Density("logit_normal", mean=float(mean), std=0.8)),
        train=replace(config.train, steps=steps, seed=seed, device="cpu", threads=1),
    )
    state = train(config, directory, progress=False)
    if state.step < steps:
        raise SystemExit(f"{directory}: stopped at step {state.step} of {steps}; the same command goes on")
    seconds = sum(m["seconds"] for m in read_metrics(directory / "metrics.jsonl"))
    pipe = Pipeline.from_pretrained(directory, dtype=fast_dtype("cpu"))
    figures = run_suite(pipe, "tabletop-text", None, samples=128, progress=False)["figures"]
    found = {name: float(figures[name]["value"]) for name in FIGURES} | {"seconds": seconds}
    write_json(directory / "trial.json", found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", type=Path, required=True, help="of patches of 8 × 8 pixels")
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out/picture_trial"))
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    result: dict[str, Any] = {"steps": a.steps, "batch": 32, "seeds": a.seeds, "captions": 128, "arms": {}}
    names = (*FIGURES, "seconds")
    for arm in a.arms:
        runs = [trial(arm, a.codec, a.steps, seed, a.out) for seed in a.seeds]
        result["arms"][arm] = {"runs": runs}
        for name in names:
            values = [run[name] for run in runs]
            result["arms"][arm][name] = [float(np.mean(values)), float(np.std(values, ddof=min(1, len(values) - 1)))]
        told = [f"{name} {mean:.3f} ± {std:.3f}" for name in names for mean, std in [result["arms"][arm][name]]]
        print(f"{arm:12} {'  '.join(told)}", flush=True)
        if a.json:
            write_json(a.json, result)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
