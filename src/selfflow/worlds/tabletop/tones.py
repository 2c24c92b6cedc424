"""Things in many colours: who has seen eight learns which kinds go with which.

Of eight colours each kind is held out with one or two, and what is to be learned of a colour is soon learned by heart:
that pink things are never signs as well as what pink is. Here a colour is exchanged for another of `PAINTS`, so that
colours are many and none tells a kind. Whatever resembles a colour that is held out with a kind, or is called by its
name ("dark pink"), is held out with that kind, too (`split`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from .compose import Reference
from .edits import Edit
from .paints import apart
from .scene import COLOURS, TONES, Scene, pick

APART = 20.0  # CIELAB, at least, between the colours of one scene: those of `COLOURS` have 27
KEPT = 0.25  # share of colours that stay as they are


def toned(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene in other colours; things of one colour still are, and others still differ."""
    return _painted(scene, _exchanged(rng, [scene]))


def edit_toned(rng: np.random.Generator, edit: Edit) -> Edit:
    """The same of an edit, before and after, and in what it asks for."""
    other = _exchanged(rng, [edit.before, edit.after])
    before, after = (_painted(scene, other) for scene in (edit.before, edit.after))
    return replace(edit, before=before, after=after, instruction=_told(edit.instruction, other))


def reference_toned(rng: np.random.Generator, reference: Reference) -> Reference:
    """The same of a composition: of its pictures, of what it makes of them, and in its words."""
    other = _exchanged(rng, [*reference.scenes, reference.target])
    scenes = tuple(_painted(scene, other) for scene in reference.scenes)
    return Reference(scenes, _told(reference.text, other), _painted(reference.target, other))


def _exchanged(rng: np.random.Generator, scenes: Iterable[Scene]) -> dict[str, str]:
    """What each colour of some scenes becomes."""
    there = list(dict.fromkeys(thing.colour for scene in scenes for thing in scene.things))
    found = {colour: colour for colour in there if rng.random() < KEPT}
    for colour in there:
        if colour not in found:
            found[colour] = pick(rng, [name for name in TONES if all(apart(name, o) > APART for o in found.values())])
    return found


def _painted(scene: Scene, other: dict[str, str]) -> Scene:
    return replace(scene, things=tuple(replace(thing, colour=other[thing.colour]) for thing in scene.things))


def _told(text: str, other: dict[str, str]) -> str:
    """A text in other colours. Words on signs are in capitals, and stay."""

    def renamed(found: re.Match[str]) -> str:
        colour = other.get(found[2], found[2])
        return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour}" if found[1] else colour

    return re.sub(rf"\b(an? )?({'|'.join(COLOURS)})\b", renamed, text)
