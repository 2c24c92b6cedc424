"""What is measured: the network of the recipe `micro` on random pictures and prompts, and one training step of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from selfflow.modalities.visual import Patches
from selfflow.nn import Modality
from selfflow.objectives import FlowMatching
from selfflow.recipes import micro
from selfflow.times import Draws
from selfflow.tokens import Tokens, grid_positions, sequence_positions
from selfflow.train.engine import Engine
from selfflow.train.run import build_objective

SEED = 0
TEXT_TOKENS = 16
CONFIG = micro()
PATCHES = Patches(CONFIG.picture.patch, prediction=CONFIG.picture.prediction)


@dataclass(frozen=True)
class Vocabulary:
    """As much of a text encoder as building a network asks for."""

    modality: Modality = field(default_factory=lambda: Modality(vocabulary=CONFIG.text.vocabulary))


def objective(kind: str, checkpointing: bool = False) -> FlowMatching:
    """`"flow_matching"` or `"self_flow"` with the weights of `SEED`; the same network in both."""
    config = replace(
        CONFIG,
        objective=replace(CONFIG.objective, kind=kind),
        train=replace(CONFIG.train, seed=SEED, checkpointing=checkpointing),
    )
    return build_objective(config, Vocabulary()).train()


def pictures(b: int, side: int | None = None) -> Tensor:
    """`(b, 3, side, side)` in [-1, 1]."""
    side = side or CONFIG.picture.size
    return torch.rand(b, 3, side, side, generator=torch.Generator().manual_seed(SEED)) * 2 - 1


def text_tokens(b: int, n: int = TEXT_TOKENS) -> Tokens:
    """`b` prompts of `n` tokens, none of them padding."""
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(CONFIG.text.vocabulary, (b, n), generator=generator)
    return Tokens(ids, sequence_positions(n).expand(b, -1, -1), "text")


def reference_tokens(b: int, side: int, index: int) -> Tokens:
    """A reference picture of `side × side` patches, the `index`-th of its request."""
    generator = torch.Generator().manual_seed(SEED + index)
    data = torch.randn(b, side * side, PATCHES.modality.channels, generator=generator)
    return Tokens(data, grid_positions(side, side, index=index).expand(b, -1, -1), "visual")


class TrainingStep:
    """Forward, backward, AdamW and EMA, as the trainer does them; neither data loading nor logging.

    Args:
        loss: from the number of the step.
        module: whose parameters are trained.
        after_step: moves the EMA.
        engine: its precision.
    """

    def __init__(
        self, loss: Callable[[int], Tensor], module: nn.Module, after_step: Callable[[], object], engine: Engine
    ) -> None:
        self.loss, self.module, self.after_step, self.engine, self.step = loss, module, after_step, engine, 0
        trained = [p for p in module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, betas=CONFIG.optim.betas, weight_decay=0.0)

    def __call__(self) -> None:
        with self.engine.autocast():
            loss = self.loss(self.step)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.after_step()
        self.step += 1


def training_step(
    kind: str, batch: int, engine: Engine, side: int | None = None, text: bool = True, checkpointing: bool = False
) -> TrainingStep:
    """Our training step on a batch of pictures, with or without prompts."""
    owner = objective(kind, checkpointing)
    data = PATCHES.tokens(pictures(batch, side))
    context = ([text_tokens(batch)],) if text else ()

    def loss(step: int) -> Tensor:
        return owner(data, *context, draws=Draws.at(SEED, step)).total

    return TrainingStep(loss, owner, owner.after_step, engine)
