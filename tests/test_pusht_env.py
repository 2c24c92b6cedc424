"""PushT: the board against the recordings, and the suite that plays on it."""

from types import SimpleNamespace

import numpy as np
import pytest

from evaluate_toys import config_of, need
from selfflow.evaluate.pusht_suite import drawn_starts, replayed, starts
from selfflow.evaluate.suite import run_suite

pytest.importorskip("pymunk")

from selfflow.worlds.pusht import GOALS, PushTEnv


def test_a_block_in_its_place_covers_the_goal_and_one_far_away_does_not():
    env = PushTEnv("x356")
    env.put([50, 50, *GOALS["x356"]])
    assert env.coverage() == 1
    env.put([50, 50, 356, 356, np.pi / 4 + np.pi / 2])
    assert 0 < env.coverage() < 0.5
    env.put([50, 50, 120, 120, 0])
    assert env.coverage() == 0
    np.testing.assert_allclose(env.state(), [50, 50, 120, 120, 0, 1], atol=1e-4)
    with pytest.raises(ValueError, match="unknown goal 'left'"):
        PushTEnv("left")
    with pytest.raises(ValueError, match="finite"):
        env.step([np.nan, 0])


def test_the_finger_pushes_and_what_it_leaves_stands_still():
    env = PushTEnv()
    env.put([256, 100, 256, 200, 0])
    for _ in range(10):
        env.step([256, 260])
    pushed = env.state()
    assert pushed[3] > 240
    for _ in range(10):
        env.step([100, 100])
    assert np.hypot(*(env.state()[2:4] - pushed[2:4])) < 3
    env.reset(3)
    first = env.state()
    env.reset(3)
    assert np.array_equal(env.state(), first)


def test_demonstrations_replayed_end_where_they_were_recorded_and_look_the_same():
    need("pusht64")
    from selfflow.data.pusht import PushT

    source = PushT("test", 64, frames=1)
    for name, _, begin, end in [*source.windows[:2], *source.windows[-2:]]:
        recorded = source.sets[name]
        start = next(s for s in starts(source, 99) if np.array_equal(s.actions, recorded.actions[begin:end]))
        env = PushTEnv(name)
        env.put(start.state)
        for action in start.actions[:-1]:
            env.step(action)
        last = recorded.states[end - 1]
        assert np.hypot(*(env.state()[2:4] - last[2:4])) < 0.5
        np.testing.assert_allclose(env.state()[4:], last[4:], atol=0.01)
        if name == "center":  # the first to be read from the pack: the others would take reading it all
            shown = recorded.pictures[end - 1 : end][0]
            assert np.abs(env.picture().astype(int) - shown).mean() < 2


def test_who_pushes_as_the_person_did_covers_as_much_and_who_stays_covers_nothing_more(tmp_path, monkeypatch):
    need("pusht64")
    from selfflow.data.pusht import PushT

    begins = starts(PushT("test", 16, frames=1), 2)
    assert [start.goal for start in begins] == ["center", "x356"]
    asked = []

    def person(images, texts, body, states, width, count, hz, *, generator, steps):
        assert (body, width, hz, steps) == ("pusht", 2, 10, 4)
        at = 8 * len(asked)
        asked.append(len(images))
        rows = [begins["lower" in text] for text in texts]
        return np.stack([np.concatenate([s.actions, s.actions[-1:].repeat(400, 0)])[at : at + count] for s in rows])

    def stays(images, texts, body, states, width, count, hz, **_):
        return np.repeat(states[:, None, :2], count, axis=1)

    options = {"samples": 2, "progress": False}
    model = SimpleNamespace(config=config_of(16), actions=person)
    found = run_suite(model, "pusht", tmp_path / "p.json", **options)
    people = [replayed(start) for start in begins]
    assert all(s >= p - 1e-3 for s, p in zip(found["scores"], people, strict=True))
    assert found["figures"]["coverage"]["ceiling"] == pytest.approx(np.mean(people))
    assert min(people) > 0.8
    assert found["figures"]["nearly"]["value"] == found["figures"]["nearly"]["ceiling"] == 1
    assert (tmp_path / "p.png").exists()
    monkeypatch.setattr("selfflow.evaluate.pusht_suite.MOST_STEPS", 16)
    model.actions = stays
    assert run_suite(model, "pusht", **options)["figures"]["coverage"]["value"] < 0.3


def test_a_hundred_episodes_can_be_played_though_fewer_were_recorded(monkeypatch):
    need("pusht64")
    monkeypatch.setattr("selfflow.evaluate.pusht_suite.MOST_STEPS", 8)
    monkeypatch.setattr("selfflow.evaluate.pusht_suite.replayed", lambda start: 0.9 if len(start.actions) else 1 / 0)
    model = SimpleNamespace(config=config_of(16), actions=lambda images, *_, **__: np.full((len(images), 16, 2), 256.0))
    found = run_suite(model, "pusht", samples=100, progress=False)
    assert found["figures"]["success"]["count"] == len(found["scores"]) == 100
    assert found["figures"]["success, x356"]["count"] + found["figures"]["success, center"]["count"] == 100
    assert found["figures"]["coverage"]["ceiling"] == pytest.approx(0.9)  # of the demonstrations only
    assert "56 boards drawn at random" in found["figures"]["coverage"]["note"]
    again = drawn_starts(3, 0)
    assert [s.goal for s in again] == ["center", "x356", "center"]
    assert np.array_equal(again[0].state, drawn_starts(1, 0)[0].state)
    assert not np.array_equal(again[0].state, drawn_starts(1, 1)[0].state)
