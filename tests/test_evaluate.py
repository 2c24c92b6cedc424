"""Metrics against brute force and known answers; suites against pipelines that must succeed and must fail."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from selfflow.data.packs import PackMissing, find
from selfflow.evaluate.distances import bootstrap, frechet, gaussian_frechet, kid, mmd2, wilson
from selfflow.evaluate.emoji_suite import choose, kin
from selfflow.evaluate.features import Cached, features_of, mobilenet_v2
from selfflow.evaluate.grid import sheet
from selfflow.evaluate.protocol import Figure, Options, draw_pictures, seed_of
from selfflow.evaluate.retrieval import ask, coarse, disturbed, retrieve, shuffled
from selfflow.evaluate.suite import run_suite, table
from selfflow.evaluate.velocity_loss import LEVELS, velocity_loss

STYLES = ("noto", "twemoji", "openmoji", "blobmoji", "fluent_3d", "fluent_color", "fluent_flat")


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def noise_pictures(n: int, size: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def pack(name: str) -> Path:
    try:
        return find(name)
    except PackMissing as error:
        pytest.skip(str(error))


# ------------------------------------------------------------------------------------------------------------ distances


def test_mmd2_is_the_double_loop() -> None:
    x, y = normal(6, 3), normal(5, 3, seed=1) + 0.5

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / 3 + 1) ** 3

    within_x = np.mean([k(x[i], x[j]) for i in range(6) for j in range(6) if i != j])
    within_y = np.mean([k(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    between = np.mean([k(a, b) for a in x for b in y])
    assert mmd2(x, y) == pytest.approx(within_x + within_y - 2 * between, rel=1e-12)


def test_kid_is_the_mean_of_mmd2_over_halves_and_unbiased() -> None:
    x, y = normal(4, 3), normal(4, 3, seed=1)
    pairs = [[i, j] for i in range(4) for j in range(i)]
    every_half = np.mean([mmd2(x[a], y[b]) for a in pairs for b in pairs])
    value, error = kid(x, y, subsets=20_000)
    assert value == pytest.approx(every_half, abs=5 * error / 20_000**0.5)
    assert every_half == pytest.approx(mmd2(x, y), rel=1e-9)  # the estimator does not depend on the size of the subset


def test_kid_is_zero_on_average_for_one_distribution_and_its_error_is_right() -> None:
    same = np.array([mmd2(normal(30, 4, seed=2 * i), normal(30, 4, seed=2 * i + 1)) for i in range(300)])
    assert abs(same.mean()) < 4 * same.std() / 300**0.5
    apart = [kid(normal(40, 4, seed=2 * i) + 1, normal(60, 4, seed=2 * i + 1), 50) for i in range(100)]
    values, errors = np.array(apart).T
    assert values.mean() > 10 * values.std() / 10
    assert np.median(errors) == pytest.approx(values.std(ddof=1), rel=0.25)


def test_frechet_of_known_gaussians() -> None:
    # Commuting covariances: the distance is |μ|² + Σ (σ_i - τ_i)².
    rotation = np.linalg.qr(normal(3, 3))[0]
    first, second = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 0.5])
    c = rotation @ np.diag(first**2) @ rotation.T
    d = rotation @ np.diag(second**2) @ rotation.T
    mean = np.array([1.0, -2.0, 0.5])
    assert gaussian_frechet(mean, c, 0 * mean, d) == pytest.approx(5.25 + 1 + 0 + 6.25, rel=1e-9)


def test_frechet_of_samples() -> None:
    x = normal(50, 4)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x + 3, x) == pytest.approx(4 * 9, rel=1e-9)  # only the mean moves
    centred = x - x.mean(0)
    assert frechet(2 * centred, centred) == pytest.approx(np.trace(np.cov(x.T)), rel=1e-9)  # (2σ - σ)², summed
    flat = np.concatenate([x[:, :2], np.zeros((50, 5))], axis=1)
    assert frechet(flat + 1, flat, components=2) == pytest.approx(2, rel=1e-9)  # the other five axes are projected away
    assert frechet(x, np.roll(x, 1, axis=1)) == pytest.approx(frechet(np.roll(x, 1, axis=1), x), rel=1e-6)
    with pytest.raises(ValueError, match="components is 9"):
        frechet(x, x, components=9)
    with pytest.raises(ValueError, match=r"\(50, 4\) and \(50, 3\)"):
        kid(x, x[:, :3])


def test_wilson_known_values() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson(10, 10) == pytest.approx((1 - 0.2775, 1), abs=1e-4)
    with pytest.raises(ValueError, match="11 hits of 10"):
        wilson(11, 10)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 500), st.floats(0, 1))
def test_wilson_holds_the_share_and_mirrors(count: int, share: float) -> None:
    hits = round(share * count)
    low, high = wilson(hits, count)
    assert 0 <= low <= hits / count <= high <= 1
    assert wilson(count - hits, count) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_bootstrap_of_a_mean_is_two_standard_errors() -> None:
    values = normal(400)
    low, high = bootstrap(values, draws=2000)
    error = values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.25 * error)
    assert bootstrap(np.full(5, 2.5)) == (2.5, 2.5)


# ------------------------------------------------------------------------------------------------------------- features


def test_mobilenet_is_the_packs_own_network() -> None:
    directory = pack("mobilenetv2_feats")
    sys.path.insert(0, str(directory))
    try:
        from mbv2 import MBV2
    finally:
        sys.path.remove(str(directory))
    net, mine, pictures = (
        MBV2(directory / "mobilenetv2_feats.npz"),
        mobilenet_v2(directory, batch=2),
        noise_pictures(3, 64),
    )
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.inference_mode():
        x = torch.nn.functional.interpolate(x, size=(128, 128), mode="bicubic").clamp(-1, 1)
        features, logits = net(x)
    np.testing.assert_allclose(mine(pictures), features.numpy(), atol=1e-4)
    np.testing.assert_allclose(mine.logits(pictures), logits.numpy(), atol=1e-4)
    assert features.std() > 0.1
    with pytest.raises(ValueError, match="float64"):
        mine(pictures / 255)


def test_cached_features_are_computed_once() -> None:
    asked: list[int] = []

    def function(pictures: np.ndarray) -> np.ndarray:
        asked.append(len(pictures))
        return thumbnails(pictures)

    cached, pictures = Cached(function), noise_pictures(3)
    twice = cached(pictures[[0, 1, 0]])
    again = cached(pictures)
    assert asked == [2, 1]
    np.testing.assert_array_equal(again, thumbnails(pictures))
    np.testing.assert_array_equal(twice, again[[0, 1, 0]])
    many = noise_pictures(300, 4)
    np.testing.assert_array_equal(features_of(thumbnails, iter(many), 300), thumbnails(many))


# ------------------------------------------------------------------------------------------------- retrieval and copies


def test_ask_merges_identical_pictures() -> None:
    a, b = noise_pictures(2)
    question = ask({3: a, 5: b, 8: b.copy()}, [3, 5, 8], 8)
    assert question.candidates == (3, 5)
    assert question.right == 1
    with pytest.raises(ValueError, match="target 9"):
        ask({3: a}, [3], 9)


def test_retrieve_by_hand() -> None:
    real = {0: np.array([1.0, 0.0]), 1: np.array([0.0, 1.0]), 2: np.array([9.0, 8.0])}
    one, two = ask_rows((0, 1), 0), ask_rows((0, 1), 1)
    lone = ask_rows((2,), 0)
    generated = np.array([[5.0, 1.0], [5.0, 1.0], [0.0, 0.0]])
    found = retrieve(generated, [one, two, lone], real, np.zeros(2))
    assert (found.accuracy, found.chance, found.count) == (0.5, 0.5, 2)
    assert found.times_chance == 1
    # Seen from the centre (4, 0), (5, 1) lies the other way.
    moved = retrieve(generated[:1], [one], real, np.array([4.0, 0.0]))
    assert moved.accuracy == 0
    with pytest.raises(ValueError, match="no question"):
        retrieve(generated[2:], [lone], real, np.zeros(2))


def ask_rows(candidates: tuple[int, ...], right: int):
    from selfflow.evaluate.retrieval import Question

    return Question(candidates, right)


def test_disturbed_and_coarse_pictures() -> None:
    ramp = np.broadcast_to(np.arange(0, 160, 10, dtype=np.uint8)[None, None, :, None], (64, 16, 16, 3))
    moved = disturbed(ramp, 1)
    # A blurred ramp is the same ramp; each shift of 1 or 2 pixels changes it by 10 or 20.
    steps = (moved[:, 4:12, 4:12].astype(float) - ramp[:, 4:12, 4:12]).mean(axis=(1, 2, 3))
    assert set(np.abs(steps / 10).round()) == {1.0, 2.0}
    assert np.abs(np.abs(steps / 10) - np.abs(steps / 10).round()).max() < 0.1
    assert moved.std(axis=1).mean() == pytest.approx(2, abs=0.3)
    np.testing.assert_array_equal(moved, disturbed(ramp, 1))
    assert (moved != disturbed(ramp, 2)).any()
    checkers = np.zeros((1, 64, 64, 3), np.uint8)
    checkers[:, ::2, ::2] = checkers[:, 1::2, 1::2] = 200
    np.testing.assert_array_equal(coarse(checkers), 100)


def test_pieces_of_a_picture_are_all_there_and_elsewhere() -> None:
    tiles = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(3, 3).repeat(2, 1).repeat(2, 2)
    once = shuffled(np.concatenate([tiles, tiles]))
    for picture in once:
        assert sorted(picture[::2, ::2, 0].ravel().tolist()) == list(range(16))
        assert (picture[::2, ::2] == picture[1::2, 1::2]).all()  # pieces are moved whole
    assert (once[0] != once[1]).any()
    np.testing.assert_array_equal(once, shuffled(np.concatenate([tiles, tiles])))
    with pytest.raises(ValueError, match="8 × 8 pixels do not divide into 3 × 3"):
        shuffled(tiles, 3)


# -------------------------------------------------------------------------------------------------------- velocity loss


def test_velocity_loss_of_known_predictions() -> None:
    data = torch.randn(40, 6, 4, generator=torch.Generator().manual_seed(0))
    ids = [f"s{i}" for i in range(40)]
    perfect = velocity_loss(lambda x, t, rows: (x - data[rows]) / t[:, None, None], data, ids)
    assert list(perfect) == list(LEVELS)
    assert max(mean for mean, _ in perfect.values()) < 1e-8
    zero = velocity_loss(lambda x, t, rows: torch.zeros_like(x), data, ids, [0.5])[0.5]
    assert zero[0] == pytest.approx(1 + float(data.square().mean()), rel=0.1)  # E |noise - data|²
    # The best guess of standard normal data is known, and so is its loss: 1 / (t² + (1 - t)²).
    t = 0.35
    best = velocity_loss(lambda x, u, rows: x * (2 * t - 1) / (t * t + (1 - t) ** 2), data, ids, [t])[t]
    assert best[0] == pytest.approx(1 / (t * t + (1 - t) ** 2), abs=4 * best[1])


def test_velocity_loss_inputs_depend_on_id_and_level_only() -> None:
    data, ids = torch.randn(6, 3, 2, generator=torch.Generator().manual_seed(1)), list("abcdef")
    seen: dict[str, torch.Tensor] = {}

    def predict(x: torch.Tensor, t: torch.Tensor, rows: slice) -> torch.Tensor:
        for name, row in zip(order[rows], x, strict=True):
            torch.testing.assert_close(seen.setdefault(f"{name}{t[0]:.2f}", row), row, rtol=0, atol=0)
        return x

    order = ids
    first = velocity_loss(predict, data, ids, [0.2, 0.8], batch=4)
    order = ids[::-1]
    second = velocity_loss(predict, data.flip(0), order, [0.8, 0.2], batch=5)
    assert second[0.2] == pytest.approx(first[0.2])
    noise = [(seen[f"a{t}"] - (1 - float(t)) * data[0]) / float(t) for t in ("0.20", "0.80")]
    assert (noise[0] - noise[1]).abs().min() > 1e-4
    other = velocity_loss(lambda x, t, rows: x, data, ids, [0.2], seed=1)
    assert other[0.2] != first[0.2]
    for bad in ({"levels": [1.2]}, {"ids": ["a"] * 6}):
        with pytest.raises(ValueError):
            velocity_loss(lambda x, t, rows: x, **({"data": data, "ids": ids} | bad))


# --------------------------------------------------------------------------------------------------------------- sheets


def test_sheet_places_pictures(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    pictures = [np.full((32, 32, 3), c, np.uint8) for c in colours]
    path = sheet(pictures, ["a red square of several words, more than one line", "", "blue"], 2, tmp_path / "a.png")
    with Image.open(path) as file:
        image = np.asarray(file)
    for colour in colours:
        ys, xs = np.nonzero((image == colour).all(-1))
        assert (np.ptp(ys) + 1, np.ptp(xs) + 1, len(ys)) == (128, 128, 128 * 128)  # enlarged fourfold, whole
    below = image[8 + 128 : 8 + 128 + 12, 8:136]
    assert (below.min(), below.max()) == (30, 246)  # ink on paper
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="1 captions"):
        sheet(pictures, ["one"], 2, path)


# --------------------------------------------------------------------------------------------------------------- suites


def thumbnails(pictures: np.ndarray) -> np.ndarray:
    """Features cheap enough for tests: the pictures themselves, 4 × 4."""
    n, h, w, _ = pictures.shape
    return pictures.reshape(n, 4, h // 4, 4, w // 4, 3).mean(axis=(2, 4)).reshape(n, -1).astype(np.float32) / 255


class FakePipe:
    """Draws whatever `draw(prompt, generator)` returns."""

    def __init__(self, draw, size: int) -> None:
        self.draw = draw
        self.config = SimpleNamespace(picture=SimpleNamespace(size=size), data=SimpleNamespace(permissive_only=False))

    def __call__(self, prompt, *, num_inference_steps, guidance_scale, generator, output_type):
        assert output_type == "np"
        return SimpleNamespace(images=np.stack([self.draw(p, g) for p, g in zip(prompt, generator, strict=True)]))

    def held_out_velocity_loss(self, samples, levels, seed):
        return dict.fromkeys(levels, (1.0, 0.1))


@pytest.fixture(scope="module")
def tiny_packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 families of 4 tones in 7 styles, each picture four coloured quarters; fluent_flat repeats noto."""
    root = tmp_path_factory.mktemp("packs")
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (80, 7, 2, 2, 3), dtype=np.uint8)
    colours[:, 6] = colours[:, 0]
    files = []
    for quarters in colours.reshape(-1, 2, 2, 3):
        file = io.BytesIO()
        Image.fromarray(quarters.repeat(8, axis=0).repeat(8, axis=1)).save(file, "PNG")
        files.append(file.getvalue())
    (root / "emoji64").mkdir()
    np.savez(
        root / "emoji64" / "emoji64.npz",
        data=np.frombuffer(b"".join(files), np.uint8), offsets=np.cumsum([0, *map(len, files)]),
        emoji=np.repeat(np.arange(80, dtype=np.int16), 7), style=np.tile(np.arange(7, dtype=np.uint8), 80),
        split=np.where(rng.random(560) < 0.25, 2, 0).astype(np.uint8), duplicate_of=np.full(560, -1, np.int32),
        table=np.arange(560, dtype=np.int32).reshape(80, 7), styles=np.array(STYLES), style_words=np.array(STYLES),
    )  # fmt: skip
    records = [{"emoji": e, "name": f"thing {e}", "keywords": [], "family": f"f{e // 4}"} for e in range(80)]
    (root / "emoji64" / "captions.jsonl").write_text("\n".join(map(json.dumps, records)))
    return root


@pytest.fixture
def emoji_pack(tiny_packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SELFFLOW_DATA", str(tiny_packs))


def run_emoji(draw, path: Path | None = None) -> dict:
    options = {"samples": 60, "features": thumbnails, "progress": False, "batch": 17}
    return run_suite(FakePipe(draw, 16), "emoji", path, **options)


@pytest.mark.usefixtures("emoji_pack")
def test_emoji_suite_succeeds_for_the_truth_and_fails_for_others(tmp_path: Path, capsys) -> None:
    from selfflow.data.emoji import Emoji

    source = Emoji("test_combo", size=16)
    row_of = {source.text(int(row)): int(row) for row in source.rows}
    training = Emoji("train", size=16)

    path = tmp_path / "out" / "emoji.json"
    truth = run_emoji(lambda p, g: disturbed(source.picture(row_of[p])[None], row_of[p])[0], path)
    figures = truth["figures"]
    for kind, candidates in (("family", 24), ("style", 6), ("within style", 4)):
        figure = figures[f"retrieval, {kind}"]
        assert figure["value"] > 0.9
        assert figure["ceiling"] > 0.9
        assert figure["chance"] == pytest.approx(1 / candidates)  # seven styles, two of them alike
        assert figure["floor"] < figure["chance"] + 0.2
    assert figures["nearer to the truth than to training"]["value"] > 0.7
    assert "sixteen pieces" in figures["kid"]["note"]  # which of these pictures says nothing: they are of one colour
    assert abs(figures["kid"]["value"]) < 4 * (figures["kid"]["high"] - figures["kid"]["value"]) / 1.96
    assert json.loads(path.read_text()) == truth
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in path.parent.iterdir()) == ["emoji.json", "emoji.png"]
    assert "retrieval, family" in capsys.readouterr().out

    def any_training_picture(prompt: str, generator: torch.Generator) -> np.ndarray:
        return training.picture(int(training.rows[torch.randint(len(training.rows), (1,), generator=generator)]))

    copied = run_emoji(any_training_picture)["figures"]
    assert copied["retrieval, family"]["low"] < 1 / 24 < copied["retrieval, family"]["high"]
    assert copied["training distance"]["value"] == 0
    assert copied["copies"]["value"] == 1
    assert copied["nearer to the truth than to training"]["value"] == 0
    grey = run_emoji(lambda p, g: np.full((16, 16, 3), 128, np.uint8))["figures"]
    assert grey["retrieval, family"]["high"] < 0.3
    assert grey["copies"]["value"] < 0.1
    assert grey["nearer to the truth than to training"]["value"] < 0.1
    loud = run_emoji(lambda p, g: np.full((16, 16, 3), 255, np.uint8))["figures"]
    assert loud["kid"]["low"] > 10 * abs(loud["kid"]["ceiling"])


@pytest.mark.usefixtures("emoji_pack")
def test_emoji_rows_are_drawn_once_and_leave_a_reference() -> None:
    from selfflow.data.emoji import Emoji

    source = Emoji("test_combo", size=16)
    rows, rest = choose(source, 40, 3)
    assert sorted(rows + rest) == source.rows.tolist()
    assert choose(source, 40, 3)[0] == rows
    assert choose(source, 40, 4)[0] != rows
    with pytest.raises(ValueError, match="at most half"):
        choose(source, len(source) // 2 + 1, 0)
    questions, real = kin(source, rows, Cached(thumbnails), False)
    for row, question in zip(rows, questions["style"], strict=True):
        np.testing.assert_array_equal(
            real[question.candidates[question.right]], thumbnails(source.picture(row)[None])[0]
        )
        assert {source.record(r)["emoji"] for r in question.candidates} == {source.record(row)["emoji"]}


def test_the_real_packs_let_retrieval_succeed_and_fail() -> None:
    pack("emoji64"), pack("mobilenetv2_feats")
    from selfflow.data.emoji import Emoji

    source, function = Emoji("test_combo"), Cached(mobilenet_v2())
    families = source.families()
    rows = [r for r in choose(source, 200, 0)[0] if 5 <= len(families[source.record(r)["family"]]) <= 7][:8]
    questions, real = kin(source, rows, function, False)
    centre = np.mean(list(real.values()), axis=0)
    true = np.stack([source.picture(r) for r in rows])
    assert retrieve(function(true), questions["family"], real, centre).accuracy == 1
    assert retrieve(function(disturbed(true)), questions["family"], real, centre).accuracy > 0.6
    shuffled = retrieve(function(np.roll(true, 1, axis=0)), questions["family"], real, centre)
    assert shuffled.accuracy < 0.5


def test_pictures_depend_on_seed_and_id_not_on_batch() -> None:
    def draw(prompt: str, generator: torch.Generator) -> np.ndarray:
        return torch.randint(256, (2, 2, 3), generator=generator, dtype=torch.uint8).numpy()

    pipe, ids = FakePipe(draw, 2), list("abcde")
    one, two = (draw_pictures(pipe, ids, ids, Options(batch=b, progress=False)) for b in (2, 5))
    np.testing.assert_array_equal(one, two)
    assert len(np.unique(one.reshape(5, -1), axis=0)) == 5
    assert (draw_pictures(pipe, ids, ids, Options(seed=1, progress=False)) != one).any()
    assert (draw_pictures(pipe, ids, ids, Options(noise=1, progress=False)) != one).any()
    assert seed_of("a", "bc") != seed_of("ab", "c")


def test_suites_refuse_what_they_do_not_know() -> None:
    pipe = FakePipe(None, 32)
    with pytest.raises(ValueError, match="choose one of all, animate, "):
        run_suite(pipe, "emojis")
    with pytest.raises(ValueError, match=r"\['stepz'\].*samples, steps"):
        run_suite(pipe, "emoji", stepz=3)
    with pytest.raises(ValueError, match="samples is 1"):
        run_suite(pipe, "emoji", samples=1)


def test_table_lines_up() -> None:
    lines = table({"a": Figure(0.5, 0.4, 0.6, chance=0.1), "long name": Figure(-2.0, note="low is good")}).split("\n")
    assert lines[0].split() == ["value", "95", "%", "interval", "chance", "floor", "ceiling", "n", "beats", "floor"]
    assert lines[1].split() == ["a", "0.5000", "0.4000", "…", "0.6000", "0.1000", "yes"]
    assert lines[1].index("0.5000") == lines[2].index("-2.0000") + 1
    assert lines[2].endswith("low is good")
