"""Runtime: a pipeline that keeps what it read and computes in few kernels. Same calls, same results."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfflow import flow, sample
from selfflow.nn.recording import Record, cuda_record
from selfflow.pipeline import Pipeline, PipelineOutput
from selfflow.runtime.engine import Engine, Space, most_windows, printing
from selfflow.runtime.export import load_steps
from selfflow.runtime.loops import Loop, bucket
from selfflow.runtime.memory import Piece, PieceCache, content, fingerprint
from selfflow.runtime.rolling import Rollout, stream_sound
from selfflow.tokens import Chain, Tokens, stack
from selfflow.train.engine import fast_dtype

TIMES_KEPT = 512  # conditionings, of a few kilobytes each
LOOPS_KEPT = 16
READ_TOGETHER = 256  # tokens of one call; with more, what a block hands to the next would leave the cache


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
        compiled: options of `torch.compile` for the layers; None compiles nothing.
        record: how to record step loops (`selfflow.runtime.loops`); by default as CUDA graphs on a GPU, else not at
            all.
        exported: a package from `selfflow.runtime.export` for this model. It is native code: load your own only.

    Raises:
        ValueError: for a package of another model or dtype.
    """

    def __init__(
        self, pipe: Pipeline, dtype: torch.dtype | None = None, memory: int | PieceCache = 256 << 20,
        compiled: Mapping[str, Any] | None = None, record: Record | None = None,
        exported: str | Path | None = None,
    ) -> None:  # fmt: skip
        self.pipe, self.compiled, self.exported = pipe, compiled, exported
        self.record = record or (cuda_record if pipe.device.type == "cuda" else None)
        super().__init__(
            pipe.net, pipe.text, pipe.config, dtype or fast_dtype(pipe.device.type), pipe.modalities.quantiles
        )
        self.modalities = pipe.modalities
        self.memory = PieceCache(memory) if isinstance(memory, int) else memory
        self._lock = threading.RLock()
        self._prepare()

    def _prepare(self) -> None:
        paired = None if self.exported is None else False
        self.engine = Engine(self.net, self.dtype, paired, self.compiled)
        self._times: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
        self._loops: OrderedDict[tuple[Any, ...], Loop] = OrderedDict()
        self.fingerprint = fingerprint(self.net)
        if self.exported is not None:
            self.engine.exported = load_steps(self.exported, self.fingerprint, self.dtype)
        # Two devices or dtypes read the same tokens a little differently: neither may stand in for the other.
        how = (self.fingerprint, self.dtype, self.device, self.engine.paired, self.compiled)
        self._before = repr(how).encode()

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
        as one that is not. What is missing and of one shape is read in one call where that changes no bit of it.
        """
        rows = [[_Chain(_links(group, i)) for group in known] for i in range(max(_batch(group) for group in known))]
        chains = [chain for row in rows for chain in row]
        for depth in range(max(len(chain.links) for chain in chains)):  # a link looks back on those before it
            going_on = [chain for chain in chains if depth < len(chain.links)]
            found, missing = dict[bytes, Piece](), dict[tuple[Any, ...], dict[bytes, _Chain]]()
            for chain in going_on:
                tokens = chain.links[depth]
                chain.digest = content(tokens, chain.digest or self._before)
                same = missing.setdefault((tokens.modality, tokens.data.shape, sum(map(len, chain.pieces))), {})
                if chain.digest in found or chain.digest in same:
                    continue
                if (piece := self.memory.find(chain.digest)) is None:
                    same[chain.digest] = chain
                else:
                    found[chain.digest] = piece
            for (_, shape, _), same in missing.items():
                readers, most = list(same.values()), max(1, READ_TOGETHER // shape[1]) if self.engine.alike else 1
                for some in (readers[i : i + most] for i in range(0, len(readers), most)):
                    for chain, piece in zip(some, self._read(some, depth), strict=True):
                        found[chain.digest] = piece
                        self.memory.keep(chain.digest, piece)
            for chain in going_on:
                chain.pieces.append(found[chain.digest])
        return Remembered(tuple(tuple(piece for chain in row for piece in chain.pieces) for row in rows))

    def _read(self, chains: Sequence[_Chain], depth: int) -> list[Piece]:
        """One link of each of some chains, all of one shape."""
        tokens = stack([chain.links[depth] for chain in chains])
        stream = "text" if tokens.modality == "text" else "media"
        return self.engine.read(tokens, [c.pieces for c in chains], self.conditioning(stream, 0.0, None)[0][0])

    # ----------------------------------------------------------------------------------------------------- generating

    def field(
        self,
        template: Tokens,
        memories: Sequence[Any],
        scales: Sequence[float] = (),
        interval: tuple[float, float] | None = None,
        internal: float | None = None,
    ) -> Field:
        """As `Pipeline.field`, of memories from this `remember`. All sides of guidance share one call."""
        interval = sample.check_interval(interval or self.config.sampling.guidance_interval)
        template = template.to(self.device).repeat(memories[0].batch // template.batch)
        return Field(self, template, memories, tuple(scales), interval, self._internal(internal))

    def integrate(
        self, sampler: str, velocity: Callable[..., Tensor], noise: Tensor, times: Tensor, **options: Any
    ) -> Tensor:
        """Sample; where loops are recorded and nothing forbids it, by a recorded one."""
        if self.record is None or sampler not in ("euler", "flow_map") or not isinstance(velocity, Field):
            return super().integrate(sampler, velocity, noise, times, **options)
        asked, callback = velocity, options.get("callback")
        used = sorted({asked.sides(float(t)) for t in times[:-1]})
        rows = {sides: asked.rows(sides) for sides in used}
        if any(map(printing, rows.values())):
            return super().integrate(sampler, velocity, noise, times, **options)
        lengths = {sides: bucket(max(sum(map(len, row)) for row in found)) for sides, found in rows.items()}
        windows = {sides: -(-most_windows(found) // 64) * 64 for sides, found in rows.items()}
        seen = asked.template.full_mask[..., None] + 0.0
        key = (content(replace(asked.template, data=seen), b""), asked.template.spans,
               asked.scales, asked.interval, asked.internal, sampler, tuple(times.tolist()), tuple(lengths.items()),
               tuple(windows.items()),
               callback is None, noise.shape)  # fmt: skip
        if key not in self._loops:
            while len(self._loops) >= LOOPS_KEPT:
                self._loops.popitem(last=False)
            spaces = {
                sides: Space(
                    self.engine, len(rows[sides]), lengths[sides], len(asked.template), True,
                    asked.template.repeat(sides).mask, windows[sides],
                )
                for sides in used
            }  # fmt: skip
            for sides, space in spaces.items():
                space.fill(rows[sides])  # recording begins with a rehearsal
            alone, jumps = asked.without_memory(), sampler == "flow_map"

            def step(x: Tensor, t: float, r: float) -> Tensor:
                return alone.guided(x, t, r if jumps else None, spaces.__getitem__)

            self._loops[key] = Loop(
                noise.shape, list(spaces.values()), step, times, self.device, self.record, whole=callback is None
            )
        self._loops.move_to_end(key)
        return self._loops[key](noise, list(rows.values()), callback)

    def conditioning(self, stream: str, t: float, r: float | None) -> tuple[Any, Tensor]:
        """`Engine.conditioning`, kept, and the time `(1, 1)` where the network is."""
        key = (stream, t, r)
        if key not in self._times:
            while len(self._times) >= TIMES_KEPT:
                self._times.popitem(last=False)
            self._times[key] = self.engine.conditioning(stream, t, r), torch.full((1, 1), t, device=self.device)
        return self._times[key]


class Field:
    """The guided velocity `(x (b, n, c), t[, r]) -> (b, n, c)` of tokens in the places of `template`.

    Of several memories all sides share one call; outside the interval of guidance only the first counts.
    """

    def __init__(
        self, runtime: Runtime, template: Tokens, memories: Sequence[Remembered], scales: tuple[float, ...],
        interval: tuple[float, float], internal: float,
    ) -> None:  # fmt: skip
        self.runtime, self.template, self.scales, self.interval = runtime, template, scales, interval
        self.internal = internal
        self.memories, self.count = list(memories), len(memories)
        self._places: dict[int, tuple[Tokens, Tensor]] = {}
        self._spaces: dict[int, Space] = {}
        self._conditioning: dict[tuple[float, float | None], Any] = {}  # a recorded loop needs them where they are

    def without_memory(self) -> Field:
        """The same, holding on to nothing that was read."""
        alone = Field(self.runtime, self.template, [], self.scales, self.interval, self.internal)
        alone.count = self.count
        return alone

    def sides(self, t: float) -> int:
        """How many memories are asked at a time."""
        low, high = self.interval
        return self.count if low <= t <= high else 1

    def rows(self, sides: int) -> list[tuple[Piece, ...]]:
        """What each sample of each side knows."""
        return [row for memory in self.memories[:sides] for row in memory.rows]

    def __call__(self, x: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
        return self.guided(x, float(t), None if r is None else float(r), self._space)

    def _space(self, sides: int) -> Space:
        if sides not in self._spaces:
            mask = self.template.repeat(sides).mask
            self._spaces[sides] = Space.of(self.runtime.engine, self.rows(sides), len(self.template), mask)
        return self._spaces[sides]

    def guided(self, x: Tensor, t: float, r: float | None, space: Callable[[int], Space]) -> Tensor:
        """The velocity, with room for keys and values from `space`, by the number of sides."""
        sides, engine = self.sides(t), self.runtime.engine
        if sides not in self._places:
            places = self.template.repeat(sides)
            self._places[sides] = places, engine.turn(places.positions)
        places, turn = self._places[sides]
        if (t, r) not in self._conditioning:
            self._conditioning[t, r] = self.runtime.conditioning("media", t, r)
        conditioning, level = self._conditioning[t, r]
        noisy = places.with_data(x if sides == 1 else x.repeat(sides, 1, 1))
        said = engine.velocity(noisy, level, conditioning, turn, space(sides), self.internal)
        return said if sides == 1 else flow.lead(said.chunk(sides), self.scales)


def _batch(group: Tokens | Chain) -> int:
    return group.links[0].batch if isinstance(group, Chain) else group.batch


@dataclass
class _Chain:
    """One sample's links, and the pieces they were read in so far."""

    links: list[Tokens]
    pieces: list[Piece] = field(default_factory=list)
    digest: bytes = b""  # of all links read so far


def _links(group: Tokens | Chain, i: int) -> list[Tokens]:
    """Sample i's tokens, link by link, without padding; none where it has none."""
    links = (_alone(link, i) for link in (group.links if isinstance(group, Chain) else (group,)))
    return [link for link in links if link is not None]


def _alone(tokens: Tokens, i: int) -> Tokens | None:
    """Sample i's tokens without padding; None when it has none."""
    if tokens.mask is None:
        return tokens[i : i + 1]
    keep = tokens.mask[i]
    if not bool(keep.any()):
        return None
    grid = tokens.grid if bool(keep.all()) else ()
    return Tokens(tokens.data[i : i + 1, keep], tokens.positions[i : i + 1, keep], tokens.modality, grid=grid)
