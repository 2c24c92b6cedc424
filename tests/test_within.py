"""Cups and glasses hold things of every kind, so that what is in them is told by their words alone."""

from collections import Counter

import pytest

from selfflow.data.registry import open_named
from selfflow.data.within import TabletopWithin
from selfflow.worlds.tabletop.check import score_text
from selfflow.worlds.tabletop.language import parse
from selfflow.worlds.tabletop.layout import CONTENTS
from selfflow.worlds.tabletop.split import held_out, novelties


def _held(source: TabletopWithin) -> Counter:
    """How often which kind is said to be in which other."""
    claims = [parse(source[i].text) for i in range(len(source))]
    return Counter(
        (claim.phrases[r.first].kind, claim.phrases[r.second].kind)
        for claim in claims
        for r in claim.relations
        if r.name == "in"
    )


def test_training_shows_in_glasses_what_the_world_puts_nowhere_near_them_and_never_what_is_held_out():
    assert held_out("in", "box", "glass")  # which leaves balls alone, of what the world itself puts there
    assert CONTENTS["glass"] == ("ball", "box")
    held = _held(TabletopWithin(150, size=16))
    in_glasses = {upper for upper, lower in held if lower == "glass"}
    assert {"cup", "plate", "doll", "sign"} <= in_glasses
    assert not {"ball", "box"} & in_glasses
    assert sum(held.values()) == 150  # each scene holds something
    assert not any(held_out("in", *pair) for pair in held)
    assert ("box", "glass") in _held(TabletopWithin(60, size=16, split="test"))


def test_captions_are_true_of_the_pictures_and_say_nothing_held_out():
    source = open_named("tabletop-within", 64, count=12)
    assert [source[i].text for i in range(12)] == list(source.captions())
    for i in range(12):
        sample = source[i]
        assert sample.picture.shape == (64, 64, 3)
        assert score_text(sample.picture, sample.text).faults == ()
        assert source.judge(sample, sample.picture).value == 1 > source.judge(sample, 0 * sample.picture).value
        assert not novelties(parse(sample.text))
    again = TabletopWithin(12)
    assert all((source[i].picture == again[i].picture).all() for i in range(12))
    assert (TabletopWithin(12, seed=1)[0].picture != source[0].picture).any()


def test_what_is_drawn_is_kept(tmp_path):
    first = TabletopWithin(4, size=16, directory=tmp_path)
    shown = [first[i].picture for i in range(4)]
    assert list(tmp_path.rglob("*"))
    kept = TabletopWithin(4, size=16, directory=tmp_path)
    kept._drawn = None  # whoever draws again fails
    assert all((kept[i].picture == shown[i]).all() for i in range(4))


@pytest.mark.parametrize(
    ("wrong", "says"), [({"size": 8}, "16"), ({"split": "all"}, "all"), ({"count": 0}, "0 samples")]
)
def test_bad_arguments_are_named(wrong, says):
    with pytest.raises(ValueError, match=says):
        TabletopWithin(**wrong)
