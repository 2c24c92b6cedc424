"""What stands in quotes is printed: where something is like it, in its own letters and the colours of the place."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from selfflow.config import NetworkConfig
from selfflow.modalities.looks import give_letters, typeface
from selfflow.modalities.pixels import to_pixels, to_values
from selfflow.modalities.text import BytePairs
from selfflow.modalities.visual import Patches
from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.nn.stencils import (
    CAPITAL,
    CELL,
    DOUBT,
    EDGE,
    LETTERS,
    PHASES,
    QUOTE,
    RARE,
    SIZES,
    Stencils,
    words,
)
from selfflow.objectives import FlowMatching
from selfflow.worlds.tabletop.check import score_text
from selfflow.worlds.tabletop.draw import draw
from selfflow.worlds.tabletop.render import render
from selfflow.worlds.tabletop.scene import Scene

SIDE = 8
PATCHES = Patches(SIDE)
NOWHERE = torch.zeros(len(SIZES), 64, 64)  # what features say where they know nothing


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def text():
    pairs = BytePairs.train(['a red sign that says "CAT"', 'change the word to "DOG"'] * 20, vocabulary=300)
    pairs.spell()
    return pairs


def stencils(text):
    made = Stencils(16, SIDE, 3, ["visual"], text.modality.vocabulary)
    made.init_weights()
    give_letters(made, text)
    return made


def network(text, **options):
    kinds = {"text": text.modality, "visual": PATCHES.modality}
    net = Transformer(TransformerConfig(kinds, width=32, depth=2, heads=2, mlp_ratio=2.0, **options))
    generator = seeded()
    with torch.no_grad():
        for name, p in net.named_parameters():
            if not name.startswith("stencils."):
                p.copy_(torch.randn(p.shape, generator=generator) * (0.05 if p.ndim < 2 else p.shape[-1] ** -0.5))
    if net.stencils is not None:
        give_letters(net.stencils, text)
    return net.eval()


def code(word):
    return tuple(LETTERS.index(letter) + 1 for letter in word)


@pytest.mark.parametrize("shape", [(64, 64), (24, 80)])
def test_what_is_explained_is_the_same_by_frequency_as_place_by_place(text, shape, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    from printing import directly

    own, noise = stencils(text), 0.2 * torch.rand(3, *shape, generator=seeded())
    for capital in (6.4, 10.0, 15.6):
        for word in ("GO", "TEA"):
            masks, units = own.stencil(code(word), capital, noise.device)
            h, w = masks.shape[2:]
            picture = noise.clone()
            picture[:, 5 : 5 + h, 7 : 7 + w] += masks[2, 0]
            (found,) = own._explained(picture, code(word), [units])
            assert torch.allclose(found, directly(own, picture, code(word), [units])[0], atol=1e-5)
            assert tuple(int(i) for i in np.unravel_index(int(found.argmax()), found.shape)) == (2, 5, 7)
            assert found.shape == (len(PHASES), shape[0] - h + 1, shape[1] - w + 1)


def sign(word, size="medium", colour="red", seed=0):
    """A scene of one sign, and the same bearing another word of as many letters."""
    scene = draw(seed, 1, ("sign",))
    return Scene((replace(scene.things[0], word=word, size=size, colour=colour, x=0.5),), scene.wall, scene.wood)


def test_words_are_letters_between_quotation_marks():
    a, b, other = 1, 2, 0
    assert words([other, QUOTE, a, b, QUOTE, a, QUOTE, b, QUOTE]) == [(a, b), (b,)]
    assert words([QUOTE, a, QUOTE, QUOTE, a, QUOTE]) == [(a,)]  # each once
    assert words([a, b, QUOTE, a]) == []  # a quotation that does not end
    assert words([QUOTE, QUOTE, QUOTE, a, other, QUOTE]) == []  # nothing, and what is no letter


def test_tokens_say_their_letters(text):
    made, tokens = stencils(text), text(['a sign that says "CAT"', "a big cat"])
    _, codes = made.read(tokens, torch.zeros(2, len(tokens), 16))
    rows = codes[:, :, 0, 0].long().tolist()
    assert words(rows[0]) == [code("CAT")]
    assert words(rows[1]) == []
    _, none = made.read(PATCHES.tokens(torch.zeros(2, 3, 16, 16)), torch.zeros(2, 4, 16))
    assert none.shape == (2, 0, 1, 1)


def test_the_typeface_is_one_of_capitals():
    faces = typeface()
    assert faces.shape == (26, CAPITAL, CELL)
    assert len(np.unique(faces.reshape(26, -1), axis=0)) == 26
    inked = faces.astype(float).mean(axis=(1, 2)) / 255
    assert 0.15 < inked.min() < inked[LETTERS.index("M")] < 0.6
    assert inked[LETTERS.index("I")] < inked[LETTERS.index("M")]


def test_a_stencil_has_as_much_ink_as_its_letters_wherever_it_lies(text):
    made = stencils(text)
    for capital in (6.4, 10.0, 15.6):
        masks, units = made.stencil(code("CAT"), capital, torch.device("cpu"))
        assert masks.shape[0] == len(PHASES)
        ink = sum(made.typeface[c - 1].float().mean() for c in code("CAT")) / 255 * 0.8 * capital**2
        torch.testing.assert_close(masks.sum(dim=(1, 2, 3)), torch.full((4,), float(ink)), rtol=0.03, atol=0)
        assert float(masks[:, :, :1, :1].abs().max()) == 0  # paper all round
        torch.testing.assert_close(units.mean(dim=(2, 3)), torch.zeros(4, 1), rtol=0, atol=1e-6)
        torch.testing.assert_close(units.square().sum(dim=(1, 2, 3)), torch.ones(4))
        right = (masks[0] * torch.arange(masks.shape[3])).sum() / masks[0].sum()
        later = (masks[1] * torch.arange(masks.shape[3])).sum() / masks[1].sum()
        assert float(later - right) == pytest.approx(0.5, abs=0.02)
        assert masks.shape[3] >= 3 * 0.8 * capital + 2 * EDGE


@pytest.mark.parametrize("size", ["small", "medium", "large"])
@pytest.mark.parametrize("colour", ["red", "yellow"])  # which bear light letters and dark ones
def test_a_word_is_found_in_a_picture_that_bears_it(text, size, colour):
    made = stencils(text)
    picture = to_values([render(sign("CAT", size, colour), 64)])[0]
    place, *others = made._places(picture, code("CAT"), NOWHERE, 0.5)
    assert place.odds > 5 > 0 > max(other.odds for other in others)
    assert float((picture[(slice(None), *place.cut)] - place.printed).abs().mean()) < 0.15
    assert made._places(picture, code("DOG"), NOWHERE, 0.5)[0].odds < place.odds - 3


def test_in_large_pictures_words_are_sought_by_their_means(text):
    """And printed as finely as the picture is: 200 pixels, three to a mean."""
    picture = to_values([render(sign("CAT", "large"), 200)])[0]
    place, *_ = stencils(text)._places(picture, code("CAT"), torch.zeros(len(SIZES), 200, 200), 0.5)
    assert place.odds > 5
    assert place.printed.shape[1:] == (34, 77)  # a capital of 31.2, and what is about it
    assert float((picture[(slice(None), *place.cut)] - place.printed).abs().mean()) < 0.2


def test_another_word_is_laid_where_one_is_in_the_same_colours(text):
    made = stencils(text)
    for before, after, known in (("STOP", "FISH", 0.0), ("GO", "UP", 0.0), ("CAT", "DOG", 8.0)):
        picture, told = to_values([render(sign(before, "large", "blue"), 64)])[0], NOWHERE.clone()
        told[2, 42:45, 30:34] = known  # letters of 10 pixels, in the middle of the sign: what features may say
        place = made._places(picture, code(after), told, 0.5)[0]
        picture = place._replace(odds=torch.tensor(20.0)).laid_on(picture)
        asked = f'a large blue sign that says "{after}"'
        assert score_text(to_pixels(picture[None])[0], asked).faults == ()


def test_two_signs_of_one_word_both_bear_it(text):
    scene = sign("CAT", "small", "blue")
    first, second = (replace(scene.things[0], x=x) for x in (0.25, 0.75))
    picture = to_values([render(Scene((first, second), scene.wall, scene.wood), 64)])[0]
    *places, other = stencils(text)._places(picture, code("CAT"), NOWHERE, 0.5)
    assert sorted(round((p.cut[1].start + p.cut[1].stop) / 128, 1) for p in places) == [0.2, 0.8]
    assert min(p.odds for p in places) > 5 > 0 > other.odds


def test_features_learn_where_words_are_from_clean_pictures(text):
    """One sign of letters of 10 pixels: of 64 patches and 5 sizes one is right."""
    made, picture = stencils(text), to_values([render(sign("CAT", "large"), 64)])
    data, codes = PATCHES.tokens(picture).data, torch.tensor([[QUOTE, *code("CAT"), QUOTE]]).float()
    given = (data, data, torch.full((1, 1), 0.1))
    place = made._places(picture[0], code("CAT"), NOWHERE, 0.5)[0]
    assert place.size == 2
    row, column = ((part.start + part.stop) // 2 // SIDE for part in place.cut)
    y = torch.zeros(1, 64, 16)
    y[0, 8 * row + column, 0] = 1.0
    missed = made.take("visual", y, *given, codes, (8, 8), data)[1].detach()
    none = len(SIZES) * math.log1p(math.exp(RARE))
    assert missed[0, 8 * row + column] == pytest.approx(none - RARE, rel=1e-3)
    assert missed.sum() == pytest.approx(64 * none - RARE, rel=1e-3)
    with torch.no_grad():
        made.where["visual"].weight[2, 0] = 2.0
    missed = made.take("visual", y, *given, codes, (8, 8), data)[1].detach()
    assert missed.sum() == pytest.approx(64 * none, rel=0.02)


@pytest.mark.parametrize("t", [0.2, 0.6])
def test_misspelt_and_noisy_signs_are_spelled(text, t):
    """What was said bears other letters, what is noisy the right ones: odds and place come of both."""
    made, true = stencils(text), to_values([render(sign("FISH", "large"), 64)])
    said = PATCHES.tokens(to_values([render(sign("STOP", "large"), 64)])).data
    clean, codes = PATCHES.tokens(true), torch.tensor([[QUOTE, *code("FISH"), QUOTE]]).float()
    x_t = (1 - t) * clean.data + t * torch.randn(clean.data.shape, generator=seeded())
    given = (torch.zeros(1, 64, 16), said, x_t, torch.full((1, 1), t))
    with torch.no_grad():
        made.where["visual"].bias.zero_()
    (found, known, odds), _ = made.take("visual", *given, codes, (8, 8))
    spelled = made.mix(said, found, known, odds)
    error, before = ((x - clean.data).square().mean() for x in (spelled, said))
    assert error < 0.5 * before
    assert torch.equal(spelled[known == 0], said[known == 0])
    assert made.take("visual", *given, 0 * codes, (8, 8)) is None


def test_a_network_that_gains_stencils_says_the_same_where_nothing_is_quoted(text):
    plain, printing = network(text), network(text, stencils=True)
    missing = printing.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all(name.startswith("stencils.") for name in missing)
    noisy, t = PATCHES.tokens(torch.randn(2, 3, 64, 64, generator=seeded())), torch.tensor([0.3, 0.9])
    for known in ([], [text(["a red sign", "a cat"])], [PATCHES.tokens(torch.zeros(2, 3, 64, 64))]):
        assert torch.equal(plain(noisy, t, known)[0], printing(noisy, t, known)[0])
    said, spelled = (net(noisy, t, [text(['a sign "CAT"', "a cat"])])[0] for net in (plain, printing))
    assert not torch.equal(said[0], spelled[0])
    assert torch.equal(said[1], spelled[1])
    part = noisy.take(torch.arange(64) < 9)  # of part of a picture nobody knows where its patches lie
    assert torch.equal(*(net(part, t, [text(['a sign "CAT"'] * 2)])[0] for net in (plain, printing)))


def test_everything_learns_but_what_mid_depth_takes_over(text):
    net = network(text, stencils=True, mid=1)
    with torch.no_grad():
        net.stencils.gates["visual"].weight.normal_(0, 0.1, generator=seeded(1))
    data = PATCHES.tokens(to_values([render(sign("CAT"), 64), render(sign("DOG"), 64)]))
    told = text(['a sign "CAT"', 'a sign "DOG"'])
    FlowMatching(net)(data, [told], draws=seeded()).total.backward()
    for name, p in net.stencils.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name
    assert (net.stencils.trust.grad[2:] != 0).all()  # the first two choose places alone
    net.zero_grad()
    x_t = data.with_data(0.5 * data.data + 0.5 * torch.randn(data.data.shape, generator=seeded()))
    _, (early,) = net(x_t, torch.full((2,), 0.5), [told], mid=True)
    early.square().sum().backward()
    assert all(p.grad is None for p in net.stencils.parameters())


def test_memory_joined_and_repeated_keeps_what_is_to_be_printed(text):
    net = network(text, stencils=True)
    noisy, t = PATCHES.tokens(torch.randn(2, 3, 64, 64, generator=seeded())), torch.tensor([0.4, 0.4])
    reference = PATCHES.tokens(torch.zeros(1, 3, 64, 64), index=1.0)
    told = text(['a sign "CAT"'])
    alone = net(noisy[:1], t[:1], [told, reference])[0]
    memory = net.read([reference]) + net.read([told])  # in another order
    torch.testing.assert_close(net(noisy, t, memory.repeat(2))[0][:1], alone, rtol=1e-4, atol=1e-4)
    stacked = type(memory).stack([net.read([told, reference]), net.read([text([""])])])
    torch.testing.assert_close(net(noisy, t, stacked)[0][:1], alone, rtol=1e-4, atol=1e-4)


def test_too_long_a_word_or_too_small_a_picture_prints_nothing(text):
    made = stencils(text)
    assert made._places(torch.zeros(3, 8, 8), code("CAT") * 4, NOWHERE[:, :8, :8], 0.5) == []
    assert words([QUOTE, *code("CAT") * 5, QUOTE]) == []
    for place in made._places(torch.zeros(3, 64, 64), code("CAT"), NOWHERE, 0.5):  # nowhere likelier than anywhere
        assert place.odds == -0.5 * DOUBT
        assert torch.isfinite(place.printed).all()


def test_what_cannot_print_does_not(text):
    with pytest.raises(ValueError, match="matching and stencils need two blocks"):
        TransformerConfig({"text": text.modality, "visual": PATCHES.modality}, depth=1, stencils=True)
    shape = NetworkConfig(width=64, depth=2, heads=1, stencils=True)
    latents, spoken = Patches(1, channels=48).modality, Modality(channels=16)
    assert shape.build({"text": text.modality, "visual": PATCHES.modality}).stencils
    assert not shape.build({"text": text.modality, "visual": latents}).stencils
    assert not shape.build({"text": spoken, "visual": PATCHES.modality}).stencils
    unspelled = BytePairs.train(['a red sign that says "CAT"'] * 20, vocabulary=300)
    made = Stencils(16, SIDE, 3, ["visual"], unspelled.modality.vocabulary)
    give_letters(made, unspelled)
    assert not made.glyphs.any()
