"""Heeding: exchanges that a picture contradicts; who reads is right, who does not is right half of the time."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from selfflow.evaluate import heeding
from selfflow.evaluate.suite import run_suite
from selfflow.worlds.tabletop.check import score_text

NAMES = [
    "whose colour", "whose kind", "small from large", "above from below", "left from right", "the order of a row",
    "which word",
]  # fmt: skip
CONFIG = SimpleNamespace(
    picture=SimpleNamespace(size=64),
    data=SimpleNamespace(
        mixture=("tabletop-still:picture:1", "tabletop-edit:edit:1", "tabletop-reference:edit:1"), source="tabletop"
    ),
)


def model():
    return SimpleNamespace(config=CONFIG, field=lambda template, memories: None)


@pytest.mark.parametrize(
    ("name", "text", "other"),
    [
        ("whose colour", "an orange box on a red book", "a red box on an orange book"),
        ("whose colour", "a red box on a red book", None),
        ("whose kind", "a red box and a small ball", "a red ball and a small box"),
        ("whose kind", "two boxes", None),
        ("small from large", "a little box and a red ball", "a big box and a red ball"),
        ("small from large", "a little box and a big ball", None),
        ("above from below", "a box above a ball", "a box below a ball"),
        ("left from right", "a box left of a ball", "a box right of a ball"),
        ("left from right", "a doll with its left arm up", None),
        ("the order of a row", "from left to right, a box, a red ball and a cup",
         "from left to right, a cup, a red ball and a box"),
        ("the order of a row", "from left to right, a box and a ball", "from left to right, a ball and a box"),
        ("the order of a row", "from left to right, a box with a ball on it and a cup", None),
        ("which word", 'a red sign saying "GO" on a box', 'a red sign saying "UP" on a box'),
        ("which word", 'a red sign saying "RED"', 'a red sign saying "CAT"'),
        ("which word", 'a sign saying "GO" and a sign saying "UP"', None),
        ("which word", 'a sign saying "gone"', None),
    ],
)  # fmt: skip
def test_one_thing_is_exchanged_or_nothing(name, text, other):
    found = heeding._kinds()[name](text)
    assert (found and heeding._articles(found)) == other


def test_who_reads_is_always_right_and_who_does_not_half_of_the_time(monkeypatch):
    asked = []

    def reads(pipe, task, samples, levels):
        asked.extend((task, s) for s in samples)
        if task == "picture":
            return np.array([1.0 - 0.5 * score_text(s.picture, s.text).value for s in samples])
        if "number" in samples[0].meta:
            asked_for = [s.references[int(re.findall(r"picture (\d)", s.text)[0]) - 1] for s in samples]
            return np.array([1.0 + (shown != s.picture).any() for shown, s in zip(asked_for, samples, strict=True)])
        if len(samples[0].references) == 1:
            written = [(s.meta["truth"].after.things, re.findall(r'"(\w+)"', s.text)) for s in samples]
            return np.array([1.0 - 0.5 * (word in [t.word for t in things]) for things, [word] in written])
        first = [scene.things[0].colour for scene in (s.meta["truth"].scenes[0] for s in samples)]
        return np.array([mean_of(s.references[0], colour) for s, colour in zip(samples, first, strict=True)])

    def mean_of(picture, colour):
        from selfflow.worlds.tabletop.scene import COLOURS

        return float(np.abs(picture.astype(float) - COLOURS[colour]).sum(-1).min())

    monkeypatch.setattr(heeding, "known_loss", reads)
    figures = run_suite(model(), "heeding", samples=4, progress=False)["figures"]
    others = [
        "which word to write",
        "which of several pictures",
        "which reference is which",
        "which reference is meant",
    ]
    assert list(figures) == [*NAMES, *others]
    assert all(f["value"] == 1 and f["count"] == 4 for f in figures.values()), figures
    assert {task for task, _ in asked} == {"picture", "edit"}
    assert figures["left from right"]["note"].startswith("the wrong one's loss is +")
    monkeypatch.setattr(heeding, "known_loss", lambda pipe, task, samples, levels: np.ones(len(samples)))
    deaf = run_suite(model(), "heeding", samples=4, progress=False)["figures"]
    assert all((f["value"], f["beats_floor"]) == (0.5, False) for f in deaf.values())
