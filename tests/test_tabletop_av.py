"""Sound and clips of the tabletop: synthesis follows contacts; the checkers pass the true and catch the broken."""

import numpy as np
import pytest

from selfflow.worlds.tabletop.check_clip import score_clip
from selfflow.worlds.tabletop.check_sound import read_sound, score_av, score_sound
from selfflow.worlds.tabletop.corrupt_motion import MOTION_FAULTS, SOUND_FAULTS, corrupt_motion, corrupt_sound
from selfflow.worlds.tabletop.motion import draw_motion
from selfflow.worlds.tabletop.render import render_clip
from selfflow.worlds.tabletop.scene import FPS, SOUND_HZ, Motion, Scene, Thing
from selfflow.worlds.tabletop.sound import synthesise

SEEDS = (2, 5, 8, 11)


@pytest.fixture(scope="module")
def motions():
    return [draw_motion(seed) for seed in SEEDS]


def test_a_sound_is_as_long_as_its_clip_bounded_and_the_same_each_time(motions):
    for motion in motions:
        sound = synthesise(motion)
        assert sound.shape == (round(len(motion.frames) / FPS * SOUND_HZ),)
        assert sound.dtype == np.float32
        assert np.abs(sound).max() <= 1
        assert np.array_equal(sound, synthesise(motion))


def test_nothing_is_heard_before_the_first_contact_and_nothing_without_one(motions):
    silent = Motion("rest", tuple(Scene((Thing("ball", "red", y=0.275),)) for _ in range(16)))
    assert not synthesise(silent).any()
    for motion in motions:
        sound = synthesise(motion)
        first = min(c.time for c in motion.contacts)
        assert not sound[: int(first * SOUND_HZ)].any()
        assert sound.any()


def test_an_onset_is_where_the_contact_is(motions):
    for motion in motions:
        loudest = max(motion.contacts, key=lambda c: c.impulse)
        assert min(abs(o.time - loudest.time) for o in read_sound(synthesise(motion))) < 0.03


def test_true_sounds_fit_and_broken_ones_do_not(motions):
    assert np.mean([score_sound(synthesise(m), SOUND_HZ, m).value == 1 for m in motions]) >= 0.75
    for kind in SOUND_FAULTS:
        caught = []
        for seed, motion in enumerate(motions):
            try:
                broken = corrupt_sound(motion, kind, seed)
            except ValueError:
                continue
            caught.append(score_sound(broken, SOUND_HZ, motion).value < 1)
        assert np.mean(caught) >= 0.75, kind


@pytest.mark.parametrize("kind", ["vanish", "teleport", "recolour"])
def test_broken_clips_are_caught_in_words(motions, kind):
    assert kind in MOTION_FAULTS
    score = score_clip(render_clip(corrupt_motion(motions[0], kind, 1), 64))
    assert score.value < 1
    assert score.faults


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: read_sound(np.zeros(0, np.float32)), "sound|sample"),
        (lambda: read_sound(np.full(800, np.nan, np.float32)), "finite|NaN|nan"),
        (lambda: score_clip(np.zeros((16, 64, 64), np.uint8)), "a clip is a uint8 array"),
        (lambda: score_clip(np.zeros((2, 64, 64, 3), np.uint8)), "2 frames"),
        (lambda: score_av(np.zeros((16, 64, 64, 3)), FPS, np.zeros(100, np.float32)), "a clip|sound|sample"),
    ],
)
def test_bad_input_gets_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
