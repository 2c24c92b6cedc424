"""Training: the loop, resuming, processes, checkpoints, what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from selfflow.config import Config, from_dict, to_dict
from selfflow.objectives import FlowMatching
from selfflow.pipeline import Pipeline
from selfflow.recipes import RECIPES, flow_matching, nano
from selfflow.train import checkpoint
from selfflow.train.optimizer import Optim
from selfflow.train.run import export, train, with_overrides
from selfflow.train.trainer import NonFiniteLoss, Trainer, read_metrics

ROOT = Path(__file__).resolve().parents[1]


def tiny(**options) -> Config:
    """The smallest run that still has every part."""
    config = nano()
    options = {"steps": 8, "batch_size": 4, "save_every": 3, "device": "cpu", "threads": 1} | options
    network = replace(config.network, width=32, depth=2, heads=2)
    text, picture = replace(config.text, vocabulary=270), replace(config.picture, size=32, patch=8)
    return with_overrides(replace(config, network=network, text=text, picture=picture), **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run of eight steps."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    train(tiny(), directory, progress=False)
    return directory


def losses(directory):
    return [(m["step"], m["loss"], m["gradient_norm"]) for m in read_metrics(directory / "metrics.jsonl")]


def weights(directory):
    from safetensors.torch import load_file

    return load_file(directory / "model.safetensors")


def test_every_step_logs_what_was_promised(whole):
    first = read_metrics(whole / "metrics.jsonl")[0]
    promised = {"loss", "loss_velocity", "loss_representation", "cosine", "rank_student", "rank_teacher"}
    assert promised | {"gradient_norm", "tokens_per_s", "learning_rate", "skipped"} <= first.keys()
    assert [m["step"] for m in read_metrics(whole / "metrics.jsonl")] == list(range(1, 9))


def test_interrupted_equals_uninterrupted_bit_for_bit(whole, tmp_path):
    for until in (2, 5, None):
        train(tiny(), tmp_path, progress=False, until=until)
    assert losses(tmp_path) == losses(whole)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(tmp_path)[name]), name


def test_kill_9_then_the_same_command_reaches_the_same_losses(tmp_path):
    command = [
        sys.executable, "-m", "selfflow.cli", "train", "nano", "--out", str(tmp_path / "killed"), "--quiet",
        "--steps", "40", "--config.train.batch-size", "4", "--config.train.save-every", "5",
        "--config.network.width", "32", "--config.network.heads", "2", "--config.network.depth", "2",
        "--config.train.threads", "1", "--config.text.vocabulary", "270",
        "--config.picture.size", "32", "--config.picture.patch", "8",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.time() + 60
    while len(read_metrics(metrics)) < 12 and time.time() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 12 <= len(read_metrics(metrics)) < 40
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    reference = tiny(steps=40, save_every=100)
    train(reference, tmp_path / "whole", progress=False)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_accumulation_changes_nothing_but_rounding(whole, tmp_path):
    train(tiny(accumulate=2), tmp_path, progress=False)
    torch.testing.assert_close(torch.tensor(losses(tmp_path)), torch.tensor(losses(whole)), rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp, copying"])
def test_two_processes_equal_one_and_resume_in_one(parallel, tmp_path):
    parallel, *copying = parallel.split(", ")
    config = tiny(precision="fp32", parallel=parallel, save_every=4)
    if copying:
        mixture = ("tabletop-edit:edit:3", "tabletop-still:picture:1")  # some steps have nothing to copy
        data, network = replace(config.data, mixture=mixture, count=24), replace(config.network, copying=True)
        config = replace(config, data=data, network=network)
    train(config, tmp_path / "one", progress=False)
    script = tmp_path / "run.py"
    script.write_text(
        "import json, os, sys\nfrom pathlib import Path\nfrom selfflow.config import Config, from_dict\n"
        "from selfflow.train.run import train\n"
        "config = from_dict(Config, json.loads(Path(sys.argv[1]).read_text()))\n"
        "train(config, Path(sys.argv[2]), progress=False, until=int(sys.argv[3]) or None)\n"
        # Seen once: the end of an interpreter held up by gloo's threads, whose peer was gone.
        "os._exit(0)\n"
    )
    (tmp_path / "config.json").write_text(json.dumps(to_dict(config)))

    def torchrun(directory, until):
        arguments = [str(script), str(tmp_path / "config.json"), str(directory), str(until)]
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()[-3000:]

    torchrun(tmp_path / "two", 4)
    train(config, tmp_path / "two", progress=False)  # the sharded checkpoint of step 4 resumes in one process
    one, two = torch.tensor(losses(tmp_path / "one")), torch.tensor(losses(tmp_path / "two"))
    torch.testing.assert_close(two, one, rtol=2e-4, atol=2e-5)
    for name, tensor in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], tensor, rtol=1e-3, atol=1e-4)


def test_the_model_directory_is_the_ema(whole):
    pipe = Pipeline.from_pretrained(whole)
    export(whole)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, pipe.net.state_dict()[name])
    assert pipe.config == tiny()


def test_the_model_card_names_the_licence_of_every_source(whole):
    from selfflow.card import model_card
    from selfflow.recipes import micro

    assert "no third-party material" in (whole / "README.md").read_text()
    card = model_card(micro(), 7)
    for source in ("Noto", "Twemoji", "OpenMoji", "Blobmoji", "Fluent", "Unicode License", "license: cc-by-sa-4.0"):
        assert source in card
    permissive = model_card(replace(micro(), data=replace(micro().data, permissive_only=True)), 7)
    assert "OpenMoji" not in permissive
    assert "license: other" in permissive


def test_an_incomplete_checkpoint_is_no_checkpoint(whole, tmp_path):
    (tmp_path / ".step-00000009.tmp").mkdir()
    (tmp_path / "step-00000009").mkdir()
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(whole / "checkpoints").name == "step-00000008"
    assert len(list((whole / "checkpoints").iterdir())) == 2


def test_another_configuration_is_refused_by_name(whole):
    with pytest.raises(ValueError, match=r"optim.learning_rate was 0.0025, is 0.5"):
        train(replace(tiny(), optim=Optim(learning_rate=0.5)), whole, progress=False)
    with pytest.raises(ValueError, match=r"objective.kind"):
        train(flow_matching(tiny()), whole, progress=False)


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(tiny(), tmp_path, progress=False, until=2)
    for shard in (tmp_path / "checkpoints" / "step-00000002").glob("*.distcp"):
        shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"step-00000002 cannot be resumed"):
        train(tiny(), tmp_path, progress=False)


class Poisoned:
    """A loader of black pictures, the third batch of which is to hold a NaN."""

    batch_size = 2

    def __init__(self):
        self.position = 0

    def __next__(self):
        from selfflow.data.loader import Batch
        from selfflow.data.sample import Sample

        self.position += 1
        picture = np.zeros((32, 32, 3), np.uint8)
        return Batch([Sample(f"{name}{self.position}", picture, "") for name in "ab"])

    def state_dict(self):
        return {"position": self.position, "skipped": 0}

    def load_state_dict(self, state):
        self.position = state["position"]


def test_a_non_finite_loss_stops_with_step_batch_and_checkpoint(tmp_path):
    from selfflow.modalities.text import BytePairs
    from selfflow.pipeline import build_modalities, build_network
    from selfflow.train.engine import Engine
    from selfflow.train.task import Prepare

    text = BytePairs.train(["a ball"], 270)
    objective = FlowMatching(build_network(tiny(), text))
    prepare = Prepare(build_modalities(tiny(), text))

    def poisoned(batch, draws, device):
        data, known = prepare(batch, draws, device)
        data.data[0, 0, 0] = float("nan") if "a3" in batch.ids else 0
        return data, known

    trainer = Trainer(
        objective, Poisoned(), poisoned, tmp_path, Engine("cpu", "fp32"),
        steps=5, save_every=1, progress=False,
    )  # fmt: skip
    with pytest.raises(NonFiniteLoss, match=r"step 3: loss nan.*a3, b3.*step-00000002"):
        trainer.run()
    assert all(p.isfinite().all() for p in objective.parameters())
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 2


def test_the_learning_rate_rises_and_falls():
    optim = Optim(learning_rate=1.0, warmup=4, cooldown=0.25)
    rates = [optim.rate(step, 16) for step in range(16)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:13] == [1.0] * 9
    assert rates[13:] == [0.75, 0.5, 0.25]


@pytest.mark.parametrize("name", list(RECIPES))
def test_recipes_survive_json(name):
    config = RECIPES[name]()
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


def test_configuration_errors_name_the_field():
    values = to_dict(nano())
    with pytest.raises(ValueError, match=r"config.optim has unknown fields \['lr'\]"):
        from_dict(Config, values | {"optim": {"lr": 1.0}})
    with pytest.raises(ValueError, match=r"config.train.steps is 'many'"):
        from_dict(Config, values | {"train": {"steps": "many"}})


def test_base_has_the_papers_size_and_takes_a_step():
    from selfflow.building import patches_of
    from selfflow.nn import Modality, Transformer

    config = RECIPES["base"]()
    text = Modality(channels=1024 * 3)
    with torch.device("meta"):
        net = Transformer(config.network.build({"text": text, "visual": patches_of(config).modality}))
    assert abs(net.parameter_count - 625e6) < 10e6
    shallow = replace(config.network, depth=2, double=1, width=288, heads=4)
    net = Transformer(shallow.build({"text": text, "visual": patches_of(config).modality}))
    from selfflow.objectives import SelfFlow
    from selfflow.times import Draws
    from selfflow.tokens import Tokens, sequence_positions

    objective = SelfFlow(net, 288, 1, 2)
    picture = patches_of(config).tokens(torch.rand(1, 3, 64, 64) * 2 - 1)
    known = Tokens(torch.randn(1, 3, 3072), sequence_positions(3)[None], "text")
    optimizer = torch.optim.AdamW(objective.parameters(), 1e-3)
    values = []
    for _ in range(3):
        value = objective(picture, [known], draws=Draws.at(0, 0)).total
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        values.append(value.item())
    assert values[2] < values[0]
    assert np.isfinite(values).all()
