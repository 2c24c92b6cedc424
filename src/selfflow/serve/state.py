"""What all parts of one server share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import anyio

from selfflow.serve.boards import Tabletop, offered, policies
from selfflow.serve.jobs import Channel, Worker
from selfflow.serve.limits import Buckets, Limits, Refused
from selfflow.serve.metrics import Metrics
from selfflow.serve.model import Model
from selfflow.serve.store import Store

T = TypeVar("T")

UPLOADS = 8  # bodies read at once, so that they fit into memory
DECODED = 2  # of them decoded at once: each may take hundreds of megabytes for a moment
UPLOAD_SECONDS = 60.0  # a client that sends more slowly is gone


@dataclass
class Server:
    """The model, the thread that owns it, what is kept, and the bounds."""

    model: Model
    store: Store
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    worker: Worker = field(init=False)
    buckets: Buckets = field(init=False)
    sockets: int = 0
    playing: int = 0
    worlds: dict[str, type[Any]] = field(init=False)
    policies: list[dict[str, Any]] = field(init=False)

    def __post_init__(self) -> None:
        self.worker = Worker(self.limits)
        bodies, trained = list(self.model.bodies), self.model.trained
        size = self.model.pipe.config.picture.size
        self.worlds = offered(bodies, size) if "imagine" in trained else {}
        self.policies = policies() if "act" in trained and Tabletop.body in bodies else []
        self.uploads, self.decoding = asyncio.Semaphore(UPLOADS), asyncio.Semaphore(DECODED)
        self.channels: WeakValueDictionary[str, Channel] = WeakValueDictionary()
        self.buckets = Buckets(self.limits.rate, self.limits.burst)
        self.metrics.watch("selfflow_store_bytes", "Bytes of assets kept", lambda: float(self.store.bytes))
        self.metrics.watch(
            "selfflow_jobs_waiting", "API requests that wait", lambda: float(self.worker.patient_waiting)
        )
        self.metrics.watch("selfflow_busy", "1 while the model works", lambda: float(self.worker.busy))

    def channel(self, client: str) -> Channel:
        """The queue of a client of the API; it lasts as long as somebody holds it."""
        found = self.channels.get(client)
        if found is None:
            found = self.channels[client] = Channel(client, live=False)
        return found

    async def decoded(self, call: Callable[..., T], *given: Any) -> T:
        """What comes of an upload that is decoded, away from the event loop and few at once."""
        async with self.decoding:
            return await asyncio.to_thread(call, *given)

    def facts(self) -> dict[str, Any]:
        """What `GET /api/model` says."""
        worlds = [{"name": name, "label": board.label, "keys": True} for name, board in self.worlds.items()]
        return self.model.facts(self.limits, worlds, self.policies)


@contextlib.asynccontextmanager
async def receiving(server: Server) -> AsyncIterator[None]:
    """While a large body is read: few at once, and none for long.

    Raises:
        Refused: when the client takes too long.
    """
    async with server.uploads:
        try:
            with anyio.fail_after(UPLOAD_SECONDS):
                yield
        except TimeoutError:
            raise Refused("bad_request", f"the request took more than {UPLOAD_SECONDS:g} s", status=408) from None
