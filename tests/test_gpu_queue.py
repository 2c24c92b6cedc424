"""The scripts that wait for a GPU run from end to end on the CPU, in miniature."""

import json
import os
import shutil
import subprocess
from types import ModuleType

import pytest

from scripts import RUNS, load_script


def load(name: str) -> ModuleType:
    """A script of `runs/gpu` as a module."""
    return load_script(f"gpu/{name}")


def test_throughput_counts_samples_and_arithmetic(tmp_path):
    path = tmp_path / "throughput.json"
    load("throughput").main(["--device", "cpu", "--toy", "--json", str(path)])
    results = json.loads(path.read_text())
    cells = {(c["recipe"], c["objective"], c["batch"]): c for c in results["cells"]}
    assert len(cells) == 2 * 2 * 2
    for (recipe, kind, batch), found in cells.items():
        assert found["samples_per_s"] == pytest.approx(1000 * batch / found["ms"], rel=0.01)
        assert found["mfu"] == pytest.approx(found["flops_per_sample"] * found["samples_per_s"] / results["peak"])
        tokens = {"micro": 64, "small": 256}[recipe]
        assert found["tokens_per_s"] == pytest.approx(tokens * found["samples_per_s"], rel=0.01)
        if kind == "self_flow":  # the teacher's share of a forward pass, and the head
            plain = cells[recipe, "flow_matching", batch]["flops_per_sample"]
            assert 1.15 < found["flops_per_sample"] / plain < 1.6


def test_emoji_comparison_is_paired_and_resumes(tmp_path, capsys):
    out, path, script = tmp_path / "runs", tmp_path / "summary.json", load("micro_emoji")
    arguments = ["--device", "cpu", "--toy", "--out", str(out), "--json", str(path)]
    script.main([*arguments, "--minutes", "0"])
    assert "time is up within seed 0" in capsys.readouterr().out
    assert not path.exists()
    script.main(arguments)
    summary = json.loads(path.read_text())
    assert summary["seeds"] == [0]
    assert [p.name for p in sorted((out / "self_flow-0" / "snapshots").iterdir())] == ["1", "2", "3", "4"]
    for row in summary["equal_steps"].values():
        assert row["difference"]["mean"] == pytest.approx(row["self_flow"]["mean"] - row["flow_matching"]["mean"])
        assert row["difference"]["standard_error"] is None  # one seed has none
    # Flow matching's last figures are the same in both comparisons; Self-Flow's come from a step that fits its time.
    (pair,) = summary["runs"]
    seconds = pair["seconds_per_step"]
    step = pair["equal_time_step"]
    assert step == 1 or step * seconds["self_flow"] <= summary["steps"] * seconds["flow_matching"]
    for name, row in summary["equal_wall_clock"].items():
        assert row["flow_matching"] == summary["equal_steps"][name]["flow_matching"]
    shutil.rmtree(out / "self_flow-0" / "snapshots" / "4")  # as if killed between checkpoint and snapshot
    logged = (out / "self_flow-0" / "metrics.jsonl").read_text()
    script.main(arguments)
    assert json.loads(path.read_text()) == summary
    assert (out / "self_flow-0" / "metrics.jsonl").read_text() == logged  # nothing was trained again


def test_all_tasks_train_until_the_time_is_up_and_a_release_is_carried(tmp_path, capsys):
    import torch

    from selfflow.pipeline import Pipeline
    from selfflow.weight_files import read_weights, weight_files

    script, out, weights = load("micro_all"), tmp_path / "run", tmp_path / "release"
    arguments = ["--device", "cpu", "--toy", "--out", str(out), "--carry", str(weights)]
    script.main([*arguments, "--minutes", "0"])
    assert "holds no checkpoint yet" in capsys.readouterr().out
    script.main([*arguments, "--minutes", "1e-9"])
    assert "step 2: " in capsys.readouterr().out  # the present step and one more, whole
    assert "after\n2 steps of 8 samples" in (weights / "README.md").read_text()
    script.main(arguments)
    assert "step 4: " in capsys.readouterr().out
    assert {v.dtype for v in read_weights(weights).values()} == {torch.bfloat16, torch.uint8}  # letters are bytes
    assert all(path.stat().st_size <= 16 * 2**20 for path in weight_files(weights))
    pipe = Pipeline.from_pretrained(weights)
    assert pipe.speak(["a ball falls"], 0.1, steps=1).shape == (1, 1600)
    # What was carried is distilled, in two goes as if the time had been up.
    distil, few = load("distil"), tmp_path / "few"
    arguments = ["--device", "cpu", "--toy", "--model", str(weights), "--out", str(tmp_path / "distilling")]
    arguments += ["--carry", str(few)]
    distil.main([*arguments, "--minutes", "0"])
    assert "time was up before the first checkpoint" in capsys.readouterr().out
    distil.main(arguments)
    assert "step 4: " in capsys.readouterr().out
    pipe = Pipeline.from_pretrained(few)
    assert pipe.config.network.target_time
    assert pipe.speak(["a ball falls"], 0.1).shape == (1, 1600)
    # It is rewarded too, and each source is told apart.
    rewarded = load("reward")
    arguments = ["--device", "cpu", "--toy", "--model", str(weights), "--out", str(tmp_path / "rewarding")]
    rewarded.main([*arguments, "--carry", str(tmp_path / "rewarded")])
    said = capsys.readouterr().out
    assert "step 4: " in said
    assert "right_" in said
    assert Pipeline.from_pretrained(tmp_path / "rewarded").config.objective.kind == "negative_aware"
    # Another run begins with the release, and its own release names both.
    again = ["--device", "cpu", "--toy", "--out", str(tmp_path / "again"), "--carry", str(tmp_path / "next")]
    script.main([*again, "--init", str(weights)])
    history = json.loads((tmp_path / "next" / "training.json").read_text())
    assert [h["steps"] for h in history] == [4, 4]
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == (out / "tokenizer.json").read_bytes()


def test_a_lease_calls_each_script_as_it_wants_to_be_called(tmp_path, capsys, monkeypatch):
    """With a python that writes down what it is asked for and leaves what a run leaves; then the scripts read that."""
    script, lease, out, tools = RUNS / "gpu/lease.sh", tmp_path / "lease", tmp_path / "out", tmp_path / "tools"
    for folder in (lease, out, tools, tmp_path / "data/wheels", tmp_path / "data/like"):
        folder.mkdir(parents=True)
    for name in ("wheels/thing.whl", "like/tokenizer.json", "like/bodies.json"):
        (tmp_path / "data" / name).touch()
    (tools / "python3").write_text(
        '#!/bin/bash\nprintf "%s\\t" "$@" >> "$LEASE/asked"; echo >> "$LEASE/asked"\n'
        'for i in "$@"; do [ "${last:-}" = --out ] && mkdir -p "$i" && echo told > "$i/metrics.jsonl"\n'
        '[ "${last:-}" = --carry ] && mkdir -p "$i" && echo weights > "$i/model"; last=$i; done; exit 0\n'
    )
    (tools / "python3").chmod(0o755)
    environment = {"PATH": f"{tools}:{os.environ['PATH']}", "LEASE": str(lease), "DRAWN": str(tmp_path / "drawn")}

    def run(*arguments: str, **more: str) -> list[list[str]]:
        (lease / "asked").unlink(missing_ok=True)
        command = ["bash", str(script), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment | more, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(done.stderr)
        return [line.split("\t")[:-1] for line in (lease / "asked").read_text().splitlines()]

    subprocess.run(["bash", "-n", str(script)], check=True)
    with pytest.raises(ValueError, match="give minutes of training and of distilling"):
        run("7", OUT=str(out))
    with pytest.raises(ValueError, match="name the folder that is brought back"):
        run("7", "2")
    pip, unpack, training, distilling = run("1", "0.5", "--launched", OUT=str(out))
    assert pip[:2] == ["-m", "pip"]
    assert pip[-1] == "data/wheels/thing.whl"
    assert unpack == ["runs/gpu/luggage.py", "unpack", "--packs", "data/packs", "--out", str(lease / "packs")]
    carried = subprocess.run(["tar", "tf", str(out / "few.aa")], capture_output=True, text=True, check=True).stdout
    assert carried.split() == ["few-release/", "few-release/model"]
    assert {p.name for p in out.iterdir()} == {"metrics.gz", "release.aa", "few.gz", "few.aa"}
    monkeypatch.chdir(tmp_path)
    for asked, name, minutes, said in (
        (training, "micro_all", "1", "holds no checkpoint yet"),
        (distilling, "distil", "0.5", "time was up before the first checkpoint"),
    ):
        assert asked[0] == f"runs/gpu/{name}.py"
        at = asked.index("--minutes") + 1
        assert asked[at] == minutes
        assert asked[-1] == "--launched"
        load(name).main([*asked[1:at], "0", *asked[at + 1 :]])  # it takes every argument, and has no time for more
        assert said in capsys.readouterr().out
    assert distilling[distilling.index("--model") + 1] == training[training.index("--carry") + 1]
    # What is there is not set up again; without minutes of training what was distilled stays, and goes on.
    (lease / "few" / "kept").touch()
    assert [asked[0] for asked in run("0", "1", OUT=str(out))] == ["runs/gpu/micro_all.py", "runs/gpu/distil.py"]
    assert (lease / "few" / "kept").exists()
    assert [asked[0] for asked in run("1", "0", OUT=str(out))] == ["runs/gpu/micro_all.py"]
    run("1", "1", OUT=str(out))
    assert not (lease / "few" / "kept").exists()


def test_realtime_measures_step_loops_and_whole_requests(tmp_path, capsys):
    path, script = tmp_path / "realtime.json", load("realtime")
    script.main(["--device", "cpu", "--toy", "--json", str(path)])
    loop, *requests = json.loads(path.read_text())["cells"]
    assert loop["gap"] < 0.05  # a recorded loop draws what a launched one draws, padding and all
    assert {"ours", "ours, recorded"} <= set(loop["ms"])
    cases = [(c["shape"], c["what"], c.get("references"), c.get("memory")) for c in requests]
    edits = [("requests", "edit", count, memory) for count in (1, 10) for memory in ("cold", "warm")]
    others = [("control", what, None, None) for what in ("action chunk", "world frame")]
    assert cases == [("requests", "generate", 0, "warm"), *edits, *others]
    for cell in requests:
        assert set(cell["ms"]) == {"ours", "ours, recorded"}
        assert cell["gap"] < (0.02 if cell["what"] == "action chunk" else 2)  # in bf16; of ranges of 2 and 255
    for cell in (loop, *requests):
        assert all(0 < found["p50"] <= found["p95"] for found in cell["ms"].values())
    capsys.readouterr()
    script.main(["--device", "cpu", "--shapes", "control", "--minutes", "0", "--json", str(tmp_path / "none.json")])
    assert "out of time" in capsys.readouterr().out
    assert not (tmp_path / "none.json").exists()


def test_a_cold_request_reads_its_references_and_a_warm_one_only_its_prompt():
    import torch

    from selfflow.runtime import Runtime

    script = load("realtime")
    pipe = script.whole(script.micro(), torch.device("cpu"), toy=True)
    for cold, missing in ((True, 3), (False, 1)):
        runtime = Runtime(pipe, torch.float32)
        request = script.asked(2, 64, cold)(runtime)
        first = request()
        before = runtime.memory.misses
        assert (request() != first).any()  # of another prompt
        assert runtime.memory.misses - before == missing


def test_the_shape_of_klein_is_exact():
    """Counted without memory: 3.876 billion parameters, as published (facts of its configuration)."""
    import torch

    from selfflow.nn import Modality, Transformer, TransformerConfig

    width, heads, depth, double, text, values, _ = load("realtime").SHAPES["klein-4b"]
    modalities = {"text": Modality(channels=text), "visual": Modality(channels=values, prediction="velocity")}
    with torch.device("meta"):
        net = Transformer(TransformerConfig(modalities, width, depth, heads, 3.0, double, True))
    assert net.parameter_count == pytest.approx(3.876e9, rel=0.02)


def test_packs_come_out_of_the_luggage_but_for_what_is_held_out(tmp_path):
    import numpy as np

    script, rng, packs = load("luggage"), np.random.default_rng(0), tmp_path / "packs"
    for name in script.FILES:
        (packs / name).parent.mkdir(parents=True, exist_ok=True)
    for name in script.TEXTS:
        (packs / name).write_text(f"text of {name}")
    ends, test = np.array([0, 5, 9, 20]), np.array([0, 1, 0], np.uint8)
    data, audio = rng.integers(0, 256, 20, np.uint8), rng.integers(-(2**15), 2**15, 20).astype(np.int16)
    frames = rng.integers(0, 256, (4, 8, 8, 3), np.uint8)
    np.savez(packs / "emoji64/emoji64.npz", data=data, offsets=ends, split=test, styles=np.array(["a", "bc"]))
    np.savez(packs / "signdigits64/signdigits64.npz", data=data, offsets=ends, test=test)
    np.savez(packs / "fsdd8k/fsdd8k.npz", audio=audio, offsets=ends, test=test)
    for name in ("pusht64/pusht64_center.npz", "pusht64/pusht64_x356.npz"):
        np.savez_compressed(packs / name, img=frames, keypoint=rng.random(5))
    for name in ("emoji64/emoji64_pairs.npz", "sonicpi_cc0_16k/sonicpi16k.npz", "lpc64/lpc64.npz"):
        np.savez(packs / name, anything=rng.random((3, 4)).astype(np.float32))
    script.main(["pack", "--packs", str(packs), "--out", str(tmp_path / "small"), "--skip", "sonicpi_cc0_16k"])
    script.main(["unpack", "--packs", str(tmp_path / "small"), "--out", str(tmp_path / "back")])
    found = {name: dict(np.load(tmp_path / "back" / name)) for name in script.FILES if "sonicpi" not in name}
    assert not (tmp_path / "back/sonicpi_cc0_16k").exists()
    for name in script.TEXTS:
        assert (tmp_path / "back" / name).read_text() == f"text of {name}"
    emoji, hands, digits = (
        found[n] for n in ("emoji64/emoji64.npz", "signdigits64/signdigits64.npz", "fsdd8k/fsdd8k.npz")
    )
    for pack in (emoji, hands):
        records = [pack["data"][a:b] for a, b in zip(pack["offsets"], pack["offsets"][1:], strict=False)]
        assert [r.tolist() for r in records] == [data[:5].tolist(), [], data[9:].tolist()]
    assert emoji["styles"].tolist() == ["a", "bc"]
    assert digits["audio"].dtype == np.int16
    assert digits["audio"].tolist() == [*audio[:5].tolist(), 0, 0, 0, 0, *audio[9:].tolist()]
    assert np.array_equal(found["pusht64/pusht64_center.npz"]["img"], frames)
    assert "keypoint" not in found["pusht64/pusht64_center.npz"]
    with np.load(packs / "lpc64/lpc64.npz") as lpc:
        assert np.array_equal(found["lpc64/lpc64.npz"]["anything"], lpc["anything"])
