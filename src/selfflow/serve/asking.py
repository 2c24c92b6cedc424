"""One wish of the API as a job: submitted, waited for, and stopped when the client has gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future

from fastapi import Request

from selfflow.serve.jobs import Channel, Job, Pulse
from selfflow.serve.limits import Refused
from selfflow.serve.making import Made, Wish, check, make
from selfflow.serve.security import client_of
from selfflow.serve.state import Server

LOOK = 0.5  # seconds between two looks whether the client is still there


class ApiJob(Job):
    """A wish whose result somebody waits for.

    Args:
        show: given the guess after each step in which `guesses` is true.
    """

    def __init__(
        self,
        server: Server,
        wish: Wish,
        show: Callable[[Made, int, int], None] | None = None,
        guesses: Callable[[int, int], bool] = lambda step, steps: False,
        progress: Callable[[int, int], None] = lambda step, steps: None,
    ) -> None:
        self.server, self.wish, self.show, self.guesses, self.progress = server, wish, show, guesses, progress
        self.result: Future[Made] = Future()

    def run(self, pulse: Pulse) -> None:
        began, model = time.perf_counter(), self.server.model

        def show(made: Made, stage: str, step: int, steps: int, final: bool) -> None:
            if self.show is not None and not final:
                self.show(made, step, steps)

        def guesses(step: int, steps: int) -> bool:
            self.progress(step, steps)
            return self.guesses(step, steps)

        made = make(self.wish, model.runtime, model.pipe, pulse, show, guesses=guesses)
        metrics, spent = self.server.metrics, time.perf_counter() - began
        metrics.jobs.labels(self.wish.task, "done").inc()
        metrics.job_seconds.labels(self.wish.task).observe(spent)
        self.result.set_result(made)

    def cancelled(self) -> None:
        self.server.metrics.jobs.labels(self.wish.task, "cancelled").inc()
        if not self.result.done():
            self.result.set_exception(Refused("busy", "this request was stopped"))

    def failed(self, error: Exception) -> None:
        self.server.metrics.jobs.labels(self.wish.task, "failed").inc()
        known = isinstance(error, Refused)
        self.result.set_exception(error if known else Refused("internal", "something went wrong here"))


def channel_of(request: Request, server: Server) -> Channel:
    """The queue of whoever asks."""
    return server.channel(client_of(request.scope))


async def answered(request: Request, server: Server, wishes: list[Wish]) -> list[Made]:
    """What came of some wishes; they are stopped when the client goes.

    Raises:
        Refused: for wishes that cannot be granted, or too many that wait.
    """
    for wish in wishes:
        check(wish, server.model.pipe, server.limits)
    channel, jobs = channel_of(request, server), list[ApiJob]()
    try:
        for wish in wishes:
            job = ApiJob(server, wish)
            server.worker.submit(channel, job)
            jobs.append(job)
        futures = [asyncio.wrap_future(job.result) for job in jobs]
        while True:
            _, left = await asyncio.wait(futures, timeout=LOOK, return_when=asyncio.ALL_COMPLETED)
            if not left:
                return [future.result() for future in futures]
            if await request.is_disconnected():
                raise Refused("busy", "the client has gone")
    finally:
        for job in jobs:
            job.stop = True
