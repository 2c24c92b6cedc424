"""Recipes: named functions that return the whole configuration of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from selfflow.config import (
    AudioConfig,
    Config,
    ControlConfig,
    DataConfig,
    Distillation,
    FewStepsConfig,
    NetworkConfig,
    ObjectiveConfig,
    PictureConfig,
    SamplingConfig,
    TextConfig,
    TrainConfig,
)
from selfflow.objectives.base import Practice
from selfflow.times import Density
from selfflow.train.optimizer import Optim


def nano() -> Config:
    """1.2 million parameters on 48² table scenes in 16 tokens: minutes on a laptop CPU, seconds in tests."""
    return Config(
        name="nano",
        # Things large enough to tell their kind in 48 pixels, and no more than two of them.
        data=DataConfig("tabletop", kinds=("ball", "box", "cup", "glass"), sizes=("medium", "large"), most=2),
        # Large enough that every word of the captions is one token: fewer tokens, and nothing to spell.
        text=TextConfig(vocabulary=640, max_tokens=24, captions=2000),
        picture=PictureConfig(size=48, patch=12),
        network=NetworkConfig(width=128, depth=4, heads=4),
        objective=ObjectiveConfig(ema_decay=0.995, density=Density("logit_normal", mean=0.8, std=0.8)),
        optim=Optim("muon", learning_rate=2.5e-3, betas=(0.9, 0.99), warmup=50, cooldown=0.4),
        train=TrainConfig(steps=2000, batch_size=32, save_every=500),
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


def micro_all() -> Config:
    """One network for every task: pictures, edits, clips, sounds, actions and worlds, from all sources there are.

    9 million parameters. Pictures and clips are of 64² pixels, a token is 8² pixels of one picture or of four frames:
    a picture has 64 tokens, a clip of 16 frames 256. R_M per modality is the paper's; times lean to noise as in
    `micro`, since few steps are trained.
    """
    base = micro()
    density = Density("logit_normal", mean=0.8, std=0.8)
    return replace(
        base,
        name="micro-all",
        data=DataConfig(
            mixture=(
                "tabletop-things:picture:5", "tabletop-still:picture:5", "tabletop-signs:picture:1",
                "tabletop-within:picture:1", "tabletop-near:picture:1", "tabletop-tones:picture:2", "emoji:picture:3",
                "hands:picture:0.2", "tabletop-tones-edit:edit:1.5", "tabletop-tones-reference:edit:1",
                "tabletop-edit:edit:7", "tabletop-words:edit:1", "tabletop-near-words:edit:1",
                "tabletop-reference:edit:5", "tabletop-alike:edit:1", "tabletop-spare:edit:1", "tabletop-many:edit:0.5",
                "tabletop-among:edit:1", "emoji-edits:edit:1.5", "emoji-styles:edit:0.4",
                "sprites-edit:edit:0.4", "sprites-view:edit:0.4",
                "tabletop-still:inpaint:0.5", "tabletop-still:outpaint:0.3", "emoji:inpaint:0.3",
                "tabletop-clip:clip:0.5", "tabletop-clip:clip+sound:0.2", "tabletop-clip:animate:0.5",
                "tabletop-clip:animate+sound:0.1", "tabletop-clip:continue:0.2", "tabletop-clip:dub:0.3",
                "tabletop-clip:visualise:0.1", "sprites-clip:clip:0.3", "sprites-clip:animate:0.3", "fruits:clip:0.1",
                "digits:sound:3", "digits:continue-sound:0.2", "sounds:sound:0.1",
                "tabletop-robot:act:2.5", "tabletop-recover:act:2.5", "tabletop-robot:imagine:0.6",
                "tabletop-robot:plan:0.2", "tabletop-robot:inverse:0.3",
                "pusht:act:1", "pusht:imagine:0.3", "pusht:inverse:0.1",
                "sprites-play:imagine:0.5", "fruits:imagine:0.1",
            ),
            workers=1,
        ),
        # Ten references are told in up to 80 tokens.
        text=TextConfig(vocabulary=2048, max_tokens=96, spelled=True, columns=True, looks=True),
        picture=PictureConfig(size=64, patch=8, frames=4),
        audio=AudioConfig(rate=16_000, hop=320, codec="mel"),
        control=ControlConfig(width=8),
        network=NetworkConfig(
            width=256, depth=8, heads=4, copying=True, matching=True, stencils=True, places=True, numbers=True
        ),
        objective=replace(
            base.objective,
            ema_decay=0.99,  # the average of a short run must forget where it began
            modalities={
                "visual": Practice(density, 0.25, draws=0),
                "clip": Practice(Density("logit_normal", mean=1.2, std=0.8, floor=0.05), 0.10),
                "audio": Practice(Density("logit_normal", mean=0.4, std=1.0), 0.50),
                # Little is generated and much is known: four draws of noise cost little more than one.
                "action": Practice(Density("uniform"), 0.25, weight=0.5, draws=4),
            },
        ),
        train=TrainConfig(steps=20_000, batch_size=32, accumulate=4, save_every=250, balance=True),
        sampling=SamplingConfig(steps=25, guidance=3.0, guidance_interval=(0.2, 1.0), shifts={"picture": 4.0}),
    )  # fmt: skip


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
    return Config(
        name="base",
        text=TextConfig(pretrained="Qwen/Qwen3-0.6B", max_tokens=128, layers=(9, 18, 27)),
        picture=PictureConfig(size=256, patch=16),
        # A SwiGLU of ratio 4 reaches the published 625M; FLUX.2's ratio of 3 would make 513M.
        network=NetworkConfig(width=1152, depth=21, heads=16, mlp_ratio=4.0, double=7, parallel=True),
        objective=ObjectiveConfig(density=Density("uniform"), mask_ratio=0.25),  # these and the shift as published
        optim=Optim(learning_rate=1e-4, warmup=1000),
        train=TrainConfig(steps=1_000_000, batch_size=256, save_every=5000, compile=True, checkpointing=True),
        sampling=SamplingConfig(shift=1.78),
    )


def flow_matching(config: Config) -> Config:
    """The same run without Self-Flow: what to compare with."""
    return replace(config, objective=replace(config.objective, kind="flow_matching"))


def few_steps(config: Config, steps: int = 1000, method: Distillation = "midpoint") -> Config:
    """The run that distils a model of the configuration `config` to 1, 2, 4 or 8 steps: same data, guidance baked in.

    Each task is led as the model's own sampling leads it.
    Nothing is said at mid depth any more: a second velocity there has no part in distillation.
    """
    o, s = config.objective, config.sampling
    few = FewStepsConfig(method, s.guidance, 1.0, s.guidance_interval, s.otherwise, dual=o.kind == "self_flow")
    return replace(
        config,
        name=f"{config.name}-few",
        network=replace(config.network, target_time=True, mid=0),
        objective=replace(
            o, kind="flow_map", ema_decay=0.99, ema_warmup=True, mid_weight=0.0, sync_weight=0.0, clean_weight=0.0,
            few_steps=few,
        ),
        optim=replace(config.optim, learning_rate=config.optim.learning_rate / 10, warmup=20, cooldown=0.25),
        train=replace(config.train, steps=steps, save_every=min(config.train.save_every, max(1, steps // 4))),
        sampling=replace(s, steps=4, guidance=1.0, internal_guidance=1.0, tasks={}, shifts={}),
    )  # fmt: skip


def rewarded(config: Config, steps: int = 200) -> Config:
    """The run in which a model of the configuration `config` learns from judged draws of its own: same data.

    What nobody can judge, or is no picture, is trained on as before by flow matching, and so not forgotten. Guidance is
    that of the model's own sampling; its average forgets within ten steps, so that draws are of the model as it stands.

    Raises:
        ValueError: for a model distilled to few steps, whose draws are jumps.
    """
    o = config.objective
    if o.kind == "flow_map":
        raise ValueError(
            f"{config.name} is distilled to few steps; reward the model it was distilled from, and distil that again"
        )
    return replace(
        config,
        data=replace(config.data, processes=0, workers=0, echo=1),
        objective=replace(
            o, kind="negative_aware", ema_decay=0.9, ema_warmup=False, sync_weight=0.0, clean_weight=0.0,
            reward=replace(o.reward, guidance=config.sampling.guidance),
        ),
        optim=replace(config.optim, learning_rate=config.optim.learning_rate / 2, warmup=10, cooldown=0.4),
        train=replace(config.train, steps=steps, save_every=min(config.train.save_every, max(1, steps // 4))),
    )  # fmt: skip


RECIPES: dict[str, Callable[[], Config]] = {
    "nano": nano,
    "micro": micro,
    "micro-all": micro_all,
    "small": small,
    "base": base,
}
