"""Where a token is, told to the features: rotary positions reach scores alone, so values do not know their place.

A score knows how far two tokens lie apart. What a token fetches does not: the same picture read as the first reference
and as the second has equal values in every layer, so "the box of picture 2" has nothing to go by; and "to the left"
relates a word's place in a sentence to a column, which takes features that hold both. So the network is told row,
column and index once more, at its input, as a sum of waves (Vaswani et al. 2017, 1706.03762, section 3.5).

Time is left out: a rollout goes on for longer than any sample of the training, and only differences last.

That is enough for where, and too little for which: of a reference's features a fortieth was its number, and what told
the first from the second nobody came to ask for. So from the second on a reference's number is told again, as loudly as
its patches (`Numbers`); what has no reference, or one, is as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from selfflow.nn import rotary
from selfflow.tokens import AXES

INDEX = AXES.index("index")

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
# Of a reference's number: periods without a common divisor, so that no two of a hundred are alike and neighbours lie
# far apart; and the root mean square of what is added at first, beside trained patches of 8.
NUMBERS = (3.0, 5.0, 8.0)
NUMBERED = 6.0


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


class Numbers(nn.Module):
    """Which reference a token is of, told loudly: a linear map of waves of its number less those of the first.

    Of the first, and of what is no reference (numbers 1 and 0), it is exactly nothing.

    Args:
        width: of the network's features.
    """

    table: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("table", 2 * math.pi / torch.tensor(NUMBERS), persistent=False)
        self.map = nn.Linear(2 * len(NUMBERS), width, bias=False)

    def init_weights(self) -> None:
        """Over all numbers, waves less the first's have a mean sum of squares of twice how many there are."""
        nn.init.normal_(self.map.weight, std=NUMBERED * (2 * len(NUMBERS)) ** -0.5)

    def forward(self, positions: Tensor) -> Tensor:
        """`(b, n, width)` of tokens at places `(b, n, 4)`."""
        angles = (positions[..., INDEX, None] - 1).clamp(min=0) * self.table
        said: Tensor = self.map(torch.cat([angles.sin(), angles.cos() - 1], dim=-1))
        return said
