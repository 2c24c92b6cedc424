"""Robots on the command line: `selfflow act | plan | imagine | inverse`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import tyro

from selfflow.cli_tasks import checked_fps, checked_frames, fitted, generator_of, pipeline_of, read_clip

if TYPE_CHECKING:
    from selfflow.pipeline import Pipeline


def act(
    model: Path | None = None,
    env: str = "pick-place",
    episodes: int = 1,
    seed: int = 0,
    chunk: int = 16,
    execute: int = 8,
    steps: int = 4,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    device: str = "cpu",
) -> None:
    """Let the model carry out a task of the tabletop robot, or push the T of PushT, and say how often it succeeds.

    Args:
        model: Model directory, or a hub id; the bundled weights by default.
        env: Task: pick-place, stack, put-in or push-to; or pusht, whose two goals take turns.
        episodes: How many, with seeds SEED, SEED + 1, …
        seed: Seed of the first scene.
        chunk: Actions predicted at once.
        execute: How many of them are carried out before looking again.
        steps: Sampling steps.
        output: Of the first episode: an mp4 file, or a png of eight moments of it.
        device: Where to compute.
    """
    from selfflow.worlds.tabletop.export.video import check_mp4
    from selfflow.worlds.tabletop.robot.goals import TASKS
    from selfflow.worlds.tabletop.scene import check_known

    if not 1 <= execute <= chunk <= 64 or not 1 <= episodes <= 1000:
        raise ValueError(f"execute {execute} ≤ chunk {chunk} ≤ 64 and 1 to 1000 episodes, not {episodes}")
    check_known("environment", env, (*TASKS, "pusht"))
    suffix = None if output is None else output.suffix.lower()
    if suffix not in (None, ".mp4", ".png"):
        raise ValueError(f"{output} ends neither in .mp4 nor in .png; an episode is written as one of them")
    if output is not None and suffix == ".mp4":
        check_mp4(output)
    pipe, play = pipeline_of(model, device), _push_t if env == "pusht" else _robot
    done, covered = 0, list[float]()
    for one in range(seed, seed + episodes):
        episode = play(pipe, env, one, chunk, execute, steps)
        done += episode.success
        word = "done" if episode.success else "not done"
        if episode.covered is not None:
            covered.append(episode.covered)
            word += f", {episode.covered:.2f} of the goal covered"
        print(word)
        if one == seed and output is not None:
            print(_write_episode(output, episode))
    best = f"; {sum(covered) / episodes:.2f} of the goal was covered at best, on average" if covered else ""
    print(f"{done} of {episodes} succeeded{best}")


class Episode(NamedTuple):
    """What was seen, uint8 `(k, H, W, 3)`, `hz` times a second; how it ended; of PushT the most that was covered."""

    frames: np.ndarray
    hz: int
    success: bool
    covered: float | None = None


def _robot(pipe: Pipeline, env: str, seed: int, chunk: int, execute: int, steps: int) -> Episode:
    """An episode of the tabletop robot."""
    from selfflow.worlds.tabletop.robot.env import CONTROL_HZ, TabletopEnv

    world = TabletopEnv(env, pipe.config.picture.size, split="test")
    observed, info = world.reset(seed=seed)
    print(f"seed {seed}: {observed['instruction']}", end=" … ", flush=True)
    frames, ended = [observed["image"]], False
    policy = pipe.policy(chunk=chunk, execute=execute, steps=steps, seed=seed)
    while not ended:
        action = policy(
            observed["image"][None], observed["proprioception"][None], [observed["instruction"]], len(frames) - 1
        )[0]
        observed, _, success, truncated, info = world.step(action)
        frames.append(observed["image"])
        ended = success or truncated
    return Episode(np.stack(frames), CONTROL_HZ, bool(info["success"]))


def _push_t(pipe: Pipeline, env: str, seed: int, chunk: int, execute: int, steps: int) -> Episode:
    """An episode of PushT, on a board drawn from the seed."""
    from selfflow.data.pusht import SETS
    from selfflow.evaluate.protocol import Options
    from selfflow.evaluate.pusht_suite import Start, decider, play
    from selfflow.worlds.pusht import HZ, SUCCESS, drawn

    goal = list(SETS)[seed % len(SETS)]
    print(f"seed {seed}: {SETS[goal]}", end=" … ", flush=True)
    options, frames = Options(steps=steps, seed=seed, progress=False), list[np.ndarray]()
    best, _ = play(
        [Start(goal, drawn(seed), np.zeros((0, 2)))], decider(pipe.actions, [SETS[goal]], options, chunk),
        pipe.config.picture.size, options, env, execute, lambda _, picture: frames.append(picture),
    )  # fmt: skip
    return Episode(np.stack(frames), HZ, bool(best[0] >= SUCCESS), float(best[0]))


def _write_episode(path: Path, episode: Episode) -> Path:
    """Write what was seen as mp4, or eight moments of it side by side as png."""
    if path.suffix.lower() == ".mp4":
        from selfflow.worlds.tabletop.export.video import write_mp4

        return write_mp4(path, episode.frames, episode.hz)
    from PIL import Image

    from selfflow.pictures import save_png

    moments = episode.frames[np.linspace(0, len(episode.frames) - 1, 8).round().astype(int)]
    return save_png(Image.fromarray(np.concatenate(list(moments), axis=1)), path)


def plan(
    instruction: tyro.conf.Positional[str],
    /,
    image: Path,
    model: Path | None = None,
    body: str = "tabletop",
    state: str | None = None,
    count: int = 16,
    hz: float = 10.0,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out.mp4"),
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
) -> None:
    """Say what to do and show what would then be seen, both made at once.

    Args:
        instruction: What to do.
        model: Model directory, or a hub id; the bundled weights by default.
        image: What is seen now.
        body: Who acts: tabletop, pusht, or a robot of your own that it learned from.
        state: What is felt now: a JSON list of numbers in the body's own units, such as "[0.5, 0.8, 0.2]" for
            tabletop: x and y of the gripper and how far it is open, in metres.
        count: How many actions, and frames.
        hz: Actions and frames a second.
        output: mp4 file of what would be seen; the actions go beside it, as .json.
        seed: Seed.
        steps: Sampling steps.
        device: Where to compute.
    """
    from selfflow.worlds.tabletop.export.video import check_mp4, write_mp4

    check_mp4(output)
    checked_frames(count)
    checked_fps(hz)
    felt = None if state is None else _numbers(state)
    pipe = pipeline_of(model, device)
    first, width = fitted(image, pipe.modalities.cell), _width(pipe, body)
    known = _felt(pipe, body, felt)
    clips, actions = pipe.plan(
        first[None], [instruction], body, known, width, count, hz, steps=steps,
        generator=generator_of(seed),
    )  # fmt: skip
    print(write_mp4(output, clips[0], max(1, round(hz))))
    print(_write_actions(output.with_suffix(".json"), actions[0]))


def inverse(
    clip: tyro.conf.Positional[Path],
    /,
    model: Path | None = None,
    text: str = "",
    body: str = "tabletop",
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out.json"),
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
) -> None:
    """Say what was done in a clip: one action for each frame, as `selfflow imagine` takes them.

    Args:
        clip: mp4 file, with as many frames a second as the body takes actions.
        model: Model directory, or a hub id; the bundled weights by default.
        text: Instruction, where there is one.
        body: Whose actions: tabletop, pusht, sprite, turntable, or of a robot of your own.
        output: JSON file: a list of actions, each a list of numbers in the body's own units.
        seed: Seed.
        steps: Sampling steps.
        device: Where to compute.
    """
    frames, hz = read_clip(clip)
    pipe = pipeline_of(model, device)
    done = pipe.inverse(
        frames[None], [text], body, _width(pipe, body), hz, steps=steps, generator=generator_of(seed)
    )[0]  # fmt: skip
    print(_write_actions(output, done))


def imagine(
    image: Path,
    actions: Path,
    model: Path | None = None,
    text: str = "",
    body: str = "tabletop",
    hz: float = 10.0,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out.mp4"),
    seed: int = 0,
    steps: int | None = None,
    device: str = "cpu",
) -> None:
    """Show what would be seen if these actions were taken.

    Args:
        model: Model directory, or a hub id; the bundled weights by default.
        image: What is seen now.
        actions: JSON file: a list of actions, each a list of numbers in the body's own units.
        text: Instruction, where there is one.
        body: Whose actions: tabletop, pusht, sprite, turntable, or of a robot of your own.
        hz: Actions and frames a second.
        output: mp4 file.
        seed: Seed.
        steps: Sampling steps.
        device: Where to compute.
    """
    from selfflow.worlds.tabletop.export.video import check_mp4, write_mp4

    check_mp4(output)
    checked_fps(hz)
    taken = _actions(actions)
    checked_frames(len(taken))
    pipe = pipeline_of(model, device)
    first = fitted(image, pipe.modalities.cell)
    clip = pipe.imagine(first[None], [text], taken[None], body, hz, steps=steps, generator=generator_of(seed))[0]
    print(write_mp4(output, clip, max(1, round(hz))))


def _width(pipe: Pipeline, body: str) -> int:
    """How many numbers an action of a body has."""
    known = {name: kinds["actions"] for name, kinds in pipe.modalities.quantiles.bodies.items() if "actions" in kinds}
    if body not in known:
        raise ValueError(f"this model does not know the body {body!r}; it knows {', '.join(sorted(known)) or 'none'}")
    return len(known[body].low)


def _numbers(text: str) -> np.ndarray:
    """A state as it is typed, float32 `(s,)`."""
    try:
        found = np.asarray(json.loads(text), dtype=np.float32)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"--state {text!r} is no JSON list of numbers, such as [0.5, 0.8, 0.2]: {error}") from None
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise ValueError(f"--state {text!r} is no list of finite numbers, such as [0.5, 0.8, 0.2]")
    return found


def _felt(pipe: Pipeline, body: str, state: np.ndarray | None) -> np.ndarray | None:
    """The state `(1, s)` of a body as a request has it; without one a word of warning to who needs it."""
    known = pipe.modalities.quantiles.bodies[body].get("states")
    if state is None:
        if known is not None and not pipe.config.train.state_drop:
            print(
                f"selfflow plan: no --state was given, and this model never learned to do without; actions of the body "
                f"{body!r} will be far off. Give its {len(known.low)} numbers",
                file=sys.stderr,
            )
        return None
    if known is None:
        raise ValueError(f"this model knows no states of the body {body!r}; leave --state out")
    if len(state) != len(known.low):
        raise ValueError(f"--state has {len(state)} numbers; a state of the body {body!r} has {len(known.low)}")
    return state[None]


def _actions(path: Path) -> np.ndarray:
    try:
        found = np.asarray(json.loads(path.read_text()), dtype=np.float32)
    except OSError as error:
        raise FileNotFoundError(f"{path} cannot be read: {error}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no JSON list of equally long lists of numbers: {error}") from None
    if found.ndim != 2 or not found.size or not np.isfinite(found).all():
        raise ValueError(f"{path} holds an array of shape {found.shape}; actions are finite numbers (steps, width)")
    return found


def _write_actions(path: Path, actions: np.ndarray) -> Path:
    """A JSON file that `_actions` reads."""
    from selfflow.train.checkpoint import write_json

    write_json(path, [[round(float(v), 6) for v in action] for action in actions])
    return path
