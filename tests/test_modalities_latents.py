"""Clips and sounds as latents: a codec that joins frames against the identity, what is known, worlds, sound, models."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from einops import rearrange

from selfflow import building
from selfflow.codecs import Codec
from selfflow.codecs.autoencoder import Shape, SoundAutoencoder, VisualAutoencoder
from selfflow.config import AudioConfig, Config, ControlConfig, DataConfig, NetworkConfig, PictureConfig, TextConfig
from selfflow.data.loader import Batch
from selfflow.data.sample import Sample
from selfflow.modalities.action import Actions, Quantiles
from selfflow.modalities.audio import Audio
from selfflow.modalities.audio_latents import AudioLatents
from selfflow.modalities.pixels import to_pixels, to_values
from selfflow.modalities.streams import Modalities
from selfflow.modalities.text import BytePairs
from selfflow.modalities.visual import Patches
from selfflow.objectives import SelfFlow
from selfflow.pipeline import Pipeline, build_network
from selfflow.release import release
from selfflow.runtime import Runtime
from selfflow.serve.making import Wish, question
from selfflow.tasks import TASKS, named
from selfflow.times import Draws
from selfflow.train.task import Prepare

RATE, CAPTION = 16_000, "a red ball"


class Shuffled(Codec):
    """Exact: `time_factor` frames become channels of one; the first frame fills its own with copies."""

    kind, factor = "shuffled", 1

    def __init__(self, joins: int) -> None:
        super().__init__()
        self.time_factor, self.channels = joins, 3 * joins

    def _encode(self, values):
        k = self.time_factor
        filled = torch.cat([values[:, :1].expand(-1, k - 1, -1, -1, -1), values], dim=1)
        return rearrange(filled, "b (f k) c h w -> b f (k c) h w", k=k)

    def _decode(self, latents):
        k = self.time_factor
        return rearrange(latents, "b f (k c) h w -> b (f k) c h w", k=k)[:, k - 1 :]


class Hops:
    """Exact, of sound: a latent is its hop."""

    hears = causal = learned = True
    continues = False
    channels, factor, rate = 320, 320, RATE

    def encode(self, wave):
        filled = torch.nn.functional.pad(wave.float(), (0, -wave.shape[1] % self.factor))
        return rearrange(filled, "b (n s) -> b s n", s=self.factor)

    def decode(self, latents, begins=None):
        return rearrange(latents, "b s n -> b (n s)")


def frames(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def modalities(joins, **more):
    return Modalities(BytePairs.train([CAPTION] * 3, 270), Patches(4, 3 * joins), codec=Shuffled(joins), **more)


def film(count, size=8, seed=0, fps=10.0):
    rng = np.random.default_rng(seed)
    actions, sound = rng.uniform(-1, 1, (count, 2)), rng.normal(0, 0.1, round(count / fps * RATE))
    return Sample(
        str(seed), None, CAPTION, clip=frames(count, size, size, seed=seed), fps=fps, sound=sound.astype(np.float32),
        sound_rate=RATE, actions=actions.astype(np.float32), states=actions[:1].astype(np.float32), control_hz=fps,
        body="toy", references=(frames(size, size, seed=seed + 1),),
    )  # fmt: skip


def toy(monkeypatch, codec, audio=None, **picture):
    """A pipeline with random weights whose pictures go through `codec`, whose sounds through `audio`."""
    monkeypatch.setattr(building, "_codec", {"pictures": codec, "sounds": audio}.__getitem__)
    config = Config(
        data=DataConfig(frames=7, seconds=0.2), text=TextConfig(vocabulary=270, max_tokens=24),
        picture=PictureConfig(size=8, patch=4, codec="pictures", **picture), control=ControlConfig(2),
        audio=AudioConfig(RATE, codec="" if audio is None else "sounds"),
        network=NetworkConfig(width=32, depth=2, heads=2),
    )  # fmt: skip
    text, generator = BytePairs.train([CAPTION] * 3, 270, 24), torch.Generator().manual_seed(0)
    net = build_network(config, text)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.1 if p.ndim < 2 else p.shape[-1] ** -0.5))
    rows = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    return Pipeline(net, text, config, quantiles=Quantiles.fit({"toy": {"actions": rows, "states": rows}}))


# ------------------------------------------------------------------------------------------------ clips, joined frames


@pytest.mark.parametrize("count", [7, 6, 2])
def test_joined_frames_are_those_of_the_identity_rearranged(count):
    """Tokens three frames deep in pixels, and an exact codec that joins three: the same numbers at the same places."""
    coded, sample = modalities(3), film(count)
    tokens = coded.streams([sample], named("clip"))["visual"]
    values = to_values([sample.clip])
    first = Patches(4).tokens(values[:, 0])
    rest = Patches(4, frames=3).clip_tokens(values[:, 1:], fps=10, start=0.1)
    assert coded.moments(count) == 1 + -(-(count - 1) // 3)
    assert len(tokens) == len(first) + len(rest) == 4 * coded.moments(count)
    by_place = {"k": 3, "p": 4, "s": 4}
    pixels = rearrange(tokens.data, "b n (p s k c) -> b n k (p s c)", **by_place, c=3)
    for copy in pixels[:, :4].unbind(2):
        assert torch.equal(copy, first.data)
    assert torch.equal(pixels[:, 4:].flatten(2), rest.data)
    torch.testing.assert_close(tokens.positions, torch.cat([first.positions, rest.positions], dim=1))
    (back,) = coded.samples({"visual": tokens}, [replace(sample, clip=np.zeros_like(sample.clip))])
    assert np.array_equal(back.clip, sample.clip)


def test_a_picture_is_a_clip_of_one_frame_and_the_first_frame_is_a_picture():
    coded, sample = modalities(4), film(5)
    clip = coded.streams([sample], named("clip"))["visual"]
    first = coded.streams([sample], named("animate"))["first"]
    still = coded.streams([replace(sample, clip=None, picture=sample.clip[0])], named("picture"))["visual"]
    alone = coded.streams([replace(sample, clip=sample.clip[:1])], named("clip"))["visual"]
    for tokens in (first, still, alone):
        assert torch.equal(tokens.data, clip.data[:, :4])
        assert torch.equal(tokens.positions, clip.positions[:, :4])
    (reference,) = coded.streams([sample], named("edit"))["references"]
    assert torch.equal(reference.data, coded.encode_pictures(to_values([sample.references[0]])).data)


def test_frames_sounds_and_actions_share_seconds_with_joined_frames():
    coded = modalities(
        3,
        audio=Audio(RATE),
        action=Actions(2),
        quantiles=Quantiles.fit({"toy": {"actions": [[-1.0, -1.0], [1.0, 1.0]]}}),
    )
    streams = coded.streams([film(7)], named("clip+sound")) | coded.streams([film(7)], named("imagine"))
    seen, heard, done = (streams[name].positions[0, :, 0] for name in ("visual", "audio", "action"))
    # Frame j and action j are at j / 10 seconds: frames 1 2 3 lie about the time of action 2, 4 5 6 about that of 5.
    torch.testing.assert_close(seen.unique(), done[[0, 2, 5]])
    assert bool(((heard[1:] - heard[:-1] - 0.02).abs() < 1e-6).all())
    assert float(heard[0]) == pytest.approx(0.01)
    assert float(heard[-1]) == pytest.approx(0.69)


def test_codecs_say_when_their_latents_are():
    assert Shuffled(4).latent_times(9, 20) == pytest.approx([0, 2.5 / 20, 6.5 / 20])
    assert Shuffled(4).latent_times(7, 20) == pytest.approx([0, 2.5 / 20, 5.5 / 20])  # two real frames in the last
    assert Shuffled(1).latent_times(3, 8) == pytest.approx([0, 1 / 8, 2 / 8])
    with pytest.raises(ValueError, match="fps is 0"):
        Shuffled(4).latent_times(9, 0)
    with pytest.raises(ValueError, match="3 times for 2 frames"):
        Patches(4).clip_tokens(torch.zeros(1, 2, 3, 4, 4), 10, times=[0, 1, 2])


# -------------------------------------------------------------------------------------------------- every task, worlds


def test_every_task_trains_and_is_done_with_joined_frames_and_sounds_of_a_codec(monkeypatch):
    pipe = toy(monkeypatch, Shuffled(3), Hops())
    objective = SelfFlow(pipe.net, 32, 1, 2, mask_ratio=0.5)
    prepare = Prepare(pipe.modalities, 0.1, 0.1)
    for i, task in enumerate(TASKS):
        samples = [film(7, seed=s) for s in range(3)]
        if task in ("picture", "edit", "inpaint", "outpaint"):
            samples = [replace(s, clip=None, picture=s.clip[0]) for s in samples]
        generated, known = prepare(Batch(samples, task=task), Draws.at(0, i))
        assert bool(objective(generated, known, draws=Draws.at(0, i)).total.isfinite()), task
        streams = pipe.modalities.streams(samples, named(task))
        keep = named(task).draw(streams, Draws.at(1, i))
        if task in ("continue", "imagine"):  # whole moments, from the first on
            kept = keep["visual"].reshape(3, 4)
            assert bool((kept.all(1) == kept.any(1)).all())
            assert kept[:, 0].tolist() == sorted(kept[:, 0].tolist(), reverse=True)
        for sample, made in zip(samples, pipe.solve(task, samples, keep=keep, steps=1), strict=True):
            for entry in named(task).generated:
                field = {"visual": "picture" if sample.clip is None else "clip", "audio": "sound", "action": "actions"}
                name = field[entry.split(".")[0]]
                assert getattr(made, name).shape == getattr(sample, name).shape


def test_what_is_known_of_a_clip_comes_back_and_never_saw_the_rest(monkeypatch):
    keep = {"visual": torch.arange(12) < 8}
    sample = film(7)
    blank = replace(sample, clip=np.concatenate([sample.clip[:4], np.zeros_like(sample.clip[4:])]))
    (made,) = toy(monkeypatch, Shuffled(3)).solve("continue", [blank], keep=keep, steps=2)
    assert np.array_equal(made.clip[:4], sample.clip[:4])
    assert made.clip[4:].any()
    torch.manual_seed(0)
    codec = VisualAutoencoder(Shape(channels=5, strides=(2,), widths=(8,), blocks=(1,), time_factor=3)).eval()
    with torch.no_grad():
        for p in codec.parameters():
            p.add_(0.1 * torch.randn_like(p))
    pipe = toy(monkeypatch, codec)
    keep = {"visual": torch.arange(3) < 2}
    coded = [pipe.modalities.streams([s], named("clip"))["visual"] for s in (sample, blank)]
    torch.testing.assert_close(coded[0].data[:, :2], coded[1].data[:, :2], rtol=0, atol=1e-5)
    (made,) = pipe.solve("continue", [blank], keep=keep, steps=2)
    lossy = to_pixels(codec.decode(codec.encode(to_values([sample.clip[:4]]))))[0]
    assert np.abs(made.clip[:4].astype(int) - lossy).max() <= 1  # the codec's loss, and no other
    (begun,) = pipe.animate(sample.clip[:1], [CAPTION], 6, 10, steps=1)
    assert np.array_equal(begun[0], sample.clip[0])
    assert begun.shape == (6, 8, 8, 3)


def test_a_world_of_joined_frames_is_played_as_it_is_asked_for(monkeypatch):
    """Moments of 1, 3 and 3 frames; then a window that begins at frame 3."""
    runtime = Runtime(toy(monkeypatch, Shuffled(3)), torch.float32)
    actions = np.random.default_rng(1).uniform(-1, 1, (9, 2)).astype(np.float32)

    def whole(clip, known, moment, number):
        count = 1 + 3 * moment
        blank = np.zeros((count, 8, 8, 3), np.uint8)
        blank[: count - 3] = clip[: count - 3]
        sample = Sample("x", None, CAPTION, clip=blank, fps=10, actions=known, control_hz=10, body="toy")
        keep = {"visual": torch.arange(4 * (moment + 1)) < 4 * moment}
        generator = torch.Generator().manual_seed(number)
        (made,) = runtime.solve("imagine", [sample], keep=keep, steps=2, guidance=1.0, generator=generator)
        return list(made.clip[-3:])

    world = runtime.rollout(frames(8, 8), CAPTION, "toy", 10, seed=0, steps=2, drop=1)
    assert (world.depth, world.lead, world.window) == (3, 1, 3)
    shown = np.concatenate([world.step(actions[:3]), world.step(actions[3:6]), world.step(actions[6:9])])
    assert world.seen == 9
    clip = [frames(8, 8)]
    clip += whole(clip, actions[[0, 1, 2, 2]], 1, 1)
    clip += whole(clip, actions[[0, 1, 2, 3, 4, 5, 5]], 2, 2)
    clip += whole(clip[3:], actions[[3, 4, 5, 6, 7, 8, 8]], 2, 3)
    assert np.array_equal(shown, clip[1:])
    one_by_one = runtime.rollout(frames(8, 8), CAPTION, "toy", 10, seed=0, steps=2, drop=1)
    assert np.concatenate([one_by_one.step(actions[i : i + 1]) for i in range(9)]).shape == shown.shape


@pytest.mark.parametrize(("given", "looked_at"), [(1, 1), (3, 1), (4, 4), (11, 7)])
def test_a_clip_is_continued_after_whole_moments(monkeypatch, given, looked_at):
    pipe = toy(monkeypatch, Shuffled(3))
    clip = frames(given, 8, 8)
    asked = question(Wish("continue", CAPTION, source=clip, frames=4, fps=10), pipe)
    assert len(asked.sample.clip) == looked_at + 4
    assert int(asked.keep["visual"].sum()) == 4 * pipe.modalities.moments(looked_at)
    (answer,) = pipe.solve("continue", [asked.sample], keep=asked.keep, steps=1)
    made = asked.finish(answer).clip
    assert made.shape == (given + 4, 8, 8, 3)
    assert np.array_equal(made[:given], clip)


def test_depths_that_do_not_go_together_get_one_clear_error(monkeypatch):
    with pytest.raises(ValueError, match=r"joins 3 frames and picture\.frames is 2; with this codec it is 1"):
        toy(monkeypatch, Shuffled(3), frames=2)
    with pytest.raises(ValueError, match="joins 3 frames and a token holds 2"):
        Modalities(None, Patches(4, 9), Patches(4, 9, frames=2), codec=Shuffled(3))
    with pytest.raises(ValueError, match=r"picture.codec is pictures, a codec of sound"):
        toy(monkeypatch, SoundAutoencoder(small()))


# --------------------------------------------------------------------------------------------------------------- sound


def small(**more):
    return Shape(channels=6, strides=(8, 5, 8), widths=(8, 8, 12), blocks=(1, 1, 1), **({"causal": True} | more))


def trained_a_little(codec):
    torch.manual_seed(1)
    with torch.no_grad():
        for p in codec.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return codec.eval()


def test_a_latent_is_a_token_at_the_centre_of_its_hop():
    wave = 0.1 * torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
    coded, plain = AudioLatents(Hops()).tokens(wave, start=0.5), Audio(RATE).tokens(wave, start=0.5)
    assert torch.equal(coded.positions, plain.positions)
    assert (coded.modality, AudioLatents(Hops()).rate, AudioLatents(Hops()).hop) == ("audio", RATE, 320)
    assert torch.equal(coded.data.flatten(1)[:, :1000], wave)
    assert torch.equal(AudioLatents(Hops()).waveform(coded.data, 1000), wave)
    with pytest.raises(ValueError, match=r"1300 samples in hops of 320 need \(b, 5, 320\)"):
        AudioLatents(Hops()).waveform(coded.data, 1300)


def test_a_latent_of_sound_has_not_heard_what_follows():
    codec = trained_a_little(SoundAutoencoder(small()))
    wave = 0.1 * torch.randn(1, 3200, generator=torch.Generator().manual_seed(0))
    other = torch.cat([wave[:, :1600], torch.rand(1, 1600)], dim=1)
    audio = AudioLatents(codec)
    whole, changed, short = (audio.tokens(w).data for w in (wave, other, wave[:, :1600]))
    torch.testing.assert_close(whole[:, :5], changed[:, :5], rtol=0, atol=1e-6)
    torch.testing.assert_close(whole[:, :5], short, rtol=0, atol=1e-6)
    assert (whole[:, 5:] - changed[:, 5:]).abs().max() > 0.1
    torch.testing.assert_close(audio.waveform(whole, 3200), codec.decode(codec.encode(wave)))
    ahead = trained_a_little(SoundAutoencoder(small(causal=False)))
    assert (ahead.encode(wave) - ahead.encode(other))[..., :5].abs().max() > 0.01
    with pytest.raises(ValueError, match="looks ahead"):
        AudioLatents(ahead)
    with pytest.raises(ValueError, match="codec of sound"):
        AudioLatents(Shuffled(1))


def test_a_model_carries_its_codec_of_sound(tmp_path):
    torch.manual_seed(0)
    trained_a_little(SoundAutoencoder(small())).save(tmp_path / "codec")
    config = Config(
        text=TextConfig(vocabulary=270, max_tokens=24), picture=PictureConfig(size=8, patch=4),
        audio=AudioConfig(RATE, codec=str(tmp_path / "codec")), network=NetworkConfig(width=32, depth=2, heads=2),
    )  # fmt: skip
    text = BytePairs.train([CAPTION] * 3, 270, 24)
    pipe = Pipeline(build_network(config, text), text, config)
    assert pipe.net.embed["audio"].in_features == 6
    said = pipe.speak([CAPTION], 0.21, steps=2, generator=torch.Generator().manual_seed(0))
    assert said.shape == (1, 3360)
    pipe.save_pretrained(tmp_path / "model", "card")
    (tmp_path / "codec").rename(tmp_path / "elsewhere")  # the model has its own by now
    again = Pipeline.from_pretrained(tmp_path / "model")
    repeated = again.speak([CAPTION], 0.21, steps=2, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(repeated, said, atol=1e-5)
    released = Pipeline.from_pretrained(release(tmp_path / "model", tmp_path / "weights"))
    assert released.modalities.audio.codec.fingerprint == again.modalities.audio.codec.fingerprint
    with pytest.raises(ValueError, match="sounds are made whole"):
        next(Runtime(again).stream_sound(CAPTION, 1.0))
    for audio in (AudioConfig(8000, codec=again.config.audio.codec), AudioConfig(0, codec=again.config.audio.codec)):
        with pytest.raises(ValueError, match=r"takes 16000 and 320"):
            build_network(replace(config, audio=audio), text)
