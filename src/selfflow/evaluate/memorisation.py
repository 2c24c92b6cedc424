"""Are generated pictures copies of training pictures? Nearest neighbours in pixels, beside those of real new pictures.

Distances are between pictures averaged down to 32 × 32, root mean square over values in [0, 1]. They are plain about
copies, but not about copies moved by a few pixels: real pictures of near kin can be closer than that. So the same
figures of disturbed training pictures belong beside those of a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.evaluate.features import check_pictures

SIDE = 32


@dataclass(frozen=True)
class Memorisation:
    """How near to training some pictures are, each of them an attempt at a real held-out picture.

    Attributes:
        ratio: median distance to the nearest training picture, over that of the real held-out pictures: towards 0 for
            copies.
        close: share at least as near to training as the nearest 5 % of the real ones: about 0.05 for pictures as new as
            those, 1 for copies.
        novel: share nearer to the real held-out picture than to every training picture: 0 for copies.
        distance: the median distance.
    """

    ratio: float
    close: float
    novel: float
    distance: float


def memorisation(
    attempts: Mapping[str, np.ndarray], real: np.ndarray, training: Iterable[np.ndarray]
) -> dict[str, Memorisation]:
    """Compare with every training picture.

    Args:
        attempts: by name, uint8 `(k, H, W, 3)`; picture i attempts `real[i]`.
        real: uint8 `(k, H, W, 3)`, held out.
        training: single pictures, uint8 `(H, W, 3)`; read once.

    Raises:
        ValueError: when there are none, or most of the real pictures are training pictures.
    """
    distances = nearest(np.concatenate([real, *attempts.values()]), training).reshape(-1, len(real))
    of_real, middle = distances[0], float(np.median(distances[0]))
    if middle == 0:
        raise ValueError("most of the real pictures are training pictures; give held-out ones")
    found = {}
    for (name, pictures), distance in zip(attempts.items(), distances[1:], strict=True):
        off = (_thumbnails(pictures) - _thumbnails(real)).square().mean(1).sqrt().numpy()
        found[name] = Memorisation(
            ratio=float(np.median(distance)) / middle,
            close=float((distance <= np.quantile(of_real, 0.05)).mean()),
            novel=float((off < distance).mean()),
            distance=float(np.median(distance)),
        )
    return found


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
