"""The draw of a possible still scene from a seed: columns side by side, laid out by the arithmetic of `layout`.

A column is a thing on the table, perhaps with others on it (boxes and books have flat tops) or in it (cups, glasses and
plates). What does not fit is drawn again. Thousands a second; `physics.settle` leaves every such scene as it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from .layout import CONTENTS, HOLLOW, LOADS, nestle, rest, shape
from .relations import FLAT, extent
from .scene import (
    COLOURS,
    GAP,
    KINDS,
    MADE_OF,
    MARGIN,
    MAX_FINGERS,
    MAX_THINGS,
    POSES,
    SIZES,
    TABLE,
    WORDS,
    Scene,
    Thing,
    check_known,
    generator,
    pick,
)

FEW = (0.38, 0.40, 0.22)  # shares of scenes with one, two and three things, when no count is asked for
UNUSUAL = 0.25  # share of things that are not made of their kind's usual material
STACKED = 0.45  # share of scenes of two or three things in which one carries another
TWINS = 0.25  # share of those without a stack in which things are alike, so that counting has something to count
TRIES = 1_000
_NARROW = {kind for kind in KINDS if kind not in ("sign", "plate", "hand", "doll")}


def draw(seed: int | np.random.Generator, count: int | None = None, kinds: Collection[str] | None = None) -> Scene:
    """A scene, drawn from a non-negative integer or from a generator (which moves on).

    Args:
        count: of things, 1 to 10; 1, 2 or 3 in the shares of `FEW` by default. Many things are mostly small, and stand
            on one another, or they would not fit.
        kinds: draw only these.

    Raises:
        ValueError: for a count outside 1 to 10, an unknown kind or none, a negative seed, and where no place is found
            for so many things of those kinds (six balls can neither stack nor stand side by side).
    """
    rng = seed if isinstance(seed, np.random.Generator) else generator(seed)
    allowed = tuple(KINDS if kinds is None else dict.fromkeys(kinds))
    for kind in allowed:
        check_known("kind", kind, KINDS)
    if not allowed:
        raise ValueError(f"no kind to draw from; name at least one of {', '.join(KINDS)}")
    if count is not None and not 1 <= count <= MAX_THINGS:
        raise ValueError(f"{count} things were asked for; a scene holds 1 to {MAX_THINGS}")
    if count is None:
        chance = rng.random()
        count = 1 if chance < FEW[0] else 2 if chance < FEW[0] + FEW[1] else 3
    for attempt in range(TRIES):
        scene = _attempt(rng, count, allowed, crowded=count > 3 or attempt > 20)
        if scene is not None:
            return scene
    raise ValueError(f"found no place for {count} things of kinds {', '.join(allowed)}; ask for fewer or more kinds")


def look(rng: np.random.Generator, kind: str, size: str | None = None, taken: Collection[str] = ()) -> Thing:
    """A thing of a kind, everything else about it drawn, of none of the colours taken; its origin at (0, 0)."""
    colour = pick(rng, [colour for colour in COLOURS if colour not in taken])
    size = size or pick(rng, tuple(SIZES))
    usual, *others = MADE_OF[kind]
    material = pick(rng, others) if others and rng.random() < UNUSUAL else usual
    word = pick(rng, WORDS) if kind == "sign" else ""
    fingers = int(rng.random() * (MAX_FINGERS + 1)) if kind == "hand" else 0
    limbs = POSES[pick(rng, tuple(POSES))] if kind == "doll" else ()
    return Thing(kind, colour, size, 0.0, 0.0, 0.0, material, word, fingers, limbs)


def lay(rng: np.random.Generator, columns: list[list[Thing]]) -> Scene | None:
    """The columns from left to right, the free width shared among the gaps; None if they do not fit.

    Each column is laid about x = 0 already. What is in a glass comes before it, to be seen through its pane.
    """
    edges = [_edges(column) for column in columns]
    free = 1 - 2 * MARGIN - GAP * (len(columns) - 1) - sum(right - left for left, right, _ in edges)
    if free < 0 or any(height > 1 - MARGIN for *_, height in edges):
        return None
    cuts = sorted(rng.random() * free for _ in columns)
    things: list[Thing] = []
    edge = MARGIN
    for column, (left, right, _), cut in zip(columns, edges, cuts, strict=True):
        moved = [t.at(round(t.x + edge + cut - left, 6), t.y) for t in column]
        things += painted(moved)
        edge += right - left + GAP
    return Scene(tuple(things), wall=round(2 * rng.random() - 1, 3), wood=round(2 * rng.random() - 1, 3))


def painted(things: list[Thing]) -> list[Thing]:
    """The things of one column in the order to be painted in: glasses last, for their panes are translucent."""
    return sorted(things, key=lambda t: t.kind == "glass")


def _edges(column: list[Thing]) -> tuple[float, float, float]:
    lefts, _, rights, tops = zip(*(_placed(thing) for thing in column), strict=True)
    return min(lefts), max(rights), max(tops)


def _placed(thing: Thing) -> tuple[float, float, float, float]:
    """`relations.extent`, for an upright thing at little cost."""
    left, bottom, right, height = shape(_centred(thing))
    return thing.x + left, thing.y + bottom, thing.x + right, thing.y + height


def _centred(thing: Thing) -> Thing:
    return thing.at(0.0, 0.0, 0.0)


def _attempt(rng: np.random.Generator, count: int, kinds: tuple[str, ...], *, crowded: bool) -> Scene | None:
    """One try: share the things among columns, build each, lay them side by side. None if it does not work out."""
    carriers = [kind for kind in kinds if kind in FLAT or kind in HOLLOW]
    heights = [1] * count
    if count > 3:
        fewest = -(-count // 4)
        wide = min(count, 4)  # five columns are seldom narrow enough
        number = fewest + int(rng.random() * (wide - fewest + 1)) if carriers else count
        heights = [1] * number
        for _ in range(count - number):
            low = [k for k, height in enumerate(heights) if height < 4]
            heights[pick(rng, low)] += 1
    elif count > 1 and carriers and rng.random() < STACKED:
        heights = [count] if rng.random() < (1.0 if count == 2 else 0.4) else [2, 1]
    if count > 1 and max(heights) == 1 and not crowded and rng.random() < TWINS:
        return lay(rng, _twins(rng, count, kinds))
    columns: list[list[Thing]] = []
    for height in heights:
        built = (_column(rng, height, kinds, carriers, crowded=crowded) for _ in range(12 if crowded else 1))
        column = next((column for column in built if column is not None), None)
        if column is None:
            return None
        columns.insert(int(rng.random() * (len(columns) + 1)), column)
    return lay(rng, columns)


def _twins(rng: np.random.Generator, count: int, kinds: tuple[str, ...]) -> list[list[Thing]]:
    """Two things alike but, at times, for their size; of three, at times all."""
    like = look(rng, pick(rng, kinds))
    alike = count if count == 2 or rng.random() < 0.4 else 2
    things = [like]
    for _ in range(alike - 1):
        things.append(replace(like, size=pick(rng, tuple(SIZES))) if rng.random() < 0.3 else like)
    for _ in range(count - alike):
        things.insert(int(rng.random() * (len(things) + 1)), look(rng, pick(rng, kinds)))
    return [[_on_table(thing)] for thing in things]


def _on_table(thing: Thing) -> Thing:
    return thing.at(0.0, round(TABLE - shape(thing)[1], 6))


def _column(
    rng: np.random.Generator, height: int, kinds: tuple[str, ...], carriers: list[str], *, crowded: bool
) -> list[Thing] | None:
    """A column of so many things, its base at x = 0; None if what was drawn does not hold so many."""

    def size_of(level: int) -> str | None:
        if crowded:
            return "small" if rng.random() < 0.85 else "medium"
        return pick(rng, ("medium", "large")) if level == 0 and height > 1 else "small" if level > 1 else None

    narrow = [kind for kind in kinds if kind in _NARROW] if crowded and rng.random() < 0.8 else []
    base = look(rng, pick(rng, carriers if height > 1 else narrow or kinds), size_of(0))
    if height == 2 and crowded and base.kind in ("cup", "glass"):
        base = replace(base, size="medium" if base.kind == "glass" else "large")  # in a small one there is no room
    column = [_on_table(base)]
    while len(column) < height:
        below, more = column[-1], height - len(column) - 1
        taken = {thing.colour for thing in column}
        if below.kind in FLAT:
            options = [kind for kind in (carriers if more else kinds) if kind in LOADS]
        else:
            options = [kind for kind in kinds if kind in CONTENTS[below.kind]]
        if not options:
            return None
        load = look(rng, pick(rng, options), size_of(len(column)), taken)
        if below.kind in HOLLOW and below.kind != "plate":
            load = replace(load, size="small")
        if more == 1 and rng.random() < 0.5:
            pair = _pair(rng, load, below, kinds, taken)
            if pair is not None:
                return [*column, *pair]
        if more and below.kind in HOLLOW:
            return None
        spare = 0.3 * (extent(below)[2] - extent(below)[0])
        placed = rest(load, below, (rng.random() - 0.5) * spare)
        if placed is None:
            return None
        column.append(placed)
    return column


def _pair(
    rng: np.random.Generator, load: Thing, below: Thing, kinds: tuple[str, ...], taken: Collection[str]
) -> tuple[Thing, Thing] | None:
    """Two things on one flat top, side by side, or two balls in one cup or glass; None where there is no room."""
    options = [kind for kind in kinds if kind in LOADS] if below.kind in FLAT else ["ball"] if "ball" in kinds else []
    if not options or below.kind == "plate" or load.kind not in LOADS:
        return None
    other = look(rng, pick(rng, options), "small", {*taken, load.colour})
    load = replace(load, size="small")
    if below.kind in HOLLOW:
        return nestle(load, other, below)
    left, _, right, height = extent(below)
    widths = [shape(thing)[2] - shape(thing)[0] for thing in (load, other)]
    spare = (right - left) - sum(widths) - GAP
    if spare < 0:
        return None
    edges = (left + rng.random() * spare / 2, right - rng.random() * spare / 2 - widths[1])
    first, second = (
        thing.at(round(edge - shape(thing)[0], 6), round(height - shape(thing)[1], 6))
        for thing, edge in zip((load, other), edges, strict=True)
    )
    return first, second
