"""Are generated pictures copies of training pictures? Nearest neighbours, beside those of real new pictures.

A copy that is moved by a pixel or two, darker, paler or blurred is still one. So each picture is compared where it lies
best (`REACH` pixels each way), without its mean brightness and its contrast, with the training picture as blurred as
fits best: both averaged down to 30 × 30, the distance of two unit vectors, 0 for copies and √2 for strangers. Real new
pictures are measured alike: they can be near kin of training pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.evaluate.features import check_pictures

SIDE = 30
REACH = 2  # pixels by which a copy may be moved, and of the border which are not looked at
# Parts of a neighbour, one upon the other: up to a deviation of 1, 2 pixels of 64.
BLURS = (1 / 16, 1 / 16, 1 / 8, 1 / 4)
KIN, NEXT = 32, 4  # training pictures, the nearest at half the size, that are moved; and of these, that are blurred
ROUNDING = 1e-4  # what is even is as far from everything
FAINT = 4 / 255  # contrast below which a picture is not made to look like one of more


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
        closes, novels: what the shares are of.
    """

    ratio: float
    close: float
    novel: float
    distance: float
    closes: tuple[bool, ...]
    novels: tuple[bool, ...]


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
    found, targets = {}, _thumbnails(_inner(real))
    for (name, pictures), distance in zip(attempts.items(), distances[1:], strict=True):
        off = _closely(pictures, targets, np.arange(len(real))[:, None])
        closes, novels = distance <= np.quantile(of_real, 0.05), off < distance - ROUNDING
        found[name] = Memorisation(
            ratio=float(np.median(distance)) / middle,
            close=float(closes.mean()),
            novel=float(novels.mean()),
            distance=float(np.median(distance)),
            closes=tuple(closes.tolist()),
            novels=tuple(novels.tolist()),
        )
    return found


def nearest(pictures: np.ndarray, training: Iterable[np.ndarray]) -> np.ndarray:
    """Distance `(n,)` of each picture to the nearest training picture, in [0, 2].

    Args:
        pictures: uint8 `(n, H, W, 3)`, of more than 2 · `REACH` pixels a side.
        training: as in `memorisation`.
    """
    check_pictures(pictures)
    known = [_thumbnails(_inner(chunk)) for chunk in _chunks(training, 1024)]
    if not known:
        raise ValueError("there are no training pictures to compare with")
    queries, every = _units(_halved(_thumbnails(_inner(pictures)))), torch.cat(known)
    alike = torch.cat([queries @ _units(_halved(part)).T for part in known], 1)
    return _closely(pictures, every, alike.topk(min(KIN, len(every))).indices.numpy())


def _closely(pictures: np.ndarray, known: Tensor, rows: np.ndarray) -> np.ndarray:
    """Distance `(n,)` of each picture to the nearest of its rows `(n, k)` of thumbnails, moved and blurred as fits."""
    height, width = (side - 2 * REACH for side in pictures.shape[1:3])
    steps, found = range(2 * REACH + 1), []
    for picture, candidates in zip(pictures, rows, strict=True):
        moved = np.stack([picture[down : down + height, right : right + width] for down in steps for right in steps])
        seen, kin = _units(_thumbnails(moved)), known[candidates].float()
        alike = (seen @ _units(kin).T).amax(0)
        blurred = [kin[alike.topk(min(NEXT, len(kin))).indices]]
        for part in BLURS:
            blurred.append(_blur(blurred[-1], part))
        true = _units(torch.cat(blurred))
        # Products find the nearest fast, but their rounding would turn a distance of 0 into 1e-3: so measure it again.
        place, which = divmod(int((seen @ true.T).argmax()), len(true))
        found.append(float((seen[place] - true[which]).norm()))
    return np.array(found)


def _inner(pictures: np.ndarray) -> np.ndarray:
    return pictures[:, REACH:-REACH, REACH:-REACH]


def _thumbnails(pictures: np.ndarray) -> Tensor:
    """uint8 `(n, 3, SIDE, SIDE)`: there may be many."""
    x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float()
    return F.interpolate(x, size=(SIDE, SIDE), mode="area").round().to(torch.uint8)


def _halved(thumbnails: Tensor) -> Tensor:
    return F.avg_pool2d(thumbnails.float(), 2)


def _units(thumbnails: Tensor) -> Tensor:
    """Without mean and contrast: unit vectors `(n, f)`, shorter for what is all but even."""
    x = thumbnails.float().flatten(1) / 255
    x = x - x.mean(1, keepdim=True)
    return x / x.norm(dim=1, keepdim=True).clamp_min(FAINT * x.shape[1] ** 0.5)


def _blur(pictures: Tensor, part: float) -> Tensor:
    """Each pixel with so much of both neighbours, down and across."""
    x = F.pad(pictures, (1, 1, 1, 1), mode="replicate")
    x = part * (x[:, :, :-2] + x[:, :, 2:]) + (1 - 2 * part) * x[:, :, 1:-1]
    return part * (x[:, :, :, :-2] + x[:, :, :, 2:]) + (1 - 2 * part) * x[:, :, :, 1:-1]


def _chunks(pictures: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    chunk: list[np.ndarray] = []
    for picture in pictures:
        chunk.append(picture)
        if len(chunk) == size:
            yield np.stack(chunk)
            chunk = []
    if chunk:
        yield np.stack(chunk)
