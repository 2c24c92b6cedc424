"""Runtime: a pipeline that keeps what it read and computes in few kernels. Same calls, same results."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfflow import sample
from selfflow.pipeline import Pipeline, PipelineOutput
from selfflow.runtime.engine import Engine, Space
from selfflow.runtime.memory import Piece, PieceCache, content, fingerprint
from selfflow.runtime.rolling import Rollout, stream_sound
from selfflow.tokens import Chain, Tokens
from selfflow.train.engine import fast_dtype

TIMES_KEPT = 512  # conditionings, of a few kilobytes each


@dataclass(frozen=True)
class Remembered:
    """What each of b samples knows, as the pieces it was read in. It takes the place of `selfflow.nn.Memory`."""

    rows: tuple[tuple[Piece, ...], ...]

    @property
    def batch(self) -> int:
        return len(self.rows)

    def __len__(self) -> int:
        """Tokens of the sample that knows most."""
        return max(sum(len(piece) for piece in row) for row in self.rows)

    def repeat(self, times: int) -> Remembered:
        """Each sample `times` times over."""
        return Remembered(tuple(row for row in self.rows for _ in range(times)))


class Runtime(Pipeline):
    """A `Pipeline` at work in earnest: `__call__`, `solve` and every task by name give what the pipeline's give.

    What it reads (prompts, references, first frames, sounds) is kept across steps and requests, by content: see
    `selfflow.runtime.memory`. Weights are copied, in the dtype it computes in; the pipeline may be used or trained on
    beside it. Calls from several threads take turns.

    Args:
        pipe: the model.
        dtype: what the network computes in; None takes bfloat16 where the hardware multiplies it, else float32.
        memory: of what was read, bytes or a `PieceCache` to share.
    """

    def __init__(self, pipe: Pipeline, dtype: torch.dtype | None = None, memory: int | PieceCache = 256 << 20) -> None:
        self.pipe = pipe
        super().__init__(
            pipe.net, pipe.text, pipe.config, dtype or fast_dtype(pipe.device.type), pipe.modalities.quantiles
        )
        self.modalities = pipe.modalities
        self.memory = PieceCache(memory) if isinstance(memory, int) else memory
        self._lock = threading.RLock()
        self._prepare()

    def _prepare(self) -> None:
        self.engine = Engine(self.net, self.dtype)
        self._times: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self.fingerprint = fingerprint(self.net)
        # Two devices or dtypes read the same tokens a little differently: neither may stand in for the other.
        self._before = f"{self.fingerprint} {self.dtype} {self.device}".encode()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, name: str | Path, device: str = "cpu", dtype: torch.dtype | None = None, **options: Any
    ) -> Runtime:
        """`Pipeline.from_pretrained`, as a runtime."""
        return cls(Pipeline.from_pretrained(name, device), dtype, **options)

    def to(self, device: str | torch.device) -> Runtime:
        self.pipe.to(device)
        self._prepare()
        return self

    # ------------------------------------------------------------------------------------------------------- requests

    def __call__(self, *args: Any, **options: Any) -> PipelineOutput:
        """Draw pictures: see `Pipeline`."""
        with self._lock:
            return super().__call__(*args, **options)

    def solve(self, task: str, samples: Sequence[Any], **options: Any) -> list[Any]:
        """Do a task: see `Pipeline.solve`. Several samples of one shape, each with its generator, share every call."""
        with self._lock:
            return super().solve(task, samples, **options)

    def held_out_velocity_loss(
        self, samples: Sequence[Any], levels: Sequence[float], seed: int = 0
    ) -> dict[float, tuple[float, float]]:
        """As the pipeline measures it, and by the pipeline."""
        return self.pipe.held_out_velocity_loss(samples, levels, seed)

    def warm_up(self, steps: Sequence[int] = (4,), sizes: Sequence[tuple[int, int]] | None = None) -> None:
        """Draw a blank picture of each size in each number of steps, so that the first request finds all prepared."""
        side = self.config.picture.size
        for height, width in sizes or [(side, side)]:
            for count in steps:
                self("", height=height, width=width, num_inference_steps=count, output_type="np")

    # ------------------------------------------------------------------------------------------------------ long work

    def rollout(
        self, picture: np.ndarray, text: str, body: str, hz: float, seed: int = 0, steps: int | None = None,
        **options: Any,
    ) -> Rollout:  # fmt: skip
        """A learned world to be played step by step, at constant memory and time: see `Rollout`."""
        return Rollout(self, picture, text, body, hz, seed, steps, **options)

    def stream_sound(self, text: str, seconds: float, seed: int = 0, **options: Any) -> Iterator[np.ndarray]:
        """Sound of any length, in chunks float32 `(samples,)`: see `selfflow.runtime.rolling.stream_sound`."""
        return stream_sound(self, text, seconds, seed, **options)

    # -------------------------------------------------------------------------------------------------------- reading

    @contextmanager
    def using(self, memory: PieceCache) -> Iterator[None]:
        """For a while, keep what is read in another memory."""
        with self._lock:
            usual, self.memory = self.memory, memory
            try:
                yield
            finally:
                self.memory = usual

    @torch.inference_mode()
    def remember(self, known: Sequence[Tokens | Chain]) -> Remembered:  # type: ignore[override]
        """What is known, read or remembered: each group of tokens of each sample by itself, without its padding.

        So what is read does not depend on the company it comes in, and a memory that is kept is the same, bit for bit,
        as one that is not.
        """
        rows = []
        for i in range(max(_batch(group) for group in known)):
            row: list[Piece] = []
            for group in known:
                before, past = self._before, list[Piece]()
                for link in group.links if isinstance(group, Chain) else (group,):
                    tokens = _alone(link, i)
                    if tokens is None:
                        continue
                    before = content(tokens, before)
                    past.append(self.memory.get(before, partial(self._read, tokens, past)))
                row += past
            rows.append(tuple(row))
        return Remembered(tuple(rows))

    def _read(self, tokens: Tokens, past: Sequence[Piece]) -> Piece:
        stream = "text" if tokens.modality == "text" else "media"
        return self.engine.read(tokens, past, self._conditioning(stream, 0.0, None)[0][0])

    # ----------------------------------------------------------------------------------------------------- generating

    def field(
        self,
        template: Tokens,
        memories: Sequence[Any],
        scales: Sequence[float] = (),
        interval: tuple[float, float] | None = None,
    ) -> Callable[..., Tensor]:
        """As `Pipeline.field`, of memories from this `remember`. All sides of guidance share one call."""
        low, high = sample.check_interval(interval or self.config.sampling.guidance_interval)
        template = template.to(self.device)
        alone = self._against(template, memories[:1])
        if len(memories) == 1:
            return alone
        together = self._against(template, memories)

        def velocity(x: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
            if not low <= float(t) <= high:
                return alone(x, t, r)
            sides = together(x, t, r).chunk(len(memories))
            total = sides[-1]
            for scale, (more, less) in zip(scales, pairwise(sides), strict=True):
                total = total + scale * (more - less)
            return total

        return velocity

    def _against(self, template: Tokens, memories: Sequence[Remembered]) -> Callable[..., Tensor]:
        """The velocity of tokens in the places of `template`, for each memory in turn."""
        sides = len(memories)
        space: Space | None = None
        places = template.repeat(sides)
        turn = self.engine.turn(places.positions)

        def velocity(x: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
            nonlocal space
            if space is None:  # not before it is needed: outside its interval guidance needs one side only
                rows = [row for memory in memories for row in memory.rows]
                space = Space.of(rows, len(template), self.engine.like)
            conditioning, level = self._conditioning("media", float(t), None if r is None else float(r))
            return self.engine.velocity(places.with_data(x.repeat(sides, 1, 1)), level, conditioning, turn, space)

        return velocity

    def _conditioning(self, stream: str, t: float, r: float | None) -> tuple[Any, Tensor]:
        """`Engine.conditioning`, kept, and the time `(1, 1)` where the network is."""
        key = (stream, t, r)
        if key not in self._times:
            while len(self._times) >= TIMES_KEPT:
                self._times.popitem(last=False)
            self._times[key] = self.engine.conditioning(stream, t, r), torch.full((1, 1), t, device=self.device)
        return self._times[key]


def _batch(group: Tokens | Chain) -> int:
    return group.links[0].batch if isinstance(group, Chain) else group.batch


def _alone(tokens: Tokens, i: int) -> Tokens | None:
    """Sample i's tokens without padding; None when it has none."""
    if tokens.mask is None:
        return tokens[i : i + 1]
    keep = tokens.mask[i]
    if not bool(keep.any()):
        return None
    return Tokens(tokens.data[i : i + 1, keep], tokens.positions[i : i + 1, keep], tokens.modality)
