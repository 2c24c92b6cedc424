"""What several processes need of a run, found out in one: which parameters a step uses, which rows each draws."""

import pytest
import torch

from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.objectives import FlowMatching
from selfflow.times import Draws
from selfflow.tokens import Tokens, grid_positions, sequence_positions
from selfflow.train.engine import Engine
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
