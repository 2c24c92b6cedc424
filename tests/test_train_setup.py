"""Beginning and leaving a run: what is refused changes nothing, what stops leaves a model, origins are told."""

import json
import os
import signal
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from selfflow.card import model_card, steps_said, terms
from selfflow.cli import main
from selfflow.config import Config, DataConfig, from_dict, to_dict
from selfflow.data import DecodeError, Sample
from selfflow.data.loader import Batch
from selfflow.data.mixture import MixedBatch
from selfflow.modalities.text import BytePairs
from selfflow.objectives.base import Losses
from selfflow.pipeline import Pipeline
from selfflow.recipes import few_steps, nano
from selfflow.release import release
from selfflow.train.codec import CODEC_RECIPES
from selfflow.train.engine import Engine, cpu_has_bf16
from selfflow.train.history import history_of, training
from selfflow.train.run import _same_run, fit_quantiles, open_batches, train
from selfflow.train.trainer import Trainer, read_metrics
from selfflow.weight_files import has_weights
from test_codecs_train import config as codec_config
from test_codecs_train import run as run_codec
from test_train import losses, tiny, weights


def names(directory):
    return sorted(p.name for p in directory.iterdir()) if directory.exists() else []


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of two steps whose vocabulary is not the one its captions would give."""
    directory = tmp_path_factory.mktemp("begun") / "run"
    directory.mkdir()
    BytePairs.train(["zebras graze quietly", "a quick zebra"], 270, 24).save(directory)
    train(tiny(steps=2), directory, progress=False)
    return directory


def test_a_mistyped_beginning_is_refused_and_the_right_one_keeps_its_vocabulary(begun, tmp_path):
    with pytest.raises(FileNotFoundError, match="bgeun"):
        train(tiny(steps=1), tmp_path / "next", progress=False, init=begun.with_name("bgeun"))
    assert names(tmp_path / "next") == []
    train(tiny(steps=1), tmp_path / "next", progress=False, init=begun)
    assert (tmp_path / "next" / BytePairs.FILE).read_bytes() == (begun / BytePairs.FILE).read_bytes()


def test_a_refused_option_leaves_the_directory_for_the_corrected_command(tmp_path):
    config = tiny(steps=1)
    with pytest.raises(ValueError, match="not divisible by 3 heads"):
        train(replace(config, network=replace(config.network, heads=3)), tmp_path, progress=False)
    assert names(tmp_path) == []
    given = tmp_path / BytePairs.FILE  # what was there before stays
    BytePairs.train(["zebras graze"], 270, 24).save(tmp_path)
    before = given.read_bytes()
    with pytest.raises(ValueError, match="4 samples per process do not divide into 3"):
        train(tiny(steps=1, batch_size=4, accumulate=3), tmp_path, progress=False)
    assert (names(tmp_path), given.read_bytes()) == ([given.name], before)
    # What shows in the first step only.
    with pytest.raises(ValueError, match="30 × 30 pixels does not divide into patches of 8"):
        train(replace(config, picture=replace(config.picture, size=30)), tmp_path, progress=False)
    assert (names(tmp_path), given.read_bytes()) == ([given.name], before)
    train(config, tmp_path, progress=False)


def test_what_a_run_that_fails_later_has_done_stays(tmp_path):
    def fails(state):
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        train(tiny(steps=3), tmp_path, progress=False, watch=[fails])
    assert {"run.json", "metrics.jsonl", BytePairs.FILE} <= set(names(tmp_path))


def test_the_schedules_that_a_distillation_learns_are_no_matter_of_looks(tmp_path):
    for method, refused in (("midpoint", False), ("on-policy", True), ("progressive", True)):
        config = few_steps(nano(), 4, method)
        (tmp_path / "run.json").write_text(json.dumps({"config": to_dict(config)}))
        _same_run(replace(config, sampling=replace(config.sampling, guidance=2.0, steps=9)), tmp_path)
        other = replace(config, sampling=replace(config.sampling, shift=3.5))
        with pytest.raises(ValueError, match=r"\(sampling.shift was .*, is 3.5\)") if refused else nullcontext():
            _same_run(other, tmp_path)


def test_a_run_that_is_stopped_leaves_the_model_of_its_last_step(tmp_path):
    def interrupt(state):
        if state.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    state = train(tiny(), tmp_path, progress=False, watch=[interrupt])
    assert state.step == steps_said((tmp_path / "README.md").read_text()) == 2
    stopped = weights(tmp_path)
    state = train(tiny(), tmp_path, progress=False, until=2)  # nothing to do
    assert state.step == 2
    assert all((weights(tmp_path)[k] == v).all() for k, v in stopped.items())
    # Killed between the last checkpoint and its model: the same command writes it.
    train(tiny(), tmp_path, progress=False)
    for name in ("README.md", "model.safetensors", "config.json"):
        (tmp_path / name).unlink()
    train(tiny(), tmp_path, progress=False)
    assert Pipeline.from_pretrained(tmp_path).config == tiny()
    assert losses(tmp_path)[-1][0] == 8


class Ending:
    """Batches that end with the fourth, as by a signal to all processes; half of that is drawn already."""

    batch_size, mixes = 2, True

    def __init__(self, told):
        self.told, self.position = told, 0

    def __next__(self):
        self.position += 1
        if self.position == 7:
            if self.told:
                os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("draw-0, which draws samples, ended with exit code -15")
        self.position += 1
        return MixedBatch([Batch([Sample(f"{self.position}{name}", None, "")]) for name in "ab"])

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


def test_a_stop_that_ends_those_who_draw_batches_too_leaves_a_checkpoint(tmp_path):
    class Pull(nn.Linear):
        def forward(self, data, context, draws):
            return Losses(self.weight.sum() * data)

    def value(micro, draws, device):
        return torch.ones(1), ()

    def run(told):
        return Trainer(Pull(1, 1), Ending(told), value, tmp_path, Engine("cpu"), accumulate=2, progress=False).run()

    with pytest.raises(RuntimeError, match="exit code -15"):
        run(told=False)
    assert not (tmp_path / "checkpoints").exists()
    assert run(told=True).step == 3
    assert [m["step"] for m in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3]
    told = json.loads((tmp_path / "checkpoints" / "step-00000003" / "state.json").read_text())
    assert told == {"step": 3, "cursor": {"position": 6}}


def test_a_codec_killed_between_its_checkpoint_and_its_figures_is_completed(tmp_path):
    run_codec(codec_config(steps=2), tmp_path)
    whole = (tmp_path / "figures.json").read_bytes()
    (tmp_path / "figures.json").unlink()
    run_codec(codec_config(steps=2), tmp_path)
    assert (tmp_path / "figures.json").read_bytes() == whole


def test_options_that_a_codec_has_no_use_for_are_refused():
    config = CODEC_RECIPES["codec-picture"]()
    for name in ("record", "balance"):
        with pytest.raises(ValueError, match=rf"train.{name} is True; a codec has no use for it"):
            replace(config, train=replace(config.train, **{name: True}))


def test_a_broken_first_picture_does_not_stop_training(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    lines = [json.dumps({"file_name": f"{i}.png", "text": f"picture {i}"}) for i in range(8)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    (folder / "0.png").write_bytes(b"no picture")
    config = tiny(steps=2)
    state = train(replace(config, data=DataConfig(str(folder))), tmp_path / "run", progress=False)
    assert state.step == 2


def test_quantiles_are_fitted_to_what_can_be_read(tmp_path):
    class Arm:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            if index in (0, 3):
                raise DecodeError(f"episode {index} is broken")
            rows = np.full((4, 2), float(index))
            return SimpleNamespace(actions=rows, states=None, body="arm")

    fit_quantiles([Arm()], tmp_path)
    (low, high) = (json.loads((tmp_path / "bodies.json").read_text())["arm"]["actions"][k] for k in ("low", "high"))
    assert min(low) >= 1
    assert max(high) <= 4


def test_quantiles_of_a_body_that_a_model_has_not_met_are_added_to_its_own(tmp_path):
    class Body:
        def __init__(self, body, states):
            self.body, self.states, self.read = body, states, 0

        def __len__(self):
            return 5

        def __getitem__(self, index):
            self.read += 1
            rows = np.full((4, 2), float(index))
            return SimpleNamespace(actions=rows, states=rows + 9 if self.states else None, body=self.body)

    of_the_model = {"arm": {"actions": {"low": [-7.0, -7.0], "high": [7.0, 7.0], "raw": [1]}}}
    (tmp_path / "bodies.json").write_text(json.dumps(of_the_model))
    fit_quantiles([Body("arm", False)], tmp_path)
    assert json.loads((tmp_path / "bodies.json").read_text()) == of_the_model
    sources = [Body("arm", True), Body("car", False)]
    fit_quantiles(sources, tmp_path)
    found = json.loads((tmp_path / "bodies.json").read_text())
    assert found["arm"]["actions"] == of_the_model["arm"]["actions"]
    assert min(found["arm"]["states"]["low"]) >= 9
    assert max(found["car"]["actions"]["high"]) <= 4
    before = [source.read for source in sources]
    fit_quantiles(sources, tmp_path)  # a run that goes on does not read them again
    assert [source.read - n for source, n in zip(sources, before, strict=True)] == [1, 1]
    assert json.loads((tmp_path / "bodies.json").read_text()) == found


def test_what_is_used_again_is_for_one_process():
    config = tiny()
    config = replace(config, data=replace(config.data, processes=1, echo=2))
    with pytest.raises(ValueError, match=r"data.echo is 2: .* each of the 2 processes"):
        open_batches(config, [(None, None)], None, SimpleNamespace(rank=0, world_size=2))


def test_what_a_run_began_from_is_told_with_its_licences(begun, tmp_path):
    (own,) = training(begun, tiny())
    assert own["data"] == {"source": "tabletop", "mixture": [], "permissive_only": False}
    # As if it had been trained on emoji: weights begun with it keep that, whatever they are trained on since.
    (begun / "training.json").write_text(json.dumps([own | {"data": own["data"] | {"source": "emoji"}}]))
    try:
        train(tiny(steps=1), tmp_path / "next", progress=False, init=begun)
    finally:
        (begun / "training.json").unlink()
    assert [h["steps"] for h in history_of(tmp_path / "next")] == [2, 2]
    for directory in (tmp_path / "next", release(tmp_path / "next", tmp_path / "release")):
        card = (directory / "README.md").read_text()
        assert "license: cc-by-sa-4.0" in card
        assert "OpenMoji" in card
    assert [h["steps"] for h in history_of(tmp_path / "release")] == [2, 2, 1]
    assert terms(tiny(), history_of(tmp_path / "release"))[0] == "CC BY-SA 4.0"
    assert terms(tiny())[0] != "CC BY-SA 4.0"
    assert "license: apache-2.0" in model_card(nano(), 1)


def test_a_permissive_run_begun_with_share_alike_weights_stays_share_alike():
    config = replace(nano(), data=DataConfig("emoji", permissive_only=True))
    history = [{"data": {"source": "emoji", "mixture": [], "permissive_only": False}}]
    assert "OpenMoji" not in model_card(config, 1)
    plain = [{"recipe": "", "objective": "", "steps": 1, "samples": 1, "tokens": 1, "hours": 1, "machine": ""}]
    assert "OpenMoji" in model_card(config, 1, [plain[0] | history[0]])
    assert "OpenMoji" not in model_card(config, 1, plain)  # told before data were: nothing is known


@pytest.mark.parametrize(
    ("part", "field", "value", "said"),
    [
        ("train", "accumulate", 0, "train.accumulate is 0; it must be 1 or more"),
        ("train", "save_every", 0, "train.save_every is 0"),
        ("train", "steps", -1, "train.steps is -1"),
        ("train", "sample_every", -1, "train.sample_every is -1"),
        ("train", "text_drop", 1.5, "train.text_drop is 1.5; a share"),
        ("optim", "warmup", -5, "warmup -5"),
        ("optim", "cooldown", 2.0, "cooldown 2.0"),
        ("data", "mixture", "emoji:picture", "config.data.mixture is 'emoji:picture'"),
        ("data", "mixture", ["emoji:picture", 3], r"config.data.mixture\[1\] is 3"),
        ("optim", "betas", "ab", "config.optim.betas is 'ab'"),
        ("optim", "betas", [0.9], r"config.optim.betas is \[0.9\]"),
    ],
)
def test_numbers_of_a_run_are_checked(part, field, value, said):
    told = to_dict(nano())
    told[part][field] = value
    with pytest.raises(ValueError, match=said):
        from_dict(Config, told)
    assert from_dict(Config, to_dict(nano())) == nano()


def test_until_no_step_at_all_trains_nothing(tmp_path):
    assert train(tiny(), tmp_path, progress=False, until=0).step == 0


def test_runs_of_another_kind_and_damaged_weights_are_told_in_a_line(tmp_path, capsys):
    (tmp_path / "codec").mkdir()
    (tmp_path / "codec" / "run.json").write_text('{"codec": {}}')
    with pytest.raises(ValueError, match="holds a run of another kind"):
        train(tiny(), tmp_path / "codec", progress=False)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no tensors at all")
    assert has_weights(tmp_path / "broken")
    with pytest.raises(SystemExit):
        main(["info", str(tmp_path / "broken")])
    assert "is damaged or not a safetensors file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "faster"),
    [
        ({"cpu_name": "Intel Xeon", "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "amx_bf16": False}, False),  # AVX512-BF16 alone was slower there
        ({"cpu_name": "AMD EPYC", "amx_bf16": False}, True),
        ({}, True),
    ],
)
def test_bf16_is_taken_where_the_cpu_is_faster_with_it(found, faster, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert cpu_has_bf16() is faster
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not cpu_has_bf16()
