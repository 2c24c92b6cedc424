"""Where a token is, told to the features: rotary positions reach scores alone, so values do not know their place.

A score knows how far two tokens lie apart. What a token fetches does not: the same picture read as the first reference
and as the second has equal values in every layer, so "the box of picture 2" has nothing to go by; and "to the left"
relates a word's place in a sentence to a column, which takes features that hold both. So the network is told row,
column and index once more, at its input, as a sum of waves (Vaswani et al. 2017, 1706.03762, section 3.5).

Time is left out: a rollout goes on for longer than any sample of the training, and only differences last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from selfflow.nn import rotary

# Lengths of the waves, in units of the axis (`selfflow.tokens`): two picture sides to two patches of eight a side; two
# words that follow each other, or two references, to texts of a hundred.
WAVES = {
    "row": (2.0, 1.0, 0.5, 0.25),
    "column": (2.0, 1.0, 0.5, 0.25),
    "index": (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0),
}
FEATURES = 2 * sum(len(waves) for waves in WAVES.values())
# Root mean square of what is added at first, beside embedded words of 1. Begun as nothing it grew to 0.04 in 577 steps
# of a network that went on: nobody asks for what is not there yet, and nobody tells what is not asked for.
LOUDNESS = 0.5


def turns() -> Tensor:
    """`(4, FEATURES / 2)` radians per unit (`rotary.by_axis`)."""
    return rotary.by_axis({axis: 2 * math.pi / torch.tensor(lengths) for axis, lengths in WAVES.items()})


def waves(positions: Tensor, table: Tensor) -> Tensor:
    """Sines and cosines `(b, n, FEATURES)` float32 of places `(b, n, 4)`; `table` is `turns()`."""
    cos, sin = rotary.angles(positions, table)
    return torch.cat([sin, cos], dim=-1)[:, :, 0]


class Places(nn.Module):
    """A linear map of `waves` for each modality, to be added to its embedded tokens; drawn at random.

    Args:
        width: of the network's features.
        modalities: their names.
    """

    table: Tensor

    def __init__(self, width: int, modalities: Iterable[str]) -> None:
        super().__init__()
        self.register_buffer("table", turns(), persistent=False)
        self.maps = nn.ModuleDict({name: nn.Linear(FEATURES, width, bias=False) for name in modalities})

    def init_weights(self) -> None:
        """Of a place anywhere the waves have a mean square of a half."""
        for layer in self.maps.values():
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=LOUDNESS * (2 / FEATURES) ** 0.5)

    def forward(self, modality: str, positions: Tensor) -> Tensor:
        """`(b, n, width)` of tokens of a modality at places `(b, n, 4)`."""
        said: Tensor = self.maps[modality](waves(positions, self.table))
        return said
