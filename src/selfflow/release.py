"""A release: a trained model made small enough to be handed on, with a card that says all a reader needs to know.

    python -m selfflow.release out/all --out weights/micro-all --evaluation all.json

writes the averaged weights (with `--student` the last ones) in bfloat16, in files below 16 MiB, with what belongs to
them, and the card: data and their licences, training, figures, limits.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfflow.card import model_card, objective_of, steps_said
from selfflow.config import Config, from_dict, to_dict
from selfflow.data.packs import PackMissing, find
from selfflow.modalities.text import BytePairs
from selfflow.pipeline import BODIES, CARD, CODEC, CONFIG, SOUND_CODEC
from selfflow.train.checkpoint import write_json
from selfflow.train.run import HISTORY, RUN, load_objective
from selfflow.train.trainer import read_metrics
from selfflow.weight_files import read_weights, write_weights

FILE_LIMIT = 16 * 2**20
LIMIT = 30_000_000
EVALUATION = "evaluation.json"
_CREDITS = {"lpc64": "AUTHORS.txt"}  # packs whose licence asks for more names than a card has room for


def release(
    source: Path,
    out: Path,
    evaluation: Path | None = None,
    student: bool = False,
    file_limit: int = FILE_LIMIT,
    limit: int = LIMIT,
) -> Path:
    """Make a model directory of a run, or of another model directory; `out` is replaced whole.

    Args:
        source: a run's directory, or a model directory.
        evaluation: JSON of `selfflow evaluate --suite all --json`, for the card; kept beside the weights.
        student: the last weights of a run instead of their average, which in a short run looks back too far.
        file_limit, limit: bytes of one file, and of all files together.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: for damaged files, or a model too large; nothing is replaced then.
    """
    config = from_dict(Config, json.loads(_text(source / CONFIG)))
    # Where samples were kept is a place on the machine that trained it, and of no use to others.
    config = replace(config, data=replace(config.data, cache=""))
    measured = None if evaluation is None else json.loads(_text(evaluation))
    if student:
        objective, _, config, step = load_objective(source)
        state: dict[str, Tensor] = objective.net.state_dict()
        history = training(source, config, step)
    else:
        state, history = read_weights(source), training(source, config)
    partial = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        files = write_weights(state, partial, torch.bfloat16, file_limit)
        for name in (BytePairs.FILE, BODIES):
            if (source / name).exists():
                shutil.copyfile(source / name, partial / name)
        for name in (CODEC, SOUND_CODEC):
            if (source / name).is_dir():
                shutil.copytree(source / name, partial / name)
        write_json(partial / CONFIG, to_dict(config))
        if history:
            write_json(partial / HISTORY, history)
        if measured is not None:
            write_json(partial / EVALUATION, _page(measured))
        for pack in _packs(config):
            with suppress(PackMissing, FileNotFoundError, KeyError):
                shutil.copyfile(find(pack) / _CREDITS[pack], partial / f"{pack}-{_CREDITS[pack]}")
        numbers = sum(v.numel() for v in state.values())
        parts = "one file" if len(files) == 1 else f"{len(files)} files"
        stored = f"{numbers:,} parameters, kept in bfloat16 in {parts}."
        step = history[-1]["steps"] if history else steps_said(_text(source / CARD)) or 0
        (partial / CARD).write_text(model_card(config, step, history, measured, stored), encoding="utf-8")
        size = sum(p.stat().st_size for p in partial.rglob("*") if p.is_file())
        if size > limit:
            raise ValueError(f"{source} comes to {size:,} bytes; a release holds at most {limit:,}")
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        partial.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def training(source: Path, config: Config, step: int | None = None) -> list[dict[str, Any]]:
    """The trainings that led to a model, first to last: what it was begun from, then its own run.

    Each says recipe, objective, steps, samples, tokens, hours, machine, and whether weights are `averaged`.

    Args:
        step: whose last weights are taken; None for the averaged ones of the run's model.
    """
    path = source / HISTORY
    history: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    metrics = read_metrics(source / "metrics.jsonl")
    if not metrics or not (source / RUN).exists():
        return history
    machine = json.loads((source / RUN).read_text())["machine"]
    # Weights are written now and then, metrics at every step.
    said = steps_said(_text(source / CARD)) if step is None and (source / CARD).exists() else step
    steps = int(metrics[-1]["step"]) if said is None else said
    taken = [m for m in metrics if m["step"] <= steps]
    seconds = [m["seconds"] for m in taken]
    name = f"{machine['processes']} × {machine['name']}" if machine["device"] != "cpu" else (
        f"{machine['threads']} CPU thread{'s' if machine['threads'] > 1 else ''} ({machine['name']})"
    )  # fmt: skip
    own = {
        "recipe": config.name,
        "objective": objective_of(config),
        "steps": steps,
        "averaged": step is None,
        "samples": steps * config.train.batch_size,
        "tokens": round(sum(m["tokens_per_s"] * s for m, s in zip(taken, seconds, strict=True))),
        "hours": round(sum(seconds) / 3600, 3),
        "machine": f"{name}, {machine['precision']}, torch {machine['torch']}",
    }
    return [*history, own]


def _page(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The page of an evaluation without the details of each suite, which may weigh more than the weights."""
    return {k: v for k, v in measured.items() if k != "suites"}


def _packs(config: Config) -> list[str]:
    from selfflow.data.mixture import Ingredient
    from selfflow.data.registry import SOURCES

    names = [Ingredient.parse(text).source for text in config.data.mixture]
    return list(dict.fromkeys(SOURCES[n].pack for n in names))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileNotFoundError(f"{path} cannot be read: {error}") from None


def main(source: Path, /, out: Path, evaluation: Path | None = None, student: bool = False) -> None:
    """Make a release of a trained model: bfloat16, files below 16 MiB, 30 MB in all, and a card.

    Args:
        source: Directory of a run, or a model directory.
        out: Directory to write, such as weights/micro-all; replaced whole.
        evaluation: JSON written by `selfflow evaluate --suite all --json`, for the card.
        student: Take the last weights instead of their average, which in a short run looks back too far.
    """
    written = release(source, out, evaluation, student)
    for path in sorted(written.rglob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:>12,}  {path}")


if __name__ == "__main__":
    import tyro

    tyro.cli(main, prog="python -m selfflow.release")
