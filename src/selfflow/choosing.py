"""Choosing: of several draws the one that the model itself finds likeliest to be what was asked for.

A model may draw a thing wrongly and yet know, once it is drawn, that it is wrong: its loss tells a picture's caption
from others long before its pictures show what captions say (`selfflow.evaluate.heeding`). So it draws several times,
looks at what came out, and keeps one: more work for one answer, in place of more training (search over noises, Ma et
al. 2025, 2501.09732; here no other network judges, but the generator's own loss: Li et al. 2023, 2303.16203).

The *doubt* about a draw is how far the velocity is from what it would have to be if the draw were the truth, at a few
noise levels. A likely picture has little doubt whatever was asked for, and an empty table is very likely; what was
asked for has less doubt with the text than without. Both are wanted, so a draw is scored by

    doubt(with the text) + (doubt(with the text) - doubt(without it))

and the least score wins. Where more is known than text, a picture to be edited, a clip to be dubbed, that says what is
likely: then there is no second term, nor the work it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    real = made.full_mask.float().split([span.length for span in made.spans], dim=1)
    total = real[0].new_zeros(made.batch)
    for index, level in enumerate(LEVELS):
        for error, mask in zip(errors(velocity, made, level, torch.Generator().manual_seed(index)), real, strict=True):
            total += (error.sqrt() * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1) / len(LEVELS)
    return total


def errors(
    velocity: Callable[[Tensor, Tensor], Tensor], made: Tokens, level: float, generator: torch.Generator
) -> list[Tensor]:
    """Mean square errors `(b, n)` of the velocity, one a token, of each modality that was made.

    Args:
        velocity: `(x (b, n, c), t)` to `(b, n, c)`.
        made: clean values.
        level: the time, in (0, 1); 1 is noise.
        generator: of the noise, on the CPU; all samples see the same.
    """
    clean = made.data.float()
    noise = torch.randn(clean.shape[1:], generator=generator).to(clean.device).expand_as(clean)
    t = torch.full((len(clean),), level, device=clean.device)
    wrong = (velocity(flow.interpolate(clean, noise, t), t[0]).float() - flow.velocity(clean, noise)).square()
    parts = wrong.split([span.length for span in made.spans], dim=1)
    return [part[..., : span.channels].mean(dim=2) for part, span in zip(parts, made.spans, strict=True)]


def score(told: Any, untold: Any) -> Any:
    """What the best draw has least of, given doubts (tensors or arrays) with the text and without it."""
    return 2 * told - untold


class Watch:
    """A sampler's callback that shows the first draw of each sample, and knows whether it ended the sampling.

    Args:
        callback: `(step, shown)`; True ends it.
        show: data `(b, n, c)` to what the callback is shown.
        choices: draws of each sample, in a row.
    """

    def __init__(
        self, callback: Callable[[int, Any], bool | None], show: Callable[[Tensor], Any], choices: int
    ) -> None:
        self.callback, self.show, self.choices, self.ended = callback, show, choices, False

    def __call__(self, step: int, t: Tensor, x: Tensor, data: Tensor) -> bool:
        self.ended = bool(self.callback(step, self.show(data[:: self.choices])))
        return self.ended


def likeliest(told: Float[Tensor, "b"], untold: Float[Tensor, "b"] | None, choices: int) -> Tensor:
    """The row of each sample's best draw, `(b / choices,)` int64.

    Args:
        told, untold: doubts with the text and without it, the draws of one sample in a row.
    """
    scores = told if untold is None else score(told, untold)
    best = scores.unflatten(0, (-1, choices)).argmin(dim=1)
    return best + choices * torch.arange(len(best), device=best.device)
