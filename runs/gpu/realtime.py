"""Latency on a GPU: our networks, and klein-4B's exact shape with random weights, against diffusers eager and compiled.

    python runs/gpu/realtime.py [--shapes micro requests control klein-4b] [--json FILE]

`klein-4b` is 5 double and 20 single blocks of width 3072 with 24 heads of 128 (3.9 billion parameters), 512 text tokens
of 7680 values, one token for 16² pixels: 1024 tokens at 512², 4096 at 1024². `micro` is the recipe, with 64 and 256
tokens of 8² pixels. Four steps without guidance in bf16, the text read before (as their features are given). Ours:
steps launched one by one; recorded as a CUDA graph; also compiled. Theirs: eager, and compiled with `torch.compile`, as
their documentation advises. Milliseconds of a whole step loop, medians of rounds in turn; no decoder.

`requests` and `control` are whole requests, text in and uint8 array (or actions) out, ours launched against ours
recorded, and compiled and recorded. `requests`: pictures of `micro` in 64 and 256 tokens, generated, and edited with 1
and 10 references of the same size, *cold* (nothing of it was read before) and *warm* (its references were, its prompt
was not). `control`: of `micro-all`'s shape the next 16 actions of a robot from a new picture, and the next frame of a
world, one action at a time. Weights are random; `gap` is the mean difference of what launched and recorded give, of 255
levels (of actions, in their range of 2).

Measured on one H200 (docs/realtime.md): `micro` in 1.7 ms compiled and recorded, 2.8 recorded, 15.3 launched,
diffusers 30.6 and compiled 7.6, at 64 tokens; both cells took 70 s. Expected of `klein-4b`: near 0.1 s at 512², ours
ahead of theirs eager and level with theirs compiled; of `requests` and `control`: some milliseconds on top of the loop
for text, reads (which are launched) and pictures, so recording gains less cold than warm. Neither was run yet.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfflow.config import Config, NetworkConfig
from selfflow.data.sample import Sample
from selfflow.modalities.action import Quantiles
from selfflow.modalities.text import BytePairs
from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.pipeline import Pipeline, build_network
from selfflow.recipes import micro, micro_all
from selfflow.runtime import Runtime
from selfflow.times import schedule
from selfflow.tokens import Tokens, grid_positions, sequence_positions
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import Engine

STEPS = 4
# width, heads, blocks, double ones among them, values of a text token and of a picture's, pixels a side of one
SHAPES = {
    "micro": (320, 5, 8, 0, 320, 192, 8),
    "klein-4b": (3072, 24, 25, 5, 7680, 128, 16),
    "toy": (64, 4, 3, 1, 32, 12, 16),
}
SIDES = {"micro": (64, 128), "klein-4b": (512, 1024), "toy": (64,)}
PARTS = ("micro", "requests", "control", "klein-4b")  # what matters first: a lease is short
PROMPT, HZ, CHUNK = "the red ball lies in a blue cup beside a yellow box", 10.0, 16
Make = Callable[[Runtime], Callable[[], np.ndarray]]  # of a runtime what answers one request


class Given:
    """Text features that are given: the place of a text encoder."""

    def __init__(self, words: int, values: int, device: torch.device) -> None:
        self.modality, self.words, self.device = Modality(channels=values), words, device

    def __call__(self, prompts: Sequence[str]) -> Tokens:
        data = torch.ones(len(prompts), self.words, self.modality.channels, device=self.device)
        return Tokens(data, sequence_positions(self.words).expand(len(prompts), -1, -1).to(self.device), "text")


def ours(shape: str, words: int, device: torch.device, **options: Any) -> Runtime:
    """A runtime with random weights."""
    width, heads, depth, double, text, values, _ = SHAPES[shape]
    modalities = {"text": Modality(channels=text), "visual": Modality(channels=values, prediction="velocity")}
    parallel = double > 0
    config = TransformerConfig(modalities, width, depth, heads, 3.0, double, parallel)
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)  # four billion numbers are drawn once, in the dtype they are used in
    try:
        with device:
            net = Transformer(config)
    finally:
        torch.set_default_dtype(usual)
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(std=0.5 * p.shape[-1] ** -0.5 if p.ndim > 1 else 0.02)
    for part in (net.time, net.modulation, net.last):
        part.float()
    net.frequencies = net.frequencies.float()
    net.time.turns = net.time.turns.float()
    recipe = micro()
    config_ = replace(recipe, picture=replace(recipe.picture, patch=1))
    return Runtime(Pipeline(net, Given(words, text, device), config_), torch.bfloat16, **options)  # type: ignore[arg-type]


def loop_of(runtime: Runtime, shape: str, side: int, recorded: bool) -> Callable[[], Tensor]:
    """The whole step loop of one picture; its text was read before."""
    rows = side // SHAPES[shape][-1]
    places = grid_positions(rows, rows)[None].to(runtime.device)
    template = Tokens(torch.zeros(1, rows * rows, SHAPES[shape][5], device=runtime.device), places, "visual")
    noise = torch.randn(template.data.shape, generator=torch.Generator().manual_seed(0)).to(runtime.device)
    memory, times = runtime.read(["a prompt"]), schedule(STEPS, 1.78)
    record = runtime.record

    @torch.inference_mode()
    def loop() -> Tensor:
        runtime.record = record if recorded else None
        try:
            return runtime.integrate("euler", runtime.field(template, [memory]), noise, times)
        finally:
            runtime.record = record

    return loop


def theirs(shape: str, words: int, side: int, device: torch.device, compiled: bool) -> Callable[[], Tensor]:
    """Their network of that shape through their scheduler."""
    from diffusers import FlowMatchEulerDiscreteScheduler, Flux2Transformer2DModel

    width, heads, depth, double, text, values, pixels = SHAPES[shape]
    head, rows = width // heads, side // pixels
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            net = Flux2Transformer2DModel(
                in_channels=values, num_layers=double, num_single_layers=depth - double, attention_head_dim=head,
                num_attention_heads=heads, joint_attention_dim=text, axes_dims_rope=(head // 4,) * 4,
                guidance_embeds=False,
            ).eval()  # fmt: skip
    finally:
        torch.set_default_dtype(usual)
    if compiled:
        net.compile()
    features = torch.ones(1, words, text, dtype=torch.bfloat16, device=device)
    zero, line = torch.tensor([0]), torch.arange(rows)
    img_ids = torch.cartesian_prod(zero, line, line, zero)[None].to(device)
    txt_ids = torch.cartesian_prod(zero, zero, zero, torch.arange(words))[None].to(device)
    noise = torch.randn(1, rows * rows, values, generator=torch.Generator().manual_seed(0)).to(device)

    @torch.inference_mode()
    def loop() -> Tensor:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=1.78)
        scheduler.set_timesteps(STEPS, device=device)
        x = noise
        for t in scheduler.timesteps:
            said = net(
                hidden_states=x.bfloat16(), encoder_hidden_states=features, img_ids=img_ids, txt_ids=txt_ids,
                timestep=(t / 1000).expand(1).bfloat16(), return_dict=False,
            )[0]  # fmt: skip
            x = scheduler.step(said.float(), t, x, return_dict=False)[0]
        return x

    return loop


def whole(config: Config, device: torch.device, toy: bool) -> Pipeline:
    """A pipeline of the recipe with random weights, none of them zero."""
    if toy:
        config = replace(config, network=NetworkConfig(width=64, depth=2, heads=2))
    text = BytePairs.train([PROMPT] * 9, 300)
    torch.manual_seed(0)
    net = build_network(config, text)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 2 and not p.any():
                p.normal_(std=0.3 * p.shape[1] ** -0.5)
    rows = np.random.default_rng(0).uniform(-1, 1, (64, 3))
    quantiles = Quantiles.fit({"tabletop": {"actions": rows, "states": rows}})
    return Pipeline(net, text, config, torch.bfloat16, quantiles).to(device)


def asked(count: int, side: int, cold: bool) -> Make:
    """A picture generated (count 0) or edited with so many references; every call has a new prompt."""

    def make(runtime: Runtime) -> Callable[[], np.ndarray]:
        rng, words = np.random.default_rng(0), iter(range(100, 10**9))
        references = tuple(rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count))
        blank, task = np.zeros((side, side, 3), np.uint8), "edit" if count else "picture"

        def request() -> np.ndarray:
            if cold:
                runtime.memory.clear()
            sample = Sample("0", blank, f"{PROMPT} {next(words)}", references=references)
            noise = torch.Generator().manual_seed(0)
            (made,) = runtime.solve(task, [sample], steps=STEPS, guidance=1.0, generator=noise)
            return np.asarray(made.picture)

        return request

    return make


def acting(runtime: Runtime) -> Callable[[], np.ndarray]:
    """The next actions of a robot; every call sees a new picture."""
    rng, state = np.random.default_rng(0), np.zeros((1, 3), np.float32)

    def request() -> np.ndarray:
        seen, noise = rng.integers(0, 256, (1, 64, 64, 3), np.uint8), torch.Generator().manual_seed(0)
        return runtime.actions(seen, [PROMPT], "tabletop", state, 3, CHUNK, HZ, steps=STEPS, generator=noise)

    return request


def playing(runtime: Runtime) -> Callable[[], np.ndarray]:
    """The next frame of a world whose window is full."""
    rng = np.random.default_rng(0)
    rollout = runtime.rollout(rng.integers(0, 256, (64, 64, 3), np.uint8), PROMPT, "tabletop", HZ, steps=STEPS)
    rollout.step(np.zeros((CHUNK + 1, 3), np.float32))
    return lambda: rollout.step(rng.uniform(-1, 1, (1, 3)).astype(np.float32))


def cases(part: str, toy: bool) -> list[tuple[dict[str, Any], Make]]:
    """What a part asks for, and how."""
    if part == "control":
        return [({"what": "action chunk"}, acting), ({"what": "world frame"}, playing)]
    found = []
    for side in (64,) if toy else (64, 128):
        for count in (0, 1, 10):
            for memory in ("cold", "warm") if count else ("warm",):
                told = {"what": "edit" if count else "generate", "side": side, "references": count, "memory": memory}
                found.append((told, asked(count, side, memory == "cold")))
    return found


def answered(part: str, device: torch.device, toy: bool) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Of each case what it is, and by the way it is computed what answers one request."""
    pipe = whole(micro_all() if part == "control" else micro(), device, toy)
    record = None if device.type == "cuda" else (lambda run: run)
    runtimes = {"ours": Runtime(pipe, torch.bfloat16), "ours, recorded": Runtime(pipe, torch.bfloat16, record=record)}
    runtimes["ours"].record = None  # launched one by one
    if not toy:
        runtimes["ours, compiled and recorded"] = Runtime(pipe, torch.bfloat16, compiled={})
    parameters = sum(p.numel() for p in pipe.net.parameters())
    for told, make in cases(part, toy):
        answers = {name: make(runtime) for name, runtime in runtimes.items()}
        launched, recorded = (answers[name]().astype(np.float64) for name in ("ours", "ours, recorded"))
        yield {"shape": part, "parameters": parameters, **told, "gap": float(abs(launched - recorded).mean())}, answers


def compared(shape: str, a: argparse.Namespace) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The step loops of one shape: of each size what it is, and ours and theirs by name."""
    device, words = torch.device(a.device), min(a.words, 32) if shape == "micro" else a.words
    for side in SIDES[shape]:
        torch.manual_seed(0)
        # Where there is no GPU to record on, what would be recorded is run again.
        record = None if device.type == "cuda" else (lambda run: run)
        runtime = ours(shape, words, device, record=record)
        loops = {"ours": loop_of(runtime, shape, side, False), "ours, recorded": loop_of(runtime, shape, side, True)}
        gap = (loops["ours"]() - loops["ours, recorded"]()).abs().max().item()
        compiled = None if a.toy else Runtime(runtime.pipe, torch.bfloat16, compiled={})
        if compiled is not None:
            loops["ours, compiled and recorded"] = loop_of(compiled, shape, side, True)
        try:
            for eager in (True, False):
                if eager or not a.toy:
                    name = "diffusers" if eager else "diffusers, compiled"
                    loops[name] = theirs(shape, words, side, device, compiled=not eager)
        except ImportError:
            print("diffusers is not installed: ours alone is measured")
        parameters = sum(p.numel() for p in runtime.pipe.net.parameters())
        yield {"shape": shape, "side": side, "words": words, "parameters": parameters, "gap": gap}, loops
        del runtime, compiled, loops  # room for the next


def milliseconds(
    loops: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, dict[str, float]]:
    """Median and 95th percentile of each, in turn; the first calls (recording, compiling) are apart."""
    taken: dict[str, list[float]] = {name: [] for name in loops}
    first = {}

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for i in range(-2, rounds):
        for name, loop in loops.items():
            wait()
            began = time.perf_counter()
            loop()
            wait()
            passed = 1000 * (time.perf_counter() - began)
            if i == -2:
                first[name] = passed
            elif i >= 0:
                taken[name].append(passed)
    return {
        name: {
            "p50": round(statistics.median(t), 3),
            "p95": round(sorted(t)[round(0.95 * (len(t) - 1))], 3),
            "first": round(first[name], 1),
        }
        for name, t in taken.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", default=list(PARTS), choices=[*PARTS, "toy"], help="what to measure")
    parser.add_argument("--words", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=9, help="begin no further cell after this long")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="tiny shapes, nothing compiled")
    parser.add_argument("--json", type=Path, default=Path(os.environ.get("OUT", "out/gpu")) / "realtime.json")
    a = parser.parse_args(arguments)
    if a.toy:
        a.shapes, a.words, a.rounds = ["toy", "requests", "control"], 8, 2
    device = torch.device(a.device)
    results: dict[str, Any] = {"machine": Engine(a.device, "bf16").describe(), "steps": STEPS, "cells": []}
    began = time.monotonic()
    for shape in a.shapes:
        whole_requests = shape in ("requests", "control")
        cells = answered(shape, device, a.toy) if whole_requests else compared(shape, a)
        while True:
            if time.monotonic() - began > 60 * a.minutes:
                print("out of time: the cells that remain were not measured")
                return
            if (cell := next(cells, None)) is None:
                break
            told, loops = cell
            found = milliseconds(loops, a.rounds, device)
            results["cells"].append({**told, "ms": found})
            write_json(a.json, results)  # after every cell: a command cut short keeps what it has
            label = " ".join(str(told[key]) for key in ("shape", "what", "side", "references", "memory") if key in told)
            for name, ms in found.items():
                print(f"{label:30} {name:30} {ms['p50']:9.2f} ms, p95 {ms['p95']:9.2f}", flush=True)
            del cell, loops


if __name__ == "__main__":
    main()
