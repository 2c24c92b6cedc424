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

from selfflow.card import model_card, origins, packs_of, steps_said
from selfflow.config import Config, from_dict, to_dict
from selfflow.data.packs import PackMissing, find
from selfflow.modalities.text import BytePairs, Pretrained
from selfflow.model_directory import BODIES, CARD, CODEC, CONFIG, SOUND_CODEC
from selfflow.train.checkpoint import write_json
from selfflow.train.history import HISTORY, RUN, training
from selfflow.train.run import load_objective
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
        ValueError: for damaged files, a model too large, or an `out` that holds something other than a model; nothing
            is replaced then.
    """
    _refuse_to_replace(out)
    config = from_dict(Config, json.loads(_text(source / CONFIG)))
    texts = [source / name for name in (BytePairs.FILE, Pretrained.FILE)]
    if not any(path.exists() for path in texts):
        raise FileNotFoundError(f"{' or '.join(map(str, texts))} is missing: a model directory holds how it reads text")
    # Where samples were kept is a place on the machine that trained it, and of no use to others.
    config = replace(config, data=replace(config.data, cache=""))
    measured = None if evaluation is None else json.loads(_text(evaluation))
    if student:
        objective, _, _, step = load_objective(source)
        state: dict[str, Tensor] = objective.net.state_dict()
        history = training(source, config, step)
    else:
        state, history = read_weights(source), training(source, config)
    partial = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        files = write_weights(state, partial, torch.bfloat16, file_limit)
        for name in (BytePairs.FILE, Pretrained.FILE, BODIES):
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
        for pack in packs_of(origins(config, history)):
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


def _refuse_to_replace(out: Path) -> None:
    """What is replaced whole must be a model and no more: not a run, and not the shelf on which models stand."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / CONFIG).exists() or any((out / name).exists() for name in (RUN, "checkpoints")):
        kind = "a run" if (out / RUN).exists() else "something other than a release"
        raise ValueError(f"{out} holds {kind} and would be replaced whole; give --out the name of a new directory")


def _page(measured: Mapping[str, Any]) -> dict[str, Any]:
    """The page of an evaluation without the details of each suite, which may weigh more than the weights."""
    return {k: v for k, v in measured.items() if k != "suites"}


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
