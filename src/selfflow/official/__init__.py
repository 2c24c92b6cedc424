"""The published Self-Flow ImageNet network: import its checkpoint, run it, sample from it (docs/official.md)."""

from selfflow.official.checkpoint import import_official, load_official
from selfflow.official.sampler import Sampling, sample_latents
from selfflow.official.sit import SiT, SiTConfig

__all__ = ["Sampling", "SiT", "SiTConfig", "import_official", "load_official", "sample_latents"]
