"""The suite `video`: how far are generated clips from real ones, in features of a network that knows what moves how?

The features are those of classifiers trained here (`clip_judges`); distances in them cannot be compared with any
published FVD.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from selfflow.data.packs import PackMissing
from selfflow.evaluate.clip_judges import animations, motion_judge, motions, sprite_judge, to_small
from selfflow.evaluate.judge import Judge
from selfflow.evaluate.measures import Panel, chosen, distances, draw_sheet, held_out, share
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.tabletop_clips import Animator
from selfflow.evaluate.tabletop_report import in_batches, require, shifted

REFERENCES = 2  # real clips that distances are taken to, for each that is made


def video_suite(pipe: Animator, options: Options) -> dict[str, Any]:
    """Fréchet and kernel distances of clips of held-out captions to real clips of other captions, and whether their
    motion is recognised: Tabletop's things and sprite characters, whichever is here, half of the samples each.

    Ceiling: the true clips of the captions. Floor: of distances their first frames, held still, which are flawless
    pictures without motion; of motions the true clips of other captions.

    Raises:
        PackMissing, ImportError: when neither can be shown, saying why.
    """
    make = require(pipe, "clip", "video", "texts, frames, fps")
    count, figures, missing = max(4, options.samples // 2), dict[str, Figure](), dict[str, str]()
    rows: list[list[Panel]] = []
    for name, judge, kinds, more in (
        ("tabletop", motion_judge, motions, {"sound": False}), ("sprites", sprite_judge, animations, {})
    ):  # fmt: skip
        try:
            source = held_out(f"{name}-clip", pipe, count=count * (1 + REFERENCES), seed=options.seed, **more)
            names, found = kinds(), judge(pipe)
        except (PackMissing, ImportError) as error:
            missing[name] = str(error)
            continue
        measured, panels = _compare(make, source, found, names, count, options)
        figures |= {f"{figure}, {name}": value for figure, value in measured.items()}
        rows += panels[: max(1, options.sheet_rows // 2)]
    if not figures:
        raise PackMissing("; ".join(missing.values()))
    draw_sheet(rows, options)
    return {"figures": figures, **({"missing": missing} if missing else {})}


def _compare(
    make: Any, source: Any, judge: Judge, names: list[str], count: int, options: Options
) -> tuple[dict[str, Figure], list[list[Panel]]]:
    asked = chosen(len(source), len(source), options.seed)
    samples = [source[i] for i in asked[:count]]
    others = np.stack([source[i].clip for i in asked[count:]])
    texts, true = [s.text for s in samples], np.stack([s.clip for s in samples])
    frames, fps = true.shape[1], samples[0].fps
    made = np.stack(in_batches(lambda rows, **sampling: make(rows, frames, fps, **sampling), (texts,), options))
    if made.shape != true.shape:
        raise ValueError(f"the model made clips of shape {made.shape}; {true.shape} were asked for")
    still = np.repeat(true[:, :1], frames, axis=1)
    (found, said), (real, truly) = judge.judge(to_small(made)), judge.judge(to_small(true))
    figures = distances(found, real, judge.judge(to_small(still))[0], judge.judge(to_small(others))[0], options)
    kinds = np.array([_kind(s, names) for s in samples])
    figures["motion recognised"] = share(
        said[:, 0] == kinds, chance=1 / len(names), ceiling=truly[:, 0] == kinds,
        floor=truly[:, 0] == np.array(shifted(list(kinds))),
    )  # fmt: skip
    shown = (0, frames // 2, frames - 1)
    panels = [
        [*((t[f], text if f == 0 else "") for f in shown), *((m[f], "made" if f == 0 else "") for f in shown)]
        for t, m, text in zip(true, made, texts, strict=True)
    ]
    return figures, panels


def _kind(sample: Any, names: list[str]) -> int:
    """Which animation of a sprite, or motion of Tabletop, which a seed's rest decides."""
    if "animation" in sample.meta:
        return names.index(sample.meta["animation"])
    return int(sample.meta["seed"] % len(names))
