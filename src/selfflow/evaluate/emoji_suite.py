"""The emoji suite: held-out combinations of concept and style, scored by family retrieval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from selfflow.evaluate.features import Cached, features_of, mobilenet_v2
from selfflow.evaluate.grid import sheet
from selfflow.evaluate.measures import kid_figure, share
from selfflow.evaluate.memorisation import memorisation
from selfflow.evaluate.protocol import Figure, Options, PicturePipe, draw_pictures
from selfflow.evaluate.retrieval import Question, Retrieval, ask, coarse, disturbed, retrieve, shuffled
from selfflow.evaluate.velocity_loss import LEVELS

if TYPE_CHECKING:
    from selfflow.data.emoji import Emoji

KINDS = {
    "family": "all styles and variants of the emoji's family",
    "within style": "the variants of the family in the style asked for",
    "style": "the emoji asked for, in all its styles",
}


def emoji_suite(pipe: PicturePipe, options: Options) -> dict[str, Any]:
    """Figures of a model on the emoji64 pack's `test_combo` split.

    Concepts were seen in training, and so were styles; these combinations of the two were not.

    Retrieval asks whether a generated picture is nearest to the true one among its kin; beside it stand chance, a floor
    (a random training picture in place of the generated one) and two ceilings (the true picture, disturbed or coarse:
    see `selfflow.evaluate.retrieval`). KID is against held-out pictures that were not asked for; its ceiling is the
    same with the true pictures in place of the generated ones. Distances to the training set have disturbed training
    pictures as their floor, and disturbed true ones as their ceiling.

    Raises:
        PackMissing: without the packs emoji64 and mobilenetv2_feats.
        ValueError: for more samples than half of the split: the rest is the reference of KID.
    """
    from selfflow.data.emoji import Emoji

    size, permissive_only = pipe.config.picture.size, pipe.config.data.permissive_only
    source = Emoji("test_combo", permissive_only=permissive_only, size=size)
    training = Emoji("train", permissive_only=permissive_only, size=size)
    function = Cached(options.features or mobilenet_v2())
    rows, rest = choose(source, options.samples, options.seed)
    samples = [source.at(row, variant=0) for row in rows]
    # First what is cheap and fails early.
    losses = pipe.held_out_velocity_loss(samples, LEVELS, options.seed)
    generated = draw_pictures(pipe, [s.text for s in samples], [s.id for s in samples], options)
    true = np.stack([source.picture(row) for row in rows])
    if generated.shape != true.shape:
        raise ValueError(f"the pipeline drew pictures of shape {generated.shape}; {true.shape} were asked for")

    rng = np.random.default_rng(options.seed)
    random = np.stack([training.picture(int(row)) for row in rng.choice(training.rows, len(rows))])
    questions, real = kin(source, rows, function, options.progress)
    answers = {
        "generated": generated,
        "floor": random,
        "disturbed": disturbed(true, options.seed),
        "coarse": coarse(true, max(1, size // 2)),
    }
    features = {name: features_of(function, pictures, len(rows)) for name, pictures in answers.items()}
    centre = np.mean(list(real.values()), axis=0)
    scores = {
        kind: {name: retrieve(features[name], questions[kind], real, centre) for name in answers} for kind in KINDS
    }
    figures = {f"retrieval, {kind}": _retrieval_figure(found) for kind, found in scores.items()}

    reference = features_of(function, (source.picture(r) for r in rest), len(rest), options.progress)
    figures["kid"] = kid_figure(
        features["generated"], features_of(function, true, len(rows)),
        features_of(function, shuffled(true, seed=options.seed), len(rows)), reference, options,
        "floor: the true pictures in sixteen pieces, exchanged",
    )  # fmt: skip
    attempts = {"generated": generated, "floor": disturbed(random, options.seed), "disturbed": answers["disturbed"]}
    copies = memorisation(attempts, true, _each(training, options.progress))
    model, floor, ceiling = copies["generated"], copies["floor"], copies["disturbed"]
    figures["training distance"] = Figure(
        model.ratio, floor=floor.ratio, ceiling=ceiling.ratio, count=len(rows),
        note="over that of real held-out pictures; copies have 0",
    )  # fmt: skip
    copied = share(model.closes, floor=floor.closes, ceiling=ceiling.closes)
    figures["copies"] = replace(
        copied, judged=False,
        note="share as near to training as 5 % of real held-out pictures; floor: copies, moved, blurred and noised",
    )  # fmt: skip
    figures["nearer to the truth than to training"] = share(
        model.novels, floor=floor.novels, ceiling=ceiling.novels, note="copies have 0"
    )
    for level, (loss, loss_error) in losses.items():
        figures[f"velocity loss, t = {level:g}"] = Figure(
            loss, loss - 1.96 * loss_error, loss + 1.96 * loss_error, count=len(rows), note="lower is better"
        )
    if options.sheet is not None:
        shown = slice(0, options.sheet_rows)
        pairs = [p for pair in zip(generated[shown], true[shown], strict=True) for p in pair]
        captions = [c for s in samples[shown] for c in (s.text, "true")]
        sheet(pairs, captions, 8, options.sheet)
    return {
        "figures": figures,
        "retrieval": {
            kind: {"candidates": KINDS[kind], **{name: _retrieval_dict(r) for name, r in found.items()}}
            for kind, found in scores.items()
        },
        "memorisation": {
            name: {k: v for k, v in asdict(m).items() if k not in ("closes", "novels")} for name, m in copies.items()
        },
        "rows": rows,
    }


def choose(source: Emoji, samples: int, seed: int) -> tuple[list[int], list[int]]:
    """Rows to ask for, and the remaining rows of the split; emoji with kin come first, for only those can be scored.

    Raises:
        ValueError: for more samples than half of the split.
    """
    if samples > len(source) // 2:
        raise ValueError(f"samples is {samples}; the split has {len(source)} rows, of which at most half are drawn")
    families = source.families()
    order = np.random.default_rng(seed).permutation(source.rows).tolist()
    order.sort(key=lambda row: len(families[source.record(row)["family"]]) < 2)
    return order[:samples], order[samples:]


def kin(
    source: Emoji, rows: list[int], function: Cached, progress: bool
) -> tuple[dict[str, list[Question]], dict[int, np.ndarray]]:
    """For each row its question of every kind, and the features of all candidates by row."""
    families = source.families()
    members = {row: families[source.record(row)["family"]] for row in rows}
    needed = sorted({r for family in members.values() for r in family})
    pictures = {r: source.picture(r) for r in needed}
    style, emoji = source.arrays["style"], source.arrays["emoji"]
    questions = {
        "family": [ask(pictures, members[row], row) for row in rows],
        "within style": [ask(pictures, [r for r in members[row] if style[r] == style[row]], row) for row in rows],
        "style": [ask(pictures, [r for r in members[row] if emoji[r] == emoji[row]], row) for row in rows],
    }
    features = features_of(function, list(pictures.values()), len(pictures), progress)
    return questions, dict(zip(pictures, features, strict=True))


def _each(source: Emoji, progress: bool) -> Iterator[np.ndarray]:
    from tqdm import tqdm

    for row in tqdm(source.rows, "nearest training pictures", unit="picture", disable=not progress):
        yield source.picture(int(row))


def _retrieval_dict(found: Retrieval) -> dict[str, float]:
    return {k: v for k, v in asdict(found).items() if k != "hits"} | {"times_chance": found.times_chance}


def _retrieval_figure(found: dict[str, Retrieval]) -> Figure:
    r = found["generated"]
    return share(
        r.hits, chance=r.chance, floor=found["floor"].hits, ceiling=found["disturbed"].hits,
        note=f"{r.times_chance:.1f} × chance; second ceiling (coarse) {found['coarse'].accuracy:.3f}",
    )  # fmt: skip
