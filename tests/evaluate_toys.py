"""What the tests of suites share: toy sources, and worlds whose truth is known."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from selfflow.data.packs import PackMissing, find
from selfflow.data.sample import Sample
from selfflow.modalities.action import Quantiles
from selfflow.modalities.text import BytePairs
from selfflow.pipeline import Pipeline, build_network
from selfflow.recipes import micro_all

SIZE, FRAMES, COUNT = 16, 8, 8
OPTIONS = {"samples": COUNT, "progress": False, "batch": 5}


def config_of(size=SIZE, **more):
    data = SimpleNamespace(frames=FRAMES, permissive_only=False, seconds=0.4, mixture=(), source="emoji")
    return SimpleNamespace(picture=SimpleNamespace(size=size), data=data, audio=SimpleNamespace(rate=16_000), **more)


def need(*packs):
    for name in packs:
        try:
            find(name)
        except PackMissing as error:
            pytest.skip(str(error))


class Toy(list):
    """Samples as a source."""

    def __init__(self, name, samples, **more):
        super().__init__(samples)
        self.name = name
        self.__dict__.update(more)


def toy_sources(monkeypatch):
    """Name → toy source; what is not there is missing."""
    held = {}

    def open_named(name, size, split, frames, **_):
        if (split, name) not in held and name not in held:
            raise PackMissing(f"{name} is not here")
        return held.get((split, name), held.get(name))

    monkeypatch.setattr("selfflow.data.registry.open_named", open_named)
    return held


def beside(**methods):
    """A model that can do this much."""
    return SimpleNamespace(config=config_of(), **methods)


def drawn(places):
    """Frames with a white square at each place."""
    clip = np.zeros((len(places), SIZE, SIZE, 3), np.uint8)
    for frame, (row, column) in zip(clip, np.asarray(places, int), strict=True):
        frame[row : row + 3, column : column + 3] = 255
    return clip


def pushed(start, actions):
    """Places of a square that every action moves."""
    moved = np.concatenate([[start], actions[:-1]]).cumsum(axis=0)
    return moved.clip(0, SIZE - 3)


def world_of(count=COUNT, body="toy"):
    rng = np.random.default_rng(0)
    samples = []
    for i in range(count):
        start, actions = rng.integers(0, SIZE - 3, 2), rng.integers(-2, 3, (FRAMES, 2)).astype(np.float32)
        places = pushed(start, actions)
        samples.append(
            Sample(
                f"w/{i}", None, f"window {i}", clip=drawn(places), fps=10, actions=actions,
                states=places.astype(np.float32), control_hz=10, body=body,
            )
        )  # fmt: skip
    return samples


def tones(takes, seconds=0.4, rate=16_000):
    """Digits as tones, of two voices: one clear, one hoarse."""
    time, samples = np.arange(round(seconds * rate)) / rate, []
    rng = np.random.default_rng(takes)
    for digit in range(10):
        for voice in range(2):
            for _ in range(takes):
                wave = np.sin(2 * np.pi * (250 + 300 * digit) * time + rng.random() * 6)
                hoarse = (0.03 if voice else 0.0005) * rng.standard_normal(len(time))
                sound = (0.1 * wave + hoarse).astype(np.float32)
                about = {"digit": digit, "speaker": ("ann", "bob")[voice]}
                samples.append(Sample(f"d/{len(samples)}", None, "", about, sound=sound, sound_rate=rate))
    return samples


def random_pipeline():
    """A real pipeline of every modality, of random weights."""
    whole = micro_all()
    config = replace(
        whole, data=replace(whole.data, frames=FRAMES, seconds=0.4), picture=replace(whole.picture, size=SIZE),
        network=replace(whole.network, width=48, depth=2, heads=3), sampling=replace(whole.sampling, steps=2),
    )  # fmt: skip
    text = BytePairs.train(["a man saying one", "window"], 280, 48)
    rows = np.concatenate([s.actions for s in world_of()])
    torch.manual_seed(0)
    net = build_network(config, text)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape) * 0.05)
    return Pipeline(net, text, config, quantiles=Quantiles.fit({"toy": {"actions": rows, "states": rows}}))
