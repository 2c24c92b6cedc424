"""The worlds' WebSocket: keys and actions in; out, side by side, what a simulator shows and what the model dreams.

Or the model acts: what it sees, what it plans to do next, and whether it succeeds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from functools import partial
from typing import Any

import anyio
import numpy as np
import torch
from starlette.websockets import WebSocket

from selfflow.serve.boards import KEYS, Board, Tabletop
from selfflow.serve.framing import Part, pack
from selfflow.serve.limits import Bucket, Refused
from selfflow.serve.live import accepted, incoming
from selfflow.serve.messages import WORLD, Action, Keys, Ping, PolicyStart, Stop, WorldStart
from selfflow.serve.outbox import Outbox, converse
from selfflow.serve.state import Server

log = logging.getLogger(__name__)
DREAM_STEPS = 2  # sampling steps of a dreamt frame: more would fall behind
IDLE_SECONDS = 300.0  # a world that nobody touches ends
BEHIND = 6  # actions whose dream is due; with more the world waits for the dream
CHUNK, EXECUTE, POLICY_STEPS, EPISODE = 16, 8, 4, 60  # as `Pipeline.policy` and the environment have them


class WorldSession:
    """One connection; it plays one world at a time."""

    def __init__(self, server: Server) -> None:
        self.server, self.outbox = server, Outbox(server.limits.outbox_bytes)
        self.bucket = Bucket(server.limits.messages, server.limits.message_burst)
        self.playing: asyncio.Task[None] | None = None
        self.held: list[str] = []
        self.pressed: list[str] = []
        self.action: list[float] | None = None
        self.touched = time.monotonic()

    # ------------------------------------------------------------------------------------------------------ messages

    async def receive(self, text: str | None) -> None:
        """Do what a message asks."""
        try:
            message = incoming(text, self.bucket, self.server, WORLD)
            if not isinstance(message, Ping):  # clients send those by themselves
                self.touched = time.monotonic()
            match message:
                case Ping():
                    self.outbox.post(json.dumps({"type": "pong", "at": message.at}))
                case Keys():
                    held = [KEYS[k] for k in message.keys if k in KEYS]
                    self.pressed += [k for k in held if k not in self.held][: 16 - len(self.pressed)]
                    self.held, self.action = held, None
                case Action():
                    self.action = message.action
                case Stop():
                    await self.stop()
                case WorldStart():
                    await self.begin(self.world(message))
                case PolicyStart():
                    await self.begin(self.policy(message))
        except Refused as error:
            self.complain(error)

    def complain(self, error: Exception) -> None:
        """Say what went wrong."""
        known = isinstance(error, Refused)
        code, text = (error.code, error.message) if known else ("internal", "something went wrong here")  # type: ignore[attr-defined]
        self.outbox.post(json.dumps({"type": "error", "code": code, "message": text}))

    async def begin(self, play: Any) -> None:
        """Leave the world that is played, enter another."""
        await self.stop()
        self.held, self.pressed, self.action = [], [], None
        self.playing = asyncio.create_task(self._guarded(play))

    async def _guarded(self, play: Any) -> None:
        if self.server.playing >= self.server.limits.worlds:
            play.close()
            self.complain(Refused("busy", f"{self.server.playing} worlds are played already; try again later"))
            return
        self.server.playing += 1
        try:
            await play
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, Refused):
                log.exception("a world failed")
            self.complain(error)
        finally:
            self.server.playing -= 1

    async def stop(self) -> None:
        """End the world that is played."""
        task, self.playing = self.playing, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    # --------------------------------------------------------------------------------------------------------- worlds

    async def world(self, message: WorldStart) -> None:
        """The simulator at its own rate, the dream beside it as fast as it comes."""
        server = self.server
        if message.world not in server.worlds:
            names = ", ".join(server.worlds) or "none"
            raise Refused("not_found", f"there is no world {message.world[:32]!r} here; there is {names}", "world")
        board: Board = await asyncio.to_thread(
            server.worlds[message.world], server.model.pipe.config.picture.size, message.seed, message.instruction
        )
        first = board.picture()
        dreamer = partial(server.model.runtime.rollout, seed=message.seed, steps=DREAM_STEPS)
        world = await asyncio.to_thread(dreamer, first, board.text, board.body, board.hz)
        show = _Show(self, board, message.world)
        show.frame(first, first, 0)
        waiting = deque[np.ndarray]()  # actions that are not dreamt yet
        truths = deque[np.ndarray](maxlen=4 * BEHIND)  # what came of them
        dreaming: asyncio.Future[Any] | None = None
        dreamt = deque[tuple[np.ndarray, float, float]]()  # frames, their milliseconds, their error
        due, step, count = time.monotonic(), 0, board.fps // board.hz
        while time.monotonic() - self.touched < IDLE_SECONDS:
            action = board.checked(self.action) if self.action is not None else board.steered(self.held, self.pressed)
            self.pressed = []
            began = time.perf_counter()
            pictures = await asyncio.to_thread(board.step, action)
            show.real_ms = 1000 * (time.perf_counter() - began) / count
            step += 1
            waiting.append(board.raw(action))
            truths.append(pictures[-1])
            for number, picture in enumerate(pictures, 1):
                if dreaming is not None and dreaming.done():
                    dreamt.extend(_dreamt(dreaming.result(), truths))
                    dreaming = None
                if dreaming is None and waiting:
                    batch = list(waiting)
                    waiting.clear()
                    dreaming = asyncio.wrap_future(server.worker.soon(_timed(world, batch)))
                while len(dreamt) > BEHIND:
                    dreamt.popleft()
                seen = dreamt.popleft() if dreamt else None
                if seen is not None:
                    show.dream_ms, show.drift = seen[1:]
                show.action = action
                show.frame(picture, None if seen is None else seen[0], step - 1 + number / count)
                due = max(due + 1 / board.fps, time.monotonic() - 1 / board.fps)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            if len(waiting) >= BEHIND and dreaming is not None:
                await asyncio.wait({dreaming})
        self.outbox.post(json.dumps({"type": "stopped", "reason": "idle"}))

    async def policy(self, message: PolicyStart) -> None:
        """The model carries out an instruction."""
        server, model = self.server, self.server.model
        if message.env not in [p["env"] for p in server.policies]:
            raise Refused("not_found", "this model does not act", "env")
        board = await asyncio.to_thread(
            Tabletop, model.pipe.config.picture.size, message.seed, message.instruction, message.env, EPISODE
        )
        show = _Show(self, board, message.env)
        show.frame(board.picture(), None, 0)
        due, step = time.monotonic(), 0
        while not (board.success or board.truncated):
            began = time.perf_counter()
            seed = message.seed * 1_000_003 + step
            plan = await asyncio.wrap_future(server.worker.soon(partial(_plan, model.runtime, board, seed)))
            show.dream_ms = 1000 * (time.perf_counter() - began)
            for number in range(EXECUTE):
                show.plan = [_place(a) for a in plan[number:]]
                show.action = _scaled(plan[number])
                began = time.perf_counter()
                pictures = await asyncio.to_thread(board.step, show.action)
                show.real_ms = 1000 * (time.perf_counter() - began) / len(pictures)
                for part, picture in enumerate(pictures, 1):
                    ended = part == len(pictures) and (board.success or board.truncated)
                    show.frame(picture, None, step + part / len(pictures), ended)
                    due = max(due + 1 / board.fps, time.monotonic() - 1 / board.fps)
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                step += 1
                if board.success or board.truncated:
                    break

    # ------------------------------------------------------------------------------------------------------ the socket

    async def serve(self, socket: WebSocket) -> None:
        """Talk until the client goes."""
        self.outbox.post(json.dumps({"type": "ready", "protocol": 1}))
        try:
            await converse(socket, self.outbox, self.receive)
        finally:
            with anyio.CancelScope(shield=True):
                await self.stop()


class _Show:
    """Frames of one world to one client, with what is known of them."""

    def __init__(self, session: WorldSession, board: Board, name: str) -> None:
        self.session, self.board, self.name = session, board, name
        self.real_ms = self.dream_ms = self.drift = 0.0
        self.plan: list[list[float]] | None = None
        self.action: np.ndarray | None = None

    def frame(self, real: np.ndarray, dream: np.ndarray | None, step: float, done: bool = False) -> None:
        header = {
            "type": "frame", "t": round(step / self.board.hz, 4), "step": int(step),
            "dream_ms": round(self.dream_ms, 2), "real_ms": round(self.real_ms, 2), "plan": self.plan,
            "action": None if self.action is None else [round(float(v), 5) for v in self.action],
            "success": bool(self.board.success), "done": done, "instruction": self.board.text,
            "drift": round(self.drift, 3),
        }  # fmt: skip
        parts = [_part("real", real), *([] if dream is None else [_part("dream", dream)])]
        self.session.server.metrics.world_frames.labels(self.name).inc()
        self.session.outbox.post(pack(header, parts), droppable=not done)


def _part(name: str, picture: np.ndarray) -> Part:
    return Part(name, "image/rgb", picture.tobytes(), {"width": picture.shape[1], "height": picture.shape[0]})


def _timed(world: Any, batch: list[np.ndarray]) -> Any:
    def call() -> tuple[list[np.ndarray], float]:
        began = time.perf_counter()
        frames = world.step(np.stack(batch))
        return list(frames), 1000 * (time.perf_counter() - began) / len(batch)

    return call


def _dreamt(result: tuple[list[np.ndarray], float], truths: deque[np.ndarray]) -> list[tuple[np.ndarray, float, float]]:
    """Frames with their time and their mean absolute error in levels against what came true."""
    frames, each = result
    found = []
    for frame in frames:
        truth = truths.popleft()
        found.append((frame, each, float(np.abs(frame.astype(np.float32) - truth).mean())))
    return found


def _plan(runtime: Any, board: Tabletop, seed: int) -> np.ndarray:
    """The next actions `(CHUNK, 3)` in metres."""
    return runtime.actions(
        board.picture()[None], [board.text], board.body, board.state[None], board.width, CHUNK, board.hz,
        steps=POLICY_STEPS, generator=torch.Generator().manual_seed(seed),
    )[0]  # fmt: skip


def _scaled(metres: np.ndarray) -> np.ndarray:
    from selfflow.worlds.tabletop.robot import to_action

    return to_action(*(float(v) for v in metres))


def _place(metres: np.ndarray) -> list[float]:
    """x to the right and y downwards in picture sides, opening as a share of the widest."""
    from selfflow.worlds.tabletop.scene import Gripper

    x, y, opening = (float(v) for v in metres)
    return [round(min(1.0, max(0.0, v)), 4) for v in (x, 1 - y, opening / Gripper.HIGH[2])]


async def world_socket(socket: WebSocket, server: Server) -> None:
    """`/ws/world`."""
    async with accepted(socket, server, "/ws/world") as there:
        if there:
            await WorldSession(server).serve(socket)
