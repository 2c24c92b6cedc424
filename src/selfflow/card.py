"""Model cards: what a model is, what it was trained on, and under which licences that stands."""

from __future__ import annotations

import json
from dataclasses import replace

from selfflow.config import Config, to_dict

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


def model_card(config: Config, step: int) -> str:
    """The `README.md` of a trained model, with the front matter that the Hugging Face hub reads."""
    name, data = config.name, config.data
    objective = {
        "self_flow": "Self-Flow", "flow_matching": "flow matching", "repa": "REPA",
        "flow_map": "distillation to few steps",
    }[config.objective.kind]  # fmt: skip
    trained_on, share_alike = _mixed(config) if data.mixture else _single(config)
    own = data.source == "tabletop" and not data.mixture
    licence = "cc-by-sa-4.0" if share_alike else "apache-2.0" if own else "other"
    tag, kind = ("any-to-any", "picture, clip, sound and action") if data.mixture else ("text-to-image", "picture")
    return f"""---
license: {licence}
library_name: selfflow
pipeline_tag: {tag}
---

# {name}, trained by {objective}

A text-to-{kind} model of the recipe `{name}`: the averaged weights (EMA {config.objective.ema_decay}) after
{step:,} steps of {config.train.batch_size} samples, seed {config.train.seed}.

```python
from selfflow.pipeline import Pipeline

images = Pipeline.from_pretrained(".")(prompt="…").images
```

{_distilled(config)}## Trained on

{trained_on}

## Limits

It draws {config.picture.size}² pixels in the manner of its training pictures and knows no others.
It was made for research and for play; nothing was done to make it refuse or to make it fair.

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
    count = "1, 2, 4 or 8 steps" if few.method == "midpoint" else f"{few.ladder[-1]} steps"
    other = ", ".join(f"{scale:g} in {name}" for name, scale in few.tasks.items() if scale != few.guidance)
    return f"""## Few steps

Distilled from {few.teacher or "a model of the same shape"} ({few.method}). It samples in {count}, one pass each,
without guidance: its teacher's, {few.guidance:g}{f" ({other})" if other else ""}, is part of it.

"""


def _single(config: Config) -> tuple[str, bool]:
    """What one source asks to be said, and whether its licence is passed on."""
    data = config.data
    trained_on = SOURCES.get(data.source, f"`{data.source}`: see its own licence.")
    if data.source == "emoji" and data.permissive_only:
        trained_on = "\n".join(line for line in trained_on.splitlines() if not line.startswith("| OpenMoji"))
    return trained_on, data.source == "emoji" and not data.permissive_only


def _mixed(config: Config) -> tuple[str, bool]:
    """The same of all sources of a mixture. (Whether each was there when it was trained, `run.json` does not say.)"""
    from selfflow.data.licences import PACKS
    from selfflow.data.mixture import Ingredient
    from selfflow.data.registry import SOURCES as REGISTRY

    names = dict.fromkeys(Ingredient.parse(text).source for text in config.data.mixture)
    packs = dict.fromkeys(REGISTRY[name].pack for name in names)
    parts, share_alike = [SOURCES["tabletop"]] if "" in packs else [], False
    if "emoji64" in packs:
        emoji, share_alike = _single(replace(config, data=replace(config.data, source="emoji")))
        parts.append(emoji)
    rows = []
    for pack in packs:
        if pack in PACKS and not (config.data.permissive_only and PACKS[pack].share_alike):
            rows.append(f"| {pack} | {PACKS[pack].name} | {PACKS[pack].attribution or 'none asked for'} |")
            share_alike |= PACKS[pack].share_alike
    if rows:
        parts.append("\n".join(["| pack | licence | attribution |", "|---|---|---|", *rows]))
    if share_alike:
        parts.append("Some of these are share-alike: these weights are given on the terms of CC BY-SA 4.0.")
    return "\n\n".join(parts), share_alike
