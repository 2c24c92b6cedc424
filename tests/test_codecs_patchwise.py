"""The patchwise codec and what it is for: principal components first, latents of their own patch, layers translated."""

from dataclasses import replace

import pytest
import torch

from selfflow.codecs import load_codec
from selfflow.codecs.autoencoder import Shape
from selfflow.codecs.patchwise import PATCHES, PatchAutoencoder
from selfflow.modalities.streams import Modalities
from selfflow.modalities.text import BytePairs
from selfflow.modalities.visual import Patches
from selfflow.train.translation import linear_fit, translatable, translated

TINY = Shape(channels=5, strides=(4,), widths=(16,), blocks=(1,), noise=0.2, own=1)


def smooth(count, size=16, seed=0):
    """Pictures in which neighbours are alike, as of anything that is worth a codec."""
    torch.manual_seed(seed)
    small = torch.rand(count, 3, size // 4 + 1, size // 4 + 1) * 2 - 1
    return torch.nn.functional.interpolate(small, (size, size), mode="bilinear")


def begun(shape=TINY, pictures=None):
    torch.manual_seed(0)
    codec = PatchAutoencoder(shape)
    codec.begin(smooth(64) if pictures is None else pictures)
    return codec.eval()


def stirred(codec):
    """With every weight disturbed: zeros would make identities hold for nothing."""
    torch.manual_seed(1)
    for p in codec.parameters():
        p.data += 0.1 * torch.randn_like(p)
    codec.mean.normal_()
    codec.scale.fill_(1.7)
    return codec


def test_it_decodes_with_few_parameters_to_the_shape_that_was_given():
    codec = PatchAutoencoder(PATCHES).eval()
    assert codec.decoder_parameters <= 1_500_000
    latents = codec.encode(torch.rand(2, 3, 16, 24) * 2 - 1)
    assert latents.shape == (2, 48, 2, 3)
    assert codec.decode(latents).shape == (2, 3, 16, 24)
    assert codec.encode(torch.zeros(2, 3, 3, 16, 24)).shape == (2, 3, 48, 2, 3)  # a clip frame by frame


def test_it_begins_as_the_best_linear_code_of_its_width():
    pictures, codec = smooth(64), begun()
    patches = codec._patches(pictures).flatten(0, 2).double()
    _, _, axes = torch.linalg.svd(patches - patches.mean(dim=0), full_matrices=False)
    mean, axes = patches.mean(dim=0), axes[:5].T
    best = (mean + (patches - mean) @ axes @ axes.T).float()
    restored = codec._patches(codec.decode(codec.encode(pictures))).flatten(0, 2)
    assert torch.allclose(restored, best, atol=1e-4)


def test_as_many_channels_as_numbers_lose_nothing():
    codec = begun(replace(TINY, channels=48), torch.rand(64, 3, 16, 16) * 2 - 1)
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    assert torch.allclose(codec.decode(codec.encode(pictures)), pictures, atol=1e-4)


def test_variances_of_latents_go_with_the_deviations_of_what_they_tell():
    pictures, codec = smooth(256), begun(pictures=smooth(256))
    patches = codec._patches(pictures).flatten(0, 2)
    deviations = torch.linalg.svdvals(patches - patches.mean(dim=0))[:5] / len(patches) ** 0.5
    variances = codec.encode(pictures).var(dim=(0, 2, 3))
    assert torch.allclose(variances / variances.sum(), deviations / deviations.sum(), rtol=2e-2)
    assert float(variances.mean()) == pytest.approx(1, rel=2e-2)


def test_a_latent_sees_its_own_patch_and_no_other():
    codec, one = stirred(begun()), smooth(1)
    other = smooth(1, seed=1)
    other[..., 4:8, 8:12] = one[..., 4:8, 8:12]
    a, b = codec.encode(one), codec.encode(other)
    assert torch.allclose(a[..., 1, 2], b[..., 1, 2], atol=1e-6)
    assert (a[..., 1, 1] - b[..., 1, 1]).abs().max() > 1e-2


def test_training_normalises_by_the_batch_and_encoding_by_what_was_seen():
    codec = stirred(begun()).train()
    codec.seen.zero_()
    pictures = smooth(8, seed=3)
    latents = codec(pictures, torch.zeros)[1].detach()
    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(5), atol=1e-5)
    assert float(latents.square().mean()) == pytest.approx(1, rel=1e-5)
    assert torch.allclose(codec.eval().encode(pictures), latents, atol=1e-5)  # one batch was seen, and wholly believed
    codec.train()(smooth(8, seed=4), torch.zeros)
    assert not torch.allclose(codec.eval().encode(pictures), latents, atol=1e-3)


def test_noise_is_of_another_loudness_for_every_picture():
    codec, drawn = begun().train(), []

    def noise(*shape):
        drawn.append(torch.randn(*shape, generator=torch.Generator().manual_seed(2)))
        return drawn[-1]

    pictures = smooth(64)
    restored, latents = (x.detach() for x in codec(pictures, noise))
    restored = codec._patches(restored)
    clean = codec._patches(codec.decode(latents))
    moved = (restored - clean).flatten(1).norm(dim=1)
    loud = torch.special.ndtr(drawn[0][:, 0, 0, 0])
    assert float(torch.corrcoef(torch.stack([moved, loud]))[0, 1]) > 0.9
    assert float(moved.min()) < 0.2 * float(moved.max())


def test_a_saved_codec_is_the_same_codec(tmp_path):
    codec, pictures = stirred(begun()), smooth(2)
    other = load_codec(codec.save(tmp_path))
    assert torch.equal(other.encode(pictures), codec.encode(pictures))
    assert other.fingerprint == codec.fingerprint


def test_what_it_cannot_be_is_said():
    with pytest.raises(ValueError, match="becomes fewer"):
        PatchAutoencoder(replace(TINY, channels=49))
    with pytest.raises(ValueError, match="own > 0"):
        PatchAutoencoder(replace(TINY, own=0))
    with pytest.raises(ValueError, match="one level"):
        Shape(own=1)
    with pytest.raises(ValueError, match="16 patches have no 48 principal components"):
        PatchAutoencoder(TINY).begin(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="finite"):
        PatchAutoencoder(TINY).begin(torch.full((9, 3, 16, 16), torch.nan))


# ------------------------------------------------------------------------------------------------------ translation


def test_a_linear_map_is_found_exactly():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(50, 4), torch.randn(3, 4), torch.randn(3)
    found, offset = linear_fit(x, x @ weight.T + bias)
    assert torch.allclose(found.float(), weight, atol=1e-4)
    assert torch.allclose(offset.float(), bias, atol=1e-4)
    with pytest.raises(ValueError, match="give more pictures"):
        linear_fit(x[:4], x[:4])


def modalities(codec=None, frames=2):
    text = BytePairs.train(["a ball"], 270, 8)
    patches = Patches(4) if codec is None else Patches(1, codec.channels)
    return Modalities(text, patches, replace(patches, name="clip", frames=frames), codec=codec)


def test_translated_layers_say_the_same_in_other_tokens():
    """Of a code that loses nothing: features and clean data are what they were, to rounding."""
    pictures = torch.rand(64, 3, 16, 16) * 2 - 1
    codec = begun(replace(TINY, channels=48), pictures)
    old, new = modalities(), modalities(codec)
    assert translatable(old, new)
    assert not translatable(old, modalities(codec, frames=3))
    torch.manual_seed(0)
    sizes = {"visual": 48, "clip": 96}
    state = {"other": torch.ones(2)}
    for name, c in sizes.items():
        state |= {f"embed.{name}.weight": torch.randn(16, c), f"embed.{name}.bias": torch.randn(16)}
        for part in ("head", "mid_head"):
            state |= {f"{part}.{name}.weight": torch.randn(c, 16), f"{part}.{name}.bias": torch.randn(c)}
    found = translated(state, old, new, pictures)
    assert found.keys() == state.keys()
    assert torch.equal(found["other"], state["other"])
    clip, features = torch.rand(2, 4, 3, 16, 16) * 2 - 1, torch.randn(1, 16, 16)

    def enter(weights, tokens, name):
        return tokens.data @ weights[f"embed.{name}.weight"].T + weights[f"embed.{name}.bias"]

    def leave(weights, part, name):
        return features @ weights[f"{part}.{name}.weight"].T + weights[f"{part}.{name}.bias"]

    seen = [m.encode_pictures(pictures[:2]) for m in (old, new)]
    assert torch.allclose(enter(state, seen[0], "visual"), enter(found, seen[1], "visual"), atol=5e-3)
    seen = [m.moving.clip_tokens(m._encoded(clip), 10.0) for m in (old, new)]
    assert torch.allclose(enter(state, seen[0], "clip"), enter(found, seen[1], "clip"), atol=5e-3)
    for part in ("head", "mid_head"):
        said = [m.visual.pictures(leave(w, part, "visual"), *m.inner(16, 16)) for m, w in ((old, state), (new, found))]
        assert torch.allclose(said[0], codec.decode(said[1]), atol=5e-3)
