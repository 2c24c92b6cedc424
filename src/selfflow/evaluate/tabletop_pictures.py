"""The suites `tabletop-text`, `tabletop-edit` and `tabletop-reference`: is the picture what was asked for?

A plain reader of pictures checks, fact by fact. No network judges another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from selfflow.evaluate.measures import mean, share, unsurprised
from selfflow.evaluate.protocol import Figure, Options, PicturePipe, draw_pictures, seed_of
from selfflow.evaluate.tabletop_report import (
    asked_scenes,
    baseline,
    examples,
    figures_of,
    in_batches,
    report,
    require,
    shifted,
)
from selfflow.evaluate.velocity_loss import LEVELS

if TYPE_CHECKING:
    from selfflow.worlds.tabletop.scene import Scene
    from selfflow.worlds.tabletop.tasks import Example
    from selfflow.worlds.tabletop.verdict import Score

SURPRISE_LEVELS = (0.25, 0.5, 0.75)
SHOWN = {1: "one reference", 3: "three references", 6: "six references", 10: "ten references"}


class Editor(Protocol):
    """What `tabletop-edit` needs of a model."""

    @property
    def config(self) -> Any: ...

    def edit(self, pictures: np.ndarray, instructions: Sequence[str], **sampling: Any) -> np.ndarray:
        """Pictures uint8 `(n, H, W, 3)` and n instructions to pictures uint8 `(n, H, W, 3)`.

        `sampling` holds `generator`, a list of n, and `steps` and `guidance` where these are not left to the model.
        """
        ...


class Composer(Protocol):
    """What `tabletop-reference` needs of a model."""

    @property
    def config(self) -> Any: ...

    def compose(self, references: Sequence[Sequence[np.ndarray]], texts: Sequence[str], **sampling: Any) -> np.ndarray:
        """For each of n texts one to ten pictures uint8 `(H, W, 3)`; to pictures uint8 `(n, H, W, 3)`.

        `sampling` as for `Editor.edit`.
        """
        ...


def text_suite(pipe: PicturePipe, options: Options) -> dict[str, Any]:
    """Figures of a model on held-out captions, each of which says something that no training caption says.

    The score of a picture is the share of the caption's facts that it shows; how many are right altogether is told by
    what is held out of training, too: a kind of thing in a colour, a relation of two kinds, a word. Ceiling: the true
    renders. Floor: true renders of other scenes, which are flawless pictures of something else. Beside it: whether what
    is named is there and nothing overlaps or floats (floor: the true things put down anywhere), the velocity loss per
    noise level, and surprise, the share of pairs of a possible and an impossible picture of which the model's own loss
    is lower on the possible one (chance: one half).
    """
    from selfflow.worlds.tabletop.check import score_text

    source = asked_scenes(pipe, options.samples, options.seed)
    samples = [source[i] for i in range(len(source))]
    texts, true = [sample.text for sample in samples], [_picture(sample.picture) for sample in samples]
    drawn = list(draw_pictures(pipe, texts, [sample.id for sample in samples], options))

    def scores(pictures: Sequence[np.ndarray]) -> list[Any]:
        return [score_text(picture, text) for picture, text in zip(pictures, texts, strict=True)]

    found, ceiling, floor = scores(drawn), scores(true), scores(shifted(true))
    names = ("facts right", "all facts right")
    figures = figures_of(found, ceiling, floor, [facts_of(text) for text in texts], options, names=names)
    figures |= _by_novelty(texts, *([not s.faults for s in each] for each in (found, ceiling, floor)))
    elsewhere = scores(shifted(drawn))
    figures["facts right, captions exchanged"] = baseline(
        elsewhere, options, "the same pictures against the next caption: should fall to the floor"
    )
    anywhere = _put_anywhere([sample.meta["scene"] for sample in samples], pipe.config.picture.size, options.seed)
    can_be = [
        [possible(score, text) for score, text in zip(each, texts, strict=True)]
        for each in (found, ceiling, scores(anywhere))
    ]
    note = "and as many things as named are seen; floor: the true things, anywhere"
    figures["nothing overlaps or floats"] = share(can_be[0], ceiling=can_be[1], floor=can_be[2], note=note)
    figures |= surprise(pipe, options) if options.pairs else {}
    for level, (loss, error) in pipe.held_out_velocity_loss(samples, LEVELS, options.seed).items():
        figures[f"velocity loss, t = {level:g}"] = Figure(
            loss, loss - 1.96 * error, loss + 1.96 * error, count=len(samples), note="lower is better"
        )

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [(true[i], texts[i]), (drawn[i], "")]

    return report(figures, found, texts, panels, options)


def _by_novelty(
    texts: Sequence[str], found: Sequence[bool], ceiling: Sequence[bool], floor: Sequence[bool]
) -> dict[str, Figure]:
    """How many pictures are right whose captions say a colour, a relation or a word that training holds back."""
    from selfflow.worlds.tabletop.language import parse
    from selfflow.worlds.tabletop.split import NOVELTIES, novelties

    said, figures = [novelties(parse(text)) for text in texts], {}
    for name in NOVELTIES:
        rows = [i for i, each in enumerate(said) if name in each]
        if rows:
            right, best, least = ([values[i] for i in rows] for values in (found, ceiling, floor))
            figures[f"all facts right, {name} held out"] = share(right, ceiling=best, floor=least)
    return figures


def _put_anywhere(scenes: Sequence[Scene], size: int, seed: int) -> list[np.ndarray]:
    """Pictures of the same things, each at any place of the picture: what knows of no table and no solids."""
    from selfflow.worlds.tabletop.render import render
    from selfflow.worlds.tabletop.scene import Scene

    rng = np.random.default_rng(seed)
    placed = [[thing.at(*rng.uniform(0.1, 0.9, 2)) for thing in scene.things] for scene in scenes]
    return [render(Scene(tuple(things), s.wall, s.wood), size) for things, s in zip(placed, scenes, strict=True)]


def possible(score: Score, text: str) -> bool:
    """Whether a picture shows as many things as its caption names, and none inside another or resting on nothing.

    A picture in which nothing is seen breaks no law, and keeps none either.
    """
    from selfflow.worlds.tabletop.language import parse

    things = cast(Sequence[Any], score.facts["things"])
    return len(things) >= sum(phrase.count for phrase in parse(text).phrases) and not score.facts["impossible"]


def facts_of(text: str) -> list[str]:
    """The categories of a caption: what kinds of facts it states."""
    from selfflow.worlds.tabletop.language import parse

    claim = parse(text)
    phrases = claim.phrases
    stated = {
        "colour": any(p.colour for p in phrases),
        "size": any(p.size for p in phrases),
        "material": any(p.material for p in phrases),
        "word": any(p.word for p in phrases),
        "fingers": any(p.fingers is not None for p in phrases),
        "pose": any(p.pose for p in phrases),
        "count": any(p.count != 1 for p in phrases),
        "relation": bool(claim.relations),
    }
    return [name for name, is_stated in stated.items() if is_stated]


def surprise(pipe: PicturePipe, options: Options) -> dict[str, Figure]:
    """Of pairs of a possible and an impossible still, how often the model's loss is lower on the possible one.

    Both see the same noise, and no caption.
    """
    from selfflow.data.sample import Sample
    from selfflow.worlds.tabletop.pairs import STILL_KINDS, matched_stills
    from selfflow.worlds.tabletop.render import render

    def loss(picture: np.ndarray, name: str) -> float:
        twice = [Sample(f"{name}/{k}", picture, "") for k in range(2)]
        return float(
            np.mean([v for v, _ in pipe.held_out_velocity_loss(twice, SURPRISE_LEVELS, options.seed).values()])
        )

    figures = {}
    size = pipe.config.picture.size
    pairs = min(options.samples, options.pairs)
    for kind in STILL_KINDS:
        losses = []
        for i in range(pairs):
            seed = seed_of("tabletop", "surprise", kind, options.seed, i)
            good, bad = (render(scene, size) for scene in matched_stills(seed, kind))
            losses.append((loss(good, f"{kind}/{i}"), loss(bad, f"{kind}/{i}")))
        figures[f"surprise, {kind}"] = unsurprised(losses, "picture")
    return figures


def edit_suite(pipe: Editor, options: Options) -> dict[str, Any]:
    """Figures of a model on held-out edits: was the instruction followed, and is the rest unchanged? By kind of edit.

    Each result shows something held out. *Novel instruction* are those edits of which the instruction itself says it,
    so that no training instruction says the same; the others may be asked for in words of training.

    Ceiling: the true results. Floor: the results of other edits. A second floor is the input copied, which leaves the
    rest unchanged to perfection.
    """
    from selfflow.worlds.tabletop.check import score_edit
    from selfflow.worlds.tabletop.split import novel
    from selfflow.worlds.tabletop.tasks import parse_instruction

    edit = require(pipe, "edit", "tabletop-edit", "pictures, instructions")
    cases = examples("edit", pipe.config.picture.size, options)
    texts = [case.text for case in cases]
    before, after = [_picture(c.before) for c in cases], [_picture(c.picture) for c in cases]
    made = in_batches(edit, (np.stack(before), texts), options)

    def scores(pictures: Sequence[np.ndarray]) -> list[Any]:
        return [score_edit(b, p, t) for b, p, t in zip(before, pictures, texts, strict=True)]

    found, ceiling, floor = scores(made), scores(after), scores(shifted(after))
    asked = [parse_instruction(text) for text in texts]
    categories = [(each.kind, *["novel instruction"] * novel(each)) for each in asked]
    figures = figures_of(found, ceiling, floor, categories, options)
    figures["floor: copy of the input"] = baseline(scores(before), options, "nothing done at all")

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [(before[i], texts[i]), (made[i], ""), (after[i], "true")]

    return report(figures, found, texts, panels, options)


def reference_suite(pipe: Composer, options: Options) -> dict[str, Any]:
    """Figures of a model that composes a scene of things shown to it: do they keep their identity, is the text right?

    By the number of references. Ceiling: the true scenes. Floor: the true scenes of other texts. A second floor is the
    first reference copied.

    Beside the score, *identity kept* and *looks right* (see `score_reference`) with 1, 3, 6 and 10 references, each of
    half as many examples, drawn for it. Their floor is the higher of the two; of one reference a copy is no floor, for
    it shows what was asked for.
    """
    compose = require(pipe, "compose", "tabletop-reference", "references, texts")
    cases = examples("reference", pipe.config.picture.size, options)
    made, scores = _composed(compose, cases, options)
    texts, true = [case.text for case in cases], [_picture(case.picture) for case in cases]
    shown = [list(case.references or ()) for case in cases]
    found, ceiling, floor = scores(made), scores(true), scores(shifted(true))
    categories = [(f"{len(r)} reference{'s' * (len(r) > 1)}",) for r in shown]
    figures = figures_of(found, ceiling, floor, categories, options)
    figures["floor: copy of a reference"] = baseline(scores([r[0] for r in shown]), options, "the first one")
    half = replace(options, samples=max(2, options.samples // 2))
    for count in SHOWN:
        figures |= _identity(compose, examples("reference", pipe.config.picture.size, half, count), half)

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [(shown[i][0], texts[i]), (made[i], ""), (true[i], "true")]

    return report(figures, found, texts, panels, options)


def _composed(compose: Any, cases: Sequence[Example], options: Options) -> tuple[list[np.ndarray], Any]:
    """What the model makes of the cases, and the scores of pictures taken for theirs."""
    from selfflow.worlds.tabletop.check import score_reference

    texts, shown = [case.text for case in cases], [list(case.references or ()) for case in cases]

    def scores(pictures: Sequence[np.ndarray]) -> list[Any]:
        return [score_reference(r, p, t) for r, p, t in zip(shown, pictures, texts, strict=True)]

    return in_batches(compose, (shown, texts), options), scores


def _identity(compose: Any, cases: Sequence[Example], options: Options) -> dict[str, Figure]:
    """Of cases with equally many references, whether what they define is kept."""
    made, scores = _composed(compose, cases, options)
    true, copies = [_picture(case.picture) for case in cases], [(case.references or ())[0] for case in cases]
    found, ceiling, exchanged, copied = map(scores, (made, true, shifted(true), copies))
    count, figures = len(cases[0].references or ()), dict[str, Figure]()
    for name in ("identity kept", "looks right"):
        values, best, *floors = ([s.facts[name] for s in each] for each in (found, ceiling, exchanged, copied))
        floor = max(floors[: 1 if count == 1 else 2], key=np.mean)
        figures[f"{name}, {SHOWN[count]}"] = mean(values, options, floor=floor, ceiling=best, unit=True)
    return figures


def _picture(picture: np.ndarray | None) -> np.ndarray:
    assert picture is not None
    return picture
