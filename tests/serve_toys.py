"""A model small enough to serve in tests, knowing every task and body; and a server of it."""

import io
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from starlette.testclient import TestClient

from selfflow.config import AudioConfig, Config, ControlConfig, DataConfig, NetworkConfig, PictureConfig, TextConfig
from selfflow.modalities.action import Quantiles
from selfflow.modalities.text import BytePairs
from selfflow.pipeline import Pipeline, build_network
from selfflow.serve.app import build
from selfflow.serve.limits import Limits
from selfflow.serve.messages import TASKS
from selfflow.serve.model import Model
from selfflow.serve.state import Server
from selfflow.serve.store import Store

WORDS = ["red", "green", "blue", "box", "ball"] * 3
CAREFREE = Limits(rate=1e6, burst=10**6, messages=1e6, message_burst=10**6)


def tiny_pipe() -> Pipeline:
    """Random weights: what is tested here holds for any."""
    config = Config(
        name="tiny", data=DataConfig(mixture=tuple(f"x:{t}:1" for t in (*TASKS, "act", "imagine"))),
        text=TextConfig(vocabulary=280, max_tokens=8), picture=PictureConfig(size=16, patch=8, frames=4),
        network=NetworkConfig(width=32, depth=1, heads=2), audio=AudioConfig(16_000), control=ControlConfig(8),
    )  # fmt: skip
    config = replace(config, sampling=replace(config.sampling, steps=8, guidance=1.0))
    rows = np.random.default_rng(0).uniform(-1, 1, (50, 5))
    bodies = {"tabletop": {"actions": rows[:, :3], "states": rows[:, :3]}, "pusht": {"actions": 256 + 99 * rows[:, :2]}}
    bodies["sprite"] = {"actions": np.eye(5)[np.arange(50) % 5]}
    text = BytePairs.train(WORDS, 280, 8)
    net = build_network(config, text)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    return Pipeline(net, text, config, quantiles=Quantiles.fit(bodies))


def tiny_server(directory=None, limits=CAREFREE) -> Server:
    return Server(Model(tiny_pipe(), "tiny", "# tiny"), Store(directory, limits), limits)


def png(height=16, width=16, seed=0, kind="PNG", **options) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


HERE, WS = "http://127.0.0.1", "ws://127.0.0.1"


@contextmanager
def served(server=None, policy=None):
    """A client of a tiny server in this process, without a network between them."""
    with TestClient(build(server or tiny_server(), policy), base_url=HERE) as client:
        yield client


def client():
    """For a fixture."""
    with served() as found:
        yield found


def upload(client, data, kind="image/png"):
    return client.post("/api/assets", content=data, headers={"content-type": kind})


@contextmanager
def live(app):
    """The application on a free port of this machine, in a thread: its address."""
    import uvicorn

    from selfflow.serve.command import bind, settings

    listening = bind("127.0.0.1", 0)
    server = uvicorn.Server(settings(app, CAREFREE))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive()
