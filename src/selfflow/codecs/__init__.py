"""Codecs: between values in [-1, 1] and the latents a modality sees. `load_codec` opens one by name or directory."""

from selfflow.codecs.base import Codec, Identity
from selfflow.codecs.loading import load_codec

__all__ = ["Codec", "Identity", "load_codec"]
