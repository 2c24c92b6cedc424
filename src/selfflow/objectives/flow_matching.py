"""Flow matching: regress the velocity that leads from data to noise."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from selfflow import flow
from selfflow.objectives.auxiliary import Auxiliary
from selfflow.objectives.base import Losses, Practice, ema_copy, ema_update, token_mean
from selfflow.times import Density, Draws, Times, dual_times
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
        ema_warmup: let the decay rise as `min(ema_decay, (1 + step) / (10 + step))`, so that the average of a short run
            soon forgets the initial weights.
        mid_weight: λ of the same loss on a second velocity, said at mid depth (2512.24176). The network's forward then
            takes `mid=True`, which appends that velocity to the features.
        copying_weight: λ of the cross entropy between the odds by which a network copies known tokens and whether they
            are copies (`selfflow.nn.copying`). The network's forward then takes `clean`, the data, and appends it.
        auxiliary: name → further losses on features of the same pass, see `selfflow.objectives.auxiliary`.

    Raises:
        ValueError: for an `ema_decay` outside [0, 1), a negative `mid_weight`, or one for a network without `mid`.
    """

    steps_done: Tensor

    def __init__(
        self,
        net: nn.Module,
        density: Density | None = None,
        ema_decay: float = 0.9999,
        modalities: Mapping[str, Practice] | None = None,
        ema_warmup: bool = False,
        mid_weight: float = 0.0,
        auxiliary: Mapping[str, Auxiliary] | None = None,
        copying_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= ema_decay < 1:
            raise ValueError(f"ema_decay is {ema_decay}; it lies in [0, 1)")
        if mid_weight < 0 or (mid_weight and "mid" not in inspect.signature(net.forward).parameters):
            raise ValueError(f"mid_weight {mid_weight} is ≥ 0 and needs a network whose forward takes `mid=True`")
        if copying_weight < 0 or (copying_weight and "clean" not in inspect.signature(net.forward).parameters):
            raise ValueError(f"copying_weight {copying_weight} is ≥ 0 and needs a network whose forward takes `clean`")
        self.net, self.ema = net, ema_copy(net)
        self.practice, self.ema_decay = Practice(density or Density()), ema_decay
        self.modalities = dict(modalities or {})
        self.ema_warmup, self.mid_weight, self.copying_weight = ema_warmup, mid_weight, copying_weight
        self._step: int | None = None
        self._auxiliary = {name: f"auxiliary_{name}" for name in auxiliary or {}}
        for name, module in (auxiliary or {}).items():
            self.add_module(self._auxiliary[name], module)  # no ModuleDict: FSDP2 shards what has a forward
        if ema_warmup:
            self._count_steps()

    def _count_steps(self) -> None:
        """Keep how many steps were taken, in the checkpoint. (Only where it matters: other checkpoints lack it.)"""
        if not hasattr(self, "steps_done"):
            self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
            self.register_load_state_dict_post_hook(FlowMatching._forget_step)

    def _forget_step(self, *_: Any) -> None:
        self._step = None

    @property
    def step(self) -> int:
        """How many steps were taken, of an objective that counts them.

        Read from its tensor once, then counted beside it: a GPU would have to be waited for, and a recording may not.
        """
        if self._step is None:
            self._step = int(self.steps_done)
        return self._step

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
        values = data.data if isinstance(data, Tokens) else data
        noise, times = self.draw(data, draws if isinstance(draws, Draws) else Draws(draws))
        return self.losses(data, values.float(), noise, times, context)

    @property
    def recordable(self) -> bool:
        """Whether `losses` decides nothing by values of tensors, so that it may be recorded and played."""
        return True

    @property
    def partial(self) -> bool:
        """Whether a step may leave parameters without a gradient: as the network says, or False."""
        return bool(getattr(self.net, "partial", False))

    @property
    def phase(self) -> Hashable:
        """What of the objective's own state decides which way `losses` goes: another phase is another recording."""
        return None

    def draw(self, data: Tensor | Tokens, draws: Draws) -> tuple[Tensor, Times]:
        """Every random choice of a batch: noise `(b, n, c)`, and times."""
        values = data.data if isinstance(data, Tokens) else data
        b, n, c = values.shape
        # Noise first, then t, then whatever an objective draws besides: from one seed, all objectives share both.
        noise = draws.normal(b, n, c).to(values.device)
        spans, shared = (data.spans, data.shared) if isinstance(data, Tokens) else ((), True)
        return noise, self.times(b, n, draws, spans, shared).to(values.device)

    def times(self, b: int, n: int, draws: Draws, spans: Sequence[Span] = (), shared: bool = True) -> Times:
        """The noise levels of a batch of `n` tokens, given which modalities they are of and whether these share."""
        spans = spans or (Span("", n, 0),)
        if shared:
            return self.draw_times(b, spans, draws)
        return Times.join([self.draw_times(b, [span], draws) for span in spans], [span.length for span in spans])

    def draw_times(self, b: int, spans: Sequence[Span], draws: Draws) -> Times:
        """Levels that all spans share; p(t) is that of the first."""
        return Times.shared(self.practised(spans[0]).density.sample(b, draws))

    def draw_dual_times(
        self, b: int, spans: Sequence[Span], draws: Draws, plain_share: float = 0.0, min_gap: float = 0.0
    ) -> Times:
        """Two levels a sample, each modality with the share of tokens at the second that it is trained with."""
        ratios = [self.practised(span).mask_ratio for span in spans]
        ratio = torch.tensor(ratios).repeat_interleave(torch.tensor([span.length for span in spans]))
        density = self.practised(spans[0]).density
        return dual_times(density, b, len(ratio), ratio.to(draws.device), draws, plain_share, min_gap)

    def practised(self, span: Span) -> Practice:
        """How tokens of a span are trained."""
        return self.modalities.get(span.modality, self.practice)

    def losses(
        self, data: Tensor | Tokens, values: Tensor, noise: Tensor, times: Times, context: tuple[Any, ...]
    ) -> Losses:
        """Losses given every random choice."""
        loss, parts, _ = self.student_pass(data, values, noise, times, context)
        return Losses(loss, parts)

    def student_pass(
        self,
        data: Tensor | Tokens,
        values: Tensor,
        noise: Tensor,
        times: Times,
        context: tuple[Any, ...],
        taps: Sequence[int] = (),
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """The one pass of the student: all losses it gives by itself, what to log, and the features of `taps`."""
        auxiliary = {name: cast(Auxiliary, self.get_submodule(place)) for name, place in self._auxiliary.items()}
        wanted = list(dict.fromkeys([*taps, *(l for module in auxiliary.values() for l in module.layers)]))
        options: dict[str, Any] = {"taps": tuple(wanted)} if wanted else {}
        if self.mid_weight:
            options["mid"] = True
        if self.copying_weight:
            options["clean"] = values
        x_t = flow.interpolate(values, noise, times.per_token)
        velocity, features = self._call(self.net, data, x_t, times, context, **options)
        truth = flow.velocity(values, noise)
        loss, parts = self._velocity_loss(velocity, truth, data)
        spans, mask = layout(data)
        if self.copying_weight:
            *features, each = features
            wrong = token_mean(each, mask)
            loss = loss + self.copying_weight * wrong
            parts["loss_copying"] = wrong.detach()
        if self.mid_weight:
            *features, early = features
            mid, _ = self._velocity_loss(early, truth, data)
            loss = loss + self.mid_weight * mid
            parts["loss_mid"] = mid.detach()
        found = dict(zip(wanted, features, strict=True))
        for name, module in auxiliary.items():
            extra = module([found[l] for l in module.layers], values, spans, mask)
            loss = loss + module.weight * extra
            parts[f"loss_{name}"] = extra.detach()
        return loss, parts, [found[tap] for tap in taps]

    def after_step(self) -> None:
        """Call after every optimiser step: moves the EMA."""
        decay = self.ema_decay
        if self.ema_warmup:
            decay = min(decay, (1 + self.step) / (10 + self.step))
        ema_update(self.ema, self.net, decay)
        if hasattr(self, "steps_done"):
            self._step = self.step + 1
            self.steps_done += 1

    def _velocity_loss(
        self, velocity: Tensor, truth: Tensor, data: Tensor | Tokens
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of each modality's mean over its tokens and channels, and what to log."""
        error = (velocity.float() - truth).square()
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


def layout(data: Tensor | Tokens) -> tuple[tuple[Span, ...], Tensor | None]:
    """Which tokens are of which modality, and which are real; a plain tensor is of one without a name."""
    if isinstance(data, Tokens):
        return data.spans, data.mask
    return (Span("", data.shape[1], data.shape[2]),), None
