"""Places: features know which reference they are of, and where in the picture they stand."""

import math
from dataclasses import replace

import pytest
import torch

from conftest import small_network, text_tokens
from selfflow.nn import Modality, Transformer
from selfflow.nn.places import FEATURES, LOUDNESS, NUMBERED, NUMBERS, WAVES, Numbers, turns, waves
from selfflow.tokens import AXES, Tokens, grid_positions
from selfflow.weight_files import load_weights, write_weights


def pictures(b=2, index=0.0, seed=3, rows=2):
    data = torch.randn(b, rows * rows, 12, generator=torch.Generator().manual_seed(seed))
    return Tokens(data, grid_positions(rows, rows, index=index).expand(b, -1, -1), "visual")


def taught(net):
    """Maps as they might be after some training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in net.places.maps.values():
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * 0.2)
    return net


def test_waves_are_sines_and_cosines_of_one_axis_each():
    place = torch.tensor([[[0.7, 0.125, -0.25, 3.0]]])
    told = waves(place, turns())[0, 0]
    lengths = [(axis, length) for axis, several in WAVES.items() for length in several]
    assert len(told) == FEATURES == 2 * len(lengths)
    for k, (axis, length) in enumerate(lengths):
        angle = 2 * math.pi * float(place[0, 0, AXES.index(axis)]) / length
        assert float(told[k]) == pytest.approx(math.sin(angle), abs=1e-6)
        assert float(told[len(lengths) + k]) == pytest.approx(math.cos(angle), abs=1e-6)
    later = place + torch.tensor([5.0, 0, 0, 0])  # a rollout goes on for ever
    assert torch.equal(waves(later, turns())[0, 0], told)


@torch.no_grad()
def test_a_network_may_gain_places_which_are_heard_beside_what_is_said(tmp_path):
    plain = small_network()
    told = Transformer(replace(plain.config, places=True))
    write_weights(plain.state_dict(), tmp_path)
    load_weights(told, tmp_path, new=("places.",))
    noisy, t = pictures(), torch.tensor([0.3, 0.9])
    known = [text_tokens(2), pictures(index=1.0, seed=4)]
    added = told.places("visual", pictures(rows=8).positions)
    assert float(added.square().mean().sqrt()) == pytest.approx(LOUDNESS, rel=0.15)
    said = plain(noisy, t, known)[0]
    assert not torch.allclose(said, told(noisy, t, known)[0], atol=1e-4)
    for layer in told.places.maps.values():  # nothing else has changed
        layer.weight.zero_()
    assert torch.equal(said, told(noisy, t, known)[0])
    with pytest.raises(ValueError, match=r"missing places\."):
        load_weights(told, tmp_path)


@torch.no_grad()
def test_values_of_a_reference_know_its_number_by_places_alone():
    for places in (False, True):
        net = small_network(places=places)
        if places:
            taught(net)
        first, second = (net.read([pictures(index=float(number))]) for number in (1, 2))
        gaps = [float((one - two).abs().max()) for one, two in zip(first.values, second.values, strict=True)]
        assert all((gap > 0.01) == places for gap in gaps), gaps


@torch.no_grad()
def test_a_number_is_told_from_the_second_reference_on_loudly_and_each_otherwise():
    torch.manual_seed(0)
    net = Numbers(256)
    net.init_weights()
    said = net(torch.tensor([[[0.4, 0.3, 0.2, float(number)] for number in range(121)]]))[0]
    assert torch.equal(said[:2], torch.zeros(2, 256))  # what is made, and the first
    own, number = net.map.weight, 5
    angle = 2 * math.pi * (number - 1) / torch.tensor(NUMBERS)
    torch.testing.assert_close(said[number], own @ torch.cat([angle.sin(), angle.cos() - 1]), rtol=1e-4, atol=1e-4)
    assert float(said[1:].square().mean().sqrt()) == pytest.approx(NUMBERED, rel=0.1)
    apart = torch.cdist(said[1:], said[1:]) / 16  # by root mean square
    assert float(apart[~torch.eye(120, dtype=torch.bool)].min()) > 0.25 * NUMBERED


@torch.no_grad()
def test_a_network_that_gains_numbers_goes_on_as_it_was_where_there_is_one_reference(tmp_path):
    plain = small_network(places=True)
    told = Transformer(replace(plain.config, numbers=True))
    write_weights(plain.state_dict(), tmp_path)
    load_weights(told, tmp_path, new=("numbers.",))
    noisy, t = pictures(), torch.tensor([0.3, 0.9])
    first, second = (pictures(index=float(number), seed=4 + number) for number in (1, 2))
    words = text_tokens(2)
    assert torch.equal(plain(noisy, t, [words, first])[0], told(noisy, t, [words, first])[0])
    assert not torch.allclose(plain(noisy, t, [words, second])[0], told(noisy, t, [words, second])[0], atol=1e-4)
    both = [words, first, second]
    assert not torch.allclose(plain(noisy, t, both)[0], told(noisy, t, both)[0], atol=1e-4)


@torch.no_grad()
def test_words_are_no_references_whatever_encodes_them():
    net = small_network(numbers=True)
    kinds = net.config.modalities | {"text": Modality(channels=6)}  # as of a pretrained encoder
    for modalities in (net.config.modalities, kinds):
        net = Transformer(replace(net.config, modalities=modalities))
        words = text_tokens(2)
        if not modalities["text"].vocabulary:
            words = words.with_data(torch.randn(*words.data.shape, 6))
        said = net.enter(words)
        net.numbers.map.weight.normal_()
        assert torch.equal(said, net.enter(words))
        assert not torch.equal(net.enter(pictures(index=2.0)), net.enter(pictures(index=1.0)))


def test_every_modality_learns_its_places():
    net = small_network(places=True)
    net(pictures(), torch.tensor([0.3, 0.9]), [text_tokens(2)])[0].square().mean().backward()
    for name in ("text", "visual"):
        assert net.places.maps[name].weight.grad.abs().sum() > 0
