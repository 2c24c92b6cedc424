"""Two trainings side by side: a process with one thread each, their progress shown together.

Two threads in each of two processes would wait for one another on two cores, and one after the other could not be
watched together.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from selfflow.config import Config, from_dict, to_dict
from selfflow.train.checkpoint import write_json
from selfflow.train.run import RUN
from selfflow.weight_files import has_weights

POLL = 0.5  # seconds between two looks at the metrics
PATIENCE = 60  # seconds that a process asked to stop may take for its checkpoint
_TAIL = 4096  # bytes, a few records


class Stopped(Exception):
    """Somebody asked for a stop; both trainings left a checkpoint."""


def last_record(metrics: Path) -> dict[str, Any]:
    """The last whole record of a `metrics.jsonl` that is still being written; empty when there is none."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(0, metrics.stat().st_size - _TAIL))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return {}
    for line in reversed(lines[:-1]):  # what follows the last line break is still being written
        try:
            return dict(json.loads(line))
        except ValueError:
            continue
    return {}


def is_done(config: Config, directory: Path) -> bool:
    """Whether this very configuration has taken its last step there and its model is written."""
    run = directory / RUN
    if not run.exists() or not has_weights(directory):
        return False
    begun = from_dict(Config, json.loads(run.read_text())["config"])
    return begun == config and _step(directory) >= config.train.steps


def train_side_by_side(runs: Sequence[tuple[str, Config, Path]]) -> None:
    """Train each `(name, configuration, directory)` to its last step, or go on where it stopped, all at once.

    Raises:
        Stopped: after Ctrl-C, SIGTERM or SIGHUP, once every process has left its checkpoint.
        RuntimeError: when one fails; the others are stopped first. Quotes the end of its log.
    """
    processes: list[subprocess.Popen[bytes] | None] = []
    width = max(len(name) for name, _, _ in runs)
    with _asked_to_stop() as asked:
        try:
            for _, config, directory in runs:
                processes.append(None if is_done(config, directory) else _start(config, directory))
            bars = [
                tqdm(
                    total=config.train.steps, initial=_step(directory), desc=name.ljust(width), unit="step",
                    position=i, dynamic_ncols=True, mininterval=POLL if sys.stderr.isatty() else 20,
                )
                for i, (name, config, directory) in enumerate(runs)
            ]  # fmt: skip
            while any(p is not None and p.poll() is None for p in processes) and not asked:
                time.sleep(POLL)
                for bar, (_, _, directory) in zip(bars, runs, strict=True):
                    _show(bar, last_record(directory / "metrics.jsonl"))
                if any(p is not None and p.poll() not in (None, 0) for p in processes):
                    break
            for bar in bars:
                bar.close()
        finally:
            _stop([p for p in processes if p is not None])
    if asked:
        raise Stopped(", ".join(f"{name} at step {_step(directory)}" for name, _, directory in runs))
    for (name, _, directory), process in zip(runs, processes, strict=True):
        if process is not None and process.returncode != 0:
            log = _log(directory).read_text(errors="replace").strip()
            raise RuntimeError(f"{name} ended with code {process.returncode}; {_log(directory)} ends:\n{log[-1500:]}")


def _step(directory: Path) -> int:
    return int(last_record(directory / "metrics.jsonl").get("step", 0))


def _log(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.log")


def _start(config: Config, directory: Path) -> subprocess.Popen[bytes]:
    directory.mkdir(parents=True, exist_ok=True)
    wanted = directory.with_name(f"{directory.name}.json")
    write_json(wanted, to_dict(config))
    environment = os.environ | {"OMP_NUM_THREADS": str(max(1, config.train.threads))}
    command = [sys.executable, "-m", "selfflow.demo.worker", str(wanted), str(directory)]
    with _log(directory).open("wb") as log:
        # A session of its own: Ctrl-C reaches the parent alone, which asks each process once and waits for it.
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def _show(bar: tqdm[Any], record: dict[str, Any]) -> None:
    if not record or record["step"] == bar.n:
        return
    shown = {"velocity loss": f"{record.get('loss_velocity', record['loss']):.3f}"}
    if "cosine" in record:
        shown["cosine"] = f"{record['cosine']:.2f}"
    bar.set_postfix(shown, refresh=False)
    bar.update(int(record["step"]) - bar.n)


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask those that still run to save and leave; end those that do not."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """The signals that asked for a stop, so far."""
    asked: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
