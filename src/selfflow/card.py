"""Model cards: what a model is, what it was trained on, and under which licences that stands."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from selfflow.config import Config, DataConfig, to_dict
from selfflow.data.registry import LEROBOT

# Attribution that the licences of the data ask for; it must travel with weights trained on them.
SOURCES = {
    "tabletop": "Scenes drawn by `selfflow.worlds.tabletop`; no third-party material.",
    "emoji": """The emoji64 pack, whose styles are under licences of their own:

| style | licence | attribution |
|---|---|---|
| Noto Emoji | Apache-2.0, flags public domain | Noto Emoji, © Google LLC |
| Twemoji | CC BY 4.0 | Twemoji graphics © Twitter, Inc and other contributors |
| OpenMoji | CC BY-SA 4.0 | All emojis designed by OpenMoji, the open-source emoji and icon project |
| Blobmoji | Apache-2.0 | Blobmoji (C1710/blobmoji), based on Noto Emoji © Google |
| Fluent Emoji (three styles) | MIT | Fluent Emoji, © Microsoft Corporation |

Names and keywords: Unicode CLDR, Unicode License v3, © Unicode, Inc. Changed: rasterised at 64 pixels on white.""",
}

_SINGLE = {"tabletop": [""], "emoji": ["emoji64"]}  # the packs of what may be trained on without a mixture

OBJECTIVES = {
    "self_flow": "Self-Flow",
    "flow_matching": "flow matching",
    "repa": "REPA",
    "flow_map": "distillation to few steps",
    "negative_aware": "reward fine-tuning (DiffusionNFT)",
}


def objective_of(config: Config) -> str:
    """What a run was trained by, and when its teacher was at rest, if it was."""
    o = config.objective
    name, aligned = OBJECTIVES[o.kind], o.kind in ("self_flow", "repa")
    if not aligned or (o.gamma_from, o.gamma_until) == (0, 1):
        return name
    if o.gamma_until <= o.gamma_from:
        return f"{name}, its teacher at rest"
    return f"{name}, its teacher from {100 * o.gamma_from:g} % to {100 * o.gamma_until:g} % of the steps"


def model_card(
    config: Config,
    step: int,
    history: Sequence[Mapping[str, Any]] = (),
    evaluation: Mapping[str, Any] | None = None,
    stored: str = "",
) -> str:
    """The `README.md` of a trained model, with the front matter that the Hugging Face hub reads.

    Args:
        step: optimiser steps taken.
        history: the trainings that led to it, first to last: see `selfflow.train.history.training`. Data of all of them
            count, for weights keep what they were begun with.
        evaluation: what `selfflow evaluate --json` wrote.
        stored: how many numbers it has and how they are kept, in a sentence.
    """
    name, data = config.name, config.data
    objective = OBJECTIVES[config.objective.kind]
    sources = origins(config, history)
    trained_on, share_alike = _trained_on(sources)
    averaged = not history or history[-1].get("averaged", True)
    weights = f"averaged weights (EMA {config.objective.ema_decay})" if averaged else "weights"
    own = all(d.source == "tabletop" and not d.mixture for d in sources)
    licence = "cc-by-sa-4.0" if share_alike else "apache-2.0" if own else "other"
    tag, kind = ("any-to-any", "picture, clip, sound and action") if data.mixture else ("text-to-image", "picture")
    return f"""---
license: {licence}
library_name: selfflow
pipeline_tag: {tag}
---

# {name}, trained by {objective}

A text-to-{kind} model of the recipe `{name}`: the {weights} after
{step:,} steps of {config.train.batch_size} samples, seed {config.train.seed}.{" " + stored if stored else ""}

```python
from selfflow.pipeline import Pipeline

images = Pipeline.from_pretrained(".")(prompt="…").images
```
{_trainings(history)}
{_distilled(config)}## Trained on

{trained_on}
{_figures(evaluation)}
## Limits

{_limits(config)}

## Configuration

```json
{json.dumps(to_dict(config), indent=1)}
```
"""


def _distilled(config: Config) -> str:
    """Of what a flow map was made, and what is baked into it."""
    if config.objective.kind != "flow_map":
        return ""
    few = config.objective.few_steps
    count = f"{few.ladder[-1]} steps" if few.method == "progressive" else "1, 2, 4 or 8 steps"
    other = ", ".join(f"{scale:g} in {name}" for name, scale in few.tasks.items() if scale != few.guidance)
    return f"""## Few steps

Distilled from {few.teacher or "a model of the same shape"} ({few.method}). It samples in {count}, one pass each,
without guidance: its teacher's, {few.guidance:g}{f" ({other})" if other else ""}, is part of it.

"""


def terms(config: Config, history: Sequence[Mapping[str, Any]] = ()) -> tuple[str, list[tuple[str, str, str]]]:
    """The licence of a model's weights, and name, licence and attribution of each source it was shown."""
    from selfflow.data.licences import EMOJI, PACKS

    rows, share_alike = [], False
    for pack, permissive in packs_of(origins(config, history)).items():
        found = {f"{pack}, {style}": t for style, t in EMOJI.items()} if pack == "emoji64" else {}
        if pack in PACKS:
            found = {pack: PACKS[pack]}
        if not pack:
            rows.append(("Tabletop", "Apache-2.0", "drawn by selfflow itself; no third-party material"))
        for name, licence in found.items():
            if not (permissive and licence.share_alike):
                rows.append((name, licence.name, licence.attribution or "none asked for"))
                share_alike |= licence.share_alike
    return "CC BY-SA 4.0" if share_alike else "Apache-2.0 and the licences of the data", rows


def steps_said(card: str) -> int | None:
    """The steps that a model card gives; None where it gives none."""
    found = re.search(r"after\s+([\d,]+) steps of", card)
    return int(found[1].replace(",", "")) if found else None


def _trainings(history: Sequence[Mapping[str, Any]]) -> str:
    """A table of the trainings: how long, on what."""
    if not history:
        return ""
    lines = ["", "## Training", "", "| recipe | objective | steps | samples | tokens | hours | machine |"]
    lines.append("|---|---|---|---|---|---|---|")
    for h in history:
        objective = h["objective"] + ", carried over" * h.get("carried", False)
        lines.append(
            f"| {h['recipe']} | {objective} | {h['steps']:,} | {h['samples']:,} "
            f"| {h['tokens'] / 1e6:.1f} million | {h['hours']:.2f} | {h['machine']} |"
        )
    if any(h.get("carried", False) for h in history):
        lines.append(
            "\nEach began with the weights of the one above it, but for what is carried over: that was done to earlier "
            "states, and what it changed there was added to the weights here."
        )
    elif len(history) > 1:
        lines.append("\nEach began with the weights of the one above it.")
    return "\n".join([*lines, ""])


def _figures(evaluation: Mapping[str, Any] | None) -> str:
    """What was measured, as a table."""
    if not evaluation:
        return ""
    options = ", ".join(f"{k} {v}" for k, v in evaluation.get("options", {}).items())
    lines = [
        "",
        "## Figures",
        "",
        f"On held-out data, by `selfflow evaluate --suite {evaluation['suite']}` ({options}; brackets hold 95 % "
        "intervals). Floor: what needs no understanding, such as an input copied, a picture of another caption or no "
        "movement. Ceiling: the true thing under the same protocol. A figure beats chance when its whole interval "
        "does, and a measured floor when that of their difference does, sample by sample; floors and controls that "
        "stand here as figures are not judged.",
        "",
        "| figure | value | floor | chance | ceiling | n | beats both | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, f in evaluation["figures"].items():
        interval = f" [{_number(f['low'])}, {_number(f['high'])}]" if "low" in f and "high" in f else ""
        bars = " | ".join(_number(f.get(bar)) for bar in ("floor", "chance", "ceiling"))
        beats = {True: "yes", False: "no"}.get(f.get("beats_floor"), "")
        lines.append(
            f"| {name} | {_number(f['value'])}{interval} | {bars} | {f.get('count', '')} "
            f"| {beats} | {f.get('note', '')} |"
        )
    lines += [f"\nNot measured: {name} ({reason})." for name, reason in evaluation.get("skipped", {}).items()]
    return "\n".join([*lines, ""])


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:.3g}"


def _limits(config: Config) -> str:
    size, sentences = config.picture.size, ["It knows what its training data show and nothing else."]
    if config.data.mixture:
        sentences += [
            f"Pictures and clips are of {size}² pixels, clips and sounds about {config.data.seconds:g} s long; longer "
            "and larger ones are made, but not well. Words are those of the captions, in English. Of speech it knows "
            "single digits.",
            "What it does with a robot it learned from recordings, and nobody tried it: let a real machine move "
            "slowly, with a hand at the switch."
            if any(name.startswith(LEROBOT) for name in _sources_of(config.data))
            else "Its robot is a drawing of one: nothing it does was tried on a real machine, or should be.",
        ]
    else:
        sentences.append(f"It draws {size}² pixels in the manner of its training pictures.")
    sentences.append("It was made for research and for play; nothing was done to make it refuse or to make it fair.")
    return "\n".join(sentences)


def origins(config: Config, history: Sequence[Mapping[str, Any]] = ()) -> list[DataConfig]:
    """The data of a model's own training and of those before it, as far as they say it."""
    told = [entry["data"] for entry in history if "data" in entry]
    before = [DataConfig(**{**data, "mixture": tuple(data["mixture"])}) for data in told]
    return [*dict.fromkeys([*before, config.data])]


def packs_of(sources: Sequence[DataConfig]) -> dict[str, bool]:
    """The packs that were shown, `""` for Tabletop; and whether only what is permissive was taken from each.

    A data set of one's own is in no pack.
    """
    from selfflow.data.registry import SOURCES as REGISTRY

    packs: dict[str, bool] = {}
    for data in sources:
        names = _sources_of(data)
        packed = [REGISTRY[name].pack for name in names if not name.startswith(LEROBOT)]
        shown = packed if names else _SINGLE.get(data.source, [])
        for pack in shown:
            packs[pack] = packs.get(pack, True) and data.permissive_only
    return packs


def _sources_of(data: DataConfig) -> list[str]:
    """The names of a mixture's sources."""
    from selfflow.data.mixture import Ingredient

    return [Ingredient.parse(text).source for text in data.mixture]


def _trained_on(sources: Sequence[DataConfig]) -> tuple[str, bool]:
    """What the data ask to be said, and whether a licence among them is passed on.

    (Whether each pack of a mixture was there when it was trained, `run.json` does not say.)
    """
    from selfflow.data.licences import PACKS

    packs = packs_of(sources)
    parts = [SOURCES["tabletop"]] if "" in packs else []
    others = [d.source for d in sources if not d.mixture and d.source not in _SINGLE]
    others += [name for d in sources for name in _sources_of(d) if name.startswith(LEROBOT)]
    parts += [f"`{name}`: see its own licence." for name in dict.fromkeys(others)]
    passed_on = []
    if "emoji64" in packs:
        lines = SOURCES["emoji"].splitlines()
        parts.append("\n".join(x for x in lines if not (packs["emoji64"] and x.startswith("| OpenMoji"))))
        passed_on += [] if packs["emoji64"] else ["OpenMoji"]
    rows = []
    for pack, permissive in packs.items():
        if pack in PACKS and not (permissive and PACKS[pack].share_alike):
            rows.append(f"| {pack} | {PACKS[pack].name} | {PACKS[pack].attribution or 'none asked for'} |")
            passed_on += [pack] if PACKS[pack].share_alike else []
    if rows:
        parts.append("\n".join(["| pack | licence | attribution |", "|---|---|---|", *rows]))
    if passed_on:
        parts.append(
            f"Share-alike are {', '.join(passed_on)}: these weights are given on the terms of CC BY-SA 4.0. "
            "`--config.data.permissive-only` trains without them."
        )
    return "\n\n".join(parts), bool(passed_on)
