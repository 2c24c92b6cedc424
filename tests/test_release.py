"""Releases: small files, every number as it should be, a card that says all; and the weights that come with a copy."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from selfflow import bundled
from selfflow.card import model_card, objective_of, steps_said
from selfflow.cli import main
from selfflow.config import to_dict
from selfflow.modalities.action import Quantiles
from selfflow.modalities.text import BytePairs, Pretrained
from selfflow.pipeline import Pipeline, build_network
from selfflow.recipes import micro_all, nano
from selfflow.release import release
from selfflow.train.history import training
from selfflow.train.run import train
from selfflow.weight_files import INDEX, WEIGHTS, has_weights, read_weights, weight_files, write_weights

MACHINE = {"device": "cpu", "name": "x86_64", "precision": "bf16", "processes": 1, "threads": 1, "torch": "2.13.0"}


@pytest.fixture(scope="module")
def config():
    config = micro_all()
    return replace(
        config,
        data=replace(config.data, cache="/where/samples/were/kept"),
        picture=replace(config.picture, size=16, patch=8),
        network=replace(config.network, width=32, depth=2, heads=2),
    )


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    """The directory of a run that stopped between two checkpoints: metrics of ten steps, weights of eight."""
    directory = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    text = BytePairs.train(["a ball falls", "a red box"], 270, 16)
    net = build_network(config, text)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    rows = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    pipe = Pipeline(net, text, config, quantiles=Quantiles.fit({"tabletop": {"actions": rows, "states": rows}}))
    pipe.save_pretrained(directory, model_card(config, 8))
    (directory / "run.json").write_text(json.dumps({"config": to_dict(config), "machine": MACHINE}))
    records = [{"step": i, "tokens_per_s": 100.0, "seconds": 9.0} for i in range(1, 11)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return directory


def test_a_release_is_the_model_in_half_the_bytes_and_small_files(run, tmp_path):
    out = release(run, tmp_path / "weights", file_limit=64_000)
    files = weight_files(out)
    assert len(files) > 1
    assert all(p.stat().st_size <= 64_000 for p in files)
    before, stored, after = load_file(run / WEIGHTS), read_weights(out), Pipeline.from_pretrained(out).net.state_dict()
    assert before.keys() == stored.keys() == after.keys()
    for name, tensor in before.items():
        if not tensor.is_floating_point():  # letters are bytes
            assert torch.equal(after[name], tensor)
            continue
        assert stored[name].dtype == torch.bfloat16
        assert after[name].dtype == torch.float32
        assert torch.equal(after[name], tensor.to(torch.bfloat16).float())
    pipe = Pipeline.from_pretrained(out)
    assert set(pipe.modalities.quantiles.bodies) == {"tabletop"}
    assert pipe.text(["a ball"]).data.tolist() == Pipeline.from_pretrained(run).text(["a ball"]).data.tolist()
    assert "/where" not in (out / "config.json").read_text() + (out / "README.md").read_text()
    assert not list(tmp_path.glob(".*"))


def test_the_card_says_data_training_figures_and_limits(run, tmp_path):
    measured = {
        "suite": "all",
        "options": {"samples": 32},
        "figures": {
            "digits: digit recognised": {
                "value": 0.5,
                "low": 0.25,
                "high": 0.75,
                "floor": 0.1,
                "count": 32,
                "beats_floor": True,
            }
        },
        "skipped": {"pusht": "no pymunk"},
        "suites": {"digits": "much"},
    }
    (tmp_path / "all.json").write_text(json.dumps(measured))
    out = release(run, tmp_path / "weights", tmp_path / "all.json")
    card = (out / "README.md").read_text()
    assert steps_said(card) == 8  # of the weights, not of the metrics
    assert (
        "| micro-all | Self-Flow | 8 | 256 | 0.0 million | 0.02 | 1 CPU thread (x86_64), bf16, torch 2.13.0 |" in card
    )
    assert "| digits: digit recognised | 0.5 [0.25, 0.75] | 0.1 |  |  | 32 | yes |  |" in card
    assert "Not measured: pusht (no pymunk)" in card
    for named in (
        "OpenMoji",
        "fsdd8k",
        "Fruits-360",
        "Liberated Pixel Cup",
        "license: cc-by-sa-4.0",
        "nothing it does",
    ):
        assert named in card
    assert "suites" not in json.loads((out / "evaluation.json").read_text())


def test_trainings_add_up_over_releases(run, config, tmp_path):
    first = release(run, tmp_path / "first")
    (own,) = training(first, config)
    assert (own["steps"], own["samples"], own["tokens"], own["hours"]) == (8, 256, 7200, 0.02)
    # A run that begins with these weights carries what led to them.
    for name in ("run.json", "metrics.jsonl", "README.md"):
        (first / name).write_bytes((run / name).read_bytes())
    again = release(first, tmp_path / "again")
    assert training(again, config) == [own, own]
    assert "Each began with the weights of the one above" in (again / "README.md").read_text()


def test_the_last_weights_may_be_released_instead_of_their_average(tmp_path):
    config = nano()
    config = replace(
        config,
        network=replace(config.network, width=32, depth=2, heads=2),
        text=replace(config.text, vocabulary=270),
        data=replace(config.data, cache="/where/samples/were/kept"),
        train=replace(config.train, steps=2, batch_size=2, threads=1, device="cpu", precision="fp32"),
    )
    (tmp_path / "run").mkdir()
    BytePairs.train(["a red ball", "a cup"], 270, 16).save(tmp_path / "run")
    objective = train(config, tmp_path / "run", progress=False).objective
    # A release can be released again, with its figures by then, and stays what it is.
    first = release(tmp_path / "run", tmp_path / "release", student=True)
    for out in (first, release(first, first), release(tmp_path / "run", tmp_path / "average")):
        last = out == first
        for name, tensor in read_weights(out).items():
            kept = (objective.net if last else objective.ema).state_dict()[name]
            assert torch.equal(tensor, kept.to(torch.bfloat16))
        card = (out / "README.md").read_text()
        assert ("averaged weights (EMA" in card) != last
        assert "/where" not in card + (out / "config.json").read_text()
        assert steps_said(card) == 2
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        release(first, tmp_path / "other", student=True)


def test_a_model_keeps_how_it_reads_text(run, tmp_path):
    source, told = tmp_path / "source", '{"name": "an/encoder", "layers": [-1], "max_tokens": 8}'
    shutil.copytree(run, source)
    (source / BytePairs.FILE).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{BytePairs.FILE} or .*{Pretrained.FILE} is missing"):
        release(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (source / Pretrained.FILE).write_text(told)
    assert (release(source, tmp_path / "out") / Pretrained.FILE).read_text() == told


def test_only_a_model_is_replaced(run, config, tmp_path):
    shelf = tmp_path / "shelf"
    release(run, shelf / "one")
    (shelf / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="shelf holds something other than a release"):
        release(run, shelf)
    before = sorted(run.iterdir())
    with pytest.raises(ValueError, match="holds a run and would be replaced"):
        release(run, run)
    assert sorted(run.iterdir()) == before
    assert (shelf / "precious.txt").read_text() == "mine"
    assert release(shelf / "one", shelf / "one") == shelf / "one"
    (tmp_path / "empty").mkdir()
    assert release(run, tmp_path / "empty").exists()


def test_what_is_too_large_is_refused_and_nothing_is_lost(run, tmp_path):
    out = release(run, tmp_path / "weights")
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    with pytest.raises(ValueError, match="at most 1,000"):
        release(run, out, limit=1000)
    with pytest.raises(ValueError, match=r"takes .* bytes; files of 10,000 hold"):
        release(run, out, file_limit=10_000)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        release(run, out, tmp_path / "nowhere.json")
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]


def test_one_file_and_several_replace_one_another(tmp_path):
    state = {f"w{i}": torch.full((64, 64), float(i)) for i in range(6)} | {"count": torch.tensor(3)}
    write_weights(state, tmp_path)
    assert [p.name for p in weight_files(tmp_path)] == [WEIGHTS]
    write_weights(state, tmp_path, torch.bfloat16, 24_000)
    names = {p.name for p in tmp_path.iterdir()}
    assert WEIGHTS not in names
    assert INDEX in names
    assert read_weights(tmp_path)["count"].dtype == torch.int64
    write_weights(state, tmp_path, torch.bfloat16, 40_000)
    assert {p.name for p in tmp_path.iterdir()} == {INDEX, *(p.name for p in weight_files(tmp_path))}
    assert all(torch.equal(read_weights(tmp_path)[k].float(), v.float()) for k, v in state.items())
    weight_files(tmp_path)[0].unlink()
    with pytest.raises(FileNotFoundError, match="which is missing"):
        read_weights(tmp_path)
    (tmp_path / INDEX).write_text('{"weight_map": {"a": "../elsewhere.safetensors"}}')
    with pytest.raises(ValueError, match="parts lie beside it"):
        weight_files(tmp_path)
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        weight_files(tmp_path)
    write_weights(state, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [WEIGHTS]
    save_file({"other": torch.zeros(1)}, tmp_path / WEIGHTS)
    assert has_weights(tmp_path)


def test_commands_use_the_weights_that_come_with_this_copy(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bundled, "_PACKAGE", tmp_path / "src" / "selfflow")
    assert bundled.bundled_model() is None
    arguments = ["generate", "a red box", "-o", str(tmp_path / "a.png"), "--steps", "1"]
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "no --model was given, and no weights come with this copy" in said
    assert said.count("\n") == 1
    # Inside an installed package, then in a checkout, which comes first.
    installed = release(run, bundled.places()[-1])
    assert bundled.bundled_model() == installed
    main(arguments)
    from PIL import Image

    assert Image.open(tmp_path / "a.png").text["model"] == "micro-all"
    (tmp_path / "pyproject.toml").touch()
    assert bundled.bundled_model() == installed
    assert bundled.bundled_model("other") is None
    assert bundled.model_or_bundled("micro-all") == installed  # by name, unless something here has it
    monkeypatch.chdir(tmp_path)
    (tmp_path / "micro-all").mkdir()
    assert bundled.model_or_bundled("micro-all") == Path("micro-all")
    assert bundled.model_or_bundled("owner/name") == Path("owner/name")
    assert release(run, bundled.places()[0]) == bundled.bundled_model() == tmp_path / "weights" / "micro-all"
    (bundled.bundled_model() / INDEX).unlink(missing_ok=True)
    (tmp_path / "weights" / "micro-all" / WEIGHTS).unlink()
    assert bundled.bundled_model() == installed


def test_the_card_of_one_source_stays_as_it_is():
    card = model_card(nano(), 3)
    assert "## Figures" not in card
    assert "## Training\n" not in card
    assert "license: apache-2.0" in card


def test_a_card_says_when_the_teacher_rested():
    config = micro_all()
    for (begin, end), said in {
        (0.0, 1.0): "Self-Flow",
        (0.0, 0.0): "Self-Flow, its teacher at rest",
        (0.2, 0.5): "Self-Flow, its teacher from 20 % to 50 % of the steps",
    }.items():
        o = replace(config.objective, gamma_from=begin, gamma_until=end)
        assert objective_of(replace(config, objective=o)) == said
        plain = replace(config, objective=replace(o, kind="flow_matching"))
        assert objective_of(plain) == "flow matching"
