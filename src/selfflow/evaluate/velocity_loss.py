"""Held-out velocity loss per noise level: the training objective itself, on data and noise that never change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from selfflow import flow
from selfflow.evaluate.protocol import seed_of

LEVELS = tuple(round(0.05 + 0.1 * i, 2) for i in range(10))

Predict = Callable[[Tensor, Tensor, slice], Tensor]


@torch.inference_mode()
def velocity_loss(
    predict: Predict,
    data: Tensor,
    ids: Sequence[str],
    levels: Sequence[float] = LEVELS,
    seed: int = 0,
    batch: int = 64,
) -> dict[float, tuple[float, float]]:
    """`E |predict(x_t, t) - (noise - data)|²` per value, at each noise level.

    The noise depends on (seed, id, level) alone, so two models, or one model at two times, are compared on the very
    same inputs whatever the order and the batch.

    Args:
        predict: `(x_t (b, n, c), t (b,), rows)` to the velocity `(b, n, c)`, where `data[rows]` is what `x_t` was made
            of, so that captions can be looked up.
        data: clean tokens `(N, n, c)`.
        ids: N stable names.
        levels: times in [0, 1]; 1 is noise.

    Returns:
        level to mean and standard error over the samples.

    Raises:
        ValueError: for levels outside [0, 1], other than one distinct id per sample, or fewer than two samples.
    """
    if len(data) < 2 or len(set(ids)) != len(data) or len(ids) != len(data):
        raise ValueError(
            f"{len(data)} samples came with {len(ids)} ids, {len(set(ids))} of them distinct; give one each"
        )
    if bad := [t for t in levels if not 0 <= t <= 1]:
        raise ValueError(f"levels {bad} are outside [0, 1]")
    results = {}
    for level in levels:
        errors = []
        for start in range(0, len(data), batch):
            rows = slice(start, start + batch)
            clean = data[rows].float()
            noise = torch.stack([_noise(clean.shape[1:], seed_of(seed, name, f"{level:.6f}")) for name in ids[rows]])
            noise = noise.to(clean.device)
            t = torch.full((len(clean),), level, device=clean.device)
            predicted = predict(flow.interpolate(clean, noise, t), t, rows).float()
            errors.append((predicted - flow.velocity(clean, noise)).square().mean(dim=(1, 2)).double().cpu())
        error = torch.cat(errors)
        results[float(level)] = (float(error.mean()), float(error.std() / len(error) ** 0.5))
    return results


def _noise(shape: torch.Size, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
