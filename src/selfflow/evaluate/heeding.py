"""The suite `heeding`: does the model heed what words say, and which reference is which?

A true picture is told rightly, and with one thing exchanged: whose colour, who is left. The noise is the same, so a
model that heeds what was exchanged has the lower loss with the right words, and one that does not is right half of the
time. Nothing is sampled: one pair says in two passes what a score of finished pictures says in hundreds
(a reading of a generator's loss as Winoground's: Thrush et al. 2022, 2204.03162; Li et al. 2023, 2303.16203).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

from selfflow.data.sample import Sample
from selfflow.evaluate.every_suite import tasks_of
from selfflow.evaluate.measures import unsurprised
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.surprise import known_loss
from selfflow.evaluate.tabletop_report import asked_scenes, require

LEVELS = (0.85, 0.9, 0.95)  # where a picture is decided: below, the noisy values themselves say what stands where
LOOKED = 6000  # captions to find pairs among
_HEIGHTS = {"above": "below", "below": "above", "under": "on top of", "beneath": "on top of", "on top of": "under"}


def _exchanged(text: str, words: Collection[str]) -> str | None:
    """The text with two of these words in each other's place; None unless it holds exactly two, and different ones."""
    pattern = re.compile(rf"\b({'|'.join(words)})\b")
    found = pattern.findall(text)
    if len(found) != 2 or found[0] == found[1]:
        return None
    order = iter(found[::-1])
    return pattern.sub(lambda _: next(order), text)


def _turned(text: str, words: dict[str, str], after: str = "") -> str | None:
    """The text with its only one of these words replaced by its opposite."""
    pattern = re.compile(rf"\b({'|'.join(words)})\b{after}")
    return pattern.sub(lambda m: words[m[1]] + m[0][len(m[1]) :], text) if len(pattern.findall(text)) == 1 else None


def _reversed(text: str) -> str | None:
    """A row "from left to right" told the other way round."""
    row = re.match(r"from left to right,? (.+)$", text)
    things = [] if row is None else [thing for thing in re.split(r",? and |, ", row[1]) if thing]
    if len(things) < 2 or re.search(r"\b(on|in|with|under|above|below|beneath|holding)\b", row[1] if row else ""):
        return None
    *others, last = things[::-1]
    return f"from left to right, {', '.join(others)} and {last}"


def _rewritten(text: str) -> str | None:
    """The text with the only word in quotes replaced by the next that is as long, so that letters alone differ."""
    from selfflow.worlds.tabletop.scene import WORDS

    said = re.findall(r'"(\w+)"', text)
    others = [word for word in WORDS if len(word) == len(said[0])] if len(said) == 1 else []
    if len(others) < 2 or said[0] not in others:
        return None
    return text.replace(f'"{said[0]}"', f'"{others[(others.index(said[0]) + 1) % len(others)]}"')


def _kinds() -> dict[str, Callable[[str], str | None]]:
    from selfflow.worlds.tabletop.nouns import SIZE_WORDS
    from selfflow.worlds.tabletop.scene import COLOURS, KINDS

    small, large = SIZE_WORDS["small"], SIZE_WORDS["large"]
    sizes = dict(zip((*small, *large), (*large, *small), strict=True))
    return {
        "whose colour": lambda text: _exchanged(text, tuple(COLOURS)),
        "whose kind": lambda text: _exchanged(text, KINDS),
        "small from large": lambda text: _turned(text, sizes),
        "above from below": lambda text: _turned(text, _HEIGHTS),
        "left from right": lambda text: _turned(text, {"left": "right", "right": "left"}, after=" of"),
        "the order of a row": _reversed,
        "which word": _rewritten,
    }


def _articles(text: str) -> str:
    """The text with a and an as the next word has it."""
    return re.sub(r"\b(a|an)(?= ([a-z]))", lambda m: "an" if m[2] in "aeiou" else "a", text)


def heeding_suite(pipe: Any, options: Options) -> dict[str, Any]:
    """The share of pairs in which the right words have the lower loss, by what was exchanged; chance is one half.

    `options.samples` pairs of each, of captions of held-out scenes; an exchange that the picture shows as well, or that
    is no caption, is none. Of models that edit also which word a sign is to bear instead of its own, and of those that
    are trained on references also whether another of several pictures, asked for by its number, has the higher loss,
    and two of one kind, shown in the wrong order: where the text speaks of both, and where it speaks of one.

    Raises:
        ValueError: for a model whose loss cannot be asked for.
    """
    require(pipe, "field", "heeding", "template, memories")
    figures = {name: _heeds(pipe, "picture", pairs) for name, pairs in _told(pipe, options).items() if len(pairs) > 1}
    if {"tabletop-edit:edit", "tabletop-words:edit"} & set(tasks_of(pipe.config)):
        figures["which word to write"] = _heeds(pipe, "edit", list(_written(pipe, options)))
    if "tabletop-reference:edit" in tasks_of(pipe.config):
        figures["which of several pictures"] = _heeds(pipe, "edit", list(_several(pipe, options)))
        figures["which reference is which"] = _heeds(pipe, "edit", list(_shown(pipe, options)))
        figures["which reference is meant"] = _heeds(pipe, "edit", list(_shown(pipe, options, spare=True)))
    return {"figures": figures}


def _heeds(pipe: Any, task: str, pairs: list[tuple[Sample, Sample]]) -> Figure:
    right, wrong = (known_loss(pipe, task, side, levels=LEVELS) for side in zip(*pairs, strict=True))
    found = unsurprised(list(zip(right, wrong, strict=True)), "side")
    return replace(found, note=f"the wrong one's loss is {100 * (wrong.mean() / right.mean() - 1):+.1f} %")


def _told(pipe: Any, options: Options) -> dict[str, list[tuple[Sample, Sample]]]:
    """Held-out pictures with their captions, and with those in which one thing is exchanged; by what."""
    from selfflow.worlds.tabletop.check import score_text

    source, kinds = asked_scenes(pipe, LOOKED, options.seed), _kinds()
    found: dict[str, list[tuple[Sample, Sample]]] = {name: [] for name in kinds}
    for index in range(LOOKED):
        text = source.told(index)[1]
        for name in [name for name, pairs in found.items() if len(pairs) < options.samples]:
            other = kinds[name](text)
            if other is None:
                continue
            sample = source[index]
            try:
                if score_text(sample.picture, other := _articles(other)).value == 1:
                    continue
            except ValueError:  # no caption
                continue
            found[name].append((sample, replace(sample, text=other)))
        if all(len(pairs) >= options.samples for pairs in found.values()):
            break
    return found


def _written(pipe: Any, options: Options) -> Iterator[tuple[Sample, Sample]]:
    """A sign that is to bear another word, and the same asked for with a third, as long as what it then bears."""
    from selfflow.data.tabletop_tasks import TabletopTask

    size, kinds = pipe.config.picture.size, ("change word",)
    source = TabletopTask("edit", LOOKED, size, "test", options.seed, kinds=kinds)
    for index in range(options.samples):
        sample = source[index]
        asked = _rewritten(sample.text)
        assert asked is not None  # of every length there are several words
        yield sample, replace(sample, text=asked)


def _several(pipe: Any, options: Options) -> Iterator[tuple[Sample, Sample]]:
    """One of two to four pictures, as it is, asked for by its number and by that of the next."""
    from selfflow.data.among import TabletopAmong

    source = TabletopAmong(LOOKED, pipe.config.picture.size, "test", options.seed)
    for index in range(0, 2 * options.samples, 2):
        sample = source[index]
        number = sample.meta["number"]
        other = number % len(sample.references) + 1
        yield sample, replace(sample, text=sample.text.replace(f"picture {number}", f"picture {other}"))


def _shown(pipe: Any, options: Options, spare: bool = False) -> Iterator[tuple[Sample, Sample]]:
    """Two references of one kind that differ, and the same in the other order; one may be spare."""
    from selfflow.data.tabletop_tasks import TabletopTask

    source = TabletopTask("reference", LOOKED, pipe.config.picture.size, "test", options.seed, counts=(2,), spare=spare)
    count = 0
    for index in range(LOOKED):
        sample = source[index]
        one, two = (scene.things[0] for scene in sample.meta["truth"].scenes)
        if one.kind == two.kind and one.colour != two.colour:
            yield sample, replace(sample, references=sample.references[::-1])
            count += 1
        if count == options.samples:
            return
