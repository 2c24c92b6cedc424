"""The tensors of a network on disk: one safetensors file, or several with the index of the Hugging Face hub.

A file can be kept below a limit (what a repository or a mail takes), and numbers can be kept in bfloat16, which is half
as large. In memory they have the network's own precision.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
_PARTS = "model-*-of-*.safetensors"


def write_weights(
    state: Mapping[str, Tensor], directory: Path, dtype: torch.dtype | None = None, limit: int | None = None
) -> list[Path]:
    """Write tensors to a directory; each file appears whole or not at all, and what was there before goes last.

    Args:
        dtype: of numbers with a point; their own by default. Others stay as they are.
        limit: bytes of a file, its header included; without one there is a single file, `model.safetensors`.

    Returns:
        the files.

    Raises:
        ValueError: when a single tensor is larger than a file may be.
    """
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    tensors = {
        k: v.detach().cpu().to(dtype if dtype and v.is_floating_point() else v.dtype).contiguous()
        for k, v in state.items()
    }
    if limit is None:
        plan = {WEIGHTS: list(tensors)}
        places = {}
    else:
        # The header names every tensor once, in less than 128 bytes beside its name.
        room = limit - sum(128 + len(name) for name in tensors) - 1024
        for name, tensor in tensors.items():
            if tensor.nbytes > room:
                raise ValueError(
                    f"{name} takes {tensor.nbytes:,} bytes; files of {limit:,} hold at most {room:,} of it"
                )
        split = split_torch_state_dict_into_shards(tensors, max_shard_size=room)
        plan, places = split.filename_to_tensors, split.tensor_to_filename if split.is_sharded else {}
    directory.mkdir(parents=True, exist_ok=True)
    for name, keys in plan.items():
        save_file({k: tensors[k] for k in keys}, directory / f".{name}.tmp", metadata={"format": "pt"})
        os.replace(directory / f".{name}.tmp", directory / name)
    if places:
        size = sum(tensor.nbytes for tensor in tensors.values())
        index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(places.items()))}
        (directory / f".{INDEX}.tmp").write_text(json.dumps(index, indent=2) + "\n")
        os.replace(directory / f".{INDEX}.tmp", directory / INDEX)
    else:
        (directory / INDEX).unlink(missing_ok=True)
    for old in (directory / WEIGHTS, *directory.glob(_PARTS)):
        if old.name not in plan:
            old.unlink(missing_ok=True)
    return [directory / name for name in plan]


def has_weights(directory: Path) -> bool:
    """Whether a directory holds weights, in one file or several."""
    return (directory / INDEX).exists() or (directory / WEIGHTS).exists()


def weight_files(directory: Path) -> list[Path]:
    """The files that hold the weights of a model directory.

    Raises:
        FileNotFoundError: when there are none, or one that the index names is missing.
        ValueError: for a damaged index.
    """
    if not (directory / INDEX).exists():
        if not (directory / WEIGHTS).exists():
            raise FileNotFoundError(f"{directory / WEIGHTS} is missing; a model directory holds it, or {INDEX}")
        return [directory / WEIGHTS]
    try:
        names = sorted(set(json.loads((directory / INDEX).read_text())["weight_map"].values()))
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{directory / INDEX} is damaged: {type(error).__name__}: {error}") from error
    if wrong := [n for n in names if not isinstance(n, str) or Path(n).name != n]:
        raise ValueError(f"{directory / INDEX} names {wrong[0]!r}; parts lie beside it")
    if absent := [n for n in names if not (directory / n).exists()]:
        raise FileNotFoundError(f"{directory / INDEX} names {', '.join(absent)}, which is missing")
    return [directory / n for n in names]


def read_weights(directory: Path) -> dict[str, Tensor]:
    """The tensors of a model directory, as stored.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: when one is damaged, naming it.
    """
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for path in weight_files(directory):
        try:
            state |= load_file(path)
        except Exception as error:  # safetensors raises its own SafetensorError
            raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    return state


def load_weights(
    net: nn.Module,
    directory: Path,
    new: tuple[str, ...] = (),
    spare: str = "mid_",
    anew: tuple[str, ...] = (),
    state: dict[str, Tensor] | None = None,
) -> None:
    """Load the weights of a model directory strictly, into the network's own precision.

    Args:
        new: prefixes of tensors that the directory may lack; the network's stay as they are.
        spare: prefix of tensors that the network may lack: output layers at mid depth are a side exit, without which
            the rest says the same.
        anew: prefixes of tensors that are not taken, whatever the directory holds.
        state: what to load in place of what the directory holds: its tensors, changed.

    Raises:
        FileNotFoundError: when a file is missing.
        ValueError: listing every missing, unexpected or misshapen tensor, or saying that a file is damaged.
    """
    state, own = read_weights(directory) if state is None else state, net.state_dict()
    state = {k: v for k, v in state.items() if not k.startswith(anew)}
    state = {k: v for k, v in own.items() if k.startswith((*new, *anew))} | state
    state = {k: v for k, v in state.items() if k in own or not k.startswith(spare)}
    problems = [f"missing {k}" for k in own.keys() - state.keys()]
    problems += [f"unexpected {k}" for k in state.keys() - own.keys()]
    problems += [
        f"{k} has shape {tuple(state[k].shape)}, not {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if own[k].shape != state[k].shape
    ]
    if problems:
        raise ValueError(f"{directory / WEIGHTS} does not fit the network: " + "; ".join(sorted(problems)))
    net.load_state_dict(state)
