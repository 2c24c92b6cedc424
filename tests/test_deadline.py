"""A run as long as the time allows."""

from types import SimpleNamespace

import pytest

from selfflow.train import deadline
from selfflow.train.deadline import Deadline
from selfflow.train.optimizer import Optim
from selfflow.train.run import train
from selfflow.train.trainer import read_metrics
from test_train_mixture import tiny


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(deadline.time, "monotonic", lambda: now.seconds)
    return now


def finished(clock, hook, speed, steps=100_000, objective=None):
    """Step through a run of so many seconds a step, `speed(step)`; returns (steps it had, after each)."""
    state, planned = SimpleNamespace(step=0, steps=steps, objective=objective), []
    while state.step < state.steps:
        clock.seconds += speed(state.step)
        state.step += 1
        hook(state)
        planned.append(state.steps)
    return planned


def test_steps_are_those_that_fit(clock):
    planned = finished(clock, Deadline(100 + 60, 10**6), lambda step: 0.1)
    assert planned[-1] == len(planned) == pytest.approx(600, abs=2)
    assert planned[25] == pytest.approx(600, abs=2)  # known long before the end, so that the rate comes down in time
    slow_at_first = finished(clock, Deadline(clock.seconds + 60, 10**6), lambda step: 5.0 if step < 4 else 0.1)
    assert clock.seconds == pytest.approx(160 + 60, abs=0.3)
    assert len(slow_at_first) == pytest.approx(4 + 400, abs=3)


def test_no_more_steps_than_asked_for_and_at_least_one(clock):
    assert len(finished(clock, Deadline(clock.seconds + 60, 50), lambda step: 0.1, steps=50)) == 50
    assert len(finished(clock, Deadline(clock.seconds - 1, 50), lambda step: 0.1, steps=50)) == 2  # and one more, whole


def test_a_flow_map_widens_over_what_the_run_turns_out_to_be(clock):
    objective = SimpleNamespace(steps=1000)
    finished(clock, Deadline(clock.seconds + 6, 1000), lambda step: 0.1, 1000, objective)
    assert objective.steps == pytest.approx(60, abs=2)


def test_a_training_ends_in_time_with_its_rate_at_the_end(tmp_path, monkeypatch):
    """The clock is the number of looks at it: one a step, so that ten seconds are ten steps."""
    looks = iter(range(1000))
    monkeypatch.setattr(deadline.time, "monotonic", lambda: float(next(looks)))
    monkeypatch.setattr(deadline, "_LOOK", 2)
    config = tiny(steps=1000)
    config = config.__class__(**{**vars(config), "optim": Optim(learning_rate=1e-3, cooldown=0.5)})
    state = train(config, tmp_path, progress=False, watch=[Deadline(10.0, 1000)])
    rates = [m["learning_rate"] for m in read_metrics(tmp_path / "metrics.jsonl")]
    assert state.step == len(rates) == pytest.approx(10, abs=1)
    assert rates[0] == 1e-3
    assert rates[-1] <= 0.3e-3
    assert (tmp_path / "model.safetensors").exists()
