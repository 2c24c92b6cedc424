"""Open a source by the name a configuration gives it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfflow.data.loader import Loader
from selfflow.data.sample import DecodeError

if TYPE_CHECKING:
    from selfflow.config import DataConfig

# A vocabulary of a few thousand pieces needs no more captions than this.
CAPTIONS_READ = 20_000


def open_source(data: DataConfig, size: int, split: str) -> Any:
    """The source `data.source` names, at `size` pixels.

    Args:
        split: `"train"` or `"test"`; of the emoji, test means held-out combinations of concept and style.

    Raises:
        ValueError: for an unknown source, or a split it does not have.
        PackMissing: when a data pack is not here, saying where it was looked for.
    """
    if split not in ("train", "test"):
        raise ValueError(f"unknown split {split!r}; choose 'train' or 'test'")
    name = data.source
    if name == "tabletop":
        from selfflow.data.scenes import TabletopScenes

        return TabletopScenes(size=size, split=split, kinds=data.kinds)
    if name == "emoji":
        from selfflow.data.emoji import Emoji

        held_out = {"train": "train", "test": "test_combo"}
        return Emoji(split=held_out[split], size=size, permissive_only=data.permissive_only)
    if split == "test":
        raise ValueError(f"{name} has no test split of its own")
    if name.startswith("hub:"):
        from selfflow.data.streaming import HubStream

        return HubStream(name[4:], split, data.image_key, data.text_key, size)
    if Path(name).is_dir():
        from selfflow.data.folder import ImageFolder

        return ImageFolder(Path(name), size, data.text_key)
    raise ValueError(f"unknown source {name!r}; choose tabletop, emoji, an existing directory, or hub:NAME")


def open_loader(source: Any, batch_size: int, seed: int, workers: int = 0, rank: int = 0, world_size: int = 1) -> Any:
    """The endless loader that suits the source."""
    if hasattr(source, "__getitem__"):
        return Loader(source, batch_size, seed, workers=workers, rank=rank, world_size=world_size)
    from selfflow.data.streaming import StreamLoader

    return StreamLoader(source, batch_size, rank=rank, world_size=world_size)


def read_captions(source: Any) -> Iterator[str]:
    """Captions to learn a vocabulary from; broken records are passed over."""
    if hasattr(source, "captions"):
        yield from islice(source.captions(), CAPTIONS_READ)
        return
    if not hasattr(source, "__getitem__"):
        yield from (sample.text for sample in islice(source, CAPTIONS_READ))
        return
    for i in range(min(len(source), CAPTIONS_READ)):
        try:
            yield source[i].text
        except DecodeError:
            continue
