"""From a batch of samples to what an objective takes: tokens to generate and tokens to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from selfflow.data.encoded import Encoded
from selfflow.data.loader import Batch
from selfflow.modalities.streams import Modalities, less_known, unseen, without_references, without_text
from selfflow.objectives.base import worthwhile
from selfflow.objectives.flow_map import Guided
from selfflow.tasks import Task, named
from selfflow.times import Draws
from selfflow.tokens import Chain, Tokens, padded


class Prepare:
    """Draws what the batch's task leaves open: which texts, references and states are hidden, and what is kept.

    Args:
        modalities: samples to streams.
        text_drop, reference_drop: share of samples whose text becomes empty, whose references are hidden, so that
            guidance has an unconditional side for each.
        grain: texts, and parts of streams, are padded to a multiple of so many tokens, and masked: few shapes, for a
            trainer that records them.
        draws: of noise for each sample, by the modality that is generated first (`Practice.draws`); 1 where none is
            given, 0 for as many as are worth while. Of what is generated each sample then comes so many times in a
            row, of what is known once.
        state_drop: share of samples whose state is hidden, where the task knows one, so that it can be left out in use.
            Of 0 nothing is drawn: a run draws the numbers it drew before there was this.
    """

    def __init__(
        self,
        modalities: Modalities,
        text_drop: float = 0.1,
        reference_drop: float = 0.1,
        grain: int = 1,
        draws: Mapping[str, int] | None = None,
        state_drop: float = 0.0,
    ) -> None:
        for name, share in (("text", text_drop), ("reference", reference_drop), ("state", state_drop)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} drop is {share}; it is a share, in [0, 1]")
        self.modalities, self.text_drop, self.reference_drop = modalities, text_drop, reference_drop
        self.state_drop = state_drop
        if grain < 1:
            raise ValueError(f"tokens are padded to a multiple of {grain}; choose 1, which pads nothing, or more")
        self.grain, self.draws = grain, dict(draws or {})
        self._nothing: Tokens | None = None

    def encode(self, batch: Batch) -> Encoded:
        """The batch as tokens: all that is not drawn at random, and all that takes Python for every sample."""
        streams = self.modalities.streams(batch.samples, named(batch.task))
        return Encoded.of(batch.task, streams, batch.ids, batch.skipped, batch.source)

    def __call__(
        self, batch: Batch | Encoded, draws: Draws, device: torch.device | str = "cpu"
    ) -> tuple[Tokens, list[Tokens | Chain]]:
        """`(generated, known)` of a batch."""
        task, streams, keep = self._draw(batch, draws, device)
        generated, known = self._split(task, streams, keep)
        times = self.draws.get(generated.spans[0].modality, 1)
        return generated.each(times or worthwhile(sum(map(len, known)), len(generated))), known

    def _split(
        self, task: Task, streams: Mapping[str, Any], keep: Mapping[str, Tensor]
    ) -> tuple[Tokens, list[Tokens | Chain]]:
        generated, known = task.split(streams, keep)
        return self._padded(generated), [self._padded(group) for group in known]

    def _draw(
        self, batch: Batch | Encoded, draws: Draws, device: torch.device | str
    ) -> tuple[Task, dict[str, Any], dict[str, Tensor]]:
        """The batch's task, its streams, and what is kept of them."""
        task, b = named(batch.task), len(batch.ids)
        if isinstance(batch, Encoded):
            streams: dict[str, Any] = batch.to(device).streams
        else:
            streams = self.modalities.streams(batch.samples, task, device)
        streams["text"] = without_text(streams["text"], draws.uniform(b) < self.text_drop, self._empty(device))
        if "references" in task.known:
            gone = draws.uniform(b) < self.reference_drop
            streams["references"] = without_references(streams["references"], gone)
        if self.state_drop and "state" in streams:
            streams["state"] = unseen(streams["state"], draws.uniform(b) < self.state_drop)
        return task, streams, task.draw(streams, draws)

    def _padded(self, group: Any) -> Any:
        """Tokens whose number differs from batch to batch, in steps of the grain."""
        varies = isinstance(group, Tokens) and not group.joined and (group.modality == "text" or group.mask is not None)
        if self.grain == 1 or not varies:
            return group
        return padded(group, -len(group) % self.grain)

    def _empty(self, device: torch.device | str) -> Tokens:
        """The empty prompt, `(1, m)`: the same at every step."""
        if self._nothing is None:
            self._nothing = self.modalities.text([""])
        return self._nothing.to(device)


class PrepareGuided(Prepare):
    """The same, and what a guided teacher is led away from: the empty prompt, no references.

    Args:
        modalities, text_drop, reference_drop, grain, state_drop: as for `Prepare`.
        guidance, reference_guidance: how far; 1 is none.
        tasks: name → guidance, of tasks that are led otherwise.
    """

    def __init__(
        self,
        modalities: Modalities,
        text_drop: float = 0.1,
        reference_drop: float = 0.1,
        grain: int = 1,
        guidance: float = 1.0,
        reference_guidance: float = 1.0,
        tasks: Mapping[str, float] | None = None,
        state_drop: float = 0.0,
    ) -> None:
        super().__init__(modalities, text_drop, reference_drop, grain, state_drop=state_drop)
        self.guidance, self.reference_guidance = guidance, reference_guidance
        self.tasks = {named(name).name: scale for name, scale in (tasks or {}).items()}

    def __call__(  # type: ignore[override]
        self, batch: Batch | Encoded, draws: Draws, device: torch.device | str = "cpu"
    ) -> tuple[Tokens, Guided]:
        """`(generated, known and less known)`."""
        task, streams, keep = self._draw(batch, draws, device)
        generated, known = self._split(task, streams, keep)
        empty = self._empty(device).repeat(generated.batch)
        guidance = self.tasks.get(task.name, self.guidance)
        sides, scales = less_known(task, streams, keep, empty, guidance, self.reference_guidance)
        return generated, Guided(known, [[self._padded(group) for group in side] for side in sides], scales)
