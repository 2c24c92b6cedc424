"""One thread owns the model. Clients take turns, and a newer wish replaces an older one.

A `Channel` belongs to one client. A *live* channel has at most one job running and one waiting: submitting replaces the
one that waits, and the one that runs is stopped between two sampling steps unless it is nearly done. A *patient*
channel is a bounded queue: every job is done. Channels with something to do are served in turn, so that nobody waits
for more than one job of each other client. Waiting jobs of several clients that ask for the same kind of thing run as
one, which takes the model less time than one after the other.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Any

from selfflow.serve.limits import Limits, Refused

log = logging.getLogger(__name__)
GRACE = 0.150  # seconds: what is expected to end within them is not worth stopping
PATIENCE = 2  # jobs of one client stopped in a row, after which the next is let through


class Cancelled(Exception):
    """The job was stopped."""


class Job:
    """Something for the model to do. Override `run`; all but `cancelled` is called on the worker's thread.

    Attributes:
        stop: set it from any thread to have this one job stopped.
        kind: jobs of one class and an equal kind may run as one; None: only by itself.
        company: how many of its kind may run as one.
    """

    stop = False
    kind: Hashable = None
    company = 1

    def run(self, pulse: Pulse) -> None:
        """Do it. Call `pulse` between steps, and raise `Cancelled` once it has returned True."""
        raise NotImplementedError

    @staticmethod
    def run_together(jobs: Sequence[Any], pulse: Pulse) -> Sequence[Job]:
        """Do several of one kind; returns those that had gone (`Pulse.gone`) and were given no result.

        Where this raises anything but `Cancelled`, each is run by itself.
        """
        raise NotImplementedError

    def started(self) -> None:
        """Called before `run`."""

    def cancelled(self) -> None:
        """Called when it was stopped, or replaced before it ran. (Then on the thread that submitted.)"""

    def failed(self, error: Exception) -> None:
        """Called when `run` raised something else."""


class Channel:
    """The jobs of one client."""

    def __init__(self, name: str, live: bool) -> None:
        self.name, self.live = name, live
        self.waiting: deque[Job] = deque()
        self.running: Job | None = None
        self.stop = False  # the running job, for certain: cancelled or disconnected
        self.stopped_in_row = 0
        self.queued = False
        self.closed = False


class Pulse:
    """What jobs that run (as one) say between their steps; the answer is whether to stop."""

    def __init__(self, worker: Worker, *channels: Channel) -> None:
        self.worker, self.channels, self.began = worker, channels, worker.clock()
        self.stopped = False

    def __call__(self, step: int, steps: int, final: bool = True) -> bool:
        """`step` of `steps` are done; `final` when this is the pass whose result counts."""
        self.worker.do_urgent()
        self.stopped = self.stopped or self.worker.should_stop(self.channels, self.began, step, steps, final)
        return self.stopped

    def gone(self, channel: Channel) -> bool:
        """Whether nobody wants the channel's job any more, so that its result is not to be sent."""
        with self.worker.lock:
            return _gone(channel)

    def restart(self) -> None:
        """A new pass begins: time its steps anew."""
        self.began = self.worker.clock()


class Worker:
    """The thread that runs jobs, one at a time.

    Args:
        limits: how many patient jobs may wait.
        clock: seconds, of which only differences count.
    """

    def __init__(self, limits: Limits | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.limits, self.clock = limits or Limits(), clock
        self.lock = threading.Condition()
        self.turns: deque[Channel] = deque()
        self.urgent: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self.patient_waiting = 0
        self.busy = False
        self.closing = False
        self.thread = threading.Thread(target=self._loop, name="selfflow-model", daemon=True)

    def start(self) -> Worker:
        self.thread.start()
        return self

    def close(self, seconds: float = 10.0) -> None:
        """Stop what runs, tell what waits, end the thread."""
        with self.lock:
            self.closing = True
            left = [job for channel in self.turns for job in channel.waiting]
            for channel in self.turns:
                channel.waiting.clear()
            self.turns.clear()
            futures = [future for _, future in self.urgent]
            self.urgent.clear()
            self.lock.notify_all()
        for job in left:
            _safely(job.cancelled)
        for future in futures:
            future.cancel()
        if self.thread.is_alive():
            self.thread.join(seconds)

    # ------------------------------------------------------------------------------------------------- from clients

    def submit(self, channel: Channel, job: Job) -> None:
        """Let a job wait for its turn.

        Raises:
            Refused: `busy`, when the queue is full or the server is closing.
        """
        replaced: list[Job] = []
        with self.lock:
            if self.closing or channel.closed:
                raise Refused("busy", "the server is closing")
            if channel.live:
                replaced = list(channel.waiting)
                channel.waiting.clear()
            elif self.patient_waiting >= self.limits.waiting or len(channel.waiting) >= self.limits.waiting_each:
                raise Refused("busy", f"{self.patient_waiting} requests are waiting; try again in a moment")
            else:
                self.patient_waiting += 1
            channel.waiting.append(job)
            if not channel.queued and channel.running is None:
                channel.queued = True
                self.turns.append(channel)
            self.lock.notify_all()
        for old in replaced:
            _safely(old.cancelled)

    def cancel(self, channel: Channel) -> None:
        """Stop the channel's running job and forget the waiting ones."""
        with self.lock:
            channel.stop = channel.running is not None
            left = list(channel.waiting)
            channel.waiting.clear()
            self.patient_waiting -= 0 if channel.live else len(left)
            if channel.queued:
                self.turns.remove(channel)
                channel.queued = False
        for job in left:
            _safely(job.cancelled)

    def leave(self, channel: Channel) -> None:
        """The client has gone."""
        with self.lock:
            channel.closed = True
        self.cancel(channel)

    def soon(self, call: Callable[[], Any]) -> Future[Any]:
        """Do something short on the model's thread before anything else, between two steps of what runs."""
        future: Future[Any] = Future()
        with self.lock:
            if self.closing:
                raise Refused("busy", "the server is closing")
            self.urgent.append((call, future))
            self.lock.notify_all()
        return future

    # ------------------------------------------------------------------------------------------ on the worker's thread

    def should_stop(self, channels: Sequence[Channel], began: float, step: int, steps: int, final: bool) -> bool:
        """Whether what runs makes way. What several share does so for nobody: it ends when all of them have gone."""
        with self.lock:
            wanted = [channel for channel in channels if not _gone(channel)]
            if not wanted or self.closing:
                return True
            channel = wanted[0]
            if len(channels) > 1 or not (channel.live and channel.waiting) or channel.stopped_in_row >= PATIENCE:
                return False
            if not final or step == 0:
                return True
            remaining = (self.clock() - began) / step * (steps - step)
            return not (2 * step >= steps or remaining < GRACE)

    def do_urgent(self) -> None:
        """What `soon` was asked for until now; what comes meanwhile waits for the next step."""
        with self.lock:
            found = list(self.urgent)
            self.urgent.clear()
        for call, future in found:
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except Exception as error:
                future.set_exception(error)

    def _loop(self) -> None:
        while True:
            with self.lock:
                while not (self.turns or self.urgent or self.closing):
                    self.lock.wait()
                if self.closing:
                    return
            self.do_urgent()
            with self.lock:
                if not self.turns:
                    continue
                members = self._next()
                self.busy = True
            self._run(members)

    def _next(self) -> list[tuple[Channel, Job]]:
        """Whose turn it is, and those whose jobs may run with that one."""
        first = self.turns[0].waiting[0]
        found = [self.turns[0]]
        if first.kind is not None and first.company > 1:
            alike = [c for c in self.turns if type(c.waiting[0]) is type(first) and c.waiting[0].kind == first.kind]
            found = alike[: first.company]
        members = []
        for channel in found:
            self.turns.remove(channel)
            channel.queued, channel.stop = False, False
            channel.running = channel.waiting.popleft()
            self.patient_waiting -= 0 if channel.live else 1
            members.append((channel, channel.running))
        return members

    def _run(self, members: Sequence[tuple[Channel, Job]]) -> None:
        jobs, stopped = [job for _, job in members], list[Job]()
        try:
            stopped = [job for job in jobs if job.stop]
            going = [(channel, job) for channel, job in members if not job.stop]
            for _, job in going:
                job.started()
            pulse = Pulse(self, *(channel for channel, _ in going))
            if len(going) > 1:
                together = [job for _, job in going]
                stopped += type(together[0]).run_together(together, pulse)
            elif going:
                going[0][1].run(pulse)
        except Cancelled:
            stopped = jobs
        except Exception as error:
            if len(jobs) > 1:  # whoever it was, the others are not to suffer
                log.exception("%d jobs failed together; each is done by itself", len(jobs))
                for member in members:
                    self._run([member])
                return
            if not isinstance(error, Refused):
                log.exception("a job failed")
            failed = error
            _safely(lambda: jobs[0].failed(failed))
        left = list[Job]()
        with self.lock:
            self.busy = False
            for channel, job in members:
                channel.running = None
                channel.stopped_in_row = channel.stopped_in_row + 1 if job in stopped and not channel.stop else 0
                if self.closing:
                    left += channel.waiting
                    channel.waiting.clear()
                if channel.waiting and not channel.queued:
                    channel.queued = True
                    self.turns.append(channel)
        for job in left + stopped:
            _safely(job.cancelled)


def _gone(channel: Channel) -> bool:
    return channel.stop or (channel.running is not None and channel.running.stop)


def _safely(call: Callable[[], Any]) -> None:
    """A client that cannot be told must not stop the thread that serves all others."""
    with contextlib.suppress(Exception):
        call()
