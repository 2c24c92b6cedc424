"""How long a request takes in the runtime: pictures, edits, actions, frames of a world; against three yardsticks.

    python benchmarks/realtime.py [--quick] [--json FILE] [--rounds N]

A request is whole and in process: text in, uint8 array out. Networks are those of the recipes `micro` (pictures of 64²
and 128², 64 and 256 tokens, references of the same size) and `micro-all` (actions, worlds), with random weights, which
cost what trained ones cost. *Cold*: nothing of it was read before. *Warm*: its references were, its prompt was not: so
it is while one types. Yardsticks:

a. the same model through `Pipeline` in 50 guided steps, which is how it is sampled without few-step distillation;
b. `diffusers`: a `Flux2Transformer2DModel` of the same width, depth and tokens in bf16 through its
   `FlowMatchEulerDiscreteScheduler`, references by way of its own key/value cache; text features cost it nothing;
c. the floor: arithmetic over the rate of one large product, or weights and memory over the bandwidth of one large copy,
   whichever takes longer, summed over the calls of the network. Both rates are medians of the same rounds.

One thread and CPU time, so that other processes hardly count; rounds in turn, in one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfflow.config import Config
from selfflow.data.sample import Sample
from selfflow.modalities.action import Quantiles
from selfflow.modalities.streams import to_pixels, to_values
from selfflow.modalities.text import BytePairs
from selfflow.modalities.visual import Patches
from selfflow.pipeline import Pipeline, build_network
from selfflow.recipes import micro, micro_all
from selfflow.runtime import Runtime
from selfflow.runtime.export import export_steps
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from timing import Row, interleaved, machine, table

SEED, LONG, GUIDANCE = 0, 50, 3.0
STEPS = (1, 2, 4, 8)
PAGE = Path(__file__).resolve().parents[1] / "docs" / "realtime.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
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


def summary(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(1000 * s for s in seconds)
    return {
        "p50": round(statistics.median(ordered), 2),
        "p95": round(ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))], 2),
        "best": round(ordered[0], 2),
    }


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


def pictures(
    rounds: int, sides: tuple[int, ...], counts: tuple[int, ...], steps: tuple[int, ...], long: int = 0,
    exported: Path | None = None, keep: Callable[[list[Any]], object] = lambda cells: None,
) -> dict[str, Any]:  # fmt: skip
    """Generating and editing, cell by cell: milliseconds, and ratios to the yardsticks.

    Args:
        counts: of references; 0 is generating.
        long: in how many rounds yardstick a is measured.
        exported: a package to measure too, made when it is not there.
        keep: called with the cells so far, after each number of references.
    """
    config, cells = micro(), list[dict[str, Any]]()
    pipe = model(config)
    runtimes, theirs = {"": Runtime(pipe)}, flux2(config)
    if exported is not None:
        if not exported.exists():
            export_steps(pipe.net, exported, runtimes[""].dtype)
        runtimes[", exported"] = Runtime(pipe, exported=exported)
    rng, words = np.random.default_rng(SEED), iter(range(10**9))

    def ours(runtime: Runtime, sample: Sample, k: int, cold: bool) -> Any:
        if cold:
            runtime.memory.clear()
        asked = replace(sample, text=f"{SHORT} {next(words)}")
        task = "edit" if sample.references else "picture"
        return runtime.solve(task, [asked], steps=k, guidance=1.0, generator=generator())

    for side in sides:
        n = (side // config.picture.patch) ** 2
        for runtime in runtimes.values():
            runtime.warm_up(steps, [(side, side)])
        m = len(runtimes[""].text([f"{SHORT} 10"]))
        for count in counts:
            references = tuple(rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count))
            sample = Sample("0", np.zeros((side, side, 3), np.uint8), SHORT, references=references)
            actions, kinds = yardsticks()[0], list[tuple[str, int, str]]()
            for k in steps:
                for how, runtime in runtimes.items():
                    for memory in ("cold", "warm") if count and k == 4 else ("warm",):
                        kinds.append((f"{k} {memory}{how}", k, memory))
                        actions[kinds[-1][0]] = partial(ours, runtime, sample, k, memory == "cold")
            if theirs is not None:
                given = partial(their_request, theirs, config, side, list(references), m, 4)
                actions["b"] = torch.inference_mode()(given)
            seconds = interleaved(actions, rounds)
            if long:
                again = partial(pipe.solve, "edit" if count else "picture", [sample], steps=LONG, guidance=GUIDANCE)
                seconds["a"] = interleaved({"a": again}, long, warmup=0)["a"]
            floor = Floor(config, seconds)
            for name, k, memory in kinds:
                least = 1000 * floor.request(n, [m, *[n] * count], [m, *([n] * count if memory == "cold" else [])], k)
                own = summary(seconds[name])
                cell = {"tokens": n, "references": count, "steps": k, "memory": memory, **own}
                cell |= {"exported": name.endswith("exported"), "floor": round(least, 2)}
                cell["to_floor"] = round(own["p50"] / least, 3)
                for yardstick in ("a", "b") if k == 4 else ():
                    if yardstick in seconds:
                        cell[yardstick] = summary(seconds[yardstick])["p50"]
                        cell[f"{yardstick}_over_ours"] = round(cell[yardstick] / own["p50"], 3)
                cells.append(cell)
            cells[-1] |= {"gflops": round(floor.flops / 1e9, 1), "gigabytes_per_s": round(floor.bandwidth / 1e9, 2)}
            keep(cells)
    peer = None if theirs is None else sum(p.numel() for p in theirs.parameters())
    facts = {"parameters": pipe.net.parameter_count, "diffusers_parameters": peer}
    return {"facts": facts, "cells": cells}


def control(rounds: int, steps: tuple[int, ...]) -> list[dict[str, Any]]:
    """The next 16 actions of a robot from a new picture, and the next frame of a world, one by one and four at once."""
    config = micro_all()
    runtime, cells = Runtime(model(config)), []
    rng = np.random.default_rng(SEED)
    text = len(runtime.text([SHORT]))
    for k in steps:

        def act(k: int = k) -> None:
            seen, state = rng.integers(0, 256, (1, 64, 64, 3), np.uint8), np.zeros((1, 3), np.float32)
            runtime.actions(seen, [SHORT], "tabletop", state, 3, 16, 10.0, steps=k, generator=generator())

        actions = {**yardsticks()[0], "act": act}
        for count in (1, 4):
            rollout = runtime.rollout(rng.integers(0, 256, (64, 64, 3), np.uint8), SHORT, "tabletop", 10.0, steps=k)
            rollout.step(np.zeros((17, 3), np.float32))  # the window is full
            moves = rng.uniform(-1, 1, (count, 3)).astype(np.float32)
            actions[f"{count}"] = lambda rollout=rollout, moves=moves: rollout.step(moves)
        seconds = interleaved(actions, max(6, rounds))
        least = 1000 * Floor(config, seconds).request(16, [text, 64, 1], [64, 1], k)
        own = summary(seconds["act"])
        cells.append({"what": "action chunk", "steps": k, **own, "floor": round(least, 2),
                      "to_floor": round(own["p50"] / least, 3)})  # fmt: skip
        for per in (1, 4):
            mean = statistics.mean(seconds[f"{per}"]) / per
            what = f"world, {per} action{'s' * (per > 1)} at a time"
            cells.append({"what": what, "steps": k, **summary(seconds[f"{per}"]), "frames_per_s": round(1 / mean, 1)})
    return cells


def rows_of(found: dict[str, Any]) -> list[Row]:
    """The claims, as lines of the report."""
    rows = []
    for cell in found["pictures"]["cells"]:
        if cell["steps"] != 4:
            continue
        count, memory = cell["references"], cell["memory"]
        name = f"runtime, {cell['tokens']} tokens, {count} references {memory}" + ", exported" * cell["exported"]
        goal = GOALS[cell["tokens"]].get((count, memory))
        target = f"≤ {goal}" if goal else ""
        rows.append(Row(name, cell["p95"], "ms", target, f"p50 {cell['p50']} ms", cell))
        rows.append(Row("  over the floor", cell["to_floor"], "×", "≤ 1.5"))
        if "a_over_ours" in cell:
            rows.append(Row(f"  {LONG} guided steps of the pipeline over it", cell["a_over_ours"], "×", "≥ 15"))
        if "b_over_ours" in cell:
            rows.append(Row("  diffusers over it", cell["b_over_ours"], "×", "≥ 1"))
    for cell in found["control"]:
        if cell["steps"] != 4:
            continue
        if "frames_per_s" in cell:
            rows.append(Row(f"{cell['what']}, 4 steps", cell["frames_per_s"], "frames/s", "≥ 15", details=cell))
        else:
            rows.append(Row(f"{cell['what']}, 4 steps", cell["p95"], "ms", "≤ 30", details=cell))
    return rows


def page(found: dict[str, Any]) -> str:
    """The figures of 4 steps as the tables of docs/realtime.md."""
    where = found["machine"]
    lines = [
        f"{where['cpu']}, {where['instructions']}, {where['threads']} thread, CPU time, load {where['load']} (other "
        f"processes on the same core), torch {where['torch']}, {found['settings']['rounds']} rounds, 4 steps. "
        "`micro` with random weights.",
        "",
        "| tokens | references | memory | step | p50, ms | p95, ms | goal of two quiet cores | over the floor "
        "| a over it | b over it |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for c in found["pictures"]["cells"]:
        if c["steps"] == 4:
            goal = GOALS[c["tokens"]].get((c["references"], c["memory"]), "")
            ratios = [f"{c[key]:.1f}" if key in c else "" for key in ("to_floor", "a_over_ours", "b_over_ours")]
            how = "exported" if c["exported"] else "eager"
            cells = [c["tokens"], c["references"], c["memory"], how, c["p50"], c["p95"], goal, *ratios]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "| `micro-all`, eager | steps | p50, ms | p95, ms | frames a second |", "|---|---|---|---|---|"]
    for c in found["control"]:
        lines.append(f"| {c['what']} | {c['steps']} | {c['p50']} | {c['p95']} | {c.get('frames_per_s', '')} |")
    return "\n".join(lines)


def realtime(rounds: int) -> list[Row]:
    """The short form: 64 tokens, 4 steps."""
    return rows_of({"pictures": pictures(rounds, (64,), (0, 1, 10), (4,)), "control": control(1, (4,))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the short form")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--long", type=int, default=1, help="rounds of yardstick a, which takes long")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128])
    parser.add_argument("--references", type=int, nargs="+", default=[0, 1, 4, 10])
    parser.add_argument("--exported", type=Path, help="a package to measure too; made (with a C++ compiler) if missing")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; with 1, CPU time is measured")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--page", type=Path, help="measure nothing: copy the figures of this file to docs/realtime.md")
    a = parser.parse_args()
    if a.page:
        text = PAGE.read_text()
        before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
        PAGE.write_text(f"{before}\n{page(json.loads(a.page.read_text()))}\n{after}")
        return
    torch.set_num_threads(a.threads)
    if a.quick:
        print(table(realtime(3)))
        return
    settings = {"seed": SEED, "rounds": a.rounds, "long_steps": LONG, "long_guidance": GUIDANCE}
    found: dict[str, Any] = {"machine": machine(), "settings": settings, "pictures": {"cells": []}, "control": []}

    def keep(cells: list[Any] | None = None) -> None:  # a run cut short keeps what it has
        if cells is not None:
            found["pictures"]["cells"] = cells
        if a.json:
            write_json(a.json, found)

    found["control"] = control(a.rounds, STEPS)
    keep()
    found["pictures"] = pictures(a.rounds, tuple(a.sides), tuple(a.references), STEPS, a.long, a.exported, keep)
    keep()
    print(table(rows_of(found)))
    print(json.dumps(found["machine"]))


if __name__ == "__main__":
    main()
