"""From a batch of captioned pictures to what an objective takes: tokens to generate and tokens to know."""

from __future__ import annotations

from typing import Any

import torch

from selfflow.modalities.text import TextEncoder
from selfflow.modalities.visual import Patches
from selfflow.times import Draws
from selfflow.tokens import Tokens


class TextToPicture:
    """Text is known, the picture is generated.

    Args:
        text: prompts to tokens.
        patches: pictures to tokens.
        drop: share of captions replaced by the empty prompt, so that guidance has an unconditional side.
    """

    def __init__(self, text: TextEncoder, patches: Patches, drop: float = 0.1) -> None:
        if not 0 <= drop <= 1:
            raise ValueError(f"text drop is {drop}; it is a share, in [0, 1]")
        self.text, self.patches, self.drop = text, patches, drop

    def __call__(self, batch: Any, draws: Draws, device: torch.device | str = "cpu") -> tuple[Tokens, list[Tokens]]:
        """`(generated, known)` of a `selfflow.data.loader.Batch`."""
        dropped = (draws.uniform(len(batch.texts)) < self.drop).tolist()
        prompts = ["" if gone else text for text, gone in zip(batch.texts, dropped, strict=True)]
        return self.patches.tokens(batch.pictures.to(device)), [self.text(prompts).to(device)]
