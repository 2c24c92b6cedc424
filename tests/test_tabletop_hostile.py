"""Tabletop under hostile use: whatever is wrong with what a public function is given, it says so in one clear error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pymunk")

from selfflow.worlds.tabletop import robot
from selfflow.worlds.tabletop.check import physics_faults, read_scene, score_edit, score_reference, score_text
from selfflow.worlds.tabletop.check_clip import score_clip
from selfflow.worlds.tabletop.check_sound import moments_seen, read_sound, score_av, score_sound
from selfflow.worlds.tabletop.check_story import score_story
from selfflow.worlds.tabletop.corrupt import blurred, corrupt, corrupt_picture, noisy
from selfflow.worlds.tabletop.corrupt_motion import corrupt_motion, corrupt_sound
from selfflow.worlds.tabletop.corrupt_story import corrupt_story
from selfflow.worlds.tabletop.draw import draw
from selfflow.worlds.tabletop.edits import differing
from selfflow.worlds.tabletop.export.video import wav_bytes
from selfflow.worlds.tabletop.language import caption, parse
from selfflow.worlds.tabletop.look import looks
from selfflow.worlds.tabletop.motion import draw_motion
from selfflow.worlds.tabletop.pairs import matched_pair, matched_stills
from selfflow.worlds.tabletop.physics import World, settle, simulate
from selfflow.worlds.tabletop.render import render, render_clip, silhouette, word_mask
from selfflow.worlds.tabletop.robot.goals import draw_start, parse_goal
from selfflow.worlds.tabletop.scene import Motion, Scene, Thing, generator
from selfflow.worlds.tabletop.sound import response, synthesise
from selfflow.worlds.tabletop.tasks import TASKS, draw_edit, draw_reference, example, parse_instruction
from selfflow.worlds.tabletop.track import read_clip

PICTURE, CLIP = np.zeros((64, 64, 3), np.uint8), np.zeros((8, 64, 64, 3), np.uint8)
SOUND = np.zeros(800, np.float32)
BALL = Thing("ball", "red")
SCENE = Scene((BALL, Thing("box", "blue", x=0.2, y=0.25)))
MOTION = Motion("drop", (SCENE,) * 16)
ROLLS = "a red ball rolls to the left"

PICTURES = {
    "NaN": np.full((64, 64, 3), np.nan),
    "grey": PICTURE[..., 0],
    "wide": PICTURE[:, :32],
    "float": PICTURE / 255,
    "of no pixels": PICTURE[:0],
    "text": "picture",
    "None": None,
}
CLIPS = {
    "NaN": np.full((8, 64, 64, 3), np.nan),
    "a picture": PICTURE,
    "of no frames": CLIP[:0],
    "wide": CLIP[:, :, :32],
    "a list": [PICTURE],
    "None": None,
}
SOUNDS = {
    "empty": SOUND[:0],
    "stereo": np.zeros((800, 2), np.float32),
    "NaN": np.full(800, np.nan, np.float32),
    "too loud": np.full(800, 3.0, np.float32),
    "whole numbers": np.zeros(800, np.int16),
    "None": None,
}
OF_PICTURES: dict[str, Callable[[Any], object]] = {
    "read_scene": read_scene,
    "looks": looks,
    "physics_faults": physics_faults,
    "score_text": lambda p: score_text(p, "a red ball"),
    "score_edit, before": lambda p: score_edit(p, PICTURE, "remove the red ball"),
    "score_edit, after": lambda p: score_edit(PICTURE, p, "remove the red ball"),
    "score_reference, references": lambda p: score_reference([p], PICTURE, "the ball from picture 1"),
    "score_reference, picture": lambda p: score_reference([PICTURE], p, "the ball from picture 1"),
    "differing": lambda p: differing(p, PICTURE),
    "noisy": lambda p: noisy(p, 0),
    "blurred": blurred,
}
OF_CLIPS: dict[str, Callable[[Any], object]] = {
    "score_clip": score_clip,
    "score_story": lambda c: score_story(c, ROLLS),
    "read_clip": lambda c: read_clip(c, 20),
    "moments_seen": moments_seen,
    "score_av": lambda c: score_av(c, 20, SOUND),
    "score_sound": lambda c: score_sound(SOUND, 16_000, c),
}
OF_SOUNDS: dict[str, Callable[[Any], object]] = {
    "read_sound": read_sound,
    "score_sound": lambda s: score_sound(s, 16_000, MOTION),
    "score_av": lambda s: score_av(CLIP, 20, s),
    "wav_bytes": wav_bytes,
}
OF_RATES: dict[str, Callable[[Any], object]] = {
    "synthesise": lambda r: synthesise(MOTION, r),
    "response": lambda r: response("wood", 0.1, r),
    "read_sound": lambda r: read_sound(SOUND, r),
    "wav_bytes": lambda r: wav_bytes(SOUND, r),
}
OF_FPS: dict[str, Callable[[Any], object]] = {
    "score_clip": lambda f: score_clip(CLIP, f),
    "score_story": lambda f: score_story(CLIP, ROLLS, f),
    "score_av": lambda f: score_av(CLIP, f, SOUND),
    "simulate": lambda f: simulate(SCENE, 2, f),
}
OF_SIZES: dict[str, Callable[[Any], object]] = {
    "render": lambda s: render(SCENE, s),
    "render_clip": lambda s: render_clip(MOTION, s),
    "silhouette": lambda s: silhouette(BALL, s),
    "example": lambda s: example("still", 0, s),
    "corrupt_picture": lambda s: corrupt_picture(SCENE, "wrong colour", 0, s),
    "TabletopEnv": lambda s: robot.TabletopEnv("stack", s),
}
OF_SEEDS: dict[str, Callable[[Any], object]] = {
    "draw": draw,
    "draw_motion": draw_motion,
    "draw_edit": draw_edit,
    "draw_reference": draw_reference,
    "draw_start": lambda s: draw_start("stack", s),
    "rollout": lambda s: robot.rollout("stack", s),
    "matched_pair": lambda s: matched_pair(s, "solidity"),
    "matched_stills": lambda s: matched_stills(s, "solidity"),
    "corrupt": lambda s: corrupt(SCENE, "wrong colour", s),
    "corrupt_motion": lambda s: corrupt_motion(MOTION, "vanish", s),
    "corrupt_story": lambda s: corrupt_story(MOTION, "nothing", s),
    "noisy": lambda s: noisy(PICTURE, s),
    **{f"example of {task}": lambda s, task=task: example(task, s) for task in TASKS},  # type: ignore[misc]
}


def cases() -> Iterator[tuple[str, Callable[[Any], object], Any, str]]:
    """Name, function, what it is given, and a word of the error that is due."""
    for calls, values, words in (
        (OF_PICTURES, PICTURES, "picture"),
        (OF_CLIPS, CLIPS, "clip|picture"),
        (OF_SOUNDS, SOUNDS, "sound"),
        (OF_RATES, {str(v): v for v in (0, -1, 1.5, 10**9, "x", None, True)}, "rate"),
        (OF_FPS, {str(v): v for v in (0, -5, float("nan"), float("inf"), "x", None)}, "frames a second"),
        (OF_SIZES, {str(v): v for v in (0, -64, 15, 10**7, 64.5, "big", None, True)}, "size"),
        (OF_SEEDS, {str(v): v for v in (-1, 1.5, "x", None)}, "seed"),
    ):
        for name, call in calls.items():
            for kind, value in values.items():  # type: ignore[attr-defined]
                yield f"{name}: {kind}", call, value, words


CASES = list(cases())


@pytest.mark.parametrize(("call", "value", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_what_a_function_cannot_take_it_refuses_in_one_error(call, value, words) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        call(value)
    assert len(str(refused.value)) < 300


def acted(action: Any) -> object:
    env = robot.TabletopEnv("stack")
    env.reset(seed=0)
    return env.step(action)


WORDS: dict[str, tuple[Callable[[], object], str]] = {
    "unknown thing": (lambda: parse("a red dragon"), "dragon"),
    "unknown verb": (lambda: parse("a red ball sings"), "sings"),
    "no words": (lambda: parse(""), "cannot read|empty|end"),
    "no text": (lambda: parse(None), "NoneType"),  # type: ignore[arg-type]
    "too many things": (lambda: parse("a red ball and " * 500 + "a red ball"), "things"),
    "unknown instruction": (lambda: parse_instruction("explode the red ball"), "explode"),
    "no instruction": (lambda: parse_instruction(None), "NoneType"),  # type: ignore[arg-type]
    "unknown goal": (lambda: parse_goal("fly away", SCENE.things), "fly"),
    "score of an unknown thing": (lambda: score_text(PICTURE, "a red dragon"), "dragon"),
    "story of an unknown thing": (lambda: score_story(CLIP, "a red dragon rolls"), "dragon"),
    "edit in unknown words": (lambda: score_edit(PICTURE, PICTURE, "explode"), "explode"),
    "no references": (lambda: score_reference([], PICTURE, "the ball from picture 1"), "picture 1"),
    "pictures of two sizes": (lambda: score_edit(PICTURE, PICTURE[:32, :32], "remove the red ball"), "32"),
    "caption of nothing": (lambda: caption(Scene(()), generator(0)), "empty"),
    "task": (lambda: example("dance", 0), "dance"),
    "split": (lambda: example("still", 0, split="all"), "all"),
    "frames": (lambda: draw_motion(0, frames=0), "frames"),
    "half a frame": (lambda: draw_motion(0, frames=1.5), "frames"),  # type: ignore[arg-type]
    "motion": (lambda: draw_motion(0, "fly"), "fly"),
    "kind to draw": (lambda: draw(0, kinds=["dragon"]), "dragon"),
    "nothing to draw": (lambda: draw(0, count=0), "0"),
    "pair": (lambda: matched_pair(0, "magic"), "magic"),
    "stills": (lambda: matched_stills(0, "magic"), "magic"),
    "edit": (lambda: draw_edit(0, "melt"), "melt"),
    "fault of a scene": (lambda: corrupt(SCENE, "melt", 0), "melt"),
    "fault of a motion": (lambda: corrupt_motion(MOTION, "melt"), "melt"),
    "fault of a sound": (lambda: corrupt_sound(MOTION, "melt"), "melt"),
    "fault of a story": (lambda: corrupt_story(MOTION, "melt"), "melt"),
    "kind": (lambda: Thing("dragon", "red"), "dragon"),
    "colour": (lambda: Thing("ball", "beige"), "beige"),
    "place": (lambda: Thing("ball", "red", x=float("nan")), "nan"),
    "word": (lambda: Thing("sign", "red", word="hello!"), "hello!"),
    "fingers": (lambda: Thing("hand", "red", fingers=9), "9"),
    "material": (lambda: response("cheese", 0.1), "cheese"),
    "size of a body": (lambda: response("wood", 0.0), "positive size"),
    "letters": (lambda: word_mask("hi!", 8), "hi!|letters"),
    "height of letters": (lambda: word_mask("HI", float("nan")), "nan"),
    "no frames to simulate": (lambda: simulate(SCENE, 0), "frames"),
    "time backwards": (lambda: settle(SCENE, -1), "-1"),
    "no time": (lambda: World(SCENE).step(float("nan")), "nan"),
    "robot task": (lambda: robot.TabletopEnv("juggle"), "juggle"),
    "action of two": (lambda: acted(np.zeros(2)), "3 finite numbers"),
    "action of NaN": (lambda: acted(np.full(3, np.nan)), "3 finite numbers"),
    "action in words": (lambda: acted("left"), "3 finite numbers"),
}


@pytest.mark.parametrize(("call", "words"), WORDS.values(), ids=WORDS)
def test_what_is_not_known_is_named(call, words) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    from selfflow.worlds.tabletop.export.video import read_wav

    with pytest.raises(FileNotFoundError, match=r"nothing\.wav"):
        read_wav(tmp_path / "nothing.wav")
