"""AdamW and Muon share out a network's parameters; Muon's step is orthogonal and of AdamW's size."""

import pytest
import torch

from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.objectives import SelfFlow
from selfflow.train.optimizer import Optim, block_matrices, build_optimizers


def objective() -> SelfFlow:
    torch.manual_seed(0)
    modalities = {"visual": Modality(channels=12, prediction="data"), "text": Modality(vocabulary=9)}
    return SelfFlow(Transformer(TransformerConfig(modalities, width=32, depth=2, heads=2)), 32, 1, 2)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_every_trained_parameter_has_one_optimiser(kind):
    trained = [p for p in objective().parameters() if p.requires_grad]
    built = build_optimizers(objective(), Optim(kind))
    held = [p for o in built for g in o.param_groups for p in g["params"]]
    assert len(built) == (2 if kind == "muon" else 1)
    assert sorted(map(torch.numel, held)) == sorted(map(torch.numel, trained))
    assert len({id(p) for p in held}) == len(held)


def test_muon_moves_the_matrices_of_the_student_only():
    o = objective()
    assert len(block_matrices(o)) == 2 * 4
    teacher = {id(p) for p in o.ema.parameters()}
    assert not any(id(p) in teacher for p in block_matrices(o))


def test_a_step_of_muon_is_orthogonal_and_of_the_learning_rates_size():
    o = objective()
    _, muon = build_optimizers(o, Optim("muon", learning_rate=0.01))
    weight = o.net.blocks[0].project.weight
    before = weight.detach().clone()
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    muon.step()
    moved = before - weight.detach()
    # Five iterations bring singular values into 0.7 … 1.2 but for the very smallest, times 0.2 · √32 · 0.01.
    values = torch.linalg.svdvals(moved) / (0.2 * 32**0.5 * 0.01)
    assert values[-4] > 0.6
    assert values[0] < 1.3
    assert moved.pow(2).mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.2)


def test_muon_needs_blocks():
    with pytest.raises(ValueError, match="named `blocks`"):
        build_optimizers(torch.nn.Linear(3, 3), Optim("muon"))
