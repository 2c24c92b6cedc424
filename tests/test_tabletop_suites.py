"""Tabletop suites: the truth scores at the ceiling, a liar at the floor, and who cannot do the task is told so."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from selfflow.data.scenes import TabletopScenes
from selfflow.evaluate.protocol import Options, seed_of
from selfflow.evaluate.suite import SUITES, run_suite
from selfflow.evaluate.tabletop_clips import strip
from selfflow.evaluate.tabletop_pictures import SHOWN, possible
from selfflow.evaluate.tabletop_report import asked_scenes, best_median_worst, examples, in_batches
from selfflow.worlds.tabletop.check import physics_faults, score_text
from selfflow.worlds.tabletop.language import parse
from selfflow.worlds.tabletop.render import render
from selfflow.worlds.tabletop.robot import Expert, TabletopEnv
from selfflow.worlds.tabletop.split import NOVELTIES, novel, novelties
from selfflow.worlds.tabletop.tasks import parse_instruction

COUNT = 4
KINDS = ("ball", "box", "hand", "sign")  # of stills: what a model has been trained on
OPTIONS = {"samples": COUNT, "progress": False, "batch": 4}


def shifted(items: Sequence[Any]) -> list[Any]:
    return [*items[1:], items[0]]


class Model:
    """Knows the answers of a task, `wrong` those of the next question; counts on being asked each question once."""

    def __init__(self, task: str, wrong: bool = False) -> None:
        self.config = SimpleNamespace(picture=SimpleNamespace(size=64), data=SimpleNamespace(kinds=KINDS))
        source = TabletopScenes(COUNT, 64, "test", 0, KINDS)
        cases = (
            list(map(source.__getitem__, range(COUNT)))
            if task == "still"
            else examples(task, 64, Options(samples=COUNT))
        )
        answers = shifted(cases) if wrong else cases
        self.answer = {case.text: answer for case, answer in zip(cases, answers, strict=True)}
        assert len(self.answer) == COUNT
        for count in SHOWN if task == "reference" else ():
            cases = examples(task, 64, Options(samples=COUNT // 2), count)
            assert [len(case.references) for case in cases] == [count] * len(cases)
            self.answer |= dict(zip([c.text for c in cases], shifted(cases) if wrong else cases, strict=True))

    def held_out_velocity_loss(self, samples, levels, seed):
        # A model that is surprised by dark pictures; whoever is asked twice says the same.
        return dict.fromkeys(levels, (float(np.mean([s.picture.mean() for s in samples])), 0.1))


class Painter(Model):
    def __call__(self, prompts, *, num_inference_steps, guidance_scale, generator, output_type):
        return SimpleNamespace(images=np.stack([self.answer[p].picture for p in prompts]))


class Editor(Model):
    def edit(self, pictures, instructions, **sampling):
        return np.stack([self.answer[t].picture for t in instructions])


class Composer(Model):
    def compose(self, references, texts, **sampling):
        assert all(1 <= len(pictures) <= 10 for pictures in references)
        return np.stack([self.answer[t].picture for t in texts])


class Animator(Model):
    def clip(self, texts, frames, fps, **sampling):
        return np.stack([self.answer[t].clip for t in texts])

    def clip_loss(self, clips, texts, seed):
        return [0.0, 1.0]  # pairs come as possible, impossible


class Sounder(Model):
    def sound(self, clips, fps, texts, rate, **sampling):
        return np.stack([self.answer[t].sound for t in texts])


class Filmer(Model):
    def clip_and_sound(self, texts, frames, fps, rate, **sampling):
        return [self.answer[t].clip for t in texts], [self.answer[t].sound for t in texts]


CASES: list[tuple[str, str, Callable[..., Model]]] = [
    ("tabletop-text", "still", Painter),
    ("tabletop-edit", "edit", Editor),
    ("tabletop-reference", "reference", Composer),
    ("tabletop-video", "clip", Animator),
    ("tabletop-sound", "clip", Sounder),
    ("tabletop-av", "clip", Filmer),
]


@pytest.mark.parametrize(("suite", "task", "model"), CASES, ids=[case[0] for case in CASES])
def test_the_truth_reaches_the_ceiling_and_a_liar_does_not(suite, task, model, tmp_path, capsys, monkeypatch) -> None:
    for module in ("clips", "pictures"):
        monkeypatch.setattr(f"selfflow.evaluate.tabletop_{module}.SURPRISE_PAIRS", 1, raising=False)
    path = tmp_path / "figures.json"
    truth = run_suite(model(task), suite, path, **OPTIONS)
    score = truth["figures"]["facts right" if task == "still" else "score"]
    assert score["value"] == score["ceiling"] > 0.8
    assert score["floor"] < 0.8
    assert score["low"] <= score["value"] <= score["high"]
    assert score["count"] == COUNT == len(truth["scores"])
    assert json.loads(path.read_text()) == truth
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert ("all facts right" if task == "still" else "without fault") in capsys.readouterr().out
    for law in set(truth["figures"]) & {"laws kept", "continuity", "things named", "what happens"}:
        assert truth["figures"][law]["floor"] < truth["figures"][law]["ceiling"] == 1, law  # keeping it can be told
    if suite == "tabletop-av":
        return  # its floor is a true clip with another's sound; a whole other film fits itself
    if suite == "tabletop-video":
        pairs = [f for name, f in truth["figures"].items() if name.startswith("surprise")]
        assert [(f["value"], f["chance"]) for f in pairs] == 4 * [(1.0, 0.5)]
    lies = run_suite(model(task, wrong=True), suite, **OPTIONS)
    assert lies["figures"]["facts right" if task == "still" else "score"]["value"] == pytest.approx(score["floor"])
    assert lies["faults"]
    assert lies["worst"][0]["faults"]
    if suite == "tabletop-reference":
        check_identity(truth["figures"], lies["figures"])


def check_identity(truth: dict[str, Any], lies: dict[str, Any]) -> None:
    """Kept by the truth, and not by a liar or a copy, whose marks are the floor."""
    truth = {name: f for name, f in truth.items() if name.startswith(("identity kept", "looks right"))}
    shown = ("one reference", "three references", "six references", "ten references")
    assert set(truth) == {f"{what}, {many}" for what in ("identity kept", "looks right") for many in shown}
    for name, figure in truth.items():
        assert figure["value"] == figure["ceiling"] == 1
        assert figure["count"] == COUNT // 2
        assert lies[name]["value"] <= figure["floor"] < 1
    exchanged = [lies[f"identity kept, {many}"]["value"] for many in shown]
    floors = [truth[f"identity kept, {many}"]["floor"] for many in shown]
    # A copy keeps one thing of those asked for; where it is the only one, that is no floor.
    assert floors == pytest.approx([max(pair) for pair in zip(exchanged, (0, 1 / 3, 1 / 6, 1 / 10), strict=True)])


def test_things_put_down_anywhere_float_or_overlap() -> None:
    figures = run_suite(Painter("still"), "tabletop-text", **OPTIONS, pairs=0)["figures"]
    possible = figures["nothing overlaps or floats"]
    assert possible["value"] == possible["ceiling"] == 1
    assert possible["floor"] == 0


def test_how_many_are_right_is_told_by_what_is_held_out() -> None:
    model = Painter("still")
    figures = run_suite(model, "tabletop-text", **OPTIONS, pairs=0)["figures"]
    source = asked_scenes(model, COUNT, Options(**OPTIONS).seed)
    said = [novelties(parse(source[i].text)) for i in range(COUNT)]
    counts = {name: n for name in NOVELTIES if (n := sum(name in each for each in said))}
    found = {n.split(", ")[1]: f for n, f in figures.items() if n.startswith("all facts right, ")}
    assert {name.removesuffix(" held out"): f["count"] for name, f in found.items()} == counts
    assert sum(counts.values()) >= COUNT
    assert all(figure["value"] == figure["ceiling"] >= 0.5 > figure["floor"] for figure in found.values())


def test_an_empty_picture_is_no_possible_one() -> None:
    source = TabletopScenes(8, 64, "test", 0)
    samples = [source[i] for i in range(8)]
    assert [possible(score_text(s.picture, s.text), s.text) for s in samples].count(True) >= 7
    for sample in samples:
        empty = render(replace(sample.meta["scene"], things=()), 64)
        assert not physics_faults(empty)  # nothing is there to break a law
        assert not possible(score_text(empty, sample.text), sample.text)
    many = max(samples, key=lambda s: len(s.meta["scene"].things))
    fewer = render(replace(many.meta["scene"], things=many.meta["scene"].things[:1]), 64)
    assert not possible(score_text(fewer, many.text), many.text)


def test_categories_and_second_floors_are_reported() -> None:
    figures = run_suite(Editor("edit"), "tabletop-edit", **OPTIONS)["figures"]
    cases = examples("edit", 64, Options(samples=COUNT))
    kinds = {case.truth.kind for case in cases}
    parts = {name.removeprefix("score, "): figure for name, figure in figures.items() if name.startswith("score, ")}
    assert set(parts) == {*kinds, "novel instruction"}
    assert parts["novel instruction"]["count"] == sum(novel(parse_instruction(case.text)) for case in cases) < COUNT
    assert sum(parts[kind]["count"] for kind in kinds) == COUNT
    assert figures["floor: copy of the input"]["value"] < figures["score"]["value"]


@pytest.mark.parametrize("suite", [name for name in SUITES if name.startswith("tabletop-") and name != "tabletop-text"])
def test_a_model_that_cannot_do_the_task_is_told_so(suite: str) -> None:
    pipe = SimpleNamespace(config=SimpleNamespace(picture=SimpleNamespace(size=64)))
    with pytest.raises(ValueError, match=rf"suite {suite} needs a model with \w+\(.*\); SimpleNamespace has none"):
        run_suite(pipe, suite, **OPTIONS)


def test_prompts_are_fixed_by_the_seed_and_held_out() -> None:
    first, again = (examples("still", 64, Options(samples=4, seed=s)) for s in (0, 0))
    other = examples("still", 64, Options(samples=4, seed=1))
    assert [c.text for c in first] == [c.text for c in again] != [c.text for c in other]
    assert [c.text for c in examples("still", 64, Options(samples=2))] == [c.text for c in first[:2]]


# ------------------------------------------------------------------------------------------------------ robot


class Copycat:
    """Plays the expert's actions of the same scenes, looked up by instruction and first picture; or stands still."""

    def __init__(self, expert: bool) -> None:
        self.config = SimpleNamespace(picture=SimpleNamespace(size=32))
        self.expert, self.plans = expert, []

    def act(self, images: np.ndarray, states: np.ndarray, instructions: list[str], step: int) -> np.ndarray:
        if not self.expert:
            return states
        if step == 0:
            self.plans = [self.plan(*row) for row in zip(images, instructions, strict=True)]
        return np.stack([plan[min(step, len(plan) - 1)] for plan in self.plans])

    def plan(self, image: np.ndarray, instruction: str) -> list[np.ndarray]:
        for i in range(2):
            env = TabletopEnv("push-to", 32, split="test")
            seen, _ = env.reset(seed=seed_of("tabletop", "robot", "push-to", 0, i) % 2**31)
            if seen["instruction"] == instruction and np.array_equal(seen["image"], image):
                expert, actions, done = Expert(env), [], False
                while not done:
                    actions.append(expert.act())
                    _, _, terminated, truncated, _ = env.step(actions[-1])
                    done = terminated or truncated
                return actions
        raise AssertionError("the suite asked for another scene than it says")


def test_a_robot_that_knows_reaches_the_expert_and_one_that_stands_still_does_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("selfflow.worlds.tabletop.robot.TASKS", ("push-to",))  # the others only take longer
    monkeypatch.setattr("selfflow.worlds.tabletop.robot.MAX_STEPS", 30)
    options = {"samples": 2, "progress": False}
    figures = run_suite(Copycat(True), "tabletop-robot", tmp_path / "r.json", **options)["figures"]
    assert figures["success"]["value"] == figures["success"]["ceiling"] == 1
    assert figures["success"]["count"] == 2
    assert figures["success, push-to"] == figures["success"]
    monkeypatch.setattr("selfflow.worlds.tabletop.robot.MAX_STEPS", 5)
    still = run_suite(Copycat(False), "tabletop-robot", **options)
    assert still["figures"]["success"]["value"] == 0
    assert still["faults"] == {"not done in time": 2}


def test_actions_of_another_shape_are_refused() -> None:
    policy = Copycat(False)
    policy.act = lambda *_: np.zeros((3, 2))  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"actions \(3, 2\); wanted \(1, 3\)"):
        run_suite(policy, "tabletop-robot", samples=2, progress=False)


# ------------------------------------------------------------------------------------------------------ common parts


def test_best_median_and_worst_are_what_they_say_and_none_is_shown_twice() -> None:
    values = [0.5, 0.1, 0.9, 0.7, 0.3, 0.8, 0.2]
    assert best_median_worst(values, 2) == [
        ("best", 2),
        ("best", 5),
        ("median", 3),
        ("median", 0),
        ("worst", 6),
        ("worst", 1),
    ]
    for count in range(1, 8):
        chosen = [i for _, i in best_median_worst(values[:count], 3)]
        assert len(set(chosen)) == len(chosen) >= 1


def test_each_row_has_noise_of_its_own_whatever_the_batch() -> None:
    def draw(rows: list[int], *, generator: list[torch.Generator], **_: Any) -> list[float]:
        return [float(torch.rand((), generator=g)) for g in generator]

    found = [in_batches(draw, (list(range(7)),), Options(batch=b, progress=False)) for b in (1, 3, 7)]
    assert found[0] == found[1] == found[2]
    assert len(set(found[0])) == 7
    other = in_batches(draw, (list(range(7)),), Options(noise=1, progress=False))
    assert not set(other) & set(found[0])
    cases = [examples("still", 64, Options(samples=2, noise=noise)) for noise in (0, 1)]
    assert [c.text for c in cases[0]] == [c.text for c in cases[1]]  # of the same prompts
    with pytest.raises(ValueError, match="asked for 2 results and returned 1"):
        in_batches(lambda rows, **_: rows[:1], ([1, 2],), Options(progress=False))


def test_a_strip_shows_first_and_last_frame() -> None:
    clip = np.arange(16, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    shown = strip(clip)
    assert shown.shape == (8, 32, 3)
    assert [int(v) for v in shown[0, ::8, 0]] == [0, 5, 10, 15]


def test_a_clip_in_which_nothing_is_seen_keeps_no_law():
    from selfflow.evaluate.tabletop_clips import score_film
    from selfflow.worlds.tabletop.tasks import example

    case = example("clip", 3, 64, "test")
    assert score_film(case.clip, case.text).facts["laws kept"] == 1.0
    seen = score_film(np.full_like(case.clip, 200), case.text)
    assert (seen.value, seen.facts["laws kept"], seen.facts["gravity"]) == (0.0, 0.0, 0.0)
