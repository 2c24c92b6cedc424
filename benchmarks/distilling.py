"""Which way to distil brings more, of as many steps and of as much time? On-policy beside midpoints, begun alike.

    python benchmarks/distilling.py --model weights/micro-all --like weights/micro-all weights/micro-all-few
        [--arms on-policy:60 midpoint:60 midpoint:90] [--seeds 3] [--json benchmarks/distilling.json]

Each arm, a method and its steps, is trained on Tabletop's captioned stills for every seed, which orders the samples and
draws noise and times. All begin with the change that an earlier distillation made (`--like`), a row of its own; without
it, with the model itself. Told of 192 held-out captions, drawn from the same noise by all: the share of facts
that are right, and how many pictures are wholly so, in few passes; beside it the model's own guided steps, and seconds
of training. Differences from the first arm are paired by caption, their intervals are over seeds (Student's, 95 %).

Goes on where it stopped. One thread; an arm of 60 steps takes four to six minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from selfflow.config import Config, Distillation
from selfflow.data.scenes import TabletopScenes
from selfflow.evaluate.distances import interval
from selfflow.evaluate.pages import markdown, plus_minus
from selfflow.evaluate.protocol import seed_of
from selfflow.pipeline import Pipeline
from selfflow.recipes import few_steps
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from selfflow.train.run import teacher_of, train
from selfflow.train.trainer import read_metrics
from selfflow.worlds.tabletop.check import score_text

STILLS = ("tabletop-things:picture:10", "tabletop-still:picture:20", "tabletop-within:picture:5")
PROMPTS = 1007  # the seed of the captions: others than those of the suites
MEASURES = ("facts", "right")
Found = dict[str, dict[str, list[float]]]  # passes → measure → one value a caption


def configure(a: argparse.Namespace, method: Any, steps: int, seed: int) -> Config:
    """The run of one arm and seed."""
    teacher, name = teacher_of(a.model)
    config = few_steps(teacher, steps, method)
    few = replace(config.objective.few_steps, teacher=name)
    if method == "on-policy":
        few = replace(few, served=tuple(a.served), finest=a.finest)
    return replace(
        config,
        objective=replace(config.objective, few_steps=few),
        data=replace(
            config.data, mixture=STILLS, count=a.count, cache=str(a.cache) if a.cache else "", processes=0, workers=0
        ),
        optim=replace(config.optim, learning_rate=a.rate, warmup=min(5, steps), cooldown=0.6),
        train=replace(
            config.train, batch_size=a.batch, accumulate=a.accumulate, seed=seed, save_every=50, threads=1, device="cpu"
        ),
    )


def drawn(model: Path, samples: int, passes: Sequence[int | None]) -> Found:
    """How right a model's pictures of held-out captions are, by the number of steps; None is its own number."""
    pipe = Pipeline.from_pretrained(model, dtype=fast_dtype("cpu"))
    source = TabletopScenes(samples, pipe.config.picture.size, "test", PROMPTS)
    asked, found = [source[i] for i in range(samples)], Found()
    for steps in passes:
        scores = []
        for first in range(0, samples, 16):
            some = asked[first : first + 16]
            noise = [torch.Generator().manual_seed(seed_of("distilling", first + i)) for i in range(len(some))]
            made = pipe.solve("picture", some, steps=steps, generator=noise)
            scores += [score_text(m.picture, sample.text) for m, sample in zip(made, some, strict=True)]
        values = {"facts": [s.value for s in scores], "right": [float(not s.faults) for s in scores]}
        found["own" if steps is None else str(steps)] = values
    return found


def summarise(parts: dict[str, Any], arms: Sequence[str], seeds: Sequence[int]) -> dict[str, Any]:
    """Means of every arm over the seeds that are done, and what it has more than the first, by caption."""
    summary: dict[str, Any] = {
        name: {key: {m: interval([float(np.mean(v[m]))]) for m in MEASURES} for key, v in parts[name].items()}
        for name in ("model", "start") if name in parts
    }  # fmt: skip
    for arm in arms:
        done = [seed for seed in seeds if f"{arm}, {seed}" in parts and f"{arms[0]}, {seed}" in parts]
        own, first = ([parts[f"{name}, {seed}"] for seed in done] for name in (arm, arms[0]))
        if done:
            summary[arm] = {
                "seeds": done,
                "seconds": interval([part["seconds"] for part in own]),
                **{
                    key: {m: interval([float(np.mean(part["found"][key][m])) for part in own]) for m in MEASURES}
                    for key in own[0]["found"]
                },
                "less": {
                    key: {
                        m: interval([
                            float(np.subtract(part["found"][key][m], base["found"][key][m]).mean())
                            for part, base in zip(own, first, strict=True)
                        ])
                        for m in MEASURES
                    }
                    for key in own[0]["found"]
                },
            }  # fmt: skip
    return summary


def table(summary: dict[str, Any], passes: Sequence[int], arms: Sequence[str]) -> str:
    """In Markdown: facts and pictures wholly right, and how much more of these than the first arm."""
    rows: list[Sequence[object]] = []
    for name, row in summary.items():
        keys = ["own", *[""] * (len(passes) - 1)] if name == "model" else [str(n) for n in passes]
        each = ["; ".join(plus_minus(row[key][m], 3) for m in MEASURES) if key else "" for key in keys]
        less = [plus_minus(row["less"][str(n)]["right"], 3, mark=True) for n in passes] if name in arms[1:] else []
        seconds = plus_minus(row["seconds"], 0) if name in arms else ""
        rows.append(["model, its own steps" if name == "model" else name, seconds, *each, "; ".join(less)])
    head = ["", "seconds", *(f"{n} passes: facts; right" for n in passes), f"right, less {arms[0]}'s"]
    return markdown(head, rows)


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the teacher")
    parser.add_argument("--like", type=Path, nargs=2, help="an earlier state of it, and what that was distilled to")
    parser.add_argument("--arms", nargs="+", default=["on-policy:60", "midpoint:60", "midpoint:90"])
    parser.add_argument("--passes", type=int, nargs="+", default=[4, 2])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=192, help="captions")
    parser.add_argument("--served", type=int, nargs="+", default=[4, 4, 4, 2], help="of on-policy")
    parser.add_argument("--finest", type=int, default=8, help="of on-policy")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--count", type=int, default=59_952, help="pictures of each source")
    parser.add_argument("--cache", type=Path, help="where drawn pictures are kept")
    parser.add_argument("--out", type=Path, default=Path("out/distilling"), help="runs; kept between commands")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args(given)
    torch.set_num_threads(1)
    for arm in a.arms:
        method, _, steps = arm.partition(":")
        if method not in get_args(Distillation) or not steps.isdecimal() or int(steps) < 1:
            raise SystemExit(f"arm {arm!r} is none; give a method and steps, as in on-policy:60")
    seeds = range(a.first_seed, a.first_seed + a.seeds)
    path = a.out / "parts.json"
    a.out.mkdir(parents=True, exist_ok=True)
    about = {"teacher": teacher_of(a.model)[1], "samples": a.samples, "batch": a.batch, "rate": a.rate,
             "served": a.served, "finest": a.finest, "passes": a.passes}  # fmt: skip
    parts: dict[str, Any] = read(path, about)

    def keep(name: str, made: Any) -> None:
        parts[name] = made
        write_json(path, {"about": about, "parts": parts})

    if "model" not in parts:
        keep("model", drawn(a.model, a.samples, [None]))
    if a.like and "start" not in parts:
        config = configure(a, "midpoint", 1, 0)
        config = replace(config, optim=replace(config.optim, learning_rate=1e-12))  # the sum of weights, not a step
        train(config, a.out / "start", progress=False, init=a.model, like=tuple(a.like))
        keep("start", drawn(a.out / "start", a.samples, a.passes))
    for seed in seeds:
        for arm in a.arms:
            if f"{arm}, {seed}" in parts:
                continue
            method, steps = arm.split(":")
            run = a.out / f"{method}-{steps}-{seed}"
            like = tuple(a.like) if a.like else None
            train(configure(a, method, int(steps), seed), run, init=a.model, like=like)
            seconds = sum(line["seconds"] for line in read_metrics(run / "metrics.jsonl"))
            keep(f"{arm}, {seed}", {"seconds": seconds, "found": drawn(run, a.samples, a.passes)})
        summary = summarise(parts, a.arms, seeds)
        print(table(summary, a.passes, a.arms), flush=True)
        if a.json:
            write_json(a.json, {"about": about, "summary": summary})


def read(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What was measured so far.

    Raises:
        SystemExit: where it is of other options.
    """
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text())
    if found["about"] != about:
        raise SystemExit(f"{path} holds a trial of other options, {found['about']}; give another --out")
    return dict(found["parts"])


if __name__ == "__main__":
    main()
