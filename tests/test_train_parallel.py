"""What several processes need of a run, found out in one: which parameters a step uses, which rows each draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from selfflow.data import Sample
from selfflow.data.loader import Loader
from selfflow.data.mixture import MixtureLoader
from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.objectives import FlowMatching
from selfflow.objectives.base import Losses
from selfflow.recipes import few_steps, nano
from selfflow.times import Draws
from selfflow.tokens import Tokens, grid_positions, sequence_positions
from selfflow.train.engine import Engine
from selfflow.train.run import _anchors_and_jumps
from selfflow.train.trainer import Trainer

TEXT, PICTURE, SOUND = Modality(vocabulary=9), Modality(channels=3, prediction="data", frame=3), Modality(channels=5)
PAIR = {"text": TEXT, "visual": PICTURE}


def objective_of(modalities, **options):
    torch.manual_seed(0)
    return FlowMatching(Transformer(TransformerConfig(modalities, width=32, depth=2, heads=2, **options)))


def step(objective):
    """The gradient of one batch of pictures from text, of two processes' worth."""
    places = grid_positions(2, 2).expand(4, -1, -1)
    text = Tokens(torch.zeros(4, 3, dtype=torch.long), sequence_positions(3).expand(4, -1, -1), "text")
    objective(Tokens(torch.zeros(4, 4, 3), places, "visual"), [text], draws=Draws.at(0, 0)).total.backward()


@pytest.mark.parametrize(
    ("modalities", "options", "partial"),
    [
        (PAIR, {}, False),
        (PAIR, {"places": True, "double": 1}, False),
        (PAIR, {"double": 2}, True),
        (PAIR, {"copying": True}, True),
        (PAIR, {"target_time": True}, True),
        (PAIR | {"audio": SOUND}, {}, True),
    ],
)
def test_a_network_knows_whether_a_single_source_leaves_parameters_unused(modalities, options, partial, tmp_path):
    asked = []

    class Asked(Engine):
        def prepare(self, objective, partial=False):
            asked.append(partial)
            return super().prepare(objective, partial)

    class Single:
        batch_size = 4

    objective = objective_of(modalities, **options)
    Trainer(objective, Single(), None, tmp_path, Asked("cpu", "fp32"), progress=False)
    step(objective)
    unused = [name for name, p in objective.net.named_parameters() if p.grad is None]
    assert (asked, bool(unused)) == ([partial], partial), unused


class Alone(Engine):
    """One of several processes, without the others."""

    def __init__(self, rank, world_size):
        super().__init__("cpu", "fp32")
        self.rank, self.world_size = rank, world_size

    def prepare(self, objective, partial=False):
        return objective

    def mean(self, values):
        return values


class Numbers:
    """Samples that are their index."""

    def __init__(self, name):
        self.name = name

    def __len__(self):
        return 100

    def __getitem__(self, index):
        return Sample(f"{self.name}/{index}", np.full((2, 2, 3), index, np.uint8), "")


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, data, context, draws):
        return Losses(self.scale * data.sum())


def test_a_flow_map_of_several_processes_needs_an_anchor_and_a_jump_in_each():
    def refused(batch_size, accumulate, world, method="midpoint"):
        config = few_steps(nano(), 4, method)
        config = replace(config, train=replace(config.train, batch_size=batch_size, accumulate=accumulate))
        try:
            _anchors_and_jumps(config, world)
        except ValueError as error:
            return str(error)

    assert "batch_size 4 over 2 processes and train.accumulate 2 leaves 1 at a time" in refused(4, 2, 2)
    assert "train.accumulate 2 leaves 1 at a time" in refused(4, 2, 2, "on-policy")
    assert "batch_size 1 over 1 processes" in refused(1, 1, 1)
    for fits in ((4, 1, 2), (8, 2, 2), (2, 2, 1), (4, 2, 2, "progressive")):
        assert refused(*fits) is None


def drawn(mixes, accumulate, rank, world, directory, steps=3):
    """What each sample of each step is drawn, `(step, id) → number`."""
    found = {}

    def prepare(batch, draws, device):
        numbers = draws.uniform(len(batch.ids))
        found.update({(trainer.step, name): n for name, n in zip(batch.ids, numbers.tolist(), strict=True)})
        return numbers, ()

    if mixes:
        parts = [Loader(Numbers(name), 8 // accumulate, 0, rank=rank, world_size=world) for name in "abc"]
        loader = MixtureLoader(parts, [1, 1, 1], 8, 3, accumulate)
    else:
        loader = Loader(Numbers("a"), 8, 0, rank=rank, world_size=world)
    trainer = Trainer(
        Scale(), loader, prepare, directory, Alone(rank, world), steps=steps, accumulate=accumulate, progress=False
    )
    for _ in range(steps):
        trainer.train_step()
    return found


@pytest.mark.parametrize("mixes", [True, False])
def test_each_sample_is_drawn_the_same_numbers_by_any_number_of_processes(mixes, tmp_path):
    for accumulate in (1, 2):
        whole = drawn(mixes, accumulate, 0, 1, tmp_path)
        assert len(set(whole.values())) == len(whole) == 3 * 8
        for world in (2, 4):
            shares = [drawn(mixes, accumulate, rank, world, tmp_path) for rank in range(world)]
            assert {key: n for share in shares for key, n in share.items()} == whole
