"""Who may ask: right host, right origin, the key, not too much, not too often. And headers on every answer."""

from __future__ import annotations

import hmac
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from selfflow.serve.limits import Code, Refused
from selfflow.serve.state import Server

log = logging.getLogger(__name__)
COOKIE = "selfflow_key"
OPEN_PATHS = {"/healthz"}
METHODS = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self'; font-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


def is_loopback(host: str) -> bool:
    """Whether an address to bind to can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Policy:
    """Who may ask.

    Attributes:
        key: that every request must bring, in `Authorization: Bearer` or the cookie; None asks for none.
        hosts: names by which the server may be called, in any case; None allows all, which is safe only with a key.
            A page elsewhere that points its own name at 127.0.0.1 (DNS rebinding) fails here.
    """

    key: str | None = None
    hosts: frozenset[str] | None = frozenset({"localhost", "127.0.0.1", "::1"})

    def __post_init__(self) -> None:
        if self.hosts is not None:
            object.__setattr__(self, "hosts", frozenset(name.lower() for name in self.hosts))


def error_body(error: Refused) -> dict[str, Any]:
    """In the shape of OpenAI's API."""
    kind = {
        "rate_limited": "rate_limit_error", "forbidden": "authentication_error", "internal": "server_error",
        "busy": "server_error",
    }.get(error.code, "invalid_request_error")  # fmt: skip
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


def refusal(error: HTTPException) -> Refused:
    """What the framework refused, as this server says it."""
    codes: dict[int, Code] = {404: "not_found", 413: "too_large"}
    return Refused(codes.get(error.status_code, "bad_request"), str(error.detail))


class Guard:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, server: Server, policy: Policy) -> None:
        self.app, self.server, self.policy = app, server, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers, began = Headers(scope=scope), time.perf_counter()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    out.setdefault(name, value)
                out.setdefault("cache-control", "no-store")
            await send(message)

        try:
            if scope["type"] == "http" and self._came_with_key(scope):
                await self._welcome(scope, sending)
                return
            self._check(scope, headers)
            if scope["type"] == "websocket":
                await self.app(scope, receive, send)
                return
            most = body_limit(scope["path"], self.server.limits.upload_bytes)
            await self.app(scope, _bounded(receive, most), sending)
        except Refused as error:
            self.server.metrics.refused.labels(error.code).inc()
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": error.message[:120]})
            elif status:
                raise  # the answer has begun: nothing better can be said
            else:
                await _answer(sending, error)
        except ClientDisconnect:
            status = 499  # nobody is there to be answered
        except Exception:
            log.exception("%s failed", scope["path"])
            if scope["type"] == "websocket" or status:
                raise
            await _answer(sending, Refused("internal", "something went wrong here; the server's log has more"))
        finally:
            if scope["type"] == "http":
                route = getattr(scope.get("route"), "path", None) or "other"
                method = scope["method"] if scope["method"] in METHODS else "other"  # the client may say anything
                self.server.metrics.requests.labels(method, route, str(status)).inc()
                self.server.metrics.request_seconds.labels(route).observe(time.perf_counter() - began)

    def _check(self, scope: Scope, headers: Headers) -> None:
        hosts, names = self.policy.hosts, headers.getlist("host")
        if len(names) != 1:
            raise Refused("bad_request", f"{len(names)} Host headers; send one")
        if hosts is not None and (_hostname(names[0]) or "") not in hosts:
            raise Refused("forbidden", f"this server is not called {names[0][:100]!r}", status=403)
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD", "OPTIONS")
        origin = headers.get("origin")
        if origin is not None and changes and _netloc(origin) != names[0].lower():
            raise Refused("forbidden", f"pages of {origin[:100]!r} may not use this server", status=403)
        if changes and headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            raise Refused("forbidden", "pages of other sites may not use this server", status=403)
        if self.policy.key is not None and scope["path"] not in OPEN_PATHS and not self._has_key(headers):
            raise Refused("forbidden", "the API key is missing or wrong: Authorization: Bearer …", status=401)
        if scope["type"] == "http":
            self._check_http(scope, headers)

    def _check_http(self, scope: Scope, headers: Headers) -> None:
        limits = self.server.limits
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return
        if wait := self.server.buckets.take(client_of(scope)):
            raise Refused("rate_limited", f"too many requests; try again in {wait:.1f} s")
        length = headers.get("content-length", "0")
        most = body_limit(scope["path"], limits.upload_bytes)
        if not length.isascii() or not length.isdigit():
            raise Refused("bad_request", "the Content-Length is no number")
        if int(length) > most:
            raise Refused("too_large", f"a body of {int(length)} bytes; at most {most}")

    def _has_key(self, headers: Headers) -> bool:
        given = [headers.get("authorization", "").removeprefix("Bearer ").strip()]
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        if cookie is not None:
            given.append(cookie.value)
        return any(_same(value, self.policy.key or "") for value in given)

    def _came_with_key(self, scope: Scope) -> bool:
        if self.policy.key is None or scope["path"] != "/" or scope["method"] != "GET":
            return False
        keys = parse_qs(scope["query_string"].decode("latin-1")).get("key", [])
        return any(_same(value, self.policy.key) for value in keys)

    async def _welcome(self, scope: Scope, send: Send) -> None:
        """From the address with the key to the one without: browsers keep it in a cookie that no script reads."""
        cookie = f"{COOKIE}={self.policy.key}; HttpOnly; SameSite=Strict; Path=/"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode("latin-1")), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


def body_limit(path: str, upload: int) -> int:
    """Bytes of a request's body: an edit carries ten pictures and a mask, other requests of the API are text."""
    if path == "/v1/images/edits":
        return 12 * upload
    return upload if path in ("/api/assets", "/v1/videos") else 1 << 20


def _bounded(receive: Receive, most: int) -> Receive:
    """As `receive`, of a body that need not say how long it is, up to so many bytes.

    Raises:
        HTTPException: 413. FastAPI takes any other for a body that it cannot read.
    """
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            raise HTTPException(413, f"a body of more than {most} bytes")
        return message

    return bounded


def client_of(scope: Scope) -> str:
    """Whom to count a request for."""
    client = scope.get("client")
    return str(client[0]) if client else "unknown"


def _same(a: str, b: str) -> bool:
    return hmac.compare_digest(a.encode(errors="replace"), b.encode(errors="replace"))


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


async def _answer(send: Send, error: Refused) -> None:
    body = json.dumps(error_body(error)).encode()
    headers: Iterable[tuple[bytes, bytes]] = [
        (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
        *([(b"www-authenticate", b"Bearer")] if error.status == 401 else []),
        *([(b"retry-after", b"1")] if error.code in ("rate_limited", "busy") else []),
    ]  # fmt: skip
    await send({"type": "http.response.start", "status": error.status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})
