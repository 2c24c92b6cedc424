"""Suites by name: run one, write its figures as JSON, print them as a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from selfflow.evaluate.action_suite import action_suite
from selfflow.evaluate.digits_suite import continue_sound_suite, digits_suite
from selfflow.evaluate.emoji_edit_suite import emoji_edit_suite, emoji_style_suite
from selfflow.evaluate.emoji_suite import emoji_suite
from selfflow.evaluate.every_suite import every_suite
from selfflow.evaluate.heeding import heeding_suite
from selfflow.evaluate.inpaint_suite import inpaint_suite, outpaint_suite
from selfflow.evaluate.motion_suite import animate_suite, animate_with_sound_suite, continue_suite, visualise_suite
from selfflow.evaluate.plan_suite import inverse_suite, plan_suite
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.pusht_suite import pusht_suite
from selfflow.evaluate.sprites_suite import sprites_suite
from selfflow.evaluate.surprise import surprise_suite, sync_suite
from selfflow.evaluate.tabletop_clips import av_suite, sound_suite, video_suite
from selfflow.evaluate.tabletop_pictures import edit_suite, reference_suite, text_suite
from selfflow.evaluate.tabletop_robot import robot_suite
from selfflow.evaluate.video_distance import video_suite as distance_suite
from selfflow.evaluate.world_suite import world_suite
from selfflow.train.checkpoint import write_json

# A suite returns a JSON-ready dictionary, but for "figures": names to `Figure`. What it needs of a model is the
# protocol of its function's first argument.
SUITES: dict[str, Callable[[Any, Options], dict[str, Any]]] = {
    "emoji": emoji_suite,
    "tabletop-text": text_suite,
    "heeding": heeding_suite,
    "tabletop-edit": edit_suite,
    "tabletop-reference": reference_suite,
    "tabletop-video": video_suite,
    "tabletop-sound": sound_suite,
    "tabletop-av": av_suite,
    "tabletop-robot": robot_suite,
    "emoji-edit": emoji_edit_suite,
    "emoji-style": emoji_style_suite,
    "sprites": sprites_suite,
    "digits": digits_suite,
    "video": distance_suite,
    "world": world_suite,
    "robot": action_suite,
    "pusht": pusht_suite,
    "surprise": surprise_suite,
    "sync": sync_suite,
    "inpaint": inpaint_suite,
    "outpaint": outpaint_suite,
    "continue": continue_suite,
    "continue-sound": continue_sound_suite,
    "animate": animate_suite,
    "animate+sound": animate_with_sound_suite,
    "visualise": visualise_suite,
    "plan": plan_suite,
    "inverse": inverse_suite,
    "all": lambda pipe, options: every_suite(pipe, options, SUITES),
}

# Of `all`, unless asked otherwise: every suite in turn is to be done in an hour on a CPU.
FEW = {"samples": 32, "pairs": 8, "batch": 16, "sheet_rows": 12}
# A first look at every task; intervals are wide.
QUICK = {"samples": 12, "pairs": 4, "batch": 12, "sheet_rows": 12}


def run_suite(
    pipe: Any, name: str, json_path: str | Path | None = None, quick: bool = False, **options: Any
) -> dict[str, Any]:
    """Run a suite on a pipeline; prints a table and returns what the JSON holds.

    Args:
        pipe: a `selfflow.pipeline.Pipeline`, or anything that does what the suite's protocol says.
        name: of the suite.
        json_path: write the figures there, and the sheet of pictures beside it as PNG.
        quick: as few samples as show anything, where `options` does not say how many.
        options: fields of `Options`.

    Raises:
        ValueError: for an unknown suite or option, listing the known ones; for a model that lacks what the suite needs.
    """
    if name not in SUITES:
        raise ValueError(f"unknown suite {name!r}; choose one of {', '.join(sorted(SUITES))}")
    known = [f.name for f in fields(Options)]
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"unknown options {unknown} of a suite; it knows {', '.join(known)}")
    path = None if json_path is None else Path(json_path)
    if path is not None:
        options.setdefault("sheet", path.with_suffix(".png"))
    usual: dict[str, Any] = QUICK if quick else FEW if name == "all" else {}
    chosen = Options(**usual | options)
    begun = time.monotonic()
    found = SUITES[name](pipe, chosen)
    figures: dict[str, Figure] = found.pop("figures")
    print(table(figures))
    results = {
        "suite": name,
        "options": {"samples": chosen.samples, **chosen.sampling, "seed": chosen.seed}
        | ({"noise": chosen.noise} if chosen.noise else {}),
        "seconds": round(time.monotonic() - begun, 1),
        "figures": {
            k: {
                f: v
                for f, v in (asdict(figure) | {"beats_floor": figure.beats_floor}).items()
                if v not in (None, "") and (f, v) != ("judged", True)
            }
            for k, figure in figures.items()
        },
        **found,
    }
    if path is not None:
        write_json(path, results)
    return results


def table(figures: Mapping[str, Figure]) -> str:
    """Figures as lines of text, in columns."""
    rows = [("", "value", "95 % interval", "chance", "floor", "ceiling", "n", "beats floor", "")]
    for name, f in figures.items():
        interval = "" if f.low is None or f.high is None else f"{_number(f.low)} … {_number(f.high)}"
        count = "" if f.count is None else str(f.count)
        beats = {None: "", True: "yes", False: "no"}[f.beats_floor]
        compared = _number(f.chance), _number(f.floor), _number(f.ceiling)
        rows.append((name, _number(f.value), interval, *compared, count, beats, f.note))
    widths = [max(len(row[i]) for row in rows) for i in range(8)]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 8)), row[8]]
        lines.append("  ".join(cells).rstrip())
    judged = [f.beats_floor for f in figures.values() if f.beats_floor is not None]
    if judged:
        lines.append(f"{sum(judged)} of {len(judged)} figures beat their floor with the whole interval")
    return "\n".join(lines)


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.4f}" if abs(x) >= 0.001 or x == 0 else f"{x:.1e}"
