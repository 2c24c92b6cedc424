"""Flow matching: regress the velocity that leads from data to noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from selfflow import flow
from selfflow.objectives.base import Losses, ema_copy, ema_update, token_mean
from selfflow.times import Density, Draws, Times
from selfflow.tokens import Tokens


class FlowMatching(nn.Module):
    """`E |net(x_t, t) - (noise - data)|²`, with one t per sample (Lipman et al. 2022, 2210.02747).

    Args:
        net: any module called as `net(x_t, t, *context, taps=(…,))` that returns `(velocity, [features])`, where `x_t`
            and the velocity are `(b, n, c)`, `t` is `(b, n)` in [0, 1] with 1 = noise, and features are `(b, n, f)`
            after each (1-indexed) layer in `taps`. Two attributes are honoured where present: a true `accepts_times`
            (t arrives as `selfflow.times.Times`) and a parameter `stop` (the pass may end at the last tap and return
            None for the velocity).
        density: p(t).
        ema_decay: of the moving average of the weights, updated by `after_step` at every step. It is also what one
            samples from.

    Raises:
        ValueError: for an `ema_decay` outside [0, 1).
    """

    def __init__(self, net: nn.Module, density: Density | None = None, ema_decay: float = 0.9999) -> None:
        super().__init__()
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay is {ema_decay}; it lies in [0, 1)")
        self.net, self.ema = net, ema_copy(net)
        self.density, self.ema_decay = density or Density(), ema_decay

    def train(self, mode: bool = True) -> FlowMatching:
        super().train(mode)
        self.ema.eval()  # the average never trains: no dropout, whatever mode its student is in
        return self

    def forward(self, data: Tensor | Tokens, *context: Any, draws: Draws | torch.Generator | None = None) -> Losses:
        """Losses of one batch.

        Args:
            data: clean `(b, n, c)` values, or `Tokens` that hold them.
            context: handed to the network as it is.
            draws: where times and noise come from: `Draws`, or a generator.
        """
        draws = draws if isinstance(draws, Draws) else Draws(draws)
        values = data.data if isinstance(data, Tokens) else data
        b, n, c = values.shape
        # Noise first, then t, then whatever an objective draws besides: from one seed, all objectives share both.
        noise = draws.normal(b, n, c).to(values.device)
        times = self.times(b, n, draws)
        times = Times(times.levels.to(values.device), None if times.which is None else times.which.to(values.device))
        return self.losses(data, values.float(), noise, times, context)

    def times(self, b: int, n: int, draws: Draws) -> Times:
        """The noise levels of a batch."""
        return Times.shared(self.density.sample(b, draws))

    def losses(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Losses:
        """Losses given every random choice."""
        velocity, _ = self._call(self.net, data, flow.interpolate(values, noise, times.per_token), times, context)
        loss = self._velocity_loss(velocity, values, noise, data)
        return Losses(loss, {"loss_velocity": loss.detach()})

    def after_step(self) -> None:
        """Call after every optimiser step: moves the EMA."""
        ema_update(self.ema, self.net, self.ema_decay)

    @staticmethod
    def _velocity_loss(velocity: Tensor, values: Tensor, noise: Tensor, data: Tensor | Tokens) -> Tensor:
        error = (velocity.float() - flow.velocity(values, noise)).square().mean(dim=-1)
        return token_mean(error, data.mask if isinstance(data, Tokens) else None)

    @staticmethod
    def _call(
        net: nn.Module, data: Tensor | Tokens, x_t: Tensor, times: Times, context: tuple[Any, ...], **options: Any
    ) -> tuple[Any, list[Tensor]]:
        """The network's own convention: `Tokens` in their places if it was given such, few or many times."""
        t = times if getattr(net, "accepts_times", False) else times.per_token.expand(x_t.shape[:2])
        return net(data.with_data(x_t) if isinstance(data, Tokens) else x_t, t, *context, **options)
