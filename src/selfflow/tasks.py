"""Every task, as which tokens are known: the one place that lists them.

A sample is a few *streams* of tokens: its text, reference pictures, the first frame, and what is seen (`visual`), heard
(`audio`), done (`action`) and measured (`state`) over time. A task names the streams that are known and those to be
generated; a stream can be both, in part: `visual.past` is known and `visual.rest` generated. Nothing else distinguishes
a policy from a painter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfflow.times import Draws
from selfflow.tokens import Chain, Tokens

Streams = Mapping[str, Tokens | Sequence[Tokens]]


@dataclass(frozen=True)
class Task:
    """What is known and what is to be made of it.

    Attributes:
        name: of the task.
        known: streams read into memory, whole (`"text"`) or the part that is kept (`"visual.kept"`), or its past, read
            frame after frame (`"visual.past"`).
        generated: streams to generate, whole (`"audio"`) or what is not kept of them (`"visual.rest"`).
        optional: known streams that a sample may lack.
        shared: whether the generated modalities of a sample have one noise level in training.
    """

    name: str
    known: tuple[str, ...]
    generated: tuple[str, ...]
    optional: tuple[str, ...] = ()
    shared: bool = True

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of all streams the task looks at."""
        return tuple(dict.fromkeys(name.split(".")[0] for name in (*self.known, *self.generated)))

    def split(self, streams: Streams, keep: Mapping[str, Tensor] | None = None) -> tuple[Tokens, list[Tokens | Chain]]:
        """`(generated, known)`: what to noise, and what to read.

        Args:
            streams: name → tokens (references: a list of tokens).
            keep: stream → `(b, n)` or `(n,)` bool, True where a token is known, for streams that are both.

        Raises:
            ValueError: naming the stream that is missing, or that nothing is left to generate.
        """
        keep, known = keep or {}, list[Tokens | Chain]()
        for entry in self.known:
            name, _, part = entry.partition(".")
            found = streams.get(name)
            if found is None or (not isinstance(found, Tokens) and not found):
                if name in self.optional:
                    continue
                raise ValueError(f"{self.name} needs {name}; this sample has {sorted(streams)}")
            groups = [found] if isinstance(found, Tokens) else list(found)
            if not part:
                known.extend(groups)
            elif (kept := groups[0].take(self._kept(name, keep))) is not None:
                known.append(Chain(tuple(moments(kept))) if part == "past" else kept)
        return Tokens.join([self._generated(entry, streams, keep) for entry in self.generated], self.shared), known

    def _generated(self, entry: str, streams: Streams, keep: Mapping[str, Tensor]) -> Tokens:
        name, _, part = entry.partition(".")
        tokens = streams.get(name)
        if not isinstance(tokens, Tokens):
            raise ValueError(f"{self.name} generates {name}; this sample has {sorted(streams)}")
        rest = tokens.take(~self._kept(name, keep)) if part else tokens
        if rest is None:
            raise ValueError(f"{self.name} has nothing to generate: all of {name} is known")
        return rest

    def _kept(self, name: str, keep: Mapping[str, Tensor]) -> Tensor:
        if name not in keep:
            raise ValueError(f"{self.name} knows a part of {name}; say which with keep[{name!r}]")
        return keep[name]

    def join(self, streams: Streams, keep: Mapping[str, Tensor] | None, generated: Tokens) -> dict[str, Tokens]:
        """The whole streams again, known tokens untouched: stream name → tokens, from what was generated."""
        out, keep = {}, keep or {}
        for entry, part in zip(self.generated, generated.split(), strict=True):
            name, _, rest = entry.partition(".")
            whole = streams[name]
            assert isinstance(whole, Tokens)
            out[name] = whole.put(~self._kept(name, keep), part.data) if rest else whole.with_data(part.data)
        return out

    def draw(self, streams: Streams, draws: Draws) -> dict[str, Tensor]:
        """What is kept of the streams that are both known and generated, drawn for training."""
        keep = {}
        for entry in self.known:
            name, _, part = entry.partition(".")
            if part:
                tokens = streams[name]
                assert isinstance(tokens, Tokens)
                keep[name] = KEPT[self.name](tokens, draws)
        return keep


def moments(tokens: Tokens) -> list[Tokens]:
    """The tokens of each moment by themselves, in order of time. All samples must have the same moments."""
    times = tokens.positions[0, :, 0]
    if not bool((tokens.positions[..., 0] == times).all()):
        raise ValueError(f"{tokens.modality} tokens of one batch lie at different times; give samples of one rate")
    found = (tokens.take(times == t) for t in times.unique())
    return [moment for moment in found if moment is not None]


def before(tokens: Tokens, count: int) -> Tensor:
    """`(n,)` True for the tokens of the first `count` moments."""
    times = tokens.positions[0, :, 0]
    later = times.unique()[count:]
    return times < later[0] if len(later) else torch.ones_like(times, dtype=torch.bool)


def _past(tokens: Tokens, draws: Draws) -> Tensor:
    """Up to any moment but the last; for `imagine` the past may be empty (only the first frame is known)."""
    moment_count = len(tokens.positions[0, :, 0].unique())
    return before(tokens, int(draws.coin() * moment_count))


def _some_past(tokens: Tokens, draws: Draws) -> Tensor:
    moment_count = len(tokens.positions[0, :, 0].unique())
    if moment_count < 2:
        raise ValueError(f"one moment of {tokens.modality} has no past to continue; give two or more")
    return before(tokens, 1 + int(draws.coin() * (moment_count - 1)))


def _inside(tokens: Tokens, draws: Draws) -> Tensor:
    """True inside a rectangle, per sample, whose sides are 0.3 to 0.7 of the picture's."""
    b = tokens.batch
    rows, columns = tokens.positions[..., 1], tokens.positions[..., 2]
    inside = torch.ones_like(rows, dtype=torch.bool)
    for place in (rows, columns):
        low, high = place.min(), place.max()
        length = high - low + 1e-6
        side = length * (0.3 + 0.4 * draws.uniform(b, 1)).to(place.device)
        start = low + (length - side) * draws.uniform(b, 1).to(place.device)
        inside &= (place >= start) & (place <= start + side)
    return inside


def _all_but_one(keep: Tensor) -> Tensor:
    """Never everything: a sample whose rectangle fell between the tokens generates its first."""
    full = keep.all(dim=1)
    keep = keep.clone()
    keep[full, 0] = False
    return keep


KEPT: dict[str, Callable[[Tokens, Draws], Tensor]] = {
    "inpaint": lambda tokens, draws: _all_but_one(~_inside(tokens, draws)),
    "outpaint": lambda tokens, draws: _all_but_one(_inside(tokens, draws)),
    "continue": _some_past,
    "continue-sound": _some_past,
    "imagine": _past,
}

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("picture", ("text",), ("visual",)),
        Task("clip", ("text",), ("visual",)),
        Task("sound", ("text",), ("audio",)),
        Task("clip+sound", ("text",), ("visual", "audio")),
        Task("edit", ("text", "references"), ("visual",)),
        Task("inpaint", ("text", "visual.kept"), ("visual.rest",)),
        Task("outpaint", ("text", "visual.kept"), ("visual.rest",)),
        Task("continue", ("text", "visual.past"), ("visual.rest",)),
        Task("continue-sound", ("text", "audio.kept"), ("audio.rest",)),
        Task("animate", ("text", "first"), ("visual",)),
        Task("animate+sound", ("text", "first"), ("visual", "audio")),
        Task("dub", ("text", "visual"), ("audio",)),
        Task("visualise", ("text", "audio"), ("visual",)),
        Task("act", ("text", "first", "state"), ("action",), optional=("state",)),
        Task("plan", ("text", "first", "state"), ("visual", "action"), optional=("state",), shared=False),
        Task("imagine", ("text", "first", "action", "visual.past"), ("visual.rest",)),
        Task("inverse", ("text", "first", "visual"), ("action",)),
    )
}

# Who acts, and what is seen when it is done.
DRIVEN = ("act", "plan", "imagine", "inverse")


def named(name: str) -> Task:
    """The task of that name.

    Raises:
        ValueError: listing the tasks there are.
    """
    if name not in TASKS:
        raise ValueError(f"unknown task {name!r}; choose one of {', '.join(TASKS)}")
    return TASKS[name]
