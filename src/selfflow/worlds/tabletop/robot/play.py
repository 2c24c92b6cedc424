"""The robot tasks as a game in the terminal: arrow keys move the gripper, space opens and closes it.

`frame_text` and `key_to_action` know nothing of terminals; `play` is the rest.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

from ..geometry import visible
from ..render import coverage
from ..scene import COLOURS, CONTROL_HZ, TABLE

if TYPE_CHECKING:
    from .env import TabletopEnv

STRIDE = 0.12  # of an arrow key, on the scale [-1, 1] of actions: 5 cm
KEYS = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[C": "right", "\x1b[D": "left", " ": "space"}
KEYS |= {key.replace("[", "O"): name for key, name in KEYS.items() if "[" in key}  # as some terminals send them
HELP = "arrows move, space opens and closes, r next seed, q quit"
_GRIPPER, _TABLE, _AIR = "H", "-", " "


def frame_text(env: TabletopEnv, columns: int = 64, colour: bool = False) -> str:
    """The scene as text: `columns // 2` lines of that many characters, then the instruction, the things, the state.

    A thing is drawn with its number, which the line of things explains; the gripper with `H`, the table with `-`.

    Args:
        env: just reset or stepped.
        columns: an even number, 16 to 200.
        colour: draw with ANSI colours.

    Raises:
        ValueError: for other columns, or before the first reset.
    """
    if columns % 2 or not 16 <= columns <= 200:
        raise ValueError(f"a picture of {columns} columns; choose an even number from 16 to 200")
    if env.start is None:
        raise ValueError("there is nothing to show before reset; call reset first")
    scene = env.scene
    rows = columns // 2
    grid = np.full((rows, columns), _AIR)
    grid[np.arange(rows) >= round((1 - TABLE) * rows)] = _TABLE
    for index, part in visible(scene):
        if part.solid:
            seen = coverage(part.shape, columns).reshape(rows, 2, columns).max(axis=1) > 0.35
            grid[seen] = _GRIPPER if index < 0 else str(index)
    paint = {str(i): COLOURS[thing.colour] for i, thing in enumerate(scene.things)} if colour else {}
    lines = ["".join(_painted(str(mark), paint) for mark in row) for row in grid]
    things = ", ".join(f"{_painted(str(i), paint)} {thing}" for i, thing in enumerate(scene.things))
    state = "success!" if env.success else f"step {env.steps} of {env.max_steps}"
    return "\n".join([*lines, f"> {env.start.instruction}", things, state])


def _painted(mark: str, paint: dict[str, tuple[int, int, int]]) -> str:
    if mark not in paint:
        return mark
    red, green, blue = paint[mark]
    ink = 30 if red + 2 * green + blue > 400 else 97
    return f"\x1b[{ink};48;2;{red};{green};{blue}m{mark}\x1b[0m"


def key_to_action(key: str, action: np.ndarray) -> np.ndarray:
    """The action after a key: the former one, moved by a stride or with the fingers the other way.

    Args:
        key: `"up"`, `"down"`, `"left"`, `"right"`, `"space"`; any other changes nothing.
        action: float32 `(3,)` in [-1, 1], the one before.
    """
    x, y, opening = (float(value) for value in action)
    x += STRIDE * ((key == "right") - (key == "left"))
    y += STRIDE * ((key == "up") - (key == "down"))
    if key == "space":
        opening = -1.0 if opening > -0.5 else 0.6
    return np.clip((x, y, opening), -1, 1).astype(np.float32)


def play(task: str = "pick-place", seed: int = 0, *, split: str = "train") -> bool:
    """Play an episode in the terminal, `CONTROL_HZ` steps a second; returns whether the last episode succeeded.

    r goes to the next seed, q (or the end of the input) quits. The terminal is left as it was found.

    Raises:
        RuntimeError: if standard input or output is no terminal.
        ValueError: as `TabletopEnv` and `reset`.
    """
    from .env import TabletopEnv

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise RuntimeError("playing needs a terminal: run it there, with neither input nor output redirected")
    try:
        import termios
        import tty
    except ImportError as error:
        raise RuntimeError("playing needs a POSIX terminal (Linux, macOS, or WSL on Windows)") from error

    env = TabletopEnv(task, 16, split=split, max_steps=10**6)
    observation, _ = env.reset(seed=seed)
    action = observation["proprioception"]
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        sys.stdout.write("\x1b[?1049h\x1b[?25l")  # another screen, no cursor
        while True:
            _show(env, seed)
            keys = _read_keys(descriptor, 1 / CONTROL_HZ)
            if "q" in keys:
                return env.success
            if "r" in keys:
                seed += 1
                observation, _ = env.reset(seed=seed)
                action = observation["proprioception"]
                continue
            for key in keys:
                action = key_to_action(key, action)
            if not env.success:
                env.step(action)
    finally:
        sys.stdout.write("\x1b[0m\x1b[?25h\x1b[?1049l")
        sys.stdout.flush()
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _show(env: TabletopEnv, seed: int) -> None:
    width, height = shutil.get_terminal_size()
    columns = max(16, min(width, 2 * (height - 5), 120)) // 2 * 2
    text = f"{frame_text(env, columns, colour=True)} (seed {seed})\n{HELP}"
    sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\r\n" for line in text.split("\n")) + "\x1b[J")
    sys.stdout.flush()


def _read_keys(descriptor: int, seconds: float) -> list[str]:
    """The names of the keys pressed within that time; `q` if the input has ended."""
    end, pressed = time.monotonic() + seconds, ""
    while (left := end - time.monotonic()) > 0:
        if select.select([descriptor], [], [], left)[0]:
            more = os.read(descriptor, 64).decode(errors="ignore")
            if not more:
                return ["q"]
            pressed += more
    names = []
    while pressed:
        key = pressed[:3] if pressed[:3] in KEYS else pressed[0]
        names.append(KEYS.get(key, key.lower()))
        pressed = pressed[len(key) :]
    return names
