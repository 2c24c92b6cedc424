"""The robot tasks: Gymnasium environments, a scripted expert, and a game for the terminal.

env = gymnasium.make("selfflow/Tabletop-PutIn-v0")            # after importing this package
motion, instruction, success = rollout("put-in", seed=3)      # the expert at work
play("stack", seed=3)                                         # arrow keys, space, r, q
"""

from .env import MAX_STEPS, TabletopEnv, to_action, to_target
from .expert import Expert, Rollout, rollout
from .goals import TASKS, Goal, Start, draw_start, parse_goal
from .play import frame_text, key_to_action, play

IDS = {
    "pick-place": "selfflow/Tabletop-PickPlace-v0",
    "stack": "selfflow/Tabletop-Stack-v0",
    "put-in": "selfflow/Tabletop-PutIn-v0",
    "push-to": "selfflow/Tabletop-PushTo-v0",
}
"""The Gymnasium id of each task."""


def _register() -> None:
    import gymnasium

    for task, name in IDS.items():
        if name not in gymnasium.registry:
            gymnasium.register(name, entry_point=f"{__name__}.env:TabletopEnv", kwargs={"task": task})


_register()

__all__ = [
    "IDS",
    "MAX_STEPS",
    "TASKS",
    "Expert",
    "Goal",
    "Rollout",
    "Start",
    "TabletopEnv",
    "draw_start",
    "frame_text",
    "key_to_action",
    "parse_goal",
    "play",
    "rollout",
    "to_action",
    "to_target",
]
