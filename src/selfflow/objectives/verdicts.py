"""Learning to judge: what is thought of finished pictures, against what whoever could read them found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfflow.nn.judge import SAYS, Judge
from selfflow.objectives.base import Losses
from selfflow.shapes import Float
from selfflow.tokens import Tokens


@dataclass(frozen=True)
class Found:
    """What is known of finished pictures: the context that `Verdicts` takes.

    Attributes:
        memory: of all that was asked for (`selfflow.nn.Memory`).
        truth: whether nothing is wrong, and how much is right, `(b, 2)` in [0, 1].
        draws: of each sample, in a row.
    """

    memory: Any
    truth: Float[Tensor, "b 2"]
    draws: int = 1


class Verdicts(nn.Module):
    """Cross entropy of a judge's two log odds, and of which of a sample's draws is right where some are and some are
    not: samples differ in how hard they are, which the first would be content to learn, and draws are chosen by the
    second. How often the first of the odds has the right sign is logged beside.
    """

    def __init__(self, judge: Judge) -> None:
        super().__init__()
        self.judge = judge

    def forward(self, data: Tokens, context: Found, **unused: Any) -> Losses:
        said = self.judge(data, context.memory)
        wrong = F.binary_cross_entropy_with_logits(said, context.truth, reduction="none").mean(dim=0)
        told = ((said[:, 0] > 0) == (context.truth[:, 0] > 0.5)).float().mean()
        among = missed(
            said[:, 0].unflatten(0, (-1, context.draws)), context.truth[:, 0].unflatten(0, (-1, context.draws))
        )
        parts = {**dict(zip(SAYS, wrong, strict=True)), "among": among, "told_apart": told}
        return Losses(wrong.sum() + among, {name: part.detach() for name, part in parts.items()})


def missed(said: Float[Tensor, "n k"], truth: Float[Tensor, "n k"]) -> Tensor:
    """How unlikely a right draw is to be chosen by odds that are `said`: -log of the softmax over the k draws of each
    sample, summed over those that are right; mean over all n samples, of which those without a choice count as 0."""
    right = truth > 0.5
    mixed = right.any(dim=1) & ~right.all(dim=1)
    chance = said.log_softmax(dim=1).masked_fill(~right, -torch.inf).logsumexp(dim=1)
    return -torch.where(mixed, chance, 0.0).mean()
