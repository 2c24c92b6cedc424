"""Are generated pictures copies of training pictures? Nearest neighbours in pixels, beside those of real new pictures.

Distances are between pictures averaged down to 32 × 32, root mean square over values in [0, 1]: blind to detail and to
compression noise, plain about copies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.evaluate.features import check_pictures

SIDE = 32


@dataclass(frozen=True)
class Memorisation:
    """Nearest training pictures of generated pictures against those of real held-out pictures.

    Attributes:
        ratio: median distance of the generated over that of the real: about 1 when the model draws pictures as new as
            the held-out ones, towards 0 when it copies.
        close: share of generated pictures at least as near to training as the nearest 5 % of the real ones: 0.05 for
            pictures as new as those.
        generated, real: the median distances.
    """

    ratio: float
    close: float
    generated: float
    real: float


def memorisation(generated: np.ndarray, real: np.ndarray, training: Iterable[np.ndarray]) -> Memorisation:
    """Compare with every training picture.

    Args:
        generated, real: uint8 `(k, H, W, 3)` and `(m, H, W, 3)`.
        training: single pictures, uint8 `(H, W, 3)`; read once.

    Raises:
        ValueError: when there are none, or the real pictures are themselves in the training set.
    """
    distances = nearest(np.concatenate([generated, real]), training)
    of_generated, of_real = distances[: len(generated)], distances[len(generated) :]
    middle = float(np.median(of_real))
    if middle == 0:
        raise ValueError("most of the real pictures are training pictures; give held-out ones")
    return Memorisation(
        ratio=float(np.median(of_generated)) / middle,
        close=float((of_generated <= np.quantile(of_real, 0.05)).mean()),
        generated=float(np.median(of_generated)),
        real=middle,
    )


def nearest(pictures: np.ndarray, training: Iterable[np.ndarray]) -> np.ndarray:
    """Distance `(n,)` of each picture to the nearest training picture."""
    queries = _thumbnails(pictures)
    best = torch.full((len(queries),), torch.inf)
    for chunk in _chunks(training, 1024):
        known = _thumbnails(chunk)
        # Products find the nearest fast, but their rounding would turn a distance of 0 into 1e-3: so measure it again.
        which = (known.square().sum(1) - 2 * queries @ known.T).argmin(1)
        best = torch.minimum(best, (queries - known[which]).norm(dim=1))
    if torch.isinf(best).any():
        raise ValueError("there are no training pictures to compare with")
    return (best / queries.shape[1] ** 0.5).numpy()


def _thumbnails(pictures: np.ndarray) -> Tensor:
    check_pictures(pictures)
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return F.interpolate(x, size=(SIDE, SIDE), mode="area").flatten(1)


def _chunks(pictures: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    chunk: list[np.ndarray] = []
    for picture in pictures:
        chunk.append(picture)
        if len(chunk) == size:
            yield np.stack(chunk)
            chunk = []
    if chunk:
        yield np.stack(chunk)
