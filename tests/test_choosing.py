"""Choosing among draws: what doubt is, which draw wins, and that one more choice never loses a draw."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import shaken_pipeline
from selfflow import choosing, flow, sample
from selfflow.cli import main
from selfflow.data.sample import Sample
from selfflow.modalities.action import Quantiles
from selfflow.modalities.text import BytePairs
from selfflow.pipeline import Pipeline
from selfflow.recipes import micro_all, nano
from selfflow.runtime import Runtime
from selfflow.tokens import Tokens

TEXT = BytePairs.train(["a red ball on a small blue box"] * 3, 280, 24)


@pytest.fixture(scope="module")
def pipe():
    config = nano()
    picture = replace(config.picture, size=32, patch=8)
    return shaken_pipeline(
        replace(config, picture=picture, network=replace(config.network, width=32, depth=2, heads=2)), TEXT
    )


@pytest.fixture(scope="module")
def joint():
    """One that makes clips with sound."""
    config = micro_all()
    network = replace(config.network, width=32, depth=2, heads=2, copying=False, matching=False, places=False, mid=0)
    made = shaken_pipeline(replace(config, picture=replace(config.picture, size=16), network=network), TEXT)
    made.modalities.quantiles = Quantiles.fit({"tabletop": {"actions": np.eye(4)}})
    return made


def generators(*seeds):
    return [torch.Generator().manual_seed(s) for s in seeds]


def tokens(data, joined=(), mask=None):
    return Tokens(data, torch.zeros(*data.shape[:2], 4), "visual", mask, joined)


# ------------------------------------------------------------------------------------------------------------ doubt


def test_doubt_is_how_far_the_data_said_is_from_the_data_made():
    """The velocity of one who says c whatever he sees is (x - c) / t: he doubts x0 by |x0 - c| / t at every level."""
    said, made = torch.full((1, 3, 2), 0.25), torch.tensor([0.25, 0.5, -0.75])[:, None, None].expand(3, 3, 2)
    doubt = choosing.doubt(lambda x, t: (x - said) / t, tokens(made))
    each = sum(1 / level for level in choosing.LEVELS) / len(choosing.LEVELS)
    assert torch.allclose(doubt, torch.tensor([0.0, 0.25, 1.0]) * each, atol=1e-5)


def test_the_true_velocity_of_a_mixture_doubts_what_is_rare_and_more_so_what_is_no_data():
    """Each value is 1 (four times of five) or -1: the posterior mean of it given x_t is known exactly."""

    def velocity(x, t):
        odds = torch.tensor(0.8).logit() + 2 * (1 - t) * x / t**2
        return (x - (2 * odds.sigmoid() - 1)) / t

    made = torch.tensor([1.0, -1.0, 4.0])[:, None, None].expand(3, 256, 1)
    often, seldom, never = choosing.doubt(velocity, tokens(made)).tolist()
    assert often < seldom < never


def test_padding_is_not_doubted_and_spans_are_added():
    data = torch.rand(2, 5, 4)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])

    def velocity(x, t):
        return x / t

    padded = choosing.doubt(velocity, tokens(data, mask=mask))
    alone = choosing.doubt(velocity, tokens(data[1:, :3], mask=None)[torch.tensor([0])])
    assert padded[1] != choosing.doubt(velocity, tokens(data))[1]
    assert torch.allclose(padded[1:], alone, atol=1e-5)
    pair = Tokens.join([tokens(data[:, :2]), Tokens(data[:, 2:, :3], torch.zeros(2, 3, 4), "audio")])
    parts = [choosing.doubt(velocity, tokens(data[:, :2])), choosing.doubt(velocity, tokens(data[:, 2:, :3]))]
    assert torch.allclose(choosing.doubt(velocity, pair), sum(parts), atol=1e-5)


# ----------------------------------------------------------------------------------------------------------- choice


def test_the_likeliest_is_the_one_of_least_doubt_and_of_what_the_text_explains():
    told = torch.tensor([1.0, 0.9, 1.2, 3.0, 2.0, 2.5])
    untold = torch.tensor([1.0, 0.7, 1.7, 3.0, 2.1, 3.0])
    assert choosing.likeliest(told, None, 3).tolist() == [1, 4]
    assert choosing.likeliest(told, untold, 3).tolist() == [2, 4]  # 1, 1.1, 0.7 and 3, 1.9, 2
    assert choosing.likeliest(told, untold, 1).tolist() == list(range(6))


@pytest.mark.parametrize("several", [True, False])
def test_the_first_draw_is_the_only_one_of_one_choice(several):
    def seeds():
        return generators(1, 2) if several else torch.Generator().manual_seed(1)

    drawn = choosing.noises((2, 5), seeds(), 3).unflatten(0, (2, 3))
    assert torch.equal(drawn[:, 0], sample.seeded_noise((2, 5), seeds()))
    assert len({tuple(row) for row in drawn.flatten(0, 1).tolist()}) == 6


@pytest.mark.parametrize("count", [0, -1, 65])
def test_refused_with_what_would_be_right(pipe, count, tmp_path, capsys):
    with pytest.raises(ValueError, match=rf"choices is {count}; 1 to 64"):
        pipe("a red ball", choices=count)
    with pytest.raises(ValueError, match=rf"choices is {count}; 1 to 64"):
        pipe.edit(np.zeros((1, 32, 32, 3), np.uint8), ["a red ball"], choices=count)
    with pytest.raises(SystemExit):
        main(["evaluate", "--suite", "digits", "--choices", str(count), "--json", str(tmp_path / "x.json")])
    assert f"choices is {count}; 1 to 64" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------- pipeline


def by_hand(pipe, prompt, seed, choices, **more):
    """All draws of a picture, and which has the least score, without the pipeline's way of choosing."""
    generator = torch.Generator().manual_seed(seed)
    draws = [
        pipe(prompt, num_inference_steps=3, output_type="pt", generator=[generator], **more).images
        for _ in range(choices)
    ]
    scores = []
    for draw in draws:
        made, score = pipe.modalities.encode_pictures(draw), 0.0
        for text, weight in ((prompt, 2), ("", -1)):
            velocity = pipe.velocity([text], made)
            for index, level in enumerate(choosing.LEVELS):
                noise = torch.randn(made.data.shape[1:], generator=torch.Generator().manual_seed(index))[None]
                t = torch.tensor(level)
                with torch.inference_mode():
                    wrong = velocity(flow.interpolate(made.data, noise, t[None]), t) - flow.velocity(made.data, noise)
                score += weight * wrong.square().mean(dim=2).sqrt().mean().item()
        scores.append(score)
    return draws, int(np.argmin(scores))


@pytest.mark.parametrize("kind", [Pipeline, Runtime])
def test_a_picture_chosen_is_the_likeliest_of_its_draws(pipe, kind):
    model = pipe if kind is Pipeline else Runtime(pipe, torch.float32)
    wins = set()
    for seed in range(4):
        draws, best = by_hand(pipe, "a red ball", seed, 4)
        found = model(
            "a red ball", num_inference_steps=3, output_type="pt", generator=generators(seed), choices=4
        ).images  # fmt: skip
        assert torch.allclose(found, draws[best], atol=1e-3)
        assert not any(torch.allclose(found, other, atol=1e-2) for i, other in enumerate(draws) if i != best)
        wins.add(best)
    assert len(wins) > 1  # or the first draw would pass for a choice


def test_the_least_score_wins_whatever_guidance_leads_away_from(pipe, monkeypatch):
    """What is read for drawing serves for choosing; what guidance leads away from only where that is nothing."""
    read, seen = pipe.read, []
    monkeypatch.setattr(pipe, "read", lambda prompts: seen.append(list(prompts)) or read(prompts))
    others = (
        ({"negative_prompt": "blue", "guidance_scale": 3.0}, [["blue"], [""]]),
        ({"guidance_scale": 3.0}, [[""]]),
        ({"guidance_scale": 1.0}, [[""]]),
    )
    for more, others_read in others:
        draws, best = by_hand(pipe, "a red ball", 2, 4, **more)
        seen.clear()
        options = {"num_inference_steps": 3, "output_type": "pt", "choices": 4, **more}
        found = pipe("a red ball", generator=generators(2), **options).images
        assert seen == [["a red ball"], *others_read]
        assert torch.allclose(found, draws[best], atol=1e-3)


def test_a_choice_does_not_depend_on_the_company(pipe):
    options = {"num_inference_steps": 3, "output_type": "np", "choices": 3}
    together = pipe(["a red ball", "a blue box"], generator=generators(5, 6), **options).images
    apart = [pipe(p, generator=generators(s), **options).images for p, s in (("a red ball", 5), ("a blue box", 6))]
    assert np.abs(together.astype(int) - np.concatenate(apart)).max() <= 1


def test_an_edit_is_one_of_its_draws_and_previews_show_the_first(pipe):
    rng = np.random.default_rng(0)
    asked = Sample(
        "a", np.zeros((32, 32, 3), np.uint8), "a ball", references=(rng.integers(0, 255, (32, 32, 3), np.uint8),)
    )
    generator = torch.Generator().manual_seed(3)
    draws = [pipe.solve("edit", [asked], steps=2, generator=[generator])[0].picture for _ in range(3)]
    seen = []
    found = pipe.solve(
        "edit", [asked], steps=2, generator=generators(3), choices=3, callback=lambda step, s: seen.append(s["visual"])
    )[0].picture  # fmt: skip
    assert any(np.abs(found.astype(int) - draw).max() <= 1 for draw in draws)
    assert [s.batch for s in seen] == [1, 1]


def test_only_where_nothing_but_text_is_known_does_what_it_explains_count(joint, monkeypatch):
    seen, choose = [], choosing.likeliest

    def watched(told, untold, choices):
        seen.append(None if untold is None else (told - untold).abs().max().item())
        return choose(told, untold, choices)

    monkeypatch.setattr(choosing, "likeliest", watched)
    options = {"steps": 1, "generator": generators(0), "choices": 2}
    clip = np.random.default_rng(0).integers(0, 255, (1, 4, 16, 16, 3), np.uint8)
    for guidance in (1, 2):
        joint.clip_and_sound(["a ball"], 4, 20, joint.config.audio.rate, guidance=guidance, **options)
        joint.inverse(clip, [""], "tabletop", 4, 20, **options)
    assert [doubt is None for doubt in seen] == [False, True] * 2
    assert seen[0] > 0


def test_who_ends_it_early_gets_the_first_as_far_as_it_came(pipe):
    options = {"num_inference_steps": 5, "output_type": "pt", "generator": generators(3)}
    ended = pipe("a red ball", callback=lambda step, _: step == 2, choices=3, **options).images
    options["generator"] = generators(3)
    first = pipe("a red ball", callback=lambda step, _: step == 2, **options).images
    assert ended.shape == first.shape
    assert torch.allclose(ended, first, atol=1e-3)


def test_a_clip_and_its_sound_are_chosen_together(joint):
    def sound_and_clip(**options):
        clip, sound = joint.clip_and_sound(["a ball"], 4, 20, joint.config.audio.rate, steps=2, **options)
        return clip[0].astype(int), sound[0]

    generator = torch.Generator().manual_seed(3)
    draws = [sound_and_clip(generator=[generator]) for _ in range(3)]
    clip, sound = sound_and_clip(generator=generators(3), choices=3)
    near = [i for i, (c, s) in enumerate(draws) if np.abs(c - clip).max() <= 1 and np.abs(s - sound).max() < 0.05]
    assert len(near) == 1


def test_what_was_done_is_chosen_too(joint):
    clips = np.random.default_rng(0).integers(0, 255, (1, 4, 16, 16, 3), np.uint8)
    made = joint.inverse(clips, [""], "tabletop", 4, 20, steps=2, generator=generators(1), choices=2)
    assert made.shape == (1, 4, 4)
    assert np.isfinite(made).all()
