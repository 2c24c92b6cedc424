"""How large a network a budget of time can train: the same CPU seconds for each, and a reader judges the pictures.

    python benchmarks/sizes.py [--seconds 400] [--seeds 0 1 2] [--json FILE]

`nano`'s small world of tables (four kinds of things, one or two of them, 48 pixels) learned from captions by networks
of several sizes in patches of 8 or 12 pixels. A network too large for its time has seen too few samples; one too small
has nowhere to put them. How many steps the time is worth 30 steps tell before; the schedule ends with them. Two
figures of 128 held-out captions: the share of facts right, and of pictures with all facts right; floors are true
pictures of other captions. Runs that are there are not trained again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfflow.config import Config
from selfflow.recipes import flow_matching, nano
from selfflow.train.checkpoint import write_json
from table_trial import CAPTIONS, FIGURES, judged, pace

SIZES = ("96x3:8", "128x4:8", "192x6:8", "256x8:8", "128x4:12", "192x6:12")  # width x depth : patch


def configured(size: str, steps: int, seed: int) -> Config:
    """`nano` of that size."""
    shape, patch = size.split(":")
    width, depth = (int(part) for part in shape.split("x"))
    config = flow_matching(nano())
    return replace(
        config,
        picture=replace(config.picture, patch=int(patch)),
        network=replace(config.network, width=width, depth=depth, heads=max(1, width // 32)),
        train=replace(config.train, steps=steps, seed=seed, device="cpu", threads=1, save_every=10**6),
    )


def worth(size: str, seconds: float, out: Path) -> int:
    """Steps that so many seconds are worth."""
    each = pace(configured(size, 30, 0), out / f"pace-{size.replace(':', '-')}")
    return max(1, round(seconds / each))


def steps_of(size: str, seconds: float, out: Path, directory: Path) -> int:
    """Of the run begun in `directory`, else what the seconds are worth now."""
    begun = directory / "run.json"
    if begun.exists():
        return int(json.loads(begun.read_text())["config"]["train"]["steps"])
    return worth(size, seconds, out)


def trial(size: str, seconds: float, seed: int, out: Path) -> dict[str, float]:
    """One size with one seed, trained and judged."""
    directory = out / f"{size.replace(':', '-')}-{seconds:g}-{seed}"
    return judged(directory, lambda: configured(size, steps_of(size, seconds, out, directory), seed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--seconds", type=float, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("out/sizes"))
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    result: dict[str, Any] = {"seconds": a.seconds, "batch": 32, "captions": CAPTIONS, "sizes": {}}
    for seed in a.seeds:  # a seed of every size first: cut short, they can be compared all the same
        for size in a.sizes:
            runs = result["sizes"].setdefault(size, {"runs": []})["runs"]
            runs.append({"seed": seed, **trial(size, a.seconds, seed, a.out)})
            told = {name: float(np.mean([run[name] for run in runs])) for name in (*FIGURES, "steps", "seconds")}
            result["sizes"][size] |= told
            print(size, len(runs), {k: round(v, 3) for k, v in told.items()}, runs[-1]["parameters"], flush=True)
            if a.json:
                write_json(a.json, result)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
