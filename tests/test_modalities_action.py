"""Actions and states: exact quantiles, exact inverses, statistics that survive JSON."""

import json

import numpy as np
import pytest
import torch

from selfflow.data.sample import Sample
from selfflow.data.tabletop_tasks import TabletopTask
from selfflow.modalities.action import Actions, Quantiles, Range
from selfflow.model_directory import load_quantiles
from selfflow.train.run import fit_quantiles


def test_tokens_and_back():
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    actions = Actions(width=8)
    tokens = actions.tokens(x, hz=10, start=0.5)
    assert tokens.modality == "action"
    assert tokens.data.shape == (2, 5, 8)
    assert not tokens.data[..., 3:].any()
    assert torch.allclose(tokens.positions[1, :, 0], torch.tensor([0.5, 0.6, 0.7, 0.8, 0.9]))
    assert not tokens.positions[..., 1:].any()
    assert torch.equal(actions.values(tokens.data, 3), x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Actions(width=0), "width 0"),
        (lambda: Actions(2).tokens(torch.zeros(1, 4, 3), 10), "at most 2 values"),
        (lambda: Actions(2).tokens(torch.zeros(4, 2), 10), "values are"),
        (lambda: Actions(2).tokens(torch.zeros(1, 4, 2), 0), "hz is 0"),
        (lambda: Actions(2, "state").tokens(torch.zeros(1, 4, 2), float("inf")), "state tokens"),
        (lambda: Actions(2).values(torch.zeros(1, 4, 3), 2), r"must be \(b, steps, 2\)"),
        (lambda: Actions(2).values(torch.zeros(1, 4, 2), 3), "3 values were asked"),
    ],
)
def test_wrong_actions(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def fitted() -> Quantiles:
    """A body with a uniform value on 0 … 100, a constant one and a gripper; its states; and another body."""
    ramp = np.arange(101.0)
    actions = np.stack([ramp, np.full(101, 0.1), ramp % 2], axis=1)
    values = {"arm": {"actions": actions, "states": ramp[:, None]}, "pusht": {"actions": np.stack([ramp, -ramp], 1)}}
    return Quantiles.fit(values, raw={"arm": {"actions": (2,)}})


def test_quantiles_of_a_known_distribution():
    quantiles = fitted()
    assert quantiles.bodies["arm"]["actions"] == Range((1.0, 0.1, 0.0), (99.0, 0.1, 1.0), (2,))
    rows = np.array([[1, 0.1, 0], [99, 0.1, 1], [50, 0.1, 0.5], [1000, 0.1, 7], [-1000, 0.35, -7]])
    wanted = np.array([[-1, 0, 0], [1, 0, 1], [0, 0, 0.5], [1.5, 0, 7], [-1.5, 0.25, -7]])
    found = quantiles.normalise("arm", "actions", rows)
    assert found.dtype == np.float32
    assert np.allclose(found, wanted, atol=1e-6)
    assert np.allclose(quantiles.normalise("pusht", "actions", np.array([1.0, -1.0])), [-1, 1])


def test_restore_is_the_inverse_within_bounds():
    quantiles = fitted()
    rows = np.random.default_rng(0).uniform([-20, -1, 0], [120, 1, 1], (4, 7, 3)).astype(np.float32)
    back = quantiles.restore("arm", "actions", quantiles.normalise("arm", "actions", rows))
    assert np.allclose(back, rows, atol=1e-4)
    assert np.array_equal(back[..., 2], rows[..., 2])


def test_a_constant_with_rounding_error_is_a_constant():
    rows = 0.3 + 1e-9 * np.arange(5.0)[:, None]
    quantiles = Quantiles.fit({"arm": {"states": rows}})
    assert np.abs(quantiles.normalise("arm", "states", rows)).max() < 1e-6


def test_statistics_survive_json():
    quantiles = fitted()
    record = json.loads(json.dumps(quantiles.to_dict()))
    assert Quantiles.from_dict(record) == quantiles
    assert Quantiles.from_dict({}) == Quantiles()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda q: q.normalise("leg", "actions", np.zeros(3)),
            "actions of 'leg'; there are actions of 'arm', actions of 'pusht', states",
        ),
        (lambda q: q.restore("pusht", "states", np.zeros(3)), "no quantiles for states of 'pusht'"),
        (lambda q: Quantiles().normalise("arm", "actions", np.zeros(3)), "there are none"),
        (lambda q: q.normalise("arm", "actions", np.zeros((5, 2))), r"have 3 values in the last axis, not \(5, 2\)"),
        (lambda q: q.normalise("arm", "actions", np.array([[0, 0, 0], [0, np.nan, 0]])), r"'arm' .* \(1, 1\) is nan"),
        (
            lambda q: q.normalise("arm", "actions", np.array([0, np.inf, 0])),
            r"actions of 'arm' must be finite.* is inf",
        ),
        (lambda q: Quantiles.fit({"arm": {"actions": np.zeros((0, 3))}}), r"'arm'.*\(0, 3\)"),
        (lambda q: Quantiles.fit({"arm": {"actions": np.full((4, 1), np.nan)}}), "'arm'.*NaN"),
        (lambda q: Quantiles.fit({"arm": {"actions": np.ones((4, 1))}}, {"arm": {"actions": (1,)}}), "raw values"),
        (lambda q: Quantiles.fit({"arm": {}}, {"arm": {"actions": (0,)}}), "of which there is no data"),
        (lambda q: Quantiles.from_dict({"arm": {"actions": {"low": [0]}}}), "'arm' are damaged"),
        (lambda q: Quantiles.from_dict({"arm": 3}), "'arm' are damaged"),
        (lambda q: Range((1.0,), (0.0,)), "low ≤ high"),
    ],
)
def test_wrong_statistics(call, message):
    with pytest.raises(ValueError, match=message):
        call(fitted())


class Episodes:
    """Four windows of one body; the last value of an action, and of a state, is a gripper's: 0 or 1."""

    name = "arm"

    def __init__(self, scale, raw=None):
        self.scale = scale
        if raw is not None:
            self.raw = raw

    def __len__(self):
        return 4

    def __getitem__(self, i):
        moved = np.linspace(-1, 1, 50) * self.scale
        rows = np.stack([moved, 2 * moved, np.arange(50) % 2], axis=1)
        return Sample(f"arm/{i}", None, "", actions=rows, states=rows[:, 1:], control_hz=10, body=f"arm{self.scale}")


def test_what_a_source_declares_raw_is_left_raw_in_a_run(tmp_path):
    fit_quantiles([Episodes(3, {"actions": (2,), "states": (1,)}), Episodes(5)], tmp_path)
    quantiles = load_quantiles(tmp_path)  # four samples of each end: the quantiles are the ends
    shut, open_ = np.array([3.0, -6.0, 0.0]), np.array([-3.0, 6.0, 1.0])
    assert quantiles.normalise("arm3", "actions", np.stack([shut, open_])).tolist() == [[1, -1, 0], [-1, 1, 1]]
    assert quantiles.normalise("arm3", "states", shut[1:]).tolist() == [-1, 0]
    assert quantiles.restore("arm3", "actions", np.array([1.0, -1, 0.25])).tolist() == [3, -6, 0.25]
    # Nothing declared: all by their quantiles, a gripper too.
    assert quantiles.normalise("arm5", "actions", np.array([5.0, -10, 0])).tolist() == [1, -1, -1]


def test_tabletops_gripper_is_a_width_and_scaled_as_all_else(tmp_path):
    fit_quantiles([TabletopTask("robot", size=16, count=3)], tmp_path)
    (body,) = load_quantiles(tmp_path).bodies.values()
    for found in body.values():
        assert not found.raw
        assert 0 <= found.low[2] < found.high[2] < 0.3  # metres
