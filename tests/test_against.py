"""Two evaluations side by side: which way is better, how much worse, and what chance explains."""

import json
from pathlib import Path

import numpy as np
import pytest

from selfflow.cli import main as command
from selfflow.evaluate.against import changes, report
from selfflow.evaluate.distances import exact


def evaluation(samples: int = 8, **figures: dict) -> dict:
    return {"options": {"samples": samples, "seed": 0}, "figures": figures}


def test_scores_are_compared_whichever_way_is_better() -> None:
    wide = {"low": 0.0, "high": 1.0, "floor": 0.1, "chance": 0.2}
    less = {"low": 1.8, "high": 2.2, "floor": 5.0, "ceiling": 0.0, "note": "lower is better"}
    many = evaluation(
        right={"value": 0.5, **wide}, error={"value": 2.0, **less}, never={"value": 0.0, **wide},
        control={"value": 1.0, **wide, "judged": False}, bare={"value": 1.0}, only={"value": 1.0, **wide},
    )  # fmt: skip
    few = evaluation(
        right={"value": 0.4, **wide}, error={"value": 3.0, **less, "low": 2.9, "high": 3.1},
        never={"value": 0.1, **wide}, control={"value": 0.0, **wide, "judged": False}, bare={"value": 0.0},
    )  # fmt: skip
    right, error, never = changes(few, many)
    assert (right.name, error.name, never.name) == ("right", "error", "never")
    assert right.worse == pytest.approx(0.2)
    assert right.gap == pytest.approx((0.1 - 0.5**0.5, 0.1 + 0.5**0.5))
    assert not right.apart
    assert error.worse == pytest.approx(0.5)
    assert error.gap == pytest.approx((1 - 0.05**0.5, 1 + 0.05**0.5))
    assert error.apart
    assert (right.floor, error.floor) == (0.2, 5.0)  # the better of floor and chance
    assert (never.worse, never.apart) == (None, False)  # nothing to be relative to
    assert [c.worse for c in changes(many, many)] == [0] * 4


def test_what_is_known_sample_by_sample_is_compared_sample_by_sample() -> None:
    hits = [1.0, 0.0, 1.0, 0.0, None] * 20
    figure = {"value": 0.5, "low": 0.2, "high": 0.8, "floor": 0.1, "each": hits}
    (same,) = changes(evaluation(a=figure), evaluation(a=figure))
    assert (same.worse, same.gap) == (0, (0, 0))  # the same samples are right: nothing is left to chance
    # Every third of those that were right is lost: 13 of 80 samples, each a difference of 1.
    lost = [0.0 if x == 1 and i % 15 in (0, 7) else x for i, x in enumerate(hits)]
    few = figure | {"each": lost, "value": float(np.mean([x for x in lost if x is not None]))}
    (change,) = changes(evaluation(a=few), evaluation(a=figure))
    share = 1 - few["value"] / 0.5
    assert change.worse == pytest.approx(share)
    lost_only = len([1 for x, y in zip(hits, lost, strict=True) if x != y])
    low, high = exact(lost_only, lost_only)  # none is won: signs alone tell
    assert change.gap == pytest.approx(tuple((2 * end - 1) * lost_only / 80 for end in (low, high)))
    assert change.apart
    # Other samples count: they cannot be paired.
    other = figure | {"each": [None, *hits[1:]]}
    (unpaired,) = changes(evaluation(a=other), evaluation(a=figure))
    assert unpaired.gap == pytest.approx((-0.3 * 2**0.5, 0.3 * 2**0.5))


def test_decibels_are_compared_as_errors_and_gains_as_they_are() -> None:
    rng = np.random.default_rng(0)
    errors = rng.uniform(100, 300, 24)

    def told(errors: np.ndarray, gain: float, kept: bool = True) -> dict:
        value = float(10 * np.log10(255**2 / errors.mean()))
        ends = {"low": value - 1, "high": value + 1, "floor": 10.0, "note": "dB"}
        near = {"low": gain - 0.1, "high": gain + 0.1, "chance": 0.0, "note": "dB"}
        kid = {"value": -0.01, "low": -0.02, "high": 0.01, "floor": 0.1, "note": "lower is better"}
        psnr = {"value": value, **ends, **({"errors": errors.tolist()} if kept else {})}
        return evaluation(24, psnr=psnr, gain={"value": gain, **near}, kid=kid)

    psnr, gain, kid = changes(told(errors * 1.2, 0.01), told(errors, 0.1))
    assert psnr.worse == pytest.approx(0.2)  # 0.8 of some 25 dB, which would be 3 %
    assert psnr.gap == pytest.approx((0.2, 0.2))  # of every window alike
    assert (gain.worse, gain.apart) == (None, False)
    assert gain.gap == pytest.approx((0.09 - 0.02**0.5, 0.09 + 0.02**0.5))
    assert (kid.worse, kid.gap[0] < 0 < kid.gap[1]) == (0, True)
    before, *_ = changes(told(errors * 1.2, 0.1, kept=False), told(errors, 0.1))  # as told before errors were kept
    reach = 10 ** (2**0.5 / 10)
    assert before.gap == pytest.approx((1.2 / reach - 1, 1.2 * reach - 1))


def test_compare_prints_who_lost_what_and_refuses_unlike_evaluations(tmp_path: Path, capsys) -> None:
    wide = {"low": 0.0, "high": 1.0, "floor": 0.1}
    files = {
        "many": evaluation(a={"value": 0.5, **wide}, b={"value": 0.5, **wide}),
        "few": evaluation(a={"value": 0.48, **wide}, b={"value": 0.4, **wide}),
        "other": evaluation(samples=9, a={"value": 0.5, **wide}),
        "alien": {"figures": {"a": {"value": float("nan")}}},
    }
    for name, found in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    many, few, other, alien = (str(tmp_path / f"{name}.json") for name in files)
    command(["compare", few, many])
    printed = capsys.readouterr().out
    assert "20.0 %" in printed
    assert "1 of 2 scores that are not 0 in both are at most 5 % worse; of the others 0 of 1" in printed
    command(["compare", few, many, "--within", "20"])
    assert "2 of 2 scores that are not 0 in both are at most 20 % worse" in capsys.readouterr().out
    for wrong, says in ((other, "compare like with like"), (alien, "is no evaluation")):
        with pytest.raises(SystemExit):
            command(["compare", few, wrong])
        assert says in capsys.readouterr().err


def test_scores_in_which_nothing_could_be_lost_are_counted_apart() -> None:
    def evaluation(**values: float) -> dict:
        width = {"low": -0.05, "high": 0.05, "floor": 0.1, "count": 9}
        figures = {n: width | {"value": v, "low": v - 0.05, "high": v + 0.05} for n, v in values.items()}
        return {"options": {"samples": 9, "seed": 0}, "figures": figures}

    teacher = evaluation(kept=0.5, lost=0.6, never=0.12, none=0.0)
    few = evaluation(kept=0.49, lost=0.3, never=0.06, none=0.0)
    found = changes(few, teacher)
    assert [c.told for c in found] == [True, True, False, False]
    told, *printed = report(found, 0.05).split("\n")[-4:]
    assert told.startswith("0 of 4 scores are better and 1 worse than 95 % intervals allow for; about 0 of so many")
    said = "1 of 3 scores that are not 0 in both are at most 5 % worse; of the others 1 of 2 are told apart"
    assert printed[0] == said
    assert printed[1] == "Of those in which the better of the two beats its floor:"
    assert printed[2] == "1 of 2 are at most 5 % worse; of the others 1 of 1 are told apart"
    # What the second side alone could do was not lost by it.
    assert [c.told for c in changes(teacher, few)] == [True, True, False, False]
