"""Open a codec: by name, from a directory of ours, or from one of diffusers'."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from selfflow.codecs.autoencoder import Shape, SoundAutoencoder, VisualAutoencoder
from selfflow.codecs.base import CONFIG, WEIGHTS, Codec, Identity
from selfflow.codecs.mel import MEL, Bands, MelSpectrogram
from selfflow.codecs.patchwise import PatchAutoencoder


def load_codec(name: str | Path) -> Codec:
    """A codec in evaluation mode, on the CPU.

    Args:
        name: `"identity"`; `"mel"`, of sound; a directory that `Codec.save` wrote; a directory of diffusers', of an
            autoencoder or of a pipeline that has one under `vae`; or the id of such on the Hugging Face hub.

    Raises:
        FileNotFoundError: when there is nothing of that name.
        ValueError: when a file is damaged or its weights do not fit, naming the file.
        ImportError: when it needs diffusers, and that is absent or too old.
    """
    if str(name) == "identity":
        return Identity().eval()
    if str(name) == MEL:
        return MelSpectrogram().eval()
    directory = Path(name)
    if not (directory / CONFIG).is_file():
        from selfflow.codecs.pretrained import load_pretrained

        return load_pretrained(str(name)).eval()
    try:
        options = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        kind = options.pop("kind")
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{directory / CONFIG} describes no codec: {type(error).__name__}: {error}") from error
    try:
        codec = _build(kind, options)
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"{directory / CONFIG} describes no codec of kind {kind!r}: {error}") from error
    _load_weights(codec, directory / WEIGHTS)
    return codec.eval()


def _build(kind: str, options: dict[str, Any]) -> Codec:
    if kind == "identity":
        return Identity(**options)
    if made := {c.kind: c for c in (VisualAutoencoder, PatchAutoencoder, SoundAutoencoder)}.get(kind):
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in options.pop("shape").items()}
        return made(Shape(**given), **options)
    if kind == MelSpectrogram.kind:
        return MelSpectrogram(Bands(**options.pop("bands")), **options)
    if kind == "diffusers":
        from selfflow.codecs.pretrained import Pretrained

        return Pretrained.from_options(**options)
    raise ValueError("it is one of identity, visual, patches, sound, mel and diffusers")


def _load_weights(codec: Codec, path: Path) -> None:
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; a codec's directory holds {CONFIG} and {WEIGHTS}") from None
    except Exception as error:  # safetensors raises its own SafetensorError
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    try:
        codec.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the codec that {CONFIG} beside it describes: {error}") from error
