"""The suites `continue`, `animate`, `animate+sound`, `visualise`: does what has begun, or is heard, go on as told?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from selfflow.data.sample import Sample
from selfflow.evaluate.distances import paired
from selfflow.evaluate.measures import share
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.surprise import known_loss, lower, sounds_at_all
from selfflow.evaluate.tabletop_clips import (
    CLIP_CHECKS,
    HEARD_CHECKS,
    heard_strip,
    motions_of,
    score_film,
    score_heard,
    sound_of,
    strip,
)
from selfflow.evaluate.tabletop_report import baseline, examples, figures_of, in_batches, report, require, shifted
from selfflow.evaluate.world_suite import psnr_figure, squared_error

KNOWN = 4  # frames of a clip that is to be continued


class Continuer(Protocol):
    """What `continue` needs of a model."""

    @property
    def config(self) -> Any: ...

    def continue_clip(
        self, clips: np.ndarray, count: int, texts: Sequence[str], fps: float, **sampling: Any
    ) -> np.ndarray:
        """Clips uint8 `(n, k, H, W, 3)` and n captions to clips `(n, k + count, H, W, 3)` that begin with them."""
        ...


class Animator(Protocol):
    """What `animate` needs of a model."""

    @property
    def config(self) -> Any: ...

    def animate(
        self, pictures: np.ndarray, texts: Sequence[str], frames: int, fps: float, **sampling: Any
    ) -> np.ndarray:
        """First frames uint8 `(n, H, W, 3)` and n captions to clips uint8 `(n, frames, H, W, 3)`."""
        ...


class Filmer(Protocol):
    """What `animate+sound` needs of a model."""

    @property
    def config(self) -> Any: ...

    def animate_with_sound(
        self, pictures: np.ndarray, texts: Sequence[str], frames: int, fps: float, rate: int, **sampling: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `Animator.animate`, with sounds float32 `(n, frames / fps * rate)` beside the clips."""
        ...


class Visualiser(Protocol):
    """What `visualise` needs of a model. One with `field` besides is asked for its loss on known clips as well."""

    @property
    def config(self) -> Any: ...

    def visualise(
        self, sounds: np.ndarray, rate: int, texts: Sequence[str], frames: int, fps: float, **sampling: Any
    ) -> np.ndarray:
        """Sounds float32 `(n, samples)` and n captions to clips uint8 `(n, frames, H, W, 3)`."""
        ...


def continue_suite(pipe: Continuer, options: Options) -> dict[str, Any]:
    """Figures of a model that knows the first `KNOWN` frames of held-out clips and makes the others.

    The score is that of `tabletop-video`; beside it the PSNR in dB of the frames that were made. Ceiling: the true
    clips. Floor: the last known frame held still, in which much of what the caption names is right. A second floor:
    the frames that follow in another clip. The score has to beat the better of the two.
    """
    go_on = require(pipe, "continue_clip", "continue", "clips, count, texts, fps")
    from selfflow.worlds.tabletop.scene import FPS, FRAMES

    cases, texts, true = _films(pipe, options)
    made = in_batches(
        lambda seen, said, **sampling: go_on(seen, FRAMES - KNOWN, said, FPS, **sampling), (true[:, :KNOWN], texts),
        options,
    )  # fmt: skip
    return _moved(made, true, texts, cases, KNOWN, options)


def animate_suite(pipe: Animator, options: Options) -> dict[str, Any]:
    """The same of a model that knows but the first frame."""
    animate = require(pipe, "animate", "animate", "pictures, texts, frames, fps")
    from selfflow.worlds.tabletop.scene import FPS, FRAMES

    cases, texts, true = _films(pipe, options)
    made = in_batches(
        lambda seen, said, **sampling: animate(seen, said, FRAMES, FPS, **sampling), (true[:, 0], texts), options
    )
    return _moved(made, true, texts, cases, 1, options)


def _films(pipe: Any, options: Options) -> tuple[Sequence[Any], list[str], np.ndarray]:
    """Held-out examples, their captions, and their clips uint8 `(n, frames, H, W, 3)`."""
    cases = examples("clip", pipe.config.picture.size, options)
    return cases, [case.text for case in cases], np.stack([np.asarray(case.clip) for case in cases])


def _moved(
    made: Sequence[np.ndarray], true: np.ndarray, texts: Sequence[str], cases: Sequence[Any], known: int,
    options: Options,
) -> dict[str, Any]:  # fmt: skip
    """Figures of clips of which so many frames were known."""
    clips = _checked(made, true)
    still, others = _still(true, known), np.stack(shifted(list(true)))
    mixed = np.concatenate([true[:, :known], others[:, known:]], axis=1)

    def scores(rows: np.ndarray) -> list[Any]:
        return [score_film(clip, text) for clip, text in zip(rows, texts, strict=True)]

    found = scores(clips)
    figures = figures_of(found, scores(true), scores(still), motions_of(cases), options, CLIP_CHECKS)
    figures["psnr"] = _psnr(clips, still, true, known, options)
    figures["floor: another clip goes on"] = baseline(scores(mixed), options, "the known frames, then another's")

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [(strip(true[i]), f"true: {texts[i]}"), (strip(clips[i]), "")]

    return report(_strict(figures), found, texts, panels, options)


def animate_with_sound_suite(pipe: Filmer, options: Options) -> dict[str, Any]:
    """Figures of a model that knows the first frame and makes the clip and its sound.

    The score is that of `tabletop-av`, but silence fits no clip whose true sound is heard. Ceiling: the true films.
    Floor: the first frame held still, with another clip's sound. A second floor: the true clip with another's sound.
    The score has to beat the better of the two.
    """
    animate = require(pipe, "animate_with_sound", "animate+sound", "pictures, texts, frames, fps, rate")
    from selfflow.worlds.tabletop.scene import FPS, FRAMES, SOUND_HZ

    cases, texts, true = _films(pipe, options)
    sounds = [sound_of(case.sound) for case in cases]
    made = in_batches(
        lambda seen, said, **sampling: list(
            zip(*animate(seen, said, FRAMES, FPS, SOUND_HZ, **sampling), strict=True)
        ),
        (true[:, 0], texts), options,
    )  # fmt: skip
    clips, heard = _checked([clip for clip, _ in made], true), [np.asarray(sound) for _, sound in made]
    still, others = _still(true, 1), shifted(sounds)

    def scores(rows: np.ndarray, with_sounds: Sequence[np.ndarray]) -> list[Any]:
        films = zip(rows, with_sounds, texts, sounds, strict=True)
        return [_loud(clip, sound, text, own) for clip, sound, text, own in films]

    found = scores(clips, heard)
    figures = figures_of(
        found, scores(true, sounds), scores(still, others), motions_of(cases), options, HEARD_CHECKS
    )  # fmt: skip
    figures["psnr"] = _psnr(clips, still, true, 1, options)
    figures["floor: the true clip, another's sound"] = baseline(scores(true, others), options, "every frame flawless")

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [(heard_strip(true[i], sounds[i]), f"true: {texts[i]}"), (heard_strip(clips[i], heard[i]), "")]

    return report(_strict(figures), found, texts, panels, options)


def visualise_suite(pipe: Visualiser, options: Options) -> dict[str, Any]:
    """Figures of a model that hears a sound, is told what happens, and shows it.

    The score is that of `tabletop-av`, of the clip made with the sound given. Ceiling: the true clips. Floor: those of
    other sounds. A second floor: their first frames held still; the score has to beat the better of the two. Of a model
    whose loss can be asked for, also how often the true clip surprises it less given its own sound than given
    another's, caption and noise being the same.
    """
    show = require(pipe, "visualise", "visualise", "sounds, rate, texts, frames, fps")
    from selfflow.worlds.tabletop.scene import FPS, FRAMES, SOUND_HZ

    cases, texts, true = _films(pipe, options)
    sounds = np.stack([np.asarray(sound_of(case.sound), np.float32) for case in cases])
    made = in_batches(
        lambda heard, said, **sampling: show(heard, SOUND_HZ, said, FRAMES, FPS, **sampling), (sounds, texts), options
    )
    clips, others = _checked(made, true), np.stack(shifted(list(true)))

    def scores(rows: np.ndarray) -> list[Any]:
        return [score_heard(clip, sound, text) for clip, sound, text in zip(rows, sounds, texts, strict=True)]

    found = scores(clips)
    figures = figures_of(found, scores(true), scores(others), motions_of(cases), options, HEARD_CHECKS)
    figures["floor: first frame of another clip, still"] = baseline(scores(_still(others, 1)), options, "nothing moves")
    if callable(getattr(pipe, "field", None)):
        figures["own sound rather than another's"] = _told_apart(pipe, true, sounds, texts, FPS, SOUND_HZ, options)

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [(heard_strip(true[i], sounds[i]), f"true: {texts[i]}"), (heard_strip(clips[i], sounds[i]), "")]

    return report(_strict(figures), found, texts, panels, options)


def _told_apart(
    pipe: Any, clips: np.ndarray, sounds: np.ndarray, texts: Sequence[str], fps: float, rate: int, options: Options
) -> Figure:
    """How often a clip's loss is lower given its own sound than given the next one's."""

    def loss(heard: Sequence[np.ndarray]) -> np.ndarray:
        rows = zip(clips, heard, texts, strict=True)
        samples = [
            Sample(f"seen/{i}", None, text, clip=clip, fps=fps, sound=sound, sound_rate=rate)
            for i, (clip, sound, text) in enumerate(rows)
        ]
        return known_loss(pipe, "visualise", samples, options.seed)

    own, other = loss(list(sounds)), loss(shifted(list(sounds)))
    return share(lower(own, other), chance=0.5, note="the true clip has the lower loss given its own sound")


def _loud(clip: np.ndarray, sound: np.ndarray, text: str, own: np.ndarray) -> Any:
    """`score_heard`, in which silence fits nothing where the true sound `own` is heard."""
    score = score_heard(clip, sound, text)
    if sounds_at_all(sound) or not sounds_at_all(own):
        return score
    facts = {**score.facts, "sound fits clip": 0.0, "presence": 0.0}
    return type(score)(0.0, (*score.faults, "nothing is heard"), facts)


def _strict(figures: dict[str, Figure]) -> dict[str, Figure]:
    """The score has the highest of all floors."""
    score = figures["score"]
    best = max((f for name, f in figures.items() if name.startswith("floor: ")), key=lambda f: f.value)
    assert score.floor is not None
    if best.value <= score.floor:
        return figures
    margin = paired(np.array(score.each or [], float), np.array(best.each or [], float))
    return {**figures, "score": replace(score, floor=best.value, floor_each=best.each, margin=margin)}


def _still(clips: np.ndarray, known: int) -> np.ndarray:
    """Clips whose last known frame is held."""
    return np.concatenate([clips[:, :known], clips[:, known - 1 : known].repeat(clips.shape[1] - known, 1)], axis=1)


def _psnr(clips: np.ndarray, still: np.ndarray, true: np.ndarray, known: int, options: Options) -> Figure:
    note = "dB, of the frames that were made; floor: the last known frame held still"
    return psnr_figure(squared_error(clips, true, known), squared_error(still, true, known), options, note)


def _checked(made: Sequence[np.ndarray], true: np.ndarray) -> np.ndarray:
    clips = np.stack([np.asarray(clip) for clip in made])
    if clips.shape != true.shape:
        raise ValueError(f"the model made clips of shape {clips.shape}; {true.shape} were asked for")
    return clips
