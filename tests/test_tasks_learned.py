"""Every task, learned by heart: eight samples, a tiny network, and the answer comes back from what is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from selfflow.config import AudioConfig, Config, ControlConfig, NetworkConfig, PictureConfig, TextConfig
from selfflow.data.loader import Batch
from selfflow.data.sample import Sample
from selfflow.modalities.action import Quantiles
from selfflow.modalities.text import BytePairs
from selfflow.objectives import FlowMatching
from selfflow.pipeline import Pipeline, build_modalities, build_network
from selfflow.tasks import TASKS, before, named
from selfflow.times import Density, Draws
from selfflow.train.optimizer import Optim, build_optimizers, set_rate
from selfflow.train.task import Prepare

WORDS = ["red", "green", "blue", "grey", "pink", "white", "black", "brown"]
MADE = {"visual": "clip", "audio": "sound", "action": "actions"}


def memorised(task):
    """Eight samples; all of one differ from all of another, and the word says which."""
    rng = np.random.default_rng(0)
    colour = rng.integers(30, 186, (8, 1, 1, 1, 3)) + 10 * np.arange(4)[:, None, None, None]
    samples = []
    for i, word in enumerate(WORDS):
        clip = np.broadcast_to(colour[i], (4, 8, 8, 3)).astype(np.uint8)
        sound = (0.2 * np.sin(np.arange(640) * (i + 1) / 12)).astype(np.float32)
        actions = np.outer(np.linspace(-1, 1, 4), rng.uniform(-1, 1, 2)).astype(np.float32)
        still = task in ("picture", "edit", "inpaint", "outpaint")
        sample = Sample(f"s/{i}", clip[0] if still else None, word, references=(clip[1], clip[2][:4])[: 1 + i % 2])
        if not still:
            sample = replace(sample, clip=clip, fps=10, sound=sound, sound_rate=16_000)
        samples.append(replace(sample, actions=actions, states=actions[:1] + 0.5, control_hz=10, body="toy"))
    return samples


def learned(task, samples, steps=110):
    config = Config(
        text=TextConfig(vocabulary=280, max_tokens=8), picture=PictureConfig(size=8, patch=4),
        network=NetworkConfig(width=48, depth=2, heads=3), audio=AudioConfig(16_000), control=ControlConfig(4),
    )  # fmt: skip
    rows = {what: np.concatenate([getattr(s, what) for s in samples]) for what in ("actions", "states")}
    text, quantiles = BytePairs.train(WORDS, 280, 8), Quantiles.fit({"toy": rows})
    torch.manual_seed(0)
    net = build_network(config, text)
    objective = FlowMatching(net, Density("logit_normal", mean=0.8), ema_decay=0.9)
    prepare = Prepare(build_modalities(config, text, quantiles), text_drop=0, reference_drop=0)
    optim = Optim("adamw", learning_rate=6e-3, weight_decay=0, warmup=5, cooldown=0.5)
    optimizers = build_optimizers(objective, optim)
    for step in range(steps):
        set_rate(optimizers, optim, optim.rate(step, steps))
        draws = Draws.at(0, step)
        data, known = prepare(Batch(samples * 3, task=task), draws)
        objective(data, known, draws=draws).total.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        objective.after_step()
    return Pipeline(objective.ema, text, config, quantiles=quantiles)


def blanked(sample, task):
    """The sample with zeros in place of what the task is to make."""
    changes = {}
    for entry in named(task).generated:
        stream, _, part = entry.partition(".")
        field = "picture" if stream == "visual" and sample.clip is None else MADE[stream]
        if not part:
            changes[field] = np.zeros_like(getattr(sample, field))
            if field == "clip" and "first" in named(task).known:
                changes[field][0] = sample.clip[0]
    return replace(sample, **changes)


def kept(task):
    if task in ("inpaint", "outpaint"):
        return {"visual": torch.tensor([True, False, False, True])}
    if task == "continue-sound":
        return {"audio": torch.tensor([True, False])}
    if task in ("continue", "imagine"):
        places = torch.arange(4).repeat_interleave(4)
        return {"visual": places < (2 if task == "continue" else 1)}
    return None


@pytest.mark.parametrize("task", TASKS)
def test_eight_samples_are_learned_and_what_is_known_is_not_touched(task):
    samples = memorised(task)
    # To tell what was done from what is seen, attention must pick the word out of twenty known tokens.
    pipe = learned(task, samples, steps=220 if task == "inverse" else 120)
    asked = [blanked(s, task) for s in samples]
    generator = torch.Generator().manual_seed(0)
    made = pipe.solve(task, asked, keep=kept(task), steps=12, guidance=1.0, generator=generator)
    for entry in named(task).generated:
        stream, _, part = entry.partition(".")
        field = "picture" if stream == "visual" and samples[0].clip is None else MADE[stream]
        true, got = (np.stack([getattr(s, field) for s in x]).astype(float) for x in (samples, made))
        assert np.square(got - true).mean() < 0.25 * np.square(true - true.mean(axis=0)).mean(), field
        if part and field in ("picture", "clip"):  # the patches that were known, to the level
            mask = kept(task)["visual"].numpy().reshape(-1, 2, 2).repeat(4, 1).repeat(4, 2)
            mask = np.broadcast_to(mask if field == "clip" else mask[0], true.shape[:-1])
            assert np.array_equal(true[mask], got[mask])
    for a, b in zip(asked, made, strict=True):
        assert (a.text, a.references) == (b.text, b.references)


def test_moments_of_a_clip_are_its_frames():
    clip = memorised("clip")[0].clip
    pipe = learned("clip", memorised("clip"), steps=1)
    tokens = pipe.modalities.streams(memorised("clip"), named("clip"))["visual"]
    assert before(tokens, 1).sum() == len(tokens) // len(clip)
