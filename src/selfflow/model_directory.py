"""What lies in a model directory, and how what is no weights is read back.

`config.json`, the EMA weights (see `selfflow.weight_files`), the text encoder's file, `bodies.json` (of models that
act: how actions are scaled), codecs' directories (of models of latents) and a `README.md` (model card).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from selfflow.config import Config, from_dict
from selfflow.modalities.action import Quantiles

CONFIG, CARD, BODIES = "config.json", "README.md", "bodies.json"
CODEC, SOUND_CODEC = "codec", "sound-codec"  # directories, of a model whose pictures, whose sounds are latents


def read_config(directory: Path) -> Config:
    """The configuration of a model directory, its codecs being those that lie there.

    Raises:
        FileNotFoundError, ValueError: when there is none, or it is damaged.
    """
    try:
        config = from_dict(Config, json.loads((directory / CONFIG).read_text()))
    except FileNotFoundError:
        raise FileNotFoundError(f"{directory} is no model directory: it has no {CONFIG}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{directory / CONFIG} is not valid JSON: {error}") from error
    if (directory / CODEC).is_dir():
        config = replace(config, picture=replace(config.picture, codec=str(directory / CODEC)))
    if (directory / SOUND_CODEC).is_dir():
        config = replace(config, audio=replace(config.audio, codec=str(directory / SOUND_CODEC)))
    return config


def load_quantiles(directory: Path) -> Quantiles:
    """How a model scales actions; empty for one that does not act."""
    path = directory / BODIES
    if not path.exists():
        return Quantiles()
    try:
        return Quantiles.from_dict(json.loads(path.read_text()))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def directory_of(name: str | Path) -> Path:
    """A model's directory: that one, or the copy of what the Hugging Face hub has under such an id.

    Raises:
        FileNotFoundError: where there is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise FileNotFoundError(f"{name} is neither a directory nor a hub id of the form 'owner/name'")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors", "*.md"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise FileNotFoundError(f"{name} is no directory here, and the hub did not give it: {error}") from error
