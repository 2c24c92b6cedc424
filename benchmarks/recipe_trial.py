"""Does an option of the recipe for all tasks earn its place? A small network learns the mixture, over several seeds.

    python benchmarks/recipe_trial.py [--arms plain balanced] [--steps 700] [--seeds 0 1 2] [--json FILE]
    python benchmarks/recipe_trial.py --gradients MODEL [--json FILE]

`micro-all`'s mixture by flow matching in a network of 128 × 4, one arm with an option and one without: the same
weights, data, order and noise for a seed, so that differences are taken seed by seed. Measured, of the averaged
weights, on held-out samples with the same noise for all: the velocity loss of every part of the mixture. Told: every
arm's over the first one's, for each part and, as a geometric mean by the parts' weights, for all. Runs that are there
are not trained again.

`--gradients` tells what a step of such a mixture is made of: for each part the loss, the length of its gradient over
the matrices that Muon moves, and how much of a step's squared length comes from it, as it is and with `train.balance`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfflow.building import build_modalities
from selfflow.config import Config
from selfflow.data.mixture import Ingredient
from selfflow.data.opening import open_mixture, open_mixture_loader
from selfflow.evaluate.distances import interval
from selfflow.model_directory import load_quantiles, read_config
from selfflow.objectives import FlowMatching, Losses
from selfflow.pipeline import Pipeline
from selfflow.recipes import flow_matching, micro_all
from selfflow.times import Draws
from selfflow.tokens import Tokens
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from selfflow.train.optimizer import block_matrices
from selfflow.train.run import open_text, train
from selfflow.train.task import Prepare
from selfflow.train.trainer import read_metrics

BATCHES, BATCH = 4, 16  # of each part, to measure on
CPU = torch.device("cpu")


def practised(config: Config, **changes: Any) -> Config:
    """With another way to practise actions."""
    o = config.objective
    action = replace(o.modalities["action"], **changes)
    return replace(config, objective=replace(o, modalities={**o.modalities, "action": action}))


def trained(config: Config, **changes: Any) -> Config:
    return replace(config, train=replace(config.train, **changes))


def built(config: Config, **changes: Any) -> Config:
    return replace(config, network=replace(config.network, **changes))


# Balance, copying and places are the recipe's. Only `places` has the last, which came when the others were measured.
ARMS: dict[str, Callable[[Config], Config]] = {
    "balanced": lambda c: built(c, places=False),
    "plain": lambda c: trained(built(c, places=False), balance=False),
    "places": lambda c: c,
    "one draw": lambda c: practised(built(c, places=False), draws=1),
    "no copying": lambda c: built(c, places=False, copying=False),
    "two parts a step": lambda c: trained(built(c, places=False), accumulate=2),
}


def configured(arm: str, steps: int, seed: int, drawn: Path) -> Config:
    """`micro-all`, small, with that option; `drawn` is where arms share the samples that are made."""
    config = flow_matching(micro_all())
    config = replace(
        config,
        data=replace(config.data, cache=str(drawn)),
        text=replace(config.text, captions=2000),
        network=replace(config.network, width=128, depth=4, heads=4),
        optim=replace(config.optim, learning_rate=2.5e-3, muon_scale=1.0, warmup=50, cooldown=0.4),
    )
    config = trained(
        config, steps=steps, batch_size=32, accumulate=4, seed=seed, device="cpu", threads=1, save_every=10**6
    )
    return ARMS[arm](config)


class Parts:
    """The parts of a model's mixture one by one: batches of each, and their losses.

    Args:
        directory: a model's.
        split: "train", with as many draws of noise as it is trained with, or "test", with one.
    """

    def __init__(self, directory: Path, split: str) -> None:
        config = read_config(directory)
        text = open_text(config, directory, list)
        o = config.objective
        self.objective = FlowMatching(
            Pipeline.from_pretrained(directory).net, density=o.density, modalities=o.modalities,
            copying_weight=o.copying_weight if config.network.copying else 0.0,
        )  # fmt: skip
        several = {name: practice.draws for name, practice in o.modalities.items() if split == "train"}
        self.prepare = Prepare(build_modalities(config, text, load_quantiles(directory)), 0.0, 0.0, 1, several)
        sources = open_mixture(replace(config.data, workers=0), config.picture.size, split, seed=1)
        self.sources = {f"{i.source}:{i.task}": (source, i) for source, i in sources}

    def losses(self, name: str) -> Iterator[Losses]:
        """Of one batch after the other."""
        loader = open_mixture_loader([self.sources[name]], BATCH, 1, 0, 0, 0, 1)
        for number in range(BATCHES):
            draws, batch = Draws.at(0, number), next(loader)
            data, context = self.prepare(batch, draws, CPU)
            if isinstance(data, Tokens):
                draws = draws.several(data.batch // len(batch.ids))
            with torch.autocast("cpu", fast_dtype("cpu")):
                losses = self.objective(data, context, draws=draws)
            yield losses


@torch.no_grad()
def held_out(directory: Path) -> dict[str, float]:
    """Part → velocity loss on held-out samples."""
    parts = Parts(directory, "test")
    return {
        name: float(np.mean([float(found.parts["loss_velocity"]) for found in parts.losses(name)]))
        for name in parts.sources
    }


def gradients(directory: Path) -> dict[str, dict[str, float]]:
    """Part → loss, root mean square of its gradient's length, and its share of a step, as it is and balanced."""
    parts = Parts(directory, "train")
    matrices = block_matrices(parts.objective)
    found: dict[str, dict[str, float]] = {}
    for name, (_, ingredient) in parts.sources.items():
        losses, squares = [], []
        for one in parts.losses(name):
            given = torch.autograd.grad(one.total, matrices, allow_unused=True)
            losses.append(float(one.total.detach()))
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


def trial(arm: str, steps: int, seed: int, out: Path) -> dict[str, Any]:
    """One run, trained and measured."""
    directory = out / f"{arm.replace(' ', '-')}-{steps}-{seed}"
    kept = directory / "trial.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    state = train(configured(arm, steps, seed, out / "drawn"), directory, progress=False)
    if state.step < state.steps:
        raise SystemExit(f"{directory}: stopped at step {state.step} of {state.steps}; the same command goes on")
    seconds = sum(m["seconds"] for m in read_metrics(directory / "metrics.jsonl"))
    mixture = [Ingredient.parse(text) for text in read_config(directory).data.mixture]
    weights = {f"{i.source}:{i.task}": i.weight for i in mixture}
    found = {"seed": seed, "seconds": seconds, "loss": (losses := held_out(directory))}
    found["weights"] = {name: weights[name] for name in losses}
    write_json(kept, found)
    return found


def compared(first: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Losses over the first arm's: means and 95 % intervals of their logarithms, over seeds.

    Seconds are not compared: who comes first draws the samples that the others find drawn.
    """
    weights = first[0]["weights"]
    logs = {
        name: [math.log(b["loss"][name] / a["loss"][name]) for a, b in zip(first, other, strict=True)]
        for name in weights
    }
    total = sum(weights.values())
    logs["all"] = [sum(weights[name] * logs[name][i] for name in weights) / total for i in range(len(first))]
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
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=["plain", "balanced"])
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out/recipe_trial"))
    parser.add_argument("--gradients", type=Path, metavar="MODEL")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    if a.gradients:
        result = {"batches": BATCHES, "batch": BATCH, "parts": gradients(a.gradients)}
        if a.json:
            write_json(a.json, result)
        return
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in a.arms}
    for seed in a.seeds:  # a seed of every arm first: cut short, they can be compared all the same
        for arm in a.arms:
            runs[arm].append(trial(arm, a.steps, seed, a.out))
        over = {arm: compared(runs[a.arms[0]], runs[arm]) for arm in a.arms[1:]}
        for arm, parts in over.items():
            for name, told in parts.items():
                print(f"{arm:18} {name:32} " + "  ".join(f"{k} {v:.3f}" for k, v in told.items()), flush=True)
        if a.json:
            write_json(a.json, {"steps": a.steps, "batch": 32, "arms": runs, f"over {a.arms[0]}": over})


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
