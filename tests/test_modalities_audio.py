"""Sound as tokens: an exact inverse, an orthogonal transform, loudness, and other rates."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfflow.data import packs
from selfflow.modalities.audio import Audio, inverse_mdct, mdct, normalise, resample


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def sine(hertz: float, rate: int, samples: int) -> torch.Tensor:
    return torch.sin(2 * math.pi * hertz * torch.arange(samples, dtype=torch.float64) / rate).float()


@settings(max_examples=30)
@given(st.integers(1, 1500), st.sampled_from([1.0, 0.7, 0.5, 1 / 3]), st.sampled_from([(16_000, 320), (8_000, 160)]))
def test_every_sample_comes_back(samples, power, kind):
    audio, x = Audio(*kind, power=power), noise(2, samples)
    tokens = audio.tokens(x)
    assert tokens.data.shape == (2, audio.count(samples), audio.modality.channels)
    assert (audio.waveform(tokens.data, samples) - x).abs().max() < 1e-5


def test_the_transform_is_orthogonal_and_overlaps_neighbours_only():
    x = noise(1, 6, 8)
    matrix = torch.stack([mdct(e.reshape(1, 6, 8)).flatten() for e in torch.eye(48)])
    assert torch.allclose(matrix @ matrix.T, torch.eye(48), atol=1e-5)
    assert torch.allclose(inverse_mdct(mdct(x)), x, atol=1e-6)
    reach = matrix.reshape(6, 8, 6, 8).abs().amax((1, 3)) > 1e-6
    hop = torch.arange(6)
    assert torch.equal(reach, (hop[:, None] - hop).abs() <= 1)


def test_the_transform_is_the_mdct_of_the_textbook():
    """Inner hops: `sqrt(2/N) Σ w(n) x(n) cos(π/N (n + 1/2 - N/2)(k + 1/2))` over 2N samples with a sine window."""
    size = 16
    x = noise(1, 5 * size).double()
    n = torch.arange(2 * size, dtype=torch.float64)
    k = torch.arange(size, dtype=torch.float64)
    window = torch.sin(math.pi / 2 / size * (n + 0.5))
    cosine = torch.cos(math.pi / size * (n[:, None] + 0.5 - size / 2) * (k + 0.5))
    frame = x[0, 2 * size - size // 2 : 4 * size - size // 2]  # of hop 2, half a hop further on both sides
    wanted = math.sqrt(2 / size) * (window * frame) @ cosine
    found = mdct(x.float().reshape(1, 5, size))[0, 2]
    assert torch.allclose(found, wanted.float(), atol=1e-6)


def test_a_sine_lies_at_its_frequency():
    audio = Audio(power=1, slope=0)
    data = audio.tokens(sine(1000, 16_000, 3200)[None]).data[0, 2:-2].square().mean(0)
    assert int(data.argmax()) in (39, 40)  # 25 Hz a coefficient
    assert data[36:44].sum() > 0.99 * data.sum()


def test_silence_and_a_soft_error_in_it_stay_silent():
    """What companding is for: an error of tokens 20 dB below those of a sound is a hiss 35 dB below it in silence."""
    audio = Audio()
    assert not audio.tokens(torch.zeros(1, 640)).data.any()
    loud = audio.waveform(0.5 * torch.ones(1, 40, 320), 12_800).square().mean()
    hiss = audio.waveform(0.05 * noise(1, 40, 320) / 0.1, 12_800).square().mean()
    assert 10 * math.log10(hiss / loud) < -32
    linear = Audio(power=1)
    loud = linear.waveform(0.5 * torch.ones(1, 40, 320), 12_800).square().mean()
    hiss = linear.waveform(0.05 * noise(1, 40, 320) / 0.1, 12_800).square().mean()
    assert 10 * math.log10(hiss / loud) > -24


def test_one_sound_has_the_same_tokens_at_both_rates():
    x = normalise(resample(noise(1, 4000), 4_000, 8_000))  # nothing above 2 kHz
    low = Audio(rate=8_000, hop=160).tokens(x)
    high = Audio().tokens(resample(x, 8_000, 16_000))
    assert torch.allclose(low.positions, high.positions)
    # Borders of hops lie between samples, so a quarter of a sample apart: what that shifts is small below 500 Hz.
    low_band, high_band = low.data[:, 1:-1, 2:20], high.data[:, 1:-1, 2:20]
    assert (low_band - high_band).square().mean() < 0.01 * low_band.square().mean()
    assert low_band.std() == pytest.approx(float(high_band.std()), rel=0.02)


def test_tokens_of_real_sounds_are_of_one_scale():
    """Digits, normalised: about 0.5, no band far from the others, the tails of a Laplacian or lighter (6)."""
    try:
        z = packs.read_npz(packs.find("fsdd8k") / "fsdd8k.npz")
    except packs.PackMissing as missing:
        pytest.skip(str(missing))
    audio = Audio(rate=8_000, hop=160)
    rows = []
    for i in range(0, 3000, 60):
        wave = torch.from_numpy(z["audio"][z["offsets"][i] : z["offsets"][i + 1]] / 32768).float()
        rows.append(audio.tokens(normalise(wave[None])).data[0])
    data = torch.cat(rows)
    bands = torch.stack([band.std() for band in data.split(20, dim=1)])
    assert 0.3 < data.std() < 0.8
    assert bands.max() / bands.min() < 4
    assert data.pow(4).mean() / data.square().mean() ** 2 < 16


@pytest.mark.parametrize(("rate", "to"), [(8_000, 16_000), (16_000, 8_000), (44_100, 16_000), (16_000, 44_100)])
def test_a_sine_is_the_same_sine_at_another_rate(rate, to):
    y = resample(sine(440, rate, rate // 2)[None], rate, to)
    assert y.shape == (1, math.ceil((rate // 2) * to / rate))
    assert (y - sine(440, to, y.shape[1]))[0, 400:-400].abs().max() < 2e-3  # its ends are cut, so they ring


def test_resampling_keeps_given_samples_and_comes_back():
    x = noise(2, 777)
    twice = resample(x, 8_000, 16_000)
    assert resample(x, 8_000, 8_000) is x
    assert torch.allclose(twice[:, ::2], x, atol=1e-6)
    assert torch.allclose(resample(x, 8_000, 8_001)[:, :700].std(), x[:, :700].std(), rtol=0.02)


def test_what_the_lower_rate_cannot_hold_is_gone():
    y = resample(sine(6000, 16_000, 8000)[None], 16_000, 8_000)
    assert y[0, 200:-200].abs().max() < 2e-3  # and does not come back as 2 kHz


def test_normalise():
    x = torch.stack([noise(500), 5 * noise(500), torch.zeros(500)])
    y = normalise(x, rms=0.1)
    assert torch.allclose(y.square().mean(1).sqrt(), torch.tensor([0.1, 0.1, 0]), atol=1e-6)
    click = torch.zeros(1, 4000)
    click[0, 7] = 0.2
    assert normalise(click).abs().max() == pytest.approx(1)  # not 6.3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Audio(hop=321), "hop 321 even"),
        (lambda: Audio(power=0), "power is in"),
        (lambda: Audio(power=1.5), "power is in"),
        (lambda: Audio().tokens(noise(640)), "waveforms are"),
        (lambda: Audio().tokens(noise(1, 0)), "waveforms are"),
        (lambda: Audio().tokens(torch.tensor([[0.0, 0.0], [0.0, math.nan]])), "sample 1 of waveform 1 is nan"),
        (lambda: Audio().tokens(torch.zeros(1, 640, dtype=torch.int16)), "int16"),
        (lambda: Audio().waveform(noise(1, 3, 320), 640), r"need \(b, 2, 320\)"),
        (lambda: Audio().waveform(noise(1, 2, 160), 640), r"need \(b, 2, 320\)"),
        (lambda: resample(noise(1, 5), 0, 8000), "rates of at least 1"),
        (lambda: resample(noise(1, 0), 8000, 16000), "at least 1"),
    ],
)
def test_wrong_sounds(call, message):
    with pytest.raises(ValueError, match=message):
        call()
