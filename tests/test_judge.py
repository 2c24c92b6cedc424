"""A judge: the network it begins as, what it learns, who is kept, and that it is refused to strangers."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import shaken_pipeline
from selfflow.cli import main
from selfflow.data.drawn import Drawn, Shard
from selfflow.data.mixture import Ingredient
from selfflow.data.sample import DecodeError, Sample
from selfflow.modalities.text import BytePairs
from selfflow.nn.judge import FILE, Judge, known_by, load_judge
from selfflow.objectives.verdicts import Found, Verdicts, missed
from selfflow.pipeline import Pipeline
from selfflow.recipes import nano
from selfflow.runtime import Runtime
from selfflow.times import Times
from selfflow.tokens import Tokens
from selfflow.train.judge import FIGURES, JudgeConfig, plan, train_judge

TEXT = BytePairs.train(["a red ball on a small blue box"] * 3, 280, 24)


def pipeline(seed=0):
    config = nano()
    network = replace(config.network, width=32, depth=2, heads=2)
    torch.manual_seed(seed)
    return shaken_pipeline(replace(config, picture=replace(config.picture, size=32, patch=8), network=network), TEXT)


@pytest.fixture(scope="module")
def pipe():
    return pipeline()


def shaken(judge):
    """A judge whose differences are something."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in judge.named_parameters():
        if name.endswith(".up"):
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return judge


def pictures(pipe, count=3):
    return pipe.patches.tokens(torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1)


# ------------------------------------------------------------------------------------------------------- the network


def test_a_judge_begins_as_the_network_and_settles_to_what_it_learned(pipe):
    judge, made, memory = Judge(pipe.net, 4), pictures(pipe), pipe.read(["a red ball"] * 3)
    clean = Times.shared(torch.zeros(3))
    with torch.no_grad():
        _, own = pipe.net(made, clean, memory, taps=judge.taps, stop=True)
        _, same = judge.net(made, clean, memory, taps=judge.taps, stop=True)
        assert all(torch.equal(a, b) for a, b in zip(own, same, strict=True))
        shaken(judge)
        _, other = judge.net(made, clean, memory, taps=judge.taps, stop=True)
        assert not torch.allclose(own[-1], other[-1], atol=1e-3)
        said = judge(made, memory)
        assert said.shape == (3, 2)
        assert torch.allclose(judge.settled()(made, memory), said, atol=1e-5)


def test_only_what_differs_is_learned_and_stored(pipe):
    judge = Judge(pipe.net, 4)
    wanted = {name for name, p in judge.named_parameters() if p.requires_grad}
    assert wanted == set(judge.learned())
    before = {k: v.clone() for k, v in pipe.net.state_dict().items()}
    with torch.no_grad():
        memory = pipe.read(["a ball"] * 3)
    judge(pictures(pipe), memory).sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in pipe.net.state_dict().items())
    assert all(p.grad is None for p in pipe.net.parameters())


def test_padding_is_not_looked_at(pipe):
    judge, features = Judge(pipe.net), [torch.randn(2, 5, 32), torch.randn(2, 5, 32)]
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    with torch.no_grad():
        said, alone = judge.verdict(features, mask), judge.verdict([f[1:, :3] for f in features])
    assert torch.allclose(said[1:], alone, atol=1e-5)


def test_ranks_and_taps_are_checked(pipe):
    with pytest.raises(ValueError, match="rank is 0"):
        Judge(pipe.net, 0)
    with pytest.raises(ValueError, match=r"taps are \(3,\)"):
        Judge(pipe.net, 4, [3])
    with pytest.raises(ValueError, match="choose some of picture, edit"):
        Judge(pipe.net, 4, tasks=["clip"])


# ------------------------------------------------------------------------------------------------------------- files


def test_a_model_keeps_its_judge_and_refuses_anothers(pipe, tmp_path):
    pipe = pipeline()
    pipe.judge = shaken(Judge(pipe.net, 4)).settled()
    pipe.save_pretrained(tmp_path / "model")
    found = Pipeline.from_pretrained(tmp_path / "model")
    made = pictures(pipe)
    with torch.inference_mode():
        said = [p.judged(made, p.read(["a red ball"] * 3)) for p in (pipe, found)]
    assert torch.allclose(*said, atol=0.05)  # what is stored is bfloat16
    found.save_pretrained(tmp_path / "again")  # whose differences are in the matrices for good
    kept, same = load_file(tmp_path / "model" / FILE), load_file(tmp_path / "again" / FILE)
    assert kept.keys() == same.keys()
    assert all(torch.equal(kept[name], same[name]) for name in kept)

    stranger = pipeline()
    with torch.no_grad():
        stranger.net.blocks[0].qkv.weight.mul_(1.1)
    assert known_by(stranger.net) != known_by(pipe.net)
    with pytest.raises(ValueError, match="judges what another network draws"):
        load_judge(tmp_path / "model", stranger.net)
    found.judge = None
    found.save_pretrained(tmp_path / "again")
    assert not (tmp_path / "again" / FILE).exists()


def test_a_network_is_known_whether_stored_in_half_the_bytes_or_not(pipe):
    rounded = pipeline()
    with torch.no_grad():
        for parameter in rounded.net.parameters():
            parameter.copy_(parameter.bfloat16().float())
    assert known_by(rounded.net) == known_by(pipe.net)


def test_damaged_judges_are_named(pipe, tmp_path):
    (tmp_path / FILE).write_bytes(b"no judge")
    with pytest.raises(ValueError, match="damaged or no judge"):
        load_judge(tmp_path, pipe.net)
    state = Judge(pipe.net, 4).learned()
    state.pop("heed.bias")
    save_file(state, tmp_path / FILE, {"rank": "4", "taps": "1,2", "of": known_by(pipe.net), "tasks": "edit"})
    with pytest.raises(ValueError, match=r"missing heed\.bias"):
        load_judge(tmp_path, pipe.net)
    assert load_judge(tmp_path / "nowhere", pipe.net) is None


# ----------------------------------------------------------------------------------------------------------- choosing


@pytest.mark.parametrize("kind", [Pipeline, Runtime])
def test_the_draw_is_kept_that_the_judge_prefers(pipe, kind):
    own = pipeline()
    own.judge = shaken(Judge(own.net, 4)).settled()
    user = own if kind is Pipeline else Runtime(own, torch.float32)
    asked = [
        Sample("0", np.zeros((32, 32, 3), np.uint8), "a red ball"),
        Sample("1", np.zeros((32, 32, 3), np.uint8), ""),
    ]
    options = {"steps": 2, "choices": 4}
    every = user.solve("picture", asked, generator=torch.Generator().manual_seed(3), every=True, **options)
    assert len(every) == 8
    assert not np.array_equal(every[0].picture, every[1].picture)
    kept = user.solve("picture", asked, generator=torch.Generator().manual_seed(3), **options)
    for row, sample in enumerate(asked):
        draws = [s.picture for s in every[4 * row : 4 * row + 4]]
        values = user.modalities.streams([replace(sample, picture=p) for p in draws], SimpleNamespace(
            streams=("visual",), optional=(), name="picture"))["visual"]  # fmt: skip
        with torch.inference_mode():
            said = own.judged(values, own.read([sample.text] * 4))[:, 0]
        assert np.array_equal(kept[row].picture, draws[int(said.argmax())])


def test_runtime_and_pipeline_judge_alike():
    own = pipeline()
    own.judge = shaken(Judge(own.net, 4)).settled()
    runtime, made, texts = Runtime(own, torch.float32), pictures(own), ["a red ball", "a small blue box", ""]
    with torch.inference_mode():
        said, same = own.judged(made, own.read(texts)), runtime.judged(made, runtime.read(texts))
    assert torch.allclose(said, same, atol=1e-4)


def test_a_judge_of_edits_is_not_asked_about_pictures(monkeypatch):
    own, asked = pipeline(), Sample("0", np.zeros((32, 32, 3), np.uint8), "a red ball")
    own.judge = shaken(Judge(own.net, 4, tasks=("edit",))).settled()
    monkeypatch.setattr(Pipeline, "judged", lambda *_: pytest.fail("was asked"))
    (made,) = own.solve("picture", [asked], steps=2, choices=2)
    assert made.picture.shape == (32, 32, 3)


def test_what_is_partly_known_is_not_for_the_judge(pipe, monkeypatch):
    own, asked = pipeline(), Sample("0", np.full((32, 32, 3), 90, np.uint8), "a red ball")
    own.judge = shaken(Judge(own.net, 4)).settled()
    monkeypatch.setattr(Pipeline, "judged", lambda *_: pytest.fail("was asked"))
    keep = {"visual": torch.arange(16) < 8}
    (made,) = own.solve("inpaint", [asked], keep=keep, steps=2, choices=2)
    assert made.picture.shape == (32, 32, 3)


# ----------------------------------------------------------------------------------------------------------- learning


class Blue:
    """Pictures that are to be blue: a draw is right where there is enough of it."""

    name, length = "blue", 64

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return Sample(f"blue/{index}", np.zeros((32, 32, 3), np.uint8), "a red ball")

    def judge(self, asked, picture):
        right = picture[..., 2].mean() > 123  # as half of them are
        return SimpleNamespace(value=float(right), faults=() if right else ("dull",))


class Unread(Blue):
    """The same, which nobody can read."""

    name, judge = "unread", property()

    def __getattribute__(self, name):
        if name == "judge":
            raise AttributeError(name)
        return super().__getattribute__(name)


CONFIG = JudgeConfig(samples=128, draws=4, steps=2, together=4, rank=4, epochs=6, learning_rate=3e-3)


def parts(pipe, config):
    return [(Blue(), Ingredient("blue", "picture", 1.0))]


def model_directory(tmp_path):
    pipe = pipeline()
    pipe.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_judge_learns_to_tell_its_models_draws_apart_stops_and_goes_on(tmp_path):
    model, out = model_directory(tmp_path), tmp_path / "judge"
    state = train_judge(model, out, CONFIG, progress=False, until=20, parts=parts, threads=1)
    assert state.step == 20
    assert not (out / FILE).exists()
    state = train_judge(model, out, CONFIG, progress=False, parts=parts, threads=1)
    assert state.step == state.steps == 180
    found = json.loads((out / FIGURES).read_text())["blue:picture"]
    assert found["samples"] == 8
    assert found["told"] > 0.8
    assert found["chosen"] > found["blindly"]
    (model / FILE).write_bytes((out / FILE).read_bytes())
    assert Pipeline.from_pretrained(model).judge is not None
    with pytest.raises(ValueError, match="was begun with"):
        train_judge(model, out, replace(CONFIG, rank=8), progress=False, parts=parts)


def test_where_nobody_can_read_the_true_picture_is_the_right_one(tmp_path):
    model, out = model_directory(tmp_path), tmp_path / "judge"
    few = replace(CONFIG, samples=64, epochs=3)
    train_judge(
        model, out, few, progress=False, parts=lambda *_: [(Unread(), Ingredient("unread", "picture"))], threads=1
    )
    shard = Shard.load(out / "draws" / "000000.npz")
    assert shard.pictures.shape == (4, 4, 32, 32, 3)
    assert shard.right.tolist() == [[True, False, False, False]] * 4
    assert not shard.pictures[:, 0].any()
    assert json.loads((out / FIGURES).read_text())["unread:picture"]["told"] > 0.9  # they are black, the draws are not


def test_shards_are_planned_by_weight_and_samples_come_once(tmp_path):
    both = [(Blue(), Ingredient("blue", "picture", 3.0)), (Unread(), Ingredient("unread", "picture", 1.0))]
    shards = plan(both, replace(CONFIG, samples=400), tmp_path)
    assert len(shards) == 100
    assert 15 < sum(shard.part for shard in shards) < 35
    for part in (0, 1):
        taken = [i for shard in shards if shard.part == part for i in shard.indices]
        assert taken == list(range(len(taken)))


def test_a_damaged_shard_is_a_broken_record(tmp_path):
    (tmp_path / "000000.npz").write_bytes(b"nothing")
    with pytest.raises(DecodeError, match="damaged"):
        Drawn(Blue(), "picture", [tmp_path / "000000.npz"], 4)[0]


def test_settings_that_cannot_be_are_refused():
    for wrong, said in (({"draws": 1}, "draws is 1"), ({"rank": 0}, "rank is 0"), ({"epochs": 0.0}, "epochs 0.0")):
        with pytest.raises(ValueError, match=said):
            replace(CONFIG, **wrong)


def test_the_command_says_what_it_lacks(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["judge", "--model", str(tmp_path / "none"), "--out", str(tmp_path / "out")])
    assert "neither a directory nor a hub id" in capsys.readouterr().err


def test_tokens_of_every_draw_lie_beside_their_own_memory(pipe):
    from selfflow.data.loader import Batch
    from selfflow.train.judge import PrepareDrawn

    shown = np.random.default_rng(0).integers(0, 255, (2, 3, 32, 32, 3), np.uint8)
    texts = ["a red ball", "a small blue box"]
    samples = [
        Sample(str(i), shown[i, 0], texts[i], {"draws": shown[i], "right": [1, 0, 0], "score": [1, 0.5, 0.25]})
        for i in range(2)
    ]
    made, found = PrepareDrawn(pipe)(Batch(samples))
    assert isinstance(made, Tokens)
    assert made.batch == found.memory.batch == 6
    assert found.truth.tolist() == [[1, 1], [0, 0.5], [0, 0.25]] * 2
    judge = shaken(Judge(pipe.net, 4))
    with torch.no_grad():
        together = judge(made, found.memory)
        alone = judge(made[4:5], pipe.read([texts[1]]))
    assert torch.allclose(together[4:5], alone, atol=1e-4)


def test_the_loss_among_draws_is_that_of_a_softmax_over_those_of_one_sample():
    said = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0], [1.0, 2.0, 3.0]], requires_grad=True)
    truth = torch.tensor([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])  # only the first has a choice
    loss = missed(said, truth)
    assert loss.item() == pytest.approx(-np.log(np.e**2 / (1 + np.e + np.e**2)) / 3)
    loss.backward()
    assert said.grad.isfinite().all()
    assert not said.grad[1:].any()
    assert torch.allclose(said.grad[0], (said[0].softmax(0) - truth[0]) / 3)


def test_the_loss_counts_truth_and_draws(pipe):
    made, judge = pictures(pipe, 4), Judge(pipe.net, 4)
    with torch.no_grad():
        memory = pipe.read(["a red ball"] * 4)
    truth = torch.tensor([[1.0, 1.0], [0.0, 0.5], [0.0, 0.0], [0.0, 0.25]])
    losses = Verdicts(judge)(made, Found(memory, truth, 2))
    said = judge(made, memory)
    each = torch.nn.functional.binary_cross_entropy_with_logits
    wanted = each(said[:, 0], truth[:, 0]) + each(said[:, 1], truth[:, 1])
    wanted = wanted + (said[0, 0].exp() + said[1, 0].exp()).log() / 2 - said[0, 0] / 2
    assert torch.allclose(losses.total, wanted, atol=1e-5)
