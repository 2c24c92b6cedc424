"""The published `.pt` to a directory of this library, and that directory to a network.

The import is strict: 296 tensors with these names and these shapes, all finite, or nothing is written.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfflow.official.sit import SiT, SiTConfig

FORMAT = "selfflow-official-sit-1"
WRAPPERS = ("model", "state_dict")
PREFIX = "module."


def import_official(path: Path | str, directory: Path | str, config: SiTConfig | None = None) -> Path:
    """Convert a published checkpoint to `model.safetensors`, `config.json` and a `README.md` in `directory`.

    The state dict may be wrapped in `model` or `state_dict`, and its names may start with `module.`. Precision is kept
    as stored. The directory appears complete or not at all.

    Args:
        path: a `.pt` file; it is read without executing anything in it.
        directory: absent or empty.
        config: of the network; the published SiT-XL/2 by default. (Shapes do not tell the number of heads.)

    Returns:
        The directory.

    Raises:
        FileNotFoundError: when `path` is no file.
        FileExistsError: when `directory` exists and is not empty.
        ValueError: when the file is no checkpoint of this network; the message names every tensor that is missing,
            unexpected, misshapen or not finite.
    """
    path, directory, config = Path(path), Path(directory), config or SiTConfig()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; give the published checkpoint, selfflow_imagenet256.pt")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FileExistsError(f"{directory} exists and is not an empty directory; choose another or delete it")
    tensors = _read(path)
    _check(tensors, config, str(path))

    from safetensors.torch import save_file

    settings = {
        "format": FORMAT,
        "network": dataclasses.asdict(config),
        "source": {"file": path.name, "sha256": _sha256(path)},
    }
    directory.parent.mkdir(parents=True, exist_ok=True)
    partial = directory.parent / f".{directory.name}.partial-{os.getpid()}"
    partial.mkdir()
    try:
        save_file({name: _own(tensor) for name, tensor in tensors.items()}, partial / "model.safetensors")
        (partial / "config.json").write_text(json.dumps(settings, indent=2) + "\n")
        (partial / "README.md").write_text(_card(settings))
        os.replace(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return directory


def load_official(directory: Path | str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> SiT:
    """The network that `import_official` wrote, in evaluation mode.

    Raises:
        FileNotFoundError: when the directory lacks `config.json` or `model.safetensors`.
        ValueError: when either is damaged or the two do not fit each other.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    directory = Path(directory)
    for name in ("config.json", "model.safetensors"):
        if not (directory / name).is_file():
            raise FileNotFoundError(f"{directory} has no {name}; make it with selfflow.official.import_official")
    try:
        settings = json.loads((directory / "config.json").read_text())
        if settings["format"] != FORMAT:
            raise ValueError(f"its format is {settings['format']!r}, not {FORMAT!r}")
        config = SiTConfig(**settings["network"])
        tensors = load_file(directory / "model.safetensors", device=str(device))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{directory} holds no importable SiT ({type(error).__name__}: {error})") from error
    _check(tensors, config, str(directory))
    with torch.device("meta"):
        model = SiT(config)
    model.load_state_dict(tensors, assign=True)
    return model.to(dtype=dtype).eval()


def _read(path: Path) -> dict[str, Any]:
    """The flat state dict in a `.pt` file, without wrapper or prefix."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, ValueError, KeyError) as error:
        reason = (str(error).strip() or "it is empty").splitlines()[0][:200]
        raise ValueError(f"{path} is no readable PyTorch checkpoint ({type(error).__name__}: {reason})") from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content or not all(isinstance(name, str) for name in content):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a state dict of named tensors")
    flat = {name.removeprefix(PREFIX): value for name, value in content.items()}
    if len(flat) < len(content):
        twice = sorted(name for name in content if name.startswith(PREFIX) and name.removeprefix(PREFIX) in content)
        raise ValueError(f"{path} has tensors both with and without the prefix {PREFIX!r}: {', '.join(twice)}")
    return flat


def _check(tensors: dict[str, Any], config: SiTConfig, where: str) -> None:
    """One ValueError that names everything wrong with the tensors, if anything is."""
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in SiT(config).state_dict().items()}
    present = {name: tensors[name] for name in wanted if name in tensors}
    usable = {k: v for k, v in present.items() if isinstance(v, Tensor) and v.is_floating_point()}
    problems = {
        "missing": [name for name in wanted if name not in tensors],
        "unexpected": [name for name in tensors if name not in wanted],
        "not a tensor of real numbers": [name for name in present if name not in usable],
        "misshapen": [
            f"{name} is {tuple(tensor.shape)} and must be {wanted[name]}"
            for name, tensor in usable.items()
            if tuple(tensor.shape) != wanted[name]
        ],
        "not finite": [name for name, tensor in usable.items() if not tensor.isfinite().all()],
    }
    found = [f"  {kind} ({len(names)}): {', '.join(names)}" for kind, names in problems.items() if names]
    if found:
        raise ValueError(
            f"{where} does not hold this SiT ({config.depth} blocks, width {config.width}, {len(wanted)} tensors):\n"
            + "\n".join(found)
        )


def _own(tensor: Tensor) -> Tensor:
    """Contiguous, in storage of its own: safetensors refuses tensors that share memory."""
    tensor = tensor.detach().contiguous()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _card(settings: dict[str, Any]) -> str:
    source, network = settings["source"], settings["network"]
    return f"""---
license: unknown
library_name: selfflow
tags: [self-flow, imagenet, class-conditional]
---

# Self-Flow, ImageNet 256 × 256

Weights of the class-conditional SiT ({network["depth"]} blocks, width {network["width"]}) of *Self-Flow*
(arXiv 2603.06507), converted by `selfflow.official.import_official`; names, shapes, values and precision are those of
the source file.

- Source file: `{source["file"]}`, SHA-256 `{source["sha256"]}`
- Licence: unknown to the converter, which changes nothing about it. Read it in the original release before any use.
- Latents: those of `stabilityai/sd-vae-ft-ema`, times 0.18215.
- Use: `selfflow.official.load_official(directory)`; see docs/official.md of selfflow.
"""
