"""A configuration made into what it describes: its codecs, its modalities, its network."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from selfflow.config import Config
from selfflow.modalities.action import Actions, Quantiles
from selfflow.modalities.audio import Audio
from selfflow.modalities.audio_latents import AudioLatents
from selfflow.modalities.looks import give_letters
from selfflow.modalities.streams import Modalities
from selfflow.modalities.text import BytePairs, TextEncoder
from selfflow.modalities.visual import Patches
from selfflow.nn import Transformer


def patches_of(config: Config) -> Patches:
    """The pictures of a run."""
    c, channels = config.picture, 3
    if c.codec:
        channels = load_codec_of(config).channels
    return Patches(c.patch, channels, c.prediction)


def load_codec_of(config: Config) -> Any:
    """The codec of a run's pictures and clips, or None for pixels.

    Raises:
        ValueError: for one of sound, or one that joins frames where `picture.frames` joins them, too.
    """
    c = config.picture
    if not c.codec:
        return None
    codec = _codec(c.codec)
    if codec.values != 3:
        raise ValueError(f"picture.codec is {c.codec}, a codec of {codec.kind}; give one of pictures or clips")
    if codec.time_factor > 1 and c.frames > 1:
        raise ValueError(
            f"the codec {c.codec} joins {codec.time_factor} frames and picture.frames is {c.frames}; "
            "with this codec it is 1"
        )
    return codec


def audio_of(config: Config) -> Audio | AudioLatents | None:
    """The sound of a run.

    Raises:
        ValueError: for a codec of another rate or hop than the configuration's, or one that is no codec of sound.
    """
    a = config.audio
    if not a.codec:
        return Audio(a.rate, a.hop, prediction=a.prediction) if a.rate else None
    audio = AudioLatents(_codec(a.codec), a.prediction)
    if (a.rate, a.hop) != (audio.rate, audio.hop):
        raise ValueError(
            f"audio.rate is {a.rate} and audio.hop {a.hop}; the codec {a.codec} takes {audio.rate} and {audio.hop}"
        )
    return audio


def sound_like(config: Config, other: Config) -> bool:
    """Whether two runs have the same tokens of sound."""
    first, second = audio_of(config), audio_of(other)
    if isinstance(first, AudioLatents) and isinstance(second, AudioLatents):
        return bool(first.codec.fingerprint == second.codec.fingerprint)
    return first == second


def pictures_like(config: Config, other: Config) -> bool:
    """Whether two runs have the same tokens of pictures and clips."""
    first, second = load_codec_of(config), load_codec_of(other)
    alike = first is second if first is None or second is None else first.fingerprint == second.fingerprint
    return bool(alike and patches_of(config) == patches_of(other) and config.picture.frames == other.picture.frames)


@lru_cache(maxsize=4)
def _codec(name: str) -> Any:
    from selfflow.codecs import load_codec

    # A codec is built at random before its weights are read: the network that is drawn next must not depend on whether
    # it was open already.
    with torch.random.fork_rng(devices=()):
        return load_codec(name).requires_grad_(False)


def build_modalities(
    config: Config, text: TextEncoder, quantiles: Quantiles | None = None, latents: Path | None = None
) -> Modalities:
    """What a run perceives and makes.

    Args:
        latents: a directory in which what its codecs encode is kept (`selfflow.codecs.cache`); None encodes every time.
    """
    c, patches, codec, audio = config.control, patches_of(config), load_codec_of(config), audio_of(config)
    deep = config.picture.frames > 1
    if latents is not None:
        from selfflow.codecs.cache import CachedCodec

        # Apart, since a full cache drops what is of other codecs.
        codec = None if codec is None else CachedCodec(codec, latents / "visual")
        if isinstance(audio, AudioLatents) and audio.learned:
            audio = replace(audio, codec=CachedCodec(audio.codec, latents / "audio"))
    return Modalities(
        text,
        patches,
        replace(patches, name="clip", frames=config.picture.frames) if deep else None,
        audio,
        Actions(c.width, "action", prediction=c.prediction) if c.width else None,
        Actions(c.width, "state", prediction=None) if c.width else None,
        quantiles,
        codec,
    )


def build_network(config: Config, text: TextEncoder) -> Transformer:
    """The network of a run, freshly initialised."""
    net = Transformer(config.network.build(build_modalities(config, text).layers()))
    if net.stencils is not None and isinstance(text, BytePairs):
        give_letters(net.stencils, text)
    return net
