"""What a client may ask for, and how it is told that it asked for too much."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Code = Literal["bad_request", "too_large", "not_found", "rate_limited", "busy", "forbidden", "internal"]
STATUS: dict[str, int] = {
    "bad_request": 400, "forbidden": 403, "not_found": 404, "too_large": 413, "rate_limited": 429, "busy": 503,
    "internal": 500,
}  # fmt: skip


class Refused(Exception):
    """A request that is not carried out: what was wrong, and what would be right.

    Args:
        code: of `STATUS`.
        message: one sentence for the client.
        param: the field at fault.
        status: of HTTP, where it is another than the code's.
    """

    def __init__(self, code: Code, message: str, param: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param, self.status = code, message, param, status or STATUS[code]


@dataclass(frozen=True)
class Limits:
    """Bounds on requests and on what the server keeps.

    Attributes:
        prompt: characters.
        references: pictures that an edit goes by.
        pixels: of one picture made or looked at.
        steps, frames, batch: sampling steps; frames of a clip; pictures of one API request.
        choices: draws of one wish, of which the likeliest is kept.
        upload_bytes, upload_pixels: of one file, before and after decoding. Larger pictures than `pixels` are scaled.
        seconds: of a sound that is uploaded.
        message_bytes: of one WebSocket message from a client.
        together: jobs of as many clients that may run as one.
        waiting, waiting_each: API requests that wait, of all clients and of one.
        connections: WebSockets open at once.
        worlds: played at once.
        outbox_bytes: that wait for one slow client before nothing more is read from it.
        store_bytes: of results and uploads on disk; the least recently used that no kept entry needs go first.
        entries: of the history.
        rate, burst: requests a second of one client that change or compute something, and how many at once.
        messages, message_burst: the same of WebSocket messages of one connection.
    """

    prompt: int = 2000
    references: int = 10
    pixels: int = 256 * 256
    steps: int = 100
    frames: int = 64
    batch: int = 8
    choices: int = 16
    upload_bytes: int = 16 << 20
    upload_pixels: int = 24_000_000
    seconds: float = 30.0
    message_bytes: int = 64 << 10
    together: int = 4
    waiting: int = 64
    waiting_each: int = 16
    connections: int = 128
    worlds: int = 4
    outbox_bytes: int = 4 << 20
    store_bytes: int = 2 << 30
    entries: int = 10_000
    rate: float = 20.0
    burst: int = 100
    messages: float = 60.0
    message_burst: int = 240


class Bucket:
    """A token bucket: `rate` a second, at most `burst` at once."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.clock = rate, burst, clock
        self.level, self.at = float(burst), clock()

    def take(self) -> float:
        """0 when one was taken, else the seconds until there is one."""
        now = self.clock()
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level >= 1:
            self.level -= 1
            return 0.0
        return (1 - self.level) / self.rate


class Buckets:
    """A bucket for each client; those not seen for longest are forgotten, so that memory stays bounded."""

    def __init__(self, rate: float, burst: int, most: int = 4096, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self.most, self.clock = rate, burst, most, clock
        self.found: OrderedDict[str, Bucket] = OrderedDict()
        self.lock = threading.Lock()

    def take(self, client: str) -> float:
        """As `Bucket.take`, of that client."""
        with self.lock:
            bucket = self.found.pop(client, None) or Bucket(self.rate, self.burst, self.clock)
            self.found[client] = bucket
            if len(self.found) > self.most:
                self.found.popitem(last=False)
            return bucket.take()
