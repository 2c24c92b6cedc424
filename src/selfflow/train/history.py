"""What led to a model: the trainings it went through, first to last, and on whose data."""

from __future__ import annotations

import json
from itertools import takewhile
from pathlib import Path
from typing import Any

from selfflow.card import objective_of, steps_said
from selfflow.config import Config
from selfflow.model_directory import CARD, read_config
from selfflow.train.trainer import read_metrics

RUN = "run.json"
HISTORY = "training.json"


def training(source: Path, config: Config, step: int | None = None) -> list[dict[str, Any]]:
    """The trainings that led to a model, first to last: what it was begun from, then its own run.

    Each says recipe, objective, steps, samples, tokens, hours, machine, whether weights are `averaged`, and the `data`
    whose licences the weights carry.

    Args:
        source: a run's directory, or a model directory.
        step: whose last weights are taken; None for the averaged ones of the run's model.
    """
    history = history_of(source)
    metrics = read_metrics(source / "metrics.jsonl")
    if not metrics or not (source / RUN).exists():
        return history
    machine = json.loads((source / RUN).read_text())["machine"]
    # Weights are written now and then, metrics at every step.
    card = source / CARD
    said = steps_said(card.read_text(encoding="utf-8")) if step is None and card.exists() else step
    steps = int(metrics[-1]["step"]) if said is None else said
    taken = [m for m in metrics if m["step"] <= steps]
    seconds = [m["seconds"] for m in taken]
    name = f"{machine['processes']} × {machine['name']}" if machine["device"] != "cpu" else (
        f"{machine['processes'] * machine['threads']} CPU thread"
        f"{'s' if machine['processes'] * machine['threads'] > 1 else ''} ({machine['name']})"
    )  # fmt: skip
    data = config.data
    own = {
        "recipe": config.name,
        "objective": objective_of(config),
        "steps": steps,
        "averaged": step is None,
        "samples": steps * config.train.batch_size,
        "tokens": round(sum(m["tokens_per_s"] * s for m, s in zip(taken, seconds, strict=True))),
        "hours": round(sum(seconds) / 3600, 3),
        "machine": f"{name}, {machine['precision']}, torch {machine['torch']}",
        "data": {"source": data.source, "mixture": [*data.mixture], "permissive_only": data.permissive_only},
    }
    return [*history, own]


def carried(before: Path, after: Path) -> list[dict[str, Any]]:
    """The trainings that led from one model to another, marked `carried`: of a third to which their change is added.

    Its weights carry the licences of what these saw as they do those of its own.
    """
    old, new = (training(d, read_config(d)) for d in (before, after))
    shared = [*takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False))]
    return [{**entry, "carried": True} for entry in new[len(shared) :]]


def history_of(directory: Path) -> list[dict[str, Any]]:
    """What a model or a run was begun from: its `training.json`."""
    path = directory / HISTORY
    found: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return found
