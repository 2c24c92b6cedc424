"""What is lost on the way to latents and back."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.codecs.losses import psnr, spectral_distance
from selfflow.data.packs import PackMissing
from selfflow.evaluate.features import MobileNetV2, mobilenet_v2
from selfflow.modalities.pixels import to_pixels

log = logging.getLogger(__name__)


class PerceptualDistance:
    """How differently an ImageNet MobileNetV2 sees two sets of pictures, after the idea of LPIPS (1801.03924).

    The mean over three of its layers, at 1/2, 1/4 and 1/8 of the size, of the squared distance between features of unit
    length: 0 for the same, 2 for unrelated ones. Nothing in it is fitted to human judgement.
    """

    LAYERS = (2, 9, 20)

    def __init__(self, network: MobileNetV2, device: torch.device | str = "cpu") -> None:
        self.network = network
        network.weights = {k: (w.to(device), b.to(device)) for k, (w, b) in network.weights.items()}

    def __call__(self, restored: Tensor, true: Tensor) -> Tensor:
        """Pictures `(n, 3, H, W)` in [-1, 1], at the size they have; 0-d."""
        pairs = zip(self._seen(restored), self._seen(true), strict=True)
        return torch.stack([(a - b).square().sum(dim=1).mean() for a, b in pairs]).mean()

    def _seen(self, pictures: Tensor) -> list[Tensor]:
        found: list[Tensor] = []

        def watch(number: int, output: Tensor) -> bool:
            if number in self.LAYERS:
                found.append(F.normalize(output.float(), dim=1, eps=1e-3))
            return number == self.LAYERS[-1]

        self.network.run(pictures, watch)
        return found


def open_perceptual(device: torch.device | str = "cpu") -> PerceptualDistance | None:
    """The perceptual distance, or None with a warning where its pack is absent."""
    try:
        return PerceptualDistance(mobilenet_v2(), device)
    except PackMissing as error:
        log.warning("training without the perceptual loss: %s", error)
        return None


def figures(codec: Any, values: Tensor, batch: int = 16) -> dict[str, float]:
    """What a codec loses of some values: pictures `(n, 3, H, W)`, clips `(n, f, 3, H, W)` or sounds `(n, 1, samples)`.

    Returns:
        `psnr` in dB, mean over samples, with its standard error; `latent_mean` and `latent_std`. Of sounds `spectral`,
        the mean error of log10 magnitudes. Of pictures and clips, where the pack is here, `perceptual`: the cosine
        distance of MobileNetV2's 1280 features, beside that of a picture shifted by one pixel and that of another one;
        of a clip its last frame is taken.
    """
    given = values[:, 0] if values.ndim == 3 else values
    latents = [codec.encode(part).cpu() for part in given.split(batch)]
    restored = torch.cat([codec.decode(part).cpu() for part in latents])[:, : given.shape[1]]
    each = psnr(restored.clamp(-1, 1), given)
    found = {
        "samples": len(given),
        "psnr": float(each.mean()),
        "psnr_error": float(each.std() / len(each) ** 0.5) if len(each) > 1 else 0.0,
        "latent_mean": float(torch.cat(latents).mean()),
        "latent_std": float(torch.cat(latents).std()),
    }
    if values.ndim == 3:
        return found | {"spectral": float(spectral_distance(restored, given))}
    try:
        network = mobilenet_v2()
    except PackMissing:
        return found
    restored, true = (x[:, -1] if x.ndim == 5 else x for x in (restored, given))
    seen = network(to_pixels(true))
    others = {
        "perceptual": network(to_pixels(restored)),
        "perceptual_shifted": network(to_pixels(true.roll(1, dims=-1))),
        "perceptual_other": np.roll(seen, 1, axis=0),
    }
    return found | {name: float((1 - _cosine(seen, other)).mean()) for name, other in others.items()}


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-9)
