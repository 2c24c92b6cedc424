"""Tasks as they are, or each in units of its own loss: a small network learns the whole mixture, over several seeds.

    python benchmarks/balance_trial.py [--steps 900] [--seeds 0 1 2] [--json FILE] [--grads MODEL]

`micro-all`'s mixture by flow matching in a network of 128 × 4, with and without `train.balance`: the same weights,
data, order and noise for a seed, so that differences are taken seed by seed; the balance costs no time. Measured, of
the averaged weights, on held-out samples with the same noise for all: the velocity loss of every part of the mixture.
Their ratio, balanced over not, is told for each part and, as a geometric mean by the parts' weights, for all.
`--grads MODEL` tells instead what one step is made of: for each part the length of its gradient, over the matrices
that Muon moves, and how much of a step's squared length it is, with and without. Runs that are there are not trained
again.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfflow.building import build_modalities
from selfflow.config import Config
from selfflow.data.opening import open_mixture, open_mixture_loader
from selfflow.evaluate.distances import interval
from selfflow.objectives import FlowMatching
from selfflow.pipeline import Pipeline, load_quantiles, read_config
from selfflow.recipes import flow_matching, micro_all
from selfflow.times import Draws
from selfflow.tokens import Tokens
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from selfflow.train.optimizer import block_matrices
from selfflow.train.run import open_text, train
from selfflow.train.task import Prepare
from selfflow.train.trainer import read_metrics

BATCHES, BATCH = 6, 16  # of each part, to measure on
CPU = torch.device("cpu")


def configured(balanced: bool, steps: int, seed: int, mixture: tuple[str, ...] = ()) -> Config:
    """`micro-all`, small."""
    config = flow_matching(micro_all())
    return replace(
        config,
        data=replace(config.data, mixture=mixture or config.data.mixture),
        network=replace(config.network, width=128, depth=4, heads=4),
        optim=replace(config.optim, learning_rate=2.5e-3, muon_scale=1.0, warmup=50, cooldown=0.4),
        train=replace(
            config.train, steps=steps, batch_size=32, accumulate=4, seed=seed, device="cpu", threads=1,
            save_every=10**6, balance=balanced,
        ),
    )  # fmt: skip


class Parts:
    """The parts of a model's mixture one by one: batches of each, and their losses.

    Args:
        directory: a model's.
        split: "train" or "test".
    """

    def __init__(self, directory: Path, split: str) -> None:
        config = read_config(directory)
        text = open_text(config, directory, list)
        o = config.objective
        self.objective = FlowMatching(
            Pipeline.from_pretrained(directory).net, density=o.density, modalities=o.modalities,
            copying_weight=o.copying_weight if config.network.copying else 0.0,
        )  # fmt: skip
        several = {name: practice.draws for name, practice in o.modalities.items()}
        self.prepare = Prepare(build_modalities(config, text, load_quantiles(directory)), 0.0, 0.0, 1, several)
        sources = open_mixture(replace(config.data, workers=0), config.picture.size, split, seed=1)
        self.sources = {f"{i.source}:{i.task}": (source, i) for source, i in sources}

    def losses(self, name: str) -> list[Any]:
        """Functions, each of which computes the losses of one batch."""
        loader = open_mixture_loader([self.sources[name]], BATCH, 1, 0, 0, 0, 1)

        def one(number: int) -> Any:
            draws = Draws.at(0, number)
            batch = next(loader)
            data, context = self.prepare(batch, draws, CPU)
            if isinstance(data, Tokens):
                draws = draws.several(data.batch // len(batch.ids))
            with torch.autocast("cpu", fast_dtype("cpu")):
                return self.objective(data, context, draws=draws)

        return [lambda number=number: one(number) for number in range(BATCHES)]


@torch.no_grad()
def held_out(directory: Path) -> dict[str, float]:
    """Part → velocity loss on held-out samples."""
    parts = Parts(directory, "test")
    return {
        name: float(np.mean([float(loss().parts["loss_velocity"]) for loss in parts.losses(name)]))
        for name in parts.sources
    }


def gradients(directory: Path) -> dict[str, dict[str, float]]:
    """Part → loss, root mean square of its gradient's length, and its share of a step, as it is and balanced."""
    parts = Parts(directory, "train")
    matrices = block_matrices(parts.objective)
    found: dict[str, dict[str, float]] = {}
    for name, (_, ingredient) in parts.sources.items():
        losses, squares = [], []
        for compute in parts.losses(name):
            total: Tensor = compute().total
            given = torch.autograd.grad(total, matrices, allow_unused=True)
            losses.append(float(total.detach()))
            squares.append(sum(float(g.square().sum()) for g in given if g is not None))
        found[name] = {
            "weight": ingredient.weight, "loss": float(np.mean(losses)), "gradient": math.sqrt(np.mean(squares)),
        }  # fmt: skip
        print(name, {k: round(v, 4) for k, v in found[name].items()}, flush=True)
    for share, per in (("share", lambda f: 1.0), ("share, balanced", lambda f: f["loss"])):
        energy = {name: f["weight"] * (f["gradient"] / per(f)) ** 2 for name, f in found.items()}
        for name in found:
            found[name][share] = energy[name] / sum(energy.values())
    return found


def trial(balanced: bool, steps: int, seed: int, out: Path) -> dict[str, Any]:
    """One run, trained and measured."""
    directory = out / f"{'balanced' if balanced else 'plain'}-{steps}-{seed}"
    kept = directory / "trial.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    state = train(configured(balanced, steps, seed), directory, progress=False)
    if state.step < state.steps:
        raise SystemExit(f"{directory}: stopped at step {state.step} of {state.steps}; the same command goes on")
    seconds = sum(m["seconds"] for m in read_metrics(directory / "metrics.jsonl"))
    found = {"seed": seed, "seconds": seconds, "loss": held_out(directory)}
    write_json(kept, found)
    return found


def compared(plain: list[dict[str, Any]], balanced: list[dict[str, Any]], weights: dict[str, float]) -> dict[str, Any]:
    """Loss, balanced over plain, for each part and for all: mean and 95 % interval, of logarithms by seed."""
    logs = {
        name: [math.log(b["loss"][name] / p["loss"][name]) for p, b in zip(plain, balanced, strict=True)]
        for name in plain[0]["loss"]
    }
    total = sum(weights.values())
    logs["all"] = [sum(weights[n] * logs[n][i] for n in weights) / total for i in range(len(plain))]
    told = {}
    for name, values in logs.items():
        found = interval(values)
        told[name] = {"ratio": math.exp(found["mean"])}
        if found["half"] is not None:
            told[name] |= {
                "low": math.exp(found["mean"] - found["half"]),
                "high": math.exp(found["mean"] + found["half"]),
            }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out/balance_trial"))
    parser.add_argument("--grads", type=Path, metavar="MODEL")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    result: dict[str, Any]
    if a.grads:
        result = {"model": a.grads.name, "batches": BATCHES, "batch": BATCH, "parts": gradients(a.grads)}
    else:
        result = {"steps": a.steps, "batch": 32, "seeds": [], "plain": [], "balanced": []}
        for seed in a.seeds:
            for name in ("plain", "balanced"):
                result[name].append(trial(name == "balanced", a.steps, seed, a.out))
            result["seeds"].append(seed)
            mixture = read_config(a.out / f"plain-{a.steps}-{seed}").data.mixture
            weights = {m.rsplit(":", 1)[0]: float(m.rsplit(":", 1)[1]) for m in mixture}
            here = {name: weights[name] for name in result["plain"][0]["loss"]}
            result["balanced over plain"] = compared(result["plain"], result["balanced"], here)
            for name, told in result["balanced over plain"].items():
                print(f"{name:32} " + "  ".join(f"{key} {value:.3f}" for key, value in told.items()), flush=True)
    if a.json:
        write_json(a.json, result)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
