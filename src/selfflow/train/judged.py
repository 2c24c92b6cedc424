"""Samples whose pictures the model draws itself, several times each, before it learns from what was thought of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from selfflow.config import RewardConfig
from selfflow.data.judging import Judging
from selfflow.data.loader import Batch
from selfflow.data.mixture import Ingredient
from selfflow.modalities.streams import Modalities, less_known
from selfflow.objectives.negative_aware import Judged
from selfflow.pipeline import Pipeline
from selfflow.shapes import Float
from selfflow.tasks import Task, named
from selfflow.times import Draws, schedule
from selfflow.tokens import Chain, Tokens
from selfflow.train.task import Prepare

JUDGED = ("picture", "edit")  # tasks of which a picture comes
_CALM = 0.02  # standard deviation of rewards within a sample's draws below which it is taken for noise
_CLIP = 2.0  # standard deviations at which odds are 0 or 1


class PrepareJudged(Prepare):
    """As `Prepare`; of sources that can judge (`judge(sample, picture) → Score`), draws in place of the true picture.

    Each sample is drawn several times by the model as it stands, and each draw judged. With `reward.truth` the true
    picture joins them, as one more draw that happens to be right: where all others are wrong it says what right is.

    The reward of a draw is the mean of its score and of whether it is without fault. Its odds are one half for the mean
    of its sample's draws, and 0 or 1 from two standard deviations below or above (of rewards about their sample's mean,
    over all of the batch).

    Args:
        modalities: samples to streams.
        pipe: the model that draws, at work: its network is the one that is trained behind.
        parts: of the data, source and ingredient. Sources with a method `judge` are asked, where a picture is made.
        reward: how often and how each sample is drawn.
        options: as for `Prepare`. Nothing is hidden of what is judged.

    Raises:
        ValueError: where none can.
    """

    def __init__(
        self,
        modalities: Modalities,
        pipe: Pipeline,
        parts: Sequence[tuple[Any, Ingredient]],
        reward: RewardConfig,
        **options: Any,
    ) -> None:
        super().__init__(modalities, **options)
        self.pipe, self.reward = pipe, reward
        asked = {source.name: source for source, part in parts if part.task in JUDGED}
        self.judging = Judging(asked, reward.processes)
        if not self.judging.sources:
            raise ValueError(
                f"no part of the data has pictures that can be judged ({', '.join(asked) or 'there are none'}), so "
                "there is nothing to learn from draws; Tabletop's stills, edits and references can"
            )

    def __call__(  # type: ignore[override]
        self, batch: Any, draws: Draws, device: torch.device | str = "cpu"
    ) -> tuple[Tokens, Any]:
        """`(generated, known)` of a batch, or `(draws, Judged)`, those of one sample in a row."""
        if not isinstance(batch, Batch) or batch.task not in JUDGED or batch.source not in self.judging:
            return super().__call__(batch, draws, device)
        task, count = named(batch.task), self.reward.draws
        streams = self.modalities.streams(batch.samples, task, device)
        true, known = task.split(streams, None)
        noise = draws.several(count).normal(true.batch * count, *true.data.shape[1:]).to(device)
        made = self._drawn(task, streams, true.each(count), known, noise)
        asked = [sample for sample in batch.samples for _ in range(count)]
        shown = [sample.picture for sample in self.modalities.samples({"visual": made}, asked)]
        scores = torch.tensor(self.judging(batch.source, asked, shown))
        rewards = ((scores + (scores == 1)) / 2).unflatten(0, (-1, count))
        told = {"reward": rewards.mean(), "right": (scores == 1).float().mean()}
        data = made.data.unflatten(0, (-1, count))
        if self.reward.truth:
            data = torch.cat([data, true.data[:, None]], dim=1)
            rewards = torch.cat([rewards, torch.ones(len(rewards), 1)], dim=1)
        generated = true.each(data.shape[1]).with_data(data.flatten(0, 1)).each(self.reward.noises)
        odds = odds_of(rewards).flatten().repeat_interleave(self.reward.noises).to(device)
        names = {f"{name}_{batch.source.removeprefix('tabletop-')}": value for name, value in told.items()}
        return generated, Judged(known, odds, names)

    @torch.no_grad()
    def _drawn(
        self, task: Task, streams: Mapping[str, Any], places: Tokens, known: list[Tokens | Chain], noise: Tensor
    ) -> Tokens:
        """What the model makes of noise `(b · draws, n, c)` in those places."""
        pipe, r = self.pipe, self.reward
        empty = self._empty(noise.device).repeat(len(noise) // r.draws)
        sides, scales = less_known(task, streams, None, empty, r.guidance)
        memories = [pipe.remember(side).repeat(r.draws) for side in (known, *sides)]
        times = schedule(r.steps, pipe.config.sampling.shifted(task.name))
        return places.with_data(pipe.integrate("euler", pipe.field(places, memories, scales), noise, times))


def odds_of(rewards: Float[Tensor, "b k"]) -> Float[Tensor, "b k"]:
    """How likely each of a sample's k draws is one of the good ones, given their rewards in [0, 1]."""
    apart = rewards - rewards.mean(dim=1, keepdim=True)
    deviation = apart.square().mean().sqrt().clamp(min=_CALM)
    return (0.5 + apart / (2 * _CLIP * deviation)).clamp(0, 1)
