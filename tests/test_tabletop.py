"""Tabletop: pictures to the last bit, true captions, splits that do not meet, a checker that can be trusted."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import selfflow.worlds
from selfflow.data.scenes import TabletopScenes
from selfflow.worlds.tabletop import (
    COLOURS,
    KINDS,
    SIZES,
    WORDS,
    Claim,
    Phrase,
    Relation,
    Scene,
    Thing,
    caption,
    describe,
    draw,
    generator,
    held_out,
    judge,
    novel,
    parse,
    read,
    render,
    score,
    split,
)
from selfflow.worlds.tabletop.language import PLURALS

SEEDS = st.integers(0, 2**40)
BALL, BOX = Thing("ball", "red", "small", 0.2), Thing("box", "blue", "large", 0.7)


def digest(*pictures: np.ndarray) -> str:
    return hashlib.sha256(b"".join(picture.tobytes() for picture in pictures)).hexdigest()[:16]


# --- drawing and rendering


@pytest.mark.parametrize(("size", "expected"), [(32, "5ab13c11b8453a1e"), (64, "39a206ca70cc940d")])
def test_pictures_are_the_same_to_the_last_bit(size: int, expected: str) -> None:
    assert digest(*(render(draw(seed), size) for seed in range(64))) == expected


def test_scenes_and_captions_are_the_same_for_a_seed() -> None:
    lines = "\n".join(f"{draw(seed)} {caption(draw(seed), generator(seed, 1))}" for seed in range(64))
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == "4ffe52453791e903"


def test_numpy_positions_draw_the_same_picture() -> None:
    wide = Scene((replace(BALL, x=np.float64(0.2)),))
    assert np.array_equal(render(wide), render(Scene((BALL,))))


def test_a_surface_has_its_colour_and_the_rest_is_background() -> None:
    picture = render(Scene((BOX,)), 64).astype(int)
    assert np.abs(picture[40, 44] - COLOURS["blue"]).max() <= 10
    assert (picture[:, :20] == picture[:, :1]).all()  # plain rows of wall and table
    assert (picture[0, 0] > picture[63, 0]).all()  # a light wall over a dark table


@pytest.mark.parametrize("kind", KINDS)
def test_coverage_is_antialiased_and_area_does_not_depend_on_the_size(kind: str) -> None:
    scene = Scene((Thing(kind, "purple", "large", 0.5),))
    missing = []
    for size in (32, 512):
        green = render(scene, size)[: 11 * size // 16, :, 1].astype(float)  # above the table and its shadow
        missing.append((green[:, :1] - green).mean())  # the first column is bare wall; purple has less green
    assert missing[1] > 5
    assert missing[0] == pytest.approx(missing[1], rel=0.01)


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_a_drawn_scene_rests_inside_the_picture_with_gaps(seed: int) -> None:
    scene = draw(seed)
    ground = sorted((t for t in scene.things if t.on is None), key=lambda t: t.x)
    edges = [edge for t in ground for edge in (t.x - t.extent / 2, t.x + t.extent / 2)]
    assert edges[0] > 0.01
    assert edges[-1] < 0.99
    assert all(b - a > 0.039 for a, b in zip(edges[1:-1:2], edges[2::2], strict=True))
    for index, thing in enumerate(scene.things):
        if thing.on is not None:
            box = scene.things[thing.on]
            assert scene.base(index) == scene.base(thing.on) + box.extent
            assert abs(thing.x - box.x) + thing.extent / 2 <= box.extent / 2 + 1e-9


# --- captions


@given(SEEDS, SEEDS)
@settings(max_examples=400, deadline=None)
def test_every_caption_is_true_and_speaks_the_language(seed: int, words_seed: int) -> None:
    scene = draw(seed)
    text = caption(scene, generator(words_seed))
    assert judge(parse(text), scene.things).faults == ()
    assert set(text.replace(",", " , ").split()) <= set(WORDS)
    assert judge(describe(scene), scene.things).score == 1.0


def test_one_scene_has_many_captions() -> None:
    scene = Scene((Thing("ball", "red", "small", 0.25), Thing("box", "blue", "large", 0.7)))
    assert len({caption(scene, generator(seed)) for seed in range(300)}) > 100


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("a red ball", Claim((Phrase("ball", "red"),))),
        ("There is an orange cup on the table.", Claim((Phrase("cup", "orange"),))),
        ("two yellow balls", Claim((Phrase("ball", "yellow", count=2),))),
        (
            "a small blue box left of a big green cup",
            Claim((Phrase("box", "blue", "small"), Phrase("cup", "green", "large")), (Relation("left of", 0, 1),)),
        ),
        ("a cup to the right of a cone", Claim((Phrase("cup"), Phrase("cone")), (Relation("left of", 1, 0),))),
        ("a red ball on top of a box", Claim((Phrase("ball", "red"), Phrase("box")), (Relation("on", 0, 1),))),
        ("a box with a red ball on it", Claim((Phrase("box"), Phrase("ball", "red")), (Relation("on", 1, 0),))),
        (
            "from left to right, a cup, a box and a cone",
            Claim(
                (Phrase("cup"), Phrase("box"), Phrase("cone")),
                (Relation("left of", 0, 1), Relation("left of", 0, 2), Relation("left of", 1, 2)),
            ),
        ),
    ],
)
def test_parse_reads_what_is_said(text: str, claim: Claim) -> None:
    assert parse(text) == claim


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a teal ball", "'teal' in 'a teal ball': expected a colour .red, orange"),
        ("a red dog", "'dog' in 'a red dog': expected a kind .ball, box, cup, cone"),
        ("red ball", "cannot read 'red' .*expected one of: a, an, one"),
        ("a red ball above a box", "'above'.*'left of'"),
        ("a box with a ball", "the end in .*'on it'"),
        ("", "the end in ''"),
        ("two balls and two boxes", "4 things are asked for; a scene holds 1 to 3"),
    ],
)
def test_parse_names_what_it_cannot_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_false_captions_are_found_false() -> None:
    things = (replace(BALL, x=0.7, on=1), BOX, Thing("cup", "green", "small", 0.2))
    true = ["a red ball on a blue box right of a green cup", "a green cup, a blue box and a small red ball"]
    false = {
        "a red ball left of a green cup": "the red ball is not left of the green cup",
        "a blue ball on a blue box right of a green cup": "its colour is red",
        "a big red ball, a box and a cup": "its size is small",
        "a red ball on a blue box": "nobody asked for a small green cup",
        "a red ball beside a blue box, and a green cup": "the red ball is not beside the blue box",
    }
    assert all(judge(parse(text), things).score == 1.0 for text in true)
    for text, fault in false.items():
        verdict = judge(parse(text), things)
        assert verdict.score < 1.0, text
        assert fault in " ".join(verdict.faults), verdict


def test_of_twins_only_the_nearer_is_beside() -> None:
    things = [Thing("cone", "red", "small", x) for x in (0.15, 0.5)] + [Thing("cup", "blue", "small", 0.8)]
    assert judge(parse("two red cones left of a blue cup"), things).score == 1.0
    assert judge(parse("two red cones beside a blue cup"), things).score < 1.0


# --- split


def test_nothing_is_held_out_as_a_whole() -> None:
    looks = {(colour, kind) for colour in COLOURS for kind in KINDS if held_out(colour, kind)}
    assert looks == {("orange", "box"), ("yellow", "ball"), ("cyan", "cone"), ("pink", "cup")}
    placed = {(a, b) for a in KINDS for b in KINDS if held_out("left of", a, b)}
    assert placed == {("box", "ball"), ("cone", "cup")}  # and never both ways round
    assert {kind for kind in KINDS if held_out("on", kind, "box")} == {"cup"}


def test_splits_do_not_meet() -> None:
    train, test = (TabletopScenes(400, split=name) for name in ("train", "test"))
    train_texts, test_texts = ({source[i].text for i in range(400)} for source in (train, test))
    assert not train_texts & test_texts
    assert not any(novel(parse(text)) for text in train_texts)
    assert all(novel(parse(text)) for text in test_texts)
    for index in range(400):
        assert split(train[index].meta["scene"]) == "train"
        assert split(test[index].meta["scene"]) == "test"
        for thing in train[index].meta["scene"].things:
            assert not held_out(thing.colour, thing.kind)


def test_a_relation_can_be_all_that_is_new() -> None:
    left = Scene((replace(BALL, x=0.2), replace(BOX, x=0.7)))
    right = Scene((replace(BALL, x=0.8), replace(BOX, x=0.3)))
    assert (split(left), split(right)) == ("train", "test")
    assert novel(parse("a red ball right of a blue box"))
    assert not novel(parse("a red ball next to a blue box"))


# --- checker


@pytest.mark.parametrize("size", [32, 64])
def test_the_checker_reads_true_renders(size: int) -> None:
    scenes = [draw(seed) for seed in range(10_000, 10_300)]
    verdicts = [score(render(scene, size), scene) for scene in scenes]
    assert sum(verdict.score == 1.0 for verdict in verdicts) >= 0.97 * len(scenes)


@pytest.mark.parametrize("size", [32, 64, 200])
def test_the_checker_finds_where_things_are(size: int) -> None:
    for seed in range(30):
        scene = draw(seed)
        seen = sorted(read(render(scene, size)), key=lambda thing: (round(thing.x, 1), thing.base))
        true = sorted(enumerate(scene.things), key=lambda item: (round(item[1].x, 1), scene.base(item[0])))
        assert len(seen) == len(true)
        for found, (index, thing) in zip(seen, true, strict=True):
            assert found.x == pytest.approx(thing.x, abs=1 / 32)
            assert found.base == pytest.approx(scene.base(index), abs=1 / 20)


def changed(scene: Scene, how: str) -> Scene | None:
    """The scene with one thing wrong, or None where this scene cannot be wrong in that way."""
    things = list(scene.things)
    stacked = any(thing.on is not None for thing in things)
    colours, kinds = list(COLOURS), list(KINDS)
    if how == "colour" and not stacked:
        things[0] = replace(things[0], colour=colours[(colours.index(things[0].colour) + 3) % len(colours)])
    elif how == "kind" and not stacked:
        things[0] = replace(things[0], kind=kinds[(kinds.index(things[0].kind) + 1) % len(kinds)])
    elif how == "size" and things[-1].size != "small":
        things[-1] = replace(things[-1], size="small")
    elif how == "missing" and len(things) > 1:
        things.pop()
    elif how == "swapped" and len(things) == 2 and not stacked and str(things[0]) != str(things[1]):
        things = [replace(thing, x=1 - thing.x) for thing in things]
    elif how == "taken off" and stacked:
        things = [thing for thing in things if thing.on is None]
    else:
        return None
    return Scene(tuple(things))


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("how", ["colour", "kind", "size", "missing", "swapped", "taken off"])
def test_the_checker_fails_what_is_wrong(how: str, size: int) -> None:
    pairs = [(scene, changed(scene, how)) for scene in map(draw, range(150))]
    verdicts = [score(render(wrong, size), scene) for scene, wrong in pairs if wrong is not None]
    assert len(verdicts) > 15
    assert all(verdict.score < 1.0 and verdict.faults for verdict in verdicts)


def test_the_checker_says_what_is_wrong() -> None:
    picture = render(Scene((BALL, BOX)))
    assert score(picture, parse("a red ball left of a blue box")).faults == ()
    wrong = score(picture, parse("a red ball right of a green box"))
    assert (wrong.true, wrong.total) == (3, 5)
    assert wrong.faults == (
        "a green box was asked for; its colour is blue",
        "the green box is not left of the red ball",
    )
    assert score(picture, parse("a red ball")).faults == ("nobody asked for a large blue box",)


def test_an_empty_or_a_floating_picture_fails() -> None:
    blank = np.full((32, 32, 3), 200, dtype=np.uint8)
    assert read(blank) == []
    verdict = score(blank, parse("two red balls"))
    assert verdict.score == 0.0
    assert verdict.faults == ("a red ball is missing",)
    picture = render(Scene((replace(BALL, x=0.5),)), 64)
    ball = picture[32:54, 20:44].copy()
    picture[30:] = picture[30:, :1]
    picture[4:26, 20:44] = ball
    assert "the small red ball rests on nothing" in score(picture, parse("a red ball")).faults


# --- bad arguments, the source, and standing alone


@pytest.mark.parametrize("size", [0, 15, 1025, 100_000, -32, 32.0, True])
def test_absurd_sizes(size: int) -> None:
    with pytest.raises(ValueError, match=r"picture size .*from 16 to 1024"):
        render(Scene((BALL,)), size)
    with pytest.raises(ValueError, match=r"picture size .*from 16 to 1024"):
        TabletopScenes(size=size)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: draw(-1), "seed -1 is negative"),
        (lambda: TabletopScenes(seed=-3), "seed -3 is negative"),
        (lambda: TabletopScenes(count=0), "count 0"),
        (lambda: TabletopScenes(split="val"), "unknown split 'val'; choose one of train, test"),
        (lambda: replace(BALL, colour="teal"), "unknown colour 'teal'; choose one of red, orange"),
        (lambda: replace(BALL, kind="dog"), "unknown kind 'dog'; choose one of ball, box"),
        (lambda: replace(BALL, size="huge"), "unknown size 'huge'; choose one of small"),
        (lambda: replace(BALL, x=float("nan")), "x = nan lies outside"),
        (lambda: Scene(()), "1 to 3 things, not 0"),
        (lambda: Scene((replace(BALL, x=0.05),)), "does not fit in the picture"),
        (lambda: Scene((BALL, replace(BALL, x=0.3))), "overlaps"),
        (lambda: Scene((replace(BALL, on=1), BOX)), "reaches over the edge"),
        (lambda: Scene((replace(BALL, x=0.7, on=1, colour="blue"), BOX)), "of its own colour"),
        (lambda: Scene((replace(BALL, on=0),)), "stands on thing 0"),
        (lambda: Scene((BALL, replace(BALL, on=0))), "only a box"),
        (lambda: Scene((BALL,), wall=2.0), "shade of the wall is 2.0"),
        (lambda: read(np.zeros((32, 32), np.uint8)), r"uint8 \(size, size, 3\), not uint8 \(32, 32\)"),
        (lambda: read(np.zeros((32, 32, 3), np.float32)), "not float32"),
        (lambda: read(np.zeros((16, 16, 3), np.uint8)), "choose 24 or more"),
    ],
)
def test_bad_arguments_get_one_clear_error(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_clutter_is_judged_and_not_tripped_over() -> None:
    # Nine shapes, of which the ninth carries the first: what is left out must not be asked about.
    boxes = [Thing("box", "red", "small", 0.1 * (i + 1)) for i in range(8)]
    things = [Thing("ball", "blue", "small", 0.5, on=8), *boxes]
    verdict = judge(parse("a blue ball on a red box"), things)
    assert 0 < verdict.score < 1
    assert verdict.faults


def test_the_source() -> None:
    source = TabletopScenes(50, size=32, seed=3)
    samples = [source[index] for index in range(len(source))]
    assert list(source.captions()) == [sample.text for sample in samples]
    assert len({sample.id for sample in samples}) == 50
    assert all(sample.text and sample.picture.shape == (32, 32, 3) for sample in samples)
    for sample in samples:
        assert np.array_equal(sample.picture, render(sample.meta["scene"], 32))
        assert judge(parse(sample.text), sample.meta["scene"].things).score == 1.0
    again = TabletopScenes(2000, size=64, seed=3)[np.int64(17)]
    assert (again.id, again.text, again.meta["scene"]) == (samples[17].id, samples[17].text, samples[17].meta["scene"])
    other = TabletopScenes(50, seed=4)
    assert sum(other[i].text == samples[i].text for i in range(50)) < 10
    for index in (-1, 50):
        with pytest.raises(IndexError, match=f"index {index} of 50 scenes"):
            source[index]


def test_the_world_needs_no_torch() -> None:
    folder = Path(next(iter(selfflow.worlds.__path__)))
    code = (
        "import sys; sys.modules['torch'] = None; import tabletop as t;"
        "assert t.score(t.render(t.draw(0)), t.draw(0)).score == 1.0;"
        "assert not any(name.startswith('selfflow') for name in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_words_cover_the_kinds() -> None:
    assert {*COLOURS, *KINDS, *PLURALS.values(), *SIZES} <= set(WORDS)
    assert len(WORDS) == len(set(WORDS)) < 64
