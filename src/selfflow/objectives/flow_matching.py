"""Flow matching: regress the velocity that leads from data to noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from selfflow import flow
from selfflow.objectives.base import Losses, Practice, ema_copy, ema_update, token_mean
from selfflow.times import Density, Draws, Times
from selfflow.tokens import Span, Tokens


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
        modalities: name → `Practice`, for those that are trained otherwise than the rest.

    Raises:
        ValueError: for an `ema_decay` outside [0, 1).
    """

    def __init__(
        self,
        net: nn.Module,
        density: Density | None = None,
        ema_decay: float = 0.9999,
        modalities: Mapping[str, Practice] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay is {ema_decay}; it lies in [0, 1)")
        self.net, self.ema = net, ema_copy(net)
        self.practice, self.ema_decay = Practice(density or Density()), ema_decay
        self.modalities = dict(modalities or {})

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
        spans, shared = (data.spans, data.shared) if isinstance(data, Tokens) else ((), True)
        times = self.times(b, n, draws, spans, shared).to(values.device)
        return self.losses(data, values.float(), noise, times, context)

    def times(self, b: int, n: int, draws: Draws, spans: Sequence[Span] = (), shared: bool = True) -> Times:
        """The noise levels of a batch of `n` tokens, given which modalities they are of and whether these share."""
        spans = spans or (Span("", n, 0),)
        if shared:
            return self.draw_times(b, spans, draws)
        return Times.join([self.draw_times(b, [span], draws) for span in spans], [span.length for span in spans])

    def draw_times(self, b: int, spans: Sequence[Span], draws: Draws) -> Times:
        """Levels that all spans share; p(t) is that of the first."""
        return Times.shared(self.practised(spans[0]).density.sample(b, draws))

    def practised(self, span: Span) -> Practice:
        """How tokens of a span are trained."""
        return self.modalities.get(span.modality, self.practice)

    def losses(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Losses:
        """Losses given every random choice."""
        velocity, _ = self._call(self.net, data, flow.interpolate(values, noise, times.per_token), times, context)
        loss, parts = self._velocity_loss(velocity, values, noise, data)
        return Losses(loss, parts)

    def after_step(self) -> None:
        """Call after every optimiser step: moves the EMA."""
        ema_update(self.ema, self.net, self.ema_decay)

    def _velocity_loss(
        self, velocity: Tensor, values: Tensor, noise: Tensor, data: Tensor | Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of each modality's mean over its tokens and channels, and what to log."""
        error = (velocity.float() - flow.velocity(values, noise)).square()
        if not isinstance(data, Tokens):
            loss = token_mean(error.mean(dim=-1), None)
            return loss, {"loss_velocity": loss.detach()}
        means, start = [], 0
        for span in data.spans:
            cut = slice(start, start := start + span.length)
            mask = None if data.mask is None else data.mask[:, cut]
            means.append(token_mean(error[:, cut, : span.channels].mean(dim=-1), mask))
        loss = sum((self.practised(s).weight * m for s, m in zip(data.spans, means, strict=True)), means[0] * 0)
        each = {f"velocity_{s.modality}": m.detach() for s, m in zip(data.spans, means, strict=True)}
        return loss, {"loss_velocity": loss.detach(), **(each if data.joined or self.modalities else {})}

    @staticmethod
    def _call(
        net: nn.Module, data: Tensor | Tokens, x_t: Tensor, times: Times, context: tuple[Any, ...], **options: Any
    ) -> tuple[Any, list[Tensor]]:
        """The network's own convention: `Tokens` in their places if it was given such, few or many times."""
        t = times if getattr(net, "accepts_times", False) else times.per_token.expand(x_t.shape[:2])
        return net(data.with_data(x_t) if isinstance(data, Tokens) else x_t, t, *context, **options)
