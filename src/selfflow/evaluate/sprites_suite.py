"""The suite `sprites`: do characters do as told, stay who they are, and change only where they should?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from selfflow.evaluate.clip_judges import sprite_judge, to_small
from selfflow.evaluate.measures import draw_sheet, held_out, mean, share
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.retrieval import disturbed
from selfflow.evaluate.tabletop_report import in_batches, require, shifted

RIVALS = 7  # other characters, or other garments, that a result may be taken for
REACH = 2  # pixels by which a figure may stand elsewhere
STILL = ("stand", "walk")  # both are drawn on the sheet of the walk


def sprites_suite(pipe: Any, options: Options) -> dict[str, Any]:
    """Figures of a model on held-out characters: a third of the samples each for clips, other views and edits.

    - *Clips*: a classifier trained on true clips says which animation it is and which way it looks. Ceiling: true
      clips. Floor: true clips of other captions.
    - *Views*: of the true character and `RIVALS` others of its sex, each in every phase of the same movement, whose
      picture is nearest? And of the four sides of the true character, which? Ceiling: true pictures, disturbed (see
      `retrieval`). Floor: the reference copied.
    - *Edits*: of the input, the true result and the same character with something else in that place, which is
      nearest? Beside it the error inside the mask and outside of it. Floor: the input copied.

    Raises:
        PackMissing: without the pack lpc64.
        ValueError: for a model that lacks `clip`, `compose` or `edit`.
    """
    make = require(pipe, "clip", "sprites", "texts, frames, fps")
    compose = require(pipe, "compose", "sprites", "references, texts")
    edit = require(pipe, "edit", "sprites", "pictures, instructions")
    count = max(2, options.samples // 3)
    clips, clip_rows = _clips(pipe, make, count, options)
    views, view_rows = _views(pipe, compose, count, options)
    edits, edit_rows = _edits(pipe, edit, count, options)
    each = max(1, options.sheet_rows // 3)
    draw_sheet([*view_rows[:each], *edit_rows[:each], *clip_rows[:each]], options)
    return {"figures": clips | views | edits}


Rows = list[list[tuple[np.ndarray, str]]]


def _clips(pipe: Any, make: Any, count: int, options: Options) -> tuple[dict[str, Figure], Rows]:
    from selfflow.data.lpc import ANIMATIONS, DIRECTIONS

    source = held_out("sprites-clip", pipe, count=count, seed=options.seed)
    samples = [source[i] for i in range(count)]
    texts, fps = [s.text for s in samples], samples[0].fps
    made = in_batches(lambda rows, **sampling: make(rows, source.frames, fps, **sampling), (texts,), options)
    judge = sprite_judge(pipe)
    said = judge.answers(to_small(np.stack(made)))
    real = judge.answers(to_small(np.stack([s.clip for s in samples])))
    animation = np.array([ANIMATIONS.index(s.meta["animation"]) for s in samples])
    direction = np.array([DIRECTIONS.index(s.meta["direction"]) for s in samples])
    figures = {
        "animation right": share(
            said[:, 0] == animation, chance=1 / len(ANIMATIONS), ceiling=real[:, 0] == animation,
            floor=real[:, 0] == np.array(shifted(list(animation))),
        ),
    }  # fmt: skip
    told = animation != ANIMATIONS.index("hurt")  # who falls has no side
    if told.any():
        figures["direction right, clips"] = share(
            (said[:, 1] == direction)[told], chance=1 / len(DIRECTIONS), ceiling=(real[:, 1] == direction)[told],
            floor=(real[:, 1] == np.array(shifted(list(direction))))[told],
        )  # fmt: skip
    rows = []
    for i, text in enumerate(texts):  # three frames a panel row, so that all panels have one size
        frames = np.linspace(0, source.frames - 1, 3).round().astype(int)
        rows.append([(np.asarray(made[i])[f], text if k == 0 else "") for k, f in enumerate(frames)])
    return figures, rows


def _views(pipe: Any, compose: Any, count: int, options: Options) -> tuple[dict[str, Figure], Rows]:
    from selfflow.data.lpc import DIRECTIONS

    source = held_out("sprites-view", pipe, count=count, seed=options.seed)
    samples = [source[i] for i in range(count)]
    texts, shown = [s.text for s in samples], [s.references for s in samples]
    made, true = in_batches(compose, (shown, texts), options), [s.picture for s in samples]
    answers: dict[str, Any] = {"made": made, "floor": [s[0] for s in shown]}
    answers["ceiling"] = disturbed(np.stack(true), options.seed)
    who: dict[str, list[bool]] = {name: [] for name in answers}
    side: dict[str, list[bool]] = {name: [] for name in answers}
    for i, sample in enumerate(samples):
        own, about = _character(sample), sample.meta
        rng = np.random.default_rng((options.seed, i))
        others = _others(source, own, about["animation"], rng)
        drawn = [_phases(source, one, about["animation"], about["direction"]) for one in (own, *others)]
        sides = [_phases(source, own, about["animation"], d) for d in DIRECTIONS]
        for name, pictures in answers.items():
            who[name].append(_nearest(pictures[i], drawn) == 0)
            side[name].append(DIRECTIONS[_nearest(pictures[i], sides)] == about["direction"])
    figures = {
        "identity kept": share(
            who["made"], chance=1 / (1 + RIVALS), floor=who["floor"], ceiling=who["ceiling"],
            note=f"nearest among {RIVALS} other characters in the same pose; floor: the reference copied",
        ),
        "direction right, views": share(
            side["made"], chance=1 / len(DIRECTIONS), floor=side["floor"], ceiling=side["ceiling"]
        ),
        "identity and direction right": share(
            np.logical_and(who["made"], side["made"]), chance=1 / (1 + RIVALS) / len(DIRECTIONS),
            floor=np.logical_and(who["floor"], side["floor"]),
            ceiling=np.logical_and(who["ceiling"], side["ceiling"]),
        ),
    }  # fmt: skip
    panels = zip(shown, made, true, texts, strict=True)
    return figures, [[(s[0], text), (np.asarray(m), ""), (t, "true")] for s, m, t, text in panels]


def _edits(pipe: Any, edit: Any, count: int, options: Options) -> tuple[dict[str, Figure], Rows]:
    source = held_out("sprites-edit", pipe, count=count, seed=options.seed)
    samples = [source[i] for i in range(count)]
    texts, before = [s.text for s in samples], np.stack([s.references[0] for s in samples])
    true = np.stack([s.picture for s in samples])
    made = np.stack(in_batches(edit, (before, texts), options))
    answers = {"made": made, "floor": before, "ceiling": disturbed(true, options.seed)}
    hits: dict[str, list[bool]] = {name: [] for name in answers}
    chances = []
    for i, sample in enumerate(samples):
        rng = np.random.default_rng((options.seed, i))
        drawn = [_smooth(p[None]) for p in (true[i], before[i], *_dressed_otherwise(source, sample, rng))]
        chances.append(1 / len(drawn))
        for name, pictures in answers.items():
            hits[name].append(_nearest(pictures[i], drawn) == 0)
    masks = np.stack([s.mask for s in samples])
    apart = {name: _error(pictures, true) for name, pictures in (("made", made), ("before", before))}
    other = _error(np.stack(shifted(list(true))), true)
    inside = [(values * masks).sum((1, 2)) / masks.sum((1, 2)) for values in apart.values()]
    outside = [(values * ~masks).sum((1, 2)) / np.maximum((~masks).sum((1, 2)), 1) for values in (apart["made"], other)]
    figures = {
        "edit right": share(
            hits["made"], chance=float(np.mean(chances)), floor=hits["floor"], ceiling=hits["ceiling"],
            note="nearest among input, truth and other things in that place; floor: the input copied",
        ),
        "error inside the mask": mean(
            inside[0], options, floor=inside[1], ceiling=[0.0], note="levels of 255, lower is better; floor: copying"
        ),
        "error outside the mask": mean(
            outside[0], options, floor=outside[1], ceiling=[0.0],
            note="levels of 255, lower is better; floor: other characters; copying the input has 0", judged=False,
        ),
    }  # fmt: skip
    panels = zip(before, made, true, texts, strict=True)
    return figures, [[(b, text), (m, ""), (t, "true")] for b, m, t, text in panels]


# -------------------------------------------------------------------------------------------------------- candidates


def _character(sample: Any) -> Any:
    from selfflow.data.lpc import Character

    return Character(sample.meta["sex"], dict(sample.meta["parts"]))


def _sheet(animation: str) -> str:
    return "walk" if animation in STILL else animation


def _phases(source: Any, character: Any, animation: str, direction: str) -> list[np.ndarray]:
    """The character in every picture of a movement, smoothed; standing has one."""
    from selfflow.data.indexed import squares

    sheet = _sheet(animation)
    frames = [0] if animation == "stand" else range(1, source.pack.clips[sheet, direction][2])
    return list(_smooth(squares(source.pack.frames(character, sheet, direction, list(frames)), source.size)))


def _others(source: Any, own: Any, animation: str, rng: np.random.Generator) -> list[Any]:
    """`RIVALS` held-out characters of the same sex who look otherwise."""
    found: list[Any] = []
    while len(found) < RIVALS:
        other = source.pack.draw(rng, "test", _sheet(animation), weapon=False)
        if other.sex == own.sex and all(dict(other.parts) != dict(c.parts) for c in (own, *found)):
            found.append(other)
    return found


def _dressed_otherwise(source: Any, sample: Any, rng: np.random.Generator) -> list[np.ndarray]:
    """The true result with other things in the place of what was changed: up to `RIVALS` pictures unlike it."""
    from selfflow.data.indexed import squares
    from selfflow.data.lpc import Character

    character, slot, direction = _character(sample), sample.meta["slot"], sample.meta["direction"]
    length = source.pack.clips["walk", direction][2]
    own = squares(source.pack.frames(character, "walk", direction, range(length)), source.size)
    frame = int(np.abs(own.astype(int) - sample.picture).sum((1, 2, 3)).argmin())
    items = [i for i in source.pack.items(character.sex, slot) if i != character.parts.get(slot)]
    found: list[np.ndarray] = []
    for item in rng.permutation(items).tolist() if items else []:
        other = Character(character.sex, {**character.parts, slot: item})
        if not source.pack.drawn(other, "walk"):
            continue
        picture = squares(source.pack.frames(other, "walk", direction, [frame]), source.size)[0]
        if all((picture != p).any() for p in (sample.picture, sample.references[0], *found)):
            found.append(picture)
        if len(found) == RIVALS:
            break
    return found


def _nearest(picture: np.ndarray, candidates: Sequence[Sequence[np.ndarray] | np.ndarray]) -> int:
    """Which candidate is nearest, each some smoothed pictures, of which the best counts, wherever it stands within
    `REACH` pixels: what someone wears is not judged by where they stand."""
    smooth = _smooth(np.asarray(picture)[None])[0]
    steps = range(-REACH, REACH + 1)
    moved = np.stack([np.roll(smooth, (down, right), (0, 1)) for down in steps for right in steps])
    return int(np.argmin([min(float(np.square(moved - p).mean((1, 2, 3)).min()) for p in c) for c in candidates]))


def _smooth(pictures: np.ndarray) -> np.ndarray:
    """Each pixel the mean of its 3 × 3 neighbourhood."""
    x = np.pad(pictures.astype(np.float32), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    return (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]) / 9


def _error(pictures: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Absolute difference `(n, H, W)` in levels, mean over the colours."""
    return np.abs(pictures.astype(np.float32) - true.astype(np.float32)).mean(axis=3)
