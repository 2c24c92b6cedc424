"""The linear path between data and noise, and the ways to say where it leads.

    x_t = (1 - t) · data + t · noise,      velocity = d x_t / d t = noise - data

`t = 0` is clean data, `t = 1` pure noise. Knowing `x_t` and `t`, any one of velocity, data and noise gives the others;
each function below is one of those rearrangements. `t` may be a number, `(b,)` one time per sample, or `(b, n)` one
time per token: it is aligned with the leading axes of the data.

Lipman et al. 2022 (2210.02747), Liu et al. 2022 (2209.03003); time runs as in Self-Flow (2603.06507).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

Time = Tensor | float


def align(t: Time, like: Tensor) -> Tensor:
    """`t` with trailing axes of length 1 so that it broadcasts against `like` from the left.

    Raises:
        ValueError: when the leading axes of `like` are not those of `t`.
    """
    t = torch.as_tensor(t, dtype=torch.promote_types(torch.float32, like.dtype), device=like.device)
    if t.ndim > like.ndim or any(a not in (1, b) for a, b in zip(t.shape, like.shape, strict=False)):
        raise ValueError(
            f"times of shape {tuple(t.shape)} do not fit data of shape {tuple(like.shape)}; "
            "give a number, one time per sample (b,) or one per token (b, n)"
        )
    return t.reshape(*t.shape, *(1,) * (like.ndim - t.ndim))


def interpolate(data: Tensor, noise: Tensor, t: Time) -> Tensor:
    """`x_t = (1 - t) · data + t · noise`."""
    t = align(t, data)
    return (1 - t) * data + t * noise


def velocity(data: Tensor, noise: Tensor) -> Tensor:
    """`noise - data`, the same at every t."""
    return noise - data


def data_from_velocity(x_t: Tensor, velocity: Tensor, t: Time) -> Tensor:
    """`x_t - t · velocity`."""
    return x_t - align(t, x_t) * velocity


def noise_from_velocity(x_t: Tensor, velocity: Tensor, t: Time) -> Tensor:
    """`x_t + (1 - t) · velocity`."""
    return x_t + (1 - align(t, x_t)) * velocity


def velocity_from_data(x_t: Tensor, data: Tensor, t: Time, floor: float = 0.0) -> Tensor:
    """`(x_t - data) / max(t, floor)`.

    A network that predicts data needs a floor: near t = 0 its small errors would be divided by almost nothing.
    JiT (Li & He 2025, 2511.13720) uses 0.05. With `t > floor` the conversion is exact.
    """
    return (x_t - data) / align(t, x_t).clamp(min=floor)


def velocity_from_residual(x_t: Tensor, residual: Tensor, t: Time, std: float) -> Tensor:
    """The best linear guess of the velocity from `x_t` alone, and `residual` in units of what that guess leaves open.

    For data of standard deviation σ and mean 0, with `m² = (1 - t)²·σ² + t²` the variance of `x_t`:

        velocity = (t - (1 - t)·σ²) / m² · x_t - σ / m · residual

    The residual then has variance 1 at every t: it is the data (over σ) at t = 1 and minus the noise at t = 0, so a
    network that gives it neither re-draws a nearly clean picture nor copies pure noise. This is the preconditioning of
    EDM (Karras et al. 2022, 2206.00364, section 5) on the linear path.
    """
    t = align(t, x_t)
    variance = ((1 - t) * std) ** 2 + t**2
    return (t - (1 - t) * std**2) / variance * x_t - std * variance.rsqrt() * residual


def score_from_velocity(x_t: Tensor, velocity: Tensor, t: Time, floor: float = 1e-6) -> Tensor:
    """`∇ log p_t(x_t) = -E[noise | x_t] / t`, the drift that turns the flow into a diffusion."""
    return -noise_from_velocity(x_t, velocity, t) / align(t, x_t).clamp(min=floor)


def lead(said: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
    """Guidance: velocities of sides that know less and less, each led away from by its scale.

        last + scale₁ · (first - second) + scale₂ · (second - third) + …

    With two sides and one scale this is classifier-free guidance (Ho & Salimans 2022, 2207.12598); with scales of 1 it
    is the first side, and with one side that side itself.

    Raises:
        ValueError: unless there is one side more than there are scales.
    """
    if len(said) != len(scales) + 1:
        raise ValueError(f"{len(scales)} scales of guidance lead between {len(scales) + 1} sides, not {len(said)}")
    total = said[-1]
    for scale, (more, less) in zip(scales, pairwise(said), strict=True):
        total = total + scale * (more - less)
    return total
