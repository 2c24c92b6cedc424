"""The recipe `micro-all` on one GPU: one checkpoint for every task, and how it does on each.

Purpose: weights. The first checkpoint that draws, edits, animates, dubs, acts and imagines; later commands go on from
it. Trains until the time is up, from snapshot to snapshot, then writes the averaged weights in bf16 with their card,
small enough to be carried back and committed, and scores them with the suite `all`.

Expected (a guess, for nobody has run this at full length yet; to be replaced by figures): 15 to 25 steps a second at
batch 128 once Tabletop's samples are drawn (the first pass over them is bound by the CPU: 20,000 stills, edits,
references, clips and robot windows at some hundred a second and core); after 20,000 steps captions of stills half
right, edits a third followed, digits recognised, and the policy picking up what it should now and then.

    SELFFLOW_DATA=data python runs/gpu/micro_all.py --out out/gpu/micro-all --minutes 8
    python runs/gpu/micro_all.py --device cpu --toy --out /tmp/toy      # seconds: tiny, on Tabletop only

The same command goes on where it stopped. `--init DIR` begins with the weights of a model directory.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from selfflow.config import Config
from selfflow.evaluate.suite import run_suite
from selfflow.pipeline import BODIES, CARD, CONFIG, WEIGHTS, Pipeline
from selfflow.recipes import micro_all
from selfflow.train.checkpoint import latest
from selfflow.train.run import train

EVERY = 500  # steps between checkpoints
TOY = ("tabletop-still:picture", "tabletop-edit:edit", "tabletop-clip:clip+sound")


def configure(a: argparse.Namespace) -> Config:
    config = micro_all()
    if a.toy:
        config = replace(
            config,
            data=replace(config.data, mixture=TOY, frames=4, workers=0),
            text=replace(config.text, vocabulary=270, captions=30),
            picture=replace(config.picture, size=32, patch=16),
            network=replace(config.network, width=32, depth=2, heads=2),
        )
    return replace(
        config,
        data=replace(config.data, workers=0 if a.toy else a.workers),
        train=replace(
            config.train, steps=a.steps, batch_size=a.batch, save_every=a.every, device=a.device, compile=a.compile
        ),
    )


def carry(directory: Path, out: Path) -> Path:
    """The averaged weights in bf16, with all that a model directory holds."""
    out.mkdir(parents=True, exist_ok=True)
    state = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in load_file(directory / WEIGHTS).items()}
    temporary = out / f".{WEIGHTS}.tmp"
    save_file(state, temporary, metadata={"format": "pt"})
    os.replace(temporary, out / WEIGHTS)
    for name in (CONFIG, CARD, BODIES, "tokenizer.json"):
        if (directory / name).exists():
            shutil.copy2(directory / name, out / name)
    return out


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/gpu/micro-all"), help="the run; kept between commands")
    parser.add_argument("--carry", type=Path, default=Path(os.environ.get("OUT", "out/gpu")) / "weights")
    parser.add_argument("--init", type=Path, help="model directory to begin with")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=EVERY)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--samples", type=int, default=32, help="of each suite; 0 scores nothing")
    parser.add_argument("--minutes", type=float, default=8, help="train no longer than this")
    parser.add_argument("--workers", type=int, default=2, help="threads that draw ahead, for each part of the mixture")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="four tiny steps")
    a = parser.parse_args(arguments)
    if a.toy:
        a.steps, a.every, a.batch, a.samples = 4, 2, 8, 0
    config, deadline = configure(a), time.monotonic() + 60 * a.minutes
    while time.monotonic() < deadline:
        found = latest(a.out / "checkpoints")
        step = int(found.name.removeprefix("step-")) if found else 0
        if step >= a.steps:
            break
        state = train(config, a.out, progress=False, until=min(a.steps, step + a.every), init=a.init)
        print(f"step {state.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in state.metrics.items()), flush=True)
    if not (a.out / WEIGHTS).exists():
        print("time was up before the first checkpoint; the same command goes on")
        return
    print(f"weights in {carry(a.out, a.carry)}")
    if a.samples:
        pipe = Pipeline.from_pretrained(a.carry, device=a.device)
        run_suite(pipe, "all", a.carry / "evaluation.json", samples=a.samples, seed=0, progress=False)


if __name__ == "__main__":
    main()
