"""The model that is served, and what the studio is told of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from selfflow.runtime import Runtime
from selfflow.serve.limits import Limits

# Sampling steps of a request that asks for no number: more would not keep up with who types. The bundled model's
# pictures in 5 steps differ from those in 25 by 8.4 levels of 255 on average, those in 6 by 8.5 (see docs/studio.md).
LIVE_STEPS = 5
EXAMPLES = {
    "picture": ["a red ball left of a blue box", "a large green cup", "a smiling face", "two yellow books"],
    "edit": ["make the ball green", "remove the box", "put the ball on the table"],
    "clip": ["a rubber ball falls on the table", "a box is pushed", "a tower topples"],
    "sound": ["a glass ball falls on the table", "someone says seven", "a wooden box is pushed"],
}


class Model:
    """A pipeline, what runs it, and facts about it.

    Args:
        pipe: `selfflow.pipeline.Pipeline`.
        name: for clients.
        card: Markdown of the model card.
        exported: a package of `selfflow export` for this model.
    """

    def __init__(self, pipe: Any, name: str, card: str = "", exported: Path | None = None) -> None:
        self.pipe, self.name, self.card = pipe, name, card
        self.runtime = Runtime(pipe, exported=exported)
        self.parameters = sum(p.numel() for p in pipe.net.parameters())

    @classmethod
    def load(cls, directory: Path, device: str = "cpu", exported: Path | None = None) -> Model:
        """From a model directory; computes in bf16 where the hardware multiplies it."""
        from selfflow.model_directory import CARD
        from selfflow.pipeline import Pipeline
        from selfflow.train.engine import fast_dtype

        pipe = Pipeline.from_pretrained(directory, device=device, dtype=fast_dtype(device))
        sampling = pipe.config.sampling
        pipe.config = replace(pipe.config, sampling=replace(sampling, steps=min(sampling.steps, LIVE_STEPS)))
        card = directory / CARD
        text = card.read_text(errors="replace") if card.is_file() else ""
        return cls(pipe, f"{pipe.config.name}", text, exported)

    def warm_up(self) -> None:
        """Draw once what a fresh page asks for, so that the first who types waits no longer than the next.

        Kernels are chosen at the first call of each shape: a picture of each shape that the studio offers is drawn.
        """
        side, cell = self.pipe.config.picture.size, self.pipe.modalities.cell
        long = round(1.5 * side / cell) * cell
        self.runtime.warm_up([self.pipe.config.sampling.steps], [(side, side), (side, long), (long, side)])

    @property
    def few_steps(self) -> bool:
        """Whether it was distilled to need few sampling steps."""
        return bool(self.pipe.config.objective.kind == "flow_map")

    @property
    def bodies(self) -> dict[str, Any]:
        """The bodies whose actions it knows."""
        return dict(self.pipe.modalities.quantiles.bodies)

    @property
    def trained(self) -> set[str]:
        """The tasks it was shown; only pictures, where no mixture says so."""
        return {text.split(":")[1] for text in self.pipe.config.data.mixture} or {"picture"}

    @property
    def tasks(self) -> list[str]:
        """What it can do, of what the studio offers."""
        from selfflow.serve.messages import TASKS

        sound = {"clip+sound", "sound", "animate+sound", "dub"}
        return [t for t in TASKS if t in self.trained and (self.pipe.config.audio.rate or t not in sound)]

    def facts(self, limits: Limits, worlds: list[dict[str, Any]], policies: list[dict[str, Any]]) -> dict[str, Any]:
        """What `GET /api/model` says."""
        config = self.pipe.config
        sampling = config.sampling
        return {
            "name": self.name, "parameters": self.parameters, "size": config.picture.size,
            "cell": self.pipe.modalities.cell, "tasks": self.tasks,
            "sampling": {"steps": sampling.steps, "guidance": sampling.guidance, "shift": sampling.shift,
                         "tasks": sampling.otherwise, "shifts": sampling.shifts},
            "few_steps": self.few_steps, "fps": 20, "frames": config.data.frames,
            "audio_rate": config.audio.rate or None, "card": self.card,
            "limits": {
                "prompt": limits.prompt, "references": limits.references, "pixels": limits.pixels,
                "steps": limits.steps, "frames": limits.frames, "upload_bytes": limits.upload_bytes,
                "batch": limits.batch, "choices": limits.choices,
            },
            "worlds": worlds, "policies": policies, "examples": EXAMPLES,
        }  # fmt: skip
