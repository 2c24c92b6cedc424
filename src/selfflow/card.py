"""Model cards: what a model is, what it was trained on, and under which licences that stands."""

from __future__ import annotations

import json

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
    objective = {"self_flow": "Self-Flow", "flow_matching": "flow matching"}[config.objective.kind]
    trained_on = SOURCES.get(data.source, f"`{data.source}`: see its own licence.")
    share_alike = data.source == "emoji" and not data.permissive_only
    if data.source == "emoji" and data.permissive_only:
        trained_on = "\n".join(line for line in trained_on.splitlines() if not line.startswith("| OpenMoji"))
    licence = {"tabletop": "apache-2.0"}.get(data.source, "cc-by-sa-4.0" if share_alike else "other")
    return f"""---
license: {licence}
library_name: selfflow
pipeline_tag: text-to-image
---

# {name}, trained by {objective}

A text-to-picture model of the recipe `{name}`: the averaged weights (EMA {config.objective.ema_decay}) after
{step:,} steps of {config.train.batch_size} samples, seed {config.train.seed}.

```python
from selfflow.pipeline import Pipeline

images = Pipeline.from_pretrained(".")(prompt="…").images
```

## Trained on

{trained_on}

## Limits

It draws {config.picture.size}² pixels in the manner of its training pictures and knows no others.
It was made for research and for play; nothing was done to make it refuse or to make it fair.

## Configuration

```json
{json.dumps(to_dict(config), indent=1)}
```
"""
