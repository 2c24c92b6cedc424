"""Tabletop's captions of motions, judged from pixels: true ones pass, and what does not happen is found false."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pymunk")

from selfflow.worlds.tabletop.check_clip import score_clip
from selfflow.worlds.tabletop.check_story import score_story
from selfflow.worlds.tabletop.corrupt import blurred, noisy
from selfflow.worlds.tabletop.corrupt_motion import corrupt_motion
from selfflow.worlds.tabletop.corrupt_story import STORY_FAULTS, corrupt_story
from selfflow.worlds.tabletop.geometry import stood
from selfflow.worlds.tabletop.happen import judge_motion
from selfflow.worlds.tabletop.language import caption_motion, parse
from selfflow.worlds.tabletop.motion import MOTIONS, draw_motion
from selfflow.worlds.tabletop.physics import simulate
from selfflow.worlds.tabletop.render import render_clip
from selfflow.worlds.tabletop.scene import FPS, GRAVITY, POSES, SIZES, TABLE, Motion, Scene, Thing, generator
from selfflow.worlds.tabletop.track import read_clip
from selfflow.worlds.tabletop.turn import ANGLES, recognised, turned

BALL, BOX = Thing("ball", "red", "small"), Thing("box", "blue", "medium")
KINDS = {
    "box": Thing("box", "green", "small"),
    "book": Thing("book", "green", "medium"),
    "cup": Thing("cup", "green", "medium"),
    "sign": Thing("sign", "green", "medium", word="CAT"),
    "doll": Thing("doll", "green", "large", limbs=POSES["arms up"]),
}


def turning(thing: Thing, angles: np.ndarray) -> np.ndarray:
    return render_clip(Motion("", tuple(Scene((thing.at(0.5, 0.5, float(a)),)) for a in angles)), 64)


# --- turning


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [-1.6, 0.4, 2.6])
def test_a_turn_is_measured_however_far(kind: str, end: float) -> None:
    masks = read_clip(turning(KINDS[kind], np.linspace(0.1, 0.1 + end, 10)), FPS).mask[:, 0]
    assert turned(KINDS[kind], masks) == pytest.approx(end, abs=2 * np.pi / ANGLES)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "sign"])  # letters leave too little of that
def test_a_tilted_thing_is_known_by_its_outline(kind: str) -> None:
    found, fit = recognised(read_clip(turning(KINDS[kind], np.full(2, 0.5)), FPS).mask[:, 0])
    assert (found.kind, found.size, found.limbs) == (kind, KINDS[kind].size, KINDS[kind].limbs)
    assert fit > 0.7


# --- true and false captions


@pytest.mark.parametrize("name", MOTIONS)
def test_true_captions_pass_and_false_ones_do_not(name: str) -> None:
    motion = draw_motion(20_003, name)
    clip = render_clip(motion, 64)
    text = caption_motion(motion, generator(1))
    for shown in (clip, noisy(clip, 1), np.stack([blurred(frame) for frame in clip])):
        score = score_story(shown, text)
        assert (score.value, score.faults) == (1, ()), text
    told = 0
    for kind in STORY_FAULTS:
        try:
            wrong = corrupt_story(motion, kind, 1)
        except ValueError:
            continue
        told += 1
        assert judge_motion(parse(wrong), motion).faults
        assert score_story(clip, wrong).facts["what happens"] < 1, wrong
    assert told


DROPPED = simulate(Scene((BALL.at(0.62, 0.8), stood(BOX, 0.62), Thing("cup", "green", "small", 0.2, TABLE))), 16)
ROLLED = draw_motion(20_001, "roll")


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("a red ball drops onto a blue box while a green cup stands by", True),
        ("a red ball drops onto the blue box", None),
        ("a red ball lands on a blue box and bounces while a green cup stands by", True),
        ("a red ball drops onto the table while a blue box and a green cup stand by", False),
        ("a red ball drops into a green cup while a blue box stands by", False),
        ("a red ball rolls to the left and hits a blue box while a green cup stands by", False),
        ("a blue box drops onto a red ball while a green cup stands by", False),
        ("a red ball falls onto a blue box, which topples, while a green cup stands by", None),
        ("a red ball drops onto a blue box, and a green cup falls over", False),
        ("the gripper pushes a green cup to the left while a red ball and a blue box stand by", False),
        ("a red ball, a blue box and a green cup stand by", False),
    ],
)
def test_what_happens_is_told_from_what_does_not(text: str, right: bool | None) -> None:
    clip = render_clip(DROPPED, 64)
    if right is None:  # nothing before it is a blue box; a comma before "while"
        with pytest.raises(ValueError, match="cannot read"):
            score_story(clip, text)
        return
    score = score_story(clip, text)
    assert score.facts["things named"] == 1
    assert (score.facts["what happens"] == 1) == right, score.faults
    assert bool(score.faults) != right


def test_other_things_are_found_missing() -> None:
    score = score_story(render_clip(DROPPED, 64), "a red ball drops onto a blue box while a yellow cup stands by")
    assert score.facts["things named"] < 1
    assert score.facts["what happens"] < 1
    assert any("yellow cup" in fault for fault in score.faults)


def test_what_stays_on_the_rim_of_a_cup_is_on_it_not_in_it() -> None:
    on, into = (
        parse(f"a red ball {verb} a blue cup and stays there").relations[0].name for verb in ("lands on", "falls into")
    )
    assert (on, into) == ("on", "in")


# --- slow falls


@pytest.mark.parametrize(("g", "flawed"), [(1.0, False), (0.4, True)])
def test_an_arc_close_to_what_it_left_shows_its_gravity(g: float, flawed: bool) -> None:
    """A ball that goes over the edge of a box: near it all the time, so that it is never quite free of it."""
    x = 0.3 + 0.045 * np.arange(9)
    top = TABLE + SIZES["large"]
    y = [top + BALL.extent / 2 + 0.02 - g * GRAVITY * (k / FPS) ** 2 / 2 for k in range(9)]
    box = Thing("box", "blue", "large", 0.25, TABLE + SIZES["large"] / 2)
    frames = tuple(
        Scene((BALL.at(float(a), max(float(b), TABLE + BALL.extent / 2)), box)) for a, b in zip(x, y, strict=True)
    )
    assert (score_clip(render_clip(Motion("", frames), 64)).facts["gravity"] < 1) == flawed


def test_a_fall_that_the_slower_clip_no_longer_shows_cannot_be_slowed() -> None:
    fall = simulate(Scene((BALL.at(0.5, 0.9),)), 16)
    late = Motion("drop", (fall.frames[0],) * 9 + fall.frames[:7])
    assert corrupt_motion(fall, "slow gravity").frames != fall.frames
    with pytest.raises(ValueError, match="falls long enough"):
        corrupt_motion(late, "slow gravity")
