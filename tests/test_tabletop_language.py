"""Tabletop's words: scenes that can be, relations by geometry, true captions that parse, splits that do not meet."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace

import pytest

from selfflow.worlds.tabletop.claim import Claim, Event, Phrase, Relation, describe, judge, resolved
from selfflow.worlds.tabletop.draw import draw
from selfflow.worlds.tabletop.geometry import bounds, stood
from selfflow.worlds.tabletop.happen import judge_motion
from selfflow.worlds.tabletop.language import WORDS_OF_LANGUAGE, caption, caption_motion, parse
from selfflow.worlds.tabletop.layout import possible, rest
from selfflow.worlds.tabletop.motion import MOTIONS, draw_motion
from selfflow.worlds.tabletop.physics import overlap, settle
from selfflow.worlds.tabletop.relations import above, beside, carried, in_, left_of, on, related, root, supports
from selfflow.worlds.tabletop.scene import COLOURS, KINDS, TABLE, WORDS, Motion, Scene, Thing, generator
from selfflow.worlds.tabletop.split import held_out, novel, novelties, split

COUNTS = (None, 1, 2, 3, 5)
PIXEL = 1 / 64


def tower() -> list[Thing]:
    """A ball on a box on a book, and beside it a glass with a ball in it."""
    book = stood(Thing("book", "red", "large"), 0.3)
    box = rest(Thing("box", "blue", "medium"), book)
    assert box is not None
    ball = rest(Thing("ball", "green", "small"), box)
    glass = stood(Thing("glass", "pink", "large"), 0.8)
    inside = rest(Thing("ball", "cyan", "small"), glass)
    assert ball is not None
    assert inside is not None
    return [book, box, ball, inside, glass]


# --- drawing


def test_scenes_are_the_same_for_a_seed() -> None:
    lines = "\n".join(f"{draw(s, c)!r} {caption(draw(s, c), generator(s))}" for s in range(5) for c in COUNTS)
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == "e9e2bbddfe6a2194"
    assert len({repr(draw(seed)) for seed in range(100)}) == 100


@pytest.mark.parametrize("count", COUNTS)
def test_drawn_scenes_are_possible(count: int | None) -> None:
    for seed in range(25):
        scene = draw(seed, count)
        assert possible(scene.things), seed
        assert count in (None, len(scene.things))
        assert overlap(scene) < 1e-4


def test_physics_leaves_drawn_scenes_as_they_are() -> None:
    for seed in range(12):
        scene = draw(seed, 3)
        later = settle(scene, 0.5)
        for thing, after in zip(scene.things, later.things, strict=True):
            assert abs(thing.x - after.x) < 0.01, (seed, str(thing))
            assert abs(thing.y - after.y) < 0.01, (seed, str(thing))


def test_ten_things_and_few_kinds() -> None:
    assert len(draw(0, 10).things) == 10
    assert {thing.kind for seed in range(20) for thing in draw(seed, 3, ("sign", "box")).things} == {"sign", "box"}
    assert {thing.kind for seed in range(200) for thing in draw(seed).things} == set(KINDS)


def test_what_cannot_be_is_not_possible() -> None:
    things = tower()
    assert possible(things)
    book, box, ball, inside, glass = things
    wrong = {
        "floating": [book, box, ball.at(ball.x, ball.y + 0.05), inside, glass],
        "sunk": [book, box, ball.at(ball.x, ball.y - 0.01), inside, glass],
        "over the edge": [book, box.at(book.x + 0.16, box.y), inside, glass],
        "one colour": [book, replace(box, colour="red"), ball, inside, glass],
        "too near": [book, box, ball, glass.at(0.3 + 0.2125 + 0.153 + 0.03, glass.y)],
        "out of the picture": [glass.at(0.9, glass.y)],
        "tipped": [replace(glass, angle=0.1)],
    }
    assert [name for name, layout in wrong.items() if possible(layout)] == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: draw(-1), "seed -1 is negative"),
        (lambda: draw(0, 0), "0 things were asked for; a scene holds 1 to 10"),
        (lambda: draw(0, 11), "11 things"),
        (lambda: draw(0, kinds=()), "name at least one of ball"),
        (lambda: draw(0, kinds=("cone",)), "unknown kind 'cone'"),
        (lambda: draw(0, 6, ("sign",)), "no place for 6 things of kinds sign"),
        (lambda: caption(Scene(), generator(0)), "an empty scene has no caption"),
        (lambda: caption_motion(Motion("drop", ()), generator(0)), "without things"),
        (lambda: related("near", [], 0, 0), "unknown relation 'near'"),
        (lambda: Phrase("ball", fingers=6), "6 raised fingers"),
    ],
)
def test_bad_arguments_get_one_clear_error(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- relations


def test_relations_of_a_tower_and_a_glass() -> None:
    things = tower()
    book, box, ball, inside, glass = range(5)
    assert supports(things) == [None, book, box, glass, None]
    assert [(i, j) for i in range(5) for j in range(5) if on(things, i, j)] == [(box, book), (ball, box)]
    assert [(i, j) for i in range(5) for j in range(5) if in_(things, i, j)] == [(inside, glass)]
    assert [(i, j) for i in range(5) for j in range(5) if above(things, i, j)] == [
        (box, book),
        (ball, book),
        (ball, box),
    ]
    assert {(i, j) for i in range(5) for j in range(5) if left_of(things, i, j)} == {
        (i, j) for i in (book, box, ball) for j in (inside, glass)
    }
    assert beside(things, book, glass)
    assert beside(things, glass, book)
    assert not beside(things, box, book)
    assert root(things, ball) == book
    assert carried(supports(things), book) == [box, ball]


@pytest.mark.parametrize(("dx", "dy"), [(PIXEL, PIXEL), (-PIXEL, PIXEL), (PIXEL, -PIXEL), (-PIXEL, -PIXEL)])
def test_relations_bear_an_error_of_a_pixel(dx: float, dy: float) -> None:
    for seed in range(30):
        scene = draw(seed, 3)
        claim = describe(scene)
        for k in range(3):
            moved = list(scene.things)
            moved[k] = moved[k].at(moved[k].x + dx, moved[k].y + dy)
            assert judge(claim, moved).faults == (), (seed, k)


def test_a_plate_holds_in_and_on_and_a_tipped_cup_nothing() -> None:
    plate = stood(Thing("plate", "red", "large"), 0.5)
    ball = rest(Thing("ball", "blue", "small"), plate)
    assert ball is not None
    assert on([plate, ball], 1, 0)
    assert in_([plate, ball], 1, 0)
    assert not above([plate, ball], 1, 0)
    cup = stood(Thing("cup", "red", "large"), 0.5)
    inside = rest(Thing("ball", "blue", "small"), cup)
    assert inside is not None
    assert in_([cup, inside], 1, 0)
    assert not on([cup, inside], 1, 0)
    assert not in_([replace(cup, angle=1.5), inside], 1, 0)
    high = stood(Thing("ball", "blue", "large"), 0.5, bounds(cup)[3])
    assert on([cup, high], 1, 0)
    assert not in_([cup, high], 1, 0)
    assert supports([stood(high, 0.5, 0.6)]) == [None]


# --- captions


@pytest.mark.parametrize("count", COUNTS)
def test_every_caption_is_true_and_speaks_the_language(count: int | None) -> None:
    for seed in range(40):
        scene = draw(seed, count)
        text = caption(scene, generator(seed, 1))
        assert judge(parse(text), scene.things).faults == (), text
        assert set(re.findall(r'"[^"]*"|[^\s,"]+|,', text)) <= set(WORDS_OF_LANGUAGE), text
        assert judge(describe(scene), scene.things).score == 1.0


def test_one_scene_has_many_captions() -> None:
    scene = Scene(tuple(tower()))
    assert len({caption(scene, generator(seed)) for seed in range(200)}) > 150


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("a red ball", Claim((Phrase("ball", "red"),))),
        ("There is an orange cup on the table.", Claim((Phrase("cup", "orange"),))),
        ("ten small yellow balls", Claim((Phrase("ball", "yellow", "small", count=10),))),
        ("a red glass", Claim((Phrase("glass", "red"),))),
        ("a red glass ball", Claim((Phrase("ball", "red", material="glass"),))),
        ("a little wooden cup", Claim((Phrase("cup", size="small", material="wood"),))),
        ('a green sign that says "CAT"', Claim((Phrase("sign", "green", word="CAT"),))),
        ("two signs with the word “dog”", Claim((Phrase("sign", word="DOG", count=2),))),
        ("a pink hand with three raised fingers", Claim((Phrase("hand", "pink", fingers=3),))),
        ("a closed hand", Claim((Phrase("hand", fingers=0),))),
        ("a blue fist", Claim((Phrase("hand", "blue", fingers=0),))),
        ("a hand with one finger up", Claim((Phrase("hand", fingers=1),))),
        ("a doll", Claim((Phrase("doll"),))),
        ("a standing doll", Claim((Phrase("doll", pose="standing"),))),
        ("a doll with its arms up", Claim((Phrase("doll", pose="arms up"),))),
        ("two red dolls raising their left arm", Claim((Phrase("doll", "red", pose="left arm up", count=2),))),
        ("a cup to the right of a book", Claim((Phrase("cup"), Phrase("book")), (Relation("left of", 1, 0),))),
        ("a ball above a box", Claim((Phrase("ball"), Phrase("box")), (Relation("above", 0, 1),))),
        ("a box beneath a ball", Claim((Phrase("box"), Phrase("ball")), (Relation("above", 1, 0),))),
        ("a cup holding a ball", Claim((Phrase("cup"), Phrase("ball")), (Relation("in", 1, 0),))),
        (
            "a box with a ball and a cup on it left of a plate",
            Claim(
                (Phrase("box"), Phrase("ball"), Phrase("cup"), Phrase("plate")),
                (Relation("on", 1, 0), Relation("on", 2, 0), Relation("left of", 0, 3)),
            ),
        ),
        (
            "from left to right, a cup, a ball on a box and a book",
            Claim(
                (Phrase("cup"), Phrase("ball"), Phrase("box"), Phrase("book")),
                (Relation("on", 1, 2), Relation("left of", 0, 2), Relation("left of", 2, 3)),
            ),
        ),
        (
            "the ball from picture 1 on the red box from picture 2",
            Claim((Phrase("ball", picture=1), Phrase("box", "red", picture=2)), (Relation("on", 0, 1),)),
        ),
        (
            "a red ball drops onto a blue box and bounces with a metal clink",
            Claim(
                (Phrase("ball", "red"), Phrase("box", "blue")),
                (),
                (Event("falls onto", 0, 1), Event("bounces", 0), Event("sounds", material="metal")),
            ),
        ),
        (
            "a red ball rolls to the left and hits a sign, which topples, and the red ball falls down",
            Claim(
                (Phrase("ball", "red"), Phrase("sign")),
                (),
                (Event("rolls", 0, None, "left"), Event("hits", 0, 1), Event("falls over", 1), Event("falls", 0)),
            ),
        ),
        (
            "the gripper pushes a box to the right without a sound while a cup and a book stand by",
            Claim(
                (Phrase("box"), Phrase("cup"), Phrase("book")),
                (),
                (Event("pushes", -2, 0, "right"), Event("sounds"), Event("stays", 1), Event("stays", 2)),
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
        ("a red cone", "'cone' in 'a red cone': expected a kind .ball, box, cup, glass"),
        ("red ball", "cannot read 'red' .*expected one of: a, an, one"),
        ("a red ball near a box", "'near'.*'left of'"),
        ("a box with a ball", "the end in .*'on it' or 'in it'"),
        ('a sign that says "ELEPHANT"', 'ELEPHANT.*1 to 6 letters in double quotes, such as "CAT"'),
        ("a sign that says CAT", "'CAT'.*in double quotes"),
        ('a red ball that says "CAT"', "'that'"),
        ("a closed box", "expected a hand"),
        ("a hand with six fingers up", "cannot read 'fingers'"),
        ("the ball from picture 11", "'11'.*the number of a picture, 1 to 10"),
        ("", "the end in ''"),
        ("six balls and six boxes", "12 things are asked for; a scene holds 1 to 10"),
        ("a ball rolls", "'to the left' or 'to the right'"),
        ("a ball drops onto", "the end"),
        ("a ball falls down with a bang", "'bang'.*metal clink"),
        ("a ball falls down and the blue box topples", "nothing before it is a blue box"),
        ("the gripper bounces", "the gripper only pushes"),
    ],
)
def test_parse_names_what_it_cannot_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_false_captions_are_found_false() -> None:
    things = tower()
    said = "a green ball on a blue box on a red book left of a pink glass with a cyan ball in it"
    assert judge(parse(said), things).score == 1.0
    false = (
        said.replace("left", "right"),
        said.replace("green", "yellow"),
        said.replace("on a blue", "under a blue"),
        said.replace("in it", "on it"),
        said.replace("a red book", "a small red book"),
        said.replace("book", "plate"),
        "a green ball on a blue box on a red book left of a pink glass",
        f"{said}, and a yellow cup",
    )
    assert [text for text in false if judge(parse(text), things).score == 1.0] == []
    assert judge(parse("a green ball"), things[2:3]).score == 1.0
    assert judge(parse("two green balls"), things[2:3]).faults


def test_words_fingers_and_poses_are_judged() -> None:
    hand = stood(Thing("hand", "pink", fingers=3), 0.5)
    sign = stood(Thing("sign", "green", word="CAT"), 0.5)
    doll = stood(Thing("doll", "red", limbs=(2.65, 2.65, 0.25, 0.25)), 0.5)
    for thing, right, wrong in (
        (hand, "a pink hand showing three fingers", "a pink hand showing two fingers"),
        (sign, 'a green sign saying "CAT"', 'a green sign saying "DOG"'),
        (doll, "a red doll with raised arms", "a red doll with its legs apart"),
    ):
        assert judge(parse(right), [thing]).faults == ()
        assert judge(parse(wrong), [thing]).score < 1.0


def test_pictures_stand_for_what_they_show() -> None:
    claim = parse("the ball from picture 2 left of the sign from picture 1")
    shown = [Thing("sign", "green", word="CAT"), Thing("ball", "red", "small")]
    full = resolved(claim, shown)
    assert full.phrases == (Phrase("ball", "red", "small"), Phrase("sign", "green", "medium", word="CAT"))
    with pytest.raises(ValueError, match="there is no picture 2; 1 were given"):
        resolved(claim, shown[:1])


# --- motions


@pytest.mark.parametrize("name", MOTIONS)
def test_captions_of_motions_are_true_and_name_everything(name: str) -> None:
    for seed in range(4):
        motion = draw_motion(seed, name)
        text = caption_motion(motion, generator(seed))
        claim = parse(text)
        assert judge_motion(claim, motion).faults == (), text
        assert len(claim.phrases) == len(motion.frames[0].things)
        assert set(re.findall(r'"[^"]*"|[^\s,"]+|,', text)) <= set(WORDS_OF_LANGUAGE), text


def test_what_does_not_happen_is_found_false() -> None:
    motion = draw_motion(2, "drop")
    first, second = (f"a {thing.colour} {thing.kind}" for thing in motion.frames[0].things)
    assert judge_motion(parse(f"{first} drops onto {second}"), motion).faults == ()
    for text in (
        f"{second} drops onto {first}",
        f"{first} drops onto the table while {second} stands by",
        f"{first} rolls to the left and hits {second}",
        f"{first} drops onto {second} without a sound",
        f"{first} drops onto {second}, which topples",
    ):
        assert judge_motion(parse(text), motion).score < 1.0, text
    still = Motion("still", (motion.frames[0],) * 4)
    assert judge_motion(parse(f"{first} drops onto {second}"), still).score < 1.0
    assert judge_motion(parse(f"{first} and {second} stand by without a sound"), still).faults == ()


# --- split


def test_nothing_is_held_out_as_a_whole() -> None:
    looks = [(colour, kind) for colour in COLOURS for kind in KINDS if held_out(colour, kind)]
    assert len(looks) == 10
    assert max(sum(c == colour for c, _ in looks) for colour in COLOURS) <= 2
    assert max(sum(k == kind for _, k in looks) for kind in KINDS) <= 2
    placed = [(a, b) for a in KINDS for b in KINDS if held_out("left of", a, b)]
    assert len(placed) == 11
    assert not any((b, a) in placed for a, b in placed)
    assert [word for word in WORDS if held_out("word", word)] == ["SUN", "STOP"]
    loads = ("ball", "box", "cup", "glass", "plate", "book", "sign", "doll")
    upon = [(a, b) for b in ("box", "book") for a in loads if held_out("on", a, b)]
    assert upon == [("doll", "box"), ("box", "book"), ("glass", "book")]


def test_training_captions_say_nothing_held_out_and_both_splits_are_drawn() -> None:
    names = []
    for seed in range(300):
        scene = draw(seed)
        names.append(split(scene))
        if names[-1] == "train":
            assert not novel(parse(caption(scene, generator(seed))))
    assert 60 < names.count("train") < 240


def test_a_relation_can_be_all_that_is_new() -> None:
    ball, box = stood(Thing("ball", "red", "small"), 0.2), stood(Thing("box", "blue", "small"), 0.7)
    assert split(Scene((ball, box))) == "train"
    assert split(Scene((stood(ball, 0.7), stood(box, 0.2)))) == "test"
    assert novel(parse("a red ball right of a blue box"))
    assert not novel(parse("a red ball next to a blue box"))
    assert novel(parse("a doll on a box")) == novel(parse("a doll above a box")) == held_out("on", "doll", "box")
    assert pytest.approx(bounds(ball)[1]) == TABLE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a red ball next to a blue box", set()),
        ("a red ball right of a blue box", {"relation"}),
        ('a red sign saying "SUN"', {"word"}),
        ("an orange hand right of a red ball", {"colour"}),
        ('an orange hand beside a red sign saying "STOP" to the left of a red ball', {"colour", "word"}),
    ],
)
def test_what_is_new_of_a_caption_is_told_apart(text: str, said: set[str]) -> None:
    assert held_out("orange", "hand")
    assert novelties(parse(text)) == said
    assert novel(parse(text)) == bool(said)
