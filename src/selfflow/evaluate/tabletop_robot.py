"""The suite `tabletop-robot`: a policy in the environments; how often it does what it is told."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from selfflow.evaluate.measures import share
from selfflow.evaluate.protocol import Options, seed_of
from selfflow.evaluate.tabletop_report import report, require


class Policy(Protocol):
    """What `tabletop-robot` needs of a model. `config.picture.size` is the side of the pictures it looks at."""

    @property
    def config(self) -> Any: ...

    def act(self, images: np.ndarray, states: np.ndarray, instructions: list[str], step: int) -> np.ndarray:
        """The next action of each of n episodes that run side by side.

        Args:
            images: uint8 `(n, size, size, 3)`.
            states: float32 `(n, 3)`: x, y and opening of the gripper, in [-1, 1].
            instructions: n sentences.
            step: 0 when the episodes begin, so that a policy with a memory can forget.

        Returns:
            `(n, 3)` in [-1, 1]: target x, y and opening, as `TabletopEnv.step` takes them. What is returned for an
            episode that has ended is passed over.
        """
        ...


def robot_suite(pipe: Policy, options: Options) -> dict[str, Any]:
    """Success rates of a policy on unseen scenes and instructions, with Wilson intervals, each task for itself.

    Ceiling: the scripted expert, who knows where everything is. Floor: actions drawn evenly. All three meet the same
    scenes. `options.samples` episodes are shared out evenly among the tasks; `steps` and `guidance` are not used.
    """
    from selfflow.worlds.tabletop.robot import TASKS, Expert
    from selfflow.worlds.tabletop.verdict import Score

    act = require(pipe, "act", "tabletop-robot", "images, states, instructions, step")
    each = max(1, options.samples // len(TASKS))
    names, results, ends, prompts = ["success"], [], [], []
    rng = np.random.default_rng(options.seed)

    def chance(images: np.ndarray, *_: Any) -> np.ndarray:
        return rng.uniform(-1, 1, (len(images), 3)).astype(np.float32)

    for task in TASKS:
        seeds = [seed_of("tabletop", "robot", task, options.seed, i) % 2**31 for i in range(each)]
        found, pictures, texts = _episodes(task, seeds, pipe.config.picture.size, act, options, f"{task}, policy")

        floor, _, _ = _episodes(task, seeds, 16, chance, options, f"{task}, chance")
        ceiling, _, _ = _episodes(task, seeds, 16, Expert, options, f"{task}, expert")
        results.append((found, floor, ceiling))
        names.append(f"success, {task}")
        ends += pictures
        prompts += [f"{task}: {text}" for text in texts]
    together = [np.concatenate(column) for column in zip(*results, strict=True)]
    figures = {
        name: share(found, floor=floor, ceiling=ceiling)
        for name, (found, floor, ceiling) in zip(names, [together, *results], strict=True)
    }
    scores = [Score(float(s), () if s else ("not done in time",)) for s in together[0]]

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [(ends[i][0], prompts[i]), (ends[i][1], "")]

    return report(figures, scores, prompts, panels, options)


def _episodes(
    task: str, seeds: list[int], size: int, act: Any, options: Options, title: str
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]], list[str]]:
    """Success of each seed's episode, its first and last picture, and its instruction.

    `act` is a policy's, or the class `Expert`, which looks at the environment itself.
    """
    from tqdm import tqdm

    from selfflow.worlds.tabletop.robot import MAX_STEPS, Expert, TabletopEnv

    success, pictures, texts = [], [], []
    batches = range(0, len(seeds), options.batch)
    for start in tqdm(batches, title, unit="batch", disable=not options.progress):
        envs = [TabletopEnv(task, size, split="test") for _ in seeds[start : start + options.batch]]
        seen = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds[start:], strict=False)]
        first = [observation["image"] for observation in seen]
        experts = [act(env) for env in envs] if act is Expert else []
        running = [True] * len(envs)
        for step in range(MAX_STEPS):
            if not any(running):
                break
            if experts:
                actions: Any = [e.act() if on else None for e, on in zip(experts, running, strict=True)]
            else:
                actions = act(
                    np.stack([o["image"] for o in seen]), np.stack([o["proprioception"] for o in seen]),
                    [o["instruction"] for o in seen], step,
                )  # fmt: skip
                if np.shape(actions) != (len(envs), 3):
                    raise ValueError(f"the policy returned actions {np.shape(actions)}; wanted ({len(envs)}, 3)")
            for i, env in enumerate(envs):
                if running[i]:
                    seen[i], _, terminated, truncated, _ = env.step(actions[i])
                    running[i] = not (terminated or truncated)
        success += [env.success for env in envs]
        pictures += [(a, o["image"]) for a, o in zip(first, seen, strict=True)]
        texts += [o["instruction"] for o in seen]
    return np.array(success, dtype=float), pictures, texts
