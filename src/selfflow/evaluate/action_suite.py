"""The suite `robot`: how far are the actions a policy decides on from those of the expert, before anything is moved?

Success in closed loop is measured by `tabletop-robot`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np

from selfflow.data.packs import PackMissing
from selfflow.evaluate.distances import bootstrap
from selfflow.evaluate.measures import chosen, held_out
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.tabletop_report import in_batches, require, shifted

STEPS = (1, 4, 8, 16, 32)


class Body(NamedTuple):
    """A source of episodes: which values of an action, and of a state, are a place, and in what unit it is told."""

    source: str
    place: slice
    unit: str
    scale: float


BODIES = (
    Body("tabletop-robot", slice(0, 2), "cm", 100.0),
    Body("pusht", slice(0, 2), "of 512 of the board", 1.0),
)


class Actor(Protocol):
    """What `robot` needs of a model."""

    @property
    def config(self) -> Any: ...

    def actions(
        self, images: np.ndarray, texts: Sequence[str], body: str, states: np.ndarray | None, width: int, count: int,
        hz: float, **sampling: Any,
    ) -> np.ndarray:  # fmt: skip
        """The next `count` actions `(n, count, width)` in raw units, from what is seen and felt now."""
        ...


def action_suite(pipe: Actor, options: Options) -> dict[str, Any]:
    """Distance in the plane between the target decided on and the expert's, root mean square over the chunk.

    Of held-out windows, whole and by step. Floor: staying where one is. A second floor: the actions of another window.
    The ceiling is 0, but nobody reaches it where people act: they vary.

    Raises:
        PackMissing, ImportError: when no robot is here, saying why.
    """
    act = require(pipe, "actions", "robot", "images, texts, body, states, width, count, hz")

    def measured(body: Body, samples: Sequence[Any]) -> dict[str, Figure]:
        images, states = np.stack([s.clip[0] for s in samples]), np.stack([s.states[0] for s in samples])
        one, (count, width) = samples[0], samples[0].actions.shape
        made = in_batches(
            lambda seen, said, felt, **sampling: act(
                seen, said, one.body, felt, width, count, one.control_hz, **sampling
            ),
            (images, [s.text for s in samples], states), options,
        )  # fmt: skip
        return action_figures(body, samples, made, options)

    return of_bodies(pipe, measured, options)


def of_bodies(
    pipe: Any,
    measured: Callable[[Body, Sequence[Any]], dict[str, Figure]],
    options: Options,
    bodies: Sequence[Body] = BODIES,
) -> dict[str, Any]:
    """What is measured on held-out windows of each body that is here, `options.samples` of each.

    Raises:
        PackMissing: when none is here, saying why.
    """
    figures, missing = dict[str, Figure](), dict[str, str]()
    for body in bodies:
        try:
            source = held_out(body.source, pipe)
            samples = [source[i] for i in chosen(len(source), options.samples, options.seed)]
        except (PackMissing, ImportError) as error:
            missing[body.source] = str(error)
            continue
        figures |= measured(body, samples)
    if not figures:
        raise PackMissing("; ".join(missing.values()))
    return {"figures": figures, **({"missing": missing} if missing else {})}


def action_figures(
    body: Body, samples: Sequence[Any], made: Sequence[np.ndarray], options: Options, seen: bool = False
) -> dict[str, Figure]:
    """Error of actions against those of the windows, whole and by step.

    Args:
        made: `(k, a)` actions, one array a window.
        seen: of actions that are to be told from what is seen. The mean action of the other windows is a third floor,
            and the better of it and staying in place the one to beat.

    Raises:
        ValueError: for actions of another shape.
    """
    true, states = np.stack([s.actions for s in samples]), np.stack([s.states[0] for s in samples])
    count = true.shape[1]
    if np.shape(made) != true.shape:
        raise ValueError(f"the policy returned actions {np.shape(made)}; wanted {true.shape}")

    def squared(actions: np.ndarray) -> np.ndarray:
        apart = (actions[..., body.place] - true[..., body.place]) * body.scale
        return np.square(apart).sum(axis=2, dtype=np.float64)

    found, other = squared(np.stack(made)), squared(np.stack(shifted(list(true))))
    floor = squared(np.broadcast_to(states[:, None], (*true.shape[:2], states.shape[1])))  # it begins with the place
    floors, note = {"another window's actions": other}, f"{body.unit}, lower is better"
    said = f"{note}; floor: staying in place"
    if seen:
        average = squared((true.sum(axis=0) - true) / max(1, len(true) - 1))
        floors |= {"staying in place": floor, "mean action of the other windows": average}
        if _rms(average) < _rms(floor):
            floor, said = average, f"{note}; floor: the mean action"
    figures = {f"action error, {body.source}": _figure(found, floor, options, said)}
    figures |= {
        f"floor: {name}, {body.source}": replace(_figure(values, floor, options, note), judged=False)
        for name, values in floors.items()
    }
    for step in (s for s in STEPS if s <= count):
        at = slice(step - 1, step)
        figures[f"action error at step {step}, {body.source}"] = _figure(found[:, at], floor[:, at], options, said)
    return figures


def _rms(squared: np.ndarray) -> float:
    return float(np.sqrt(np.mean(squared)))


def _figure(squared: np.ndarray, floor: np.ndarray, options: Options, note: str) -> Figure:
    interval = bootstrap(squared, _rms, seed=options.seed)
    pairs = np.stack([squared, np.broadcast_to(floor, squared.shape)], axis=1)
    margin = bootstrap(pairs, lambda rows: _rms(rows[:, 0]) - _rms(rows[:, 1]), seed=options.seed)
    return Figure(
        _rms(squared), *interval, floor=_rms(floor), ceiling=0.0, count=len(squared), note=note, margin=[*margin]
    )
