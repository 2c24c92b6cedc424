"""What waits to be sent to one client: bounded, and of guesses only the newest."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from starlette.websockets import WebSocketDisconnect

SEND_SECONDS = 30.0  # a client that takes nothing for so long is gone


class Outbox:
    """Messages of one WebSocket. `post` may be called from any thread; the rest belongs to the event loop.

    Args:
        most: bytes that may wait. Beyond them guesses are dropped; results never are: instead `room` waits, so that
            nothing more is read from the client, and it can ask for nothing more.
    """

    def __init__(self, most: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.most, self.bytes, self.dropped = most, 0, 0
        self.messages: deque[tuple[str | bytes, bool]] = deque()
        self.wake, self.free = asyncio.Event(), asyncio.Event()
        self.free.set()

    def post(self, message: str | bytes, droppable: bool = False, forget: bool = False) -> None:
        """Let a message wait to be sent.

        Args:
            droppable: for a guess, which takes the place of an older one.
            forget: drop the guesses that wait; what they guess at was cancelled.
        """
        self.loop.call_soon_threadsafe(self._post, message, droppable, forget)

    def _post(self, message: str | bytes, droppable: bool, forget: bool) -> None:
        if droppable or forget:
            kept = [m for m in self.messages if not m[1]]
            self.dropped += len(self.messages) - len(kept)
            self.messages = deque(kept)
        self.bytes = sum(len(m) for m, _ in self.messages)
        if droppable and self.bytes + len(message) > self.most:
            self.dropped += 1
        else:
            self.messages.append((message, droppable))
            self.bytes += len(message)
        self._tell()

    def _tell(self) -> None:
        (self.wake.set if self.messages else self.wake.clear)()
        (self.free.set if self.bytes <= self.most else self.free.clear)()

    async def room(self) -> None:
        """Wait until less than `most` waits."""
        await self.free.wait()

    async def send(self, socket: Any) -> None:
        """Send what there is, for ever.

        Raises:
            TimeoutError: when the client takes nothing.
        """
        while True:
            await self.wake.wait()
            message, _ = self.messages.popleft()
            self.bytes -= len(message)
            self._tell()
            with anyio.fail_after(SEND_SECONDS):
                await (socket.send_bytes(message) if isinstance(message, bytes) else socket.send_text(message))


async def converse(socket: Any, outbox: Outbox, receive: Callable[[str | None], Awaitable[None]]) -> None:
    """Send what the outbox holds and hand over what comes (None for bytes), until the client goes or takes nothing."""

    async def sending(scope: anyio.CancelScope) -> None:
        with contextlib.suppress(TimeoutError, WebSocketDisconnect, RuntimeError):  # gone, or going
            await outbox.send(socket)
        scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(sending, group.cancel_scope)
        while True:
            await outbox.room()
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                group.cancel_scope.cancel()
                return
            await receive(message.get("text"))
