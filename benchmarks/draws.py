"""How many draws of noise is one reading of a sample worth? Of a model, for pictures from words, edits and references.

    python benchmarks/draws.py --model weights/micro-all [--samples 48] [--json benchmarks/draws.json]

A gradient's noise has two parts: what differs from draw to draw (of noise and time, w of its squared length, over the
matrices of the blocks) and what differs from sample to sample. Several draws for one reading cost less than as many
samples and take from the first part alone. Told: w, what k draws cost (CPU seconds of forward and backward, over those
of one), and by how much k draws lessen the noise for equal time, `cost · (1 - w + w / k)`: below 1 they are worth
their time. `selfflow.objectives.base.worthwhile` is the rule that these figures led to. All of the velocity loss
alone, without what training adds to it. One thread.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfflow.data.registry import open_named
from selfflow.objectives import FlowMatching
from selfflow.objectives.base import worthwhile
from selfflow.pipeline import Pipeline
from selfflow.tasks import named
from selfflow.times import Draws
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from selfflow.train.optimizer import block_matrices

PARTS = {
    "tabletop-still": "picture", "tabletop-edit": "edit", "tabletop-reference": "edit", "tabletop-alike": "edit",
}  # fmt: skip
EACH = 3  # draws of a sample, to tell the two parts of the noise apart
DRAWS = (1, 2, 3, 4, 6)
BATCH = 8  # to time
EVERY = 29  # of how many entries of a gradient one is looked at


def shares(gradients: Tensor) -> tuple[float, float]:
    """Squared length of a gradient's noise, `(between samples, between draws)`, of `(samples, draws, values)`."""
    draws = gradients.shape[1]
    within = gradients.var(dim=1).sum(dim=-1).mean()
    between = gradients.mean(dim=1).var(dim=0).sum() - within / draws
    return float(between.clamp(min=0)), float(within)


def left(w: float, k: int, cost: float) -> float:
    """Noise that is left for equal time by k draws that cost so much as one, over that of one."""
    return cost * (1 - w + w / k)


def measured(objective: FlowMatching, pipe: Pipeline, source: Any, task: str, samples: int) -> dict[str, Any]:
    """Of one part: tokens read and generated, w, and for each number of draws its cost and the noise left."""
    matrices, found = block_matrices(objective), []

    def streams(first: int, count: int) -> tuple[Any, Any]:
        given = pipe.modalities.streams([source[i] for i in range(first, first + count)], named(task), pipe.device)
        return named(task).split(given)

    def loss(generated: Any, known: Any, seed: int) -> Tensor:
        with torch.autocast("cpu", fast_dtype("cpu")):
            total: Tensor = objective(generated, known, draws=Draws(torch.Generator().manual_seed(seed))).total
        return total

    for i in range(samples):
        generated, known = streams(i, 1)
        for e in range(EACH):
            given = torch.autograd.grad(loss(generated, known, EACH * i + e), matrices, allow_unused=True)
            found.append(torch.cat([g.flatten()[::EVERY] for g in given if g is not None]))
    between, within = shares(torch.stack(found).view(samples, EACH, -1).double())
    generated, known = streams(samples, BATCH)
    read, w = sum(map(len, known)), within / (between + within)
    seconds = []
    for k in DRAWS:
        several, taken = generated.each(k), []
        for _ in range(3):
            begun = time.process_time()
            loss(several, known, 0).backward()
            taken.append(time.process_time() - begun)
            objective.zero_grad()
        seconds.append(min(taken))
    costs = [s / seconds[0] for s in seconds]
    return {
        "read": read, "generated": len(generated), "between draws": w,
        "draws": {str(k): {"cost": c, "noise left": left(w, k, c)} for k, c in zip(DRAWS, costs, strict=True)},
        "taken": worthwhile(read, len(generated)),
    }  # fmt: skip


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=48, help="of each part")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args(given)
    torch.set_num_threads(1)
    pipe = Pipeline.from_pretrained(a.model)
    pipe.net.requires_grad_(True)
    o = pipe.config.objective
    objective = FlowMatching(pipe.net, density=o.density, modalities=o.modalities)
    result = {}
    for name, task in PARTS.items():
        source = open_named(name, pipe.config.picture.size, seed=5, count=a.samples + BATCH)
        one = result[name] = measured(objective, pipe, source, task, a.samples)
        told = "  ".join(f"{k}: {v['noise left']:.2f} at {v['cost']:.2f}" for k, v in one["draws"].items())
        print(f"{name:20} read {one['read']:4}  w {one['between draws']:.2f}  {told}  taken {one['taken']}", flush=True)
    if a.json:
        write_json(a.json, {"samples": a.samples, "each": EACH, "batch": BATCH, "parts": result})


if __name__ == "__main__":
    main()
