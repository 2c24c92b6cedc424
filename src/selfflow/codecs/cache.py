"""Latents kept on disk: encode once, read ever after.

A latent is known by the codec's fingerprint, the source, the sample's id and the shape of its values. Latents are kept
in float16 and always returned as float16 holds them, so that what comes out does not depend on whether it was there.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import torch
from torch import Tensor

from selfflow.codecs.base import Codec

log = logging.getLogger(__name__)


class Key(NamedTuple):
    """Which latent: name of the source, id of the sample, and shape of its values, such as `(3, 64, 64)`."""

    source: str
    sample: str
    shape: tuple[int, ...]


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

    def __init__(self, directory: str | Path, codec: Codec, most_bytes: int = 2 << 30, shard: int = 512) -> None:
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

    def get(self, key: Key) -> Tensor | None:
        """The latent of a key, float32 on the CPU; None when it is not here."""
        name = _name(key)
        with self._lock:
            if name in self._pending:
                return self._pending[name].float()
            path = self._where.get(name)
            return None if path is None else self._open[path].get_tensor(name).float()

    def put(self, key: Key, latent: Tensor) -> None:
        """Remember a latent."""
        with self._lock:
            if not self.full:
                self._pending[_name(key)] = latent.detach().to("cpu", torch.float16).contiguous()
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


def cached_encode(cache: LatentCache, keys: Sequence[Key], values: Tensor | Callable[[list[int]], Tensor]) -> Tensor:
    """Latents `(b, …)` of samples, float32 on the codec's device, from the cache where they are there.

    Args:
        cache: of the codec to encode with.
        keys: one for each sample.
        values: `(b, …)` as `Codec.encode` takes them; or a function that gives those of the samples at some places of
            `keys`, so that nothing need be read or drawn whose latents are known.

    Raises:
        ValueError: when values and keys differ in number or shape.
    """
    found = [cache.get(key) for key in keys]
    missing = [i for i, latent in enumerate(found) if latent is None]
    if missing:
        if not callable(values) and len(values) != len(keys):
            raise ValueError(f"{len(values)} samples were given with {len(keys)} keys")
        rows = values(missing) if callable(values) else values[missing]
        shapes = {keys[i].shape for i in missing}
        if shapes != {tuple(rows.shape[1:])} or len(rows) != len(missing):
            raise ValueError(f"keys name values of shapes {sorted(shapes)}; {len(missing)} were due, got {rows.shape}")
        for i, latent in zip(missing, cache.codec.encode(rows), strict=True):
            cache.put(keys[i], latent)
            found[i] = latent.half().float()
    return torch.stack([latent.to(cache.codec.device) for latent in found if latent is not None])


def _name(key: Key) -> str:
    return f"{key.source}|{key.sample}|{'x'.join(map(str, key.shape))}"


def _opened(path: Path) -> Any:
    """A shard to read from; a damaged one is removed, since what was in it can be encoded again."""
    from safetensors import safe_open

    try:
        return safe_open(path, "pt")
    except Exception as error:  # safetensors raises its own SafetensorError
        log.warning("%s is damaged and was removed: %s", path, error)
        path.unlink(missing_ok=True)
        return None
