"""Letters begin as what they look like.

Embeddings drawn at random are all equally far apart: that a P is an R without its leg has to be seen twice, and so has
every stroke of every letter. Begun as pictures, letters share what they share, and one sample of a stroke teaches all
letters that have it. (The glyph itself as a condition of drawing text: Yang et al. 2023, 2305.18259.)
"""

from __future__ import annotations

import string

import numpy as np
import torch
from torch import Tensor

from selfflow.modalities.text import BytePairs
from selfflow.nn.stencils import CAPITAL, CELL, LETTERS, PITCH, QUOTE, Stencils

SIDE = 8  # of the raster
_LARGE = 48  # pixels: letters are drawn so large, and averaged


def looks(characters: str) -> np.ndarray:
    """Characters as they are printed, upper case, each centred on one line: float64 `(n, SIDE²)` in [0, 1]."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_LARGE)
    found = np.zeros((len(characters), SIDE * SIDE))
    for row, character in zip(found, characters, strict=True):
        large = Image.new("L", (_LARGE, _LARGE))
        ImageDraw.Draw(large).text((_LARGE / 2, _LARGE / 2), character.upper(), 255, font, "mm")
        row[:] = np.asarray(large.resize((SIDE, SIDE), Image.Resampling.BOX), float).ravel() / 255
    return found


def typeface() -> np.ndarray:
    """Capitals to be printed, how much of each texel is ink: uint8 `(26, CAPITAL, CELL)` (`selfflow.nn.stencils`)."""
    from selfflow.worlds.tabletop.font import distance

    u, v = np.meshgrid((np.arange(CELL) + 0.5) * PITCH / CELL, 1 - (np.arange(CAPITAL) + 0.5) / CAPITAL)
    inked = [np.clip(0.5 - CAPITAL * distance(letter, u, v), 0, 1) for letter in LETTERS]
    return np.rint(255 * np.stack(inked)).astype(np.uint8)


def give_letters(stencils: Stencils, text: BytePairs) -> None:
    """Tell stencils which token is which letter, and what letters look like; nothing where no text is spelled."""
    stencils.typeface.copy_(torch.from_numpy(typeface()))
    if text.spells:
        known = {letter.lower(): code for code, letter in enumerate(LETTERS, 1)}
        for token, row in text.tokenizer.get_vocab().items():
            stencils.glyphs[row] = QUOTE if token.endswith('"') else known.get(token, 0)


def look_alike(weight: Tensor, text: BytePairs, seed: int = 0) -> Tensor:
    """Embeddings `(vocabulary, width)` in which those of single letters and digits are their looks, projected.

    The mean of all looks is left out, which tells none from the others; together they are as loud as the rest.

    Args:
        text: what tells which row is whose.
        seed: of the projection.
    """
    vocabulary = text.tokenizer.get_vocab()
    known = [c for c in string.ascii_lowercase + string.digits if c in vocabulary]
    rows = [vocabulary[c] for c in known]
    drawn = torch.from_numpy(looks("".join(known))).float()
    drawn = drawn - drawn.mean(dim=0)
    projection = torch.randn(SIDE * SIDE, weight.shape[1], generator=torch.Generator().manual_seed(seed))
    letters = drawn @ projection
    others = torch.ones(len(weight), dtype=torch.bool)
    others[rows] = False
    loud = weight[others].float().square().mean().sqrt()
    found = weight.clone()
    found[rows] = (letters * loud / letters.square().mean().sqrt()).to(weight)
    return found
