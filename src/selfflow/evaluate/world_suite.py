"""The suite `world`: does the model see coming what actions do?

The gate is that of a world model and not of a painter of likely clips: with the true actions it must be nearer to what
came than with another episode's actions, *and* nearer than the first frame held still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from selfflow.data.packs import PackMissing
from selfflow.evaluate.distances import bootstrap
from selfflow.evaluate.measures import Panel, chosen, draw_sheet, held_out
from selfflow.evaluate.protocol import Figure, Options, each_of
from selfflow.evaluate.tabletop_report import in_batches, require, shifted

WORLDS = ("tabletop-robot", "pusht", "sprites-play")
HORIZONS = (1, 2, 4, 8, 15, 31)  # frames after the first
EXACT = 1 / 12  # squared error of rounding to levels: nothing is nearer than this


class Imaginer(Protocol):
    """What `world` needs of a model."""

    @property
    def config(self) -> Any: ...

    def imagine(
        self, pictures: np.ndarray, texts: Sequence[str], actions: np.ndarray, body: str, hz: float, **sampling: Any
    ) -> np.ndarray:
        """First frames uint8 `(n, H, W, 3)` and actions `(n, k, a)` to clips uint8 `(n, k, H, W, 3)`."""
        ...


def world_suite(pipe: Imaginer, options: Options) -> dict[str, Any]:
    """PSNR in dB of imagined frames, of held-out windows of a robot, of PushT and of a game; `options.samples` of each.

    The error is averaged over windows and frames first, then taken as PSNR, so that windows in which nothing happens
    do not decide. Floor: the first frame held still. Beside it the gains over shuffled actions (those of the next
    window, with the same noise) and over the floor, in pairs.

    What is drawn is one of the futures that can be: where they differ, a perfect draw has twice the squared error of
    their mean, 3 dB, which a still frame does not pay. So the same is told of the mean, which is what the network says
    of the data in one step from noise; the gate is 1 when both of its gains lie above 0 with their whole interval.

    Raises:
        PackMissing, ImportError: when none of the worlds is here, saying why.
    """
    imagine = require(pipe, "imagine", "world", "pictures, texts, actions, body, hz")
    figures, missing, rows = dict[str, Figure](), dict[str, str](), list[list[Panel]]()
    for name in WORLDS:
        try:
            source = held_out(name, pipe)
            samples = [source[i] for i in chosen(len(source), options.samples, options.seed)]
        except (PackMissing, ImportError) as error:
            missing[name] = str(error)
            continue
        measured, panels = _measure(imagine, name, samples, options)
        figures |= measured
        rows += panels[: max(1, options.sheet_rows // len(WORLDS))]
    if not figures:
        raise PackMissing("; ".join(missing.values()))
    draw_sheet(rows, options)
    return {"figures": figures, **({"missing": missing} if missing else {})}


def _measure(
    imagine: Any, name: str, samples: Sequence[Any], options: Options
) -> tuple[dict[str, Figure], list[list[Panel]]]:
    true = np.stack([s.clip for s in samples])
    actions, texts = np.stack([s.actions for s in samples]), [s.text for s in samples]
    body, hz = samples[0].body, samples[0].control_hz

    def dream(done: np.ndarray, mean: bool = False) -> np.ndarray:
        once: dict[str, Any] = {"sampler": "euler"} if mean else {}  # of a flow map, too, which else would jump
        found = in_batches(
            lambda seen, said, acts, **sampling: imagine(seen, said, acts, body, hz, **sampling, **once),
            (true[:, 0], texts, done), replace(options, steps=1, guidance=1.0) if mean else options,
        )  # fmt: skip
        clips = np.stack(found)
        if clips.shape != true.shape:
            raise ValueError(f"the model imagined clips of shape {clips.shape}; {true.shape} were asked for")
        return clips

    others = np.stack(shifted(list(actions)))
    made, misled = dream(actions), dream(others)
    copy = squared_error(np.repeat(true[:, :1], true.shape[1], 1), true)
    figures = _figures("", name, squared_error(made, true), squared_error(misled, true), copy, hz, options)
    mean, wrong = (squared_error(dream(done, mean=True), true) for done in (actions, others))
    figures |= _figures(" of the mean", name, mean, wrong, copy, hz, options)
    gains = [figure for key, figure in figures.items() if key.startswith("gain of the mean")]
    figures[f"gate, {name}"] = Figure(
        float(min(gain.low or 0.0 for gain in gains) > 0), count=len(samples),
        note="1 when both gains of the mean are above 0 with their whole interval",
    )  # fmt: skip
    middle, last = true.shape[1] // 2, true.shape[1] - 1
    panels = [
        [
            (t[0], text), (t[middle], "true"), (m[middle], "imagined"),
            (t[last], "true"), (m[last], "imagined"), (w[last], "with other actions"),
        ]
        for t, m, w, text in zip(true, made, misled, texts, strict=True)
    ]  # fmt: skip
    return figures, panels


def _figures(
    of: str, name: str, error: np.ndarray, wrong: np.ndarray, copy: np.ndarray, hz: float, options: Options
) -> dict[str, Figure]:
    """PSNR of squared errors `(n, frames)`, beside those with other actions and of the first frame held still."""
    figures = {
        f"psnr{of}, {name}": psnr_figure(error, copy, options, "dB; floor: the first frame held still"),
        f"psnr{of} with shuffled actions, {name}": replace(
            psnr_figure(wrong, copy, options, "dB; should lie below the former"), judged=False
        ),
        f"gain{of} over shuffled actions, {name}": _gain(error, wrong, options),
        f"gain{of} over the first frame held still, {name}": _gain(error, copy, options),
    }
    for horizon in (h for h in HORIZONS if h <= error.shape[1]):
        at = slice(horizon - 1, horizon)
        figures[f"psnr{of} after {horizon / hz:.1f} s, {name}"] = psnr_figure(error[:, at], copy[:, at], options, "dB")
    return figures


def squared_error(clips: np.ndarray, true: np.ndarray, known: int = 1) -> np.ndarray:
    """Squared error `(n, frames - known)` in levels, of the frames after those that were known."""
    return np.square(clips[:, known:].astype(np.float32) - true[:, known:]).mean(axis=(2, 3, 4)).astype(np.float64)


def psnr(error: Any) -> float:
    """Peak signal to noise ratio in dB of the mean of squared errors in levels; 59 for pictures right to rounding."""
    return float(10 * np.log10(255**2 / max(float(np.mean(error)), EXACT)))


def psnr_figure(error: np.ndarray, copy: np.ndarray, options: Options, note: str) -> Figure:
    """PSNR of squared errors `(n, frames)`, with windows resampled, and of those of a copy, its floor."""
    interval, gain = bootstrap(error, psnr, seed=options.seed), _gain(error, copy, options)
    return Figure(
        psnr(error), *interval, floor=psnr(copy), ceiling=psnr(0), count=len(error), note=note,
        errors=each_of(error.mean(1)),
        margin=None if gain.low is None or gain.high is None else [gain.low, gain.high],
    )  # fmt: skip


def _gain(error: np.ndarray, other: np.ndarray, options: Options) -> Figure:
    """How many dB the error lies below the other, windows resampled in pairs."""
    pairs = np.stack([error.mean(1), other.mean(1)], axis=1)

    def gain(rows: np.ndarray) -> float:
        return psnr(rows[:, 0]) - psnr(rows[:, 1])

    return Figure(gain(pairs), *bootstrap(pairs, gain, seed=options.seed), chance=0.0, count=len(pairs), note="dB")
