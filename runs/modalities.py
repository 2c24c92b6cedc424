"""Does Self-Flow help, modality by modality? Pictures, clips, sounds, actions, and all of them in one network.

Each group is trained by flow matching and by Self-Flow from the same weights, on the same data in the same order with
the same noise, several seeds, by the trainer itself, with each modality's own times and R_M. Held-out velocity loss of
the averaged weights (five noise levels, geometric mean) is taken at ten points of a run, so that the two can be
compared at equal steps and, between two points, after the time that flow matching took. Time is CPU seconds of one
thread (on a GPU, seconds), measuring not counted. At the end: effective rank of every layer, and what linear probes
read off it (object and colour; animation, direction and character; digit and speaker), the text hidden.

Floor of the loss: who knows mean and variance of the data alone. Floor of the probes: the most frequent label.

Found (docs/evidence.md): at this size, in 600 steps, Self-Flow is ahead at equal steps in the mixture, not told apart
alone, and at equal time not told apart in most. What more steps and a wider network show is open.

    .venv/bin/python runs/modalities.py [--seeds 3] [--steps 600] [--groups picture sound]   # an hour of one core
    python3 runs/modalities.py --device cuda --width 256 --depth 8 --batch 64 --steps 10000 --minutes 9
    .venv/bin/python runs/modalities.py --quick --out out/modalities-quick                   # seconds

    .venv/bin/python runs/modalities.py --page docs/figures/modalities.json                  # the figure and the page

Goes on where it stopped; the table and the figure are of what is finished.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shutil import rmtree
from statistics import fmean, geometric_mean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfflow.building import build_modalities
from selfflow.config import Config
from selfflow.data.loader import Batch
from selfflow.data.registry import open_named
from selfflow.data.sample import Sample
from selfflow.evaluate import labelled
from selfflow.evaluate.curves import along, at_time, band, draw, legend
from selfflow.evaluate.distances import interval
from selfflow.evaluate.measures import chosen
from selfflow.evaluate.pages import markdown, plus_minus
from selfflow.evaluate.probes import pooled_features, probe_accuracy
from selfflow.evaluate.trials import arguments, finished, publish, write_summary
from selfflow.evaluate.velocity_loss import velocity_loss
from selfflow.model_directory import load_quantiles
from selfflow.objectives.base import effective_rank
from selfflow.recipes import micro_all
from selfflow.times import Draws
from selfflow.tokens import Tokens
from selfflow.train.checkpoint import write_json
from selfflow.train.run import open_text, train
from selfflow.train.task import Prepare
from selfflow.train.trainer import TrainState, read_metrics

PARTS = {
    "picture": "tabletop-still:picture",
    "clip": "sprites-clip:clip",
    "sound": "digits:sound",
    "action": "pusht:act",
}
MIXTURE, MIXED = "mixture", " of the mixture"
COMPARED = ("equal steps", "equal time")
METHODS = {"flow matching": "flow_matching", "Self-Flow": "self_flow"}
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
PROBED = (0.1, 0.5)  # noise levels of the features
POINTS, CHUNK = 10, 32
PAGE = Path(__file__).resolve().parents[1] / "docs" / "evidence.md"


def configure(a: argparse.Namespace, group: str, method: str, seed: int) -> Config:
    """`micro-all`, smaller, of one modality or of all."""
    c = micro_all()
    mixed = group == MIXTURE
    return replace(
        c,
        data=replace(c.data, mixture=tuple(PARTS.values()) if mixed else (PARTS[group],), frames=a.frames, workers=0),
        text=replace(c.text, vocabulary=a.vocabulary, captions=a.captions),
        picture=replace(c.picture, size=a.size, patch=a.patch),
        network=replace(c.network, width=a.width, depth=a.depth, heads=max(1, a.width // 32)),
        objective=replace(c.objective, kind=METHODS[method]),  # type: ignore[arg-type]
        train=replace(
            c.train, steps=a.steps, batch_size=a.batch, accumulate=len(PARTS) if mixed else 1, seed=seed,
            save_every=max(1, a.steps // 4), device=a.device, threads=a.threads,
        ),
    )  # fmt: skip


class Chunks:
    """Samples as `(generated, known)`, a chunk at a time, always drawn alike."""

    def __init__(self, samples: Sequence[Sample], task: str, prepare: Prepare, device: torch.device) -> None:
        batches = [samples[i : i + CHUNK] for i in range(0, len(samples), CHUNK)]
        self.ids = [s.id for s in samples]
        self.each = [
            prepare(Batch(list(batch), task=task), Draws.at(0, number), "cpu") for number, batch in enumerate(batches)
        ]
        self.data = torch.cat([generated.data for generated, _ in self.each])
        self.device = device

    def at(self, x_t: Tensor, rows: slice) -> tuple[Tokens, list[Any]]:
        """The chunk of these rows with other data."""
        generated, known = self.each[rows.start // CHUNK]
        return generated.with_data(x_t).to(self.device), [k.to(self.device) for k in known]


class Examiner:
    """A hook that measures the averaged weights on the way, and says how long training took without it.

    Args:
        parts: what is measured: name → `"source:task"`.
    """

    def __init__(self, a: argparse.Namespace, config: Config, parts: Mapping[str, str], directory: Path) -> None:
        self.a, self.config, self.parts, self.directory = a, config, parts, directory
        self.marks = {max(1, config.train.steps * i // POINTS) for i in range(1, POINTS + 1)}
        self.path = directory / "curve.json"
        self.curve: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.held: dict[str, Chunks] = {}
        self.clock = time.process_time if a.device == "cpu" else time.perf_counter
        self.since: float | None = None
        self.spent, self.counted = 0.0, 0

    def __call__(self, state: TrainState) -> None:
        now = self.clock()
        if self.since is not None:  # the first step of a process opens and warms up
            self.spent, self.counted = self.spent + now - self.since, self.counted + 1
        if state.step in self.marks:
            losses = {part: self.losses(state, part) for part in self.parts}
            self.curve[str(state.step)] = {"losses": losses, "seconds a step": self.spent / max(1, self.counted)}
            write_json(self.path, self.curve)
        self.since = self.clock()

    def prepare(self, drop: float) -> Prepare:
        text, quantiles = open_text(self.config, self.directory, list), load_quantiles(self.directory)
        return Prepare(build_modalities(self.config, text, quantiles), drop, 0.0)

    def losses(self, state: TrainState, part: str) -> dict[str, float]:
        source, task = self.parts[part].split(":")
        if part not in self.held:
            found = open_named(source, self.a.size, "test", self.a.frames)
            samples = [found[i] for i in chosen(len(found), self.a.held_out, 0)]
            self.held[part] = Chunks(samples, task, self.prepare(0.0), state.engine.device)
        held, net = self.held[part], state.objective.ema

        def predict(x_t: Tensor, t: Tensor, rows: slice) -> Tensor:
            noisy, known = held.at(x_t, rows)
            with state.engine.autocast():
                return net(noisy, t.to(held.device), known)[0].cpu()

        return {str(t): m for t, (m, _) in velocity_loss(predict, held.data, held.ids, LEVELS, batch=CHUNK).items()}

    def floor(self, part: str) -> float:
        """The loss of who predicts the mean: of the velocity given x_t, for values of that mean and variance."""
        data = self.held[part].data.double()
        variance = float((data - data.mean(dim=0)).square().mean())
        return geometric_mean(variance / ((1 - t) ** 2 * variance + t**2) for t in LEVELS)

    @torch.inference_mode()
    def features(self, state: TrainState, part: str) -> dict[str, Any]:
        """Ranks of all layers, and the accuracy of probes by label, level and layer, with the most frequent label."""
        net, layers = state.objective.ema, range(1, self.config.network.depth + 1)
        rank_data = self.held[part]
        noisy, known = rank_data.at(rank_data.data[:CHUNK], slice(0, CHUNK))
        t = torch.full((noisy.batch,), PROBED[0], device=state.engine.device)
        noise = Draws.at(1, 0).normal(*noisy.data.shape).to(noisy.data)
        with state.engine.autocast():
            taps = net(noisy.with_data((1 - t[0]) * noisy.data + t[0] * noise), t, known, taps=layers)[1]
        found: dict[str, Any] = {"ranks": [float(effective_rank(f)) for f in taps], "probes": {}}
        if part == "action":
            return found
        count = self.a.probe
        samples, labels = {
            "picture": lambda: labelled.single_things(count, self.a.size),
            "clip": lambda: labelled.sprite_clips(count, self.a.size, self.a.frames),
            "sound": lambda: labelled.spoken_digits(count),
        }[part]()
        chunks = Chunks(samples, self.parts[part].split(":")[1], self.prepare(1.0), state.engine.device)

        def features(x_t: Tensor, t: Tensor, rows: slice) -> list[Tensor]:
            noisy, known = chunks.at(x_t, rows)
            with state.engine.autocast():
                return list(net(noisy, t.to(chunks.device), known, taps=layers, stop=True)[1])

        half = len(samples) // 2
        for level in PROBED:
            by_layer = pooled_features(features, chunks.data, chunks.ids, level, batch=CHUNK)
            for name, values in labels.items():
                y = torch.tensor(values)
                accuracy = [probe_accuracy(x[:half], y[:half], x[half:], y[half:]) for x in by_layer]
                most = float((y[half:] == y[:half].mode().values).double().mean())
                row = found["probes"].setdefault(name, {"floor": most})
                row[str(level)] = accuracy
        return found


def run(a: argparse.Namespace, group: str, method: str, seed: int) -> dict[str, Any] | None:
    """One training, or its figures where it is done; None when it was stopped."""
    directory, config = a.out / f"{group}-{METHODS[method]}-{seed}", configure(a, group, method, seed)
    if (done := finished(directory, config)) is not None:
        return done
    parts = PARTS if group == MIXTURE else {group: PARTS[group]}
    examiner = Examiner(a, config, parts, directory)
    state = train(config, directory, progress=a.progress, watch=[examiner])
    if state.step < config.train.steps:
        return None
    for part in parts:
        if part not in examiner.held:
            examiner.losses(state, part)
    log = read_metrics(directory / "metrics.jsonl")
    tail = log[-max(1, len(log) // 10) :]
    result = {
        "config": asdict(config),
        "curve": {step: examiner.curve[step] for step in sorted(examiner.curve, key=int)},
        "floor": {part: examiner.floor(part) for part in parts},
        "features": {part: examiner.features(state, part) for part in parts},
        "training": {
            k: float(np.mean([r[k] for r in tail if k in r])) for k in tail[-1] if k.startswith(("cosine", "rank"))
        },
    }
    write_json(directory / "result.json", result)
    rmtree(directory / "checkpoints", ignore_errors=True)
    return result


# ------------------------------------------------------------------------------------------------------------- figures


def loss(result: dict[str, Any], part: str, step: str) -> float:
    """The geometric mean over levels: at t = 0.1 an error in the data counts 80 times as much as at 0.9."""
    return geometric_mean(result["curve"][step]["losses"][part].values())


def pace(result: dict[str, Any]) -> float:
    return float(list(result["curve"].values())[-1]["seconds a step"])


def loss_after(result: dict[str, Any], part: str, seconds: float) -> float:
    """After some time of training, between the points measured."""
    return at_time({int(step): loss(result, part, step) for step in result["curve"]}, pace(result), seconds)


def summarise(results: dict[tuple[str, str, int], dict[str, Any]]) -> dict[str, Any]:
    """Per group and modality: both methods' figures, and paired differences, Self-Flow less flow matching."""
    summary: dict[str, Any] = {}
    for group in dict.fromkeys(g for g, _, _ in results):
        own = {m: [r for (g, n, _), r in results.items() if (g, n) == (group, m)] for m in METHODS}
        plain, ours = own["flow matching"], own["Self-Flow"]
        pairs = list(zip(plain, ours, strict=False))
        if not pairs:
            continue
        for part in pairs[0][0]["floor"]:
            last = list(pairs[0][0]["curve"])[-1]
            ends = [int(last) * pace(p) for p, _ in pairs]
            row: dict[str, Any] = {
                "seeds": len(pairs),
                "floor": pairs[0][0]["floor"][part],
                "step, Self-Flow over flow matching": interval([pace(s) / pace(p) for p, s in pairs]),
                "loss": {m: interval([loss(r, part, last) for r in rs[: len(pairs)]]) for m, rs in own.items()},
                "equal steps": interval([math.log(loss(s, part, last) / loss(p, part, last)) for p, s in pairs]),
                "equal time": interval(
                    [
                        math.log(loss_after(s, part, t) / loss(p, part, last))
                        for (p, s), t in zip(pairs, ends, strict=True)
                    ]
                ),
                "curves": {
                    m: {step: interval([loss(r, part, step) for r in rs[: len(pairs)]]) for step in rs[0]["curve"]}
                    for m, rs in own.items()
                },
                "ranks": {m: along(r["features"][part]["ranks"] for r in rs[: len(pairs)]) for m, rs in own.items()},
                "cosine": interval([s["training"].get("cosine", math.nan) for _, s in pairs]),
                "probes": {},
            }
            for name, first in pairs[0][0]["features"][part]["probes"].items():
                best = {m: [_best(r, part, name) for r in rs[: len(pairs)]] for m, rs in own.items()}
                row["probes"][name] = {
                    "floor": first["floor"],
                    **{m: interval(v) for m, v in best.items()},
                    "difference": interval([b - a for a, b in zip(*best.values(), strict=True)]),
                    "along depth": {
                        m: along(_depth(r, part, name) for r in rs[: len(pairs)])
                        for m, rs in own.items()
                    },
                }  # fmt: skip
            summary[f"{part}{MIXED}" if group == MIXTURE else part] = row
    return summary


def _depth(result: dict[str, Any], part: str, name: str) -> list[float]:
    return list(result["features"][part]["probes"][name][str(PROBED[0])])


def _best(result: dict[str, Any], part: str, name: str) -> float:
    return max(max(result["features"][part]["probes"][name][str(level)]) for level in PROBED)


def together(summary: dict[str, Any], how: str) -> dict[str, Any] | None:
    """A difference over all modalities of the mixture: their mean of each seed."""
    parts = [row[how]["values"] for name, row in summary.items() if name.endswith(MIXED)]
    return interval([fmean(values) for values in zip(*parts, strict=True)]) if parts else None


def table(summary: dict[str, Any]) -> str:
    """In Markdown. Differences of losses are in per cent; below 0, Self-Flow is better; bold ones leave 0 out."""
    rows: list[Sequence[object]] = []
    for name, row in summary.items():
        probes = "; ".join(
            f"{label} {p['flow matching']['mean']:.2f} → {p['Self-Flow']['mean']:.2f} ({p['floor']:.2f}), "
            f"by {plus_minus(p['difference'], 2)}"
            for label, p in row["probes"].items()
        )
        rows.append([
            name, row["seeds"], f"{row['floor']:.3f}", *(plus_minus(row["loss"][m], 3) for m in METHODS),
            *(plus_minus(row[how], 1, 100, mark=True) for how in COMPARED),
            f"{row['step, Self-Flow over flow matching']['mean']:.2f}×", probes,
        ])  # fmt: skip
    means = [together(summary, how) for how in COMPARED]
    if means[0] is not None and means[1] is not None:
        shown = [plus_minus(x, 1, 100, mark=True) for x in means if x is not None]
        rows.append(["all four of the mixture", len(means[0]["values"]), "", "", "", *shown, "", ""])
    head = ["", "seeds", "floor", *METHODS, "equal steps, %", "equal time, %", "a step costs"]
    return markdown([*head, "probes: flow matching → Self-Flow (most frequent label)"], rows)


def show(summary: dict[str, Any], path: Path) -> None:
    """Losses over steps; along depth what probes read and the effective rank; with intervals."""
    colours = dict(zip(METHODS, ("#7a7a7a", "#c2410c"), strict=True))

    def paint(axes: Any) -> None:
        for column, (name, row) in enumerate(summary.items()):
            top, middle, low = axes[:, column]
            for method, colour in colours.items():
                curve, ranks = row["curves"][method], row["ranks"][method]
                band(top, [int(s) for s in curve], list(curve.values()), colour, method)
                band(low, range(1, len(ranks) + 1), ranks, colour, method)
                for style, (label, probe) in zip(("-", "--", ":"), row["probes"].items(), strict=False):
                    depth = probe["along depth"][method]
                    band(middle, range(1, len(depth) + 1), depth, colour, label, style)
            top.set(title=name, yscale="log", xlabel="step")
            middle.set(xlabel="layer", ylim=(0, 1))
            low.set(xlabel="layer", yscale="log", ylim=(0.9, None))
            if row["probes"]:
                legend(middle, fontsize=6, loc="upper left")
            else:
                middle.set_axis_off()
        for axis, label in zip(axes[:, 0], ("velocity loss", "linear probe, accuracy", "effective rank"), strict=True):
            axis.set_ylabel(label)
        legend(axes[0][0], fontsize=7)

    draw(path, 3, len(summary), paint)


def main(given: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "modalities")
    parser.add_argument("--groups", nargs="+", default=[*PARTS, MIXTURE], choices=[*PARTS, MIXTURE])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=48, help="side of pictures and clips")
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--vocabulary", type=int, default=640)
    parser.add_argument("--captions", type=int, default=4000, help="to learn the vocabulary from")
    parser.add_argument("--held-out", type=int, default=128)
    parser.add_argument("--probe", type=int, default=300, help="samples, half to fit and half to test")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no further run after this long")
    a = parser.parse_args(given)
    if a.page:
        publish(a.page, "groups", PAGE, "modalities", table, show)
        return
    if a.quick:
        a.steps, a.batch, a.size, a.patch, a.frames, a.width, a.depth = 2, 4, 16, 8, 4, 32, 3
        a.vocabulary, a.captions, a.held_out, a.probe, a.seeds = 300, 100, 8, 60, min(a.seeds, 2)
    began, results = time.monotonic(), dict[tuple[str, str, int], dict[str, Any]]()
    a.json = a.json or a.out / "modalities.json"
    a.out.mkdir(parents=True, exist_ok=True)
    for seed in range(a.seeds):
        for group in a.groups:
            for method in METHODS:
                if time.monotonic() - began > 60 * a.minutes:
                    print(f"time is up before {group}, {method}, seed {seed}: the same command goes on from there")
                    return
                found = run(a, group, method, seed)
                if found is None:
                    raise SystemExit("stopped; the same command goes on from here")
                results[group, method, seed] = found
            summary = summarise(results)
            write_summary(a, "groups", summary)
        print(table(summary), flush=True)
    show(summary, a.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
