"""Words are printed, and found: where a picture is to bear what stands in quotes, a stencil of it is laid on.

Letters are few pixels and much ink: a network that draws them has to know each in every size and place, and one that
has drawn a sign, a board with something on it that might be writing, has done the rest. So what is told in quotes is
printed, as a mask, in a few sizes, and sought in the whole picture at once: in what the network says of it, blurred or
misspelt, and in its noisy values. A place is as likely as the word explains what is there (the correlation of two-
coloured templates, whatever the two colours), and as the features there say that a word of this size stands there,
which is learned from where words are in clean pictures. Paper is what lies about it, and ink what makes up its mean;
what pixels are taken over of that is for odds to say (`taking`). (Glyphs given to a generator as pictures: Yang et al.
2023, 2305.18259; templates found by normalised correlation: Lewis 1995.)

Which tokens are letters is known by their vocabulary, and of memory they are the only part that is read here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from selfflow.nn.taking import Taking
from selfflow.tokens import Tokens

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
QUOTE = len(LETTERS) + 1  # code of a quotation mark; letters have 1 to 26, all else 0
# Heights of capitals, of a picture's side, each a quarter above the last: of signs in a room, and seen from near.
SIZES = (0.1, 0.125, 0.156, 0.195, 0.244)
PITCH = 0.8  # of a letter with its space, in heights of a capital
CAPITAL, CELL = 40, 32  # texels of the typeface: height of a capital, width of a letter with its space
EDGE = 0.75  # pixels of paper about a word, at least
FINE = 4  # points a pixel, either way, at which a stencil is measured
PHASES = ((0.0, 0.0), (0.0, 0.5), (0.5, 0.0), (0.5, 0.5))  # of a pixel, by which a word may lie between two
SAME = 0.1  # deviation of a pixel from the stencil's, of values in [-1, 1]
LOOKED = 96  # pixels: the side of a picture in which words are sought, at most
LONGEST, MOST = 12, 4  # letters of a word, words of a text, that are looked at
PLACES = 3  # in how many a word is looked for: there may be "two signs that say", and at first none is sure
# As `taking` has them; then how far it is believed that a word is where it is likely, by logarithms of likelihood
# beyond `DOUBT`, which edges and textures reach by chance.
TRUST, DOUBT = (0.2, 0.3, 0.2, 0.02, 0.02, 0.5), 4.0
# Log odds at first: of a printed pixel, as whether the word is there was weighed before; and that a word of a size has
# its middle in a patch, as about one in sixty has.
GATE, RARE = 2.0, -4.0
LOUD = 10.0  # what features say of places is multiplied by: steps of an optimiser are small, and odds are of several
FLAT = 0.03  # variance, of all channels of a pixel, that is not worth an explanation: of a wall in its light
CERTAIN = 4.0  # log odds from which on a clean picture bears a word

Word = tuple[int, ...]  # letters by their codes


class Place(NamedTuple):
    """Where a word may be: rows and columns, it in its colours `(c, h, w)`, the log odds that it is there, its size."""

    cut: tuple[slice, slice]
    printed: Tensor
    odds: Tensor
    size: int

    def laid_on(self, picture: Tensor) -> Tensor:
        """A picture `(c, H, W)` with it there, as surely as it is."""
        rows, columns = self.cut
        edges = (columns.start, picture.shape[2] - columns.stop, rows.start, picture.shape[1] - rows.stop)
        own = picture[(slice(None), *self.cut)]
        return picture + F.pad(self.odds.sigmoid() * (self.printed - own), edges)


class Stencils(Taking):
    """Words in quotes, found in what is being drawn.

    Args:
        width, side, channels, names: as of `Taking`.
        vocabulary: how many tokens texts have.
    """

    glyphs: Tensor
    typeface: Tensor

    def __init__(self, width: int, side: int, channels: int, names: Sequence[str], vocabulary: int) -> None:
        super().__init__(width, side, channels, names, TRUST, GATE)
        self.where = nn.ModuleDict({name: nn.Linear(width, len(SIZES)) for name in names})
        self.register_buffer("glyphs", torch.zeros(vocabulary, dtype=torch.uint8))  # code of each token
        self.register_buffer("typeface", torch.zeros(len(LETTERS), CAPITAL, CELL, dtype=torch.uint8))
        self._kept: dict[tuple[Word, float, torch.device], tuple[Tensor, Tensor]] = {}
        self._sought: dict[tuple[object, ...], Tensor] = {}

    def init_weights(self) -> None:
        super().init_weights()
        for where in self.where.children():
            assert isinstance(where, nn.Linear)
            nn.init.zeros_(where.weight)
            nn.init.constant_(where.bias, RARE)

    def read(self, tokens: Tokens, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys, which are nothing, and the codes `(b, m, 1, 1)` of known tokens; of others than texts m is 0."""
        b, m = tokens.data.shape[:2]
        if tokens.modality != "text" or tokens.data.is_floating_point():
            m, codes = 0, x.new_zeros(b, 0, dtype=torch.float32)
        else:
            codes = self.glyphs[tokens.data].float() * tokens.full_mask
        return x.new_zeros(b, m, 1, 1), codes[:, :, None, None]

    def take(
        self, name: str, y: Tensor, said: Tensor, x_t: Tensor, t: Tensor, codes: Tensor, grid: tuple[int, ...],
        clean: Tensor | None = None,
    ) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor | None] | None:  # fmt: skip
        """What was found, where, and the odds of each pixel, as `mix` is given it; None where there is no word.

        Args:
            y, said, x_t, t: as of `Taking.odds`.
            codes: `(b, m)`, of the texts' tokens.
            grid: rows and columns of the patches of the picture.
            clean: the data, `(b, n, c)`: also say how wrong features are of where words are, `(b, n)`.
        """
        every = [words(row) for row in codes.round().long().tolist()]
        if not any(every):
            return None
        told = self.where[name](LOUD * y).float()
        missed = None if clean is None else self._missed(told, clean.float(), every, grid)
        with torch.autocast(y.device.type, enabled=False):
            said, x_t = said.detach().float(), x_t.float()
            estimate, _ = self.estimate(said, x_t, t.float()[..., None], SAME)
            estimate, found = self._pictures(estimate.detach(), grid), self._pictures(said, grid)
            # What features say of a place is said of its middle, between the patches about it.
            told = rearrange(told, "b (r q) s -> b s r q", r=grid[0], q=grid[1])
            told = F.interpolate(told, scale_factor=self.side, mode="bilinear")
            rows, there = [], torch.zeros_like(found[:, :1])
            for i, some in enumerate(every):
                picture = found[i]
                for word in some:
                    for place in reversed(self._places(estimate[i], word, told[i], self.trust[5].float())):
                        picture = place.laid_on(picture)
                        there[i, 0][place.cut] = 1.0
                rows.append(picture)
            found, there = self._patches(torch.stack(rows)), self._patches(there)
        known = there.repeat_interleave(self.channels, dim=-1)
        return (found, known, self.odds(name, y, said, found, x_t, t)), missed

    def _missed(self, told: Tensor, clean: Tensor, every: Sequence[Sequence[Word]], grid: tuple[int, ...]) -> Tensor:
        """The cross entropy of what features say of each patch and of where the clean pictures bear the words."""
        true, side = torch.zeros_like(told), self.side
        nowhere = told.new_zeros(len(SIZES), grid[0] * side, grid[1] * side)
        with torch.no_grad(), torch.autocast(told.device.type, enabled=False):
            for i, picture in enumerate(self._pictures(clean, grid)):
                for word in every[i]:
                    for place in self._places(picture, word, nowhere, 1.0):
                        if place.odds > CERTAIN:
                            row, column = ((part.start + part.stop) // 2 // side for part in place.cut)
                            true[i, row * grid[1] + column, place.size] = 1.0
        return F.binary_cross_entropy_with_logits(told, true, reduction="none").sum(dim=-1)

    def _pictures(self, data: Tensor, grid: tuple[int, ...]) -> Tensor:
        rows, columns = grid
        return rearrange(data, "b (r q) (p s c) -> b c (r p) (q s)", r=rows, q=columns, p=self.side, s=self.side)

    def _patches(self, pictures: Tensor) -> Tensor:
        return rearrange(pictures, "b c (r p) (q s) -> b (r q) (p s c)", p=self.side, s=self.side)

    def _places(self, picture: Tensor, word: Word, told: Tensor, trust: Tensor | float) -> list[Place]:
        """Where a word is likeliest to be in a picture `(c, H, W)`, the likeliest first.

        Args:
            told: `(sizes, H, W)`, log odds by what features say that a word of this size has its middle there.
            trust: in logarithms of likelihood.
        """
        # Of a large picture means over squares are looked at: what is sought has a tenth of its height or more.
        full, side = picture, math.sqrt(picture[0].numel())
        coarse = math.ceil(side / LOOKED)
        if coarse > 1:
            picture, told = (F.avg_pool2d(x, coarse) for x in (picture, told))
        height, width = picture.shape[1:]
        sizes = [self.stencil(word, size * side / coarse, picture.device) for size in SIZES]
        sizes = [(m, u) for m, u in sizes if m.shape[2] <= height and m.shape[3] <= width]
        odds, found = [], list[Place]()
        shares = self._explained(picture, word, [units for _, units in sizes])
        for (masks, _), share, middle in zip(sizes, shares, told, strict=False):
            # Pixels are no witnesses of their own: in a large place edges are explained by chance as in a small one.
            likes = -math.sqrt(masks[0].numel()) * torch.log1p(-share)
            rows, columns = likes.shape[1:]
            top, left = masks.shape[2] // 2, masks.shape[3] // 2
            odds.append(trust * (likes - DOUBT) + middle[top : top + rows, left : left + columns])
        free = [x.detach().clone() for x in odds]
        for _ in range(PLACES if sizes else 0):
            k = max(range(len(free)), key=lambda k: float(free[k].max()))
            phase, top, left = (int(i) for i in torch.unravel_index(free[k].argmax(), free[k].shape))
            h, w = sizes[k][0].shape[2:]
            mask = sizes[k][0][phase]
            cut = (slice(top, top + h), slice(left, left + w))
            if coarse > 1:
                mask = self.stencil(word, SIZES[k] * side, picture.device)[0][0]
                corners = (
                    max(0, min(round(coarse * (first + EDGE + shift) - EDGE), whole - own))
                    for first, shift, whole, own in zip(
                        (top, left), PHASES[phase], full.shape[1:], mask.shape[1:], strict=True
                    )
                )
                down, across = (slice(n, n + m) for n, m in zip(corners, mask.shape[1:], strict=True))
                cut = (down, across)
            found.append(Place(cut, _inked(full[(slice(None), *cut)], mask), odds[k][phase, top, left], k))
            for (other, _), each in zip(sizes, free, strict=True):  # what overlaps it is no other place
                first = max(0, top - other.shape[2] + 1), max(0, left - other.shape[3] + 1)
                each[:, first[0] : top + h, first[1] : left + w] = float("-inf")
            if max(float(each.max()) for each in free) == float("-inf"):
                break
        return found

    def stencil(self, word: Word, capital: float, device: torch.device) -> tuple[Tensor, Tensor]:
        """A word printed in each phase, `(4, 1, h, w)` in [0, 1], and the same without its mean, of length 1."""
        key = (word, round(capital, 3), device)
        if key not in self._kept:
            if len(self._kept) > 4096:
                self._kept.clear()
            masks = torch.stack([self._printed(word, capital, phase) for phase in PHASES])[:, None].to(device)
            units = masks - masks.mean(dim=(2, 3), keepdim=True)
            self._kept[key] = masks, units / units.square().sum(dim=(2, 3), keepdim=True).sqrt().clamp(min=1e-6)
        return self._kept[key]

    def _explained(self, picture: Tensor, word: Word, sizes: Sequence[Tensor]) -> list[Tensor]:
        """Of a word's units of each size the share of the squares about their mean that they explain.

        `(phases, rows, columns)` of corners. Stencils are large and many: their products with every place are taken by
        frequency, and means over a place from running sums.
        """
        height, width = picture.shape[1:]
        frequencies = torch.fft.rfft2(picture)[:, None]
        down = F.pad(torch.stack([picture, picture.square()]), (0, 0, 1, 0)).cumsum(dim=-2)
        shares = []
        for units in sizes:
            h, w = units.shape[2:]
            products = torch.fft.irfft2(frequencies * self._spectra(word, units, (height, width)), s=(height, width))
            inked = products[..., : height - h + 1, : width - w + 1].square().sum(dim=0)
            across = F.pad(down[..., h:, :] - down[..., :-h, :], (1, 0)).cumsum(dim=-1)
            mean, square = (across[..., w:] - across[..., :-w]) / (h * w)
            total = h * w * ((square - mean.square()).sum(dim=0) + FLAT)
            shares.append((inked / total).clamp(max=0.995))
        return shares

    def _spectra(self, word: Word, units: Tensor, shape: tuple[int, int]) -> Tensor:
        """What a picture of that shape is multiplied by, frequency by frequency, for its products with units."""
        key = (word, units.shape, shape, units.device)
        if key not in self._sought:
            if len(self._sought) > 256:
                self._sought.clear()
            self._sought[key] = torch.fft.rfft2(units[:, 0], s=shape).conj().resolve_conj()
        return self._sought[key]

    def _printed(self, word: Word, capital: float, phase: tuple[float, float]) -> Tensor:
        """`(h, w)` in [0, 1]: how much of each pixel is ink."""
        long = len(word) * PITCH * capital
        h, w = (math.ceil(length + 2 * EDGE + 0.5 - 1e-6) for length in (capital, long))
        v, u = (
            ((torch.arange(n * FINE) + 0.5) / FINE - EDGE - shift) / capital
            for n, shift in zip((h, w), phase, strict=True)
        )
        rows, columns = (v * CAPITAL).floor().long(), (u * (CELL / PITCH)).floor().long()
        cells = torch.cat([self.typeface[code - 1] for code in word], dim=1).float().cpu() / 255
        inside = ((rows >= 0) & (rows < CAPITAL))[:, None] & ((columns >= 0) & (columns < cells.shape[1]))
        fine = cells[rows.clamp(0, CAPITAL - 1)[:, None], columns.clamp(0, cells.shape[1] - 1)] * inside
        return F.avg_pool2d(fine[None], FINE)[0]


def _inked(seen: Tensor, mask: Tensor) -> Tensor:
    """A word `(1, h, w)` in the colours of what is seen there, `(c, h, w)`: paper as about it, ink what makes the mean.

    What is blurred or bears other letters has the right mean, and not yet the contrast.
    """
    ring = torch.ones(mask.shape[1:], dtype=torch.bool, device=mask.device)
    ring[1:-1, 1:-1] = False
    paper = seen[:, ring].mean(dim=1)[:, None, None]
    ink = paper + (seen.mean(dim=(1, 2))[:, None, None] - paper) / mask.mean()
    return paper + (ink.clamp(-1, 1) - paper) * mask


def words(codes: Sequence[int]) -> list[Word]:
    """What stands between quotation marks, of letters alone; each once, in the order told."""
    found: dict[Word, None] = {}
    inside: list[int] | None = None
    for code in codes:
        if code == QUOTE:
            if inside and 0 not in inside and len(inside) <= LONGEST:
                found[tuple(inside)] = None
            inside = [] if inside is None else None
        elif inside is not None:
            inside.append(code)
    return list(found)[:MOST]
