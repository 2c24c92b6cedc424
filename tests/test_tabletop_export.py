"""Tabletop on disk: what is written is what is read, the same again, whole or not at all, and goes on when stopped."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selfflow.cli_tabletop import demonstration, main
from selfflow.worlds.tabletop.export.files import claim_folder, whole
from selfflow.worlds.tabletop.export.folder import read_metadata, write_folder
from selfflow.worlds.tabletop.export.lerobot import CAMERA, Episode, write_lerobot
from selfflow.worlds.tabletop.export.shards import write_shards
from selfflow.worlds.tabletop.export.video import mp4_bytes, read_mp4, read_wav, write_mp4, write_wav
from selfflow.worlds.tabletop.render import render as draw_scene
from selfflow.worlds.tabletop.robot import TabletopEnv, rollout
from selfflow.worlds.tabletop.tasks import example

RATE = 16_000


@dataclass
class Sample:
    """An example of plain arrays, with the fields that writers look at."""

    seed: int
    task: str = "still"
    text: str = "a red ball"
    picture: np.ndarray | None = None
    before: np.ndarray | None = None
    mask: np.ndarray | None = None
    references: tuple[np.ndarray, ...] | None = None
    clip: np.ndarray | None = None
    fps: int | None = None
    sound: np.ndarray | None = None
    sound_rate: int | None = None
    actions: np.ndarray | None = None
    states: np.ndarray | None = None


def picture(seed: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def clip(frames: int = 7, size: int = 32, shade: int = 0) -> np.ndarray:
    """Frame i is of one grey of its own, so that frames cannot be confused."""
    greys = (20 + shade + 10 * np.arange(frames)).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (frames, size, size, 3)).copy()


def clicks(seconds: float, times: tuple[float, ...]) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    sound = np.zeros_like(t)
    for at in times:
        late = t - at
        sound += np.where(late >= 0, 0.4 * np.exp(-80 * late) * np.sin(2 * np.pi * 900 * late), 0)
    return sound.astype(np.float32)


def still(i: int) -> Sample:
    return Sample(seed=i, text=f"number {i} “übung”", picture=picture(i))


def edit(i: int) -> Sample:
    mask = np.zeros((32, 32), bool)
    mask[4:9] = True
    return Sample(i, "edit", "remove the ball", picture(i), picture(i + 100), mask)


def film(i: int) -> Sample:
    return Sample(i, "clip", "a ball drops", clip=clip(), fps=20, sound=clicks(0.35, (0.1,)), sound_rate=RATE)


def digests(directory: Path) -> dict[str, str]:
    files = sorted(p for p in directory.rglob("*") if p.is_file())
    return {str(p.relative_to(directory)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


# ------------------------------------------------------------------------------------------------------ whole files


def half_written(path: Path) -> None:
    with whole(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyboardInterrupt


def test_a_file_that_is_not_finished_never_has_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(KeyboardInterrupt):
        half_written(path)
    assert list(tmp_path.iterdir()) == []
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        half_written(path)
    assert path.read_bytes() == b"old"


def test_a_folder_takes_only_what_it_was_begun_with(tmp_path: Path) -> None:
    claim_folder(tmp_path, {"task": "edit", "seed": 1})
    claim_folder(tmp_path, {"task": "edit", "seed": 1})
    with pytest.raises(ValueError, match="seed 1, not 2"):
        claim_folder(tmp_path, {"task": "edit", "seed": 2})


# ------------------------------------------------------------------------------------------------------ video and wav


def test_mp4_gives_back_every_frame_in_order_and_sound_in_time(tmp_path: Path) -> None:
    frames, sound = clip(16), clicks(0.8, (0.2, 0.5))
    path = write_mp4(tmp_path / "a.mp4", frames, 20, sound)
    seen, fps, heard, rate = read_mp4(path)
    assert seen.shape == frames.shape
    assert (fps, rate) == (20, RATE)
    assert np.abs(seen.astype(int) - frames).max() <= 3  # frames are 10 apart
    assert heard is not None
    assert len(sound) <= len(heard) <= len(sound) + 1024
    lags = np.correlate(heard[: len(sound)], sound, "full")
    assert lags.argmax() == len(sound) - 1  # not a sample early or late
    assert np.abs(heard[: len(sound)] - sound).max() < 0.05


@pytest.mark.parametrize("frames", [1, 2, 5, 40])
def test_mp4_keeps_the_exact_number_of_frames_without_sound(tmp_path: Path, frames: int) -> None:
    seen, fps, sound, rate = read_mp4(write_mp4(tmp_path / "a.mp4", clip(frames, shade=-20) // 2, 10))
    assert (len(seen), fps, sound, rate) == (frames, 10, None, None)


def test_full_colour_keeps_a_pixel_that_half_colour_smears() -> None:
    frames = np.full((2, 33, 33, 3), 230, np.uint8)
    frames[:, 15, 15] = (220, 0, 0)
    seen = read_mp4(io.BytesIO(mp4_bytes(frames, 10, pixels="yuv444p")))[0]
    assert np.abs(seen.astype(int) - frames).max() < 25


def test_mp4_is_the_same_bytes_again() -> None:
    assert mp4_bytes(clip(), 20, clicks(0.35, (0.1,))) == mp4_bytes(clip(), 20, clicks(0.35, (0.1,)))


def test_wav_gives_back_the_samples(tmp_path: Path) -> None:
    sound = np.linspace(-1, 1, 999, dtype=np.float32)
    heard, rate = read_wav(write_wav(tmp_path / "a.wav", sound, 8000))
    assert rate == 8000
    assert np.abs(heard - sound).max() <= 0.5 / 32767 + 1e-7


@pytest.mark.parametrize(
    ("frames", "fps", "sound", "complaint"),
    [
        (np.zeros((0, 32, 32, 3), np.uint8), 20, None, "at least one frame"),
        (np.zeros((4, 32, 32, 3), np.float32), 20, None, "uint8"),
        (np.zeros((4, 32, 32), np.uint8), 20, None, r"\(4, 32, 32\)"),
        (np.zeros((4, 33, 32, 3), np.uint8), 20, None, "even sides"),
        (clip(), 0, None, "0 frames a second"),
        (clip(), 20, np.zeros(0, np.float32), "at least one sample"),
        (clip(), 20, np.array([0.0, np.nan]), "nan"),
        (clip(), 20, np.array([0.0, 1.5]), "1.5"),
        (clip(), 20, np.zeros((2, 5), np.float32), r"\(2, 5\)"),
    ],
)
def test_bad_clips_and_sounds_are_refused_and_leave_no_file(tmp_path, frames, fps, sound, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        write_mp4(tmp_path / "a.mp4", frames, fps, sound)
    assert list(tmp_path.iterdir()) == []


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.avi does not end in \.mp4"):
        write_mp4(tmp_path / "a.avi", clip(), 20)
    with pytest.raises(ValueError, match=r"a\.mp3 does not end in \.wav"):
        write_wav(tmp_path / "a.mp3", clicks(0.1, ()))


# ------------------------------------------------------------------------------------------------------ image folder


def test_a_folder_holds_the_pictures_and_their_words(tmp_path: Path) -> None:
    rows = read_metadata(write_folder(tmp_path, edit, 3, progress=False))
    assert [row["seed"] for row in rows] == [0, 1, 2]
    row = rows[1]
    for key, expected in (("file_name", picture(1)), ("before_file_name", picture(101))):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "train" / row[key])), expected)
    mask = np.asarray(Image.open(tmp_path / "train" / row["mask_file_name"]))
    assert (mask[4:9] == 255).all()
    assert mask.sum() == 255 * 5 * 32


def stopping(example, after: int):
    """The examples, but a power cut at one of them."""

    def inner(i: int):
        if i == after:
            raise KeyboardInterrupt
        return example(i)

    return inner


def test_a_stopped_folder_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    whole_run, cut = tmp_path / "whole", tmp_path / "cut"
    write_folder(whole_run, still, 5, progress=False)
    with pytest.raises(KeyboardInterrupt):
        write_folder(cut, stopping(still, 3), 5, progress=False)
    assert not (cut / "train" / "metadata.jsonl").exists()
    with (cut / "train" / ".metadata.jsonl.part").open("ab") as file:
        file.write(b'{"half a li')
    seen: list[int] = []
    write_folder(cut, lambda i: (seen.append(i), still(i))[1], 5, progress=False)
    assert seen == [3, 4]
    assert digests(cut) == digests(whole_run)


def test_hugging_face_reads_an_edit_folder_and_references(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")

    def both(i: int) -> Sample:
        sample = edit(i)
        sample.references = tuple(picture(200 + k) for k in range(2))
        return sample

    write_folder(tmp_path / "data", both, 2, progress=False)
    found = datasets.load_dataset(str(tmp_path / "data"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found.num_rows == 2
    row = found[1]
    assert np.array_equal(np.asarray(row["image"]), picture(1))
    assert np.array_equal(np.asarray(row["before"]), picture(101))
    assert row["text"] == "remove the ball"
    assert [np.array_equal(np.asarray(p), picture(200 + k)) for k, p in enumerate(row["references"])] == [True, True]


# ------------------------------------------------------------------------------------------------------ shards


def test_shards_hold_every_member_and_are_the_same_bytes_again(tmp_path: Path) -> None:
    def both(i: int) -> Sample:
        return film(i) if i % 2 else edit(i)

    paths = write_shards(tmp_path / "a", both, 5, per_shard=2, progress=False)
    assert [p.name for p in paths] == ["train-000000.tar", "train-000001.tar", "train-000002.tar"]
    with tarfile.open(paths[0]) as tar:
        names = tar.getnames()
        assert names == [f"000000.{s}" for s in ("json", "png", "before.png", "mask.png")] + [
            f"000001.{s}" for s in ("json", "mp4", "wav")
        ]
        facts = json.load(tar.extractfile("000001.json"))
        assert facts == {"text": "a ball drops", "task": "clip", "seed": 1, "fps": 20, "sound_rate": RATE}
        seen, _, heard, _ = read_mp4(io.BytesIO(tar.extractfile("000001.mp4").read()))
        assert len(seen) == 7
        assert heard is not None
        assert np.array_equal(np.asarray(Image.open(tar.extractfile("000000.png"))), picture(0))
        samples = read_wav(io.BytesIO(tar.extractfile("000001.wav").read()))[0]
        assert np.abs(samples - film(1).sound).max() < 1e-4
    write_shards(tmp_path / "b", both, 5, per_shard=2, progress=False)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_stopped_shards_go_on_and_no_half_shard_stays(tmp_path: Path) -> None:
    write_shards(tmp_path / "whole", still, 5, per_shard=2, progress=False)
    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "cut", stopping(still, 3), 5, per_shard=2, progress=False)
    assert [p.name for p in (tmp_path / "cut").rglob("*.tar*")] == ["train-000000.tar"]
    seen: list[int] = []
    write_shards(tmp_path / "cut", lambda i: (seen.append(i), still(i))[1], 5, per_shard=2, progress=False)
    assert seen == [2, 3, 4]
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_no_examples_are_refused(tmp_path: Path) -> None:
    for write in (write_folder, write_shards):
        with pytest.raises(ValueError, match="choose 1 or more"):
            write(tmp_path, still, 0)
    with pytest.raises(ValueError, match="choose 1 or more"):
        write_lerobot(tmp_path, episode, 0, 10)


# ------------------------------------------------------------------------------------------------------ LeRobot v3.0

LENGTHS = (5, 3, 4, 6)
TEXTS = ("stack them", "put it in", "stack them", "push it")


def episode(i: int) -> Episode:
    rng = np.random.default_rng(i)
    k = LENGTHS[i]
    return Episode(TEXTS[i], clip(k, shade=30 * i), rng.normal(size=(k, 3)), rng.normal(size=(k, 2)))


def test_lerobot_files_follow_v3_and_statistics_are_right(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    write_lerobot(tmp_path, episode, 4, 10, per_file=2, progress=False)
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (4, 18, 3)
    assert info["features"]["action"] == {"dtype": "float32", "shape": [2], "names": None}
    assert info["features"][CAMERA]["shape"] == [32, 32, 3]

    data = [pq.read_table(tmp_path / info["data_path"].format(chunk_index=0, file_index=k)) for k in range(2)]
    columns = set(data[0].column_names)
    assert columns == set(info["features"]) - {CAMERA}
    rows = [row for table in data for row in table.to_pylist()]
    assert [row["index"] for row in rows] == list(range(18))
    assert [row["episode_index"] for row in rows] == np.repeat(range(4), LENGTHS).tolist()
    assert [row["task_index"] for row in rows] == np.repeat([0, 1, 0, 2], LENGTHS).tolist()
    assert [row["frame_index"] for row in rows] == [f for k in LENGTHS for f in range(k)]
    assert np.allclose([row["timestamp"] for row in rows], [f / 10 for k in LENGTHS for f in range(k)])
    actions = np.concatenate([episode(i).actions for i in range(4)])
    assert np.allclose([row["action"] for row in rows], actions, atol=1e-6)

    stats = json.loads((tmp_path / "meta/stats.json").read_text())
    kept = actions.astype(np.float32)
    assert np.allclose(stats["action"]["mean"], kept.mean(0))
    assert np.allclose(stats["action"]["std"], kept.std(0))
    assert np.allclose(stats["action"]["min"], kept.min(0))
    assert stats["action"]["count"] == [18]
    frames = np.concatenate([episode(i).clip for i in range(4)]) / 255
    assert np.shape(stats[CAMERA]["mean"]) == (3, 1, 1)
    assert np.allclose(np.ravel(stats[CAMERA]["mean"]), frames.mean((0, 1, 2)))
    assert np.allclose(np.ravel(stats[CAMERA]["std"]), frames.std((0, 1, 2)))


def test_every_row_of_a_lerobot_episode_finds_its_frame(tmp_path: Path) -> None:
    """As LeRobot reads: the episode says file and start, the row its timestamp."""
    pq = pytest.importorskip("pyarrow.parquet")
    write_lerobot(tmp_path, episode, 4, 10, per_file=2, progress=False)
    info = json.loads((tmp_path / "meta/info.json").read_text())
    episodes = [
        r for p in sorted((tmp_path / "meta/episodes").glob("*/*.parquet")) for r in pq.read_table(p).to_pylist()
    ]
    assert [e["tasks"] for e in episodes] == [[text] for text in TEXTS]
    for i, e in enumerate(episodes):
        place = {key: e[f"videos/{CAMERA}/{key}"] for key in ("chunk_index", "file_index")}
        film_frames = read_mp4(tmp_path / info["video_path"].format(video_key=CAMERA, **place))[0]
        start, end = (round(e[f"videos/{CAMERA}/{k}_timestamp"] * info["fps"]) for k in ("from", "to"))
        shown = film_frames[start:end]
        assert len(shown) == e["length"] == e["dataset_to_index"] - e["dataset_from_index"]
        assert np.abs(shown.astype(int) - episode(i).clip).max() <= 3


def test_pandas_finds_the_tasks_by_their_words(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    write_lerobot(tmp_path, episode, 4, 10, progress=False)
    tasks = pandas.read_parquet(tmp_path / "meta/tasks.parquet")
    assert tasks.index.name == "task"
    assert tasks.loc["put it in"].task_index == 1


def test_a_stopped_lerobot_set_goes_on_and_ends_the_same(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    write_lerobot(tmp_path / "whole", episode, 4, 10, per_file=2, progress=False)
    with pytest.raises(KeyboardInterrupt):
        write_lerobot(tmp_path / "cut", stopping(episode, 3), 4, 10, per_file=2, progress=False)
    assert not (tmp_path / "cut/meta/info.json").exists()
    seen: list[int] = []
    write_lerobot(tmp_path / "cut", lambda i: (seen.append(i), episode(i))[1], 4, 10, per_file=2, progress=False)
    assert seen == [2, 3]
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_pictures_of_a_lerobot_set_are_not_held_together(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    drawn: list[weakref.ref[np.ndarray]] = []

    def noted(i: int) -> Episode:
        assert sum(clip() is not None for clip in drawn) <= 2  # the first, which says the size, and the last
        found = episode(i)
        drawn.append(weakref.ref(found.clip))
        return found

    write_lerobot(tmp_path, noted, 4, 10, progress=False)
    assert len(drawn) == 4


def test_what_cannot_be_filmed_is_refused_before_the_folder_is_claimed(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    drawn: list[int] = []

    def odd(i: int) -> Episode:
        drawn.append(i)
        return Episode("go", clip(4, 33), np.zeros((4, 3)), np.zeros((4, 2)))

    with pytest.raises(ValueError, match="33 by 33 pixels; mp4 in yuv420p needs even sides"):
        write_lerobot(tmp_path / "demos", odd, 200, 10, progress=False)
    assert drawn == [0]
    assert not (tmp_path / "demos").exists()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"states": np.zeros((4, 3))}, r"states of an episode of 5 frames"),
        ({"actions": np.full((5, 2), np.nan)}, "NaN"),
        ({"text": ""}, "needs an instruction"),
        ({"clip": np.zeros((5, 32, 32, 3))}, "uint8"),
    ],
)
def test_bad_episodes_are_refused(changes: dict, complaint: str) -> None:
    good = {"text": "go", "clip": clip(5), "states": np.zeros((5, 3)), "actions": np.zeros((5, 2))}
    with pytest.raises(ValueError, match=complaint):
        Episode(**(good | changes))


def test_episodes_of_several_shapes_are_refused(tmp_path: Path) -> None:
    def odd(i: int) -> Episode:
        return Episode("go", clip(4, 32 + 2 * i), np.zeros((4, 3)), np.zeros((4, 2)))

    with pytest.raises(ValueError, match="several shapes"):
        write_lerobot(tmp_path, odd, 2, 10, progress=False)


# ------------------------------------------------------------------------------------------------------ command line


def test_writers_load_neither_torch_nor_what_they_may_not_need() -> None:
    code = "import selfflow.worlds.tabletop.export, selfflow.cli_tabletop, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "av", "pyarrow", "pymunk", "gymnasium", "soundfile"} & set(loaded)


def run(*arguments: object) -> None:
    main([*map(str, arguments), "--quiet"] if arguments[0] == "render" else [*map(str, arguments)])


@pytest.mark.parametrize(
    ("task", "form", "files"),
    [
        ("still", "png", ["still-000005.png", "still-000006.png"]),
        (
            "edit",
            "folder",
            ["train/000000.png", "train/before/000001.png", "train/mask/000001.png"],
        ),
        ("reference", "folder", ["train/metadata.jsonl", "train/references/000000-0.png"]),
        ("clip", "mp4", ["clip-000005.mp4", "clip-000006.mp4"]),
        ("clip", "wav", ["clip-000005.wav"]),
        ("clip", "shards", ["train/train-000000.tar"]),
        (
            "put-in",
            "lerobot",
            ["meta/info.json", "meta/tasks.parquet", "data/chunk-000/file-000.parquet"],
        ),
    ],
)
def test_render_writes_what_it_says_and_the_same_again(tmp_path: Path, task, form, files, capsys) -> None:
    for name in ("a", "b", "b"):  # twice into b: nothing is left to do
        run("render", task, "--out", tmp_path / name, "--count", 2, "--seed", 5, "--size", 32, "--format", form)
    assert f"2 of {task}, as {form}" in capsys.readouterr().out
    written = digests(tmp_path / "a")
    assert set(files) <= set(written)
    assert written == digests(tmp_path / "b")
    assert not [name for name in written if name.endswith((".tmp", ".part"))]


def test_a_rendered_clip_has_its_frames_its_sound_and_its_caption(tmp_path: Path) -> None:
    case = example("clip", 5)
    for form in ("mp4", "wav", "png"):
        run("render", "clip", "--out", tmp_path, "--count", 1, "--seed", 5, "--format", form)
    seen, fps, heard, rate = read_mp4(tmp_path / "clip-000005.mp4")
    assert (seen.shape, fps, rate) == ((16, 64, 64, 3), 20, RATE)
    assert np.abs(seen.astype(int) - case.clip).mean() < 5
    samples, _ = read_wav(tmp_path / "clip-000005.wav")
    assert np.abs(samples - case.sound).max() < 1e-4
    assert len(heard) - len(samples) in range(1025)
    with Image.open(tmp_path / "clip-000005.png") as strip:
        assert strip.size == (16 * 64, 64)
        assert strip.text["prompt"] == case.text


def test_demonstrations_end_where_the_task_is_done() -> None:
    played = rollout("put-in", 5)
    shown = demonstration("put-in", 5, 32, "train", 0)
    assert played.success
    assert shown.text == played.instruction
    assert len(shown.clip) == len(shown.actions) == len(played.motion.actions)
    assert np.array_equal(shown.clip[3], draw_scene(played.motion.frames[6], 32))
    env = TabletopEnv("put-in", 32)
    seen, _ = env.reset(seed=5)
    for state, action, frame in zip(shown.states, shown.actions, shown.clip, strict=True):
        assert np.allclose(seen["proprioception"], state, atol=1e-6)
        assert np.array_equal(seen["image"], frame)
        seen, _, done, _, _ = env.step(action)
    assert done


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["still", "--count", "0"], "--count is 0"),
        (["still", "--seed", "-1"], "--seed is -1"),
        (["still", "--size", "4"], "4"),
        (["still", "--size", "5000"], "5000"),
        (["still", "--format", "lerobot"], "a robot's tasks, not 'still'"),
        (["stack", "--format", "png"], "stack by itself is written as lerobot, not png"),
        (["edit", "--format", "mp4"], "edit has no clip"),
        (["still", "--format", "wav"], "still has no sound"),
    ],
)
def test_what_cannot_be_rendered_is_refused_in_one_line(tmp_path: Path, arguments, complaint) -> None:
    with pytest.raises(ValueError, match=complaint):
        run("render", *arguments, "--out", tmp_path / "out")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_unknown_commands_are_refused_by_name(capsys) -> None:
    with pytest.raises(ValueError, match="unknown command 'paint' of tabletop; choose one of render, play, gallery"):
        main(["paint"])
    main([])
    assert "selfflow tabletop COMMAND" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------ the page


def test_the_page_runs_as_printed(capsys) -> None:
    page = (Path(__file__).parents[1] / "docs" / "tabletop.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "docs/tabletop.md", "exec"), {})
    shape, value, faults = capsys.readouterr().out.splitlines()[:3]
    assert "(64, 64, 3)" in shape
    assert value == "1.0"
    assert faults.startswith("(")


def test_every_picture_of_the_page_is_there() -> None:
    docs = Path(__file__).parents[1] / "docs"
    for page in (docs / "tabletop.md", docs / "tabletop" / "README.md"):
        targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
        assert len(targets) > 5
        assert [t for t in targets if not (page.parent / t).exists()] == []
    assert sum(p.stat().st_size for p in (docs / "tabletop").iterdir()) < 2e6
