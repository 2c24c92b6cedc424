"""The command line of the tabletop: `selfflow tabletop render | play | gallery`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from selfflow.worlds.tabletop.export.lerobot import Episode
    from selfflow.worlds.tabletop.tasks import Example

USAGE = """usage: selfflow tabletop COMMAND …

  render TASK --out DIR [--count N] [--format …]   write pictures, clips, sounds or a whole data set
  play [--task TASK] [--seed N] [--split test]     drive the gripper yourself
  gallery --out DIR                                a picture or clip of everything there is

TASK is still, edit, reference, clip, robot, or one of the robot's: pick-place, stack, put-in, push-to.
`selfflow tabletop COMMAND --help` tells more."""

Task = Literal["still", "edit", "reference", "clip", "robot", "pick-place", "stack", "put-in", "push-to"]
RobotTask = Literal["pick-place", "stack", "put-in", "push-to"]
Format = Literal["folder", "shards", "lerobot", "png", "mp4", "wav"]
ROBOT_TASKS: tuple[RobotTask, ...] = ("pick-place", "stack", "put-in", "push-to")
APART = 10**6  # between the seeds tried for one demonstration, so that no two demonstrations meet
TRIES = 20


def render(
    task: Task,
    /,
    out: Path,
    count: int = 16,
    seed: int = 0,
    size: int = 64,
    split: Literal["train", "test"] = "train",
    format: Format | None = None,
    per_file: int | None = None,
    quiet: bool = False,
) -> None:
    """Write examples of a task; example i has the seed SEED + i. Stopped, the same command goes on where it was.

    Args:
        task: What to render.
        out: Directory to write to.
        count: How many examples.
        seed: Seed of the first.
        size: Pixels a side.
        split: train shows nothing held out, test always something; of the robot, asks for.
        format: folder (Hugging Face image folder), shards (WebDataset), lerobot (LeRobotDataset v3.0, the robot's tasks
            only), or loose files: png, mp4 (with sound), wav. By default a folder, and lerobot for the robot.
        per_file: Examples in a shard (1000), or episodes in a file of lerobot (100).
        quiet: No progress bar.
    """
    if count < 1:
        raise ValueError(f"--count is {count}; choose 1 or more")
    if seed < 0:
        raise ValueError(f"--seed is {seed}; choose 0 or more")
    from selfflow.worlds.tabletop.render import check_size

    check_size(size)
    of_robot = task == "robot" or task in ROBOT_TASKS
    format = format or ("lerobot" if of_robot else "folder")
    settings = {"world": "tabletop", "task": task, "seed": seed, "size": size, "split": split}
    if format == "lerobot":
        if not of_robot:
            raise ValueError(f"a LeRobotDataset holds a robot's tasks, not {task!r}; choose among robot, {_robots()}")
        from selfflow.worlds.tabletop.export.lerobot import write_lerobot
        from selfflow.worlds.tabletop.scene import CONTROL_HZ

        write_lerobot(
            out, partial(demonstration, task, seed, size, split), count, CONTROL_HZ, names=("x", "y", "opening"),
            per_file=per_file or 100, settings=settings, progress=not quiet,
        )  # fmt: skip
    elif task in ROBOT_TASKS:
        raise ValueError(f"{task} by itself is written as lerobot, not {format}; robot, all four in turn, can be")
    else:
        example = partial(_example, task, seed, size, split)
        if format == "folder":
            from selfflow.worlds.tabletop.export.folder import write_folder

            write_folder(out, example, count, split=split, settings=settings, progress=not quiet)
        elif format == "shards":
            from selfflow.worlds.tabletop.export.shards import write_shards

            per_shard = per_file or 1000
            write_shards(
                out, example, count, split=split, per_shard=per_shard, settings=settings, progress=not quiet
            )  # fmt: skip
        else:
            _loose(out, example, range(count), format, quiet)
    print(f"{out}: {count} of {task}, as {format}")


def _example(task: str, seed: int, size: int, split: str, index: int) -> Example:
    from selfflow.worlds.tabletop.tasks import example

    return example(task, seed + index, size=size, split=split)


def demonstration(task: str, seed: int, size: int, split: str, index: int) -> Episode:
    """A successful demonstration by the scripted expert, states and actions scaled as `TabletopEnv` has them.

    `robot` takes the four tasks in turn. The few episodes in which the expert fails are replaced by another seed's.
    """
    from selfflow.worlds.tabletop.export.lerobot import Episode
    from selfflow.worlds.tabletop.render import render as draw
    from selfflow.worlds.tabletop.robot import rollout, to_action
    from selfflow.worlds.tabletop.scene import CONTROL_HZ, FPS

    chosen = ROBOT_TASKS[index % len(ROBOT_TASKS)] if task == "robot" else task
    for k in range(TRIES):
        played = rollout(chosen, seed + index + k * APART, split=split)
        if played.success:
            break
    else:
        raise RuntimeError(f"the expert failed {TRIES} times at {chosen} near seed {seed + index}")
    motion = played.motion
    seen = motion.frames[: -1 : FPS // CONTROL_HZ]  # what each action was chosen by; the last frame is the end
    states, actions = (np.stack([to_action(*row) for row in rows]) for rows in (motion.states, motion.actions))
    return Episode(played.instruction, np.stack([draw(scene, size) for scene in seen]), states, actions)


def _loose(out: Path, example: Callable[[int], Example], indices: Sequence[int], format: str, quiet: bool) -> None:
    """One file an example, named by its seed; those already there stay."""
    from tqdm import tqdm

    for i in tqdm(indices, "examples", disable=quiet):
        case = example(i)
        path = out / f"{case.task}-{case.seed:06d}.{format}"
        if not path.exists():
            write_one(path, case)


def write_one(path: Path, case: Example) -> None:
    """Write one example as a picture to look at, an mp4 with sound, or a wav, by the path's suffix.

    A picture shows side by side all that belongs together: before and after, the references and what they compose, the
    frames of a clip. Its caption is in the PNG's metadata.

    Raises:
        ValueError: when the example has no such thing.
    """
    from selfflow.worlds.tabletop.export.video import write_mp4, write_wav

    if path.suffix == ".wav":
        if case.sound is None:
            raise ValueError(f"{case.task} has no sound to write as wav; clip has")
        write_wav(path, case.sound, int(case.sound_rate or 1))
    elif path.suffix == ".mp4":
        if case.clip is None:
            raise ValueError(f"{case.task} has no clip to write as mp4; clip has")
        write_mp4(path, case.clip, int(case.fps or 0), case.sound, int(case.sound_rate or 1))
    else:
        from PIL import Image

        from selfflow.pictures import save_png

        shown = [*(case.references or ()), *([] if case.before is None else [case.before])]
        shown += list(case.clip) if case.clip is not None else [p for p in [case.picture] if p is not None]
        facts = {"prompt": case.text, "seed": str(case.seed), "software": "selfflow"}
        save_png(Image.fromarray(np.concatenate(shown, axis=1)), path, facts)


def play(task: RobotTask = "pick-place", seed: int = 0, split: Literal["train", "test"] = "train") -> None:
    """Drive the gripper from the keyboard: arrow keys, space to open and close, r for another scene, q to leave.

    Args:
        task: Which task.
        seed: Of the scene.
        split: train asks for nothing held out, test always for something.
    """
    if seed < 0:
        raise ValueError(f"--seed is {seed}; choose 0 or more")
    from selfflow.worlds.tabletop.robot import play as play_task

    play_task(task, seed, split=split)


def gallery(out: Path, quiet: bool = False) -> None:
    """Write pictures and clips of every object, task and failure that the checkers catch: the pictures of the docs.

    Args:
        out: Directory to write to.
        quiet: No progress bar.
    """
    from selfflow.worlds.tabletop.export.gallery import write_gallery

    write_gallery(out, progress=not quiet)


def _robots() -> str:
    return ", ".join(ROBOT_TASKS)


COMMANDS: dict[str, Callable[..., None]] = {"render": render, "play": play, "gallery": gallery}


def main(arguments: Sequence[str]) -> None:
    """`selfflow tabletop …`. Raises ValueError for an unknown command, listing the known ones."""
    import tyro

    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return
    name, *rest = arguments
    if name not in COMMANDS:
        raise ValueError(f"unknown command {name!r} of tabletop; choose one of {', '.join(COMMANDS)}")
    tyro.cli(COMMANDS[name], args=rest, prog=f"selfflow tabletop {name}")


if __name__ == "__main__":  # `python -m selfflow.cli_tabletop …` starts faster, for it does without torch
    try:
        main(sys.argv[1:])
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        raise SystemExit(f"selfflow tabletop: {error}") from None
