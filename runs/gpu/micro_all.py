"""The recipe `micro-all` on one GPU: one checkpoint for every task, and how it does on each.

Purpose: weights. Goes on from those that come with the repository (trained on a CPU), for as long as there is time,
in commands of less than ten minutes; writes a release to be carried back and committed, in files below 16 MiB.

Run once, for 380 s on an H200 with sixteen cores, from scratch, every micro-step launched: 444 steps of 512, a median
of 0.76 s each, and a model behind the one of the repository (training loss of pictures 0.064 against 0.048). Fourteen
processes drew faster than one step took; what it waited for was to receive: 50 to 100 MB of float32 tokens a step,
unpickled by the process that trains (100 to 300 ms), beside processes that took its core, and four micro-batches of
some 5,000 launches. `torch.compile` of the blocks did not get through its first step in 100 s beside those processes.

Since then batches travel as bytes (a quarter of the load, unpickled in a tenth of the time), those who draw give way,
and micro-steps are recorded as CUDA graphs (`train.record`). None of this has run on a GPU yet. Expected: 10 to 20
steps a second at batch 512, each batch used some five times (`--echo`), so 4,000 to 9,000 steps in eight minutes.
`--launched` is the way it was; `--batch 1024` costs little more a step, where launches rule. Words to be printed
(`network.stencils`) are looked for by the host, so with them micro-steps are launched: most of a training may go
without them (`--wordless`), and learn in its last minutes where words are (a hundred steps did).

    python runs/gpu/micro_all.py --out out/gpu/micro-all --init weights/micro-all --minutes 8    # repeat at will
    python runs/gpu/micro_all.py --out out/gpu/micro-all --minutes 0 --samples 16                # score, in a command
    python runs/gpu/micro_all.py --device cpu --toy --out /tmp/toy      # seconds: tiny, on Tabletop only

The same command goes on where it stopped, with a release written every time; the run itself, with its checkpoints of
160 MB, stays in `--out`. Where the machine does not keep that, carry the release back and begin with it: `--init`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from selfflow.config import Config
from selfflow.evaluate.suite import run_suite
from selfflow.modalities.text import BytePairs
from selfflow.model_directory import BODIES
from selfflow.pipeline import Pipeline
from selfflow.recipes import micro_all
from selfflow.release import release
from selfflow.train.checkpoint import latest
from selfflow.train.deadline import Deadline
from selfflow.train.run import export, train
from selfflow.train.trainer import in_parts, read_metrics

EVERY = 1000  # steps between checkpoints
COOLDOWN, EMA = 0.4, 0.995
LOGGED = ("seconds", "loss", "loss_velocity", "velocity_visual", "velocity_clip", "velocity_audio", "velocity_action")
TOY = ("tabletop-still:picture", "tabletop-edit:edit", "tabletop-clip:clip+sound")


def configure(a: argparse.Namespace) -> Config:
    config = micro_all()
    config = replace(
        config,
        data=replace(config.data, count=a.count, simulated=a.simulated),
        optim=replace(config.optim, learning_rate=a.rate, cooldown=COOLDOWN),
        objective=replace(config.objective, ema_decay=EMA),
    )
    if a.wordless:
        config = replace(config, network=replace(config.network, stencils=False))
    if a.toy:
        config = replace(
            config,
            data=replace(config.data, mixture=TOY, frames=4, count=50, simulated=20),
            text=replace(config.text, vocabulary=270, captions=30),
            picture=replace(config.picture, size=32, patch=16),
            network=replace(config.network, width=32, depth=2, heads=2),
        )
    return replace(
        config,
        data=replace(
            config.data, workers=0, processes=a.processes, cache=str(a.cache), echo=a.echo, held=a.held
        ),
        train=replace(
            config.train, steps=a.steps, batch_size=a.batch, accumulate=a.accumulate, save_every=a.every,
            device=a.device, threads=0, compile=a.compile,
            # Words to be printed are looked for in texts, by the host: what is recorded cannot.
            record=a.device != "cpu" and not (a.compile or a.launched or config.network.stencils),
        ),
    )  # fmt: skip


def like(model: Path, out: Path) -> None:
    """Take over the vocabulary and the scales of actions, so that none of the sources need be read for them."""
    out.mkdir(parents=True, exist_ok=True)
    for name in (BytePairs.FILE, BODIES):
        if not (out / name).exists():
            (out / name).write_bytes((model / name).read_bytes())


def report(out: Path) -> None:
    """How fast it was, and what was learned, in ten parts."""
    for step, means in in_parts(read_metrics(out / "metrics.jsonl")):
        print(f"to step {step}: " + ", ".join(f"{k} {means[k]:.4g}" for k in LOGGED if k in means), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/gpu/micro-all"), help="the run; kept between commands")
    parser.add_argument("--carry", type=Path, default=Path(os.environ.get("OUT", "out/gpu")) / "micro-all-release")
    parser.add_argument("--init", type=Path, help="model directory to begin with, such as weights/micro-all")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=EVERY)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--accumulate", type=int, default=4, help="micro-batches a step, each of one task")
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    parser.add_argument("--like", type=Path, help="model directory whose vocabulary to take, and not its weights")
    parser.add_argument("--count", type=int, default=200_000, help="pictures of each of Tabletop's tasks")
    parser.add_argument("--simulated", type=int, default=40_000, help="clips, and windows of robot episodes")
    parser.add_argument("--echo", type=int, default=16, help="how often a batch is used at most")
    parser.add_argument("--held", type=float, default=16, help="GiB of batches kept for that on the GPU")
    parser.add_argument("--samples", type=int, default=0, help="of each suite; 0 scores nothing")
    parser.add_argument("--minutes", type=float, default=8, help="train no longer than this; 0 trains nothing")
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 2), help="that draw samples")
    parser.add_argument("--cache", type=Path, default=Path("out/gpu/drawn"), help="where Tabletop's samples are kept")
    parser.add_argument("--compile", action="store_true", help="blocks, instead of recording micro-steps")
    parser.add_argument("--launched", action="store_true", help="neither record nor compile")
    parser.add_argument(
        "--wordless", action="store_true", help="leave out `network.stencils`, which cannot be recorded"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="four tiny steps")
    a = parser.parse_args(arguments)
    begun = time.monotonic()
    if a.toy:
        a.steps, a.every, a.batch, a.processes, a.cache = 4, 2, 8, 1, a.out.with_name(f"{a.out.name}-drawn")
        a.echo = 2
    if a.like is not None:
        like(a.like, a.out)
    if a.minutes > 0:
        until = Deadline(begun + 60 * a.minutes, a.steps)
        state = train(configure(a), a.out, progress=False, init=a.init, watch=[until])
        print(f"step {state.step}: " + ", ".join(f"{k} {v:.4g}" for k, v in state.metrics.items()), flush=True)
        report(a.out)
    if latest(a.out / "checkpoints") is None:
        print(f"{a.out} holds no checkpoint yet; train first")
        return
    export(a.out)
    print(f"release in {release(a.out, a.carry)}", flush=True)
    if a.samples:
        pipe = Pipeline.from_pretrained(a.out, device=a.device)
        run_suite(pipe, "all", a.out / "evaluation.json", samples=a.samples, seed=0, progress=False)
        release(a.out, a.carry, a.out / "evaluation.json")


if __name__ == "__main__":
    main()
