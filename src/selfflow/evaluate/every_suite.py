"""The suite `all`: every suite that a model was trained for, on one page."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from selfflow.data.mixture import Ingredient
from selfflow.data.packs import PackMissing
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.tabletop_clips import CLIP_CHECKS
from selfflow.train.checkpoint import write_json

Suite = Callable[[Any, Options], dict[str, Any]]

# What a model must have been trained on, one or the other, as `source:task`; and which figures go on the page: those
# whose names begin so.
PAGE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "tabletop-text": (("tabletop-still:picture",), ("facts right", "all facts right", "nothing overlaps")),
    "heeding": (("tabletop-still:picture",), ("",)),
    "tabletop-edit": (("tabletop-edit:edit",), ("score", "without fault", "floor: copy")),
    "tabletop-reference": (("tabletop-reference:edit",), ("score", "without fault", "identity kept")),
    "tabletop-video": (("tabletop-clip:clip",), ("score", "without fault", *CLIP_CHECKS)),
    "tabletop-sound": (("tabletop-clip:dub",), ("score", "without fault")),
    "tabletop-av": (("tabletop-clip:clip+sound",), ("score", "without fault")),
    "tabletop-robot": (("tabletop-robot:act",), ("success",)),
    "emoji": (("emoji:picture",), ("retrieval", "kid", "copies")),
    "emoji-edit": (("emoji-edits:edit",), ("retrieval", "nearer", "error")),
    "emoji-style": (("emoji-styles:edit",), ("style right", "emoji right")),
    "sprites": (("sprites-clip:clip", "sprites-view:edit", "sprites-edit:edit"), ("",)),
    "digits": (("digits:sound",), ("digit recognised", "speaker recognised", "fréchet", "kid")),
    "video": (("tabletop-clip:clip", "sprites-clip:clip"), ("fréchet", "kid", "motion")),
    "world": (
        ("tabletop-robot:imagine", "pusht:imagine", "sprites-play:imagine"),
        ("psnr, ", "psnr after", "psnr of the mean, ", "psnr of the mean after", "gain", "gate"),
    ),
    "robot": (("tabletop-robot:act", "pusht:act"), ("action error, ", "floor")),
    "pusht": (("pusht:act",), ("coverage", "success", "nearly")),
    "surprise": (("tabletop-clip:clip",), ("",)),
    "sync": (("tabletop-clip:dub",), ("",)),
    "inpaint": (("tabletop-still:inpaint",), ("error", "facts right", "all facts right")),
    "outpaint": (("tabletop-still:outpaint",), ("error", "facts right", "all facts right")),
    "continue": (("tabletop-clip:continue",), ("score", "without fault", "psnr", "what happens", "laws kept")),
    "continue-sound": (("digits:continue-sound",), ("digit recognised", "speaker recognised", "error")),
    "animate": (("tabletop-clip:animate",), ("score", "without fault", "psnr", "what happens", "laws kept")),
    "animate+sound": (("tabletop-clip:animate+sound",), ("score", "without fault", "psnr", "sound fits clip")),
    "visualise": (("tabletop-clip:visualise",), ("score", "without fault", "sound fits clip", "own sound")),
    "plan": (("tabletop-robot:plan",), ("action error, ", "psnr, ")),
    "inverse": (("tabletop-robot:inverse", "pusht:inverse"), ("action error, ", "floor")),
}


def every_suite(pipe: Any, options: Options, suites: Mapping[str, Suite]) -> dict[str, Any]:
    """Run the suites one after the other; what cannot be run is skipped, and said to be, with the reason.

    Args:
        options: of every suite; a sheet is written for each, with its name added, and beside it, as soon as the
            suite is done, what it returned.
        suites: by name; those without a place in `PAGE` are left out.

    Returns:
        the figures of the page as `"suite: figure"`; under `suites` all that each suite returned, under `skipped` why
        others did not run.

    Raises:
        ValueError: when not a single one could be run, with the reasons.
    """
    taught, page = tasks_of(pipe.config), dict[str, Figure]()
    done, skipped = dict[str, Any](), dict[str, str]()
    for name, (needed, headlines) in PAGE.items():
        if name not in suites:
            continue
        if not taught & set(needed):
            skipped[name] = f"the model was not trained on {' or '.join(needed)}"
            continue
        sheet = options.sheet and options.sheet.with_name(f"{options.sheet.stem}-{name}{options.sheet.suffix}")
        begun = time.monotonic()
        try:
            found = suites[name](pipe, replace(options, sheet=sheet))
            figures: dict[str, Figure] = found.pop("figures")
            seconds = round(time.monotonic() - begun, 1)
            every = {"figures": {n: asdict(f) for n, f in figures.items()}, "seconds": seconds, **found}
            if sheet is not None:  # what is done is kept, whatever becomes of the rest
                write_json(sheet.with_suffix(".json"), every)
        except (ValueError, PackMissing, ImportError) as error:
            skipped[name] = str(error)
            continue
        if options.progress:
            print(f"{name}: {seconds:.0f} s", file=sys.stderr)
        # Parts of a figure, by kind or by step, stay in the file: a page has whole ones.
        whole = [n for n in figures if n.startswith(headlines) and not any(n.startswith(f"{h}, ") for h in figures)]
        page |= {f"{name}: {figure}": figures[figure] for figure in whole}
        done[name] = every
    for name, reason in skipped.items():
        print(f"{name} skipped: {reason}")
    if not page:
        raise ValueError(f"no suite could be run: {'; '.join(f'{n}: {r}' for n, r in skipped.items())}")
    return {"figures": page, "suites": done, "skipped": skipped}


def tasks_of(config: Any) -> set[str]:
    """What a run was trained on, as `source:task`; where there is no mixture, pictures of its one source."""
    mixture = getattr(config.data, "mixture", ())
    source = {"tabletop": "tabletop-still"}.get(config.data.source, config.data.source)
    parts = [Ingredient.parse(entry) for entry in mixture]
    return {f"{part.source}:{part.task}" for part in parts} or {f"{source}:picture"}
