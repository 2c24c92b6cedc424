"""Drawn motions do what they are called, inside the picture; matched pairs differ in one law from one frame on."""

import math

import numpy as np
import pytest

pytest.importorskip("pymunk")

from selfflow.worlds.tabletop.geometry import opening, stood
from selfflow.worlds.tabletop.happen import judge_motion
from selfflow.worlds.tabletop.language import caption_motion, parse
from selfflow.worlds.tabletop.motion import MOTIONS, draw_motion, inside
from selfflow.worlds.tabletop.pairs import PAIR_KINDS, STILL_KINDS, matched_pair, matched_stills
from selfflow.worlds.tabletop.physics import World, overlap, settle
from selfflow.worlds.tabletop.relations import in_
from selfflow.worlds.tabletop.scene import FRAMES, TABLE, Scene, Thing, generator


def moved(a, b):
    return math.hypot(a.x - b.x, a.y - b.y)


@pytest.mark.parametrize("name", MOTIONS)
def test_a_motion_starts_apart_moves_and_stays_in_the_picture(name):
    for seed in range(3):
        motion = draw_motion(seed, name)
        first, last = motion.frames[0], motion.frames[-1]
        assert (motion.name, len(motion.frames), motion.seconds) == (name, FRAMES, 0.8)
        assert overlap(first) < 0.0003
        assert all(inside(frame) for frame in motion.frames)
        assert max(overlap(frame) for frame in motion.frames) < (0.0015 if name == "pour" else 0.004)
        assert max(moved(a, b) for a, b in zip(first.things, last.things, strict=True)) > 0.03
        times = [contact.time for contact in motion.contacts]
        assert times == sorted(times)
        assert all(0 <= time <= 0.75 for time in times)


def test_what_is_poured_ends_in_the_glass():
    motion = draw_motion(1, "pour")
    things = motion.frames[-1].things
    glass = next(thing for thing in things if thing.kind == "glass" and thing.size == "large")
    left, bottom, right, top = opening(glass)
    assert sum(t.kind == "ball" and left < t.x < right and bottom < t.y < top for t in things) >= 2


def test_a_glass_is_tipped_and_its_two_balls_end_in_another():
    for motion in (draw_motion(seed, "pour") for seed in range(12)):
        first, last = motion.frames[0].things, motion.frames[-1].things
        tipped = [i for i, (a, b) in enumerate(zip(first, last, strict=True)) if abs(b.angle - a.angle) > 1.5]
        tipped = [i for i in tipped if first[i].kind == "glass"]
        if not tipped:
            continue
        glass = next(i for i, t in enumerate(last) if t.kind == "glass" and t.size == "large")
        poured = [k for k in range(len(first)) if in_(first, k, tipped[0])]
        assert len(poured) == 2
        assert all(in_(last, k, glass) for k in poured)
        assert max(overlap(frame) for frame in motion.frames) < 0.0015
        text = caption_motion(motion, generator(0))
        assert " pours " in text
        assert judge_motion(parse(text), motion).faults == ()
        one, other = (f"a {first[i].colour} glass" for i in (tipped[0], glass))
        balls = " and ".join(f"a {first[k].colour} ball" for k in poured)
        right, wrong = (parse(f"{a} pours {balls} into {b}") for a, b in ((one, other), (other, one)))
        assert all(fault.startswith("nobody asked") for fault in judge_motion(right, motion).faults)
        assert any("(pours)" in fault for fault in judge_motion(wrong, motion).faults)
        return
    pytest.fail("no glass is tipped in twelve pours")


def test_a_turned_thing_stays_at_its_pivot():
    glass = stood(Thing("glass", "red", "medium"))
    pivot = (glass.x - 0.1, TABLE)
    world = World(Scene((glass,)))
    far = math.hypot(glass.x - pivot[0], glass.y - pivot[1])
    world.turn(0, pivot, 2.0)
    world.step(0.5)
    now = world.scene().things[0]
    assert now.angle == pytest.approx(1.0, abs=0.01)
    assert math.hypot(now.x - pivot[0], now.y - pivot[1]) == pytest.approx(far, abs=1e-4)
    with pytest.raises(ValueError, match="no thing 3"):
        world.turn(3, pivot, 1.0)


def test_a_longer_motion_is_the_same_for_longer():
    short, usual, long = (draw_motion(4, "roll", frames) for frames in (5, 16, 24))
    assert usual.frames[:5] == short.frames
    assert long.frames[:16] == usual.frames
    assert long.contacts[: len(usual.contacts)] == usual.contacts


def test_the_gripper_acts_ten_times_a_second():
    motion = next(m for m in (draw_motion(seed, "push") for seed in range(20)) if m.frames[0].gripper)
    assert motion.actions.shape == motion.states.shape == (8, 3)
    assert np.allclose(motion.states[3], [getattr(motion.frames[6].gripper, k) for k in ("x", "y", "opening")])
    assert motion.frames[0].gripper != motion.frames[-1].gripper


@pytest.mark.parametrize("kind", PAIR_KINDS)
def test_a_pair_is_the_same_until_one_law_is_broken(kind):
    for seed in range(3):
        pair = matched_pair(seed, kind)
        a, b = pair.possible.frames, pair.impossible.frames
        assert a[: pair.first] == b[: pair.first]
        assert a[pair.first] != b[pair.first]
        assert 3 <= pair.first <= 12
        assert (a[-1].wall, a[-1].wood) == (b[-1].wall, b[-1].wood)
        assert max(overlap(frame) for frame in a) < 0.005
        before, after = b[pair.first - 1].things, b[pair.first].things
        if kind == "solidity":  # through another, or stopped by nothing that is to be seen
            assert max(overlap(frame) for frame in b) > 0.05 or max(overlap(frame) for frame in a + b) < 0.005
        elif kind == "permanence":
            same = [(t.kind, t.colour) for t in a[-1].things]
            assert same != [(t.kind, t.colour) for t in b[-1].things]
        elif kind == "continuity":
            jumps = [moved(s, t) for s, t in zip(before, after, strict=True)]
            assert max(jumps) > 0.1
        else:  # up in the air, or down through what holds it up
            higher = [p.y - q.y for f, g in zip(b, a, strict=True) for p, q in zip(f.things, g.things, strict=True)]
            assert max(higher) > 0.05 or (min(higher) < -0.05 and max(overlap(frame) for frame in b) > 0.03)


def test_both_halves_of_a_kind_of_pair_are_drawn_and_both_clips_have_one_light():
    through = [
        max(overlap(f) for f in matched_pair(seed, "solidity").impossible.frames[-3:]) > 0.05 for seed in range(6)
    ]
    assert 1 <= sum(through) <= 5
    for seed in range(2):
        pair = matched_pair(seed, "continuity")
        lights = [[(frame.wall, frame.wood) for frame in clip.frames] for clip in (pair.possible, pair.impossible)]
        assert lights[0] == lights[1]
        assert 2 <= len(set(lights[0])) <= 5  # it changes one to four times


@pytest.mark.parametrize("kind", STILL_KINDS)
def test_stills_show_the_same_things_and_one_cannot_be(kind):
    for seed in range(5):
        possible, impossible = matched_stills(seed, kind)
        assert [(t.kind, t.colour, t.size) for t in possible.things] == [
            (t.kind, t.colour, t.size) for t in impossible.things
        ]
        assert sum(a != b for a, b in zip(possible.things, impossible.things, strict=True)) == 1
        assert overlap(possible) < 0.0003
        if kind == "solidity":
            assert overlap(impossible) > 0.02
        else:
            after = settle(impossible, 0.5)
            assert max(moved(a, b) for a, b in zip(impossible.things, after.things, strict=True)) > 0.04


def test_a_doll_can_be_replaced_and_taken_away():
    doll = stood(Thing("doll", "red", "small", x=0.3))
    ball = stood(Thing("ball", "blue", "small", x=0.8))
    world = World(Scene((ball, doll)), velocities={1: (0.5, 0.0, 0.0)})
    world.replace(1, doll.at(0.4, 0.6))
    world.step(0.1)
    assert world.scene().things[1].x == pytest.approx(0.45, abs=0.01)  # it keeps its velocity
    world.replace(1, None)
    world.step(0.1)
    assert [t.kind for t in world.scene().things] == ["ball"]


def test_seeds_say_which():
    assert draw_motion(7).frames == draw_motion(7).frames
    assert draw_motion(7).frames != draw_motion(8).frames
    assert matched_pair(2, "support") == matched_pair(2, "support")


def test_bad_input_gets_one_clear_error():
    with pytest.raises(ValueError, match=r"unknown motion 'fly'"):
        draw_motion(0, "fly")
    with pytest.raises(ValueError, match=r"0 frames"):
        draw_motion(0, frames=0)
    with pytest.raises(ValueError, match=r"seed -1 is negative"):
        draw_motion(-1)
    with pytest.raises(ValueError, match=r"unknown kind of pair 'magic'"):
        matched_pair(0, "magic")
    with pytest.raises(ValueError, match=r"unknown kind of still 'magic'"):
        matched_stills(0, "magic")
