"""The tasks on the command line: `selfflow edit | animate | dub | act | imagine`, and clips, sounds of `generate`."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

if TYPE_CHECKING:
    from selfflow.pipeline import Pipeline

FPS, FRAMES = 20, 16  # what micro-all was shown: 0.8 s
MOST_FRAMES = 1024


def edit(
    instruction: tyro.conf.Positional[str],
    /,
    image: tyro.conf.UseAppendAction[tuple[Path, ...]],
    model: Path | None = None,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out.png"),
    height: int | None = None,
    width: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    reference_guidance: float = 1.0,
    device: str = "cpu",
    metadata: bool = True,
) -> None:
    """Change a picture as told, or compose one from up to ten.

    Args:
        instruction: What to do.
        model: Model directory, or a hub id; the bundled weights by default.
        image: A picture to go by; give several times for several, in the order the instruction counts them.
        output: PNG file.
        height: Pixels of the result; the first picture's by default.
        width: Pixels of the result; the first picture's by default.
        seed: Seed.
        steps: Sampling steps.
        guidance: How far to lead towards the instruction; 1 is none.
        reference_guidance: How far to lead towards the pictures; 1 is none.
        device: Where to compute.
        metadata: Write instruction, seed and model into the PNG.
    """
    from PIL import Image

    from selfflow.pictures import check_png, save_png

    check_png(output)
    pipe = _pipeline(model, device)
    references = [_fitted(path, pipe.modalities.cell) for path in image]
    size = (height or references[0].shape[0], width or references[0].shape[1])
    made = pipe.compose(
        [references], [instruction], size, steps=steps, guidance=guidance, reference_guidance=reference_guidance,
        generator=_generator(seed),
    )[0]  # fmt: skip
    facts = {"prompt": instruction, "seed": str(seed), "model": _name(model), "software": "selfflow"}
    print(save_png(Image.fromarray(made), output, facts if metadata else {}))


def animate(
    text: tyro.conf.Positional[str],
    /,
    image: Path,
    model: Path | None = None,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out.mp4"),
    frames: int = FRAMES,
    fps: int = FPS,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    device: str = "cpu",
) -> None:
    """Let a picture move: a clip that begins with it.

    Args:
        text: What happens.
        model: Model directory, or a hub id; the bundled weights by default.
        image: The first frame.
        output: mp4 file.
        frames: Length in frames.
        fps: Frames a second.
        seed: Seed.
        steps: Sampling steps.
        guidance: Guidance scale; 1 is none.
        device: Where to compute.
    """
    from selfflow.worlds.tabletop.export.video import check_mp4, write_mp4

    check_mp4(output)
    _frames(frames)
    _fps(fps)
    pipe = _pipeline(model, device)
    first = _fitted(image, pipe.modalities.cell)
    clip = pipe.animate(first[None], [text], frames, fps, steps=steps, guidance=guidance, generator=_generator(seed))[0]
    print(write_mp4(output, clip, fps))


def dub(
    clip: tyro.conf.Positional[Path],
    /,
    model: Path | None = None,
    text: str = "",
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out.mp4"),
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    device: str = "cpu",
) -> None:
    """Give a clip its sound.

    Args:
        clip: mp4 file; its own sound is left out.
        model: Model directory, or a hub id; the bundled weights by default.
        text: What is heard.
        output: mp4 file with sound, or wav.
        seed: Seed.
        steps: Sampling steps.
        guidance: Guidance scale; 1 is none.
        device: Where to compute.
    """
    from selfflow.worlds.tabletop.export.video import check_mp4, check_wav, read_mp4, write_mp4, write_wav

    (check_wav if output.suffix.lower() == ".wav" else check_mp4)(output)
    frames, fps, _, _ = read_mp4(clip, MOST_FRAMES)
    _fps(fps)
    pipe = _pipeline(model, device)
    rate = pipe.config.audio.rate
    sound = pipe.sound(
        frames[None], fps, [text], rate, steps=steps, guidance=guidance, generator=_generator(seed)
    )[0]  # fmt: skip
    if output.suffix.lower() == ".wav":
        print(write_wav(output, sound, rate))
    else:
        print(write_mp4(output, frames, round(fps), sound, rate))


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
    """Let the model carry out a task of the tabletop robot, and say how often it succeeds.

    Args:
        model: Model directory, or a hub id; the bundled weights by default.
        env: Task: pick-place, stack, put-in or push-to.
        episodes: How many, with seeds SEED, SEED + 1, …
        seed: Seed of the first scene.
        chunk: Actions predicted at once.
        execute: How many of them are carried out before looking again.
        steps: Sampling steps.
        output: mp4 file of the first episode.
        device: Where to compute.
    """
    from selfflow.worlds.tabletop.export.video import check_mp4, write_mp4
    from selfflow.worlds.tabletop.robot.env import CONTROL_HZ, TabletopEnv

    if output is not None:
        check_mp4(output)
    if not 1 <= execute <= chunk <= 64 or not 1 <= episodes <= 1000:
        raise ValueError(f"execute {execute} ≤ chunk {chunk} ≤ 64 and 1 to 1000 episodes, not {episodes}")
    pipe = _pipeline(model, device)
    world = TabletopEnv(env, pipe.config.picture.size, split="test")
    done = 0
    for episode in range(episodes):
        observed, info = world.reset(seed=seed + episode)
        print(f"seed {seed + episode}: {observed['instruction']}", end=" … ", flush=True)
        frames, ended = [observed["image"]], False
        policy = pipe.policy(chunk=chunk, execute=execute, steps=steps, seed=seed + episode)
        while not ended:
            action = policy(
                observed["image"][None], observed["proprioception"][None], [observed["instruction"]], len(frames) - 1
            )[0]
            observed, _, success, truncated, info = world.step(action)
            frames.append(observed["image"])
            ended = success or truncated
        done += info["success"]
        print("done" if info["success"] else "not done")
        if episode == 0 and output is not None:
            print(write_mp4(output, np.stack(frames), CONTROL_HZ))
    print(f"{done} of {episodes} succeeded")


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
        body: Whose actions: tabletop, pusht, sprite or turntable.
        hz: Actions and frames a second.
        output: mp4 file.
        seed: Seed.
        steps: Sampling steps.
        device: Where to compute.
    """
    from selfflow.worlds.tabletop.export.video import check_mp4, write_mp4

    check_mp4(output)
    _fps(hz)
    taken = _actions(actions)
    _frames(len(taken))
    pipe = _pipeline(model, device)
    first = _fitted(image, pipe.modalities.cell)
    clip = pipe.imagine(first[None], [text], taken[None], body, hz, steps=steps, generator=_generator(seed))[0]
    print(write_mp4(output, clip, max(1, round(hz))))


def export(
    model: Path | None = None,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("steps.pt2"),
    dtype: Literal["auto", "bf16", "fp32"] = "auto",
) -> None:
    """Compile a model's steps ahead of time for CPUs of this kind; `Runtime(..., exported=FILE)` takes them.

    Args:
        model: Model directory, or a hub id; the bundled weights by default.
        output: Package; a `.json` beside it says what it is of.
        dtype: What is computed in; bf16 where this CPU multiplies it.
    """
    import torch

    from selfflow.runtime.export import export_steps
    from selfflow.train.engine import fast_dtype

    wanted = {"auto": fast_dtype("cpu"), "bf16": torch.bfloat16, "fp32": torch.float32}[dtype]
    print(export_steps(_pipeline(model, "cpu").net, output, wanted))


def generate_media(
    model: Path | None,
    prompt: str,
    output: Path | None,
    video: bool,
    audio: bool,
    frames: int,
    fps: int,
    seed: int,
    device: str,
    **sampling: Any,
) -> None:
    """`selfflow generate --video --audio`: a clip, a sound, or both."""
    from selfflow.worlds.tabletop.export.video import check_mp4, check_wav, write_mp4, write_wav

    output = output or Path("out.mp4" if video else "out.wav")
    (check_mp4 if video else check_wav)(output)
    _frames(frames)
    _fps(fps)
    pipe = _pipeline(model, device)
    rate, sampling = pipe.config.audio.rate, {**sampling, "generator": _generator(seed)}
    if audio and not rate:
        raise ValueError("this model has no sound; generate without --audio")
    if video and audio:
        clips, sounds = pipe.clip_and_sound([prompt], frames, fps, rate, **sampling)
        print(write_mp4(output, clips[0], fps, sounds[0], rate))
    elif video:
        print(write_mp4(output, pipe.clip([prompt], frames, fps, **sampling)[0], fps))
    else:
        print(write_wav(output, pipe.speak([prompt], frames / fps, **sampling)[0], rate))


def _pipeline(model: Path | None, device: str) -> Pipeline:
    from selfflow.bundled import model_or_bundled
    from selfflow.runtime import Runtime

    return Runtime.from_pretrained(model_or_bundled(model), device=device)


def _name(model: Path | None) -> str:
    """What a file says it was made by: a bundled model by its name, not by where it lies."""
    from selfflow.bundled import DEFAULT

    return DEFAULT if model is None else str(model)


def _generator(seed: int) -> Any:
    import torch

    return torch.Generator().manual_seed(seed)


def _frames(count: int) -> int:
    if not 1 <= count <= MOST_FRAMES:
        raise ValueError(f"{count} frames asked for; a clip has 1 to {MOST_FRAMES}")
    return count


def _fps(rate: float) -> None:
    if not 1 <= rate <= 60:
        raise ValueError(f"{rate:g} frames a second asked for; a clip has 1 to 60")


def _fitted(path: Path, patch: int) -> np.ndarray:
    """A picture file, cut at right and below to whole patches: neither stretched nor shifted."""
    from selfflow.data.packs import decode_picture

    try:
        picture = decode_picture(path.read_bytes(), str(path))
    except OSError as error:
        raise FileNotFoundError(f"{path} cannot be read: {error}") from None
    height, width = (side - side % patch for side in picture.shape[:2])
    if not height or not width or height * width > 1024 * 1024:
        raise ValueError(f"{path} has {picture.shape[1]} × {picture.shape[0]} pixels; {patch} to 1024 a side are taken")
    return np.ascontiguousarray(picture[:height, :width])


def _actions(path: Path) -> np.ndarray:
    try:
        found = np.asarray(json_module.loads(path.read_text()), dtype=np.float32)
    except OSError as error:
        raise FileNotFoundError(f"{path} cannot be read: {error}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is no JSON list of equally long lists of numbers: {error}") from None
    if found.ndim != 2 or not found.size or not np.isfinite(found).all():
        raise ValueError(f"{path} holds an array of shape {found.shape}; actions are finite numbers (steps, width)")
    return found


COMMANDS: Sequence[Any] = (edit, animate, dub, act, imagine, export)
