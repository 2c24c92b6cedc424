"""Recipes: named functions that return the whole configuration of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from selfflow.config import (
    Config,
    DataConfig,
    NetworkConfig,
    ObjectiveConfig,
    PictureConfig,
    SamplingConfig,
    TextConfig,
    TrainConfig,
)
from selfflow.times import Density
from selfflow.train.optimizer import Optim

# p(t), R_M and sampling shift per modality, as published for the mixed model (2603.06507, appendix).
SELF_FLOW_PUBLISHED = {
    "imagenet": (Density("uniform"), 0.25, 1.0),
    "text_to_image": (Density("uniform"), 0.25, 1.78),
    "text_to_video": (Density("logit_normal", shift=2.95, floor=0.05), 0.10, 15.0),
    "text_to_audio": (Density("logit_normal", shift=1.0), 0.50, 6.93),
    "mixed_image": (Density("logit_normal", shift=4.63), 0.25, 6.93),
}


def nano() -> Config:
    """1.2 million parameters on 48² table scenes in 16 tokens: minutes on a laptop CPU, seconds in tests."""
    return Config(
        name="nano",
        data=DataConfig("tabletop", kinds=("ball", "box", "cup", "glass")),
        # Large enough that every word of the captions is one token: fewer tokens, and nothing to spell.
        text=TextConfig(vocabulary=640, max_tokens=24),
        picture=PictureConfig(size=48, patch=12),
        network=NetworkConfig(width=128, depth=4, heads=4),
        objective=ObjectiveConfig(ema_decay=0.995, density=Density("logit_normal", mean=0.8, std=0.8)),
        optim=Optim("muon", learning_rate=2.5e-3, betas=(0.9, 0.99), warmup=50, cooldown=0.4),
        train=TrainConfig(steps=1400, batch_size=32, save_every=350),
        sampling=SamplingConfig(steps=25, guidance=2.0, guidance_interval=(0.3, 1.0)),
    )


def micro() -> Config:
    """12 million parameters on 64² emoji in 64 tokens: hours on a CPU, minutes on a GPU."""
    return Config(
        name="micro",
        data=DataConfig("emoji"),
        text=TextConfig(vocabulary=2048, max_tokens=32),
        picture=PictureConfig(size=64, patch=8),
        network=NetworkConfig(width=320, depth=8, heads=5),
        objective=ObjectiveConfig(ema_decay=0.998, density=Density("logit_normal", mean=0.8, std=0.8)),
        # A constant rate: the average of the weights takes the place of a cooldown, so any step is a fair place to
        # compare two runs, and a run can be prolonged.
        optim=Optim("muon", learning_rate=1.5e-3, betas=(0.9, 0.99), muon_scale=3, warmup=50),
        train=TrainConfig(steps=20_000, batch_size=32, save_every=250),
    )


def small() -> Config:
    """110 million parameters in 256 tokens of 64² pictures, parallel blocks: a GPU in hours."""
    base = micro()
    return replace(
        base,
        name="small",
        text=TextConfig(vocabulary=8192, max_tokens=64),
        picture=PictureConfig(size=64, patch=4),
        network=NetworkConfig(width=768, depth=12, heads=12, double=2, parallel=True),
        objective=replace(base.objective, ema_decay=0.9999),
        optim=Optim(learning_rate=3e-4, warmup=1000),
        train=TrainConfig(steps=200_000, batch_size=256, save_every=2000, compile=True),
    )


def base() -> Config:
    """The shape of the paper's text-to-image model: FLUX.2-style, ≈ 625M parameters, 7 double + 14 single blocks."""
    density, mask_ratio, shift = SELF_FLOW_PUBLISHED["text_to_image"]
    return Config(
        name="base",
        text=TextConfig(pretrained="Qwen/Qwen3-0.6B", max_tokens=128, layers=(9, 18, 27)),
        picture=PictureConfig(size=256, patch=16),
        # A SwiGLU of ratio 4 reaches the published 625M; FLUX.2's ratio of 3 would make 513M.
        network=NetworkConfig(width=1152, depth=21, heads=16, mlp_ratio=4.0, double=7, parallel=True),
        objective=ObjectiveConfig(density=density, mask_ratio=mask_ratio),
        optim=Optim(learning_rate=1e-4, warmup=1000),
        train=TrainConfig(steps=1_000_000, batch_size=256, save_every=5000, compile=True, checkpointing=True),
        sampling=SamplingConfig(shift=shift),
    )


def flow_matching(config: Config) -> Config:
    """The same run without Self-Flow: what to compare with."""
    return replace(config, objective=replace(config.objective, kind="flow_matching"))


RECIPES: dict[str, Callable[[], Config]] = {"nano": nano, "micro": micro, "small": small, "base": base}
