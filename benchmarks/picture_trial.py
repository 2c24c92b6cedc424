"""Pixels or latents, and which noise to practise: small flows learn table scenes from captions, and a reader judges.

    python benchmarks/picture_trial.py [--codec out/codec] [--steps 1200] [--seeds 0 1 2] [--json FILE]

`nano` on its small world (four kinds of things, one or two of them, 48 pixels) in 36 tokens of 8 × 8 pixels, or in as
many latents of a codec of such patches (`selfflow train codec-patches --out out/codec`): the same network, captions,
steps and optimiser, over several seeds. An arm is `pixels` or `latents` and the times practised: the mean of their
logits, the mean and the deviation (`pixels:0.8:1.6`; 0.8 unless told), or `uniform`.
Two figures of 128 held-out captions: the share of facts right, and of pictures with all facts right; the seconds are of
one thread, the codec's encoding included, its own training not. Runs that are there are not trained again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfflow.config import Config
from selfflow.recipes import flow_matching, nano
from selfflow.times import Density
from selfflow.train.checkpoint import write_json
from table_trial import CAPTIONS, FIGURES, judged

ARMS = ("pixels:0.8", "pixels:1.2", "latents:0.8", "latents:1.2")


def practised(told: str) -> Density:
    """The times that an arm names."""
    if told == "uniform":
        return Density("uniform")
    mean, *std = (float(number) for number in told.split(":"))
    return Density("logit_normal", mean=mean, std=std[0] if std else 0.8)


def configured(arm: str, codec: Path | None, steps: int, seed: int) -> Config:
    """`nano` of that arm."""
    kind, told = arm.split(":", 1)
    config = flow_matching(nano())
    picture = replace(config.picture, patch=8)
    if kind == "latents":
        if codec is None:
            raise SystemExit(f"{arm} needs --codec: what `selfflow train codec-patches --out DIR` made")
        picture = replace(config.picture, patch=1, codec=str(codec))
    return replace(
        config,
        picture=picture,
        objective=replace(config.objective, density=practised(told)),
        train=replace(config.train, steps=steps, seed=seed, device="cpu", threads=1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", type=Path, help="of patches of 8 × 8 pixels; for latents")
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out/picture_trial"))
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    for arm in a.arms:  # one that cannot be is refused before any is trained
        configured(arm, a.codec, a.steps, 0)
    result: dict[str, Any] = {"steps": a.steps, "batch": 32, "seeds": a.seeds, "captions": CAPTIONS, "arms": {}}
    names = (*FIGURES, "seconds")
    for arm in a.arms:
        at = a.out / f"{arm.replace(':', '-')}-{a.steps}"
        runs = [judged(Path(f"{at}-{seed}"), partial(configured, arm, a.codec, a.steps, seed)) for seed in a.seeds]
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
