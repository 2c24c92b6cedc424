"""What the demonstration does: train side by side, draw captions, score them, write the page."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from selfflow.config import Config
from selfflow.data.scenes import TabletopScenes
from selfflow.demo.page import Demo, Drawn, Row, Run, Score, page
from selfflow.demo.training import train_side_by_side
from selfflow.evaluate.protocol import Figure, Options, draw_pictures
from selfflow.evaluate.tabletop_pictures import text_suite
from selfflow.pipeline import Pipeline
from selfflow.recipes import flow_matching
from selfflow.train.trainer import read_metrics
from selfflow.worlds.tabletop.check import score_text
from selfflow.worlds.tabletop.geometry import stood
from selfflow.worlds.tabletop.render import render
from selfflow.worlds.tabletop.scene import SIZES, TABLE, Scene, Thing

HELD_OUT = 12  # captions shown of the held-out ones; half as many of familiar ones
TRAINED_ON = 0  # seed of the scenes that recipes train on
FIGURES = ("facts right", "all facts right", "velocity loss, t = 0.55", "velocity loss, t = 0.85")  # of the suite


def _thing(kind: str, colour: str, size: str, x: float, height: float = TABLE) -> Thing:
    return stood(Thing(kind, colour, size), x, height)


# What somebody would type first, each with a scene that shows it.
TYPED: tuple[tuple[str, Scene], ...] = (
    ("a red ball", Scene((_thing("ball", "red", "medium", 0.5),))),
    ("a large purple cup", Scene((_thing("cup", "purple", "large", 0.4),))),
    (
        "two green glasses",
        Scene((_thing("glass", "green", "medium", 0.3), _thing("glass", "green", "medium", 0.7))),
    ),
    (
        "a large blue box left of a medium green cup",
        Scene((_thing("box", "blue", "large", 0.3), _thing("cup", "green", "medium", 0.75))),
    ),
    (
        "a yellow cup on a red box",
        Scene((
            _thing("box", "red", "large", 0.5), _thing("cup", "yellow", "medium", 0.5, TABLE + SIZES["large"]),
        )),
    ),
    (
        "a large pink ball right of a cyan glass",
        Scene((_thing("glass", "cyan", "medium", 0.25), _thing("ball", "pink", "large", 0.7))),
    ),
)  # fmt: skip


def demo(config: Config, out: Path, to: Path, samples: int = 128, shown: int = HELD_OUT) -> Path:
    """Train `config` (Self-Flow) and the same run by flow matching in `out`, and write the page; returns its path.

    Args:
        samples: held-out captions to score.
        shown: how many of those the page shows, and half as many of the kinds seen in training.

    Raises:
        Stopped: when asked to stop; the next call goes on from there.
        RuntimeError: when a training fails, or `out` holds runs of another configuration.
    """
    runs = [
        ("Self-Flow", config, out / "self-flow"),
        ("flow matching", flow_matching(config), out / "flow-matching"),
    ]
    count = f"{config.train.steps:,} steps of {config.train.batch_size} pictures each"
    print(f"Training side by side, {count}. Ctrl-C stops both; the same command goes on from there.")
    train_side_by_side(runs)
    print(f"Drawing and scoring {samples} held-out captions with each …")
    pipes = [Pipeline.from_pretrained(directory) for _, _, directory in runs]
    size, seed = config.picture.size, config.train.seed
    typed = [(text, render(scene, size)) for text, scene in TYPED]
    # The seed after the training set's: other scenes, drawn alike.
    alike: dict[str, Any] = {name: getattr(config.data, name) for name in ("kinds", "sizes", "most")}
    familiar = TabletopScenes(max(shown, 1), size, "train", seed=TRAINED_ON + 1, **alike)
    unseen = TabletopScenes(max(shown, 1), size, "test", seed=seed, **alike)
    groups = [
        ("Typed by hand", _rows(typed, pipes, seed)),
        ("New scenes of the kinds seen in training", _rows(_captioned(familiar, shown // 2), pipes, seed)),
        ("Held out: each says something that no training caption says", _rows(_captioned(unseen, shown), pipes, seed)),
    ]
    options = Options(samples=samples, seed=seed, progress=False, pairs=0)
    found = [text_suite(pipe, options)["figures"] for pipe in pipes]
    learned = [_run(name, directory, pipe) for (name, _, directory), pipe in zip(runs, pipes, strict=True)]
    scores = _scores(found)
    for line in scores:
        values = ", ".join(f"{run.name} {v[0]:.3f}" for run, v in zip(learned, line.values, strict=True))
        compared = "" if line.floor is None else f" (floor {line.floor:.3f}, ceiling {line.ceiling:.3f})"
        print(f"  {line.name}: {values}{compared}")
    to.parent.mkdir(parents=True, exist_ok=True)
    temporary = to.with_name(f".{to.name}.tmp")
    temporary.write_text(page(Demo(learned, groups, scores, samples)), encoding="utf-8")
    os.replace(temporary, to)
    return to.resolve()


def _captioned(source: TabletopScenes, count: int) -> list[tuple[str, np.ndarray]]:
    samples = [source[i] for i in range(count)]
    return [(s.text, s.picture) for s in samples if s.picture is not None]


def _rows(captions: Sequence[tuple[str, np.ndarray]], pipes: Sequence[Pipeline], seed: int) -> list[Row]:
    """A picture of each caption by each model, from the same noise."""
    texts = [text for text, _ in captions]
    options = Options(seed=seed, progress=False)
    drawn = [draw_pictures(pipe, texts, texts, options) for pipe in pipes]
    return [
        Row(text, [_checked(pictures[i], text) for pictures in drawn], _checked(real, text))
        for i, (text, real) in enumerate(captions)
    ]


def _checked(picture: np.ndarray, text: str) -> Drawn:
    verdict = score_text(picture, text)
    return Drawn(picture, verdict.value, verdict.faults)


def _scores(found: Sequence[dict[str, Figure]]) -> list[Score]:
    lines = []
    for name in FIGURES:
        first = found[0][name]
        values = [
            (f.value, f.value if f.low is None else f.low, f.value if f.high is None else f.high)
            for f in (figures[name] for figures in found)
        ]
        lines.append(Score(name, values, first.floor, first.ceiling, percent=not name.startswith("velocity")))
    return lines


def _run(name: str, directory: Path, pipe: Pipeline) -> Run:
    records = read_metrics(directory / "metrics.jsonl")
    return Run(
        name, str(directory), len(records), sum(r["seconds"] for r in records),
        sum(p.numel() for p in pipe.net.parameters()),
        [r.get("loss_velocity", r["loss"]) for r in records], [r["cosine"] for r in records if "cosine" in r],
    )  # fmt: skip
