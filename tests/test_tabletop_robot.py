"""The robot tasks: Gymnasium's own checks, what counts as success, an expert that succeeds, a game to be played."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from selfflow.worlds.tabletop.geometry import bounds, stood
from selfflow.worlds.tabletop.physics import World
from selfflow.worlds.tabletop.robot import (
    IDS,
    MAX_STEPS,
    TASKS,
    Expert,
    Goal,
    TabletopEnv,
    draw_start,
    frame_text,
    key_to_action,
    parse_goal,
    play,
    rollout,
    to_action,
    to_target,
)
from selfflow.worlds.tabletop.robot.goals import LIFTED, MAX_INSTRUCTION, NEAR, at_rest, holds, reached, released
from selfflow.worlds.tabletop.scene import CONTROL_HZ, FPS, TABLE, Gripper, Scene, Thing
from selfflow.worlds.tabletop.split import held_out, split

AWAY = Gripper(0.5, 0.8, 0.3)


# --- what is asked


@pytest.mark.parametrize("task", TASKS)
def test_an_instruction_says_its_goal_and_nothing_else(task: str) -> None:
    for seed in range(60):
        start = draw_start(task, seed)
        assert parse_goal(start.instruction, start.scene.things) == start.goal
        assert parse_goal(f" {start.instruction.upper()}. ", start.scene.things) == start.goal
        assert len(start.instruction) <= MAX_INSTRUCTION


@pytest.mark.parametrize("task", TASKS)
def test_a_start_is_fixed_by_its_seed_and_has_room_and_is_not_yet_done(task: str) -> None:
    said = set()
    for seed in range(40):
        start = draw_start(task, seed)
        assert start == draw_start(task, seed)
        boxes = sorted(bounds(thing) for thing in start.scene.things)
        assert boxes[0][0] >= 0
        assert max(box[2] for box in boxes) <= 1
        assert all(left[2] < right[0] for left, right in pairwise(boxes))
        assert all(abs(box[1] - TABLE) < 1e-9 for box in boxes)
        assert not holds(start.goal, start.scene.things)
        said.add(start.instruction.split(" the ")[0])
    assert len(said) >= 3  # paraphrases


def test_nothing_moves_before_the_gripper_does() -> None:
    for task in TASKS:
        start = draw_start(task, 5)
        world = World(start.scene, gripper=True)
        world.step(0.5)
        assert at_rest([start.scene, world.scene()])


@pytest.mark.parametrize("task", TASKS)
def test_held_out_looks_are_asked_for_in_test_only(task: str) -> None:
    for seed in range(30):
        things = draw_start(task, seed).scene.things
        assert not any(held_out(thing.colour, thing.kind) for thing in things)
        start = draw_start(task, seed, "test")
        first, second = (start.scene.things[i] for i in (start.goal.thing, start.goal.anchor))
        place = "in" if second.kind == "plate" and start.goal.relation == "on" else start.goal.relation
        pair = ("left of", second.kind, first.kind) if place == "right of" else (place, first.kind, second.kind)
        looks = held_out(first.colour, first.kind) or held_out(second.colour, second.kind)
        assert looks or (place != "beside" and held_out(*pair)) or (second.word and held_out("word", second.word))


def test_how_things_stand_is_all_that_a_training_start_shows_of_what_is_held_out() -> None:
    shown = 0
    for seed in range(40):
        start = draw_start("pick-place", seed)
        columns = sorted(start.scene.things, key=lambda thing: thing.x)
        apart = any(held_out("left of", a.kind, b.kind) for a, b in pairwise(columns))
        assert (split(start.scene) == "test") == apart
        assert not any(held_out("word", thing.word) for thing in columns if thing.word)
        shown += apart
    assert 0 < shown < 20  # as docs/tabletop.md says


# --- what counts


def scene(*things: Thing, gripper: Gripper = AWAY) -> Scene:
    return Scene(things, gripper=gripper)


def test_success_needs_rest_and_release_and_the_right_way() -> None:
    box, other = stood(Thing("box", "red", "small", 0.3)), stood(Thing("box", "blue", "medium", 0.7))
    stacked = box.at(0.7, bounds(other)[3] + 0.075)
    goal, done = Goal("stack", 0, "on", 1), scene(stacked, other)
    assert reached(goal, [done, done], 0.3)
    assert not reached(goal, [done, done], LIFTED - 0.01)  # never lifted
    assert not reached(goal, [done.having(0, stacked.at(0.7, stacked.y + 0.01)), done], 0.3)  # still moving
    held = replace(done, gripper=Gripper(0.7, stacked.y, 0.1501))
    assert not reached(goal, [held, held], 0.3)
    opened = replace(done, gripper=Gripper(0.7, stacked.y, 0.16))
    assert reached(goal, [opened, opened], 0.3)
    aside = scene(box, other)
    assert not reached(goal, [aside, aside], 0.3)


@pytest.mark.parametrize(
    ("gap", "relation", "expected"),
    [
        (NEAR - 0.01, "left of", True),
        (NEAR + 0.01, "left of", False),
        (NEAR - 0.01, "right of", False),
        (NEAR - 0.01, "beside", True),
    ],
)
def test_beside_is_measured_between_the_edges(gap: float, relation: str, expected: bool) -> None:
    anchor = stood(Thing("box", "blue", "small", 0.6))
    box = stood(Thing("box", "red", "small", 0.6 - 0.15 - gap))
    assert holds(Goal("pick-place", 0, relation, 1), (box, anchor)) is expected
    assert not holds(Goal("pick-place", 0, relation, 1), (box.at(box.x, box.y + 0.1), anchor))


def test_a_push_must_not_lift() -> None:
    anchor, box = stood(Thing("box", "blue", "small", 0.6)), stood(Thing("box", "red", "small", 0.4))
    done = scene(box, anchor)
    assert reached(Goal("push-to", 0, "beside", 1), [done, done], 0.001)
    assert not reached(Goal("push-to", 0, "beside", 1), [done, done], 0.05)


def test_released_is_a_matter_of_millimetres() -> None:
    ball = stood(Thing("ball", "red", "small", 0.5))
    assert not released(ball, Gripper(0.5, ball.y - 0.02, 0.153))
    assert released(ball, Gripper(0.5, ball.y - 0.02, 0.155))


# --- the environments


@pytest.mark.parametrize("name", IDS.values())
def test_gymnasium_has_nothing_to_say_against_them(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gymnasium.make(name).unwrapped)


def test_an_action_is_a_target_in_metres_and_back() -> None:
    assert to_target(np.array([-1, -1, -1])) == pytest.approx(Gripper.LOW)
    assert to_target(np.array([1, 9, 1])) == pytest.approx(Gripper.HIGH)
    assert to_target(to_action(0.3, 0.5, 0.2)) == pytest.approx((0.3, 0.5, 0.2), abs=1e-6)


def test_an_episode_follows_from_its_seed_and_ends_in_time() -> None:
    env = TabletopEnv("stack", 16, max_steps=3)
    seen = []
    for _ in range(2):
        observation, info = env.reset(seed=7)
        assert info["seed"] == 7
        for step in range(3):
            seen.append(observation)
            observation, reward, terminated, truncated, info = env.step(np.zeros(3))
            assert (reward, terminated, truncated) == (0.0, False, step == 2)
    for before, after in zip(seen[:3], seen[3:], strict=True):
        assert np.array_equal(before["image"], after["image"])
        assert np.array_equal(before["proprioception"], after["proprioception"])
    env.reset(seed=7)
    following = env.reset()[1]["seed"]
    env.reset(seed=7)
    assert env.reset()[1]["seed"] == following != 7


def test_bad_input_gets_one_clear_error() -> None:
    env = TabletopEnv("stack", 16)
    with pytest.raises(RuntimeError, match="call reset first"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match="call reset first"):
        Expert(env)
    with pytest.raises(ValueError, match="call reset first"):
        frame_text(env)
    env.reset(seed=0)
    for action in (np.zeros(2), np.array([0, np.nan, 0])):
        with pytest.raises(ValueError, match="needs 3 finite numbers"):
            env.step(action)
    with pytest.raises(ValueError, match="unknown task 'juggle'"):
        TabletopEnv("juggle")
    with pytest.raises(ValueError, match="unknown split"):
        TabletopEnv("stack", split="all")
    with pytest.raises(ValueError, match="unknown render mode"):
        TabletopEnv("stack", render_mode="human")
    with pytest.raises(ValueError, match="pixels"):
        TabletopEnv("stack", 7)
    with pytest.raises(ValueError, match="choose 1 or more"):
        TabletopEnv("stack", max_steps=0)
    with pytest.raises(ValueError, match="even number"):
        frame_text(env, 33)
    with pytest.raises(ValueError, match="choose 0 to 1"):
        rollout("stack", 0, noise=2.0)
    with pytest.raises(ValueError, match="negative"):
        rollout("stack", -1)
    with pytest.raises(ValueError, match="asks for nothing known"):
        parse_goal("juggle the red ball", env.scene.things)
    with pytest.raises(ValueError, match="0 things are"):
        parse_goal("put the red sign on the blue hand", env.scene.things)
    with pytest.raises(ValueError, match="tabletop tasks only"):
        Expert(gymnasium.make("CartPole-v1"))
    with pytest.raises(RuntimeError, match="needs a terminal"):
        play()


def test_many_at_once_are_what_each_is_alone() -> None:
    envs = gymnasium.make_vec(IDS["put-in"], 2, "sync", size=16)
    alone = TabletopEnv("put-in", 16)
    seen, _ = envs.reset(seed=3)
    actions = np.zeros((2, 3), np.float32)
    after, *_ = envs.step(actions)
    for i in range(2):
        first, _ = alone.reset(seed=3 + i)
        assert seen["instruction"][i] == first["instruction"]
        assert np.array_equal(after["image"][i], alone.step(actions[i])[0]["image"])
    envs.close()


def test_shared_memory_which_would_hide_the_instruction_is_refused() -> None:
    with pytest.raises(ValueError, match="shared_memory=False"):
        gymnasium.make_vec(IDS["stack"], 1, "async", size=16)


def test_pictures_and_text_of_any_size() -> None:
    env = TabletopEnv("stack", 16, render_mode="rgb_array", render_size=40)
    env.reset(seed=2)
    picture = env.render()
    assert picture.shape == (40, 40, 3)
    assert picture.dtype == np.uint8
    env = TabletopEnv("stack", 16, render_mode="ansi")
    env.reset(seed=2)
    assert env.render() == frame_text(env)


# --- the expert


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_succeeds_and_its_record_replays(task: str) -> None:
    motion, instruction, success = rollout(task, 11)
    assert success
    assert instruction == draw_start(task, 11).instruction
    steps = len(motion.actions)
    assert motion.name == task
    assert motion.states.shape == (steps, 3)
    assert 5 < steps < MAX_STEPS
    assert len(motion.frames) == steps * FPS // CONTROL_HZ + 1
    for state, frame in zip(motion.states, motion.frames[:: FPS // CONTROL_HZ], strict=False):
        assert frame.gripper == Gripper(*state)
    env = TabletopEnv(task, 16)
    env.reset(seed=11)
    results = [env.step(to_action(*action))[1] for action in motion.actions]
    assert results == [0.0] * (steps - 1) + [1.0]
    final = env.scene.things
    assert holds(draw_start(task, 11).goal, final)


def test_noise_strays_and_mostly_recovers() -> None:
    clean, noisy = rollout("stack", 1), rollout("stack", 1, noise=0.01)
    assert noisy.success
    assert not np.array_equal(clean.motion.actions[:5], noisy.motion.actions[:5])
    assert np.array_equal(noisy.motion.actions, rollout("stack", 1, noise=0.01).motion.actions)


@pytest.mark.parametrize("task", TASKS)
def test_the_expert_goes_on_from_wherever_things_stand(task: str) -> None:
    """One who takes over at any step of an episode brings it about as one who began it does, and about as fast."""
    env = TabletopEnv(task, 16)
    whole = len(rollout(task, 11).motion.actions)
    for step in range(1, whole, 5):
        env.reset(seed=11)
        expert = Expert(env)
        for _ in range(step):
            env.step(expert.act())
        expert = Expert(env)
        while not (env.success or env.steps > whole + 4):
            env.step(expert.act())
        assert env.success, step


def test_what_somebody_mistaken_did_is_mended_and_not_in_the_record() -> None:
    played = [rollout(task, seed, mistaken=0.08) for task in TASKS for seed in range(11, 13)]
    assert np.mean([p.success for p in played]) > 0.8
    for one in played:
        motion, steps = one.motion, len(one.motion.actions)
        assert len(motion.states) == steps
        assert len(motion.frames) == steps * FPS // CONTROL_HZ + 1
        assert all(frame.gripper == Gripper(*s) for s, frame in zip(motion.states, motion.frames[::2], strict=False))
        assert all(0 <= contact.time <= len(motion.frames) / FPS for contact in motion.contacts)
        assert one.success or steps in (0, MAX_STEPS)  # done too early, or never
    begun = [draw_start(p.motion.name, 11).scene.gripper for p in played[::2]]
    assert all(p.motion.frames[0].gripper != gripper for p, gripper in zip(played[::2], begun, strict=True))
    again = rollout("stack", 11, mistaken=0.08)
    assert again.motion.frames == played[2 * TASKS.index("stack")].motion.frames
    with pytest.raises(ValueError, match=r"choose 0 to 0\.3"):
        rollout("stack", 0, mistaken=0.5)


# --- the game


def test_the_frame_shows_everything_where_it_is() -> None:
    env = TabletopEnv("stack", 16)
    env.reset(seed=2)
    lines = frame_text(env, 64).split("\n")
    assert all(len(line) == 64 for line in lines[:32])
    for i, thing in enumerate(env.scene.things):
        columns = [c for line in lines[:32] for c, mark in enumerate(line) if mark == str(i)]
        left, _, right, _ = bounds(thing)
        assert min(columns) / 64 == pytest.approx(left, abs=1 / 64)
        assert (max(columns) + 1) / 64 == pytest.approx(right, abs=1 / 64)
    assert any("H" in line for line in lines[:32])
    assert lines[32:] == [
        f"> {draw_start('stack', 2).instruction}",
        ", ".join(f"{i} {thing}" for i, thing in enumerate(env.scene.things)),
        f"step 0 of {MAX_STEPS}",
    ]


@pytest.mark.parametrize(
    ("key", "change"), [("left", (-1, 0)), ("right", (1, 0)), ("up", (0, 1)), ("down", (0, -1)), ("x", (0, 0))]
)
def test_keys_move_the_target(key: str, change: tuple[int, int]) -> None:
    action = key_to_action(key, np.array([0.1, 0.2, 0.3]))
    assert np.sign(np.round(action - np.array([0.1, 0.2, 0.3]), 4)).tolist() == [*change, 0]
    assert key_to_action("left", np.array([-1, 0, 0]))[0] == -1


def test_space_closes_and_opens() -> None:
    closed = key_to_action("space", np.array([0, 0, 0.4]))
    assert closed[2] == -1
    assert key_to_action("space", closed)[2] > 0


def test_a_game_in_a_terminal() -> None:
    """Arrows, space, the next seed and q in a pseudo-terminal; the screen comes back and the exit is clean."""
    ours, theirs = pty.openpty()
    code = "from selfflow.worlds.tabletop.robot import play; play('put-in', 4)"
    env = {**os.environ, "COLUMNS": "60", "LINES": "30", "TERM": "xterm"}
    game = subprocess.Popen([sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=env)
    os.close(theirs)
    shown = ""

    def until(text: str) -> None:
        nonlocal shown
        end = time.monotonic() + 20
        while text not in shown and time.monotonic() < end and game.poll() is None:
            if select.select([ours], [], [], 0.2)[0]:
                try:
                    shown += os.read(ours, 1 << 16).decode()
                except OSError:  # Linux's way to say that the other side is closed
                    return
        assert text in shown, shown[-500:]

    try:
        until(f"> {draw_start('put-in', 4).instruction}")
        os.write(ours, b"\x1b[C\x1b[B ")
        until("step 2 of")
        os.write(ours, b"r")
        until("(seed 5)")
        os.write(ours, b"q")
        until("\x1b[?1049l")
        assert game.wait(10) == 0, game.stderr and game.stderr.read()
    finally:
        game.kill()
        game.wait()
        os.close(ours)
        if game.stderr:
            game.stderr.close()
    assert "\x1b[48;2" in shown or ";48;2;" in shown  # in colour
