"""Clip -> what its things are: kind, size and material, from the first frame.

`read` tells kinds and sizes by their outlines; a material is told by its surface. Each that the kind may be made of is
painted by `render` where the thing stands, sharp and blurred, and the one that resembles the picture most is it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .corrupt import blurred
from .pixels import averaged
from .read import Seen, read_scene
from .render import render, silhouette
from .scene import MADE_OF, Scene, Thing

FIT = 0.62  # of an outline, below which the kind of a thing is not known
FIST = 0.85  # the same of a hand, which a tilted box resembles
UNLIKE = 60.0  # distance in colour beyond which a pixel counts no more: something else is in front
STEPS = (-0.3, 0.0, 0.3)  # pixels upwards
BLURS = (0.0, 0.7, 1.2)  # standard deviations in pixels
DOUBT = 1.02  # share by which the second material must resemble the picture less


@dataclass(frozen=True)
class Look:
    """A thing as far as it is seen.

    Attributes:
        thing: its kind, colour, size and place; its material is one of `materials`.
        materials: that it may be of, those that cannot be told apart.
    """

    thing: Thing
    materials: tuple[str, ...]


def looks(picture: np.ndarray) -> dict[str, Look]:
    """The things of a picture by colour, those whose kind is certain, one of each colour.

    Args:
        picture: uint8 (size, size, 3), 24 pixels or more.

    Raises ValueError for what is no such picture.
    """
    seen = [thing for thing in read_scene(picture) if thing.fit >= (FIST if thing.kind == "hand" else FIT)]
    seen = [thing for thing in seen if sum(other.colour == thing.colour for other in seen) == 1]
    unlike = [_unlike(averaged(picture), thing) for thing in seen]
    # A picture is blurred as a whole: as much as resembles most of its things.
    blur = int(np.argmin(sum((u.min(axis=0) for u in unlike), np.zeros(len(BLURS)))))
    found = {}
    for thing, each in zip(seen, unlike, strict=True):
        known = MADE_OF[thing.kind]
        materials = tuple(m for m, u in zip(known, each[:, blur], strict=True) if u <= DOUBT * each[:, blur].min())
        found[thing.colour] = Look(_plain(thing), materials)
    return found


def _plain(thing: Seen, material: str = "") -> Thing:
    """The thing without what only readers know, of a material."""
    word = thing.word if thing.word.isalpha() else "A" * len(thing.word)
    return Thing(
        thing.kind, thing.colour, thing.size, thing.x, thing.y, thing.angle, material, word, thing.fingers, thing.limbs
    )


def _unlike(picture: np.ndarray, thing: Seen) -> np.ndarray:
    """How unlike a picture a thing of each material is that it may be of, after each of `BLURS`: (materials, blurs)."""
    known, size = MADE_OF[thing.kind], len(picture)
    if len(known) == 1:
        return np.zeros((1, len(BLURS)))
    cover = silhouette(_plain(thing), size)
    rows, columns = np.nonzero(cover > 0.9 * cover.max())
    shown = picture[rows, columns].astype(np.float64)
    unlike = np.full((len(known), len(BLURS)), np.inf)
    for i, material in enumerate(known):
        for step in STEPS:  # a thin plate looks another when it is read a quarter of a pixel too high
            one = _plain(thing, material).at(thing.x, thing.y + step / size)
            painted = render(Scene((one,)), size)
            for k, blur in enumerate(BLURS):
                there = (blurred(painted, blur) if blur else painted)[rows, columns]
                apart = np.minimum(((shown - there) ** 2).sum(axis=1), UNLIKE**2)
                unlike[i, k] = min(unlike[i, k], float(apart.mean()))
    return unlike
