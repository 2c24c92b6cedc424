"""Tasks in units of their own losses: the weights, what they do to gradients, and a run that is resumed with them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from selfflow.data.loader import Batch
from selfflow.data.mixture import MixedBatch
from selfflow.data.sample import Sample
from selfflow.objectives import Losses
from selfflow.train.balance import Balance
from selfflow.train.optimizer import Optim
from selfflow.train.run import train
from selfflow.train.trainer import Trainer
from test_train_mixture import losses, tiny


def test_weights_are_the_mean_of_all_over_the_tasks_own():
    balance = Balance()
    assert balance.weight("loud") == 1  # has not come yet
    balance.update([("loud", 0.3), ("quiet", 0.1), ("quiet", 0.1), ("quiet", 0.1)])
    assert balance.weight("loud") == pytest.approx(0.15 / 0.3)
    assert balance.weight("quiet") == pytest.approx(0.15 / 0.1)
    assert balance.weight("loud") * 0.3 == pytest.approx(balance.weight("quiet") * 0.1)


def test_a_task_learned_by_heart_does_not_take_everything_and_one_that_explodes_is_not_forgotten():
    balance = Balance(most=8)
    balance.update([("nothing", 0.0), ("all", 1.0)])
    assert balance.weight("nothing") == 8
    balance.update([("huge", 1e9)] + [("all", 1.0)] * 10_000)
    assert balance.weight("huge") == 1 / 8


def test_the_mean_follows_a_loss_that_falls():
    balance = Balance(memory=5)
    balance.update([("a", 1.0)] * 100)
    balance.update([("a", 0.0)])
    assert balance._tasks["a"].value == pytest.approx(0.8)
    balance.update([("a", 0.0)] * 3)
    assert balance._tasks["a"].value == pytest.approx(0.8**4)


def test_its_state_is_json_and_goes_on():
    balance, other = Balance(), Balance()
    balance.update([("a", 1.0), ("b", 2.0), ("a", 3.0)])
    other.load_state_dict(balance.state_dict())
    for one in (balance, other):
        one.update([("b", 5.0)])
    assert other.weight("a") == balance.weight("a")
    assert other.state_dict() == balance.state_dict()


class Pull(nn.Module):
    """The loss of a task is linear in a weight of its own: its gradient is known."""

    def __init__(self):
        super().__init__()
        self.pull = nn.Parameter(torch.ones(2))

    def forward(self, data, context, draws):
        loss = data.sum() * self.pull[0 if data > 1 else 1]
        return Losses(loss, {"velocity_visual": loss.detach()})


class Stream:
    """One micro-batch of either task in every step, forever."""

    batch_size, mixes, source = 2, True, ("loud", "quiet")

    def __next__(self):
        return MixedBatch([Batch([Sample(name, None, "")], source=name) for name in self.source])

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_each_task_has_the_gradient_of_its_logarithm(tmp_path):
    def value(micro, draws, device):
        return torch.tensor([8.0 if micro.source == "loud" else 0.5]), ()

    objective, seen = Pull(), []
    trainer = Trainer(
        objective, Stream(), value, tmp_path, optim=Optim(learning_rate=1e-9, clip=0), steps=3, accumulate=2,
        progress=False, balance=True,
    )  # fmt: skip
    adam = trainer.optimizers[0].step
    trainer.optimizers[0].step = lambda: (seen.append(objective.pull.grad.clone()), adam())
    told = [trainer.train_step()["loss"] for _ in range(3)]
    assert torch.allclose(seen[0], torch.tensor([4.0, 0.25]))  # not seen yet: as they are, halved by two micro-batches
    assert torch.allclose(seen[1], torch.tensor([4.25 / 2, 4.25 / 2]))  # each its value over its loss, times the mean
    assert told == pytest.approx([4.25] * 3)  # told without weights
    assert trainer.balance.weight("loud:picture") == pytest.approx(4.25 / 8)


def test_a_balanced_mixture_resumes_bit_for_bit_and_differs_from_one_that_is_not(tmp_path):
    config = tiny()
    balanced, plain = (replace(config, train=replace(config.train, balance=on)) for on in (True, False))
    train(balanced, tmp_path / "whole", progress=False)
    train(balanced, tmp_path / "cut", progress=False, until=2)
    train(balanced, tmp_path / "cut", progress=False)
    train(plain, tmp_path / "plain", progress=False)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert losses(tmp_path / "plain")[0] == losses(tmp_path / "whole")[0]
    assert losses(tmp_path / "plain")[-1] != losses(tmp_path / "whole")[-1]
