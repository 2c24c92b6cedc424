"""Choosing: of several draws the one that the model itself finds likeliest to be what was asked for.

A model may draw a thing wrongly and yet know, once it is drawn, that it is wrong: its loss tells a picture's caption
from others long before its pictures show what captions say (`selfflow.evaluate.heeding`). So it draws several times,
looks at what came out, and keeps one: more work for one answer, in place of more training (search over noises, Ma et
al. 2025, 2501.09732; here no other network judges, but the generator's own loss: Li et al. 2023, 2303.16203).

The *doubt* about a draw is how far the velocity is from what it would have to be if the draw were the truth, at a few
noise levels. A likely picture has little doubt whatever was asked for, and an empty table is very likely; what was
asked for has less doubt with the text than without. Both are wanted, so a draw is scored by

    doubt(with the text) + (doubt(with the text) - doubt(without it))

and the least score wins. A task without text has no second term.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from selfflow import flow, sample
from selfflow.shapes import Float
from selfflow.tokens import Tokens

MOST = 64  # draws of one sample
# Times at which a draw is looked at, once each: below, noisy values show what is there; above, nothing shows.
LEVELS = (0.5, 0.6, 0.7, 0.8)


def check_choices(count: int) -> int:
    """The count itself; ValueError unless it is 1 to `MOST`."""
    if not 1 <= count <= MOST:
        raise ValueError(
            f"choices is {count}; 1 to {MOST} draws are made of each sample, of which the likeliest is kept"
        )
    return count


def noises(shape: tuple[int, ...], generator: torch.Generator | list[torch.Generator] | None, choices: int) -> Tensor:
    """Noise of every draw `(b · choices, …)`, those of one sample in a row.

    The first of each is what `sample.seeded_noise(shape, generator)` gives, so that one more choice never loses a draw.

    Args:
        shape: `(b, …)` of the first draws.
        generator: one for all samples, or one each.
    """
    return torch.stack([sample.seeded_noise(shape, generator) for _ in range(choices)], dim=1).flatten(0, 1)


def doubt(velocity: Callable[[Tensor, Tensor], Tensor], made: Tokens) -> Float[Tensor, "b"]:
    """How little the model would have said what was made: root mean square error of its velocity over each token's
    values, mean over tokens and `LEVELS`; of several modalities the sum.

    All samples see the same noise, which is always the same.

    Args:
        velocity: `(x (b, n, c), t)` to `(b, n, c)`, unguided.
        made: clean values.
    """
    clean, real = made.data.float(), made.full_mask.float()
    total = clean.new_zeros(len(clean))
    for index, level in enumerate(LEVELS):
        noise = torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(index)).to(clean.device)
        t = torch.full((len(clean),), level, device=clean.device)
        noise = noise.expand_as(clean)
        error = velocity(flow.interpolate(clean, noise, t), t[0]).float() - flow.velocity(clean, noise)
        first = 0
        for span in made.spans:
            here = slice(first, first + span.length)
            each = error[:, here, : span.channels].square().mean(dim=2).sqrt() * real[:, here]
            total += each.sum(dim=1) / real[:, here].sum(dim=1).clamp(min=1) / len(LEVELS)
            first += span.length
    return total


def likeliest(told: Float[Tensor, "b"], untold: Float[Tensor, "b"] | None, choices: int) -> Tensor:
    """The row of each sample's best draw, `(b / choices,)` int64.

    Args:
        told, untold: doubts with the text and without it, the draws of one sample in a row.
    """
    score = told if untold is None else 2 * told - untold
    best = score.unflatten(0, (-1, choices)).argmin(dim=1)
    return best + choices * torch.arange(len(best), device=best.device)
