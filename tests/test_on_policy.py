"""On-policy distillation where the truth is known, and against the sampler whose states it learns at."""

import pytest
import torch

from selfflow import sample
from selfflow.objectives import OnPolicy
from selfflow.objectives.flow_map import Guided
from selfflow.times import Density, Draws, Times, schedule
from test_flow_map import (
    MEAN,
    STD,
    Exact,
    Small,
    distances,
    draws,
    gaussian_map,
    mixture_data,
    mixture_map,
    mixture_velocity,
    taught,
)


def stirred(net):
    """A network whose jumps are off the velocity, each in its own way."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return net


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_row_is_taught_at_the_state_that_the_sampler_has_at_its_level(count):
    objective = OnPolicy(stirred(Small(mixture_velocity)), steps=1, served=(count,), alpha=1.78)
    data = mixture_data(0)[:64]
    noise, times = objective.draw(data, draws())
    x = objective.place(data, data, noise, times, ())

    def u(x, t, r):
        b = len(x)
        return objective.ema(x, Times.shared(t.expand(b), r.expand(b)))[0]

    way, states = schedule(count, 1.78), [noise]
    sample.flow_map(u, noise, way, lambda step, t, x, guess: states.append(x) and None)
    for i in range(1, 64, 2):  # odd rows jump
        step = int((way == times.levels[i, 0]).nonzero())
        assert times.targets[i, 0] == way[step + 1]
        assert torch.allclose(x[i], states[step][i], atol=1e-5)
    reached = {float(t) for t in times.levels[1::2, 0]}
    assert reached == {float(t) for t in way[:-1]}  # every step of the schedule is practised
    even = slice(0, None, 2)
    assert torch.equal(times.levels[even], times.targets[even])
    t = times.levels[even, None]
    assert torch.allclose(x[even], (1 - t) * data[even] + t * noise[even])


def test_the_true_map_of_a_gaussian_is_taught_as_finely_as_the_teacher_steps():
    data = MEAN + STD * torch.randn(64, 3, 2, generator=torch.Generator().manual_seed(0))
    errors = {}
    for finest in (8, 32, 128):
        objective = OnPolicy(Exact(gaussian_map), steps=1, finest=finest, alpha=1.78, density=Density("logit_normal"))
        losses = objective(data.double(), draws=draws())
        assert losses.parts["loss_anchor"] < 1e-9
        errors[finest] = float(losses.parts["loss_jump"]) ** 0.5
    assert errors[128] < 0.02
    assert 3 < errors[8] / errors[32] < 5  # Euler's error is of the first order
    assert 3 < errors[32] / errors[128] < 5


def test_what_it_teaches_beats_euler_at_every_number_of_steps_served():
    torch.manual_seed(0)
    net = Small(mixture_velocity)
    noise = torch.randn(1024, 1, 2, generator=torch.Generator().manual_seed(1))
    oracle = noise - mixture_map(noise, torch.ones(1, 1, 1), torch.zeros(1, 1, 1), 200)
    objective = OnPolicy(net, steps=300, served=(4, 2, 1), finest=16, ema_decay=0.95, density=Density())
    taught(objective, mixture_data, 300)
    found = distances(objective.ema, oracle, noise)
    for ours, euler, most in zip(found["flow map"][:3], found["euler"], (0.5, 0.5, 0.8), strict=False):
        assert ours < most * euler


def test_parts_of_a_batch_learn_what_the_whole_does():
    objective = OnPolicy(stirred(Small(mixture_velocity)), steps=1, alpha=1.78)
    data = mixture_data(0)[:12]
    for step in range(3):  # which draw different schedules
        whole = objective(data, draws=Draws.at(0, step)).total
        parts = [objective(data[i : i + 4], draws=Draws.at(0, step, first=i, total=12)).total for i in (0, 4, 8)]
        assert torch.allclose(whole, torch.stack(parts).mean(), rtol=1e-5)


def test_processes_with_other_tasks_make_as_many_passes():
    """Sharded networks gather their weights in every pass: whatever its tokens, each process practises one schedule."""
    objective, lengths = OnPolicy(Small(mixture_velocity, 8), steps=1, served=(4, 2, 1)), []
    for step in range(12):
        short, long = (
            objective.draw(torch.zeros(4, n, 2), Draws.at(3, step, first=first, total=8))[1].way
            for n, first in ((1, 0), (9, 4))
        )
        assert torch.equal(short, long)
        lengths.append(len(short))
    assert set(lengths) == {5, 3, 2}


def test_the_teacher_is_led_and_the_student_is_not():
    """A guided teacher's ways are what is learned; where the student goes is its own affair."""
    seen = []

    class Told(torch.nn.Module):
        accepts_times = True

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(()))

        def forward(self, x_t, times, known=0.0, taps=()):
            seen.append(known)
            return torch.full_like(x_t, known) + self.weight, []

    objective = OnPolicy(Told(), steps=1, served=(2,), finest=4)
    data = torch.zeros(4, 1, 2)
    losses = objective(data, Guided(Known(1.0), [Known(0.5)], [3.0]), draws=draws())
    # 0.5 + 3 · (1 - 0.5) = 2 wherever one looks, so every way is straight and the student's 1 is wrong by 1.
    assert torch.isclose(losses.total, torch.tensor(1.0))
    assert {float(k) for k in seen} == {1.0, 0.5}


class Known(float):
    """What is known of a batch, the same for every row."""

    def __getitem__(self, rows):
        return self


def test_numbers_of_steps_that_are_none_are_refused():
    for served, finest in (((), 8), ((4, 0), 8), ((4,), 0)):
        with pytest.raises(ValueError, match="are numbers of steps, each 1 or more"):
            OnPolicy(Small(mixture_velocity, 8), steps=1, served=served, finest=finest)
