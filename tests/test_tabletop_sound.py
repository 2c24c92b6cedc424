"""Tabletop's sound: on the exact sample, loud as it is hard, of the material; and a reader that hears what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from selfflow.worlds.tabletop import physics
from selfflow.worlds.tabletop.check_sound import judge_sound, moments_of, moments_seen, score_av, score_sound
from selfflow.worlds.tabletop.corrupt import blurred, noisy
from selfflow.worlds.tabletop.corrupt_motion import SOUND_FAULTS, corrupt_sound
from selfflow.worlds.tabletop.geometry import stood
from selfflow.worlds.tabletop.hear import BOARD, BODIES, Body, explain, read_sound
from selfflow.worlds.tabletop.impacts import DENSITY, impacts
from selfflow.worlds.tabletop.look import looks
from selfflow.worlds.tabletop.motion import draw_motion
from selfflow.worlds.tabletop.render import render, render_clip
from selfflow.worlds.tabletop.scene import (
    FPS,
    GRAVITY,
    MATERIALS,
    SIZES,
    SOUND_HZ,
    TABLE,
    Contact,
    Motion,
    Scene,
    Thing,
)
from selfflow.worlds.tabletop.sound import FAINTEST, Blow, loudness, mixed, response, synthesise
from selfflow.worlds.tabletop.track import Track, read_clip


def struck(
    *times: float, material: str = "wood", size: str = "medium", impulse: float = 4.0, speed: float = 2.0
) -> Motion:
    """A ball that lies on the table and is struck at those times."""
    ball = Thing("ball", "red", size, 0.5, TABLE + SIZES[size] / 2, material=material)
    contacts = tuple(Contact(time, 0, -1, impulse, speed, 0.5, TABLE) for time in times)
    return Motion("drop", (Scene((ball,)),) * 16, contacts)


def bounced(fall: float = 0.5) -> Motion:
    """A rubber ball that falls onto the table and bounces, as paper says it must."""
    r, hit = SIZES["medium"] / 2, np.sqrt(2 * fall / GRAVITY)
    speed = GRAVITY * hit
    times = np.arange(16) / FPS
    heights = [
        fall - GRAVITY * t * t / 2 if t < hit else 0.7 * speed * (t - hit) - GRAVITY * (t - hit) ** 2 / 2 for t in times
    ]
    frames = tuple(Scene((Thing("ball", "red", "medium", 0.5, TABLE + r + max(0.0, float(h))),)) for h in heights)
    return Motion("drop", frames, (Contact(float(hit), 0, -1, 4.0, float(speed), 0.5, TABLE),))


# --- synthesis


@pytest.mark.parametrize("rate", [8_000, SOUND_HZ, 44_100])
def test_a_contact_begins_on_its_sample_and_silence_is_zero(rate: int) -> None:
    sound = synthesise(struck(0.3), rate)
    assert (sound.dtype, sound.shape) == (np.float32, (round(0.8 * rate),))
    assert np.flatnonzero(sound)[0] == round(0.3 * rate)
    assert not synthesise(struck(), rate).any()


@pytest.mark.parametrize("frames", [1, 7, 16])
def test_sound_is_as_long_as_the_frames(frames: int) -> None:
    motion = replace(struck(0.01), frames=struck().frames[:frames])
    assert len(synthesise(motion)) == round(frames / FPS * SOUND_HZ)


def test_the_same_motion_has_the_same_bytes() -> None:
    response.cache_clear()
    first = synthesise(draw_motion(3))
    response.cache_clear()
    assert first.tobytes() == synthesise(draw_motion(3)).tobytes()


@pytest.mark.parametrize("material", MATERIALS)
def test_pitch_is_inverse_to_size(material: str) -> None:
    def pitch(size: float) -> float:
        wave = response(material, size)[200:]  # after the click
        return float(np.argmax(np.abs(np.fft.rfft(wave, 1 << 16)))) / (1 << 16) * SOUND_HZ

    assert pitch(0.3) * 0.3 == pytest.approx(pitch(0.2) * 0.2, rel=0.02)


def test_loudness_is_of_impulse_and_speed() -> None:
    contact = Contact(0.1, 0, -1, 1.0, 1.0, 0.5, TABLE)
    assert loudness(replace(contact, impulse=4.0)) == pytest.approx(2 * loudness(contact))
    assert loudness(replace(contact, speed=4.0)) == pytest.approx(2 * loudness(contact))
    assert loudness(replace(contact, impulse=0.01, speed=0.05)) == 0.0 < FAINTEST
    quiet, loud = (np.abs(synthesise(struck(0.1, impulse=i))).max() for i in (0.1, 0.4))
    assert loud == pytest.approx(2 * quiet, rel=1e-3)  # below the limit nothing is bent


def test_sound_never_clips() -> None:
    times = np.linspace(0.05, 0.6, 60)
    sound = synthesise(struck(*times, material="metal", impulse=500.0, speed=9.0))
    assert 0.9 < np.abs(sound).max() < 1.0


def test_blows_add_up() -> None:
    blows = [Blow(0.1, "glass", 0.2, 0.1), Blow(0.15, "rubber", 0.3, 0.1)]
    apart = mixed(blows[:1], 4000) + mixed(blows[1:], 4000)
    np.testing.assert_allclose(mixed(blows, 4000), apart, atol=1e-6)


@pytest.mark.parametrize("rate", [0, 3_999, 200_000, 16_000.5, True])
def test_absurd_rates_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="whole number of Hz"):
        synthesise(struck(0.1), rate)  # type: ignore[arg-type]


# --- reading


def test_what_sounds_together_is_taken_apart() -> None:
    blows = [Blow(0.1, "metal", 0.23, 0.4), Blow(0.1, "rubber", 0.34, 0.2), Blow(0.3, "wood", 0.15, 0.3)]
    found = explain(mixed(blows, 12_800), SOUND_HZ, [0.1, 0.3]).loudness
    for blow in blows:
        row = found[0 if blow.time == 0.1 else 1]
        assert row[BODIES.index(Body(blow.material, blow.size))] == pytest.approx(blow.loudness, rel=0.3)
        assert row.sum() < 0.75
    assert explain(np.zeros(800), SOUND_HZ, []).loudness.shape == (0, len(BODIES))


def test_unlikely_bodies_sound_only_where_the_likely_cannot() -> None:
    wave = mixed([Blow(0.1, "metal", 0.23, 0.4)], 6_400)
    for likely, fits in ((Body("metal", 0.23), True), (Body("rubber", 0.23), False)):
        found = explain(wave, SOUND_HZ, [0.1], [{likely, BOARD}])
        wrong = [h for body, h in zip(BODIES, found.heard[0], strict=True) if body not in (likely, BOARD)]
        assert (sum(wrong) < 0.05 * found.heard.sum()) == fits


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("material", MATERIALS)
def test_onset_and_material_are_heard(material: str, size: str) -> None:
    for time in (0.05, 0.3):
        (onset,) = read_sound(synthesise(struck(time, material=material, size=size)))
        assert onset.time == pytest.approx(time, abs=0.001)
        assert onset.material == material
        assert 0 < onset.strength <= 1
        assert 0 < onset.sure <= 1


def test_a_blow_is_heard_through_what_still_rings() -> None:
    blows = [Blow(0.1, "metal", 0.23, 0.6), Blow(0.3, "rubber", 0.23, 0.4)]
    onsets = read_sound(mixed(blows, 12_800))
    assert [o.material for o in onsets] == ["metal", "rubber"]
    assert [o.time for o in onsets] == pytest.approx([0.1, 0.3], abs=0.002)


def test_a_little_noise_is_no_blow() -> None:
    noise = np.random.default_rng(0).normal(0, 0.003, 12_800)
    assert len(read_sound(synthesise(struck(0.2)) + noise.clip(-0.01, 0.01))) == 1
    assert read_sound(np.zeros(12_800)) == []


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros(0), "empty"),
        (np.full(100, np.nan), "100 samples"),
        (np.full(100, 1.5), "reaches 1.5"),
        (np.zeros((2, 100)), r"not float64 \(2, 100\)"),
        (np.zeros(100, np.int16), "not int16"),
        ([0.0], "not list"),
    ],
)
def test_what_is_no_sound_is_refused(samples: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_sound(samples, SOUND_HZ)  # type: ignore[arg-type]


def test_true_sounds_pass_and_broken_ones_do_not() -> None:
    for seed in range(3):
        motion = draw_motion(seed)
        assert score_sound(synthesise(motion), SOUND_HZ, motion).value == 1
    motion = struck(0.1, 0.5, material="metal")
    for kind in SOUND_FAULTS:
        assert score_sound(corrupt_sound(motion, kind, 1), SOUND_HZ, motion).value < 1, kind


def test_every_fault_is_said_in_words() -> None:
    motion = struck(0.2, material="glass")
    said = {
        "nothing is heard": score_sound(np.zeros(12_800), SOUND_HZ, motion),
        "nothing is struck so": score_sound(synthesise(struck(0.2, 0.6, material="glass")), SOUND_HZ, motion),
        "sounds like rubber, but it is glass": score_sound(
            synthesise(struck(0.2, material="rubber")), SOUND_HZ, motion
        ),
    }
    for words, score in said.items():
        assert score.value < 1
        assert any(words in fault for fault in score.faults), (words, score)
    assert judge_sound(synthesise(motion), SOUND_HZ, moments_of(motion)).facts == {
        "presence": 1.0,
        "timing": 1.0,
        "material": 1.0,
        "ring": 1.0,
    }


@pytest.mark.parametrize("smooth", [1, 8])
def test_a_steady_noise_is_not_heard_as_every_blow_at_once(smooth: int) -> None:
    motion = bounced()
    noise = np.convolve(np.random.default_rng(0).normal(0, 0.05, 12_800), np.ones(smooth) / smooth, "same")
    score = score_av(render_clip(motion, 48), FPS, noise.clip(-1, 1)[: len(synthesise(motion))])
    assert score.facts["ring"] < 0.5
    assert score.value < 0.5
    assert any("nothing that can be struck" in fault for fault in score.faults)
    # A little of it over a true sound is forgiven.
    hiss = np.random.default_rng(1).normal(0, 0.003, 12_800)[: len(synthesise(motion))]
    assert score_av(render_clip(motion, 48), FPS, (synthesise(motion) + hiss).clip(-1, 1)).facts["ring"] == 1


def test_sound_is_held_against_what_is_seen() -> None:
    motion = bounced()
    clip, sound = render_clip(motion, 48), synthesise(motion)
    assert score_av(clip, FPS, sound, SOUND_HZ).value == 1
    late = np.concatenate([np.zeros(round(0.15 * SOUND_HZ), np.float32), sound])[: len(sound)]
    faults = score_av(clip, FPS, late, SOUND_HZ).faults
    for words in ("nothing is heard", "nothing is struck"):
        assert any(words in fault for fault in faults), faults


@pytest.mark.parametrize("kind", SOUND_FAULTS)
def test_a_sound_that_does_not_fit_the_clip_is_caught(kind: str) -> None:
    motion = bounced()
    clip = render_clip(motion, 64)
    assert score_av(clip, FPS, synthesise(motion)).value == 1
    for seed in range(2):
        assert score_av(clip, FPS, corrupt_sound(motion, kind, seed, plain=True)).value < 1, seed


def test_a_sound_is_not_louder_than_what_is_seen() -> None:
    motion = bounced(0.02)
    loud = replace(motion, contacts=tuple(replace(c, impulse=30.0, speed=3.0) for c in motion.contacts))
    clip = render_clip(motion, 64)
    assert score_av(clip, FPS, synthesise(motion)).value == 1
    assert score_av(clip, FPS, synthesise(loud)).facts["timing"] < 1


def test_a_blow_is_seen_at_its_time_and_about_as_loud_as_it_is() -> None:
    motion = bounced()
    clip = render_clip(motion, 64)
    hardest = max((m for m in moments_seen(clip) if m.least > 0), key=lambda m: m.least)
    assert hardest.loudest == pytest.approx(motion.contacts[0].time, abs=0.015)
    seen = sum(impact.loudness for impact in impacts(read_clip(clip, FPS), looks(clip[0])))
    assert seen == pytest.approx(loudness(motion.contacts[0]), rel=0.5)


def moved(thing: Thing, path: list[tuple[float, float]]) -> np.ndarray:
    return render_clip(Motion("push", tuple(Scene((thing.at(x, y),)) for x, y in path)), 64)


def must_sound(track: Track, first: np.ndarray) -> float:
    return max(impact.least for impact in impacts(track, looks(first)))


def test_a_frame_that_is_misread_is_no_blow_but_a_turn_is() -> None:
    ball = Thing("ball", "red", "medium", 0.2, 0.5, material="metal")
    clip = moved(ball, [(0.2 + 0.03 * k, 0.5) for k in range(16)])
    track = read_clip(clip, FPS)
    assert must_sound(track, clip[0]) == 0
    aside, turned = track.y.copy(), track.y.copy()
    aside[7] += 0.06
    turned[7:, 0] += 0.06 * np.arange(9)
    assert must_sound(replace(track, y=aside), clip[0]) == 0
    assert must_sound(replace(track, y=turned), clip[0]) > 0.1


def test_a_patch_elsewhere_that_takes_a_colour_for_some_frames_is_no_blow() -> None:
    ball = Thing("ball", "red", "medium", 0.2, 0.3, material="metal")
    clip = moved(ball, [(0.2, 0.3)] * 16)
    track = read_clip(clip, FPS)
    mask, y = track.mask.copy(), track.y.copy()
    mask[5:9, 0, 5:8, 10:16] = True
    y[5:9, 0] += [
        (np.argwhere(a)[:, 0].mean() - np.argwhere(b)[:, 0].mean()) / 64
        for a, b in zip(track.mask[5:9, 0], mask[5:9, 0], strict=True)
    ]
    assert must_sound(replace(track, y=y), clip[0]) > 0.1
    assert must_sound(replace(track, y=y, mask=mask), clip[0]) == 0


def test_what_stops_in_the_air_is_carried_and_what_stops_on_the_table_is_struck() -> None:
    glass = stood(Thing("glass", "blue", "medium", 0.2, material="glass"))
    for y, is_struck in ((0.6, False), (glass.y, True)):
        clip = moved(glass, [(0.2 + 0.05 * min(k, 7), y) for k in range(16)])
        assert (must_sound(read_clip(clip, FPS), clip[0]) > 0.05) == is_struck


@pytest.mark.parametrize("material", MATERIALS)
def test_a_material_is_seen(material: str) -> None:
    ball = Thing("ball", "cyan", "medium", 0.42, TABLE + SIZES["medium"] / 2, material=material)
    picture = render(Scene((ball,)), 64)
    for shown in (picture, noisy(picture, 3), blurred(picture)):
        assert looks(shown)["cyan"].materials == (material,)


def test_mass_is_that_of_physics() -> None:
    assert physics.DENSITY == DENSITY


def test_an_empty_clip_lets_nothing_be_heard() -> None:
    clip = np.full((16, 64, 64, 3), 200, np.uint8)
    assert score_av(clip, FPS, np.zeros(12_800)).value == 1
    assert score_av(clip, FPS, synthesise(struck(0.4))).value < 1


def test_what_is_hardly_seen_is_not_broken_so_that_it_shows() -> None:
    assert len(corrupt_sound(struck(0.3), "missing")) == 12_800
    for kind in ("missing", "shifted"):
        with pytest.raises(ValueError, match="not plain"):
            corrupt_sound(struck(0.3), kind, plain=True)


def test_a_sound_that_cannot_be_broken_says_so() -> None:
    with pytest.raises(ValueError, match="nothing is heard"):
        corrupt_sound(struck(), "shifted")
    with pytest.raises(ValueError, match="unknown fault of a sound"):
        corrupt_sound(struck(0.1), "sour")
