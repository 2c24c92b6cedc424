"""Mel spectrograms: what is exact of them, and how nearly a sound comes back."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from selfflow.building import build_network, sound_like
from selfflow.codecs import load_codec
from selfflow.codecs.mel import CENTRE, SPREAD, Bands, MelSpectrogram, tables
from selfflow.config import AudioConfig, Config, NetworkConfig, PictureConfig, TextConfig
from selfflow.modalities.audio_latents import AudioLatents
from selfflow.modalities.text import BytePairs
from selfflow.pipeline import Pipeline
from selfflow.release import release
from selfflow.runtime import Runtime
from selfflow.weight_files import load_weights, read_weights

RATE = 16_000
WORDS = "a voice says one"


def model(codec="mel"):
    torch.manual_seed(0)
    config = Config(
        text=TextConfig(vocabulary=270, max_tokens=24), picture=PictureConfig(size=8, patch=4),
        audio=AudioConfig(RATE, codec=codec), network=NetworkConfig(width=32, depth=2, heads=2),
    )  # fmt: skip
    text = BytePairs.train([WORDS] * 3, 270, 24)
    return Pipeline(build_network(config, text), text, config)


def voice(b=2, samples=6400):
    """Harmonics of a voice whose pitch and loudness change, as loud as a normalised recording."""
    t = torch.arange(samples) / RATE
    out = []
    for i in range(b):
        turns = torch.cumsum(2 * math.pi * (120 + 40 * i + 60 * t) / RATE, 0)
        wave = sum(torch.sin(k * turns) / k for k in range(1, 12)) * torch.sin(math.pi * t / t[-1]) ** 2
        out.append(0.1 * wave / wave.square().mean().sqrt())
    return torch.stack(out)


def test_silence_is_the_floor_and_comes_back_as_silence():
    codec = load_codec("mel")
    latents = codec.encode(torch.zeros(1, 1000))
    assert latents.shape == (1, 160, 4)
    assert torch.allclose(latents, torch.tensor((math.log(0.01) - CENTRE) / SPREAD))
    assert codec.decode(latents).abs().max() < 1e-5


def test_every_band_hears_its_own_frequency_and_none_is_empty():
    for bands in (Bands(), Bands(count=100), Bands(hop=80, window=256, count=80)):
        filters = tables(bands, RATE, torch.device("cpu")).filters
        assert filters.shape == (bands.window // 2 + 1, bands.count)
        assert float(filters.min()) == 0
        assert float(filters.max()) <= 1
        assert (filters.sum(dim=0) > 0.2).all()
        centres = (torch.arange(len(filters)).float() @ filters) / filters.sum(dim=0)
        assert (centres.diff() > 0).all()
    # A pure tone is loudest in the band whose centre is nearest on the mel scale.
    t = torch.arange(3200) / RATE
    top = 2595 * math.log10(1 + RATE / 2 / 700)
    for hertz in (500.0, 1000.0, 3000.0, 6000.0):
        latents = load_codec("mel").encode(0.1 * torch.sin(2 * math.pi * hertz * t)[None])
        loudest = int(latents[0, :, 5].unflatten(0, (2, 80))[1].argmax())
        expected = 2595 * math.log10(1 + hertz / 700) / top * 81 - 1
        assert abs(loudest - expected) < 1


def test_frames_give_back_the_waveform_they_were_cut_from():
    codec, wave = MelSpectrogram(), voice()
    back = codec._wave(codec._spectrum(wave))
    torch.testing.assert_close(back[:, :-160], wave[:, :-160], rtol=0, atol=1e-5)
    assert back.shape == wave.shape


def test_a_latent_has_not_heard_what_follows():
    codec, wave = load_codec("mel"), voice()
    whole, short = codec.encode(wave), codec.encode(wave[:, :3200])
    assert torch.equal(whole[..., :10], short)
    assert AudioLatents(codec).known(3300) == 10


def test_a_sound_comes_back_nearly_as_it_was_heard():
    codec, wave = load_codec("mel"), voice()
    latents = codec.encode(wave)
    back = codec.decode(latents)
    again = codec.encode(back)
    assert (again - latents).abs().mean() < 0.03
    noise = torch.randn(wave.shape, generator=torch.Generator().manual_seed(0)) * 0.1
    assert (codec.encode(noise) - latents).abs().mean() > 0.2  # and that is little
    assert torch.equal(codec.decode(latents[1:]), back[1:])  # in any company, every time
    rough = MelSpectrogram(rounds=0)
    assert (rough.encode(rough.decode(latents)) - latents).abs().mean() > (again - latents).abs().mean()


def test_a_sound_goes_on_from_its_beginning_without_a_seam():
    codec, wave = load_codec("mel"), voice()
    latents, k = codec.encode(wave), 3200
    free, held = codec.decode(latents), codec.decode(latents, wave[:, :k])
    assert torch.equal(held[:, :k], wave[:, :k])
    pasted = torch.cat([wave[:, :k], free[:, k:]], dim=1)

    def seam(x):
        """How much of the sound around the border no band of the true sound explains."""
        return float((codec.encode(x) - latents)[..., 10:12].abs().mean())

    assert seam(held) < 0.45 * seam(pasted)
    audio = AudioLatents(codec)
    data = audio.tokens(wave).data
    assert torch.equal(audio.waveform(data, 6200, wave[:, :k]), held[:, :6200])
    assert (audio.joins, audio.unsettled, audio.lap) == (True, 2, 0)


def test_latents_beyond_belief_give_finite_sound():
    codec = load_codec("mel")
    for latents in (torch.full((1, 160, 3), 1e6), torch.full((1, 160, 3), -1e6), torch.randn(1, 160, 3) * 10):
        assert bool(codec.decode(latents).isfinite().all())


def test_it_is_saved_and_opened_like_every_codec(tmp_path):
    codec = MelSpectrogram(Bands(hop=80, frames=4, window=256, count=40), rate=8000, rounds=3)
    back = load_codec(codec.save(tmp_path / "codec"))
    assert back.fingerprint == codec.fingerprint != load_codec("mel").fingerprint
    assert torch.equal(back.encode(voice()), codec.encode(voice()))
    (tmp_path / "codec" / "codec.json").write_text(json.dumps({"kind": "mel", "bands": {"hop": 0}, "rate": 8000}))
    with pytest.raises(ValueError, match=r"describes no codec of kind 'mel'.*hop of 0"):
        load_codec(tmp_path / "codec")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": {"window": 511}}, "window of 511 samples is even"),
        ({"bands": {"window": 200}}, "at least twice the hop of 160"),
        ({"bands": {"frames": 0}}, "a latent has 0 frames"),
        ({"bands": {"count": 300}}, "300 bands are 1 to half"),
        ({"bands": {"floor": 0.0}}, "floor 0.0 is above 0"),
        ({"rate": 0}, "rate 0 is at least 1"),
        ({"rounds": -1}, "rounds -1 are 0 or more"),
    ],
)
def test_bad_numbers_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MelSpectrogram(Bands(**options.pop("bands", {})), **options)


def test_bad_sounds_are_named():
    codec = load_codec("mel")
    with pytest.raises(ValueError, match=r"waveforms are \(b, samples\); got \(3,\)"):
        codec.encode(torch.zeros(3))
    with pytest.raises(ValueError, match="waveforms are finite"):
        codec.encode(torch.full((1, 400), np.nan))
    with pytest.raises(ValueError, match=r"\(b, 160, n\); got \(1, 64, 3\)"):
        codec.decode(torch.zeros(1, 64, 3))
    with pytest.raises(ValueError, match="latents are finite"):
        codec.decode(torch.full((1, 160, 3), np.inf))


# --------------------------------------------------------------------------------------------------------- in a model


def test_a_model_says_its_codec_by_name(tmp_path):
    pipe = model()
    assert pipe.net.embed["audio"].in_features == 160
    assert not pipe.modalities.computes  # nothing learned: those who draw samples may make tokens of them
    said = pipe.speak([WORDS], 0.21, steps=2, generator=torch.Generator().manual_seed(0))
    assert said.shape == (1, 3360)
    pipe.save_pretrained(tmp_path / "model", "card")
    assert not (tmp_path / "model" / "sound-codec").exists()
    again = Pipeline.from_pretrained(release(tmp_path / "model", tmp_path / "weights"))
    assert again.modalities.audio.codec.fingerprint == pipe.modalities.audio.codec.fingerprint


@pytest.mark.parametrize(("codec", "kept", "least"), [("mel", 10 * 320, 320), ("", 9 * 320 - 160, 480)])
def test_what_was_begun_is_kept_to_the_sample(codec, kept, least):
    """Of the lapped transform a token less is known, and half a hop of the last passes into what is new."""
    pipe, begun = model(codec), voice(1, 3300).numpy()
    made = pipe.continue_sound(begun, 0.2, [WORDS], steps=2)
    assert made.shape == (1, 6500)
    assert np.array_equal(made[:, :kept], begun[:, :kept])
    with pytest.raises(ValueError, match=f"{least - 1} samples of a sound are less than its .*; give {least} or more"):
        pipe.continue_sound(begun[:, : least - 1], 0.2, [WORDS], steps=2)
    assert pipe.continue_sound(begun[:, :least], 0.1, [WORDS], steps=2).shape == (1, least + 1600)


def test_layers_of_other_tokens_of_sound_are_drawn_anew(tmp_path):
    mel, lapped = model(), model("")
    assert sound_like(mel.config, mel.config)
    assert sound_like(lapped.config, lapped.config)
    assert not sound_like(mel.config, lapped.config)
    lapped.save_pretrained(tmp_path, "card")
    before = {name: value.clone() for name, value in mel.net.state_dict().items()}
    with pytest.raises(ValueError, match=r"embed\.audio\.weight has shape \(32, 320\), not \(32, 160\)"):
        load_weights(mel.net, tmp_path)
    load_weights(mel.net, tmp_path, anew=("embed.audio.", "head.audio."))
    for name, value in mel.net.state_dict().items():
        expected = before if name.startswith(("embed.audio.", "head.audio.")) else read_weights(tmp_path)
        assert torch.equal(value, expected[name])


def test_a_stream_is_what_truly_comes_next_and_its_chunks_join(monkeypatch):
    """Of a model that always says what truly comes next, the stream is then heard as the truth is."""
    runtime = Runtime(model(), torch.float32)
    audio, truth = runtime.modalities.audio, voice(1, 16_000)[0]
    starts = iter(range(0, 16_000, 3 * 320))

    def solve(task, samples, keep=None, **_):
        (sample,), start = samples, next(starts)
        known = 0 if keep is None else int(keep["audio"].sum())
        wanted = audio.tokens(torch.cat([truth, torch.zeros(6400)])[None, start : start + len(sample.sound)]).data
        begins = torch.from_numpy(sample.sound)[None, : known * 320] if known else None
        return [replace(sample, sound=audio.waveform(wanted, len(sample.sound), begins)[0].numpy())]

    monkeypatch.setattr(runtime, "solve", solve)
    chunks = list(runtime.stream_sound(WORDS, 0.9, window=0.2))
    assert {len(c) for c in chunks[1:-1]} == {3 * 320}  # of ten tokens five are continued, the last two are made again
    streamed = torch.from_numpy(np.concatenate(chunks))[None]
    assert streamed.shape == (1, 14_400)
    heard, real = (audio.codec.encode(x)[..., :-2] for x in (streamed, truth[None, :14_400]))
    pasted = torch.cat([audio.codec.decode(audio.tokens(truth[None, i : i + 3200]).data.transpose(1, 2))[0, 1600:2560]
                        for i in range(0, 11_000, 960)])[None]  # fmt: skip
    again = (
        audio.codec.encode(pasted)[..., :-2] - audio.codec.encode(truth[None, 1600 : 1600 + pasted.shape[1]])[..., :-2]
    )
    joined, apart = ((x.abs().mean(dim=1)[0]) for x in (heard - real, again))
    assert joined[8::3].mean() < 0.45 * apart[3::3].mean()  # where a chunk begins
    assert joined.mean() < 0.1
