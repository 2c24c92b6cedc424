"""The loop: batch → losses → backward → clip → step → after_step → hooks."""

from __future__ import annotations

import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from selfflow.nn.recording import Record
from selfflow.times import Draws
from selfflow.tokens import Tokens
from selfflow.train import checkpoint
from selfflow.train.balance import Balance
from selfflow.train.engine import Engine
from selfflow.train.optimizer import Optim, build_optimizers, create_states, set_rate
from selfflow.train.recorded import Recorded


@dataclass
class TrainState:
    """What a hook may look at. `step` counts finished steps; `metrics` are those of the last one.

    A hook may also set `steps`, to another number beyond `step`: where time decides how long a run is.
    """

    objective: nn.Module
    step: int
    steps: int
    metrics: dict[str, float]
    directory: Path
    engine: Engine


log = logging.getLogger(__name__)
Hook = Callable[[TrainState], None]
Prepare = Callable[[Any, Draws, torch.device], tuple[Any, Sequence[Any]]]
# What a loader's state counts from the beginning of a run, and metrics tell: broken records, batches used again.
COUNTED = ("skipped", "repeated")
METRICS = "metrics.jsonl"
BALANCE = "balance"  # where a checkpoint's cursor holds it


class NonFiniteLoss(RuntimeError):
    """The loss or the gradient became NaN or infinite."""


class _NoBatch(Exception):
    """A stop was asked for, and with it ended what draws batches."""


class Trainer:
    """Trains an objective on batches until `steps`, from wherever the directory's last checkpoint stopped.

    Args:
        objective: clean data and context → `Losses`; it may define `after_step`, and a true `partial` says that a step
            may leave some of its parameters without a gradient.
        loader: endless iterator of rank-local batches with `state_dict`, `load_state_dict`, `batch_size` (global); a
            true `mixes` says that each micro-batch is shared out among processes by itself, and that its batches are of
            several modalities, so that a step may not use every layer.
        prepare: `(batch, draws, device)` → `(data, context)`.
        directory: of the run: `metrics.jsonl`, `checkpoints/`.
        accumulate: micro-batches per step.
        seed: of times, noise and caption drops.
        until: leave after this step, with a checkpoint, as if asked to stop; at once when it is already reached.
        record: micro-steps are recorded and played (`selfflow.train.recorded`), as CUDA graphs or as this does it.
        balance: weigh each micro-batch by its task (`selfflow.train.balance`); losses are told without.

    Raises:
        ValueError: for a batch that does not divide, or steps that cannot be recorded: on a CPU, by several processes.
    """

    def __init__(
        self,
        objective: nn.Module,
        loader: Any,
        prepare: Prepare,
        directory: Path,
        engine: Engine | None = None,
        optim: Optim | None = None,
        steps: int = 1000,
        accumulate: int = 1,
        seed: int = 0,
        save_every: int = 500,
        hooks: Sequence[Hook] = (),
        progress: bool = True,
        until: int | None = None,
        record: bool | Record = False,
        balance: bool = False,
    ) -> None:
        self.engine, self.optim = engine or Engine(), optim or Optim()
        self.objective, self.loader, self.prepare, self.directory = objective, loader, prepare, Path(directory)
        self.steps, self.accumulate, self.seed, self.save_every = steps, accumulate, seed, save_every
        self.hooks, self.progress, self.until = hooks, progress, until
        self.balance = Balance() if balance else None
        local = loader.batch_size // self.engine.world_size
        if local % accumulate:
            raise ValueError(f"{local} samples per process do not divide into {accumulate} micro-batches")
        partial = getattr(objective, "partial", False) or getattr(loader, "mixes", False)
        self.module = self.engine.prepare(objective, partial=bool(partial))
        self.optimizers = build_optimizers(objective, self.optim)
        create_states(self.optimizers)
        self.parameters = [p for p in objective.parameters() if p.requires_grad]
        self.recorded: Recorded | None = None
        if record:
            if self.engine.world_size > 1 or (record is True and self.engine.device.type != "cuda"):
                raise ValueError(
                    f"train.record needs one process on a GPU; this is one of {self.engine.world_size} on "
                    f"{self.engine.device}"
                )
            self.recorded = Recorded(objective, self.engine.autocast, None if record is True else record)
        self.step = 0
        self.last_checkpoint: Path | None = None
        self._restore()

    # ------------------------------------------------------------------------------------------------------ the loop

    def run(self) -> TrainState:
        """Train to the last step. SIGTERM and Ctrl-C end after the present step, with a checkpoint.

        Where no further batch comes then, since the signal ended the processes that draw them, too, the last step was
        the present one.
        """
        state = TrainState(self.objective, self.step, self.steps, {}, self.directory, self.engine)
        self.module.train()
        bar = tqdm(
            total=self.steps, initial=self.step, desc=self.directory.name, unit="step", dynamic_ncols=True,
            disable=not (self.progress and self.engine.is_main), smoothing=0.05,
        )  # fmt: skip
        with bar, _graceful() as asked_to_stop, self._metrics_file() as write:
            while self.step < self.steps and (self.until is None or self.step < self.until):
                before = self.loader.state_dict()
                try:
                    metrics = self.train_step(asked_to_stop)
                except _NoBatch:
                    self.save(before)
                    break
                state.step, state.metrics = self.step, metrics
                write(metrics)
                bar.update()
                bar.set_postfix(loss=f"{metrics['loss']:.4f}", tokens_per_s=f"{metrics['tokens_per_s']:.0f}")
                stopping = self.engine.any(asked_to_stop()) if self.engine.world_size > 1 else asked_to_stop()
                stopping = stopping or self.step == self.until
                if stopping or self.step % self.save_every == 0 or self.step == self.steps:
                    self.save()
                for hook in self.hooks:
                    hook(state)
                if state.steps != self.steps:
                    self.steps = bar.total = max(state.steps, self.step + 1)
                    state.steps = self.steps
                if stopping:
                    break
        return state

    def train_step(self, asked_to_stop: Callable[[], bool] = lambda: False) -> dict[str, float]:
        """One optimiser step on the next batch."""
        began = time.perf_counter()
        batch = self._batch(asked_to_stop)
        rate = self.optim.rate(self.step, self.steps)
        set_rate(self.optimizers, self.optim, rate)
        micros = batch.split(self.accumulate) if self.accumulate > 1 else [batch]
        parts: dict[str, list[torch.Tensor]] = {}
        if self.recorded:
            self.recorded.begin()
        total, tokens, tasks = self.loader.batch_size, 0, []
        for i, micro in enumerate(micros):
            first = self._first_row(i, len(micro.ids))
            draws = Draws.at(self.seed, self.step, self.engine.device, first, total)
            data, context = self.prepare(micro, draws, self.engine.device)
            if isinstance(data, Tokens):  # whose samples may come several times in a row, each with its own noise
                draws = draws.several(data.batch // len(micro.ids))
            tasks.append(f"{micro.source}:{micro.task}" if self.balance else "")
            scale = (self.balance.weight(tasks[-1]) if self.balance else 1.0) / len(micros)
            if self.recorded:
                found = self.recorded(data, context, draws, scale)
            else:
                found = self._launched(data, context, draws, scale, last=i == len(micros) - 1)
            for name, value in found.items():
                parts.setdefault(name, []).append(value)
            tokens += total // len(micros) * len(data)
        if self.recorded:
            self.recorded.end()
        norm = self.engine.clip(self.parameters, self.optim.clip)
        # A mean over the micro-batches that have the part: those of a mixture differ in their modalities.
        means = [torch.stack([v.float().reshape(()) for v in found]).mean() for found in parts.values()]
        each = parts["loss"] if self.balance else []
        values = self.engine.mean(torch.stack([*means, *each]).to(self.engine.device)).tolist()
        metrics = dict(zip(parts, values, strict=False))
        metrics["gradient_norm"] = float(norm)
        self._refuse_non_finite(metrics, batch.ids)
        for optimizer in self.optimizers:
            optimizer.step()
            if not self.recorded:
                optimizer.zero_grad(set_to_none=True)
        if callable(after_step := getattr(self.objective, "after_step", None)):
            after_step()
        if self.balance:
            self.balance.update(zip(tasks, values[len(means) :], strict=True))
        self.step += 1
        seconds = time.perf_counter() - began
        return {
            "step": self.step,
            **metrics,
            "learning_rate": rate,
            "tokens_per_s": tokens / seconds,
            "seconds": seconds,
            **{name: count for name, count in self.loader.state_dict().items() if name in COUNTED},
        }

    def _batch(self, asked_to_stop: Callable[[], bool]) -> Any:
        """The next batch. Raises `_NoBatch` in every process where one that is to stop has none: nothing has begun."""
        batch = None
        try:
            batch = next(self.loader)
        except Exception as error:
            if not asked_to_stop():
                raise
            log.warning("step %d was not begun, a stop was asked for and no batch came: %s", self.step + 1, error)
        if self.engine.any(batch is None) if self.engine.world_size > 1 else batch is None:
            raise _NoBatch
        return batch

    def _first_row(self, number: int, count: int) -> int:
        """Where this process's micro-batch of so many rows begins in the global batch."""
        rank, world = self.engine.rank, self.engine.world_size
        if getattr(self.loader, "mixes", False):  # each micro-batch is shared out by itself
            return (number * world + rank) * count
        return rank * self.loader.batch_size // world + number * count

    def _launched(self, data: Any, context: Any, draws: Draws, scale: float, last: bool) -> dict[str, torch.Tensor]:
        """Losses of one micro-batch, whose gradient is added to that of the parameters."""
        with self.engine.accumulating(self.module, last):
            with self.engine.autocast():
                losses = self.module(data, context, draws=draws)
            (losses.total * scale).backward()
        return {"loss": losses.total.detach(), **losses.parts}

    def _refuse_non_finite(self, metrics: dict[str, float], ids: Sequence[str]) -> None:
        if math.isfinite(metrics["loss"]) and math.isfinite(metrics["gradient_norm"]):
            return
        saved = self.last_checkpoint or "none yet"
        raise NonFiniteLoss(
            f"step {self.step + 1}: loss {metrics['loss']}, gradient norm {metrics['gradient_norm']}. "
            f"Batch: {', '.join(ids)}. Last good checkpoint: {saved}. Nothing of this step was kept; "
            "try a lower learning rate or a longer warm-up, or look at the samples named"
        )

    # -------------------------------------------------------------------------------------------------- what persists

    def save(self, cursor: dict[str, Any] | None = None) -> Path:
        """Write a checkpoint of the present step; `cursor` is where the loader stands, by default what it says."""
        cursor = self.loader.state_dict() if cursor is None else dict(cursor)
        if self.balance:
            cursor[BALANCE] = self.balance.state_dict()
        where = self.directory / "checkpoints"
        self.last_checkpoint = checkpoint.save(where, self.step, self.objective, self.optimizers, cursor, self.engine)
        return self.last_checkpoint

    def _restore(self) -> None:
        found = checkpoint.latest(self.directory / "checkpoints")
        if found is None:
            return
        state = checkpoint.load(found, self.objective, self.optimizers)
        self.step, self.last_checkpoint = state["step"], found
        if self.balance and BALANCE in state["cursor"]:
            self.balance.load_state_dict(state["cursor"][BALANCE])
        self.loader.load_state_dict(state["cursor"])

    @contextmanager
    def _metrics_file(self) -> Iterator[Callable[[dict[str, float]], None]]:
        """`metrics.jsonl`, cut back to the step resumed from, so that a resumed run leaves the same file."""
        if not self.engine.is_main:
            yield lambda metrics: None
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / METRICS
        kept = [m for m in read_metrics(path) if m["step"] <= self.step]
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text("".join(json.dumps(m) + "\n" for m in kept))
        temporary.replace(path)
        with path.open("a", buffering=1) as file:
            yield lambda metrics: print(json.dumps(metrics), file=file)


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The steps logged in a `metrics.jsonl`; a last line cut short by a kill is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def in_parts(records: Sequence[dict[str, float]], count: int = 10) -> list[tuple[int, dict[str, float]]]:
    """The steps logged, in at most so many parts: the last step of each, and the mean of every metric where it is."""
    found, size = list[tuple[int, dict[str, float]]](), max(1, -(-len(records) // count))
    for part in (records[i : i + size] for i in range(0, len(records), size)):
        names = dict.fromkeys(name for record in part for name in record)
        values = {name: [record[name] for record in part if name in record] for name in names}
        found.append((int(part[-1]["step"]), {name: sum(own) / len(own) for name, own in values.items()}))
    return found


@contextmanager
def _graceful() -> Iterator[Callable[[], bool]]:
    """Whether SIGINT or SIGTERM came; a second one interrupts at once. (Signals reach the main thread only.)"""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def handle(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
