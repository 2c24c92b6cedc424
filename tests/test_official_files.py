"""Files around the published network: its checkpoint, batches of samples, pictures, and the commands."""

import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from official_oracle import SMALL, random_weights
from selfflow.cli import USAGE, main
from selfflow.official import Sampling, import_official, load_official, sample_latents
from selfflow.official.command import balanced_labels, import_official_command, sample_official_command
from selfflow.official.pictures import SCALE, decode, load_vae
from selfflow.official.shards import Shards

# --- import ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_import_and_load(tmp_path: Path, wrapper: str | None, prefix: str):
    weights = random_weights(SMALL)
    content = {prefix + name: tensor for name, tensor in weights.items()}
    torch.save({wrapper: content, "step": 3} if wrapper else content, tmp_path / "a.pt")
    directory = import_official(tmp_path / "a.pt", tmp_path / "models" / "sit", SMALL)
    assert sorted(p.name for p in directory.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert [p.name for p in directory.parent.iterdir()] == ["sit"]
    model = load_official(directory)
    assert model.config == SMALL
    assert not model.training
    assert not model.pos_embed.requires_grad
    state = model.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], weights[name]) for name in weights)
    assert load_official(directory, dtype=torch.bfloat16).pos_embed.dtype == torch.bfloat16
    card = (directory / "README.md").read_text()
    assert "2603.06507" in card
    assert "license: unknown" in card
    with pytest.raises(FileExistsError, match="not an empty directory"):
        import_official(tmp_path / "a.pt", directory, SMALL)


def test_import_keeps_precision_and_takes_views(tmp_path: Path):
    flat = torch.randn(sum(w.numel() for w in random_weights(SMALL).values())).bfloat16()
    weights, start = {}, 0
    for name, tensor in random_weights(SMALL).items():  # all views of one storage, some of them transposed
        piece = flat[start : start + tensor.numel()]
        weights[name] = piece.view(tensor.shape[::-1]).T if tensor.ndim == 2 else piece.view(tensor.shape)
        start += tensor.numel()
    torch.save(weights, tmp_path / "a.pt")
    state = load_official(import_official(tmp_path / "a.pt", tmp_path / "m", SMALL), dtype=torch.bfloat16).state_dict()
    assert all(torch.equal(state[name], weights[name]) for name in weights)


def test_import_names_everything_wrong_at_once(tmp_path: Path):
    weights = random_weights(SMALL)
    del weights["pos_embed"], weights["blocks.1.attn.qkv.bias"]
    weights["blocks.3.attn.qkv.bias"] = torch.zeros(144)
    weights["ema_step"] = torch.tensor(1.0)
    weights["final_layer.linear.weight"] = torch.zeros(16, 48)
    weights["blocks.0.mlp.fc1.bias"][5] = math.nan
    weights["blocks.2.mlp.fc1.bias"][0] = math.inf
    weights["projector.linear1.bias"] = weights["projector.linear1.bias"].long()
    torch.save(weights, tmp_path / "a.pt")
    with pytest.raises(ValueError) as caught:
        import_official(tmp_path / "a.pt", tmp_path / "m", SMALL)
    lines = str(caught.value).splitlines()[1:]
    assert lines == [
        "  missing (2): pos_embed, blocks.1.attn.qkv.bias",
        "  unexpected (2): blocks.3.attn.qkv.bias, ema_step",
        "  not a tensor of real numbers (1): projector.linear1.bias",
        "  misshapen (1): final_layer.linear.weight is (16, 48) and must be (32, 48)",
        "  not finite (2): blocks.0.mlp.fc1.bias, blocks.2.mlp.fc1.bias",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


class Outsider:
    """Not on torch's list of what a checkpoint may hold."""


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "foreign", "tensor", "list", "both"])
def test_import_of_what_is_no_checkpoint(tmp_path: Path, kind: str):
    path = tmp_path / "a.pt"
    weights = random_weights(SMALL)
    if kind == "truncated":
        torch.save(weights, path)
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind in ("empty", "text"):
        path.write_bytes(b"" if kind == "empty" else b"<html>not found</html>")
    else:
        both = weights | {"module.pos_embed": weights["pos_embed"]}
        content = {"foreign": {"x": Outsider()}, "tensor": torch.ones(3), "list": [1], "both": both}
        torch.save(content[kind], path)
    with pytest.raises(ValueError, match=r"a\.pt") as caught:
        import_official(path, tmp_path / "m", SMALL)
    expected = {"tensor": "holds a Tensor", "list": "holds a list", "both": "with and without the prefix"}
    assert expected.get(kind, "no readable PyTorch checkpoint") in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    torch.save(random_weights(SMALL), tmp_path / "a.pt")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="no space"):
        import_official(tmp_path / "a.pt", tmp_path / "m", SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    with pytest.raises(FileNotFoundError, match=r"b\.pt is no file"):
        import_official(tmp_path / "b.pt", tmp_path / "m", SMALL)


def test_load_of_damaged_directories(tmp_path: Path):
    torch.save(random_weights(SMALL), tmp_path / "a.pt")
    directory = import_official(tmp_path / "a.pt", tmp_path / "m", SMALL)
    config = (directory / "config.json").read_text()
    for wrong, message in (
        (config.replace("sit-1", "sit-9"), "its format is 'selfflow-official-sit-9'"),
        (config.replace('"depth": 3', '"depth": 2'), r"unexpected \(10\): blocks.2.adaLN"),
        (config[:40], "JSONDecodeError"),
        ("{}", "KeyError"),
    ):
        (directory / "config.json").write_text(wrong)
        with pytest.raises(ValueError, match=message):
            load_official(directory)
    (directory / "config.json").write_text(config)
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ValueError, match="SafetensorError"):
        load_official(directory)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors"):
        load_official(directory)


# --- pictures and files ----------------------------------------------------------------------------------------------


def test_balanced_labels():
    assert balanced_labels(50_000, range(1000)).tolist() == [*range(1000)] * 50
    assert balanced_labels(4, range(1000)).tolist() == [0, 250, 500, 750]
    assert balanced_labels(5, [207, 360]).tolist() == [207, 360, 207, 360, 207]
    counts = np.bincount(balanced_labels(2345, range(1000)))
    assert (counts.min(), counts.max(), counts.sum()) == (2, 3, 2345)


def test_shards_resume_and_merge(tmp_path: Path):
    pictures = np.random.default_rng(0).integers(0, 256, (11, 2, 3, 3), dtype=np.uint8)
    labels = np.arange(11) * 7
    shards = Shards(tmp_path / "out", 11, {"seed": 1})
    runs = list(shards.missing(4))
    assert runs == [range(4), range(4, 8), range(8, 11)]
    shards.write(runs[1], pictures[4:8], labels[4:8])
    with pytest.raises(ValueError, match="lacks samples between 0 and 10"):
        shards.merge()
    again = Shards(tmp_path / "out", 11, {"seed": 1})
    runs = list(again.missing(3))
    assert runs == [range(3), range(3, 4), range(8, 11)]
    for run in runs:
        again.write(run, pictures[run.start : run.stop], labels[run.start : run.stop])
    with np.load(again.merge()) as merged:
        assert merged["arr_0"].dtype == np.uint8
        assert np.array_equal(merged["arr_0"], pictures)
        assert np.array_equal(merged["arr_1"], labels)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["request.json", "samples.npz", "shards"]
    with pytest.raises(ValueError, match="another request \\(seed was 1 and is 2\\)"):
        Shards(tmp_path / "out", 11, {"seed": 2})
    broken = tmp_path / "out" / "shards" / "0000003-0000003.npz"
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"0000003-0000003\.npz is damaged"):
        again.merge()
    with np.load(tmp_path / "out" / "samples.npz") as merged:  # the earlier file is untouched
        assert np.array_equal(merged["arr_0"], pictures)


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    torch.save({"model": random_weights(SMALL)}, tmp_path / "a.pt")
    return import_official(tmp_path / "a.pt", tmp_path / "sit", SMALL)


def test_command_without_an_autoencoder(tmp_path: Path, imported: Path, monkeypatch: pytest.MonkeyPatch):
    options = {"classes": [4, 2], "n": 5, "steps": 3, "guidance": 1.5, "seed": 8, "vae": None, "device": "cpu"}
    path = sample_official_command(imported, tmp_path / "out", batch=2, **options)
    expected = sample_latents(load_official(imported), [4, 2, 4, 2, 4], Sampling(steps=3, guidance=1.5, seed=8))
    with np.load(path) as file:
        np.testing.assert_allclose(file["arr_0"], expected.numpy(), rtol=0, atol=1e-5)
        assert file["arr_1"].tolist() == [4, 2, 4, 2, 4]

    def never(*_: object, **__: object) -> None:
        raise AssertionError("drawn twice")

    monkeypatch.setattr("selfflow.official.command.sample_latents", never)  # all shards are there
    assert sample_official_command(imported, tmp_path / "out", batch=3, **options) == path
    with pytest.raises(ValueError, match="seed was 8 and is 9"):
        sample_official_command(imported, tmp_path / "out", **(options | {"seed": 9}))


def test_command_ode_is_euler_or_heun(tmp_path: Path, imported: Path):
    for order, method in ((1, "euler"), (2, "heun")):
        path = sample_official_command(
            imported, tmp_path / method, n=2, steps=3, sampler="ode", vae=None, device="cpu", shift=1.78, order=order
        )
        expected = sample_latents(load_official(imported), [0, 5], Sampling(method, steps=3, shift=1.78))
        with np.load(path) as file:
            np.testing.assert_allclose(file["arr_0"], expected.numpy(), rtol=0, atol=1e-5)


def test_the_documented_lines_import(monkeypatch: pytest.MonkeyPatch):
    page = (Path(__file__).parents[1] / "docs" / "official.md").read_text()
    lines = re.findall(r"selfflow (import-official [A-Z]+ [A-Z]+)", page) + re.findall(
        r"  (import-official \w+ \w+)", USAGE
    )
    assert len(lines) == 2
    asked = []
    monkeypatch.setattr("selfflow.official.command.import_official", lambda *paths: asked.append(paths))
    for line in lines:
        main(line.split())
        assert asked.pop() == tuple(map(Path, line.split()[1:]))


def test_import_command_takes_only_the_published_size(tmp_path: Path):
    torch.save(random_weights(SMALL), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"28 blocks, width 1152, 296 tensors(.|\n)*missing \(250\)"):
        import_official_command(tmp_path / "a.pt", tmp_path / "m")


def tiny_autoencoder(directory: Path) -> Path:
    diffusers = pytest.importorskip("diffusers", reason="decoding needs the extra `latent` (diffusers)")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2,
        block_out_channels=[4, 4],
        norm_num_groups=2,
        latent_channels=4,
    )
    vae.save_pretrained(directory)
    return directory


def test_command_decodes_pictures(tmp_path: Path, imported: Path):
    folder = tiny_autoencoder(tmp_path / "vae")
    path = sample_official_command(imported, tmp_path / "out", n=3, steps=2, vae=str(folder), batch=2, device="cpu")
    vae = load_vae(str(folder))
    latents = sample_latents(load_official(imported), [0, 3, 6], Sampling(steps=2))
    with torch.no_grad():
        pixels = vae.decode(latents / 0.18215).sample
    expected = (127.5 * pixels + 128).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    with np.load(path) as file:
        pictures = file["arr_0"]
    assert pictures.dtype == np.uint8
    assert pictures.shape == (3, 16, 16, 3)
    assert np.abs(pictures.astype(int) - expected.astype(int)).max() <= 1  # one level: rounding at the edge
    assert (pictures == expected).mean() > 0.99
    assert pictures.std() > 1
    request = json.loads((tmp_path / "out" / "request.json").read_text())
    assert request["vae"] == str(folder)


def test_decode_clips_and_scales():
    class Mirror:
        """Decodes three of the four channels to themselves."""

        device, dtype = torch.device("cpu"), torch.float32

        def decode(self, latents: Tensor) -> object:
            return type("Output", (), {"sample": latents[:, :3]})

    levels = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])
    latents = levels[None, None, None].expand(1, 4, 1, 6) * SCALE
    assert decode(Mirror(), latents)[0, 0, :, 0].tolist() == [0, 0, 128, 191, 255, 255]


def test_absent_autoencoders_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("diffusers", reason="decoding needs the extra `latent` (diffusers)")
    with pytest.raises(ValueError, match="no autoencoder at"):
        load_vae(str(tmp_path))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"selfflow\[latent\]"):
        load_vae()
