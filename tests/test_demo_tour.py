"""The tour of a trained model: every room is made, truth passes its checkers, and the page stands alone."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from selfflow.demo import visit as visiting
from selfflow.demo.exhibits import FLOOR, MADE, TRUE, Exhibit, House, Piece, Room, Verdict
from selfflow.demo.gallery import page
from selfflow.demo.media import clip_tag, sound_tag
from selfflow.demo.tour import tour
from selfflow.modalities.action import Quantiles
from selfflow.modalities.text import BytePairs
from selfflow.pipeline import Pipeline, build_network
from selfflow.recipes import micro_all
from selfflow.release import release
from selfflow.worlds.tabletop.export.video import read_wav
from test_demo import Page


@pytest.fixture(scope="module")
def pipe():
    pytest.importorskip("pymunk", reason="clips and robots need the extra `world`")
    config = micro_all()
    config = replace(
        config,
        data=replace(config.data, frames=8),
        picture=replace(config.picture, size=32, patch=16),
        network=replace(config.network, width=32, depth=2, heads=2),
        sampling=replace(config.sampling, steps=1),
    )
    torch.manual_seed(0)
    text = BytePairs.train(["a red ball", "a cup"], 270, 16)
    rows = np.random.default_rng(0).uniform(0, 1, (50, 3))
    quantiles = Quantiles.fit({"tabletop": {"actions": rows, "states": rows}})
    return Pipeline(build_network(config, text), text, config, quantiles=quantiles)


@pytest.fixture(scope="module")
def rooms(pipe):
    return tour(pipe, scale=0.01, said=lambda _: None)


def test_every_room_is_made_and_the_truth_passes(rooms):
    assert {r.name: r.missing for r in rooms if r.missing} == {}
    assert len(rooms) == 13
    for room in rooms:
        roles = [p.role for p in room.exhibits[0].pieces]
        assert roles[0] == MADE
        if room.measure:  # what is counted is counted of the truth and of the floor as well
            assert roles == [MADE, TRUE, FLOOR]
            assert room.share(TRUE) == 1, room.name
            assert room.floor


def test_a_painter_has_the_first_room(pipe):
    rooms = tour(pipe, scale=0.01, said=lambda _: None, painter=pipe)
    assert (len(rooms), rooms[0].missing) == (14, "")
    assert rooms[0].name == "Emoji, by a model of emoji alone"
    assert "that learned nothing else" in rooms[0].about
    assert len(rooms[0].exhibits) == 1


def test_what_is_given_earns_nothing(rooms):
    """A network that learned nothing makes noise, whatever the first frame: no checker may be content with it."""
    shares = {r.name: r.share(MADE) for r in rooms if r.measure}
    assert {n: s for n, s in shares.items() if s == 1} == {}


def test_the_page_of_a_release_stands_alone(pipe, rooms, tmp_path, monkeypatch):
    pipe.save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "README.md").write_text("after\n3 steps of 32 samples")
    monkeypatch.setattr(visiting, "tour", lambda *_, **__: rooms)
    released = release(tmp_path / "model", tmp_path / "release")
    text = visiting.visit(released, tmp_path / "page.html").read_text()
    parsed = Page(text)
    assert parsed.open == []
    assert all(re.match(r"data:|#", link) for link in parsed.links)
    assert not re.search(r"https?:|@import|<link", text)
    assert all(found.startswith("data:image/png;base64,") for found in re.findall(r"url\((.{30})", text))
    assert parsed.counts["article"] == sum(len(r.exhibits) for r in rooms)
    for words in (
        "prefers-color-scheme: dark",
        "prefers-reduced-motion",
        "OpenMoji",
        "CC BY-SA 4.0",
        "./run demo --train",
    ):
        assert words in text


def test_captions_are_said_and_never_obeyed():
    piece = Piece(MADE, "made", np.zeros((8, 8, 3), np.uint8), verdict=Verdict(0.5, "half", ("<b>bold</b>",)))
    rooms = [
        Room("A", "", [Exhibit('<script>alert("x")</script>', [piece])], "facts"),
        Room("B", "", missing="no <pack>"),
    ]
    evaluation = {
        "suite": "all",
        "figures": {"a: <i>": {"value": 0.5, "low": 0.25, "high": 0.75, "note": "<u>", "beats_floor": True}},
    }
    text = page(House("m", 1000, 8, rooms, 1.0, evaluation=evaluation))
    assert text.count("<script") == 1
    for raw in ("<b>bold", "<pack>", "<i>", "<u>"):
        assert raw not in text
    assert '<td class="beaten">0.5 <small>[0.25, 0.75]</small>' in text
    assert "<b>50 %</b> facts" in text


def test_clips_and_sounds_survive_the_page():
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)
    tag = clip_tag(clip, 10, "a clip")
    content = base64.b64decode(re.search(r"base64,([^)]*)", tag)[1])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))).reshape(clip.shape), clip)
    assert "--frames:3;--seconds:0.300s" in tag
    sound = rng.uniform(-1, 1, 800).astype(np.float32)
    tag = sound_tag(sound, 16_000, 'a "sound"')
    assert "&quot;sound&quot;" in tag
    heard, rate = read_wav(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]*)", tag)[1])))
    assert rate == 16_000
    assert np.abs(heard - sound).max() < 1e-4
