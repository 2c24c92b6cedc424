"""What makes Self-Flow's asymmetry real, and its cheap companions: targets, gaps, alignment, schedules, mid depth."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from conftest import picture_tokens, small_network, text_tokens
from selfflow import flow
from selfflow.config import ObjectiveConfig
from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.objectives import Alignment, CleanData, FlowMatching, LayerSync, SelfFlow, Standardise
from selfflow.objectives.auxiliary import cosine
from selfflow.objectives.targets import inverse_root
from selfflow.times import Density, Draws, Times, dual_times
from selfflow.tokens import Span, Tokens


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def self_flow(net=None, **options):
    return SelfFlow(net or small_network(), **({"width": 64, "student_layer": 2, "teacher_layer": 3} | options))


def joined_tokens():
    """Pictures of 12 channels and sound of 5, with padding among the latter."""
    picture, sound = picture_tokens(), torch.randn(3, 4, 5, generator=generator(2))
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[0, 2:] = False
    return Tokens.join([picture, Tokens(sound, torch.zeros(3, 4, 4), "audio", mask)])


def joined_network(**options):
    kinds = {"visual": Modality(12, prediction="velocity"), "audio": Modality(5, prediction="data")}
    net = Transformer(TransformerConfig(kinds | {"text": Modality(vocabulary=50)}, 64, 4, 2, 2.0, **options))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(
                torch.randn(p.shape, generator=generator(p.numel())) * (0.05 if p.ndim < 2 else p.shape[-1] ** -0.5)
            )
    return net


# -------------------------------------------------------------------------------------------------------------- targets


def coloured(n=32, f=4):
    """Tokens whose mean and covariance are known exactly."""
    white = torch.cat([torch.eye(f), -torch.eye(f)]).repeat(n // 2, 1) * f**0.5  # mean 0, covariance 1
    mixing = torch.tensor([[2.0, 0, 0, 0], [1, 1, 0, 0], [0, 0.5, 3, 0], [1, 0, 0, 0.5]])
    mean = torch.tensor([100.0, -3, 0, 7])
    return (white @ mixing.T + mean)[None], mean, mixing @ mixing.T


def test_whitened_features_of_a_known_covariance_have_covariance_one():
    x, mean, covariance = coloured()
    whiten = Standardise(4, "whitened", momentum=0.0, shrinkage=0.0)
    span = [Span("visual", x.shape[1], 9)]
    torch.testing.assert_close(whiten(x, span), x)  # before the first step: the raw features
    whiten.after_step()
    torch.testing.assert_close(whiten.mean[0], mean)
    torch.testing.assert_close(whiten.covariance[0], covariance, rtol=1e-4, atol=1e-4)
    y = whiten(x, span)
    torch.testing.assert_close(y[0].mean(dim=0), torch.zeros(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(y[0].T @ y[0] / y.shape[1], torch.eye(4), rtol=0, atol=1e-3)
    torch.testing.assert_close(whiten.root[0] @ covariance @ whiten.root[0], torch.eye(4), rtol=0, atol=1e-3)


def test_shrinkage_mixes_with_the_mean_variance():
    root = inverse_root(torch.diag(torch.tensor([4.0, 0.0])), shrinkage=0.5)
    torch.testing.assert_close(root, torch.diag(torch.tensor([3.0, 1.0]).rsqrt()))


@pytest.mark.parametrize("kind", ["centred", "whitened"])
def test_running_statistics_are_those_of_the_mixture_they_weigh(kind):
    """Two steps at momentum ½ weigh ⅓ and ⅔; micro-batches of a step count as one."""
    one, two = torch.randn(1, 30, 4, generator=generator(1)), torch.randn(1, 30, 4, generator=generator(2)) * 2 + 5
    target, span = Standardise(4, kind, momentum=0.5), [Span("", 30, 1)]
    target(one, span)
    target.after_step()
    halves = [Span("", 15, 1)]
    target(two[:, :15], halves)
    target(two[:, 15:], halves)
    target.after_step()
    rows = torch.cat([one[0], two[0], two[0]])
    torch.testing.assert_close(target.mean[0], rows.mean(dim=0), rtol=1e-4, atol=1e-4)
    if kind == "whitened":
        torch.testing.assert_close(target.covariance[0], torch.cov(rows.T, correction=0), rtol=1e-4, atol=1e-4)
    before = target.mean.clone()
    target.after_step()  # a step without tokens changes nothing
    target.eval()(one, span)
    target.after_step()  # nor does looking
    assert torch.equal(target.mean, before)
    resumed = Standardise(4, kind, momentum=0.5)
    resumed.load_state_dict(target.state_dict())
    assert torch.equal(resumed(one, span), target(one, span))


def test_modalities_have_statistics_of_their_own_and_padding_has_none():
    x = torch.cat([torch.full((2, 3, 4), 5.0), torch.full((2, 2, 4), -1.0)], dim=1)
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[0, 0], x[0, 0] = False, 1e6
    target = Standardise(4, modalities=["visual"])
    spans = [Span("visual", 3, 1), Span("audio", 2, 1)]
    target(x, spans, mask)
    target.after_step()
    assert target.mean[:, 0].tolist() == [-1.0, 5.0]
    assert target(x, spans, mask)[mask].abs().max() == 0


def test_a_centred_target_hides_what_all_tokens_share():
    """Teacher and student that know nothing but a common mean: raw they agree, centred they do not."""
    objective, data = self_flow(target=Standardise(64, momentum=0.0)), picture_tokens()
    raw = self_flow()
    for o in (objective, raw):
        with torch.no_grad():
            o.head.load_state_dict(raw.head.state_dict())
    first = objective(data, [text_tokens()], draws=draws())
    torch.testing.assert_close(first.total, raw(data, [text_tokens()], draws=draws()).total)  # no statistics yet
    objective.target.after_step()
    torch.testing.assert_close(objective.target.mean[0], objective.teach(*given(data)).mean(dim=(0, 1)))
    assert objective(data, [text_tokens()], draws=draws()).parts["cosine"] != first.parts["cosine"]


def given(data, seed=0):
    again = draws(seed)
    noise = again.normal(*data.data.shape)
    times = self_flow().times(3, len(data), again)
    return data, data.data, noise, times, ([text_tokens()],)


# ----------------------------------------------------------------------------------------------------- levels and gaps


@pytest.mark.parametrize("density", [Density(), Density("logit_normal", mean=0.8, std=0.8)])
def test_a_least_gap_keeps_both_marginals(density):
    t, s = dual_times(density, 20_000, 1, 0.25, draws(), min_gap=0.3).levels.T
    t_alone, _ = dual_times(density, 20_000, 1, 0.25, draws()).levels.T
    assert torch.equal(t, t_alone)
    for level in (0.2, 0.5, 0.8):  # four standard errors of the difference of two proportions
        assert abs(float((s < level).float().mean() - (t_alone < level).float().mean())) < 4 * 0.5 * (2 / 20_000) ** 0.5
    if density.kind == "uniform":
        assert float((t - s).abs().min()) >= 0.3 - 1e-6
        assert float((t - s).abs().max()) > 0.99 * 0.7


def test_no_gap_draws_what_was_drawn_before():
    again = draws()
    t, s = Density().sample(5, again), Density().sample(5, again)
    assert torch.equal(dual_times(Density(), 5, 2, 0.25, draws()).levels, torch.stack([t, s], dim=1))


LEVELS = torch.tensor([[0.2, 0.9], [0.5, 0.5], [0.6, 0.5]])
WHICH = torch.tensor([[0, 1, 1], [0, 1, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    ("alignment", "expected"),
    [
        (Alignment("noisier"), [[0, 1, 1], [0, 0, 0], [1, 0, 1]]),
        (Alignment(gap_from=0.2), [[1, 1, 1], [0, 0, 0], [0, 0, 0]]),
        (Alignment(gap_power=2.0), [[0.49] * 3, [0] * 3, [0.01] * 3]),
        (Alignment("noisier", gap_power=1.0), [[0, 0.7, 0.7], [0] * 3, [0.1, 0, 0.1]]),
    ],
)
def test_which_tokens_the_alignment_counts(alignment, expected):
    times = Times(LEVELS, WHICH)
    torch.testing.assert_close(alignment.weights(times).expand(3, 3), torch.tensor(expected, dtype=torch.float32))
    assert Alignment().weights(times) is None


def test_gaps_are_those_of_a_tokens_own_group():
    times = Times.join([Times(LEVELS, WHICH), Times.shared(torch.tensor([0.1, 0.2, 0.3]))], [3, 2])
    weights = Alignment(gap_power=1.0).weights(times)
    torch.testing.assert_close(weights[:, 0], torch.tensor([0.7, 0.0, 0.1]))
    assert weights[:, 3:].abs().max() == 0


def test_only_the_tokens_that_count_enter_the_cosine():
    data = picture_tokens()
    objective = self_flow(alignment=Alignment("noisier"))
    _, values, noise, times, context = given(data)
    losses = objective.losses(data, values, noise, times, context)
    x_t = data.with_data(flow.interpolate(values, noise, times.per_token))
    _, (student,) = objective.net(x_t, times, *context, taps=(2,))
    noisier = times.per_token > times.levels.amin(dim=1, keepdim=True)
    each = torch.cosine_similarity(
        objective.head(student), objective.teach(data, values, noise, times, context), dim=-1
    )
    torch.testing.assert_close(losses.parts["cosine"], each[noisier].mean().detach())
    plain = Times(LEVELS[:, :1].repeat(1, 2), torch.zeros(3, len(data), dtype=torch.long))
    nothing = objective.losses(data, values, noise, plain, context)  # no token counts: neither does the loss
    torch.testing.assert_close(nothing.total.detach(), nothing.parts["loss_velocity"])


# ------------------------------------------------------------------------------------------------------------ schedules


def test_gamma_acts_between_its_steps_and_saves_the_teacher_outside(monkeypatch):
    objective, taught = self_flow(alignment=Alignment(steps=(1, 3))), []
    teach = objective.teach
    monkeypatch.setattr(objective, "teach", lambda *a: taught.append(int(objective.steps_done)) or teach(*a))
    for step in range(5):
        losses = objective(picture_tokens(), [text_tokens()], draws=draws())
        assert ("cosine" in losses.parts) == (step in (1, 2))
        losses.total.backward()
        assert all(p.grad is not None for p in objective.parameters() if p.requires_grad)  # DDP asks for it
        objective.zero_grad(set_to_none=True)
        objective.after_step()
    assert taught == [1, 2]
    resumed = self_flow(alignment=Alignment(steps=(1, 3)))
    resumed.load_state_dict(objective.state_dict())
    assert int(resumed.steps_done) == 5


def test_a_warming_average_forgets_where_it_began():
    objective = FlowMatching(small_network(), ema_decay=0.5, ema_warmup=True)
    start = [p.clone() for p in objective.ema.parameters()]
    with torch.no_grad():
        for p in objective.net.parameters():
            p.add_(1.0)
    left = 1.0
    for decay in (1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5):
        objective.after_step()
        left *= decay
    for a, b in zip(start, objective.ema.parameters(), strict=True):
        torch.testing.assert_close(b - a, torch.full_like(a, 1 - left))


def test_what_is_not_asked_for_leaves_no_trace_in_a_checkpoint():
    keys = set(self_flow().state_dict())
    assert {k.split(".")[0] for k in keys} == {"net", "ema", "head"}
    assert not any("mid" in k for k in keys)


# ------------------------------------------------------------------------------------------------------------ mid depth


@pytest.mark.parametrize("make", [lambda: small_network(mid=2), lambda: joined_network(mid=2)])
def test_the_velocity_at_mid_depth_is_that_of_a_network_cut_there(make):
    net = make()
    joined = "audio" in net.head
    data, t = joined_tokens() if joined else picture_tokens(), torch.tensor([0.2, 0.5, 0.9])
    velocity, (feature, mid) = net(data, t, [text_tokens()], taps=(1,), mid=True)
    torch.testing.assert_close(velocity, net(data, t, [text_tokens()])[0])
    with torch.no_grad():
        short = Transformer(replace(net.config, depth=2, mid=0))
        state = {k: v for k, v in net.state_dict().items() if not k.startswith(("blocks.2", "blocks.3", "mid_"))}
        own = {k.removeprefix("mid_"): v for k, v in net.state_dict().items() if k.startswith("mid_")}
        short.load_state_dict(state | own)
        torch.testing.assert_close(mid, short(data, t, [text_tokens()])[0])
    assert feature.shape[-1] == 64
    for w in (0.0, 0.5, 1.0, 2.0):
        guided, none = net(data, t, [text_tokens()], internal_guidance=w)
        torch.testing.assert_close(guided, mid + w * (velocity - mid), rtol=1e-4, atol=1e-5)
        assert none == []


def test_mid_depth_changes_no_other_weight_and_begins_at_zero():
    nets = []
    for mid in (0, 2):
        torch.manual_seed(3)
        nets.append(Transformer(TransformerConfig({"visual": Modality(12, prediction="velocity")}, 64, 4, 2, mid=mid)))
    plain, more = (net.state_dict() for net in nets)
    assert all(torch.equal(more[k], v) for k, v in plain.items())
    added = set(more) - set(plain)
    assert added
    assert all(more[k].abs().max() == 0 for k in added)


@pytest.mark.parametrize("objective", [FlowMatching, self_flow])
def test_the_loss_at_mid_depth_is_a_velocity_loss_like_the_last(objective):
    net, data = joined_network(mid=2), joined_tokens()
    losses = objective(net, mid_weight=0.5)(data, [text_tokens()], draws=draws())
    parts = losses.parts
    expected = parts["loss_velocity"] + 0.5 * parts["loss_mid"] + 0.8 * parts.get("loss_representation", 0)
    torch.testing.assert_close(losses.total.detach(), expected)
    if objective is FlowMatching:
        again = draws()
        noise = again.normal(*data.data.shape)
        t = Density().sample(3, again)
        mid = net(data.with_data(flow.interpolate(data.data, noise, t)), t, [text_tokens()], internal_guidance=0.0)[0]
        expected, _ = FlowMatching(net)._velocity_loss(mid, noise - data.data, data)
        torch.testing.assert_close(losses.parts["loss_mid"], expected.detach())


# ------------------------------------------------------------------------------------------------------ the same pass


def test_layers_of_one_pass_are_aligned_and_the_later_is_no_target_to_move():
    net, data = small_network(), picture_tokens()
    objective = FlowMatching(net, auxiliary={"sync": LayerSync(1, 3, 0.2)})
    losses = objective(data, [text_tokens()], draws=draws())
    again = draws()
    noise = again.normal(*data.data.shape)
    t = Density().sample(3, again)
    _, (early, late) = net(data.with_data(flow.interpolate(data.data, noise, t)), t, [text_tokens()], taps=(1, 3))
    torch.testing.assert_close(losses.parts["loss_sync"], 1 - cosine(early, late).detach())
    torch.testing.assert_close(losses.total.detach(), losses.parts["loss_velocity"] + 0.2 * losses.parts["loss_sync"])
    objective.auxiliary_sync([early, late], data.data, data.spans, None).backward()
    assert net.blocks[0].qkv.weight.grad.abs().max() > 0
    assert net.blocks[1].qkv.weight.grad is None


def test_clean_data_is_asked_of_real_tokens_and_their_own_channels():
    data = joined_tokens()
    loss = CleanData(64, 1, {"visual": 12, "audio": 5})
    features = torch.randn(3, len(data), 64, generator=generator(4))
    hidden = loss.trunk(features)
    said = loss.out["visual"](hidden[:, :12]), loss.out["audio"](hidden[:, 12:])
    each = [nn.functional.smooth_l1_loss(s, d.data, reduction="none") for s, d in zip(said, data.split(), strict=True)]
    expected = torch.cat([e.mean(dim=-1) for e in each], dim=1)[data.full_mask].mean()
    torch.testing.assert_close(loss([features], data.data, data.spans, data.mask), expected)
    garbage = data.data.clone()
    garbage[:, 12:, 5:] = garbage[0, 14:] = 1e4  # channels that sound lacks, and padding
    torch.testing.assert_close(loss([features], garbage, data.spans, data.mask), expected)
    with pytest.raises(ValueError, match="no output layer for 'action'"):
        loss([features], data.data, [Span("action", 16, 3)], None)


class Plain(nn.Module):
    """Somebody else's network, with a second head of its own."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(9, 32), nn.Linear(32, 32), nn.Linear(32, 32)])
        self.out, self.early = nn.Linear(32, 8), nn.Linear(32, 8)

    def forward(self, x_t, t, taps=(), mid=False):
        x, features = torch.cat([x_t, t[..., None]], -1), []
        for layer in self.layers:
            x = layer(x).tanh()
            features.append(x)
        return self.out(x), [features[tap - 1] for tap in taps] + [self.early(features[0])] * mid


LEVERS = {
    "centred": lambda: {"target": Standardise(32)},
    "whitened": lambda: {"target": Standardise(32, "whitened")},
    "gap": lambda: {"min_gap": 0.3, "alignment": Alignment("noisier", 0.1, 1.0, (2, 20))},
    "mid": lambda: {"mid_weight": 0.5},
    "sync and clean": lambda: {"auxiliary": {"sync": LayerSync(1, 2), "clean": CleanData(32, 1, 8)}},
}


@pytest.mark.parametrize("lever", LEVERS)
def test_any_module_learns_with_any_lever(lever):
    torch.manual_seed(0)
    objective = SelfFlow(Plain(), 32, 1, 2, **LEVERS[lever]())
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    data, velocity = torch.randn(1, 4, 8).expand(16, -1, -1), []
    for step in range(40):
        losses = objective(data, draws=Draws.at(0, step % 4))
        velocity.append(losses.parts["loss_velocity"].item())
        losses.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step()
    assert losses.total.isfinite()
    assert sum(velocity[-4:]) < 0.8 * sum(velocity[:4])


def test_every_lever_at_once_on_joined_modalities():
    objective = self_flow(
        joined_network(mid=3), min_gap=0.2, alignment=Alignment("noisier", 0.05, 0.5, (0, 9)), ema_warmup=True,
        target=Standardise(64, "whitened", ["visual", "audio"]), mid_weight=0.3,
        auxiliary={"sync": LayerSync(2, 3), "clean": CleanData(64, 2, {"visual": 12, "audio": 5})},
    )  # fmt: skip
    data = joined_tokens()
    for shared in (True, False):
        losses = objective(replace(data, shared=shared), [text_tokens()], draws=draws())
        losses.total.backward()
        objective.after_step()
        p = losses.parts
        expected = p["loss_velocity"] + 0.8 * p["loss_representation"] + 0.3 * p["loss_mid"] + p["loss_clean"]
        torch.testing.assert_close(losses.total.detach(), expected + 0.2 * p["loss_sync"])
        assert all(q.grad is not None for q in objective.parameters() if q.requires_grad and q.ndim > 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Standardise(4, "raw"), "unknown target 'raw'"),
        (lambda: Standardise(4, momentum=1.0), "momentum 1.0"),
        (lambda: self_flow(min_gap=0.6), "min_gap is 0.6"),
        (lambda: Alignment("cleaner"), "unknown tokens 'cleaner'"),
        (lambda: Alignment(gap_from=1.0), "gap_from 1.0"),
        (lambda: Alignment(steps=(5, 2)), r"steps \(5, 2\)"),
        (lambda: LayerSync(2, 2), "with itself"),
        (lambda: LayerSync(0, 2), "1-indexed"),
        (lambda: FlowMatching(nn.Linear(1, 1), mid_weight=1.0), "mid=True"),
        (lambda: small_network(mid=4), "mid 4 must be a block before the last"),
        (lambda: small_network()(picture_tokens(), torch.ones(3), mid=True), "no velocity at mid depth"),
        (lambda: ObjectiveConfig(gamma_from=0.8, gamma_until=0.5), "rising shares"),
    ],
)
def test_what_cannot_be_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
