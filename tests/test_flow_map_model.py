"""Flow maps of the real network: who is told where to jump, old weights, every task, distilling and sampling."""

import importlib
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import picture_tokens, small_network, text_tokens
from selfflow.cli import main
from selfflow.config import Config, from_dict, to_dict
from selfflow.modalities.streams import less_known
from selfflow.modalities.text import BytePairs
from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.objectives import FlowMap, Guided, OnPolicy, Progressive
from selfflow.objectives.base import Practice
from selfflow.objectives.flow_map import guided_velocity
from selfflow.pipeline import Pipeline
from selfflow.recipes import few_steps, micro_all
from selfflow.tasks import TASKS, named
from selfflow.times import Draws, Times
from selfflow.tokens import Tokens
from selfflow.train.arithmetic import add, change
from selfflow.train.history import carried, history_of, training
from selfflow.train.run import build_flow_map, teacher_of, train
from selfflow.train.trainer import read_metrics
from selfflow.weight_files import load_weights, write_weights
from test_joint import CHANNELS, some, streams

T, R = torch.tensor([0.9, 0.5, 0.3]), torch.tensor([0.2, 0.4, 0.0])


def draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def net():
    """A flow map of every modality with all weights random."""
    torch.manual_seed(0)
    modalities = {name: Modality(channels=c, prediction="data") for name, c in CHANNELS.items()}
    modalities |= {"text": Modality(vocabulary=50), "state": Modality(channels=3)}
    net = Transformer(TransformerConfig(modalities, width=64, depth=2, heads=4, target_time=True))
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape) * 0.1)
    return net.eval()


def test_old_weights_load_and_whatever_the_target_give_the_old_velocity(tmp_path):
    old, new = small_network().eval(), Transformer(replace(small_network().config, target_time=True)).eval()
    write_weights(old.state_dict(), tmp_path)
    with pytest.raises(ValueError, match=r"missing target\.inner\.bias"):
        load_weights(new, tmp_path)
    load_weights(new, tmp_path, new=("target.",))
    noisy, known = picture_tokens(), [text_tokens()]
    for t, target in ((T, R), (T, T), (T, None)):
        assert torch.equal(new(noisy, Times.shared(t, target), known)[0], old(noisy, t, known)[0])
    assert new.parameter_count - old.parameter_count == 256 * 64 + 64 * 64 + 2 * 64


def test_a_jump_of_no_length_is_the_velocity_whatever_was_learned(net):
    plain = Transformer(replace(net.config, target_time=False)).eval()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("target.")})
    noisy, known = some("visual", 6), [text_tokens()]
    dual = Times(torch.stack([T, R], dim=1), (torch.arange(6) % 2).expand(3, -1))
    for times in (Times.shared(T), dual):
        still = times.between(times.levels, times.levels)
        assert torch.equal(net(noisy, still, known)[0], plain(noisy, times, known)[0])
    jump = net(noisy, Times.shared(T, R), known)[0]
    assert (jump - plain(noisy, T, known)[0]).abs().max() > 1e-4
    with pytest.raises(ValueError, match="no flow map and cannot be told where to jump"):
        plain(noisy, Times.shared(T, R), known)


def test_what_is_known_is_never_told_the_target(net):
    known = [text_tokens(), some("visual", 6)]
    before = net.read(known)
    other = Transformer(net.config).eval()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        for p in other.target.parameters():
            p.add_(1.0)
    for a, b in zip(before.keys + before.values, (m := other.read(known)).keys + m.values, strict=True):
        assert torch.equal(a, b)
    noisy = some("visual", 7, seed=5)
    for target in (R, T):  # one memory serves every jump
        times = Times.shared(T, target)
        torch.testing.assert_close(net(noisy, times, before)[0], net(noisy, times, known)[0], rtol=1e-5, atol=1e-6)


def test_configurations_from_before_flow_maps_are_read_as_they_were():
    values = to_dict(micro_all())
    del values["network"]["target_time"], values["objective"]["few_steps"]
    assert from_dict(Config, values) == micro_all()


# -------------------------------------------------------------------------------------------------------- the objective


def test_even_rows_are_anchors_odd_ones_jump_and_micro_batches_draw_the_same(net):
    objective = FlowMap(net, steps=10, dual=True, narrow=0.2, widen=0.5)
    spans = some("visual", 9).spans

    def times(b, **where):
        return objective.times(b, 9, Draws(torch.Generator().manual_seed(1), **where), spans)

    whole = times(512)
    assert torch.equal(whole.targets[::2], whole.levels[::2])
    assert (whole.levels[::2, 0] != whole.levels[::2, 1]).all()
    t, r = whole.levels[1::2], whole.targets[1::2]
    assert torch.equal(t[:, 0], t[:, 1])
    assert (r < t).all()
    assert (r >= t * 0.8 - 1e-6).all()
    assert abs(float((t == 1).float().mean()) - 0.25) < 0.1
    part = times(7, first=3, total=512)
    for name in ("levels", "targets", "which"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[3:10])
    objective.load_state_dict(objective.state_dict() | {"steps_done": torch.tensor(5)})
    assert objective.step == 5
    assert objective.longest == 1
    assert times(512).targets[1::2].min() == 0


def test_the_anchors_target_is_what_a_pipeline_leads_to_token_by_token(net):
    task, given = named("edit"), streams()
    empty = Tokens(torch.ones(3, 1, dtype=torch.long), torch.zeros(3, 1, 4), "text")
    generated, known = task.split(given)
    less, scales = less_known(task, given, None, empty, 3.0, 1.5)
    assert [len(k) for k in less] == [3, 1]
    assert scales == [3.0, 1.5]
    assert less_known(task, given, None, empty, 1.0)[0] == []
    x_t = generated.data
    which = (torch.arange(len(generated)) % 2).expand(3, -1)
    dual = Times(torch.tensor([[0.9, 0.1]]).expand(3, -1), which)
    said = guided_velocity(net, [Guided(known, less, scales)], (0.2, 1.0))(generated, x_t, dual)
    c, t, n = (net(generated, dual, k)[0] for k in (known, *less))
    inside = (dual.per_token >= 0.2)[..., None]
    torch.testing.assert_close(said, torch.where(inside, n + 3.0 * (c - t) + 1.5 * (t - n), c), rtol=1e-4, atol=1e-5)
    pipe = Pipeline.__new__(Pipeline)
    pipe.net, pipe.dtype, pipe.config = net, torch.float32, micro_all()
    field = pipe.field(generated, [net.read(k) for k in (known, *less)], scales, (0.0, 1.0))
    ours = guided_velocity(net, [Guided(known, less, scales)], (0.0, 1.0))(
        generated, x_t, Times.shared(T[:1].expand(3))
    )
    torch.testing.assert_close(field(x_t, T[0]), ours, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [partial(FlowMap, dual=True), OnPolicy, Progressive])
@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_distilled_by_the_one_objective(name, kind, net):
    task, given = named(name), streams()
    objective = kind(net, steps=10, modalities={"audio": Practice(mask_ratio=0.5)})
    generated, known = task.split(given, task.draw(given, draws()))
    empty = Tokens(torch.ones(3, 1, dtype=torch.long), torch.zeros(3, 1, 4), "text")
    less, scales = less_known(task, given, task.draw(given, draws()), empty, 3.0)
    losses = objective(generated, Guided(known, less, scales), draws=draws())
    losses.total.backward()
    assert losses.total.isfinite()
    assert losses.parts["loss_jump"] > 0
    assert net.embed["text"].weight.grad.abs().sum() > 0
    assert net.target.outer.weight.grad.abs().sum() > 0
    assert all(p.grad is None for other in (objective.ema, objective.teacher) for p in other.parameters())
    net.zero_grad()


def test_padding_counts_for_nothing_and_memory_is_read_once(net, monkeypatch):
    objective, values = FlowMap(net, steps=10), []
    data = some("visual", 7)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[1, 4:] = False
    for content in (data.data, torch.where(mask[..., None], data.data, 50.0)):
        values.append(objective(Tokens(content, data.positions, "visual", mask), [text_tokens()], draws=draws()).total)
    torch.testing.assert_close(*values)
    reads, read = [], Transformer.read
    monkeypatch.setattr(Transformer, "read", lambda self, *a, **k: reads.append(self) or read(self, *a, **k))
    objective(data, [text_tokens()], draws=draws())
    assert {id(r): reads.count(r) for r in reads} == dict.fromkeys(
        map(id, (objective.net, objective.ema, objective.teacher)), 1
    )


def test_what_cannot_be_distilled_is_named(net):
    with pytest.raises(ValueError, match="told where to jump"):
        FlowMap(torch.nn.Linear(1, 1), 10)
    with pytest.raises(ValueError, match="widen 0"):
        FlowMap(net, 10, widen=0.0)
    with pytest.raises(ValueError, match=r"ladder \(16, 4\) must halve"):
        Progressive(net, 10, (16, 4))


# ---------------------------------------------------------------------------------------------------- from end to end


def tiny():
    """A model of every modality that was trained for one step, on pictures and edits."""
    config = micro_all()
    return replace(
        config,
        data=replace(config.data, mixture=("tabletop-still:picture", "tabletop-edit:edit"), frames=4, workers=0),
        text=replace(config.text, vocabulary=270, captions=10),
        picture=replace(config.picture, size=32, patch=16),
        network=replace(config.network, width=32, depth=2, heads=2),
        train=replace(config.train, steps=1, batch_size=4, accumulate=2, save_every=2, device="cpu", threads=1),
    )


@pytest.fixture(scope="module")
def directories(tmp_path_factory):
    """A teacher, and what was distilled from it in two goes."""
    base = tmp_path_factory.mktemp("few")
    train(tiny(), base / "teacher", progress=False)
    command = ["distill", "--model", str(base / "teacher"), "--out", str(base / "few"), "--steps", "3", "--quiet"]
    main([*command, "--until", "1", "--config.optim.learning-rate", "0.001"])
    main([*command, "--config.optim.learning-rate", "0.001"])
    return base / "teacher", base / "few"


def test_distilling_resumes_exactly_and_learns_from_the_teacher_alone(directories, tmp_path):
    teacher, few = directories
    config, name = teacher_of(teacher)
    recipe = few_steps(config, 3)
    recipe = replace(
        recipe,
        optim=replace(recipe.optim, learning_rate=0.001),
        objective=replace(recipe.objective, few_steps=replace(recipe.objective.few_steps, teacher=name)),
    )
    state = train(recipe, tmp_path / "whole", progress=False, init=teacher)
    log = [[(m["step"], m["loss"]) for m in read_metrics(d / "metrics.jsonl")] for d in (few, tmp_path / "whole")]
    assert log[0] == log[1]
    assert {"loss_anchor", "loss_jump", "velocity_visual"} <= set().union(*read_metrics(few / "metrics.jsonl"))
    given = Pipeline.from_pretrained(teacher).net.state_dict()
    held = state.objective.teacher.state_dict()
    assert all(torch.equal(v, held[k]) for k, v in given.items())
    assert any(not torch.equal(v, state.objective.net.state_dict()[k]) for k, v in given.items())
    assert f"Distilled from {name} (midpoint)" in (few / "README.md").read_text()
    with pytest.raises(ValueError, match="say which with --init"):
        train(recipe, tmp_path / "none", progress=False)
    assert not (tmp_path / "none").exists()


def test_a_student_begins_with_what_an_earlier_distillation_changed(directories, tmp_path):
    """Of the very model that was distilled it is, before its first step, what that became; the teacher stays."""
    teacher, few = directories
    recipe = few_steps(teacher_of(teacher)[0], 1)
    recipe = replace(recipe, optim=replace(recipe.optim, learning_rate=1e-12))
    state = train(recipe, tmp_path / "like", progress=False, init=teacher, like=(teacher, few))
    became, given = (Pipeline.from_pretrained(d).net.state_dict() for d in (few, teacher))
    for student in (state.objective.net, state.objective.ema):
        assert all(torch.allclose(v, became[k], atol=1e-5) for k, v in student.state_dict().items())
    assert all(torch.equal(v, state.objective.teacher.state_dict()[k]) for k, v in given.items())
    (tmp_path / "other").mkdir()
    write_weights({k: v[:1].clone() for k, v in given.items()}, tmp_path / "other")
    with pytest.raises(ValueError, match="was not made of"):
        change(teacher, teacher, tmp_path / "other")
    text = BytePairs.load(teacher)
    text.spell()  # the same words, told otherwise
    text.save(tmp_path / "other")
    with pytest.raises(ValueError, match="was not made of"):
        change(teacher, teacher, tmp_path / "other")
    BytePairs.train(["another ball"], 280).save(tmp_path / "other")
    with pytest.raises(ValueError, match="another vocabulary"):
        change(teacher, teacher, tmp_path / "other")
    with pytest.raises(ValueError, match="no tensor has the same name"):
        add(torch.nn.Linear(2, 2), change(teacher, teacher, few))
    command = ["distill", "--model", str(teacher), "--out", str(tmp_path / "again"), "--steps", "1", "--quiet"]
    main([*command, "--like", str(teacher), str(few)])
    assert (tmp_path / "again" / "model.safetensors").exists()
    # The card tells of both distillations, of the earlier one as such; a third would tell of all three.
    own, earlier = (history_of(d) for d in (tmp_path / "again", few))
    assert own == [*earlier, {**training(few, teacher_of(few)[0])[-1], "carried": True}]
    card = (tmp_path / "again" / "README.md").read_text()
    assert "| distillation to few steps, carried over |" in card
    assert "added to the weights here" in card
    assert len(carried(teacher, tmp_path / "again")) == 2


def test_a_flow_map_samples_by_itself_in_any_number_of_steps_and_for_every_task(directories):
    teacher, few = (Pipeline.from_pretrained(d) for d in directories)
    assert (few.config.sampling.steps, few.config.sampling.guidance) == (4, 1.0)

    def draw(pipe, **options):
        generator = torch.Generator().manual_seed(0)
        return pipe("a ball", output_type="pt", generator=generator, **options).images

    calls, forward = [], few.net.forward
    few.net.forward = lambda noisy, t, *a, **k: calls.append((t.levels[0, 0], t.targets)) or forward(noisy, t, *a, **k)
    for steps in (1, 2, 4, 8):
        calls.clear()
        draw(few, num_inference_steps=steps)
        assert len(calls) == steps
        assert calls[-1][1].tolist() == [[0.0]]
    calls.clear()
    few.net.forward = forward
    assert torch.equal(draw(few), draw(few, sampler="flow_map", num_inference_steps=4, guidance_scale=1.0))
    assert draw(few, sampler="heun", num_inference_steps=2).isfinite().all()
    picture = np.zeros((1, 32, 32, 3), np.uint8)
    assert few.edit(picture, ["turn it red"]).shape == (1, 32, 32, 3)
    clips, sounds = few.clip_and_sound(["a ball falls"], 4, 20, 16_000, steps=1)
    assert clips.shape == (1, 4, 32, 32, 3)
    assert sounds.shape == (1, 3200)
    with pytest.raises(ValueError, match="this model is no flow map"):
        draw(teacher, sampler="flow_map")
    with pytest.raises(ValueError, match="no flow map"):
        teacher.edit(picture, ["turn it red"], sampler="flow_map")


def test_what_a_teacher_says_at_mid_depth_is_left_out(tmp_path):
    config = tiny()
    config = replace(
        config,
        network=replace(config.network, mid=1),
        objective=replace(config.objective, mid_weight=0.5),
        sampling=replace(config.sampling, internal_guidance=1.5),
    )
    train(config, tmp_path / "teacher", progress=False)
    recipe = few_steps(teacher_of(tmp_path / "teacher")[0], 1)
    state = train(recipe, tmp_path / "few", progress=False, init=tmp_path / "teacher")
    given = Pipeline.from_pretrained(tmp_path / "teacher").net.state_dict()
    assert any(k.startswith("mid_") for k in given)
    held = state.objective.teacher.state_dict()
    assert {k for k in given.keys() - held.keys() if not k.startswith("mid_")} == set()
    assert all(torch.equal(v, held[k]) for k, v in given.items() if k in held)
    few = Pipeline.from_pretrained(tmp_path / "few")
    assert (few.config.network.mid, few.config.sampling.internal_guidance) == (0, 1.0)
    assert few("a ball", output_type="pt", num_inference_steps=1).images.isfinite().all()


@pytest.mark.parametrize(
    ("method", "part", "option"),
    [
        ("midpoint", "network", {"mid": 1}),
        ("midpoint", "objective", {"clean_weight": 1.0}),
        ("midpoint", "few_steps", {"ladder": (4, 2)}),
        ("midpoint", "few_steps", {"finest": 4}),
        ("on-policy", "few_steps", {"ends": 0.5}),
        ("progressive", "few_steps", {"widen": 0.7}),
    ],
)
def test_options_without_use_are_refused(method, part, option):
    config = few_steps(micro_all(), 4, method)
    o = config.objective
    if part == "few_steps":
        config = replace(config, objective=replace(o, few_steps=replace(o.few_steps, **option)))
    else:
        config = replace(config, **{part: replace(getattr(config, part), **option)})
    with pytest.raises(
        ValueError, match=rf"{part}\.{next(iter(option))}: distillation by '{method}' has no use for it"
    ):
        build_flow_map(config, small_network(target_time=True))


def test_an_objective_takes_no_option_that_it_ignores():
    net = small_network(target_time=True, mid=2)
    for kind, option in (
        (FlowMap, "mid_weight"),
        (FlowMap, "auxiliary"),
        (Progressive, "density"),
        (Progressive, "ends"),
    ):
        with pytest.raises(TypeError, match=option):
            kind(net, 4, **{option: None})


@pytest.mark.parametrize(("method", "count"), [("progressive", "4"), ("on-policy", "1, 2, 4 or 8")])
def test_the_method_of_distillation_is_an_option_and_a_missing_model_is_named(
    directories, tmp_path, capsys, method, count
):
    command = ["distill", "--out", str(tmp_path), "--steps", "1", "--quiet", "--method", method, "--model"]
    main([*command, str(directories[0])])
    assert f"({method}). It samples in {count} steps" in (tmp_path / "README.md").read_text()
    with pytest.raises(SystemExit):
        main([*command, str(tmp_path / "nowhere")])
    assert "is no model directory" in capsys.readouterr().err


def test_ways_to_distil_are_compared_pair_by_pair_and_go_on(directories, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    benchmark, (teacher, few) = importlib.import_module("distilling"), directories
    arguments = ["--model", str(teacher), "--like", str(teacher), str(few), "--arms", "on-policy:1", "midpoint:1"]
    arguments += ["--samples", "2", "--count", "8", "--batch", "2", "--accumulate", "1", "--passes", "1"]
    arguments += ["--out", str(tmp_path), "--json", str(tmp_path / "told.json"), "--seeds"]
    benchmark.main([*arguments, "2"])
    parts = json.loads((tmp_path / "parts.json").read_text())["parts"]
    summary = json.loads((tmp_path / "told.json").read_text())["summary"]
    assert list(summary) == ["model", "start", "on-policy:1", "midpoint:1"]
    own, first = (
        [parts[f"{arm}:1, {seed}"]["found"]["1"]["facts"] for seed in (0, 1)] for arm in ("midpoint", "on-policy")
    )
    assert summary["midpoint:1"]["1"]["facts"]["values"] == [sum(values) / 2 for values in own]
    differences = [np.subtract(a, b).mean() for a, b in zip(own, first, strict=True)]
    assert np.allclose(summary["midpoint:1"]["less"]["1"]["facts"]["values"], differences)
    assert set(summary["on-policy:1"]["less"]["1"]["right"]["values"]) == {0.0}
    assert "| model, its own steps |" in capsys.readouterr().out
    kept = (tmp_path / "parts.json").stat().st_mtime_ns
    benchmark.main([*arguments, "1"])  # nothing is left to do
    assert (tmp_path / "parts.json").stat().st_mtime_ns == kept
    with pytest.raises(SystemExit, match="other options"):
        benchmark.main([*arguments, "1", "--finest", "3"])
    with pytest.raises(SystemExit, match="'euler:4' is none"):
        benchmark.main([*arguments, "1", "--arms", "euler:4"])


def test_the_benchmark_compares_both_on_the_same_seeds(directories, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    benchmark, (teacher, few) = importlib.import_module("few_steps"), directories
    arguments = ["--teacher", str(teacher), "--few", str(few), "--samples", "2", "--steps", "1", "2", "--edits"]
    benchmark.main([*arguments, "--teacher-steps", "3", "--json", str(tmp_path / "found.json")])
    assert "few        2 steps" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["teacher"].startswith("micro-all (")
    for task in ("captions", "edits"):
        assert [row["steps"] for row in found[task]["teacher"]] == [3, 1, 2]
        assert [row["steps"] for row in found[task]["few"]] == [1, 2]
        assert found[task]["teacher"][0]["error"] == 0
