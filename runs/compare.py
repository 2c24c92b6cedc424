"""Compare two runs of `runs/micro_emoji.sh`: Self-Flow beside flow matching, at equal steps and at equal wall-clock.

Scores four averaged models with the `emoji` suite: Self-Flow at its last snapshot, and flow matching at the snapshot
whose summed step time is nearest to it; then both at one step (`--step`; by default the last that both kept: name an
earlier one when only one of them has cooled down by then). Writes one JSON, and one sheet of 64 held-out prompts: for
each, Self-Flow, flow matching at equal time, and the real picture.

    .venv/bin/python runs/compare.py OUT --json docs/figures/micro_emoji.json

One seed a side shows what each reaches, not which is better: that takes `runs/gpu/micro_emoji.py`, three seeds each.
"""

from __future__ import annotations

import argparse
import json
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfflow.data.emoji import Emoji
from selfflow.evaluate.grid import sheet
from selfflow.evaluate.suite import run_suite
from selfflow.pipeline import Pipeline
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from selfflow.train.trainer import read_metrics

PROMPTS = 64


def snapshots(run: Path) -> dict[int, Path]:
    """Step → directory of averaged weights."""
    return {int(p.name): p for p in (run / "snapshots").iterdir()}


def clock(run: Path) -> list[float]:
    """Seconds of training after each step."""
    return [0.0, *accumulate(m["seconds"] for m in read_metrics(run / "metrics.jsonl"))]


def score(model: Path, options: dict[str, Any]) -> dict[str, Any]:
    """The suite's figures, from `emoji.json` beside the weights when it was scored before with these options."""
    path = model / "emoji.json"
    if path.exists() and json.loads(path.read_text())["options"] == {**options, "seed": 0}:
        return json.loads(path.read_text())
    return run_suite(Pipeline.from_pretrained(model, dtype=fast_dtype("cpu")), "emoji", path, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--json", type=Path, default=Path("docs/figures/micro_emoji.json"))
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--step", type=int, default=None)
    a = parser.parse_args()
    ours, plain = a.out / "self-flow", a.out / "flow-matching"
    both = sorted(snapshots(ours).keys() & snapshots(plain).keys())
    if not both:
        raise SystemExit(f"{a.out} has no step at which both runs left a snapshot; run runs/micro_emoji.sh first")
    step = both[-1] if a.step is None else a.step
    if step not in both:
        raise SystemExit(f"both runs left no snapshot of step {step}; choose one of {both}")
    last = max(snapshots(ours))
    times = clock(plain)
    same_time = min(snapshots(plain), key=lambda s: abs(times[s] - clock(ours)[last]))
    models = {
        "self-flow": (ours, last),
        "flow matching, equal time": (plain, same_time),
        "self-flow, equal steps": (ours, step),
        "flow matching, equal steps": (plain, step),
    }
    options = {"samples": a.samples, "steps": a.steps, "guidance": a.guidance}
    results: dict[str, Any] = {"run": json.loads((ours / "run.json").read_text()), "options": options}
    for name, (run, at) in models.items():
        print(f"\n{name}: step {at}, {clock(run)[at]:.0f} s of training")
        results[name] = {"step": at, "training_seconds": clock(run)[at], **score(snapshots(run)[at], options)}
    a.json.parent.mkdir(parents=True, exist_ok=True)
    write_json(a.json, results)

    source = Emoji("test_combo")
    samples = [source[i] for i in np.linspace(0, len(source) - 1, PROMPTS).astype(int)]
    drawn = []
    for run, at in ((ours, last), (plain, same_time)):
        pipe = Pipeline.from_pretrained(snapshots(run)[at], dtype=fast_dtype("cpu"))
        generators = [torch.Generator().manual_seed(i) for i in range(PROMPTS)]
        drawn.append(
            pipe(
                [s.text for s in samples], num_inference_steps=a.steps, guidance_scale=a.guidance,
                generator=generators, output_type="np",
            ).images
        )  # fmt: skip
    cells = [p for s, *pair in zip(samples, *drawn, strict=True) for p in (*pair, s.picture)]
    captions = [c for s in samples for c in (s.text, "flow matching", "real")]
    sheet(cells, captions, 12, a.json.with_suffix(".png"))
    print(f"\n{a.json}, {a.json.with_suffix('.png')}")


if __name__ == "__main__":
    main()
