"""Checkpoints: one directory per step, written beside its final name and renamed, in torch's distributed format.

The same directory is read by one process or many, sharded or not. Everything that persists is in it: the objective
(student, EMA, heads), the optimiser, the data cursor and the step. A step's randomness is a function of (seed, step),
so there is no generator to save.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from selfflow.train.engine import Engine

STATE = "state.json"


@contextmanager
def _single_process_is_fine() -> Iterator[None]:
    """Without its warning that one process saves as one process."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.distributed is disabled")
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


def _name(step: int) -> str:
    return f"step-{step:08d}"


def write_json(path: Path, value: Any) -> None:
    """Write to a temporary name, then rename: a reader sees the old file or the new one. NaN, no JSON, is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def latest(directory: Path) -> Path | None:
    """The newest complete checkpoint, or None. One being written when the process died is no checkpoint."""
    complete = [p for p in directory.glob("step-*") if (p / STATE).exists() and (p / ".metadata").exists()]
    return max(complete, default=None)


def save(
    directory: Path,
    step: int,
    objective: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    cursor: dict[str, Any],
    engine: Engine,
    keep: int = 2,
) -> Path:
    """Write the checkpoint of `step` and drop all but the newest `keep`. Every process calls this together."""
    final, temporary = directory / _name(step), directory / f".{_name(step)}.tmp"
    if engine.is_main:
        directory.mkdir(parents=True, exist_ok=True)
        for stale in directory.glob(".step-*.tmp"):
            shutil.rmtree(stale)
        temporary.mkdir()
    engine.barrier()
    tensors = {
        "objective": get_model_state_dict(objective),
        "optimizer": get_optimizer_state_dict(objective, tuple(optimizers)),
    }
    with _single_process_is_fine():
        dcp.save(tensors, checkpoint_id=temporary)
    engine.barrier()
    if engine.is_main:
        write_json(temporary / STATE, {"step": step, "cursor": cursor})
        if final.exists():
            shutil.rmtree(final)
        os.replace(temporary, final)
        for old in sorted(directory.glob("step-*"))[:-keep]:
            shutil.rmtree(old)
    engine.barrier()
    return final


def load(path: Path, objective: nn.Module, optimizers: Sequence[torch.optim.Optimizer] = ()) -> dict[str, Any]:
    """Restore in place; returns `{"step", "cursor"}`.

    Tensors that the objective names in `ADDED` may be missing, of a checkpoint from before there were such; they stay.

    Raises:
        ValueError: when the checkpoint is of another network or is damaged, naming it.
    """
    try:
        state = json.loads((path / STATE).read_text())
        model = get_model_state_dict(objective)
        held = dcp.FileSystemReader(path).read_metadata().state_dict_metadata
        stay = {k: model.pop(k) for k in getattr(objective, "ADDED", ()) if f"objective.{k}" not in held}
        tensors: dict[str, Any] = {"objective": model}
        if optimizers:
            tensors["optimizer"] = get_optimizer_state_dict(objective, tuple(optimizers))
        with _single_process_is_fine():
            dcp.load(tensors, checkpoint_id=path)
    except (Exception, CheckpointException) as error:  # torch's own is no Exception; beside it come pickle's and others
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:300]}"
        raise ValueError(
            f"{path} cannot be resumed ({reason}). It is damaged, or of another configuration: "
            "use the same recipe and options, another --out, or delete it"
        ) from error
    options = StateDictOptions(strict=True)
    set_model_state_dict(objective, tensors["objective"] | stay, options=options)
    if optimizers:
        set_optimizer_state_dict(objective, tuple(optimizers), tensors["optimizer"], options=options)
    return state
