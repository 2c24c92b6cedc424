"""Using a model: text tokens, pictures to tokens, generating, saving, the command line, and what each refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conftest import shaken_pipeline
from selfflow import flow, sample
from selfflow.cli import main
from selfflow.config import SamplingConfig
from selfflow.data.sample import Sample
from selfflow.modalities.text import BytePairs, Pretrained, load_text_encoder
from selfflow.modalities.visual import Patches
from selfflow.pipeline import Pipeline, build_network, to_pixels
from selfflow.recipes import nano
from selfflow.tasks import DRIVEN
from selfflow.times import schedule
from selfflow.tokens import AXES

CAPTIONS = ["a red ball", "a small blue box on a green box", "two yellow cups"] * 3
TEXT = BytePairs.train(CAPTIONS, 280, 24)


@pytest.fixture(scope="module")
def pipe():
    """A random network: what is tested here holds for any weights."""
    config = nano()
    picture = replace(config.picture, size=32, patch=8)
    config = replace(config, picture=picture, network=replace(config.network, width=32, depth=2, heads=2))
    text = BytePairs.train(CAPTIONS, 280, 24)
    return shaken_pipeline(config, text)


def generators(*seeds):
    return [torch.Generator().manual_seed(s) for s in seeds]


def draw(pipe, prompt="a red ball", **options):
    options = {"num_inference_steps": 3, "output_type": "pt", "generator": generators(0)} | options
    return pipe(prompt, **options).images


# --------------------------------------------------------------------------------------------------------------- text


@settings(max_examples=40)
@given(st.text(max_size=60))
def test_any_text_has_an_encoding(prompt):
    tokens = TEXT([prompt, ""])
    assert 1 <= len(tokens) <= 24
    assert tokens.data[1, 0] == TEXT.start
    assert tokens.mask is None or tokens.mask[1].sum() == 1


def test_text_round_trip_and_padding(tmp_path):
    text = BytePairs.train(CAPTIONS, 300, 24)
    text.save(tmp_path)
    again = load_text_encoder(tmp_path)
    a, b = text(CAPTIONS), again(CAPTIONS)
    assert torch.equal(a.data, b.data)
    assert a.mask.sum(1).tolist() == [len(text.tokenizer.encode(c).ids) + 1 for c in CAPTIONS]
    assert text.tokenizer.decode(text(["A Red Ball"]).data[0, 1:].tolist()).strip() == "a red ball"
    assert len(text(["ball " * 100])) == 24


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ('a ball "ON" it', ["Ġa", "Ġball", 'Ġ"', "o", "n", '"', "Ġ", "i", "t"]),
        ('"Red ball"', ['Ġ"', "r", "e", "d", "Ġ", "b", "a", "l", "l", '"']),
        ('a 5" ball', ["Ġa", "Ġ", "5", '"', "Ġball"]),
        ('red "a" and "b" ball"', ["Ġred", 'Ġ"', "a", '"', "Ġand", 'Ġ"', "b", '"', "Ġball", '"']),
        ("a red ball", ["Ġa", "Ġred", "Ġball"]),
        ("", []),
    ],
)
def test_what_stands_in_quotes_is_spelled_and_nothing_else_changes(prompt, tokens, tmp_path):
    text = BytePairs.train([*CAPTIONS, *['a "b" and a "c"'] * 9], 300, 24)
    whole = text.tokenizer.encode(prompt).tokens
    assert not text.spells
    text.spell()
    assert text.tokenizer.encode(prompt).tokens == tokens
    assert text.length(prompt) == 1 + len(tokens)
    assert '"' in prompt or whole == tokens
    text.save(tmp_path)
    again = BytePairs.load(tmp_path)
    assert again.spells
    assert torch.equal(again([prompt, "a"]).data, text([prompt, "a"]).data)
    assert again.tokenizer.decode(again.tokenizer.encode(prompt).ids).strip() == prompt.lower()


@pytest.mark.parametrize(
    ("prompt", "columns"),
    [
        ('a ball "ON" it', [0, 0, 0, 0, -0.05, 0.05, 0, 0, 0, 0]),
        ('"red" ball', [0, 0, -0.1, 0, 0.1, 0, 0]),
        ('a 5" ball', [0, 0, 0, 0, 0, 0]),
        ('"b" and "c"', [0] * 8),  # a letter of its own stands in the middle
        ("a red ball", [0, 0, 0, 0]),
    ],
)
def test_letters_in_quotes_have_columns_about_the_middle_where_asked_for(prompt, columns, tmp_path):
    text = BytePairs.train([*CAPTIONS, *['a "b" and a "c"'] * 9], 300, 24)
    text.spell()
    plain = text([prompt, "a"])
    assert not plain.positions[..., :3].any()
    text.columns = True
    text.save(tmp_path)
    told = BytePairs.load(tmp_path)([prompt, "a"])
    torch.testing.assert_close(told.positions[0, :, AXES.index("column")], torch.tensor(columns, dtype=torch.float32))
    assert not told.positions[1, :, :3].any()
    assert torch.equal(told.positions[..., 3], plain.positions[..., 3])
    assert torch.equal(told.data, plain.data)
    text.max_tokens = 4  # cut off in the midst of a word
    assert text([prompt]).positions.shape[1] <= 4


def test_text_errors(tmp_path):
    with pytest.raises(ValueError, match="no prompt"):
        BytePairs.train(CAPTIONS, 280)([])
    with pytest.raises(TypeError, match="prompt 1 is int"):
        BytePairs.train(CAPTIONS, 280)(["a", 3])
    with pytest.raises(ValueError, match="vocabulary of 10"):
        BytePairs.train(CAPTIONS, 10)
    with pytest.raises(FileNotFoundError, match=r"tokenizer.json is missing"):
        load_text_encoder(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"max_tokens": 3, "tokenizer": {}}')
    with pytest.raises(ValueError, match="not a tokenizer written by selfflow"):
        load_text_encoder(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_pretrained_encoder_stands_behind_the_same_interface(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the extra `text`")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {w: i for i, w in enumerate(["[PAD]", "[UNK]", "a", "red", "ball"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(tmp_path)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    transformers.BertModel(transformers.BertConfig(vocab_size=5, **shape)).save_pretrained(tmp_path)
    text = Pretrained(str(tmp_path), layers=(1, -1))
    tokens = text(["a red ball", "ball"])
    assert tokens.data.shape == (2, 3, 32)
    assert text.modality.channels == 32
    assert tokens.mask.tolist() == [[True] * 3, [True, False, False]]
    alone = text(["ball"])
    torch.testing.assert_close(tokens.data[1:, :1], alone.data, rtol=1e-4, atol=1e-4)
    text.save(tmp_path)
    assert torch.equal(load_text_encoder(tmp_path)(["a red ball"]).data, text(["a red ball"]).data)


# ----------------------------------------------------------------------------------------------------------- pictures


def test_patches_are_invertible_and_row_major():
    patches = Patches(4)
    pictures = torch.randn(2, 3, 8, 16)
    tokens = patches.tokens(pictures)
    assert torch.equal(patches.pictures(tokens.data, 8, 16), pictures)
    assert torch.equal(tokens.data[0, 1].reshape(4, 4, 3), pictures[0, :, :4, 4:8].permute(1, 2, 0))
    with pytest.raises(ValueError, match=r"9 × 16 pixels does not divide into patches of 4.*such as 8 × 16"):
        patches.tokens(torch.zeros(1, 3, 9, 16))


def test_to_uint8_rounds_and_clips():
    x = torch.tensor([-2.0, -1.0, 0.0, 1 / 255, 1.0, 3.0]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_pixels(x)[0, 0, :, 0].tolist() == [0, 0, 128, 128, 255, 255]


# --------------------------------------------------------------------------------------------------------- generation


def test_one_seed_gives_one_picture_in_any_company(pipe):
    alone = draw(pipe, generator=generators(7))
    together = draw(pipe, ["two yellow cups", "a red ball"], generator=generators(3, 7))
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)
    assert (draw(pipe, generator=generators(8)) - alone).abs().max() > 1e-2
    several = draw(pipe, num_images_per_prompt=2, generator=generators(7, 8))
    torch.testing.assert_close(several[:1], alone, rtol=1e-4, atol=1e-4)


def test_guidance_in_one_call_equals_guidance_in_two(pipe):
    template = pipe.patches.tokens(torch.zeros(1, 3, 32, 32))
    noise = sample.seeded_noise((1, *template.data.shape[1:]), generators(0))
    with torch.inference_mode():
        conditional = pipe.velocity(["a red ball"], template)
        unconditional = pipe.velocity(["blue"], template)
        two = sample.euler(sample.guided(conditional, unconditional, 3.0, (0.2, 0.8)), noise, schedule(4))
    one = draw(pipe, negative_prompt="blue", guidance_scale=3.0, guidance_interval=(0.2, 0.8), shift=1.0,
               num_inference_steps=4)  # fmt: skip
    torch.testing.assert_close(one, pipe.patches.pictures(two, 32, 32), rtol=1e-3, atol=1e-3)
    plain = draw(pipe, guidance_scale=1.0)
    assert (draw(pipe, guidance_scale=3.0) - plain).abs().max() > 1e-3


def test_each_task_is_led_as_the_configuration_says(pipe):
    sampling = replace(pipe.config.sampling, tasks={"picture": 1.5, "sound": 6.0})
    led = Pipeline(pipe.net, pipe.text, replace(pipe.config, sampling=sampling))
    assert torch.equal(draw(led), draw(pipe, guidance_scale=1.5))
    assert [sampling.guided(task) for task in ("sound", "edit")] == [6.0, sampling.guidance]
    assert all(s.guided(task) == 1 for s in (pipe.config.sampling, sampling) for task in DRIVEN)
    assert SamplingConfig(tasks={"act": 2.0}).guided("act") == 2
    with pytest.raises(ValueError, match="unknown task 'juggle'"):
        SamplingConfig(tasks={"juggle": 2.0})


def test_each_task_has_the_schedule_that_the_configuration_says(pipe):
    sampling = replace(pipe.config.sampling, shift=1.0, shifts={"picture": 4.0})
    told = Pipeline(pipe.net, pipe.text, replace(pipe.config, sampling=sampling))
    assert torch.equal(draw(told), draw(pipe, shift=4.0))
    assert not torch.equal(draw(told), draw(pipe, shift=1.0))
    asked = [Sample(id="a", picture=np.zeros((32, 32, 3), np.uint8), text="a red ball")]
    one, two = (p.solve("picture", asked, steps=4, generator=generators(0), **more)[0].picture
                for p, more in ((told, {}), (pipe, {"shift": 4.0})))  # fmt: skip
    assert np.array_equal(one, two)
    assert [sampling.shifted(task) for task in ("picture", "edit")] == [4.0, 1.0]
    with pytest.raises(ValueError, match="unknown task 'juggle'"):
        SamplingConfig(shifts={"juggle": 2.0})
    with pytest.raises(ValueError, match=r"a shift of times is above 0 and finite; sampling.shifts is \{'act': 0.0\}"):
        SamplingConfig(shifts={"act": 0.0})


def test_internal_guidance_leads_from_mid_depth_to_the_end(pipe):
    with pytest.raises(ValueError, match=r"internal_guidance 2.0 takes a network .* at mid depth"):
        draw(pipe, internal_guidance=2.0)
    config = replace(pipe.config, network=replace(pipe.config.network, mid=1))
    net = build_network(config, pipe.text)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    two = Pipeline(net, pipe.text, config)
    template = two.patches.tokens(torch.zeros(1, 3, 32, 32))
    x, t = sample.seeded_noise(tuple(template.data.shape), generators(0)), torch.tensor(0.5)
    with torch.inference_mode():
        memory = two.read(["a red ball"])
        last, (early,) = net(template.with_data(x), t.expand(1), memory, mid=True)
        led = two.field(template, [memory], internal=3.0)(x, t)
        torch.testing.assert_close(led, early + 3 * (last - early))
        torch.testing.assert_close(two.field(template, [memory])(x, t), last)
    assert (last - early).abs().max() > 1e-2
    plain, three = draw(two), draw(two, internal_guidance=3.0)
    assert (three - plain).abs().max() > 1e-3
    # The configuration's own, of pictures and of every task.
    two.config = replace(config, sampling=replace(config.sampling, internal_guidance=3.0))
    assert torch.equal(draw(two), three)
    assert torch.equal(draw(two, internal_guidance=1.0), plain)


def test_output_types_agree(pipe):
    picture = draw(pipe)
    array = draw(pipe, output_type="np")
    assert np.array_equal(array, to_pixels(picture))
    assert np.array_equal(np.asarray(draw(pipe, output_type="pil")[0]), array[0])


def test_other_sizes_and_samplers(pipe):
    assert draw(pipe, height=16, width=48).shape == (1, 3, 16, 48)
    pictures = [draw(pipe, sampler=s) for s in ("euler", "heun", "sde")]
    assert (pictures[0] - pictures[1]).abs().max() > 1e-4
    assert all(p.isfinite().all() for p in pictures)


def test_callbacks_see_the_picture_and_can_stop(pipe):
    seen = []
    final = draw(pipe, callback=lambda step, pictures: seen.append(pictures))
    assert len(seen) == 3
    torch.testing.assert_close(seen[-1], final, rtol=1e-4, atol=1e-4)
    stopped = []
    draw(pipe, callback=lambda step, pictures: stopped.append(step) or step == 2)
    assert stopped == [1, 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": []}, "no prompt"),
        ({"height": 33}, "does not divide"),
        ({"height": 1 << 20, "width": 1 << 20}, "at most"),
        ({"num_inference_steps": 0}, "steps 0"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"guidance_scale": 2.0, "guidance_interval": (0.9, 0.1)}, "interval"),
        ({"sampler": "dpm"}, "unknown sampler"),
        ({"output_type": "jpeg"}, "unknown output_type"),
        ({"generator": generators(1, 2)}, "2 generators were given for 1"),
        ({"num_images_per_prompt": 0}, "pictures per prompt 0"),
    ],
)
def test_bad_requests_are_named(pipe, options, words):
    with pytest.raises(ValueError, match=words):
        draw(pipe, **options)


def test_held_out_velocity_loss_is_the_mean_squared_error(pipe):
    from selfflow.data import Sample

    rng = np.random.default_rng(0)
    samples = [Sample(str(i), rng.integers(0, 255, (32, 32, 3), np.uint8), CAPTIONS[i]) for i in range(3)]
    losses = pipe.held_out_velocity_loss(samples, (0.3, 0.7))
    assert list(losses) == [0.3, 0.7]
    from selfflow.evaluate.protocol import seed_of

    expected = []
    for s in samples:
        picture = torch.from_numpy(s.picture).permute(2, 0, 1)[None].float() / 127.5 - 1
        data = pipe.patches.tokens(picture)
        noise = torch.randn(data.data.shape[1:], generator=torch.Generator().manual_seed(seed_of(0, s.id, "0.300000")))
        x_t = data.with_data(flow.interpolate(data.data, noise[None], 0.3))
        with torch.inference_mode():
            v, _ = pipe.net(x_t, torch.tensor([0.3]), pipe.read([s.text]))
        expected.append(float((v - (noise - data.data)).square().mean()))
    assert losses[0.3][0] == pytest.approx(np.mean(expected), rel=1e-4)


# ------------------------------------------------------------------------------------------------------ save and load


def test_saved_and_loaded_draws_the_same(pipe, tmp_path):
    pipe.save_pretrained(tmp_path, card="# A card\n")
    again = Pipeline.from_pretrained(tmp_path)
    assert again.config == pipe.config
    assert torch.equal(draw(again), draw(pipe))
    assert (tmp_path / "README.md").read_text() == "# A card\n"
    assert not list(tmp_path.glob(".*"))


def test_loading_names_what_is_wrong(pipe, tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a directory nor a hub id"):
        Pipeline.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no config.json"):
        Pipeline.from_pretrained(tmp_path)
    pipe.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["network"]["width"] = 64
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"does not fit the network: .*head.visual.weight has shape \(192, 32\)"):
        Pipeline.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(ValueError, match="damaged"):
        Pipeline.from_pretrained(tmp_path)


def test_push_to_hub_uploads_a_model_directory(pipe, monkeypatch):
    import huggingface_hub

    calls = {}

    class Api:
        def __init__(self, token=None):
            calls["token"] = token

        def create_repo(self, repo_id, private, exist_ok):
            calls["repo"] = repo_id

        def upload_folder(self, repo_id, folder_path):
            Pipeline.from_pretrained(folder_path)
            return f"uploaded to {repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert pipe.push_to_hub("owner/name", token="t") == "uploaded to owner/name"
    assert calls == {"token": "t", "repo": "owner/name"}


# -------------------------------------------------------------------------------------------------------- command line


def test_generate_writes_pictures_that_tell_how(pipe, tmp_path, capsys):
    pipe.save_pretrained(tmp_path / "model")
    base = ["generate", "a red ball", "--model", str(tmp_path / "model"), "--steps", "2", "--seed", "5"]
    main([*base, "-o", str(tmp_path / "a.png")])
    info = Image.open(tmp_path / "a.png").text
    assert (info["prompt"], info["seed"]) == ("a red ball", "5")
    main([*base, "-o", str(tmp_path / "b.png"), "--no-metadata", "--n", "2"])
    assert Image.open(tmp_path / "b-1.png").text == {}
    a, b = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("a.png", "b-0.png"))
    assert np.abs(a - b).max() <= 1  # a batch of two rounds otherwise than a batch of one
    main(["info", str(tmp_path / "model")])
    assert "parameters" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["paint"], "unknown command 'paint'"),
        (["train", "giant"], "unknown recipe 'giant'; choose one of nano"),
        (["generate", "x", "--model", "nowhere"], "neither a directory nor a hub id"),
        (["info", "nowhere"], "no directory"),
        (["evaluate", "--model", "nowhere", "--suite", "emoji"], "neither a directory"),
        (["import-official", "missing.pt", "out"], "missing.pt"),
    ],
)
def test_mistakes_end_in_one_line(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error


def test_evaluate_refuses_unknown_suites(pipe, tmp_path, capsys):
    pipe.save_pretrained(tmp_path)
    with pytest.raises(SystemExit):
        main(["evaluate", "--model", str(tmp_path), "--suite", "beauty"])
    assert "unknown suite 'beauty'; choose one of all, animate, " in capsys.readouterr().err
