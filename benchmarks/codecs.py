"""Codecs measured: what they lose, what decoding costs, and whether latents are worth it on a CPU.

    python benchmarks/codecs.py [--quick] [--work DIR] [--json FILE] [--seconds S] [--steps N] [--seeds 0 1 2]

Trains the two picture codecs on emoji (on tabletop scenes where that pack is absent), then the same small network in
pixels and in the latents of each, all in 64 tokens, for the same CPU seconds, with each seed; pixels also for as much
longer as a codec costs beforehand. One thread; about 25 minutes of CPU time, half a minute with `--quick` (which checks
that it runs, and measures nothing). Run again with the same `--work`, it goes on where it was, whole seeds first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow import sample
from selfflow.codecs import Codec, Identity, load_codec
from selfflow.data.packs import PackMissing
from selfflow.data.registry import open_named
from selfflow.evaluate.distances import kid, wilson
from selfflow.evaluate.features import mobilenet_v2
from selfflow.evaluate.reconstruction import figures
from selfflow.modalities.pixels import to_pixels, to_values
from selfflow.modalities.text import BytePairs
from selfflow.modalities.visual import Patches
from selfflow.nn import Transformer
from selfflow.objectives import FlowMatching
from selfflow.recipes import nano
from selfflow.times import Draws, schedule
from selfflow.train import checkpoint
from selfflow.train.codec import CODEC_RECIPES, train_codec
from selfflow.train.engine import Engine
from selfflow.train.optimizer import build_optimizers, set_rate
from selfflow.train.trainer import read_metrics
from timing import Row, machine, table

GUIDANCE, SAMPLING_STEPS, DROP = 2.0, 16, 0.1
SEGMENTS = 1  # places to look at, and to resume from


@dataclass(frozen=True)
class Plan:
    """How much of everything. `seconds` of CPU train each network; `steps` of `batch` pictures train each codec.

    `beforehand` is what a codec costs before a network can learn in its latents, training and encoding (about 150 CPU
    seconds here): pixels are looked at once more when they have had this time, too.
    """

    size: int = 64
    pictures: int = 4096
    held_out: int = 256
    codecs: tuple[str, ...] = ("codec-picture", "codec-picture-8")
    steps: int = 300
    batch: int = 16
    seconds: float = 60.0
    beforehand: float = 160.0
    seeds: tuple[int, ...] = (0, 1, 2)


QUICK = Plan(32, 48, 16, ("codec-picture",), 3, 4, 0.4, 0.4, (0,))


@dataclass(frozen=True)
class Pictures:
    """uint8 `(n, H, W, 3)` and their captions."""

    pixels: np.ndarray
    captions: list[str]

    @staticmethod
    def read(source: Any, count: int) -> Pictures:
        chosen = [source[int(i)] for i in np.linspace(0, len(source) - 1, min(count, len(source)))]
        return Pictures(np.stack([s.picture for s in chosen]), [s.text for s in chosen])


@dataclass(frozen=True)
class Arm:
    """One way to see pictures: a codec, and the patches of its latents."""

    name: str
    codec: Codec
    patches: Patches

    def tokens_of(self, pixels: np.ndarray) -> Tensor:
        values = to_values(list(pixels))
        return torch.cat([self.patches.tokens(self.codec.encode(part)).data for part in values.split(64)])

    def pixels_of(self, data: Tensor, size: int) -> np.ndarray:
        inner = size // self.codec.factor
        decoded = [self.codec.decode(self.patches.pictures(part, inner, inner)) for part in data.split(64)]
        return to_pixels(torch.cat(decoded))


def arms(work: Path, plan: Plan) -> Iterator[Arm]:
    """Pixels, then the latents of each codec, all in (size / 8)² tokens."""
    yield Arm("pixels", Identity(), Patches(8))
    for name in plan.codecs:
        codec = load_codec(work / name)
        yield Arm(name, codec, Patches(8 // codec.factor, codec.channels))


class Trial:
    """A small network that learns to draw in one arm, for so many CPU seconds, in segments that can be resumed."""

    def __init__(self, arm: Arm, train: Pictures, text: BytePairs, directory: Path, seed: int) -> None:
        self.arm, self.train, self.text, self.directory, self.seed = arm, train, text, directory, seed
        recipe = nano()
        torch.manual_seed(seed)
        net = Transformer(recipe.network.build({"text": text.modality, "visual": arm.patches.modality}))
        self.objective = FlowMatching(net, recipe.objective.density, recipe.objective.ema_decay)
        self.engine, self.optim = Engine("cpu", threads=1), replace(recipe.optim, cooldown=0.0)
        self.optimizers = build_optimizers(self.objective, self.optim)
        self.batch = min(recipe.train.batch_size, len(train.captions))
        self.step, self.seconds, self.encoding = 0, 0.0, 0.0
        self.data: Tensor | None = None
        if found := checkpoint.latest(directory):
            state = checkpoint.load(found, self.objective, self.optimizers)
            self.step, self.seconds = state["step"], state["cursor"]["seconds"]

    def run(self, until: float) -> None:
        """Train until so many CPU seconds have been spent, and leave a checkpoint."""
        if self.seconds >= until:
            return
        if self.data is None:
            began = time.process_time()
            self.data = self.arm.tokens_of(self.train.pixels)
            self.encoding = time.process_time() - began
        grid = self.arm.patches.tokens(self.arm.codec.encode(to_values(list(self.train.pixels[:1]))))
        began = time.process_time() - self.seconds
        while time.process_time() - began < until:
            self.one_step(self.data, grid)
        self.seconds = time.process_time() - began
        cursor = {"seconds": self.seconds}
        checkpoint.save(self.directory, self.step, self.objective, self.optimizers, cursor, self.engine, keep=1)

    def one_step(self, data: Tensor, grid: Any) -> None:
        draws = Draws.at(self.seed, self.step)
        rows = (draws.uniform(self.batch) * len(data)).long()
        captions = [self.train.captions[i] for i in rows.tolist()]
        dropped = (draws.uniform(self.batch) < DROP).tolist()
        known = self.text(["" if gone else c for c, gone in zip(captions, dropped, strict=True)])
        tokens = replace(grid, data=data[rows], positions=grid.positions.expand(self.batch, -1, -1))
        set_rate(self.optimizers, self.optim, self.optim.rate(self.step, self.step + 1))
        with self.engine.autocast():
            loss = self.objective(tokens, [known], draws=draws).total
        loss.backward()
        self.engine.clip([p for p in self.objective.parameters() if p.requires_grad], self.optim.clip)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.objective.after_step()
        self.step += 1

    @torch.inference_mode()
    def draw(self, captions: list[str], size: int) -> np.ndarray:
        """uint8 pictures of captions by the averaged weights; noise does not depend on the arm."""
        made = []
        inner = size // self.arm.codec.factor
        for start in range(0, len(captions), 64):
            prompts = captions[start : start + 64]
            generator = torch.Generator().manual_seed(1000 * self.seed + start)
            blank = torch.zeros(len(prompts), self.arm.patches.channels, inner, inner)
            grid, net = self.arm.patches.tokens(blank), self.objective.ema
            noise = sample.seeded_noise(tuple(grid.data.shape), generator)

            def against(memory: Any, grid: Any = grid, net: Any = net) -> sample.Velocity:
                return lambda x, t: net(grid.with_data(x), t.expand(len(x)), memory)[0]

            with self.engine.autocast():
                sides = [against(net.read([self.text(p)])) for p in (prompts, [""] * len(prompts))]
                velocity = sample.guided(sides[0], sides[1], GUIDANCE, (0.3, 1.0))
                made.append(sample.euler(velocity, noise, schedule(SAMPLING_STEPS)))
        return self.arm.pixels_of(torch.cat(made), size)


def score(made: np.ndarray, true: np.ndarray, features: Any) -> dict[str, Any]:
    """Kernel distance to the true pictures, and how often a picture is nearer its own true one than another's."""
    x, y = features(made), features(true)
    distance, error = kid(x, y)
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    hits = int(((x * y).sum(1) > (x * np.roll(y, len(y) // 2, axis=0)).sum(1)).sum())
    return {"kid": distance, "kid_error": error, "match": hits / len(x), "match_interval": wilson(hits, len(x))}


def decoding(codec: Codec, size: int) -> float:
    """CPU milliseconds to decode one picture: the fastest of five."""
    latents = torch.zeros(1, codec.channels, size // codec.factor, size // codec.factor)
    seconds = []
    for _ in range(6):
        began = time.process_time()
        codec.decode(latents)
        seconds.append(time.process_time() - began)
    return 1000 * min(seconds[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="check that it runs")
    parser.add_argument("--work", type=Path, default=Path("out/codecs"), help="where runs are kept and resumed")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--seconds", type=float, help="CPU seconds of each network")
    parser.add_argument("--steps", type=int, help="steps of each codec")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the networks")
    parser.add_argument("--only-codecs", action="store_true", help="leave the networks out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    plan = QUICK if given.quick else Plan()
    plan = replace(plan, **{k: v for k in ("seconds", "steps") if (v := getattr(given, k)) is not None})
    plan = plan if given.seeds is None else replace(plan, seeds=tuple(given.seeds))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary) if given.quick else given.work
        rows, details = measure(plan, work, given.only_codecs)
    print(table(rows))
    if given.json:
        told = {"machine": machine(), "quick": given.quick, "plan": vars(plan), **details}
        checkpoint.write_json(given.json, told)


def measure(plan: Plan, work: Path, only_codecs: bool) -> tuple[list[Row], dict[str, Any]]:
    """Everything, with what is done already read from `work`."""
    try:
        name, train_source = "emoji", open_named("emoji", plan.size)
    except PackMissing:
        name, train_source = "tabletop-still", open_named("tabletop-still", plan.size)
    test_source = open_named(name, plan.size, "test")
    test = Pictures.read(test_source, plan.held_out)
    rows: list[Row] = []
    details: dict[str, Any] = {"source": name, "codecs": {}, "networks": {}}
    for recipe in plan.codecs:
        details["codecs"][recipe] = told = codec_figures(recipe, plan, work, name, (train_source, test_source), test)
        note = (
            f"as few numbers by resizing {told['psnr_resized']:.1f}; "
            f"{told['decoder_parameters']:,} decoder parameters, {told['decode_ms']:.1f} ms to decode one"
        )
        rows.append(Row(f"{recipe}: PSNR", told["psnr"], "dB", note=note, details=told))
        if "perceptual" in told:
            note = (
                f"as few numbers by resizing {told['perceptual_resized']:.3f}, shifted by a pixel "
                f"{told['perceptual_shifted']:.3f}, another picture {told['perceptual_other']:.3f}"
            )
            rows.append(Row(f"{recipe}: perceptual distance", told["perceptual"], "", note=note))
    if only_codecs:
        return rows, details
    try:
        features = mobilenet_v2()
    except PackMissing as error:
        return [*rows, Row("pixels against latents", None, note=str(error))], details
    train = Pictures.read(train_source, plan.pictures)
    text = BytePairs.train(train.captions, 1024, 24)
    every = list(arms(work, plan))
    for seed in plan.seeds:
        for arm in every:
            found = network_figures(arm, plan, work, train, test, text, features, seed)
            details["networks"].setdefault(arm.name, {})[seed] = found
    for arm in every:
        runs = list(details["networks"][arm.name].values())
        for looks in zip(*(run["after"] for run in runs), strict=True):
            kids, matches = ([look[name] for look in looks] for name in ("kid", "match"))
            note = (
                f"{min(kids):.4f} … {max(kids):.4f} over {len(runs)} seeds; match {statistics.mean(matches):.3f} "
                f"({min(matches):.3f} … {max(matches):.3f}); {statistics.mean(look['step'] for look in looks):.0f} "
                f"steps; codec alone {runs[0]['ceiling']['kid']:.4f}"
            )
            name = f"{arm.name}: KID after {looks[0]['seconds']:.0f} CPU s"
            rows.append(Row(name, statistics.mean(kids), "", note=note))
    return rows, details


class Resized(Codec):
    """The floor of a codec: pictures made so small that they hold as many numbers as its latents, and large again."""

    kind, channels, factor = "resized", 3, 1

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def _encode(self, values: Tensor) -> Tensor:
        small = F.interpolate(values, (self.side, self.side), mode="bicubic", antialias=True)
        return F.interpolate(small, values.shape[-2:], mode="bicubic")

    def _decode(self, latents: Tensor) -> Tensor:
        return latents


def codec_figures(
    recipe: str, plan: Plan, work: Path, source: str, sources: tuple[Any, Any], test: Pictures
) -> dict[str, Any]:
    """Train a codec, or go on, and say what it loses of the held-out pictures."""
    config = replace(CODEC_RECIPES[recipe](), sources=(source,), size=plan.size)
    train = replace(config.train, steps=plan.steps, batch_size=plan.batch, save_every=50, device="cpu", threads=1)
    train_codec(replace(config, train=train), work / recipe, sources=sources)
    codec = load_codec(work / recipe)
    metrics = read_metrics(work / recipe / "metrics.jsonl")  # an earlier run may have gone further
    values = to_values(list(test.pixels))
    told: dict[str, Any] = figures(codec, values)
    resized = figures(Resized(round(plan.size * (codec.channels / codec.values) ** 0.5 / codec.factor)), values)
    told |= {f"{name}_resized": resized[name] for name in ("psnr", "perceptual") if name in resized}
    told |= {"steps": len(metrics), "batch": plan.batch}
    return told | {"decoder_parameters": codec.decoder_parameters, "decode_ms": decoding(codec, plan.size)}


def network_figures(
    arm: Arm, plan: Plan, work: Path, train: Pictures, test: Pictures, text: BytePairs, features: Any,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Train a network in one arm, or go on, and score it at the end of each of `SEGMENTS` parts of its time."""
    kept = work / f"network-{arm.name}-{seed}" / "figures.json"
    options = {k: v for k, v in vars(plan).items() if k != "seeds"} | {"codecs": list(plan.codecs)}
    found = json.loads(kept.read_text()) if kept.exists() else {"plan": options, "after": []}
    if found["plan"] != options:
        raise ValueError(f"{kept.parent} was made with other options; give another --work, or the same options")
    trial = Trial(arm, train, text, kept.parent / "checkpoints", seed)
    looks = [plan.seconds * (part + 1) / SEGMENTS for part in range(SEGMENTS)]
    looks += [plan.seconds + plan.beforehand] if arm.name == "pixels" else []
    for until in looks[len(found["after"]) :]:
        trial.run(until)
        began = time.process_time()
        made = trial.draw(test.captions, plan.size)
        drawing = (time.process_time() - began) / len(made)
        told = score(made, test.pixels, features)
        told |= {"seconds": round(trial.seconds, 1), "step": trial.step, "drawing_ms": round(1000 * drawing, 1)}
        found["after"].append(told)
        if "ceiling" not in found:
            found["encoding_seconds"] = round(trial.encoding, 1)
            found["ceiling"] = score(arm.pixels_of(arm.tokens_of(test.pixels), plan.size), test.pixels, features)
        checkpoint.write_json(kept, found)
    return found


if __name__ == "__main__":
    main()
