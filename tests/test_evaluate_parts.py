"""Suites of what is made from a part: who knows the rest reaches the ceiling, who copies what is known the floor."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluate_toys import (
    COUNT,
    FRAMES,
    OPTIONS,
    SIZE,
    Toy,
    beside,
    config_of,
    random_pipeline,
    tones,
    toy_sources,
    world_of,
)
from selfflow.data.packs import PackMissing
from selfflow.data.registry import open_named
from selfflow.evaluate import motion_suite, tabletop_clips
from selfflow.evaluate.digits_suite import log_mel
from selfflow.evaluate.inpaint_suite import GRID, _drawn_on, _levelled, rectangle
from selfflow.evaluate.measures import chosen
from selfflow.evaluate.motion_suite import KNOWN
from selfflow.evaluate.protocol import Options
from selfflow.evaluate.suite import run_suite
from selfflow.evaluate.tabletop_report import examples, shifted
from selfflow.evaluate.world_suite import psnr
from selfflow.modalities.audio import Audio

FEW = {"samples": 2, "progress": False}


@pytest.fixture
def sources(monkeypatch):
    return toy_sources(monkeypatch)


# ------------------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize(("suite", "around"), [("inpaint", False), ("outpaint", True)])
def test_who_knows_what_is_hidden_paints_it_and_who_leaves_the_hole_stays_at_the_floor(suite, around, monkeypatch):
    config = config_of(64)
    source = open_named("tabletop-still", 64, "test")
    truth = {s.text: s.picture for s in (source[i] for i in chosen(len(source), 2, 0))}
    shares = []

    def paints(pictures, holes, texts, **_):
        for picture, hole, text in zip(pictures, holes, texts, strict=True):
            assert np.array_equal(picture[~hole], truth[text][~hole])
            assert len(np.unique(picture[hole], axis=0)) == 1  # nothing of the truth
            cells = hole.reshape(GRID, 8, GRID, 8)
            assert np.array_equal(cells.any((1, 3)), cells.all((1, 3)))  # whole eighths
            shares.append(hole.mean())
        return np.stack([truth[t] for t in texts])

    figures = run_suite(SimpleNamespace(config=config, inpaint=paints), suite, **FEW)["figures"]
    assert figures["error in the hole"]["value"] == figures["error in the hole"]["ceiling"] == 0
    assert figures["facts right"]["value"] == figures["facts right"]["ceiling"] == 1
    assert all((share > 0.5) == around for share in shares)
    floors = {name: f["value"] for name, f in figures.items() if name.startswith("floor")}
    assert len(floors) == 3
    assert figures["error in the hole"]["floor"] == min(floors.values()) > 1

    monkeypatch.setattr(
        "selfflow.worlds.tabletop.check.score_text", lambda *_: SimpleNamespace(value=0, faults=("no",))
    )
    lazy = SimpleNamespace(config=config, inpaint=lambda pictures, holes, texts, **_: pictures)
    figures = run_suite(lazy, suite, **FEW)["figures"]
    assert figures["error in the hole"]["value"] == pytest.approx(floors["floor: the border's mean"])
    lazy.inpaint = lambda pictures, holes, texts, **_: pictures[:, :32]
    with pytest.raises(ValueError, match=r"painted pictures of shape \(2, 32, 64, 3\)"):
        run_suite(lazy, suite, **FEW)


def test_holes_are_filled_with_the_mean_of_their_border_or_the_nearest_pixel():
    picture = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None] * 10, 8, axis=0).repeat(3, axis=2)
    hole = np.zeros((8, 8), bool)
    hole[:, 3:7] = True  # its border are the columns 2 and 7
    assert np.array_equal(_levelled(picture, hole)[:, :, 0], np.broadcast_to([0, 10, 20, 45, 45, 45, 45, 70], (8, 8)))
    assert np.array_equal(_drawn_on(picture, hole)[:, :, 0], np.broadcast_to([0, 10, 20, 20, 20, 70, 70, 70], (8, 8)))
    hole = ~hole  # and around a part
    assert np.array_equal(_drawn_on(picture, hole)[:, :, 0], np.broadcast_to([30, 30, 30, 30, 40, 50, 60, 60], (8, 8)))


def test_holes_are_made_where_something_is_to_be_seen():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[12:16, 12:16] = 255
    holes = [rectangle(picture, np.random.default_rng(i)) for i in range(20)]
    assert all(hole[12:16, 12:16].any() for hole in holes)
    assert all(9 <= hole.sum() / 16 <= 25 for hole in holes)


# --------------------------------------------------------------------------------------------------------------- clips


@pytest.fixture(scope="module")
def films():
    return examples("clip", 32, Options(samples=2))


@cache
def scored(name, *key):
    arrays = [x if isinstance(x, str) else np.frombuffer(x[0], x[1]).reshape(x[2]) for x in key]
    return getattr(tabletop_clips, name)(*arrays)


@pytest.fixture
def once(monkeypatch):
    """What was scored is not scored again: reading a clip takes a while."""
    for name in ("score_film", "score_heard"):

        def kept(*given, name=name):
            return scored(name, *[x if isinstance(x, str) else (x.tobytes(), x.dtype, x.shape) for x in given])

        monkeypatch.setattr(motion_suite, name, kept)


def still(clips, known=1):
    return np.concatenate([clips[:, :known], clips[:, known - 1 : known].repeat(clips.shape[1] - known, 1)], axis=1)


@pytest.mark.parametrize(("suite", "known"), [("continue", KNOWN), ("animate", 1)])
def test_who_knows_what_comes_reaches_the_ceiling_and_a_picture_held_the_floor(suite, known, films, once, tmp_path):
    clips = {case.text: case.clip for case in films}

    def model(answer):
        def continue_clip(seen, count, texts, fps, **_):
            assert (seen.shape[1], count, fps) == (KNOWN, 16 - KNOWN, 20)
            return answer(seen, texts)

        def animate(pictures, texts, frames, fps, **_):
            assert (frames, fps) == (16, 20)
            return answer(pictures[:, None], texts)

        return SimpleNamespace(config=config_of(32), animate=animate, continue_clip=continue_clip)

    def knows(seen, texts):
        true = np.stack([clips[t] for t in texts])
        assert np.array_equal(seen, true[:, :known])
        return true

    figures = run_suite(model(knows), suite, tmp_path / "f.json", **FEW)["figures"]
    assert figures["score"]["value"] == figures["score"]["ceiling"] == figures["laws kept"]["value"] == 1
    assert figures["psnr"]["value"] == figures["psnr"]["ceiling"] == psnr(0)
    assert (tmp_path / "f.png").exists()
    held = run_suite(model(lambda seen, texts: still(knows(seen, texts), known)), suite, **FEW)["figures"]
    others = held["floor: another clip goes on"]["value"]
    assert held["score"]["floor"] == max(held["score"]["value"], others) < 1
    assert held["laws kept"]["value"] == held["laws kept"]["floor"]
    assert held["psnr"]["value"] == held["psnr"]["floor"] < 25
    with pytest.raises(ValueError, match=r"made clips of shape \(2, 15, 32, 32, 3\)"):
        run_suite(model(lambda seen, texts: knows(seen, texts)[:, 1:]), suite, **FEW)


def test_a_film_and_its_sound_are_judged_together_and_silence_fits_nothing(films, once):
    truth = {case.text: case for case in films}

    def model(answer):
        def animate_with_sound(pictures, texts, frames, fps, rate, **_):
            assert (frames, fps, rate) == (16, 20, 16_000)
            clips = np.stack([truth[t].clip for t in texts])
            assert np.array_equal(pictures, clips[:, 0])
            return answer(clips, np.stack([truth[t].sound for t in texts]))

        return SimpleNamespace(config=config_of(32), animate_with_sound=animate_with_sound)

    figures = run_suite(model(lambda clips, sounds: (clips, sounds)), "animate+sound", **FEW)["figures"]
    assert figures["score"]["value"] == figures["score"]["ceiling"] == figures["sound fits clip"]["value"] == 1
    assert figures["psnr"]["value"] == figures["psnr"]["ceiling"]
    other = figures["floor: the true clip, another's sound"]["value"]
    copies = model(lambda clips, sounds: (still(clips), np.stack(shifted(list(sounds)))))
    found = run_suite(copies, "animate+sound", **FEW)["figures"]
    for name in ("score", "sound fits clip", "psnr", "laws kept"):
        bar = max(found[name]["value"], other) if name == "score" else found[name]["value"]
        assert bar == found[name]["floor"] < figures[name]["ceiling"]
    exchanged = model(lambda clips, sounds: (clips, np.stack(shifted(list(sounds)))))
    assert run_suite(exchanged, "animate+sound", **FEW)["figures"]["score"]["value"] == other < 1
    silent = run_suite(model(lambda clips, sounds: (still(clips), 0 * sounds)), "animate+sound", **FEW)
    assert silent["figures"]["score"]["value"] == silent["figures"]["sound fits clip"]["value"] == 0
    assert silent["faults"]["nothing is heard"] == 2


def test_what_is_shown_fits_what_is_heard_or_another_sound(films, once, monkeypatch):
    heard = {case.sound.astype(np.float32).tobytes(): case for case in films}
    clips = {case.text: case.clip for case in films}

    def model(wrong):
        def visualise(sounds, rate, texts, frames, fps, **_):
            assert (rate, frames, fps) == (16_000, 16, 20)
            found = [heard[s.tobytes()] for s in sounds]
            assert [case.text for case in found] == list(texts)
            return np.stack([case.clip for case in (shifted(found) if wrong else found)])

        return SimpleNamespace(config=config_of(32), visualise=visualise, field=lambda *_: None)

    def loss(right):
        def known_loss(pipe, task, samples, seed):
            assert task == "visualise"
            assert all(np.array_equal(s.clip, clips[s.text]) for s in samples)
            own = [heard[s.sound.tobytes()].text == s.text for s in samples]
            return np.array(own, float) * (-1 if right else 1)

        return known_loss

    monkeypatch.setattr(motion_suite, "known_loss", loss(True))
    figures = run_suite(model(False), "visualise", **FEW)["figures"]
    assert figures["score"]["value"] == figures["score"]["ceiling"] == 1
    assert figures["own sound rather than another's"]["value"] == 1
    monkeypatch.setattr(motion_suite, "known_loss", loss(False))
    figures = run_suite(model(True), "visualise", **FEW)["figures"]
    still_one = figures["floor: first frame of another clip, still"]["value"]
    assert figures["score"]["floor"] == max(figures["score"]["value"], still_one) < 0.5
    assert figures["sound fits clip"]["value"] == figures["sound fits clip"]["floor"]
    assert figures["own sound rather than another's"]["value"] == 0


# -------------------------------------------------------------------------------------------------------------- sounds


def test_a_voice_goes_on_and_silence_does_not(sources, monkeypatch, tmp_path):
    test, pack = tones(1), {"speakers": np.array(["ann", "bob"])}
    for split in ("train", "test"):
        sources[split, "digits"] = Toy("digits", test, pack=pack, rate=16_000)
    known = log_mel(np.stack([s.sound for s in test]), 16_000)
    labels = np.array([(s.meta["digit"], ("ann", "bob").index(s.meta["speaker"])) for s in test])

    def nearest(x):
        return labels[[int(np.abs(known - one).mean((1, 2, 3)).argmin()) for one in x]]

    monkeypatch.setattr("selfflow.evaluate.digits_suite.listener", lambda *_: SimpleNamespace(answers=nearest))

    def model(answer):
        def continue_sound(begun, seconds, texts, **_):
            assert begun.shape[1] == 1600
            assert seconds == pytest.approx(0.3)
            true = np.stack([next(s.sound for s in test if np.array_equal(s.sound[:1600], b)) for b in begun])
            return answer(true, begun)

        return beside(continue_sound=continue_sound)

    options = OPTIONS | {"samples": 20}
    figures = run_suite(model(lambda true, begun: true), "continue-sound", tmp_path / "c.json", **options)["figures"]
    for name, chance in (("digit recognised", 0.1), ("speaker recognised", 0.5)):
        assert (figures[name]["value"], figures[name]["ceiling"], figures[name]["chance"]) == (1, 1, chance)
        assert figures[name]["floor"] < 1
    assert figures["error of the rest"]["value"] == 0 < figures["error of the rest"]["floor"]
    stops = model(lambda true, begun: np.pad(begun, ((0, 0), (0, 4800))))
    figures = run_suite(stops, "continue-sound", **options)["figures"]
    floor = figures["floor: then silence"]["value"]
    assert figures["error of the rest"]["value"] == floor >= figures["error of the rest"]["floor"]
    silent = beside(continue_sound=lambda *_, **__: None)
    silent.config.audio.rate = 0
    with pytest.raises(ValueError, match="suite continue-sound needs a model with sound"):
        run_suite(silent, "continue-sound", **options)
    sources.clear()
    with pytest.raises(PackMissing, match="digits is not here"):
        run_suite(stops, "continue-sound", **options)


# ------------------------------------------------------------------------------------------------------------- actions


def test_plans_are_compared_in_what_is_done_and_in_what_is_seen(sources):
    samples = [replace(s, actions=s.states + 30) for s in world_of()]
    sources["tabletop-robot"] = Toy("tabletop-robot", samples)
    truth = {s.text: s for s in samples}

    def model(answer):
        def plan(images, texts, body, states, width, count, hz, **_):
            assert (body, width, count, hz) == ("toy", 2, FRAMES, 10)
            rows = [answer(truth[t]) for t in texts]
            return np.stack([clip for clip, _ in rows]), np.stack([actions for _, actions in rows])

        return beside(plan=plan)

    figures = run_suite(model(lambda s: (s.clip, s.actions)), "plan", **OPTIONS)["figures"]
    assert figures["action error, tabletop-robot"]["value"] == 0 < figures["action error, tabletop-robot"]["floor"]
    assert figures["psnr, tabletop-robot"]["value"] == figures["psnr, tabletop-robot"]["ceiling"] == psnr(0)
    waits = model(lambda s: (np.repeat(s.clip[:1], FRAMES, 0), np.repeat(s.states[:1], FRAMES, 0)))
    figures = run_suite(waits, "plan", **OPTIONS)["figures"]
    for name in ("action error, tabletop-robot", "psnr, tabletop-robot"):
        assert figures[name]["value"] == figures[name]["floor"]
    with pytest.raises(ValueError, match=r"plans show clips of shape \(8, 7, 16, 16, 3\)"):
        run_suite(model(lambda s: (s.clip[1:], s.actions)), "plan", **OPTIONS)


def test_what_was_done_is_told_from_what_is_seen_or_guessed(sources):
    samples = [replace(s, actions=s.states) for s in world_of()]
    sources["pusht"] = Toy("pusht", samples)
    truth, total = {s.text: s.actions for s in samples}, sum(s.actions for s in samples)

    def looks(clips, texts, body, width, hz, **_):
        assert (body, width, hz) == ("toy", 2, 10)
        return np.stack([np.stack([np.argwhere(f[..., 0] > 128).min(axis=0) for f in clip]) for clip in clips])

    def guesses(clips, texts, *_, **__):
        return np.stack([(total - truth[t]) / (COUNT - 1) for t in texts])

    found = run_suite(beside(inverse=looks), "inverse", **OPTIONS)
    assert set(found["missing"]) == {"tabletop-robot"}
    error = found["figures"]["action error, pusht"]
    assert error["value"] == 0
    floors = {n: f["value"] for n, f in found["figures"].items() if n.startswith("floor")}
    assert len(floors) == 3
    nearer = [floors[f"floor: {n}, pusht"] for n in ("staying in place", "mean action of the other windows")]
    assert error["floor"] == min(nearer) > 1
    figures = run_suite(beside(inverse=guesses), "inverse", **OPTIONS)["figures"]
    assert figures["action error, pusht"]["value"] == pytest.approx(nearer[1])
    sources.clear()
    with pytest.raises(PackMissing, match=r"tabletop-robot is not here; pusht is not here"):
        run_suite(beside(inverse=looks), "inverse", **OPTIONS)


# ------------------------------------------------------------------------------------------------- the model's methods


@pytest.fixture(scope="module")
def pipe():
    return random_pipeline()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def sampled(seed=0):
    return {"steps": 1, "generator": torch.Generator().manual_seed(seed)}


@pytest.mark.parametrize("known", [2, 4, 7, 8])
def test_a_clip_goes_on_behind_what_is_known(pipe, known):
    clips = noise(2, known, SIZE, SIZE)
    made = pipe.continue_clip(clips, 3, ["a", "b"], 10, **sampled())
    assert made.shape == (2, known + 3, SIZE, SIZE, 3)
    assert np.array_equal(made[:, :known], clips)
    assert not np.array_equal(made[:, known:], pipe.continue_clip(clips, 3, ["a", "b"], 10, **sampled(1))[:, known:])
    if known == 7:  # tokens are four frames deep: the last four are looked at, and no others
        other = np.concatenate([noise(2, 3, SIZE, SIZE, seed=9), clips[:, 3:]], axis=1)
        assert np.array_equal(pipe.continue_clip(other, 3, ["a", "b"], 10, **sampled())[:, known:], made[:, known:])
    with pytest.raises(ValueError, match="2 inputs were given with 1 texts"):
        pipe.continue_clip(clips, 3, ["a"], 10)


def test_a_sound_goes_on_behind_what_is_known(pipe, monkeypatch):
    sounds = np.random.default_rng(0).normal(0, 0.1, (2, 1600)).astype(np.float32)
    solved = []
    solve = pipe.solve
    monkeypatch.setattr(pipe, "solve", lambda *a, **k: solved.append(solve(*a, **k)) or solved[-1])
    made = pipe.continue_sound(sounds, 0.1, ["a", "b"], **sampled())
    untouched = 5 * 320  # a latent has not heard what follows, so all five hops are known
    assert made.shape == (2, 3200)
    assert np.array_equal(made[:, :untouched], sounds[:, :untouched])
    np.testing.assert_allclose(solved[0][0].sound[:untouched], sounds[0, :untouched], atol=1e-5)  # as it comes
    with pytest.raises(ValueError, match="319 samples of a sound are less than its first token; give 320 or more"):
        pipe.continue_sound(sounds[:, :319], 0.1, ["a", "b"])


def test_the_tokens_of_a_beginning_do_not_depend_on_what_follows():
    audio, rng = Audio(), np.random.default_rng(0)
    wave = torch.from_numpy(rng.normal(0, 0.1, (1, 3200)).astype(np.float32))
    for samples in (0, 100, 479, 480, 1279, 1440, 1600):
        other = wave.clone()
        other[:, samples:] = 0
        known = audio.known(samples)
        one, two = audio.tokens(wave).data, audio.tokens(other).data
        assert torch.equal(one[:, :known], two[:, :known])
        assert not torch.equal(one[:, : known + 1], two[:, : known + 1])  # and no more could be known


def test_films_and_plans_begin_with_what_is_seen(pipe):
    pictures, texts = noise(2, SIZE, SIZE), ["a", "b"]
    clips, sounds = pipe.animate_with_sound(pictures, texts, FRAMES, 10, 16_000, **sampled())
    assert (clips.shape, sounds.shape) == ((2, FRAMES, SIZE, SIZE, 3), (2, 12_800))
    assert np.array_equal(clips[:, 0], pictures)
    for states in (None, np.zeros((2, 2))):
        clips, actions = pipe.plan(pictures, texts, "toy", states, 2, FRAMES, 10, **sampled())
        assert (clips.shape, actions.shape) == ((2, FRAMES, SIZE, SIZE, 3), (2, FRAMES, 2))
        assert np.array_equal(clips[:, 0], pictures)
    actions = pipe.inverse(clips, texts, "toy", 2, 10, **sampled())
    assert actions.shape == (2, FRAMES, 2)
    assert not np.array_equal(actions, pipe.inverse(noise(*clips.shape[:4]), texts, "toy", 2, 10, **sampled()))


def test_holes_are_all_that_is_painted(pipe):
    pictures, holes = noise(2, SIZE, SIZE), np.zeros((2, SIZE, SIZE), bool)
    holes[0, :8, :8] = holes[1, 8:, 8:] = True
    made = pipe.inpaint(pictures, holes, ["a", "b"], **sampled())
    assert np.array_equal(made[~holes], pictures[~holes])
    assert (made[holes] != pictures[holes]).any()
