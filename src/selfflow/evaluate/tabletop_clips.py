"""The suites `tabletop-video`, `tabletop-sound` and `tabletop-av`: does it move as things do, and sound as it moves?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from selfflow.evaluate.measures import unsurprised
from selfflow.evaluate.protocol import Figure, Options, seed_of
from selfflow.evaluate.tabletop_report import (
    baseline,
    examples,
    figures_of,
    in_batches,
    report,
    require,
    shifted,
)

if TYPE_CHECKING:
    from selfflow.worlds.tabletop.verdict import Score

LAWS = ("laws kept", "permanence", "continuity", "gravity", "bounces", "solidity", "support")
CLIP_CHECKS = ("things named", "what happens", *LAWS)
SOUND_CHECKS = ("presence", "timing", "material", "ring")
HEARD_CHECKS = ("sound fits clip", "laws kept", "things named", "what happens", *SOUND_CHECKS)
STRIP = 4  # frames of a clip on the sheet


class Animator(Protocol):
    """What `tabletop-video` needs of a model."""

    @property
    def config(self) -> Any: ...

    def clip(self, texts: Sequence[str], frames: int, fps: int, **sampling: Any) -> np.ndarray:
        """n captions to clips uint8 `(n, frames, H, W, 3)`.

        `sampling` holds `generator`, a list of n, and `steps` and `guidance` where these are not left to the model.
        """
        ...

    # A model may have `clip_loss(clips, texts, seed) -> (n,)` as well, its training loss on each of the clips uint8
    # (n, frames, H, W, 3), all with the noise of that seed. With it the suite reports surprise.


class Sounder(Protocol):
    """What `tabletop-sound` needs of a model."""

    @property
    def config(self) -> Any: ...

    def sound(self, clips: np.ndarray, fps: int, texts: Sequence[str], rate: int, **sampling: Any) -> np.ndarray:
        """Clips uint8 `(n, frames, H, W, 3)` and n captions to sounds float `(n, frames / fps * rate)` in [-1, 1]."""
        ...


class Filmer(Protocol):
    """What `tabletop-av` needs of a model."""

    @property
    def config(self) -> Any: ...

    def clip_and_sound(
        self, texts: Sequence[str], frames: int, fps: int, rate: int, **sampling: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """n captions to clips uint8 `(n, frames, H, W, 3)` and their sounds float `(n, frames / fps * rate)`."""
        ...


def video_suite(pipe: Animator, options: Options) -> dict[str, Any]:
    """Figures of a model that animates held-out captions: nothing vanishes, jumps, floats, or goes through another.

    A score is the worse of two: of the laws of solid things (`score_clip`), and of whether it shows the things that
    the caption names and what it says of them (`score_story`). By motion and by law. Ceiling: true clips. Floor: true
    clips of other captions, right in all but what was asked. Second floors: the first frame held still, and frames in
    random order; the laws, which the first keep, have these as their floor where these break them.
    """
    from selfflow.worlds.tabletop.scene import FPS, FRAMES

    make = require(pipe, "clip", "tabletop-video", "texts, frames, fps")
    cases = examples("clip", pipe.config.picture.size, options)
    texts, true = [case.text for case in cases], [np.asarray(case.clip) for case in cases]
    made = in_batches(lambda rows, **sampling: make(rows, FRAMES, FPS, **sampling), (texts,), options)

    def scores(clips: Sequence[Any]) -> list[Any]:
        return [score_film(np.asarray(clip), text) for clip, text in zip(clips, texts, strict=True)]

    found, (floor, still, jumbled) = scores(made), _floors(true, texts, options.seed)
    figures = figures_of(found, scores(true), floor, motions_of(cases), options, CLIP_CHECKS)
    figures["floor: first frame, still"] = baseline(still, options, "nothing moves")
    figures["floor: frames shuffled"] = baseline(jumbled, options, "every frame flawless")
    if callable(getattr(pipe, "clip_loss", None)):
        figures |= surprise(pipe.clip_loss, pipe.config.picture.size, options)  # type: ignore[attr-defined]

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [(strip(true[i]), texts[i]), (strip(made[i]), "")]

    return report(figures, found, texts, panels, options)


def score_film(clip: np.ndarray, text: str) -> Score:
    """The worse of how well a clip keeps the laws of solid things, and shows what its caption tells.

    That is: the things it names, and what happens to them; both from pixels alone. A clip in which nothing is seen
    breaks no law, and keeps none either.
    """
    from selfflow.worlds.tabletop.check_clip import score_track
    from selfflow.worlds.tabletop.check_story import tell
    from selfflow.worlds.tabletop.language import parse
    from selfflow.worlds.tabletop.read import read_scene
    from selfflow.worlds.tabletop.scene import FPS
    from selfflow.worlds.tabletop.track import read_clip
    from selfflow.worlds.tabletop.verdict import Score

    track = read_clip(clip, FPS)
    moved, told = score_track(track), tell(track, read_scene(clip[0]), read_scene(clip[-1]), parse(text))
    kept, laws = moved.value, dict[str, object](moved.facts)
    if not len(track.colours):
        kept, laws = 0.0, dict.fromkeys(laws, 0.0)
    laws["laws kept"] = kept
    return Score(min(kept, told.value), (*moved.faults, *told.faults), {**told.facts, **laws})


def score_heard(clip: np.ndarray, sound: np.ndarray, text: str) -> Score:
    """The worse of how well a sound fits its clip (`score_av`), and how good the clip is by itself (`score_film`)."""
    from selfflow.worlds.tabletop.check_sound import score_av
    from selfflow.worlds.tabletop.scene import FPS, SOUND_HZ
    from selfflow.worlds.tabletop.verdict import Score

    fit = score_av(np.asarray(clip), FPS, np.asarray(sound), SOUND_HZ)
    moved = score_film(np.asarray(clip), text)
    facts = {"sound fits clip": fit.value, **fit.facts, **moved.facts}
    return Score(min(fit.value, moved.value), (*fit.faults, *moved.faults), facts)


def surprise(loss: Callable[..., Sequence[float]], size: int, options: Options) -> dict[str, Figure]:
    """Of pairs of a possible and an impossible clip, alike at first: how often is the possible one's loss lower?"""
    from selfflow.worlds.tabletop.pairs import PAIR_KINDS, matched_pair
    from selfflow.worlds.tabletop.render import render_clip

    figures = {}
    pairs = min(options.samples, options.pairs)
    for kind in PAIR_KINDS:
        losses = []
        for i in range(pairs):
            pair = matched_pair(seed_of("tabletop", "surprise", kind, options.seed, i), kind)
            clips = np.stack([render_clip(motion, size) for motion in (pair.possible, pair.impossible)])
            first, second = loss(clips, ["", ""], options.seed)
            losses.append((first, second))
        figures[f"surprise, {kind}"] = unsurprised(losses, "clip")
    return figures


def sound_suite(pipe: Sounder, options: Options) -> dict[str, Any]:
    """Figures of a model that gives held-out clips their sound: heard when seen, and of the right material.

    Ceiling: the true sounds. Floor: those of other clips. A second floor is silence.
    """
    make = require(pipe, "sound", "tabletop-sound", "clips, fps, texts, rate")
    from selfflow.worlds.tabletop.check_sound import score_sound
    from selfflow.worlds.tabletop.scene import FPS, SOUND_HZ, Motion

    cases = examples("clip", pipe.config.picture.size, options)
    texts, true = [case.text for case in cases], [sound_of(case.sound) for case in cases]
    clips = np.stack([np.asarray(case.clip) for case in cases])
    made = in_batches(lambda c, t, **sampling: make(c, FPS, t, SOUND_HZ, **sampling), (clips, texts), options)

    def scores(sounds: Sequence[np.ndarray]) -> list[Any]:
        motions = [cast(Motion, case.truth) for case in cases]
        return [score_sound(np.asarray(s), SOUND_HZ, motion) for s, motion in zip(sounds, motions, strict=True)]

    found = scores(made)
    figures = figures_of(found, scores(true), scores(shifted(true)), motions_of(cases), options, SOUND_CHECKS)
    figures["floor: silence"] = baseline(scores([np.zeros_like(s) for s in true]), options, "nothing is heard")

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [(heard_strip(clips[i], true[i]), f"true: {texts[i]}"), (heard_strip(clips[i], made[i]), "")]

    return report(figures, found, texts, panels, options)


def av_suite(pipe: Filmer, options: Options) -> dict[str, Any]:
    """Figures of a model that makes clip and sound together: does one fit the other, and both the caption?

    A score is the worse of the two: of sound against the clip it came with (`score_av`), and of the clip by itself and
    against the caption (`score_film`). Ceiling: true clips with their sound. Floor: true clips with another's sound; of
    what is seen alone as in `video_suite`.
    """
    make = require(pipe, "clip_and_sound", "tabletop-av", "texts, frames, fps, rate")
    from selfflow.worlds.tabletop.scene import FPS, FRAMES, SOUND_HZ

    cases = examples("clip", pipe.config.picture.size, options)
    texts = [case.text for case in cases]
    true = [(np.asarray(case.clip), sound_of(case.sound)) for case in cases]
    made = in_batches(
        lambda rows, **sampling: list(zip(*make(rows, FRAMES, FPS, SOUND_HZ, **sampling), strict=True)),
        (texts,), options,
    )  # fmt: skip

    def scores(films: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Any]:
        return [score_heard(*film, text) for film, text in zip(films, texts, strict=True)]

    exchanged = scores([(clip, sound) for (clip, _), (_, sound) in zip(true, shifted(true), strict=True)])
    seen, *_ = _floors([clip for clip, _ in true], texts, options.seed)
    floor = [replace(s, facts={**s.facts, **film.facts}) for s, film in zip(exchanged, seen, strict=True)]
    found = scores(made)
    figures = figures_of(
        found, scores(true), floor, motions_of(cases), options, HEARD_CHECKS
    )  # fmt: skip

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [(heard_strip(*true[i]), f"true: {texts[i]}"), (heard_strip(*made[i]), "")]

    return report(figures, found, texts, panels, options)


def _floors(clips: Sequence[np.ndarray], texts: Sequence[str], seed: int) -> tuple[list[Score], ...]:
    """The three floors of films: true clips of other captions, first frames held still, frames in random order.

    The first keep every law. Of a law that one of the others breaks, its facts stand in their place; of the rest there
    is no floor, for what does not move as things do, does not fall or bounce otherwise than they do either.
    """
    rng = np.random.default_rng(seed)
    films = (
        shifted(clips),
        [np.repeat(c[:1], len(c), axis=0) for c in clips],
        [c[rng.permutation(len(c))] for c in clips],
    )
    others, still, jumbled = ([score_film(c, text) for c, text in zip(film, texts, strict=True)] for film in films)
    found = []
    for other, stands, jumps in zip(others, still, jumbled, strict=True):
        broken = {"laws kept": stands, "support": stands, "continuity": jumps}
        laws = {law: broken[law].facts[law] if law in broken else None for law in LAWS}
        found.append(replace(other, facts={**other.facts, **laws}))
    return found, still, jumbled


def motions_of(cases: Sequence[Any]) -> list[tuple[str]]:
    """The category of each case: what happens in it."""
    return [(case.truth.name,) for case in cases]


def strip(clip: np.ndarray) -> np.ndarray:
    """A few frames of a clip side by side."""
    clip = np.asarray(clip)
    return np.concatenate(list(clip[np.linspace(0, len(clip) - 1, STRIP).round().astype(int)]), axis=1)


def heard_strip(clip: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """The strip of a clip over the loudness of its sound in time."""
    above = strip(clip)
    columns, rows = above.shape[1], above.shape[0] // 2
    blocks = np.array_split(np.abs(np.asarray(sound, np.float64)), columns)
    loud = np.array([block.max(initial=0.0) for block in blocks]).clip(0, 1) ** 0.5
    drawn = np.abs(np.linspace(1, -1, rows))[:, None] <= loud
    below = np.where(drawn[..., None], (40, 70, 160), (250, 250, 250)).astype(np.uint8)
    return np.concatenate([above, below])


def sound_of(sound: np.ndarray | None) -> np.ndarray:
    assert sound is not None
    return sound
