"""The tasks on the command line, `selfflow edit | animate | dub | continue | …`, and clips, sounds of `generate`.

Those of robots are in `selfflow.cli_robots`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

if TYPE_CHECKING:
    from selfflow.pipeline import Pipeline

FPS, FRAMES = 20, 16  # what micro-all was shown: 0.8 s
PAST = 8  # frames of a clip that its continuation looks at: with as many more, what was shown
MOST_FRAMES = 1024
MOST_SECONDS = MOST_FRAMES / FPS


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
    choices: int = 1,
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
        choices: Draw so often and keep what the model itself finds likeliest.
        device: Where to compute.
        metadata: Write instruction, seed and model into the PNG.
    """
    from PIL import Image

    from selfflow.pictures import check_png, save_png

    check_png(output)
    pipe = pipeline_of(model, device)
    references = [fitted(path, pipe.modalities.cell) for path in image]
    size = (height or references[0].shape[0], width or references[0].shape[1])
    made = pipe.compose(
        [references], [instruction], size, steps=steps, guidance=guidance, reference_guidance=reference_guidance,
        choices=choices, generator=generator_of(seed),
    )[0]  # fmt: skip
    facts = {"prompt": instruction, "seed": str(seed), "model": _name(model), "software": "selfflow"}
    print(save_png(Image.fromarray(made), output, facts if metadata else {}))


def animate(
    text: tyro.conf.Positional[str],
    /,
    image: Path,
    model: Path | None = None,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out.mp4"),
    audio: bool = False,
    frames: int = FRAMES,
    fps: int = FPS,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    choices: int = 1,
    device: str = "cpu",
) -> None:
    """Let a picture move: a clip that begins with it.

    Args:
        text: What happens.
        model: Model directory, or a hub id; the bundled weights by default.
        image: The first frame.
        output: mp4 file.
        audio: Make its sound, too.
        frames: Length in frames.
        fps: Frames a second.
        seed: Seed.
        steps: Sampling steps.
        guidance: Guidance scale; 1 is none.
        choices: Make it so often and keep what the model itself finds likeliest.
        device: Where to compute.
    """
    from selfflow.worlds.tabletop.export.video import check_mp4, write_mp4

    check_mp4(output)
    checked_frames(frames)
    checked_fps(fps)
    pipe = pipeline_of(model, device)
    first = fitted(image, pipe.modalities.cell)
    sampling: dict[str, Any] = {"steps": steps, "guidance": guidance, "choices": choices}
    sampling["generator"] = generator_of(seed)
    if not audio:
        print(write_mp4(output, pipe.animate(first[None], [text], frames, fps, **sampling)[0], fps))
        return
    rate = _rate(pipe)
    clips, sounds = pipe.animate_with_sound(first[None], [text], frames, fps, rate, **sampling)
    print(write_mp4(output, clips[0], fps, sounds[0], rate))


def dub(
    clip: tyro.conf.Positional[Path],
    /,
    model: Path | None = None,
    text: str = "",
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("out.mp4"),
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    choices: int = 1,
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
        choices: Make it so often and keep what the model itself finds likeliest.
        device: Where to compute.
    """
    from selfflow.worlds.tabletop.export.video import check_mp4, check_wav, write_mp4, write_wav

    (check_wav if output.suffix.lower() == ".wav" else check_mp4)(output)
    frames, fps = read_clip(clip)
    pipe = pipeline_of(model, device)
    rate = _rate(pipe)
    sound = pipe.sound(
        frames[None], fps, [text], rate, steps=steps, guidance=guidance, choices=choices, generator=generator_of(seed)
    )[0]  # fmt: skip
    if output.suffix.lower() == ".wav":
        print(write_wav(output, sound, rate))
    else:
        print(write_mp4(output, frames, round(fps), sound, rate))


def continue_(
    file: tyro.conf.Positional[Path],
    /,
    model: Path | None = None,
    text: str = "",
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    frames: int = 8,
    seconds: float = 0.4,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    choices: int = 1,
    device: str = "cpu",
) -> None:
    """Go on with a clip, or with a sound.

    Args:
        file: mp4, whose own sound is left out and whose last 8 frames are looked at; or wav, of which as much is heard
            as half of what the model was trained on.
        model: Model directory, or a hub id; the bundled weights by default.
        text: What happens, or what is heard.
        output: File of the same kind; out.mp4 or out.wav by default.
        frames: How many frames to add to a clip.
        seconds: How many seconds to add to a sound, up to 51.2.
        seed: Seed.
        steps: Sampling steps.
        guidance: Guidance scale; 1 is none.
        choices: Make it so often and keep what the model itself finds likeliest.
        device: Where to compute.
    """
    import torch

    from selfflow.modalities.audio import resample
    from selfflow.worlds.tabletop.export.video import check_mp4, check_wav, read_wav, write_mp4, write_wav

    sampling: dict[str, Any] = {"steps": steps, "guidance": guidance, "choices": choices}
    sampling["generator"] = generator_of(seed)
    heard = file.suffix.lower() == ".wav"
    output = output or Path("out.wav" if heard else "out.mp4")
    (check_wav if heard else check_mp4)(output)
    if heard:
        checked_seconds(seconds)
        own = read_wav(file)
        pipe = pipeline_of(model, device)
        rate = _rate(pipe)
        sound = resample(torch.from_numpy(own[0]), own[1], rate).clamp(-1, 1).numpy()
        start = max(0, len(sound) - round(pipe.config.data.seconds / 2 * rate))
        longer = pipe.continue_sound(sound[None, start:], seconds, [text], **sampling)[0]
        print(write_wav(output, np.concatenate([sound[:start], longer]), rate))
        return
    checked_frames(frames)
    clip, fps = read_clip(file)
    pipe = pipeline_of(model, device)
    longer = pipe.continue_clip(clip[None, -PAST:], frames, [text], fps, **sampling)[0]
    print(write_mp4(output, np.concatenate([clip[:-PAST], longer]), round(fps)))


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
    print(export_steps(pipeline_of(model, "cpu").net, output, wanted))


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
    checked_frames(frames)
    checked_fps(fps)
    pipe = pipeline_of(model, device)
    rate, sampling = _rate(pipe) if audio else 0, {**sampling, "generator": generator_of(seed)}
    if video and audio:
        clips, sounds = pipe.clip_and_sound([prompt], frames, fps, rate, **sampling)
        print(write_mp4(output, clips[0], fps, sounds[0], rate))
    elif video:
        print(write_mp4(output, pipe.clip([prompt], frames, fps, **sampling)[0], fps))
    else:
        print(write_wav(output, pipe.speak([prompt], frames / fps, **sampling)[0], rate))


def pipeline_of(model: Path | None, device: str) -> Pipeline:
    from selfflow.bundled import model_or_bundled
    from selfflow.runtime import Runtime

    return Runtime.from_pretrained(model_or_bundled(model), device=device)


def _name(model: Path | None) -> str:
    """What a file says it was made by: a bundled model by its name, not by where it lies."""
    from selfflow.bundled import DEFAULT

    return DEFAULT if model is None else str(model)


def generator_of(seed: int) -> Any:
    import torch

    return torch.Generator().manual_seed(seed)


def checked_frames(count: int) -> int:
    if not 1 <= count <= MOST_FRAMES:
        raise ValueError(f"{count} frames asked for; a clip has 1 to {MOST_FRAMES}")
    return count


def checked_fps(rate: float) -> float:
    if not 1 <= rate <= 60:
        raise ValueError(f"{rate:g} frames a second asked for; a clip has 1 to 60")
    return rate


def checked_seconds(length: float) -> float:
    if not 0 < length <= MOST_SECONDS:
        raise ValueError(f"{length:g} seconds asked for; choose more than 0 and up to {MOST_SECONDS:g}")
    return length


def _rate(pipe: Pipeline) -> int:
    """Samples of sound a second of a model that has any."""
    if not pipe.config.audio.rate:
        raise ValueError(
            "this model has no sound; leave it out, or take a model whose configuration gives audio a rate"
        )
    return int(pipe.config.audio.rate)


def read_clip(path: Path) -> tuple[np.ndarray, float]:
    """An mp4's frames uint8 `(k, H, W, 3)`, and how many there are a second."""
    from selfflow.worlds.tabletop.export.video import read_mp4

    frames, fps, _, _ = read_mp4(path, MOST_FRAMES)
    return frames, checked_fps(fps)


def fitted(path: Path, patch: int) -> np.ndarray:
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
