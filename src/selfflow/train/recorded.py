"""Micro-steps recorded: forward and backward of one shape become one launch, as a CUDA graph.

A small network on a large GPU waits for its launches: a few thousand of some microseconds each for every micro-batch. A
mixture has few shapes, so each is recorded the second time it comes and played ever after. What a recording reads
(tokens, noise, times) is copied into tensors that stay; gradients are added to tensors that stay.

Nothing random is recorded: noise, times and what is hidden are drawn before. Shapes are few where lengths are padded to
multiples (`selfflow.train.task.Prepare(grain=…)`), and padding has no weight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from selfflow.nn.recording import Record, Run, cuda_record
from selfflow.times import Draws
from selfflow.tokens import Tokens


class _Kind(NamedTuple):
    """What is known of a shape since it came first."""

    names: list[str]  # of the losses, in order
    touched: list[nn.Parameter]  # that had a gradient


class _Recording(NamedTuple):
    inputs: list[Tensor]
    losses: Tensor  # `(parts,)`
    play: Run


class Recorded:
    """Losses of a micro-batch, whose gradient is added to that of the parameters; see the head of this file.

    A parameter that no micro-batch of a step used has no gradient after `end`, as if nothing had been recorded.

    Args:
        objective: a `FlowMatching` whose `recordable` is true.
        autocast: to compute in.
        record: how; by default as CUDA graphs that share one pool of memory.
        most: shapes to record; those that come later are launched as ever.

    Raises:
        ValueError: for an objective that looks at values on the way.
    """

    def __init__(
        self,
        objective: Any,
        autocast: Callable[[], AbstractContextManager[None]],
        record: Record | None = None,
        most: int = 128,
    ) -> None:
        if not objective.recordable:
            raise ValueError(
                f"{type(objective).__name__} with these options looks at its values on the way and cannot be "
                "recorded; set train.record to False"
            )
        self.objective, self.autocast, self.most = objective, autocast, most
        self.record = record or partial(cuda_record, pool=torch.cuda.graph_pool_handle())
        self.parameters = [p for p in objective.parameters() if p.requires_grad]
        self._gradients = [torch.zeros_like(p) for p in self.parameters]
        self._kinds: dict[Hashable, _Kind] = {}
        self._recordings: dict[Hashable, _Recording] = {}
        self._touched: set[nn.Parameter] = set()

    def begin(self) -> None:
        """Before a step's first micro-batch: no gradient yet."""
        torch._foreach_zero_(self._gradients)
        self._touched.clear()
        self._give()

    def end(self) -> None:
        """After its last: what was not used has no gradient."""
        for p in self.parameters:
            if p not in self._touched:
                p.grad = None

    def __call__(self, data: Tensor | Tokens, context: Any, draws: Draws, scale: float) -> dict[str, Tensor]:
        """`loss` and its parts, 0-d, of one micro-batch; the gradient of `scale · loss` is added."""
        noise, times = self.objective.draw(data, draws)
        tensors: list[Tensor] = []
        factor = torch.tensor(scale, device=noise.device)  # a tensor: a recording reads it anew
        form = _take_apart((data, noise, times, (context,), factor), tensors)
        key = (form, tuple((t.shape, t.dtype) for t in tensors), self.objective.phase)
        if key not in self._kinds:
            losses, self._kinds[key] = self._launch(form, tensors)
        elif key not in self._recordings and len(self._recordings) >= self.most:
            losses, _ = self._launch(form, tensors)
        else:
            losses = self._play(key, form, tensors)
        self._touched.update(self._kinds[key].touched)
        return dict(zip(self._kinds[key].names, losses.unbind(), strict=True))

    def _compute(self, form: Any, tensors: list[Tensor]) -> tuple[list[str], Tensor]:
        """Names and values of the losses, after their backward pass. Nothing of its graph is left."""
        data, noise, times, context, scale = _put_together(form, tensors)
        values = (data.data if isinstance(data, Tokens) else data).float()
        with self.autocast():
            losses = self.objective.losses(data, values, noise, times, context)
        (losses.total * scale).backward()
        parts = {"loss": losses.total.detach(), **losses.parts}
        return list(parts), torch.stack([v.detach().float().reshape(()) for v in parts.values()])

    def _launch(self, form: Any, tensors: list[Tensor]) -> tuple[Tensor, _Kind]:
        """Not recorded; finds out which parameters have a gradient."""
        for p in self.parameters:
            p.grad = None
        names, losses = self._compute(form, tensors)
        pairs = [(g, p) for g, p in zip(self._gradients, self.parameters, strict=True) if p.grad is not None]
        torch._foreach_add_([g for g, _ in pairs], [p.grad for _, p in pairs])
        self._give()
        return losses, _Kind(names, [p for _, p in pairs])

    def _play(self, key: Hashable, form: Any, tensors: list[Tensor]) -> Tensor:
        found = self._recordings.get(key)
        if found is None:
            inputs = [t.clone(memory_format=torch.contiguous_format) for t in tensors]
            losses = torch.zeros(len(self._kinds[key].names), device=tensors[0].device)

            def run() -> None:
                losses.copy_(self._compute(form, inputs)[1])

            before = [g.clone() for g in self._gradients]
            found = self._recordings[key] = _Recording(inputs, losses, self.record(run))
            torch._foreach_copy_(self._gradients, before)  # rehearsals have added to them
        else:
            for own, given in zip(found.inputs, tensors, strict=True):
                own.copy_(given, non_blocking=True)
        found.play()
        return found.losses.clone()

    def _give(self) -> None:
        for p, gradient in zip(self.parameters, self._gradients, strict=True):
            p.grad = gradient


class _Place(NamedTuple):
    """Where a tensor was taken out."""

    number: int


class _Whole(NamedTuple):
    """How to make something again of its parts."""

    kind: type
    names: tuple[str, ...] | None
    parts: tuple[Any, ...]


def _take_apart(value: Any, found: list[Tensor]) -> Any:
    """Dataclasses, tuples and lists without their tensors, which are added to `found`; hashable."""
    if isinstance(value, Tensor):
        found.append(value)
        return _Place(len(found) - 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = tuple(f.name for f in dataclasses.fields(value))
        return _Whole(type(value), names, tuple(_take_apart(getattr(value, n), found) for n in names))
    if type(value) in (tuple, list):
        return _Whole(type(value), None, tuple(_take_apart(x, found) for x in value))
    return value


def _put_together(form: Any, tensors: list[Tensor]) -> Any:
    """The inverse of `_take_apart`, with these tensors in place of those."""
    if isinstance(form, _Place):
        return tensors[form.number]
    if isinstance(form, _Whole):
        parts = [_put_together(x, tensors) for x in form.parts]
        return form.kind(parts) if form.names is None else form.kind(**dict(zip(form.names, parts, strict=True)))
    return form
