"""Tabletop's tasks: edits that are possible and do what they say, references that compose, one sample type."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from selfflow.worlds.tabletop.claim import Phrase, judge, resolved
from selfflow.worlds.tabletop.geometry import stood
from selfflow.worlds.tabletop.instruct import the
from selfflow.worlds.tabletop.language import parse
from selfflow.worlds.tabletop.layout import possible, rest
from selfflow.worlds.tabletop.relations import carried, supports
from selfflow.worlds.tabletop.render import render
from selfflow.worlds.tabletop.scene import COLOURS, FPS, FRAMES, KINDS, SOUND_HZ, WORDS, Thing, generator
from selfflow.worlds.tabletop.split import SPLITS, held_out, novel, split
from selfflow.worlds.tabletop.tasks import (
    EDIT_KINDS,
    TASKS,
    Instruction,
    changed,
    draw_edit,
    draw_reference,
    example,
    parse_instruction,
)

BALL = stood(Thing("ball", "red", "small"), 0.15)
BOX = stood(Thing("box", "blue", "medium"), 0.45)
HAND = stood(Thing("hand", "pink", fingers=2), 0.8)
THINGS = [BALL, BOX, HAND]


# --- instructions


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("make the red ball blue", Instruction("recolour", Phrase("ball", "red"), colour="blue")),
        ("change the colour of the ball to cyan", Instruction("recolour", Phrase("ball"), colour="cyan")),
        ("Make the small ball large.", Instruction("resize", Phrase("ball", size="small"), size="large")),
        ("put the ball on top of the box", Instruction("move", Phrase("ball"), Phrase("box"), "on")),
        ("move the ball to the left of the box", Instruction("move", Phrase("ball"), Phrase("box"), "left of")),
        ("put a red cup on the box", Instruction("add", None, Phrase("box"), "on", Phrase("cup", "red"))),
        ("add a blue fist", Instruction("add", new=Phrase("hand", "blue", fingers=0))),
        ("take away the red glass", Instruction("remove", Phrase("glass", "red"))),
        ('write "dog" on the sign', Instruction("change word", Phrase("sign"), word="DOG")),
        (
            'make the sign that says "HI" say "CAT"',
            Instruction("change word", Phrase("sign", word="HI"), word="CAT"),
        ),
        ("raise one finger on the hand", Instruction("raise fingers", Phrase("hand"), fingers=1)),
        ("close the pink hand", Instruction("raise fingers", Phrase("hand", "pink"), fingers=0)),
        ("swap the ball and the box", Instruction("swap", Phrase("ball"), Phrase("box"))),
    ],
)
def test_instructions_are_read(text: str, asked: Instruction) -> None:
    assert parse_instruction(text) == asked


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the end in ''.*an instruction"),
        ("eat the ball", "'eat'.*an instruction: make"),
        ("make the ball teal", "'teal'.*'red'"),
        ("make a ball red", "'a'.*'the'"),
        ("move the ball above the box", "'above'.*'left of'"),
        ("remove the ball now", "'now'.*expected the end"),
        ("add two balls", "asks for 2 things; an instruction adds one"),
        ('make the ball say "CAT"', "asks a ball for what only a sign can do"),
        ("raise six fingers on the hand", "'six'"),
    ],
)
def test_what_is_no_instruction_gets_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_instruction(text)


def test_a_phrase_names_exactly_one_thing() -> None:
    assert parse_instruction("swap the red ball and the box").named(THINGS) == (0, 1)
    with pytest.raises(ValueError, match="nothing is the green ball"):
        parse_instruction("remove the green ball").named(THINGS)
    with pytest.raises(ValueError, match="several things are the ball"):
        parse_instruction("remove the ball").named([BALL, stood(replace(BALL, colour="green"), 0.5)])
    assert the([BALL, stood(BALL, 0.6)], 0, generator(0)) is None


def test_an_instruction_knows_whether_it_is_done() -> None:
    def faults(text: str, after: list[Thing]) -> list[str]:
        return [fault for right, fault in parse_instruction(text).done(THINGS, after) if not right]

    blue, on_box = replace(BALL, colour="blue"), rest(BALL, BOX)
    assert on_box is not None
    assert faults("make the red ball blue", [blue, BOX, HAND]) == []
    assert faults("make the red ball blue", THINGS) == [
        "the small red ball has not become blue; it is a small red ball"
    ]
    assert faults("make the red ball blue", [stood(blue, 0.25), BOX, HAND]) == ["the small red ball has moved"]
    assert faults("make the red ball blue", [blue, BOX, replace(HAND, fingers=3)]) == [
        "the medium pink hand has become a medium pink hand with 3 fingers"
    ]
    assert faults("make the red ball blue", [blue, BOX]) == ["the medium pink hand is gone"]
    assert faults("put the ball on the box", [on_box, BOX, HAND]) == []
    assert faults("put the ball on the box", THINGS) == ["the ball is not on the box"]
    assert faults("remove the ball", [HAND, BOX]) == []
    assert faults("remove the ball", THINGS) == ["the small red ball is still there"]
    assert faults("close the hand", [BALL, BOX, replace(HAND, fingers=0)]) == []
    assert faults("swap the ball and the hand", [stood(BALL, 0.8), BOX, stood(HAND, 0.15)]) == []
    assert len(faults("swap the ball and the hand", THINGS)) == 2
    cup = rest(Thing("cup", "green", "small"), BOX)
    assert cup is not None
    assert faults("put a green cup on the box", [*THINGS, cup]) == []
    assert (
        faults("put a green cup on the box", [*THINGS, replace(cup, colour="cyan")])[0] == "there is no new green cup"
    )


# --- edits


@pytest.mark.parametrize("kind", EDIT_KINDS)
def test_edits_are_possible_and_do_what_they_say(kind: str) -> None:
    texts = set()
    for seed in range(15):
        edit = draw_edit(seed, kind)
        before, after = edit.before.things, edit.after.things
        asked = parse_instruction(edit.instruction)
        assert (edit.kind, asked.kind) == (kind, kind)
        assert possible(before)
        assert possible(after)
        assert all(right for right, _ in asked.done(before, after)), edit.instruction
        assert not all(right for right, _ in asked.done(before, before)), edit.instruction
        if kind == "add":
            assert asked.new is not None
            assert after[edit.index].kind == asked.new.kind
        else:
            assert asked.named(before)[0] == edit.index
        moved = len(set(after) - set(before))
        loads = 0 if kind == "add" else len(carried(supports(before), edit.index))
        assert moved <= {"remove": 0, "swap": 2}.get(kind, 1 + loads)
        assert draw_edit(seed, kind) == edit
        texts.add(edit.instruction)
    assert len(texts) > 8


def test_the_mask_is_every_pixel_that_differs_grown_by_one() -> None:
    edit = draw_edit(3, "recolour")
    mask = changed(edit, 64)
    differs = (render(edit.before, 64) != render(edit.after, 64)).any(axis=-1)
    assert mask.dtype == bool
    assert 0 < differs.sum() < mask.sum() < 64 * 64
    rows, columns = np.nonzero(mask)
    for row, column in zip(rows, columns, strict=True):
        assert differs[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2].any()
    grown = np.zeros_like(mask)
    for row, column in np.argwhere(differs):
        grown[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = True
    assert np.array_equal(grown, mask)


def test_a_load_goes_with_what_carries_it() -> None:
    found = 0
    for seed in range(60):
        edit = draw_edit(seed, "move")
        loads = carried(supports(edit.before.things), edit.index)
        if not loads:
            continue
        found += 1
        target = edit.before.things[edit.index]
        after = edit.after.things
        new = next(i for i, t in enumerate(after) if t == target.at(after[i].x, after[i].y))
        assert len(carried(supports(after), new)) == len(loads)
    assert found >= 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: draw_edit(-1), "seed -1 is negative"),
        (lambda: draw_edit(0, "melt"), "unknown kind of edit 'melt'; choose one of recolour"),
        (lambda: draw_reference(0, 0), "0 reference pictures were asked for; choose 1 to 10"),
        (lambda: draw_reference(0, 11), "11 reference pictures"),
        (lambda: draw_reference(0, 1, alike=True), "one reference picture cannot be like another"),
        (lambda: draw_reference(0, 1, spare=True), "one reference picture cannot be like another"),
        (lambda: example("still", 0, alike=True), "only references can be"),
        (lambda: example("edit", 0, spare=True), "spare pictures were asked for of the task edit"),
        (lambda: example("paint", 0), "unknown task 'paint'; choose one of still"),
        (lambda: example("still", 0, split="val"), "unknown split 'val'; choose one of train, test"),
        (lambda: example("still", -2), "seed -2 is negative"),
        (lambda: example("edit", 0, size=8), "8"),
        (lambda: example("edit", 0, count=3), "a count of 3 was asked for of the task edit"),
        (lambda: example("still", 0, count=11), "11 things were asked for"),
        (lambda: example("reference", 0, count=11), "11 reference pictures"),
        (lambda: Instruction("melt"), "unknown kind of edit 'melt'"),
    ],
)
def test_bad_arguments_get_one_clear_error(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# --- references


@pytest.mark.parametrize("count", [1, 2, 3, 6, 10])
def test_references_compose_what_the_words_say(count: int) -> None:
    for seed in range(6):
        reference = draw_reference(seed, count)
        assert [len(scene.things) for scene in reference.scenes] == [1] * count
        assert all(possible(scene.things) for scene in (*reference.scenes, reference.target))
        shown = [scene.things[0] for scene in reference.scenes]
        claim = resolved(parse(reference.text), shown)
        assert judge(claim, reference.target.things).faults == (), reference.text
        left = {thing.at(0, 0) for thing in reference.target.things}
        assert {thing.at(0, 0) for thing in shown} <= left
        wrong = [replace(shown[0], colour="red" if shown[0].colour != "red" else "blue"), *shown[1:]]
        assert judge(resolved(parse(reference.text), wrong), reference.target.things).faults


@pytest.mark.parametrize("split_name", SPLITS)
@pytest.mark.parametrize("count", range(1, 11))
def test_as_many_references_are_drawn_as_were_asked_for(count: int, split_name: str) -> None:
    case = example("reference", count, 24, split_name, count=count)
    assert case.references is not None
    assert len(case.references) == count == len(case.truth.scenes)  # type: ignore[attr-defined]
    assert split(case.truth.target) == split_name  # type: ignore[attr-defined]


# --- one sample type


@pytest.mark.parametrize("task", TASKS)
def test_examples_have_what_their_task_needs(task: str) -> None:
    case = example(task, 5, size=32)
    shapes = {
        name: getattr(case, name).shape
        for name in ("picture", "before", "mask", "clip", "sound")
        if getattr(case, name) is not None
    }
    picture = (32, 32, 3)
    samples = FRAMES * SOUND_HZ // FPS
    wanted: dict[str, dict[str, tuple[int, ...]]] = {
        "still": {"picture": picture},
        "edit": {"picture": picture, "before": picture, "mask": (32, 32)},
        "reference": {"picture": picture},
        "clip": {"clip": (FRAMES, *picture), "sound": (samples,)},
    }
    assert case.text
    assert (case.task, case.seed) == (task, 5)
    if task == "robot":
        assert case.actions is not None
        assert case.states is not None
        assert case.actions.shape == case.states.shape == (shapes["clip"][0] - 1, 3)
    else:
        assert shapes == wanted[task]
        again = example(task, 5, size=32)
        for name in shapes:
            assert np.array_equal(getattr(case, name), getattr(again, name))
        assert again.text == case.text
    assert (case.references is not None) == (task == "reference")


def test_splits_do_not_meet() -> None:
    for task in ("still", "edit", "reference"):
        for seed in range(6):
            train, test = (example(task, seed, size=16, split=name).truth for name in ("train", "test"))
            scenes = {
                "still": lambda truth: [truth],
                "edit": lambda truth: [truth.before, truth.after],
                "reference": lambda truth: [*truth.scenes, truth.target],
            }[task]
            assert {split(scene) for scene in scenes(train)} == {"train"}
            assert split(scenes(test)[-1]) == "test"


def test_novel_instructions_say_what_is_held_out_and_training_says_none() -> None:
    colour, kind = next((c, k) for c in COLOURS for k in KINDS if held_out(c, k))
    known = next(c for c in COLOURS if not held_out(c, kind))
    word = next(w for w in WORDS if held_out("word", w))
    left, right = next((a, b) for a in KINDS for b in KINDS if held_out("left of", a, b))
    upper, lower = next((a, b) for b in ("plate", "cup", "glass") for a in KINDS if held_out("in", a, b))
    for text, said in (
        (f"paint the {known} {kind} {colour}", True),
        (f"remove the {colour} {kind}", True),
        (f"remove the {known} {kind}", False),
        (f"remove the {kind}", False),
        (f"swap the {left} and the {colour} {kind}", True),
        (f'make the sign say "{word}"', True),
        (f"move the {left} to the left of the {right}", True),
        (f"move the {right} to the right of the {left}", True),
        (f"move the {left} next to the {right}", False),
        (f"put a {upper} into the {lower}", True),
    ):
        assert novel(parse_instruction(text)) == said, text
    asked = [[novel(parse_instruction(example("edit", seed, 16, name).text)) for seed in range(40)] for name in SPLITS]
    assert not any(asked[0])
    assert 0 < sum(asked[1]) < 40
