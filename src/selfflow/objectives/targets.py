"""What a student is asked to predict of its teacher's features: all of it, or only what tells tokens apart.

Features of tokens share a large mean and a few dominant directions (in pixels: brightness, place, noise level). A
cosine with raw features is then close to 1 for any student that knows these. Taking the mean away, or giving every
direction the same variance, asks for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from selfflow.tokens import Span

Kind = Literal["centred", "whitened"]


class Standardise(nn.Module):
    """Features less their running mean, `x - μ`, or also whitened, `C^(-1/2) · (x - μ)`, in float32.

    Mean μ and covariance C are exponential moving averages over the real tokens of each step, a modality apart from the
    others where it is named. Those of the steps so far are applied (before the first: μ = 0, C = 1, the raw features),
    so that neither micro-batches nor the number of processes changes a target. The root is the symmetric one (ZCA),
    which moves features least and is a smooth function of C.

    Args:
        width: f, of the features.
        kind: `"centred"` or `"whitened"`.
        modalities: that have statistics of their own; all others share one set.
        momentum: of the averages, in [0, 1), corrected for their start at nothing; 0 keeps the last step's alone.
        shrinkage: ρ in [0, 1]; whitened is `(1 - ρ) · C + ρ · tr(C) / f`, so that directions of far less variance than
            the mean one, which hold rounding and little else, are not blown up.

    Raises:
        ValueError: for an unknown kind, a momentum or a shrinkage out of range.
    """

    mean: Tensor
    mass: Tensor
    covariance: Tensor
    root: Tensor
    count: Tensor
    first: Tensor
    second: Tensor

    def __init__(
        self,
        width: int,
        kind: Kind = "centred",
        modalities: Sequence[str] = (),
        momentum: float = 0.9,
        shrinkage: float = 0.1,
    ) -> None:
        super().__init__()
        if kind not in ("centred", "whitened"):
            raise ValueError(f"unknown target {kind!r}; choose 'raw', 'centred' or 'whitened'")
        if not (0 <= momentum < 1 and 0 <= shrinkage <= 1):
            raise ValueError(f"momentum {momentum} lies in [0, 1) and shrinkage {shrinkage} in [0, 1]")
        self.kind, self.momentum, self.shrinkage = kind, momentum, shrinkage
        self.groups = {name: i for i, name in enumerate(modalities, start=1)}
        g = len(self.groups) + 1
        self.register_buffer("mean", torch.zeros(g, width))
        self.register_buffer("mass", torch.zeros(g))
        self.register_buffer("count", torch.zeros(g), persistent=False)
        self.register_buffer("first", torch.zeros(g, width), persistent=False)
        if kind == "whitened":
            self.register_buffer("covariance", torch.zeros(g, width, width))
            self.register_buffer("root", torch.eye(width).repeat(g, 1, 1))
            self.register_buffer("second", torch.zeros(g, width, width), persistent=False)

    @torch.no_grad()
    def forward(self, features: Tensor, spans: Sequence[Span], mask: Tensor | None = None) -> Tensor:
        """`(b, n, f)` features of tokens in `spans` to float32 targets; in training they count for later steps."""
        out, start = [], 0
        with torch.autocast(features.device.type, enabled=False):
            for span in spans:
                cut = slice(start, start := start + span.length)
                g = self.groups.get(span.modality, 0)
                x = features[:, cut].float() - self.mean[g]
                if self.training:
                    self._gather(g, x, None if mask is None else mask[:, cut])
                out.append(x @ self.root[g] if self.kind == "whitened" else x)
        return out[0] if len(out) == 1 else torch.cat(out, dim=1)

    def _gather(self, g: int, x: Tensor, mask: Tensor | None) -> None:
        """Sums over real tokens; of what is left of the running mean, or their squares would cancel."""
        rows = x.flatten(0, 1) if mask is None else x[mask]
        self.count[g] += len(rows)
        self.first[g] += rows.sum(dim=0)
        if self.kind == "whitened":
            self.second[g] += rows.T @ rows

    @torch.no_grad()
    def after_step(self) -> None:
        """Let the tokens seen since the last call, in all processes, count."""
        sums = [self.count, self.first, *([self.second] if self.kind == "whitened" else [])]
        if dist.is_available() and dist.is_initialized():
            for total in sums:
                dist.all_reduce(total)
        seen = self.count > 0
        old = torch.where(seen, self.momentum * self.mass, self.mass)
        self.mass.copy_(old + (1 - self.momentum) * seen)
        keep = torch.where(seen, old / self.mass.clamp(min=1e-12), 1.0)[:, None]
        moved = self.first / self.count.clamp(min=1)[:, None]
        self.mean += (1 - keep) * moved
        if self.kind == "whitened":
            keep, outer = keep[..., None], moved[:, :, None] * moved[:, None, :]
            new = self.second / self.count.clamp(min=1)[:, None, None] - outer
            # The covariance of a mixture of two sets of tokens: theirs, and what lies between their means.
            self.covariance.copy_(keep * self.covariance + (1 - keep) * new + keep * (1 - keep) * outer)
            for g in seen.nonzero().flatten().tolist():
                self.root[g] = inverse_root(self.covariance[g], self.shrinkage)
        for total in sums:
            total.zero_()


def inverse_root(covariance: Tensor, shrinkage: float = 0.0) -> Tensor:
    """The symmetric `C^(-1/2)` of a covariance `(f, f)`, shrunk towards its mean variance."""
    with torch.autocast(covariance.device.type, enabled=False):
        mean = covariance.diagonal().mean()
        values, vectors = torch.linalg.eigh((1 - shrinkage) * covariance)
        # Rounding may leave eigenvalues of 0 below it; without any variance there is nothing to whiten.
        values = (values + shrinkage * mean).clamp(min=float(1e-7 * mean + 1e-12))
        return (vectors * values.rsqrt()) @ vectors.T
