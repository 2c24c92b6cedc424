"""The tasks from the command line and by name: files come out, and bad input is one line."""

import json
import struct
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from selfflow.cli import main
from selfflow.modalities.action import Quantiles
from selfflow.pipeline import Pipeline
from selfflow.worlds.tabletop.export.video import read_mp4, read_wav, write_mp4, write_wav
from test_tasks_learned import learned, memorised


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("av", reason="mp4 needs the extra `video`")
    directory = tmp_path_factory.mktemp("model")
    pipe = learned("clip", memorised("clip"), steps=1)
    rows = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    pipe.modalities.quantiles = Quantiles.fit({"tabletop": {"actions": rows, "states": rows}})
    pipe.save_pretrained(directory)
    return directory


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "in.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (19, 26, 3), np.uint8)).save(path)
    return str(path)


def test_saved_scales_come_back(model):
    pipe = Pipeline.from_pretrained(model)
    assert set(pipe.modalities.quantiles.bodies) == {"tabletop"}


def test_edit_keeps_the_shape_and_composes_from_several(model, picture, tmp_path):
    out = tmp_path / "out.png"
    main(["edit", "red", "--model", str(model), "--image", picture, "-o", str(out), "--steps", "2"])
    with Image.open(out) as image:
        assert image.size == (24, 16)  # whole patches of 4: neither stretched nor shifted
        assert image.text["prompt"] == "red"
    two = ["--image", picture, "--image", picture, "--height", "8", "--width", "12", "--no-metadata"]
    main(["edit", "red", "--model", str(model), *two, "-o", str(out), "--steps", "2"])
    with Image.open(out) as image:
        assert image.size == (12, 8)
        assert not image.text


def test_clips_and_sounds_are_files_of_the_right_length(model, picture, tmp_path):
    common = ["--model", str(model), "--steps", "2"]
    main(["generate", "red", *common, "--video", "--frames", "6", "-o", str(tmp_path / "a.mp4")])
    frames, fps, sound, _ = read_mp4(tmp_path / "a.mp4")
    assert (len(frames), round(fps), sound) == (6, 20, None)
    main(["generate", "red", *common, "--audio", "--frames", "6", "-o", str(tmp_path / "b.wav")])
    wave, rate = read_wav(tmp_path / "b.wav")
    assert (len(wave), rate) == (4800, 16_000)
    main(["generate", "red", *common, "--video", "--audio", "--frames", "6", "-o", str(tmp_path / "c.mp4")])
    assert read_mp4(tmp_path / "c.mp4")[2] is not None
    main(["dub", str(tmp_path / "a.mp4"), *common, "-o", str(tmp_path / "d.wav")])
    assert len(read_wav(tmp_path / "d.wav")[0]) == 4800
    main(["animate", "red", *common, "--image", picture, "--frames", "3", "-o", str(tmp_path / "e.mp4")])
    assert read_mp4(tmp_path / "e.mp4")[0].shape == (3, 16, 24, 3)
    main(["animate", "red", *common, "--image", picture, "--frames", "3", "--audio", "-o", str(tmp_path / "g.mp4")])
    frames, _, sound, rate = read_mp4(tmp_path / "g.mp4")
    assert (frames.shape, rate) == ((3, 16, 24, 3), 16_000)
    assert 2400 <= len(sound) <= 2400 + 1024  # AAC comes in blocks
    main(["continue", str(tmp_path / "a.mp4"), *common, "--frames", "5", "-o", str(tmp_path / "h.mp4")])
    frames, fps, *_ = read_mp4(tmp_path / "h.mp4")
    assert (len(frames), round(fps)) == (11, 20)
    main(["continue", str(tmp_path / "b.wav"), *common, "--seconds", "0.1", "-o", str(tmp_path / "i.wav")])
    longer, rate = read_wav(tmp_path / "i.wav")
    assert (len(longer), rate) == (6400, 16_000)
    assert np.array_equal(longer[:4000], wave[:4000])


def test_several_pictures_are_numbered(model, tmp_path):
    main(["generate", "red", "--model", str(model), "--steps", "1", "-n", "2", "-o", str(tmp_path / "a.png")])
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["a-0.png", "a-1.png"]


def test_a_film_is_read_no_further_than_it_may_be_long(tmp_path):
    pytest.importorskip("av", reason="mp4 needs the extra `video`")
    path = write_mp4(tmp_path / "a.mp4", np.zeros((4, 16, 16, 3), np.uint8), 20)
    assert len(read_mp4(path, most=4)[0]) == 4
    with pytest.raises(ValueError, match="more than 3 frames"):
        read_mp4(path, most=3)


def test_actions_are_taken_and_imagined(model, picture, tmp_path, capsys):
    (tmp_path / "do.json").write_text(json.dumps([[0.1, 0.2, 0.3]] * 3))
    given = ["--model", str(model), "--image", picture, "--actions", str(tmp_path / "do.json")]
    main(["imagine", *given, "--steps", "2", "-o", str(tmp_path / "f.mp4")])
    assert len(read_mp4(tmp_path / "f.mp4")[0]) == 3
    asked = ["plan", "go", "--model", str(model), "--image", picture, "--count", "4", "--steps", "2"]
    main([*asked, "-o", str(tmp_path / "j.mp4")])
    assert len(read_mp4(tmp_path / "j.mp4")[0]) == 4
    assert np.shape(json.loads((tmp_path / "j.json").read_text())) == (4, 3)
    main(["inverse", str(tmp_path / "j.mp4"), "--model", str(model), "--steps", "2", "-o", str(tmp_path / "k.json")])
    again = ["--model", str(model), "--image", picture, "--actions", str(tmp_path / "k.json"), "--steps", "2"]
    main(["imagine", *again, "-o", str(tmp_path / "l.mp4")])  # what was done is what can be imagined
    assert len(read_mp4(tmp_path / "l.mp4")[0]) == 4


def test_a_plan_knows_the_state_or_says_that_it_does_not(model, picture, tmp_path, monkeypatch, capsys):
    asked, known = ["plan", "go", "--model", str(model), "--image", picture, "-o", str(tmp_path / "a.mp4")], []

    def planned(self, images, texts, body, states, width, count, hz, **sampling):
        known.append(states)
        return np.zeros((1, count, *images.shape[1:]), np.uint8), np.zeros((1, count, width), np.float32)

    monkeypatch.setattr(Pipeline, "plan", planned)
    main([*asked, "--state", "[-0.5, 0.25, 1e-1]"])
    assert known[0].tolist() == [pytest.approx([-0.5, 0.25, 0.1])]
    assert not capsys.readouterr().err
    main(asked)
    assert known[1] is None
    said = capsys.readouterr().err
    assert "no --state was given" in said
    assert "Give its 3 numbers" in said
    pipe = Pipeline.from_pretrained(model)
    pipe.config = replace(pipe.config, train=replace(pipe.config.train, state_drop=0.1))  # it learned to do without
    monkeypatch.setattr("selfflow.cli_robots.pipeline_of", lambda *_: pipe)
    main(asked)
    assert not capsys.readouterr().err
    pipe.modalities.quantiles = Quantiles.fit({"tabletop": {"actions": np.eye(3)}})  # a body that feels nothing
    pipe.config = replace(pipe.config, train=replace(pipe.config.train, state_drop=0.0))
    main(asked)
    assert not capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*asked, "--state", "[1, 2, 3]"])
    assert "knows no states of the body 'tabletop'; leave --state out" in capsys.readouterr().err


def test_a_t_is_pushed_in_closed_loop(model, tmp_path, monkeypatch, capsys):
    pytest.importorskip("pymunk", reason="PushT needs the extra `world`")
    from selfflow.worlds.pusht import PushTEnv

    monkeypatch.setattr("selfflow.evaluate.pusht_suite.MOST_STEPS", 10)
    asked = []

    def towards_the_block(self, images, texts, body, states, width, count, hz, *, steps, generator):
        asked.append((images.shape, texts, body, width, count, hz, steps))
        return np.repeat(states[:, None, 2:4], count, axis=1)

    monkeypatch.setattr(Pipeline, "actions", towards_the_block)
    common = ["act", "--env", "pusht", "--model", str(model), "--chunk", "4", "--execute", "3", "--steps", "2"]
    main([*common, "--seed", "1", "--episodes", "2", "-o", str(tmp_path / "t.mp4")])
    words = "push the T block to the goal at the lower right"
    assert asked[:4] == [((1, 8, 8, 3), [words], "pusht", 2, 4, 10, 2)] * 4  # 3 + 3 + 3 + 1 actions
    covered = []
    for seed, goal in ((1, "x356"), (2, "center")):
        env = PushTEnv(goal)
        env.reset(seed)
        best = 0.0
        for step in range(10):
            target = env.state()[2:4] if step % 3 == 0 else target
            best = max(best, env.step(target))
        covered.append(best)
    said = capsys.readouterr().out
    assert f"seed 1: {words} … not done, {covered[0]:.2f} of the goal covered" in said
    assert f"0 of 2 succeeded; {np.mean(covered):.2f} of the goal was covered at best, on average" in said
    assert len(read_mp4(tmp_path / "t.mp4")[0]) == 11
    main([*common, "-o", str(tmp_path / "t.png")])
    with Image.open(tmp_path / "t.png") as image:
        assert image.size == (8 * 8, 8)
    monkeypatch.setitem(sys.modules, "pymunk", None)
    with pytest.raises(SystemExit):
        main(common)
    assert "pip install 'selfflow[world]'" in capsys.readouterr().err


def test_the_policy_looks_again_after_what_it_carried_out(model):
    pipe = Pipeline.from_pretrained(model)
    seen = []
    pipe.actions = lambda images, texts, body, states, width, count, hz, **_: (
        seen.append(np.asarray(states).copy()),
        np.zeros((len(texts), count, width), np.float32),
    )[1]
    policy = pipe.policy(chunk=4, execute=2)
    image, state = np.zeros((1, 8, 8, 3), np.uint8), np.zeros((1, 3), np.float32)
    for step in range(5):
        action = policy(image, state, ["go"], step)
        assert action.shape == (1, 3)
        assert np.abs(action).max() <= 1
    assert len(seen) == 3
    policy(image, state, ["go"], 0)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["edit", "red", "--image", "nowhere.png"], "nowhere.png cannot be read"),
        (["generate", "red", "--video", "--frames", "0"], "0 frames"),
        (["generate", "red", "--video", "--frames", "99999"], "99999 frames"),
        (["imagine", "--image", "PICTURE", "--actions", "PICTURE"], "no JSON list|cannot be read|decode"),
        (["act", "--execute", "17"], "execute 17"),
        (["act", "--env", "nowhere"], "unknown environment 'nowhere'; choose one of pick-place.*pusht"),
        (["act", "-o", "episode.gif"], "ends neither in .mp4 nor in .png"),
        (["continue", "nowhere.mp4"], "nowhere.mp4"),
        (["continue", "nowhere.wav"], "nowhere.wav"),
        (["plan", "go", "--image", "PICTURE", "--body", "arm"], "does not know the body 'arm'; it knows tabletop"),
        (["plan", "go", "--image", "PICTURE", "--state", "[1, 2]"], "--state has 2 numbers; .* 'tabletop' has 3"),
        (["dub", "nowhere.mp4"], "nowhere.mp4"),
        (["dub", "SOUND"], r"s\.wav holds no pictures"),
        (["dub", "TEXT"], r"do\.json"),
        (["generate", "red", "--video", "--sampler", "sde"], "unknown sampler 'sde'"),
    ],
)
def test_bad_input_is_one_line(model, picture, arguments, words, capsys, tmp_path):
    write_wav(tmp_path / "s.wav", np.zeros(800, np.float32))
    (tmp_path / "do.json").write_text("[]")
    files = {"PICTURE": picture, "SOUND": str(tmp_path / "s.wav"), "TEXT": str(tmp_path / "do.json")}
    arguments = [files.get(a, a) for a in arguments]
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--model", str(model)])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    import re

    assert re.search(words, message), message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "red", "-o", "a.jpg"], "a.jpg does not end in .png"),
        (["generate", "red", "--video", "-o", "a.png"], "a.png does not end in .mp4"),
        (["generate", "red", "--audio", "-o", "a.mp4"], "a.mp4 does not end in .wav"),
        (["generate", "red", "--video", "--audio", "-o", "a.wav"], "a.wav does not end in .mp4"),
        (["generate", "red", "--video", "-n", "2", "--negative", "x"], "-n, --negative: of pictures only"),
        (["generate", "red", "--audio", "--height", "8", "--no-metadata"], "--height, --no-metadata: of pictures only"),
        (["generate", "red", "--frames", "3"], "add --video or --audio"),
        (["generate", "red", "--audio", "--fps", "0"], "0 frames a second"),
        (["edit", "red", "--image", "PICTURE", "-o", "a.jpg"], "a.jpg does not end in .png"),
        (["animate", "red", "--image", "PICTURE", "-o", "a.gif"], "a.gif does not end in .mp4"),
        (["animate", "red", "--image", "PICTURE", "--fps", "61"], "61 frames a second"),
        (["dub", "PICTURE", "-o", "a.gif"], "a.gif does not end in .mp4"),
        (["imagine", "--image", "PICTURE", "--actions", "PICTURE", "-o", "a.gif"], "a.gif does not end in .mp4"),
        (["imagine", "--image", "PICTURE", "--actions", "PICTURE", "--hz", "nan"], "nan frames a second"),
        (["act", "-o", "a.gif"], "a.gif ends neither in .mp4 nor in .png"),
        (["continue", "a.wav", "-o", "a.mp4"], "a.mp4 does not end in .wav"),
        (["continue", "a.mp4", "-o", "a.wav"], "a.wav does not end in .mp4"),
        (["continue", "a.mp4", "--frames", "0"], "0 frames asked for"),
        (["continue", "a.wav", "--seconds", "inf"], "inf seconds asked for; choose more than 0 and up to 51.2"),
        (["continue", "a.wav", "--seconds=-1"], "-1 seconds asked for"),
        (["continue", "a.wav", "--seconds", "nan"], "nan seconds asked for"),
        (["generate", "red", "--device", "xpu"], "there is no device 'xpu' here"),
        (["edit", "red", "--image", "PICTURE", "--device", "xpu"], "choose one of cpu"),
        (["sample-official", "--out", "a", "--device", "xpu"], "there is no device 'xpu' here"),
        (["plan", "go", "--image", "PICTURE", "-o", "a.gif"], "a.gif does not end in .mp4"),
        (["plan", "go", "--image", "PICTURE", "--count", "0"], "0 frames asked for"),
        (["plan", "go", "--image", "PICTURE", "--state", "here"], "--state 'here' is no JSON list of numbers"),
        (["plan", "go", "--image", "PICTURE", "--state", "[NaN]"], "--state '[NaN]' is no list of finite numbers"),
        (["plan", "go", "--image", "PICTURE", "--state", "3"], "--state '3' is no list of finite numbers"),
    ],
)
def test_what_cannot_come_of_it_is_said_before_the_model_is_loaded(picture, arguments, words, capsys):
    pytest.importorskip("av", reason="mp4 needs the extra `video`")
    with pytest.raises(SystemExit) as stopped:
        main([*(picture if a == "PICTURE" else a for a in arguments), "--model", "nowhere"])
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "it is empty or cut short"),
        (b"ID3\x04" + bytes(60), "file does not start with RIFF id"),
        (
            b"RIFF" + struct.pack("<I4s4sIHHIIHH4sI", 44, b"WAVE", b"fmt ", 16, 3, 1, 8000, 32000, 4, 32, b"data", 8)
            + bytes(8),
            "unknown format: 3",
        ),
    ],
    ids=["empty", "mp3", "float"],
)  # fmt: skip
def test_a_wav_that_cannot_be_read_is_named(data, words, tmp_path, capsys):
    (tmp_path / "a.wav").write_bytes(data)
    with pytest.raises(SystemExit) as stopped:
        main(["continue", str(tmp_path / "a.wav"), "--model", "nowhere"])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert f"a.wav is no wav that can be read ({words}); give one of 16-bit integers" in message


def test_a_model_without_sound_says_so(tmp_path):
    from selfflow.config import Config
    from selfflow.modalities.text import BytePairs
    from selfflow.pipeline import build_network
    from selfflow.recipes import nano

    config: Config = nano()
    text = BytePairs.train(["a ball"], 270)
    pipe = Pipeline(build_network(config, text), text, config)
    with pytest.raises(ValueError, match="has no sound"):
        pipe.speak(["a"], 0.1)
    with pytest.raises(ValueError, match="0 frames a second; choose 1 to 60"):
        pipe.clip_and_sound(["a"], 4, 0, 16_000)
    with pytest.raises(ValueError, match="no actions"):
        pipe.actions(np.zeros((1, 48, 48, 3), np.uint8), ["a"], "tabletop", None, 3, 4, 10.0)
    with pytest.raises(ValueError, match="one text per input"):
        pipe.edit(np.zeros((1, 48, 48, 3), np.uint8), "a")
    assert torch.is_tensor(next(pipe.net.parameters()))
