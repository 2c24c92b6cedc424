"""Pictures of the Tabletop: exact areas, exact distances, one scene one picture, and words that can be read."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest

from selfflow.worlds.tabletop import render as r
from selfflow.worlds.tabletop.geometry import Capsule, Disc, Hull, placed, stood
from selfflow.worlds.tabletop.scene import COLOURS, KINDS, MADE_OF, TABLE, WORDS, Gripper, Motion, Scene, Thing


def stand(kind: str, colour: str, x: float = 0.5, **how) -> Thing:
    return stood(Thing(kind, colour, word="STOP" if kind == "sign" else "", **how), x)


CROWD = Scene(
    (
        stand("ball", "yellow", 0.16, size="small"),
        stand("glass", "blue", 0.16),
        stand("doll", "green", 0.45, limbs=(2.65, 0.45, 0.75, 0.25)),
        stand("hand", "orange", 0.72, size="small", fingers=4),
        stand("sign", "red", 0.5).at(0.5, 0.7, 0.3),
        stand("cup", "purple", 0.9, size="small", material="wood"),
        stand("plate", "pink", 0.2, material="glass").at(0.2, 0.6, -0.2),
        stand("ball", "cyan", 0.9, material="metal").at(0.85, 0.8, 1.0),
    ),
    wall=0.3,
    wood=-0.4,
    gripper=Gripper(0.3, 0.85, 0.1),
)


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (Disc(0.51, 0.47, 0.2), math.pi * 0.04),
        (Capsule((0.3, 0.41), (0.6, 0.52), 0.07), math.pi * 0.0049 + 0.14 * math.hypot(0.3, 0.11)),
        (Hull(((0.25, 0.25), (0.75, 0.25), (0.75, 0.5), (0.25, 0.5))), 0.125),
        (Hull(((0.2, 0.3), (0.6, 0.1), (0.9, 0.7))), 0.15),
        (Hull(((0.3, 0.3), (0.5, 0.3), (0.5, 0.6), (0.3, 0.6)), 0.05), 0.06 + 0.05 + math.pi * 0.0025),
    ],
)
def test_a_shape_covers_its_area(shape, area):
    assert r.coverage(shape, 256).sum(dtype=float) / 256**2 == pytest.approx(area, rel=1e-3)


def test_distance_to_a_polygon_is_that_to_its_nearest_edge_point():
    points = ((0.2, 0.3), (0.6, 0.1), (0.9, 0.6), (0.4, 0.8))
    t = np.linspace(0, 1, 4001)[:, None]
    edge = np.concatenate([a + t * (np.subtract(b, a)) for a, b in zip(points, points[1:] + points[:1], strict=True)])
    grid = ((np.arange(24) + 0.5) / 24).astype(np.float32)
    d = r.distance(Hull(points, 0.03), grid[None, :], grid[:, None])
    assert d.dtype == np.float32
    for i, y in enumerate(grid):
        for j, x in enumerate(grid):
            assert abs(d[i, j] + 0.03) == pytest.approx(np.hypot(edge[:, 0] - x, edge[:, 1] - y).min(), abs=2e-4)
    assert d[12, 12] < 0 < d[0, 0]


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 3.0])
def test_the_short_way_for_rectangles_agrees_with_that_for_any_polygon(angle):
    box = placed(Thing("box", "red", x=0.45, y=0.5, angle=angle))[0].shape
    a, b = box.points[:2]
    middle = ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2)
    pentagon = Hull((a, middle, *box.points[1:]), box.r)
    np.testing.assert_allclose(r.coverage(box, 96), r.coverage(pentagon, 96), atol=1e-4)


def test_one_scene_is_the_same_bytes_everywhere():
    # The looks are pinned: whoever changes them on purpose writes the new sums here. 64 keeps layers, 200 does not.
    sums = {size: zlib.crc32(r.render(CROWD, size).tobytes()) for size in (64, 200)}
    assert sums == {64: 505421227, 200: 2808317658}


def test_neither_memory_nor_numpy_scalars_change_a_picture():
    first = r.render(CROWD)
    r._kept_thing_layer.cache_clear()
    things = tuple(replace(t, x=np.float64(t.x), y=np.float64(t.y), angle=np.float64(t.angle)) for t in CROWD.things)
    np.testing.assert_array_equal(r.render(replace(CROWD, things=things)), first)
    np.testing.assert_array_equal(r.render(CROWD), first)


@pytest.mark.parametrize("kind", KINDS)
def test_distances_stay_float32_whatever_the_numbers_of_a_thing_are(kind):
    thing = Thing(kind, "red", x=np.float64(0.3), y=np.float64(0.6), angle=0.2, word="A" if kind == "sign" else "")
    grid = np.full((1, 1), 0.5, np.float32)
    assert {r.distance(part.shape, grid, grid).dtype for part in placed(thing)} == {np.dtype(np.float32)}


def test_a_clip_is_its_frames():
    frames = tuple(CROWD.having(7, CROWD.things[7].at(0.8, 0.8 - 0.1 * i)) for i in range(3))
    np.testing.assert_array_equal(r.render_clip(Motion("drop", frames), 32), [r.render(f, 32) for f in frames])


def test_layers_choose_what_is_drawn():
    np.testing.assert_array_equal(r.render(CROWD, layers=[*range(8), -2]), r.render(CROWD))
    np.testing.assert_array_equal(r.render(CROWD, layers=()), r.render(Scene((), CROWD.wall, CROWD.wood)))
    only = replace(CROWD, things=(CROWD.things[4],), gripper=None)
    np.testing.assert_array_equal(r.render(CROWD, layers={4}), r.render(only))


@pytest.mark.parametrize("kind", KINDS)
def test_a_thing_changes_the_picture_where_its_silhouette_is_and_nowhere_else(kind):
    thing = Thing(kind, "green", x=0.5, y=0.7, angle=0.5, word="CAT" if kind == "sign" else "")
    empty = r.render(Scene(), 96).astype(int)
    changed = np.abs(r.render(Scene((thing,)), 96).astype(int) - empty).max(axis=2)
    mask = r.silhouette(thing, 96)
    assert changed[mask == 0].max() == 0
    assert changed[mask > 0.9].min() > 4
    assert (r.silhouette(thing, 96, solid=True) <= mask).all()


@pytest.mark.parametrize(("kind", "material"), [(k, m) for k in KINDS for m in MADE_OF[k] if k != "glass"])
@pytest.mark.parametrize("wall", [-1.0, 1.0])
def test_most_of_a_thing_is_nearest_to_its_own_colour(kind, material, wall):
    names = [*COLOURS, "wall", "wood", "black", "white"]
    palette = np.array([*COLOURS.values(), r.WALL, r.WOOD, (10, 10, 10), (245, 245, 245)])
    for colour in COLOURS:
        thing = stand(kind, colour, material=material)
        picture = r.render(Scene((thing,), wall, wall)).astype(float)
        inside = r.silhouette(thing, 64, solid=True) > 0.95
        for part in placed(thing):
            if not part.solid:
                inside &= r.coverage(part.shape, 64) < 0.01
        if kind == "sign":
            inside &= r.lettering(thing, 64) < 0.01
        nearest = ((picture[inside][:, None] - palette) ** 2).sum(axis=2).argmin(axis=1)
        assert (nearest == names.index(colour)).mean() >= 0.75, colour


def test_moving_by_whole_pixels_moves_the_picture():
    for kind in KINDS:
        thing = Thing(kind, "blue", "small", 0.4, 0.6, 0.3, word="UP" if kind == "sign" else "")
        here, there = (r.silhouette(t, 64) for t in (thing, thing.at(0.4 + 3 / 64, 0.6 - 2 / 64)))
        np.testing.assert_allclose(np.roll(here, (2, 3), (0, 1)), there, atol=1e-4)


def test_a_small_picture_is_a_large_one_averaged():
    large = r.render(CROWD, 256).astype(float).reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(large - r.render(CROWD, 64)).mean() < 1.5


def test_a_ball_is_seen_through_a_glass_but_not_through_a_box():
    ball = Thing("ball", "red", "small", 0.5, 0.3)
    for kind, seen in (("glass", True), ("box", False)):
        front = stand(kind, "green", size="large")
        with_ball, without = (r.render(Scene(things)).astype(int) for things in ((ball, front), (front,)))
        inside = r.coverage(placed(ball)[0].shape, 64) > 0.99
        assert (np.abs(with_ball - without).max(axis=2)[inside].min() > 20) == seen


def test_shadows_lie_on_the_table_under_what_stands_there():
    ball = stand("ball", "blue")
    empty, with_ball, high = (r.render(Scene(t))[:, :, 0].astype(int) for t in ((), (ball,), (ball.at(0.5, 0.7),)))
    row = int((1 - TABLE) * 64) + 1
    assert with_ball[row, 33] < 0.85 * empty[row, 33]
    np.testing.assert_array_equal(high[row], empty[row])


def test_letters_are_read_back_from_a_sign_by_its_template():
    for size in ("small", "medium", "large"):
        masks = {}
        for word in (w for w in WORDS if len(w) == 4):
            masks[word] = r.lettering(replace(stand("sign", "red", size=size), word=word), 64).ravel()
        for word, colour in zip(masks, ["red", "orange", "yellow", "cyan", "blue", "pink", "green"], strict=False):
            thing = replace(stand("sign", colour, size=size), word=word)
            grey = r.render(Scene((thing,))).astype(float).mean(axis=2).ravel()
            board = r.silhouette(replace(thing, word="HOME"), 64).ravel() > 0.99
            score = {w: abs(np.corrcoef(m[board], grey[board])[0, 1]) for w, m in masks.items()}
            assert max(score, key=score.__getitem__) == word
            assert score[word] > 0.97


def test_no_two_letters_look_alike_at_the_smallest_height():
    masks = [r.word_mask(letter, 6.4) for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    assert {mask.shape for mask in masks} == {(7, 6)}
    for i, mask in enumerate(masks):
        assert 8 < mask.sum() < 26
        for other in masks[:i]:
            assert np.abs(mask - other).sum() > 2.5


def test_words_turn_with_their_sign():
    thing = Thing("sign", "blue", "large", 0.5, 0.5, 0.0, word="OPEN")
    np.testing.assert_allclose(
        r.lettering(thing.at(0.5, 0.5, math.pi / 2), 64), np.rot90(r.lettering(thing, 64)), atol=2e-3
    )


@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_words_stand_in_the_middle_of_their_board(size):
    thing = stand("sign", "blue", size=size)
    thing = replace(thing, word="OHO")
    letters, board = r.lettering(thing, 128), r.coverage(placed(thing)[2].shape, 128)
    np.testing.assert_allclose(letters, letters[:, ::-1], atol=0.2)
    y = np.arange(128)[:, None]
    assert (letters * y).sum() / letters.sum() == pytest.approx((board * y).sum() / board.sum(), abs=0.3)
    assert letters[board < 1].max() == 0


def test_letters_contrast_with_their_board():
    def luminance(colour: str) -> float:  # WCAG 2.2
        linear = [v / 3294.6 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in COLOURS[colour]]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colour in COLOURS:
        light, dark = 1.05 / (luminance(colour) + 0.05), (luminance(colour) + 0.05) / 0.05
        assert (dark if r.dark_letters(colour) else light) > 3.0, colour


def test_word_mask_fills_its_frame():
    mask = r.word_mask("HI", 40)
    assert mask.shape == (40, 64)
    assert mask.dtype == np.float32
    assert mask[0].max() > 0.99
    assert mask[-1].max() > 0.99
    assert mask.max() <= 1


def test_the_font_and_its_licence_ship():
    files = resources.files("selfflow.worlds.tabletop") / "font"
    assert "Bitstream" in (files / "LICENSE").read_text()
    assert (files / "DejaVuSansMono-Bold-subset.ttf").is_file()
    assert (files / "letters.png").is_file()


@pytest.mark.parametrize("size", [0, 15, 1025, 64.0, True, "64", None, float("nan")])
def test_a_wrong_size_is_one_clear_error(size):
    for call in (lambda: r.render(CROWD, size), lambda: r.coverage(Disc(0.5, 0.5, 0.1), size)):
        with pytest.raises(ValueError, match="whole number of pixels from 16 to 1024"):
            call()


@pytest.mark.parametrize("word", ["", "cat", "É", "A B", "A1"])
def test_letters_that_the_font_lacks_are_an_error(word):
    with pytest.raises(ValueError, match="A-Z"):
        r.word_mask(word, 10)


@pytest.mark.parametrize("height", [0, -1, 1e9, float("nan")])
def test_letters_of_absurd_height_are_an_error(height):
    with pytest.raises(ValueError, match="choose 2 to 1024"):
        r.word_mask("CAT", height)


def test_what_is_out_of_sight_leaves_no_trace():
    empty = r.render(Scene(), 16)
    for x, y in ((-5, 0.5), (5, 0.5), (0.5, 9), (0.5, -9), (99, 99)):
        things = tuple(Thing(k, "red", x=x, y=y, word="GO" if k == "sign" else "") for k in KINDS)
        np.testing.assert_array_equal(r.render(Scene(things), 16), empty)


def test_extreme_sizes_draw():
    assert r.render(CROWD, 16).shape == (16, 16, 3)
    assert r.render(CROWD, np.int64(1024)).shape == (1024, 1024, 3)
