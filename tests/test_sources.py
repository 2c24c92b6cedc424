"""Sources that need no pack, and the logic of those that do, on toy packs: packing, Tabletop's tasks, PushT, sounds."""

import re
from itertools import combinations

import numpy as np
import pytest

from selfflow.data.digits import SpokenDigits
from selfflow.data.licences import EMOJI, PACKS, emoji_licence
from selfflow.data.packing import Store, pack, unpack
from selfflow.data.packs import PackMissing
from selfflow.data.pusht import PushT, without_goal
from selfflow.data.registry import SOURCES, available, open_named
from selfflow.data.sample import DecodeError
from selfflow.data.sounds import NamedSounds
from selfflow.data.sprites import ACTIONS, after
from selfflow.data.tabletop_tasks import TabletopTask
from selfflow.data.waves import doubled, levelled, loudest, placed
from selfflow.tasks import TASKS
from selfflow.worlds.tabletop.scene import FPS, SOUND_HZ
from selfflow.worlds.tabletop.tasks import ROBOT_TASKS, example

# ------------------------------------------------------------------------------------------------------------ packing


def some_arrays():
    rng = np.random.default_rng(0)
    return {
        "odd": np.arange(3, dtype=np.uint8),  # after which the next must still be aligned
        "clip": rng.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8),
        "sound": rng.integers(-99, 99, 7).astype(np.int16),
        "states": rng.random((2, 3), dtype=np.float32),
        "text": np.array("Ayrancı"),
        "none": np.zeros((0, 3), np.float32),
    }


def test_packing_loses_nothing():
    found = unpack(pack(some_arrays()))
    for name, array in some_arrays().items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert found[name].flags.writeable
        assert found[name].flags.aligned


@pytest.mark.parametrize("damage", [lambda d: d[:-9], lambda d: d[:3], lambda d: b"\xff" * len(d), lambda d: b""])
def test_damaged_packs_are_one_clear_error(damage):
    with pytest.raises(DecodeError, match="damaged"):
        unpack(damage(pack(some_arrays())))


def test_a_store_fills_up_and_stays():
    made = []

    def make(key):
        made.append(key)
        return {"x": np.frombuffer(np.random.default_rng(len(key)).bytes(1000), np.uint8)}

    store = Store(limit=2500)
    for key in ("a", "bb", "ccc", "a", "bb", "ccc"):
        store.get(key, lambda key=key: make(key))
    assert made == ["a", "bb", "ccc", "ccc"]
    assert store.held <= 2500


def test_a_store_finds_its_files_again_and_replaces_damaged_ones(tmp_path):
    first = Store(directory=tmp_path / "kept").get("a", some_arrays)
    again = Store(directory=tmp_path / "kept").get("a", lambda: pytest.fail("it was kept"))
    np.testing.assert_array_equal(first["clip"], again["clip"])
    (tmp_path / "kept" / "a").write_bytes(b"broken")
    third = Store(directory=tmp_path / "kept").get("a", some_arrays)
    np.testing.assert_array_equal(first["clip"], third["clip"])
    assert unpack((tmp_path / "kept" / "a").read_bytes()).keys() == first.keys()
    assert [file.name for file in (tmp_path / "kept").iterdir()] == ["a"]


# ----------------------------------------------------------------------------------------------------------- tabletop


def test_pictures_of_tabletop_are_those_of_its_examples():
    for task in ("still", "edit", "reference"):
        source = TabletopTask(task, count=3, size=32, split="test", seed=2)
        sample, one = source[1], example(task, source.number(1), 32, "test")
        assert sample.text == one.text
        np.testing.assert_array_equal(sample.picture, one.picture)
        given = one.references or (() if one.before is None else (one.before,))
        assert len(sample.references) == len(given)
        assert all((a == b).all() for a, b in zip(sample.references, given, strict=True))
        assert (sample.mask is None) == (task != "edit")
        assert sample.meta["truth"] == one.truth
        assert dict(sample.meta).keys() == {"task", "seed", "truth"}


def test_a_source_of_several_things_has_two_or_three():
    source = open_named("tabletop-things", 32, count=6)
    assert [len(source[i].meta["truth"].things) for i in range(6)] == [2, 2, 3] * 2
    assert source[0].id == "tabletop-things/train/0/0"


def test_a_source_of_signs_has_nothing_else():
    source = open_named("tabletop-signs", 32, count=6)
    shown = [source[i].meta["truth"].things for i in range(6)]
    assert [len(things) for things in shown] == [1, 1, 2] * 2
    assert {thing.kind for things in shown for thing in things} == {"sign"}
    assert all(f'"{things[0].word}"' in source[i].text for i, things in enumerate(shown) if len(things) == 1)
    edits = TabletopTask("edit", 4, 32, kinds=("change word", "add"))
    assert [edits[i].meta["truth"].kind for i in range(4)] == ["change word", "add"] * 2
    assert {open_named("tabletop-words", 32, count=2)[i].meta["truth"].kind for i in range(2)} == {"change word"}
    refused = (({"task": "clip", "kinds": ("sign",)}, "only a still's and edits'"), ({"kinds": ("dog",)}, "'dog'"))
    for options, wrong in (*refused, ({"task": "edit", "kinds": ("sign",)}, "'sign'")):
        with pytest.raises(ValueError, match=wrong):
            TabletopTask(**({"task": "still", "count": 4} | options))
    with pytest.raises(ValueError, match="kinds sign were asked for of the task clip"):
        example("clip", 0, kinds=("sign",))


def test_a_source_of_references_that_are_alike_tells_them_apart_by_their_numbers_alone():
    source = open_named("tabletop-alike", 32, count=8)
    assert [len(source[i].references) for i in range(4)] == [2, 2, 3, 4]
    for sample in (source[i] for i in range(8)):
        things = [scene.things[0] for scene in sample.meta["truth"].scenes]
        assert any(a.kind == b.kind and a.colour != b.colour for a, b in combinations(things, 2))
    for options in ({"task": "still"}, {"task": "reference", "counts": (1, 2)}):
        with pytest.raises(ValueError, match="alike"):
            TabletopTask(**options, count=4, alike=True)
        with pytest.raises(ValueError, match="spare"):
            TabletopTask(**options, count=4, spare=True)


def test_of_references_some_of_which_are_spare_a_number_says_what_is_to_be_seen():
    source = open_named("tabletop-spare", 32, count=40)
    first = set()
    for sample in (source[i] for i in range(40)):
        truth = sample.meta["truth"]
        named = {int(n) for n in re.findall(r"from picture (\d+)", sample.text)}
        shown = [scene.things[0] for scene in truth.scenes]
        assert 0 < len(named) < len(shown) == len(sample.references)
        seen = [(t.kind, t.colour) for t in truth.target.things]
        meant = [shown[n - 1] for n in named]
        assert all((t.kind, t.colour) in seen for t in meant)
        for number, thing in enumerate(shown, 1):
            if number not in named:
                assert any(thing.kind == t.kind and thing.colour != t.colour for t in meant)
        first |= named
    assert first == {1, 2, 3, 4}  # it is not always the first that is meant


def test_a_source_of_many_references_has_seven_to_ten_which_one_batch_takes():
    from selfflow.modalities.streams import Modalities
    from selfflow.modalities.text import BytePairs
    from selfflow.modalities.visual import Patches
    from selfflow.recipes import micro_all
    from selfflow.tasks import named

    source = open_named("tabletop-many", 32, count=32)
    samples = [source[i] for i in range(4)]
    assert [len(s.references) for s in samples] == [7, 8, 9, 10]
    assert samples[3].id == "tabletop-many/train/0/3"
    assert len(samples[3].meta["truth"].scenes) == 10
    text = BytePairs.train(source.captions(), 500, micro_all().text.max_tokens)
    assert max(map(text.length, source.captions())) < text.max_tokens  # nothing that is told is cut off
    groups = Modalities(text, Patches(8)).streams(samples, named("edit"))["references"]
    assert [int(tokens.full_mask[:, 0].sum()) for tokens in groups] == [4] * 7 + [3, 2, 1]
    assert all(float(tokens.positions[0, 0, 3]) == place for place, tokens in enumerate(groups, 1))


def test_a_source_of_recoveries_begins_where_somebody_mistaken_left_off():
    robot = pytest.importorskip("selfflow.worlds.tabletop.robot", reason="needs the extra `world`")
    source = open_named("tabletop-recover", 16, count=16, frames=8)
    sample, number = source[8], source.number(8)
    played = robot.rollout(ROBOT_TASKS[number % 4], number, mistaken=0.08)
    assert sample.text == played.instruction
    assert sample.meta["steps"] == len(played.motion.actions)
    np.testing.assert_array_equal(sample.actions[0], played.motion.actions[sample.meta["start"]].astype(np.float32))
    assert open_named("tabletop-robot", 16, count=16, frames=8)[8].text == sample.text  # asked the same, done otherwise
    with pytest.raises(ValueError, match="only a robot can be"):
        TabletopTask("still", mistaken=0.1)
    with pytest.raises(ValueError, match="only `robot` can be"):
        example("edit", 0, mistaken=0.1)


def test_a_thinned_clip_lasts_longer_and_keeps_its_sound_in_step():
    source = TabletopTask("clip", count=12, size=16, frames=8, stride=2)
    sample, one = source[11], example("clip", source.number(11), 16, frames=16)
    np.testing.assert_array_equal(sample.clip, one.clip[::2])
    assert sample.fps == FPS / 2
    assert len(sample.sound) / sample.sound_rate == len(sample.clip) / sample.fps
    np.testing.assert_allclose(sample.sound, one.sound, atol=0.6 / 32767)
    assert sample.sound_rate == SOUND_HZ
    assert len(one.actions) == 8  # a gripper pushes: for 0.8 seconds at 10 Hz
    np.testing.assert_array_equal(sample.actions, one.actions.astype(np.float32))
    assert sample.body == "tabletop"


def test_robot_windows_tile_an_episode_and_stay_at_its_end():
    pytest.importorskip("gymnasium", reason="needs the extra `world`")
    source = TabletopTask("robot", count=8, size=16, frames=24, windows=4, seed=1)
    one = example("robot", source.number(4), 16)
    steps, starts = len(one.actions), []
    for index in range(4, 8):
        sample = source[index]
        start = sample.meta["start"]
        starts.append(start * 4 // steps)
        real = min(24, steps - start)
        np.testing.assert_array_equal(sample.clip[:real], one.clip[start : start + real])
        np.testing.assert_array_equal(sample.actions[:real], one.actions[start : start + real].astype(np.float32))
        np.testing.assert_array_equal(sample.states[:real], one.states[start : start + real].astype(np.float32))
        end = one.truth.motion.frames[-1].gripper
        assert (sample.clip[real:] == one.clip[-1]).all()
        assert (sample.actions[real:] == np.float32((end.x, end.y, end.opening))).all()
        assert (sample.states[real:] == sample.actions[real:]).all()
        assert len(sample.clip) == len(sample.actions) == len(sample.states) == 24
    assert starts == [0, 1, 2, 3]
    assert next(source.captions()) == example("robot", source.number(0), 16).text


def test_a_sample_is_the_same_whenever_it_is_asked_for():
    one, two = (TabletopTask("edit", count=9, size=16, seed=3, memory=memory) for memory in (0, 1 << 20))
    for index in (8, 0, 8):
        assert one[index].text == two[index].text
        np.testing.assert_array_equal(one[index].picture, two[index].picture)
    assert one[0].id != TabletopTask("edit", count=9, size=16, seed=4)[0].id


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: TabletopTask("paint"), "unknown task 'paint'"),
        (lambda: TabletopTask("still", split="valid"), "unknown split 'valid'"),
        (lambda: TabletopTask("still", count=0), "0 samples"),
        (lambda: TabletopTask("edit", counts=(2,)), r"counts \(2,\) of task edit; references and things of a still"),
        (lambda: TabletopTask("reference", counts=(7, 11)), "a count of 11 in a sample; choose 1 to 10"),
        (lambda: TabletopTask("still", size=4), "size 4"),
        (lambda: TabletopTask("still", seed=-1), "seed -1"),
        (lambda: TabletopTask("clip", frames=0), "0 frames"),
        (lambda: TabletopTask("robot", stride=2), "stride 2 of task robot"),
        (lambda: TabletopTask("robot", windows=0), "0 windows"),
        (lambda: TabletopTask("still", count=2)[2], "index 2 of tabletop-still; choose 0 to 1"),
        (lambda: TabletopTask("still", count=2)[-1], "index -1"),
        (lambda: Store(-1), "-1 bytes"),
        (lambda: open_named("paintings"), "unknown source 'paintings'"),
    ],
)
def test_bad_arguments_are_named(bad, words):
    with pytest.raises((ValueError, IndexError), match=words):
        bad()


# -------------------------------------------------------------------------------------------------------------- pusht


@pytest.fixture
def pusht(tmp_path):
    """Two episodes of 40 and 30 steps, the second for the test; frames are numbered by their pixels."""
    frames = np.arange(70, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    state = np.stack([np.arange(70) + k for k in range(4)] + [np.linspace(-9, 9, 70)], axis=1).astype(np.float32)
    for name in ("center", "x356"):
        np.savez_compressed(
            tmp_path / f"pusht64_{name}.npz", img=frames, action=state[:, :2] + 100, state=state,
            episode_ends=np.array([40, 70]), test_episode=np.array([0, 1], np.uint8),
        )  # fmt: skip
    return tmp_path


def test_pusht_windows_begin_at_every_step_and_stay_at_the_end(pusht):
    source = PushT(size=8, frames=16, directory=pusht)
    assert len(source) == 80
    assert len(PushT("test", 8, frames=16, sets=["x356"], directory=pusht)) == 30
    late, early = source[75], source[20]  # as epochs come: in any order
    assert early.clip[:, 0, 0, 0].tolist() == list(range(20, 36))
    assert early.actions[:, 0].tolist() == list(range(120, 136))
    assert late.meta == {"set": "x356", "episode": 0, "start": 35, "steps": 40}
    assert late.clip[:, 0, 0, 0].tolist() == [35, 36, 37, 38, *[39] * 12]
    assert late.actions[:, 0].tolist() == [135, 136, 137, 138, 139, *[39] * 11]
    assert late.states[:, 1].tolist() == [36, 37, 38, 39, *[40] * 12]
    angles = np.linspace(-9, 9, 70)[20:36]
    np.testing.assert_allclose(early.states[:, 4:], np.stack([np.sin(angles), np.cos(angles)], axis=1), atol=1e-5)
    assert PushT("test", 8, frames=1, directory=pusht)[0].clip[0, 0, 0, 0] == 40


def test_a_damaged_set_is_named(pusht):
    (pusht / "pusht64_center.npz").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"pusht64_center\.npz is damaged"):
        PushT(directory=pusht)
    (pusht / "pusht64_center.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"pusht64_center\.npz is missing"):
        PushT(directory=pusht)


def test_the_goal_is_wiped_away_and_nothing_else():
    green, white, block = np.array([144, 238, 144]), np.array([255, 255, 255]), np.array([119, 136, 153])
    finger = np.array([65, 105, 225])
    pixels = np.stack([green, white, block, finger, (green + white) / 2, np.array([136, 236, 138])])
    wiped = without_goal(pixels.astype(np.uint8)[None, None])[0, 0]
    assert wiped.tolist() == [[255] * 3, [255] * 3, block.tolist(), finger.tolist(), [255] * 3, [255] * 3]


# ------------------------------------------------------------------------------------------------------------- sounds


def test_doubling_keeps_a_tone_to_the_last_bit_that_matters():
    t = np.arange(4000)
    envelope = np.hanning(4000)
    tone = envelope * np.sin(2 * np.pi * 440 * t / 8000)
    double = doubled(tone)
    assert len(double) == 8000
    np.testing.assert_allclose(double[::2], tone, atol=1e-5)
    between = np.interp(t[:-1] + 0.5, t, envelope) * np.sin(2 * np.pi * 440 * (t[:-1] + 0.5) / 8000)
    np.testing.assert_allclose(double[1:-1:2], between, atol=1e-5)


def test_levels_and_places_are_exact():
    loud = levelled(np.array([3.0, -3.0, 3.0, -3.0]))
    assert np.sqrt(np.mean(loud**2)) == pytest.approx(0.1)
    click = levelled(np.eye(1, 1000)[0])
    assert click.max() == pytest.approx(0.95)  # quieter than the level, rather than cut off
    assert not levelled(np.zeros(5)).any()
    assert loudest(np.array([0, 1, 0, 0, 3, 3, 0.0]), 2) == 4
    assert loudest(np.ones(2), 5) == 0
    assert placed(np.ones(3), 6, -2, 8000).tolist() == [0, 0, 1, 1, 1, 0]
    cut = placed(np.ones(1000), 200, 300, 8000)
    assert cut[0] < 0.1
    assert cut[-1] < 0.1
    assert (cut[40:-40] == 1).all()


def test_digits_take_the_official_split_and_one_length(tmp_path):
    rng = np.random.default_rng(0)
    lengths = [3000, 9000, 3000, 3000]
    audio = np.concatenate([rng.normal(0, 100 * 10**k, n).clip(-32768, 32767) for k, n in enumerate(lengths)])
    np.savez(
        tmp_path / "fsdd8k.npz", audio=audio.astype(np.int16), offsets=np.cumsum([0, *lengths]), label=[7, 8, 9, 0],
        speaker=[0, 0, 1, 1], speakers=["theo", "jackson"], take=[5, 6, 7, 0], test=[0, 0, 0, 1], rate=8000,
    )  # fmt: skip
    source = SpokenDigits(variants=2, directory=tmp_path)
    assert len(source) == 6
    assert [source[i].text for i in range(3)] == ["a man saying seven", "a man saying eight", "a man saying nine"]
    for sample in (source[i] for i in range(6)):
        assert sample.sound.shape == (12800,)
        assert sample.sound.dtype == np.float32
        assert np.abs(sample.sound).max() <= 1
        assert sample.sound_rate == 16_000
    onset = [int(np.flatnonzero(np.abs(source[i].sound) > 0.01)[0]) for i in (0, 3)]
    assert onset[0] == pytest.approx(800, abs=60)  # noise begins with a little ringing
    assert onset[0] < onset[1] < 1608
    assert "theo" in {w for i in range(3) for w in (source.text(i + 3).split())} | {source[3].meta["speaker"]}
    test = SpokenDigits("test", variants=9, rate=8000, directory=tmp_path)
    assert (len(test), test[0].text, len(test[0].sound)) == (1, "a man saying zero", 6400)
    for bad, words in (
        ({"seconds": 9}, "9 seconds"),
        ({"rate": 44_100}, "rate 44100"),
        ({"variants": 0}, "0 variants"),
    ):
        with pytest.raises(ValueError, match=words):
            SpokenDigits(directory=tmp_path, **bad)


def test_named_sounds_are_unpacked(tmp_path):
    wave = np.array([0, 5, -7, 300, -32768, 32767, 12], np.int16)
    second = np.diff(np.diff(wave, prepend=np.int16(0)), prepend=np.int16(0))  # wraps round
    zigzag = ((second.astype(np.int32) << 1) ^ (second.astype(np.int32) >> 15)).astype(np.uint16)
    np.savez(
        tmp_path / "sonicpi16k.npz", hi=(zigzag >> 8).astype(np.uint8), lo=(zigzag & 255).astype(np.uint8),
        offsets=[0, 7], name=["a"], caption=["drum kit: tom"], test=[0],
    )  # fmt: skip
    source = NamedSounds(seconds=0.1, variants=3, directory=tmp_path)
    heard = source[0].sound
    np.testing.assert_allclose(heard[:7] / np.abs(heard).max(), wave / 32768, atol=1e-6)
    assert [source.text(i) for i in range(3)] == ["drum kit: tom", "drum kit, tom", "the sound of drum kit, tom"]


# ------------------------------------------------------------------------------------------------- sprites, registry


def test_a_key_turns_and_then_walks_round():
    states = [("down", 0)]
    for key in ("left", "left", *["left"] * 7, "up", "idle", "idle"):
        states.append(after(states[-1], ACTIONS.index(key)))
    phases = [phase for _, phase in states]
    assert phases == [0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1, 0, 0]
    assert [direction for direction, _ in states[-3:]] == ["up", "up", "up"]


def test_every_source_names_tasks_that_there_are():
    for name, entry in SOURCES.items():
        assert set(entry.tasks) <= set(TASKS), name
        assert not entry.pack or entry.pack == "emoji64" or entry.pack in PACKS


def test_share_alike_can_be_kept_out(monkeypatch, tmp_path):
    assert emoji_licence(EMOJI).share_alike
    assert not emoji_licence([style for style in EMOJI if style != "openmoji"]).share_alike
    assert emoji_licence(["fluent_3d", "fluent_flat"]).attribution.count("Microsoft") == 1
    with pytest.raises(ValueError, match="digits is share-alike"):
        open_named("digits", permissive_only=True)
    monkeypatch.setattr("selfflow.data.packs.find", lambda name: tmp_path)
    monkeypatch.setattr("selfflow.data.registry.find", lambda name: tmp_path)
    found, missing = available(permissive_only=True)
    assert "pusht" in found
    assert missing.keys() == {"digits", "fruits", "sprites-clip", "sprites-edit", "sprites-view", "sprites-play"}


def test_what_is_not_here_is_said(monkeypatch):
    def lost(name):
        raise PackMissing(f"the data pack {name} is not here")

    monkeypatch.setattr("selfflow.data.registry.find", lost)
    found, missing = available()
    assert found == [name for name, entry in SOURCES.items() if not entry.pack]
    assert all("is not here" in reason for reason in missing.values())


def test_a_source_opens_by_name():
    source = open_named("tabletop-clip", size=16, frames=4, split="test", count=2)
    assert source[0].clip.shape == (4, 16, 16, 3)
    assert open_named("tabletop-still", size=16, count=2, permissive_only=True)[1].picture.shape == (16, 16, 3)
