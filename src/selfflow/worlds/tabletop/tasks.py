"""Everything this world can be asked for, as one sample type.

    task        text                       given                   wanted
    still       caption                                            picture
    edit        instruction                before                  picture (and mask: where it differs from before)
    reference   how things stand together  references              picture
    clip        what happens, how it sounds                        clip, sound
    robot       instruction                states                  clip, actions

    case = example("edit", seed=3)
    case.text, case.before, case.picture, case.mask

A training example shows nothing, and says nothing, that `split` holds out (of a clip in its first and last frame; of
the robot see `robot.draw_start`). A test example shows something that is; what it says need not speak of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from .compose import Reference, draw_reference
from .draw import draw
from .edits import EDIT_KINDS, Edit, changed, differing, draw_edit
from .instruct import Instruction, parse_instruction
from .language import caption, caption_motion
from .scene import CONTROL_HZ, FPS, FRAMES, SOUND_HZ, Motion, Scene, check_known, check_seed, generator
from .spelling import edit_spelled_anew, spelled_anew
from .split import SPLITS, held_out, split
from .tones import edit_toned, reference_toned, toned

__all__ = [
    "EDIT_KINDS",
    "ROBOT_TASKS",
    "TASKS",
    "Edit",
    "Example",
    "Instruction",
    "Reference",
    "changed",
    "draw_edit",
    "draw_reference",
    "example",
    "parse_instruction",
]

TASKS = ("still", "edit", "reference", "clip", "robot")
ROBOT_TASKS = ("pick-place", "stack", "put-in", "push-to")  # taken in turn; `robot.TASKS`, without importing it
_TRIES = 100_000
T = TypeVar("T")
_RETRY = 1_000_003  # the seed of an episode that the expert did not manage is followed by the one so far away


@dataclass(frozen=True, eq=False)
class Example:
    """One sample. What a task does not have is None.

    Attributes:
        task: of `TASKS`.
        seed: it was drawn from.
        text: caption or instruction.
        picture: uint8 (size, size, 3).
        before: the picture an edit begins with, as `picture`.
        mask: bool (size, size), where `picture` differs from `before`, grown by a pixel.
        references: pictures of single things, in the order of their numbers.
        clip: uint8 (frames, size, size, 3) at `fps` frames a second.
        sound: float32 (samples,) in [-1, 1] at `sound_rate` a second, in step with the clip.
        actions, states: float64 (k, 3) at `CONTROL_HZ`: target, and actual, x, y and opening of the gripper, m. Of the
            robot task frame k of the clip is what is seen when action k is chosen; one frame more shows the end.
        truth: what was drawn: the Scene, Edit, Reference, Motion or Rollout.
    """

    task: str
    seed: int
    text: str
    picture: np.ndarray | None = None
    before: np.ndarray | None = None
    mask: np.ndarray | None = None
    references: tuple[np.ndarray, ...] | None = None
    clip: np.ndarray | None = None
    fps: int | None = None
    sound: np.ndarray | None = None
    sound_rate: int | None = None
    actions: np.ndarray | None = None
    states: np.ndarray | None = None
    truth: object = None


def example(
    task: str,
    seed: int,
    size: int = 64,
    split: str = "train",
    *,
    frames: int = FRAMES,
    sound: bool = True,
    count: int | None = None,
    alike: bool = False,
    spare: bool = False,
    kinds: Sequence[str] = (),
    letters: bool = False,
    tones: bool = False,
    mistaken: float = 0.0,
) -> Example:
    """The example of a task, a seed and a split; the same arguments give the same bytes.

    Args:
        task: of `TASKS`.
        seed: 0 or more.
        size: of the pictures, pixels.
        split: `"train"` or `"test"`.
        frames: of a clip.
        sound: whether a clip's sound is synthesised, too.
        count: of references, 1 to 10; drawn from `compose.COUNTS` by default. Of a still, of things, 1 to 10; drawn
            from `draw.FEW` by default.
        alike, spare: of references, see `compose.draw_reference`.
        kinds: of the things of a still, or of edits (`EDIT_KINDS`), in turn; all where empty.
        letters: of stills and edits, whether signs bear any letters, as many as words have (`spelling`).
        tones: of stills, edits and references, whether colours are of all `scene.PAINTS` (`tones`).
        mistaken: of the robot task, see `robot.rollout`: by how much, m, what came before went wrong.

    Raises:
        ValueError: for an unknown task or split, a negative seed, a size that `render` refuses, a count that is out of
            range or of a task in which nothing is counted, kinds, letters or tones of another task, unknown kinds, or a
            mistake out of range or of a task without a robot.
    """
    check_known("task", task, TASKS)
    check_known("split", split, SPLITS)
    check_seed(seed)
    from .render import check_size

    check_size(size)
    if task == "reference":
        return _reference(seed, size, split, count, alike, spare, tones)
    if alike or spare:
        what = "things that are alike" if alike else "spare pictures"
        raise ValueError(f"{what} were asked for of the task {task}; only references can be")
    if task == "still":
        return _still(seed, size, split, count, kinds, letters, tones)
    if kinds and task != "edit":
        raise ValueError(
            f"kinds {', '.join(kinds)} were asked for of the task {task}; only a still's and edits' can be chosen"
        )
    if letters and task != "edit":
        raise ValueError(f"letters were asked for of the task {task}; only a still's and edits' signs can bear any")
    if tones and task != "edit":
        raise ValueError(f"tones were asked for of the task {task}; only stills, edits and references can have any")
    if count is not None:
        raise ValueError(
            f"a count of {count} was asked for of the task {task}; only things of a still and references are counted"
        )
    if task == "robot":
        return _robot(seed, size, split, mistaken)
    if mistaken:
        raise ValueError(f"mistaken by {mistaken} m in the task {task}; only `robot` can be")
    if task == "clip":
        return _clip(seed, size, split, frames, sound)
    return _edit(seed, size, split, tuple(kinds) or EDIT_KINDS, letters, tones)


def _drawn(
    seed: int, task: str, split_name: str, draw_one: Callable[[np.random.Generator], tuple[T, Sequence[Scene]]]
) -> tuple[T, np.random.Generator]:
    """The first thing drawn whose scenes belong to the split, and the generator to go on with.

    Of several scenes all must be of the training split, or the last, the one to be made, of the test split.
    """
    rng = generator(seed, 100 + TASKS.index(task), SPLITS.index(split_name))
    for _ in range(_TRIES):
        found, scenes = draw_one(rng)
        if split_name == "train":
            if all(split(scene) == "train" for scene in scenes):
                return found, rng
        elif split(scenes[-1]) == "test":
            return found, rng
    raise RuntimeError(f"no {task} of split {split_name} came out in {_TRIES} tries")  # pragma: no cover


def _still(
    seed: int, size: int, split_name: str, count: int | None, kinds: Collection[str], letters: bool, tones: bool
) -> Example:
    from .render import render

    def one(rng: np.random.Generator) -> tuple[Scene, list[Scene]]:
        scene = draw(rng, count, kinds or None)
        if letters:
            scene = spelled_anew(rng, scene)
        if tones:
            scene = toned(rng, scene)
        return scene, [scene]

    scene, rng = _drawn(seed, "still", split_name, one)
    return Example("still", seed, caption(scene, rng), picture=render(scene, size), truth=scene)


def _edit(seed: int, size: int, split_name: str, kinds: Sequence[str], letters: bool, tones: bool) -> Example:
    from .render import render

    kind = kinds[seed % len(kinds)]  # in turn, so that the splits have as much of each

    def one(rng: np.random.Generator) -> tuple[Edit, list[Scene]]:
        edit = draw_edit(rng, kind)
        if letters:
            edit = edit_spelled_anew(rng, edit)
        if tones:
            edit = edit_toned(rng, edit)
        return edit, [edit.before, edit.after]

    edit, _ = _drawn(seed, "edit", split_name, one)
    before, after = render(edit.before, size), render(edit.after, size)
    mask = differing(before, after)
    return Example("edit", seed, edit.instruction, picture=after, before=before, mask=mask, truth=edit)


def _reference(
    seed: int, size: int, split_name: str, count: int | None, alike: bool, spare: bool, tones: bool
) -> Example:
    from .render import render

    # Of many things nearly every draw would show something held out: colours are mended first.
    allowed = (lambda colour, kind: not held_out(colour, kind)) if split_name == "train" else None

    def one(rng: np.random.Generator) -> tuple[Reference, list[Scene]]:
        reference = draw_reference(rng, count, allowed, alike, spare)
        if tones:
            reference = reference_toned(rng, reference)
        return reference, [*reference.scenes, reference.target]

    reference, _ = _drawn(seed, "reference", split_name, one)
    pictures = tuple(render(scene, size) for scene in reference.scenes)
    picture = render(reference.target, size)
    return Example("reference", seed, reference.text, picture=picture, references=pictures, truth=reference)


def _clip(seed: int, size: int, split_name: str, frames: int, sound: bool) -> Example:
    from .motion import MOTIONS, draw_motion
    from .render import render_clip
    from .sound import synthesise

    name = MOTIONS[seed % len(MOTIONS)]

    def one(rng: np.random.Generator) -> tuple[Motion, list[Scene]]:
        motion = draw_motion(rng, name, frames)
        return motion, [motion.frames[0], motion.frames[-1]]

    motion, rng = _drawn(seed, "clip", split_name, one)
    text = caption_motion(motion, rng)
    heard = synthesise(motion, SOUND_HZ) if sound else None
    rate = SOUND_HZ if sound else None
    given = len(motion.actions) > 0
    return Example(
        "clip",
        seed,
        text,
        clip=render_clip(motion, size),
        fps=FPS,
        sound=heard,
        sound_rate=rate,
        actions=motion.actions if given else None,
        states=motion.states if given else None,
        truth=motion,
    )


def _robot(seed: int, size: int, split_name: str, mistaken: float) -> Example:
    from .render import render
    from .robot import rollout

    task = ROBOT_TASKS[seed % len(ROBOT_TASKS)]
    number = seed
    while not (played := rollout(task, number, split=split_name, mistaken=mistaken)).success:
        number += _RETRY
    motion = played.motion
    clip = np.stack([render(scene, size) for scene in motion.frames[:: FPS // CONTROL_HZ]])
    return Example(
        "robot",
        seed,
        played.instruction,
        clip=clip,
        fps=CONTROL_HZ,
        actions=motion.actions,
        states=motion.states,
        truth=played,
    )
