"""The suite `pusht`: a policy that looks, decides and pushes until the T is in its place, or time is up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from selfflow.evaluate.action_suite import Actor
from selfflow.evaluate.measures import draw_sheet, held_out, mean, share
from selfflow.evaluate.protocol import Options, seed_of
from selfflow.evaluate.tabletop_report import require

MOST_STEPS = 300  # as published
CHUNK, EXECUTED, SAMPLING_STEPS = 16, 8, 4
NEARLY = 0.8  # people who pushed to the middle were content with 0.87 of the goal


class Start(NamedTuple):
    """How an episode begins, and what a person did from there (nothing `(0, 2)`, on a board drawn at random)."""

    goal: str
    state: np.ndarray
    actions: np.ndarray


def pusht_suite(pipe: Actor, options: Options) -> dict[str, Any]:
    """How much of the goal a policy gets covered at best, and how often enough of it, in closed loop.

    Episodes begin as the held-out demonstrations do, of both goals in turn, and when there are no more, on boards drawn
    at random, as widely as the original draws them. Ceiling: what the person got covered, the demonstrations replayed.
    Floor: targets drawn evenly over the board. The finger decides `CHUNK` actions at once and
    carries out `EXECUTED` of them.

    Raises:
        PackMissing: without the pack pusht64.
        ImportError: without the extra `world`.
    """
    act = require(pipe, "actions", "pusht", "images, texts, body, states, width, count, hz")
    from selfflow.data.pusht import SETS
    from selfflow.worlds.pusht import BOARD, SUCCESS

    source, size = held_out("pusht", pipe), pipe.config.picture.size
    begins = starts(source, options.samples)
    begins += drawn_starts(options.samples - len(begins), options.seed)
    texts = [SETS[start.goal] for start in begins]

    decide = decider(act, texts, options)
    rng = np.random.default_rng(options.seed)

    def blind(images: np.ndarray, states: np.ndarray, rows: list[int], step: int) -> np.ndarray:
        return rng.uniform(0, BOARD, (len(rows), CHUNK, 2))

    made, pictures = play(begins, decide, size, options, "pusht, policy")
    floor, _ = play(begins, blind, 16, options, "pusht, chance")
    told = np.array([len(start.actions) > 0 for start in begins])
    people = np.array([replayed(start) if known else np.nan for start, known in zip(begins, told, strict=True)])
    drawn = f"; {int((~told).sum())} boards drawn at random, where nobody is the ceiling" if not told.all() else ""
    note = f"the best of an episode, mean{drawn}"
    figures = {"coverage": mean(made, options, floor=floor, ceiling=people, note=note)}
    for name, level in (("success", SUCCESS), ("nearly", NEARLY)):
        hits = made >= level
        note = f"{level:g} of the goal covered"
        figures[name] = share(hits, floor=floor >= level, ceiling=people[told] >= level, note=note)
        for goal in sorted({start.goal for start in begins}):
            rows = np.array([start.goal == goal for start in begins])
            figures[f"{name}, {goal}"] = share(
                hits[rows], floor=(floor >= level)[rows], ceiling=(people >= level)[rows & told]
            )
    draw_sheet(
        [[(a, text), (b, f"{best:.2f} covered")] for (a, b), text, best in zip(pictures, texts, made, strict=True)],
        options,
    )
    return {"figures": figures, "scores": [round(float(c), 4) for c in made]}


def decider(
    act: Callable[..., np.ndarray], texts: Sequence[str], options: Options, chunk: int = CHUNK
) -> Callable[[np.ndarray, np.ndarray, list[int], int], np.ndarray]:
    """Who decides in `play`: `(pictures, states, episodes, step) -> (b, chunk, 2)`, by a model's `actions`.

    The noise of episode i at a step depends on (`options.drawn`, i, step) only.
    """
    from selfflow.worlds.pusht import HZ

    def decide(images: np.ndarray, states: np.ndarray, rows: list[int], step: int) -> np.ndarray:
        generators = [torch.Generator().manual_seed(seed_of("pusht", options.drawn, i, step)) for i in rows]
        found = act(
            images, [texts[i] for i in rows], "pusht", states, 2, chunk, HZ,
            generator=generators, **{"steps": SAMPLING_STEPS} | options.sampling,
        )  # fmt: skip
        if np.shape(found) != (len(rows), chunk, 2):
            raise ValueError(f"the policy returned actions {np.shape(found)}; wanted {(len(rows), chunk, 2)}")
        return np.asarray(found)

    return decide


def starts(source: Any, count: int) -> list[Start]:
    """The first states of `count` held-out demonstrations (all, where there are fewer), the goals in turn."""
    found: dict[str, list[Start]] = {}
    for name, _, begin, end in source.windows:
        one = source.sets[name]
        x, y, block_x, block_y, sine, cosine = one.states[begin]
        state = np.array([x, y, block_x, block_y, np.arctan2(sine, cosine)])
        found.setdefault(name, []).append(Start(name, state, one.actions[begin:end]))
    longest = max(map(len, found.values()))
    return [group[i] for i in range(longest) for group in found.values() if i < len(group)][:count]


def drawn_starts(count: int, seed: int) -> list[Start]:
    """So many boards drawn at random, the goals in turn."""
    from selfflow.worlds.pusht import GOALS, drawn

    goals, none = list(GOALS), np.zeros((0, 2))
    return [Start(goals[i % len(goals)], drawn(seed_of("pusht", "board", seed, i)), none) for i in range(max(0, count))]


def replayed(start: Start) -> float:
    """The most that was covered when a person's actions are done again."""
    from selfflow.worlds.pusht import PushTEnv

    env = PushTEnv(start.goal, 16)
    env.put(start.state)
    return max(env.step(action) for action in start.actions)


def play(
    begins: list[Start],
    decide: Callable[[np.ndarray, np.ndarray, list[int], int], np.ndarray],
    size: int,
    options: Options,
    title: str,
    execute: int = EXECUTED,
    watch: Callable[[int, np.ndarray], None] | None = None,
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """The most that each episode got covered, and its first and last picture.

    Args:
        begins: how the episodes begin.
        decide: `(pictures uint8 (b, size, size, 3), states (b, 6), episodes, step)` → actions `(b, k, 2)`.
        size: of the pictures, pixels.
        options: how many are played at once, and whether progress is shown.
        title: of the bar.
        execute: of each k actions.
        watch: told each episode's number and picture, at its beginning and after every action.
    """
    from tqdm import tqdm

    from selfflow.worlds.pusht import SUCCESS, PushTEnv

    best, pictures = np.zeros(len(begins)), list[tuple[np.ndarray, np.ndarray]]()
    batches = range(0, len(begins), options.batch)
    for first in tqdm(batches, title, unit="batch", disable=not options.progress):
        envs = {i: PushTEnv(begins[i].goal, size) for i in range(first, min(first + options.batch, len(begins)))}
        for i, env in envs.items():
            env.put(begins[i].state)
        before = [env.picture() for env in envs.values()]
        for i, picture in zip(envs, before, strict=True):
            if watch is not None:
                watch(i, picture)
        for step in range(0, MOST_STEPS, execute):
            running = [i for i in envs if best[i] < SUCCESS]
            if not running:
                break
            seen, felt = np.stack([envs[i].picture() for i in running]), np.stack([envs[i].state() for i in running])
            chunks = decide(seen, felt, running, step)
            for i, chunk in zip(running, chunks, strict=True):
                for action in chunk[: min(execute, MOST_STEPS - step)]:
                    best[i] = max(best[i], envs[i].step(action))
                    if watch is not None:
                        watch(i, envs[i].picture())
                    if best[i] >= SUCCESS:
                        break
        pictures += zip(before, [env.picture() for env in envs.values()], strict=True)
    return best, pictures
