"""The suites `inpaint` and `outpaint`: does what is painted into a hole, or around a part, fit it and the caption?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from selfflow.evaluate.measures import chosen, draw_sheet, error_where, held_out, mean
from selfflow.evaluate.protocol import Options
from selfflow.evaluate.tabletop_report import figures_of, in_batches, require, shifted

GRID = 8  # holes are whole eighths of the picture: whole patches of most models
SIDES = 3, 5  # eighths
TRIES = 8  # rectangles drawn for each picture; the one in which most is to be seen is taken


class Painter(Protocol):
    """What `inpaint` and `outpaint` need of a model."""

    @property
    def config(self) -> Any: ...

    def inpaint(self, pictures: np.ndarray, holes: np.ndarray, texts: Sequence[str], **sampling: Any) -> np.ndarray:
        """Pictures uint8 `(n, H, W, 3)`, holes bool `(n, H, W)` and n captions to pictures without holes.

        `sampling` holds `generator`, a list of n, and `steps` and `guidance` where these are not left to the model.
        """
        ...


def inpaint_suite(pipe: Painter, options: Options) -> dict[str, Any]:
    """Figures of a model that fills holes in held-out Tabletop scenes: rectangles in which something is to be seen.

    The error in the hole, in levels, and the facts of the caption that the whole picture shows. What the model is given
    holds nothing of the truth in the hole. Ceiling: the true pictures. Floors, of which the best is the one to beat:
    the hole filled with the mean of the known border, with the nearest known pixel, or with the same part of another
    scene.

    Raises:
        ValueError: for a model that cannot, or returns pictures of another shape.
    """
    return _painted(pipe, "inpaint", False, options)


def outpaint_suite(pipe: Painter, options: Options) -> dict[str, Any]:
    """The same the other way round: only the rectangle is known, and what lies around it is to be painted."""
    return _painted(pipe, "outpaint", True, options)


def _painted(pipe: Painter, suite: str, around: bool, options: Options) -> dict[str, Any]:
    from selfflow.worlds.tabletop.check import score_text

    paint = require(pipe, "inpaint", suite, "pictures, holes, texts")
    source = held_out("tabletop-still", pipe)
    samples = [source[i] for i in chosen(len(source), options.samples, options.seed)]
    texts, true = [s.text for s in samples], np.stack([s.picture for s in samples])
    holes = np.stack([rectangle(p, np.random.default_rng((options.seed, i))) for i, p in enumerate(true)]) ^ around
    floors = {
        "the border's mean": np.stack([_levelled(p, hole) for p, hole in zip(true, holes, strict=True)]),
        "the nearest known pixel": np.stack([_drawn_on(p, hole) for p, hole in zip(true, holes, strict=True)]),
        "another scene": np.where(holes[..., None], np.stack(shifted(list(true))), true),
    }
    given = floors["the border's mean"]
    made = np.stack(in_batches(paint, (given, holes, texts), options))
    if made.shape != true.shape:
        raise ValueError(f"the model painted pictures of shape {made.shape}; {true.shape} were asked for")

    def scores(pictures: np.ndarray) -> list[Any]:
        return [score_text(picture, text) for picture, text in zip(pictures, texts, strict=True)]

    errors = {name: error_where(filled, true, holes) for name, filled in floors.items()}
    shown = {name: scores(filled) for name, filled in floors.items()}
    least = min(errors, key=lambda name: float(errors[name].mean()))
    most = max(shown, key=lambda name: float(np.mean([s.value for s in shown[name]])))
    found, note = scores(made), "levels of 255, lower is better"
    figures = {
        "error in the hole": mean(
            error_where(made, true, holes), options, floor=errors[least], ceiling=[0.0], note=f"{note}; floor: {least}"
        ),
        **{f"floor: {name}": mean(e, options, note=note, judged=False) for name, e in errors.items()},
        **figures_of(
            found, scores(true), shown[most], [()] * len(found), options, names=("facts right", "all facts right")
        ),
    }
    hidden = np.where(holes[..., None], np.uint8(128), true)
    panels = zip(hidden, made, true, texts, strict=True)
    draw_sheet([[(h, text), (m, ""), (t, "true")] for h, m, t, text in panels], options)
    return {"figures": figures, "scores": [round(s.value, 6) for s in found]}


def rectangle(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bool `(H, W)`, True in a rectangle on the grid: of some that are drawn the one whose pixels differ most."""
    size = picture.shape[0]
    best, most = np.zeros(picture.shape[:2], bool), -1.0
    for _ in range(TRIES):
        sides = rng.integers(SIDES[0], SIDES[1] + 1, 2)
        start = rng.integers(0, GRID - sides + 1)
        (top, left), (bottom, right) = start * size // GRID, (start + sides) * size // GRID
        spread = float(picture[top:bottom, left:right].std(axis=(0, 1)).sum())
        if spread > most:
            best, most = np.zeros_like(best), spread
            best[top:bottom, left:right] = True
    return best


def _border(hole: np.ndarray) -> np.ndarray:
    """Known pixels beside those of a hole."""
    wide = np.pad(hole, 1)
    return (wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]) & ~hole


def _levelled(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The hole filled with the mean of its border."""
    return np.where(hole[..., None], picture[_border(hole)].mean(axis=0).round().astype(np.uint8), picture)


def _drawn_on(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """The hole filled with, at each pixel, the nearest known one."""
    filled, places, edge = picture.copy(), np.argwhere(hole), np.argwhere(_border(hole))
    nearest = edge[np.square(places[:, None] - edge).sum(axis=2).argmin(axis=1)]
    filled[hole] = picture[nearest[:, 0], nearest[:, 1]]
    return filled
