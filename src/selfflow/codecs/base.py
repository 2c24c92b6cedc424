"""What every codec is: values in, latents of roughly unit scale out, and back."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

CONFIG, WEIGHTS = "codec.json", "codec.safetensors"


class Codec(nn.Module):
    """Between values in [-1, 1] and the latents that a modality sees.

    A picture `(b, c, H, W)` becomes `(b, channels, H / factor, W / factor)`. A clip `(b, f, c, H, W)` becomes
    `(b, f', channels, H / factor, W / factor)` with `f' = latent_frames(f)`: the first frame alone, then one for every
    `time_factor` frames, the last frame repeated to fill them. So a picture is a clip of one frame, and
    1 + k · time_factor frames fill their latents exactly; `latent_times` says when each is. `decode` gives whole
    latents: cut what it returns to the frames that are wanted.

    Encoding and decoding keep no gradients. They happen where the codec is; what they return stays there, in float32.

    Attributes:
        learned: whether it has weights: it is then saved with a model, and encoding is work for the network's device.
        channels: of a latent.
        factor: pixels per side of a latent (of sound: samples per latent).
        time_factor: frames per latent frame.
    """

    kind: ClassVar[str]
    learned: ClassVar[bool] = True
    channels: int
    factor: int
    time_factor: int = 1
    values: int = 3  # channels of a pixel

    def latent_frames(self, frames: int) -> int:
        """How many latent frames a clip of `frames` has."""
        if frames < 1:
            raise ValueError(f"a clip of {frames} frames was asked about; it has at least one")
        return 1 - (1 - frames) // self.time_factor

    def latent_times(self, frames: int, fps: float) -> list[float]:
        """Seconds of each latent frame of a clip whose frame j is at `j / fps`: the mean over the frames in it.

        So the first is at 0, and the others lie `time_factor / fps` apart; frames that only fill the last do not count.
        """
        if not (fps > 0 and math.isfinite(fps)):
            raise ValueError(f"fps is {fps}; a clip needs a finite number of frames a second, above 0")
        k, count = self.time_factor, self.latent_frames(frames)
        # Latent frame j holds frames 1 + (j - 1) k … j k.
        return [0.0] + [(1 + (j - 1) * k + min(j * k, frames - 1)) / 2 / fps for j in range(1, count)]

    @torch.no_grad()
    def encode(self, values: Tensor) -> Tensor:
        """Pictures `(b, c, H, W)` or clips `(b, f, c, H, W)` to latents of as many axes.

        Raises:
            ValueError: for another shape, sides that `factor` does not divide, or values that are not finite.
        """
        self._check(values, self.values, "values", self.factor)
        values = values.to(self.device, torch.float32)
        if self.time_factor == 1:
            flat = values.flatten(0, -4)
            return self._encode(flat).float().unflatten(0, values.shape[:-3])
        if values.ndim == 4:
            return self._encode(values[:, None])[:, 0].float()
        filling = (1 - values.shape[1]) % self.time_factor
        return self._encode(torch.cat([values, values[:, -1:].expand(-1, filling, -1, -1, -1)], dim=1)).float()

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of `encode`, as far as there is one; about in [-1, 1].

        Raises:
            ValueError: for another shape, or latents that are not finite.
        """
        self._check(latents, self.channels, "latents", 1)
        latents = latents.to(self.device, torch.float32)
        if self.time_factor == 1:
            return self._decode(latents.flatten(0, -4)).float().unflatten(0, latents.shape[:-3])
        if latents.ndim == 4:
            return self._decode(latents[:, None])[:, 0].float()
        return self._decode(latents).float()

    def _encode(self, values: Tensor) -> Tensor:
        """Pictures `(n, c, H, W)`, or where `time_factor` is above 1 clips `(b, 1 + k · time_factor, c, H, W)`."""
        raise NotImplementedError

    def _decode(self, latents: Tensor) -> Tensor:
        """The inverse of `_encode`."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """What to build the same codec from, as JSON."""
        return {}

    @property
    def device(self) -> torch.device:
        return next((t.device for t in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that name this codec with these weights."""
        digest = hashlib.sha256(json.dumps([self.kind, self.options()], sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()[:16]

    def save(self, directory: str | Path) -> Path:
        """Write `codec.json` and `codec.safetensors`, each whole or not at all; `load_codec` opens them."""
        from safetensors.torch import save_file

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        state = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}
        temporary = directory / f".{WEIGHTS}.tmp"
        save_file(state, temporary, metadata={"format": "pt"})
        os.replace(temporary, directory / WEIGHTS)
        temporary = directory / f".{CONFIG}.tmp"
        temporary.write_text(json.dumps({"kind": self.kind, **self.options()}, indent=2) + "\n", encoding="utf-8")
        os.replace(temporary, directory / CONFIG)
        return directory

    def _check(self, x: Tensor, channels: int, what: str, divisor: int) -> None:
        if x.ndim not in (4, 5) or x.shape[-3] != channels or 0 in x.shape:
            raise ValueError(
                f"{what} of this codec are (b, {channels}, height, width), or (b, frames, {channels}, height, width) "
                f"for clips; got {tuple(x.shape)}"
            )
        height, width = x.shape[-2:]
        if height % divisor or width % divisor:
            raise ValueError(f"{height} × {width} pixels do not divide into latents of {divisor} × {divisor}")
        check_finite(x, what)


def check_finite(x: Tensor, what: str) -> None:
    """Raises ValueError unless all of `x` are finite floating-point numbers."""
    if not x.is_floating_point() or not bool(torch.isfinite(x).all()):
        raise ValueError(f"{what} are finite floating-point numbers; these are {x.dtype} or hold NaN or infinity")


class Identity(Codec):
    """No codec: the latents are the values."""

    kind = "identity"
    factor = 1

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels is {channels}; it must be at least 1")
        self.channels = self.values = channels

    def _encode(self, values: Tensor) -> Tensor:
        return values

    def _decode(self, latents: Tensor) -> Tensor:
        return latents

    def options(self) -> dict[str, Any]:
        return {"channels": self.channels}
