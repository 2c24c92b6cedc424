"""The recipe of all tasks, made tiny: it trains, resumes exactly, begins from given weights, and misses no pack."""

from dataclasses import replace

import pytest
import torch

from selfflow.card import model_card
from selfflow.data.mixture import Ingredient
from selfflow.data.packs import PackMissing
from selfflow.data.registry import SOURCES
from selfflow.data.sample import Sample
from selfflow.modalities.text import BytePairs
from selfflow.objectives import FlowMatching
from selfflow.pipeline import Pipeline, build_network
from selfflow.recipes import micro_all
from selfflow.tasks import TASKS
from selfflow.train.run import open_text, train
from selfflow.train.trainer import read_metrics
from selfflow.train.translation import GAINED, begun
from selfflow.weight_files import load_weights

OWN = ("tabletop-still:picture:1", "tabletop-edit:edit:1", "tabletop-clip:clip+sound:1", "tabletop-clip:dub:1")


def tiny(steps=4, mixture=OWN, **data):
    config = micro_all()
    return replace(
        config,
        data=replace(config.data, mixture=mixture, frames=4, workers=0, **data),
        text=replace(config.text, vocabulary=270, captions=40),
        picture=replace(config.picture, size=32, patch=16, frames=2),
        network=replace(config.network, width=32, depth=2, heads=2),
        train=replace(config.train, steps=steps, batch_size=8, save_every=2, device="cpu", threads=1),
    )


def losses(directory):
    return [(m["step"], m["loss"]) for m in read_metrics(directory / "metrics.jsonl")]


def test_a_mixture_trains_and_resumes_bit_for_bit(tmp_path):
    train(tiny(), tmp_path / "whole", progress=False)
    train(tiny(), tmp_path / "cut", progress=False, until=2)
    train(tiny(), tmp_path / "cut", progress=False)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    logged = set().union(*read_metrics(tmp_path / "whole" / "metrics.jsonl"))
    assert {"velocity_visual", "velocity_clip", "velocity_audio"} <= logged
    pipe = Pipeline.from_pretrained(tmp_path / "whole")
    clips, sounds = pipe.clip_and_sound(["a ball falls"], 4, 20, 16_000, steps=2)
    assert clips.shape == (1, 4, 32, 32, 3)
    assert sounds.shape == (1, 3200)
    begun = train(tiny(steps=1), tmp_path / "begun", progress=False, init=tmp_path / "whole", until=1)
    assert begun.step == 1
    other, given = (Pipeline.from_pretrained(tmp_path / n).net.state_dict() for n in ("begun", "whole"))
    assert all(torch.allclose(a, b, atol=0.02) for a, b in zip(other.values(), given.values(), strict=True))


def test_a_run_begun_with_a_model_of_other_sounds_draws_their_layers_anew_and_says_so(tmp_path, caplog):
    lapped = tiny(steps=1)
    lapped = replace(lapped, audio=replace(lapped.audio, codec=""))
    train(lapped, tmp_path / "lapped", progress=False)
    train(tiny(steps=1), tmp_path / "mel", progress=False, init=tmp_path / "lapped")
    assert "other tokens of sound: the layers of sound are drawn anew" in caplog.text
    given, other = (Pipeline.from_pretrained(tmp_path / n).net.state_dict() for n in ("lapped", "mel"))
    for name, value in other.items():
        if "audio" in name:
            assert value.shape[-1] == 160 or value.shape[0] in (160, 32)
        else:
            assert torch.allclose(value, given[name], atol=0.02)


def test_a_run_begun_with_a_model_of_pixels_translates_its_layers_to_latents_and_says_so(tmp_path, caplog):
    from selfflow.codecs.autoencoder import Shape
    from selfflow.codecs.patchwise import PatchAutoencoder

    torch.manual_seed(0)
    codec = PatchAutoencoder(Shape(channels=24, strides=(16,), widths=(8,), blocks=(1,), own=1))
    codec.begin(torch.rand(256, 3, 32, 32) * 2 - 1)
    codec.save(tmp_path / "codec")
    pixels = tiny(steps=1, mixture=OWN[1:2])
    latents = replace(pixels, picture=replace(pixels.picture, patch=1, codec=str(tmp_path / "codec")))
    train(pixels, tmp_path / "pixels", progress=False)
    train(latents, tmp_path / "latents", progress=False, init=tmp_path / "pixels")
    assert "other tokens of pictures: its layers are translated" in caplog.text
    given, other = (Pipeline.from_pretrained(tmp_path / n).net.state_dict() for n in ("pixels", "latents"))
    for name, value in other.items():
        if ".visual." not in name and ".clip." not in name:
            assert torch.allclose(value, given[name], atol=0.02)
    assert other["embed.clip.weight"].shape == (32, 48)
    assert other["head.visual.weight"].shape == (24, 32)
    # What is cut otherwise cannot be translated.
    finer = replace(pixels, picture=replace(pixels.picture, patch=8))
    train(finer, tmp_path / "finer", progress=False, init=tmp_path / "pixels")
    assert "the layers of pictures are drawn anew" in caplog.text


@pytest.mark.parametrize(
    ("before", "after", "anew", "gone"),
    [
        ((2, 16_000, 8), (4, 16_000, 8), {"visual", "clip"}, set()),
        ((2, 16_000, 8), (1, 0, 0), {"visual"}, {"clip", "audio", "action", "state"}),
        ((1, 0, 0), (2, 16_000, 8), {"visual", "clip", "audio", "action", "state"}, set()),
    ],
)
def test_a_network_that_copies_and_knows_places_begins_with_other_modalities(before, after, anew, gone, tmp_path):
    def network_of(depth, rate, width):
        config = tiny()
        config = replace(
            config,
            network=replace(config.network, copying=True, places=True),
            picture=replace(config.picture, frames=depth),
            audio=replace(config.audio, rate=rate, codec=config.audio.codec if rate else ""),
            control=replace(config.control, width=width),
        )
        net = build_network(config, text)
        with torch.no_grad():
            for p in net.parameters():
                p.fill_(sum((depth, rate, width)))
        return config, net

    text = BytePairs.train(["a ball"], 270)
    Pipeline(network_of(*before)[1], text, network_of(*before)[0]).save_pretrained(tmp_path)
    config, net = network_of(*after)
    tensors, fresh = begun(config, tmp_path, text, [])
    load_weights(net, tmp_path, new=GAINED, anew=fresh, state=tensors)
    # Layers with the number of the old network are its own.
    taken = {name for name, p in net.named_parameters() if (p == sum(before)).all()}
    own = {name for name, p in net.named_parameters() if (p == sum(after)).all()}
    assert taken | own == set(dict(net.named_parameters()))
    assert {name.split(".")[-2] for name in own} == anew
    assert not gone & {part for name in tensors if not name.startswith(fresh) for part in name.split(".")}
    assert {"blocks.0.qkv.weight", "embed.text.weight", "places.maps.visual.weight", "copying.key.weight"} <= taken


def test_actions_are_learned_from_several_draws_of_noise_and_one_reading(tmp_path, monkeypatch):
    config, seen = tiny(steps=1, mixture=("tabletop-robot:act:1",), simulated=8), []
    assert config.objective.modalities["action"].draws == 4
    losses = FlowMatching.losses

    def spy(self, data, values, noise, times, context):
        seen.append((values, noise, times.levels, [group.batch for group in context[0]]))
        return losses(self, data, values, noise, times, context)

    monkeypatch.setattr(FlowMatching, "losses", spy)
    config = replace(config, objective=replace(config.objective, kind="flow_matching"))
    train(config, tmp_path, progress=False)
    assert len(seen) == config.train.accumulate
    each = config.train.batch_size // config.train.accumulate
    for values, noise, levels, known in seen:
        assert len(values) == 4 * each
        assert set(known) == {each}
        assert torch.equal(values[::4].repeat_interleave(4, dim=0), values)
        assert len(levels.unique()) == len(noise[:, 0, 0].unique()) == 4 * each


def of_latents(directory, steps, **data):
    """A run in latents of two codecs that are made here."""
    from selfflow.codecs.autoencoder import Shape, SoundAutoencoder, VisualAutoencoder

    torch.manual_seed(0)
    shape = Shape(widths=(8, 8), strides=(2, 2), blocks=(1, 1), channels=5, time_factor=2)
    VisualAutoencoder(shape).eval().save(directory / "codec")
    shape = replace(shape, strides=(20, 16), time_factor=1, causal=True)
    SoundAutoencoder(shape).eval().save(directory / "sound")
    config = tiny(steps, OWN[1:], **data)
    return replace(
        config,
        picture=replace(config.picture, patch=4, frames=1, codec=str(directory / "codec")),
        audio=replace(config.audio, codec=str(directory / "sound")),
    )


def test_a_model_of_latents_trains_and_carries_its_codecs(tmp_path):
    train(of_latents(tmp_path, 2), tmp_path / "run", progress=False)
    for name in ("codec", "sound"):
        (tmp_path / name).rename(tmp_path / f"{name}-elsewhere")  # the model has its own by now
    pipe = Pipeline.from_pretrained(tmp_path / "run")
    assert (pipe.net.embed["visual"].in_features, pipe.net.embed["audio"].in_features) == (5 * 4**2, 5)
    assert pipe.modalities.cell == 16
    assert pipe(prompt="a ball", num_inference_steps=2, output_type="np").images.shape == (1, 32, 32, 3)
    picture = torch.zeros(1, 32, 32, 3, dtype=torch.uint8).numpy()
    assert pipe.edit(picture, ["turn it red"], steps=2).shape == (1, 32, 32, 3)
    clips, sounds = pipe.clip_and_sound(["a ball falls"], 4, 20, 16_000, steps=2)
    assert (clips.shape, sounds.shape) == ((1, 4, 32, 32, 3), (1, 3200))


def test_latents_are_read_from_disk_and_the_training_is_the_same_to_the_bit(tmp_path, monkeypatch):
    from selfflow.codecs.autoencoder import SoundAutoencoder, VisualAutoencoder

    encoded = []
    for kind in (VisualAutoencoder, SoundAutoencoder):

        def counted(self, values, encode=kind._encode):
            encoded.append(len(values))
            return encode(self, values)

        monkeypatch.setattr(kind, "_encode", counted)
    config = of_latents(tmp_path, 3, count=8, simulated=8)
    config = replace(config, train=replace(config.train, accumulate=2))
    train(config, tmp_path / "plain", progress=False)
    every, encoded[:] = sum(encoded), []
    config = replace(config, data=replace(config.data, cache=str(tmp_path / "cache")))
    train(config, tmp_path / "first", progress=False)
    assert 0 < sum(encoded) < every
    encoded.clear()
    train(config, tmp_path / "second", progress=False)
    assert not encoded
    assert {path.parent.parent.name for path in tmp_path.rglob("cache/latents/**/*.safetensors")} == {"visual", "audio"}
    assert losses(tmp_path / "plain") == losses(tmp_path / "first") == losses(tmp_path / "second")
    states = [Pipeline.from_pretrained(tmp_path / name).net.state_dict() for name in ("plain", "second")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_missing_pack_is_left_out_and_said(tmp_path, monkeypatch, caplog):
    def lost(name):
        raise PackMissing(f"the data pack {name} is not here")

    monkeypatch.setattr("selfflow.data.registry.find", lost)
    train(tiny(1, (*OWN[:1], "emoji:picture:5")), tmp_path, progress=False)
    assert "emoji is left out of the mixture: the data pack emoji64 is not here" in caplog.text
    with pytest.raises(PackMissing, match="no source of the mixture is here"):
        train(tiny(1, ("emoji:picture:5",)), tmp_path / "none", progress=False)


def test_share_alike_sources_are_left_out_by_one_option(tmp_path, caplog):
    train(tiny(1, (*OWN[:1], "digits:sound:5"), permissive_only=True), tmp_path, progress=False)
    assert "digits is left out of the mixture: share-alike" in caplog.text
    permissive = model_card(replace(micro_all(), data=replace(micro_all().data, permissive_only=True)), 1)
    assert "license: other" in permissive
    assert "Free Spoken Digit" not in permissive
    assert "OpenMoji" not in permissive
    assert "license: cc-by-sa-4.0" in model_card(micro_all(), 1)


def test_how_long_a_prompt_may_be_is_told_by_the_run_that_goes_on(tmp_path):
    BytePairs.train(["a red ball"], 270, max_tokens=4).save(tmp_path)
    config = replace(tiny(), text=replace(tiny().text, spelled=False, columns=False))
    for most in (3, 12):
        text = open_text(replace(config, text=replace(config.text, max_tokens=most)), tmp_path, list)
        assert text(["a red ball on a blue box"]).data.shape[1] == text.length("a red ball on a blue box") == most
    assert not text.spells
    assert open_text(replace(config, text=replace(config.text, spelled=True)), tmp_path, list).spells
    told = open_text(config, tmp_path, list)
    assert told.spells  # as it was learned so it is told
    assert not told.columns
    assert open_text(replace(config, text=replace(config.text, columns=True)), tmp_path, list).columns
    assert open_text(config, tmp_path, list).columns


def test_a_source_teaches_only_what_it_can(tmp_path):
    with pytest.raises(ValueError, match="tabletop-still cannot teach dub"):
        train(tiny(1, (*OWN[:1], "tabletop-still:dub:1")), tmp_path, progress=False)


def test_the_recipe_names_sources_and_tasks_that_exist_and_teaches_every_task():
    parts = [Ingredient.parse(text) for text in micro_all().data.mixture]
    assert all(part.task in SOURCES[part.source].tasks for part in parts)
    assert {part.task for part in parts} == set(TASKS)
    assert {part.source for part in parts} == set(SOURCES)


def test_samples_without_what_a_task_needs_are_named():
    from selfflow.modalities.streams import Modalities
    from selfflow.modalities.text import BytePairs
    from selfflow.modalities.visual import Patches
    from selfflow.tasks import named

    modalities = Modalities(BytePairs.train(["a"], 270), Patches(8))
    with pytest.raises(ValueError, match="sound needs audio, which sample 'x' does not have"):
        modalities.streams([Sample("x", None, "hm")], named("sound"))
