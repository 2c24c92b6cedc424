"""The tabletop as Gymnasium environments: look, read the instruction, move the gripper.

selfflow/Tabletop-PickPlace-v0   selfflow/Tabletop-Stack-v0   selfflow/Tabletop-PutIn-v0   selfflow/Tabletop-PushTo-v0
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

try:
    import gymnasium
    from gymnasium.error import CustomSpaceError
    from gymnasium.vector.utils import create_shared_memory
except ImportError as error:
    raise ImportError("the robot tasks need gymnasium: pip install 'selfflow[world]'") from error

from ..physics import World
from ..render import check_size, render
from ..scene import CONTROL_HZ, FPS, Gripper, Scene, check_known
from ..split import SPLITS
from .goals import MAX_INSTRUCTION, TASKS, Start, clearance, draw_start, reached

MAX_STEPS = 60
_LOW, _HIGH = np.array(Gripper.LOW), np.array(Gripper.HIGH)


def to_action(x: float, y: float, opening: float) -> np.ndarray:
    """The action, float32 `(3,)` in [-1, 1], whose target is that gripper (metres); out of reach means the nearest."""
    share = (np.array((x, y, opening)) - _LOW) / (_HIGH - _LOW)
    return np.clip(2 * share - 1, -1, 1).astype(np.float32)


def to_target(action: np.ndarray) -> tuple[float, float, float]:
    """The x, y and opening in metres that an action asks for; values beyond [-1, 1] are clipped.

    Raises:
        ValueError: for another shape than `(3,)`, or a value that is not finite.
    """
    try:
        action = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"the action is {action!r}; it needs 3 finite numbers in [-1, 1]: x, y, opening") from None
    if action.shape != (3,) or not np.isfinite(action).all():
        raise ValueError(f"the action is {action.tolist()}; it needs 3 finite numbers in [-1, 1]: x, y, opening")
    x, y, opening = _LOW + (np.clip(action, -1, 1) + 1) / 2 * (_HIGH - _LOW)
    return float(x), float(y), float(opening)


class Instruction(gymnasium.spaces.Text):
    """Sentences of up to `MAX_INSTRUCTION` small letters, spaces and commas.

    `AsyncVectorEnv` reads a text from shared memory once, when it is made, and then returns that for good (seen in
    Gymnasium 1.4.0). This space has it say so instead, and ask for `shared_memory=False`.
    """

    def __init__(self) -> None:
        super().__init__(MAX_INSTRUCTION, charset="abcdefghijklmnopqrstuvwxyz ,")


@create_shared_memory.register(Instruction)
def _not_shared(space: Instruction, n: int = 1, ctx: Any = None) -> None:
    raise CustomSpaceError("shared memory would never show new instructions; make the AsyncVectorEnv without it")


class TabletopEnv(gymnasium.Env[dict[str, Any], np.ndarray]):
    """One task of `goals.TASKS`, a new scene and instruction each episode.

    Observation: a dict of
        image: uint8 `(size, size, 3)`, RGB;
        proprioception: float32 `(3,)`: x, y, opening of the gripper, each scaled from `Gripper.LOW`..`HIGH` to [-1, 1];
        instruction: str, such as "put the red ball on the blue plate" (grammar in `goals`).
    Action: float32 `(3,)` in [-1, 1]: the target x, y, opening on the same scale, pursued for one control step of
        1/`CONTROL_HZ` s at the gripper's limited speed.
    Reward: 1.0 on success, else 0.0. Success (`goals.reached`) is read off the simulator's truth: everything at rest,
        the thing released and in the asked relation to its anchor, and lifted on the way (`push-to`: never lifted).
    Episode: terminated on success, truncated after `max_steps` control steps.
    Info: `success` (bool), `scene` (the true `Scene`), `goal` (a `Goal`), `seed` (of the episode, for `draw_start`).

    Many at once: `gymnasium.make_vec(id, n, "sync")`, or `make_vec(id, n, "async", {"shared_memory": False})`.

    Args:
        task: of `TASKS`.
        size: side of the image, pixels, 16 to 1024.
        split: `"train"` or `"test"`; see `draw_start`.
        render_mode: `"rgb_array"`, `"ansi"` (see `play.frame_text`) or None.
        render_size: side of the pictures of `render()`, pixels.
        max_steps: control steps until truncation.

    Raises:
        ValueError: for an unknown task, split or render mode, or a size or number of steps out of range.
    """

    metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": CONTROL_HZ}  # noqa: RUF012 (Gymnasium's own)

    def __init__(
        self,
        task: str,
        size: int = 64,
        *,
        split: str = "train",
        render_mode: str | None = None,
        render_size: int = 256,
        max_steps: int = MAX_STEPS,
    ) -> None:
        check_known("task", task, TASKS)
        check_known("split", split, SPLITS)
        if render_mode is not None:
            check_known("render mode", render_mode, self.metadata["render_modes"])
        check_size(size)
        check_size(render_size)
        if max_steps < 1:
            raise ValueError(f"an episode of {max_steps} steps; choose 1 or more")
        self.task, self.size, self.split, self.max_steps = task, size, split, max_steps
        self.render_mode, self.render_size = render_mode, render_size
        self.observation_space = gymnasium.spaces.Dict(
            {
                "image": gymnasium.spaces.Box(0, 255, (size, size, 3), np.uint8),
                "proprioception": gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32),
                "instruction": Instruction(),
            }
        )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)
        self.start: Start | None = None
        self.frames: list[Scene] = []
        """The episode so far at `FPS`: the first scene, then `FPS / CONTROL_HZ` a step."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        """Begin the episode of that seed; without one, the next that the last seed leads to."""
        if seed is not None:
            seed = operator.index(seed)  # Gymnasium turns numpy's integers away
        super().reset(seed=seed)
        self.seed = int(self.np_random.random() * 2**31) if seed is None else seed
        self.start = draw_start(self.task, self.seed, self.split)
        self.world = World(self.start.scene, gripper=True)
        self.frames = [self.world.scene()]
        self.steps, self.highest, self.success = 0, 0.0, False
        return self._observation(), self._info()

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Pursue a target for one control step. Raises ValueError for a bad action, RuntimeError before `reset`."""
        if self.start is None:
            raise RuntimeError("step was called before reset; call reset first")
        self.world.command(*to_target(action))
        for _ in range(FPS // CONTROL_HZ):
            self.world.step(1 / FPS)
            self.frames.append(self.world.scene())
            self.highest = max(self.highest, clearance(self.frames[-1].things[self.start.goal.thing]))
        self.steps += 1
        self.success = reached(self.start.goal, self.frames[-1 - FPS // CONTROL_HZ :], self.highest)
        truncated = self.steps >= self.max_steps and not self.success
        return self._observation(), float(self.success), self.success, truncated, self._info()

    @property
    def scene(self) -> Scene:
        """The true scene now."""
        return self.frames[-1]

    def _observation(self) -> dict[str, Any]:
        assert self.start is not None
        gripper = self.scene.gripper
        assert gripper is not None
        return {
            "image": render(self.scene, self.size),
            "proprioception": to_action(gripper.x, gripper.y, gripper.opening),
            "instruction": self.start.instruction,
        }

    def _info(self) -> dict[str, Any]:
        assert self.start is not None
        return {"success": self.success, "scene": self.scene, "goal": self.start.goal, "seed": self.seed}

    def render(self) -> Any:
        """uint8 `(render_size, render_size, 3)`, or the text of `play.frame_text`, by `render_mode`."""
        if self.render_mode == "ansi":
            from .play import frame_text  # which imports this module

            return frame_text(self)
        return render(self.scene, self.render_size) if self.render_mode == "rgb_array" else None
