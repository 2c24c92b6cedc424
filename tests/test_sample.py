"""Samplers against an exact Gaussian denoiser: the answer is known in closed form."""

import pytest
import torch

from selfflow import sample
from selfflow.times import schedule

MEAN, STD = 2.0, 0.5


def velocity(x, t, r=None):
    """E[noise - data | x_t] when data ~ N(MEAN, STD²): linear in x, since everything is Gaussian.

    With r, the mean velocity of the true flow map from t to r, which keeps every quantile.
    """
    if r is not None:
        std_r, std_t = (((1 - s) ** 2 * STD**2 + s**2) ** 0.5 for s in (r, t))
        return (x - (1 - r) * MEAN - std_r / std_t * (x - (1 - t) * MEAN)) / (t - r)
    variance = (1 - t) ** 2 * STD**2 + t**2
    centred = x - (1 - t) * MEAN
    return t / variance * centred - (MEAN + (1 - t) * STD**2 / variance * centred)


def flow_map(noise):
    """The exact solution: the ODE carries quantiles to quantiles."""
    return MEAN + STD * noise


def error(sampler, steps, **options):
    noise = torch.linspace(-2, 2, 33)
    double = sampler(velocity, noise, schedule(steps), **options)
    return float((double - flow_map(noise)).abs().max())


@pytest.mark.parametrize(("sampler", "order"), [(sample.euler, 1), (sample.heun, 2)])
def test_order_of_convergence(sampler, order):
    ratio = error(sampler, 16) / error(sampler, 32)
    assert 2**order * 0.8 < ratio < 2**order * 1.35
    assert error(sampler, 512) < (0.01 if order == 1 else 1e-3)


def test_the_true_flow_map_is_exact_in_any_number_of_steps():
    for steps in (1, 2, 4, 8):
        assert error(sample.flow_map, steps) < 1e-5
    noise = torch.linspace(-2, 2, 33)
    still = sample.flow_map(lambda x, t, r: velocity(x, t), noise, schedule(5))
    assert torch.equal(still, sample.euler(velocity, noise, schedule(5)))


def test_mean_and_covariance_of_every_sampler():
    noise = torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    options = {"sde": {"draws": lambda x: torch.randn(x.shape, generator=generator)}}
    for name, sampler in sample.SAMPLERS.items():
        x = sampler(velocity, noise, schedule(200), **options.get(name, {}))
        assert abs(float(x.mean()) - MEAN) < 0.015, name
        assert abs(float(x.std()) - STD) < 0.015, name


def test_sde_without_diffusion_is_euler():
    noise = torch.randn(10, generator=torch.Generator().manual_seed(0))
    x = sample.sde(velocity, noise, schedule(7), draws=torch.zeros_like, diffusion=lambda t: 0 * t)
    torch.testing.assert_close(x, sample.euler(velocity, noise, schedule(7)))


def test_one_euler_step_lands_on_the_mean_of_the_data():
    noise = torch.randn(10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sample.euler(velocity, noise, schedule(1)), torch.full((10,), MEAN))


def test_guidance_is_affine_and_keeps_to_its_interval():
    x, calls = torch.zeros(3), []

    def unconditional(x, t):
        calls.append(float(t))
        return x + 1

    def conditional(x, t):
        return x + 3

    guided = sample.guided(conditional, unconditional, 4.0, (0.2, 0.7))
    assert torch.equal(guided(x, torch.tensor(0.5)), x + 1 + 4 * 2)
    assert torch.equal(guided(x, torch.tensor(0.9)), x + 3)
    assert torch.equal(guided(x, torch.tensor(0.1)), x + 3)
    assert calls == [0.5]
    plain = sample.guided(conditional, unconditional, 1.0)
    assert torch.equal(plain(x, torch.tensor(0.5)), x + 3)
    assert calls == [0.5]
    with pytest.raises(ValueError, match="interval"):
        sample.guided(conditional, unconditional, 2.0, (0.8, 0.2))


def test_callback_sees_every_step_and_can_end_sampling():
    seen = []
    noise = torch.zeros(4)
    sample.euler(velocity, noise, schedule(5), callback=lambda step, t, x, data: seen.append((step, float(t))))
    assert [s for s, _ in seen] == [1, 2, 3, 4, 5]
    assert seen[-1][1] == 0
    stopped = sample.euler(velocity, noise, schedule(5), callback=lambda step, t, x, data: step == 2)
    torch.testing.assert_close(stopped, sample.euler(velocity, noise, schedule(5)[:3]))


def test_last_data_guess_is_the_result():
    guesses = []
    noise = torch.randn(4, generator=torch.Generator().manual_seed(0))
    x = sample.euler(velocity, noise, schedule(3), callback=lambda step, t, x, data: guesses.append(data))
    torch.testing.assert_close(guesses[-1], x)


def test_times_must_decrease():
    with pytest.raises(ValueError, match="decreasing"):
        sample.euler(velocity, torch.zeros(2), torch.tensor([0.0, 1.0]))


def test_seeded_noise():
    def generators():
        return [torch.Generator().manual_seed(s) for s in (1, 2)]

    both = sample.seeded_noise((2, 3), generators())
    alone = sample.seeded_noise((1, 3), [torch.Generator().manual_seed(2)])
    assert torch.equal(both[1:], alone)
    with pytest.raises(ValueError, match="2 generators were given for 3"):
        sample.seeded_noise((3, 3), generators())
