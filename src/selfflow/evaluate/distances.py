"""Distances between two sets of feature vectors, and intervals around what is counted or averaged."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np


def polynomial_kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """`(x · y / f + 1)³` for x `(n, f)` and y `(m, f)`: float64 `(n, m)`."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return (x @ y.T / x.shape[1] + 1) ** 3


def mmd2(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy with the cubic kernel: zero on average if x and y are alike.

    Being unbiased it may be negative. Bińkowski et al. 2018 (1801.01401), equation 4; Gretton et al. 2012.
    """
    _check(x, y, 2)
    return float(_mmd2(*_kernels(x, y), np.ones((1, len(x))), np.ones((1, len(y))))[0])


def kid(x: np.ndarray, y: np.ndarray, subsets: int = 100, seed: int = 0) -> tuple[float, float]:
    """Kernel distance: mean of `mmd2` over random halves of both sets, and its standard error.

    The estimator has the same expectation at every size, so halves estimate the same distance as subsets of 1,000
    (Bińkowski et al. 2018). Half-sampling makes the spread over the halves an estimate of the standard error of the
    estimate from all samples: with n/2 of n drawn, 1/(n/2) - 1/n = 1/n.

    Args:
        x, y: features `(n, f)` and `(m, f)`, at least 4 of each; memory grows as (n + m)².

    Returns:
        mean and standard error.
    """
    values = kid_of_halves(x, y, subsets, seed)
    return float(values.mean()), float(values.std(ddof=1))


def kid_of_halves(x: np.ndarray, y: np.ndarray, subsets: int = 100, seed: int = 0) -> np.ndarray:
    """What `kid` is the mean of: `(subsets,)`. Sets of the same two sizes are halved alike by the same seed."""
    _check(x, y, 4)
    rng = np.random.default_rng(seed)

    def halves(n: int) -> np.ndarray:
        chosen = np.zeros((subsets, n))
        np.put_along_axis(chosen, rng.permuted(np.tile(np.arange(n), (subsets, 1)), axis=1)[:, : n // 2], 1.0, axis=1)
        return chosen

    return _mmd2(*_kernels(x, y), halves(len(x)), halves(len(y)))


def frechet(x: np.ndarray, y: np.ndarray, components: int | None = None) -> float:
    """`|μ_x - μ_y|² + tr(C_x + C_y - 2 (C_x C_y)^½)`, the distance of the two fitted Gaussians.

    Biased upwards by small sets: with fewer samples than a few times f most of it is bias, so choose `components`, or
    better `kid`. Only distances of one feature function, one `components` and one set size can be compared.

    Args:
        x, y: features; y is the reference.
        components: first project both on so many principal axes of y.
    """
    _check(x, y, 2)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if components is not None:
        if not 1 <= components <= min(len(y) - 1, y.shape[1]):
            raise ValueError(f"components is {components}; y of shape {y.shape} has {min(len(y) - 1, y.shape[1])}")
        axes = np.linalg.svd(y - y.mean(0), full_matrices=False)[2][:components].T
        x, y = x @ axes, y @ axes
    return gaussian_frechet(
        x.mean(0), np.cov(x.T).reshape(x.shape[1], -1), y.mean(0), np.cov(y.T).reshape(y.shape[1], -1)
    )


def gaussian_frechet(mean_x: np.ndarray, cov_x: np.ndarray, mean_y: np.ndarray, cov_y: np.ndarray) -> float:
    """The Fréchet (2-Wasserstein) distance of two Gaussians, squared (Dowson & Landau 1982).

    `tr (C_x C_y)^½` is taken as `tr (C_x^½ C_y C_x^½)^½`, whose matrix is symmetric.
    """
    values, vectors = np.linalg.eigh(cov_x)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_y @ root).clip(0)).sum()
    return float(((mean_x - mean_y) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * cross)


def wilson(hits: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share `hits / count` (Wilson 1927); unlike ±2σ it is sound near 0 and 1. A tie is half a hit."""
    if not 0 <= hits <= count or count < 1:
        raise ValueError(f"{hits} hits of {count}; give 0 <= hits <= count and count > 0")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, scale = hits / count, 1 + z * z / count
    middle = share + z * z / (2 * count)
    reach = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    low, high = (middle - reach) / scale, (middle + reach) / scale
    return (0.0 if hits == 0 else low), (1.0 if hits == count else high)


def exact(hits: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share, as wide as to hold it at least so often whatever it is (Clopper & Pearson 1934)."""
    if not 0 <= hits <= count:
        raise ValueError(f"{hits} hits of {count}; give 0 <= hits <= count")
    rare = (1 - level) / 2
    return _least_share(hits, count, rare), 1 - _least_share(count - hits, count, rare)


def _least_share(hits: int, count: int, rare: float) -> float:
    """The share of which so many hits or more are as rare as this; 0 for no hits."""
    if not hits:
        return 0.0
    low, high = 0.0, 1.0
    ways = [math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) for k in range(count + 1)]
    for _ in range(60):
        p = (low + high) / 2
        yes, no = math.log(p), math.log1p(-p)
        tail = math.fsum(math.exp(ways[k] + k * yes + (count - k) * no) for k in range(hits, count + 1))
        low, high = (p, high) if tail < rare else (low, p)
    return low


# 97.5 % points of Student's t for 1 to 30 degrees of freedom.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def interval(values: Sequence[float]) -> dict[str, Any]:
    """`mean` of a few values, such as seeds, and `half` of its 95 % interval (Student 1908), which takes two."""
    n, half = len(values), None
    if n < 1:
        raise ValueError("an interval needs at least one value")
    if n > 1:
        half = (_STUDENT[n - 2] if n - 1 <= len(_STUDENT) else 1.96) * statistics.stdev(values) / n**0.5
    return {"mean": statistics.fmean(values), "half": half, "values": list(values)}


def around_mean(values: np.ndarray, seed: int = 0, unit: bool = False) -> tuple[float, float] | tuple[None, None]:
    """95 % interval of the mean of finite values `(n,)`: by resampling, or Student's of up to 31, for which resampling
    is too narrow (of twelve it holds the mean 91 times in 100). None where all are the same: nothing tells how much
    they could differ.

    Args:
        unit: the values are scores in [0, 1]: so is the interval, and those that are 0 or 1 alone make a share.
    """
    if unit and np.isin(values, (0, 1)).all():
        return wilson(float(values.sum()), len(values))
    if len(values) < 2 or np.ptp(values) == 0:
        return None, None
    if len(values) - 1 <= len(_STUDENT):
        few = interval(values.tolist())
        low, high = few["mean"] - few["half"], few["mean"] + few["half"]
    else:
        low, high = bootstrap(values, seed=seed)
    return (max(0.0, low), min(1.0, high)) if unit else (low, high)


def paired(values: np.ndarray, others: np.ndarray, seed: int = 0) -> list[float]:
    """95 % interval of the mean of `values - others`, two `(n,)` of the same samples; what is not finite is left out.

    Where all that differ do so by the same, as those of shares, only signs tell, and they are judged exactly (McNemar
    1947, with the interval of Clopper and Pearson); else as in `around_mean`.

    Raises:
        ValueError: for unlike numbers of values, or no finite pair.
    """
    one, two = np.asarray(values, np.float64), np.asarray(others, np.float64)
    apart = (one - two)[np.isfinite(one) & np.isfinite(two)] if one.shape == two.shape else one[:0]
    if not len(apart):
        raise ValueError(f"{one.shape} and {two.shape} values are no pairs, or none of them is finite")
    differ = apart[apart != 0]
    size = float(np.abs(differ).mean()) if len(differ) else 0.0
    low, high = around_mean(apart, seed)
    if low is None or high is None or np.allclose(np.abs(differ), size):
        low, high = (2 * end - 1 for end in exact(int((differ > 0).sum()), len(differ)))
        reach = size * len(differ) / len(apart)
        low, high = reach * low, reach * high
    return [low, high]


def bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic of `values` `(n, …)`, resampled along the first axis (Efron 1979)."""
    values = np.asarray(values)
    if len(values) < 1:
        raise ValueError("bootstrap needs at least one value")
    rng = np.random.default_rng(seed)
    found = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(draws)]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _kernels(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernels within x and within y, without their diagonals, and between the two."""
    k_xx, k_yy = polynomial_kernel(x, x), polynomial_kernel(y, y)
    np.fill_diagonal(k_xx, 0)
    np.fill_diagonal(k_yy, 0)
    return k_xx, k_yy, polynomial_kernel(x, y)


def _mmd2(k_xx: np.ndarray, k_yy: np.ndarray, k_xy: np.ndarray, in_x: np.ndarray, in_y: np.ndarray) -> np.ndarray:
    """One estimate per row of the indicators `in_x` `(s, n)` and `in_y` `(s, m)`: who belongs to the subset."""
    n, m = in_x.sum(1), in_y.sum(1)
    within_x = ((in_x @ k_xx) * in_x).sum(1) / (n * (n - 1))
    within_y = ((in_y @ k_yy) * in_y).sum(1) / (m * (m - 1))
    return within_x + within_y - 2 * ((in_x @ k_xy) * in_y).sum(1) / (n * m)


def _check(x: np.ndarray, y: np.ndarray, least: int) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < least:
        raise ValueError(f"features are (n, f) and (m, f) with n, m >= {least}, not {x.shape} and {y.shape}")
