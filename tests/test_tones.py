"""More colours than are read: each is like some of the eight, and held out where those are."""

import re

import numpy as np
import pytest

from selfflow.data.judging import Judging
from selfflow.data.registry import open_named
from selfflow.data.tabletop_tasks import TabletopTask
from selfflow.worlds.tabletop.check import score_edit, score_reference, score_text
from selfflow.worlds.tabletop.claim import judge, resolved, told
from selfflow.worlds.tabletop.compose import draw_reference
from selfflow.worlds.tabletop.edits import draw_edit
from selfflow.worlds.tabletop.instruct import parse_instruction
from selfflow.worlds.tabletop.language import parse
from selfflow.worlds.tabletop.paints import apart, like, palette
from selfflow.worlds.tabletop.render import render
from selfflow.worlds.tabletop.scene import COLOURS, PAINTS, TONES, Scene, Thing, generator
from selfflow.worlds.tabletop.split import held_out, novelties, split
from selfflow.worlds.tabletop.tasks import example
from selfflow.worlds.tabletop.tones import APART, edit_toned, reference_toned, toned

NAMES = ("tabletop-tones", "tabletop-tones-edit", "tabletop-tones-reference")


def test_distances_are_those_of_cielab():
    # White and black are 100 apart in lightness; these are off-white (96.2) and a bluish near-black (10.4, 0.9, -2.6).
    assert apart("white", "black") == pytest.approx(85.9, abs=0.3)
    assert apart("red", "red") == 0
    assert apart("red", "green") == apart("green", "red") > 100
    assert min(apart(a, b) for a in COLOURS for b in COLOURS if a != b) > APART


def test_a_tone_is_like_what_it_resembles_and_what_it_is_called():
    assert all(like(colour) == (colour,) for colour in COLOURS)
    assert like("magenta") == ("pink",)
    assert like("dark pink") == ("pink",)
    assert set(like("light red")) == {"red", "pink"}  # pale red is pink
    assert like("white") == like("grey") == like("black") == ()
    assert not set(COLOURS) & set(TONES)
    assert held_out("pink", "sign")
    for colour in ("pink", "magenta", "light red", "dark pink", "light pink"):
        scene = Scene((Thing("sign", colour, word="GO"),))
        assert split(scene) == "test"
        assert novelties(parse(f'a {colour} sign saying "GO"')) == {"colour"}
    assert novelties(parse_instruction("paint the sign magenta")) == {"colour"}
    assert split(Scene((Thing("sign", "white", word="GO"),))) == "train"
    assert not novelties(parse('a white sign saying "GO"'))


def test_other_colours_stand_where_the_eight_stood():
    for seed in range(30):
        before = example("still", seed).truth
        scene = toned(generator(seed), before)
        assert scene == toned(generator(seed), before)
        pairs = {(a.colour, b.colour) for a, b in zip(before.things, scene.things, strict=True)}
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})  # one for one
        assert all(a == b or b in TONES for a, b in pairs)
        assert all(apart(a, b) > APART for _, a in pairs for _, b in pairs if a != b)
        assert [(t.kind, t.x, t.y) for t in scene.things] == [(t.kind, t.x, t.y) for t in before.things]
    drawn = {thing.colour for seed in range(300) for thing in toned(generator(seed), example("still", 0).truth).things}
    assert drawn >= set(TONES) - {"pink"}


def test_an_edit_asks_for_the_colours_that_it_shows():
    for seed in range(60):
        edit = edit_toned(generator(seed), draw_edit(seed))
        asked = parse_instruction(edit.instruction)
        assert all(right for right, _ in asked.done(edit.before.things, edit.after.things))
        if asked.kind == "recolour":
            assert edit.after.things[edit.index].colour == asked.colour


def test_a_composition_is_in_the_colours_of_its_pictures():
    spoken = 0
    for seed in range(40):
        one = reference_toned(generator(seed), draw_reference(seed, 2))
        claim = resolved(parse(one.text), [scene.things[0] for scene in one.scenes])
        assert not judge(claim, one.target.things).faults
        shown = {told(scene.things[0]).colour for scene in one.scenes}
        spoken += any(word in one.text for word in TONES)
        assert {thing.colour for thing in one.target.things} >= shown
    assert spoken


def test_a_tone_has_the_colour_of_its_name():
    for colour, rgb in PAINTS.items():
        picture = render(Scene((Thing("box", colour, "large", 0.5, 0.33, material="rubber"),)), 64)
        middle = picture[36:50, 26:38].reshape(-1, 3).mean(axis=0)
        assert np.abs(middle - rgb).max() < 0.08 * max(rgb), colour


def test_articles_go_with_the_tones():
    for seed in range(200):
        text = example("still", seed, 16, tones=True).text
        assert not re.search(r"\ban [^aeiou]|\ba [aeiou]", text), text


@pytest.mark.parametrize("name", NAMES)
def test_sources_in_many_colours_show_and_say_nothing_held_out(name):
    source = open_named(name, 16, count=40)
    colours = set()
    for i in range(40):
        sample = source[i]
        truth = sample.meta["truth"]
        scenes = {"tabletop-tones": lambda t: [t], "tabletop-tones-edit": lambda t: [t.before, t.after]}.get(
            name, lambda t: [*t.scenes, t.target]
        )(truth)
        things = [thing for scene in scenes for thing in scene.things]
        colours |= {thing.colour for thing in things}
        assert not any(held_out(colour, thing.kind) for thing in things for colour in like(thing.colour))
        assert not any(held_out(thing.colour, thing.kind) for thing in things)
        said = parse_instruction(sample.text) if name == "tabletop-tones-edit" else parse(sample.text)
        assert not novelties(said)
        assert sample.id == f"{name}/train/0/{i}"
    assert len(colours & set(TONES)) > 8
    assert len(colours & set(COLOURS)) > 4
    assert (open_named(name, 16, count=2)[1].picture == source[1].picture).all()


def test_a_store_keeps_them_apart(tmp_path):
    plain = TabletopTask("still", 4, 16, directory=tmp_path)
    many = TabletopTask("still", 4, 16, directory=tmp_path, tones=True)
    first = [plain[i].text for i in range(4)], [many[i].text for i in range(4)]
    assert first[0] != first[1] == [many[i].text for i in range(4)]
    assert [TabletopTask("still", 4, 16, directory=tmp_path)[i].text for i in range(4)] == first[0]


def test_captions_in_many_colours_are_read_in_them():
    source = open_named("tabletop-tones", 64, count=40)
    right = [source.judge(source[i], source[i].picture).value == 1 for i in range(40)]
    assert np.mean(right) > 0.85  # of 300, 0.92
    assert np.mean([source.judge(source[i], source[39 - i].picture).value == 1 for i in range(20)]) < 0.1

    def ball(colour):
        return render(Scene((Thing("ball", colour, "large", 0.5, 0.33),)), 64)

    for colour in ("magenta", "dark red", "white", "light green"):
        assert score_text(ball(colour), f"a large {colour} ball").faults == ()
    for asked, shown in (("dark red", "red"), ("magenta", "pink"), ("light blue", "blue"), ("dark green", "green")):
        assert score_text(ball(shown), f"a large {asked} ball").value < 1


def test_a_palette_holds_the_eight_and_what_is_asked_for():
    assert palette([None, "red"]) == tuple(COLOURS)
    assert palette(["magenta", "red", "magenta", "lime"]) == (*COLOURS, "magenta", "lime")


def test_who_cannot_read_what_it_shows_is_not_asked_to_judge():
    sources = {name: open_named(name, 32, count=4) for name in (*NAMES, "tabletop-edit", "tabletop-reference")}
    assert set(Judging(sources).sources) == {"tabletop-tones", "tabletop-edit", "tabletop-reference"}
    for name in NAMES[1:]:
        sample = sources[name][0]
        with pytest.raises(ValueError, match="colours that its words do not tell"):
            sources[name].judge(sample, sample.picture)
    assert not TabletopTask("robot", 4).judges


def test_what_is_not_read_is_refused_and_named():
    picture = example("still", 3).picture
    for check in (
        lambda: score_edit(picture, picture, "paint the ball dark red"),
        lambda: score_reference([picture], picture, "the ball from picture 1 on a lime box"),
    ):
        with pytest.raises(ValueError, match=r"'(dark red|lime)' is read where all colours are told.*red, orange"):
            check()
    with pytest.raises(ValueError, match="tones were asked for of the task clip"):
        example("clip", 1, tones=True)
    with pytest.raises(ValueError, match="tones of task robot"):
        TabletopTask("robot", tones=True)
    with pytest.raises(ValueError, match="unknown colour 'beige'"):
        Thing("ball", "beige")
