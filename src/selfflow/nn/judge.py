"""A judge: the network itself, a little changed, looks at a finished picture and says how likely it is to be right.

Whoever learned to draw what words say has learned to see it, too: what the layers make of a picture with its text in
memory tells right from wrong once it is asked to. So a judge is no other network. It reads the clean picture at t = 0
through the same layers, each matrix with a difference of low rank (Hu et al. 2021, 2106.09685), against the memory that
the picture was drawn from, which is there already; what two of the layers say of every patch is gathered by its mean,
its largest and its weighted mean into two log odds: that nothing is wrong, and how much is right.

It costs one pass of the picture's tokens, where the doubt of a generator (`selfflow.choosing`) takes four to eight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from selfflow.nn.memory import Memory
from selfflow.nn.transformer import Transformer
from selfflow.shapes import Float
from selfflow.times import Times
from selfflow.tokens import Tokens

FILE = "judge.safetensors"  # in a model directory, beside the weights
JUDGED = ("picture", "edit")  # tasks of which a picture comes
SAYS = ("right", "score")
_INNER, _GATHERED = 192, 128


class LowRank(nn.Module):
    """A matrix `(out, in)` with a difference of low rank, which is nothing at first."""

    def __init__(self, matrix: Tensor, rank: int) -> None:
        super().__init__()
        outward, inward = matrix.shape
        self.down = nn.Parameter(torch.randn(rank, inward) * inward**-0.5)
        self.up = nn.Parameter(torch.zeros(outward, rank))

    def forward(self, matrix: Tensor) -> Tensor:
        return matrix + self.up @ self.down


class Judge(nn.Module):
    """Log odds that finished pictures are what was asked for.

    Args:
        net: who draws; it is copied, and left alone.
        rank: of the differences.
        taps: 1-indexed blocks whose features are looked at; by default the one in the middle and the last.
        tasks: of whose pictures it is a judge, of `JUDGED`.

    Raises:
        ValueError: for a rank below 1, taps that the network does not have, or other tasks.
    """

    def __init__(
        self, net: Transformer, rank: int = 32, taps: Sequence[int] = (), tasks: Sequence[str] = JUDGED
    ) -> None:
        super().__init__()
        depth, width = net.config.depth, net.config.width
        self.of, self.kept = known_by(net), dict[str, Tensor]()
        self.rank, self.taps = rank, tuple(taps) or tuple(sorted({max(1, depth // 2), depth}))
        if rank < 1:
            raise ValueError(f"rank is {rank}; a judge differs from its network by matrices of rank 1 or more")
        if any(not 1 <= tap <= depth for tap in self.taps):
            raise ValueError(f"taps are {self.taps}; they are blocks from 1 to {depth}")
        self.tasks = checked_tasks(tasks)
        self.net = deepcopy(net).eval().requires_grad_(False)
        for layer in self._layers():
            parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))
        seen = width * len(self.taps)
        self.look = nn.Sequential(nn.LayerNorm(seen), nn.Linear(seen, _INNER), nn.GELU(), nn.Linear(_INNER, _GATHERED))
        self.heed = nn.Linear(_GATHERED, 1)
        self.say = nn.Sequential(
            nn.LayerNorm(3 * _GATHERED), nn.Linear(3 * _GATHERED, _GATHERED), nn.GELU(), nn.Linear(_GATHERED, len(SAYS))
        )

    def _layers(self) -> list[nn.Linear]:
        """The matrices of the blocks that are read."""
        blocks = list(self.net.blocks)[: max(self.taps)]
        return [layer for block in blocks for layer in block.modules() if isinstance(layer, nn.Linear)]

    def forward(self, made: Tokens, memory: Memory | None) -> Float[Tensor, "b 2"]:
        """Log odds that nothing is wrong, and of the score, `(b, 2)` float32.

        Args:
            made: clean pictures.
            memory: what the network that draws read of all that is known.
        """
        clean = Times.shared(torch.zeros(made.batch, device=made.data.device))
        _, features = self.net(made, clean, memory, taps=self.taps, stop=True)
        return self.verdict(features, made.mask)

    def verdict(self, features: Sequence[Tensor], mask: Tensor | None = None) -> Float[Tensor, "b 2"]:
        """The same, of features `(b, n, width)` of the tapped blocks; `mask (b, n)` is False where a token pads."""
        with torch.autocast(features[0].device.type, enabled=False):
            seen = self.look(torch.cat(list(features), dim=-1).float())
            heed = self.heed(seen)
            if mask is None:
                mean, most = seen.mean(dim=1), seen.amax(dim=1)
            else:
                real = mask[..., None]
                mean = (seen * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
                most = seen.masked_fill(~real, -torch.inf).amax(dim=1)
                heed = heed.masked_fill(~real, -torch.inf)
            heeded = (heed.softmax(dim=1) * seen).sum(dim=1)
            return self.say(torch.cat([mean, most, heeded], dim=-1))

    # ---------------------------------------------------------------------------------------------------------- files

    def learned(self) -> dict[str, Tensor]:
        """What a judge has of its own: the differences and the layers that gather."""
        if self.kept:
            return self.kept
        state = self.state_dict()
        return {k: v for k, v in state.items() if not k.startswith("net.") or ".parametrizations.weight.0." in k}

    def load_learned(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `learned` gave.

        Raises:
            ValueError: naming what is missing, too much or of another shape.
        """
        own = self.learned()
        wrong = [f"missing {k}" for k in own.keys() - state.keys()]
        wrong += [f"unexpected {k}" for k in state.keys() - own.keys()]
        wrong += [
            f"{k} has shape {tuple(state[k].shape)}, not {tuple(own[k].shape)}"
            for k in own.keys() & state.keys()
            if own[k].shape != state[k].shape
        ]
        if wrong:
            raise ValueError("the judge does not fit the network: " + "; ".join(sorted(wrong)[:5]))
        self.load_state_dict({k: v.to(own[k].dtype) for k, v in state.items()}, strict=False)

    def settled(self) -> Judge:
        """Itself, its differences added to the matrices for good: nothing is learned of it any more."""
        self.kept = {k: v.detach().clone() for k, v in self.learned().items()}
        for layer in self._layers():
            if parametrize.is_parametrized(layer):
                parametrize.remove_parametrizations(layer, "weight")
        return self.eval().requires_grad_(False)

    def save(self, directory: Path) -> Path:
        """Write it to a model directory, in bfloat16; the file appears whole or not at all."""
        from safetensors.torch import save_file

        told = {
            "format": "pt", "rank": str(self.rank), "taps": ",".join(map(str, self.taps)),
            "of": self.of, "tasks": ",".join(self.tasks),
        }  # fmt: skip
        path, temporary = directory / FILE, directory / f".{FILE}.tmp"
        directory.mkdir(parents=True, exist_ok=True)
        save_file({k: v.detach().cpu().bfloat16().contiguous() for k, v in self.learned().items()}, temporary, told)
        temporary.replace(path)
        return path


def load_judge(directory: Path, net: Transformer) -> Judge | None:
    """The judge of a model directory, settled; None where there is none.

    Raises:
        ValueError: for a damaged file, or a judge of another network.
    """
    path = directory / FILE
    if not path.exists():
        return None
    from safetensors import safe_open

    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        rank, taps, known = int(told["rank"]), [int(tap) for tap in told["taps"].split(",")], told["of"]
        tasks = told["tasks"].split(",")
    except Exception as error:  # safetensors raises its own SafetensorError
        raise ValueError(f"{path} is damaged or no judge: {type(error).__name__}: {error}") from error
    if known_by(net) != known:
        raise ValueError(
            f"{path} judges what another network draws; train one for this network with `selfflow judge`, or delete it"
        )
    judge = Judge(net, rank, taps, tasks)
    judge.load_learned(state)
    return judge.settled()


def checked_tasks(tasks: Sequence[str]) -> tuple[str, ...]:
    """The tasks themselves; ValueError unless there are some, and pictures come of all."""
    if not tasks or any(task not in JUDGED for task in tasks):
        raise ValueError(f"tasks of a judge are {list(tasks)}; choose some of {', '.join(JUDGED)}")
    return tuple(tasks)


def known_by(net: Transformer) -> str:
    """By what a network is known again, whether its weights are stored in bfloat16 or not: a digest of its blocks."""
    digest = hashlib.sha256()
    for _, parameter in sorted(net.blocks.named_parameters()):
        digest.update(parameter.detach().cpu().bfloat16().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
