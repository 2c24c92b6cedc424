"""Data sets in LeRobot's format: what was recorded is what is learned from, and what is wrong with one is told."""

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfflow.card import model_card
from selfflow.config import DataConfig
from selfflow.data.lerobot import LeRobot, held_out
from selfflow.data.opening import open_mixture
from selfflow.data.sample import DecodeError
from selfflow.modalities.action import Quantiles
from selfflow.model_directory import load_quantiles
from selfflow.pipeline import Pipeline
from selfflow.train.checkpoint import write_json
from selfflow.train.run import fit_quantiles, train
from selfflow.worlds.tabletop.export.lerobot import Episode, write_lerobot
from selfflow.worlds.tabletop.export.video import write_mp4
from test_train_mixture import tiny

ROOT = Path(__file__).resolve().parents[1]
pa = pytest.importorskip("pyarrow", reason="needs the extra `data`")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("av", reason="needs the extra `video`")


def grey(episode, frame):
    """Frame by frame and episode by episode another; the compression is off by 3 at most."""
    return 20 + 20 * (episode % 4) + 5 * frame


def film(episode, length):
    """A grey square of 32 pixels between two black margins that no sample shows."""
    clip = np.zeros((length, 32, 64, 3), np.uint8)
    clip[:, :, 12:52] = np.array([grey(episode, k) for k in range(length)], np.uint8)[:, None, None, None]
    return clip


def steps(episode, length, width):
    """What is recorded at each frame: values that occur nowhere else."""
    return (1000 * episode + 10 * np.arange(length)[:, None] + np.arange(width)).astype(np.float32)


def demonstration(episode):
    length = 18 + episode
    return Episode(
        f"push {'left' if episode % 2 else 'right'}", film(episode, length), -steps(episode, length, 5),
        steps(episode, length, 3),
    )  # fmt: skip


@pytest.fixture(scope="module")
def newest(tmp_path_factory):
    """Eight episodes in three files, as the package writes them: v3.0."""
    directory = tmp_path_factory.mktemp("sets") / "cups"
    return write_lerobot(directory, demonstration, 8, 10, robot="arm5", per_file=3, progress=False)


def pictures_of(sample):
    """The grey of each frame; the whole frame has it."""
    assert sample.clip.dtype == np.uint8
    assert np.ptp(sample.clip.astype(int), axis=(1, 2, 3)).max() <= 6
    return sample.clip.mean(axis=(1, 2, 3))


def check(source, make=demonstration, stride=1):
    """Every window of a source is of one episode, and as it was recorded."""
    seen = set()
    for index in range(len(source)):
        sample = source[index]
        number, start, length = (sample.meta[key] for key in ("episode", "start", "steps"))
        one, rows = make(number), np.minimum(start + stride * np.arange(source.frames), length - 1)
        assert length == len(one.clip)
        assert held_out(number) == (source.split == "test")
        assert sample.text == source.text(index) == one.text
        np.testing.assert_array_equal(sample.actions, one.actions[rows])  # the last is repeated
        np.testing.assert_array_equal(sample.states, one.states[rows])
        assert np.abs(pictures_of(sample) - [grey(number, k) for k in rows]).max() <= 3
        assert sample.fps == sample.control_hz == source.hz
        seen.add((number, start))
    assert len(seen) == len(source)
    return {number for number, _ in seen}


def test_what_the_package_writes_is_read_as_it_was_recorded(newest):
    found = [check(LeRobot(newest, split, size=32, frames=5)) for split in ("train", "test")]
    assert found == [{0, 1, 2, 3, 4, 5, 7}, {6}]
    source = LeRobot(newest, size=32)
    assert (source.name, source.body, source.hz) == ("lerobot/cups", "arm5", 10)
    assert source.widths == {"action": 3, "observation.state": 5}
    assert sorted(source.captions()) == ["push left", "push right"]


def test_instructions_may_be_an_index_without_a_name(newest, tmp_path):
    shutil.copytree(newest, tmp_path / "cups")
    table = pq.read_table(newest / "meta/tasks.parquet")
    pq.write_table(table.rename_columns(["task_index", "__index_level_0__"]), tmp_path / "cups/meta/tasks.parquet")
    assert LeRobot(tmp_path / "cups").tasks == LeRobot(newest).tasks == {0: "push right", 1: "push left"}


def test_pictures_are_decoded_once_and_kept_for_later_runs(newest, tmp_path, monkeypatch):
    first = LeRobot(newest, size=16, frames=4, memory=0, cache=tmp_path)[40]
    monkeypatch.setattr("selfflow.data.lerobot._from_video", lambda *_: pytest.fail("it was kept"))
    np.testing.assert_array_equal(LeRobot(newest, size=16, frames=4, memory=0, cache=tmp_path)[40].clip, first.clip)


def older(directory, images=False):
    """A v2.1 by hand: three episodes, 30 a second, two cameras, whose pictures are films or in the data files."""
    top, wrist = "observation.images.top", "observation.images.wrist"
    kind = "image" if images else "video"
    features = {key: {"dtype": kind, "shape": [32, 64, 3]} for key in (top, wrist)}
    features |= {"observation.state": {"dtype": "float32", "shape": [1]}, "action": {"dtype": "float32", "shape": [7]}}
    info = {
        "codebase_version": "v2.1", "robot_type": None, "fps": 30, "chunks_size": 2, "features": features,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": None if images else
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }  # fmt: skip
    write_json(directory / "meta" / "info.json", info)
    (directory / "meta" / "tasks.jsonl").write_text(
        '{"task_index": 0, "task": "lift"}\n{"task_index": 1, "task": "drop"}\n'
    )
    rows = [{"episode_index": e, "tasks": ["lift", "drop"], "length": 20 + e} for e in range(3)]
    (directory / "meta" / "episodes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for e in range(3):
        length, one = 20 + e, film(e, 20 + e)
        columns = {
            "action": list(steps(e, length, 7)),
            "observation.state": -steps(e, length, 1)[:, 0],  # one value is written as a number, not as a list
            "frame_index": np.arange(length),
            "episode_index": np.full(length, e),
            "task_index": (np.arange(length) >= 10).astype(int),
        }
        place = f"chunk-{e // 2:03d}"
        for key, clip in ((top, one), (wrist, 255 - one)):
            if images:
                columns[key] = [{"bytes": png(picture), "path": None} for picture in clip]
            else:
                path = directory / "videos" / place / key / f"episode_{e:06d}.mp4"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_mp4(path, clip, 30, keyframes=250)  # as most films: the only keyframe is the first
        (directory / "data" / place).mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), directory / "data" / place / f"episode_{e:06d}.parquet")
    return directory


def png(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("images", [False, True])
def test_an_older_data_set_is_thinned_and_seen_by_one_camera(tmp_path, images):
    source = LeRobot(older(tmp_path / "old", images), size=32, frames=4, cameras=("none", "top"), hz=10)
    assert len(source) == 20 + 21 + 22
    assert (source.body, source.hz) == ("lerobot/old", 10.0)  # no robot_type: a name of its own
    for index in (0, 9, 10, 19, 20, 39, 41, 62):  # also beyond the ends, of every episode
        sample = source[index]
        number, start, length = (sample.meta[key] for key in ("episode", "start", "steps"))
        rows = np.minimum(start + 3 * np.arange(4), length - 1)
        assert number == (index >= 20) + (index >= 41)
        assert sample.text == ("drop" if start >= 10 else "lift")
        np.testing.assert_array_equal(sample.actions, steps(number, length, 7)[rows])
        np.testing.assert_array_equal(sample.states, -steps(number, length, 1)[rows])
        assert np.abs(pictures_of(sample) - [grey(number, k) for k in rows]).max() <= 3
    wrist = LeRobot(tmp_path / "old", size=32, frames=1, cameras=("observation.images.wrist",))[0]
    assert np.abs(pictures_of(wrist) - (255 - grey(0, 0))).max() <= 3


def change(path, **changes):
    write_json(path, json.loads(path.read_text()) | changes)


def longer(path):
    path.write_text(path.read_text().replace('"length": 20', '"length": 29'))


def unfinite(path):
    table = pq.read_table(path)
    rows = [[float("nan")] * 7] * len(table)
    pq.write_table(table.set_column(table.column_names.index("action"), "action", pa.array(rows)), path)


def without(path, column):
    pq.write_table(pq.read_table(path).drop_columns([column]), path)


@pytest.mark.parametrize(
    ("damage", "options", "message"),
    [
        (lambda d: shutil.rmtree(d / "meta"), {}, r"info\.json is missing; give the directory of a LeRobot data set"),
        (lambda d: change(d / "meta/info.json", codebase_version="v1.6"), {}, r"v1\.6; v2\.0, v2\.1 and v3\.0 are"),
        (lambda d: (d / "meta/info.json").write_text("{"), {}, r"info\.json is not JSON"),
        (lambda d: change(d / "meta/info.json", features={}), {}, "lacks features"),
        (lambda d: (d / "meta/tasks.jsonl").write_text('{"task": "lift"}'), {}, r"tasks\.jsonl .* without task_index"),
        (lambda d: (d / "meta/episodes.jsonl").unlink(), {}, r"episodes\.jsonl is missing"),
        (lambda d: (d / "data/chunk-001/episode_000002.parquet").unlink(), {}, r"episode_000002\.parquet is missing"),
        (lambda d: shutil.rmtree(d / "videos/chunk-000"), {}, r"top/episode_000000\.mp4 is missing"),
        (lambda d: None, {"cameras": ()}, "several cameras, and one is shown; choose .* one of top, wrist"),
        (lambda d: None, {"cameras": ("front",)}, "none of front; choose .* one of top, wrist"),
        (lambda d: None, {"hz": 20}, "fps is 30, which cannot be thinned to 20"),
        (lambda d: None, {"hz": 60}, "fps is 30, which cannot be thinned to 60"),
        (lambda d: None, {"split": "test"}, "no episode of the split 'test': of its 3"),
        (lambda d: longer(d / "meta/episodes.jsonl"), {}, "has 20 rows of episode 0; by meta it has 29"),
        (lambda d: unfinite(d / "data/chunk-000/episode_000000.parquet"), {}, "action of episode 0 has NaN"),
        (lambda d: without(d / "data/chunk-000/episode_000000.parquet", "action"), {}, "lacks the columns action; it"),
        (lambda d: (d / "data/chunk-000/episode_000000.parquet").write_bytes(b"x"), {}, "000000.parquet cannot be"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_data_set_is_one_clear_error(tmp_path, damage, options, message):
    damage(older(tmp_path / "old"))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        _ = LeRobot(tmp_path / "old", **({"cameras": ("top",)} | options))[0]


def test_a_broken_video_is_a_broken_record_and_the_others_stay(tmp_path):
    films = older(tmp_path / "old") / "videos/chunk-000/observation.images.top"
    (films / "episode_000000.mp4").write_bytes(b"nothing")
    write_mp4(films / "episode_000001.mp4", film(1, 12), 30)  # of 21 frames that meta tells of
    source = LeRobot(tmp_path / "old", frames=4, cameras=("top",))
    with pytest.raises(DecodeError, match=r"episode_000000\.mp4 is no video that can be decoded"):
        _ = source[0]
    with pytest.raises(DecodeError, match=r"000001\.mp4 shows nothing at 0\.400 s, where frame 12 of episode 1"):
        _ = source[20]
    assert source[41].clip.shape == (4, 64, 64, 3)


# ------------------------------------------------------------------------------------------------ from the command line


def own(newest, *tasks, **data):
    return tiny(1, tuple(f"lerobot/cups:{task}" for task in tasks), lerobot=(str(newest),), **data)


def test_a_policy_is_trained_on_ones_own_robot_and_acts(newest, tmp_path):
    config = own(newest, "act", "imagine", "plan", "inverse")
    config = replace(config, train=replace(config.train, balance=False))
    train(config, tmp_path, progress=False)
    pipe = Pipeline.from_pretrained(tmp_path)
    seen, felt = film(0, 1)[:, :, 16:48], demonstration(0).states[:1]
    assert pipe.actions(seen, ["push right"], "arm5", felt, 3, 6, 10, steps=2).shape == (1, 6, 3)
    page = (ROOT / "docs" / "robots.md").read_text()  # whose code runs as printed, but for this robot
    for printed, here in (("out/cups", tmp_path), ("path/to/cups", newest), ("so100", "arm5"), ("width=6", "width=3")):
        page = page.replace(str(printed), str(here))
    names = {"look": lambda: (film(0, 1)[0], demonstration(0).states[0]), "moved": []}
    names["move"] = names["moved"].append
    for block in re.findall(r"```python\n(.*?)```", page.replace("while True", "for _ in range(1)"), re.S):
        exec(compile(block, "docs/robots.md", "exec"), names)
    assert np.shape(names["moved"]) == (8, 3)
    assert names["made"].shape == names["true"].shape == (1, 16, 3)
    card = (tmp_path / "README.md").read_text()
    assert "`lerobot/cups`: see its own licence." in card
    assert "hand at the switch" in card
    assert "no third-party material" not in card


def test_a_model_that_is_gone_on_with_learns_the_new_body_and_keeps_the_old(newest, tmp_path):
    known = Quantiles.fit({"pusht": {"actions": np.arange(8.0).reshape(4, 2)}})
    write_json(tmp_path / "bodies.json", known.to_dict())
    sources = [LeRobot(newest, size=16, frames=4)]
    fit_quantiles(sources, tmp_path, count=20)
    found = load_quantiles(tmp_path).bodies
    assert found["pusht"] == known.bodies["pusht"]
    assert [len(found["arm5"][what].low) for what in ("actions", "states")] == [3, 5]
    kept = (tmp_path / "bodies.json").read_text()
    fit_quantiles(sources, tmp_path, count=3)  # resumed: what was fitted stays
    assert (tmp_path / "bodies.json").read_text() == kept


def test_data_sets_that_a_mixture_cannot_take_are_refused(newest, tmp_path):
    data = DataConfig(lerobot=(str(newest),), mixture=("lerobot/cups:act:2",))
    ((source, part),) = open_mixture(data, 32, "train")
    assert (source.name, part.task, source.frames) == ("lerobot/cups", "act", 16)
    with pytest.raises(ValueError, match=r"takes lerobot/cups; add a part, such as lerobot/cups:act"):
        open_mixture(replace(data, mixture=("tabletop-still:picture",)), 32, "train")
    with pytest.raises(ValueError, match=r"data\.hz 10 are of the data sets in data\.lerobot, which names none"):
        DataConfig(hz=10)
    with pytest.raises(ValueError, match="unknown source 'lerobot/plates'"):
        open_mixture(replace(data, mixture=("lerobot/plates:act", "lerobot/cups:act")), 32, "train")
    with pytest.raises(ValueError, match="lerobot/cups cannot teach sound; it teaches clip"):
        open_mixture(replace(data, mixture=("lerobot/cups:sound",)), 32, "train")
    with pytest.raises(ValueError, match="a name is taken once"):
        open_mixture(replace(data, lerobot=(str(newest), f"{newest}/../cups")), 32, "train")
    older(tmp_path / "old")
    change(tmp_path / "old/meta/info.json", robot_type="arm5")
    both = ("lerobot/cups:act", "lerobot/old:act")
    with pytest.raises(ValueError, match="both of robot_type 'arm5'"):
        open_mixture(
            replace(data, lerobot=(*data.lerobot, str(tmp_path / "old")), mixture=both, cameras=("top", "front")),
            32,
            "train",
        )
    config = own(newest, "act")
    with pytest.raises(ValueError, match=r"observation\.state has 5 values, .* holds 4; give --config.control.width 5"):
        train(replace(config, control=replace(config.control, width=4)), tmp_path / "run", progress=False)


def test_a_model_of_tables_alone_says_that_its_robot_is_drawn():
    assert "drawing of one" in model_card(tiny(), 1)
