"""The runtime against the pipeline: the same results, remembered, batched, in bf16; never another picture's memory."""

import json
import platform
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from selfflow.cli import main
from selfflow.config import AudioConfig, Config, ControlConfig, DataConfig, NetworkConfig, PictureConfig, TextConfig
from selfflow.data.sample import Sample
from selfflow.modalities.action import Quantiles
from selfflow.modalities.pixels import to_values
from selfflow.modalities.text import BytePairs
from selfflow.pipeline import Pipeline, build_network
from selfflow.runtime import PieceCache, Runtime
from selfflow.runtime.engine import LARGEST_SCORE, Engine, attend, attend_bounded
from selfflow.runtime.export import Exported, export_steps, functions
from selfflow.runtime.loops import bucket
from selfflow.runtime.runtime import READ_TOGETHER
from selfflow.tasks import TASKS
from selfflow.tokens import Chain

CAPTIONS = ["a red ball", "a small blue box on a green box", "two yellow cups"] * 3


def toy(seed=0, spelled=False, **network):
    """Every modality, every weight random: what is tested here holds for any weights."""
    shape = {"width": 32, "depth": 3, "heads": 2} | network
    config = Config(
        data=DataConfig(frames=6, seconds=0.2), text=TextConfig(vocabulary=280, max_tokens=24),
        picture=PictureConfig(size=16, patch=4, frames=2), audio=AudioConfig(16_000), control=ControlConfig(4),
        network=NetworkConfig(**shape),
    )  # fmt: skip
    text = BytePairs.train(CAPTIONS, 280, 24)
    if spelled:
        text.spell()
    net, generator = build_network(config, text), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * (0.1 if p.ndim < 2 else p.shape[-1] ** -0.5))
    rows = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    return Pipeline(net, text, config, quantiles=Quantiles.fit({"toy": {"actions": rows, "states": rows}}))


@pytest.fixture(scope="module")
def pipe():
    return toy()


@pytest.fixture(scope="module")
def runtime(pipe):
    return Runtime(pipe, torch.float32)


def generators(*seeds):
    return [torch.Generator().manual_seed(s) for s in seeds]


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def asked(task, i=0):
    """A request that has everything; the task takes what it needs."""
    still = task in ("picture", "edit", "inpaint", "outpaint")
    rng = np.random.default_rng(i)
    references = (pictures(16, 16, seed=i), pictures(8, 12, seed=i + 1))[: 1 + i % 2]
    sample = Sample(str(i), pictures(16, 16, seed=i) if still else None, CAPTIONS[i], references=references)
    if not still:
        sound = rng.normal(0, 0.1, 3200).astype(np.float32)
        sample = replace(sample, clip=pictures(4, 16, 16, seed=i), fps=10, sound=sound, sound_rate=16_000)
    actions = rng.uniform(-1, 1, (4, 2)).astype(np.float32)
    return replace(sample, actions=actions, states=actions[:1], control_hz=10, body="toy")


def keep_of(task):
    places = torch.arange(32)
    found = {"inpaint": (places[:16] % 3 > 0), "outpaint": places[:16] % 2 > 0, "continue": places < 16,
             "imagine": places < 16}  # fmt: skip
    if task == "continue-sound":
        return {"audio": torch.arange(10) < 4}
    return {"visual": found[task]} if task in found else None


def values(sample):
    """What was made, as numbers."""
    found = [sample.picture, sample.clip, sample.sound, sample.actions]
    return [np.asarray(x, np.float64) / (255 if x.dtype == np.uint8 else 1) for x in found if x is not None]


def close(made, expected, tolerance):
    for one, other in zip(made, expected, strict=True):
        for a, b in zip(values(one), values(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


OPTIONS = {"steps": 3, "guidance": 2.0, "reference_guidance": 1.5, "interval": (0.2, 0.9)}


@pytest.fixture(scope="module")
def copier():
    """The same, of a network that copies what is known."""
    pipe = toy(copying=True)
    return pipe, Runtime(pipe, torch.float32)


@pytest.mark.parametrize("task", [*TASKS, "copying edit", "copying imagine", "copying animate+sound", "copying plan"])
def test_every_task_is_as_the_pipeline_does_it(pipe, runtime, copier, task):
    *copying, task = task.split()
    if copying:
        pipe, runtime = copier
    samples = [asked(task, i) for i in range(3)]  # of several prompt lengths and numbers of references
    given = {**OPTIONS, "keep": keep_of(task)}
    expected = pipe.solve(task, samples, generator=generators(0, 1, 2), **given)
    made = runtime.solve(task, samples, generator=generators(0, 1, 2), **given)
    close(made, expected, 1.1 / 255)
    with pytest.raises(AssertionError):
        close(made, runtime.solve(task, samples, generator=generators(3, 4, 5), **given), 1.1 / 255)


@pytest.mark.parametrize(
    "network",
    [
        {"double": 2},
        {"double": 1, "parallel": True},
        {"parallel": True},
        {"target_time": True},
        {"mid": 2},
        {"copying": True},
        {"mid": 2, "copying": True},
        {"matching": True},
        {"mid": 2, "copying": True, "matching": True},
        {"places": True},
        {"stencils": True},
        {"mid": 2, "copying": True, "matching": True, "stencils": True},
    ],
    ids=lambda network: "+".join(network),
)
def test_every_kind_of_network(network):
    """Double and parallel blocks; a flow map, told where it jumps to; two output layers. Launched and recorded."""
    pipe = toy(spelled="stencils" in network, **network)
    samples = [asked("edit", i) for i in range(2)]
    if "stencils" in network:
        samples[1] = replace(samples[1], text='a box "HI"')
    given = {**OPTIONS, "internal_guidance": 1.5 if "mid" in network else None}
    expected = pipe.solve("edit", samples, generator=generators(0, 1), **given)
    for record in (None, lambda run: run):
        runtime = Runtime(pipe, torch.float32, record=record)
        close(runtime.solve("edit", samples, generator=generators(0, 1), **given), expected, 1.1 / 255)
    if "stencils" in network:
        pipe.net.stencils.glyphs.zero_()  # who knows no letters prints none
        plain = pipe.solve("edit", samples, generator=generators(0, 1), **given)
        close(plain[:1], expected[:1], 0)
        with pytest.raises(AssertionError):
            close(plain[1:], expected[1:], 1.1 / 255)
    if "mid" in network:
        plain = pipe.solve("edit", samples, generator=generators(0, 1), **OPTIONS)
        with pytest.raises(AssertionError):
            close(plain, expected, 1.1 / 255)
    if "target_time" in network:
        euler = pipe.solve("edit", samples, generator=generators(0, 1), sampler="euler", **OPTIONS)
        with pytest.raises(AssertionError):
            close(euler, expected, 1.1 / 255)


def test_holes_of_several_sizes_in_one_call(pipe, runtime):
    """What is made then differs in number from sample to sample: padding is seen by nobody."""
    samples = [asked("inpaint", i) for i in range(3)]
    keep = {"visual": torch.arange(16) < torch.tensor([[3], [15], [9]])}
    expected = pipe.solve("inpaint", samples, keep=keep, generator=generators(0, 1, 2), **OPTIONS)
    for record in (None, lambda run: run):
        made = Runtime(pipe, torch.float32, record=record).solve(
            "inpaint", samples, keep=keep, generator=generators(0, 1, 2), **OPTIONS
        )
        close(made, expected, 1.1 / 255)


def test_calling_by_prompt(pipe, runtime):
    given = {"num_inference_steps": 3, "guidance_scale": 2.0, "num_images_per_prompt": 2, "output_type": "pt"}
    for sampler in ("euler", "heun", "sde"):
        a, b = (
            p(CAPTIONS[:2], sampler=sampler, generator=generators(0, 1, 2, 3), **given).images for p in (pipe, runtime)
        )
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="steps 0"):
        runtime("x", num_inference_steps=0)


@pytest.mark.parametrize("prints", [False, True])
def test_bf16_stays_as_near_as_autocast_does(pipe, prints):
    samples, given = [asked("edit", i) for i in range(2)], {"steps": 3, "guidance": 1.0}
    if prints:
        pipe, samples[1] = toy(spelled=True, stencils=True), replace(samples[1], text='a box "HI"')

    def error(p):
        made = p.solve("edit", samples, generator=generators(0, 1), **given)
        return np.mean([np.abs(a.picture.astype(float) - b.picture) for a, b in zip(made, expected, strict=True)])

    expected = pipe.solve("edit", samples, generator=generators(0, 1), **given)
    cast = Pipeline(pipe.net, pipe.text, pipe.config, torch.bfloat16, pipe.modalities.quantiles)
    assert 0 < error(Runtime(pipe, torch.bfloat16)) < 1.5 * error(cast)


def test_many_requests_in_one_call_equal_single_ones(runtime):
    samples = [asked("edit", i) for i in range(3)]
    together = runtime.solve("edit", samples, generator=generators(5, 6, 7), **OPTIONS)
    for i, sample in enumerate(samples):
        alone = runtime.solve("edit", [sample], generator=generators(5 + i), **OPTIONS)
        close(alone, together[i : i + 1], 1.1 / 255)


# --------------------------------------------------------------------------------------------------------- what is kept


def solve(runtime, sample, task="edit", **given):
    (made,) = runtime.solve(task, [sample], generator=generators(0), **{**OPTIONS, **given})
    return made.picture


def test_a_hit_is_a_miss_bit_for_bit(pipe):
    for dtype in (torch.float32, torch.bfloat16):
        kept, forgetful = Runtime(pipe, dtype), Runtime(pipe, dtype, memory=0)
        first = solve(kept, asked("edit", 1))
        read = kept.memory.misses
        assert read == 4  # the prompt, two references, and the empty prompt
        assert np.array_equal(solve(kept, asked("edit", 1)), first)
        assert kept.memory.misses == read
        assert np.array_equal(solve(forgetful, asked("edit", 1)), first)
        assert len(forgetful.memory) == 0
        # A new prompt reads a prompt; the references stay.
        other = replace(asked("edit", 1), text="two cups")
        assert np.array_equal(solve(kept, other), solve(forgetful, other))
        assert kept.memory.misses == read + 1


def test_references_of_one_size_become_the_tokens_they_become_one_by_one(pipe):
    modalities, every = pipe.modalities, [[pictures(8, 12, seed=10 * i + r) for r in range(3)] for i in range(2)]
    samples = [replace(asked("edit"), references=tuple(row)) for row in every]
    for r, group in enumerate(modalities.streams(samples, TASKS["edit"])["references"]):
        for i in range(2):
            alone = modalities.visual.tokens(to_values([every[i][r]]), index=r + 1.0)
            assert torch.equal(group.data[i], alone.data[0])
            assert torch.equal(group.positions[i], alone.positions[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("network", [{}, {"width": 320, "heads": 5, "double": 1}], ids=str)
def test_what_is_read_together_is_what_is_read_alone_bit_for_bit(network, dtype):
    """Nine references of one size, of two requests, and a past of three moments, in any company."""
    pipe = toy(**network)
    together, alone = (Runtime(pipe, dtype, memory=size) for size in (1 << 30, 0))
    calls, read = [], together.engine.read
    together.engine.read = lambda tokens, *a: (calls.append(tokens.batch), read(tokens, *a))[1]
    grids = [pipe.modalities.visual.tokens(torch.rand(2, 3, 32, 32, generator=g), index=float(i))
             for i, g in enumerate(generators(*range(9)))]  # fmt: skip
    moments = [pipe.modalities.visual.tokens(torch.rand(2, 3, 16, 16, generator=g)) for g in generators(1, 2, 3)]
    known = [pipe.text(CAPTIONS[:2]), *grids, Chain(tuple(moments))]
    rows = together.remember(known).rows
    assert max(calls) == (READ_TOGETHER // 64 if together.engine.alike else 1)
    for i in range(2):
        single = [piece for group in known for piece in alone.remember([group[i : i + 1]]).rows[0]]
        assert len(single) == len(rows[i]) == 13
        for one, other in zip(single, rows[i], strict=True):
            assert torch.equal(one.kv, other.kv)


def test_never_the_wrong_memory(pipe):
    """One memory for all; whatever is asked, the answer is that of a runtime that remembers nothing."""
    memory = PieceCache()
    models = {"this": pipe, "other": toy(seed=1)}
    kept = {name: Runtime(p, torch.float32, memory) for name, p in models.items()}
    fresh = {name: Runtime(p, torch.float32, memory=0) for name, p in models.items()}
    a, b = pictures(16, 16, seed=3), pictures(16, 16, seed=4)
    changed = a.copy()
    changed[-1, -1, 0] ^= 1  # one bit of one pixel
    requests = {
        "two": (a, b), "permuted": (b, a), "first": (a,), "second": (b,), "twice": (a, a), "a bit": (changed, b),
        "same bytes, wide": (a.reshape(8, 32, 3), b), "same bytes, high": (a.reshape(32, 8, 3), b),
    }  # fmt: skip
    seen = {}
    for _ in range(2):
        for name in models:
            for what, references in requests.items():
                sample = replace(asked("edit"), references=references)
                picture = solve(kept[name], sample)
                assert np.array_equal(picture, solve(fresh[name], sample)), (name, what)
                seen[name, what] = picture.tobytes()
    assert len(set(seen.values())) == len(seen)  # every one of these differences matters
    # What is known of a picture in part: by which part.
    for hole in (5, 6, 5):
        keep = {"visual": torch.arange(16) != hole}
        made = [solve(r, asked("inpaint"), "inpaint", keep=keep) for r in (kept["this"], fresh["this"])]
        assert np.array_equal(*made)
    # The past of a clip: each moment by all that came before it.
    for begin in (0, 1, 0):
        clip = pictures(4, 16, 16, seed=begin)
        clip[2:] = 7
        sample = replace(asked("continue"), clip=np.concatenate([clip, clip[:2]]))
        keep = {"visual": torch.arange(48) < 32}
        one, two = (
            r.solve("continue", [sample], keep=keep, generator=generators(0), **OPTIONS)[0].clip
            for r in (kept["this"], fresh["this"])
        )
        assert np.array_equal(one, two)


def test_weights_changed_later_do_not_reach_a_runtime():
    pipe = toy()
    runtime = Runtime(pipe, torch.float32, memory=0)
    before, name = solve(runtime, asked("edit")), runtime.fingerprint
    with torch.no_grad():
        pipe.net.blocks[0].down.weight += 0.1
    assert np.array_equal(solve(runtime, asked("edit")), before)
    again = Runtime(pipe, torch.float32, memory=0)
    assert again.fingerprint != name
    assert not np.array_equal(solve(again, asked("edit")), before)


def test_memory_is_bounded_and_forgets_what_was_used_longest_ago(pipe):
    one = Runtime(pipe, torch.float32)
    solve(one, asked("edit"), guidance=1.0, reference_guidance=1.0)
    largest = max(piece.nbytes for piece in one.memory._pieces.values())
    runtime = Runtime(pipe, torch.float32, memory=3 * largest)
    for i in range(6):
        references = tuple(pictures(16, 16, seed=s) for s in (100, i))
        solve(runtime, replace(asked("edit"), references=references), guidance=1.0, reference_guidance=1.0)
        assert runtime.memory.nbytes <= 3 * largest
        assert runtime.memory.nbytes == sum(piece.nbytes for piece in runtime.memory._pieces.values())
    assert runtime.memory.misses == 8  # the prompt and reference 100 once, then one new reference a time
    tiny = Runtime(pipe, torch.float32, memory=1)
    solve(tiny, asked("edit"))
    assert tiny.memory.nbytes == 0
    with pytest.raises(ValueError, match="-1 bytes"):
        PieceCache(-1)


def test_what_depends_on_time_is_kept_and_bounded(pipe, monkeypatch):
    runtime = Runtime(pipe, torch.float32)
    made = solve(runtime, asked("edit"))
    monkeypatch.setattr(runtime.engine, "conditioning", None)  # a second request with the same schedule needs none
    assert np.array_equal(solve(runtime, asked("edit")), made)


# ------------------------------------------------------------------------------------------------- callbacks, threads


def test_previews_and_stopping_between_steps(runtime):
    seen = []

    def callback(step, streams):
        seen.append((step, streams["visual"].data.clone()))
        return step == 2

    (stopped,) = runtime.solve("picture", [asked("picture")], steps=4, generator=generators(0), callback=callback)
    assert [step for step, _ in seen] == [1, 2]
    assert (seen[0][1] - seen[1][1]).abs().max() > 1e-3
    assert not np.array_equal(stopped.picture, solve(runtime, asked("picture"), "picture", steps=4))


def test_threads_take_turns(runtime):
    alone = [solve(runtime, asked("edit", i)) for i in range(3)]
    together = [None] * 3

    def work(i):
        together[i] = solve(runtime, asked("edit", i))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_loading_warming_and_measuring(pipe, runtime, tmp_path):
    pipe.save_pretrained(tmp_path)
    loaded = Runtime.from_pretrained(tmp_path, dtype=torch.float32)
    loaded.warm_up(steps=(1, 2), sizes=[(16, 16), (8, 16)])
    assert np.array_equal(solve(loaded, asked("edit")), solve(runtime, asked("edit")))
    losses = [p.held_out_velocity_loss([asked("picture", i) for i in range(2)], (0.5,)) for p in (pipe, runtime)]
    assert losses[0] == losses[1]


# ------------------------------------------------------------------------------------------- recorded loops, compilers


@pytest.mark.parametrize("watched", [False, True])
def test_recorded_loops_give_the_same_and_are_recorded_once_a_shape(pipe, runtime, watched):
    """As on a GPU, but for the recording: here what is recorded is run again."""
    recorded, seen = [], []
    looping = Runtime(pipe, torch.float32, record=lambda run: (recorded.append(run), run)[1])
    given = {**OPTIONS, "callback": (lambda step, streams: seen.append(step)) if watched else None}
    for i in range(3):  # prompts and references of several lengths, all within one bucket
        one, two = (r.solve("edit", [asked("edit", i)], generator=generators(i), **given) for r in (looping, runtime))
        close(one, two, 1.1 / 255)
    assert len(recorded) == (3 if watched else 1)  # steps one by one for those who look on, else the whole
    assert seen == ([1, 2, 3] * 6 if watched else [])
    looping.solve("edit", [asked("edit")], generator=generators(0), **{**given, "steps": 2})
    assert len(recorded) == (5 if watched else 2)  # another schedule
    if watched:
        stop = {**OPTIONS, "callback": lambda step, streams: step == 2}
        one, two = (r.solve("edit", [asked("edit")], generator=generators(0), **stop) for r in (looping, runtime))
        close(one, two, 1.1 / 255)


def test_buckets_are_few_and_not_much_larger():
    sizes = [bucket(m) for m in range(1, 5000)]
    assert all(m <= size <= max(m + 64, 1.25 * m) for m, size in enumerate(sizes, start=1))
    assert len(set(sizes)) < 32
    assert sizes == sorted(sizes)


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_layers_can_be_compiled_whole():
    """Traced without a break; "eager" runs what was traced, and needs no C++ compiler."""
    pipe = toy(depth=1, width=32, heads=2)
    compiled = Runtime(pipe, torch.float32, compiled={"backend": "eager", "fullgraph": True})
    assert not compiled.engine.paired
    given = {"steps": 1, "guidance": 1.0}
    one, two = (r.solve("picture", [asked("picture")], generator=generators(0), **given) for r in (compiled, pipe))
    close(one, two, 1.1 / 255)


@pytest.mark.parametrize("largest", [1.0, LARGEST_SCORE])
def test_where_scores_are_bounded_the_softmax_needs_no_maximum(largest):
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.nn.functional.normalize(torch.randn(2, 3, n, 8, generator=g), dim=-1) for n in (5, 300, 300))
    k[:, :, :5], k[:, :, 5:10] = q, -q  # the bound is reached, from both sides
    bias = torch.zeros(2, 1, 1, 300)
    bias[0, ..., 20:] = float("-inf")
    for b in (None, bias):
        expected = attend(largest * q, k, v, b, fused=False)
        torch.testing.assert_close(attend_bounded(largest * q / np.log(2), k, v, b), expected, atol=2e-5, rtol=1e-4)


def test_scores_too_large_for_that_get_a_softmax():
    made = {}
    for gain in (0.1, 4.0):
        model = toy()
        with torch.no_grad():
            for name, p in model.net.named_parameters():
                if "_norm" in name and p.ndim == 1:
                    p.fill_(gain)
        plain, traced = Runtime(model, torch.float32), Runtime(model, torch.float32)
        traced.engine = Engine(model.net, paired=False, pack=False)
        made[gain] = traced.engine.layers["media"][0].bounded
        one, two = (
            r(CAPTIONS[:2], num_inference_steps=2, output_type="np", generator=generators(0, 1)).images
            for r in (plain, traced)
        )
        assert np.abs(one.astype(int) - two).max() <= 1
    assert made == {0.1: True, 4.0: False}


@pytest.mark.skipif(not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc", reason="glibc alone")
def test_a_runtime_does_not_ask_the_system_for_the_same_memory_at_every_call():
    # Without it some 12,000 pages are asked for in every other process: it depends on what lies on top of the heap.
    made = subprocess.run([sys.executable, "-c", PAGES], check=True, capture_output=True, text=True)
    assert int(made.stdout) < 10


PAGES = """
import resource, torch
from selfflow.runtime.engine import keep_freed
def faults():
    for _ in range(9):  # two at a time, as scores and weights are; larger than any that imports have freed
        one = torch.zeros(24 << 20, dtype=torch.uint8)
        two = torch.zeros(24 << 20, dtype=torch.uint8)
        begun, (one, two) = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, (None, None)
    one, two = torch.ones(24 << 20, dtype=torch.uint8), torch.ones(24 << 20, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begun
keep_freed()
faults()
print(faults())
"""


def test_what_is_exported_is_the_same_computation(pipe, monkeypatch, tmp_path):
    """The function that is exported, in place of its package: parity within 1e-3."""
    plain = Runtime(pipe, torch.float32)
    for network in ({}, {"double": 1, "parallel": True}):
        model = pipe if not network else toy(**network)
        exported = Runtime(model, torch.float32)
        exported.engine = Engine(model.net, paired=False, pack=False)
        exported.memory.clear()
        exported.engine.exported = Exported({k: f.flat for k, f in functions(exported.engine).items()})
        given = {"num_inference_steps": 3, "guidance_scale": 2.0, "output_type": "pt"}
        one, two = (r(CAPTIONS[:2], generator=generators(0, 1), **given).images for r in (exported, model))
        torch.testing.assert_close(one, two, rtol=0, atol=1e-3)
    (tmp_path / "a.pt2").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="says what a"):
        Runtime(pipe, exported=tmp_path / "a.pt2")
    (tmp_path / "a.json").write_text(json.dumps({"model": "another", "dtype": "torch.float32"}))
    with pytest.raises(ValueError, match="of model another, not " + plain.fingerprint):
        Runtime(pipe, torch.float32, exported=tmp_path / "a.pt2")
    with pytest.raises(ValueError, match="packages end in"):
        export_steps(pipe.net, tmp_path / "a.so")


def test_the_command_exports_a_step_of_every_size(tmp_path, monkeypatch, capsys):
    """As far as it goes without a C++ compiler: what would be compiled is run by torch."""
    pipe = toy(depth=1)

    def flat(program):
        """What was traced takes its arguments as they were; native code takes them in a row."""
        return lambda g: [program(g[0], tuple(g[1:7]), tuple(g[7:13]), g[13], g[14:15], g[15:16], g[16])]

    packages = {}
    monkeypatch.setattr("torch._inductor.aot_compile", lambda program, *given, options: flat(program))
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", lambda: "g++")

    def package(path, programs):
        packages.update(programs)
        Path(path).write_bytes(b"native code")

    monkeypatch.setattr("torch._inductor.package.package_aoti", package)
    monkeypatch.setattr(
        "torch._inductor.package.load_package",
        lambda path, name: SimpleNamespace(loader=SimpleNamespace(boxed_run=packages[name])),
    )
    pipe.save_pretrained(tmp_path / "model")
    path = tmp_path / "steps.pt2"
    main(["export", "--model", str(tmp_path / "model"), "-o", str(path), "--dtype", "fp32"])
    assert capsys.readouterr().out.strip() == str(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "steps.json", "steps.pt2"]
    given = {"num_inference_steps": 2, "guidance_scale": 2.0, "output_type": "pt"}
    runtime = Runtime(pipe, torch.float32, exported=path)
    for prompts in (CAPTIONS[:1], CAPTIONS[:3]):  # one sample and several, memory of two lengths
        seeds = range(len(prompts))
        one, two = (r(prompts, generator=generators(*seeds), **given).images for r in (runtime, pipe))
        torch.testing.assert_close(one, two, rtol=0, atol=1e-3)
    assert sorted(packages) == ["media", "step"]
    for task in ("edit", "act", "imagine"):  # references read together, one token alone, moments after one another
        close(*(r.solve(task, [asked(task, i) for i in range(3)], generator=generators(0, 1, 2), steps=2, guidance=1.0,
                        keep=keep_of(task)) for r in (runtime, pipe)), 1.1 / 255)  # fmt: skip
    with pytest.raises(SystemExit):
        main(["export", "--model", str(tmp_path / "model"), "-o", str(tmp_path / "steps.so")])
    assert "packages end in .pt2" in capsys.readouterr().err
