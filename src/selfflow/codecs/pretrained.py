"""Published autoencoders, through diffusers, each with the normalisation its generators were trained with.

    AutoencoderKL        (z - shift_factor) · scaling_factor; where given, latents_mean and latents_std first
    AutoencoderTiny      the same; as published its latents are scaled already
    AutoencoderKLFlux2   2 × 2 latents packed into 4 times the channels, then batch norm with its *running* statistics
    AutoencoderKLWan     (z - latents_mean) / latents_std; clips of 1 + 4k frames

z is the mode of the encoder's distribution: encoding draws nothing. diffusers is imported when one is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from selfflow.codecs.base import Codec

# Class → the first version of diffusers that has it.
NEEDS = {"AutoencoderKL": "0.32", "AutoencoderTiny": "0.32", "AutoencoderKLWan": "0.33", "AutoencoderKLFlux2": "0.36"}
WAN_FRAMES = 4  # frames per latent frame; diffusers' loop is written for this number


def diffusers_class(name: str) -> Any:
    """A class of diffusers by name.

    Raises:
        ValueError: for a class that is none of `NEEDS`.
        ImportError: when diffusers is absent or too old.
    """
    if name not in NEEDS:
        raise ValueError(f"{name!r} is no autoencoder that is known here; choose one of {', '.join(NEEDS)}")
    try:
        import diffusers
    except ImportError as error:
        raise ImportError(f"{name} needs the extra `latent`: pip install 'selfflow[latent]'") from error
    found = getattr(diffusers, name, None)
    if found is None:
        raise ImportError(f"{name} needs diffusers {NEEDS[name]} or later, here is {diffusers.__version__}")
    return found


class Pretrained(Codec):
    """One of diffusers' autoencoders as a codec.

    Args:
        vae: an instance of a class in `NEEDS`; it is put into evaluation mode and no longer trained.

    Raises:
        ValueError: for another class, or statistics that do not fit its latents.
    """

    kind = "diffusers"
    mean: Tensor
    scale: Tensor

    def __init__(self, vae: Any) -> None:
        super().__init__()
        name = type(vae).__name__
        if name not in NEEDS:
            raise ValueError(f"{name!r} is no autoencoder that is known here; choose one of {', '.join(NEEDS)}")
        self.name, self.vae = name, vae.eval().requires_grad_(False)
        c = vae.config
        self.values = c.in_channels // (c.get("patch_size") or 1) ** 2 if name == "AutoencoderKLWan" else c.in_channels
        latents = c.z_dim if name == "AutoencoderKLWan" else c.latent_channels
        self.packing = tuple(c.patch_size) if name == "AutoencoderKLFlux2" else (1, 1)
        if self.packing[0] != self.packing[1]:
            raise ValueError(f"latents are packed {self.packing}; only square packings are known here")
        self.channels = latents * self.packing[0] ** 2
        if name == "AutoencoderKLWan":
            self.factor = c.get("scale_factor_spatial") or 2 ** (len(c.dim_mult) - 1)
            self.time_factor = WAN_FRAMES
            if 2 ** sum(c.temperal_downsample) != WAN_FRAMES:
                raise ValueError(f"temperal_downsample {c.temperal_downsample} does not make {WAN_FRAMES} frames one")
        else:
            levels = c.encoder_block_out_channels if name == "AutoencoderTiny" else c.block_out_channels
            self.factor = 2 ** (len(levels) - 1) * self.packing[0]
        mean, scale = self._statistics()
        if mean.shape != (self.channels,) or scale.shape != (self.channels,):
            raise ValueError(f"statistics of {len(mean)} and {len(scale)} channels for latents of {self.channels}")
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and scale of each channel: latents are `(z - mean) · scale`."""
        c, ones = self.vae.config, torch.ones(self.channels)
        if self.name == "AutoencoderKLFlux2":
            # The norm's own forward would take the statistics of the batch if ever it were put into training mode.
            norm = self.vae.bn
            return norm.running_mean.clone().float(), torch.rsqrt(norm.running_var.float() + c.batch_norm_eps)
        mean, std = (c.get(name) for name in ("latents_mean", "latents_std"))
        if self.name == "AutoencoderKLWan":
            return torch.tensor(mean, dtype=torch.float32), 1 / torch.tensor(std, dtype=torch.float32)
        if mean is not None and std is not None:
            return torch.tensor(mean).float().flatten(), c.scaling_factor / torch.tensor(std).float().flatten()
        return ones * (c.shift_factor or 0.0), ones * c.scaling_factor

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        """As ever; then the statistics follow the weights."""
        found = super().load_state_dict(*args, **options)
        mean, scale = self._statistics()
        self.mean.copy_(mean)
        self.scale.copy_(scale)
        return found

    def _encode(self, values: Tensor) -> Tensor:
        if self.name == "AutoencoderKLWan":
            mode = self.vae.encode(values.movedim(2, 1)).latent_dist.mode()
            return self._normalised(mode.movedim(1, 2))
        found = self.vae.encode(values)
        z = found.latents if self.name == "AutoencoderTiny" else found.latent_dist.mode()
        p, q = self.packing
        return self._normalised(rearrange(z, "b c (h p) (w q) -> b (c p q) h w", p=p, q=q))

    def _decode(self, latents: Tensor) -> Tensor:
        z = latents / self.scale[:, None, None] + self.mean[:, None, None]
        if self.name == "AutoencoderKLWan":
            return self.vae.decode(z.movedim(2, 1)).sample.movedim(1, 2)
        p, q = self.packing
        return self.vae.decode(rearrange(z, "b (c p q) h w -> b c (h p) (w q)", p=p, q=q)).sample

    def _normalised(self, z: Tensor) -> Tensor:
        return (z - self.mean[:, None, None]) * self.scale[:, None, None]

    def options(self) -> dict[str, Any]:
        own = {k: v for k, v in self.vae.config.items() if not k.startswith("_")}
        return {"name": self.name, "config": own}

    @staticmethod
    def from_options(name: str, config: dict[str, Any]) -> Pretrained:
        """With freshly drawn weights, from what `options` gave."""
        return Pretrained(diffusers_class(name).from_config(config))


def load_pretrained(name: str) -> Pretrained:
    """An autoencoder in diffusers' layout, from a directory or the hub; of a pipeline, the one under `vae`.

    Raises:
        FileNotFoundError: when there is none of that name.
        ValueError: for a class not known here.
        ImportError: when diffusers is absent or too old.
    """
    if not Path(name).is_dir() and (name.count("/") != 1 or name.startswith((".", "/", "~"))):
        raise FileNotFoundError(f"{name!r} is no codec: neither 'identity', nor a directory, nor a hub id 'owner/name'")
    base = diffusers_class("AutoencoderKL")  # any will do to read a configuration; and it says what is missing
    reason: Exception | None = None
    for options in ({}, {"subfolder": "vae"}):
        try:
            config = base.load_config(name, **options)
        except (OSError, ValueError) as error:
            reason = reason or error
            continue
        kind = config.get("_class_name") if isinstance(config, dict) else None
        if kind not in NEEDS:
            raise ValueError(f"{name} holds {kind!r}, which is no autoencoder known here: {', '.join(NEEDS)}")
        try:
            return Pretrained(diffusers_class(kind).from_pretrained(name, **options))
        except (OSError, RuntimeError) as error:
            raise ValueError(f"the weights of {name} cannot be read: {_first_line(error)}") from error
    assert reason is not None
    raise FileNotFoundError(f"{name} holds no autoencoder: {_first_line(reason)}") from reason


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
