"""Flow matching and Self-Flow, with every bug known from public re-implementations."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from conftest import picture_tokens, small_network, text_tokens
from selfflow import flow
from selfflow.objectives import FlowMatching, SelfFlow
from selfflow.objectives.auxiliary import cosine
from selfflow.objectives.base import _scattered, effective_rank, ema_update, token_mean
from selfflow.times import Density, Draws, Times


def self_flow(net=None, **options):
    defaults = {"width": 64, "student_layer": 2, "teacher_layer": 3}
    return SelfFlow(net or small_network(), **(defaults | options))


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


def test_flow_matching_is_the_mean_squared_velocity_error():
    objective, data = FlowMatching(small_network()), picture_tokens()
    losses = objective(data, [text_tokens()], draws=draws())
    again = draws()
    noise = again.normal(*data.data.shape)
    t = Density().sample(3, again)
    x_t = data.with_data(flow.interpolate(data.data, noise, t))
    velocity, _ = objective.net(x_t, t, [text_tokens()])
    torch.testing.assert_close(losses.total, (velocity - (noise - data.data)).square().mean())


def test_equal_times_and_no_gamma_give_flow_matching():
    data, context = picture_tokens(), [text_tokens()]
    noise = torch.randn(data.data.shape, generator=torch.Generator().manual_seed(3))
    levels = torch.tensor([0.2, 0.5, 0.9])
    plain = FlowMatching(small_network()).losses(data, data.data, noise, Times.shared(levels), (context,))
    twice = Times(levels[:, None].repeat(1, 2), torch.randint(0, 2, (3, len(data))))
    ours = self_flow(gamma=0.0).losses(data, data.data, noise, twice, (context,))
    torch.testing.assert_close(ours.total, plain.total)
    assert self_flow(plain_share=1.0).times(4, 5, draws()).levels.diff(dim=1).abs().max() == 0


def test_both_objectives_share_noise_and_first_time_of_a_step():
    seen = []
    for objective in (FlowMatching(small_network()), self_flow()):
        objective.losses = lambda data, values, noise, times, context: seen.append((noise, times.levels[:, 0]))
        objective(picture_tokens(), [text_tokens()], draws=Draws.at(3, 5))
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])


def test_the_total_is_velocity_plus_gamma_times_representation():
    parts = {}
    for gamma in (0.0, 0.8):
        losses = self_flow(gamma=gamma)(picture_tokens(), [text_tokens()], draws=draws())
        parts[gamma] = losses
    p = parts[0.8].parts
    torch.testing.assert_close(parts[0.8].total.detach(), p["loss_velocity"] + 0.8 * p["loss_representation"])
    torch.testing.assert_close(p["cosine"], 1 - p["loss_representation"])
    torch.testing.assert_close(parts[0.0].total.detach(), p["loss_velocity"])


def test_cosine_is_over_features_not_tokens():
    a = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    b = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    torch.testing.assert_close(cosine(a, b), torch.tensor(0.5))  # over tokens it would be 1/√2 and undefined
    masked = cosine(a, b, torch.tensor([[True, False]]))
    torch.testing.assert_close(masked, torch.tensor(1.0))


def test_cosine_is_float32_under_autocast():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(2, 3, 64, generator=generator)
    b = a + 0.05 * torch.randn(2, 3, 64, generator=generator)
    a, b = a.bfloat16(), b.bfloat16()
    exact = torch.cosine_similarity(a.double(), b.double(), dim=-1).mean().float()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(cosine(a, b), exact, rtol=0, atol=1e-5)  # in bf16 it is off by 4e-4


def test_gradient_reaches_head_and_student_but_never_the_teacher():
    objective = self_flow(gamma=1.0)
    data, context = picture_tokens(), [text_tokens()]
    objective(data, context, draws=draws()).total.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in objective.head.parameters())
    assert objective.net.blocks[0].qkv.weight.grad.abs().max() > 0
    assert all(p.grad is None and not p.requires_grad for p in objective.ema.parameters())


def test_the_representation_loss_alone_trains_the_student():
    objective = self_flow()
    data, context = picture_tokens(), [text_tokens()]
    noise = torch.randn(data.data.shape, generator=torch.Generator().manual_seed(3))
    times = objective.times(3, len(data), draws())
    x_t = data.with_data(flow.interpolate(data.data, noise, times.per_token))
    _, (student,) = objective.net(x_t, times, context, taps=(2,))
    (1 - cosine(objective.head(student), objective.teach(data, data.data, noise, times, (context,)))).backward()
    assert objective.net.blocks[1].qkv.weight.grad.abs().max() > 0
    assert objective.net.blocks[2].qkv.weight.grad is None  # beyond the student's layer


def test_teacher_sees_the_minimum_and_only_as_far_as_its_layer():
    objective = self_flow()
    data, context = picture_tokens(), [text_tokens()]
    noise = torch.randn(data.data.shape, generator=torch.Generator().manual_seed(3))
    times = objective.times(3, len(data), draws())
    low = times.levels.min(dim=1).values
    assert (times.levels.max(dim=1).values - low).min() > 1e-3  # else min and max could not be told apart
    with torch.no_grad():
        x_t = data.with_data(flow.interpolate(data.data, noise, low))
        _, (full,) = objective.ema(x_t, low, context, taps=(3,))
        assert torch.equal(objective.teach(data, data.data, noise, times, (context,)), full)

    def fail(*_):
        raise AssertionError("the teacher ran beyond its layer")

    objective.ema.blocks[3].register_forward_pre_hook(fail)
    objective(data, context, draws=draws())


def test_ema_moves_at_every_step_by_its_decay():
    objective = FlowMatching(small_network(), ema_decay=0.9)
    before = [p.clone() for p in objective.ema.parameters()]
    with torch.no_grad():
        for p in objective.net.parameters():
            p.add_(1.0)
    for steps in (1, 2, 3):
        objective.after_step()
        for a, b, p in zip(before, objective.ema.parameters(), objective.net.parameters(), strict=True):
            torch.testing.assert_close(b, p - (p - a) * 0.9**steps)
    assert not objective.train().ema.training


def test_ema_copies_buffers():
    a, b = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    b.running_mean.fill_(2.0)
    ema_update(a, b, 0.5)
    assert a.running_mean.tolist() == [2.0, 2.0, 2.0]


def test_masked_tokens_count_for_nothing():
    data = picture_tokens()
    mask = torch.ones(3, len(data), dtype=torch.bool)
    mask[0, 5:] = False
    objective = self_flow()
    corrupted = data.data.clone()
    corrupted[0, 5:] = 100.0
    values = []
    for content in (data.data, corrupted):
        masked = type(data)(content, data.positions, data.modality, mask)
        values.append(objective(masked, [text_tokens()], draws=draws()).total)
    torch.testing.assert_close(*values)
    assert token_mean(torch.tensor([[1.0, 5.0]]), torch.tensor([[True, False]])) == 1.0


def test_effective_rank_is_exact_on_known_spectra():
    generator = torch.Generator().manual_seed(0)
    centred = torch.cat([torch.eye(16), -torch.eye(16)])
    torch.testing.assert_close(effective_rank(centred[None]), torch.tensor(16.0))
    line = torch.randn(100, 1, generator=generator) * torch.ones(1, 8)
    torch.testing.assert_close(effective_rank(line[None]), torch.tensor(1.0))


def test_effective_rank_looks_everywhere_at_no_more_than_asked():
    for columns, b, n in ((8, 32, 256), (16, 256, 256), (8, 9, 7 * 8), (8, 1, 8)):
        column = torch.eye(columns)[torch.arange(n) % columns].expand(b, -1, -1)  # says only where a token lies
        torch.testing.assert_close(effective_rank(column), torch.tensor(columns - 1.0), rtol=1e-3, atol=0)
    for count in (1, 2, 3, 1000, 1024, 1025, 2047, 7919, 8192):
        rows = _scattered(count, 1024, torch.device("cpu"))
        assert len(set(rows.tolist())) == len(rows) == min(count, 1024)
        assert 0 <= rows.min() <= rows.max() < count


def test_padding_has_no_rank():
    x = torch.randn(8, 64, 16, generator=torch.Generator().manual_seed(0))
    alone = effective_rank(x[:, :32])
    x[:, 32:] *= 100
    mask = torch.arange(64).expand(8, -1) < 32
    torch.testing.assert_close(effective_rank(x, mask), alone)
    assert effective_rank(x, torch.zeros_like(mask)) == 0
    data = picture_tokens()
    data = replace(data, mask=torch.arange(len(data)).expand(3, -1) < 5)
    parts = []
    for value in (1.0, 9.0):
        content = torch.where(data.mask[..., None], data.data, value)
        parts.append(self_flow()(replace(data, data=content), [text_tokens()], draws=draws()).parts)
    for name in ("rank_student", "rank_teacher"):
        torch.testing.assert_close(parts[0][name], parts[1][name])


class Plain(nn.Module):
    """Somebody else's network: a tensor in, per-token times, no notion of ours."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(9, 32), nn.Linear(32, 32), nn.Linear(32, 8)])

    def forward(self, x_t, t, label, taps=()):
        assert t.shape == x_t.shape[:2]
        x, features = torch.cat([x_t, t[..., None]], -1), []
        for i, layer in enumerate(self.layers, 1):
            x = layer(x).tanh() if i < 3 else layer(x + label[:, None, None])
            if i in taps:
                features.append(x)
        return x, features


@pytest.mark.parametrize("objective", [FlowMatching, lambda net: SelfFlow(net, 32, 1, 2)])
def test_any_module_learns(objective):
    torch.manual_seed(0)
    objective = objective(Plain())
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    data, first = torch.randn(1, 4, 8).expand(16, -1, -1), None
    for step in range(60):
        losses = objective(data, torch.zeros(16), draws=Draws.at(0, step % 4))
        first = first or losses.total.item()
        losses.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step()
    assert losses.total.item() < 0.8 * first


def test_bad_settings_are_refused():
    for options in ({"mask_ratio": 0.7}, {"gamma": -1.0}, {"student_layer": 0}, {"ema_decay": 1.0}):
        with pytest.raises(ValueError):
            self_flow(**options)
