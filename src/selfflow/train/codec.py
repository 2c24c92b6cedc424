"""Train a small autoencoder: `selfflow train codec-picture | codec-clip | codec-sound --out DIR`.

The loop, its checkpoints and its metrics are those of every other run; only the objective differs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from selfflow.codecs.autoencoder import (
    CLIP,
    PICTURE_4,
    PICTURE_8,
    SOUND,
    Autoencoder,
    Shape,
    SoundAutoencoder,
    VisualAutoencoder,
)
from selfflow.codecs.losses import gradient_distance, psnr, spectral_distance
from selfflow.codecs.patchwise import PATCHES, PatchAutoencoder
from selfflow.config import TrainConfig, from_dict, to_dict
from selfflow.data.loader import Batch, Loader
from selfflow.data.packs import PackMissing
from selfflow.data.sample import DecodeError, Sample, Source
from selfflow.evaluate.reconstruction import PerceptualDistance, figures, open_perceptual
from selfflow.modalities.pixels import to_values
from selfflow.objectives.base import Losses
from selfflow.times import Draws
from selfflow.train.checkpoint import latest, write_json
from selfflow.train.engine import Engine
from selfflow.train.optimizer import Optim
from selfflow.train.trainer import Trainer, TrainState

RUN, FIGURES = "run.json", "figures.json"
SIMULATED = 2000  # clips and robot windows that a codec of pictures is shown
log = logging.getLogger(__name__)


# What a model's training knows and a codec's does not.
_UNUSED = (
    "text_drop", "reference_drop", "state_drop", "sample_every", "parallel", "compile", "checkpointing", "record",
    "balance",
)  # fmt: skip


@dataclass(frozen=True)
class CodecConfig:
    """A whole run.

    Attributes:
        kind: of what; a picture may also be any frame of a clip.
        sources: names in `selfflow.data.registry`, each seen as often as it is named; those whose pack is absent are
            left out.
        size: pixels.
        frames: of a clip: 1 + k · time_factor.
        seconds, rate: of a sound; samples a second.
        permissive_only: leave out share-alike data.
        shape: of the autoencoder.
        gradient, perceptual: weights of these losses beside the mean absolute error; of sounds, `gradient` weighs the
            spectral distance. The perceptual one needs the `mobilenetv2_feats` pack and is left out without.
    """

    name: str = "codec-picture"
    kind: Literal["picture", "clip", "sound"] = "picture"
    sources: tuple[str, ...] = ("tabletop-still", "emoji", "sprites-clip", "fruits", "hands")
    size: int = 64
    frames: int = 9
    seconds: float = 0.8
    rate: int = 16_000
    permissive_only: bool = False
    shape: Shape = PICTURE_4
    gradient: float = 1.0
    perceptual: float = 0.5
    optim: Optim = field(default_factory=lambda: Optim(learning_rate=2e-3, betas=(0.9, 0.99), warmup=50, cooldown=0.5))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(steps=4000, batch_size=32, save_every=500))

    def __post_init__(self) -> None:
        if self.shape.own and self.kind != "picture":
            raise ValueError(f"an encoder of which each latent sees its own patch is of pictures, not of a {self.kind}")
        if self.kind == "clip" and (self.frames - 1) % self.shape.time_factor:
            raise ValueError(f"clips of {self.frames} frames are no 1 + k · {self.shape.time_factor} frames")
        if self.kind == "sound" and not 0 < self.seconds * self.rate < 1e7:
            raise ValueError(f"sounds of {self.seconds} seconds at {self.rate} a second are no sounds to learn from")
        for name in _UNUSED:
            if (given := getattr(self.train, name)) != (default := getattr(TrainConfig, name)):
                raise ValueError(f"train.{name} is {given!r}; a codec has no use for it: leave it at {default!r}")
        if min(self.gradient, self.perceptual) < 0:
            raise ValueError(f"weights of losses are 0 or more; got {self.gradient} and {self.perceptual}")

    def build(self) -> Autoencoder | PatchAutoencoder:
        """The autoencoder with freshly drawn weights."""
        torch.manual_seed(self.train.seed)
        if self.kind == "sound":
            return SoundAutoencoder(self.shape, self.rate)
        return PatchAutoencoder(self.shape) if self.shape.own else VisualAutoencoder(self.shape)


def codec_picture() -> CodecConfig:
    """Pictures, 4 × 4 pixels to 8 channels: six times fewer numbers."""
    return CodecConfig()


def codec_picture_8() -> CodecConfig:
    """Pictures, 8 × 8 pixels to 16 channels: twelve times fewer numbers."""
    return CodecConfig("codec-picture-8", shape=PICTURE_8)


def codec_patches() -> CodecConfig:
    """Pictures, each 8 × 8 pixels by themselves to 48 channels: four times fewer numbers, what `micro-all` can be of.

    No perceptual loss: what is asked of it is every edge where it was. Sources are named as often as they count.
    """
    base, still = CodecConfig("codec-patches", shape=PATCHES, perceptual=0.0), "tabletop-still"
    sources = (
        still,
        "emoji",
        still,
        "tabletop-robot",
        still,
        "sprites-clip",
        "pusht",
        "tabletop-clip",
        "fruits",
        "hands",
    )
    optim = Optim("muon", learning_rate=1e-3, betas=(0.9, 0.99), muon_scale=3, warmup=50, cooldown=0.5)
    return replace(base, sources=sources, optim=optim, train=replace(base.train, steps=3000, batch_size=64))


def codec_clip() -> CodecConfig:
    """Clips, 4 frames of 8 × 8 pixels to 16 channels: nearly fifty times fewer numbers."""
    base = CodecConfig("codec-clip", "clip", ("tabletop-clip", "sprites-clip", "fruits"), shape=CLIP)
    return replace(base, train=replace(base.train, batch_size=8))


def codec_sound() -> CodecConfig:
    """Sound at 16 kHz, 320 samples to 64 channels: 50 latents a second, five times fewer numbers."""
    base = CodecConfig("codec-sound", "sound", ("digits", "sounds", "tabletop-clip"), shape=SOUND)
    return replace(base, optim=replace(base.optim, learning_rate=1e-3))


CODEC_RECIPES: dict[str, Callable[[], CodecConfig]] = {
    "codec-picture": codec_picture,
    "codec-picture-8": codec_picture_8,
    "codec-patches": codec_patches,
    "codec-clip": codec_clip,
    "codec-sound": codec_sound,
}


# ------------------------------------------------------------------------------------------------------ the objective


@dataclass(frozen=True)
class Values:
    """What an autoencoder restores: pictures `(b, 3, H, W)`, clips `(b, f, 3, H, W)` or sounds `(b, 1, samples)`.

    `len` is the number of latents in a sample, which is what the loop's count of tokens a second is about.
    """

    values: Tensor
    latents: int

    def __len__(self) -> int:
        return self.latents


class Reconstruction(nn.Module):
    """`|restored - true| + gradient · … + perceptual · …` of an autoencoder whose latents are disturbed on the way."""

    def __init__(
        self, codec: Autoencoder | PatchAutoencoder, config: CodecConfig, perceptual: PerceptualDistance | None = None
    ) -> None:
        super().__init__()
        self.codec, self.config, self.perceptual = codec, config, perceptual

    def forward(self, data: Values, *context: Any, draws: Draws) -> Losses:
        true = data.values
        restored = self.codec(true, draws.normal)[0].float()
        parts = {"absolute": (restored - true).abs().mean()}
        total = parts["absolute"]
        if self.config.kind == "sound":
            parts["spectral"] = spectral_distance(restored[:, 0], true[:, 0])
            total = total + self.config.gradient * parts["spectral"]
        else:
            flat = restored.flatten(0, -4), true.flatten(0, -4)
            parts["gradient"] = gradient_distance(*flat)
            total = total + self.config.gradient * parts["gradient"]
            if self.perceptual is not None and self.config.perceptual:
                parts["perceptual"] = self.perceptual(*flat)
                total = total + self.config.perceptual * parts["perceptual"]
        parts["psnr"] = psnr(restored, true).mean()
        return Losses(total, {k: v.detach() for k, v in parts.items()})


class Prepare:
    """Batches of samples to `Values`, cut to one length at a place that is drawn."""

    def __init__(self, config: CodecConfig, codec: Autoencoder | PatchAutoencoder) -> None:
        self.config, self.codec = config, codec

    def __call__(self, batch: Batch, draws: Draws, device: torch.device | str = "cpu") -> tuple[Values, list[Any]]:
        """`(Values, [])`."""
        values = self.values(batch.samples, draws.uniform(len(batch.samples)).tolist()).to(device)
        sides = values.shape[2:] if self.config.kind == "sound" else values.shape[-2:]
        frames = self.codec.latent_frames(values.shape[1]) if values.ndim == 5 else 1
        return Values(values, frames * prod(side // self.codec.factor for side in sides)), []

    def values(self, samples: Sequence[Sample], where: Sequence[float]) -> Tensor:
        """What the samples show or sound like; `where` in [0, 1) says which part of each.

        Raises:
            ValueError: when a sample has nothing of the kind, or sound of another rate.
        """
        c = self.config
        if c.kind == "sound":
            length = -(-round(c.seconds * c.rate) // self.codec.factor) * self.codec.factor
            waves = [_window(_sound(s, c.rate), length, u, "constant") for s, u in zip(samples, where, strict=True)]
            return torch.from_numpy(np.stack(waves)).float()[:, None]
        frames = 1 if c.kind == "picture" else c.frames
        clips = [_window(_clip(s), frames, u, "edge") for s, u in zip(samples, where, strict=True)]
        values = to_values(clips)
        return values if c.shape.time_factor > 1 else values.flatten(0, 1)

    def first(self, source: Source, count: int = 1024) -> Tensor:
        """Values of the first `count` samples of a source."""
        return self._read(source, range(min(count, len(source))))

    def held_out(self, source: Source, count: int = 256) -> Tensor:
        """Values of `count` samples from all over a source, the middle of each."""
        return self._read(source, np.linspace(0, len(source) - 1, min(count, len(source))).astype(int).tolist())

    def _read(self, source: Source, indices: Sequence[int]) -> Tensor:
        samples = []
        for i in indices:
            try:
                samples.append(source[i])
            except DecodeError as error:
                log.warning("left out sample %d of %s: %s", i, source.name, error)
        return self.values(samples, [0.5] * len(samples))


def _sound(sample: Sample, rate: int) -> np.ndarray:
    if sample.sound is None or sample.sound_rate != rate:
        raise ValueError(f"sample {sample.id} has no sound at {rate} samples a second")
    return sample.sound


def _clip(sample: Sample) -> np.ndarray:
    if sample.clip is not None:
        return sample.clip
    if sample.picture is None:
        raise ValueError(f"sample {sample.id} has neither a picture nor a clip")
    return sample.picture[None]


def _window(array: np.ndarray, length: int, where: float, filling: Any) -> np.ndarray:
    """`length` of the first axis, beginning anywhere in what there is; filled up at the end if that is less."""
    if len(array) <= length:
        return np.pad(array, [(0, length - len(array))] + [(0, 0)] * (array.ndim - 1), filling)
    start = int(where * (len(array) - length + 1))
    return array[start : start + length]


# -------------------------------------------------------------------------------------------------------- the run


class Interleaved:
    """Several sources in turn, as one: sample i is of source `i mod k`; short ones come round more often."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = list(sources)
        self.name = "+".join(s.name for s in sources)

    def __len__(self) -> int:
        return len(self.sources) * max(len(s) for s in self.sources)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} samples")
        source = self.sources[index % len(self.sources)]
        return source[index // len(self.sources) % len(source)]


def open_sources(config: CodecConfig, split: str) -> Interleaved:
    """The sources of a run.

    Raises:
        PackMissing: when none can be used.
        ValueError: for an unknown name.
    """
    from selfflow.data.registry import SOURCES, available, open_named

    found, missing = available(config.sources, config.permissive_only)
    for name, reason in missing.items():
        log.warning("%s is left out: %s", name, reason)
    if not found:
        raise PackMissing(f"none of the sources {list(config.sources)} can be used: {missing}")
    opened = {}
    for name in dict.fromkeys(found):
        # Where single frames are wanted, few simulations have many.
        simulated = config.kind == "picture" and SOURCES[name].moving and name.startswith("tabletop-")
        few: dict[str, Any] = {"count": SIMULATED} if simulated else {}
        opened[name] = open_named(
            name, config.size, split, config.frames, permissive_only=config.permissive_only, **few
        )
    return Interleaved([opened[name] for name in found])


def train_codec(
    config: CodecConfig | str,
    directory: str | Path,
    steps: int | None = None,
    progress: bool = True,
    until: int | None = None,
    sources: tuple[Source, Source] | None = None,
) -> TrainState:
    """Train in `directory`, or go on where its last checkpoint stopped.

    Leaves there: `run.json`, `metrics.jsonl`, `checkpoints/`, the codec itself for `load_codec(directory)`, and at the
    end `figures.json`, what held-out samples lose.

    Args:
        config: or the name of a recipe in `CODEC_RECIPES`.
        steps: in place of the recipe's.
        until: stop with a checkpoint after this step, as if interrupted.
        sources: to train on and to hold out, in place of those the configuration names.

    Raises:
        ValueError: for an unknown recipe, or when the directory belongs to another configuration.
    """
    config, directory = _recipe(config), Path(directory)
    if steps is not None:
        config = replace(config, train=replace(config.train, steps=steps))
    c = config.train
    _same_run(config, directory)
    engine = Engine(c.device, c.precision, "ddp", c.threads)
    train, held_out = sources or (open_sources(config, "train"), open_sources(config, "test"))
    codec = config.build()
    perceptual = open_perceptual(engine.device) if config.kind != "sound" and config.perceptual else None
    prepare, objective = Prepare(config, codec), Reconstruction(codec, config, perceptual)
    if isinstance(codec, PatchAutoencoder) and latest(directory / "checkpoints") is None:
        codec.begin(prepare.first(train))
    if engine.is_main:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / RUN, {"codec": to_dict(config), "machine": engine.describe()})
    engine.barrier()
    loader = Loader(train, c.batch_size, c.seed, 0, engine.rank, engine.world_size)

    written: set[int] = set()

    def write(state: TrainState) -> None:
        codec.save(directory)
        if state.step == c.steps:
            write_json(directory / FIGURES, figures(codec, prepare.held_out(held_out)))
        written.add(state.step)

    def publish(state: TrainState) -> None:
        due = state.step == c.steps or state.step % c.save_every == 0 or state.step == until
        if due and engine.is_main:
            write(state)

    trainer = Trainer(
        objective, loader, prepare, directory, engine, config.optim, c.steps, c.accumulate, c.seed, c.save_every,
        [publish], progress, until,
    )  # fmt: skip
    try:
        state = trainer.run()
        # Stopped between two checkpoints, or killed last time between a checkpoint and what belongs to it.
        complete = state.step == c.steps and (directory / FIGURES).exists()
        if engine.is_main and state.step not in written and not complete:
            write(state)
        return state
    finally:
        engine.close()


def _recipe(config: CodecConfig | str) -> CodecConfig:
    if isinstance(config, CodecConfig):
        return config
    if config not in CODEC_RECIPES:
        raise ValueError(f"unknown codec recipe {config!r}; choose one of {', '.join(CODEC_RECIPES)}")
    return CODEC_RECIPES[config]()


def _same_run(config: CodecConfig, directory: Path) -> None:
    """Refuse to go on in a directory that was begun otherwise; length and machine may change."""
    if not (directory / RUN).exists():
        return
    found = json.loads((directory / RUN).read_text(encoding="utf-8"))
    if "codec" not in found:
        raise ValueError(f"{directory} holds a run of another kind, not a codec's; give another directory")
    free = {"steps", "accumulate", "save_every", "device", "precision", "threads"}

    def pinned(value: CodecConfig) -> dict[str, Any]:
        told = to_dict(value)
        return told | {"train": {k: v for k, v in told["train"].items() if k not in free}}

    before, now = pinned(from_dict(CodecConfig, found["codec"])), pinned(config)
    if different := [f"{key} was {before[key]!r}, is {now[key]!r}" for key in now if before[key] != now[key]]:
        raise ValueError(
            f"{directory} holds a codec of another configuration ({'; '.join(different)}); "
            "give another --out, or the same options to go on with it"
        )


def cli_train_codec(arguments: Sequence[str]) -> None:
    """`selfflow train codec-picture --out DIR [--steps N] …`; any field of the recipe may be overridden."""
    import tyro

    recipe = _recipe(arguments[0] if arguments else "")

    def command(
        out: Path, steps: int | None = None, until: int | None = None, quiet: bool = False, config: CodecConfig = recipe
    ) -> None:
        """Train a codec, or go on where DIR's last checkpoint stopped.

        Args:
            out: Directory of the run; holds checkpoints, metrics and the codec.
            steps: Optimiser steps (in place of the recipe's).
            until: Stop with a checkpoint after this step, as if interrupted.
            quiet: No progress bar.
            config: The recipe.
        """
        state = train_codec(config, out, steps, not quiet, until)
        if not state.engine.is_main:
            return
        print(f"{out}: step {state.step} of {state.steps}")
        if (out / FIGURES).exists():
            print((out / FIGURES).read_text(), end="")

    tyro.cli(command, args=list(arguments[1:]), prog=f"selfflow train {recipe.name}")
