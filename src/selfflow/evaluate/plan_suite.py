"""The suites `plan` and `inverse`: what will be done, and seen of it, is to be foreseen; what was done, to be told from
what is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from selfflow.evaluate.action_suite import BODIES, Body, action_figures, of_bodies
from selfflow.evaluate.measures import Panel, draw_sheet
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.tabletop_report import in_batches, require
from selfflow.evaluate.world_suite import psnr_figure, squared_error


class Planner(Protocol):
    """What `plan` needs of a model."""

    @property
    def config(self) -> Any: ...

    def plan(
        self, images: np.ndarray, texts: Sequence[str], body: str, states: np.ndarray | None, width: int, count: int,
        hz: float, **sampling: Any,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """The next `count` actions `(n, count, width)` in raw units, from what is seen and felt now, and before them
        what will then be seen: clips uint8 `(n, count, H, W, 3)`."""
        ...


class Inverter(Protocol):
    """What `inverse` needs of a model."""

    @property
    def config(self) -> Any: ...

    def inverse(
        self, clips: np.ndarray, texts: Sequence[str], body: str, width: int, hz: float, **sampling: Any
    ) -> np.ndarray:
        """Clips uint8 `(n, k, H, W, 3)` to the actions `(n, k, width)` in raw units that were taken in them."""
        ...


def plan_suite(pipe: Planner, options: Options) -> dict[str, Any]:
    """Of held-out windows of the tabletop robot: the error of planned actions, as in `robot`, and how near what the
    plan expects to see is to what the expert saw, PSNR in dB as in `world`.

    Floors: staying in place, another window's actions; the first frame held still.

    Raises:
        ImportError: without the extra `world`.
        ValueError: for plans of another shape.
    """
    plan = require(pipe, "plan", "plan", "images, texts, body, states, width, count, hz")
    rows = list[list[Panel]]()

    def measured(body: Body, samples: Sequence[Any]) -> dict[str, Figure]:
        true, states = np.stack([s.clip for s in samples]), np.stack([s.states[0] for s in samples])
        one, texts, (count, width) = samples[0], [s.text for s in samples], samples[0].actions.shape
        made = in_batches(
            lambda seen, said, felt, **sampling: list(
                zip(*plan(seen, said, one.body, felt, width, count, one.control_hz, **sampling), strict=True)
            ),
            (true[:, 0], texts, states), options,
        )  # fmt: skip
        clips = np.stack([clip for clip, _ in made])
        if clips.shape != true.shape:
            raise ValueError(f"the plans show clips of shape {clips.shape}; {true.shape} were asked for")
        copy = squared_error(np.repeat(true[:, :1], true.shape[1], axis=1), true)
        note = "dB, of what the plan expects to see; floor: the first frame held still"
        figures = action_figures(body, samples, [actions for _, actions in made], options)
        figures[f"psnr, {body.source}"] = psnr_figure(squared_error(clips, true), copy, options, note)
        for t, m, text in zip(true, clips, texts, strict=True):
            rows.append([(t[0], text), *((c[f], w) for f in (len(t) // 2, -1) for c, w in ((t, "true"), (m, "plan")))])
        return figures

    found = of_bodies(pipe, measured, options, BODIES[:1])
    draw_sheet(rows, options)
    return found


def inverse_suite(pipe: Inverter, options: Options) -> dict[str, Any]:
    """Of held-out windows of robots: the error of the actions told from what is seen, as in `robot`.

    Floor: staying in place, or the mean action of the other windows where that is nearer; another window's actions.

    Raises:
        PackMissing, ImportError: when no robot is here, saying why.
        ValueError: for actions of another shape.
    """
    inverse = require(pipe, "inverse", "inverse", "clips, texts, body, width, hz")

    def measured(body: Body, samples: Sequence[Any]) -> dict[str, Figure]:
        one = samples[0]
        made = in_batches(
            lambda seen, said, **sampling: inverse(
                seen, said, one.body, one.actions.shape[1], one.control_hz, **sampling
            ),
            (np.stack([s.clip for s in samples]), [s.text for s in samples]), options,
        )  # fmt: skip
        return action_figures(body, samples, made, options, seen=True)

    return of_bodies(pipe, measured, options)
