"""The command line: `selfflow train | reward | distill | generate | edit | … | evaluate | serve | info | tabletop`."""

from __future__ import annotations

import json
import keyword
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import tyro

from selfflow.cli_tabletop import main as tabletop
from selfflow.cli_tasks import FPS, FRAMES
from selfflow.config import Config
from selfflow.recipes import RECIPES

USAGE = """usage: selfflow COMMAND …

  train RECIPE --out DIR [--steps N] …         train, or go on where DIR's last checkpoint stopped
  reward --out DIR [--steps N] …               let a model learn from its own draws, judged right or wrong
  distill --out DIR [--steps N] …              make a model of few steps from one of many
  generate "text" [-o FILE.png]                draw pictures; --video, --audio: clips, sounds
  edit --image FILE … "do this"                change a picture, or compose one from up to ten
  animate --image FILE "text" [--audio]        let a picture move, and be heard
  dub CLIP                                     give a clip its sound
  continue FILE.mp4 | FILE.wav                 go on with a clip, or with a sound
  act --env pick-place | pusht                 let the model move the tabletop robot, or push the T
  plan --image FILE "do this"                  say what to do, and show what would then be seen
  imagine --image FILE --actions FILE          show what would be seen if these actions were taken
  inverse CLIP                                 say which actions were taken
  export [-o FILE.pt2]                         compile a model's steps ahead of time, for CPUs of this kind
  evaluate --suite NAME                        score a model on held-out data
  compare FILE.json OTHER.json                 two evaluations side by side, figure by figure
  serve [--port 7860] [--open]                 the studio in the browser, and an API
  info DIR                                     what a model directory or a run holds
  release DIR --out weights/NAME               a model made small, with its card, to be handed on
  import-official CKPT DIR                     the published ImageNet checkpoint, to our format
  sample-official --model DIR --out DIR        sample it
  tabletop render | play | gallery             the embedded world: data sets, a game, a gallery

`selfflow COMMAND --help` tells more. The model is the one that came with this copy; --model DIR names another."""


@dataclass
class _Train:
    """What `selfflow train RECIPE` takes beside the recipe's own fields."""

    out: Path
    """Directory of the run; holds checkpoints, metrics and the model."""
    steps: int | None = None
    """Optimiser steps (in place of the recipe's)."""
    seed: int | None = None
    """Seed of everything (in place of the recipe's)."""
    objective: Literal["self-flow", "flow-matching", "repa"] | None = None
    """Which objective (in place of the recipe's); flow-matching where CPU time is scarce (docs/evidence.md)."""
    until: int | None = None
    """Stop with a checkpoint after this step, as if interrupted."""
    init: Path | None = None
    """Model directory to begin with, in place of random weights."""
    quiet: bool = False
    """No progress bar."""


def train(arguments: Sequence[str]) -> None:
    """Train a recipe; any of its fields may be overridden, as in `--config.optim.learning-rate 3e-4`."""
    names = ", ".join(RECIPES)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"usage: selfflow train RECIPE --out DIR [--steps N] …\n\nrecipes: {names}")
        print("codecs: codec-picture, codec-clip, codec-sound\n")
        print("`selfflow train RECIPE --help` lists every field of a recipe.")
        return
    if arguments[0].startswith("codec-"):
        from selfflow.train.codec import cli_train_codec

        cli_train_codec(arguments)
        return
    if arguments[0] not in RECIPES:
        raise ValueError(f"unknown recipe {arguments[0]!r}; choose one of {names}")
    recipe = RECIPES[arguments[0]]()

    def command(run: Annotated[_Train, tyro.conf.arg(name="")], config: Config = recipe) -> tuple[_Train, Config]:
        return run, config

    run, config = tyro.cli(command, args=arguments[1:], prog=f"selfflow train {arguments[0]}")
    if run.objective is not None:
        kind = cast(Any, run.objective.replace("-", "_"))
        config = replace(config, objective=replace(config.objective, kind=kind))
    from selfflow.train.run import train as run_training
    from selfflow.train.run import with_overrides

    config = with_overrides(config, steps=run.steps, seed=run.seed)
    state = run_training(config, run.out, progress=not run.quiet, until=run.until, init=run.init)
    if state.engine.is_main:
        print(
            f'{run.out}: step {state.step} of {state.steps}. Next: selfflow generate --model {run.out} "…" -o out.png'
        )


def _overridden(recipe: Config, arguments: Sequence[str], name: str) -> Config:
    """The recipe with the fields that a command was told."""

    def command(config: Config = recipe) -> Config:
        return config

    return tyro.cli(command, args=arguments, prog=f"selfflow {name}")


@dataclass
class _Reward:
    """Draw, have each draw judged, learn from what was right and what was wrong; or go on where --out stopped.

    On the model's own data, of which some source must be able to judge: Tabletop's stills, edits and compositions are.
    Any field of the run may be overridden after these, as in `--config.objective.reward.draws 8`.
    """

    out: Path
    """Directory of the run; holds checkpoints, metrics and the model."""
    model: Path | None = None
    """Directory of the model to begin with; the bundled weights by default."""
    steps: int = 200
    """Optimiser steps."""
    until: int | None = None
    """Stop with a checkpoint after this step, as if interrupted."""
    quiet: bool = False
    """No progress bar."""


def reward(arguments: Sequence[str]) -> None:
    """Reward a model: its own configuration says on what, and what is overridden how."""
    run, rest = tyro.cli(_Reward, args=arguments, prog="selfflow reward", return_unknown_args=True)
    from selfflow.bundled import model_or_bundled
    from selfflow.model_directory import read_config
    from selfflow.recipes import rewarded
    from selfflow.train.run import train as run_training

    model = model_or_bundled(run.model)
    recipe = rewarded(read_config(model), run.steps)

    config = _overridden(recipe, rest, "reward")
    state = run_training(config, run.out, progress=not run.quiet, until=run.until, init=model)
    if state.engine.is_main:
        print(
            f'{run.out}: step {state.step} of {state.steps}. Next: selfflow generate --model {run.out} "…" -o out.png'
        )


@dataclass
class _Distil:
    """Distil a model to 1, 2, 4 or 8 steps; or go on where the last checkpoint of --out stopped.

    Any field of the run may be overridden after these, as in `--config.optim.learning-rate 3e-4`.
    """

    out: Path
    """Directory of the run; holds checkpoints, metrics and the model of few steps."""
    model: Path | None = None
    """Directory of the model to distil; the bundled weights by default."""
    steps: int = 1000
    """Optimiser steps, a quarter of the model's own or less."""
    guidance: float | None = None
    """Of the teacher, baked in; by default what the model is sampled with."""
    reference_guidance: float = 1.0
    """Of the teacher, from no references to those given."""
    method: Literal["midpoint", "on-policy", "progressive"] = "midpoint"
    """A flow map, which serves any number of steps; one taught where its own steps lead it; or progressive distillation
    to four."""
    like: tuple[Path, Path] | None = None
    """An earlier state of the model, and what that was distilled to: the student begins with what this changed."""
    until: int | None = None
    """Stop with a checkpoint after this step, as if interrupted."""
    quiet: bool = False
    """No progress bar."""


def distill(arguments: Sequence[str]) -> None:
    """Distil a model to few steps: its own configuration says on what, and what is overridden how."""
    run, rest = tyro.cli(_Distil, args=arguments, prog="selfflow distill", return_unknown_args=True)
    from selfflow.bundled import model_or_bundled
    from selfflow.recipes import few_steps
    from selfflow.train.run import teacher_of
    from selfflow.train.run import train as run_training

    model = model_or_bundled(run.model)
    teacher, name = teacher_of(model)
    recipe = few_steps(teacher, run.steps, run.method)
    few = replace(recipe.objective.few_steps, reference_guidance=run.reference_guidance, teacher=name)
    few = few if run.guidance is None else replace(few, guidance=run.guidance)
    recipe = replace(recipe, objective=replace(recipe.objective, few_steps=few))

    config = _overridden(recipe, rest, "distill")
    state = run_training(config, run.out, progress=not run.quiet, until=run.until, init=model, like=run.like)
    if state.engine.is_main:
        print(f'{run.out}: step {state.step} of {state.steps}. Next: selfflow generate --model {run.out} "…" --steps 4')


def generate(
    prompt: tyro.conf.Positional[str],
    /,
    model: Path | None = None,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    choices: int = 1,
    negative: str = "",
    height: int | None = None,
    width: int | None = None,
    sampler: Literal["flow_map", "euler", "heun", "sde"] | None = None,
    video: bool = False,
    audio: bool = False,
    frames: int = FRAMES,
    fps: int = FPS,
    device: str = "cpu",
    metadata: bool = True,
) -> None:
    """Draw pictures from text; or a clip, a sound, a clip with its sound.

    Args:
        prompt: What to draw.
        model: Model directory, or a hub id; the bundled weights by default.
        output: PNG, mp4 or wav file, as what is made; out.png, out.mp4 or out.wav by default. With -n above 1, numbers
            are added to the name.
        n: How many pictures (not of clips and sounds), with seeds SEED, SEED + 1, …
        seed: Seed of the first picture.
        steps: Sampling steps.
        guidance: Guidance scale; 1 is none.
        choices: Draw each so often and keep what the model itself finds likeliest.
        negative: What to lead away from, of pictures.
        height: Pixels; the training size by default, always so of clips.
        width: Pixels; the training size by default, always so of clips.
        sampler: How to integrate; the model's own way by default.
        video: Make a clip (mp4).
        audio: Make a sound (wav), or with --video a clip with its sound.
        frames: Length of a clip or sound, in frames.
        fps: Frames a second, 1 to 60.
        device: Where to compute.
        metadata: Write seed, prompt and model into the PNG.
    """
    import torch

    from selfflow.bundled import DEFAULT, model_or_bundled
    from selfflow.pictures import check_png, save_png
    from selfflow.runtime import Runtime

    if video or audio:
        from selfflow.cli_tasks import generate_media

        pictorial = {
            "-n": n != 1, "--negative": negative != "", "--height": height is not None, "--width": width is not None,
            "--no-metadata": not metadata,
        }  # fmt: skip
        if any(pictorial.values()):
            given = ", ".join(name for name, was in pictorial.items() if was)
            raise ValueError(f"{given}: of pictures only; with --video or --audio leave it out")
        sampling = {"steps": steps, "guidance": guidance, "sampler": sampler, "choices": choices}
        generate_media(
            model, prompt, output, video, audio, frames, fps, seed, device,
            **{k: v for k, v in sampling.items() if v is not None},
        )  # fmt: skip
        return
    if (frames, fps) != (FRAMES, FPS):
        raise ValueError("--frames and --fps: of clips and sounds only; add --video or --audio, or leave them out")
    if not 1 <= n <= 256:
        raise ValueError(f"-n is {n}; between 1 and 256 pictures are drawn at once")
    output = output or Path("out.png")
    check_png(output)
    pipe = Runtime.from_pretrained(model_or_bundled(model), device=device)
    images = pipe(
        prompt, negative_prompt=negative, height=height, width=width, num_inference_steps=steps,
        guidance_scale=guidance, num_images_per_prompt=n, sampler=sampler, choices=choices,
        generator=[torch.Generator().manual_seed(seed + i) for i in range(n)],
    ).images  # fmt: skip
    for i, image in enumerate(images):
        path = output if n == 1 else output.with_stem(f"{output.stem}-{i}")
        facts = {"prompt": prompt, "seed": str(seed + i), "model": str(model or DEFAULT), "software": "selfflow"}
        save_png(image, path, facts if metadata else {})
        print(path)


def evaluate(
    suite: str = "all", model: Path | None = None, json: Path | None = None, samples: int | None = None,
    quick: bool = False, steps: int | None = None, guidance: float | None = None, choices: int = 1, seed: int = 0,
    noise: int = 0, device: str = "cpu",
) -> None:  # fmt: skip
    """Score a model on held-out data, with floor and ceiling beside every figure.

    Args:
        suite: Which suite; an unknown name lists them, `all` runs every one that the model was trained for.
        model: Model directory, or a hub id; the bundled weights by default.
        json: Write the figures there.
        samples: How many held-out prompts.
        quick: As few samples as show anything: a first look at every task.
        steps: Sampling steps.
        guidance: Guidance scale; 1 is none.
        choices: Make each so often and keep what the model itself finds likeliest.
        seed: Seed of prompts and pictures.
        noise: Above 0, make the same from other noise: what a model differs by from itself, for `compare`.
        device: Where to compute.
    """
    from selfflow.bundled import model_or_bundled
    from selfflow.evaluate.suite import run_suite
    from selfflow.pipeline import Pipeline
    from selfflow.train.engine import fast_dtype

    pipe = Pipeline.from_pretrained(model_or_bundled(model), device=device, dtype=fast_dtype(device))
    options = {
        "samples": samples,
        "steps": steps,
        "guidance": guidance,
        "choices": choices,
        "seed": seed,
        "noise": noise,
    }
    run_suite(pipe, suite, json, quick, **{k: v for k, v in options.items() if v is not None})


def compare(this: tyro.conf.Positional[Path], other: tyro.conf.Positional[Path], within: float = 5.0) -> None:
    """Two evaluations side by side: how much worse is every score of the first?

    Args:
        this: What `selfflow evaluate --json` wrote of one model, or of few steps.
        other: The same of what it is compared with.
        within: By how many percent a score may be worse and still counts as kept.
    """
    from selfflow.evaluate.against import changes, load, report

    if not 0 <= within < math.inf:
        raise ValueError(f"within is {within}; it is a number of percent, 0 or more")
    print(report(changes(load(this), load(other)), within / 100))


def info(directory: tyro.conf.Positional[Path]) -> None:
    """What a model directory or a run holds."""
    from selfflow.model_directory import CONFIG
    from selfflow.train.checkpoint import latest
    from selfflow.train.trainer import read_metrics
    from selfflow.weight_files import has_weights, weight_files

    if not directory.is_dir():
        raise FileNotFoundError(f"{directory} is no directory")
    facts: dict[str, Any] = {}
    if has_weights(directory):
        from safetensors import SafetensorError, safe_open

        shapes = []
        for path in weight_files(directory):
            try:
                with safe_open(path, "pt") as file:
                    shapes += [file.get_slice(k).get_shape() for k in file.keys()]  # noqa: SIM118 (not a dict)
            except SafetensorError as error:
                raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from None
        sizes = [math.prod(s) for s in shapes]
        facts["weights"] = f"{len(sizes)} tensors, {sum(sizes):,} parameters"
    if (directory / CONFIG).exists():
        facts["config"] = json.loads((directory / CONFIG).read_text())
    if metrics := read_metrics(directory / "metrics.jsonl"):
        facts["last metrics"] = metrics[-1]
    if found := latest(directory / "checkpoints"):
        facts["checkpoint"] = found.name
    if not facts:
        raise FileNotFoundError(f"{directory} holds neither a model ({CONFIG}) nor a run (metrics.jsonl)")
    print(json.dumps(facts, indent=2))


def _task(name: str) -> Callable[..., None]:
    from selfflow import cli_tasks

    return getattr(cli_tasks, f"{name}_" if keyword.iskeyword(name) else name)


def _robot(name: str) -> Callable[..., None]:
    from selfflow import cli_robots

    return getattr(cli_robots, name)


def _serve() -> Callable[..., None]:
    from selfflow.serve.command import serve

    return serve


def _release() -> Callable[..., None]:
    from selfflow.release import main as command

    return command


def _official(name: str) -> Callable[..., None]:
    from selfflow.official import command

    return getattr(command, name)


COMMANDS: dict[str, Callable[[], Callable[..., None]]] = {
    "generate": lambda: generate,
    **{name: partial(_task, name) for name in ("edit", "animate", "dub", "continue", "export")},
    **{name: partial(_robot, name) for name in ("act", "plan", "imagine", "inverse")},
    "evaluate": lambda: evaluate,
    "compare": lambda: compare,
    "info": lambda: info,
    "serve": _serve,
    "release": _release,
    "import-official": lambda: _official("import_official_command"),
    "sample-official": lambda: _official("sample_official_command"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. What a user got wrong ends in one line and exit code 2, never in a stack trace."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(USAGE)
        return
    try:
        if name == "train":
            train(arguments[1:])
        elif name == "reward":
            reward(arguments[1:])
        elif name == "distill":
            distill(arguments[1:])
        elif name == "tabletop":
            tabletop(arguments[1:])
        elif name in COMMANDS:
            tyro.cli(COMMANDS[name](), args=arguments[1:], prog=f"selfflow {name}")
        else:
            raise ValueError(
                f"unknown command {name!r}; choose one of train, reward, distill, tabletop, {', '.join(COMMANDS)}"
            )
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        print(f"selfflow {name}: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
