"""What is matched: the likeliest window of one's own pictures, at every offset; pixels that are it, and no others."""

import pytest
import torch
import torch.nn.functional as F

from conftest import small_network, text_tokens
from selfflow.config import NetworkConfig
from selfflow.modalities.visual import Patches
from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.nn.matching import SAME, Matching
from selfflow.nn.taking import SAID, variance
from selfflow.objectives import FlowMatching
from selfflow.tokens import Tokens, stack

SIDE, ROWS = 4, 4
CHANNELS = 3 * SIDE**2
KINDS = {"text": Modality(vocabulary=50), "visual": Modality(CHANNELS, prediction="data", frame=CHANNELS, side=SIDE)}
PATCHES = Patches(SIDE)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(b=2, seed=3):
    """Random pictures `(b, 3, 16, 16)`, smooth as pictures are, no window of which is like another."""
    return 2 * F.avg_pool2d(torch.randn(b, 3, SIDE * ROWS + 2, SIDE * ROWS + 2, generator=seeded(seed)), 3, stride=1)


def network(**options):
    net = Transformer(TransformerConfig(KINDS, width=64, depth=2, heads=1, mlp_ratio=2.0, **options))
    generator = seeded()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if not name.startswith("matching."):
                p.copy_(torch.randn(p.shape, generator=generator) * (0.05 if p.ndim < 2 else p.shape[-1] ** -0.5))
    return net.eval()


def matching(side=SIDE, channels=3):
    made = Matching(16, 16, side, channels, ["visual"])
    made.init_weights()
    return made


def moved(picture, dx, dy):
    """The picture moved left and up by so many pixels, its edges repeated."""
    wide = F.pad(picture, (0, SIDE, 0, SIDE), mode="replicate")
    return wide[..., dy : dy + picture.shape[-2], dx : dx + picture.shape[-1]]


@pytest.mark.parametrize("side", [3, 4])
@torch.no_grad()
def test_windows_are_those_at_every_offset(side):
    made, picture = matching(side), torch.randn(2, 3, 2 * side, 3 * side, generator=seeded())
    known = Patches(side).tokens(picture)
    keys, values = made.read(known, torch.randn(2, len(known), 16))
    windows = made.windows(keys, values)
    cells = side // made.pool
    for y in range(2 * side):
        for x in range(3 * side):
            true = F.pad(picture, (0, side, 0, side), mode="replicate")[:, :, y : y + side, x : x + side]
            token, shift = (y // side) * 3 + x // side, (y % side) * side + x % side
            found = windows.tiles[:, token].gather(1, made.offsets[shift].expand(2, -1))
            assert torch.equal(found, true.permute(0, 2, 3, 1).flatten(1))
            means = F.avg_pool2d(true[..., : cells * made.pool, : cells * made.pool], made.pool).flatten(1)
            row = windows.means[:, token * side**2 + shift]
            assert torch.allclose(row[:, :-2], means, atol=1e-6)
            assert torch.allclose(row[:, -2:].sum(-1), -0.5 * means.square().sum(-1), atol=1e-5)


@pytest.mark.parametrize("t", [0.02, 0.2, 0.3])
@torch.no_grad()
def test_a_noisy_patch_finds_the_window_it_is_of_in_its_own_pictures(t):
    made, pictures = matching(), images()
    made.trust.copy_(torch.tensor([1.0, 0, 0, 0, 0]))
    keys, values = made.read(PATCHES.tokens(pictures), torch.zeros(2, 16, 16))
    clean = PATCHES.tokens(moved(pictures, 3, 1)).data
    x_t = (1 - t) * clean + t * torch.randn(clean.shape, generator=seeded(1))
    found, known = made.find(torch.zeros(2, 16, 16), clean * 0, x_t, torch.full((2, 1), t), made.windows(keys, values))
    assert bool((known == 1).all())
    assert ((found - clean).abs().amax(dim=-1) < 0.02).float().mean() > (0.9 if t < 0.3 else 0.75)
    other, _ = made.find(
        torch.zeros(2, 16, 16), clean * 0, x_t, torch.full((2, 1), t), made.windows(keys.flip(0), values.flip(0))
    )
    assert (other - clean).square().mean() > 0.1


@torch.no_grad()
def test_what_was_said_finds_it_where_there_is_only_noise():
    made, pictures = matching(), images()
    keys, values = made.read(PATCHES.tokens(pictures), torch.zeros(2, 16, 16))
    clean = PATCHES.tokens(moved(pictures, 2, 2)).data
    blurred, t = 0.6 * clean, torch.ones(2, 1)
    found, _ = made.find(torch.zeros(2, 16, 16), blurred, torch.randn(clean.shape), t, made.windows(keys, values))
    assert (found - clean).square().mean() < 0.4 * (blurred - clean).square().mean()


@torch.no_grad()
def test_windows_are_weighed_by_their_likelihoods():
    """Two tokens with one window each: the mean under the posterior, worked out by hand."""
    made = matching(side=1)
    pictures = torch.tensor([0.5, -0.2]).view(1, 1, 1, 2).expand(1, 3, 1, 2)
    keys, values = made.read(Patches(1).tokens(pictures), torch.zeros(1, 2, 16))
    x_t, said, t = torch.tensor([[[0.1, 0.2, 0.0]]]), torch.tensor([[[0.2, 0.3, 0.1]]]), 0.4
    found, _ = made.find(torch.zeros(1, 1, 16), said, x_t, torch.full((1, 1), t), made.windows(keys, values))
    logs = []
    for c in (0.5, -0.2):
        noise = made.trust[0] * (x_t - (1 - t) * c).square().sum() / variance(torch.tensor(t), SAME)
        logs.append(-0.5 * (noise + made.trust[1] * (said - c).square().sum() / SAID**2))
    first = torch.stack(logs).softmax(0)[0]
    assert torch.allclose(found, (0.5 * first - 0.2 * (1 - first)).expand(1, 1, 3), atol=1e-5)


@torch.no_grad()
def test_padding_is_never_found():
    made, pictures = matching(), images()
    several = stack([PATCHES.tokens(pictures[:1]), PATCHES.tokens(pictures[1:])])
    real = torch.zeros(2, 16, dtype=torch.bool)
    real[0, :] = True
    known = Tokens(several.data, several.positions, "visual", real, grid=several.grid)
    windows = made.windows(*made.read(known, torch.zeros(2, 16, 16)))
    clean = several.data
    found, there = made.find(torch.zeros(2, 16, 16), clean, clean, torch.full((2, 1), 0.1), windows)
    assert there.flatten().tolist() == [1, 0]
    odds = torch.full((2, 16, SIDE**2), 30.0)
    said = torch.zeros_like(clean)
    assert torch.equal(made.mix(said, found, there, odds)[1], said[1])
    assert torch.allclose(made.mix(said, found, there, odds)[0], clean[0], atol=0.02)


@torch.no_grad()
def test_pixels_that_are_not_the_window_stay_what_was_said():
    made, t = matching(), torch.full((1, 1), 0.05)
    found = torch.full((1, 1, CHANNELS), 0.8)
    clean = found.unflatten(-1, (SIDE, SIDE, 3)).clone()
    clean[:, :, :, 2:] = -0.8  # the right half is something else, and was said so
    clean = clean.flatten(2)
    said = clean.unflatten(-1, (SIDE, SIDE, 3)).clone()
    said[:, :, :, :2] = 0.3  # the left half was said badly
    said = said.flatten(2)
    x_t = 0.95 * clean + 0.05 * torch.randn(clean.shape, generator=seeded())
    odds = made.odds("visual", torch.zeros(1, 1, 16), said, found, x_t, t)
    mixed = made.mix(said, found, torch.ones(1, 1, 1), odds).unflatten(-1, (SIDE, SIDE, 3))
    assert (mixed - clean.unflatten(-1, (SIDE, SIDE, 3)))[:, :, :, [0, 3]].abs().max() < 0.01


@torch.no_grad()
def test_a_network_that_gains_matching_says_the_same_where_no_picture_is_known():
    plain, matched = network(), network(matching=True)
    missing = matched.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys
    assert all(name.startswith("matching.") for name in missing.missing_keys)
    noisy, t = PATCHES.tokens(images(seed=5)), torch.tensor([0.3, 0.9])
    for known in ([], [text_tokens(2)]):
        assert torch.equal(plain(noisy, t, known)[0], matched(noisy, t, known)[0])
    assert not torch.equal(plain(noisy, t, [noisy])[0], matched(noisy, t, [noisy])[0])
    # Of part of a picture there are no windows: what lies beside its patches is not known.
    part = PATCHES.tokens(images(seed=6)).take(torch.arange(16) < 9)
    assert torch.equal(plain(noisy, t, [part])[0], matched(noisy, t, [part])[0])


def test_everything_learns_but_what_mid_depth_takes_over():
    net, known, data = network(matching=True, mid=1), PATCHES.tokens(images()), PATCHES.tokens(moved(images(), 1, 2))
    with torch.no_grad():
        for weight in (net.matching.query.weight, net.matching.gates["visual"].weight):
            weight.normal_(0, 0.1, generator=seeded(1))
    FlowMatching(net)(data, [known], draws=seeded()).total.backward()
    for name, p in net.matching.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name
    net.zero_grad()
    x_t = data.with_data(0.5 * data.data + 0.5 * torch.randn(data.data.shape, generator=seeded()))
    _, (early,) = net(x_t, torch.full((2,), 0.5), [known], mid=True)
    early.square().sum().backward()
    assert all(p.grad is None for p in net.matching.parameters())


def test_what_is_moved_is_learned_in_a_few_steps():
    """Pictures moved by one to three pixels: who may only copy whole patches has to draw them."""
    losses = {}
    for name in ("copying", "matching"):
        torch.manual_seed(0)
        net = Transformer(TransformerConfig(KINDS, width=64, depth=2, heads=1, mlp_ratio=2.0, **{name: True}))
        objective, last = FlowMatching(net), []
        optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
        for step in range(60):
            picture, by = images(8, seed=step), torch.randint(1, SIDE, (2,), generator=seeded(step)).tolist()
            loss = objective(PATCHES.tokens(moved(picture, *by)), [PATCHES.tokens(picture)], draws=seeded(step)).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            last.append(float(loss.detach()))
        losses[name] = sum(last[-10:]) / 10
    assert losses["matching"] < 0.5 * losses["copying"], losses


def test_bad_configurations_are_refused():
    with pytest.raises(ValueError, match="matching and stencils need two blocks"):
        TransformerConfig(KINDS, depth=1, matching=True)
    with pytest.raises(ValueError, match="matching and stencils need two blocks"):
        small_network(matching=True)
    with pytest.raises(ValueError, match="no pictures"):
        Tokens(torch.zeros(1, 5, 3), torch.zeros(1, 5, 4), "visual", grid=(2, 2))


def test_grids_are_kept_where_pictures_stay_whole():
    known = PATCHES.tokens(images())
    assert known.grid == known[:1].grid == known.with_data(known.data).grid == stack([known, known]).grid == (4, 4)
    assert known.take(torch.ones(16, dtype=torch.bool)).grid == ()


def test_latents_have_no_windows_whatever_their_number():
    """48 channels are as many as 4 × 4 pixels have, and are none."""
    for patches, matched in ((Patches(1, channels=48), False), (Patches(4), True)):
        network = NetworkConfig(width=64, depth=2, heads=1, matching=True).build({"visual": patches.modality})
        assert network.matching == matched
    with pytest.raises(ValueError, match="a square of 4 pixels has 48 values"):
        Modality(12, prediction="data", frame=12, side=4)
