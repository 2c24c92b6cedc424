"""The tabletop as a source of captioned pictures: fixed by its seed, split by what is said, of the kinds asked for."""

import numpy as np
import pytest

from selfflow.data.scenes import TabletopScenes
from selfflow.worlds.tabletop.claim import judge
from selfflow.worlds.tabletop.language import parse
from selfflow.worlds.tabletop.render import render
from selfflow.worlds.tabletop.split import novel, split

FEW = ("ball", "box", "cup", "glass")


def test_a_sample_is_a_function_of_split_seed_and_index():
    source = TabletopScenes(40, size=32, seed=3)
    samples = [source[i] for i in range(len(source))]
    assert list(source.captions()) == [s.text for s in samples]
    assert len({s.id for s in samples}) == 40
    for sample in samples:
        assert np.array_equal(sample.picture, render(sample.meta["scene"], 32))
        assert judge(parse(sample.text), sample.meta["scene"].things).score == 1
    again = TabletopScenes(2000, size=64, seed=3)[np.int64(17)]
    assert (again.id, again.text, again.meta["scene"]) == (samples[17].id, samples[17].text, samples[17].meta["scene"])
    other = TabletopScenes(40, seed=4)
    assert sum(other[i].text == samples[i].text for i in range(40)) < 10


def test_no_training_scene_shows_what_a_test_caption_says():
    train, test = (TabletopScenes(150, split=name, kinds=FEW) for name in ("train", "test"))
    assert all(split(train.told(i)[0]) == "train" for i in range(150))
    assert all(split(test.told(i)[0]) == "test" for i in range(150))
    assert not any(novel(parse(text)) for text in train.captions())
    assert all(novel(parse(text)) for text in test.captions())


def test_only_the_kinds_asked_for_are_drawn():
    source = TabletopScenes(100, kinds=FEW)
    assert {thing.kind for i in range(100) for thing in source.told(i)[0].things} == set(FEW)


def test_only_so_many_things_of_the_sizes_asked_for_are_drawn():
    source = TabletopScenes(100, kinds=FEW, sizes=("large",), most=2)
    scenes = [source.told(i)[0] for i in range(100)]
    assert {thing.size for scene in scenes for thing in scene.things} == {"large"}
    assert {len(scene.things) for scene in scenes} == {1, 2}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TabletopScenes(seed=-3), "seed -3 is negative"),
        (lambda: TabletopScenes(count=0), "count 0"),
        (lambda: TabletopScenes(size=8), "picture size 8"),
        (lambda: TabletopScenes(split="val"), "unknown split 'val'; choose one of train, test"),
        (lambda: TabletopScenes(sizes=("huge",)), "unknown size 'huge'"),
        (lambda: TabletopScenes(most=0), "at most 0 things"),
        (lambda: TabletopScenes(kinds=("dog",)), "unknown kind 'dog'; choose one of ball, box"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_outside_is_named(index):
    with pytest.raises(IndexError, match=f"index {index} of 5 scenes"):
        TabletopScenes(5)[index]
