"""The studio's WebSocket: jobs in, pictures, clips and sounds out as they come."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable, Sequence
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from selfflow.modalities.text import BytePairs
from selfflow.serve.framing import Part, pack
from selfflow.serve.jobs import Cancelled, Channel, Job, Pulse
from selfflow.serve.limits import Bucket, Refused
from selfflow.serve.making import Made, Wish, check, make_together, size_of, steps_of
from selfflow.serve.media import read_mask, read_picture
from selfflow.serve.messages import STUDIO, Cancel, JobMessage, Keep, Ping, parse
from selfflow.serve.outbox import Outbox, converse
from selfflow.serve.state import Server
from selfflow.serve.store import Asset

PROTOCOL = 1
REMEMBERED = 64  # finished jobs of a connection that can still be kept


class StudioJob(Job):
    """One job of one connection."""

    def __init__(self, session: Session, message: JobMessage) -> None:
        self.session, self.message, self.arrived = session, message, time.perf_counter()
        self.server = session.server

    @functools.cached_property
    def _company(self) -> tuple[Hashable, int]:
        return company(self.message, self.server)  # asked for when it is its turn, which most never see

    @property
    def kind(self) -> Hashable:  # type: ignore[override]
        return self._company[0]

    @property
    def company(self) -> int:  # type: ignore[override]
        return self._company[1]

    def tell(self, **message: Any) -> None:
        self.session.tell(id=self.message.id, **message)

    def started(self) -> None:
        self.tell(type="started")

    def cancelled(self) -> None:
        self.server.metrics.jobs.labels(self.message.task, "cancelled").inc()
        self.session.tell(type="cancelled", id=self.message.id, forget=True)

    def failed(self, error: Exception) -> None:
        self.server.metrics.jobs.labels(self.message.task, "failed").inc()
        self.session.complain(error, self.message.id)

    def run(self, pulse: Pulse) -> None:
        if self._done([self], [wished(self.message, self.server)], pulse):
            raise Cancelled

    @staticmethod
    def run_together(jobs: Sequence[StudioJob], pulse: Pulse) -> Sequence[Job]:
        return jobs[0]._done(jobs, [wished(job.message, job.server) for job in jobs], pulse)

    def _done(self, jobs: Sequence[StudioJob], wishes: Sequence[Wish], pulse: Pulse) -> list[Job]:
        """Do them all; returns those that nobody wanted any more in the end."""
        model, began, told = self.server.model, time.perf_counter(), set[Job]()
        for wish in wishes:
            check(wish, model.pipe, self.server.limits)

        def show(i: int, made: Made, stage: str, step: int, steps: int, final: bool) -> None:
            if pulse.gone(jobs[i].session.channel):
                return
            seconds = (time.perf_counter() - began) / len(jobs)
            jobs[i].show(wishes[i], made, stage, step, steps, seconds if final else None)
            if final:
                told.add(jobs[i])

        make_together(wishes, model.runtime, model.pipe, pulse, show, self.message.preview, few_steps=model.few_steps)
        return [job for job in jobs if job not in told]

    def show(self, wish: Wish, made: Made, stage: str, step: int, steps: int, seconds: float | None) -> None:
        """Send what there is; with the model's seconds it is the result, which can be kept from now on."""
        final, message, metrics = seconds is not None, self.message, self.server.metrics
        parts = made.parts(final)
        now = time.perf_counter()
        if seconds is not None:
            parts = [self._stored(part) for part in parts]
            self.session.remember(message, parts, wish, self.server.model.pipe)
            metrics.jobs.labels(message.task, "done").inc()
            metrics.job_seconds.labels(message.task).observe(seconds)
            metrics.answer_seconds.labels(message.task).observe(now - self.arrived)
        header = {
            "type": "result", "id": message.id, "task": message.task, "step": step, "steps": steps,
            "stage": stage, "final": final, "seed": message.seed,
            "ms": round(1000 * (time.perf_counter() - self.arrived), 2),
        }  # fmt: skip
        # The result of the quick pass is worth sending whole, too: only guesses within a pass are droppable.
        self.session.outbox.post(pack(header, parts), droppable=not final)

    def _stored(self, part: Part) -> Part:
        about = {"kind": part.name, **part.about}
        return Part(
            part.name, part.mime, part.data, {**part.about, "hash": self.server.store.put(part.data, part.mime, about)}
        )


def company(message: JobMessage, server: Server) -> tuple[Hashable, int]:
    """What kind of job it is, and how many of its kind the model does as one: see `Job`.

    Pictures by words alone are alike if their texts are equally long, too: nothing is padded then, and each becomes,
    bit for bit, what it would be by itself.
    """
    text, limits = server.model.pipe.text, server.limits
    if message.task != "picture" or message.references or not isinstance(text, BytePairs):
        return None, 1
    try:
        wish = wished(message, server)
        check(wish, server.model.pipe, limits)
        length = text.length(message.prompt)
    except (Refused, ValueError):  # it is told so when its turn comes
        return None, 1
    height, width = size_of(wish, server.model.pipe)
    numbers = (wish.steps, wish.guidance, wish.reference_guidance, height, width, message.preview, wish.choices)
    return (length, *numbers), max(1, min(limits.together, limits.pixels // (height * width)) // wish.choices)


def wished(message: JobMessage, server: Server) -> Wish:
    """The wish in a message, its assets fetched and decoded.

    Raises:
        Refused: `not_found` for assets that are gone.
    """
    limits = server.limits
    on = [r.hash for r in message.references if r.on]
    if len(on) > limits.references:
        raise Refused("too_large", f"{len(on)} references are on; at most {limits.references}", "references")
    source = mask = None
    fps = message.fps
    if message.source is not None:
        asset = server.store.get(message.source)
        source = pixels(asset, server)
        if source.ndim == 4:
            fps = float(asset.about.get("fps", fps))
    if message.mask is not None:
        mask = read_mask(server.store.get(message.mask).data, limits)
    return Wish(
        message.task, message.prompt, message.seed, message.steps, message.guidance, message.reference_guidance,
        message.width, message.height, tuple(_picture(server.store.get(h), server) for h in on), source, mask,
        message.frames, fps, message.choices,
    )  # fmt: skip


def pixels(asset: Asset, server: Server) -> Any:
    """uint8 `(H, W, 3)` of a picture, `(f, H, W, 3)` of a clip. Raises `Refused` for a sound."""
    if asset.mime != "image/png":
        raise Refused("bad_request", "a sound was given where a picture is needed")
    found = read_picture(asset.data, server.limits)
    if asset.about.get("kind") == "clip":
        return found.reshape(asset.about["frames"], -1, *found.shape[1:])
    return found


def _picture(asset: Asset, server: Server) -> Any:
    found = pixels(asset, server)
    return found if found.ndim == 3 else found[0]  # of a clip, how it begins


class Session:
    """One connection."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.outbox = server, Outbox(server.limits.outbox_bytes)
        self.channel = Channel(name, live=True)
        self.results: OrderedDict[int, tuple[str, dict[str, Any], list[dict[str, Any]], str | None]] = OrderedDict()
        self.bucket = Bucket(server.limits.messages, server.limits.message_burst)

    def tell(self, forget: bool = False, **message: Any) -> None:
        """Send JSON, from any thread."""
        self.outbox.post(json.dumps(message), forget=forget)

    def complain(self, error: Exception, number: int | None = None) -> None:
        """Say what went wrong; of what is our own fault, no more than that."""
        if isinstance(error, Refused):
            code, message = error.code, error.message
        elif isinstance(error, ValueError):
            code, message = "bad_request", str(error)
        else:
            code, message = "internal", "something went wrong here; the server's log has more"
        self.server.metrics.refused.labels(code).inc()
        self.tell(type="error", id=number, code=code, message=message)

    def remember(self, message: JobMessage, parts: list[Part], wish: Wish, pipe: Any) -> None:
        """So that it can be kept."""
        sampling, size = pipe.config.sampling, pipe.config.picture.size
        settings = {
            "prompt": message.prompt, "seed": message.seed,
            "steps": steps_of(wish, pipe),
            "guidance": sampling.guided(message.task) if message.guidance is None else message.guidance,
            "reference_guidance": message.reference_guidance, "width": message.width or size,
            "height": message.height or size, "frames": message.frames, "fps": wish.fps,
            "references": [r.model_dump() for r in message.references], "source": message.source,
            "mask": message.mask, "choices": message.choices,
        }  # fmt: skip
        kept = [{"name": p.name, "mime": p.mime, **p.about} for p in parts]
        self.results[message.id] = (message.task, settings, kept, message.parent)
        while len(self.results) > REMEMBERED:
            self.results.popitem(last=False)

    async def keep(self, number: int) -> None:
        """Put a result into the history."""
        if number not in self.results:
            raise Refused("not_found", f"job {number} has no final result to keep")
        task, settings, parts, parent = self.results[number]
        entry = await asyncio.to_thread(self.server.store.keep, task, settings, parts, parent)
        self.tell(type="kept", id=number, entry=entry)

    async def receive(self, text: str | None) -> None:
        """Do what a message asks."""
        number = None
        try:
            message = incoming(text, self.bucket, self.server, STUDIO)
            number = getattr(message, "id", None)
            match message:
                case JobMessage():
                    self.server.worker.submit(self.channel, StudioJob(self, message))
                case Keep():
                    await self.keep(message.id)
                case Cancel():
                    self.server.worker.cancel(self.channel)
                case Ping():
                    self.tell(type="pong", at=message.at)
        except Refused as error:
            self.complain(error, number)

    async def serve(self, socket: WebSocket) -> None:
        """Talk until the client goes."""
        self.tell(type="ready", protocol=PROTOCOL)
        try:
            await converse(socket, self.outbox, self.receive)
        finally:
            self.server.worker.leave(self.channel)


def incoming(text: str | None, bucket: Bucket, server: Server, kind: Any) -> Any:
    """The message in what came, if there are not too many and it is not too long.

    Raises:
        Refused: for what is none.
    """
    if text is None:
        raise Refused("bad_request", "messages are JSON text; pictures go to POST /api/assets")
    if len(text) > server.limits.message_bytes:
        raise Refused("too_large", f"a message of {len(text)} characters; at most {server.limits.message_bytes}")
    if bucket.take():
        raise Refused("rate_limited", f"more than {bucket.rate:g} messages a second; slow down")
    return parse(kind, text)


async def studio_socket(socket: WebSocket, server: Server) -> None:
    """`/ws/studio`."""
    async with accepted(socket, server, "/ws/studio") as there:
        if there:
            await Session(server, f"{socket.client}").serve(socket)


@contextlib.asynccontextmanager
async def accepted(socket: WebSocket, server: Server, path: str) -> AsyncIterator[bool]:
    """Accept a connection if there are not too many, count it while it lasts, and close it."""
    if server.sockets >= server.limits.connections:
        await socket.close(1013, "too many connections")
        yield False
        return
    await socket.accept()
    server.sockets += 1
    gauge = server.metrics.sockets.labels(path)
    gauge.inc()
    try:
        yield True
    finally:
        server.sockets -= 1
        gauge.dec()
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it is closed already
        await socket.close()
