"""Many people type at once: `studio_load.py [--model DIR] [--clients 50] [--seconds 60] [--steps 4] [--json FILE]`.

A server is started in a process of its own. Each client types a prompt letter by letter, with pauses as people make
them, deletes it and begins anew; every keystroke is a job that replaces the one before. In the end each waits for what
its last keystroke asked for. Said is whether every client got it and the right one, how long answers took, and whether
the server's memory stayed flat and everything was given back. Exits with 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import websockets

from selfflow.serve.framing import unpack
from selfflow.worlds.tabletop.export.files import json_bytes, write_bytes

PROMPTS = ("a red ball left of a blue box", "two green cups", "a large yellow book on a box", "a smiling face")
PATIENCE = 300.0  # seconds for the last answers
GROWTH = 1.10  # of memory, from a quarter of the time to its end


def start(model: Path | None, data: str) -> tuple[subprocess.Popen[str], str]:
    """The server and its address."""
    command = [sys.executable, "-m", "selfflow.cli", "serve", "--port", "0", "--data", data]
    process = subprocess.Popen(
        [*command, *(["--model", str(model)] if model else [])], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://\S+:\d+", line)
    if found is None:
        raise RuntimeError(f"the server did not start; it said {line!r}")
    return process, found[0]


class Typist:
    """One client."""

    def __init__(self, number: int, address: str, steps: int) -> None:
        self.random, self.number, self.steps = random.Random(number), number, steps
        self.address = address.replace("http", "ws", 1) + "/ws/studio"
        self.sent: dict[int, float] = {}
        self.seconds: list[float] = []
        self.first: list[float] = []  # until anything of a job is seen
        self.finals, self.cancelled, self.guesses, self.got, self.errors = 0, 0, 0, -1, list[str]()
        self.new = asyncio.Event()

    async def type(self, until: float) -> None:
        async with websockets.connect(self.address, max_size=None) as socket:
            listening = asyncio.create_task(self.listen(socket))
            while time.monotonic() < until:
                prompt = self.random.choice(PROMPTS)
                for end in range(1, len(prompt) + 1):
                    await self.press(socket, prompt[:end])
                    await asyncio.sleep(self.random.uniform(0.08, 0.25))
                    if time.monotonic() >= until:
                        break
                await asyncio.sleep(self.random.uniform(0.5, 2.0))
            last = max(self.sent)
            async with asyncio.timeout(PATIENCE):
                while self.got < last:
                    self.new.clear()
                    await self.new.wait()
            listening.cancel()

    async def press(self, socket: Any, prompt: str) -> None:
        number = len(self.sent)
        self.sent[number] = time.perf_counter()
        wish = {"type": "job", "id": number, "task": "picture", "prompt": prompt, "seed": self.number, "preview": True}
        await socket.send(json.dumps(wish | {"steps": self.steps}))

    async def listen(self, socket: Any) -> None:
        seen = set()
        async for message in socket:
            if isinstance(message, str):
                said = json.loads(message)
                self.cancelled += said["type"] == "cancelled"
                if said["type"] == "error":
                    self.errors.append(said["message"])
                continue
            header, _ = unpack(message)
            number, now = header["id"], time.perf_counter()
            if header["seed"] != self.number or number < self.got:
                self.errors.append(f"job {number} of seed {header['seed']} came to {self.number} after {self.got}")
            if number not in seen:
                seen.add(number)
                self.first.append(now - self.sent[number])
            if header["final"]:
                self.finals += 1
                self.got = number
                self.seconds.append(now - self.sent[number])
                self.new.set()
            else:
                self.guesses += 1


def metric(address: str, name: str) -> float:
    text = urllib.request.urlopen(f"{address}/metrics").read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*?\}})? (\S+)$", text, re.MULTILINE))


async def watch(process: psutil.Process, found: list[tuple[float, float]]) -> None:
    """Its memory in MB, every second."""
    began = time.monotonic()
    while True:
        found.append((time.monotonic() - began, process.memory_info().rss / 2**20))
        await asyncio.sleep(1)


def share(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else float("nan")


async def measure(options: argparse.Namespace, process: subprocess.Popen[str], address: str) -> dict[str, Any]:
    memory: list[tuple[float, float]] = []
    watching = asyncio.create_task(watch(psutil.Process(process.pid), memory))
    typists = [Typist(i, address, options.steps) for i in range(options.clients)]
    until = time.monotonic() + options.seconds
    ends = await asyncio.gather(*(t.type(until) for t in typists), return_exceptions=True)
    watching.cancel()
    spent = sum(psutil.Process(process.pid).cpu_times()[:2])
    for _ in range(50):  # closing takes a moment
        if (sockets := metric(address, "selfflow_websockets")) == 0:
            break
        await asyncio.sleep(0.1)
    seconds, first = ([s for t in typists for s in getattr(t, name)] for name in ("seconds", "first"))
    quarter = [mb for at, mb in memory if 0.25 * options.seconds <= at <= 0.5 * options.seconds] or [memory[0][1]]
    last = [mb for at, mb in memory if at >= 0.75 * options.seconds] or [memory[-1][1]]
    return {
        "clients": options.clients, "seconds": options.seconds, "steps": options.steps,
        "keystrokes": sum(len(t.sent) for t in typists), "finals": sum(t.finals for t in typists),
        "guesses": sum(t.guesses for t in typists), "cancelled": sum(t.cancelled for t in typists),
        "got their latest": sum(t.got == max(t.sent, default=0) for t in typists),
        "fewest finals of a client": min(t.finals for t in typists),
        "most finals of a client": max(t.finals for t in typists),
        "errors": [e for t in typists for e in t.errors][:5] + [repr(e) for e in ends if e is not None][:5],
        "first picture p50 s": round(share(first, 0.5), 3), "first picture p95 s": round(share(first, 0.95), 3),
        "final p50 s": round(share(seconds, 0.5), 3), "final p95 s": round(share(seconds, 0.95), 3),
        "ms of the server's CPU for a final": round(1e3 * spent / max(1, sum(t.finals for t in typists)), 1),
        "memory MB, second quarter": round(max(quarter), 1), "memory MB, last quarter": round(max(last), 1),
        "connections left": sockets, "requests left": metric(address, "selfflow_jobs_waiting"),
        "busy after": metric(address, "selfflow_busy"), "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="model directory; the bundled weights by default")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=4, help="sampling steps of a final picture")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as data:
        process, address = start(options.model, data)
        try:
            figures = asyncio.run(measure(options, process, address))
        finally:
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            process.wait(30)
        figures["seconds to shut down"] = round(time.monotonic() - began, 2)
    flat = figures["memory MB, last quarter"] <= GROWTH * figures["memory MB, second quarter"]
    figures["passed"] = bool(
        figures["got their latest"] == options.clients and flat and not figures["errors"]
        and figures["connections left"] == figures["requests left"] == figures["busy after"] == 0
    )  # fmt: skip
    for name, value in figures.items():
        print(f"{name:28} {value}")
    if options.json:
        write_bytes(options.json, json_bytes(figures, indent=2))
    raise SystemExit(not figures["passed"])


if __name__ == "__main__":
    main()
