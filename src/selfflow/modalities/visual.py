"""Pictures and clips as tokens: patches of pixels, square in space and, where asked, some frames deep in time.

A picture is a clip of one frame. Where a token is several frames deep, a picture fills them with copies of itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from einops import rearrange, reduce
from torch import Tensor, cat

from selfflow.nn.transformer import Modality, Prediction
from selfflow.shapes import Float
from selfflow.tokens import Tokens, grid_positions


@dataclass(frozen=True)
class Patches:
    """Pixels in, blocks of `frames × patch × patch` out; values of a token in the order (frame, row, column, channel).

    Attributes:
        patch: side of a patch in pixels.
        channels: of a pixel (or of a latent).
        prediction: what the network predicts of a patch. `"data"` by measurement: see docs/evidence.md.
        frames: of a clip, in one token.
    """

    patch: int = 8
    channels: int = 3
    prediction: Prediction = "data"
    name: str = "visual"
    frames: int = 1

    def __post_init__(self) -> None:
        if self.patch < 1 or self.channels < 1 or self.frames < 1:
            raise ValueError(
                f"patch {self.patch}, channels {self.channels} and frames {self.frames} must be at least 1"
            )

    @property
    def modality(self) -> Modality:
        frame = self.channels * self.patch**2
        side = self.patch if self.channels == 3 else 0
        return Modality(channels=frame * self.frames, prediction=self.prediction, frame=frame, side=side)

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

    def tokens(self, pictures: Float[Tensor, "b c height width"], time: float = 0.0, index: float = 0.0) -> Tokens:
        """Pictures in [-1, 1] to tokens `(b, rows · columns, frames · patch² · c)`, row-major.

        Args:
            pictures: `(b, c, height, width)`.
            time: of the picture, seconds.
            index: its number among references; 0 for the one being made.

        Raises:
            ValueError: for another shape, or sides that `patch` does not divide.
        """
        self._check(pictures, 4, "pictures are (b, c, height, width)")
        return self._tokens(pictures[:, None].expand(-1, self.frames, -1, -1, -1), [time], index)

    def clip_tokens(
        self,
        clip: Float[Tensor, "b f c height width"],
        fps: float,
        start: float = 0.0,
        index: float = 0.0,
        times: Sequence[float] | None = None,
    ) -> Tokens:
        """A clip in [-1, 1] to tokens `(b, ceil(f / frames) · rows · columns, frames · patch² · c)`, time-major.

        Where `frames` does not divide the clip, its last frame is repeated to fill the last tokens. The time of a token
        is the mean over the frames that are really in it; frame j is at `start + j / fps` seconds.

        Args:
            times: seconds of each frame, in place of what `fps` says, of latents that a codec joined from several
                (`Codec.latent_times`); only where `frames` is 1.

        Raises:
            ValueError: for another shape, an empty clip, sides that `patch` does not divide, `fps` not above 0, or
                times that are not one a token.
        """
        self._check(clip, 5, "clips are (b, f, c, height, width) with at least one frame")
        if not (fps > 0 and math.isfinite(fps)):
            raise ValueError(f"fps is {fps}; a clip needs a finite number of frames a second, above 0")
        count = clip.shape[1]
        filling = -count % self.frames
        if filling:
            clip = cat([clip, clip[:, -1:].expand(-1, filling, -1, -1, -1)], dim=1)
        # frame numbers first .. last of each token have the mean (first + last) / 2
        firsts = range(0, count, self.frames)
        means = [(first + min(first + self.frames, count) - 1) / 2 / fps for first in firsts]
        if times is not None:
            if self.frames != 1 or len(times) != count:
                raise ValueError(f"{len(times)} times for {count} frames, {self.frames} a token; give one time a token")
            means = list(times)
        return self._tokens(clip, [start + time for time in means], index)

    def pictures(self, data: Float[Tensor, "b n c"], height: int, width: int) -> Float[Tensor, "b k height width"]:
        """The inverse of `tokens`: `(b, c, height, width)`, the mean over the copies where tokens hold several frames.

        Raises:
            ValueError: when the data is not that of pictures of this size.
        """
        rows, columns = self._check_data(data, 1, height, width)
        sizes = {"r": rows, "q": columns, "f": self.frames, "p": self.patch, "s": self.patch}
        return reduce(data, "b (r q) (f p s c) -> b c (r p) (q s)", "mean", **sizes).contiguous()

    def clip(
        self, data: Float[Tensor, "b n c"], frames: int, height: int, width: int
    ) -> Float[Tensor, "b f k height width"]:
        """The inverse of `clip_tokens`, without the filling: `(b, frames, c, height, width)`.

        Raises:
            ValueError: when the data is not that of clips of this length and size.
        """
        if frames < 1:
            raise ValueError(f"a clip of {frames} frames was asked for; it has at least one")
        rows, columns = self._check_data(data, -(-frames // self.frames), height, width)
        sizes = {"r": rows, "q": columns, "f": self.frames, "p": self.patch, "s": self.patch}
        whole = rearrange(data, "b (t r q) (f p s c) -> b (t f) c (r p) (q s)", **sizes)
        return whole[:, :frames].contiguous()

    def _tokens(self, clip: Tensor, times: list[float], index: float) -> Tokens:
        """Of a clip whose frames fill its tokens; `times` holds one time for each depth of `frames`."""
        rows, columns = self.grid(*clip.shape[3:])
        sizes = {"f": self.frames, "p": self.patch, "s": self.patch}
        data = rearrange(clip, "b (t f) c (r p) (q s) -> b (t r q) (f p s c)", **sizes)
        places = cat([grid_positions(rows, columns, time=float(time), index=float(index)) for time in times])
        return Tokens(data, places.to(clip.device).expand(len(clip), -1, -1), self.name, grid=(rows, columns))

    def _check(self, values: Tensor, axes: int, wanted: str) -> None:
        if values.ndim != axes or values.shape[axes - 3] != self.channels or 0 in values.shape:
            raise ValueError(f"{wanted}, here with c = {self.channels}; got {tuple(values.shape)}")

    def _check_data(self, data: Tensor, depth: int, height: int, width: int) -> tuple[int, int]:
        rows, columns = self.grid(height, width)
        wanted = (depth * rows * columns, self.modality.channels)
        if data.ndim != 3 or tuple(data.shape[1:]) != wanted:
            raise ValueError(
                f"{self.name} data has shape {tuple(data.shape)}; {height} × {width} pixels in patches of "
                f"{self.frames} × {self.patch} × {self.patch}, {depth} deep in time, need (b, {wanted[0]}, {wanted[1]})"
            )
        return rows, columns
