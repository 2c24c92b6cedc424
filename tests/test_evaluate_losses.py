"""The model's own loss as a judge (surprise, sync), real pipelines in suites, and all suites on one page."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluate_toys import FRAMES, OPTIONS, Toy, beside, config_of, random_pipeline, tones, toy_sources, world_of
from selfflow import flow
from selfflow.data.packs import PackMissing
from selfflow.evaluate import judge as judges
from selfflow.evaluate.every_suite import PAGE, every_suite, tasks_of
from selfflow.evaluate.judge import Judge
from selfflow.evaluate.measures import chosen, in_turn
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.suite import SUITES, run_suite
from selfflow.evaluate.surprise import clip_loss, known_loss, sound_loss
from selfflow.recipes import micro_all
from selfflow.tasks import TASKS


@pytest.fixture
def sources(monkeypatch):
    return toy_sources(monkeypatch)


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


def heard_of(samples):
    """The samples with a click when the square moves down."""
    out = []
    for i, s in enumerate(samples):
        sound = np.zeros(12_800, np.float32)
        sound[1600 * (i % FRAMES) : 1600 * (i % FRAMES) + 400] = 0.5
        out.append(replace(s, sound=sound, sound_rate=16_000))
    return out


def test_the_loss_of_what_is_known_is_zero_for_who_knows_and_does_not_depend_on_the_batch(pipe, monkeypatch):
    samples = heard_of(world_of(5))
    for task in ("clip", "animate", "dub", "clip+sound"):
        whole = known_loss(pipe, task, samples, seed=3)
        assert whole.shape == (5,)
        assert (whole > 0.1).all()
        np.testing.assert_allclose(known_loss(pipe, task, samples, seed=3, batch=2), whole, rtol=1e-4)
        assert not np.allclose(known_loss(pipe, task, samples, seed=4), whole, rtol=1e-4)

    def knows(template, memories, *_):
        data = template.data.float()  # the velocity is (x_t - data) / t
        return lambda x, t: (x - data) / t

    monkeypatch.setattr(pipe, "field", knows)
    assert known_loss(pipe, "clip+sound", samples).max() < 1e-8
    with pytest.raises(ValueError, match=r"levels \[1\.0\]"):
        known_loss(pipe, "clip", samples, levels=(0.5, 1.0))


def test_the_loss_is_the_mean_squared_error_of_the_velocity(pipe, monkeypatch):
    samples = world_of(3)
    monkeypatch.setattr(pipe, "field", lambda template, memories: lambda x, t: torch.zeros_like(x))
    data = pipe.modalities.moving.clip_tokens(
        torch.from_numpy(np.stack([s.clip for s in samples])).movedim(-1, 2) / 127.5 - 1, 10.0
    ).data
    noise = []
    monkeypatch.setattr(flow, "velocity", lambda clean, n: noise.append(n) or n - clean)
    found = clip_loss(pipe, np.stack([s.clip for s in samples]), [s.text for s in samples], 10.0)
    expected = torch.stack([(n - data).square().mean((1, 2)) for n in noise]).mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert torch.equal(noise[0][0], noise[0][1])  # all samples see one noise


def test_surprise_is_right_for_who_knows_what_can_be(monkeypatch):
    pytest.importorskip("pymunk")
    monkeypatch.setattr("selfflow.worlds.tabletop.pairs.PAIR_KINDS", ("support", "continuity"))
    model = beside(field=lambda: None)
    for right in (True, False):
        monkeypatch.setattr(
            "selfflow.evaluate.surprise.known_loss",
            lambda pipe, task, samples, seed, right=right: np.arange(len(samples)) * (1.0 if right else -1.0),
        )
        figures = run_suite(model, "surprise", **OPTIONS, pairs=1)["figures"]
        assert len(figures) == 6
        assert all(f["value"] == right and f["chance"] == 0.5 for f in figures.values())
        assert all(f["each"] == [float(right)] * f["count"] for f in figures.values())


def test_sounds_in_step_are_expected_and_others_are_not(sources, monkeypatch):
    samples = heard_of(world_of())
    sources["tabletop-clip"] = Toy("tabletop-clip", samples)
    own = {s.text: s for s in samples}
    model = beside(field=lambda: None)

    def knows(pipe, task, asked, seed):
        assert task == "dub"
        apart = [(s.sound - own[s.text].sound, s.clip - own[s.text].clip.astype(float)) for s in asked]
        return np.array([np.square(sound).mean() + np.square(clip).mean() for sound, clip in apart])

    monkeypatch.setattr("selfflow.evaluate.surprise.known_loss", knows)
    assert [f["value"] for f in run_suite(model, "sync", **OPTIONS)["figures"].values()] == [1] * 4
    # Who only hears how loud it is finds every sound as likely with one clip as with another.
    monkeypatch.setattr(
        "selfflow.evaluate.surprise.known_loss",
        lambda pipe, task, asked, seed: np.array([np.abs(s.sound).sum() + i % 1 for i, s in enumerate(asked)]),
    )
    assert [f["value"] for f in run_suite(model, "sync", **OPTIONS)["figures"].values()] == [0.5] * 4
    sources["tabletop-clip"] = Toy("tabletop-clip", [replace(s, sound=0 * s.sound) for s in samples])
    with pytest.raises(ValueError, match="0 of 8 clips sound"):
        run_suite(model, "sync", **OPTIONS)


def test_sound_loss_takes_what_a_suite_has(pipe):
    samples = heard_of(world_of(2))
    found = sound_loss(pipe, [s.clip for s in samples], 10, [s.sound for s in samples], 16_000, ["", ""])
    np.testing.assert_allclose(
        found, known_loss(pipe, "dub", [replace(s, text="") for s in samples]), rtol=1e-5
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- the page


def test_a_real_pipeline_has_the_methods_that_suites_call(pipe, sources, tmp_path, monkeypatch):
    monkeypatch.setenv("SELFFLOW_CACHE", str(tmp_path))
    monkeypatch.setattr(judges, "_fit", lambda *_: None)
    monkeypatch.setattr("selfflow.evaluate.video_distance.sprite_judge", lambda pipe: Judge(3, (6, 4), (8,), 3).eval())
    sources["pusht"] = sources["tabletop-robot"] = Toy("pusht", world_of())
    sources["tabletop-clip"] = Toy("tabletop-clip", heard_of(world_of()))
    animated = [replace(s, meta={"animation": "walk"}, fps=8) for s in world_of(12)]
    sources["sprites-clip"] = Toy("sprites-clip", animated)
    for split in ("train", "test"):
        sources[split, "digits"] = Toy("digits", tones(1), pack={"speakers": np.array(["ann", "bob"])}, rate=16_000)
    suites = {name: SUITES[name] for name in ("world", "robot", "digits", "sync", "continue-sound", "plan", "inverse")}
    found = every_suite(pipe, Options(samples=4, steps=1, guidance=1.0, progress=False), suites)
    assert set(found["suites"]) == set(suites)
    assert not found["skipped"]
    assert all(np.isfinite(f.value) for f in found["figures"].values())


def test_all_suites_on_a_page_and_what_is_skipped_says_why(tmp_path, monkeypatch, capsys):
    def fine(pipe, options):
        assert options.sheet.name.endswith(("-emoji.png", "-world.png"))
        names = ("kid", "retrieval", "retrieval, style", "psnr, here", "psnr after 1.5 s, here", "beside the point")
        return {"figures": {name: Figure(0.5, 0.4, 0.6, count=9) for name in names}, "rows": [1]}

    def missing(pipe, options):
        raise PackMissing("the pack fsdd8k is not here")

    for name in PAGE:
        monkeypatch.setitem(SUITES, name, missing if name == "digits" else fine)
    model = SimpleNamespace(config=config_of())
    model.config.data.mixture = ("emoji:picture:2", "pusht:imagine:1", "digits:sound:1")
    found = run_suite(model, "all", tmp_path / "all.json", progress=False)
    assert set(found["figures"]) == {
        "emoji: kid", "emoji: retrieval", "world: psnr, here", "world: psnr after 1.5 s, here",
    }  # fmt: skip
    assert "retrieval, style" in found["suites"]["emoji"]["figures"]
    assert found["skipped"]["digits"] == "the pack fsdd8k is not here"
    assert found["skipped"]["sync"] == "the model was not trained on tabletop-clip:dub"
    assert found["options"]["samples"] == 32
    assert found["suites"]["emoji"]["seconds"] >= 0
    assert json.loads((tmp_path / "all-emoji.json").read_text())["figures"]["kid"]["value"] == 0.5  # kept at once
    printed = capsys.readouterr().out
    assert "digits skipped: the pack fsdd8k is not here" in printed
    assert "world: psnr, here" in printed
    model.config.data.mixture = ("digits:sound:1",)
    with pytest.raises(ValueError, match=r"no suite could be run: .*fsdd8k"):
        run_suite(model, "all", progress=False)


def test_a_figure_beats_its_floor_with_its_whole_interval(monkeypatch, capsys):
    assert Figure(0.5, 0.4, 0.6, chance=0.35, floor=0.3).beats_floor
    assert not Figure(0.5, 0.4, 0.6, chance=0.45, floor=0.3).beats_floor  # a lucky floor is no excuse
    assert not Figure(0.5, 0.4, 0.6, chance=0.1, floor=0.4).beats_floor
    assert not Figure(0.5, 0.4, 0.6, chance=0.45).beats_floor
    assert Figure(0.5, 0.4, 0.6, floor=0.7, note="lower is better; 16 components").beats_floor
    assert not Figure(0.5, 0.4, 0.6, floor=0.5, note="lower is better").beats_floor
    assert Figure(0.5, 0.4, 0.6).beats_floor is None
    assert Figure(0.5, floor=0.1).beats_floor is None
    assert Figure(0.5, 0.4, 0.6, floor=0.3, judged=False).beats_floor is None
    asked = []

    def suite(pipe, options):
        asked.append((options.samples, options.pairs))
        return {
            "figures": {
                "a": Figure(0.5, 0.4, 0.6, floor=0.3),
                "b": Figure(0.5, 0.4, 0.6, floor=0.5),
                "c": Figure(1),
                "floor: d": Figure(0.9, 0.8, 1.0, floor=0.5, judged=False),
            }
        }

    monkeypatch.setitem(SUITES, "emoji", suite)
    found = run_suite(SimpleNamespace(), "emoji", quick=True)
    assert "1 of 2 figures beat their floor" in capsys.readouterr().out
    assert [f.get("beats_floor") for f in found["figures"].values()] == [True, False, None, None]
    assert [f.get("judged") for f in found["figures"].values()] == [None, None, None, False]
    run_suite(SimpleNamespace(), "emoji", quick=True, samples=99)
    assert asked == [(12, 4), (99, 4)]


def test_every_suite_has_a_place_on_the_page():
    assert set(PAGE) == set(SUITES) - {"all"}
    assert tasks_of(config_of()) == {"emoji:picture"}
    mixed = config_of()
    mixed.data.mixture = ("emoji:picture", "pusht:act:0.5")  # a weight may be left out
    assert tasks_of(mixed) == {"emoji:picture", "pusht:act"}
    needs = {need for needed, _ in PAGE.values() for need in needed}
    assert needs <= tasks_of(micro_all())
    assert {need.split(":")[1] for need in needs} == set(TASKS)  # each task is measured
    assert {"laws kept", "gravity"} <= set(PAGE["tabletop-video"][1])  # the physics are on it
    assert all("fréchet" in PAGE[name][1] for name in ("digits", "video"))


def test_samples_are_fixed_by_the_seed_and_kinds_have_their_turns():
    assert chosen(100, 5, 0) == chosen(100, 9, 0)[:5] != chosen(100, 5, 1)
    kinds = ["a"] * 90 + ["b"] * 8 + ["c"]
    found = [kinds[i] for i in in_turn(kinds, 9, 0)]
    assert (found.count("a"), found.count("b"), found.count("c")) == (4, 4, 1)
    assert len(set(in_turn(kinds, 200, 0))) == 99
    with pytest.raises(ValueError, match="no held-out samples"):
        chosen(0, 1, 0)
