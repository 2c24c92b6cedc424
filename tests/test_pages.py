"""Figures in the documentation are those of the JSON beside them; how they are put there, and what seeds say."""

import importlib
import json
from pathlib import Path

import pytest

from scripts import RUNS, load_script
from selfflow.evaluate.curves import along, at_time, less
from selfflow.evaluate.distances import interval
from selfflow.evaluate.pages import fill, filled, markdown, plus_minus

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "docs" / "figures"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.mark.parametrize("name", ["modalities", "levers", "copying"])
def test_evidence_is_what_its_scripts_write(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(RUNS))  # scripts may build on one another
    script, page, drawn = load_script(name), tmp_path / "evidence.md", []
    (tmp_path / f"{name}.json").write_text((FIGURES / f"{name}.json").read_text())
    page.write_text(filled(script.PAGE.read_text(), "| stale |", name))
    assert page.read_text() != script.PAGE.read_text()
    now = script.PAGE.read_text()
    monkeypatch.setattr(script, "PAGE", page)
    monkeypatch.setattr(script, "show", lambda summary, path: drawn.append(path))
    script.main(["--page", str(tmp_path / f"{name}.json")])
    assert page.read_text() == now, f"run: python runs/{name}.py --page docs/figures/{name}.json"
    assert drawn == [tmp_path / f"{name}.png"]
    assert (FIGURES / drawn[0].name).exists()


def test_other_pages_are_what_their_scripts_write(benchmark):
    realtime, worlds = benchmark("realtime"), benchmark("worlds")
    for script, content in (
        (realtime, realtime.page(json.loads((ROOT / "benchmarks" / "realtime.json").read_text()))),
        (worlds, worlds.figures()),
    ):
        page = script.PAGE.read_text()
        assert filled(page, content) == page, f"{script.PAGE.name} does not show the figures of the JSON"


def test_what_stands_between_the_markers_is_replaced_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- end of a -->\n<!-- b -->\n<!-- end of b -->\nafter ±\n")
    fill(page, "\nnew\n\nlines\n", "a")
    assert page.read_text() == (
        "before\n<!-- a -->\n\nnew\n\nlines\n\n<!-- end of a -->\n<!-- b -->\n<!-- end of b -->\nafter ±\n"
    )
    assert list(tmp_path.iterdir()) == [page]
    for bad in ("none", "<!-- a --> twice <!-- a --> <!-- end of a -->", "<!-- end of a --><!-- a -->"):
        with pytest.raises(ValueError, match="needs <!-- a --> once"):
            filled(bad, "new", "a")


def test_tables_and_numbers_are_written_as_they_are_read():
    assert markdown(["", "x"], [["a", 1], ["", ""]]) == "| | x |\n|---|---|\n| a | 1 |\n| | |"
    x = {"mean": -0.0312, "half": 0.0296}
    assert plus_minus(x, 1, 100) == "−3.1 ± 3.0"
    assert plus_minus(x, 1, 100, mark=True) == "**−3.1 ± 3.0**"
    assert plus_minus({"mean": -0.0312, "half": 0.04}, 1, 100, mark=True) == "−3.1 ± 4.0"
    assert plus_minus({"mean": -0.001, "half": 0.2}, 1) == "0.0 ± 0.2"
    assert plus_minus({"mean": -2.0, "half": None}, 0, mark=True) == "−2"


def test_runs_are_compared_at_equal_time_and_seed_by_seed():
    curve = {10: 0.1, 5: 0.4}  # whichever way round
    found = [at_time(curve, 2.0, seconds) for seconds in (3.0, 10.0, 15.0, 20.0, 99.0)]
    assert found == pytest.approx([0.4, 0.4, 0.2, 0.1, 0.1])
    with pytest.raises(ValueError, match="nothing was measured"):
        at_time({}, 1.0, 1.0)
    rows = along([(1.0, 5.0), (3.0, 9.0)])
    assert [x["mean"] for x in rows] == [2.0, 7.0]
    assert less(rows, [interval([1.0, 2.0]), interval([5.0, 4.0])])[1]["values"] == [0.0, 5.0]
