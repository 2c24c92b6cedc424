"""Batches drawn ahead by processes, for sources that are computed rather than read.

Threads (`Loader(workers=…)`) serve where decoding lets go of the interpreter lock. Tabletop's scenes, clips and
episodes are drawn in Python: there, threads take turns with each other and with the training they should feed.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

AHEAD = 2  # batches that each process keeps ready
_PATIENCE = 2.0  # seconds between looks at whether the other side still lives


class ProcessLoader:
    """What `loader` would give, in its order, drawn by `processes` others: process k draws every batch k mod processes.

    The state is that of `loader`, which only counts: runs stop and resume with any number of processes, none included.
    Processes begin with the first batch and end with `close`, or when this process does.

    Args:
        make: opens a loader like `loader`, in another process: it is pickled.
        loader: with `state_dict`, `load_state_dict`, `skip` and `batch_size`.
        processes: 1 or more.

    Raises:
        ValueError: for fewer processes than one, or a loader that cannot skip (a stream has one reader).
    """

    def __init__(self, make: Callable[[], Any], loader: Any, processes: int) -> None:
        if processes < 1:
            raise ValueError(f"{processes} processes; choose 1 or more")
        if not hasattr(loader, "skip"):
            raise ValueError(
                f"data.processes is {processes}, but a {type(loader).__name__} reads in order, by itself; set it to 0"
            )
        self.make, self.loader, self.processes = make, loader, processes
        self.batch_size, self.mixes = loader.batch_size, getattr(loader, "mixes", False)
        self._turn = 0
        self._running: list[tuple[Any, Any]] = []  # process and its queue

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        """Raises what drawing raised; the next call begins again with the batch that could not be drawn."""
        if not self._running:
            self._start()
        batch = self._receive(*self._running[self._turn % self.processes])
        self._turn += 1
        self.loader.skip(batch)
        return batch

    @property
    def ready(self) -> bool:
        """Whether the next batch is there already."""
        return bool(self._running) and not self._running[self._turn % self.processes][1].empty()

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = self.loader.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there; what was drawn ahead is dropped."""
        self.close()
        self.loader.load_state_dict(state)

    def close(self) -> None:
        """End the processes. A later batch starts them again."""
        for process, _ in self._running:
            process.terminate()
        for process, ahead in self._running:
            process.join()
            ahead.close()
            ahead.cancel_join_thread()
        self._running, self._turn = [], 0

    def _start(self) -> None:
        # Not by fork: locks of a process with threads (torch, CUDA) would be copied as they stand.
        methods = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            context.set_forkserver_preload(["selfflow.data.opening"])
        state, self._turn = self.state_dict(), 0
        for number in range(self.processes):
            ahead = context.Queue(AHEAD)
            process = context.Process(
                target=_draw, args=(self.make, state, number, self.processes, ahead), daemon=True, name=f"draw-{number}"
            )
            process.start()
            # Theirs alone: while this process could write, too, a batch cut short by a kill would be waited for.
            ahead._writer.close()
            self._running.append((process, ahead))

    def _receive(self, process: Any, ahead: Any) -> Any:
        while True:
            try:
                found, value = ahead.get(timeout=_PATIENCE)
            except queue.Empty:
                if process.is_alive():
                    continue
                self._ended(process)
            except (EOFError, OSError):  # in the middle of a batch
                process.join()
                self._ended(process)
            if not found:
                self._fail(value)
            return pickle.loads(value)

    def _ended(self, process: Any) -> NoReturn:
        self._fail(
            RuntimeError(
                f"{process.name}, which draws samples, ended with exit code {process.exitcode}"
                f"{'; is memory short? try fewer data.processes' if process.exitcode == -9 else ''}"
            )
        )

    def _fail(self, error: BaseException) -> NoReturn:
        self.close()
        raise error


def _draw(make: Callable[[], Any], state: dict[str, Any], number: int, processes: int, ahead: Any) -> None:
    """One process: its share of the batches from `state` on, for as long as somebody wants them."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains
    torch.set_num_threads(1)
    os.nice(10)  # that process launches a GPU's work, and must never wait for a core
    try:
        loader = make()
        loader.load_state_dict(state)
        for _ in range(number):
            loader.skip()
        # Pickled here: a queue's own pickling would hand tensors over as open files of shared memory, a file each.
        while _put(ahead, (True, pickle.dumps(next(loader), pickle.HIGHEST_PROTOCOL))):
            for _ in range(processes - 1):
                loader.skip()
    except Exception as error:
        _put(ahead, (False, _portable(error)))


def _put(ahead: Any, item: Any) -> bool:
    """Hand over; False once the process that trains is gone."""
    parent = multiprocessing.parent_process()
    while parent is None or parent.is_alive():
        try:
            ahead.put(item, timeout=_PATIENCE)
            return True
        except queue.Full:
            continue
    ahead.cancel_join_thread()
    return False


def _portable(error: Exception) -> Exception:
    """The error, or one that says the same where it cannot be sent."""
    try:
        return error if str(pickle.loads(pickle.dumps(error))) == str(error) else RuntimeError(repr(error))
    except Exception:
        return RuntimeError(repr(error))
