"""Letters begin as what they look like: alike where they look alike, as loud as words, and only once."""

import string
from dataclasses import replace

import numpy as np
import pytest
import torch

from selfflow.modalities.looks import SIDE, look_alike, looks
from selfflow.modalities.text import BytePairs
from selfflow.pipeline import Pipeline
from selfflow.train.run import train
from selfflow.weight_files import read_weights
from test_train_mixture import tiny


def test_what_looks_alike_is_near():
    drawn = looks(string.ascii_lowercase)
    assert drawn.shape == (26, SIDE * SIDE)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert (looks("A") == looks("a")).all()
    apart = np.linalg.norm(drawn[:, None] - drawn[None], axis=2)
    place = {c: i for i, c in enumerate(string.ascii_lowercase)}
    for one, near, far in ("prx", "eft", "ogi", "cgi"):
        assert apart[place[one], place[near]] < apart[place[one], place[far]]
    assert apart[~np.eye(26, dtype=bool)].min() > 0.3  # none is another


def test_letters_are_their_looks_and_words_what_they_were():
    text = BytePairs.train(["a red ball", 'a sign says "SUN"'] * 9, 300, 16)
    vocabulary = text.tokenizer.get_vocab()
    weight = torch.randn(len(vocabulary), 48, generator=torch.Generator().manual_seed(1)) * 0.7
    found = look_alike(weight, text)
    letters = [vocabulary[c] for c in string.ascii_lowercase]
    rest = [
        i
        for token, i in vocabulary.items()
        if not (len(token) == 1 and token in "abcdefghijklmnopqrstuvwxyz0123456789")
    ]
    assert torch.equal(found[rest], weight[rest])
    assert float(found[letters].square().mean().sqrt()) == pytest.approx(0.7, rel=0.1)
    shown = torch.from_numpy(looks(string.ascii_lowercase)).float()
    apart, told = torch.pdist(shown), torch.pdist(found[letters])
    assert float(torch.corrcoef(torch.stack([apart, told]))[0, 1]) > 0.9
    assert torch.equal(found, look_alike(weight, text))


def test_a_run_begins_so_and_one_that_goes_on_keeps_what_it_learned(tmp_path):
    plain = replace(tiny(1), text=replace(tiny(1).text, looks=False))
    told = replace(plain, text=replace(plain.text, looks=True))
    learning = replace(plain.optim, learning_rate=1e-9)
    plain, told = (replace(c, optim=learning) for c in (plain, told))
    train(plain, tmp_path / "plain", progress=False)
    text = BytePairs.load(tmp_path / "plain")
    first = text.tokenizer.get_vocab()["a"]

    def letter(name):
        return read_weights(tmp_path / name)["embed.text.weight"][first].float()

    train(told, tmp_path / "gained", progress=False, init=tmp_path / "plain")
    wanted = look_alike(read_weights(tmp_path / "plain")["embed.text.weight"].float(), text)[first]
    torch.testing.assert_close(letter("gained"), wanted, atol=2e-2, rtol=2e-2)
    assert not torch.allclose(letter("gained"), letter("plain"), atol=0.1)
    train(told, tmp_path / "on", progress=False, init=tmp_path / "gained")
    torch.testing.assert_close(letter("on"), letter("gained"), atol=2e-2, rtol=2e-2)
    train(told, tmp_path / "fresh", progress=False)
    own = BytePairs.load(tmp_path / "fresh").tokenizer.get_vocab()["a"]
    fresh = Pipeline.from_pretrained(tmp_path / "fresh").net.embed["text"].weight.detach()
    torch.testing.assert_close(
        fresh[own], look_alike(fresh, BytePairs.load(tmp_path / "fresh"))[own], atol=2e-2, rtol=2e-2
    )
