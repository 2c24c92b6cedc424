"""Tabletop's tasks as samples: stills, edits, compositions of references, clips with sound, and a robot at work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

import selfflow.worlds.tabletop as world
from selfflow.data.indexed import Indexed, check_frames
from selfflow.data.licences import GENERATED
from selfflow.data.packing import Store
from selfflow.data.sample import Sample
from selfflow.worlds.tabletop.render import check_size
from selfflow.worlds.tabletop.scene import CONTROL_HZ, FPS, FRAMES, KINDS, MAX_THINGS, SOUND_HZ, check_known
from selfflow.worlds.tabletop.tasks import EDIT_KINDS, ROBOT_TASKS, TASKS, Example, example
from selfflow.worlds.tabletop.verdict import Score

_APART = 10**9  # examples of one seed; those of the next follow
_LOUDEST = 32767


class TabletopTask(Indexed):
    """`count` samples of a task of `selfflow.worlds.tabletop.tasks`.

        task        text                    a sample holds
        still       caption                 picture
        edit        instruction             references (before), picture, mask
        reference   how things stand        references (1 to 6, or as many as `counts` says), picture
        clip        what happens, sounds    clip, sound; where a gripper pushes also actions and states
        robot       instruction             clip, actions, states: a window of an episode of the expert

    Actions and states are float32 (k, 3): x, y and opening of the gripper, target and actual, in metres, 10 a second.

    A robot window has `frames` frames, actions and states, frame j being what is seen when action j is chosen. The
    `windows` windows of an episode begin anywhere in it, one in each equal part. Beyond its end the last frame and
    state are repeated, and the action asks the gripper to stay where it is.

    What was drawn is kept packed in a store, sound at 16 bits. `meta` holds `task`, `seed` (of `example`) and `truth`,
    which is drawn anew when asked for; a robot sample's also `start`, the window's first frame, and `steps`, the number
    of actions in the episode.

    Args:
        task: of `TASKS`.
        count: samples.
        size: pixels, 16 to 512.
        split: `"train"` or `"test"`.
        seed: 0 or more; samples of different seeds differ.
        frames: of a clip or window.
        stride: of a clip, show every so many-th frame: `FPS / stride` a second, for so much longer.
        sound: whether a clip has its sound.
        windows: of one robot episode: the more, the fewer episodes have to be played.
        counts: of references, 1 to 10, in turn; by default drawn by the world, 6 at most. A batch of many costs as much
            as its largest sample, so those of more are better a source of their own. Of stills, of things.
        mistaken: of a robot, by how much, m, what came before an episode went wrong (`robot.rollout`).
        name: of the source, and of its samples; `tabletop-` and the task by default.
        memory: bytes of the store.
        alike, spare: of references, whether two at least show things of one kind, whether some are not meant
            (`compose.draw_reference`).
        kinds: of the things of a still, or of edits; all where empty.
        tones: of stills, edits and references, whether things have more colours than eight (`worlds.tabletop.tones`).
        directory: where the store keeps files for later runs; none by default.

    Raises:
        ValueError: for an unknown task or split, a size or a count out of range, a stride of anything but a clip,
            counts of what is not counted, things alike or spare that are no references, kinds that are unknown or of
            anything but stills and edits, tones of what moves, a mistake of anything but a robot.
        ImportError: when a robot or a clip is asked for without the extra `world`.
    """

    licence, attribution, share_alike = GENERATED

    def __init__(
        self,
        task: str,
        count: int = 20_000,
        size: int = 64,
        split: str = "train",
        seed: int = 0,
        frames: int = FRAMES,
        stride: int = 1,
        sound: bool = True,
        windows: int = 8,
        memory: int = 512 << 20,
        directory: Path | None = None,
        counts: Sequence[int] = (),
        mistaken: float = 0.0,
        name: str = "",
        alike: bool = False,
        spare: bool = False,
        kinds: Sequence[str] = (),
        tones: bool = False,
    ) -> None:
        check_known("task", task, TASKS)
        super().__init__(name or f"tabletop-{task}", count, size, split, seed)
        check_size(size)
        check_frames(frames)
        if count > _APART:
            raise ValueError(f"count {count} is more than {_APART}; choose fewer samples, or another seed for more")
        if stride < 1 or (stride > 1 and task != "clip"):
            raise ValueError(f"stride {stride} of task {task}; a clip may have 1 or more, the others have 1")
        if windows < 1:
            raise ValueError(f"{windows} windows of an episode; choose 1 or more")
        if counts and task not in ("reference", "still"):
            raise ValueError(f"counts {tuple(counts)} of task {task}; references and things of a still are counted")
        if wrong := [n for n in counts if not 1 <= n <= MAX_THINGS]:
            raise ValueError(f"a count of {wrong[0]} in a sample; choose 1 to {MAX_THINGS}")
        if mistaken and task != "robot":
            raise ValueError(f"mistaken by {mistaken} m in task {task}; only a robot can be")
        if (alike or spare) and (task != "reference" or 1 in counts):
            what = f"things that are {'alike' if alike else 'spare'}, {tuple(counts)} of them, of task {task}"
            raise ValueError(f"{what}; 2 or more references can be")
        if kinds and task not in ("still", "edit"):
            raise ValueError(f"kinds {tuple(kinds)} of task {task}; only a still's and edits' can be chosen")
        if tones and task not in ("still", "edit", "reference"):
            raise ValueError(f"tones of task {task}; only stills, edits and references can have any")
        for kind in kinds:
            check_known("kind", kind, KINDS if task == "still" else EDIT_KINDS)
        self.mistaken, self.alike, self.spare, self.kinds = mistaken, alike, spare, tuple(kinds)
        self.tones = tones
        self.task, self.frames, self.stride, self.sound = task, frames, stride, sound and task == "clip"
        self.counts = tuple(counts)
        self.windows = windows if task == "robot" else 1
        self.told = 300 if task == "clip" else 3000
        shape = f"{task}-{size}" + (f"-{frames * stride}-{int(self.sound)}" if task == "clip" else "")
        shape += "".join(f"-{n}" for n in self.counts)
        shape += "-alike" * alike + "-spare" * spare + "".join(f"-{kind}" for kind in self.kinds)
        shape += f"-mistaken-{mistaken}" * bool(mistaken) + "-tones" * tones
        self._shape = f"{shape}-{split}"
        self.store = opened(memory, directory)

    def number(self, index: int) -> int:
        """The seed of `example` that a sample is of."""
        return self.seed * _APART + self.checked(index) // self.windows

    def sample(self, index: int) -> Sample:
        number = self.number(index)
        one = partial(
            example, self.task, number, self.size, self.split, frames=self.frames * self.stride, sound=self.sound,
            count=self.counts[number % len(self.counts)] if self.counts else None,
            alike=self.alike, spare=self.spare, kinds=self.kinds, tones=self.tones, mistaken=self.mistaken,
        )  # fmt: skip
        found = self.store.get(f"{self._shape}-{number}", lambda: _arrays(one()))
        text = str(found.pop("text"))
        about = {"task": self.task, "seed": number}
        if self.task == "robot":
            return self._window(index, found, text, about, one)
        references = tuple(found["references"]) if "references" in found else ()
        clip, heard, actions, states = (found.get(name) for name in ("clip", "sound", "actions", "states"))
        return Sample(
            id=self.id(index),
            picture=found.get("picture"),
            text=text,
            meta=_About(about, one),
            references=references,
            mask=found.get("mask"),
            clip=None if clip is None else clip[:: self.stride],
            fps=0.0 if clip is None else FPS / self.stride,
            sound=None if heard is None else heard.astype(np.float32) / _LOUDEST,
            sound_rate=0 if heard is None else SOUND_HZ,
            actions=actions,
            states=states,
            control_hz=0.0 if actions is None else CONTROL_HZ,
            body="" if actions is None else "tabletop",
        )

    def _window(
        self, index: int, found: Mapping[str, np.ndarray], text: str, about: dict[str, Any], one: Callable[[], Example]
    ) -> Sample:
        clip, actions, states = found["clip"], found["actions"], found["states"]  # of which actions has one row less
        steps = len(actions)
        start = int((index % self.windows + self.rng(index).random()) / self.windows * steps)
        rows = np.minimum(np.arange(start, start + self.frames), steps)
        return Sample(
            id=self.id(index),
            picture=None,
            text=text,
            meta=_About(about | {"start": start, "steps": steps}, one),
            clip=clip[rows],
            fps=CONTROL_HZ,
            actions=np.concatenate([actions, states[-1:]])[rows],
            states=states[rows],
            control_hz=CONTROL_HZ,
            body="tabletop",
        )

    @property
    def judges(self) -> bool:
        """Whether `judge` reads these samples: pictures, and of those in tones the ones whose words tell them all."""
        return self.task == "still" or (self.task in ("edit", "reference") and not self.tones)

    def judge(self, asked: Sample, picture: np.ndarray) -> Score:
        """How well a picture uint8 `(size, size, 3)` is what a sample asks for, where it `judges`.

        Raises:
            ValueError: of a clip or a robot, and of edits and references in tones.
        """
        from selfflow.worlds.tabletop.check import score_edit, score_reference, score_text

        if self.tones and not self.judges:
            raise ValueError(f"{self.name} shows colours that its words do not tell; no {self.task} in tones is judged")
        if self.task == "still":
            return score_text(picture, asked.text)
        if self.task == "edit":
            return score_edit(asked.references[0], picture, asked.text)
        if self.task == "reference":
            return score_reference(asked.references, picture, asked.text)
        raise ValueError(f"{self.name} gives no pictures; a {self.task} is judged by its own checker")

    def captions(self) -> Iterator[str]:
        """Texts to learn a vocabulary from: of clips those of some hundred, as each has to be simulated."""
        if self.task != "robot":
            yield from super().captions()
            return
        from selfflow.worlds.tabletop.robot import draw_start

        for index in range(0, min(self.length, self.told * self.windows), self.windows):  # no need to play the episode
            number = self.number(index)
            yield draw_start(ROBOT_TASKS[number % len(ROBOT_TASKS)], number, self.split).instruction


def _arrays(one: Example) -> dict[str, np.ndarray]:
    """An example as arrays to keep. A robot's states get the last frame's, which no action follows."""
    arrays = {"text": np.array(one.text)}
    given = {"picture": one.picture, "mask": one.mask, "clip": one.clip}
    arrays |= {name: array for name, array in given.items() if array is not None}
    if one.before is not None:
        arrays["references"] = one.before[None]
    if one.references:
        arrays["references"] = np.stack(one.references)
    if one.sound is not None:
        arrays["sound"] = np.rint(one.sound * _LOUDEST).astype(np.int16)
    if one.actions is not None and one.states is not None:
        states = one.states
        if one.task == "robot":
            end = one.truth.motion.frames[-1].gripper  # type: ignore[attr-defined]
            states = np.concatenate([states, [(end.x, end.y, end.opening)]])
        arrays |= {"actions": one.actions.astype(np.float32), "states": states.astype(np.float32)}
    return arrays


class _About(Mapping[str, Any]):
    """What is known of a sample; `truth` is drawn when it is asked for, since scenes take more memory than pixels."""

    def __init__(self, known: dict[str, Any], make: Callable[[], Example]) -> None:
        self._known, self._make = known, make

    def __getitem__(self, key: str) -> Any:
        return self._make().truth if key == "truth" else self._known[key]

    def __iter__(self) -> Iterator[str]:
        return iter((*self._known, "truth"))

    def __len__(self) -> int:
        return len(self._known) + 1


def opened(memory: int, directory: Path | None) -> Store:
    """What is drawn of this world, in so many bytes; kept in the directory, if any, apart from other editions'."""
    return Store(memory, None if directory is None else Path(directory) / _edition())


@cache
def _edition() -> str:
    """A name for this world as it is: kept files of another are not read."""
    digest = hashlib.sha256()
    root = Path(world.__file__).parent
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return f"tabletop-{digest.hexdigest()[:12]}"
