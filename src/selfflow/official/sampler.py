"""Sampling latents from the published network: its own SDE sampler, and the ODE samplers it lacks.

The published sampler is Euler–Maruyama on the reverse SDE with `g²(t) = 2t`, which is `selfflow.sample.sde`, on the
times of `published_times`. In the release's words, with `u = 1 - t`, `w = data - noise` and `score = (u·w - x) / t`:

    x += (w + t · score) · du + sqrt(2 · t · du) · N(0, 1)        249 steps on linspace(0, 0.96, 250)
    x += (w + t · score) · 0.04                                   one last step, the mean alone
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from selfflow import sample
from selfflow.official.sit import SiT
from selfflow.sample import Callback, Velocity
from selfflow.shapes import Float, Int
from selfflow.times import Draws, schedule

LAST_STEP = 0.04
Kind = Literal["euler", "heun", "sde"]


@dataclass(frozen=True)
class Sampling:
    """How to sample; the defaults are the release's, without guidance.

    Attributes:
        sampler: `"sde"` as published; `"euler"` or `"heun"` follow the ODE.
        steps: evaluations for `"sde"` (the last one is the mean step) and `"euler"`; `"heun"` takes two a step.
        guidance: scale of classifier-free guidance; 1 is none.
        guidance_low, guidance_high: guidance acts while low ≤ t ≤ high, t = 1 being noise.
        shift: α of `selfflow.times.shift`, ODE only; more than 1 spends more steps near noise.
        noise: precision the normal draws are rounded to; the release drew them in bfloat16.
        seed: of all noise. Sample number i has its own stream (seed, i), whatever batch it is drawn in.
    """

    sampler: Kind = "sde"
    steps: int = 250
    guidance: float = 1.0
    guidance_low: float = 0.0
    guidance_high: float = 0.7
    shift: float = 1.0
    noise: Literal["bfloat16", "float32"] = "bfloat16"
    seed: int = 31

    def __post_init__(self) -> None:
        if self.sampler not in get_args(Kind):  # the network is no flow map
            raise ValueError(f"unknown sampler {self.sampler!r}; choose one of {', '.join(get_args(Kind))}")
        if self.noise not in ("bfloat16", "float32"):
            raise ValueError(f"noise is drawn in 'bfloat16' or 'float32', not {self.noise!r}")
        if self.sampler == "sde" and self.shift != 1:
            raise ValueError(f"the published SDE sampler has its own times; shift {self.shift} needs 'euler' or 'heun'")
        if not self.shift > 0:
            raise ValueError(f"the time shift is {self.shift}; it must be above 0, 1 leaves times alone")
        if not 0 <= self.guidance_low <= self.guidance_high <= 1:
            raise ValueError(
                f"guidance acts from t = {self.guidance_low} to {self.guidance_high}; give 0 ≤ low ≤ high ≤ 1"
            )
        self.times()

    def times(self) -> Float[Tensor, "s"]:
        """From 1 down to 0."""
        return published_times(self.steps) if self.sampler == "sde" else schedule(self.steps, self.shift)


def published_times(steps: int = 250) -> Float[Tensor, "steps_plus_1"]:
    """`steps` evenly spaced times from 1 to 0.04, then 0.

    Raises:
        ValueError: when `steps < 2`.
    """
    if steps < 2:
        raise ValueError(f"{steps} steps asked of the published SDE sampler; it needs at least 2")
    u = torch.linspace(0, 1 - LAST_STEP, steps, dtype=torch.float64)
    return torch.cat([1 - u, u.new_zeros(1)]).float()


def sample_latents(
    model: SiT,
    labels: Int[Tensor, "b"] | Sequence[int],
    settings: Sampling | None = None,
    *,
    first: int = 0,
    bfloat16: bool = False,
    callback: Callback | None = None,
) -> Float[Tensor, "b c side side"]:
    """Latents of the given classes, float32, on the model's device, in the network's scale (0.18215 × the VAE's).

    Args:
        labels: class numbers in [0, classes]; the null class asks for no class.
        first: number of the first sample, which with the seed decides its noise: batches of one run count on.
        bfloat16: run the network under bfloat16 autocast, as the release does; the state stays float32.
        callback: as in `selfflow.sample`, on tokens.

    Raises:
        ValueError: when a label is no class of the model.
    """
    settings = settings or Sampling()
    config, device = model.config, model.pos_embed.device
    labels = torch.as_tensor(labels, dtype=torch.long)
    if labels.ndim != 1 or not len(labels) or not 0 <= int(labels.min()) <= int(labels.max()) <= model.null_class:
        raise ValueError(
            f"labels are {labels.tolist()}; give a list of classes from 0 to {config.classes - 1} "
            f"({model.null_class} for none)"
        )
    labels = labels.to(device)
    generators = noise_streams(settings.seed, first, len(labels))

    def draws(like: Tensor) -> Tensor:
        noise = sample.seeded_noise(tuple(like.shape), generators)
        return noise.to(getattr(torch, settings.noise)).float().to(device)

    velocity = sample.guided(
        _velocity(model, labels, bfloat16),
        _velocity(model, torch.full_like(labels, model.null_class), bfloat16),
        settings.guidance,
        (settings.guidance_low, settings.guidance_high),
    )
    extra = {"draws": draws} if settings.sampler == "sde" else {}
    noise = draws(torch.empty(len(labels), config.tokens, config.values, device="meta"))
    with torch.no_grad():
        tokens = sample.SAMPLERS[settings.sampler](velocity, noise, settings.times(), callback=callback, **extra)
        return config.patches.pictures(tokens, config.side, config.side)


def noise_streams(seed: int, first: int, b: int) -> list[torch.Generator]:
    """One generator per sample, a function of the seed and of the sample's number alone."""
    return [_generator(seed, number) for number in range(first, first + b)]


def _generator(seed: int, number: int) -> torch.Generator:
    generator = Draws.at(seed, number).generator
    assert generator is not None
    return generator


def _velocity(model: SiT, labels: Tensor, bfloat16: bool) -> Velocity:
    def velocity(x: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
            return model(x, t.to(x.device).expand(len(x)), labels).float()

    return velocity
