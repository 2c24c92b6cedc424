"""Judges: small classifiers trained here, on true data, to say what was made. Their errors on true data are a ceiling.

A judge takes seconds to a minute to train; its weights are kept in `$SELFFLOW_CACHE`, or `~/.cache/selfflow`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

log = logging.getLogger(__name__)
EDITION = 1  # of how judges are trained: a change makes those kept on disk void


class Judge(nn.Module):
    """Convolutions of stride 2, a mean over what is left, and a linear layer for each question.

    Args:
        channels: of what is judged.
        answers: to each question, how many.
        widths: channels after each convolution; the last are the features.
        dims: 2 for pictures `(n, c, h, w)`, 3 for clips `(n, c, f, h, w)`; the first convolution keeps every frame.
    """

    def __init__(
        self, channels: int, answers: Sequence[int], widths: Sequence[int] = (16, 32, 64, 96), dims: int = 2
    ) -> None:
        super().__init__()
        if dims not in (2, 3) or not widths or not answers:
            raise ValueError(f"a judge has 2 or 3 dims, some widths and some answers, not {dims}, {widths}, {answers}")
        convolution: Any = nn.Conv2d if dims == 2 else nn.Conv3d
        layers = list[nn.Module]()
        for i, (before, after) in enumerate(zip((channels, *widths), widths, strict=False)):
            stride: Any = (1, 2, 2) if dims == 3 and i == 0 else 2
            layers += [convolution(before, after, 3, stride, 1), nn.GroupNorm(4, after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(widths[-1], count) for count in answers)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features `(n, f)` and the scores of each question's answers."""
        features = self.body(x).flatten(2).mean(2)
        return features, [head(features) for head in self.heads]

    def answers(self, x: np.ndarray) -> np.ndarray:
        """The likeliest answer to each question: `(n, questions)`."""
        return self.judge(x)[1]

    @torch.inference_mode()
    def judge(self, x: np.ndarray, batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
        """Features float32 `(n, f)` and answers `(n, questions)`."""
        found = [self(torch.from_numpy(x[start : start + batch])) for start in range(0, len(x), batch)]
        features = torch.cat([f for f, _ in found])
        said = torch.cat([torch.stack([s.argmax(1) for s in scores], 1) for _, scores in found])
        return features.numpy(), said.numpy()


Data = Callable[[], tuple[np.ndarray, np.ndarray]]
Change = Callable[[Tensor, torch.Generator], Tensor]


def trained(
    name: str,
    settings: Mapping[str, Any],
    judge: Callable[[], Judge],
    data: Data,
    epochs: int = 12,
    change: Change | None = None,
    batch: int = 32,
    rate: float = 2e-3,
    seed: int = 0,
) -> Judge:
    """A judge from disk, or trained now and kept there.

    Args:
        name: of the judge.
        settings: JSON-ready; all that the data depends on. Another setting is another judge.
        judge: makes it, with fresh weights.
        data: float32 `(n, …)` and labels `(n, questions)`, -1 where a question is not asked.
        change: of a batch, so that more is seen than there is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = judge()
        every = {"settings": dict(settings), "net": repr(net), "how": [EDITION, epochs, batch, rate, seed]}
        digest = hashlib.sha256(json.dumps(every, sort_keys=True).encode()).hexdigest()[:12]
        path = cache() / f"{name}-{digest}.safetensors"
        if not _read(net, path):
            log.info("training the judge %s", name)
            _fit(net, *data(), epochs, change, batch, rate, seed)
            _write(net, path)
    return net.eval().requires_grad_(False)


def cache() -> Path:
    """Where judges are kept."""
    return Path(os.environ.get("SELFFLOW_CACHE") or Path.home() / ".cache" / "selfflow") / "judges"


@torch.inference_mode(False)
@torch.enable_grad()
def _fit(
    net: Judge, x: np.ndarray, labels: np.ndarray, epochs: int, change: Change | None, batch: int, rate: float,
    seed: int,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    inputs, wanted = torch.from_numpy(x), torch.from_numpy(np.asarray(labels, np.int64))
    steps = epochs * -(-len(x) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(batch):
            seen = inputs[rows] if change is None else change(inputs[rows], generator)
            _, scores = net(seen)
            loss = sum(
                F.cross_entropy(s, wanted[rows, i], ignore_index=-1, reduction="sum") for i, s in enumerate(scores)
            ) / len(rows)  # fmt: skip
            optimizer.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            optimizer.step()
            schedule.step()


def _read(net: Judge, path: Path) -> bool:
    """Whether the weights were there; damaged ones are not."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        net.load_state_dict(load_file(path))
    except (FileNotFoundError, SafetensorError, RuntimeError):
        return False
    return True


def _write(net: Judge, path: Path) -> None:
    from safetensors.torch import save_file

    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(net.state_dict(), temporary)
        os.replace(temporary, path)
    except OSError as error:  # a read-only home costs the next run its time, not this one its figures
        log.warning("the judge could not be kept in %s: %s", path.parent, error)
