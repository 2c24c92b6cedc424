"""Signs that bear any letters: who has seen sixteen words learns sixteen pictures, and not to write.

A word is exchanged for as many letters or fewer, so that nothing needs another place. One letter alone says what it
looks like; of several a learner has to find out first which of them stands where.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from .edits import Edit
from .scene import Scene, pick

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def spelled_anew(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene with other letters on its signs; those that were alike still are."""
    return _written(scene, _letters(rng, [scene]))


def edit_spelled_anew(rng: np.random.Generator, edit: Edit) -> Edit:
    """The same of an edit, before and after, and in what it asks for."""
    words = _letters(rng, [edit.before, edit.after])
    instruction = re.sub(r'"(\w+)"', lambda found: f'"{words[found[1]]}"', edit.instruction)
    before, after = (_written(scene, words) for scene in (edit.before, edit.after))
    return replace(edit, before=before, after=after, instruction=instruction)


def _letters(rng: np.random.Generator, scenes: Iterable[Scene]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in dict.fromkeys(thing.word for scene in scenes for thing in scene.things if thing.word):
        letters = ""
        while not letters or letters in found.values():  # what differed still does
            letters = "".join(pick(rng, LETTERS) for _ in range(1 + int(rng.random() * len(word))))
        found[word] = letters
    return found


def _written(scene: Scene, words: dict[str, str]) -> Scene:
    things = tuple(replace(thing, word=words[thing.word]) if thing.word else thing for thing in scene.things)
    return replace(scene, things=things)
