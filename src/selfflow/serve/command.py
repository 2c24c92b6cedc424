"""`selfflow serve`."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfflow.serve.limits import Limits

SHUTDOWN_SECONDS = 5


def serve(
    model: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    open: bool = False,
    data: Path | None = None,
    api_key: str | None = None,
    allow_host: tuple[str, ...] = (),
    device: str = "cpu",
    threads: int = 0,
    exported: Path | None = None,
) -> None:
    """The studio in the browser, and an HTTP API that OpenAI's clients speak. Needs no network.

    Args:
        model: Model directory; the weights that come with selfflow by default.
        host: Address to listen on. Any but this machine's own needs --api-key.
        port: Port to listen on; 0 takes a free one.
        open: Open the studio in the browser.
        data: Directory of history and uploads; $XDG_DATA_HOME/selfflow by default.
        api_key: Key that every request must bring (also $SELFFLOW_API_KEY).
        allow_host: Further names this server is called by, behind a proxy.
        device: Where to compute.
        threads: CPU threads of the model; 0 takes all cores but one, which the browser and the network use.
        exported: Package of `selfflow export` for this model, which computes faster. It is native code: your own only.
    """
    from selfflow.serve.security import Policy, is_loopback

    try:
        import uvicorn

        from selfflow.serve.app import build
        from selfflow.serve.limits import Limits
        from selfflow.serve.state import Server
    except ImportError as error:
        raise ImportError(f"serving needs the extra `serve` ({error.name}): pip install 'selfflow[serve]'") from None
    import torch

    from selfflow.bundled import model_or_bundled
    from selfflow.serve.model import Model
    from selfflow.serve.store import Store, default_directory

    key = api_key or os.environ.get("SELFFLOW_API_KEY") or None
    if key is not None and (len(key) < 16 or not key.isascii() or not key.isalnum()):
        raise ValueError("the API key needs at least 16 letters and digits, such as `openssl rand -hex 16` gives")
    local = is_loopback(host)
    if not local and key is None:
        raise ValueError(f"listening on {host} lets other machines in; give --api-key KEY, or --host 127.0.0.1")
    listening = bind(host, port)  # first: loading takes seconds, and a port that is taken is known at once
    with listening:
        torch.set_num_threads(threads or spared(torch.get_num_threads()))
        directory = model_or_bundled(model)
        limits = Limits()
        server = Server(Model.load(directory, device, exported), Store(data or default_directory(), limits), limits)
        names = {"localhost", "127.0.0.1", "::1", host, *allow_host}
        policy = Policy(key, frozenset(names) if local or allow_host else None)
        port = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{port}/"
        config = settings(build(server, policy), limits)
        server.model.warm_up()
        settle()
        print(f"selfflow serve: {server.model.name}, ready at {address}", flush=True)
        if key is not None:
            print(f"open {address}?key=… with the API key once; the browser remembers it", flush=True)
        if open:
            import webbrowser

            webbrowser.open(f"{address}?key={key}" if key else address)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn has shut down by then
            uvicorn.Server(config).run(sockets=[listening])


def spared(threads: int) -> int:
    """Of torch's threads, those that leave a core to whoever shows what the model draws.

    The model's kernels take fractions of a millisecond and wait for their slowest thread: one core that a browser takes
    part of holds up all others.
    """
    return max(1, min(threads, len(os.sched_getaffinity(0)) - 1 if hasattr(os, "sched_getaffinity") else threads))


def settle() -> None:
    """Have the garbage collector leave alone what stays for good: looking through it all takes 130 ms each time."""
    gc.collect()
    gc.freeze()


def settings(app: Any, limits: Limits) -> Any:
    """How uvicorn serves the application: bounded in what it reads, silent about what it is."""
    import uvicorn

    return uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, ws="websockets-sansio",
        ws_max_size=4 * limits.message_bytes, ws_max_queue=8, ws_ping_interval=20.0, ws_ping_timeout=20.0,
        ws_per_message_deflate=False, timeout_keep_alive=30, timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        limit_concurrency=512, proxy_headers=False,
    )  # fmt: skip


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: in one line, when the port is taken or the address is none of this machine's.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port {port}; choose 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror:
        raise OSError(f"{host} is no address of this machine; try 127.0.0.1") from None
    found = socket.socket(family, kind, protocol)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(address)
        found.listen(128)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(
                f"port {port} is taken (another selfflow serve?); choose another with --port, or --port 0"
            ) from None
        raise OSError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    return found
