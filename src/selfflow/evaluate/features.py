"""Feature functions: pictures to vectors in which nearness means looking alike.

A feature function takes uint8 `(n, H, W, 3)` pictures and returns float32 `(n, f)` features. Metrics take one as an
argument, so any other network can stand in for the one here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.data.packs import find, read_npz
from selfflow.modalities.pixels import values_of

FeatureFunction = Callable[[np.ndarray], np.ndarray]


class MobileNetV2:
    """ImageNet MobileNetV2 (Sandler et al. 2018, 1801.04381) from the `mobilenetv2_feats` pack, as a feature function.

    The pack stores a list of operations with int8 weights and their scales; this runs the list in float32. Distances
    in these features are not comparable with published FID or KID, which use Inception.

    Args:
        directory: of the pack.
        batch: pictures per pass; 8 at 128 pixels stay in a CPU's caches, which is twice as fast as 64.
        size: side in pixels to which pictures are resized (bicubic) first.
    """

    def __init__(self, directory: Path, batch: int = 8, size: int = 128) -> None:
        if batch < 1 or size < 32:
            raise ValueError(f"batch {batch} must be 1 or more and size {size} 32 or more")
        arrays = read_npz(Path(directory) / "mobilenetv2_feats.npz")
        graph = json.loads(str(arrays["graph"]))
        self.batch, self.size = batch, size
        self.input: int = graph["input"]
        self.operations: list[dict[str, Any]] = graph["ops"]
        self.labels: list[str] = arrays["labels"].tolist()
        self.weights = {
            k: ((torch.from_numpy(arrays[f"w{k}"]).float() - o["zero"]) * o["scale"], torch.from_numpy(arrays[f"b{k}"]))
            for k, o in enumerate(self.operations)
            if f"w{k}" in arrays
        }

    def to(self, device: torch.device | str) -> MobileNetV2:
        """Move the weights, for `run` on tensors there."""
        self.weights = {k: (weight.to(device), bias.to(device)) for k, (weight, bias) in self.weights.items()}
        return self

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """float32 `(n, 1280)` features."""
        return self._all(pictures, 0)

    def logits(self, pictures: np.ndarray) -> np.ndarray:
        """float32 `(n, 1001)` scores of `labels`."""
        return self._all(pictures, 1)

    @torch.inference_mode()
    def _all(self, pictures: np.ndarray, which: int) -> np.ndarray:
        check_pictures(pictures)
        parts = [
            self.run(self.prepare(pictures[start : start + self.batch]))[which].numpy()
            for start in range(0, len(pictures), self.batch)
        ]
        return np.concatenate(parts)

    def prepare(self, pictures: np.ndarray) -> Tensor:
        """uint8 `(n, H, W, 3)` to `(n, 3, size, size)` in [-1, 1]."""
        x = values_of(torch.from_numpy(pictures).permute(0, 3, 1, 2))
        shrinks = max(x.shape[2:]) > self.size
        return F.interpolate(x, size=(self.size, self.size), mode="bicubic", antialias=shrinks).clamp(-1, 1)

    def run(self, x: Tensor, watch: Callable[[int, Tensor], bool] | None = None) -> tuple[Tensor, Tensor]:
        """`(n, 3, H, W)` in [-1, 1] to features `(n, 1280)` and logits `(n, 1001)`.

        `watch`, called with the number and the output of every operation, may end the pass by saying True; of what is
        returned then, only what was reached has a meaning.
        """
        values = {self.input: x.contiguous(memory_format=torch.channels_last)}
        features = logits = x
        for k, o in enumerate(self.operations):
            y = values[o["inp"][0]]
            match o["op"]:
                case "CONV_2D" | "DEPTHWISE_CONV_2D":
                    weight, bias = self.weights[k]
                    groups = weight.shape[0] if o["op"] == "DEPTHWISE_CONV_2D" else 1
                    if o["same"]:
                        y = _pad(y, weight, o["stride"])
                    y = F.conv2d(y, weight, bias, o["stride"], groups=groups)
                case "ADD":
                    y = y + values[o["inp"][1]]
                case "AVERAGE_POOL_2D" | "MEAN":
                    y = y.mean((2, 3), keepdim=True)
                    features = y.flatten(1)
                case "RESHAPE":
                    logits = y.flatten(1)
                    break
            values[o["out"]] = y.clamp(o["lo"], o["hi"])  # the range of the int8 output is also its ReLU6
            if watch is not None and watch(k, values[o["out"]]):
                break
        return features, logits


def _pad(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """TensorFlow's SAME: as many outputs as inputs / stride, the odd pixel of padding at the end."""
    sides: list[int] = []
    for length, kernel in ((x.shape[3], weight.shape[3]), (x.shape[2], weight.shape[2])):
        total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
        sides += [total // 2, total - total // 2]
    return F.pad(x, sides) if any(sides) else x


def mobilenet_v2(directory: Path | None = None, batch: int = 8, size: int = 128) -> MobileNetV2:
    """The fixed feature network of the suites.

    Raises:
        PackMissing: when `directory` is None and the pack is nowhere to be found.
    """
    return MobileNetV2(directory or find("mobilenetv2_feats"), batch, size)


class Cached:
    """A feature function that remembers: each distinct picture is computed once, and kept in memory."""

    def __init__(self, function: FeatureFunction) -> None:
        self.function = function
        self._known: dict[bytes, np.ndarray] = {}

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        check_pictures(pictures)
        keys = [hashlib.sha256(str(p.shape).encode() + p.tobytes()).digest() for p in pictures]
        new = {key: i for i, key in enumerate(keys) if key not in self._known}
        if new:
            self._known.update(zip(new, self.function(pictures[list(new.values())]), strict=True))
        return np.stack([self._known[key] for key in keys])


def features_of(
    function: FeatureFunction, pictures: Iterable[np.ndarray], total: int, progress: bool = False
) -> np.ndarray:
    """Features `(total, f)` of single pictures `(H, W, 3)`, which may be read as they are asked for."""
    from tqdm import tqdm

    parts, chunk = [], []
    for picture in tqdm(pictures, "features", total, unit="picture", disable=not progress):
        chunk.append(picture)
        if len(chunk) == 128:
            parts.append(function(np.stack(chunk)))
            chunk = []
    if chunk:
        parts.append(function(np.stack(chunk)))
    return np.concatenate(parts)


def check_pictures(pictures: np.ndarray) -> None:
    """Raises ValueError unless these are uint8 `(n, H, W, 3)` with n of at least 1."""
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[3] != 3 or not len(pictures):
        raise ValueError(f"pictures are uint8 (n, H, W, 3) with n > 0, not {pictures.dtype} {pictures.shape}")
