"""The network: rotary identities, memory, per-token time, taps."""

from dataclasses import replace

import pytest
import torch

from conftest import picture_tokens, small_network, text_tokens
from selfflow.nn import Modality, TransformerConfig, layers, rotary
from selfflow.nn.layers import attend
from selfflow.times import Density, Draws, Times, dual_times
from selfflow.tokens import Tokens, grid_positions, sequence_positions, stack


def test_rotary_scores_depend_on_differences_of_place_only():
    table = rotary.frequencies(32)
    q, k = torch.randn(2, 1, 6, 1, 32, generator=torch.Generator().manual_seed(0))
    places = torch.rand(1, 6, 4, generator=torch.Generator().manual_seed(1))

    def scores(places):
        turn = rotary.angles(places, table)
        return torch.einsum("bnhw,bmhw->bnm", rotary.rotate(q, *turn), rotary.rotate(k, *turn))

    offset = torch.tensor([0.5, -0.25, 0.75, 3.0])
    torch.testing.assert_close(scores(places), scores(places + offset), rtol=1e-4, atol=1e-4)
    for axis in range(4):  # and every axis matters
        moved = places.clone()
        moved[:, 0, axis] += 0.3
        assert (scores(places) - scores(moved)).abs().max() > 1e-3
    rotated = rotary.rotate(q, *rotary.angles(places, table))
    torch.testing.assert_close(rotated.norm(dim=-1), q.norm(dim=-1))


def test_turns_are_exact_in_any_precision():
    table = rotary.frequencies(64)
    places = torch.cat([grid_positions(8, 8), sequence_positions(48), torch.rand(50, 4) * 16])[None]
    turn = (places.double() @ table.double())[:, :, None].float()
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            cos, sin = rotary.angles(places, table)
        torch.testing.assert_close(cos, turn.cos(), rtol=0, atol=1e-4)  # a matrix product in bf16 is off by 0.5
        torch.testing.assert_close(sin, turn.sin(), rtol=0, atol=1e-4)
    assert torch.equal(rotary.angles(places, table)[0], (places @ table)[:, :, None].cos())


def test_positions_are_resolution_free_and_centred():
    coarse, fine = grid_positions(2, 4), grid_positions(4, 8)
    torch.testing.assert_close(fine.reshape(2, 2, 4, 2, 4).mean((1, 3)).flatten(0, 1), coarse)
    assert coarse[:, 1:3].sum().abs() < 1e-6
    torch.testing.assert_close(coarse[4, 1] - coarse[0, 1], coarse[1, 2] - coarse[0, 2])  # square patches stay square


@pytest.mark.parametrize(("double", "parallel"), [(0, False), (2, False), (2, True), (0, True)])
@pytest.mark.parametrize("padded", [False, True])
def test_memory_equals_reading_anew(double, parallel, padded):
    net = small_network(double=double, parallel=parallel).eval()
    text, noisy, t = text_tokens(padded=padded), picture_tokens(), torch.tensor([0.2, 0.5, 0.9])
    with torch.no_grad():
        memory = net.read([text])
        cached, _ = net(noisy, t, memory)
        uncached, _ = net(noisy, t, [text])
        assert torch.equal(cached, uncached)
        # The noise leaves memory untouched, and the memory is not a constant.
        assert all(torch.equal(a, b) for a, b in zip(memory.keys, net.read([text]).keys, strict=True))
        other, _ = net(noisy, t, [text_tokens(seed=5, padded=padded)])
    assert (other - cached).abs().max() > 1e-2


@pytest.mark.parametrize(("double", "parallel"), [(0, False), (4, False), (0, True)])
def test_a_reading_ends_with_the_keys_and_values_of_the_last_block(double, parallel, monkeypatch):
    net = small_network(double=double, parallel=parallel).eval()
    text, past = text_tokens(), net.read([picture_tokens(seed=4)])
    looks = []
    monkeypatch.setattr(layers, "attend", lambda *a: (looks.append(1), attend(*a))[1])
    with torch.no_grad():
        memory = net.read([text], past)
        assert len(looks) == len(net.blocks) - 1  # what the last one sees, nobody asks
        times = Times.shared(torch.zeros(text.batch))
        rotation = rotary.angles(text.positions, net.frequencies)
        _, keys, values = zip(*net._layers(text, times, net.time(times.levels), rotation, past, None), strict=True)
    for one, other in zip(memory.keys + memory.values, keys + values, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("padded", [False, True])
def test_several_draws_share_one_reading(network, padded):
    text, noisy, t = text_tokens(padded=padded), picture_tokens().each(2), torch.rand(6)
    assert torch.equal(noisy.data[::2], picture_tokens().data)
    assert torch.equal(noisy.data[1::2], picture_tokens().data)
    shared, _ = network(noisy, t, [text])
    apart, _ = network(noisy, t, [text.each(2)])
    torch.testing.assert_close(shared, apart)
    weights = [p for p in network.parameters() if p.requires_grad]
    gradients = [torch.autograd.grad(out.square().sum(), weights, allow_unused=True) for out in (shared, apart)]
    used = 0
    for a, b in zip(*gradients, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            used += bool(a.abs().max() > 0)
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert used > 5


def test_padding_changes_nothing(network):
    text, noisy, t = text_tokens(b=1, n=3), picture_tokens(b=1), torch.tensor([0.4])
    longer = stack([text, text_tokens(b=1, n=6, seed=3)])
    assert longer.mask.tolist() == [[True] * 3 + [False] * 3, [True] * 6]
    with torch.no_grad():
        alone, _ = network(noisy, t, [text])
        together, _ = network(picture_tokens(b=1)[torch.tensor([0, 0])], t.expand(2), [longer])
    torch.testing.assert_close(together[:1], alone)


def test_groups_are_read_apart_and_a_past_is_seen(network):
    text, reference = text_tokens(), picture_tokens(seed=4)
    with torch.no_grad():
        both = network.read([text, reference])
        apart = network.read([text]) + network.read([reference])
        assert all(torch.equal(a, b) for a, b in zip(both.values, apart.values, strict=True))
        with_past = network.read([reference], past=network.read([text]))
        assert len(with_past) == len(reference)
        assert (with_past.values[-1] - network.read([reference]).values[-1]).abs().max() > 1e-3


def test_references_of_one_size_are_read_in_one_pass(network, monkeypatch):
    first, *others = (picture_tokens(seed=i) for i in range(3))
    hidden = replace(others[0], mask=torch.arange(len(first)).expand(3, -1) % 2 == 0)
    passes, layers = [], type(network)._layers
    monkeypatch.setattr(
        type(network),
        "_layers",
        lambda self, tokens, *a, **k: (passes.append(tokens.batch), layers(self, tokens, *a, **k))[1],
    )
    with torch.no_grad():
        together = network.read([text_tokens(), first, hidden, others[1]])
        assert passes == [3, 9]
        apart = [network.read([group]) for group in (text_tokens(), first, hidden, others[1])]
    alone = apart[0] + apart[1] + apart[2] + apart[3]
    assert torch.equal(together.mask, alone.mask)
    for a, b in zip(together.keys + together.values, alone.keys + alone.values, strict=True):
        torch.testing.assert_close(a, b)


def test_memory_repeat_slice_and_stack(network):
    with torch.no_grad():
        a, b = network.read([text_tokens(b=1, n=3)]), network.read([text_tokens(b=1, n=5, seed=2)])
    stacked = type(a).stack([a, b])
    assert stacked.mask.sum(1).tolist() == [3, 5]
    torch.testing.assert_close(stacked[0:1].keys[2][:, :3], a.keys[2])
    assert torch.equal(a.repeat(3).values[0][2], a.values[0][0])
    with pytest.raises(ValueError, match="cannot be joined"):
        _ = a.repeat(2) + b


def test_distinct_times_equal_per_token_times(network):
    noisy, text = picture_tokens(), text_tokens()
    times = dual_times(Density(), 3, len(noisy), 0.5, Draws(torch.Generator().manual_seed(0)))
    with torch.no_grad():
        gathered, _ = network(noisy, times, [text])
        naive, _ = network(noisy, times.per_token, [text])
        same, _ = network(noisy, Times.shared(torch.tensor([0.3, 0.6, 0.9])), [text])
        spread, _ = network(noisy, torch.tensor([[0.3], [0.6], [0.9]]).expand(3, len(noisy)), [text])
    torch.testing.assert_close(gathered, naive)
    torch.testing.assert_close(same, spread)
    assert (gathered - same).abs().max() > 1e-2


def test_a_tokens_own_time_changes_its_velocity(network):
    noisy = picture_tokens(b=1)
    t = torch.full((1, len(noisy)), 0.5)
    moved = t.clone()
    moved[0, 3] = 0.1
    with torch.no_grad():
        change = (network(noisy, t)[0] - network(noisy, moved)[0]).abs().amax(-1)[0]
    assert change.argmax() == 3


def test_taps_and_stopping_are_exact(network):
    noisy, text, t = picture_tokens(), text_tokens(), torch.tensor([0.2, 0.5, 0.9])
    with torch.no_grad():
        velocity, (two, four) = network(noisy, t, [text], taps=(2, 4))
        nothing, (stopped,) = network(noisy, t, [text], taps=(2,), stop=True)
        plain, empty = network(noisy, t, [text])
    assert nothing is None
    assert empty == []
    assert torch.equal(two, stopped)
    assert torch.equal(velocity, plain)
    assert (two - four).abs().max() > 1e-3
    for bad in ({"taps": (0,)}, {"taps": (5,)}, {"stop": True}):
        with pytest.raises(ValueError, match="taps"):
            network(noisy, t, [text], **bad)


def test_stopping_never_runs_later_blocks(network):
    def fail(*_):
        raise AssertionError("a block beyond the tap ran")

    network.blocks[2].register_forward_pre_hook(fail)
    network(picture_tokens(), torch.rand(3), [text_tokens()], taps=(2,), stop=True)
    with pytest.raises(AssertionError, match="beyond"):
        network(picture_tokens(), torch.rand(3), [text_tokens()])


def test_data_prediction_is_the_same_network_read_otherwise():
    noisy, t = picture_tokens(), torch.tensor([0.2, 0.5, 0.01])
    with torch.no_grad():
        out, _ = small_network(prediction="velocity")(noisy, t)
        converted, _ = small_network(prediction="data")(noisy, t)
    divisor = torch.tensor([0.2, 0.5, 0.05])[:, None, None]
    torch.testing.assert_close(converted, (noisy.data - out) / divisor)


def test_rotation_has_the_gradient_of_its_definition():
    x = torch.randn(2, 3, 2, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    cos, sin = rotary.angles(torch.rand(2, 3, 4), rotary.frequencies(16))
    a, b = x.chunk(2, dim=-1)
    plain = torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)
    weight = torch.randn(plain.shape)
    (expected,) = torch.autograd.grad((plain * weight).sum(), x)
    out = rotary.rotate(x, cos, sin)
    torch.testing.assert_close(out, plain)
    torch.testing.assert_close(torch.autograd.grad((out * weight).sum(), x)[0], expected)


def test_plain_attention_equals_the_fused_kernel(monkeypatch):
    q, k, v = torch.randn(3, 2, 7, 2, 16, generator=torch.Generator().manual_seed(0)).unbind(0)
    past = (k[:, :3], v[:, :3])
    mask = torch.ones(2, 1, 1, 10, dtype=torch.bool)
    mask[0, ..., 1] = False
    for m in (None, mask):
        outputs = []
        for most in (512, 0):
            monkeypatch.setattr(layers, "PLAIN_KEYS", most)
            outputs.append(attend(q, k, v, past, m))
        torch.testing.assert_close(*outputs)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # dynamo's own, while it looks at tensors
def test_checkpointing_and_compile_change_nothing():
    noisy, text, t = picture_tokens(), text_tokens(), torch.tensor([0.2, 0.5, 0.9])
    gradients = []
    for checkpointing in (False, True):
        net = small_network(depth=2, double=1)
        net.checkpointing = checkpointing
        net(noisy, t, [text])[0].square().mean().backward()
        gradients.append([p.grad for p in net.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    # "aot_eager" traces forward and backward as inductor would, and needs no C++ compiler.
    net = small_network(depth=2, double=1)
    net.compile_blocks(backend="aot_eager", fullgraph=True)
    net(noisy, t, [text])[0].square().mean().backward()
    for a, p in zip(gradients[0], net.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad)


def test_a_fresh_network_is_the_identity_and_silent():
    net = type(small_network())(small_network().config)
    noisy = picture_tokens()
    velocity, (features,) = net(noisy, torch.rand(3), [text_tokens()], taps=(4,))
    assert velocity.abs().max() == 0
    assert torch.equal(features, net.embed["visual"](noisy.data))


def test_every_parameter_learns():
    net = small_network(double=2, parallel=True)
    net(picture_tokens(), torch.rand(3), [text_tokens()])[0].square().mean().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    # The last layer's text stream is read but never written out: nothing to learn there.
    assert silent == [] or all("modulation.text" in n or ".text." in n for n in silent), silent


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (lambda: TransformerConfig(width=100, heads=3), "not divisible"),
        (lambda: TransformerConfig(depth=2, double=3), "double"),
        (lambda: Modality(), "channels or a vocabulary"),
        (lambda: Modality(vocabulary=5, prediction="data"), "prediction"),
        (lambda: rotary.frequencies(20), "multiple of 8"),
        (lambda: Tokens(torch.zeros(2, 3), torch.zeros(2, 3, 4), "x"), "values or"),
        (lambda: Tokens(torch.zeros(2, 3, 4), torch.zeros(2, 3, 3), "x"), "positions"),
        (
            lambda: Tokens(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4), "x", torch.ones(2, 3)),
            r"float32; it must be bool",
        ),
        (lambda: stack([text_tokens(), picture_tokens()]), "one modality"),
    ],
)
def test_bad_shapes_are_named(bad, words):
    with pytest.raises(ValueError, match=words):
        bad()


def test_bad_calls_are_named(network):
    with pytest.raises(ValueError, match="only ever known"):
        network(text_tokens(), torch.rand(3))
    for shape in ((1,), (2,), (1, 12), (3, 5)):
        with pytest.raises(ValueError, match=rf"times of shape \({shape[0]}, ?.*\) .* for 3 samples of 12 tokens"):
            network(picture_tokens(), torch.rand(shape))
    with pytest.raises(ValueError, match=r"times of shape \(2,\)"):
        network(picture_tokens(), Times.shared(torch.rand(2)))
    with pytest.raises(ValueError, match="times are one per sample"):
        network(picture_tokens(), torch.tensor(0.5))
    with pytest.raises(ValueError, match="memory of 2 samples"):
        network(picture_tokens(), torch.rand(3), [text_tokens(b=2)])
    sound = Tokens(torch.zeros(1, 2, 3), torch.zeros(1, 2, 4), "sound")
    with pytest.raises(ValueError, match="unknown modality 'sound'"):
        network.read([sound])
    assert sequence_positions(3)[:, 3].tolist() == [0, 1, 2]
