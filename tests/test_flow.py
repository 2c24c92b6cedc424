"""The path between data and noise, and its rearrangements."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfflow import flow


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 1000), st.floats(0.01, 0.99))
def test_any_of_velocity_data_noise_gives_the_others(seed, t):
    data, noise = draw(seed, 2, 3, 4), draw(seed + 1, 2, 3, 4)
    x_t, v = flow.interpolate(data, noise, t), flow.velocity(data, noise)
    close = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(flow.data_from_velocity(x_t, v, t), data, **close)
    torch.testing.assert_close(flow.noise_from_velocity(x_t, v, t), noise, **close)
    torch.testing.assert_close(flow.velocity_from_data(x_t, data, t), v, **close)


def test_ends_are_data_and_noise():
    data, noise = draw(0, 2, 3), draw(1, 2, 3)
    assert torch.equal(flow.interpolate(data, noise, 0.0), data)
    assert torch.equal(flow.interpolate(data, noise, 1.0), noise)


def test_time_per_sample_and_per_token_align_with_leading_axes():
    data, noise = draw(0, 2, 3, 4), draw(1, 2, 3, 4)
    t = torch.tensor([[0.0, 0.5, 1.0], [1.0, 0.0, 0.25]])
    x_t = flow.interpolate(data, noise, t)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(x_t[i, j], flow.interpolate(data[i, j], noise[i, j], float(t[i, j])))
    per_sample = flow.interpolate(data, noise, torch.tensor([0.0, 1.0]))
    assert torch.equal(per_sample, torch.stack([data[0], noise[1]]))


def test_floor_only_acts_below_itself():
    x_t, data = draw(0, 4), draw(1, 4)
    assert torch.equal(flow.velocity_from_data(x_t, data, 0.5, floor=0.05), flow.velocity_from_data(x_t, data, 0.5))
    torch.testing.assert_close(flow.velocity_from_data(x_t, data, 0.0, floor=0.05), (x_t - data) / 0.05)


def test_score_of_a_gaussian():
    # data ~ N(0, 1): x_t ~ N(0, (1-t)² + t²), and the exact velocity is x·(2t - 1)/((1-t)² + t²).
    x, t = draw(3, 100), 0.3
    variance = (1 - t) ** 2 + t**2
    score = flow.score_from_velocity(x, x * (2 * t - 1) / variance, t)
    torch.testing.assert_close(score, -x / variance, rtol=1e-5, atol=1e-5)


@given(st.floats(0.0, 1.0), st.floats(0.2, 2.0))
def test_no_residual_is_the_exact_velocity_of_a_gaussian(t, std):
    # data ~ N(0, σ²): E[data | x_t] = (1-t)σ² x_t / m² and E[noise | x_t] = t x_t / m², m² = (1-t)²σ² + t².
    x_t, variance = draw(2, 8), ((1 - t) * std) ** 2 + t**2
    exact = (t - (1 - t) * std**2) * x_t / variance
    none = flow.velocity_from_residual(x_t, torch.zeros_like(x_t), t, std)
    torch.testing.assert_close(none, exact, rtol=1e-5, atol=1e-6)


@given(st.floats(0.0, 1.0))
def test_the_residual_has_variance_one_and_ends_in_data_and_noise(t):
    std, data, noise = 0.5, 0.5 * draw(4, 40_000), draw(5, 40_000)
    x_t, v = flow.interpolate(data, noise, t), flow.velocity(data, noise)
    zero, one = (flow.velocity_from_residual(x_t, torch.full_like(x_t, u), t, std) for u in (0.0, 1.0))
    residual = (v - zero) / (one - zero)
    assert float(residual.var()) == pytest.approx(1, abs=0.03)
    if t == 1:
        torch.testing.assert_close(residual, data / std, rtol=1e-4, atol=1e-4)
    if t == 0:
        torch.testing.assert_close(residual, -noise, rtol=1e-4, atol=1e-4)


def test_guidance_leads_from_each_side_to_the_one_before_it():
    a, b, c = (draw(seed, 2, 3) for seed in range(3))
    torch.testing.assert_close(flow.lead([a, b, c], [3.0, 1.5]), c + 3 * (a - b) + 1.5 * (b - c))
    torch.testing.assert_close(flow.lead([a, b, c], [1.0, 1.0]), a)
    assert torch.equal(flow.lead([a, b], [2.0]), b + 2.0 * (a - b))
    assert flow.lead([a], []) is a
    with pytest.raises(ValueError, match="2 scales of guidance lead between 3 sides, not 2"):
        flow.lead([a, b], [2.0, 1.0])


def test_misfit_times_are_named():
    with pytest.raises(ValueError, match=r"\(5,\) do not fit data of shape \(2, 3\)"):
        flow.interpolate(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(5))
