"""References from a seed: pictures of single things, words that say how they stand together, and the scene they make.

    "the ball from picture 1 on the box from picture 2"
    "a small red cup left of the sign from picture 1"             what no picture shows is told in words
    "the cup from picture 2"                                      of two pictures of cups: one is spare

The words follow the grammar of `language`, where "the ball from picture 1" stands for a phrase. They keep quiet about
what the picture tells: colour, size, word, fingers, pose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from .draw import draw
from .language import caption
from .layout import shape
from .scene import COLOURS, MARGIN, MAX_THINGS, TABLE, Scene, Thing, between, generator, pick

TOLD = 0.3  # share of compositions in which something that no picture shows is told in words
COUNTS = (1, 2, 2, 2, 3, 3, 3, 4, 5, 6)  # of pictures, when no number is asked for


@dataclass(frozen=True)
class Reference:
    """What to compose.

    Attributes:
        scenes: one thing each, alone on a table of its own light, anywhere along it. Spare ones show what is not meant.
        text: how the things stand; "picture 1" is the first scene.
        target: a possible scene in which they stand so, with at most `MAX_THINGS` things.
    """

    scenes: tuple[Scene, ...]
    text: str
    target: Scene


def draw_reference(
    seed: int | np.random.Generator,
    count: int | None = None,
    allowed: Callable[[str, str], bool] | None = None,
    alike: bool = False,
    spare: bool = False,
) -> Reference:
    """A composition, drawn from a non-negative integer or from a generator (which moves on).

    Args:
        count: of pictures, 1 to 10; drawn from `COUNTS` by default.
        allowed: whether a colour and a kind may go together; where not, another colour is taken.
        alike: two pictures at least show things of one kind and different colours, so that only their numbers tell
            which is meant.
        spare: some of the pictures, at least one and not all, are not spoken of; each of those shows a thing of the
            kind of one that is, in another colour. What is to be seen then hangs on a number.

    Raises:
        ValueError: for a count outside 1 to 10, for one that is alike or spare, or a negative seed.
    """
    if (alike or spare) and count == 1:
        raise ValueError("one reference picture cannot be like another; choose 2 to 10")
    rng = seed if isinstance(seed, np.random.Generator) else generator(seed)
    if count is not None and not 1 <= count <= MAX_THINGS:
        raise ValueError(f"{count} reference pictures were asked for; choose 1 to {MAX_THINGS}")
    while True:
        shown = count or pick(rng, [n for n in COUNTS if n > spare])
        reference = _drawn(rng, shown, allowed, int(rng.integers(1, shown)) if spare else 0)
        if not alike or are_alike(reference):
            return reference


def are_alike(reference: Reference) -> bool:
    """Whether two of the pictures show things of one kind and different colours."""
    things = [scene.things[0] for scene in reference.scenes]
    return any(a.kind == b.kind and a.colour != b.colour for a, b in combinations(things, 2))


def _drawn(
    rng: np.random.Generator, shown: int, allowed: Callable[[str, str], bool] | None, spare: int = 0
) -> Reference:
    told = int(shown < MAX_THINGS and rng.random() < TOLD)
    target = draw(rng, shown - spare + told)
    if allowed is not None:
        target = recoloured(rng, target, allowed)
    order = sorted(range(len(target.things)), key=lambda _: rng.random())[: shown - spare]
    things = [target.things[i] for i in order]
    places = list(range(shown))  # of the pictures, those that are meant first
    if spare:
        things += [_other(rng, pick(rng, things[: shown - spare]), allowed) for _ in range(spare)]
        places.sort(key=lambda _: rng.random())
    said = {i: f"the {target.things[i].kind} from picture {places[k] + 1}" for k, i in enumerate(order)}
    scenes = [_alone(rng, thing) for thing in things]
    ordered = tuple(scenes[places.index(n)] for n in range(shown))
    return Reference(ordered, caption(target, rng, said), target)


def _other(rng: np.random.Generator, thing: Thing, allowed: Callable[[str, str], bool] | None) -> Thing:
    """The thing in another colour."""
    may = [c for c in COLOURS if c != thing.colour and (allowed is None or allowed(c, thing.kind))]
    return replace(thing, colour=pick(rng, may))


def _alone(rng: np.random.Generator, thing: Thing) -> Scene:
    left, bottom, right, _ = shape(thing)
    x = between(rng, MARGIN - left, 1 - MARGIN - right)
    alone = thing.at(round(x, 6), round(TABLE - bottom, 6))
    return Scene((alone,), wall=round(between(rng, -1, 1), 3), wood=round(between(rng, -1, 1), 3))


def recoloured(rng: np.random.Generator, scene: Scene, allowed: Callable[[str, str], bool]) -> Scene:
    """The scene with other colours where colour and kind may not go together.

    A new colour is none of the column's (a thing's column is what overlaps it sideways).
    """
    for i, thing in enumerate(scene.things):
        if allowed(thing.colour, thing.kind):
            continue
        left, _, right, _ = shape(thing)
        column = {
            other.colour
            for other in scene.things
            if other.x + shape(other)[0] < thing.x + right and other.x + shape(other)[2] > thing.x + left
        }
        options = [colour for colour in COLOURS if allowed(colour, thing.kind) and colour not in column]
        if options:
            scene = scene.having(i, replace(thing, colour=pick(rng, options)))
    return scene
