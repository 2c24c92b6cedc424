"""Linear probes: how much of what a picture shows can be read off the features of a network, layer by layer.

A ridge regression from features to one-hot labels, solved in closed form: nothing to tune by hand, no optimiser whose
settings a comparison could hinge on. The penalty is the one with the least leave-one-out error on the training rows,
which for ridge regression is exact without refitting (Allen's PRESS).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfflow import flow
from selfflow.evaluate.protocol import seed_of

PENALTIES = tuple(10.0**i for i in range(-4, 4))  # over the mean variance of a feature times the number of rows

Features = Callable[[Tensor, Tensor, slice], Sequence[Tensor]]


@dataclass(frozen=True)
class Probe:
    """A fitted probe: `labels = argmax((x - mean) @ weights + bias)`.

    Attributes:
        weights: `(f, k)`.
        mean, bias: `(f,)` and `(k,)`.
        penalty: that was chosen, of `PENALTIES`.
    """

    weights: Tensor
    mean: Tensor
    bias: Tensor
    penalty: float

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of rows whose label is the probe's first choice."""
        scores = (features.double() - self.mean) @ self.weights + self.bias
        return float((scores.argmax(dim=1) == labels).double().mean())


def fit_probe(features: Tensor, labels: Tensor, penalties: Sequence[float] = PENALTIES) -> Probe:
    """Ridge regression of one-hot labels on features, in float64.

    Args:
        features: `(N, f)`.
        labels: `(N,)` integers from 0.
        penalties: to choose from.

    Raises:
        ValueError: for shapes that do not belong together, fewer than two classes, or values that are not finite.
    """
    if features.ndim != 2 or labels.shape != features.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"a probe needs features (N, f) and integer labels (N,), not {tuple(features.shape)} and "
            f"{labels.dtype} {tuple(labels.shape)}"
        )
    if len(labels.unique()) < 2 or not features.isfinite().all():
        raise ValueError("a probe needs at least two classes and finite features")
    x, y = features.double(), torch.nn.functional.one_hot(labels.long()).double()
    mean, bias = x.mean(dim=0), y.mean(dim=0)
    u, s, v = torch.linalg.svd(x - mean, full_matrices=False)
    projected = u.T @ (y - bias)
    scale, best = s.square().sum() / len(mean), None
    for penalty in penalties:
        shrink = s.square() / (s.square() + penalty * scale)
        # With the mean taken away, each row also pulls its own prediction by 1/N.
        leverage = (u.square() * shrink).sum(dim=1) + 1 / len(x)
        left_out = (y - bias - u @ (shrink[:, None] * projected)) / (1 - leverage).clamp(min=1e-9)[:, None]
        error = float(left_out.square().mean())
        if best is None or error < best[0]:
            inverse = torch.where(s > s[0] * 1e-12, shrink / s.clamp(min=1e-300), 0.0)
            best = (error, Probe(v.T @ (inverse[:, None] * projected), mean, bias, penalty))
    assert best is not None
    return best[1]


def probe_accuracy(features: Tensor, labels: Tensor, test_features: Tensor, test_labels: Tensor) -> float:
    """Accuracy on the test rows of a probe fitted on the others."""
    return fit_probe(features, labels).accuracy(test_features, test_labels)


@torch.inference_mode()
def pooled_features(
    features: Features, data: Tensor, ids: Sequence[str], level: float, seed: int = 0, batch: int = 64
) -> list[Tensor]:
    """The mean over tokens of each layer's features of noisy data: `(N, f)` a layer, float32, on the CPU.

    Args:
        features: `(x_t (b, n, c), t (b,), rows)` to features `(b, n, f)` of every layer of interest.
        data: clean tokens `(N, n, c)`.
        ids: N stable names; the noise depends on (seed, id, level) alone.
        level: noise level t of the inputs.
    """
    parts: list[list[Tensor]] = []
    for start in range(0, len(data), batch):
        rows = slice(start, start + batch)
        clean = data[rows].float()
        generators = [torch.Generator().manual_seed(seed_of(seed, name, f"{level:.6f}")) for name in ids[rows]]
        noise = torch.stack([torch.randn(clean.shape[1:], generator=g) for g in generators])
        t = torch.full((len(clean),), level, device=clean.device)
        x_t = flow.interpolate(clean, noise.to(clean.device), t)
        parts.append([f.float().mean(dim=1).cpu() for f in features(x_t, t, rows)])
    return [torch.cat(layer) for layer in zip(*parts, strict=True)]
