"""A server that speaks the studio's protocol and draws at once: what the browser tests need to be exact.

Pictures are synthetic: their colour is the prompt's first colour word, their pattern the seed. A prompt that holds
`!slow` takes a second, `!fail` is refused, `!limit` is refused once for its rate: unread, so without its number.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
import wave
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

STUDIO = Path(__file__).resolve().parents[1] / "src" / "selfflow" / "serve" / "studio"
CELL, SIZE, FRAMES, FPS, RATE = 8, 64, 8, 8.0, 8000
COLOURS = {"red": (205, 60, 50), "blue": (50, 90, 200), "green": (60, 160, 80), "yellow": (230, 190, 50)}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
TASKS = [
    "picture", "edit", "inpaint", "outpaint", "clip", "clip+sound", "sound", "animate", "animate+sound", "dub",
    "continue",
]  # fmt: skip


def colour(prompt: str) -> np.ndarray:
    """The colour of a prompt: that of its last colour word."""
    found = [w for w in prompt.lower().replace(",", " ").split() if w in COLOURS]
    return np.array(COLOURS[found[-1]] if found else (150, 150, 155))


def draw(prompt: str, seed: int, width: int, height: int, phase: float = 0.0) -> np.ndarray:
    """A ball of the prompt's colour, uint8 `(height, width, 3)`; where it lies is the seed's and the phase's."""
    y, x = np.mgrid[0:height, 0:width]
    shade = 232 - 22 * y / height
    picture = np.stack([shade, shade, shade + 4], -1)
    spot = np.random.default_rng(seed).uniform(0.3, 0.7, 2)
    centre = (spot[0] * width, (spot[1] - 0.18 * np.sin(phase * np.pi)) * height)
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < (0.2 * min(width, height)) ** 2
    light = np.clip(1.15 - 0.9 * (y - centre[1] + x - centre[0]) / min(width, height), 0.5, 1.2)
    picture[inside] = (colour(prompt) * light[..., None])[inside]
    return np.clip(picture, 0, 255).astype(np.uint8)


def tone(seconds: float) -> bytes:
    t = np.arange(round(seconds * RATE)) / RATE
    samples = (np.sin(440 * 2 * np.pi * t) * np.exp(-6 * (t % 0.5)) * 20000).astype("<i2")
    out = io.BytesIO()
    with wave.open(out, "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(RATE)
        f.writeframes(samples.tobytes())
    return out.getvalue()


def png(picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def pack(header: dict[str, Any], bodies: list[bytes]) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(4, "little") + text + b"".join(bodies)


class Fake:
    """All that the server holds. `jobs` are those that were asked for, `counts` what happened, for tests to look at."""

    def __init__(self) -> None:
        self.assets: dict[str, tuple[bytes, str]] = {}
        self.entries: list[dict[str, Any]] = []
        self.jobs: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.sockets: set[WebSocket] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.refuse = False  # new connections
        self.idle = False  # a world that is played ends, as if nobody had touched it

    def store(self, data: bytes, mime: str) -> str:
        name = hashlib.sha256(data).hexdigest()
        self.assets[name] = (data, mime)
        return name

    # ------------------------------------------------------------------------------------------------------- HTTP

    def app(self) -> Starlette:
        async def page(_: Request) -> Response:
            return Response(
                (STUDIO / "index.html").read_bytes(), media_type="text/html",
                headers={"Content-Security-Policy": POLICY},
            )  # fmt: skip

        return Starlette(
            routes=[
                Route("/", page),
                Mount("/studio", StaticFiles(directory=STUDIO)),
                Route("/api/model", self.model),
                Route("/api/assets", self.upload, methods=["POST"]),
                Route("/api/assets/{hash}", self.asset),
                Route("/api/history", self.history),
                Route("/api/history/{id}", self.forget, methods=["DELETE"]),
                Route("/api/history/{id}/download", self.download),
                WebSocketRoute("/ws/studio", self.studio),
                WebSocketRoute("/ws/world", self.world),
            ]
        )

    async def model(self, _: Request) -> Response:
        return JSONResponse(
            {
                "name": "fake", "parameters": 1_234_567, "size": SIZE, "cell": CELL, "tasks": TASKS,
                "sampling": {"steps": 8, "guidance": 2.0, "shift": 1.0, "tasks": {"sound": 6.0}}, "few_steps": True,
                "fps": FPS,
                "frames": FRAMES, "audio_rate": RATE, "card": "",
                "limits": {
                    "prompt": 400, "references": 10, "pixels": 128 * 128, "steps": 50, "frames": 32,
                    "upload_bytes": 8_000_000, "batch": 4, "choices": 16,
                },
                "worlds": [
                    {"name": "tabletop", "label": "Tabletop", "keys": True},
                    {"name": "pusht", "label": "Push-T", "keys": True},
                ],
                "policies": [
                    {"env": "pick-place", "instruction_example": "put the red ball left of the box"},
                    {"env": "stack", "instruction_example": "stack the boxes"},
                ],
                "examples": {
                    "picture": ["a red ball on a table", "a blue box beside a cup", "three green books"],
                    "edit": ["make the ball blue", "take the box away"],
                    "clip": ["a red ball falls and rolls to the right"],
                    "sound": ["a metal cup falls on wood"],
                },
            }
        )  # fmt: skip

    async def upload(self, request: Request) -> Response:
        body = await request.body()
        try:
            picture = Image.open(io.BytesIO(body)).convert("RGB")
        except OSError:
            return JSONResponse({"code": "bad_request", "message": "That is no picture that can be read."}, 400)
        width, height = (max(CELL, side // CELL * CELL) for side in picture.size)
        data = png(np.asarray(picture.crop((0, 0, width, height))))
        return JSONResponse(
            {"hash": self.store(data, "image/png"), "kind": "picture", "width": width, "height": height}
        )

    async def asset(self, request: Request) -> Response:
        found = self.assets.get(request.path_params["hash"])
        if found is None:
            return JSONResponse({"code": "not_found", "message": "no such asset"}, 404)
        return Response(found[0], media_type=found[1], headers={"Cache-Control": "max-age=31536000, immutable"})

    async def history(self, request: Request) -> Response:
        entries = self.entries[::-1]
        if (before := request.query_params.get("before")) is not None:
            entries = entries[1 + next(i for i, e in enumerate(entries) if e["id"] == before) :]
        return JSONResponse({"entries": entries[: int(request.query_params.get("limit", 50))]})

    async def forget(self, request: Request) -> Response:
        self.entries = [e for e in self.entries if e["id"] != request.path_params["id"]]
        return JSONResponse({})

    async def download(self, request: Request) -> Response:
        entry = next(e for e in self.entries if e["id"] == request.path_params["id"])
        bare = request.query_params.get("metadata") == "0"
        self.counts["download bare" if bare else "download"] += 1
        data, mime = self.assets[entry["parts"][0]["hash"]]
        name = f"{'bare' if bare else 'full'}.{mime.split('/')[1]}"
        return Response(data, media_type=mime, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    # --------------------------------------------------------------------------------------------------- WebSocket

    async def studio(self, socket: WebSocket) -> None:
        await socket.accept()
        if self.refuse:
            await socket.close(1013)
            return
        self.sockets.add(socket)
        self.loop = asyncio.get_running_loop()
        await socket.send_json({"type": "ready", "protocol": 1})
        finals: dict[int, dict[str, Any]] = {}
        running: asyncio.Task[None] | None = None
        try:
            while True:
                message = json.loads(await socket.receive_text())
                if message["type"] == "job":
                    self.jobs.append(message)
                    if running and not running.done():
                        running.cancel()
                        self.counts["cancelled"] += 1
                    running = asyncio.create_task(self.run(socket, message, finals))
                elif message["type"] == "keep":
                    await self.keep(socket, message["id"], finals)
                elif message["type"] == "cancel" and running:
                    running.cancel()
                elif message["type"] == "ping":
                    await socket.send_json({"type": "pong", "at": message["at"]})
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            self.sockets.discard(socket)

    async def keep(self, socket: WebSocket, number: int, finals: dict[int, dict[str, Any]]) -> None:
        if number not in finals:
            await socket.send_json({"type": "error", "id": number, "code": "not_found", "message": "no such result"})
            return
        entry = {**finals[number], "id": f"e{len(self.entries) + 1}-{number}", "created": time.time()}
        self.entries.append(entry)
        await socket.send_json({"type": "kept", "id": number, "entry": entry})

    async def run(self, socket: WebSocket, job: dict[str, Any], finals: dict[int, dict[str, Any]]) -> None:
        number, prompt = job["id"], job["prompt"]
        began = time.perf_counter()
        await socket.send_json({"type": "started", "id": number})
        if "!fail" in prompt or ("!limit" in prompt and not self.counts["limited"]):
            code = "bad_request" if "!fail" in prompt else "rate_limited"
            self.counts["limited"] += code == "rate_limited"
            said = {"type": "error", "id": number if code == "bad_request" else None, "code": code}
            await socket.send_json({**said, "message": f"{prompt} was refused"})
            return
        if job["preview"]:
            await asyncio.sleep(0.01)
            await socket.send_bytes(self.result(job, "preview", began, None))
        await asyncio.sleep(1.0 if "!slow" in prompt else 0.03)
        await socket.send_bytes(self.result(job, "final", began, finals))

    def result(self, job: dict[str, Any], stage: str, began: float, finals: dict[int, dict[str, Any]] | None) -> bytes:
        task, prompt, width, height = job["task"], job["prompt"], job["width"], job["height"]
        final = stage == "final"
        parts, bodies = [], []
        if task not in ("sound", "dub"):
            moving = task.startswith(("clip", "animate")) or task == "continue"
            frames = [draw(prompt, job["seed"], width, height, i / FRAMES) for i in range(FRAMES if moving else 1)]
            if task in ("inpaint", "outpaint"):
                frames = [self.painted(job, frames[0])]
            sheet = np.concatenate(frames)
            if not final:
                sheet = sheet[::4, ::4].repeat(4, 0).repeat(4, 1)
            parts.append({"name": "clip" if moving else "picture", "width": width, "height": height})
            parts[-1] |= {"frames": len(frames), "fps": FPS, "seconds": len(frames) / FPS}
            bodies.append(png(sheet) if final else np.ascontiguousarray(sheet).tobytes())
            parts[-1]["mime"] = "image/png" if final else "image/rgb"
        if "sound" in task or task == "dub":
            parts.append({"name": "sound", "mime": "audio/wav", "rate": RATE, "seconds": FRAMES / FPS})
            bodies.append(tone(FRAMES / FPS))
        for part, body in zip(parts, bodies, strict=True):
            part |= {"bytes": len(body), "hash": self.store(body, part["mime"]) if final else None}
        header = {"type": "result", "id": job["id"], "task": task, "step": 8, "steps": 8, "stage": stage}
        header |= {"final": final, "seed": job["seed"], "ms": 1e3 * (time.perf_counter() - began), "parts": parts}
        if finals is not None:
            keys = ("prompt", "seed", "steps", "guidance", "choices", "reference_guidance", "width", "height", "frames")
            settings = {k: job[k] for k in (*keys, "references", "source", "mask")}
            finals[job["id"]] = {"parent": job["parent"], "task": task, "settings": settings, "parts": parts}
        return pack(header, bodies)

    def painted(self, job: dict[str, Any], made: np.ndarray) -> np.ndarray:
        """The source outside the mask, what was made inside: sizes must agree, or the studio is at fault."""
        source, mask = (
            np.asarray(Image.open(io.BytesIO(self.assets[job[k]][0])).convert("RGB")) for k in ("source", "mask")
        )
        assert source.shape == mask.shape == made.shape, (source.shape, mask.shape, made.shape)
        return np.where(mask > 127, made, source)

    async def world(self, socket: WebSocket) -> None:
        await socket.accept()
        x, y, step, keys, mode, instruction = 0.5, 0.5, 0, list[str](), "", ""
        try:
            while True:
                try:
                    message = json.loads(await asyncio.wait_for(socket.receive_text(), 0.05 if mode else None))
                    if message["type"] in ("start", "policy"):
                        mode, step, x, y = message["type"], 0, 0.5, 0.5
                        instruction = message.get("instruction") or ""
                    elif message["type"] == "keys":
                        keys = message["keys"]
                        self.counts.update(keys)
                    elif message["type"] == "stop":
                        mode = ""
                    continue
                except TimeoutError:
                    pass
                if self.idle:
                    self.idle, mode = False, ""
                    await socket.send_json({"type": "stopped", "reason": "idle"})
                    continue
                step += 1
                if mode == "policy":
                    x, y = 0.5 + 0.3 * np.cos(step / 9), 0.5 + 0.3 * np.sin(step / 9)
                x = min(0.95, max(0.05, x + 0.04 * (("ArrowRight" in keys) - ("ArrowLeft" in keys))))
                y = min(0.95, max(0.05, y + 0.04 * (("ArrowDown" in keys) - ("ArrowUp" in keys))))
                real = np.full((SIZE, SIZE, 3), 228, np.uint8)
                column, row = int(x * SIZE), int(y * SIZE)
                real[max(0, row - 5) : row + 5, max(0, column - 5) : column + 5] = COLOURS["red"]
                bodies = [real.tobytes()]
                parts = [{"name": "real", "mime": "image/rgb", "width": SIZE, "height": SIZE, "bytes": real.size}]
                if mode == "start":
                    bodies.append(np.roll(real, 1, 1).tobytes())
                    parts.append({**parts[0], "name": "dream"})
                angles = step / 9 + np.arange(8) / 9
                plan = [[0.5 + 0.3 * np.cos(a), 0.5 + 0.3 * np.sin(a), 0.5] for a in angles]
                header = {"type": "frame", "t": step / 20, "step": step, "dream_ms": 12.0, "real_ms": 2.0}
                header |= {"parts": parts, "plan": plan if mode == "policy" else None, "action": [x, y, 0.5]}
                done = mode == "policy" and step >= 60
                header |= {"success": done, "done": done, "instruction": instruction, "drift": 0.2 * step}
                await socket.send_bytes(pack(header, bodies))
                mode = "" if done else mode
        except (WebSocketDisconnect, RuntimeError):
            pass


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(Fake().app(), host="127.0.0.1", port=7861, log_level="warning")
