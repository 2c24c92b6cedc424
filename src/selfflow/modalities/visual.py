"""Pictures as tokens: square patches of pixels."""

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange
from torch import Tensor

from selfflow.nn.transformer import Modality, Prediction
from selfflow.shapes import Float
from selfflow.tokens import Tokens, grid_positions


@dataclass(frozen=True)
class Patches:
    """Pixels in, `patch × patch` squares out.

    Attributes:
        patch: side of a patch in pixels.
        channels: of a pixel (or of a latent).
        prediction: what the network predicts of a patch. `"data"` by measurement: see docs/evidence.md.
    """

    patch: int = 8
    channels: int = 3
    prediction: Prediction = "data"
    name: str = "visual"

    def __post_init__(self) -> None:
        if self.patch < 1 or self.channels < 1:
            raise ValueError(f"patch {self.patch} and channels {self.channels} must be at least 1")

    @property
    def modality(self) -> Modality:
        return Modality(channels=self.channels * self.patch**2, prediction=self.prediction)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of a picture.

        Raises:
            ValueError: when the patch does not divide the picture.
        """
        if height < 1 or width < 1 or height % self.patch or width % self.patch:
            lower = [max(1, side // self.patch) * self.patch for side in (height, width)]
            raise ValueError(
                f"a picture of {height} × {width} pixels does not divide into patches of {self.patch}; "
                f"use multiples of {self.patch}, such as {lower[0]} × {lower[1]}"
            )
        return height // self.patch, width // self.patch

    def tokens(self, pictures: Float[Tensor, "b c height width"]) -> Tokens:
        """Pictures in [-1, 1] to tokens `(b, rows · columns, c · patch²)`, row-major, values (row, column, channel)."""
        rows, columns = self.grid(*pictures.shape[2:])
        data = rearrange(pictures, "b c (r p) (q s) -> b (r q) (p s c)", p=self.patch, s=self.patch)
        places = grid_positions(rows, columns).to(pictures.device).expand(len(pictures), -1, -1)
        return Tokens(data, places, self.name)

    def pictures(self, data: Float[Tensor, "b n c"], height: int, width: int) -> Float[Tensor, "b k height width"]:
        """The inverse of `tokens`."""
        rows, columns = self.grid(height, width)
        return rearrange(
            data, "b (r q) (p s c) -> b c (r p) (q s)", r=rows, q=columns, p=self.patch, s=self.patch
        ).contiguous()
