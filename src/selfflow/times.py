"""Which noise level a token has: densities to train on, the dual draw of Self-Flow, and schedules to sample with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from selfflow.shapes import Float, Int


@dataclass(frozen=True)
class Times:
    """A noise level for each token, stored as the few distinct levels of a sample and who has which.

    Whatever depends on time alone (modulation) is computed for `k` levels instead of `n` tokens, then gathered.

    Attributes:
        levels: `(b, k)` float32 in [0, 1], the distinct times of a sample.
        which: `(b, n)` integers in [0, k), or None when `k == 1` and every token has it.
        families: how many of the levels, in order, belong to each group of tokens that draws its own times (modalities
            with separate times); empty when all levels are of one group.
        targets: `(b, k)` in [0, level], the time that a flow map jumps to from each level; None where the velocity at
            the level itself is meant, which is a jump from t to r = t.
    """

    levels: Float[Tensor, "b k"]
    which: Int[Tensor, "b n"] | None = None
    families: tuple[int, ...] = ()
    targets: Float[Tensor, "b k"] | None = None

    @staticmethod
    def shared(t: Tensor, target: Tensor | None = None) -> Times:
        """One time per sample, `(b,)`, and where to jump to."""
        return Times(t[:, None], targets=None if target is None else target[:, None])

    def __getitem__(self, rows: slice | Tensor) -> Times:
        """Some of the samples."""
        which, targets = (None if x is None else x[rows] for x in (self.which, self.targets))
        return replace(self, levels=self.levels[rows], which=which, targets=targets)

    def between(self, start: Tensor, end: Tensor) -> Times:
        """The same tokens jumping from other levels to other ones, both `(b, k)`."""
        return Times(start, self.which, self.families, end)

    def spread(self, values: Tensor) -> Tensor:
        """Give each token what belongs to its level: `(b, k, …)` to `(b, n, …)`; `(b, 1, …)` when all share one."""
        if self.which is None:
            return values
        b, k = values.shape[:2]
        rows = self.which + k * torch.arange(b, device=values.device)[:, None]
        # Whole rows are copied: `gather` would look up every channel by itself, 8 to 20 times slower on a CPU.
        return values.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, (b, -1))

    @property
    def per_token(self) -> Tensor:
        """`(b, n)` times, or `(b, 1)` when all tokens share one."""
        return self.spread(self.levels)

    def cleanest(self) -> Times:
        """Every token at the lowest level of its group in its sample: what the teacher sees."""
        if len(self.families) < 2:
            return Times.shared(self.levels.amin(dim=1))
        assert self.which is not None
        lowest = torch.stack([part.amin(dim=1) for part in self.levels.split(self.families, dim=1)], dim=1)
        # (Made on the device: a recording may not copy from the host.)
        group = torch.cat([self.which.new_full((n,), i) for i, n in enumerate(self.families)])
        return Times(lowest, group[self.which], (1,) * len(self.families))

    def to(self, device: torch.device | str) -> Times:
        which, targets = (None if x is None else x.to(device) for x in (self.which, self.targets))
        return Times(self.levels.to(device), which, self.families, targets)

    @staticmethod
    def join(times: Sequence[Times], lengths: Sequence[int]) -> Times:
        """Times of groups of tokens that follow one another, each with levels of its own."""
        if len(times) == 1:
            return times[0]
        which, first = [], 0
        for t, n in zip(times, lengths, strict=True):
            b, k = t.levels.shape
            own = torch.zeros(b, n, dtype=torch.long, device=t.levels.device) if t.which is None else t.which
            which.append(own + first)
            first += k
        levels = torch.cat([t.levels for t in times], dim=1)
        targets = None
        if any(t.targets is not None for t in times):
            targets = torch.cat([t.levels if t.targets is None else t.targets for t in times], dim=1)
        return Times(levels, torch.cat(which, dim=1), tuple(t.levels.shape[1] for t in times), targets)


def as_times(t: Tensor | Times) -> Times:
    """`(b,)` or `(b, n)` times as `Times`. From `(b, n)` every token counts as its own level: correct, not fast.

    Raises:
        ValueError: for another number of axes.
    """
    if isinstance(t, Times):
        return t
    if t.ndim not in (1, 2):
        raise ValueError(f"times are one per sample (b,), one per token (b, n), or `Times`, not {tuple(t.shape)}")
    if t.ndim == 1:
        return Times.shared(t)
    return Times(t, torch.arange(t.shape[1], device=t.device).expand(t.shape))


def shift(alpha: float, t: Tensor) -> Tensor:
    """`α·t / (1 + (α - 1)·t)`: moves times towards noise for α > 1, keeps 0 and 1 (Esser et al. 2024, eq. 23)."""
    return alpha * t / (alpha * t + (1 - t))  # this form is exact at both ends


@dataclass(frozen=True)
class Density:
    """p(t), the density of noise levels during training.

    Attributes:
        kind: `"uniform"` on [0, 1], or `"logit_normal"`: the logistic of N(mean, std²).
        mean, std: of the normal, in logits; only for `"logit_normal"`.
        shift: `shift(α, t)` applied to the draw; 1 leaves it.
        floor: share of draws replaced by U[`floor_from`, 1], so that near-pure noise is always practised
            (Self-Flow uses 5 % on [0.95, 1] for video).
    """

    kind: Literal["uniform", "logit_normal"] = "uniform"
    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0
    floor: float = 0.0
    floor_from: float = 0.95

    def __post_init__(self) -> None:
        if self.kind not in ("uniform", "logit_normal"):
            raise ValueError(f"unknown time density {self.kind!r}; choose 'uniform' or 'logit_normal'")
        if not (self.shift > 0 and self.std > 0 and 0 <= self.floor <= 1 and 0 <= self.floor_from < 1):
            raise ValueError(f"{self} is no density: shift and std are > 0, floor is in [0, 1], floor_from in [0, 1)")

    def sample(self, b: int, draws: Draws) -> Float[Tensor, "b"]:
        """`b` independent times. Always uses three draws a sample, so that options do not shift later randomness."""
        return self.quantile(*(draws.uniform(b) for _ in range(3)))

    def quantile(self, u: Tensor, gate: Tensor, high: Tensor) -> Tensor:
        """Times made of uniform draws: of `u`, or of `high` above the floor where `gate` says so."""
        if self.kind == "logit_normal":
            # The normal's quantile function keeps one uniform draw per sample, whatever the density.
            t = torch.sigmoid(self.mean + self.std * torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6)))
        else:
            t = u
        t = shift(self.shift, t)
        return torch.where(gate < self.floor, self.floor_from + (1 - self.floor_from) * high, t)


class Draws:
    """Random numbers for some rows of a global batch.

    A step's randomness is a function of (seed, step) and of a row's place in the *global* batch: every process draws
    for all `total` rows and keeps its own `b`, starting at `first`. So one process, eight, or eight steps of
    accumulation draw the same numbers, and nothing needs saving to resume.
    """

    def __init__(self, generator: torch.Generator | None = None, first: int = 0, total: int | None = None) -> None:
        self.generator, self.first, self.total = generator, first, total
        self.device = generator.device if generator is not None else torch.device("cpu")

    @staticmethod
    def at(seed: int, step: int, device: torch.device | str = "cpu", first: int = 0, total: int | None = None) -> Draws:
        """The draws of one training step."""
        # An odd multiplier keeps (seed, step) pairs apart; torch hashes the seed further (Philox / mt19937).
        mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) % 2**63
        return Draws(torch.Generator(device).manual_seed(mixed), first, total)

    def several(self, times: int) -> Draws:
        """Further draws of the same step, `times` in a row for each of its samples."""
        return Draws(self.generator, self.first * times, None if self.total is None else self.total * times)

    def _rows(self, x: Tensor, b: int) -> Tensor:
        return x if self.total is None else x[self.first : self.first + b]

    def uniform(self, b: int, *shape: int) -> Tensor:
        """`(b, *shape)` float32 in [0, 1)."""
        return self._rows(torch.rand(self.total or b, *shape, generator=self.generator, device=self.device), b)

    def coin(self) -> float:
        """One uniform number in [0, 1) for the whole batch, the same in every process."""
        return float(torch.rand((), generator=self.generator, device=self.device))

    def coin_apart(self) -> float:
        """One uniform number in [0, 1) for the whole batch, from a stream of its own.

        It is the same whenever it is asked for: whatever was drawn before, and that depends on how many tokens a
        micro-batch has, every process and every part of a step finds the same. For what decides how many passes are
        made, in which sharded networks keep pace.
        """
        if self.generator is None:
            return self.coin()
        own = torch.Generator().manual_seed((self.generator.initial_seed() ^ 0x5DEECE66D) % 2**63)
        return float(torch.rand((), generator=own))

    def normal(self, b: int, *shape: int) -> Tensor:
        """`(b, *shape)` standard normal float32."""
        return self._rows(torch.randn(self.total or b, *shape, generator=self.generator, device=self.device), b)


def dual_times(
    density: Density,
    b: int,
    n: int,
    mask_ratio: float | Tensor,
    draws: Draws,
    plain_share: float = 0.0,
    min_gap: float = 0.0,
) -> Times:
    """Self-Flow's two noise levels per sample (2603.06507, section 3; released training notes).

    `t, s ~ p(t)` independently and unsorted; each token takes `s` with probability `mask_ratio`, else `t`. Sorting
    the pair would change the per-token marginal, which stays p(t).

    Args:
        mask_ratio: R_M in [0, 0.5], one for all or `(n,)`. Beyond one half the roles of t and s would merely swap.
        plain_share: share of samples in which `s = t`, i.e. plain flow matching mixed in.
        min_gap: least share of p's mass between t and s, in [0, 0.5]; for a uniform p, `|t - s| ≥ min_gap`. It is kept
            by turning the quantile rather than by drawing again, `F(s) = F(t) + c mod 1` with c ~ U[g, 1 - g]. Both
            marginals so remain exactly p, where redrawing s until it is far enough away would move it to the ends;
            what changes is that the two are no longer independent (they are again at g = 0). Draws replaced by the
            density's floor are exempt.

    Returns:
        `Times` with levels `(b, 2)` = (t, s) and which `(b, n)` in {0, 1}.
    """
    if not (0 <= mask_ratio <= 0.5 if isinstance(mask_ratio, float | int) else mask_ratio.shape == (n,)):
        raise ValueError(f"mask_ratio is {mask_ratio}; R_M lies in [0, 0.5]")
    if not 0 <= plain_share <= 1:
        raise ValueError(f"plain_share is {plain_share}; it is a share, in [0, 1]")
    if not 0 <= min_gap <= 0.5:
        raise ValueError(f"min_gap is {min_gap}; it is the mass of p between two of its quantiles, in [0, 0.5]")
    (u, *of_t), (v, *of_s) = ([draws.uniform(b) for _ in range(3)] for _ in range(2))
    if min_gap:
        v = (u + min_gap + (1 - 2 * min_gap) * v) % 1
    t, s = density.quantile(u, *of_t), density.quantile(v, *of_s)
    s = torch.where(draws.uniform(b) < plain_share, t, s)
    which = (draws.uniform(b, n) < mask_ratio).long()
    return Times(torch.stack([t, s], dim=1), which)


def schedule(steps: int, alpha: float = 1.0, *, start: float = 1.0, end: float = 0.0) -> Float[Tensor, "steps_plus_1"]:
    """Times to sample through: `steps + 1` values from `start` (noise) down to `end`, shifted by `α`.

    Raises:
        ValueError: when `steps < 1` or the ends are not `1 ≥ start > end ≥ 0`.
    """
    if steps < 1:
        raise ValueError(f"{steps} sampling steps asked for; at least 1 is needed")
    if not 1 >= start > end >= 0:
        raise ValueError(f"a schedule runs from start to end with 1 ≥ start > end ≥ 0, not from {start} to {end}")
    return shift(alpha, torch.linspace(start, end, steps + 1, dtype=torch.float64)).float()
