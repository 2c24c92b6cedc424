"""What was read, kept: keys and values of known tokens by the content of those tokens."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from selfflow.nn.matching import Windows
from selfflow.tokens import Tokens


@dataclass(frozen=True)
class Piece:
    """Keys and values of one sample's tokens that were read together: `kv (layers, 2, h, m, head_width)`.

    Of a network that copies also `copied (m, c)`, float32: each token's key and values for that, side by side; of one
    that matches, and of a whole picture, also its `windows`, without the batch; of one that prints, and of a text, the
    `codes (m,)` of its letters.
    """

    kv: Tensor
    copied: Tensor | None = None
    windows: Windows | None = None
    codes: Tensor | None = None

    def __len__(self) -> int:
        return self.kv.shape[3]

    @property
    def nbytes(self) -> int:
        parts = (self.kv, self.copied, self.codes, *(self.windows or ()))
        return sum(x.numel() * x.element_size() for x in parts if x is not None)


def fingerprint(net: nn.Module) -> str:
    """32 hexadecimal digits that name a network with these weights."""
    digest = hashlib.sha256(repr(getattr(net, "config", "")).encode())
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:32]


def content(tokens: Tokens, before: bytes) -> bytes:
    """A digest of everything that a read of the tokens `(1, n, …)` depends on, and of what was read before them.

    Values, places (so size, number of a reference, time) and modality; `before` stands for the model, and for the past
    that the tokens look back on.
    """
    digest = hashlib.sha256(before)
    for x in (tokens.data, tokens.positions):
        digest.update(f"{tokens.modality} {x.dtype} {tuple(x.shape)} ".encode())
        digest.update(_bytes(x))
    return digest.digest()


def _bytes(x: Tensor) -> Any:
    return x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


class PieceCache:
    """The pieces used last, by digest, within a number of bytes. Several models and threads may share one.

    Args:
        capacity: bytes; 0 keeps nothing.
    """

    def __init__(self, capacity: int = 256 << 20) -> None:
        if capacity < 0:
            raise ValueError(f"a memory of {capacity} bytes was asked for; give 0 (none) or more")
        self.capacity, self.nbytes, self.hits, self.misses = capacity, 0, 0, 0
        self._pieces: OrderedDict[bytes, Piece] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._pieces)

    def find(self, key: bytes) -> Piece | None:
        """The piece of that digest, if it is here."""
        with self._lock:
            if key not in self._pieces:
                self.misses += 1
                return None
            self.hits += 1
            self._pieces.move_to_end(key)
            return self._pieces[key]

    def keep(self, key: bytes, piece: Piece) -> None:
        """Keep a piece, and forget others as far as there is no room."""
        if piece.nbytes > self.capacity:
            return
        with self._lock:
            if key not in self._pieces:
                self._pieces[key] = piece
                self.nbytes += piece.nbytes
            while self.nbytes > self.capacity:
                self.nbytes -= self._pieces.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        with self._lock:
            self._pieces.clear()
            self.nbytes = 0
