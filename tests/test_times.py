"""Densities, the dual draw, schedules, and randomness that is a function of (seed, step, row)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfflow.times import Density, Draws, Times, as_times, dual_times, schedule, shift


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


@given(st.floats(0.1, 20), st.floats(0.1, 20), st.floats(0, 1))
def test_shifts_compose_and_keep_the_ends(a, b, t):
    t = torch.tensor(t, dtype=torch.float64)
    torch.testing.assert_close(shift(a, shift(b, t)), shift(a * b, t))
    torch.testing.assert_close(shift(1 / a, shift(a, t)), t)
    assert shift(a, torch.tensor(0.0)) == 0
    assert shift(a, torch.tensor(1.0)) == 1


@pytest.mark.parametrize(
    ("density", "cdf"),
    [
        (Density(), lambda t: t),
        (
            Density("logit_normal", mean=0.5, std=0.8),
            lambda t: 0.5 * (1 + math.erf((math.log(t / (1 - t)) - 0.5) / (0.8 * 2**0.5))),
        ),
        (Density(shift=3.0), lambda t: t / (3 - 2 * t)),  # the inverse of the shift by 3
        (Density(floor=0.4), lambda t: 0.6 * t + 0.4 * max(0.0, t - 0.95) / 0.05),
    ],
)
def test_draws_follow_the_density(density, cdf):
    t = density.sample(20_000, draws())
    assert t.min() >= 0
    assert t.max() <= 1
    for level in (0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
        # four standard errors of a proportion
        assert abs(float((t < level).float().mean()) - cdf(level)) < 4 * 0.5 / 20_000**0.5


def test_dual_times_are_two_independent_unsorted_levels():
    times = dual_times(Density(), 4000, 16, 0.25, draws())
    t, s = times.levels.T
    assert abs(float((t < s).float().mean()) - 0.5) < 0.04  # sorted would be 0 or 1
    assert abs(float(torch.corrcoef(times.levels.T)[0, 1])) < 0.06
    assert abs(float(times.which.float().mean()) - 0.25) < 0.01
    assert abs(float((times.per_token < 0.3).float().mean()) - 0.3) < 0.03  # the per-token marginal stays p(t)


def test_plain_share_equalises_levels():
    times = dual_times(Density(), 4000, 4, 0.25, draws(), plain_share=0.25)
    assert abs(float((times.levels[:, 0] == times.levels[:, 1]).float().mean()) - 0.25) < 0.03


def test_cleanest_is_the_minimum():
    times = dual_times(Density(), 8, 5, 0.5, draws())
    assert torch.equal(times.cleanest().per_token[:, 0], times.levels.min(dim=1).values)


def test_spread_equals_indexing():
    times = dual_times(Density(), 6, 7, 0.5, draws())
    values = torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([values[i, times.which[i]] for i in range(6)])
    assert torch.equal(times.spread(values), expected)
    per_token = torch.rand(2, 5)
    assert torch.equal(as_times(per_token).per_token, per_token)
    assert torch.equal(as_times(torch.tensor([0.2, 0.4])).per_token, torch.tensor([[0.2], [0.4]]))


def test_rows_of_the_global_batch_are_the_same_however_it_is_split():
    whole = Draws.at(7, 3, first=0, total=8)
    parts = [Draws.at(7, 3, first=first, total=8) for first in (0, 2, 5)]
    for draw in ("uniform", "normal"):
        everything = getattr(whole, draw)(8, 3)
        split = torch.cat([getattr(p, draw)(b, 3) for p, b in zip(parts, (2, 3, 3), strict=True)])
        assert torch.equal(everything, split)
    assert not torch.equal(Draws.at(7, 3).normal(4), Draws.at(7, 4).normal(4))
    assert not torch.equal(Draws.at(7, 3).normal(4), Draws.at(8, 3).normal(4))


def test_several_draws_of_a_sample_are_those_of_its_rows_however_the_batch_is_split():
    whole = Draws.at(3, 7, total=4).several(3).normal(12, 5)
    parts = [Draws.at(3, 7, first=first, total=4).several(3).normal(6, 5) for first in (0, 2)]
    assert torch.equal(torch.cat(parts), whole)
    assert len(whole.unique()) == whole.numel()
    assert torch.equal(Draws.at(3, 7, total=4).several(1).normal(4, 5), Draws.at(3, 7, total=4).normal(4, 5))


def test_schedule():
    assert torch.equal(schedule(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    torch.testing.assert_close(schedule(50, 1.78), shift(1.78, torch.linspace(1, 0, 51)))
    assert torch.equal(schedule(2, start=0.6, end=0.2), torch.tensor([0.6, 0.4, 0.2]))


@pytest.mark.parametrize(
    "bad",
    [
        lambda: schedule(0),
        lambda: schedule(3, start=0.2, end=0.5),
        lambda: Density(shift=0.0),
        lambda: dual_times(Density(), 2, 2, 0.6, draws()),
        lambda: dual_times(Density(), 2, 2, 0.2, draws(), plain_share=2.0),
    ],
)
def test_bad_arguments_are_refused(bad):
    with pytest.raises(ValueError):
        bad()


def test_times_shared():
    assert Times.shared(torch.tensor([0.1, 0.2])).per_token.tolist() == torch.tensor([[0.1], [0.2]]).tolist()
