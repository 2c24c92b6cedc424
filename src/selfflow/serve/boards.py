"""Worlds to play in, each a simulator behind one face: keys or actions in, pictures out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from selfflow.data.packs import PackMissing
from selfflow.serve.limits import Refused

KEYS = {
    "ArrowLeft": "left", "ArrowRight": "right", "ArrowUp": "up", "ArrowDown": "down", " ": "space", "Space": "space",
    "a": "left", "d": "right", "w": "up", "s": "down",
}  # fmt: skip
"""What browsers call keys → what they mean."""


class Board:
    """A simulator.

    Attributes:
        label: for people.
        body: whose actions they are, for the model.
        hz: actions a second; the model dreams one frame for each.
        fps: pictures a second of the simulator, a multiple of `hz`.
        text: what the model is told.
        width: numbers in an action.
        low, high: between which they lie.
    """

    label: ClassVar[str]
    body: ClassVar[str]
    hz: ClassVar[int]
    fps: ClassVar[int]
    width: ClassVar[int]
    low: ClassVar[float]
    high: ClassVar[float]
    text: str = ""
    success: bool = False

    def picture(self) -> np.ndarray:
        """What is seen now, uint8 `(size, size, 3)`."""
        raise NotImplementedError

    def steered(self, held: Sequence[str], pressed: Sequence[str]) -> np.ndarray:
        """The action of keys: those that are down, and those that went down since the last action."""
        raise NotImplementedError

    def step(self, action: np.ndarray) -> list[np.ndarray]:
        """Carry out an action; `fps / hz` pictures of what happened."""
        raise NotImplementedError

    def raw(self, action: np.ndarray) -> np.ndarray:
        """The action as the model was taught it."""
        return action

    def checked(self, action: Sequence[float]) -> np.ndarray:
        """An action of a client. Raises `Refused`."""
        if len(action) != self.width:
            raise Refused("bad_request", f"an action of {len(action)} numbers; this world takes {self.width}", "action")
        return np.clip(np.asarray(action, np.float32), self.low, self.high)


class Tabletop(Board):
    """The gripper over the table. Actions are the environment's: x, y and opening in [-1, 1]."""

    label, body, hz, fps, width, low, high = "Tabletop: move the gripper", "tabletop", 10, 20, 3, -1.0, 1.0

    def __init__(self, size: int, seed: int, instruction: str | None, task: str = "pick-place", limit: int = 0) -> None:
        from selfflow.worlds.tabletop.robot import TabletopEnv

        self.size = size
        self.env = TabletopEnv(task, size, split="test" if limit else "train", max_steps=limit or 10**9)
        self.seen, _ = self.env.reset(seed=seed)
        self.text, self.judged, self.truncated = self.seen["instruction"], True, False
        if instruction:
            self._ask(instruction)
        self.action = np.asarray(self.seen["proprioception"], np.float32)

    def _ask(self, instruction: str) -> None:
        """What is typed is asked for instead; if it is in the robot's grammar, success is judged by it, else never."""
        from dataclasses import replace

        from selfflow.worlds.tabletop.robot import parse_goal

        self.text = instruction
        start = self.env.start
        assert start is not None
        try:
            self.env.start = replace(start, goal=parse_goal(instruction, start.scene.things), instruction=instruction)
        except ValueError:
            self.judged = False

    def picture(self) -> np.ndarray:
        return np.asarray(self.seen["image"])

    def steered(self, held: Sequence[str], pressed: Sequence[str]) -> np.ndarray:
        from selfflow.worlds.tabletop.robot import key_to_action

        for key in [k for k in held if k != "space"] + [k for k in pressed if k == "space"]:
            self.action = key_to_action(key, self.action)
        return self.action

    def step(self, action: np.ndarray) -> list[np.ndarray]:
        from selfflow.worlds.tabletop.render import render

        self.action = action
        self.seen, _, success, _, _ = self.env.step(action)
        self.success = success and self.judged
        # Not the environment's word: it knows of no end where its own goal is reached, which nobody may have asked for.
        self.truncated = self.env.steps >= self.env.max_steps and not self.success
        middle = [render(scene, self.size) for scene in self.env.frames[-2:-1]]
        del self.env.frames[: -2 * self.fps]  # the episode may last for hours
        return [*middle, self.picture()]

    def raw(self, action: np.ndarray) -> np.ndarray:
        from selfflow.worlds.tabletop.robot import to_target

        return np.asarray(to_target(action), np.float32)

    @property
    def state(self) -> np.ndarray:
        """float32 (3,): the gripper's x, y and opening in metres."""
        return self.raw(self.seen["proprioception"])


class PushT(Board):
    """A finger pushes a T. Actions are where the finger is drawn to, in units of the board, 0 to 512."""

    label, body, hz, fps, width, low, high = "PushT: push the T to its place", "pusht", 10, 10, 2, 0.0, 512.0
    STRIDE = 24.0  # of a key in a tenth of a second

    def __init__(self, size: int, seed: int, instruction: str | None) -> None:
        from selfflow.worlds.pusht import PushTEnv

        self.env = PushTEnv("center", size)
        self.env.reset(seed)
        self.text = "push the T block to the goal in the middle"  # as the demonstrations were captioned
        self.target = np.asarray(self.env.state()[:2], np.float32)

    def picture(self) -> np.ndarray:
        return self.env.picture()

    def steered(self, held: Sequence[str], pressed: Sequence[str]) -> np.ndarray:
        way = [("right" in held) - ("left" in held), ("down" in held) - ("up" in held)]
        return np.clip(self.target + self.STRIDE * np.array(way, np.float32), 15, 497)

    def step(self, action: np.ndarray) -> list[np.ndarray]:
        from selfflow.worlds.pusht import SUCCESS

        self.target = np.asarray(action, np.float32)
        self.success = self.env.step(action) >= SUCCESS
        return [self.picture()]


class Sprites(Board):
    """A character that stands, turns and walks on the spot. Actions are one-hot: idle, and the pack's directions."""

    label, body, hz, fps, width, low, high = "Sprites: walk a character", "sprite", 8, 8, 5, 0.0, 1.0

    def __init__(self, size: int, seed: int, instruction: str | None) -> None:
        from selfflow.data.indexed import squares
        from selfflow.data.lpc import DIRECTIONS, characters
        from selfflow.data.sprites import WALK_CYCLE

        pack = characters(None)
        character = pack.draw(np.random.default_rng(seed), "test", weapon=False)
        self.text = f"{pack.who(character)}, walking about"
        phases = list(range(WALK_CYCLE + 1))
        self.frames = {d: squares(pack.frames(character, "walk", d, phases), size) for d in DIRECTIONS}
        self.state = ("down", 0)

    def picture(self) -> np.ndarray:
        direction, phase = self.state
        return self.frames[direction][phase]

    def steered(self, held: Sequence[str], pressed: Sequence[str]) -> np.ndarray:
        from selfflow.data.sprites import ACTIONS

        chosen = next((key for key in reversed(held) if key in ACTIONS), "idle")
        return np.eye(len(ACTIONS), dtype=np.float32)[ACTIONS.index(chosen)]

    def step(self, action: np.ndarray) -> list[np.ndarray]:
        from selfflow.data.sprites import after

        self.state = after(self.state, int(np.argmax(action)))
        return [self.picture()]

    def raw(self, action: np.ndarray) -> np.ndarray:
        return np.eye(self.width, dtype=np.float32)[int(np.argmax(action))]


BOARDS: dict[str, type[Any]] = {"tabletop": Tabletop, "sprites": Sprites, "pusht": PushT}


def offered(bodies: Sequence[str], size: int) -> dict[str, type[Any]]:
    """The worlds that can be played here: whose body the model knows, and whose simulator and pack are there."""
    found = {}
    for name, board in BOARDS.items():
        if board.body in bodies:
            try:
                board(size, 0, None)
            except (ImportError, PackMissing):
                continue
            found[name] = board
    return found


def policies() -> list[dict[str, str]]:
    """What a model that acts may be asked for, with words that fit the scene of seed 0; nothing without a simulator."""
    try:
        from selfflow.worlds.tabletop.robot import TASKS, draw_start
    except ImportError:
        return []
    return [{"env": task, "instruction_example": draw_start(task, 0, "test").instruction} for task in TASKS]
