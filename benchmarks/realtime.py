"""How long a request takes in the runtime: pictures, edits, actions, frames of a world; against three yardsticks.

    python benchmarks/realtime.py --threads 2 --exported FILE --json FILE [--part 64/0 …]

A request is whole and in process: text in, uint8 array out. Networks are those of the recipes `micro` (pictures of 64²
and 128², 64 and 256 tokens, references of the same size) and `micro-all` (actions, worlds), with random weights, which
cost what trained ones cost. *Cold*: nothing of it was read before. *Warm*: its references were, its prompt was not: so
it is while one types. Yardsticks:

a. the same model through `Pipeline` in 50 guided steps, which is how it is sampled without few-step distillation;
b. `diffusers`: a `Flux2Transformer2DModel` of the same width, depth and tokens in bf16 through its
   `FlowMatchEulerDiscreteScheduler`, references by way of its own key/value cache; text features cost it nothing;
c. the floor: arithmetic over the rate of one large product, or weights and memory over the bandwidth of one large copy,
   whichever takes longer, summed over the calls of the network. Both rates are medians of the same rounds.

`micro` is made of pixels: nothing is decoded. What the small codecs' decoders would add is a part of its own, `decode`:
beside requests of as many tokens, latents to uint8 array, in float32, as a codec decodes, and in the runtime's dtype.

With one thread CPU time is measured, so that other processes hardly count; with more, the wall's, and threads are bound
to cores (OMP_PROC_BIND=false in the environment leaves them free). Rounds go in turn, in one process. It goes part by
part, what matters first, and each is written when it is done: a run that was cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfflow.config import Config
from selfflow.data.sample import Sample
from selfflow.evaluate.pages import fill
from selfflow.modalities.action import Quantiles
from selfflow.modalities.pixels import to_pixels, to_values
from selfflow.modalities.text import BytePairs
from selfflow.modalities.visual import Patches
from selfflow.pipeline import Pipeline, build_network
from selfflow.recipes import micro, micro_all
from selfflow.runtime import Runtime
from selfflow.runtime.export import export_steps
from selfflow.train.checkpoint import write_json
from selfflow.train.codec import CODEC_RECIPES
from selfflow.train.engine import fast_dtype
from timing import Row, interleaved, machine, summary, table

SEED, LONG, GUIDANCE = 0, 50, 3.0
STEPS = (1, 2, 4, 8)
CODECS = ("codec-picture", "codec-picture-8")
SHARE, DECODER = 0.25, 1.5  # at most: of a request with its decoding; millions of parameters
PAGE = Path(__file__).resolve().parents[1] / "docs" / "realtime.md"
SHORT = "the red ball lies in a blue cup beside a yellow box"
# Milliseconds on two quiet cores at 4 steps, by tokens, references and memory: what the runtime is meant to reach.
GOALS = {
    64: {(0, "warm"): 60, (1, "cold"): 80, (1, "warm"): 80, (10, "cold"): 150, (10, "warm"): 80},
    256: {(0, "warm"): 150, (1, "cold"): 200, (1, "warm"): 200, (10, "cold"): 400, (10, "warm"): 200},
}


def model(config: Config) -> Pipeline:
    """A pipeline with random weights, none of them zero."""
    text = BytePairs.train([SHORT] * 9, 300)
    torch.manual_seed(SEED)
    net = build_network(config, text)
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 2 and not p.any():
                p.normal_(std=0.3 * p.shape[1] ** -0.5)
    rows = np.random.default_rng(SEED).uniform(-1, 1, (64, 3))
    quantiles = Quantiles.fit({"tabletop": {"actions": rows, "states": rows}})
    return Pipeline(net, text, config, fast_dtype("cpu"), quantiles)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


# -------------------------------------------------------------------------------------------------------------- floor


def yardsticks() -> tuple[dict[str, Callable[[], object]], int, int]:
    """One large product in the dtype computed in, and one large copy; its FLOPs, and the bytes read and written."""
    dtype, n = fast_dtype("cpu"), 768
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    large = torch.zeros(32 << 20, dtype=torch.uint8)
    there = torch.empty_like(large)
    return {"mm": lambda: a @ b, "copy": lambda: there.copy_(large)}, 2 * n**3, 2 * large.numel()


class Floor:
    """Seconds that arithmetic and memory alone would take."""

    def __init__(self, config: Config, seconds: dict[str, list[float]]) -> None:
        _, work, moved = yardsticks()
        self.width, self.depth = config.network.width, config.network.depth
        self.matrix = 4 * self.width**2 + 3 * round(config.network.mlp_ratio * self.width) * self.width
        self.flops = work / statistics.median(seconds["mm"])
        self.bandwidth = moved / statistics.median(seconds["copy"])
        self.size = 2 if fast_dtype("cpu") == torch.bfloat16 else 4

    def call(self, n: int, seen: int) -> float:
        """n tokens that attend to `seen`, themselves included, through all blocks."""
        work = self.depth * (2 * n * self.matrix + 4 * n * seen * self.width)
        moved = self.depth * self.size * (self.matrix + 2 * seen * self.width)
        return max(work / self.flops, moved / self.bandwidth)

    def request(self, n: int, known: list[int], read: list[int], steps: int) -> float:
        """Steps over n tokens knowing groups of tokens, some of which must be read first."""
        return sum(self.call(m, m) for m in read) + steps * self.call(n, n + sum(known))


# ---------------------------------------------------------------------------------------------------------- diffusers


def flux2(config: Config) -> Any:
    """Their network in our shape, or None without diffusers."""
    try:
        from diffusers import Flux2Transformer2DModel
        from diffusers.models.transformers.transformer_flux2 import Flux2KVParallelSelfAttnProcessor
    except ImportError:
        return None
    shape, channels = config.network, 3 * config.picture.patch**2
    torch.manual_seed(SEED)
    net = Flux2Transformer2DModel(
        in_channels=channels, num_layers=0, num_single_layers=shape.depth, num_attention_heads=shape.heads,
        attention_head_dim=shape.width // shape.heads, joint_attention_dim=shape.width, mlp_ratio=shape.mlp_ratio,
        axes_dims_rope=(shape.width // shape.heads // 4,) * 4, guidance_embeds=False,
    )  # fmt: skip
    for block in net.single_transformer_blocks:  # as its pipeline with key/value cache sets it
        block.attn.set_processor(Flux2KVParallelSelfAttnProcessor())
    return net.to(fast_dtype("cpu")).eval()


def their_request(net: Any, config: Config, side: int, references: list[np.ndarray], words: int, steps: int) -> Any:
    """As its Klein pipeline with key/value cache does it: pictures in, uint8 array out."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    patches, dtype = Patches(config.picture.patch), net.dtype

    def places(index: int, rows: int) -> torch.Tensor:
        grid = torch.cartesian_prod(torch.tensor([index]), torch.arange(rows), torch.arange(rows), torch.tensor([0]))
        return grid[None]

    rows = side // config.picture.patch
    text = torch.zeros(1, words, config.network.width, dtype=dtype)
    text_ids = torch.cartesian_prod(*[torch.tensor([0])] * 3, torch.arange(words))[None]
    scheduler = FlowMatchEulerDiscreteScheduler(shift=config.sampling.shift)
    scheduler.set_timesteps(steps)
    x = torch.randn(1, rows * rows, net.config.in_channels, generator=generator())
    before = [patches.tokens(to_values([r])).data.to(dtype) for r in references]
    cache = None
    for i, t in enumerate(scheduler.timesteps):
        given = {
            "timestep": (t / 1000).expand(1).to(dtype), "encoder_hidden_states": text, "txt_ids": text_ids,
            "return_dict": False,
        }  # fmt: skip
        new, ids = x.to(dtype), places(0, rows)
        if i == 0 and before:
            ids = torch.cat([*(places(10 * (j + 1), rows) for j in range(len(before))), ids], dim=1)
            out, cache = net(
                torch.cat([*before, new], dim=1), img_ids=ids, kv_cache_mode="extract",
                num_ref_tokens=sum(r.shape[1] for r in before), **given,
            )  # fmt: skip
        elif cache is not None:
            out = net(new, img_ids=ids, kv_cache=cache, kv_cache_mode="cached", **given)[0]
        else:
            out = net(new, img_ids=ids, **given)[0]
        x = scheduler.step(out[:, -rows * rows :].float(), t, x, return_dict=False)[0]
    return to_pixels(patches.pictures(x, side, side))


# ----------------------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Bench:
    """What a run measures with: how often, and with which packages."""

    rounds: int
    long: int  # rounds of the yardsticks a and b
    exported: Path | None  # a package of `micro`; that of `micro-all` lies beside it

    def runtimes(self, pipe: Pipeline, suffix: str = "") -> dict[str, Runtime]:
        """By what computes a step. A package is made where it is missing."""
        found = {"eager": Runtime(pipe)}
        if self.exported is not None:
            path = self.exported.with_stem(self.exported.stem + suffix)
            if not path.exists():
                export_steps(pipe.net, path, found["eager"].dtype)
            found["exported"] = Runtime(pipe, exported=path)
        return found

    def best(self, runtimes: dict[str, Runtime]) -> str:
        return list(runtimes)[-1]


def timed(actions: dict[str, Callable[[], object]], bench: Bench, fewer: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Of each action what `summary` says, by the clock and by the wall; and seconds of the yardsticks of the floor."""
    walls: dict[str, list[float]] = {}
    seconds = interleaved(actions, bench.rounds, 1, fewer, walls)
    return {n: {**summary(s), "wall": summary(walls[n]), "seconds": s, "rounds": len(s)} for n, s in seconds.items()}


def pictures(bench: Bench, side: int, count: int, steps: tuple[int, ...] = STEPS) -> list[dict[str, Any]]:
    """Generating (count 0) or editing with so many references: milliseconds, and ratios to the yardsticks."""
    config = micro()
    pipe, theirs = model(config), flux2(config)
    runtimes, n = bench.runtimes(pipe), (side // config.picture.patch) ** 2
    rng, words, task = np.random.default_rng(SEED), iter(range(10**9)), "edit" if count else "picture"
    references = tuple(rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count))
    sample = Sample("0", np.zeros((side, side, 3), np.uint8), SHORT, references=references)

    def ours(runtime: Runtime, k: int, cold: bool) -> Any:
        if cold:
            runtime.memory.clear()
        asked = replace(sample, text=f"{SHORT} {next(words)}")
        return runtime.solve(task, [asked], steps=k, guidance=1.0, generator=generator())

    m, actions, fewer = len(pipe.text([f"{SHORT} 10"])), yardsticks()[0], dict[str, int]()
    kinds: dict[str, tuple[str, int, str]] = {}
    for how, runtime in runtimes.items():
        for k in steps if how == bench.best(runtimes) else (4,):
            for memory in ("cold", "warm") if count and k == 4 else ("warm",):
                kinds[name := f"{how} {k} {memory}"] = how, k, memory
                actions[name] = partial(ours, runtime, k, memory == "cold")
                if k != 4:
                    fewer[name] = 6
    if bench.long:
        actions["a"] = partial(pipe.solve, task, [sample], steps=LONG, guidance=GUIDANCE)
        if theirs is not None:
            given = partial(their_request, theirs, config, side, list(references), m, 4)
            actions["b"] = torch.inference_mode()(given)
        fewer |= {"a": bench.long, "b": bench.long}
    found = timed(actions, bench, fewer)
    floor, cells = Floor(config, {name: found[name]["seconds"] for name in ("mm", "copy")}), []
    for name, (how, k, memory) in kinds.items():
        least = 1000 * floor.request(n, [m, *[n] * count], [m, *([n] * count if memory == "cold" else [])], k)
        own = {key: value for key, value in found[name].items() if key != "seconds"}
        cell = {"tokens": n, "references": count, "steps": k, "memory": memory, "step": how, **own}
        cell |= {"floor": round(least, 2), "to_floor": round(own["p50"] / least, 3)}
        for yardstick in ("a", "b") if k == 4 else ():
            if yardstick in found:
                cell[yardstick] = found[yardstick]["p50"]
                cell[f"{yardstick}_over_ours"] = round(cell[yardstick] / own["p50"], 3)
        cells.append(cell)
    cells[-1] |= {"gflops": round(floor.flops / 1e9, 1), "gigabytes_per_s": round(floor.bandwidth / 1e9, 2)}
    return cells


def control(bench: Bench, steps: tuple[int, ...] = (4, 1, 2, 8)) -> list[dict[str, Any]]:
    """The next 16 actions of a robot from a new picture, and the next frame of a world, one by one and four at once."""
    config = micro_all()
    runtimes, cells = bench.runtimes(model(config), "-all"), []
    rng = np.random.default_rng(SEED)

    def act(runtime: Runtime, k: int) -> None:
        seen, state = rng.integers(0, 256, (1, 64, 64, 3), np.uint8), np.zeros((1, 3), np.float32)
        runtime.actions(seen, [SHORT], "tabletop", state, 3, 16, 10.0, steps=k, generator=generator())

    for k in steps:
        actions, fewer = yardsticks()[0], dict[str, int]()
        for how, runtime in runtimes.items() if k == 4 else [list(runtimes.items())[-1]]:
            actions[f"{how} act"] = partial(act, runtime, k)
            for count in (1, 4):
                rollout = runtime.rollout(rng.integers(0, 256, (64, 64, 3), np.uint8), SHORT, "tabletop", 10.0, steps=k)
                rollout.step(np.zeros((17, 3), np.float32))  # the window is full
                moves = rng.uniform(-1, 1, (count, 3)).astype(np.float32)
                actions[f"{how} {count}"] = lambda rollout=rollout, moves=moves: rollout.step(moves)
                fewer[f"{how} {count}"] = max(8, bench.rounds // count // 4 * 4)  # whole moments
            fewer[f"{how} act"] = bench.rounds if k == 4 else 6
        found = timed(actions, bench, fewer)
        floor = Floor(config, {name: found[name]["seconds"] for name in ("mm", "copy")})
        text = len(runtimes["eager"].text([SHORT]))
        least = 1000 * floor.request(16, [text, 64, 1], [64], k)
        for name in (name for name in actions if name not in ("mm", "copy")):
            how, what = name.split()
            own = {key: value for key, value in found[name].items() if key != "seconds"}
            cell = {"what": "action chunk", "steps": k, "step": how, **own}
            if what == "act":
                cell |= {"floor": round(least, 2), "to_floor": round(own["p50"] / least, 3)}
            else:
                mean = statistics.mean(found[name]["seconds"]) / int(what)
                cell |= {"what": f"world, {what} action{'s' * (what != '1')} at a time",
                         "frames_per_s": round(1 / mean, 1)}  # fmt: skip
            cells.append(cell)
    return cells


def decoding(
    bench: Bench, config: Config | None = None, sides: tuple[int, ...] = (64, 128), steps: tuple[int, ...] = STEPS
) -> list[dict[str, Any]]:
    """Decoding one picture by each small codec with random weights, and its share of a request of as many tokens.

    The request is one of pixels, text in and uint8 array out; decoding comes on top of it.
    """
    config = config or micro()
    pipe, cells, words = model(config), [], iter(range(10**9))
    how, runtime = list(bench.runtimes(pipe).items())[-1]

    def ask(side: int, k: int) -> None:
        prompt, size = f"{SHORT} {next(words)}", {"height": side, "width": side}
        runtime(prompt, num_inference_steps=k, guidance_scale=1.0, generator=generator(), output_type="np", **size)

    @torch.inference_mode()
    def decode(codec: Any, latents: torch.Tensor) -> None:
        # `decode` itself computes in float32 whatever the weights are of.
        to_pixels(codec.decode(latents) if latents.dtype == torch.float32 else codec._decode(latents))

    for side in sides:
        actions: dict[str, Callable[[], object]] = {f"request {k}": partial(ask, side, k) for k in steps}
        kinds = {}
        for name in CODECS:
            plain = CODEC_RECIPES[name]().build().eval()
            inner = side // plain.factor
            latents = torch.randn(1, plain.channels, inner, inner, generator=generator())
            for dtype in sorted({torch.float32, runtime.dtype}, key=str, reverse=True):
                kinds[label := f"{name} {str(dtype).removeprefix('torch.')}"] = plain.decoder_parameters
                actions[label] = partial(decode, deepcopy(plain).to(dtype), latents.to(dtype))
        found = timed(actions, bench, {})
        for label, parameters in kinds.items():
            name, dtype = label.split()
            own = {key: value for key, value in found[label].items() if key != "seconds"}
            requests = {str(k): found[f"request {k}"]["p50"] for k in steps}
            shares = {k: round(own["p50"] / (own["p50"] + ms), 3) for k, ms in requests.items()}
            cell = {"tokens": (side // config.picture.patch) ** 2, "codec": name, "dtype": dtype, "step": how, **own}
            cells.append(cell | {"parameters": parameters, "requests": requests, "shares": shares})
    return cells


# What matters first: a run that is cut short has it.
PARTS: dict[str, Callable[[Bench], list[dict[str, Any]]]] = {
    "64/0": partial(pictures, side=64, count=0), "64/10": partial(pictures, side=64, count=10), "control": control,
    "64/1": partial(pictures, side=64, count=1), "256/0": partial(pictures, side=128, count=0),
    "256/10": partial(pictures, side=128, count=10), "256/1": partial(pictures, side=128, count=1),
    "64/4": partial(pictures, side=64, count=4), "256/4": partial(pictures, side=128, count=4), "decode": decoding,
}  # fmt: skip


def picture_cells(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of 4 steps, by size and number of references."""
    cells = [c for name, part in found.items() if name not in ("control", "decode") for c in part if c["steps"] == 4]
    return sorted(cells, key=lambda c: (c["tokens"], c["references"]))


def rows_of(found: dict[str, Any]) -> list[Row]:
    """The claims, as lines of the report."""
    rows = []
    for cell in picture_cells(found):
        count, memory = cell["references"], cell["memory"]
        name = f"runtime, {cell['tokens']} tokens, {count} references {memory}, {cell['step']}"
        goal = GOALS[cell["tokens"]].get((count, memory))
        target = f"≤ {goal}" if goal else ""
        rows.append(Row(name, cell["p95"], "ms", target, f"p50 {cell['p50']} ms", cell))
        rows.append(Row("  over the floor", cell["to_floor"], "×", "≤ 1.5"))
        if "a_over_ours" in cell:
            rows.append(Row(f"  {LONG} guided steps of the pipeline over it", cell["a_over_ours"], "×", "≥ 15"))
        if "b_over_ours" in cell:
            rows.append(Row("  diffusers over it", cell["b_over_ours"], "×", "≥ 1"))
    for cell in found.get("control", []):
        if cell["steps"] != 4:
            continue
        name = f"{cell['what']}, 4 steps, {cell['step']}"
        if "frames_per_s" in cell:
            rows.append(Row(name, cell["frames_per_s"], "frames/s", "≥ 15", f"p95 {cell['p95']} ms", cell))
        else:
            rows.append(Row(name, cell["p95"], "ms", "≤ 30", f"p50 {cell['p50']} ms", cell))
    for cell in found.get("decode", []):
        name = f"{cell['codec']}, {cell['tokens']} tokens, {cell['dtype']}"
        millions = round(cell["parameters"] / 1e6, 2)
        rows.append(Row(f"{name}, decoder", millions, "M", f"≤ {DECODER}", f"p50 {cell['p50']} ms", cell))
        rows += [Row(f"  of a request in {k} steps", share, "", f"≤ {SHARE}") for k, share in cell["shares"].items()]
    return rows


def page(record: dict[str, Any]) -> str:
    """The figures of 4 steps as the tables of docs/realtime.md."""
    where, settings, threads = record["machine"], record["settings"], record["machine"]["threads"]
    bound = "bound to them, " * (settings.get("bound") == "true")
    other, clock = ("wall", "CPU time") if threads == 1 else ("", "wall-clock time")
    lines = [
        f"{where['cpu']}, {where['instructions']}, {threads} thread{'s' * (threads != 1)} of {where['cores']} cores, "
        f"{bound}{clock}, load {where['load']}, torch {where['torch']}, {settings['rounds']} rounds (a and b: "
        f"{settings['long']}), 4 steps. `micro` with random weights.",
        "",
        f"| tokens | references | memory | step | p50, ms | p95, ms |{' p50 by the wall |' * bool(other)} goal | "
        "over the floor | a over it | b over it |",
        f"|---|---|---|---|---|---|{'---|' * bool(other)}---|---|---|---|",
    ]
    for c in picture_cells(record["parts"]):
        goal = GOALS[c["tokens"]].get((c["references"], c["memory"]), "")
        ratios = [f"{c[key]:.2f}" if key in c else "" for key in ("to_floor", "a_over_ours", "b_over_ours")]
        wall = [c["wall"]["p50"]] if other else []
        cells = [c["tokens"], c["references"], c["memory"], c["step"], c["p50"], c["p95"], *wall, goal, *ratios]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "", "| `micro-all` | steps | step | p50, ms | p95, ms | over the floor | frames a second |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for c in sorted(record["parts"].get("control", []), key=lambda c: c["steps"]):
        last = c.get("to_floor", ""), c.get("frames_per_s", "")
        cells = [c["what"], c["steps"], c["step"], c["p50"], c["p95"], *last]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    if decoded := record["parts"].get("decode"):
        counts, how = list(decoded[0]["shares"]), decoded[0]["step"]
        lines += [
            "", "| decoder | parameters | tokens | dtype | p50, ms | p95, ms | "
            + " | ".join(f"of a request ({how}) in {k} step{'s' * (k != '1')}" for k in counts) + " |",
            f"|---|---|---|---|---|---|{'---|' * len(counts)}",
        ]  # fmt: skip
        for c in decoded:
            millions, shares = f"{c['parameters'] / 1e6:.2f}M", [f"{c['shares'][k]:.0%}" for k in counts]
            cells = [c["codec"], millions, c["tokens"], c["dtype"], c["p50"], c["p95"], *shares]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def realtime(rounds: int) -> list[Row]:
    """The short form: 64 tokens, 4 steps."""
    bench = Bench(rounds, 1, None)
    found = {f"64/{count}": pictures(bench, 64, count, (4,)) for count in (0, 1, 10)}
    return rows_of(found | {"control": control(bench, (4,)), "decode": decoding(bench, sides=(64,), steps=(4,))})


def bind(threads: int) -> None:
    """Begin anew with each thread on a core of its own, which OpenMP must be told before it starts.

    Unbound, two of them meet on one core now and then while another idles.
    """
    if threads > 1 and "OMP_PROC_BIND" not in os.environ:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_PROC_BIND": "true"})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--long", type=int, default=3, help="rounds of the yardsticks a and b; 0 leaves them out")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS), help="measure only these")
    parser.add_argument("--exported", type=Path, help="a package to measure too; made (with a C++ compiler) if missing")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; with 1, CPU time is measured")
    parser.add_argument("--json", type=Path, help="write the figures there, and go on from what it holds")
    parser.add_argument("--page", type=Path, help="measure nothing: copy the figures of this file to docs/realtime.md")
    a = parser.parse_args(arguments)
    if a.page:
        fill(PAGE, page(json.loads(a.page.read_text())))
        return
    bind(a.threads)
    torch.set_num_threads(a.threads)
    exported = None if a.exported is None else a.exported.name
    settings = {"seed": SEED, "rounds": a.rounds, "long": a.long, "long_steps": LONG, "long_guidance": GUIDANCE}
    settings |= {"exported": exported, "threads": a.threads, "bound": os.environ.get("OMP_PROC_BIND", "false")}
    record: dict[str, Any] = {"machine": machine(), "settings": settings, "parts": {}}
    if a.json and a.json.exists():
        before = json.loads(a.json.read_text())
        if before.get("settings") == settings:  # figures of other settings do not go together with these
            record["parts"] = before["parts"]
            record["machine"]["load"] = max(record["machine"]["load"], before["machine"]["load"])
    bench = Bench(a.rounds, a.long, a.exported)
    for name in a.part:
        if name in record["parts"]:
            continue
        began = time.perf_counter()
        record["parts"][name] = PARTS[name](bench)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        if a.json:
            write_json(a.json, record)
    print(table(rows_of(record["parts"])))
    print(json.dumps(record["machine"]))


if __name__ == "__main__":
    main()
