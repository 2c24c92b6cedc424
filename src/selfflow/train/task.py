"""From a batch of samples to what an objective takes: tokens to generate and tokens to know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from selfflow.modalities.streams import Modalities
from selfflow.tasks import named
from selfflow.times import Draws
from selfflow.tokens import Chain, Tokens


class Prepare:
    """Draws what the batch's task leaves open: which texts and references are hidden, and what is kept.

    Args:
        modalities: samples to streams.
        text_drop, reference_drop: share of samples whose text becomes empty, whose references are hidden, so that
            guidance has an unconditional side for each.
    """

    def __init__(self, modalities: Modalities, text_drop: float = 0.1, reference_drop: float = 0.1) -> None:
        for name, share in (("text", text_drop), ("reference", reference_drop)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} drop is {share}; it is a share, in [0, 1]")
        self.modalities, self.text_drop, self.reference_drop = modalities, text_drop, reference_drop

    def __call__(
        self, batch: Any, draws: Draws, device: torch.device | str = "cpu"
    ) -> tuple[Tokens, list[Tokens | Chain]]:
        """`(generated, known)` of a `selfflow.data.loader.Batch`."""
        task, b = named(batch.task), len(batch.samples)
        dropped = (draws.uniform(b) < self.text_drop).tolist()
        samples = [replace(s, text="") if gone else s for s, gone in zip(batch.samples, dropped, strict=True)]
        shown = draws.uniform(b) >= self.reference_drop if "references" in task.known else None
        streams = self.modalities.streams(samples, task, device, None if shown is None else shown.cpu())
        return task.split(streams, task.draw(streams, draws))
