"""Suites of many sources: who knows reaches the ceiling, who lies does not."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evaluate_toys import (
    COUNT,
    FRAMES,
    OPTIONS,
    Toy,
    beside,
    config_of,
    drawn,
    need,
    pushed,
    tones,
    toy_sources,
    world_of,
)
from selfflow.data.packs import PackMissing
from selfflow.evaluate import judge as judges
from selfflow.evaluate.digits_suite import log_mel
from selfflow.evaluate.judge import Judge, trained
from selfflow.evaluate.suite import run_suite
from selfflow.evaluate.world_suite import psnr


@pytest.fixture
def sources(monkeypatch):
    return toy_sources(monkeypatch)


# ----------------------------------------------------------------------------------------------------- world and robot


def where(picture):
    return np.argwhere(picture[..., 0] > 128).min(axis=0)


def test_a_world_model_passes_the_gate_only_if_it_heeds_actions_and_moves(sources, tmp_path):
    samples = world_of()
    sources["pusht"] = Toy("pusht", samples)
    truth = {s.text: s.clip for s in samples}

    def knows(pictures, texts, actions, body, hz, **_):
        assert (body, hz) == ("toy", 10)
        return np.stack([drawn(pushed(where(p), a)) for p, a in zip(pictures, actions, strict=True)])

    def still(pictures, texts, actions, body, hz, **_):
        return np.repeat(pictures[:, None], FRAMES, axis=1)

    def deaf(pictures, texts, actions, body, hz, **_):  # paints what came, whatever is done
        return np.stack([truth[t] for t in texts])

    path = tmp_path / "world.json"
    found = run_suite(beside(imagine=knows), "world", path, **OPTIONS)
    assert set(found["missing"]) == {"tabletop-robot", "sprites-play"}
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    figures = found["figures"]
    assert figures["psnr, pusht"]["value"] == figures["psnr, pusht"]["ceiling"] == psnr(0)
    assert figures["psnr, pusht"]["floor"] < 20
    assert figures["gate, pusht"]["value"] == 1
    assert figures["gain over shuffled actions, pusht"]["low"] > 10
    for liar, gain in ((still, "first frame held still"), (deaf, "shuffled actions")):
        figures = run_suite(beside(imagine=liar), "world", **OPTIONS)["figures"]
        name = next(n for n in figures if gain in n and n.startswith("gain"))
        assert (figures["gate, pusht"]["value"], figures[name]["value"]) == (0, 0)

    def wanders(*asked, steps=None, sampler=None, **_):  # draws are worse than the mean, by which it is judged
        clips = knows(*asked)
        return clips if (steps, sampler) == (1, "euler") else clips // 2

    figures = run_suite(beside(imagine=wanders), "world", **OPTIONS)["figures"]
    assert figures["gate, pusht"]["value"] == 1
    assert figures["psnr of the mean, pusht"]["value"] == psnr(0) > figures["psnr, pusht"]["value"] + 20
    with pytest.raises(ValueError, match=r"imagined clips of shape \(8, 3, 16, 16, 3\)"):
        run_suite(beside(imagine=lambda *a, **_: still(*a)[:, :3]), "world", **OPTIONS)


def test_psnr_of_known_errors():
    assert psnr(255.0**2) == pytest.approx(0)
    assert psnr([25.5**2] * 3) == pytest.approx(20)


def test_actions_are_compared_in_the_plane_and_with_staying_in_place(sources):
    samples = [replace(s, actions=s.states + 3) for s in world_of()]
    sources["pusht"] = Toy("pusht", samples)
    truth = {s.text: s.actions for s in samples}

    def expert(images, texts, body, states, width, count, hz, **_):
        return np.stack([truth[t] for t in texts])

    def off(*args, **_):
        return expert(*args) + np.array([3.0, 4.0])

    def stays(images, texts, body, states, width, count, hz, **_):
        return np.repeat(states[:, None], count, axis=1)

    figure = run_suite(beside(actions=expert), "robot", **OPTIONS)["figures"]["action error, pusht"]
    assert figure["value"] == figure["ceiling"] == 0 < figure["floor"]
    assert run_suite(beside(actions=off), "robot", **OPTIONS)["figures"]["action error, pusht"][
        "value"
    ] == pytest.approx(5)  # fmt: skip
    figures = run_suite(beside(actions=stays), "robot", **OPTIONS)["figures"]
    assert figures["action error, pusht"]["value"] == figures["action error, pusht"]["floor"]
    assert figures["action error at step 1, pusht"]["value"] == pytest.approx(18**0.5)


def test_floors_and_controls_are_compared_with_and_beat_nothing(sources):
    """Actions of other windows that happen to lie near, frames imagined with other actions: neither is a success."""
    samples = [replace(s, actions=s.states + 30) for s in world_of()]
    sources["pusht"] = Toy("pusht", samples)
    found = run_suite(beside(actions=lambda images, *_, **__: np.zeros((len(images), FRAMES, 2))), "robot", **OPTIONS)
    other = found["figures"]["floor: another window's actions, pusht"]
    assert other["high"] < other["floor"]  # nearer than staying in place
    assert "beats_floor" not in other
    assert other["judged"] is False
    truth = {s.text: s.clip for s in samples}
    deaf = beside(imagine=lambda pictures, texts, *_, **__: np.stack([truth[t] for t in texts]))
    control = run_suite(deaf, "world", **OPTIONS)["figures"]["psnr with shuffled actions, pusht"]
    assert control["low"] > control["floor"]
    assert "beats_floor" not in control


# -------------------------------------------------------------------------------------------------------------- judges


def test_a_speaker_is_heard_and_a_mumbler_is_not(sources, tmp_path, monkeypatch):
    from selfflow.data.digits import WORDS

    monkeypatch.setenv("SELFFLOW_CACHE", str(tmp_path))
    pack = {"speakers": np.array(["ann", "bob"])}
    test = tones(1)
    sources["test", "digits"] = Toy("digits", test, pack=pack, rate=16_000)
    sources["train", "digits"] = Toy("digits", tones(6), pack=pack, rate=16_000)

    def right(text, sample):
        named = [name for name in ("ann", "bob") if name in text]
        return WORDS[sample.meta["digit"]] in text and (not named or sample.meta["speaker"] == named[0])

    def speaks(texts, seconds, **_):
        return np.stack([next(s.sound for s in test if right(t, s)) for t in texts])

    def mumbles(texts, seconds, **_):
        return np.random.default_rng(0).normal(0, 0.1, (len(texts), 6400)).astype(np.float32)

    options = OPTIONS | {"samples": 20}
    figures = run_suite(beside(speak=speaks), "digits", tmp_path / "d.json", **options)["figures"]
    for name in ("digit recognised", "speaker recognised"):
        assert figures[name]["value"] == figures[name]["ceiling"] > 0.85
    assert figures["digit recognised"]["floor"] < 0.2
    kept = list((tmp_path / "judges").glob("digits-*.safetensors"))
    assert len(kept) == 1
    monkeypatch.setattr(judges, "_fit", lambda *_: pytest.fail("a judge that is on disk was trained again"))
    lies = run_suite(beside(speak=mumbles), "digits", **options)["figures"]
    assert lies["digit recognised"]["high"] < figures["digit recognised"]["low"]
    assert lies["fréchet"]["value"] > 2 * figures["fréchet"]["value"]
    silent = beside(speak=speaks)
    silent.config.audio.rate = 0
    with pytest.raises(ValueError, match="needs a model with sound"):
        run_suite(silent, "digits", **options)


def test_spectrograms_do_not_change_with_loudness_and_show_a_tone_in_its_band():
    time = np.arange(8000) / 16_000
    low, high = (np.sin(2 * np.pi * f * time)[None] for f in (300, 3000))
    np.testing.assert_allclose(log_mel(0.01 * low, 16_000), log_mel(low, 16_000), atol=1e-3)
    bands = [log_mel(x, 16_000)[0, 0].mean(axis=1).argmax() for x in (low, high)]
    assert bands[0] < 12 < 28 < bands[1]
    with pytest.raises(ValueError, match="finite"):
        log_mel(np.full((1, 8000), np.nan), 16_000)


def test_a_judge_of_clips_tells_left_from_right_and_is_the_same_from_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("SELFFLOW_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (128, 1))
    x = np.zeros((128, 3, 4, 8, 8), np.float32)
    for clip, (goes,), row, start in zip(x, labels, rng.integers(0, 7, 128), rng.integers(0, 8, 128), strict=True):
        for f in range(4):
            clip[:, f, row : row + 2, (start + 2 * f * (1 if goes else -1)) % 8] = 1

    def made(**more):
        return trained("toy", more, lambda: Judge(3, (2,), (16, 32), 3), lambda: (x[:96], labels[:96]), 30)

    first = made()
    assert (first.answers(x[96:]) == labels[96:]).mean() > 0.85
    monkeypatch.setattr(judges, "_fit", lambda *_: None)
    assert np.array_equal(made().judge(x)[0], first.judge(x)[0])
    made(other="setting")  # not on disk: trained (here: not at all), and kept
    assert len(list((tmp_path / "judges").iterdir())) == 2
    path = next((tmp_path / "judges").iterdir())
    path.write_bytes(path.read_bytes()[:50])  # damaged: trained anew
    made(), made(other="setting")
    assert path.stat().st_size > 50


def test_true_clips_are_nearest_and_still_ones_are_far(sources, monkeypatch):
    from selfflow.data.lpc import ANIMATIONS

    samples = [
        replace(s, fps=8, meta={"animation": ANIMATIONS[i % 6]}) for i, s in enumerate(world_of(3 * COUNT // 2))
    ]  # fmt: skip
    sources["sprites-clip"] = Toy("sprites-clip", samples)
    torch.manual_seed(0)
    fixed = Judge(3, (6, 4), (8, 16), 3).eval()
    monkeypatch.setattr("selfflow.evaluate.video_distance.sprite_judge", lambda pipe: fixed)
    truth = {s.text: s.clip for s in samples}

    def tells(texts, frames, fps, **_):
        return np.stack([truth[t] for t in texts])

    def still(*args, **_):
        return np.repeat(tells(*args)[:, :1], FRAMES, axis=1)

    found = run_suite(beside(clip=tells), "video", **OPTIONS)
    assert "tabletop-clip is not here" in found["missing"]["tabletop"]
    for name in ("fréchet, sprites", "kid, sprites", "motion recognised, sprites"):
        assert found["figures"][name]["value"] == pytest.approx(found["figures"][name]["ceiling"])
    lies = run_suite(beside(clip=still), "video", **OPTIONS)["figures"]["fréchet, sprites"]
    assert lies["value"] == pytest.approx(lies["floor"])
    assert lies["value"] > lies["ceiling"]
    sources.clear()
    with pytest.raises(PackMissing, match=r"tabletop-clip is not here; sprites-clip is not here"):
        run_suite(beside(clip=tells), "video", **OPTIONS)


# ---------------------------------------------------------------------------------------------------- emoji and sprites


def seen(pictures):
    """Features for tests: the picture itself, coarsely."""
    n, height, width, _ = pictures.shape
    return pictures.reshape(n, 8, height // 8, 8, width // 8, 3).mean(axis=(2, 4)).reshape(n, -1).astype(np.float32)


def test_emoji_edited_right_reach_the_ceiling_and_copies_fall_to_the_floor(tmp_path):
    need("emoji64")
    from selfflow.data.registry import open_named

    source, asked = open_named("emoji-edits", 32, "test"), []
    options = {"samples": 11, "progress": False, "features": seen}
    pipe = SimpleNamespace(config=config_of(32))
    pipe.edit = lambda pictures, texts, **_: (asked.extend(texts), pictures)[1]
    copied = run_suite(pipe, "emoji-edit", tmp_path / "e.json", **options)
    kinds = [name for name in copied["figures"] if name.startswith("retrieval, ")]
    assert len(kinds) == len(source.kinds) == 11
    assert len(asked) == 11
    figures = copied["figures"]
    assert figures["retrieval"]["value"] == figures["retrieval"]["floor"] == 0
    inside, outside = figures["error inside the mask"], figures["error outside the mask"]
    assert inside["value"] == inside["floor"] > 5
    assert outside["value"] == 0 < outside["floor"]
    nearer = figures["nearer to the truth than to the input, inside the mask"]
    assert nearer["value"] == 0 < nearer["floor"] < 1  # a picture of neither is nearer to one of the two
    assert nearer["chance"] == 0.5
    answers = {}
    for name in copied["samples"]:
        sample = source[int(name.split("/")[-1])]
        answers[sample.text, sample.references[0].tobytes()] = sample.picture
    pipe.edit = lambda pictures, texts, **_: np.stack(
        [answers[t, p.tobytes()] for t, p in zip(texts, pictures, strict=True)]
    )  # fmt: skip
    figures = run_suite(pipe, "emoji-edit", **options)["figures"]
    assert figures["retrieval"]["value"] == 1 >= figures["retrieval"]["ceiling"] > 0.3
    nearer = figures["nearer to the truth than to the input, inside the mask"]
    assert nearer["value"] == 1 > nearer["low"] > nearer["chance"]
    assert figures["error inside the mask"]["value"] == figures["error outside the mask"]["value"] == 0


def test_styles_told_and_shown(tmp_path):
    need("emoji64")
    from selfflow.data.registry import open_named

    source = open_named("emoji-styles", 32, "test")
    options = {"samples": 10, "progress": False, "features": seen}
    pipe = SimpleNamespace(config=config_of(32), compose=lambda references, texts, **_: [r[0] for r in references])
    copied = run_suite(pipe, "emoji-style", tmp_path / "s.json", **options)
    for name in ("style right, redraw", "emoji right, style"):
        assert copied["figures"][name]["value"] == copied["figures"][name]["floor"] < 0.5
    samples = [source[int(name.split("/")[-1])] for name in copied["samples"]]
    answers = {(s.text, s.references[0].tobytes()): s.picture for s in samples}
    pipe.compose = lambda references, texts, **_: [
        answers[t, r[0].tobytes()] for t, r in zip(texts, references, strict=True)
    ]
    figures = run_suite(pipe, "emoji-style", **options)["figures"]
    assert figures["style right"]["value"] == figures["emoji right"]["value"] == 1
    assert {s.meta["kind"] for s in samples} == {"redraw", "style"}


def test_sprites_who_are_themselves_and_sprites_who_are_others(monkeypatch, tmp_path):
    need("lpc64")
    from selfflow.data.lpc import ANIMATIONS, DIRECTIONS
    from selfflow.data.registry import open_named

    cases = {}
    for task in ("clip", "view", "edit"):
        source = open_named(f"sprites-{task}", 64, "test", **({"frames": FRAMES} if task == "clip" else {}), count=4)
        cases[task] = [source[i] for i in range(4)]
    labels = {s.clip.sum(): (ANIMATIONS.index(s.meta["animation"]), DIRECTIONS.index(s.meta["direction"]))
              for s in cases["clip"]}  # fmt: skip
    monkeypatch.setattr("selfflow.evaluate.sprites_suite.to_small", lambda clips: clips)
    judge = SimpleNamespace(answers=lambda clips: np.array([labels[c.sum()] for c in clips]))
    monkeypatch.setattr("selfflow.evaluate.sprites_suite.sprite_judge", lambda pipe: judge)

    def model(turn):
        def answer(task, field):
            asked, told = cases[task], [cases[task][(i + turn) % 4] for i in range(4)]
            found = {}
            for a, b in zip(asked, told, strict=True):
                found[a.text, a.references[0].tobytes() if a.references else b""] = getattr(b, field)
            return found

        views, edits, clips = answer("view", "picture"), answer("edit", "picture"), answer("clip", "clip")
        return SimpleNamespace(
            config=config_of(64),
            compose=lambda refs, texts, **_: [views[t, r[0].tobytes()] for r, t in zip(refs, texts, strict=True)],
            edit=lambda pictures, texts, **_: [edits[t, p.tobytes()] for p, t in zip(pictures, texts, strict=True)],
            clip=lambda texts, frames, fps, **_: [clips[t, b""] for t in texts],
        )

    options = {"samples": 12, "progress": False}
    figures = run_suite(model(0), "sprites", tmp_path / "s.json", **options)["figures"]
    for name in ("animation right", "direction right, clips", "identity kept", "direction right, views", "edit right"):
        assert figures[name]["value"] == 1, name
    assert figures["error inside the mask"]["value"] == figures["error outside the mask"]["value"] == 0
    assert figures["identity kept"]["ceiling"] > 0.7
    assert figures["direction right, views"]["floor"] == figures["edit right"]["floor"] == 0
    assert (tmp_path / "s.png").exists()
    figures = run_suite(model(1), "sprites", **options)["figures"]
    for name in ("animation right", "identity kept", "edit right"):
        assert figures[name]["value"] < 0.6, name
    assert figures["error inside the mask"]["value"] > 10
