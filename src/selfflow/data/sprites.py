"""Sprite characters as clips, edits, other views of one character, and a game that is played."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from selfflow.data.indexed import Indexed, check_frames, squares
from selfflow.data.licences import PACKS
from selfflow.data.lpc import ANIMATIONS, DIRECTIONS, TO, VERB, Character, characters
from selfflow.data.packs import square
from selfflow.data.sample import Sample
from selfflow.worlds.tabletop.edits import differing
from selfflow.worlds.tabletop.scene import check_known, pick

TASKS = ("clip", "edit", "view", "play")
FPS = 8
ACTIONS = ("idle", *DIRECTIONS)
WALK_CYCLE = 8  # frames 1 to 8; frame 0 of a walk stands
_SEEN = 6  # pixels that an edit has to change: what a hat hides, or the back of a head, cannot be recoloured


class Sprites(Indexed):
    """`count` samples of one task, of characters of the split (combinations of sex, skin, hair style and garment).

        task   text                                               a sample holds
        clip   "a tanned man with …, walking, facing left"        clip
        edit   "change the top to a red corset"                   references (before), picture, mask
        view   "the same character walking, facing left"          references (one, from another side), picture
        play   "a tanned man with …, walking about"               clip, actions

    Clips have `FPS` frames a second. A clip repeats its animation, begun anywhere in a walk; a longer one than the clip
    is thinned to fit, and who has fallen stays down. Actions are float32 (frames, 5), one-hot of `ACTIONS`: frame j + 1
    is what action j makes of frame j. Idle stands; a direction pressed turns and walks on the spot.

    `meta`: `sex` and `parts` (slot → item of the pack); of clips and views `animation` and `direction`; of a view also
    `seen`, the direction of the reference; of an edit `slot`, what was changed; of a play `directions` and `phases` of
    its frames.

    Args:
        task: of `TASKS`.
        frames: of a clip.
        seed: 0 or more; samples of different seeds differ.

    Raises:
        PackMissing: when the pack is not here.
        ValueError: for an unknown task or split, or a count, size or number of frames out of range.
    """

    licence, attribution, share_alike = PACKS["lpc64"]
    told = 3000

    def __init__(
        self,
        task: str = "clip",
        count: int = 20_000,
        size: int = 64,
        split: str = "train",
        seed: int = 0,
        frames: int = 16,
        directory: Path | None = None,
    ) -> None:
        check_known("task", task, TASKS)
        check_frames(frames)
        super().__init__(f"sprites-{task}", count, size, split, seed)
        self.task, self.frames = task, frames
        self.pack = characters(directory)

    def sample(self, index: int) -> Sample:
        make = {"clip": self._clip, "edit": self._edit, "view": self._view, "play": self._play}[self.task]
        return make(index, self.rng(index))

    # -------------------------------------------------------------------------------------------------------- clips

    def _told(self, rng: np.random.Generator) -> tuple[Character, str, str, str]:
        animation = pick(rng, ANIMATIONS)
        direction = "down" if animation == "hurt" else pick(rng, DIRECTIONS)
        character = self.pack.draw(rng, self.split, animation)
        turned = self.split == "train" and rng.random() < 0.3
        return character, animation, direction, self.pack.caption(character, animation, direction, turned)

    def _clip(self, index: int, rng: np.random.Generator) -> Sample:
        character, animation, direction, text = self._told(rng)
        which = self._times(animation, direction, rng)
        wanted, places = np.unique(which, return_inverse=True)
        clip = squares(self.pack.frames(character, animation, direction, wanted.tolist()), self.size)[places]
        about = _about(character) | {"animation": animation, "direction": direction}
        return Sample(self.id(index), None, text, about, clip=clip, fps=FPS)

    def _times(self, animation: str, direction: str, rng: np.random.Generator) -> list[int]:
        """Which frame of the animation is shown when."""
        if animation == "walk":
            first = int(rng.random() * WALK_CYCLE)
            return [1 + (first + j) % WALK_CYCLE for j in range(self.frames)]
        length = self.pack.clips[animation, direction][2]
        if length > self.frames:
            return [round(j * (length - 1) / max(1, self.frames - 1)) for j in range(self.frames)]
        return [min(j, length - 1) if animation == "hurt" else j % length for j in range(self.frames)]

    # ----------------------------------------------------------------------------------------------- edits and views

    def _edit(self, index: int, rng: np.random.Generator) -> Sample:
        while True:
            character = self.pack.draw(rng, self.split)
            direction, frame = pick(rng, DIRECTIONS), _pose(rng)
            before = self.pack.frames(character, "walk", direction, [frame])[0]
            for _ in range(4):
                found = self.pack.edit(rng, character)
                if found is None:
                    continue
                edited, text = found
                if self.pack.split_of(edited) != self.split or not self.pack.drawn(edited, "walk"):
                    continue
                after = self.pack.frames(edited, "walk", direction, [frame])[0]
                if (before != after).any(axis=2).sum() >= _SEEN:
                    slot = next(s for s in _SLOTS if character.parts.get(s) != edited.parts.get(s))
                    before, after = square(before, self.size), square(after, self.size)
                    return Sample(
                        self.id(index), after, text, _about(edited) | {"slot": slot, "direction": direction},
                        references=(before,), mask=differing(before, after),
                    )  # fmt: skip

    def _view(self, index: int, rng: np.random.Generator) -> Sample:
        character, animation, direction, text = self._viewed(rng)
        seen = pick(rng, [d for d in DIRECTIONS if d != direction])
        reference = self.pack.frames(character, "walk", seen, [0 if rng.random() < 0.7 else _pose(rng)])[0]
        sheet = "walk" if animation == "stand" else animation
        frame = 0 if animation == "stand" else 1 + int(rng.random() * (self.pack.clips[sheet, direction][2] - 1))
        picture = self.pack.frames(character, sheet, direction, [frame])[0]
        about = _about(character) | {"animation": animation, "direction": direction, "seen": seen}
        references = (square(reference, self.size),)
        return Sample(self.id(index), square(picture, self.size), text, about, references=references)

    def _viewed(self, rng: np.random.Generator) -> tuple[Character, str, str, str]:
        """Standing or walking for the most part: what is held in the hand for other things, no walk shows."""
        animation = pick(rng, ("stand", "stand", "stand", "walk", "walk", *ANIMATIONS[1:4]))
        direction = pick(rng, DIRECTIONS)
        character = self.pack.draw(rng, self.split, "walk" if animation == "stand" else animation, weapon=False)
        who = "the same character" if self.split == "test" else pick(rng, _SAME)
        return character, animation, direction, f"{who} {VERB[animation]}, {TO[direction]}"

    # --------------------------------------------------------------------------------------------------------- plays

    def _played(self, rng: np.random.Generator) -> tuple[Character, str]:
        character = self.pack.draw(rng, self.split, weapon=False)
        return character, f"{self.pack.who(character)}, walking about"

    def _play(self, index: int, rng: np.random.Generator) -> Sample:
        character, text = self._played(rng)
        state = pick(rng, DIRECTIONS), int(rng.random() * (WALK_CYCLE + 1))
        pressed, states = list[int](), list[tuple[str, int]]()
        while len(pressed) < self.frames:  # keys are held for a while
            action, held = int(rng.random() * len(ACTIONS)), 1 + int(rng.random() * 6)
            pressed += [action] * min(held, self.frames - len(pressed))
        for action in pressed:
            states.append(state)
            state = after(state, action)
        drawn: dict[tuple[str, int], np.ndarray] = {}
        for turned in DIRECTIONS:
            if phases := sorted({phase for direction, phase in states if direction == turned}):
                frames = squares(self.pack.frames(character, "walk", turned, phases), self.size)
                drawn |= zip(((turned, phase) for phase in phases), frames, strict=True)
        about = _about(character) | {"directions": [d for d, _ in states], "phases": [p for _, p in states]}
        return Sample(
            self.id(index), None, text, about, clip=np.stack([drawn[s] for s in states]), fps=FPS,
            actions=np.eye(len(ACTIONS), dtype=np.float32)[pressed], control_hz=FPS, body="sprite",
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------------------ captions

    def captions(self) -> Iterator[str]:
        """Texts to learn a vocabulary from: those of the first samples, drawn without pictures."""
        for index in range(min(self.length, self.told)):
            rng = self.rng(index)
            if self.task == "clip":
                yield self._told(rng)[3]
            elif self.task == "view":
                yield self._viewed(rng)[3]
            elif self.task == "play":
                yield self._played(rng)[1]
            elif found := self.pack.edit(rng, self.pack.draw(rng, self.split)):
                yield found[1]  # perhaps of an edit that would not be seen


_SAME = ("the same character", "the same character", "this character", "the character from picture 1")
_SLOTS = ("body", "torso", "hair", "legs", "feet", "head", "eyes")  # in this order: a new body may bring its ears


def after(state: tuple[str, int], action: int) -> tuple[str, int]:
    """Direction and phase of the walk (0 stands) after an action of `ACTIONS` by number."""
    direction, phase = state
    if ACTIONS[action] == "idle":
        return direction, 0
    return ACTIONS[action], phase % WALK_CYCLE + 1 if ACTIONS[action] == direction else 1


def _pose(rng: np.random.Generator) -> int:
    """A frame of the walk: standing half of the time."""
    return 0 if rng.random() < 0.5 else 1 + int(rng.random() * WALK_CYCLE)


def _about(character: Character) -> dict[str, Any]:
    return {"sex": character.sex, "parts": dict(character.parts)}
