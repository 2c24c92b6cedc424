"""The optimiser of a run: AdamW for everything, or Muon for the matrices inside the blocks and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Optim:
    """The optimiser and its schedule.

    Attributes:
        kind: `"adamw"`; or `"muon"`: each matrix inside the blocks moves along its orthogonalised momentum (Jordan et
            al. 2024; torch's own `Muon`), everything else (embeddings, heads, norms, biases) by AdamW. Muon's steps are
            scaled to have AdamW's size (2502.16982). It costs a fixed amount of arithmetic a step, whatever the batch.
        learning_rate, betas, weight_decay: of AdamW.
        muon_scale: Muon's learning rate over AdamW's.
        momentum: of Muon.
        warmup: steps of linear rise from 0.
        cooldown: share of all steps, at the end, of linear fall to 0.
        clip: largest gradient norm; 0 leaves gradients alone.
    """

    kind: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    muon_scale: float = 1.0
    momentum: float = 0.95
    warmup: int = 0
    cooldown: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and self.warmup >= 0 and 0 <= self.cooldown <= 1 and self.clip >= 0):
            raise ValueError(
                f"learning_rate {self.learning_rate} is above 0, warmup {self.warmup} and clip {self.clip} are 0 or "
                f"more, cooldown {self.cooldown} lies in [0, 1]"
            )

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of the 0-based `step` of `steps`."""
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        falling = max(1.0, self.cooldown * steps)
        fall = min(1.0, (steps - step) / falling) if self.cooldown else 1.0
        return self.learning_rate * rise * fall


def parameter_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay, vectors (norms, biases) do not."""
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def block_matrices(objective: nn.Module) -> list[nn.Parameter]:
    """The trained matrices of linear layers inside a `blocks` list, at any depth."""
    inside = (m for name, m in objective.named_modules() if "blocks" in name.split(".") and isinstance(m, nn.Linear))
    return [p for layer in inside for name, p in layer.named_parameters() if name == "weight" and p.requires_grad]


def set_rate(optimizers: Sequence[torch.optim.Optimizer], optim: Optim, rate: float) -> None:
    """Give every group its learning rate for the coming step."""
    for optimizer in optimizers:
        scale = optim.muon_scale if isinstance(optimizer, torch.optim.Muon) else 1.0
        for group in optimizer.param_groups:
            group["lr"] = rate * scale


def create_states(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Give every parameter its state now, zero as it would be at its first step.

    Where tasks are mixed, some layers may not have been used when a checkpoint is written; torch's own loading expects
    the state of all.
    """
    for optimizer in optimizers:
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for state in optimizer.state.values():
            if "step" in state:
                state["step"].zero_()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def build_optimizers(objective: nn.Module, optim: Optim) -> list[torch.optim.Optimizer]:
    """One optimiser, or two that share out the parameters.

    Raises:
        ValueError: for Muon when the objective has no `blocks` with linear layers.
    """
    parameters = [p for p in objective.parameters() if p.requires_grad]
    adamw: dict[str, Any] = {"lr": optim.learning_rate, "betas": optim.betas}
    if optim.kind == "adamw":
        return [torch.optim.AdamW(parameter_groups(parameters, optim.weight_decay), **adamw)]
    matrices = block_matrices(objective)
    if not matrices:
        raise ValueError("optimiser 'muon' moves linear layers inside a module list named `blocks`, and found none")
    taken = {id(p) for p in matrices}
    others = [p for p in parameters if id(p) not in taken]
    muon: dict[str, Any] = {
        "weight_decay": optim.weight_decay,
        "momentum": optim.momentum,
        "adjust_lr_fn": "match_rms_adamw",
    }
    return [
        torch.optim.AdamW(parameter_groups(others, optim.weight_decay), **adamw),
        torch.optim.Muon(matrices, lr=optim.learning_rate * optim.muon_scale, **muon),
    ]
