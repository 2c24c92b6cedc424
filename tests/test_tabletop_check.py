"""The checkers of tabletop pictures: true ones pass, and each way of being wrong is found and named."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from selfflow.worlds.tabletop import outline, read
from selfflow.worlds.tabletop.check import physics_faults, read_scene, score_edit, score_reference, score_text
from selfflow.worlds.tabletop.claim import describe
from selfflow.worlds.tabletop.corrupt import blurred, corrupt, corrupt_picture, noisy
from selfflow.worlds.tabletop.draw import draw
from selfflow.worlds.tabletop.geometry import stood
from selfflow.worlds.tabletop.pixels import averaged, classified
from selfflow.worlds.tabletop.render import render
from selfflow.worlds.tabletop.scene import POSES, TABLE, Scene, Thing
from selfflow.worlds.tabletop.tasks import draw_edit, draw_reference

BALL = stood(Thing("ball", "red", "small"), 0.2)
BOX = stood(Thing("box", "blue", "medium"), 0.5)
SIGN = stood(Thing("sign", "purple", "small", word="QXZ"), 0.3)
HAND = stood(Thing("hand", "orange", "medium", fingers=3), 0.75)
DOLL = stood(Thing("doll", "green", "medium", limbs=POSES["left arm up"]), 0.5)
ON = stood(Thing("ball", "yellow", "small"), 0.5, TABLE + BOX.extent)
CROWD = Scene((BALL, BOX, ON, stood(Thing("glass", "cyan", "small"), 0.85)))
FIGURES = Scene((SIGN, HAND))


def told(things):
    return sorted((t.kind, t.colour, t.size, t.word, t.fingers) for t in things)


@pytest.mark.parametrize("size", [64, 96, 128])
@pytest.mark.parametrize("scene", [CROWD, FIGURES, Scene((DOLL,)), Scene()])
def test_a_true_picture_is_read_exactly(scene, size):
    seen = read_scene(render(scene, size))
    assert told(seen) == told(scene.things)
    for thing in scene.things:
        assert min(abs(s.x - thing.x) + abs(s.y - thing.y) for s in seen) < 0.012
    assert physics_faults(render(scene, size)) == []
    if scene.things:
        assert score_text(render(scene, size), describe(scene)).value == 1


@pytest.mark.parametrize("spoil", [lambda p: noisy(p, 3), blurred])
def test_noise_and_blur_are_no_faults(spoil):
    for scene in (CROWD, FIGURES, Scene((DOLL,))):
        assert score_text(spoil(render(scene)), describe(scene)).faults == ()


def test_noise_is_the_same_for_the_same_seed_and_of_the_strength_asked_for():
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert np.array_equal(noisy(grey, 5), noisy(grey, 5))
    assert not np.array_equal(noisy(grey, 5), noisy(grey, 6))
    assert abs((noisy(grey, 5).astype(float) - 128).std() - 8) < 0.3


@pytest.mark.parametrize(
    ("scene", "kind", "word"),
    [
        (CROWD, "interpenetrated", "inside"),
        (CROWD, "floating", "floats"),
        (CROWD, "wrong colour", "colour"),
        (CROWD, "wrong kind", "kind"),
        (CROWD, "wrong size", "size"),
        (CROWD, "missing thing", "missing"),
        (Scene((BALL,)), "extra thing", "nobody asked"),
        (CROWD, "swapped places", "asked for"),
        (Scene((BOX, ON)), "wrong relation", "is not on"),
        (FIGURES, "wrong word", "word"),
        (FIGURES, "extra finger", "fingers"),
        (FIGURES, "missing finger", "fingers"),
        (FIGURES, "sixth finger", "finger too many"),
        (Scene((DOLL,)), "wrong pose", "pose"),
        (Scene((DOLL,)), "missing limb", "lacks its"),
        (Scene((DOLL,)), "extra limb", "limb too many"),
    ],
)
def test_what_is_wrong_is_found_and_said(scene, kind, word):
    score = score_text(corrupt_picture(scene, kind, 0), describe(scene))
    assert score.value < 1
    assert any(word in fault for fault in score.faults), score.faults


def test_faults_of_physics_are_measured_in_pixels_of_the_picture():
    for size in (64, 128):
        (sunk,) = physics_faults(render(Scene((stood(BOX, height=TABLE - 0.0625),)), size))
        assert (sunk.kind, sunk.things) == ("overlap", (0, -1))
        assert sunk.pixels == pytest.approx(size / 16, abs=size / 100)
        (high,) = physics_faults(render(Scene((stood(BALL, height=TABLE + 0.25),)), size))
        assert (high.kind, high.things) == ("unsupported", (0,))
        assert high.pixels == pytest.approx(size / 4, abs=size / 100)
    deep = Scene((BOX, BOX.at(BOX.x + BOX.extent - 0.0625, BOX.y)))
    (inside,) = physics_faults(deep.things)
    assert inside.pixels == pytest.approx(4, abs=0.1)


def test_a_lost_limb_is_counted():
    (doll,) = read_scene(render(Scene((DOLL,))))
    assert (doll.limb_count, doll.limbs, doll.oddities) == (4, DOLL.limbs, ())
    (doll,) = read_scene(corrupt_picture(Scene((DOLL,)), "missing limb", 1))
    assert doll.limb_count == 3


@pytest.mark.parametrize("seed", range(8))
def test_a_true_edit_passes_and_a_copy_of_the_input_scores_nothing(seed):
    edit = draw_edit(seed)
    before, after = render(edit.before), render(edit.after)
    assert score_edit(before, after, edit.instruction).faults == ()
    assert score_edit(before, before, edit.instruction).value == 0
    assert score_edit(before, before, edit.instruction).faults


def test_an_edit_that_spoils_the_rest_scores_less():
    before = render(CROWD)
    wanted = CROWD.having(0, Thing("ball", "green", "small", BALL.x, BALL.y))
    assert score_edit(before, render(wanted), "paint the red ball green").value == 1
    spoilt = corrupt(wanted, "missing thing", 0)
    assert score_edit(before, render(spoilt), "paint the red ball green").value < 0.95
    repainted = render(Scene(wanted.things, wall=1.0)).astype(int)
    repainted[:20, :40] -= 60
    score = score_edit(before, np.clip(repainted, 0, 255).astype(np.uint8), "paint the red ball green")
    assert any("pixels" in fault for fault in score.faults)
    nothing = score_edit(before, before, "remove the pink book")
    assert nothing.value == 0
    assert "pink book" in nothing.faults[0]


@pytest.mark.parametrize("seed", range(3))
def test_references_keep_their_identity(seed):
    task = draw_reference(seed)
    shown = [render(scene) for scene in task.scenes]
    assert score_reference(shown, render(task.target), task.text).faults == ()
    other = corrupt(task.target, "wrong colour", seed)
    assert score_reference(shown, render(other), task.text).value < 1
    with pytest.raises(ValueError, match="picture 1 shows nothing"):
        score_reference([render(Scene()), *shown[1:]], render(task.target), task.text)


def identity(shown, picture, text):
    score = score_reference(shown, picture, text)
    return score.facts["identity kept"], score.facts["looks right"]


@pytest.mark.parametrize("count", range(1, 11))
def test_true_pictures_keep_every_identity_and_a_copy_keeps_one(count):
    task, other = draw_reference(count, count), draw_reference(count + 100, count)
    shown, picture = [render(scene) for scene in task.scenes], render(task.target)
    assert score_reference(shown, picture, task.text).faults == ()
    assert identity(shown, picture, task.text) == (1, 1)
    assert identity(shown, shown[0], task.text)[0] == 1 / count
    kept, right = identity(shown, render(other.target), task.text)
    assert kept <= 0.5
    assert kept <= right < 1


def test_identity_is_of_what_the_references_define_and_of_nothing_else():
    ball, box = BALL, stood(BOX, 0.75)
    shown = [render(Scene((thing,))) for thing in (ball, box)]
    text = "the ball from picture 1 left of the box from picture 2"
    green = replace(box, colour="green")
    assert identity(shown, render(Scene((ball, box))), text) == (1, 1)
    assert identity(shown, render(Scene((stood(ball, 0.8), stood(box, 0.3)))), text) == (1, 1)  # wherever they are
    assert identity(shown, render(Scene((ball, green))), text) == (1 / 2, 5 / 6)
    assert identity(shown, render(Scene((ball, box, stood(green, 0.45)))), text) == (1, 1)  # one too many is no loss
    assert identity(shown, render(Scene()), text) == (0, 0)
    assert identity(shown, render(Scene((ball,))), "a red ball") == (None, None)
    assert identity(shown, render(Scene((ball, box))), "a red ball left of the box from picture 2") == (1, 1)


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (np.zeros((64, 64, 3)), "uint8"),
        (np.full((64, 64, 3), np.nan), "float64"),
        (np.zeros((64, 32, 3), np.uint8), r"\(64, 32, 3\)"),
        (np.zeros((64, 64), np.uint8), r"\(64, 64\)"),
        (np.zeros((16, 16, 3), np.uint8), "too small"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(picture, message):
    with pytest.raises(ValueError, match=message):
        read_scene(picture)


@pytest.mark.parametrize(("size", "radius"), [(64, 0), (48, 1.5), (64, 4)])
def test_no_shape_of_clutter_is_searched_for_at_length(monkeypatch, size, radius):
    picture = np.random.default_rng(0).integers(0, 256, (size, size, 3)).astype(np.uint8)
    if radius:
        soft = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius))).astype(float)
        picture = np.clip((soft - soft.mean()) / soft.std() * 60 + 128, 0, 255).astype(np.uint8)
    tries, fits = [], outline.fit
    monkeypatch.setattr(read, "search", lambda *_: pytest.fail("a shape of noise is searched for at length"))
    monkeypatch.setattr(outline, "fit", lambda *given: tries.append(1) or fits(*given))
    assert len(read_scene(picture)) <= 8
    assert len(tries) < 2500  # a search at length alone makes 900 of them, and noise has some ninety shapes
    assert score_text(picture, "a red ball").value < 1


@pytest.mark.parametrize("size", [24, 32, 64])
def test_no_true_picture_is_clutter(size):
    for seed in range(6):
        picture = noisy(render(draw(seed, count=10), size), seed)
        assert not read._cluttered(classified(averaged(picture).astype(np.float32)))


def test_noise_alone_holds_nothing_and_unknown_corruptions_are_named():
    picture = (np.random.default_rng(0).random((64, 64, 3)) * 255).astype(np.uint8)
    assert all(thing.fit < 0.7 for thing in read_scene(picture))
    with pytest.raises(ValueError, match="melted"):
        corrupt(CROWD, "melted", 0)
    with pytest.raises(ValueError, match="wrong word"):
        corrupt(CROWD, "wrong word", 0)
