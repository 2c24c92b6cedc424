"""Sampling: known tokens read once (memory) against known tokens read again at every step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from selfflow import sample
from selfflow.nn import Memory, Transformer
from selfflow.times import schedule
from selfflow.tokens import Tokens
from selfflow.train.engine import Engine
from subjects import PATCHES, SEED, objective, pictures, reference_tokens, text_tokens
from timing import Row, compared, interleaved

REFERENCE_SIDE = 16  # patches: a reference is 256 tokens


def network() -> Transformer:
    """The network with its zero-initialised projections drawn at random, so that memory matters to the result."""
    net = objective("flow_matching").net.eval()
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 2 and not p.any():
                p.normal_(std=0.3 * p.shape[1] ** -0.5, generator=generator)
    return net


def cached_sampling(engine: Engine, references: Sequence[int], steps: int, rounds: int) -> list[Row]:
    """Whole pictures of one prompt and some references of 256 tokens; reading counts on both sides.

    Raises:
        RuntimeError: should the two not draw the same picture.
    """
    net, template = network(), PATCHES.tokens(pictures(1))
    noise = torch.randn(template.data.shape, generator=torch.Generator().manual_seed(SEED))
    times = schedule(steps)

    def draw(known: list[Tokens], cached: bool) -> Tensor:
        with torch.inference_mode(), engine.autocast():
            memory: Memory | list[Tokens] | None = net.read(known) if cached else known

            def velocity(x: Tensor, t: Tensor) -> Tensor:
                return net(template.with_data(x), t.expand(1), memory)[0]

            return sample.euler(velocity, noise, times)

    rows = []
    for count in references:
        known = [text_tokens(1), *(reference_tokens(1, REFERENCE_SIDE, i + 1) for i in range(count))]
        gap = (draw(known, True) - draw(known, False)).abs().max().item()
        if gap > 1e-3:
            raise RuntimeError(f"cached and uncached sampling differ by {gap} with {count} references")
        actions = {
            "uncached": lambda known=known: draw(known, False),
            "cached": lambda known=known: draw(known, True),
        }
        ratio, details = compared(interleaved(actions, rounds), "uncached", "cached")
        extra = REFERENCE_SIDE**2 * count
        what = f"16 text + {extra} reference tokens" if count else "16 text tokens"
        details |= {"steps": steps, "known_tokens": len(known[0]) + extra, "largest_difference": gap}
        rows.append(Row(f"sampling, known tokens re-read / read once, {what}", ratio, details=details))
    return rows
