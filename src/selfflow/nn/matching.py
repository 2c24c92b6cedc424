"""What a generated patch takes over from any place of a known picture, not from whole patches alone.

A thing that is moved, swapped or shown by a reference is seldom where patches are cut: whoever copies whole patches
(`copying`) can leave alone what stays, and must draw the rest anew. Here each patch looks for the windows of the known
pictures, at every offset in pixels, that are likeliest to be it, and takes over of what it finds those pixels that are.
(Patches found by likeness: non-local means, Buades et al. 2005; PatchMatch, Barnes et al. 2009. Here the likeness is a
likelihood, and what is sought is the clean patch of a noisy one.)

Two things say which window c a patch is: its noisy values, for `x_t - (1-t) c` is noise of deviation t if it is; and
what the network says of it, blurred while t is large, but of the right colour and in about the right shape. Both are
squares of c, so all windows are scored by one product, over means of 2 × 2 pixels; the best few are then weighed pixel
by pixel. Nothing is found where nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from selfflow.nn.layers import HeadNorm, norm
from selfflow.nn.taking import Taking
from selfflow.tokens import Tokens

LOOKED = 4  # how many tokens, by their windows at even offsets, are looked at in every offset
TOKENS, SHIFTS = 2, 3  # of how many of these how many windows are weighed against one another
SAME = 0.1  # deviation of a patch from its window, of values in [-1, 1]: light differs, and places by less than a pixel
# How far each of these is believed at first: noisy values and what was said, of which window; the evidence of nine
# pixels and of the whole patch, and the distance from what was said, of which pixels.
TRUST = (0.2, 0.2, 0.2, 0.02, 0.2)


class Windows(NamedTuple):
    """The windows of `m` known tokens of `b` samples, `side²` of each: with a token's patch in its corner or reaching
    over the next.

    Attributes:
        tiles: `(b, m, (2 side - 1)² c)`, a token's patch with what lies right of it and below.
        means: `(b, m side², d + 2)`, each window in means of 2 × 2 pixels, then minus half of their sum of squares, in
            two parts for the precision of both; in the dtype that is computed in.
        coarse: `(b, m (side / 2)², d + 2)`, those of them at even offsets.
        keys: `(b, m, head_width)`.
        there: `(b, m)` bool.
    """

    tiles: Tensor
    means: Tensor
    coarse: Tensor
    keys: Tensor
    there: Tensor

    def unbind(self) -> list[Windows]:
        """Those of each sample, without the batch, in memory of their own."""
        return [Windows(*(part.clone() for part in parts)) for parts in zip(*self, strict=True)]

    def put(self, i: int, first: int, own: Windows) -> None:
        """Write a sample's `own`, without the batch, in the place of its tokens from the `first` on."""
        for room, value in zip(self, own, strict=True):
            each = len(value) // len(own.there)
            room[i, first * each : first * each + len(value)] = value


class Matching(Taking):
    """Windows of known pictures, found for generated patches.

    Args:
        width: of the network's features.
        head_width: of queries and keys.
        side: of a patch, in pixels.
        channels: of a pixel.
        names: of the modalities whose generated tokens match; each token is one patch.
    """

    offsets: Tensor

    def __init__(self, width: int, head_width: int, side: int, channels: int, names: Sequence[str]) -> None:
        super().__init__(width, side, channels, names, TRUST)
        self.head_width = head_width
        self.pool = 1 if side % 2 else 2
        self.cells = range(0, side - self.pool + 1, self.pool)  # where the means of a window begin in it
        self.query = nn.Linear(width, head_width, bias=False)
        self.key = nn.Linear(width, head_width, bias=False)
        self.k_norm = HeadNorm(head_width)
        # Where the values of a window lie in a tile, in the order of a token's: row, column, channel.
        tile, across = 2 * side - 1, torch.arange(side)
        first = (across[:, None] * tile + across).flatten()
        within = first[:, None] + torch.arange(channels) * tile * tile
        self.register_buffer("offsets", first[:, None] + within.flatten(), persistent=False)

    def init_weights(self) -> None:
        nn.init.trunc_normal_(self.key.weight, std=self.key.in_features**-0.5)
        nn.init.zeros_(self.query.weight)
        super().init_weights()

    @property
    def tile(self) -> int:
        """How many values a tile has."""
        return self.channels * (2 * self.side - 1) ** 2

    def read(self, tokens: Tokens, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys `(b, m, 1, head_width)` and values `(b, m, 1, tile + 1)` of known tokens with features `x`.

        Only those of whole pictures have windows; of others m is 0. A last value of 0 says that a token only pads.
        """
        b = tokens.batch
        if not self.has_windows(tokens):
            return x.new_zeros(b, 0, 1, self.head_width), x.new_zeros(b, 0, 1, self.tile + 1, dtype=torch.float32)
        keys = self.k_norm(self.key(norm(x)))
        rows, columns = tokens.grid
        sizes = {"r": rows, "q": columns, "p": self.side, "s": self.side}
        whole = rearrange(tokens.data.float(), "b (f r q) (p s c) -> (b f) c (r p) (q s)", **sizes)
        whole = F.pad(whole, (0, self.side - 1, 0, self.side - 1), mode="replicate")
        tiles = F.unfold(whole, 2 * self.side - 1, stride=self.side)
        values = torch.cat([rearrange(tiles, "(b f) k n -> b (f n) k", b=b), tokens.full_mask[..., None]], dim=-1)
        return keys[:, :, None], values[:, :, None]

    def has_windows(self, tokens: Tokens) -> bool:
        """Whether these known tokens have any."""
        return tokens.modality in self.gates and bool(tokens.grid)

    def windows(self, keys: Tensor, values: Tensor) -> Windows:
        """All windows of what was `read`."""
        tiles, there = values[:, :, 0, :-1], values[:, :, 0, -1] > 0.5
        (b, m), side, pool = tiles.shape[:2], self.side, self.pool
        with torch.no_grad():
            means = tiles.float().reshape(b * m, self.channels, 2 * side - 1, 2 * side - 1)
            means = F.avg_pool2d(means, pool, stride=1)
            cells = [(slice(y, y + side), slice(x, x + side)) for y in self.cells for x in self.cells]
            squares = means.square().sum(dim=1)
            half = 0.5 * torch.stack([squares[:, y, x] for y, x in cells]).sum(dim=0)
            half = half.view(b, -1, 1)
            means = means.to(_dtype(keys))
            each = torch.stack([means[:, :, y, x] for y, x in cells], dim=-1)
            each = rearrange(each, "(b m) c y x k -> b (m y x) (c k)", b=b)
            rounded = half.to(each.dtype)
            each = torch.cat([each, -rounded, -(half - rounded).to(each.dtype)], dim=-1)
            coarse = each.unflatten(1, (m, side, side))[:, :, ::pool, ::pool].flatten(1, 3)
        return Windows(tiles, each, coarse, keys[:, :, 0], there)

    def room(self, b: int, m: int, dtype: torch.dtype, device: torch.device) -> Windows:
        """For the windows of m tokens of b samples, as `windows` makes them, none of them there yet: all zeros."""
        d, each = self.channels * len(self.cells) ** 2 + 2, len(range(0, self.side, self.pool)) ** 2
        shapes = (b, m * self.side**2, d), (b, m * each, d), (b, m, self.head_width)
        means, coarse, keys = (torch.zeros(shape, dtype=dtype, device=device) for shape in shapes)
        tiles = torch.zeros(b, m, self.tile, device=device)
        there = torch.zeros(b, m, dtype=torch.bool, device=device)
        return Windows(tiles, means, coarse, keys, there)

    def find(self, y: Tensor, said: Tensor, x_t: Tensor, t: Tensor, windows: Windows) -> tuple[Tensor, Tensor]:
        """What each generated patch is likeliest to be, `(b, n, c)` float32, and `(b, 1, 1)` whether anything is known.

        Args:
            y: `(b, n, width)`, what the output layer is given.
            said: `(b, n, c)`, what it said of the data.
            x_t, t: the noisy values `(b, n, c)` and their times, `(b, n)` or `(b, 1)`.
            windows: of the known pictures.
        """
        query, each, (b, n) = self.query(y), self.side**2, y.shape[:2]
        with torch.autocast(y.device.type, enabled=False):
            prior = (query.float() @ windows.keys.float().transpose(1, 2)) * self.head_width**-0.5
            prior = prior.masked_fill(~windows.there[:, None], float("-inf"))
            estimate, square = self.estimate(said.detach().float(), x_t.float(), t.float()[..., None], SAME)
            with torch.no_grad():
                sums = rearrange(estimate, "b n (y x c) -> (b n) c y x", y=self.side, x=self.side)
                sums = F.avg_pool2d(sums, self.pool).flatten(1).unflatten(0, (b, n))
                sums = F.pad(sums, (0, 2), value=1.0).to(windows.means.dtype)
                likes = (sums @ windows.coarse.transpose(1, 2)).unflatten(-1, (windows.there.shape[1], -1))
                factor = self.pool**2 * square
                token = (factor * likes.amax(dim=-1).float() + prior).topk(min(LOOKED, likes.shape[2]), dim=-1).indices
                rows = (token + torch.arange(b, device=y.device)[:, None, None] * likes.shape[2]).flatten()
                near = windows.means.reshape(b * likes.shape[2], -1).index_select(0, rows)
                likes = sums.flatten(0, 1)[:, None] @ near.view(b * n, -1, sums.shape[-1]).transpose(1, 2)
                likes = likes.view(*token.shape, each).float()
                best = factor * likes.amax(dim=-1) + prior.gather(2, token)
                which = best.topk(min(TOKENS, best.shape[-1]), dim=-1).indices
                likes = likes.gather(2, which[..., None].expand(-1, -1, -1, each))
                shift = likes.topk(min(SHIFTS, each), dim=-1).indices
                token, shift = token.gather(2, which).repeat_interleave(shift.shape[-1], dim=-1), shift.flatten(2)
            places = (token * self.tile)[..., None] + self.offsets[shift]
            found = windows.tiles.flatten(1).gather(1, places.flatten(1)).view(places.shape)  # (b, n, best, c)
            weights = prior.gather(2, token) - 0.5 * square * (estimate[:, :, None] - found).square().sum(dim=-1)
            known = windows.there.any(dim=1)[:, None, None]
            weights = weights.masked_fill(~known, 0).softmax(dim=-1)
            return (weights[..., None] * found).sum(dim=2), known.float()

    def take(
        self, name: str, y: Tensor, said: Tensor, x_t: Tensor, t: Tensor, windows: Windows
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What was found, whether anything is known, and the odds of each pixel: what `mix` is given."""
        found, known = self.find(y, said, x_t, t, windows)
        return found, known, self.odds(name, y, said, found, x_t, t)


def _dtype(x: Tensor) -> torch.dtype:
    """What products of x are computed in here."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
