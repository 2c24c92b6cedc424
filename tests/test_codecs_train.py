"""Training a codec: it learns, a resumed run is the uninterrupted one, and what it leaves can be opened."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from selfflow.codecs import load_codec
from selfflow.codecs.autoencoder import Shape
from selfflow.data.sample import Sample
from selfflow.evaluate.reconstruction import figures
from selfflow.train.codec import CODEC_RECIPES, CodecConfig, Interleaved, Prepare, cli_train_codec, train_codec
from selfflow.train.trainer import read_metrics

PICTURES = Shape(channels=8, strides=(2, 2), widths=(16, 24), blocks=(0, 1))
SOUNDS = Shape(channels=8, strides=(5, 4), widths=(8, 16), blocks=(0, 1))


class Toy:
    """Discs of any colour and place, as pictures, clips (they drift) and sounds (a tone each)."""

    name = "toy"

    def __len__(self):
        return 64

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        rows, columns = np.mgrid[:16, :16]
        colour, place, radius = rng.integers(0, 255, 3), rng.uniform(4, 12, 2), rng.uniform(2, 5)

        def frame(j):
            inside = (rows - place[0]) ** 2 + (columns - place[1] - j / 2) ** 2 < radius**2
            return np.where(inside[..., None], colour, 230).astype(np.uint8)

        tone = 0.3 * np.sin(np.arange(800) * rng.uniform(0.02, 0.2))
        return Sample(
            id=f"toy/{index}", picture=frame(0), text="", clip=np.stack([frame(j) for j in range(5)]), fps=10.0,
            sound=tone.astype(np.float32), sound_rate=16_000,
        )  # fmt: skip


class Still(Toy):
    def __getitem__(self, index):
        return replace(super().__getitem__(index), clip=None, fps=0.0)


class Few(Toy):
    def __len__(self):
        return 8


def config(kind="picture", steps=40, **options):
    base = CODEC_RECIPES[f"codec-{kind}"]()
    patches = Shape(channels=12, strides=(4,), widths=(24,), blocks=(1,), own=1)
    shape = {"picture": PICTURES, "patches": patches, "clip": replace(PICTURES, time_factor=2), "sound": SOUNDS}[kind]
    train = replace(base.train, steps=steps, batch_size=8, save_every=steps, device="cpu", precision="fp32")
    optim = replace(base.optim, learning_rate=5e-3, warmup=5)
    return replace(
        base, sources=("toy",), size=16, frames=5, seconds=0.05, perceptual=0.0, shape=shape, train=train, optim=optim,
        **options,
    )  # fmt: skip


def run(given, directory, **options):
    return train_codec(given, directory, progress=False, sources=(Toy(), Few()), **options)


@pytest.mark.parametrize(
    ("kind", "least", "gain"), [("picture", 18, 3), ("patches", 20, 1), ("clip", 15, 3), ("sound", 20, 3)]
)
def test_a_codec_learns_and_can_be_opened(kind, least, gain, tmp_path):
    run(config(kind), tmp_path)
    first, last = (read_metrics(tmp_path / "metrics.jsonl")[i] for i in (0, -1))
    assert last["psnr"] > first["psnr"] + gain  # patches begin as principal components
    assert last["loss"] < (0.7 if gain > 1 else 0.9) * first["loss"]
    codec, told = load_codec(tmp_path), json.loads((tmp_path / "figures.json").read_text())
    values = Prepare(config(kind), codec).held_out(Few())
    assert told["psnr"] > least
    assert told["psnr"] == pytest.approx(figures(codec, values)["psnr"], abs=1e-3)
    assert abs(told["latent_mean"]) < 0.25
    assert 0.75 < told["latent_std"] < 1.25


@pytest.mark.parametrize("kind", ["picture", "patches"])
def test_a_resumed_run_is_the_uninterrupted_one(kind, tmp_path):
    given = config(kind, steps=8)
    run(given, tmp_path / "whole")
    run(given, tmp_path / "parts", until=3)
    assert not (tmp_path / "parts" / "figures.json").exists()
    run(given, tmp_path / "parts")
    whole, parts = (load_codec(tmp_path / name) for name in ("whole", "parts"))
    assert whole.fingerprint == parts.fingerprint
    losses = [[m["loss"] for m in read_metrics(tmp_path / name / "metrics.jsonl")] for name in ("whole", "parts")]
    assert losses[0] == losses[1]


def test_another_configuration_is_refused_and_a_longer_run_is_not(tmp_path):
    given = config(steps=2)
    run(given, tmp_path)
    with pytest.raises(ValueError, match=r"gradient was 1\.0, is 2\.0"):
        run(replace(given, gradient=2.0), tmp_path)
    assert run(given, tmp_path, steps=3).step == 3
    (tmp_path / "run.json").write_text('{"config": {}}')
    with pytest.raises(ValueError, match="another kind"):
        run(given, tmp_path)


def test_batches_count_their_latents_and_show_the_drawn_part():
    given = config("clip")
    prepare = Prepare(replace(given, frames=3), given.build())
    sample = Toy()[3]
    values = prepare.values([sample, sample], [0.0, 0.99])
    assert values.shape == (2, 3, 3, 16, 16)
    whole = torch.from_numpy(sample.clip).movedim(-1, 1) / 127.5 - 1
    torch.testing.assert_close(values[0], whole[:3])
    torch.testing.assert_close(values[1], whole[2:])
    still = prepare.values([Still()[3]], [0.5])  # a picture is a clip of one frame, filled up
    torch.testing.assert_close(still[0], whole[:1].expand(3, -1, -1, -1))
    batch = type("Batch", (), {"samples": [sample, sample]})
    draws = type("Draws", (), {"uniform": staticmethod(torch.rand)})
    assert len(prepare(batch, draws)[0]) == 2 * 4 * 4  # two latent frames of 4 × 4
    sounds = Prepare(config("sound"), config("sound").build())
    assert len(sounds(batch, draws)[0]) == 800 // 20
    with pytest.raises(ValueError, match="no sound at 16000"):
        sounds.values([replace(sample, sound_rate=8000)], [0.0])
    with pytest.raises(ValueError, match="neither"):
        prepare.values([replace(sample, clip=None, picture=None)], [0.0])


def test_sources_come_in_turn_and_short_ones_come_round():
    class Short(Still):
        def __len__(self):
            return 3

    both = Interleaved([Toy(), Short()])
    assert len(both) == 128
    assert [both[i].id for i in (0, 1, 2, 3, 7, 9)] == [f"toy/{i}" for i in (0, 0, 1, 1, 0, 1)]
    with pytest.raises(IndexError):
        both[128]


def test_configurations_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="1 \\+ k · 4"):
        CodecConfig("clip", "clip", frames=8, shape=replace(PICTURES, time_factor=4))
    with pytest.raises(ValueError, match="0 or more"):
        CodecConfig(gradient=-1)
    with pytest.raises(ValueError, match="unknown codec recipe 'codec-smell'"):
        train_codec("codec-smell", "nowhere")
    with pytest.raises(ValueError, match="unknown codec recipe ''"):
        cli_train_codec([])


def test_the_perceptual_distance_tells_a_shift_from_another_picture():
    from selfflow.data.packs import PackMissing
    from selfflow.evaluate.features import mobilenet_v2
    from selfflow.evaluate.reconstruction import PerceptualDistance

    try:
        distance = PerceptualDistance(mobilenet_v2())
    except PackMissing as error:
        pytest.skip(f"the feature network is a data pack: {error}")
    pictures = torch.rand(2, 3, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3) * 2 - 1
    near = (pictures + 0.02 * torch.randn_like(pictures)).requires_grad_()
    small = distance(near, pictures)
    small.backward()
    assert torch.isfinite(near.grad).all()
    assert near.grad.abs().max() > 0
    assert distance(pictures, pictures) == 0
    assert small < distance(pictures.flip(0), pictures) / 2
