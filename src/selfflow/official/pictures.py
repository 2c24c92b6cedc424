"""Scaled latents to pictures, with the Stable Diffusion autoencoder the published network was trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

SCALE = 0.18215
PUBLISHED_VAE = "stabilityai/sd-vae-ft-ema"


def load_vae(name: str = PUBLISHED_VAE, device: torch.device | str = "cpu") -> Any:
    """diffusers' `AutoencoderKL` from a directory or the hub, in evaluation mode.

    Raises:
        ImportError: when diffusers is not installed.
        ValueError: when there is no such autoencoder, or the hub cannot be reached.
    """
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise ImportError("decoding latents needs the extra `latent`: pip install 'selfflow[latent]'") from error
    try:
        return AutoencoderKL.from_pretrained(name).eval().to(device)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:300]
        raise ValueError(f"no autoencoder at {name!r} ({reason}); give a directory or a hub id") from error


def decode(vae: Any, latents: Tensor) -> np.ndarray:
    """Latents `(b, c, h, w)` in the network's scale to pictures, uint8 `(b, H, W, 3)` RGB."""
    with torch.inference_mode():
        pixels = vae.decode(latents.to(vae.device, vae.dtype) / SCALE).sample.float()
    levels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return levels.permute(0, 2, 3, 1).cpu().numpy()
