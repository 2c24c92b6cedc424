"""Does a model gain by learning from its own draws, beyond what as much more of flow matching brings?

    python benchmarks/reward_trial.py [--steps 200] [--seeds 0 1 2] [--json FILE]

`nano` on its small world (four kinds of things, one or two of them, 48 pixels; patches of 8) learns captions by flow
matching. From there it goes on in three ways: rewarded, as `selfflow reward` does it; by flow matching for equally many
steps of equally many samples; and by flow matching for equal time, in the batches it was trained with, whose steps are
counted by the clock. All three at half the rate, which falls at the end. Judged are, by the reader that also rewards
and of pictures drawn as the model is used, 128 held-out captions, which say something that no training caption says,
and 128 like those of training, none shown to it; and, by no reader, the velocity loss on true held-out pictures.
Differences are paired by seed; intervals are Student's, 95 %. Runs that are there are not trained again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfflow.config import Config
from selfflow.data.scenes import TabletopScenes
from selfflow.evaluate.distances import interval
from selfflow.pipeline import Pipeline
from selfflow.recipes import flow_matching, nano, rewarded
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from table_trial import CAPTIONS, FIGURES, judged, pace

LIKE = ("facts right, as in training", "all facts right, as in training")
COMPARED = (*LIKE, *FIGURES, "velocity loss")
NAMES = (*COMPARED, "steps", "seconds")
_OTHER = 77  # seed of captions like those of training, whose own is 0
BEGUN, REWARDED, STEPS, TIME = "begun", "rewarded", "flow matching, equal steps", "flow matching, equal time"


def begun(steps: int, seed: int) -> Config:
    """What all arms begin with."""
    config = flow_matching(nano())
    train_config = replace(config.train, steps=steps, seed=seed, device="cpu", threads=1)
    return replace(config, picture=replace(config.picture, patch=8), train=train_config)


def goes_on(arm: str, before: Config, steps: int, batch: int) -> Config:
    """An arm of so many steps."""
    config = rewarded(before, steps)
    config = replace(config, train=replace(config.train, seed=before.train.seed + 100, save_every=10**6))
    if arm != REWARDED:
        config = replace(config, objective=before.objective)
    return config if arm == TIME else replace(config, train=replace(config.train, batch_size=batch))


def scored(directory: Path, configured: Callable[[], Config], init: Path | None = None) -> dict[str, float]:
    """`judged`, and the same reader on captions like those of training."""
    found, kept = judged(directory, configured, init), directory / "as-in-training.json"
    if not kept.exists():
        pipe, data = Pipeline.from_pretrained(directory, dtype=fast_dtype("cpu")), nano().data
        source = TabletopScenes(
            CAPTIONS, nano().picture.size, "train", _OTHER, kinds=data.kinds, sizes=data.sizes, most=data.most
        )
        samples = [source[i] for i in range(CAPTIONS)]
        generators = [torch.Generator().manual_seed(i) for i in range(CAPTIONS)]
        drawn = pipe([s.text for s in samples], generator=generators, output_type="np").images
        values = [source.judge(sample, picture).value for sample, picture in zip(samples, drawn, strict=True)]
        write_json(kept, dict(zip(LIKE, (statistics.fmean(values), values.count(1.0) / CAPTIONS), strict=True)))
    return found | json.loads(kept.read_text())


def trial(seed: int, first: int, steps: int, batch: int, out: Path) -> dict[str, dict[str, float]]:
    """All arms of one seed."""
    before, at = begun(first, seed), out / f"begun-{first}-{seed}"
    found = {BEGUN: scored(at, lambda: before)}

    def go(arm: str, count: Callable[[], int]) -> dict[str, float]:
        directory = out / f"{arm.replace(', ', '-').replace(' ', '-')}-{first}-{steps}-{seed}"
        return scored(directory, lambda: goes_on(arm, before, count(), batch), at)

    def affordable() -> int:
        each = pace(goes_on(TIME, before, 30, batch), out / "pace", at)
        return max(1, round(found[REWARDED]["seconds"] / each))

    for arm, count in ((REWARDED, lambda: steps), (STEPS, lambda: steps), (TIME, affordable)):
        found[arm] = go(arm, count)
    return found


def less(runs: list[dict[str, dict[str, float]]], arm: str, name: str) -> dict[str, Any]:
    """How much more than an arm the rewarded model has, seed by seed."""
    return interval([run[REWARDED][name] - run[arm][name] for run in runs])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=1200, help="steps of 32 before")
    parser.add_argument("--steps", type=int, default=200, help="steps that are rewarded")
    parser.add_argument("--batch", type=int, default=8, help="samples in each of them, every one drawn several times")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out/reward_trial"))
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    result: dict[str, Any] = {"first": a.first, "steps": a.steps, "batch": a.batch, "captions": CAPTIONS, "runs": []}
    for seed in a.seeds:
        result["runs"].append(trial(seed, a.first, a.steps, a.batch, a.out))
        result["seeds"] = a.seeds[: len(result["runs"])]
        runs = result["runs"]
        result["means"] = {arm: {n: float(np.mean([r[arm][n] for r in runs])) for n in NAMES} for arm in runs[0]}
        arms = (BEGUN, STEPS, TIME)
        result["rewarded less"] = {arm: {n: less(runs, arm, n) for n in COMPARED} for arm in arms}
        for arm, means in result["means"].items():
            print(f"{arm:28} {'  '.join(f'{name} {value:.3f}' for name, value in means.items())}", flush=True)
        if a.json:
            write_json(a.json, result)
    for arm, each in result["rewarded less"].items():
        told = [f"{name} {x['mean']:+.3f} ± {x['half'] or float('inf'):.3f}" for name, x in each.items()]
        print(f"rewarded less {arm}: {'  '.join(told)}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
