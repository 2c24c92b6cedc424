"""The script that compares Self-Flow with flow matching by modality, in miniature; the samples it probes with."""

import argparse
import json
import math

import numpy as np
import pytest

from evaluate_toys import need
from scripts import RUNS, load_script
from selfflow.evaluate import labelled
from selfflow.evaluate.distances import interval


@pytest.fixture(scope="module")
def script():
    return load_script("modalities")


def test_intervals_are_students():
    assert interval([1.0, 2.0, 3.0]) == {"mean": 2.0, "half": pytest.approx(4.303 / 3**0.5), "values": [1.0, 2.0, 3.0]}
    assert interval([5.0])["half"] is None
    with pytest.raises(ValueError, match="at least one"):
        interval([])


def test_single_things_show_what_their_labels_say():
    samples, labels = labelled.single_things(60, 32)
    assert len({s.id for s in samples}) == 60
    assert set(map(len, labels.values())) == {60}
    assert min(len(set(values)) for values in labels.values()) > 4
    again, _ = labelled.single_things(60, 32)
    assert all(np.array_equal(a.picture, b.picture) for a, b in zip(samples, again, strict=True))
    # One colour differs from another where it matters: the most coloured pixels of two colours lie apart.
    middle = {c: np.mean([_vivid(s.picture) for s, k in zip(samples, labels["colour"], strict=True) if k == c], axis=0)
              for c in set(labels["colour"])}  # fmt: skip
    apart = [np.abs(a - b).max() for c, a in middle.items() for d, b in middle.items() if c < d]
    assert min(apart) > 10


def _vivid(picture):
    pixels = picture.reshape(-1, 3).astype(float)
    return pixels[np.argsort(np.ptp(pixels, axis=1))[-20:]].mean(axis=0)


def test_labels_are_numbered_by_name():
    assert labelled.numbered(["b", "a", "b", "c"]) == [1, 0, 1, 2]


def test_clips_and_digits_have_labels():
    need("lpc64", "fsdd8k")
    clips, labels = labelled.sprite_clips(40, 16, 4)
    assert {len(v) for v in labels.values()} == {40}
    assert len({(s.meta["animation"], n) for s, n in zip(clips, labels["animation"], strict=True)}) == len(
        set(labels["animation"])
    )
    sounds, labels = labelled.spoken_digits(30)
    assert labels["digit"] == [s.meta["digit"] for s in sounds]


def test_both_methods_are_measured_paired_and_resume(script, tmp_path, capsys):
    arguments = ["--quick", "--out", str(tmp_path), "--groups", "picture"]
    script.main([*arguments, "--seeds", "1"])
    first = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/result.json")}
    assert len(first) == 2
    script.main([*arguments, "--seeds", "2"])
    assert {p: p.stat().st_mtime_ns for p in first} == first  # nothing was trained again
    assert "| picture | 2 | " in capsys.readouterr().out
    row = json.loads((tmp_path / "modalities.json").read_text())["groups"]["picture"]
    runs = {m: [json.loads((tmp_path / f"picture-{k}-{s}" / "result.json").read_text()) for s in (0, 1)]
            for m, k in script.METHODS.items()}  # fmt: skip
    last = [script.loss(r, "picture", "2") for m in script.METHODS for r in runs[m]]
    expected = [math.log(last[2] / last[0]), math.log(last[3] / last[1])]
    assert row["equal steps"]["values"] == pytest.approx(expected)
    assert list(row["curves"]["Self-Flow"]) == ["1", "2"]
    assert set(row["probes"]) == {"object", "colour"}
    # Same weights to begin with and the same noise: both drew the same batches.
    assert row["loss"]["flow matching"]["mean"] == pytest.approx(row["loss"]["Self-Flow"]["mean"], rel=0.05)
    with pytest.raises(SystemExit, match="other options"):
        script.main([*arguments, "--seeds", "1", "--threads", "2"])


def test_equal_time_lies_between_the_points_measured(script):
    curve = {str(step): {"seconds a step": 2.0, "losses": {"x": {"0.5": 1.0 / step}}} for step in (5, 20)}
    found = [script.loss_after({"curve": curve}, "x", t) for t in (3.0, 25.0, 40.0)]
    assert found == pytest.approx([0.2, 0.1, 0.05])


def test_the_mixture_is_judged_as_one_by_the_mean_of_each_seed(script):
    summary = {name: {"equal steps": interval(values)} for name, values in
               {"a of the mixture": [-0.1, 0.3], "b of the mixture": [-0.3, 0.1], "a": [9.0, 9.0]}.items()}  # fmt: skip
    assert script.together(summary, "equal steps")["values"] == pytest.approx([-0.2, 0.2])
    assert script.together({"a": summary["a"]}, "equal steps") is None


def test_the_floor_is_the_loss_of_the_best_guess_without_looking(script):
    """Of data that are pure noise no network knows more than mean and variance: the Gaussian's own loss."""
    import torch

    data = 0.7 * torch.randn(20_000, 1, 3, generator=torch.Generator().manual_seed(0)) + 5
    examiner = script.Examiner.__new__(script.Examiner)
    examiner.held = {"x": type("Held", (), {"data": data})}
    losses = []
    for t in script.LEVELS:
        noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(1))
        x_t, variance = (1 - t) * data + t * noise, 0.49
        best = 5 + (1 - t) * variance / ((1 - t) ** 2 * variance + t**2) * (x_t - (1 - t) * 5)
        losses.append(float(((x_t - best) / t - (noise - data)).square().mean()))
    assert examiner.floor("x") == pytest.approx(math.prod(losses) ** (1 / len(losses)), rel=0.02)


def test_copying_is_compared_with_its_floor_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(RUNS))
    script = load_script("copying")
    arguments = ["--quick", "--out", str(tmp_path), "--groups", "edit", "--seeds", "1"]
    options = ["frames", "count", "out", "vocabulary", "captions", "size", "patch", "steps", "batch"]
    parsed = argparse.Namespace(**dict.fromkeys(options, 8))
    parsed.out, parsed.width, parsed.depth = tmp_path, 32, 2
    practices = [script.configure(parsed, "edit", m, 0).objective.modalities for m in ("matching", "several draws")]
    assert [p["visual"].draws for p in practices] == [1, 0]
    script.main(arguments)
    first = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*/result.json")}
    assert len(first) == 2
    script.main(arguments)
    assert {p: p.stat().st_mtime_ns for p in first} == first
    assert "| edit | 1 | " in capsys.readouterr().out
    row = json.loads((tmp_path / "copying.json").read_text())["groups"]["edit"]
    last = {m: json.loads((tmp_path / f"edit-{m}-0" / "result.json").read_text()) for m in ("plain", "copying")}
    losses = [script.loss(r, "edit", "2") for r in last.values()]
    assert row["equal steps"]["values"] == pytest.approx([math.log(losses[1] / losses[0])])
    # What says that nothing changes errs by what an edit changes, at every level alike: the mean is that of one level.
    from selfflow.data.registry import open_named
    from selfflow.data.sample import Sample
    from selfflow.evaluate.measures import chosen

    found = open_named("tabletop-edit", 32, "test", 4)
    cases: list[Sample] = [found[i] for i in chosen(len(found), 6, 0)]
    change = np.mean([(c.picture / 127.5 - np.asarray(c.references[0]) / 127.5) ** 2 for c in cases])
    scale = math.prod(1 / t**2 for t in script.LEVELS) ** (1 / len(script.LEVELS))
    assert row["floor"] == pytest.approx(change * scale, rel=1e-3)
