"""Open a source by the name a configuration gives it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfflow.data.loader import Loader
from selfflow.data.mixture import Ingredient, MixtureLoader
from selfflow.data.packs import PackMissing
from selfflow.data.sample import DecodeError

if TYPE_CHECKING:
    from selfflow.config import DataConfig

log = logging.getLogger(__name__)


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

        return TabletopScenes(size=size, split=split, kinds=data.kinds, sizes=data.sizes, most=data.most)
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


def open_mixture(data: DataConfig, size: int, split: str, seed: int = 0) -> list[tuple[Any, Ingredient]]:
    """The sources of a run and what is learned from each; one source, for pictures, where there is no mixture.

    A source whose pack is not here, or whose licence is not wanted, is left out with a warning. Ingredients that name
    one source share it.

    Raises:
        PackMissing: when all of them are left out.
        ValueError: for what no source is called or teaches, and for a data set of the user's own that none takes, or
            whose robot another has with other actions.
    """
    if not data.mixture and not data.lerobot:
        return [(open_source(data, size, split), Ingredient(data.source, "picture"))]
    from selfflow.data.registry import SOURCES, available, lerobot, open_named

    own = lerobot(data.lerobot, data.cameras, data.hz)
    sources = SOURCES | own
    ingredients = [Ingredient.parse(text) for text in data.mixture]
    if unused := [name for name in own if name not in {i.source for i in ingredients}]:
        raise ValueError(f"no part of data.mixture takes {unused[0]}; add a part, such as {unused[0]}:act")
    here, missing = available(dict.fromkeys(i.source for i in ingredients), data.permissive_only, sources)
    for name, reason in missing.items():
        log.warning("%s is left out of the mixture: %s", name, reason)
    if not here:
        raise PackMissing(f"no source of the mixture is here: {'; '.join(missing.values())}")
    opened = {}
    for name in here:
        entry = sources[name]
        only_heard = "sound" in entry.tasks and not entry.moving
        extra: dict[str, Any] = {"seconds": data.seconds} if only_heard else {}
        if name.startswith("tabletop-"):
            extra["count"] = data.simulated if entry.moving else data.count
        if data.cache and name.startswith("tabletop-"):
            extra |= {"directory": Path(data.cache), "memory": 0}  # files are shared by processes; memory is not
        if data.cache and name in own:
            extra |= {"cache": Path(data.cache) / "lerobot", "memory": 0}
        opened[name] = open_named(
            name, size, split, data.frames, seed=seed, permissive_only=data.permissive_only, sources=sources, **extra
        )
    _check_bodies([opened[name] for name in here if name in own])
    for ingredient in ingredients:
        if ingredient.source in opened and ingredient.task not in (known := sources[ingredient.source].tasks):
            raise ValueError(f"{ingredient.source} cannot teach {ingredient.task}; it teaches {', '.join(known)}")
    return [(opened[i.source], i) for i in ingredients if i.source in opened]


def _check_bodies(sources: Sequence[Any]) -> None:
    """Raise ValueError where two data sets of one robot have actions or states of other widths."""
    for before, source in pairwise(sorted(sources, key=lambda source: source.body)):
        if before.body == source.body and before.widths != source.widths:
            raise ValueError(
                f"{before.name} and {source.name} are both of robot_type {source.body!r}, with values {before.widths} "
                f"and {source.widths}; one robot's are scaled together: give one of them another in meta/info.json"
            )


def open_training(
    data: DataConfig, size: int, batch_size: int, parts: int, seed: int, rank: int, world: int
) -> MixtureLoader | Loader:
    """The loader of a run, opened from what it was told alone: in any process it gives the same batches."""
    return open_mixture_loader(open_mixture(data, size, "train", seed), batch_size, parts, seed, 0, rank, world)


def open_loader(
    source: Any, batch_size: int, seed: int, workers: int = 0, rank: int = 0, world_size: int = 1, task: str = "picture"
) -> Any:
    """The endless loader that suits the source."""
    if hasattr(source, "__getitem__"):
        return Loader(source, batch_size, seed, workers, rank, world_size, task)
    from selfflow.data.streaming import StreamLoader

    return StreamLoader(source, batch_size, rank=rank, world_size=world_size)


def open_mixture_loader(
    sources: Sequence[tuple[Any, Ingredient]],
    batch_size: int,
    parts: int,
    seed: int,
    workers: int,
    rank: int,
    world: int,
) -> Any:
    """One loader over all sources, giving `parts` micro-batches a step; over a single one, that source's own."""
    if len(sources) == 1:
        source, only = sources[0]
        return open_loader(source, batch_size, seed, workers, rank, world, only.task)
    if batch_size % parts:
        raise ValueError(f"a batch of {batch_size} does not divide into {parts} micro-batches; use a multiple")
    loaders = [
        open_loader(source, batch_size // parts, seed + 1_000_000 * number, workers, rank, world, ingredient.task)
        for number, (source, ingredient) in enumerate(sources)
    ]
    return MixtureLoader(loaders, [ingredient.weight for _, ingredient in sources], batch_size, seed, parts)


def read_captions(source: Any, most: int) -> Iterator[str]:
    """Up to `most` captions, to learn a vocabulary from; broken records are passed over."""
    if hasattr(source, "captions"):
        yield from islice(source.captions(), most)
        return
    if not hasattr(source, "__getitem__"):
        yield from (sample.text for sample in islice(source, most))
        return
    for i in range(min(len(source), most)):
        try:
            yield source[i].text
        except DecodeError:
            continue
