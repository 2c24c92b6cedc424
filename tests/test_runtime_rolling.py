"""Long work: worlds played on and on and sound in chunks, in memory and time that do not grow."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from selfflow.data.sample import Sample
from selfflow.runtime import Runtime
from selfflow.runtime import runtime as module
from test_runtime import pictures, toy


@pytest.fixture(scope="module")
def runtime():
    return Runtime(toy(), torch.float32)


def moves(k, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (k, 2)).astype(np.float32)


def world(runtime, **options):
    return runtime.rollout(pictures(16, 16), "a red ball", "toy", 10, **{"seed": 3, "steps": 2} | options)


def whole(pipe, clip, actions, past, moment, seed=3):
    """One moment (two frames) as a request of its own: everything before it known."""
    count = past + 2
    frames = np.zeros((count, 16, 16, 3), np.uint8)
    frames[: max(past, 1)] = clip[: max(past, 1)]
    sample = Sample("x", None, "a red ball", clip=frames, fps=10, actions=actions, control_hz=10, body="toy")
    keep = {"visual": torch.arange(16 * count // 2) < 16 * past // 2}
    generator = torch.Generator().manual_seed(seed * 1_000_003 + moment)
    (made,) = pipe.solve("imagine", [sample], keep=keep, steps=2, guidance=1.0, generator=generator)
    return made.clip[past:]


def test_the_first_window_is_the_computation_not_rolled(runtime):
    """A window of three moments of two frames: frames 1, then 2 and 3, then 4 and 5."""
    actions = moves(5)
    rolled = world(runtime)
    shown = np.concatenate([rolled.step(actions[:1]), rolled.step(actions[1:3]), rolled.step(actions[3:5])])
    forgetful = Runtime(runtime.pipe, torch.float32, memory=0)
    for pipe in (forgetful, runtime.pipe):  # bit for bit, and as the pipeline does it
        clip = [pictures(16, 16)]
        for moment, known in ((0, actions[[0, 0]]), (1, actions[[0, 1, 2, 2]]), (2, actions[[0, 1, 2, 3, 4, 4]])):
            made = whole(pipe, np.array(clip), known, 2 * moment, moment)
            clip.extend(made[1:] if moment == 0 else made)
        if pipe is forgetful:
            assert np.array_equal(shown, clip[1:])
        else:
            assert np.abs(shown.astype(int) - np.array(clip[1:])).max() <= 2
    # When the window is full, what is kept is a beginning: frame 2 is the first, and moment 3 draws its own noise.
    later = rolled.step(actions[:2])
    kept = np.concatenate([pictures(16, 16)[None], shown])[2:]
    known = np.concatenate([actions[2:5], actions[:2], actions[1:2]])
    assert np.array_equal(later, whole(forgetful, kept, known, 4, 3))


@pytest.mark.parametrize("drop", [1, 2])
def test_memory_and_work_stay_the_same_over_a_hundred_frames(runtime, drop, monkeypatch):
    rolled, spaces, read = world(runtime, drop=drop, steps=1), [], []
    of, reading = module.Space.of, runtime.engine.read
    monkeypatch.setattr(
        module.Space, "of", lambda e, rows, *a: (spaces.append(sum(map(len, rows[0]))), of(e, rows, *a))[1]
    )
    monkeypatch.setattr(runtime.engine, "read", lambda t, *a: (read.append(t.batch * len(t)), reading(t, *a))[1])
    rolled.step(moves(1))
    tokens, reads = [], []
    for i in range(60):
        spaces.clear()
        read.clear()
        assert rolled.step(moves(2, i)).shape == (2, 16, 16, 3)
        tokens.append(spaces[-1])
        reads.append(sum(read))
    assert rolled.seen == 121
    assert tokens[8:] == tokens[8 : 8 + drop] * ((60 - 8) // drop)  # the same, again and again
    assert reads[8:] == reads[8 : 8 + drop] * ((60 - 8) // drop)
    assert max(tokens) == tokens[1] == len(runtime.text(["a red ball"])) + 16 + 6 + 2 * 16  # text, first, actions, past
    if drop == 1:
        assert len(set(tokens[1:])) == 1
    assert len(rolled._frames) <= 6
    assert len(rolled._actions) <= 6
    assert rolled.memory.nbytes <= rolled.memory.capacity
    assert len(runtime.memory) == 0  # passing frames do not drive out what others remember


def test_actions_matter_and_seeds_repeat(runtime):
    def play(seed, scale=1.0):
        rolled = world(runtime, seed=seed)
        return np.concatenate([rolled.step(scale * moves(1, i)) for i in range(9)])

    one = play(0)
    assert np.array_equal(one, play(0))
    assert not np.array_equal(one, play(1))
    assert not np.array_equal(one, play(0, -1.0))
    # Seen one by one, a moment's first frame is made before its last action is known, and stays.
    assert one.shape == (9, 16, 16, 3)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda r: world(r).step(np.zeros((0, 2))), "at least one"),
        (lambda r: world(r).step(np.array([[np.nan, 0]])), "finite"),
        (lambda r: world(r, drop=3), "1 ≤ drop < window"),
        (lambda r: world(r, window=1), "1 ≤ drop < window"),
        (lambda r: r.rollout(np.zeros((4, 4)), "", "toy", 10), "first frame is uint8"),
        (lambda r: world(r, body="dog"), "body"),
        (lambda r: next(r.stream_sound("x", 0.0)), "0.0 seconds"),
    ],
)
def test_mistakes_are_named(runtime, mistake, words):
    with pytest.raises((ValueError, TypeError), match=words):
        mistake(runtime)


def test_a_mistake_loses_nothing(runtime):
    one, two = world(runtime), world(runtime)
    one.step(moves(2))
    two.step(moves(2))
    with pytest.raises(ValueError, match="7 values; those before had 2"):
        one.step(np.zeros((1, 7), np.float32))
    one.sampling["steps"] = 0
    with pytest.raises(ValueError, match="steps 0"):
        one.step(moves(1))
    one.sampling["steps"] = 2
    assert np.array_equal(one.step(moves(3, 1)), two.step(moves(3, 1)))


# -------------------------------------------------------------------------------------------------------------- sound


def test_the_first_chunk_is_the_sound_not_streamed_and_chunks_are_short(runtime):
    chunks = list(runtime.stream_sound("a red ball", 1.03, seed=4, steps=2))
    assert sum(map(len, chunks)) == round(1.03 * 16_000)
    window = runtime.speak(["a red ball"], 0.2, steps=2, generator=torch.Generator().manual_seed(4 * 1_000_003))[0]
    first = chunks[0]
    assert len(first) == 9 * 320 - 160  # of ten tokens all but the last, which nothing overlaps yet
    np.testing.assert_array_equal(first, window[: len(first)])
    assert {len(c) for c in chunks[1:-1]} == {4 * 320}  # five of ten tokens are continued, the last is made again
    assert np.array_equal(
        np.concatenate(chunks), np.concatenate(list(runtime.stream_sound("a red ball", 1.03, 4, steps=2)))
    )


def test_chunks_join_without_a_seam(runtime, monkeypatch):
    """A model that always says what truly comes next: what is streamed is then the whole, sample for sample."""
    truth = np.random.default_rng(0).normal(0, 0.1, 20_000).astype(np.float32).clip(-1, 1)
    starts = iter(range(0, 20_000, 4 * 320))

    def solve(task, samples, keep=None, **_):
        (sample,), start = samples, next(starts)
        known = 0 if keep is None else int(keep["audio"].sum())
        real = truth[start : start + len(sample.sound) + 320]
        # Tokens of the truth as it goes on behind the window, but of the window's own where it ends.
        tokens = runtime.modalities.audio.tokens(torch.from_numpy(sample.sound)[None]).data
        wanted = runtime.modalities.audio.tokens(torch.from_numpy(real)[None]).data[:, : tokens.shape[1]]
        if known:
            gap = (tokens[:, 1:known] - wanted[:, 1:known]).abs().max()
            assert gap < 1e-4  # what is taken as known is what was made, to its last token
        made = torch.cat([tokens[:, :known], wanted[:, known:]], dim=1)
        return [replace(sample, sound=runtime.modalities.audio.waveform(made, len(sample.sound))[0].numpy())]

    monkeypatch.setattr(runtime, "solve", solve)
    streamed = np.concatenate(list(runtime.stream_sound("x", 0.9)))
    gap = np.abs(streamed - truth[: len(streamed)])
    assert gap[: -2 * 320].max() < 1e-4
