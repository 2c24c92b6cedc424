"""The tabletop suite: does a picture show what its caption says? A plain reader of pictures checks, fact by fact."""

from __future__ import annotations

from typing import Any

import numpy as np

from selfflow.evaluate.distances import bootstrap, wilson
from selfflow.evaluate.grid import sheet
from selfflow.evaluate.protocol import Figure, Options, PicturePipe, draw_pictures
from selfflow.evaluate.velocity_loss import LEVELS


def tabletop_suite(pipe: PicturePipe, options: Options) -> dict[str, Any]:
    """Figures of a model on held-out tabletop captions, each of which says something that no training caption says.

    A picture is scored by the share of the caption's facts that it shows, and by whether it shows all of them. Ceiling:
    the true renders. Floor: true renders of other scenes, which are flawless pictures of something else.
    """
    from selfflow.data.scenes import TabletopScenes
    from selfflow.worlds.tabletop import parse, score

    source = TabletopScenes(count=options.samples, size=pipe.config.picture.size, split="test", seed=options.seed)
    samples = [source[i] for i in range(len(source))]
    losses = pipe.held_out_velocity_loss(samples, LEVELS, options.seed)
    generated = draw_pictures(pipe, [s.text for s in samples], [s.id for s in samples], options)
    true = [s.picture for s in samples]

    def scores(pictures: Any) -> np.ndarray:
        return np.array([score(p, parse(s.text)).score for p, s in zip(pictures, samples, strict=True)])

    found, ceiling, floor = scores(generated), scores(true), scores([*true[1:], true[0]])
    elsewhere = scores(np.roll(generated, -1, axis=0))
    whole = found == 1
    figures = {
        "facts right": Figure(
            float(found.mean()), *bootstrap(found, seed=options.seed), floor=float(floor.mean()),
            ceiling=float(ceiling.mean()), count=len(found),
        ),
        "all facts right": Figure(
            float(whole.mean()), *wilson(int(whole.sum()), len(whole)), floor=float((floor == 1).mean()),
            ceiling=float((ceiling == 1).mean()), count=len(found),
        ),
        "facts right, captions exchanged": Figure(
            float(elsewhere.mean()), *bootstrap(elsewhere, seed=options.seed), floor=float(floor.mean()),
            count=len(found), note="the same pictures against the next caption: should fall to the floor",
        ),
    }  # fmt: skip
    for level, (loss, error) in losses.items():
        figures[f"velocity loss, t = {level:g}"] = Figure(
            loss, loss - 1.96 * error, loss + 1.96 * error, count=len(found), note="lower is better"
        )
    if options.sheet is not None:
        shown = slice(0, options.sheet_rows)
        pairs = [p for pair in zip(generated[shown], true[shown], strict=True) for p in pair]
        captions = [c for s, f in zip(samples[shown], found[shown], strict=True) for c in (s.text, f"true ({f:.2f})")]
        sheet(pairs, captions, 8, options.sheet)
    return {"figures": figures, "scores": found.tolist()}
