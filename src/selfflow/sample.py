"""Samplers: integrate `dx = velocity(x, t) dt` from noise (t = 1) to data (t = 0).

Pure functions of `velocity(x, t)`, where `x` is any tensor and `t` a 0-d float32 tensor, and of the decreasing `times`
from `selfflow.times.schedule`. All arithmetic on `x` is float32, whatever the network computes in.

A `callback(step, t, x, data)` is called after each step with the number of steps done, the new time, the new state and
the present guess of the clean data; when it returns True sampling ends there (a maker typed on).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from selfflow import flow
from selfflow.shapes import Float

Velocity = Callable[[Tensor, Tensor], Tensor]
Jump = Callable[[Tensor, Tensor, Tensor], Tensor]
Callback = Callable[[int, Tensor, Tensor, Tensor], bool | None]


def _steps(times: Tensor) -> list[tuple[Tensor, Tensor]]:
    if times.ndim != 1 or len(times) < 2 or not bool((times[1:] < times[:-1]).all()):
        raise ValueError(f"times must be a decreasing 1-D tensor of at least two values, not {times.tolist()}")
    return list(pairwise(times.float()))


def euler(velocity: Velocity, x: Tensor, times: Float[Tensor, "s"], callback: Callback | None = None) -> Tensor:
    """First order: `x += (r - t) · v(x, t)`. One evaluation a step."""
    for step, (t, r) in enumerate(_steps(times), start=1):
        v = velocity(x, t).float()
        data = flow.data_from_velocity(x, v, t)
        x = x + (r - t) * v
        if callback is not None and callback(step, r, x, data):
            break
    return x


def heun(velocity: Velocity, x: Tensor, times: Float[Tensor, "s"], callback: Callback | None = None) -> Tensor:
    """Second order: Euler's step, then the mean of the slopes at both ends. Two evaluations a step."""
    for step, (t, r) in enumerate(_steps(times), start=1):
        v = velocity(x, t).float()
        predicted = x + (r - t) * v
        v_end = velocity(predicted, r).float()
        data = flow.data_from_velocity(predicted, v_end, r)
        x = x + (r - t) * (v + v_end) / 2
        if callback is not None and callback(step, r, x, data):
            break
    return x


def sde(
    velocity: Velocity,
    x: Tensor,
    times: Float[Tensor, "s"],
    draws: Callable[[Tensor], Tensor],
    callback: Callback | None = None,
    diffusion: Callable[[Tensor], Tensor] = lambda t: 2 * t,
) -> Tensor:
    """Euler–Maruyama on the reverse SDE with the flow's own marginals; the last step is taken without noise.

    With `g²(t)` the diffusion and `score = ∇ log p_t`, running t downwards by `τ = t - r`:

        x += -(v - g²/2 · score) · τ + sqrt(g² · τ) · N(0, 1)

    Any `g² ≥ 0` leaves the marginals unchanged; `2t` is SiT's (Ma et al. 2024, 2401.08740) and Self-Flow's.

    Args:
        draws: standard normal noise shaped like its argument. (A function, so that the caller owns seeds and rows.)
        diffusion: `g²(t)`.
    """
    steps = _steps(times)
    for step, (t, r) in enumerate(steps, start=1):
        v = velocity(x, t).float()
        data = flow.data_from_velocity(x, v, t)
        tau, g2 = t - r, diffusion(t)
        x = x - tau * (v - g2 / 2 * flow.score_from_velocity(x, v, t))
        if step < len(steps):
            x = x + (g2 * tau).sqrt() * draws(x)
        if callback is not None and callback(step, r, x, data):
            break
    return x


def flow_map(jump: Jump, x: Tensor, times: Float[Tensor, "s"], callback: Callback | None = None) -> Tensor:
    """`x += (r - t) · u(x, t, r)`, with u the mean velocity of the jump from t to r. One evaluation a step.

    With the true flow map this is exact in any number of steps; with u(x, t, t) in its place it is `euler`.
    """
    for step, (t, r) in enumerate(_steps(times), start=1):
        u = jump(x, t, r).float()
        data = flow.data_from_velocity(x, u, t)
        x = x + (r - t) * u
        if callback is not None and callback(step, r, x, data):
            break
    return x


SAMPLERS: dict[str, Callable[..., Tensor]] = {"euler": euler, "heun": heun, "sde": sde, "flow_map": flow_map}


def check_interval(interval: tuple[float, float]) -> tuple[float, float]:
    """The interval itself; ValueError unless `0 ≤ low ≤ high ≤ 1`."""
    low, high = interval
    if not 0 <= low <= high <= 1:
        raise ValueError(f"the guidance interval is {interval}; it must satisfy 0 ≤ low ≤ high ≤ 1")
    return interval


def guided(
    conditional: Velocity, unconditional: Velocity, scale: float, interval: tuple[float, float] = (0.0, 1.0)
) -> Velocity:
    """Classifier-free guidance: `v_u + scale · (v_c - v_u)` while `low ≤ t ≤ high`, plain `v_c` outside.

    Ho & Salimans 2022 (2207.12598); the interval is Kynkäänniemi et al. 2024 (2404.07724). `scale = 1` is no guidance
    and never evaluates `unconditional`.
    """
    low, high = check_interval(interval)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        v = conditional(x, t)
        if scale == 1 or not low <= float(t) <= high:
            return v
        return flow.lead([v, unconditional(x, t)], [scale])

    return velocity


def seeded_noise(shape: tuple[int, ...], seeds: list[torch.Generator] | torch.Generator | None) -> Tensor:
    """Standard normal float32 noise drawn on the CPU, so that one seed gives one picture on every device.

    Args:
        shape: `(b, …)`.
        seeds: one generator for the whole batch, or one per sample; None draws from torch's global generator.

    Raises:
        ValueError: when the number of generators is not `b`.
    """
    if isinstance(seeds, list):
        if len(seeds) != shape[0]:
            raise ValueError(f"{len(seeds)} generators were given for {shape[0]} samples; give one, or one per sample")
        return torch.stack([torch.randn(shape[1:], generator=g) for g in seeds])
    return torch.randn(shape, generator=seeds)
