"""Networks trained elsewhere, as teachers of REPA: clean pictures to one feature vector for each of their tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.modalities.visual import Patches
from selfflow.tokens import Tokens, grid_positions

# Pictures `(b, 3, H, W)` in [-1, 1] to feature maps `(b, f, h, w)`, given the rows and columns of tokens they are for.
FeatureMaps = Callable[[Tensor, tuple[int, int]], Tensor]
MOBILENET = "mobilenet"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PictureEncoder:
    """Tokens of pictures back to pixels, through a network, to one feature vector per token.

    Args:
        maps: the network.
        patches: how pictures became tokens.
        width: f, of its features.
    """

    def __init__(self, maps: FeatureMaps, patches: Patches, width: int) -> None:
        self.maps, self.patches, self.width = maps, patches, width

    @torch.no_grad()
    def __call__(self, data: Tensor | Tokens) -> Tensor | None:
        """Features `(b, n, f)` float32; None for anything but whole pictures (clips, sounds, parts of pictures)."""
        if not isinstance(data, Tokens) or data.joined or data.modality != self.patches.name:
            return None
        # Only tokens of a whole picture lie at rows × columns places, row after row about its centre. A part that was
        # cut out of one may be a grid as well, but off the centre, or of narrower steps.
        rows, columns = (len(data.positions[0, :, axis].unique()) for axis in (1, 2))
        if rows * columns != len(data) or data.mask is not None:
            return None
        whole, places = (p[..., 1:3] for p in (grid_positions(rows, columns).to(data.positions), data.positions))
        if not torch.allclose(places, whole.expand_as(places), rtol=0, atol=1e-4):
            return None
        pictures = self.patches.pictures(data.data, rows * self.patches.patch, columns * self.patches.patch)
        with torch.autocast(data.data.device.type, enabled=False):
            maps = self.maps(pictures.float().clamp(-1, 1), (rows, columns)).float()
        if maps.shape[-2:] != (rows, columns):
            maps = F.adaptive_avg_pool2d(maps, (rows, columns))
        return maps.flatten(2).transpose(1, 2)


def load_encoder(name: str, patches: Patches, device: torch.device | str = "cpu") -> PictureEncoder:
    """The encoder of a run.

    Args:
        name: `"mobilenet"` (the pack mobilenetv2_feats, its last layer of stride 16, 96 channels), or the directory or
            hub id of a `transformers` vision model with patch tokens, such as `facebook/dinov2-base`.

    Raises:
        PackMissing, FileNotFoundError: when it is not to be had.
        ValueError: when pictures are not pixels, or the model has no patch tokens.
    """
    if patches.channels != 3:
        raise ValueError(f"an encoder of pictures needs pixels, not latents of {patches.channels} channels")
    return _mobilenet(patches, device) if name == MOBILENET else _transformers(name, patches, device)


def _mobilenet(patches: Patches, device: torch.device | str) -> PictureEncoder:
    from selfflow.evaluate.features import mobilenet_v2

    net = mobilenet_v2().to(device)

    def maps(pictures: Tensor, grid: tuple[int, int]) -> Tensor:
        size = tuple(16 * side for side in grid)
        x = F.interpolate(pictures, size=size, mode="bicubic").clamp(-1, 1)
        last: list[Tensor] = []

        def watch(number: int, y: Tensor) -> bool:
            if y.shape[1] == 96 and y.shape[-2:] == grid:
                last[:] = [y]
            return y.shape[-1] < grid[1]  # the next stride: what was wanted lies behind

        net.run(x, watch)
        return last[0]

    return PictureEncoder(maps, patches, 96)


def _transformers(name: str, patches: Patches, device: torch.device | str) -> PictureEncoder:
    try:
        from transformers import AutoModel
    except ImportError:
        raise ImportError("a pretrained encoder needs transformers: pip install 'selfflow[text]'") from None
    try:
        net: Any = AutoModel.from_pretrained(name).to(device).eval().requires_grad_(False)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(f"{name!r} is no directory or hub id of a transformers model: {error}") from None
    patch = getattr(net.config, "patch_size", None)
    if not isinstance(patch, int):
        raise ValueError(f"{name!r} ({type(net).__name__}) has no patch tokens; choose a vision transformer")
    mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (_IMAGENET_MEAN, _IMAGENET_STD))

    def maps(pictures: Tensor, grid: tuple[int, int]) -> Tensor:
        x = F.interpolate(pictures, size=tuple(patch * side for side in grid), mode="bicubic", antialias=True)
        features = net(pixel_values=((x + 1) / 2 - mean) / std).last_hidden_state[:, -math.prod(grid) :]
        return features.transpose(1, 2).unflatten(2, grid)

    return PictureEncoder(maps, patches, net.config.hidden_size)
