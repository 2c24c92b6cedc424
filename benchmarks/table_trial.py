"""One small flow on table scenes, trained and judged: what `picture_trial`, `reward_trial` and `sizes` compare."""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from selfflow.config import Config
from selfflow.evaluate.suite import run_suite
from selfflow.pipeline import Pipeline
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from selfflow.train.run import train
from selfflow.train.trainer import read_metrics

FIGURES = ("facts right", "all facts right", "nothing overlaps or floats")
CAPTIONS = 128


def pace(config: Config, directory: Path, init: Path | None = None) -> float:
    """Seconds of one step, by 30 of them in a directory that is gone afterwards."""
    shutil.rmtree(directory, ignore_errors=True)
    train(replace(config, train=replace(config.train, steps=30)), directory, progress=False, init=init)
    each = statistics.median(m["seconds"] for m in read_metrics(directory / "metrics.jsonl")[5:])
    shutil.rmtree(directory)
    return each


def judged(directory: Path, configured: Callable[[], Config], init: Path | None = None) -> dict[str, float]:
    """Train in `directory`, or go on there, and have held-out pictures read; what was measured before is not again.

    Args:
        init: a model to begin with.

    Returns:
        `FIGURES`, the floor of the first, the velocity loss on true pictures (geometric mean of the suite's levels),
        steps, the seconds they took and parameters.
    """
    kept = directory / "trial.json"
    if kept.exists():
        return dict(json.loads(kept.read_text()))
    config = configured()
    state = train(config, directory, progress=False, init=init)
    if state.step < state.steps:
        raise SystemExit(f"{directory}: stopped at step {state.step} of {state.steps}; the same command goes on")
    pipe = Pipeline.from_pretrained(directory, dtype=fast_dtype("cpu"))
    figures = run_suite(pipe, "tabletop-text", None, samples=CAPTIONS, progress=False)["figures"]
    found = {name: float(figures[name]["value"]) for name in FIGURES}
    losses = [float(figure["value"]) for name, figure in figures.items() if name.startswith("velocity loss")]
    found |= {
        "velocity loss": math.exp(sum(map(math.log, losses)) / len(losses)),
        "floor": float(figures[FIGURES[0]]["floor"]),
        "steps": state.steps,
        "seconds": sum(m["seconds"] for m in read_metrics(directory / "metrics.jsonl")),
        "parameters": sum(p.numel() for p in pipe.net.parameters()),
    }
    write_json(kept, found)
    return found
