"""The suites `emoji-edit` and `emoji-style`: is the emoji changed as told, and drawn as shown?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from selfflow.evaluate.features import Cached, features_of, mobilenet_v2
from selfflow.evaluate.measures import chosen, draw_sheet, error_where, grown, held_out, in_turn, mean, share
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.retrieval import Question, ask, disturbed, retrieve
from selfflow.evaluate.tabletop_pictures import Composer, Editor
from selfflow.evaluate.tabletop_report import in_batches, require, shifted

MOST_CANDIDATES = 12
STYLE_RIVALS = 7  # other emoji of the wanted style


def emoji_edit_suite(pipe: Editor, options: Options) -> dict[str, Any]:
    """Figures of a model on held-out edits of emoji, the kinds of edit in turn.

    Retrieval asks which of the pictures that instructions of this kind make of the input, or the input itself, the
    result is nearest to. Inside the mask is where the edit changes the picture. Ceiling: the true results, disturbed
    (see `retrieval`) for retrieval. Floor: the input copied, which is wrong by definition inside the mask and perfect
    outside of it, so that there the floor is another emoji; as it is where truth and input are the only two to choose
    from, and a picture of neither is right by chance.

    Raises:
        PackMissing: without the packs emoji64 and mobilenetv2_feats.
    """
    edit = require(pipe, "edit", "emoji-edit", "pictures, instructions")
    source = held_out("emoji-edits", pipe)
    kinds = [source.kinds[int(k)] for k in source.pairs["type"][source.chosen]]
    indices = in_turn(kinds, options.samples, options.seed)
    samples, kinds = [source[i] for i in indices], [kinds[i] for i in indices]
    texts, before = [s.text for s in samples], np.stack([s.references[0] for s in samples])
    true = np.stack([s.picture for s in samples])
    made = np.stack(in_batches(edit, (before, texts), options))

    function = Cached(options.features or mobilenet_v2())
    rows = [_variants(source, int(source.chosen[i]), options.seed) for i in indices]
    targets = [int(s.meta["after"]) for s in samples]
    questions, real = _questions(source.emoji, rows, targets, function, options)
    answers = {"made": made, "floor": before, "ceiling": disturbed(true, options.seed)}
    figures = _retrievals("retrieval", answers, questions, real, function, kinds)

    masks = np.stack([s.mask for s in samples])
    others = np.stack(shifted(list(true)))
    figures["nearer to the truth than to the input, inside the mask"] = share(
        error_where(made, true, masks) < error_where(made, before, masks), chance=0.5, ceiling=1.0,
        floor=error_where(others, true, masks) < error_where(others, before, masks),
        note="floor: other emoji, which are nearer to either half of the time; copying the input has 0",
    )  # fmt: skip
    figures["error inside the mask"] = mean(
        error_where(made, true, masks), options, floor=error_where(before, true, masks), ceiling=0.0,
        note="levels of 255, lower is better; floor: copying the input",
    )  # fmt: skip
    figures["error outside the mask"] = mean(
        error_where(made, true, ~masks), options, floor=error_where(others, true, ~masks), ceiling=[0.0],
        note="levels of 255, lower is better; floor: other emoji; copying the input has 0", judged=False,
    )  # fmt: skip
    panels = zip(before, made, true, texts, strict=True)
    draw_sheet([[(b, text), (m, ""), (t, "true")] for b, m, t, text in panels], options)
    return {"figures": figures, "samples": [s.id for s in samples]}


def emoji_style_suite(pipe: Composer, options: Options) -> dict[str, Any]:
    """Figures of a model that draws held-out emoji in a style: told in words, from the same emoji in another style
    (`redraw`); or shown by one to three other emoji (`style`).

    Style asks which of the styles of this emoji the result is nearest to; emoji, which of the emoji of this style.
    Ceiling: true pictures, disturbed. Floor: the first reference copied: of `redraw` the right emoji in a wrong style,
    of `style` the other way round.

    Raises:
        PackMissing: without the packs emoji64 and mobilenetv2_feats.
    """
    compose = require(pipe, "compose", "emoji-style", "references, texts")
    source = held_out("emoji-styles", pipe)
    some = chosen(len(source), 4 * options.samples, options.seed)
    indices = [some[i] for i in in_turn([source.plan(i)[0] for i in some], options.samples, options.seed)]
    samples = [source[i] for i in indices]
    texts, shown = [s.text for s in samples], [s.references for s in samples]
    true = np.stack([s.picture for s in samples])
    made = np.stack(in_batches(compose, (shown, texts), options))

    function = Cached(options.features or mobilenet_v2())
    arrays, targets = source.arrays, [int(s.meta["row"]) for s in samples]
    table = [[int(r) for r in arrays["table"][arrays["emoji"][row]] if r >= 0] for row in targets]
    rng = np.random.default_rng(options.seed)
    rivals = []
    for row in targets:
        same = np.flatnonzero((arrays["split"] == 0) & (arrays["style"] == arrays["style"][row]))
        rivals.append([row, *rng.choice(same[same != row], STYLE_RIVALS, replace=False).tolist()])
    answers = {"made": made, "floor": np.stack([s[0] for s in shown]), "ceiling": disturbed(true, options.seed)}
    kinds, figures = [s.meta["kind"] for s in samples], dict[str, Figure]()
    for name, rows in (("style", table), ("emoji", rivals)):
        questions, real = _questions(source.emoji, rows, targets, function, options)
        figures |= _retrievals(f"{name} right", answers, questions, real, function, kinds)
    size = true.shape[1]
    panels = zip(shown, made, true, texts, strict=True)
    draw_sheet([[(grown(s[0], size), text), (m, ""), (t, "true")] for s, m, t, text in panels], options)
    return {"figures": figures, "samples": [s.id for s in samples]}


def _variants(source: Any, pair: int, seed: int) -> list[int]:
    """Rows of the pack: the input, the right result, and what other instructions of the kind make of the input."""
    before, after = (int(source.pairs[name][pair]) for name in ("before", "after"))
    alike = (source.pairs["before"] == before) & (source.pairs["type"] == source.pairs["type"][pair])
    others = sorted({int(r) for r in source.pairs["after"][alike]} - {after, before})
    np.random.default_rng((seed, pair)).shuffle(others)
    return [before, after, *others[: MOST_CANDIDATES - 2]]


def _questions(
    emoji: Any, rows: Sequence[Sequence[int]], targets: Sequence[int], function: Cached, options: Options
) -> tuple[list[Question], dict[int, np.ndarray]]:
    """A question for each list of candidate rows, and the features of all candidates by row."""
    pictures = {r: emoji.picture(r) for r in sorted({r for group in rows for r in group})}
    questions = [ask(pictures, group, target) for group, target in zip(rows, targets, strict=True)]
    features = features_of(function, list(pictures.values()), len(pictures), options.progress)
    return questions, dict(zip(pictures, features, strict=True))


def _retrievals(
    name: str,
    answers: Mapping[str, np.ndarray],
    questions: Sequence[Question],
    real: Mapping[int, np.ndarray],
    function: Cached,
    kinds: Sequence[str],
) -> dict[str, Figure]:
    """Retrieval of all samples, then by kind, where any has a choice."""
    features = {key: features_of(function, pictures, len(pictures)) for key, pictures in answers.items()}
    centre = np.mean(list(real.values()), axis=0)
    figures = {}
    for kind in (None, *sorted(set(kinds))):
        rows = [i for i, k in enumerate(kinds) if kind in (None, k) and len(questions[i].candidates) > 1]
        if not rows:
            continue
        asked = [questions[i] for i in rows]
        found = {key: retrieve(f[rows], asked, real, centre) for key, f in features.items()}
        figures[name if kind is None else f"{name}, {kind}"] = share(
            found["made"].hits, chance=found["made"].chance, floor=found["floor"].hits, ceiling=found["ceiling"].hits
        )
    return figures
