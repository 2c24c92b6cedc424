"""A scripted expert that reads the simulator's truth, and what it does, recorded.

Grasping: over the thing, down, close, up, across, down, open, up. Pushing: down behind the thing, along, back, up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import gymnasium
import numpy as np

from ..geometry import FINGER_LENGTH, FINGER_WIDTH, bounds
from ..scene import CONTROL_HZ, FPS, TABLE, Gripper, Motion, Thing, between, generator
from .env import MAX_STEPS, TabletopEnv, to_action, to_target
from .goals import holds

Target = tuple[float, float, float]

PLAY = 0.018  # between an open finger and the thing, before grasping, m
PASSING = 0.025  # above whatever is passed over, m
SET_DOWN = 0.004  # the height from which a thing is let go, m
SPACE = 0.055  # left between a thing and the one it is brought beside: a finger and its play, m
PUSH_STEP = 0.03  # of a pushing target ahead of the gripper, m a control step
HELD = 0.012  # what is held fills the fingers up to this, m
STUCK = 0.0005  # a gripper that moves less in a control step does not move, m
TRIES = 3  # to take a thing up and bring it
MISTAKEN_STEPS = 30  # at most before a mistake is seen: in most episodes all is done by then


class Expert:
    """The expert of one episode of an environment.

        env.reset(seed=3)
        expert = Expert(env)
        while not (terminated or truncated):
            observation, reward, terminated, truncated, info = env.step(expert.act())

    It begins wherever things stand: with a thing in its hand it goes on to bring it, behind one to be pushed it pushes,
    and what it has let slip or toppled it takes up again. So it can show how to mend what another began.

    Args:
        env: a `TabletopEnv`, wrapped or not, whose episode has begun.
        mistake: how far beside their true places it takes the thing and its anchor to be, m; such an expert shows what
            one does who does not see well.
    """

    def __init__(self, env: gymnasium.Env, mistake: tuple[float, float] = (0.0, 0.0)) -> None:
        inner = env.unwrapped
        if not isinstance(inner, TabletopEnv):
            raise ValueError(f"the expert knows the tabletop tasks only, not {inner}")
        if inner.start is None:
            raise ValueError("the expert needs an episode that has begun; call reset first")
        self.env, self.goal, self.mistake = inner, inner.start.goal, mistake
        self._targets = self._push() if self.goal.task == "push-to" else self._carry()

    def act(self) -> np.ndarray:
        """The next action, float32 `(3,)` in [-1, 1]."""
        return to_action(*next(self._targets))

    @property
    def _gripper(self) -> Gripper:
        gripper = self.env.scene.gripper
        assert gripper is not None
        return gripper

    @property
    def _thing(self) -> Thing:
        thing = self.env.scene.things[self.goal.thing]
        return thing.at(thing.x + self.mistake[0], thing.y)

    @property
    def _anchor(self) -> Thing:
        anchor = self.env.scene.things[self.goal.anchor]
        return anchor.at(anchor.x + self.mistake[1], anchor.y)

    def _to(self, x: float, y: float, opening: float, near: float = 0.006, patience: int = 25) -> Iterator[Target]:
        """Pursue a target until the gripper is near it, or comes no nearer; what it holds may keep it from closing."""
        was = None
        for _ in range(patience):
            yield x, y, opening
            gripper = self._gripper
            place = (gripper.x, gripper.y, gripper.opening)
            stuck = was is not None and max(abs(a - b) for a, b in zip(place, was, strict=True)) < STUCK
            if stuck or max(abs(gripper.x - x), abs(gripper.y - y), opening - gripper.opening) < near:
                return
            was = place

    def _wait(self) -> Iterator[Target]:
        """Stay clear of everything until the episode ends."""
        while True:
            yield self._gripper.x, 0.8, self._gripper.opening

    def _obstacle(self, left: float, right: float) -> float:
        """The height of whatever stands between two places, apart from the thing itself."""
        boxes = [bounds(other) for i, other in enumerate(self.env.scene.things) if i != self.goal.thing]
        return max((top for l, _, r, top in boxes if l < right and r > left), default=TABLE)

    def _carry(self) -> Iterator[Target]:
        for _ in range(TRIES):
            if not self._held():
                if holds(self.goal, self.env.scene.things):
                    break
                yield from self._grasp()
            if self._held():
                yield from self._bring()
        yield from self._wait()

    def _held(self) -> bool:
        """Whether the thing is between the fingers, and they are closed upon it."""
        left, bottom, right, top = bounds(self._thing)
        gripper = self._gripper
        inside = abs((left + right) / 2 - gripper.x) < HELD and bottom - HELD < gripper.y < top
        return inside and gripper.opening < right - left + HELD

    def _grasp(self) -> Iterator[Target]:
        left, _, right, top = bounds(self._thing)
        middle, width = (left + right) / 2, right - left
        wide = min(width + 2 * PLAY, Gripper.HIGH[2])
        reach = wide / 2 + FINGER_WIDTH
        start = self._gripper
        over = max(top, self._obstacle(min(start.x, middle) - reach, max(start.x, middle) + reach)) + PASSING
        # As low as the bar allows, but below the middle of a ball by little: higher fingers clear a rim below.
        depth = max(self._thing.y - (0.015 if self._thing.kind == "ball" else 0.03), top - FINGER_LENGTH + 0.015)
        above = abs(start.x - middle) < PLAY / 2 and start.opening > width + PLAY
        if not above:
            if start.y < over - PASSING:  # fingers that are down would sweep along what stands in their way
                yield from self._to(start.x, over, start.opening, near=0.03)
            yield from self._to(middle, max(over, start.y - 0.1), wide, near=0.03)
            yield from self._to(middle, over, wide)
        yield from self._to(middle, depth, wide)
        yield from self._close(middle, depth, width)

    def _bring(self) -> Iterator[Target]:
        left, bottom, right, _ = bounds(self._thing)
        middle, width = (left + right) / 2, right - left
        held = self._gripper.opening
        squeeze = max(held - 0.06, 0.0)

        x, height = self._spot(width)
        span = width / 2 + FINGER_WIDTH + 0.02
        clear = self._obstacle(min(x, middle) - span, max(x, middle) + span) + PASSING
        up = max(clear, TABLE + 0.06) + self._gripper.y - bottom
        above = abs(x - middle) < PLAY / 2
        if not above and self._gripper.y < up - 0.03:
            yield from self._to(middle, up, squeeze, near=0.03)
        offset = (bounds(self._thing)[0] + bounds(self._thing)[2]) / 2 - self._gripper.x
        below = self._gripper.y - bounds(self._thing)[1]
        if not above:
            yield from self._to(x - offset, max(up, clear + below), squeeze)
        down = height + below if self.goal.relation != "in" else height + 0.012
        yield from self._to(x - offset, down, squeeze, near=0.003, patience=12)
        free = min(held + 0.026, Gripper.HIGH[2])
        yield from self._to(x - offset, down, free)
        yield from self._to(x - offset, max(down + 0.12, up), free)

    def _close(self, x: float, y: float, width: float) -> Iterator[Target]:
        """Squeeze until the fingers stop."""
        for _ in range(6):
            before = self._gripper.opening
            yield x, y, max(width - 0.06, 0.0)
            if abs(self._gripper.opening - before) < 0.001:
                return

    def _spot(self, width: float) -> tuple[float, float]:
        """Where the middle of the thing shall go, and its lowest point; into a vessel: the height of its rim."""
        left, _, right, top = bounds(self._anchor)
        if self.goal.relation == "in":
            return self._anchor.x, top
        if self.goal.relation == "on":
            if self._anchor.kind == "plate":
                return self._anchor.x, TABLE + 0.5 * (top - TABLE) + SET_DOWN
            return (left + right) / 2, top + SET_DOWN
        places = {"left of": left - SPACE - width / 2, "right of": right + SPACE + width / 2}
        if self.goal.relation == "beside":
            return min(
                places.values(), key=lambda x: (not self._free(x, width), abs(x - self._thing.x))
            ), TABLE + SET_DOWN
        return places[self.goal.relation], TABLE + SET_DOWN

    def _free(self, x: float, width: float) -> bool:
        """Whether the thing and the fingers around it have room there."""
        half = width / 2 + 0.045
        inside = width / 2 < x < 1.0 - width / 2 and Gripper.LOW[0] <= x <= Gripper.HIGH[0]
        return inside and self._obstacle(x - half, x + half) == TABLE

    def _push(self) -> Iterator[Target]:
        left, bottom, right, top = bounds(self._thing)
        sign = 1 if self._anchor.x > self._thing.x else -1
        edge = left if sign > 0 else right
        behind = edge - sign * (FINGER_WIDTH + 0.02)
        start = self._gripper
        low = bottom + min(0.02, 0.3 * (top - bottom))
        ready = start.y < low + HELD and 0 < sign * (edge - start.x) < 3 * FINGER_WIDTH
        if not ready and self._gap() > SPACE - 0.015:
            over = self._obstacle(min(start.x, behind) - 0.2, max(start.x, behind) + 0.2) + PASSING
            over = max(over, top + PASSING)
            if start.y < over - PASSING:
                yield from self._to(start.x, over, start.opening, near=0.03)
            yield from self._to(behind, max(over, start.y - 0.1), 0.0, near=0.03)
            yield from self._to(behind, low, 0.0)
        while self._gap() > SPACE - 0.015:
            yield self._gripper.x + sign * min(PUSH_STEP, self._gap() - SPACE + 0.03), low, 0.0
        yield from self._to(self._gripper.x - sign * 0.03, low, 0.0)
        over = max(self._obstacle(self._gripper.x - 0.2, self._gripper.x + 0.2), top) + PASSING
        yield from self._to(self._gripper.x, over, 0.0)
        yield from self._wait()

    def _gap(self) -> float:
        """The free space between the thing and its anchor."""
        thing, anchor = bounds(self._thing), bounds(self._anchor)
        return max(anchor[0] - thing[2], thing[0] - anchor[2])


class Rollout(NamedTuple):
    """One episode of the expert.

    Attributes:
        motion: named after the task. With k actions it has 2 k + 1 frames: frame 2 i is what is seen when action i is
            chosen, the last frame is the end. Actions (as carried out) and states are in metres.
        instruction: what was asked.
        success: whether it was done.
    """

    motion: Motion
    instruction: str
    success: bool


def rollout(task: str, seed: int, noise: float = 0.0, *, split: str = "train", mistaken: float = 0.0) -> Rollout:
    """Let the expert play the episode of a task and seed.

    Demonstrations without a fault never show what to do after one, and whoever learns from them alone drifts off (Ross
    et al. 2011, 1011.0686). Hence `mistaken`: somebody who sees badly plays for a while, then the expert takes over,
    and the record is of the expert.

    Args:
        task: of `goals.TASKS`.
        seed: 0 or more; see `goals.draw_start`.
        noise: each action is moved by up to this much, evenly, on the scale [-1, 1] of actions: demonstrations that
            stray and recover. 0 to 1; with 0.02 the expert still succeeds, with 0.05 mostly not where it has to grasp.
        split: `"train"` or `"test"`.
        mistaken: how far beside its true place the thing, or as often the anchor, is taken to be for the first 1 to
            `MISTAKEN_STEPS` steps, m, drawn evenly up to this. 0 to 0.3; the record begins after these steps. What is
            done by then all the same, or cannot be mended, is no success.

    Raises:
        ValueError: for an unknown task or split, a negative seed, a noise outside [0, 1], a mistake outside [0, 0.3].
    """
    if not 0.0 <= noise <= 1.0:
        raise ValueError(f"the noise is {noise}; choose 0 to 1")
    if not 0.0 <= mistaken <= 0.3:
        raise ValueError(f"mistaken by {mistaken} m; choose 0 to 0.3")
    rng = generator(seed, 1)
    blind, mistake = 0, (0.0, 0.0)
    if mistaken:
        blind = 1 + int(rng.random() * MISTAKEN_STEPS)
        beside = between(rng, -mistaken, mistaken)
        mistake = (beside, 0.0) if rng.random() < 0.5 else (0.0, beside)
    env = TabletopEnv(task, 16, split=split, max_steps=blind + MAX_STEPS)
    observation, _ = env.reset(seed=seed)
    expert, actions, states, done = Expert(env, mistake), [], [], False
    while not done:
        if env.steps == blind:
            expert = Expert(env)
        action = expert.act() + np.array([between(rng, -noise, noise) for _ in range(3)], np.float32)
        gripper = env.scene.gripper
        assert gripper is not None
        states.append((gripper.x, gripper.y, gripper.opening))
        actions.append(to_target(action))
        _, _, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
    first = min(blind, env.steps)
    began, frames = first / CONTROL_HZ, env.frames[first * FPS // CONTROL_HZ :]
    contacts = (replace(c, time=c.time - began) for c in env.world.contacts if c.time >= began)
    motion = Motion(task, tuple(frames), tuple(contacts), np.array(actions[first:]), np.array(states[first:]))
    return Rollout(motion, observation["instruction"], env.success and env.steps > blind)
