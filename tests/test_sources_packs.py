"""Sources on the real packs, where they are here: every task gets what it needs, splits hold, edits are edits."""

import hashlib

import numpy as np
import pytest

from selfflow.data.packs import PackMissing
from selfflow.data.registry import SOURCES, open_named
from selfflow.data.sprites import ACTIONS, after
from selfflow.worlds.tabletop.edits import differing

NEEDED = {
    "text": lambda s: s.text,
    "references": lambda s: s.references,
    "first": lambda s: s.clip is not None or s.picture is not None,
    "visual": lambda s: s.clip is not None or s.picture is not None,
    "audio": lambda s: s.sound is not None and s.sound_rate,
    "action": lambda s: s.actions is not None and s.control_hz and s.body,
    "state": lambda s: s.states is not None,
}


def opened(name, **options):
    try:
        return open_named(name, **options)
    except PackMissing as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", [name for name, entry in SOURCES.items() if entry.pack])
def test_samples_have_what_their_tasks_need(name, split):
    from selfflow.tasks import TASKS

    source = opened(name, size=32, split=split, frames=6)
    index = min(700, len(source) - 1)
    sample, again = source[index], opened(name, size=32, split=split, frames=6)[index]
    for task in SOURCES[name].tasks:
        assert all(NEEDED[stream](sample) for stream in TASKS[task].streams if stream not in TASKS[task].optional), task
    assert sample.id == again.id
    assert sample.text == again.text
    pictures = [sample.picture] if sample.picture is not None else []
    pictures += [*sample.references, *(() if sample.clip is None else sample.clip)]
    assert all(p.shape == (32, 32, 3) and p.dtype == np.uint8 for p in pictures)
    for one, two in ((sample.picture, again.picture), (sample.clip, again.clip), (sample.sound, again.sound)):
        assert (one is None) == (two is None)
        assert one is None or (one == two).all()
    if sample.clip is not None:
        assert len(sample.clip) == 6
        assert sample.actions is None or len(sample.actions) == 6
    assert isinstance(source.share_alike, bool)
    assert source.licence
    assert next(iter(source.captions()))
    with pytest.raises(IndexError):
        source[len(source)]


def test_emoji_edits_show_pairs_of_the_pack():
    source = opened("emoji-edits", split="test")
    assert len(source) == 10_177 + 11_422
    sample = source[11]
    (before,) = sample.references
    np.testing.assert_array_equal(sample.mask, differing(before, sample.picture))
    assert sample.mask.any()
    clocks = opened("emoji-edits", kinds=["clock"], permissive_only=True)
    assert {clocks[i].meta["kind"] for i in range(20)} == {"clock"}
    assert not clocks.share_alike
    assert clocks.emoji.styles.index("openmoji") not in {clocks[i].meta["style"] for i in range(60)}


def test_balance_says_how_often_each_kind_comes():
    kinds = {}
    for balance in (0.0, 1.0):
        source = opened("emoji-edits", balance=balance)
        drawn = source.pairs["type"][[source.pair(i) for i in range(2000)]]
        kinds[balance] = np.bincount(drawn, minlength=11) / 2000
    true = np.bincount(source.pairs["type"][source.chosen], minlength=11) / len(source.chosen)
    np.testing.assert_allclose(kinds[1.0], true, atol=0.05)
    np.testing.assert_allclose(kinds[0.0], 1 / 11, atol=0.03)


@pytest.mark.parametrize("split", ["train", "test"])
def test_styles_are_shown_by_other_emoji(split):
    source = opened("emoji-styles", split=split)
    styles, parts = source.arrays["style"], source.arrays["split"]
    for index in range(200):
        kind, row, rows, text = source.plan(index)
        assert (parts[row] == 0) == (split == "train")
        same = [source.emoji.record(r)["family"] == source.emoji.record(row)["family"] for r in rows]
        words = source.emoji.style_words[styles[row]]
        if kind == "redraw":
            assert same == [True]
            assert styles[rows[0]] != styles[row]
            assert words in text
            assert source.arrays["emoji"][rows[0]] == source.arrays["emoji"][row]
        else:
            assert not any(same)
            assert {styles[r] for r in rows} == {styles[row]}
            assert words not in text
            assert all(parts[r] == 0 for r in rows)
        if split == "train":
            assert all(parts[r] == 0 for r in rows)
    assert {source.plan(i)[0] for i in (len(source) - 1, 0, 1)} == {"redraw", "style"}


def test_characters_are_those_of_the_pack():
    """The words and pixels that the pack's own reader gives for this character."""
    from selfflow.data.lpc import Character

    pack = opened("sprites-clip").pack
    parts = PINNED["parts"]
    character = Character("female", parts)
    assert pack.split_of(character) == PINNED["split"]
    assert pack.caption(character, "shoot", "left") == PINNED["caption"]
    pixels = pack.frames(character, "shoot", "left", range(13)).tobytes()
    assert hashlib.sha256(pixels).hexdigest()[:16] == PINNED["pixels"]


def test_characters_of_a_split_are_of_that_split_and_edits_change_one_thing():
    for split in ("train", "test"):
        source = opened("sprites-edit", split=split)
        for index in range(12):
            sample = source[index]
            (before,) = sample.references
            assert sample.mask.any()
            assert (before != sample.picture).any(axis=2).mean() < 0.4
            from selfflow.data.lpc import Character

            assert source.pack.split_of(Character(sample.meta["sex"], sample.meta["parts"])) == split


def test_played_frames_respond_to_actions():
    source = opened("sprites-play", frames=12)
    for index in range(5):
        sample = source[index]
        states = list(zip(sample.meta["directions"], sample.meta["phases"], strict=True))
        for j in range(11):
            assert states[j + 1] == after(states[j], int(sample.actions[j].argmax()))
        assert (sample.actions.sum(axis=1) == 1).all()
        assert sample.actions.shape == (12, len(ACTIONS))
        for i in range(12):
            for j in range(i):
                assert (states[i] != states[j]) or (sample.clip[i] == sample.clip[j]).all()


def test_turntables_turn_by_their_actions():
    source = opened("fruits", frames=10)
    for index in (0, 77, 5000):
        sample = source[index]
        rows = np.array(sample.meta["rows"])
        count = source.sequences[sample.meta["sequence"]]["frames"]
        turned = (np.diff(rows) - sample.actions[:-1, 0]) % count
        assert (turned == 0).all()
        assert np.abs(sample.actions).max() <= 3
    assert {s["variety"] for s in source.sequences if s["split"] == "train"}.isdisjoint(
        {source_["variety"] for source_ in opened("fruits", split="test").sequences if source_["split"] == "test"}
    )


def test_hands_say_the_digit_and_count_fingers():
    source = opened("hands")
    n = len(source.rows)
    digit = source[5].meta["digit"]
    assert source.text(5) == f"a hand signing the digit {digit}"
    assert source[5 + n].meta["digit"] == source[5 + 2 * n].meta["digit"] == digit
    np.testing.assert_array_equal(source[5].picture, source[5 + n].picture)
    assert len(opened("hands", split="test")) == 221


def test_digits_hear_the_official_takes():
    train, test = opened("digits"), opened("digits", split="test")
    assert (len(train.rows), len(test)) == (2700, 300)
    assert {test[i].meta["take"] for i in range(0, 300, 7)} <= set(range(5))
    loud = [np.sqrt(np.mean(train[i].sound ** 2)) for i in range(0, 2700, 90)]
    assert max(loud) < 4 * min(loud)  # as recorded: eight times


PINNED = {
    "parts": {
        "body": 26,
        "eyes": 49,
        "ears": 40,
        "hair": 663,
        "torso": 2089,
        "legs": 2019,
        "feet": 242,
        "head": 2006,
        "weapon": 2101,
        "arrow": 2095,
    },
    "split": "train",
    "caption": "a dark-skinned woman with elf ears and gray page-cut hair, wearing a white sleeveless shirt, "
    "metal greaves, brown slippers and a steel helmet, holding a wooden recurve bow, shooting, facing left",
    "pixels": "343c6427fedc83b7",
}
