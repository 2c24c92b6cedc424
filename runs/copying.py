"""Does it help to copy what is known, and to match it? Edits, references, moving pictures and imagined frames.

Two networks are compared: without and with `network.copying`, or with that alone and with `network.matching` as well;
or two ways to train the last, by one draw of noise for each reading of what is known and by several, of half as many
samples a step, which take about as long.

Each task is trained alone from the same weights, on the same data in the same order with the same noise, several seeds,
by the trainer itself and flow matching. Held-out velocity loss of the averaged weights (five noise levels, geometric
mean) is taken at ten points of a run, and compared at equal steps and, between two points, after the time that the
first network took. Time is CPU seconds of one thread, measuring not counted.

Floor: who says that nothing changes (the input of an edit, the first frame of a clip).

    .venv/bin/python runs/copying.py [--seeds 3] [--steps 400] [--groups edit]   # edits: 15 minutes of one core
    .venv/bin/python runs/copying.py --methods copying matching --groups edit reference
    .venv/bin/python runs/copying.py --methods matching "several draws" --groups edit reference
    .venv/bin/python runs/copying.py --quick --out out/copying-quick             # seconds
    .venv/bin/python runs/copying.py --page docs/figures/copying.json            # the figure and the page

Drawing 4,000 clips or robot episodes (once) takes longer than learning from them: an hour for `imagine`.
Goes on where it stopped; the table and the figure are of what is finished.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from shutil import rmtree
from statistics import geometric_mean
from typing import Any

import torch
from modalities import LEVELS, Chunks, Examiner, loss, loss_after, pace
from torch import Tensor

from selfflow.config import Config
from selfflow.evaluate.curves import band, draw, legend
from selfflow.evaluate.distances import interval
from selfflow.evaluate.pages import markdown, plus_minus
from selfflow.evaluate.trials import arguments, finished, publish, write_summary
from selfflow.evaluate.velocity_loss import velocity_loss
from selfflow.recipes import micro_all
from selfflow.tokens import Tokens
from selfflow.train.checkpoint import write_json
from selfflow.train.run import train

PARTS = {
    "edit": "tabletop-edit:edit", "reference": "tabletop-reference:edit", "animate": "tabletop-clip:animate",
    "imagine": "tabletop-robot:imagine",
}  # fmt: skip
METHODS = {
    "plain": {"copying": False, "matching": False},
    "copying": {"copying": True, "matching": False},
    "matching": {"copying": True, "matching": True},
    "several draws": {"copying": True, "matching": True},
}
COMPARED = ("equal steps", "equal time")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "evidence.md"


def configure(a: argparse.Namespace, group: str, method: str, seed: int) -> Config:
    """`micro-all`, smaller, of one task."""
    c, several = micro_all(), method == "several draws"
    practices = {name: replace(p, draws=0 if several else 1) for name, p in c.objective.modalities.items()}
    return replace(
        c,
        data=replace(
            c.data, mixture=(PARTS[group],), frames=a.frames, workers=0, count=a.count, simulated=a.count,
            cache=str(a.out / "drawn"),
        ),
        text=replace(c.text, vocabulary=a.vocabulary, captions=a.captions),
        picture=replace(c.picture, size=a.size, patch=a.patch),
        network=replace(c.network, width=a.width, depth=a.depth, heads=max(1, a.width // 32), **METHODS[method]),
        objective=replace(c.objective, kind="flow_matching", modalities=practices),
        train=replace(
            c.train, steps=a.steps, batch_size=a.batch // (2 if several else 1), accumulate=1, seed=seed,
            save_every=max(1, a.steps // 4), device="cpu", threads=1,
        ),
    )  # fmt: skip


def unchanged(held: Chunks) -> float:
    """The loss of who says that each token is the picture that is known, in the same place: nothing changes."""

    def predict(x_t: Tensor, t: Tensor, rows: slice) -> Tensor:
        noisy, known = held.at(x_t, rows)
        shown = next(group for group in known if isinstance(group, Tokens) and group.modality == "visual")
        apart = torch.cdist(noisy.positions[..., 1:3], shown.positions[..., 1:3])
        nearest = apart.argmin(dim=-1)[..., None].expand(-1, -1, shown.data.shape[-1])
        data = shown.data.gather(1, nearest)
        return (x_t - data.repeat(1, 1, x_t.shape[-1] // data.shape[-1])) / t[:, None, None]

    found = velocity_loss(predict, held.data, held.ids, LEVELS, batch=32)
    return geometric_mean(mean for mean, _ in found.values())


def run(a: argparse.Namespace, group: str, method: str, seed: int) -> dict[str, Any]:
    """One training, or its figures where it is done."""
    directory, config = a.out / f"{group}-{method.replace(' ', '-')}-{seed}", configure(a, group, method, seed)
    if (done := finished(directory, config)) is not None:
        return done
    examiner = Examiner(a, config, {group: PARTS[group]}, directory)
    state = train(config, directory, progress=a.progress, watch=[examiner])
    if state.step < config.train.steps:
        raise SystemExit("stopped; the same command goes on from here")
    if group not in examiner.held:
        examiner.losses(state, group)
    curve = {step: examiner.curve[step] for step in sorted(examiner.curve, key=int)}
    result = {"config": asdict(config), "curve": curve, "floor": unchanged(examiner.held[group])}
    write_json(directory / "result.json", result)
    rmtree(directory / "checkpoints", ignore_errors=True)
    return result


def summarise(results: dict[tuple[str, str, int], dict[str, Any]]) -> dict[str, Any]:
    """Per task: both networks' losses, and paired differences of their logarithms, the second's less the first's."""
    summary: dict[str, Any] = {}
    methods = list(dict.fromkeys(m for _, m, _ in results))
    for group in dict.fromkeys(g for g, _, _ in results):
        own = {m: [r for (g, n, _), r in results.items() if (g, n) == (group, m)] for m in methods}
        pairs = list(zip(*own.values(), strict=True))
        last = list(pairs[0][0]["curve"])[-1]
        after = [loss_after(c, group, int(last) * pace(p)) for p, c in pairs]
        ends = [(loss(p, group, last), loss(c, group, last)) for p, c in pairs]
        levels = [{m: r["curve"][last]["losses"][group] for m, r in zip(methods, pair, strict=True)} for pair in pairs]
        summary[group] = {
            "seeds": len(pairs),
            "floor": pairs[0][0]["floor"],
            "a step costs": interval([pace(c) / pace(p) for p, c in pairs]),
            "loss": {m: interval([loss(r, group, last) for r in rs]) for m, rs in own.items()},
            "equal steps": interval([math.log(c / p) for p, c in ends]),
            "equal time": interval([math.log(c / p) for (p, _), c in zip(ends, after, strict=True)]),
            "levels": {
                t: interval([math.log(pair[methods[1]][t] / pair[methods[0]][t]) for pair in levels])
                for t in levels[0][methods[0]]
            },
            "curves": {
                m: {step: interval([loss(r, group, step) for r in rs]) for step in rs[0]["curve"]}
                for m, rs in own.items()
            },
        }
    return summary


def table(summary: dict[str, Any]) -> str:
    """In Markdown. Differences are of logarithms, in hundredths; below 0 the second is better, bold leaves 0 out."""
    methods = list(next(iter(summary.values()))["loss"])
    levels = [str(t) for t in LEVELS]
    rows = [
        [
            name, row["seeds"], f"{row['floor']:.3f}", *(plus_minus(row["loss"][m], 3) for m in methods),
            *(plus_minus(row[how], 1, 100, mark=True) for how in COMPARED),
            f"{row['a step costs']['mean']:.2f}×",
            *(plus_minus(row["levels"][t], 0, 100, mark=True) for t in levels),
        ]
        for name, row in summary.items()
    ]  # fmt: skip
    head = ["", "seeds", "floor", *methods, "equal steps, %", "equal time, %", "a step costs"]
    return markdown([*head, *(f"t = {t}" for t in levels)], rows)


def show(summary: dict[str, Any], path: Path) -> None:
    """Losses over steps, with intervals, and the floor."""
    colours = dict(zip(next(iter(summary.values()))["loss"], ("#7a7a7a", "#c2410c"), strict=True))

    def paint(axes: Any) -> None:
        for axis, (name, row) in zip(axes[0], summary.items(), strict=True):
            for method, colour in colours.items():
                curve = row["curves"][method]
                band(axis, [int(s) for s in curve], list(curve.values()), colour, method)
            axis.axhline(row["floor"], color="#1d4ed8", linestyle=":", linewidth=1, label="nothing changes")
            axis.set(title=name, yscale="log", xlabel="step")
        axes[0][0].set_ylabel("velocity loss")
        legend(axes[0][0], fontsize=7)

    draw(path, 1, len(summary), paint)


def main(given: Sequence[str] | None = None) -> None:
    parser = arguments(__doc__, "copying")
    parser.add_argument("--groups", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--methods", nargs=2, default=["plain", "copying"], choices=list(METHODS))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=48, help="side of pictures and clips")
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=640)
    parser.add_argument("--captions", type=int, default=2000, help="to learn the vocabulary from")
    parser.add_argument("--count", type=int, default=4000, help="scenes to learn from")
    parser.add_argument("--held-out", type=int, default=96)
    a = parser.parse_args(given)
    if a.page:
        publish(a.page, "groups", PAGE, a.page.stem, table, show)
        return
    if a.quick:
        a.steps, a.batch, a.size, a.patch, a.frames, a.width, a.depth = 2, 4, 32, 8, 4, 32, 2
        a.vocabulary, a.captions, a.count, a.held_out, a.seeds = 300, 60, 12, 6, min(a.seeds, 2)
    a.device, results = "cpu", dict[tuple[str, str, int], dict[str, Any]]()
    a.json = a.json or a.out / f"{a.methods[1].replace(' ', '-')}.json"
    a.out.mkdir(parents=True, exist_ok=True)
    for seed in range(a.seeds):
        for group in a.groups:
            for method in a.methods:
                results[group, method, seed] = run(a, group, method, seed)
        summary = summarise(results)
        write_summary(a, "groups", summary)
        print(table(summary), flush=True)
    show(summary, a.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
