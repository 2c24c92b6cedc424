"""Flow maps where the truth is known: on a Gaussian in closed form, on a mixture by fine integration."""

import torch
from torch import nn

from selfflow import sample
from selfflow.objectives import FlowMap, Progressive
from selfflow.objectives.base import ema_copy
from selfflow.times import Density, Draws, Times, schedule
from selfflow.train import checkpoint
from selfflow.train.engine import Engine

MEAN, STD = 2.0, 0.5
CENTRES = torch.tensor([[1.5, 0.0], [-0.75, 1.3], [-0.75, -1.3]])
WIDTH = 0.2


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


def gaussian_map(x, t, r):
    """The mean velocity from t to r of data ~ N(MEAN, STD²), which keeps quantiles; at r = t the velocity."""
    std_t, std_r = (((1 - s) ** 2 * STD**2 + s**2) ** 0.5 for s in (t, r))
    centred = x - (1 - t) * MEAN
    jump = (centred * (1 - std_r / std_t) + (r - t) * MEAN) / (t - r)
    return torch.where(t == r, (t - (1 - t) * STD**2) / std_t**2 * centred - MEAN, jump)


class Exact(nn.Module):
    """A network that says a given `u(x, t, r)`."""

    accepts_times = True

    def __init__(self, u):
        super().__init__()
        self.u, self.unused = u, nn.Parameter(torch.zeros(()))

    def forward(self, x_t, times, *context, taps=()):
        r = times.levels if times.targets is None else times.targets
        return self.u(x_t, times.per_token[..., None], times.spread(r)[..., None]) + 0 * self.unused, []


def test_the_true_map_of_a_gaussian_is_a_fixed_point_of_the_midpoint_and_nothing_else_is():
    data = MEAN + STD * torch.randn(64, 3, 2, generator=torch.Generator().manual_seed(0))
    objective = FlowMap(Exact(gaussian_map), steps=100, widen=0.01, ends=0.5, density=Density("logit_normal"))
    objective.steps_done.fill_(50)
    losses = objective(data.double(), draws=draws())
    assert objective.longest == 1
    assert losses.parts["loss_anchor"] < 1e-9
    assert losses.parts["loss_jump"] < 1e-9
    euler = FlowMap(Exact(lambda x, t, r: gaussian_map(x, t, t)), steps=1, widen=1.0, ends=0.5)
    euler.steps_done.fill_(1)
    losses = euler(data.double(), draws=draws())
    assert losses.parts["loss_anchor"] < 1e-9
    assert losses.parts["loss_jump"] > 1e-3


# ------------------------------------------------------------------------------------------------ a mixture in two axes


def mixture_velocity(x, t):
    """E[noise - data | x_t] of equal Gaussians at CENTRES; `x (…, 2)`, `t` broadcasts."""
    variance = (1 - t) ** 2 * WIDTH**2 + t**2
    away = x[..., None, :] - (1 - t)[..., None] * CENTRES
    share = (-away.square().sum(-1) / (2 * variance)).softmax(-1)[..., None]
    gain = ((1 - t) * WIDTH**2 / variance)[..., None]
    data = (share * (CENTRES + gain * away)).sum(-2)
    return (x - data) / t.clamp(min=1e-3)


def mixture_map(x, t, r, steps=64):
    """Its mean velocity from t to r, by Heun's method over many steps."""
    here, length = x, (t - r) / steps
    for i in range(steps):
        now = t - i * length
        v = mixture_velocity(here, now)
        here = here - length * (v + mixture_velocity(here - length * v, now - length)) / 2
    return torch.where(t == r, mixture_velocity(x, t), (x - here) / (t - r).clamp(min=1e-9))


class Small(nn.Module):
    """Euler's guess of a known velocity and what an MLP adds to it, nothing at r = t."""

    accepts_times = True

    def __init__(self, velocity, width=96):
        super().__init__()
        self.velocity = velocity
        layers = [nn.Linear(6, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2)]
        self.layers = nn.Sequential(*layers)
        nn.init.zeros_(layers[-1].weight)

    def forward(self, x_t, times, *context, taps=()):
        t = times.per_token[..., None]
        v = self.velocity(x_t, t)
        if times.targets is None:
            return v, []
        r = times.spread(times.targets)[..., None]
        return v + (t - r) * self.layers(torch.cat([x_t, v, t.expand_as(v[..., :1]), r.expand_as(v[..., :1])], -1)), []


@torch.no_grad()
def distances(net, oracle, noise):
    """Mean distance to where the oracle lands, of 1, 2, 4 and 8 jumps, and of as many Euler steps."""
    found = {}
    for name, jumps in (("flow map", True), ("euler", False)):

        def u(x, t, r, jumps=jumps):
            b = len(x)
            return net(x, Times.shared(t.expand(b), r.expand(b) if jumps else None))[0]

        found[name] = [
            float((sample.flow_map(u, noise, schedule(n)) - oracle).norm(dim=-1).mean()) for n in (1, 2, 4, 8)
        ]
    return found


def taught(objective, data, steps, rate=4e-3):
    optimizer = torch.optim.Adam([p for p in objective.net.parameters() if p.requires_grad], rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / steps)
        losses = objective(data(step), draws=Draws.at(0, step))
        losses.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step()
    return objective


def mixture_data(step):
    generator = torch.Generator().manual_seed(step)
    which = torch.randint(0, 3, (256,), generator=generator)
    return (CENTRES[which] + WIDTH * torch.randn(256, 2, generator=generator))[:, None]


def test_the_true_map_of_a_mixture_has_no_loss():
    objective = FlowMap(Exact(mixture_map), steps=1, widen=1.0)
    objective.steps_done.fill_(1)
    losses = objective(mixture_data(0)[:32].double(), draws=draws())
    assert losses.parts["loss_jump"] < 1e-3 * mixture_velocity(mixture_data(0), torch.tensor([0.5])).square().mean()


def test_a_distilled_network_beats_euler_at_equal_steps_and_gets_better_with_more():
    torch.manual_seed(0)
    net = Small(mixture_velocity)
    noise = torch.randn(1024, 1, 2, generator=torch.Generator().manual_seed(1))
    oracle = noise - mixture_map(noise, torch.ones(1, 1, 1), torch.zeros(1, 1, 1), 200)
    objective = taught(FlowMap(net, steps=400, ema_decay=0.98, density=Density()), mixture_data, 400)
    found = distances(objective.ema, oracle, noise)
    for ours, euler, most in zip(found["flow map"], found["euler"], (0.5, 0.5, 0.8, 0.95), strict=True):
        assert ours < most * euler
    assert all(more < fewer * 1.02 for fewer, more in zip(found["flow map"], found["flow map"][1:], strict=False))


def moved(objective, steps):
    """The rung after each of so many steps that change the weights."""
    for _ in range(steps):
        with torch.no_grad():
            for p in objective.net.parameters():
                p.add_(1.0)
        objective.after_step()
        yield objective.rung


def alike(one, other):
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_rung_and_its_teacher_change_together_and_never_back():
    objective = Progressive(Small(mixture_velocity, 8), steps=6, ladder=(8, 4, 2), ema_decay=0.5)
    assert [*moved(objective, 3)] == [0, 1, 1]
    teacher = ema_copy(objective.teacher)
    objective.steps = 600  # as a deadline says, or a run that is resumed with more
    assert [*moved(objective, 4)] == [1] * 4
    assert alike(objective.teacher, teacher)
    objective.steps = 9
    assert objective.rung == 1
    assert alike(objective.teacher, teacher)
    assert [*moved(objective, 1)] == [2]
    assert alike(objective.teacher, objective.ema)


def test_a_checkpoint_holds_the_rung_and_one_from_before_goes_by_its_steps(tmp_path):
    def fresh(steps):
        objective = Progressive(Small(mixture_velocity, 8), steps=steps, ladder=(8, 4, 2))
        return objective, [torch.optim.SGD(objective.net.parameters(), 1.0)]

    def resumed(steps):
        objective, optimizers = fresh(steps)
        checkpoint.load(checkpoint.latest(tmp_path), objective, optimizers)
        return objective.step, objective.rung

    objective, optimizers = fresh(6)
    assert [*moved(objective, 4)] == [0, 1, 1, 2]
    checkpoint.save(tmp_path, 4, objective, optimizers, {}, Engine("cpu"))
    assert resumed(6) == resumed(600) == (4, 2)
    del objective.rung_reached
    checkpoint.save(tmp_path, 4, objective, optimizers, {}, Engine("cpu"))
    assert resumed(6) == (4, 2)
    assert resumed(12) == (4, 1)


def test_progressive_distillation_goes_down_its_ladder():
    torch.manual_seed(0)
    noise = torch.randn(1024, 1, 2, generator=torch.Generator().manual_seed(1))
    oracle = noise - mixture_map(noise, torch.ones(1, 1, 1), torch.zeros(1, 1, 1), 200)
    net = Small(mixture_velocity)
    objective = Progressive(net, steps=300, ladder=(8, 4, 2), ema_decay=0.95)
    rungs = []
    step = objective.after_step
    objective.after_step = lambda: (step(), rungs.append(objective.rung))
    taught(objective, mixture_data, 300)
    found = distances(objective.ema, oracle, noise)
    assert [rungs.count(i) for i in range(3)] == [99, 100, 101]
    assert found["flow map"][1] < 0.6 * found["euler"][1]
