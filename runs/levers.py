"""Does Self-Flow help, and if not, which lever makes it? Each alone, against flow matching, REPA and plain Self-Flow.

Purpose: the target of Self-Flow is soon predictable from what patches look like (cosine > .95 within 200 steps here),
and then teaches nothing. Each lever makes student and teacher differ more, or does without the teacher. All train one
small network (3.6 million parameters, 32² pixels in 64 tokens) on the same pictures, in the same order, with the same
noise and initial weights for a seed, so that differences are taken seed by seed.

Measured, of the averaged weights (`--ema`: one that forgets the initial weights within a fraction of the run, or it is
they that are measured), on pictures never trained on: velocity loss per noise level at twenty points of a run
(so that levers can be compared at equal steps, and after the time that flow matching took); cosine, also
with the means of prediction and target taken away, and ranks; and what a linear probe reads off every layer.

Expected: raw targets neutral. A lever is worth its cost where its interval against flow matching lies below 0 at equal
time.

    .venv/bin/python runs/levers.py [--seeds 3] [--steps 3000] [--levers "flow matching" whitened "whitened + noisier"]
    python3 runs/levers.py --device cuda --batch 128 --steps 10000 --minutes 9     # and again, until it is done
    .venv/bin/python runs/levers.py --quick --out /tmp/levers                      # seconds
    .venv/bin/python runs/levers.py --page docs/figures/levers.json                # the figure and the page

Goes on where it stopped; the table and the figure are of what is finished. `--source emoji` trains on the
emoji pack instead.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfflow import flow
from selfflow.config import Config
from selfflow.data.sample import Sample
from selfflow.evaluate import labelled
from selfflow.evaluate.curves import along, at_time, band, draw, legend, less
from selfflow.evaluate.distances import interval
from selfflow.evaluate.measures import chosen
from selfflow.evaluate.pages import markdown, plus_minus
from selfflow.evaluate.probes import pooled_features, probe_accuracy
from selfflow.evaluate.trials import arguments, finished, publish, write_summary
from selfflow.evaluate.velocity_loss import velocity_loss
from selfflow.modalities.text import BytePairs, TextEncoder
from selfflow.objectives import FlowMatching
from selfflow.objectives.alignment import Aligned
from selfflow.objectives.auxiliary import cosine
from selfflow.objectives.base import effective_rank
from selfflow.pipeline import build_modalities
from selfflow.recipes import micro
from selfflow.tasks import named
from selfflow.times import Draws, Times
from selfflow.tokens import Tokens
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import Engine
from selfflow.train.run import build_objective
from selfflow.train.trainer import Trainer, TrainState, read_metrics

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
PROBED = (0.1, 0.5)  # noise levels at which features are probed
POINTS = 20  # of a run at which it is measured
PAGE = Path(__file__).resolve().parents[1] / "docs" / "evidence.md"
FLOW_MATCHING, SELF_FLOW = "flow matching", "Self-Flow"
COLOURS = ("#2563eb", "#15803d", "#9333ea", "#b45309", "#0e7490", "#be185d", "#4d7c0f", "#1e293b")

Lever = Callable[[Config], Config]


def objective(**changes: Any) -> Lever:
    return lambda c: replace(c, objective=replace(c.objective, **changes))


def density(**changes: Any) -> Lever:
    return lambda c: objective(density=replace(c.objective.density, **changes))(c)


def mid_velocity(c: Config) -> Config:
    return objective(mid_weight=0.5)(replace(c, network=replace(c.network, mid=c.network.depth // 2)))


# Joined by " + " they act together, in order. Those without a teacher are of flow matching: "flow matching + sync".
LEVERS: dict[str, Lever] = {
    FLOW_MATCHING: objective(kind="flow_matching"),
    SELF_FLOW: lambda c: c,
    "REPA": objective(kind="repa", gamma=0.5),  # of the pack mobilenetv2_feats
    "centred": objective(target="centred"),
    "whitened": objective(target="whitened"),
    "least gap": objective(min_gap=0.3),
    "large gaps": objective(gap_from=0.3),
    "gap-weighted": objective(gap_power=1.0),
    "noisier": objective(tokens="noisier"),
    "half": objective(mask_ratio=0.5),
    "some plain": objective(plain_share=0.25),
    "early to late": lambda c: objective(student_layer=1, teacher_layer=c.network.depth - 1)(c),
    "near layers": lambda c: objective(student_layer=c.network.depth // 2, teacher_layer=c.network.depth // 2 + 1)(c),
    "late start": objective(gamma_from=0.2),
    "early stop": objective(gamma_until=0.5),
    "short EMA": objective(ema_decay=0.99),
    "long EMA": objective(ema_decay=0.9995),
    "EMA warm-up": objective(ema_decay=0.9995, ema_warmup=True),
    "noise floor": density(floor=0.05),
    "mid": mid_velocity,
    "clean": objective(clean_weight=1.0),
    "sync": objective(sync_weight=0.2),
    "coarse": lambda c: replace(c, picture=replace(c.picture, patch=2 * c.picture.patch)),
}
# What flow matching has as well, and is compared with only so: other tokens are another loss, and another average,
# which is what is measured, forgets initial weights sooner or later.
SHARED = ("coarse", "short EMA", "long EMA", "EMA warm-up")
DEFAULT = [
    FLOW_MATCHING, SELF_FLOW, "REPA", "centred", "whitened", "least gap", "large gaps", "gap-weighted", "noisier",
    "half", "some plain", "early to late", "near layers", "late start", "early stop", "flow matching + short EMA",
    "short EMA", "flow matching + long EMA", "long EMA", "flow matching + EMA warm-up", "EMA warm-up", "noise floor",
    "flow matching + mid", "flow matching + clean", "flow matching + sync", "mid", "flow matching + coarse",
    "coarse", "whitened + noisier + least gap",
]  # fmt: skip


def configure(a: argparse.Namespace, lever: str, seed: int) -> Config:
    """The small run with one lever, or several, pulled."""
    c = micro()
    c = replace(
        c,
        network=replace(c.network, width=a.width, depth=a.depth, heads=max(1, a.width // 32)),
        picture=replace(c.picture, size=a.size, patch=a.patch, codec=a.codec),
        text=replace(c.text, vocabulary=a.vocabulary),
        train=replace(c.train, steps=a.steps, batch_size=a.batch, seed=seed, device=a.device, threads=a.threads),
        objective=replace(c.objective, ema_decay=a.ema),
    )
    for name in lever.split(" + "):
        if name not in LEVERS:
            raise SystemExit(f"unknown lever {name!r}; choose from {', '.join(LEVERS)}")
        c = LEVERS[name](c)
    return c


# ----------------------------------------------------------------------------------------------------------- pictures


def pictures(a: argparse.Namespace) -> tuple[list[Sample], list[Sample], list[Sample], dict[str, list[int]]]:
    """Pictures to train on, held-out ones, ones to probe with, and the labels of these."""
    if a.source == "tabletop":
        from selfflow.data.scenes import TabletopScenes

        train, test = TabletopScenes(a.pictures, a.size), TabletopScenes(a.held_out, a.size, "test")
        return (
            [train[i] for i in range(len(train))],
            [test[i] for i in range(len(test))],
            *labelled.single_things(a.probe, a.size),
        )
    from selfflow.data.emoji import Emoji

    train = Emoji("train", size=a.size)
    some = [train[i] for i in chosen(len(train), a.pictures, 0)]
    return some, labelled.emoji(a.held_out, a.size)[0], *labelled.emoji(a.probe, a.size, a.held_out)


@dataclass
class Material:
    """All pictures as tokens, on the device."""

    train: Tokens
    train_text: Tokens
    test: Tokens
    test_text: Tokens
    probe: Tokens
    empty: Tokens
    ids: list[str]
    labels: dict[str, Tensor]


def material(a: argparse.Namespace, config: Config, drawn: Any, text: TextEncoder, device: torch.device) -> Material:
    """The tokens of a configuration: patches of its size, through its codec."""
    train, test, probe, labels = drawn
    modalities, task = build_modalities(config, text), named("picture")

    def tokens(samples: list[Sample]) -> Tokens:
        parts = [modalities.streams(samples[i : i + 64], task)["visual"] for i in range(0, len(samples), 64)]
        one = parts[0][:1]
        data = torch.cat([p.data for p in parts])
        return replace(one, data=data, positions=one.positions.expand(len(data), -1, -1)).to(device)

    def words(samples: list[Sample]) -> Tokens:
        found = text([*(s.text for s in samples), ""])  # all of one length, the empty prompt last
        return replace(found, mask=found.full_mask).to(device)

    return Material(
        tokens(train), words(train), tokens(test), words(test)[: len(test)], tokens(probe), text([""]).to(device),
        [s.id for s in test], {name: torch.tensor(values) for name, values in labels.items()},
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Rows:
    """A batch: which pictures."""

    rows: list[int]

    @property
    def ids(self) -> list[str]:
        return [str(row) for row in self.rows]

    def split(self, parts: int) -> list[Rows]:
        size = len(self.rows) // parts
        return [Rows(self.rows[i * size : (i + 1) * size]) for i in range(parts)]


class Order(Iterator[Rows]):
    """Endless batches of row numbers, a function of seed and position."""

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count, self.batch_size, self.seed, self.position = count, batch_size, seed, 0

    def __next__(self) -> Rows:
        rows = np.random.default_rng((self.seed, self.position)).integers(0, self.count, self.batch_size)
        self.position += 1
        return Rows(rows.tolist())

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position, "skipped": 0}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position = state["position"]


def preparing(m: Material, drop: float) -> Callable[..., tuple[Tokens, list[Tokens]]]:
    """Rows to pictures and captions, some of which are dropped."""

    def prepare(batch: Rows, draws: Draws, device: torch.device) -> tuple[Tokens, list[Tokens]]:
        rows = torch.tensor(batch.rows)
        told = torch.where(draws.uniform(len(rows)).cpu() < drop, len(m.train_text.data) - 1, rows).to(device)
        return m.train[rows.to(device)], [m.train_text[told]]

    return prepare


@torch.inference_mode()
def held_out(owner: FlowMatching, m: Material, engine: Engine) -> dict[str, float]:
    """Velocity loss of the averaged weights at each level, told the caption."""

    def predict(x_t: Tensor, t: Tensor, rows: slice) -> Tensor:
        with engine.autocast():
            return owner.ema(m.test[rows].with_data(x_t), t, [m.test_text[rows]])[0]

    return {str(t): mean for t, (mean, _) in velocity_loss(predict, m.test.data, m.ids, LEVELS).items()}


@torch.inference_mode()
def geometry(owner: FlowMatching, config: Config, m: Material, engine: Engine) -> dict[str, Any]:
    """Ranks of all layers; with a teacher, how well held-out targets are predicted, raw and less the means."""
    layers, data = range(1, config.network.depth + 1), m.test[:128]
    known, draws = [m.test_text[: len(data.data)]], Draws.at(0, 0)
    noise = draws.normal(*data.data.shape).to(engine.device)
    clean = Times.shared(torch.full((len(noise),), PROBED[0], device=engine.device))
    with engine.autocast():
        x_t = data.with_data(flow.interpolate(data.data, noise, clean.per_token))
        found: dict[str, Any] = {
            "ranks": [float(effective_rank(f)) for f in owner.ema(x_t, clean, known, taps=layers)[1]]
        }
        if isinstance(owner, Aligned):
            times = owner.times(len(noise), len(data), draws, data.spans).to(engine.device)
            x_t = data.with_data(flow.interpolate(data.data, noise, times.per_token))
            said = owner.head(owner.net(x_t, times, known, taps=(owner.student_layer,), stop=True)[1][0]).float()
            target = owner.teach(data, data.data, noise, times, (known,)).float()
            if owner.target is not None:
                target = owner.target(target, data.spans)
            noisier = times.per_token > times.levels.amin(dim=1, keepdim=True)
            found["cosine"] = float(cosine(said, target))
            centred = said - said.mean(dim=(0, 1)), target - target.mean(dim=(0, 1))
            found["cosine centred"] = float(cosine(*centred))
            found["cosine centred, noisier tokens"] = float(cosine(*centred, noisier))
            found["rank of target"] = float(effective_rank(target))
    return found


def probes(owner: FlowMatching, config: Config, m: Material, engine: Engine) -> dict[str, dict[str, list[float]]]:
    """label → noise level → accuracy by layer, on half of the pictures, of a probe fitted on the other half."""
    layers, half = range(1, config.network.depth + 1), len(m.probe.data) // 2

    def features(x_t: Tensor, t: Tensor, rows: slice) -> list[Tensor]:
        with engine.autocast():
            return owner.ema(m.probe[rows].with_data(x_t), t, [m.empty.repeat(len(t))], taps=layers, stop=True)[1]

    found: dict[str, dict[str, list[float]]] = {name: {} for name in m.labels}
    for level in PROBED:
        by_layer = pooled_features(features, m.probe.data, [str(i) for i in range(len(m.probe.data))], level)
        for name, y in m.labels.items():
            found[name][str(level)] = [probe_accuracy(x[:half], y[:half], x[half:], y[half:]) for x in by_layer]
    return found


def train_run(a: argparse.Namespace, config: Config, m: Material, text: TextEncoder, directory: Path) -> dict[str, Any]:
    """Train one lever with one seed, measuring on the way; the figures, from their JSON if it is there."""
    path, curve_path = directory / "result.json", directory / "curve.json"
    if (done := finished(directory, config)) is not None:
        return done
    engine = Engine(config.train.device, config.train.precision, threads=config.train.threads)
    owner = build_objective(config, text, engine.device)
    c, marks = config.train, {max(1, config.train.steps * i // POINTS) for i in range(1, POINTS + 1)}
    curve = json.loads(curve_path.read_text()) if curve_path.exists() else {}

    def measure(state: TrainState) -> None:
        if state.step in marks:
            curve[str(state.step)] = held_out(owner, m, engine)
            write_json(curve_path, curve)

    order = Order(len(m.train.data), c.batch_size, c.seed)
    Trainer(
        owner, order, preparing(m, c.text_drop), directory, engine, config.optim, c.steps, seed=c.seed,
        save_every=500, hooks=[measure], progress=a.progress,
    ).run()  # fmt: skip
    log = read_metrics(directory / "metrics.jsonl")
    if not log or log[-1]["step"] < c.steps:
        raise SystemExit("stopped; the same command goes on from here")
    owner.eval()
    keys = sorted({k for row in log for k in row if k.startswith(("cosine", "rank", "loss_"))})
    result = {
        "config": dataclasses.asdict(config),
        "seconds a step": statistics.median(row["seconds"] for row in log),
        "curve": {step: curve[step] for step in sorted(curve, key=int)},
        "training": {k: [[r["step"], r[k]] for r in log[:: max(1, c.steps // 100)] if k in r] for k in keys},
        "geometry": geometry(owner, config, m, engine),
        "probes": probes(owner, config, m, engine),
    }
    write_json(path, result)
    if not a.keep:
        rmtree(directory / "checkpoints")
    return result


# ------------------------------------------------------------------------------------------------------------- figures


def loss_at(run: dict[str, Any], seconds: float | None = None) -> float:
    """Velocity loss at the end, or after some time of training, between the points measured.

    The geometric mean over levels: at t = 0.1 an error in the data counts 80 times as much as at 0.9.
    """
    curve = {int(s): statistics.geometric_mean(levels.values()) for s, levels in run["curve"].items()}
    pace = run["seconds a step"]
    return at_time(curve, pace, max(curve) * pace if seconds is None else seconds)


def on_the_way(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures by step: velocity loss, and of the batches trained on the cosine and the rank of what is predicted."""
    found: dict[str, Any] = {
        "velocity loss": {s: interval([statistics.geometric_mean(r["curve"][s].values()) for r in runs])
                          for s in runs[0]["curve"]}
    }  # fmt: skip
    for name, keys in {"cosine": ["cosine"], "rank of target": ["rank_target", "rank_teacher"]}.items():
        logs = [next((r["training"][k] for k in keys if r["training"].get(k)), None) for r in runs]
        if all(logs):
            points = list(zip(*logs, strict=True))[:: max(1, len(logs[0]) // POINTS)]
            found[name] = {str(rows[0][0]): interval([value for _, value in rows]) for rows in points}
    return found


def summarise(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Means and intervals of every lever, and of its paired differences from flow matching with the same `SHARED`."""
    summary: dict[str, Any] = {}
    for lever, own in runs.items():
        base = " + ".join([FLOW_MATCHING, *(part for part in lever.split(" + ") if part in SHARED)])
        plain = runs.get(base, [])[: len(own)]
        best = {
            name: interval([max(max(layers) for layers in r["probes"][name].values()) for r in own])
            for name in own[0]["probes"]
        }
        shapes = [r["geometry"] for r in own]
        geometry = {k: interval([g[k] for g in shapes]) for k in shapes[0] if k != "ranks"}
        geometry["ranks"] = along(g["ranks"] for g in shapes)
        row: dict[str, Any] = {
            "seeds": len(own),
            "seconds a step": interval([r["seconds a step"] for r in own]),
            "velocity loss": interval([loss_at(r) for r in own]),
            "by level": {t: interval([list(r["curve"].values())[-1][t] for r in own]) for t in map(str, LEVELS)},
            "probe, best layer": best,
            "probe along depth": {n: along(r["probes"][n][str(PROBED[0])] for r in own) for n in own[0]["probes"]},
            "curves": on_the_way(own),
            "geometry": geometry,
        }
        pairs = list(zip(own, plain, strict=False))
        if pairs:
            row["against"] = base
            row["equal steps"] = interval([loss_at(r) - loss_at(p) for r, p in pairs])
            end = [max(int(s) for s in p["curve"]) * p["seconds a step"] for _, p in pairs]
            row["equal time"] = interval([loss_at(r, t) - loss_at(p) for (r, p), t in zip(pairs, end, strict=True)])
        summary[lever] = row
    return summary


def table(summary: dict[str, Any]) -> str:
    """In Markdown. Differences are from flow matching with the same `SHARED`; bold ones leave 0 out."""
    labels = list(next(iter(summary.values()))["probe, best layer"])
    rows: list[Sequence[object]] = []
    for lever, row in summary.items():
        g, ranks, against = row["geometry"], row["geometry"]["ranks"], row.get("against") not in (None, lever)
        own = f"{plus_minus(ranks[round(0.7 * len(ranks)) - 1], 1)} (its own layer)"
        rows.append([
            lever, row["seeds"], f"{1000 * row['seconds a step']['mean']:.0f}", plus_minus(row["velocity loss"], 3),
            *(plus_minus(row[how], 3, mark=True) if against else "" for how in ("equal steps", "equal time")),
            *(plus_minus(g[k], 3) if k in g else "" for k in ("cosine", "cosine centred")),
            plus_minus(g["rank of target"], 1) if "rank of target" in g else own,
            *(plus_minus(row["probe, best layer"][name], 2) for name in labels),
        ])  # fmt: skip
    head = ["", "seeds", "ms a step", "velocity loss", "less flow matching's, equal steps", "equal time", "cosine"]
    return markdown([*head, "less means", "rank of the target", *(f"{name}, best layer" for name in labels)], rows)


def show(summary: dict[str, Any], path: Path) -> None:
    """Along the run: velocity loss, less flow matching's, cosine, rank of the target; along depth: ranks and probes."""
    labels = list(next(iter(summary.values()))["probe along depth"])[:2]
    looks = {FLOW_MATCHING: ("#7a7a7a", "-"), SELF_FLOW: ("#c2410c", "-")}
    others = ((colour, style) for style in ("-", "--", ":", "-.") for colour in COLOURS)
    looks |= dict(zip((lever for lever in summary if lever not in looks), itertools.cycle(others), strict=False))

    def paint(axes: Any) -> None:
        loss, against, cosines, target = axes[0]
        ranks, *probes, key = axes[1]

        def by_step(axis: Any, lever: str, values: dict[str, Any]) -> None:
            band(axis, [int(s) for s in values], list(values.values()), looks[lever][0], lever, looks[lever][1])

        def by_layer(axis: Any, lever: str, values: list[dict[str, Any]]) -> None:
            band(axis, range(1, len(values) + 1), values, looks[lever][0], lever, looks[lever][1])

        for lever, row in summary.items():
            curves = row["curves"]
            by_step(loss, lever, own := curves["velocity loss"])
            if row.get("against") not in (None, lever):
                base = summary[row["against"]]["curves"]["velocity loss"]
                by_step(against, lever, dict(zip(own, less(list(own.values()), list(base.values())), strict=True)))
            for axis, name in ((cosines, "cosine"), (target, "rank of target")):
                if name in curves:
                    by_step(axis, lever, curves[name])
            by_layer(ranks, lever, row["geometry"]["ranks"])
            for axis, label in zip(probes, labels, strict=False):
                by_layer(axis, lever, row["probe along depth"][label])
        loss.set(title="velocity loss, held out", yscale="log", xlabel="step")
        against.axhline(0, color="#7a7a7a", linewidth=0.8)
        against.set(title="less flow matching's", xlabel="step")
        cosines.set(title="cosine", xlabel="step")
        target.set(title="effective rank of the target", yscale="log", xlabel="step", ylim=(0.9, None))
        ranks.set(title="effective rank", xlabel="layer")
        for axis, label in zip(probes, labels, strict=False):
            axis.set(title=f"probe: {label}", xlabel="layer")
        key.set_axis_off()
        legend(key, loss, fontsize=7, loc="center")

    draw(path, 2, 4, paint)


def main(given: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "levers", "$OUT/levers.json, or levers.json in --out")
    parser.add_argument("--levers", nargs="+", default=DEFAULT, help="names, joined by ' + ' to act together")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--ema", type=float, default=0.998, help="of the average that is measured; 0.99 in short runs")
    parser.add_argument("--source", choices=("tabletop", "emoji"), default="tabletop")
    parser.add_argument("--pictures", type=int, default=8192, help="to train on")
    parser.add_argument("--held-out", type=int, default=256)
    parser.add_argument("--probe", type=int, default=1536, help="pictures, half to fit and half to test")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--patch", type=int, default=4)
    parser.add_argument("--codec", default="", help="train in its latents rather than in pixels")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=640)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further run after this long")
    parser.add_argument("--keep", action="store_true", help="keep the last checkpoints of finished runs")
    a = parser.parse_args(given)
    if a.page:
        publish(a.page, "levers", PAGE, "levers", table, show)
        return
    if a.quick:
        a.steps, a.batch, a.pictures, a.held_out, a.probe = 4, 4, 16, 4, 24
        a.size, a.width, a.depth, a.vocabulary, a.seeds = 16, 32, 3, 270, min(a.seeds, 2)
    began = time.monotonic()
    a.json = a.json or Path(os.environ.get("OUT", a.out)) / "levers.json"
    for lever in a.levers:
        configure(a, lever, 0)  # refuses unknown names before any work
    drawn = pictures(a)
    text = BytePairs.train([s.text for s in drawn[0]], a.vocabulary, 32)
    device = Engine(a.device, threads=a.threads).device
    made: dict[int, Material] = {}  # by side of the patch
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in range(a.seeds):
        for lever in a.levers:
            config = configure(a, lever, seed)
            directory = a.out / f"{lever.replace(' + ', '+').replace(' ', '-')}-{seed}"
            if time.monotonic() - began > 60 * a.minutes and not (directory / "result.json").exists():
                print(f"time is up before {directory.name}: the same command goes on from there")
                return
            patch = config.picture.patch
            if patch not in made:
                made[patch] = material(a, config, drawn, text, device)
            runs.setdefault(lever, []).append(train_run(a, config, made[patch], text, directory))
            summary = summarise(runs)
            write_summary(a, "levers", summary)
        print(table(summary), flush=True)
    show(summary, a.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
