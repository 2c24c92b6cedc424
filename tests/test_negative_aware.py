"""Learning from judged draws: the loss against the paper, odds, who is drawn and judged, and the command."""

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from conftest import picture_tokens, shaken_pipeline, small_network, text_tokens
from selfflow import flow, sample
from selfflow.cli import main
from selfflow.config import RewardConfig, to_dict
from selfflow.data.judging import Judging
from selfflow.data.loader import Batch
from selfflow.data.mixture import Ingredient
from selfflow.data.scenes import TabletopScenes
from selfflow.data.tabletop_tasks import TabletopTask
from selfflow.modalities.text import BytePairs
from selfflow.objectives import FlowMatching, Judged, NegativeAware
from selfflow.pipeline import Pipeline
from selfflow.recipes import few_steps, nano, rewarded
from selfflow.tasks import named
from selfflow.times import Draws, Times, schedule
from selfflow.train.judged import PrepareJudged, odds_of
from selfflow.train.trainer import read_metrics

LEVELS = torch.tensor([0.2, 0.5, 0.9])


def moved(strength=1.0):
    """An objective whose student has gone on from its average, data, noise and times."""
    objective = NegativeAware(small_network(), strength)
    with torch.no_grad():
        for p in objective.net.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    data = picture_tokens()
    noise = torch.randn(data.data.shape, generator=torch.Generator().manual_seed(3))
    return objective, data, noise, Times.shared(LEVELS)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_loss_is_the_papers_with_errors_of_clean_data_over_their_size(strength):
    objective, data, noise, times = moved(strength)
    odds = torch.tensor([0.9, 0.25, 0.5])
    found = objective.losses(data, data.data, noise, times, (Judged([text_tokens()], odds),))
    x_t = data.with_data(flow.interpolate(data.data, noise, LEVELS))
    v, old = (net(x_t, LEVELS, [text_tokens()])[0] for net in (objective.net, objective.ema))
    t, truth = LEVELS[:, None, None], noise - data.data
    good, bad = (1 - strength) * old + strength * v, (1 + strength) * old - strength * v
    size = (t * (old - truth)).abs().mean(dim=(1, 2))
    error = [(t * (guess - truth)).square().mean(dim=(1, 2)) / size / strength for guess in (good, bad)]
    torch.testing.assert_close(found.total, (odds * error[0] + (1 - odds) * error[1]).mean())
    torch.testing.assert_close(found.parts["moved"], (t * (v - old)).square().mean())


def test_draws_without_verdict_hold_the_network_where_it_was():
    objective, data, noise, times = moved()
    objective.net.load_state_dict(objective.ema.state_dict())

    def gradient(odds):
        objective.zero_grad()
        judged = Judged([text_tokens()], torch.full((3,), odds))
        objective.losses(data, data.data, noise, times, (judged,)).total.backward()
        return torch.cat([p.grad.flatten() for p in objective.net.parameters() if p.grad is not None])

    good, none, bad = (gradient(odds) for odds in (1.0, 0.5, 0.0))
    assert none.abs().max() < 1e-6 < 1e-3 < good.abs().max()
    torch.testing.assert_close(bad, -good)  # what a good draw draws nearer, a bad one pushes away


def test_what_nobody_judged_is_flow_matching():
    objective, data, noise, times = moved()
    context = ([text_tokens()],)
    plain = FlowMatching(objective.net).losses(data, data.data, noise, times, context)
    assert torch.equal(objective.losses(data, data.data, noise, times, context).total, plain.total)
    assert not objective.recordable
    with pytest.raises(ValueError, match=r"strength 1\.5 of rewards lies in \(0, 1\]"):
        NegativeAware(small_network(), 1.5)


class Velocity(nn.Module):
    """A small velocity field of single numbers."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, x, t, *context, taps=()):
        return self.layers(torch.cat([x, t[..., None].expand_as(x)], dim=2)), []


def test_two_modes_of_which_one_is_rewarded():
    torch.manual_seed(0)
    net = Velocity()
    data = torch.where(torch.rand(4096, 1, 1) < 0.5, -1.0, 1.0) + 0.1 * torch.randn(4096, 1, 1)

    def train(objective, rate, steps, batch):
        optimizer = torch.optim.Adam(objective.net.parameters(), rate)
        for step in range(steps):
            values, context = batch(step)
            optimizer.zero_grad()
            objective(values, *context, draws=Draws(torch.Generator().manual_seed(step))).total.backward()
            optimizer.step()
            objective.after_step()

    def drawn(net, count, seed=7):
        noise = torch.randn(count, 1, 1, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            return sample.euler(lambda x, t: net(x, t.expand(len(x), 1))[0], noise, schedule(12))

    train(FlowMatching(net, ema_decay=0.9), 3e-3, 500, lambda step: (data[torch.randint(4096, (256,))], ()))
    before = (drawn(net, 1000) > 0).float().mean()
    assert 0.4 < before < 0.6
    objective = NegativeAware(net, 0.3, ema_decay=0.9)

    def batch(step):
        values = drawn(objective.ema, 256, 100 + step)
        return values, (Judged([], odds_of((values > 0).float().view(1, -1)).view(-1)),)

    train(objective, 2e-3, 150, batch)
    after = drawn(objective.ema, 1000)
    assert (after > 0).float().mean() > 0.9
    assert abs(float(after[after > 0].mean()) - 1) < 0.2  # still the mode, not beyond it


def test_odds_are_a_half_on_the_mean_of_a_sample_and_cut_at_two_deviations():
    rewards = torch.tensor([[0.0, 0.5, 1.0], [0.2, 0.2, 0.2]])
    deviation = (0.5 / 6) ** 0.5  # of six rewards, about their samples' means
    step = 0.5 / (4 * deviation)
    torch.testing.assert_close(odds_of(rewards), torch.tensor([[0.5 - step, 0.5, 0.5 + step], [0.5] * 3]))
    assert odds_of(torch.tensor([[0.0] * 9 + [1.0]])).max() == 1
    assert odds_of(torch.full((2, 3), 0.7)).unique().tolist() == [0.5]


@pytest.fixture(scope="module")
def model():
    """A model of random weights, and the run that rewards it, of edits and stills of 24 pixels."""
    config = replace(
        nano(),
        picture=replace(nano().picture, size=24, patch=12),
        network=replace(nano().network, width=32, depth=2, heads=2),
    )
    parts = [(TabletopTask(task, 8, size=24), Ingredient(f"tabletop-{task}", name)) for task, name in JOBS]
    text = BytePairs.train((t for source, _ in parts for t in source.captions()), 300, 64)
    return shaken_pipeline(config, text), parts


JOBS = (("still", "picture"), ("edit", "edit"), ("reference", "edit"))


def batch_of(parts, number, count=2):
    source, part = parts[number]
    return Batch([source[i] for i in range(count)], task=part.task, source=source.name)


@pytest.mark.parametrize("number", range(3))
def test_every_sample_is_drawn_several_times_judged_and_joined_by_its_truth(model, number, monkeypatch):
    pipe, parts = model
    judged = []
    scores = iter([0.25, 1.0, 0.5, 0.5, 0.5, 0.5])

    def judge(self, asked, picture):
        judged.append((asked.id, picture))
        return type("Score", (), {"value": next(scores)})()

    monkeypatch.setattr(TabletopTask, "judge", judge)
    prepare = PrepareJudged(
        pipe.modalities, pipe, parts, RewardConfig(draws=3, steps=2, guidance=2.0, noises=2, truth=True)
    )
    batch = batch_of(parts, number)
    generated, context = prepare(batch, Draws.at(0, 0))
    assert [name for name, _ in judged] == [batch.ids[0]] * 3 + [batch.ids[1]] * 3
    assert all(p.dtype == np.uint8 and p.shape == (24, 24, 3) for _, p in judged)
    rewards = torch.tensor([[0.125, 1.0, 0.25, 1.0], [0.25, 0.25, 0.25, 1.0]])
    assert torch.equal(context.odds, odds_of(rewards).flatten().repeat_interleave(2))
    name = parts[number][0].name.removeprefix("tabletop-")
    assert {k: round(float(v), 6) for k, v in context.told.items()} == {
        f"reward_{name}": round((0.125 + 1 + 4 * 0.25) / 6, 6), f"right_{name}": round(1 / 6, 6),
    }  # fmt: skip
    rows = generated.data.unflatten(0, (2, 4, 2))
    assert torch.equal(rows[:, :, 0], rows[:, :, 1])  # each twice, for two noises
    true = pipe.modalities.streams(batch.samples, named(batch.task))["visual"].data
    assert torch.equal(rows[:, 3, 0], true)
    shown = pipe.modalities.pictures(rows[0, :3, 0], 24, 24)
    for (_, picture), own in zip(judged, shown, strict=False):
        assert np.abs(picture - ((own.clamp(-1, 1) + 1) * 127.5).permute(1, 2, 0).numpy()).max() <= 0.51
    assert not generated.data.requires_grad
    assert not generated.data.is_inference()
    losses = NegativeAware(pipe.net)(generated, context, draws=Draws.at(0, 0).several(8))
    assert torch.isfinite(losses.total)


def test_a_share_of_the_batch_draws_what_the_whole_would(model):
    pipe, parts = model
    prepare = PrepareJudged(pipe.modalities, pipe, parts, RewardConfig(draws=2, steps=2, noises=1, truth=False))
    batch = batch_of(parts, 0, 4)
    whole, _ = prepare(batch, Draws.at(0, 0))
    half, _ = prepare(replace(batch, samples=batch.samples[2:]), Draws.at(0, 0, first=2, total=4))
    torch.testing.assert_close(half.data, whole.data[4:], atol=1e-5, rtol=1e-5)


def test_what_cannot_be_judged_is_prepared_as_ever_and_nothing_at_all_is_refused(model):
    pipe, parts = model
    prepare = PrepareJudged(pipe.modalities, pipe, parts, RewardConfig(draws=2, steps=1))
    inpaint = replace(batch_of(parts, 0), task="inpaint")
    _generated, known = prepare(inpaint, Draws.at(0, 0))
    assert isinstance(known, list)
    with pytest.raises(ValueError, match=r"no part of the data has pictures that can be judged \(there are none\)"):
        PrepareJudged(pipe.modalities, pipe, [(parts[0][0], Ingredient("tabletop-still", "inpaint"))], RewardConfig())
    with pytest.raises(ValueError, match=r"objective\.reward\.draws is 1; it must be 2 or more"):
        RewardConfig(draws=1, truth=False)


def test_sources_judge_the_truth_right_and_another_picture_wrong():
    for source in (TabletopScenes(4), *(TabletopTask(task, 4) for task, _ in JOBS)):
        one, other = source[0], source[1]
        assert source.judge(one, one.picture).value == 1, source.name
        assert source.judge(one, other.picture).value < 1
    with pytest.raises(ValueError, match="a robot is judged by its own checker"):
        TabletopTask("robot").judge(one, one.picture)


def test_other_processes_judge_alike():
    source = TabletopTask("still", 3)
    samples = [source[i] for i in range(3)]
    pictures = [samples[i].picture for i in (0, 2, 1)]
    here, there = Judging({source.name: source, "none": object()}), Judging({source.name: source}, 2)
    assert source.name in here
    assert "none" not in here
    try:
        found = there(source.name, samples, pictures)
        assert found == here(source.name, samples, pictures)
    finally:
        there.close()
    assert found[0] == 1 > max(found[1:])
    with pytest.raises(ValueError, match="-1 processes that judge"):
        Judging({}, -1)


def run(*arguments):
    main(["reward", *map(str, arguments), "--quiet"])


def test_a_model_is_rewarded_by_one_command_and_goes_on_where_it_stopped(tmp_path, capsys):
    config = replace(
        nano(),
        network=replace(nano().network, width=32, depth=2, heads=2),
        text=replace(nano().text, captions=50),
        train=replace(nano().train, batch_size=4, steps=1),
    )
    runner = importlib.import_module("selfflow.train.run")
    runner.train(config, tmp_path / "model", progress=False)
    small = ["--config.objective.reward.draws", "2", "--config.objective.reward.steps", "2"]
    small += ["--config.objective.reward.truth"]  # what it draws itself is all alike yet
    run("--model", tmp_path / "model", "--out", tmp_path / "run", "--steps", 3, "--until", 2, *small)
    run("--model", tmp_path / "model", "--out", tmp_path / "run", "--steps", 3, *small)
    run("--model", tmp_path / "model", "--out", tmp_path / "whole", "--steps", 3, *small)
    stopped, whole = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("run", "whole"))
    keys = ("loss", "loss_judged", "moved", "reward_tabletop", "right_tabletop")
    assert [[m[k] for k in keys] for m in stopped] == [[m[k] for k in keys] for m in whole]
    assert len(whole) == 3
    assert whole[0]["moved"] == 0
    assert whole[2]["moved"] > 0
    assert Pipeline.from_pretrained(tmp_path / "run")("a red ball", num_inference_steps=2).images
    assert "reward fine-tuning" in (tmp_path / "run" / "README.md").read_text()
    with pytest.raises(SystemExit):
        run("--model", tmp_path / "model", "--out", tmp_path / "more", "--config.data.processes", 1)
    assert "data.processes is 1" in capsys.readouterr().err
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "config.json").write_text(json.dumps(to_dict(few_steps(config))))
    with pytest.raises(SystemExit):
        run("--model", tmp_path / "few", "--out", tmp_path / "more")
    assert "reward the model it was distilled from" in capsys.readouterr().err


def test_the_recipe_keeps_what_the_model_is_and_leads_draws_as_its_sampling_does():
    config = rewarded(nano(), 40)
    assert config.objective.kind == "negative_aware"
    assert config.objective.reward.guidance == nano().sampling.guidance
    assert config.network == nano().network
    assert config.train.save_every == 10
    assert few_steps(config).objective.kind == "flow_map"  # a rewarded model may be distilled
