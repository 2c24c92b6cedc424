"""Published autoencoders: tiny random weights in the real layouts, normalised as computed by hand."""

import json
import sys
import types
import warnings

import pytest
import torch

from selfflow.codecs import load_codec
from selfflow.codecs.pretrained import NEEDS, Pretrained, diffusers_class

pytest.importorskip("diffusers", reason="the extra `latent` (diffusers) is not installed")


def tiny(name, **more):
    """A tiny autoencoder of that class with random weights and random statistics."""
    torch.manual_seed(0)
    two = {"block_out_channels": (8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    options = {
        "AutoencoderKL": two | kinds | {"latent_channels": 4, "scaling_factor": 0.36, "shift_factor": 0.12},
        "AutoencoderKLFlux2": two | kinds | {"latent_channels": 4},
        "AutoencoderTiny": {
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "num_encoder_blocks": (1, 1),
            "num_decoder_blocks": (1, 1),
            "scaling_factor": 1.5,
            "shift_factor": 0.25,
        },
        "AutoencoderKLWan": {
            "base_dim": 8,
            "z_dim": 4,
            "dim_mult": [1, 1, 1, 1],
            "num_res_blocks": 1,
            "latents_mean": [0.1, -0.2, 0.3, 0.0],
            "latents_std": [0.5, 1.0, 2.0, 4.0],
        },
    }[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vae = diffusers_class(name)(**options | more)
    if name == "AutoencoderKLFlux2":
        vae.bn.running_mean.normal_()
        vae.bn.running_var.uniform_(0.5, 3)
    return vae


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(2, 3, 16, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_kl_scales_and_shifts(pictures):
    vae = tiny("AutoencoderKL")
    codec = Pretrained(vae)
    assert (codec.channels, codec.factor, codec.time_factor) == (4, 2, 1)
    with torch.no_grad():
        mode = vae.encode(pictures).latent_dist.mean
        torch.testing.assert_close(codec.encode(pictures), (mode - 0.12) * 0.36)
        torch.testing.assert_close(codec.decode((mode - 0.12) * 0.36), vae.decode(mode).sample)


def test_kl_with_statistics_of_its_latents(pictures):
    mean, std = [0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]
    vae = tiny("AutoencoderKL", latents_mean=mean, latents_std=std, scaling_factor=0.5)
    with torch.no_grad():
        mode = vae.encode(pictures).latent_dist.mean
    wanted = torch.stack([(mode[:, i] - mean[i]) * 0.5 / std[i] for i in range(4)], dim=1)
    torch.testing.assert_close(Pretrained(vae).encode(pictures), wanted)


def test_flux2_packs_two_by_two_and_normalises_by_running_statistics(pictures):
    vae = tiny("AutoencoderKLFlux2")
    codec = Pretrained(vae).train()  # in whatever mode: the running statistics, never the batch's
    assert (codec.channels, codec.factor) == (16, 4)
    with torch.no_grad():
        mode = vae.encode(pictures).latent_dist.mean
    latents = codec.encode(pictures)
    assert latents.shape == (2, 16, 4, 8)
    for c, p, q in ((0, 0, 0), (1, 0, 1), (3, 1, 0), (2, 1, 1)):
        k = 4 * c + 2 * p + q
        std = (vae.bn.running_var[k] + vae.config.batch_norm_eps).sqrt()
        torch.testing.assert_close(latents[:, k], (mode[:, c, p::2, q::2] - vae.bn.running_mean[k]) / std)
    with torch.no_grad():
        torch.testing.assert_close(codec.decode(latents), vae.decode(mode).sample, atol=1e-4, rtol=1e-4)


def test_flux2_agrees_with_the_pipeline_of_diffusers(pictures):
    pytest.importorskip("transformers")
    try:
        from diffusers import Flux2Pipeline
    except (ImportError, RuntimeError):
        pytest.skip("this diffusers has no Flux2Pipeline that can be imported here")
    vae = tiny("AutoencoderKLFlux2")
    fake = types.SimpleNamespace(vae=vae, _patchify_latents=Flux2Pipeline._patchify_latents)
    with torch.no_grad():
        wanted = Flux2Pipeline._encode_vae_image(fake, pictures, torch.Generator().manual_seed(0))
    torch.testing.assert_close(Pretrained(vae).encode(pictures), wanted)


def test_tiny_scales_and_shifts(pictures):
    vae = tiny("AutoencoderTiny")
    codec = Pretrained(vae)
    assert (codec.channels, codec.factor) == (4, 2)
    with torch.no_grad():
        z = vae.encode(pictures).latents
        torch.testing.assert_close(codec.encode(pictures), (z - 0.25) * 1.5)
        torch.testing.assert_close(codec.decode((z - 0.25) * 1.5), vae.decode(z).sample)


def test_wan_takes_clips_of_one_and_four_k_frames():
    vae = tiny("AutoencoderKLWan")
    codec = Pretrained(vae)
    assert (codec.channels, codec.factor, codec.time_factor) == (4, 8, 4)
    clip = torch.rand(1, 5, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        mode = vae.encode(clip.movedim(2, 1)).latent_dist.mean
    latents = codec.encode(clip)
    assert latents.shape == (1, 2, 4, 2, 2)
    for c, (mean, std) in enumerate(zip((0.1, -0.2, 0.3, 0.0), (0.5, 1.0, 2.0, 4.0), strict=True)):
        torch.testing.assert_close(latents[:, :, c], (mode[:, c] - mean) / std)
    with torch.no_grad():
        torch.testing.assert_close(codec.decode(latents), vae.decode(mode).sample.movedim(1, 2))
    torch.testing.assert_close(codec.encode(clip[:, 0]), latents[:, 0])  # a picture is a clip of one frame
    longer = torch.cat([clip, clip[:, -1:].expand(-1, 4, -1, -1, -1)], dim=1)
    torch.testing.assert_close(codec.encode(longer[:, :6]), codec.encode(longer))  # six frames are filled up to nine
    assert codec.latent_frames(6) == 3


@pytest.mark.parametrize("name", NEEDS)
def test_each_is_read_from_diffusers_layout_and_saved_in_ours(name, tmp_path):
    codec, values = Pretrained(tiny(name)), torch.rand(1, 3, 16, 16)
    codec.vae.save_pretrained(tmp_path / "pipeline" / "vae")
    read = load_codec(tmp_path / "pipeline")
    again = load_codec(read.save(tmp_path / "ours"))
    for other in (read, again):
        assert other.fingerprint == codec.fingerprint
        torch.testing.assert_close(other.encode(values), codec.encode(values), rtol=0, atol=0)


def test_what_cannot_be_opened_says_why(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(ValueError, match="UNet2DModel"):
        load_codec(tmp_path / "other")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no autoencoder"):
        load_codec(tmp_path / "empty")
    with pytest.raises(ValueError, match="known here"):
        diffusers_class("AutoencoderDC")
    with pytest.raises(ValueError, match="Linear"):
        Pretrained(torch.nn.Linear(1, 1))
    old = types.SimpleNamespace(__version__="0.32.1")
    monkeypatch.setitem(sys.modules, "diffusers", old)
    with pytest.raises(ImportError, match=r"AutoencoderKLFlux2 needs diffusers 0\.36 or later, here is 0\.32\.1"):
        diffusers_class("AutoencoderKLFlux2")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match="latent"):
        diffusers_class("AutoencoderKL")
