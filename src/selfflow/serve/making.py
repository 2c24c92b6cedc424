"""From a wish to its result: what a job asks of the model, and what comes of it. Runs on the model's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from selfflow.data.sample import Sample
from selfflow.serve.framing import Part
from selfflow.serve.jobs import Cancelled, Pulse
from selfflow.serve.limits import Limits, Refused
from selfflow.serve.media import fitted, picture_bytes, stacked, whole_cells

GUESS_EVERY = 0.08  # seconds between two guesses that are shown
PAST = 8  # frames of a clip that its continuation looks at
MOST_GUIDANCE = 100.0


@dataclass(frozen=True)
class Wish:
    """What is asked for, all of it in memory. Pictures are uint8 `(H, W, 3)`, the mask bool `(H, W)`, clips
    `(f, H, W, 3)`."""

    task: str
    prompt: str = ""
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    reference_guidance: float = 1.0
    width: int | None = None
    height: int | None = None
    references: tuple[np.ndarray, ...] = ()
    source: np.ndarray | None = None
    mask: np.ndarray | None = None
    frames: int = 16
    fps: float = 20.0
    choices: int = 1


@dataclass(frozen=True)
class Made:
    """What came of it: `picture` uint8 `(H, W, 3)`, `clip` `(f, H, W, 3)`, `sound` float32 `(samples,)`, or None."""

    picture: np.ndarray | None = None
    clip: np.ndarray | None = None
    sound: np.ndarray | None = None
    fps: float = 0.0
    rate: int = 0

    def parts(self, final: bool) -> list[Part]:
        """As parts of a message: files when final, else bare pixels."""
        parts = []
        for name, pixels in (("picture", self.picture), ("clip", self.clip)):
            if pixels is not None:
                height, width = pixels.shape[-3:-1]
                about: dict[str, Any] = {"width": width, "height": height}
                if name == "clip":
                    about |= {"frames": len(pixels), "fps": self.fps, "seconds": len(pixels) / self.fps}
                    pixels = stacked(pixels)
                data = picture_bytes(pixels) if final else pixels.tobytes()
                parts.append(Part(name, "image/png" if final else "image/rgb", data, about))
        if self.sound is not None and final:
            from selfflow.worlds.tabletop.export.video import wav_bytes

            about = {"rate": self.rate, "seconds": len(self.sound) / self.rate}
            sound = np.clip(np.nan_to_num(self.sound), -1, 1)
            parts.append(Part("sound", "audio/wav", wav_bytes(sound, self.rate), about))
        return parts


@dataclass
class Question:
    """A sample with blanks, as `Pipeline.solve` takes it, and how its answer becomes the result."""

    task: str
    sample: Sample
    finish: Callable[[Sample], Made]
    keep: Mapping[str, torch.Tensor] | None = None
    guidance: float | None = None


def check(wish: Wish, pipe: Any, limits: Limits) -> None:
    """Refuse numbers out of range, and wishes that lack what they need. Touches no weights, so any thread may call."""
    if len(wish.prompt) > limits.prompt:
        raise Refused("too_large", f"a prompt of {len(wish.prompt)} characters; at most {limits.prompt}", "prompt")
    if wish.steps is not None and not 1 <= wish.steps <= limits.steps:
        raise Refused("bad_request", f"{wish.steps} steps; choose 1 to {limits.steps}", "steps")
    for name in ("guidance", "reference_guidance"):
        value = getattr(wish, name)
        if value is not None and not 0 <= value <= MOST_GUIDANCE:
            raise Refused("bad_request", f"{name} {value}; choose 0 to {MOST_GUIDANCE:g}", name)
    if not 1 <= wish.choices <= limits.choices:
        raise Refused("bad_request", f"{wish.choices} choices; choose 1 to {limits.choices}", "choices")
    cell = pipe.modalities.cell
    for name, side in (("width", wish.width), ("height", wish.height)):
        if side is not None and (side < cell or side % cell):
            raise Refused("bad_request", f"{name} {side}; choose a multiple of {cell}", name)
    height, width = size_of(wish, pipe)
    if height * width > limits.pixels:
        raise Refused("too_large", f"{width} × {height} pixels; at most {limits.pixels}", "width")
    if not 1 <= wish.frames <= limits.frames:
        raise Refused("bad_request", f"{wish.frames} frames; choose 1 to {limits.frames}", "frames")
    long = wish.frames if wish.task in ("clip", "clip+sound", "animate", "animate+sound", "continue", "sound") else 1
    if wish.source is not None and wish.source.ndim == 4:
        long, (height, width) = long + len(wish.source), wish.source.shape[1:3]
    if long > 4 * limits.frames or (wish.task != "sound" and height * width * long > 4 * limits.pixels):
        raise Refused("too_large", f"{long} frames of {width} × {height} pixels; that is too much at once", "frames")
    if wish.choices > 1 and height * width * long * wish.choices > 4 * limits.pixels:
        what = f"{wish.choices} choices of {long} frames of {width} × {height} pixels"
        raise Refused("too_large", f"{what}; that is too much at once", "choices")
    if not 1 <= wish.fps <= 60:
        raise Refused("bad_request", f"{wish.fps} frames a second; choose 1 to 60", "fps")
    edited = wish.task == "edit" and wish.source is not None  # it is the first picture that the model looks at
    if len(wish.references) + edited > limits.references:
        found = f"{len(wish.references)} references" + (" and the picture to edit" if edited else "")
        raise Refused("too_large", f"{found}; at most {limits.references}{' in all' if edited else ''}", "references")
    if wish.task == "edit" and wish.source is None and not wish.references:
        raise Refused("bad_request", "an edit needs a picture to begin with, or references", "references")
    if wish.task in ("inpaint", "outpaint", "animate", "animate+sound", "dub", "continue") and wish.source is None:
        raise Refused("bad_request", f"{wish.task} needs a source", "source")
    if wish.task in ("inpaint", "outpaint") and (wish.mask is None or not wish.mask.any()):
        raise Refused("bad_request", f"{wish.task} needs a mask with something white in it", "mask")
    if wish.task in ("dub", "continue") and (wish.source is None or wish.source.ndim != 4):
        raise Refused("bad_request", f"{wish.task} needs a clip as its source", "source")
    if wish.task in ("inpaint", "outpaint", "animate", "animate+sound", "edit") and (
        wish.source is not None and wish.source.ndim != 3
    ):
        raise Refused("bad_request", f"{wish.task} needs a picture as its source, not a clip", "source")
    if ("sound" in wish.task or wish.task == "dub") and not pipe.config.audio.rate:
        raise Refused("bad_request", "this model has no sound", "task")


def steps_of(wish: Wish, pipe: Any) -> int:
    """In how many sampling steps it is made."""
    return wish.steps or int(pipe.config.sampling.steps)


def size_of(wish: Wish, pipe: Any) -> tuple[int, int]:
    """Height and width of what is made."""
    size = pipe.config.picture.size
    return wish.height or size, wish.width or size


def question(wish: Wish, pipe: Any) -> Question:
    """What the model is asked, of a wish that `check` let through."""
    height, width = size_of(wish, pipe)
    cell, rate, task = pipe.modalities.cell, int(pipe.config.audio.rate), wish.task
    blank = np.zeros((height, width, 3), np.uint8)
    fps, frames = wish.fps, wish.frames

    def sample(**given: Any) -> Sample:
        return Sample("request/0", given.pop("picture", None), wish.prompt, **given)

    def silence(count: int) -> dict[str, Any]:
        return {"sound": np.zeros(max(1, round(count / fps * rate)), np.float32), "sound_rate": rate}

    def finish(answer: Sample) -> Made:
        """What was generated: a picture or a clip, and a sound."""
        made = answer.clip if answer.clip is not None else None
        return Made(answer.picture if made is None else None, made, answer.sound, fps, rate)

    if task in ("picture", "edit"):
        references = ([wish.source] if wish.source is not None and task == "edit" else []) + list(wish.references)
        if not references:
            return Question("picture", sample(picture=blank), finish)
        small = tuple(whole_cells(r, cell, pipe.config.picture.size**2) for r in references)
        return Question("edit", sample(picture=blank, references=small), finish)
    if task in ("inpaint", "outpaint"):
        assert wish.source is not None
        assert wish.mask is not None
        picture, hole = fitted(wish.source, height, width), fitted(wish.mask, height, width)
        touched = hole.reshape(height // cell, cell, width // cell, cell).any(axis=(1, 3))
        if not touched.any():
            raise Refused("bad_request", f"nothing white is left of the mask at {width} × {height} pixels", "mask")
        anew = touched.repeat(cell, 0).repeat(cell, 1)[..., None]

        def pasted(answer: Sample) -> Made:
            return Made(np.where(anew, answer.picture, picture))

        keep = {"visual": torch.from_numpy(~touched.reshape(-1))}
        return Question(task, sample(picture=picture), pasted, keep)
    if task in ("clip", "clip+sound"):
        clip = np.zeros((frames, height, width, 3), np.uint8)
        return Question(task, sample(clip=clip, fps=fps, **(silence(frames) if "sound" in task else {})), finish)
    if task == "sound":
        return Question(task, sample(**silence(frames)), finish)
    assert wish.source is not None
    if task in ("animate", "animate+sound"):
        first = fitted(wish.source, height, width)
        clip = np.zeros((frames, height, width, 3), np.uint8)
        clip[0] = first

        def begun(answer: Sample) -> Made:
            assert answer.clip is not None
            return Made(None, np.concatenate([first[None], answer.clip[1:]]), answer.sound, fps, rate)

        return Question(task, sample(clip=clip, fps=fps, **(silence(frames) if "sound" in task else {})), begun)
    clip = wish.source
    if task == "dub":
        return Question(
            task, sample(clip=clip, fps=fps, **silence(len(clip))),
            lambda answer: Made(None, clip, answer.sound, fps, rate),
        )  # fmt: skip
    lead = pipe.modalities.lead
    past = clip[-pipe.modalities.past(min(len(clip), PAST)) :]  # whole moments
    if len(past) < lead:  # the model sees no less than one token's depth of a past
        past = np.concatenate([past[:1].repeat(lead - len(past), 0), past])
    longer = np.concatenate([past, np.zeros((frames, *past.shape[1:]), np.uint8)])
    cells = past.shape[1] // cell * (past.shape[2] // cell)
    moments = pipe.modalities.moments
    known = torch.arange(moments(len(longer))).repeat_interleave(cells) < moments(len(past))

    def extended(answer: Sample) -> Made:
        assert answer.clip is not None
        return Made(None, np.concatenate([clip, answer.clip[len(past) :]]), None, fps, rate)

    return Question("continue", sample(clip=longer, fps=fps), extended, {"visual": known})


def passes(wish: Wish, pipe: Any, preview: bool, few_steps: bool) -> list[tuple[str, int, int]]:
    """The passes of a job: `(stage, steps, choices)`; the quick one only where it is much shorter than the other.

    (Where it is not, guesses within the final pass come as early, and cost nothing.) Of several choices the first is
    made by itself where nothing is quicker, and shown while the others are made.
    """
    steps = steps_of(wish, pipe)
    quick = 1 if few_steps else 4
    shorter = 4 * quick <= steps
    first = [("preview", quick if shorter else steps, 1)] if preview and (shorter or wish.choices > 1) else []
    return [*first, ("final", steps, wish.choices)]


def make(
    wish: Wish,
    runtime: Any,
    pipe: Any,
    pulse: Pulse,
    show: Callable[[Made, str, int, int, bool], None],
    preview: bool = False,
    few_steps: bool = False,
    guesses: Callable[[int, int], bool] | None = None,
) -> Made:
    """Carry out a wish.

    Args:
        runtime: what offers `solve`.
        show: `(made, stage, step, steps, final)`, called with the present guess now and then, and with the result of
            every pass.
        preview: whether a quick pass goes first.
        guesses: whether to show the guess after a step, of `(step, steps)`; by default now and then.

    Raises:
        Cancelled: when the pulse said so.
        Refused: for what the model cannot do.
    """
    return make_together([wish], runtime, pipe, pulse, lambda _, *given: show(*given), preview, few_steps, guesses)[0]


def make_together(
    wishes: Sequence[Wish],
    runtime: Any,
    pipe: Any,
    pulse: Pulse,
    show: Callable[[int, Made, str, int, int, bool], None],
    preview: bool = False,
    few_steps: bool = False,
    guesses: Callable[[int, int], bool] | None = None,
) -> list[Made]:
    """As `make`, several wishes in the same calls of the model; `show` is told first which of them it is about.

    They are to be alike: of one task, size, number of steps, guidance, and shape of references, and none kept in part.
    """
    asked, first = [question(wish, pipe) for wish in wishes], wishes[0]
    samples = [each.sample for each in asked]
    stages = passes(first, pipe, preview, few_steps)
    made = list[Made]()
    for stage, steps, choices in stages:
        final, shown = stage == "final", time.monotonic()
        if pulse(0, steps, final):
            raise Cancelled
        pulse.restart()

        def tell(
            found: Sequence[Sample], step: int, steps: int = steps, stage: str = stage, final: bool = final
        ) -> None:
            nonlocal made
            made = [each.finish(answer) for each, answer in zip(asked, found, strict=True)]
            for i, one in enumerate(made):
                show(i, one, stage, step, steps, final and step == steps)

        def after(step: int, streams: Any, steps: int = steps, final: bool = final, tell: Any = tell) -> bool:
            nonlocal shown
            if pulse(step, steps, final):
                return True
            if guesses is not None:
                wanted = guesses(step, steps)
            else:  # what a quick pass ended with looks better than the first half of the other's guesses
                early = final and len(stages) > 1 and 2 * step < steps
                wanted = not early and time.monotonic() - shown > GUESS_EVERY * len(wishes)
            if wanted and step < steps:
                shown = time.monotonic()
                tell(pipe.modalities.samples(streams, samples), step)
            return False

        answers = runtime.solve(
            asked[0].task, samples, keep=asked[0].keep, steps=steps, callback=after, guidance=first.guidance,
            reference_guidance=first.reference_guidance, choices=choices,
            generator=[torch.Generator().manual_seed(wish.seed) for wish in wishes],
        )  # fmt: skip
        if pulse.stopped:
            raise Cancelled
        tell(answers, steps)
    return made
