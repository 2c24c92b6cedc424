"""Training throughput of `micro` and `small` on a GPU: samples and tokens a second, and model-FLOPs utilisation.

Purpose: to know how fast the trainer runs as it stands, what `torch.compile` and the batch bring, and how far both are
from the chip. Each cell is the real `Trainer` (draws, both objectives' forward and backward, clipping, AdamW, EMA, its
one synchronisation a step) on random pictures and prompts that are already in memory; CUDA events around the steps.

Utilisation counts the arithmetic of the matrix products and attention in forward and backward, Self-Flow's teacher
and head included, over the `--peak` rate. Beside it stands the rate that one large bf16 product reaches here.

Expected (a guess, for nobody has run this yet; to be replaced by figures): `micro` is bound by launches, so its samples
a second grow almost in proportion to the batch up to 512 or more, and its utilisation stays under 10 %; `small`
saturates, and reaches 25 to 40 % compiled; compiling brings 1.3 to 2 times; Self-Flow costs 1.25 to 1.35 times flow
matching.

    python runs/gpu/throughput.py                       # one GPU, about five minutes
    python runs/gpu/throughput.py --device cpu --toy    # seconds: whether it runs
"""

from __future__ import annotations

import argparse
import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from selfflow.config import Config
from selfflow.modalities.visual import Patches
from selfflow.nn import Modality
from selfflow.recipes import RECIPES
from selfflow.times import Draws
from selfflow.tokens import Tokens, sequence_positions
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import Engine
from selfflow.train.run import build_objective
from selfflow.train.trainer import Trainer

TEXT_TOKENS = 16
COMPILED = ("nothing", "recorded", "student", "student and teacher")


@dataclass(frozen=True)
class Vocabulary:
    """As much of a text encoder as building a network asks for."""

    modality: Modality


class OneBatch:
    """A loader that gives the same random batch for ever, already on the device, and is its own batch."""

    def __init__(self, config: Config, batch: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        size, patches = config.picture.size, Patches(config.picture.patch, prediction=config.picture.prediction)
        pictures = torch.rand(batch, 3, size, size, generator=generator) * 2 - 1
        ids = torch.randint(config.text.vocabulary, (batch, TEXT_TOKENS), generator=generator)
        places = sequence_positions(TEXT_TOKENS).expand(batch, -1, -1)
        self.data = patches.tokens(pictures).to(device)
        self.text = Tokens(ids, places, "text").to(device)
        self.ids, self.batch_size = [str(i) for i in range(batch)], batch

    def __next__(self) -> OneBatch:
        return self

    def state_dict(self) -> dict[str, int]:
        return {"epoch": 0, "index": 0, "skipped": 0}

    @staticmethod
    def prepare(batch: OneBatch, draws: Draws, device: torch.device) -> tuple[Tokens, Sequence[Any]]:
        return batch.data, [batch.text]


def seconds_of(action: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Mean seconds of an action: CUDA events on a GPU, the clock on a CPU."""
    if device.type != "cuda":
        began = time.perf_counter()
        for _ in range(repeats):
            action()
        return (time.perf_counter() - began) / repeats
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    first.record()
    for _ in range(repeats):
        action()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1000 / repeats


def matmul_rate(size: int, device: torch.device) -> float:
    """FLOP/s of one `size³` bf16 product."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    return 2 * size**3 / seconds_of(lambda: a @ b, 20, device)


def flops_per_sample(config: Config, engine: Engine) -> float:
    """Operations in forward and backward of one sample's training step."""
    batch = OneBatch(config, 2, engine.device)
    objective = build_objective(config, Vocabulary(Modality(vocabulary=config.text.vocabulary))).to(engine.device)
    # Written out, attention is matrix products: not every fused kernel is known to the counter.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, engine.autocast():
        objective(batch.data, [batch.text], draws=Draws.at(0, 0, engine.device)).total.backward()
    return counter.get_total_flops() / 2


def cell(config: Config, batch: int, compiled: str, engine: Engine, steps: int, warmup: int) -> dict[str, Any]:
    """Throughput of one network, objective, batch and way of compiling; `{"error"}` when it does not fit or compile."""
    torch._dynamo.reset()
    gc.collect()
    if engine.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        objective = build_objective(config, Vocabulary(Modality(vocabulary=config.text.vocabulary)))
        loader = OneBatch(config, batch, engine.device)
        # The directory is only looked at for a checkpoint to resume from; nothing is written.
        # (Recorded: nothing compiled, but each micro-step a CUDA graph.)
        trainer = Trainer(
            objective, loader, OneBatch.prepare, Path("out/gpu/none"), engine, config.optim,
            record=compiled == "recorded",
        )  # fmt: skip
        if compiled.startswith("student"):
            objective.net.compile_blocks()
        if compiled == "student and teacher":
            objective.ema.compile_blocks()
        trainer.module.train()
        began = time.perf_counter()
        for _ in range(warmup):
            trainer.train_step()
        starting = time.perf_counter() - began
        seconds = seconds_of(trainer.train_step, steps, engine.device)
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    peak = torch.cuda.max_memory_allocated() / 1e9 if engine.device.type == "cuda" else None
    return {
        "ms": round(1000 * seconds, 2),
        "samples_per_s": round(batch / seconds, 1),
        "tokens_per_s": round(batch * len(loader.data) / seconds),
        "peak_gb": peak and round(peak, 2),
        "first_steps_s": round(starting, 1),
    }


def toy(config: Config) -> Config:
    network = replace(config.network, width=64, depth=2, heads=2, double=min(1, config.network.double))
    return replace(config, network=network, text=replace(config.text, vocabulary=300))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["micro", "small"])
    parser.add_argument("--objectives", nargs="+", default=["flow_matching", "self_flow"])
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 128, 512, 2048])
    parser.add_argument("--compiled", nargs="+", default=list(COMPILED), choices=COMPILED)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peak", type=float, default=990e12, help="dense bf16 FLOP/s of the chip")
    parser.add_argument("--minutes", type=float, default=9, help="begin no further cell after this long")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="tiny networks, two batches, nothing compiled")
    parser.add_argument("--json", type=Path, default=Path(os.environ.get("OUT", "out/gpu")) / "throughput.json")
    a = parser.parse_args(arguments)
    if a.toy:
        a.batches, a.compiled, a.steps = [2, 4], ["nothing"], 2
    engine = Engine(a.device, "bf16", threads=1 if a.toy else 0)
    rate = matmul_rate(256 if a.toy else 8192, engine.device)
    results: dict[str, Any] = {
        "machine": engine.describe(), "peak": a.peak, "matmul_rate": rate, "text_tokens": TEXT_TOKENS, "cells": [],
    }  # fmt: skip
    print(f"{engine.describe()}\none large bf16 product: {rate / 1e12:.1f} TFLOP/s, {rate / a.peak:.0%} of the peak\n")
    print(
        f"{'recipe':7} {'objective':14} {'compiled':20} {'batch':>6} {'ms':>9} {'samples/s':>10} {'MFU':>7} {'GB':>6}"
    )
    a.json.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for recipe in a.recipes:
        for kind in a.objectives:
            config = toy(RECIPES[recipe]()) if a.toy else RECIPES[recipe]()
            config = replace(config, objective=replace(config.objective, kind=kind))
            work = flops_per_sample(config, engine)
            for compiled in a.compiled:
                if compiled == "student and teacher" and kind == "flow_matching":
                    continue  # it has no teacher
                for batch in a.batches:
                    if time.monotonic() - began > 60 * a.minutes:
                        print("out of time: the cells that remain were not measured")
                        return
                    found = cell(config, batch, compiled, engine, a.steps, warmup=1 if a.toy else 5)
                    name = {"recipe": recipe, "objective": kind, "compiled": compiled, "batch": batch}
                    if "error" not in found:
                        found["mfu"] = work * found["samples_per_s"] / a.peak
                        found["of_matmul_rate"] = work * found["samples_per_s"] / rate
                    results["cells"].append({**name, "flops_per_sample": work, **found})
                    write_json(a.json, results)  # after every cell: a command cut short keeps what it has
                    line = f"{recipe:7} {kind:14} {compiled:20} {batch:>6} "
                    if "error" in found:
                        print(line + found["error"])
                        break
                    memory = "" if found["peak_gb"] is None else f"{found['peak_gb']:.1f}"
                    print(
                        f"{line}{found['ms']:>9} {found['samples_per_s']:>10} {found['mfu']:>7.2%} {memory:>6}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
