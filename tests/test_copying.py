"""What is copied: the token in one's own place, of one's own sample, as it was; nothing where nothing is known."""

import pytest
import torch

from conftest import small_network, text_tokens
from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.nn.copying import OTHER, SAME, Copying, copying_loss
from selfflow.objectives import FlowMatching
from selfflow.tokens import Tokens, grid_positions
from selfflow.weight_files import load_weights, write_weights

FRAME, ROWS = 12, 8
KINDS = {
    "text": Modality(vocabulary=50),
    "visual": Modality(FRAME, prediction="data", frame=FRAME),
    "clip": Modality(2 * FRAME, prediction="data", frame=FRAME),
    "audio": Modality(5, prediction="data"),
}


def network(**options):
    """Every weight random but those of copying, which are as they are made."""
    net = Transformer(TransformerConfig(KINDS, width=64, depth=3, heads=1, mlp_ratio=2.0, **options))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if not name.startswith("copying."):
                p.copy_(torch.randn(p.shape, generator=generator) * (0.05 if p.ndim < 2 else p.shape[-1] ** -0.5))
    return net.eval()


def open_gates(net, logit=30.0):
    with torch.no_grad():
        for gate in net.copying.gates.values():
            gate.bias.fill_(logit)
        net.copying.trust.zero_()  # whatever the noisy values say
    return net


def pictures(b=2, index=1.0, seed=3, rows=ROWS, name="visual"):
    data = torch.randn(b, rows * rows, KINDS[name].channels, generator=torch.Generator().manual_seed(seed))
    return Tokens(data, grid_positions(rows, rows, index=index).expand(b, -1, -1), name)


def data_said(net, noisy, memory, t=0.7):
    velocity, _ = net(noisy, torch.full((noisy.batch,), t), memory)
    return noisy.data - t * velocity


@torch.no_grad()
def test_a_network_that_gains_copying_says_the_same_where_nothing_can_be_copied(tmp_path):
    plain, copying = network(), network(copying=True)
    write_weights(plain.state_dict(), tmp_path)
    load_weights(copying, tmp_path, new=("copying.",))
    noisy, sound = pictures(index=0.0), Tokens(torch.randn(2, 4, 5), torch.zeros(2, 4, 4), "audio")
    t = torch.tensor([0.3, 0.9])
    for known in ([], [text_tokens(2)], [text_tokens(2), sound]):
        assert torch.equal(plain(noisy, t, known)[0], open_gates(copying)(noisy, t, known)[0])
    with pytest.raises(ValueError, match=r"missing copying\."):
        load_weights(copying, tmp_path)


@torch.no_grad()
def test_before_it_learns_anything_it_points_at_its_own_place():
    net, reference = open_gates(network(copying=True)), pictures()
    said = data_said(net, pictures(index=0.0, seed=4), [text_tokens(2), reference])
    rest = (said - reference.data).square().mean() / reference.data.square().mean()
    assert rest < 0.01
    # A clip whose tokens are two frames deep repeats the frame; of a known clip it is the last that is copied.
    clip = data_said(net, pictures(index=0.0, seed=5, name="clip"), [reference])
    torch.testing.assert_close(clip[..., :FRAME], clip[..., FRAME:], rtol=0, atol=1e-5)
    assert (clip[..., :FRAME] - reference.data).square().mean() < 0.01
    before = pictures(name="clip")
    after = data_said(net, pictures(index=0.0, seed=6, name="clip"), [before])
    assert (after[..., :FRAME] - before.data[..., FRAME:]).square().mean() < 0.01


@torch.no_grad()
def test_each_frame_has_a_gate_of_its_own():
    net, reference = network(copying=True), pictures()
    noisy = pictures(index=0.0, seed=4, name="clip")
    without = data_said(open_gates(net, -30.0), noisy, [reference])
    net.copying.gates["clip"].bias.copy_(torch.tensor([30.0, -30.0]))
    mixed = data_said(net, noisy, [reference])
    torch.testing.assert_close(mixed[..., FRAME:], without[..., FRAME:], rtol=0, atol=1e-5)
    assert (mixed[..., :FRAME] - reference.data).square().mean() < 0.01


@torch.no_grad()
def test_it_copies_values_as_they_are_and_never_padding():
    copying = Copying(16, 16, 3, {"visual": 3})
    copying.init_weights()
    places = grid_positions(2, 2).expand(2, -1, -1)
    known = Tokens(torch.rand(2, 4, 3) * 2 - 1, places, "visual")
    x, rotation = torch.zeros(2, 4, 16), (torch.ones(2, 4, 1, 8), torch.zeros(2, 4, 1, 8))
    keys, values = copying.read(known, x, rotation)
    only = torch.zeros(2, 4, dtype=torch.bool)
    only[0, 2] = True  # one token of the first sample is real, none of the second
    with torch.autocast("cpu", torch.bfloat16):
        found = copying.find(x, rotation, keys, values, only)
    assert found[0, :, -1].min() > 0.9
    torch.testing.assert_close(found[0, :, :3] / found[0, :, 3:], known.data[0, 2].expand(4, 3), rtol=0, atol=1e-6)
    assert torch.equal(found[1], torch.zeros(4, 4))
    said = torch.randn(2, 4, 3)
    odds = copying.odds("visual", x, said, found, torch.randn(2, 4, 3), torch.full((2, 1), 0.5))
    assert odds.shape == (2, 4, 1)
    assert torch.equal(copying.mix(said, found, odds)[1], said[1])
    assert copying_loss(odds, found, torch.randn(2, 4, 3))[1].tolist() == [0.0] * 4


@torch.no_grad()
def test_the_gate_is_the_posterior_that_a_token_is_a_copy():
    """Data is the copy but for noise of `SAME`, or else anything around it, of `OTHER`: Bayes, frame by frame."""
    frames, values = 2, 3
    copying = Copying(16, 16, values, {"clip": frames * values})
    copying.init_weights()
    copying.trust.copy_(torch.tensor([1.0, 0.0]))
    copying.gates["clip"].bias.fill_(0.7)
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    c, x_t, t = draw(2, 4, values), draw(2, 4, frames * values), torch.rand(2, 4, generator=generator)
    found = torch.cat([c, torch.ones(2, 4, 1)], dim=-1)

    def mixed(said):
        return copying.mix(said, found, copying.odds("clip", torch.zeros(2, 4, 16), said, found, x_t, t)).double()

    mean = ((1 - t)[..., None] * c).double().unsqueeze(2)
    x = x_t.double().unflatten(-1, (frames, values))
    logs = []
    for deviation in (SAME, OTHER):
        spread = (t**2 + (1 - t) ** 2 * deviation**2).double().sqrt()[..., None, None]
        logs.append(torch.distributions.Normal(mean, spread).log_prob(x).sum(dim=-1))
    posterior = (0.7 + logs[0] - logs[1]).sigmoid()  # (2, 4, frames)
    expected = posterior[..., None] * c.double()[:, :, None]
    torch.testing.assert_close(mixed(torch.zeros_like(x_t)), expected.flatten(2), rtol=1e-4, atol=1e-5)
    # Against what was said, which explains x_t less well the further it is from it.
    copying.trust.copy_(torch.tensor([0.0, 1.0]))
    said = draw(2, 4, frames * values)
    spread = (t**2 + (1 - t) ** 2 * SAME**2).double().sqrt()[..., None, None]
    other = (1 - t)[..., None, None] * said.double().unflatten(-1, (frames, values))
    one, two = (torch.distributions.Normal(m, spread).log_prob(x).sum(dim=-1) for m in (mean, other))
    gate = (0.7 + one - two).sigmoid()[..., None]
    expected = gate * c.double()[:, :, None] + (1 - gate) * said.double().unflatten(-1, (frames, values))
    torch.testing.assert_close(mixed(said), expected.flatten(2), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_loss_is_least_where_odds_are_the_truth():
    copied = torch.rand(1, 4, FRAME) * 2 - 1
    found = torch.cat([copied, torch.ones(1, 4, 1)], dim=-1)
    data = copied.clone()
    data[:, 2:] += 0.3
    right, wrong = (torch.tensor([s, s, -s, -s])[None, :, None] for s in (9.0, -9.0))
    assert copying_loss(right, found, data).max() < 1e-3
    assert copying_loss(wrong, found, data).min() > 8.9
    # A difference of a hundredth of the range is none, one of a tenth is.
    near = copying_loss(right, found, torch.cat([copied + 0.02, copied + 0.2], dim=-1).reshape(1, 4, 2, FRAME)[:, :, 0])
    assert near[0, :2].max() < 1e-3


def test_pointers_learn_from_what_is_copied_and_not_from_the_odds():
    """Else they would learn to point at what is surely no copy, which is easy to be right about."""
    net, data = network(copying=True), pictures(index=0.0, seed=9)
    with torch.no_grad():
        net.copying.query.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(1))
    velocity, (wrong,) = net(data, torch.full((2,), 0.6), [pictures()], clean=data.data)
    for loss, moves in ((wrong.sum(), False), (velocity.square().sum(), True)):
        net.zero_grad()
        loss.backward(retain_graph=True)
        assert net.copying.gates["visual"].weight.grad.abs().sum() > 0
        for p in (net.copying.query.weight, net.copying.key.weight, net.copying.place):
            assert (p.grad is not None and bool(p.grad.abs().sum() > 0)) == moves


def test_an_objective_adds_it_and_nothing_else(tmp_path):
    net, reference, data = network(copying=True), pictures(), pictures(index=0.0, seed=9)
    generator = lambda: torch.Generator().manual_seed(0)  # noqa: E731
    plain = FlowMatching(net)(data, [reference], draws=generator())
    ours = FlowMatching(net, copying_weight=0.3)(data, [reference], draws=generator())
    extra = ours.parts["loss_copying"]
    assert extra > 0
    torch.testing.assert_close(ours.total.detach(), plain.total.detach() + 0.3 * extra)
    assert FlowMatching(net, copying_weight=0.3)(data, [text_tokens(2)], draws=generator()).parts["loss_copying"] == 0
    with pytest.raises(ValueError, match="copying_weight"):
        FlowMatching(torch.nn.Linear(2, 2), copying_weight=0.1)


def test_copying_what_is_shown_is_learned_in_a_few_steps():
    """Data is the reference, a quarter of it new: gates must learn which, and the error fall to that part of it."""
    torch.manual_seed(0)
    losses = {}
    for copies in (False, True):
        net = Transformer(TransformerConfig(KINDS, width=64, depth=2, heads=1, mlp_ratio=2.0, copying=copies))
        optimizer, generator = torch.optim.AdamW(net.parameters(), 3e-3), torch.Generator().manual_seed(1)
        for step in range(60):
            reference = pictures(8, seed=100 + step, rows=4)
            data = reference.data.clone()
            data[:, :4] = 0.5
            noise = torch.randn(data.shape, generator=generator)
            noisy = pictures(8, index=0.0, rows=4).with_data(0.3 * data + 0.7 * noise)
            velocity, _ = net(noisy, torch.full((8,), 0.7), [reference])
            loss = (velocity - (noise - data)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses[copies] = loss.item()
    assert losses[True] < 0.1 * losses[False], losses


def test_what_cannot_copy_says_so():
    with pytest.raises(ValueError, match="two blocks"):
        network(copying=True).config.__class__(KINDS, depth=1, copying=True)
    with pytest.raises(ValueError, match="frames of none"):
        small_network(copying=True)
    with pytest.raises(ValueError, match="multiple"):
        Copying(16, 16, 5, {"visual": 12})


def test_the_memory_of_every_link_can_be_copied():
    net = network(copying=True)
    memory = net.read([text_tokens(2), pictures(), pictures(index=2.0)])
    assert [len(memory.keys), len(memory)] == [4, 5 + 2 * ROWS * ROWS]
    assert memory.values[-1].shape == (2, 5 + 2 * ROWS * ROWS, 1, FRAME + 1)
    assert memory.values[-1][:, :, 0, -1].sum(dim=1).tolist() == [2 * ROWS * ROWS] * 2
    assert len(net.read([pictures()], layers=2).keys) == 2  # a teacher that stops needs none


def test_at_mid_depth_as_much_is_copied_and_nothing_is_learned_of_it():
    net, reference, noisy = open_gates(network(copying=True, mid=2)), pictures(), pictures(index=0.0, seed=4)
    t, known = torch.full((2,), 0.7), [text_tokens(2), reference]
    with torch.no_grad():
        last, (early,) = net(noisy, t, known, mid=True)
        torch.testing.assert_close(early, last)  # all is copied, so guidance leads nowhere
        torch.testing.assert_close(net(noisy, t, known, internal_guidance=3.0)[0], last)
        open_gates(net, -30.0)
        last, (early,) = net(noisy, t, known, mid=True)
        assert (early - last).abs().max() > 0.1
    open_gates(net, 0.0)
    _, (early,) = net(noisy, t, known, mid=True)
    early.square().mean().backward()
    assert all(p.grad is None for p in net.copying.parameters())
    assert net.mid_head["visual"].weight.grad.abs().max() > 0
