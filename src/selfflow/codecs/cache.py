"""Latents kept on disk: encode once, read ever after.

A latent is known by the codec's fingerprint and by what it is of, so that nothing can be taken for something else: not
after a codec was trained on, not when a source changed, and a picture is encoded once, whether it is seen as an edit's
reference or as what another ends with. Latents are kept in float32, as they came: what is learned from them is the
same, whether they were there or not.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor

from selfflow.codecs.base import Codec

log = logging.getLogger(__name__)


class LatentCache:
    """Latents of one codec under `directory / fingerprint`, in safetensors shards of some hundred.

    A shard is written to a temporary name and renamed: a process that dies loses the latents it had not written yet and
    nothing else. Several processes may share a directory; each sees what was there when it opened it and what it added.
    Full, the cache drops latents of other codecs, oldest first; when that does not suffice it stays as it is, which
    in training beats forgetting, as every epoch visits each sample once. Threads may share one.

    Args:
        directory: of latents of any codecs.
        codec: whose latents.
        most_bytes: that all codecs' shards together may take.
        shard: latents gathered before they are written; `flush` writes what is there.

    Raises:
        ValueError: for a limit or a shard below 1.
    """

    def __init__(self, directory: str | Path, codec: Codec, most_bytes: int = 8 << 30, shard: int = 512) -> None:
        if most_bytes < 1 or shard < 1:
            raise ValueError(f"most_bytes {most_bytes} and shard {shard} must be at least 1")
        self.codec, self.most_bytes, self.shard = codec, most_bytes, shard
        self.root = Path(directory)
        self.directory = self.root / codec.fingerprint
        self.full = False
        self._where: dict[str, Path] = {}
        self._open: dict[Path, Any] = {}
        self._pending: dict[str, Tensor] = {}
        self._lock = threading.Lock()
        for path in sorted(self.directory.glob("*.safetensors")):
            if (file := _opened(path)) is not None:
                self._open[path] = file
                self._where.update(dict.fromkeys(file.keys(), path))

    def __len__(self) -> int:
        return len(self._where) + len(self._pending)

    def __enter__(self) -> LatentCache:
        return self

    def __exit__(self, *error: object) -> None:
        self.flush()

    def get(self, name: str) -> Tensor | None:
        """The latent of that name, float32 on the CPU; None when it is not here."""
        with self._lock:
            if name in self._pending:
                return self._pending[name]
            path = self._where.get(name)
            return None if path is None else self._open[path].get_tensor(name)

    def put(self, name: str, latent: Tensor) -> None:
        """Remember a latent."""
        with self._lock:
            if not self.full:
                self._pending[name] = latent.detach().to("cpu", torch.float32, copy=True).contiguous()
            if len(self._pending) >= self.shard:
                self._flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        from safetensors.torch import save_file

        if self._make_room(sum(t.nbytes + 128 for t in self._pending.values())):
            self.directory.mkdir(parents=True, exist_ok=True)
            path = self.directory / f"{uuid4().hex}.safetensors"
            temporary = path.with_suffix(".tmp")
            save_file(self._pending, temporary)
            os.replace(temporary, path)
            self._open[path] = _opened(path)
            self._where.update(dict.fromkeys(self._pending, path))
        else:
            self.full = True
            log.warning("%s is full (%d bytes); further latents are not kept", self.root, self.most_bytes)
        self._pending = {}

    def _make_room(self, needed: int) -> bool:
        """Whether so many bytes may be written, after dropping shards of other codecs where they are in the way."""
        shards = sorted(self.root.glob("*/*.safetensors"), key=lambda p: p.stat().st_mtime)
        taken = sum(p.stat().st_size for p in shards)
        for path in (p for p in shards if p.parent != self.directory):
            if taken + needed <= self.most_bytes:
                break
            taken -= path.stat().st_size
            path.unlink(missing_ok=True)
        return taken + needed <= self.most_bytes


class CachedCodec:
    """A codec that encodes nothing twice: `encode` gives what is kept, and keeps what is not yet. All else is the
    codec's own.

    A batch of which anything is missing is encoded whole, so that the codec sees the batches it would see without.

    Args:
        codec: what to encode with.
        directory, most_bytes: of the `LatentCache`.
    """

    def __init__(self, codec: Codec, directory: str | Path, most_bytes: int = 8 << 30) -> None:
        self.codec, self.cache = codec, LatentCache(directory, codec, most_bytes)

    def __getattr__(self, name: str) -> Any:
        if name in ("codec", "cache"):  # not there yet: a copy that is being made
            raise AttributeError(name)
        return getattr(self.codec, name)

    def encode(self, values: Tensor) -> Tensor:
        """As `Codec.encode`, with the same errors."""
        names = [content(row) for row in values]
        found = [self.cache.get(name) for name in names]
        known = [latent for latent in found if latent is not None]
        if names and len(known) == len(names):
            return torch.stack(known).to(self.codec.device)
        latents = self.codec.encode(values)
        for name, there, latent in zip(names, found, latents, strict=True):
            if there is None:
                self.cache.put(name, latent)
        return latents


def content(values: Tensor) -> str:
    """A name for values: 32 hexadecimal digits of their shape and bytes, as float32."""
    values = values.detach().to("cpu", torch.float32).contiguous()
    digest = hashlib.blake2b(repr(tuple(values.shape)).encode(), digest_size=16)
    digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _opened(path: Path) -> Any:
    """A shard to read from; a damaged one is removed, since what was in it can be encoded again."""
    from safetensors import safe_open

    try:
        return safe_open(path, "pt")
    except Exception as error:  # safetensors raises its own SafetensorError
        log.warning("%s is damaged and was removed: %s", path, error)
        path.unlink(missing_ok=True)
        return None
