"""Samples that no training saw, with what they show: for linear probes to read off a network's features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from selfflow.data.sample import Sample

Labelled = tuple[list[Sample], dict[str, list[int]]]


def single_things(count: int, size: int) -> Labelled:
    """Pictures of one thing on Tabletop's table, of no scene that is trained on: its *object* and *colour*."""
    from selfflow.worlds.tabletop.draw import draw
    from selfflow.worlds.tabletop.render import render
    from selfflow.worlds.tabletop.scene import COLOURS, KINDS, generator

    scenes = [draw(generator(977, i), count=1) for i in range(count)]
    things = [scene.things[0] for scene in scenes]
    labels = {
        "object": [KINDS.index(t.kind) for t in things],
        "colour": [list(COLOURS).index(t.colour) for t in things],
    }
    return [Sample(f"single/{i}", render(s, size), "") for i, s in enumerate(scenes)], labels


def emoji(count: int, size: int, first: int = 0) -> Labelled:
    """Emoji of held-out combinations, from the `first` of a random order on: *style* and *group*.

    Raises:
        PackMissing: without the pack emoji64.
    """
    from selfflow.data.emoji import Emoji
    from selfflow.evaluate.measures import chosen

    source = Emoji("test_combo", size=size)
    samples = [source[i] for i in chosen(len(source), first + count, 0)[first:]]
    groups = [source.record(s.meta["row"])["group"] for s in samples]
    return samples, {"style": [s.meta["style"] for s in samples], "group": numbered(groups)}


def spoken_digits(count: int, size: int = 64) -> Labelled:
    """Spoken digits of the official test split: *digit* and *speaker*.

    Raises:
        PackMissing: without the pack fsdd8k.
    """
    samples = _of("digits", count, size)
    return samples, {
        "digit": [int(s.meta["digit"]) for s in samples],
        "speaker": numbered([s.meta["speaker"] for s in samples]),
    }


def sprite_clips(count: int, size: int, frames: int) -> Labelled:
    """Clips of characters that are not trained on: *animation*, *direction* and, of the character, what it *wears*.

    Raises:
        PackMissing: without the pack lpc64.
    """
    samples = _of("sprites-clip", count, size, frames)
    worn = _slot(samples)
    return samples, {
        "animation": numbered([s.meta["animation"] for s in samples]),
        "direction": numbered([s.meta["direction"] for s in samples]),
        "character": numbered([s.meta["parts"].get(worn) for s in samples]),
    }


def _slot(samples: Sequence[Sample]) -> str:
    """The slot that tells characters apart best: worn by all, in most kinds."""
    slots = set.intersection(*(set(s.meta["parts"]) for s in samples))
    return max(sorted(slots), key=lambda slot: len({s.meta["parts"][slot] for s in samples}))


def numbered(names: Sequence[Any]) -> list[int]:
    """Equal names to equal numbers from 0, in the order of their names."""
    order: Callable[[Any], int] = sorted(set(names), key=str).index
    return [order(name) for name in names]


def _of(name: str, count: int, size: int, frames: int = 16) -> list[Sample]:
    from selfflow.data.registry import open_named
    from selfflow.evaluate.measures import chosen

    source = open_named(name, size, "test", frames)
    return [source[i] for i in chosen(len(source), count, 0)]
