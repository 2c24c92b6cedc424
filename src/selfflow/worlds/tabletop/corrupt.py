"""Scenes and pictures broken on purpose, one way each, to see whether the checkers notice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from .check_physics import drop, separation
from .geometry import HAND_HEIGHT, Capsule, Shape, bounds, finger_place, placed, stood
from .render import coverage, render
from .scene import (
    COLOURS,
    GAP,
    KINDS,
    MARGIN,
    MAX_FINGERS,
    MAX_THINGS,
    MAX_WORD,
    POSES,
    SIZES,
    TABLE,
    WORDS,
    Scene,
    Thing,
    between,
    check_known,
    generator,
    pick,
)
from .track import check_clip_array
from .verdict import check_picture

SCENE_CORRUPTIONS = (
    "interpenetrated",
    "floating",
    "wrong word",
    "extra finger",
    "missing finger",
    "wrong colour",
    "wrong kind",
    "wrong size",
    "missing thing",
    "extra thing",
    "swapped places",
    "wrong relation",
    "wrong pose",
)
PICTURE_CORRUPTIONS = ("missing limb", "extra limb", "sixth finger")  # a Scene cannot say these
CORRUPTIONS = SCENE_CORRUPTIONS + PICTURE_CORRUPTIONS
LIMBS = ("left arm", "right arm", "left leg", "right leg")
NOISE = 8.0  # standard deviation of `noisy`, of 255
BLUR = 0.7  # radius of `blurred`, pixels
_TRIES = 300
_DEEP = (0.05, 0.11)  # metres that what is interpenetrated goes in, and at least 0.08 that what floats is lifted
_LIFTED = (0.08, 0.25)


def corrupt(scene: Scene, kind: str, seed: int) -> Scene:
    """The scene with one thing about it wrong.

    Args:
        scene: a possible one.
        kind: of `SCENE_CORRUPTIONS`.
        seed: ≥ 0; the same seed gives the same scene.

    Raises:
        ValueError: for an unknown kind, or a scene that cannot be broken this way (no sign for a wrong word, no room).
    """
    check_known("corruption", kind, SCENE_CORRUPTIONS)
    return _BREAK[kind](scene, generator(seed, CORRUPTIONS.index(kind)))


def corrupt_picture(scene: Scene, kind: str, seed: int, size: int = 64) -> np.ndarray:
    """The picture of a scene with one thing about it wrong, uint8 (size, size, 3).

    Kinds are `CORRUPTIONS`: those of `corrupt`, a doll's limb that is missing or one too many, and a second thumb on
    the other side of a hand. Raises ValueError as `corrupt` does.
    """
    check_known("corruption", kind, CORRUPTIONS)
    if kind in SCENE_CORRUPTIONS:
        return render(corrupt(scene, kind, seed), size)
    rng = generator(seed, CORRUPTIONS.index(kind))
    if kind == "sixth finger":
        return _sixth_finger(scene, _one(scene, rng, kind, _has_room), size)
    index = _one(scene, rng, kind, lambda thing: thing.kind == "doll")
    return _without_limb(scene, index, rng, size) if kind == "missing limb" else _extra_limb(scene, index, rng, size)


def noisy(picture: np.ndarray, seed: int, sigma: float = NOISE) -> np.ndarray:
    """A picture, or a clip, with Gaussian noise of standard deviation `sigma` (of 255)."""
    if isinstance(picture, np.ndarray) and picture.ndim == 4:
        check_clip_array(picture)
    else:
        check_picture(picture, 1)
    rng = generator(seed)
    # Box and Müller: numpy promises the stream of random(), but not that of normal().
    u = 1 - rng.random(picture.shape)
    normal = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * rng.random(picture.shape))
    return np.clip(np.round(picture + sigma * normal), 0, 255).astype(np.uint8)


def blurred(picture: np.ndarray, radius: float = BLUR) -> np.ndarray:
    """A picture under a Gaussian blur of that radius (standard deviation) in pixels."""
    check_picture(picture, 1)
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def _one(scene: Scene, rng: np.random.Generator, what: str, fits: Callable[[Thing], bool] = lambda thing: True) -> int:
    """The index of one thing that fits."""
    able = [i for i, thing in enumerate(scene.things) if fits(thing)]
    if not able:
        raise ValueError(f"{what!r} needs a thing that this scene of {len(scene.things)} does not have")
    return pick(rng, able)


def _inside(thing: Thing) -> bool:
    left, _, right, top = bounds(thing, solid=False)
    return left >= MARGIN and right <= 1 - MARGIN and top <= 1 - MARGIN


def _apart(thing: Thing, others: list[Thing], gap: float) -> bool:
    return all(separation(thing, other) >= gap for other in others)


def _others(scene: Scene, index: int) -> list[Thing]:
    return [thing for i, thing in enumerate(scene.things) if i != index]


def _carries(scene: Scene, index: int) -> bool:
    """Whether something falls when the thing is taken away."""
    rest = _others(scene, index)
    return any(drop(rest, i) > drop(scene.things, i + (i >= index)) + 0.01 for i in range(len(rest)))


def _interpenetrated(scene: Scene, rng: np.random.Generator) -> Scene:
    index = _one(scene, rng, "interpenetrated")
    thing, others = scene.things[index], _others(scene, index)
    for _ in range(_TRIES):
        if others and rng.random() < 0.75:
            other = pick(rng, others)
            left, _, right, top = bounds(other)
            moved = stood(thing, between(rng, left - thing.extent / 2, right + thing.extent / 2))
            moved = moved.at(moved.x, moved.y + between(rng, 0, max(top - TABLE, 0.05)))
            deep = -separation(moved, other)
        else:
            deep = between(rng, *_DEEP)
            moved = stood(thing, height=TABLE - deep)
        if _DEEP[0] <= deep <= _DEEP[1] and _inside(moved):
            return scene.having(index, moved)
    raise ValueError(f"no place was found where the {thing} is inside another thing")


def _floating(scene: Scene, rng: np.random.Generator) -> Scene:
    for _ in range(_TRIES):
        index = _one(scene, rng, "floating")
        thing = scene.things[index]
        moved = thing.at(thing.x, thing.y + between(rng, *_LIFTED))
        broken = scene.having(index, moved)
        if (
            _inside(moved)
            and _apart(moved, _others(scene, index), 0.02)
            and drop(broken.things, index) > _LIFTED[0] - 0.01
        ):
            return broken
    raise ValueError("no thing of the scene has room above it to float")


def _wrong_word(scene: Scene, rng: np.random.Generator) -> Scene:
    """Another word of the vocabulary, or one letter exchanged, as models do."""
    index = _one(scene, rng, "wrong word", lambda thing: thing.kind == "sign")
    thing = scene.things[index]
    if rng.random() < 0.5:
        word = pick(rng, [word for word in WORDS if len(word) == len(thing.word) and word != thing.word] or ["X" * 5])
    else:
        place = int(rng.random() * len(thing.word))
        letter = pick(rng, [letter for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if letter != thing.word[place]])
        word = thing.word[:place] + letter + thing.word[place + 1 :]
    return scene.having(index, replace(thing, word=word[:MAX_WORD]))


def _extra_finger(scene: Scene, rng: np.random.Generator) -> Scene:
    index = _one(scene, rng, "extra finger", lambda thing: thing.kind == "hand" and thing.fingers < MAX_FINGERS)
    return scene.having(index, replace(scene.things[index], fingers=scene.things[index].fingers + 1))


def _missing_finger(scene: Scene, rng: np.random.Generator) -> Scene:
    index = _one(scene, rng, "missing finger", lambda thing: thing.fingers > 0)
    return scene.having(index, replace(scene.things[index], fingers=scene.things[index].fingers - 1))


def _wrong_colour(scene: Scene, rng: np.random.Generator) -> Scene:
    index = _one(scene, rng, "wrong colour")
    thing = scene.things[index]
    return scene.having(index, replace(thing, colour=pick(rng, [c for c in COLOURS if c != thing.colour])))


def _as(thing: Thing, kind: str, size: str) -> Thing:
    """A thing of another kind or size where one stands."""
    word = (thing.word or "CAT") if kind == "sign" else ""
    fingers = (thing.fingers or 2) if kind == "hand" else 0
    limbs = (thing.limbs or POSES["standing"]) if kind == "doll" else ()
    other = Thing(kind, thing.colour, size, thing.x, thing.y, thing.angle, "", word, fingers, limbs)
    return stood(other, height=bounds(thing)[1])


def _replaced(scene: Scene, rng: np.random.Generator, what: str, options: Callable[[Thing], list[Thing]]) -> Scene:
    """The scene with one thing that carries nothing exchanged for another that has room there."""
    for _ in range(_TRIES):
        index = _one(scene, rng, what)
        other = pick(rng, options(scene.things[index]))
        if _inside(other) and _apart(other, _others(scene, index), -0.002) and not _carries(scene, index):
            return scene.having(index, other)
    raise ValueError(f"{what!r} needs room for another thing, and the scene has none")


def _wrong_kind(scene: Scene, rng: np.random.Generator) -> Scene:
    def options(thing: Thing) -> list[Thing]:
        return [_as(thing, kind, thing.size) for kind in KINDS if kind != thing.kind]

    return _replaced(scene, rng, "wrong kind", options)


def _wrong_size(scene: Scene, rng: np.random.Generator) -> Scene:
    def options(thing: Thing) -> list[Thing]:
        return [_as(thing, thing.kind, size) for size in SIZES if size != thing.size]

    return _replaced(scene, rng, "wrong size", options)


def _missing_thing(scene: Scene, rng: np.random.Generator) -> Scene:
    for _ in range(_TRIES):
        index = _one(scene, rng, "missing thing")
        if not _carries(scene, index):
            return replace(scene, things=tuple(_others(scene, index)))
    raise ValueError("every thing of the scene carries another")


def _extra_thing(scene: Scene, rng: np.random.Generator) -> Scene:
    if len(scene.things) == MAX_THINGS:
        raise ValueError(f"the scene has {MAX_THINGS} things already")
    for _ in range(_TRIES):
        kind = pick(rng, ("ball", "box", "cup", "glass", "plate", "book"))
        thing = stood(Thing(kind, pick(rng, tuple(COLOURS)), pick(rng, tuple(SIZES))), rng.random())
        if _inside(thing) and _apart(thing, list(scene.things), GAP):
            return replace(scene, things=(*scene.things, thing))
    raise ValueError("the scene has no room for another thing")


def _swapped_places(scene: Scene, rng: np.random.Generator) -> Scene:
    """Two things on the table, told apart by kind or colour, each where the other stood."""
    for _ in range(_TRIES):
        i = _one(scene, rng, "swapped places")
        first = scene.things[i]
        j = pick(rng, range(len(scene.things)))
        second = scene.things[j]
        if (first.kind, first.colour) == (second.kind, second.colour):
            continue
        one = stood(first, second.x, bounds(second)[1])
        two = stood(second, first.x, bounds(first)[1])
        rest = [thing for k, thing in enumerate(scene.things) if k not in (i, j)]
        flat = all(abs(bounds(thing)[1] - TABLE) < 0.005 for thing in (first, second))
        free = _inside(one) and _inside(two) and _apart(one, [two, *rest], 0.01) and _apart(two, rest, 0.01)
        if flat and free and abs(first.x - second.x) > 0.08 and not _carries(scene, i) and not _carries(scene, j):
            return scene.having(i, one).having(j, two)
    raise ValueError("no two things of the scene have room to change places")


def _wrong_relation(scene: Scene, rng: np.random.Generator) -> Scene:
    """What stands on or in another thing stands on the table beside it."""
    for _ in range(_TRIES):
        index = _one(scene, rng, "wrong relation", lambda thing: bounds(thing)[1] > TABLE + 0.01)
        moved = stood(scene.things[index], rng.random())
        if _inside(moved) and _apart(moved, _others(scene, index), 0.01) and not _carries(scene, index):
            return scene.having(index, moved)
    raise ValueError("nothing that stands on or in another thing has room on the table")


def _wrong_pose(scene: Scene, rng: np.random.Generator) -> Scene:
    for _ in range(_TRIES):
        index = _one(scene, rng, "wrong pose", lambda thing: thing.kind == "doll")
        doll = scene.things[index]
        limbs = pick(rng, [angles for angles in POSES.values() if angles != doll.limbs])
        posed = stood(replace(doll, limbs=limbs), height=bounds(doll)[1])
        if _inside(posed) and _apart(posed, _others(scene, index), -0.002) and not _carries(scene, index):
            return scene.having(index, posed)
    raise ValueError("no doll of the scene has room for another pose")


_BREAK: dict[str, Callable[[Scene, np.random.Generator], Scene]] = {
    "interpenetrated": _interpenetrated,
    "floating": _floating,
    "wrong word": _wrong_word,
    "extra finger": _extra_finger,
    "missing finger": _missing_finger,
    "wrong colour": _wrong_colour,
    "wrong kind": _wrong_kind,
    "wrong size": _wrong_size,
    "missing thing": _missing_thing,
    "extra thing": _extra_thing,
    "swapped places": _swapped_places,
    "wrong relation": _wrong_relation,
    "wrong pose": _wrong_pose,
}


def _without_limb(scene: Scene, index: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """The picture with what is behind showing through one limb of a doll."""
    limb = pick(rng, LIMBS)
    hole, kept = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    for part in placed(scene.things[index]):
        mask = coverage(part.shape, size)
        if part.role == limb:
            hole = mask
        else:
            kept = np.maximum(kept, mask)
    # The rim of a limb is drawn half over what is behind; one pixel more takes that along.
    hole = np.minimum(_grown(hole), 1 - kept)[..., None]
    behind = render(scene, size, layers=[i for i in range(len(scene.things)) if i != index])
    picture = render(scene, size)
    return np.round(picture + hole * (behind.astype(np.float32) - picture)).astype(np.uint8)


def _extra_limb(scene: Scene, index: int, rng: np.random.Generator, size: int) -> np.ndarray:
    """The picture with an arm more, between the arm that is there and one straight out or up."""
    doll = scene.things[index]
    side = int(rng.random() * 2)
    angle = pick(rng, [a for a in (0.45, 1.57, 2.65) if abs(a - doll.limbs[side]) > 0.9])
    limbs = tuple(angle if i == side else a for i, a in enumerate(doll.limbs))
    arm = next(part for part in placed(replace(doll, limbs=limbs)) if part.role == LIMBS[side])
    return _painted(render(scene, size), arm.shape, doll.colour)


def _has_room(thing: Thing) -> bool:
    """Whether a thing is a hand with a second thumb's room to its right."""
    return thing.kind == "hand" and thing.x + 0.4 * HAND_HEIGHT[thing.size] < 1


def _sixth_finger(scene: Scene, index: int, size: int) -> np.ndarray:
    """The picture with a thumb on the side of the little finger."""
    hand = scene.things[index]
    root, tip, radius = finger_place(0, HAND_HEIGHT[hand.size])
    ends = ((hand.x - root[0], hand.y + root[1]), (hand.x - tip[0], hand.y + tip[1]))
    return _painted(render(scene, size), Capsule(*ends, radius), hand.colour)


def _painted(picture: np.ndarray, shape: Shape, colour: str) -> np.ndarray:
    mask = coverage(shape, len(picture))[..., None]
    return np.round(picture + mask * (np.array(COLOURS[colour], np.float32) - picture)).astype(np.uint8)


def _grown(mask: np.ndarray) -> np.ndarray:
    """A mask with every pixel the highest of itself and its eight neighbours."""
    padded = np.pad(mask, 1)
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    return np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
