"""The script that measures levers, in miniature; and the probe it measures with, against exact answers."""

import json

import pytest
import torch

from scripts import load_script
from selfflow.evaluate.probes import fit_probe, probe_accuracy


@pytest.fixture(scope="module")
def levers():
    return load_script("levers")


def blobs(n=60, classes=3, f=5, spread=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    return torch.eye(classes, f)[labels] * 4 + spread * torch.randn(n, f, generator=generator) + 10, labels


def test_a_probe_is_ridge_regression():
    x, y = blobs(spread=2.0)
    probe = fit_probe(x, y, penalties=[0.1])
    centred, targets = (x - x.mean(dim=0)).double(), torch.eye(3).double()[y]
    ridge = 0.1 * centred.square().sum() / 5 * torch.eye(5).double()
    expected = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ (targets - targets.mean(dim=0)))
    torch.testing.assert_close(probe.weights, expected, rtol=1e-5, atol=1e-7)


def test_the_penalty_is_that_of_the_least_leave_one_out_error():
    """Checked by leaving rows out: the closed form must pick what refitting without each row in turn picks."""
    x, y = blobs(n=18, spread=6.0)
    scale = float((x - x.mean(dim=0)).double().square().sum() / 5)

    def refitted(penalty):
        error = 0.0
        for i in range(len(x)):
            rest = torch.arange(len(x)) != i
            kept, targets = x[rest].double(), torch.eye(3).double()[y]
            mean, bias = kept.mean(dim=0), targets[rest].mean(dim=0)
            gram = (kept - mean).T @ (kept - mean) + penalty * scale * torch.eye(5).double()
            weights = torch.linalg.solve(gram, (kept - mean).T @ (targets[rest] - bias))
            error += float((targets[i] - bias - (x[i].double() - mean) @ weights).square().sum())
        return error

    penalties = [1e-3, 1e-1, 1.0, 10.0]
    assert fit_probe(x, y, penalties).penalty == min(penalties, key=refitted)


def test_a_probe_reads_what_is_there_and_guesses_what_is_not():
    x, y = blobs(n=300)
    assert probe_accuracy(x[:150], y[:150], x[150:], y[150:]) == 1.0
    nothing = torch.randn(300, 5, generator=torch.Generator().manual_seed(1))
    assert abs(probe_accuracy(nothing[:150], y[:150], nothing[150:], y[150:]) - 1 / 3) < 0.15
    wide = torch.cat([x, torch.zeros(300, 400)], dim=1)  # more features than rows, most of them empty
    assert probe_accuracy(wide[:150], y[:150], wide[150:], y[150:]) == 1.0
    for bad in ((x, y[:5]), (x, y * 0), (x * float("nan"), y), (x, y.float())):
        with pytest.raises(ValueError, match="a probe needs"):
            fit_probe(*bad)


def test_levers_are_measured_paired_and_resume(levers, tmp_path, capsys):
    names = ["flow matching", "whitened + noisier + mid"]
    arguments = ["--quick", "--device", "cpu", "--out", str(tmp_path), "--levers", *names]
    levers.main([*arguments, "--seeds", "1"])
    levers.main([*arguments, "--seeds", "2"])
    assert "± " in capsys.readouterr().out
    summary = json.loads((tmp_path / "levers.json").read_text())["levers"]
    assert list(summary) == names
    assert summary["flow matching"]["equal steps"]["values"] == [0.0, 0.0]
    for lever in names:
        row, runs = summary[lever], [json.loads(p.read_text()) for p in found(tmp_path, lever)]
        assert [levers.loss_at(r) for r in runs] == row["velocity loss"]["values"]
        assert list(runs[0]["curve"]) == ["1", "2", "3", "4"]
        assert len(runs[0]["probes"]["object"]["0.1"]) == len(runs[0]["geometry"]["ranks"]) == 3
        assert row["seeds"] == 2
        losses = row["curves"]["velocity loss"]
        assert list(losses) == ["1", "2", "3", "4"]
        assert losses["4"] == row["velocity loss"]
        assert len(row["probe along depth"]["object"]) == 3
    assert set(summary[names[0]]["curves"]) == {"velocity loss"}  # without a teacher there is no target
    logged = [dict(json.loads(p.read_text())["training"]["rank_target"]) for p in found(tmp_path, names[1])]
    ranks = summary[names[1]]["curves"]["rank of target"]
    assert [x["values"] for x in ranks.values()] == [[run[int(step)] for run in logged] for step in ranks]
    assert (tmp_path / "levers.png").stat().st_size > 10_000
    first = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/result.json")}
    levers.main(arguments)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/result.json")} == first  # nothing was trained again
    with pytest.raises(SystemExit, match="other options"):
        levers.main([*arguments, "--threads", "2"])


def test_what_measures_otherwise_is_compared_with_flow_matching_that_does_so_too(levers, tmp_path):
    names = ["flow matching", "flow matching + short EMA", "short EMA", "centred + long EMA"]
    levers.main([
        "--quick", "--device", "cpu", "--out", str(tmp_path), "--seeds", "1", "--ema", "0.5", "--levers", *names,
    ])  # fmt: skip
    summary = json.loads((tmp_path / "levers.json").read_text())["levers"]
    assert summary["flow matching"]["against"] == "flow matching"
    assert summary["short EMA"]["against"] == "flow matching + short EMA"
    assert "against" not in summary["centred + long EMA"]  # its flow matching was not trained
    config = json.loads((tmp_path / "flow-matching-0" / "result.json").read_text())["config"]
    assert config["objective"]["ema_decay"] == 0.5


def found(directory, lever):
    return sorted(directory.glob(lever.replace(" + ", "+").replace(" ", "-") + "-[0-9]/result.json"))


def test_every_lever_is_a_recipe_of_its_own(levers):
    import argparse

    a = argparse.Namespace(
        width=64, depth=6, size=32, patch=4, codec="", vocabulary=640, steps=10, batch=4, device="cpu", threads=1,
        ema=0.998,
    )  # fmt: skip
    configs = [levers.configure(a, name, 0) for name in levers.DEFAULT]
    assert len({str(c) for c in configs}) == len(configs)
    assert {name for lever in levers.DEFAULT for name in lever.split(" + ")} == set(levers.LEVERS)


def test_intervals_and_equal_time_are_exact(levers):
    x = levers.interval([1.0, 2.0, 3.0])
    assert x["mean"] == 2.0
    assert x["half"] == pytest.approx(4.303 / 3**0.5)
    run = {"seconds a step": 2.0, "curve": {"10": {"0.5": 3.0}, "20": {"0.5": 1.0}}}
    assert levers.loss_at(run) == pytest.approx(1.0)
    assert [levers.loss_at(run, t) for t in (20.0, 30.0, 40.0)] == pytest.approx([3.0, 3**0.5, 1.0])
    levels = {"seconds a step": 1.0, "curve": {"1": {"0.1": 9.0, "0.9": 1.0}}}
    assert levers.loss_at(levels) == pytest.approx(3.0)
