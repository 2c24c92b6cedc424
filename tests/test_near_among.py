"""Signs seen from near bear any letters; of several pictures a number says which is meant."""

import re

import numpy as np
import pytest

from selfflow.data.among import TabletopAmong
from selfflow.data.near import NEARER, TabletopNear
from selfflow.data.registry import open_named
from selfflow.worlds.tabletop.draw import draw
from selfflow.worlds.tabletop.edits import draw_edit
from selfflow.worlds.tabletop.render import render
from selfflow.worlds.tabletop.scene import WORDS, generator
from selfflow.worlds.tabletop.spelling import edit_spelled_anew, spelled_anew
from selfflow.worlds.tabletop.split import split
from selfflow.worlds.tabletop.tasks import example


def test_other_letters_stand_where_the_words_stood():
    scene = draw(3, 2, ("sign",))
    other = spelled_anew(generator(5), scene)
    for before, after in zip(scene.things, other.things, strict=True):
        assert len(before.word) >= len(after.word)
        assert before.word != after.word
        assert re.fullmatch("[A-Z]+", after.word)
        assert (before.kind, before.colour, before.x, before.y) == (after.kind, after.colour, after.x, after.y)
    assert spelled_anew(generator(5), scene) == other != spelled_anew(generator(6), scene)
    plain = draw(1, 1, ("ball",))
    assert spelled_anew(generator(5), plain) == plain


def test_an_edit_asks_for_the_letters_that_it_shows():
    for seed in range(12):
        edit = edit_spelled_anew(generator(seed), draw_edit(seed, "change word"))
        (word,) = re.findall(r'"(\w+)"', edit.instruction)[-1:]
        before, after = (scene.things[edit.index].word for scene in (edit.before, edit.after))
        assert word == after != before
        others = [
            (a.word, b.word)
            for i, (a, b) in enumerate(zip(edit.before.things, edit.after.things, strict=True))
            if i != edit.index
        ]
        assert all(a == b for a, b in others)


@pytest.mark.parametrize("name", ["tabletop-near", "tabletop-near-words"])
def test_a_sign_seen_from_near_is_cut_from_a_larger_picture(name):
    source = open_named(name, 32, count=8)
    for i in range(8):
        sample = source[i]
        assert sample.text.startswith("seen from near, ")
        (word,) = re.findall(r'"(\w+)"', sample.text)
        assert word not in WORDS
        assert sample.picture.shape == (32, 32, 3)
        task, kinds = ("edit", ("change word",)) if sample.references else ("still", ("sign",))
        count = None if sample.references else 1
        large = example(task, i, round(NEARER * 32), count=count, kinds=kinds, letters=True)
        scene = large.truth.after if sample.references else large.truth
        assert split(scene) == "train"
        found = np.lib.stride_tricks.sliding_window_view(render(scene, 48), (32, 32, 3))[:, :, 0]
        same = (found == sample.picture).all(axis=(2, 3, 4))
        assert same.sum() == 1
        if sample.references:
            row, column = np.argwhere(same)[0]
            assert (large.before[row : row + 32, column : column + 32] == sample.references[0]).all()
            assert sample.mask.any()  # the word, which differs, is in sight
            assert not (sample.references[0] == sample.picture)[sample.mask].all()
    again = open_named(name, 32, count=8)
    assert all((source[i].picture == again[i].picture).all() for i in range(8))


def test_of_several_pictures_a_number_says_which_is_meant():
    source = TabletopAmong(24, 32)
    shown = set()
    for i in range(24):
        sample, edit = source[i], source.edits[i]
        number = sample.meta["number"]
        assert re.findall(r"picture (\d)", sample.text) == [str(number)]
        assert source.text(i) == sample.text
        assert 2 <= len(sample.references) <= 4
        meant = sample.references[number - 1]
        assert (meant == edit.references[0]).all()
        assert sum((meant == other).all() for other in sample.references) == 1
        if i % 2:
            assert (sample.picture == edit.picture).all()
            assert edit.text in sample.text
            assert (sample.mask == edit.mask).all()
        else:
            assert (sample.picture == meant).all()
            assert edit.text not in sample.text
            assert sample.mask is None
        shown.add((number, len(sample.references)))
    assert len(shown) >= 5
    assert list(source.captions()) == [source.text(i) for i in range(24)]


def test_letters_are_for_signs():
    with pytest.raises(ValueError, match="letters were asked for of the task clip"):
        example("clip", 0, letters=True)
    with pytest.raises(ValueError, match="'clip'"):
        TabletopNear("clip")
