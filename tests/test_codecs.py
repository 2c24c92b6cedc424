"""Codecs: what goes in comes back in shape, no frame sees a later one, statistics and caches mean what they say."""

import json
import logging
from dataclasses import replace

import pytest
import torch

from selfflow.codecs import Identity, load_codec
from selfflow.codecs.autoencoder import CLIP, PICTURE_4, PICTURE_8, SOUND, Shape, SoundAutoencoder, VisualAutoencoder
from selfflow.codecs.cache import CachedCodec, LatentCache, content
from selfflow.codecs.losses import gradient_distance, psnr, spectral_distance

TINY = Shape(channels=4, strides=(2, 2), widths=(8, 8), blocks=(1, 1))


def random_codec(shape=TINY, kind=VisualAutoencoder):
    """With every weight and statistic random: zeros would make identities hold for nothing."""
    torch.manual_seed(0)
    codec = kind(shape).eval()
    for p in codec.parameters():
        torch.nn.init.normal_(p, std=0.2)
    codec.statistics.running_mean.normal_()
    codec.statistics.running_var.uniform_(0.5, 2)
    return codec


@pytest.mark.parametrize("shape", [PICTURE_4, PICTURE_8, CLIP], ids=["f4", "f8", "clip"])
def test_pictures_decode_with_few_parameters_to_their_own_shape(shape):
    codec = VisualAutoencoder(shape).eval()
    assert codec.decoder_parameters <= 1_500_000
    assert 8 <= codec.channels <= 16
    pictures = torch.rand(2, 3, 32, 48) * 2 - 1
    latents = codec.encode(pictures)
    assert latents.shape == (2, codec.channels, 32 // codec.factor, 48 // codec.factor)
    assert codec.decode(latents).shape == pictures.shape


def test_sound_decodes_with_few_parameters_at_fifty_latents_a_second():
    codec = SoundAutoencoder(SOUND).eval()
    assert codec.decoder_parameters <= 1_500_000
    assert codec.rate / codec.factor == 50
    assert codec.encode(torch.zeros(2, 1000)).shape == (2, codec.channels, 4)
    assert codec.decode(torch.zeros(2, codec.channels, 4)).shape == (2, 1280)
    with pytest.raises(ValueError, match="waveforms are"):
        codec.encode(torch.zeros(2, 1, 1000))
    with pytest.raises(ValueError, match="latents of sound"):
        codec.decode(torch.zeros(2, 3, 4))


def test_decoder_parameters_are_those_that_decoding_uses():
    codec = random_codec(replace(TINY, time_factor=2))
    torch.Tensor.backward(codec._decode(torch.randn(1, 3, 4, 2, 2)).sum())
    assert codec.decoder_parameters == sum(p.numel() for p in codec.parameters() if p.grad is not None)


def test_clips_of_frame_wise_codecs_are_their_frames():
    codec = random_codec()
    clip = torch.rand(2, 3, 3, 8, 8)
    latents = codec.encode(clip)
    torch.testing.assert_close(latents[:, 1], codec.encode(clip[:, 1]))
    torch.testing.assert_close(codec.decode(latents)[:, 2], codec.decode(latents[:, 2]))


def test_a_picture_is_a_clip_of_one_frame_and_no_frame_sees_a_later_one():
    codec = random_codec(replace(TINY, time_factor=4))
    clip = torch.rand(2, 9, 3, 8, 8)
    latents, other = codec.encode(clip), clip.clone()
    assert latents.shape[1] == 3 == codec.latent_frames(9)
    torch.testing.assert_close(codec.encode(clip[:, 0]), latents[:, 0])
    other[:, 5] += 0.5
    changed = codec.encode(other)
    torch.testing.assert_close(changed[:, :2], latents[:, :2], rtol=0, atol=0)
    assert not torch.allclose(changed[:, 2], latents[:, 2])
    frames = codec.decode(latents)
    assert frames.shape == clip.shape
    torch.testing.assert_close(codec.decode(latents[:, :2]), frames[:, :5])
    torch.testing.assert_close(codec.decode(latents[:, 0]), frames[:, 0])


def test_the_last_frame_fills_a_clip_that_does_not_fill_its_latents():
    codec = random_codec(replace(TINY, time_factor=4))
    clip = torch.rand(1, 7, 3, 8, 8)
    filled = torch.cat([clip, clip[:, -1:].expand(-1, 2, -1, -1, -1)], dim=1)
    torch.testing.assert_close(codec.encode(clip), codec.encode(filled), rtol=0, atol=0)
    assert [codec.latent_frames(n) for n in (1, 2, 5, 6, 9)] == [1, 2, 2, 3, 3]
    with pytest.raises(ValueError, match="at least one"):
        codec.latent_frames(0)


def test_what_is_decoded_depends_on_what_is_near_only():
    codec = random_codec()
    latents = torch.randn(1, 4, 4, 32)
    other = latents.clone()
    other[..., 0] += 1
    difference = (codec.decode(other) - codec.decode(latents)).abs().amax(dim=(0, 1, 2))
    assert difference[0] > 0
    assert difference[-32:].max() == 0


def test_training_normalises_by_the_batch_and_encoding_by_running_statistics():
    codec = random_codec().train()
    pictures = torch.rand(32, 3, 8, 8)
    before = codec.encode(pictures[:1])
    torch.testing.assert_close(codec.encode(pictures)[:1], before)  # in training mode, too: no batch in it
    latents = codec(pictures, torch.zeros)[1]
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-5, rtol=0)
    encoded = codec.encode(pictures)  # after one batch the running statistics are its own
    torch.testing.assert_close(encoded, latents.detach(), atol=0.02, rtol=0.02)


def test_noise_disturbs_what_is_decoded_by_as_much_as_the_shape_says():
    codec = random_codec(replace(TINY, noise=0.5))
    codec.statistics.train()
    pictures = torch.rand(2, 3, 8, 8)
    restored, latents = codec(pictures, torch.ones)
    torch.testing.assert_close(restored, codec._decode(latents + 0.5))


@pytest.mark.parametrize(
    ("codec", "values"),
    [
        (Identity(), torch.rand(1, 3, 8, 8)),
        (random_codec(replace(TINY, time_factor=2)), torch.rand(1, 3, 3, 8, 8)),
        (random_codec(replace(TINY, strides=(5, 4)), SoundAutoencoder), torch.rand(1, 40)),
    ],
    ids=["identity", "visual", "sound"],
)
def test_a_saved_codec_is_the_same_codec(codec, values, tmp_path):
    again = load_codec(codec.save(tmp_path / "codec"))
    assert again.fingerprint == codec.fingerprint
    torch.testing.assert_close(again.encode(values), codec.encode(values), rtol=0, atol=0)
    assert (again.channels, again.factor, again.time_factor) == (codec.channels, codec.factor, codec.time_factor)
    assert not again.training
    assert sorted(p.name for p in (tmp_path / "codec").iterdir()) == ["codec.json", "codec.safetensors"]


def test_the_fingerprint_changes_with_weights_and_with_statistics():
    codec = random_codec()
    found = {codec.fingerprint}
    codec.statistics.running_mean[0] += 1
    found.add(codec.fingerprint)
    next(codec.parameters()).data[0] += 1
    found.add(codec.fingerprint)
    assert len(found | {Identity().fingerprint}) == 4


def test_identity_is_one():
    values = torch.rand(2, 3, 5, 7)
    codec = load_codec("identity")
    assert torch.equal(codec.decode(codec.encode(values)), values)
    assert (codec.channels, codec.factor, codec.time_factor) == (3, 1, 1)


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (torch.rand(2, 4, 8, 8), "of this codec are"),
        (torch.rand(3, 8, 8), "of this codec are"),
        (torch.rand(2, 3, 8, 9), "do not divide"),
        (torch.full((1, 3, 8, 8), float("nan")), "finite"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "finite floating-point"),
    ],
)
def test_bad_values_get_one_clear_error(values, what):
    with pytest.raises(ValueError, match=what):
        random_codec().encode(values)


def test_bad_files_get_one_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no codec"):
        load_codec(tmp_path / "nowhere")
    directory = random_codec().save(tmp_path / "codec")
    described = json.loads((directory / "codec.json").read_text())
    for text, what in (
        ("{", "describes no codec"),
        (json.dumps({**described, "kind": "magic"}), "'magic'"),
        (json.dumps({**described, "shape": {**described["shape"], "colour": 1}}), "colour"),
        (json.dumps({**described, "shape": {**described["shape"], "widths": [8, 16]}}), "does not fit"),
    ):
        (directory / "codec.json").write_text(text)
        with pytest.raises(ValueError, match=what):
            load_codec(directory)
    (directory / "codec.json").write_text(json.dumps(described))
    (directory / "codec.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="damaged"):
        load_codec(directory)
    (directory / "codec.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="missing"):
        load_codec(directory)
    with pytest.raises(ValueError, match="as many strides"):
        Shape(strides=(2,))


# --------------------------------------------------------------------------------------------------------- the cache


class Counting(Identity):
    """Counts what it encodes."""

    encoded = 0

    def _encode(self, values):
        self.encoded += len(values)
        return values / 3


def test_the_cache_encodes_once_and_gives_the_same_ever_after(tmp_path):
    codec, values = Counting(), torch.rand(6, 3, 4, 4)
    cached = CachedCodec(codec, tmp_path)
    first = cached.encode(values)
    assert torch.equal(cached.encode(values[[5, 2]]), first[[5, 2]])
    assert codec.encoded == 6
    assert torch.equal(first, values / 3)  # to the bit
    cached.cache.flush()
    assert not list(tmp_path.rglob("*.tmp"))
    again = CachedCodec(codec, tmp_path)
    assert len(again.cache) == 6
    assert torch.equal(again.encode(values.flip(0)), first.flip(0))
    assert codec.encoded == 6
    assert (again.channels, again.fingerprint) == (codec.channels, codec.fingerprint)
    assert torch.equal(again.decode(first), first)


def test_a_batch_of_which_anything_is_missing_is_encoded_whole(tmp_path):
    codec, values = Counting(), torch.rand(4, 3, 4, 4)
    cached = CachedCodec(codec, tmp_path)
    cached.encode(values[:2])
    assert torch.equal(cached.encode(values), values / 3)
    assert codec.encoded == 2 + 4
    assert len(cached.cache) == 4
    with pytest.raises(ValueError, match="values of this codec"):
        cached.encode(torch.rand(2, 5, 4, 4))


def test_codec_content_and_shape_each_tell_latents_apart(tmp_path):
    values = torch.zeros(3, 4, 4)
    other = values.clone()
    other[2, 3, 3] = 1e-7
    assert len({content(v) for v in (values, other, values.reshape(3, 2, 8), values[:1])}) == 4
    assert content(values) == content(values.clone())
    cache = LatentCache(tmp_path, Counting(), shard=1)
    cache.put("one", torch.ones(3, 4, 4))
    assert cache.get("two") is None
    assert len(LatentCache(tmp_path, random_codec())) == 0
    assert len(LatentCache(tmp_path, Counting())) == 1


def test_a_full_cache_first_drops_other_codecs_and_then_stays_as_it_is(tmp_path, caplog):
    latent = torch.ones(3, 32, 64)  # 24 KiB
    other = LatentCache(tmp_path, random_codec(), most_bytes=60_000, shard=1)
    for i in range(2):
        other.put(str(i), latent)
    assert len(LatentCache(tmp_path, random_codec())) == 2
    cache = LatentCache(tmp_path, Counting(), most_bytes=60_000, shard=1)
    with caplog.at_level(logging.WARNING):
        for i in range(4):
            cache.put(str(i), latent)
    assert cache.full
    assert "full" in caplog.text
    assert len(LatentCache(tmp_path, random_codec())) == 0
    assert len(LatentCache(tmp_path, Counting())) == 2
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.safetensors")) <= 60_000


def test_a_damaged_shard_is_encoded_again(tmp_path):
    codec, values = Counting(), torch.rand(2, 3, 4, 4)
    cached = CachedCodec(codec, tmp_path)
    cached.encode(values)
    cached.cache.flush()
    next(tmp_path.rglob("*.safetensors")).write_bytes(b"\0" * 40)
    CachedCodec(codec, tmp_path).encode(values)
    assert codec.encoded == 4
    with pytest.raises(ValueError, match="most_bytes"):
        LatentCache(tmp_path, Counting(), most_bytes=0)


# -------------------------------------------------------------------------------------------------------- the losses


def test_gradient_distance_of_a_ramp_by_hand():
    true = torch.zeros(1, 1, 4, 4)
    restored = torch.arange(4.0).expand(1, 1, 4, 4)  # rises by 1 a column: 1 and 0 at full size, 2 and 0 at half
    assert gradient_distance(restored, true, scales=1) == 0.5
    assert gradient_distance(restored, true, scales=2) == (0.5 + 1) / 2
    assert gradient_distance(true + 3, true) == 0  # a shift of brightness has no edges


def test_spectral_distance_hears_loudness_and_not_phase():
    time = torch.arange(4096) / 16_000
    tone = torch.sin(2 * torch.pi * 1000 * time)[None]
    late = torch.sin(2 * torch.pi * 1000 * time + 1)[None]
    soft = spectral_distance(tone * 0.1, tone, windows=(512,))
    assert spectral_distance(tone, tone) == 0
    assert spectral_distance(late, tone, windows=(512,)) < soft / 5
    noise = torch.randn(1, 40_000)
    assert abs(spectral_distance(noise * 0.1, noise) - 1) < 0.01  # ten times softer is one unit of log10
    silent = torch.zeros(1, 4096, requires_grad=True)
    spectral_distance(silent, tone).backward()
    assert torch.isfinite(silent.grad).all()
    with pytest.raises(ValueError, match="shorter"):
        spectral_distance(tone[:, :100], tone[:, :100])


def test_psnr_by_hand():
    true = torch.zeros(2, 3, 4, 4)
    found = psnr(true + torch.tensor([0.2, 0.02]).reshape(2, 1, 1, 1), true)
    torch.testing.assert_close(found, torch.tensor([20.0, 40.0]))  # (2 / 0.2)² = 100
