"""What training hides so that guidance has something to lead away from: texts, and references, each by itself; and
states, so that they may be missing."""

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from selfflow.building import build_modalities
from selfflow.config import ControlConfig
from selfflow.data.loader import Batch
from selfflow.data.sample import Sample
from selfflow.modalities.action import Quantiles
from selfflow.modalities.text import BytePairs
from selfflow.objectives.base import Practice, worthwhile
from selfflow.recipes import nano
from selfflow.times import Draws
from selfflow.tokens import Chain
from selfflow.train.task import Prepare

B = 16


@pytest.fixture(scope="module")
def given():
    """Modalities, and a batch of edits by two references each as tokens; its texts are longer than the empty one."""
    config = replace(nano(), picture=replace(nano().picture, size=8, patch=4))
    text = BytePairs.train(["turn it red", "make it blue"], 270)
    modalities = build_modalities(config, text)
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (B, 3, 8, 8, 3), np.uint8)
    samples = [Sample(str(i), p[0], "turn it red", references=(p[1], p[2])) for i, p in enumerate(pictures)]
    return modalities, Prepare(modalities).encode(Batch(samples, task="edit"))


def hidden(given, text_drop, reference_drop, draws):
    """Which texts are the empty one, and which references nobody sees `(B,)`; all others must be as they were."""
    modalities, batch = given
    _, (text, *references) = Prepare(modalities, text_drop, reference_drop)(batch, draws)
    empty, whole = modalities.text([""]), batch.streams["text"]
    no_text = text.full_mask.sum(dim=1) == empty.full_mask.sum()
    for i, (row, seen) in enumerate(zip(text.data, text.full_mask, strict=True)):
        true = empty.data[0, empty.full_mask[0]] if no_text[i] else whole.data[i, whole.full_mask[i]]
        assert torch.equal(row[seen], true)
    seen = torch.stack([tokens.full_mask for tokens in references], dim=1).flatten(1)
    assert len(references) == 2
    assert torch.equal(seen.all(dim=1), seen.any(dim=1))  # both pictures, whole, or nothing of either
    for tokens, true in zip(references, batch.streams["references"], strict=True):
        assert torch.equal(tokens.data, true.data)
    return no_text, ~seen.any(dim=1)


@pytest.mark.parametrize(("text_drop", "reference_drop"), [(1, 0), (0, 1), (1, 1), (0, 0)])
def test_text_and_references_are_hidden_each_by_its_own_share(given, text_drop, reference_drop):
    for step in range(3):
        no_text, no_references = hidden(given, text_drop, reference_drop, Draws.at(0, step))
        assert no_text.tolist() == [bool(text_drop)] * B
        assert no_references.tolist() == [bool(reference_drop)] * B


def test_they_are_hidden_as_often_as_asked_and_independently(given):
    steps, text_drop, reference_drop = 60, 0.3, 0.15
    found = [hidden(given, text_drop, reference_drop, Draws.at(7, step)) for step in range(steps)]
    no_text, no_references = (torch.stack(rows) for rows in zip(*found, strict=True))
    for step in range(steps):  # the first two draws of a step, and no others
        draws = Draws.at(7, step)
        assert torch.equal(no_text[step], draws.uniform(B) < text_drop)
        assert torch.equal(no_references[step], draws.uniform(B) < reference_drop)
    both = no_text & no_references
    for rows, share in ((no_text, 0.3), (no_references, 0.15), (both, 0.3 * 0.15)):
        assert abs(rows.float().mean() - share) < 3 * (share * (1 - share) / rows.numel()) ** 0.5


def test_a_share_that_is_none_is_refused(given):
    for what, share in (("text", 1.1), ("reference", -0.1), ("state", 2.0)):
        with pytest.raises(ValueError, match=f"{what} drop is {share}"):
            Prepare(given[0], **{f"{what}_drop": share})


def test_states_are_hidden_as_often_as_asked_and_by_default_nothing_is_drawn_for_them():
    config = replace(nano(), picture=replace(nano().picture, size=8, patch=4), control=ControlConfig(3))
    text, rows = BytePairs.train(["push it"], 270), np.random.default_rng(0).uniform(-1, 1, (B, 2, 3))
    modalities = build_modalities(config, text, Quantiles.fit({"toy": {"actions": rows[0], "states": rows[0]}}))
    picture = np.zeros((8, 8, 3), np.uint8)
    samples = [
        Sample(str(i), picture, "push it", actions=r, states=r, control_hz=10, body="toy") for i, r in enumerate(rows)
    ]
    batch = Prepare(modalities).encode(Batch(samples, task="act"))

    def states(step, **options):
        draws = Draws.at(3, step)
        known = Prepare(modalities, 0.0, **options)(batch, draws)[1]
        return known[-1], draws

    for step in range(3):
        whole, draws = states(step)
        assert bool(whole.full_mask.all())
        expected = Draws.at(3, step)
        expected.uniform(B)  # of texts; references are none of this task's
        assert torch.equal(draws.uniform(B), expected.uniform(B))
        some, _ = states(step, state_drop=0.4)
        expected = Draws.at(3, step)
        expected.uniform(B)
        assert torch.equal(~some.full_mask[:, 0], expected.uniform(B) < 0.4)
        assert torch.equal(some.data, whole.data)


def test_what_is_generated_comes_several_times_and_what_is_known_once(given):
    modalities, batch = given
    once, known = Prepare(modalities, 0.5, 0.5)(batch, Draws.at(1, 2))
    thrice, same = Prepare(modalities, 0.5, 0.5, draws={"visual": 3, "audio": 7})(batch, Draws.at(1, 2))
    assert torch.equal(thrice.data, once.data.repeat_interleave(3, dim=0))
    assert thrice.batch == 3 * B
    for a, b in zip(known, same, strict=True):
        assert torch.equal(a.data, b.data)
        assert torch.equal(a.full_mask, b.full_mask)


def test_left_open_draws_are_as_many_as_what_is_known_is_worth(given):
    """Four tokens are generated from two references of four each and a text."""
    modalities, batch = given
    prepare = Prepare(modalities, 0.0, 0.0, draws={"visual": 0})
    generated, known = prepare(batch, Draws.at(1, 2))
    words = len(known[0])
    assert generated.batch == B * (1 + (8 + words) // 4) == B * worthwhile(8 + words, 4)
    assert [worthwhile(known, 64) for known in (20, 63, 64, 130, 200, 700)] == [1, 1, 2, 3, 4, 4]
    with pytest.raises(ValueError, match="draws of noise for a sample are -1; choose 1 to 64, or 0"):
        Practice(draws=-1)
    joined = Chain((generated, generated))
    assert len(joined) == 2 * len(generated)


def test_the_noise_of_gradients_is_parted_into_draws_and_samples_and_told_for_equal_time(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    benchmark = importlib.import_module("draws")
    generator = torch.Generator().manual_seed(0)
    samples, draws = torch.randn(400, 1, 50, generator=generator), torch.randn(400, 3, 50, generator=generator)
    between, within = benchmark.shares(7 + 2 * samples + 3 * draws)
    assert (between, within) == (pytest.approx(50 * 4, rel=0.1), pytest.approx(50 * 9, rel=0.05))
    assert benchmark.shares(3 * draws)[0] < 10
    assert benchmark.left(0.9, 4, 2.0) == pytest.approx(2 * (0.1 + 0.9 / 4))
    assert benchmark.left(0.3, 1, 1.0) == 1
