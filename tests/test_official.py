"""The published network and its samplers against an independent oracle (`official_oracle`)."""

import math

import pytest
import torch
from torch import Tensor

from official_oracle import (
    SMALL,
    inputs,
    latent_of,
    network,
    oracle,
    oracle_linear,
    oracle_silu,
    published_loop,
    published_moments,
    tokens_of,
)
from selfflow import sample
from selfflow.official import Sampling, SiT, SiTConfig, sample_latents
from selfflow.official.sampler import noise_streams, published_times
from selfflow.official.sit import sine_cosine_positions
from selfflow.times import Times, schedule


def test_published_size():
    with torch.device("meta"):
        state = SiT().state_dict()
    assert len(state) == 296
    assert sum(tensor.numel() for tensor in state.values()) == 680_441_504
    expected = {
        "pos_embed": (1, 256, 1152),
        "x_embedder.proj.weight": (1152, 16),
        "t_embedder.mlp.0.weight": (1152, 256),
        "t_embedder.mlp.2.weight": (1152, 1152),
        "y_embedder.embedding_table.weight": (1001, 1152),
        "blocks.27.attn.qkv.weight": (3456, 1152),
        "blocks.27.attn.proj.bias": (1152,),
        "blocks.0.mlp.fc1.weight": (4608, 1152),
        "blocks.0.mlp.fc2.weight": (1152, 4608),
        "blocks.0.adaLN_modulation.1.weight": (6912, 1152),
        "final_layer.linear.weight": (32, 1152),
        "final_layer.adaLN_modulation.1.weight": (2304, 1152),
        "projector.linear1.weight": (2304, 1152),
        "projector.linear2.weight": (1152, 2304),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected


@pytest.mark.parametrize(
    ("config", "dtype", "tolerance"),
    [
        (SMALL, torch.float32, 1e-4),
        (SMALL, torch.float64, 1e-10),
        (SiTConfig(depth=2, width=48, heads=4, classes=5, patch=3, channels=2, grid=3), torch.float64, 1e-10),
    ],
)
def test_equals_the_oracle(config: SiTConfig, dtype: torch.dtype, tolerance: float):
    model, weights = network(config, dtype)
    latent, t, labels = inputs(config, dtype=dtype)
    x_t = tokens_of(config, latent)
    with torch.no_grad():
        for times, u in ((t, 1 - t), (t[:, 0], (1 - t[:, :1]).expand_as(t))):
            expected, hidden = oracle(weights, config, latent, u, labels)
            velocity, features = model.trace(x_t, times, labels, range(1, config.depth + 1))
            torch.testing.assert_close(latent_of(config, velocity), -expected, rtol=0, atol=tolerance)
            for layer, feature in features.items():
                torch.testing.assert_close(feature, hidden[layer - 1], rtol=0, atol=tolerance)
    assert expected.std() > 0.1  # the comparison is of something


def test_equals_the_oracle_at_the_published_width():
    config = SiTConfig(depth=1)
    model, weights = network(config)
    latent, t, labels = inputs(config, b=1)
    with torch.no_grad():
        expected, _ = oracle(weights, config, latent, 1 - t, labels)
        velocity = model(tokens_of(config, latent), t, labels)
    torch.testing.assert_close(latent_of(config, velocity), -expected, rtol=0, atol=1e-4)


def test_two_levels_gathered_equal_times_per_token():
    """Self-Flow's dual times: modulation is computed for two levels, then given to the tokens."""
    model, _ = network(dtype=torch.float64)
    latent, t, labels = inputs(SMALL, dtype=torch.float64)
    x_t, levels = tokens_of(SMALL, latent), t[:, :2]
    which = torch.arange(SMALL.tokens).expand(3, -1) % 3 % 2
    with torch.no_grad():
        gathered = model(x_t, Times(levels, which), labels)
        spread = model(x_t, levels.gather(1, which), labels)
    torch.testing.assert_close(gathered, spread, rtol=0, atol=1e-12)
    with torch.no_grad():
        assert (gathered - model(x_t, levels[:, 0], labels)).abs().max() > 1e-3


def test_features_stop_early_and_project():
    model, weights = network()
    latent, t, labels = inputs(SMALL)
    x_t = tokens_of(SMALL, latent)
    del model.blocks[2:]  # what lies beyond the layer asked for is never run
    with torch.no_grad():
        feature = model.features(x_t, t, labels, 2)
        expected = oracle(weights, SMALL, latent, 1 - t, labels)[1][1]
        torch.testing.assert_close(feature, expected, rtol=0, atol=1e-4)
        projected = oracle_linear(
            weights, "projector.linear2", oracle_silu(oracle_linear(weights, "projector.linear1", expected))
        )
        torch.testing.assert_close(model.projector(feature), projected, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"layers \[4\] asked for; this network has layers 1 to 3"):
        model.features(x_t, t, labels, 4)


def test_channel_orders():
    """One latent pixel reaches exactly the inputs (c p1 p2) of its token; ours are (row, column, channel)."""
    model, _ = network()
    latent = torch.zeros(1, 4, 8, 8)
    latent[0, 2, 5, 6] = 1  # patch (2, 3), row 1 and column 0 inside it, channel 2
    tokens = tokens_of(SMALL, latent)
    assert tokens.nonzero().tolist() == [[0, 2 * 4 + 3, (1 * 2 + 0) * 4 + 2]]
    assert model._read(tokens).nonzero().tolist() == [[0, 2 * 4 + 3, 2 * 4 + 1 * 2 + 0]]


def test_starting_positions():
    positions = sine_cosine_positions(16, 1152)
    row, column, i = 5, 11, 7
    angle = 10_000 ** (-i / 288)
    at = positions[row * 16 + column]
    assert at[[i, 288 + i, 576 + i, 864 + i]].tolist() == pytest.approx(
        [math.sin(column * angle), math.cos(column * angle), math.sin(row * angle), math.cos(row * angle)], abs=1e-6
    )


def test_wrong_shapes_are_named():
    model, _ = network()
    x_t, labels = torch.zeros(2, 16, 16), torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"x_t is \(2, 9, 16\); this network takes \(b, 16, 16\)"):
        model(x_t[:, :9], torch.ones(2), labels)
    with pytest.raises(ValueError, match=r"times \(2, 9\) and labels \(2,\) do not fit"):
        model(x_t, torch.ones(2, 9), labels)
    with pytest.raises(ValueError, match="width 50 does not divide into 4 heads"):
        SiTConfig(width=50, heads=4)


# --- sampling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_sde_equals_the_published_loop(scale: float):
    model, weights = network()
    labels, steps = torch.tensor([3, 10]), 12
    settings = Sampling(steps=steps, guidance=scale, guidance_low=0.2, guidance_high=0.7, seed=5)
    streams = noise_streams(5, 40, 2)
    noises = [
        latent_of(SMALL, sample.seeded_noise((2, SMALL.tokens, SMALL.values), streams).bfloat16().float())
        for _ in range(steps)
    ]
    with torch.no_grad():
        expected = published_loop(weights, SMALL, noises, labels, scale, 0.2, 0.7)
    latents = sample_latents(model, labels, settings, first=40)
    torch.testing.assert_close(latents, expected, rtol=0, atol=1e-4)
    if scale != 1:
        plain = sample_latents(model, labels, Sampling(steps=steps, seed=5), first=40)
        assert (latents - plain)[0].abs().max() > 1e-2
        torch.testing.assert_close(latents[1], plain[1], rtol=0, atol=1e-5)  # the null class is its own guide


def test_published_times():
    times = published_times()
    assert len(times) == 251  # 250 evaluations
    assert (times[0].item(), times[-1].item()) == (1.0, 0.0)
    assert times[-2].item() == pytest.approx(0.04, abs=1e-7)
    torch.testing.assert_close(1 - times[:-1], torch.linspace(0, 0.96, 250), rtol=0, atol=1e-6)
    assert Sampling().times().equal(times)
    assert Sampling("euler", 50, shift=1.78).times().equal(schedule(50, 1.78))


class Gaussian(SiT):
    """The exact velocity when data are N(mean, deviation²) in every number."""

    mean, deviation = 0.8, 0.5
    evaluations = 0

    def forward(self, x_t: Tensor, t: Tensor | Times, labels: Tensor) -> Tensor:
        self.evaluations += 1
        t = torch.as_tensor(t)[:, None, None].double()
        a = 1 - t
        gain = (t - a * self.deviation**2) / (a**2 * self.deviation**2 + t**2)
        return (-self.mean + gain * (x_t.double() - a * self.mean)).float()


def test_sde_on_an_exact_gaussian():
    model = Gaussian(SiTConfig(depth=1, width=4, heads=1, classes=1, frequencies=2))
    latents = sample_latents(model, [0] * 8)
    assert model.evaluations == 250
    m, variance = published_moments(250, model.mean, model.deviation)
    count = latents.numel()
    assert latents.mean().item() == pytest.approx(m, abs=5 * math.sqrt(variance / count))
    assert latents.var().item() == pytest.approx(variance, rel=5 * math.sqrt(2 / count))
    assert m == pytest.approx(model.mean, abs=0.01)
    assert variance == pytest.approx(model.deviation**2, rel=0.03)


@pytest.mark.parametrize(("sampler", "tolerance"), [("euler", 0.02), ("heun", 0.002)])
def test_ode_on_an_exact_gaussian(sampler: str, tolerance: float):
    """The ODE's map is affine: mean + deviation · noise, number by number."""
    model = Gaussian(SiTConfig(depth=1, width=4, heads=1, classes=1, frequencies=2))
    settings = Sampling(sampler, steps=100, shift=1.5, noise="float32", seed=9)
    noise = sample.seeded_noise((2, 256, 16), noise_streams(9, 0, 2))
    expected = latent_of(model.config, model.mean + model.deviation * noise)
    torch.testing.assert_close(sample_latents(model, [0, 1], settings), expected, rtol=0, atol=4 * tolerance)
    assert model.evaluations == (100 if sampler == "euler" else 200)


def test_a_sample_does_not_depend_on_its_batch():
    model, _ = network()
    settings = Sampling(steps=5, guidance=2.0)
    together = sample_latents(model, [1, 2, 3], settings, first=7)
    alone = sample_latents(model, [3], settings, first=9)
    torch.testing.assert_close(together[2:], alone, rtol=0, atol=1e-5)
    other = sample_latents(model, [3], settings, first=10)
    assert (alone - other).abs().max() > 0.1


def test_bfloat16_network_stays_close_and_returns_float32():
    model, _ = network()
    settings = Sampling("euler", steps=4)
    exact, half = (sample_latents(model, [1, 2], settings, bfloat16=b) for b in (False, True))
    assert half.dtype == torch.float32
    assert 0 < (exact - half).abs().max() < 0.1


def test_bad_requests_are_named():
    model, _ = network()
    with pytest.raises(ValueError, match=r"labels are \[3, 11\]; give a list of classes from 0 to 9"):
        sample_latents(model, [3, 11])
    for arguments, message in (
        ({"sampler": "ddim"}, "unknown sampler 'ddim'; choose one of euler, heun, sde$"),
        ({"sampler": "flow_map"}, "unknown sampler 'flow_map'"),
        ({"steps": 1}, "1 steps asked of the published SDE sampler"),
        ({"shift": 2.0}, "shift 2.0 needs 'euler' or 'heun'"),
        ({"guidance_low": 0.8}, "guidance acts from t = 0.8 to 0.7"),
        ({"noise": "float16"}, "not 'float16'"),
        ({"sampler": "euler", "shift": 0.0}, "time shift is 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            Sampling(**arguments)
