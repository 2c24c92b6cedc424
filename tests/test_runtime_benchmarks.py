"""The benchmarks of the runtime, in miniature: figures are what they are called, and a run cut short goes on."""

import importlib
import json
from pathlib import Path

import pytest
import torch

from selfflow.bundled import bundled_model
from selfflow.recipes import nano

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def realtime(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("realtime")


@pytest.fixture
def int8(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("int8")


def test_decoding_is_a_share_of_a_request_that_decodes(realtime):
    cells = realtime.decoding(realtime.Bench(2, 0, None), nano(), sides=(48,), steps=(1, 2))
    dtypes = {"float32", str(realtime.fast_dtype("cpu")).removeprefix("torch.")}
    assert {(c["codec"], c["dtype"]) for c in cells} == {(codec, d) for codec in realtime.CODECS for d in dtypes}
    for cell in cells:
        assert cell["tokens"] == 16
        for k, share in cell["shares"].items():
            assert share == pytest.approx(cell["p50"] / (cell["p50"] + cell["requests"][k]), abs=1e-3)
    rows = realtime.rows_of({"decode": cells})
    assert [r.target for r in rows[:3]] == ["≤ 1.5", "≤ 0.25", "≤ 0.25"]
    assert all(row.holds for row in rows if row.unit == "M")  # 0.98 and 1.37 million


def test_a_run_cut_short_goes_on_and_pages_are_made_of_what_there_is(realtime, tmp_path, monkeypatch, capsys):
    kept, page, measured = tmp_path / "found.json", tmp_path / "page.md", []
    cell = {
        "tokens": 64, "codec": "codec-picture", "dtype": "float32", "step": "eager", "p50": 5.0, "p95": 6.0,
        "parameters": 976_460, "requests": {"1": 15.0, "4": 45.0}, "shares": {"1": 0.25, "4": 0.1},
    }  # fmt: skip

    def part(name, cells):
        def measure(bench):
            measured.append(name)
            return cells

        return measure

    monkeypatch.setattr(realtime, "PARTS", {"control": part("control", []), "decode": part("decode", [cell])})
    monkeypatch.setattr(realtime, "PAGE", page)
    arguments = ["--threads", "1", "--rounds", "2", "--json", str(kept)]
    realtime.main([*arguments, "--part", "control"])
    page.write_text("before\n<!-- figures -->\nold\n<!-- end of figures -->\nafter")
    realtime.main(["--page", str(kept)])  # of a run without that part
    assert "decoder" not in page.read_text()
    realtime.main(arguments)
    assert measured == ["control", "decode"]  # nothing twice
    assert set(json.loads(kept.read_text())["parts"]) == {"control", "decode"}
    realtime.main(["--page", str(kept)])
    told = page.read_text()
    assert "| codec-picture | 0.98M | 64 | float32 | 5.0 | 6.0 | 25% | 10% |" in told
    assert told.startswith("before\n")
    assert told.endswith("\nafter")
    realtime.main(["--page", str(ROOT / "benchmarks" / "realtime.json")])
    assert "| 256 | 10 | warm | exported |" in page.read_text()


onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@onednn
def test_products_in_eight_bits_are_those_of_rounded_numbers(int8):
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(shape, generator=generator) for shape in ((48, 64), (16, 64)))
    x[3] *= 20  # one token is larger than the others: by token they keep their levels
    with torch.inference_mode():
        by_token, by_call = int8.int8(x) @ int8.int8(weight).T, int8.int8(x, None) @ int8.int8(weight).T
        assert torch.allclose(int8.by_int_mm(weight)(x), by_token, atol=1e-3)
        assert torch.allclose(int8.by_onednn(weight, 16, torch.float32)(x), by_call, atol=1e-3)
        in_fp8 = int8.fp8(x) @ int8.fp8(weight).T
        assert torch.allclose(int8.by_scaled_mm(weight)(x).float(), in_fp8, rtol=2**-7, atol=0.02)
    exact = x @ weight.T
    errors = [float((y - exact)[torch.arange(16) != 3].norm()) for y in (by_token, by_call)]
    assert 5 * errors[0] < errors[1]
    assert int8.int8(x).unique().numel() <= 16 * 255
    assert float(int8.int8(torch.full((1, 8), 3.0, dtype=torch.bfloat16)).max()) == pytest.approx(3)  # none wraps round


@onednn
def test_eight_bits_are_measured_in_time_and_quality(realtime, int8, tmp_path, monkeypatch):
    model = realtime.model(nano()).save_pretrained(tmp_path / "model")
    exact = dict.fromkeys(["not rounded"], (lambda w: w, lambda x: x))
    monkeypatch.setattr(int8, "ROUNDINGS", exact | int8.ROUNDINGS)
    monkeypatch.setattr(int8, "micro", nano)
    monkeypatch.setattr(int8, "ROWS", (16,))
    path = tmp_path / "int8.json"
    int8.main(["--rounds", "2", "--samples", "2", "--model", str(model), "--json", str(path)])
    found = json.loads(path.read_text())
    quality = {cell["how"]: cell for cell in found["quality"]}
    assert quality["not rounded"]["relative_error"] < 1e-5
    errors = [quality[how]["relative_error"] for how in ("int8 weights", "int8, activations by token", "fp8 weights")]
    assert 1e-4 < errors[0] < errors[1] < errors[2] < 0.2
    for cell in found["quality"]:
        assert cell["loss"] == pytest.approx(cell["loss_float32"] * (1 + cell["loss_rise"]))
        assert set(cell["by_level"]) == {str(level) for level in int8.LEVELS}
    assert {cell["rows"] for cell in found["time"]} == {16}
    ways = {cell["how"]: cell["runtime_over_it"] for cell in found["time"]}
    assert ways.pop("runtime") == 1
    assert len(ways) == 5


def test_what_words_cost_is_told_beside_requests_without_any(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    printing = importlib.import_module("printing")
    if (model := bundled_model("micro-all-few")) is None:
        pytest.skip("no weights are bundled: micro-all-few")
    sought = printing.Stencils._explained
    printing.main(["--model", str(model), "--rounds", "1", "--json", str(tmp_path / "found.json")])
    assert printing.Stencils._explained is sought
    found = json.loads((tmp_path / "found.json").read_text())
    assert set(found["milliseconds"]) == {*printing.ASKED, *(f"{name}, directly" for name in printing.WITHOUT)}
    for name in printing.WITHOUT:
        assert found["milliseconds"][name]["over the one without"] > 1
