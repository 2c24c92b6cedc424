"""Copies of training pictures are found, moved, darker and blurred as well; pictures that are only kin are none."""

import numpy as np
import pytest

from evaluate_toys import need
from selfflow.evaluate.emoji_suite import choose
from selfflow.evaluate.memorisation import memorisation, nearest
from selfflow.evaluate.retrieval import coarse, disturbed


def noise_pictures(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_nearest_and_memorisation() -> None:
    training = list(noise_pictures(1100, 8))
    np.testing.assert_array_equal(nearest(np.stack(training[-2:]), training), 0)
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, 32:] = 200
    # Halves that lie across each other have nothing in common; grey has nothing at all.
    np.testing.assert_allclose(nearest(np.stack([half, half // 2 + 50]), [half.transpose(1, 0, 2)]), 2**0.5, rtol=0.01)
    np.testing.assert_allclose(nearest(np.full((1, 64, 64, 3), 51, np.uint8), [half]), 1, rtol=1e-3)
    with pytest.raises(ValueError, match="no training pictures"):
        nearest(half[None], [])
    new = noise_pictures(60, 8, seed=1)
    found = memorisation(
        {"copied": np.stack(training[:60]), "fresh": noise_pictures(60, 8, seed=2), "true": new}, new, training
    )
    assert (found["copied"].ratio, found["copied"].close, found["copied"].novel) == (0, 1, 0)
    assert found["fresh"].ratio == pytest.approx(1, abs=0.03)
    assert found["fresh"].close < 0.2
    assert found["fresh"].novel < 0.1  # as near to one of 1100 as to the one asked for
    assert (found["true"].ratio, found["true"].close, found["true"].novel) == (1, 0.05, 1)
    with pytest.raises(ValueError, match="held-out"):
        memorisation({"fresh": new[:3]}, np.stack(training[:3]), training)


def near_copies(pictures: np.ndarray) -> dict[str, np.ndarray]:
    """Pictures as a model might remember them: moved, darker, blurred, noisy, and several at once."""
    moved, dark = np.roll(pictures, (1, -1), (1, 2)), (pictures * 0.95).astype(np.uint8)
    edged = np.pad(pictures.astype(float), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (edged[:, :-2] + 2 * edged[:, 1:-1] + edged[:, 2:]) / 4
    blurred = ((rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4).round().astype(np.uint8)
    noisy = pictures + np.random.default_rng(0).normal(0, 8, pictures.shape)
    return {
        "exact": pictures, "moved": moved, "moved by two": np.roll(pictures, 2, 1), "darker": dark, "blurred": blurred,
        "noisy": noisy.round().clip(0, 255).astype(np.uint8), "coarse": coarse(pictures), "all": disturbed(dark),
    }  # fmt: skip


def test_copies_are_found_however_they_are_disturbed_and_kin_are_none() -> None:
    """Blocks of random colours, and of each one in training another of which one corner is new: its kin."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (100, 10, 10, 3), dtype=np.uint8)
    kin = blocks[:40].copy()
    kin[:, :3, :3] = rng.integers(0, 256, (40, 3, 3, 3))
    training, real = (np.pad(x.repeat(6, 1).repeat(6, 2), ((0, 0), (2, 2), (2, 2), (0, 0))) for x in (blocks, kin))
    copies = near_copies(training[:40])
    found = memorisation(copies | {"fresh": real[::-1].copy()}, real, training)
    assert {name: f.close for name, f in found.items()} == dict.fromkeys(copies, 1) | {"fresh": 0.05}
    assert all(sum(f.closes) == 40 * f.close for f in found.values())


def test_copies_of_emoji_are_found_and_held_out_ones_are_none() -> None:
    need("emoji64")
    from selfflow.data.emoji import Emoji

    source, training = Emoji("test_combo"), Emoji("train")
    rows, _ = choose(source, 60, 0)
    real = np.stack([source.picture(r) for r in rows])
    families = {source.record(r)["family"] for r in rows}
    kin = [int(r) for r in training.rows if training.record(int(r))["family"] in families][:1000]
    known = [training.picture(r) for r in kin]
    some = np.random.default_rng(0).choice(len(known), 60, replace=False)
    copies = near_copies(np.stack([known[i] for i in some]))
    asked = {name: copies[name] for name in ("moved by two", "darker", "blurred", "all")}
    found = memorisation(asked | {"real": real[::-1].copy()}, real, known)
    assert found.pop("real").close == pytest.approx(0.05)
    assert {name: f.close for name, f in found.items() if f.close < 0.9} == {}
