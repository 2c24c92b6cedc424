"""What figures say of themselves: intervals that are never of no width, floors that are as uncertain as the value."""

import json
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest

from selfflow.evaluate.distances import around_mean, exact, paired, wilson
from selfflow.evaluate.measures import distances, mean, share, unsurprised
from selfflow.evaluate.motion_suite import _strict
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.suite import SUITES, run_suite

OPTIONS = Options()


def first(hits: int, count: int) -> np.ndarray:
    """So many hits of so many samples."""
    return (np.arange(count) < hits).astype(float)


# ------------------------------------------------------------------------------------------------------------ intervals


def test_exact_known_values() -> None:
    assert exact(0, 12) == pytest.approx((0, 1 - 0.025 ** (1 / 12)))
    assert exact(12, 12) == pytest.approx((0.025 ** (1 / 12), 1))
    assert exact(4, 10) == pytest.approx((0.1216, 0.7376), abs=1e-4)
    assert exact(0, 0) == (0, 1)
    low, high = exact(1500, 3000)
    assert 0.481 < low < 0.5 < high < 0.519
    with pytest.raises(ValueError, match="3 hits of 2"):
        exact(3, 2)


def test_the_mean_of_a_few_is_students_and_of_equal_ones_has_no_interval() -> None:
    assert around_mean(np.full(30, 2.5)) == (None, None)
    assert around_mean(np.array([0.4])) == (None, None)
    four = np.array([1.0, 2.0, 3.0, 4.0])
    low, high = around_mean(four)
    assert (low, high) == pytest.approx((2.5 - 3.182 * four.std(ddof=1) / 2, 2.5 + 3.182 * four.std(ddof=1) / 2))
    assert around_mean(four / 4, unit=True)[1] == 1  # a score is at most 1
    assert around_mean(np.ones(4), unit=True) == pytest.approx(wilson(4, 4))
    assert around_mean(np.zeros(24), unit=True) == pytest.approx(wilson(0, 24))


def test_pairs_of_hits_are_judged_exactly_and_others_by_their_differences() -> None:
    # McNemar: of those that differ, how many may go one way by chance? 2 · 2⁻⁵ > 0.05 > 2 · 2⁻⁶.
    assert paired(first(5, 12), np.zeros(12))[0] < 0 < paired(first(6, 12), np.zeros(12))[0]
    assert paired(np.ones(12), np.zeros(12))[1] == pytest.approx(1)
    assert paired(first(6, 12), first(6, 12)) == [0, 0]
    both = paired(first(6, 12), np.roll(first(6, 12), 6))
    assert both == pytest.approx([-both[1], both[1]])
    rng = np.random.default_rng(0)
    hard = rng.uniform(0, 10, 200)  # samples differ far more than the two
    low, high = paired(hard + 0.1 * rng.standard_normal(200) + 0.05, hard)
    assert 0 < low < 0.05 < high < 0.1
    assert paired([1.0, np.nan, 0.3, 0.6], [0.5, 1.0, np.nan, 0.0]) == pytest.approx(paired([1.0, 0.6], [0.5, 0.0]))
    with pytest.raises(ValueError, match=r"\(3,\) and \(1,\) values are no pairs"):
        paired(np.zeros(3), np.zeros(1))


# --------------------------------------------------------------------------------------------------------------- floors


def test_a_floor_of_a_dozen_samples_is_as_uncertain_as_the_value() -> None:
    one, none = first(1, 12), np.zeros(12)
    assert share(one, floor=none).beats_floor is False
    assert share(one, floor=0.0).beats_floor is True  # 0 by definition: a single success is more
    assert share(first(6, 12), floor=none).beats_floor is True
    assert share(first(9, 12), floor=none, chance=0.5).beats_floor is False  # chance stays exact
    scores = np.array([0.5, 0.1, 0.3] * 4)
    lucky, poor = scores[[*range(1, 12), 0]] * 0.9, scores - 0.1 + 0.01 * np.arange(12)
    assert mean(scores, OPTIONS, floor=lucky, unit=True).beats_floor is False
    assert mean(scores, OPTIONS, floor=poor, unit=True).beats_floor is True  # better sample by sample
    worse = mean(scores, OPTIONS, floor=scores + 0.1 + 0.01 * np.arange(12), note="lower is better")
    assert worse.beats_floor is True
    # The floor itself is kept.
    assert worse.floor_each == pytest.approx(scores + 0.1 + 0.01 * np.arange(12), abs=1e-5)


def test_the_highest_of_several_floors_is_judged_by_its_own_samples() -> None:
    score = mean(first(8, 12), OPTIONS, floor=np.zeros(12))
    others = {"floor: good": mean(first(7, 12), OPTIONS, judged=False), "floor: bad": mean(np.zeros(12), OPTIONS)}
    strict = _strict({"score": score, **others})["score"]
    assert score.beats_floor is True
    assert (strict.floor, strict.floor_each, strict.beats_floor) == (7 / 12, first(7, 12).tolist(), False)


def test_a_floor_of_a_distance_is_as_uncertain_as_the_distance() -> None:
    rng = np.random.default_rng(0)
    reference, true = rng.standard_normal((200, 8)), rng.standard_normal((16, 8))
    like, far = rng.standard_normal((16, 8)), rng.standard_normal((16, 8)) + 3
    same = distances(like, true, true, reference, OPTIONS)
    assert [f.beats_floor for f in same.values()] == [False, False]
    apart = distances(like, true, far, reference, OPTIONS)
    assert [f.beats_floor for f in apart.values()] == [True, True]
    for name in same:
        assert same[name].value == apart[name].value
        assert same[name].floor == same[name].ceiling


def test_a_figure_read_from_its_json_judges_the_same(tmp_path, monkeypatch) -> None:
    figures = {
        "one": share(first(1, 12), floor=np.zeros(12)),
        "six": share(first(6, 12), floor=np.zeros(12), chance=0.1),
        "exact": share(first(1, 12), floor=0.0),
        "mean": mean(np.linspace(0, 1, 12), OPTIONS, floor=np.linspace(0, 0.9, 12)),
        "bare": Figure(0.5),
    }
    monkeypatch.setitem(SUITES, "emoji", lambda pipe, options: {"figures": dict(figures)})
    run_suite(SimpleNamespace(), "emoji", tmp_path / "page.json")
    stored = json.loads((tmp_path / "page.json").read_text())["figures"]
    for name, figure in figures.items():
        read = Figure.read(stored[name])
        assert asdict(read) == asdict(figure)
        assert read.beats_floor is figure.beats_floor is stored[name].get("beats_floor")
    assert [f.beats_floor for f in figures.values()] == [False, True, True, True, None]


def test_all_pairs_right_are_no_certainty() -> None:
    four = unsurprised([(0.1, 0.2)] * 4, "picture")
    assert (four.value, four.low, four.high) == (1, pytest.approx(wilson(4, 4)[0]), 1)
    assert unsurprised([(1.0, 1.0), (1.0, 2.0)], "clip").value == 0.75  # a tie is half
    assert mean([0.3], OPTIONS, unit=True).beats_floor is None
