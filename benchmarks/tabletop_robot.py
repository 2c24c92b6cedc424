"""How often the scripted expert does what it is asked, and how fast the robot tasks step.

    python benchmarks/tabletop_robot.py [--seeds N] [--quick] [--json FILE]

1000 seeds of each task as trained, 250 held out and 250 in which somebody mistaken began, about ten minutes on one
core; 25, 6 and 6 with `--quick`. Stopped, the same command goes on where it was, unless the code that decides has
changed since. Steps are counted per second of wall-clock, image of 64 pixels included.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import gymnasium

from selfflow.data.registry import MISTAKEN
from selfflow.worlds import tabletop as tabletop
from selfflow.worlds.tabletop.export.files import json_bytes, write_bytes
from selfflow.worlds.tabletop.robot import IDS, TASKS, rollout

GOAL = 0.95
EVERY = 20  # seeds between two savings
HELD_OUT = 4  # a fourth of the seeds for the test split, and for mending
MENDING = "train, after a mistake"


def wanted(seeds: int) -> Iterator[tuple[str, str, int]]:
    """Task, split and number of seeds."""
    for task in TASKS:
        yield task, "train", seeds
    for task in TASKS:
        yield task, "test", max(1, seeds // HELD_OUT)
    for task in TASKS:
        yield task, MENDING, max(1, seeds // HELD_OUT)


def code() -> str:
    """Digest of the source that decides what happens."""
    world = Path(tabletop.__file__).parent
    names = ("scene", "geometry", "relations", "split", "physics", "gripper")
    digest = hashlib.sha256()
    for path in [*(world / f"{name}.py" for name in names), *sorted((world / "robot").glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def measure(record: dict[str, Any], task: str, split: str, seeds: int) -> None:
    """Play the seeds that are missing from a record."""
    for seed in range(record["done"], seeds):
        asked: dict[str, Any] = {"mistaken": MISTAKEN} if split == MENDING else {"split": split}
        played = rollout(task, seed, **asked)
        record["done"] += 1
        if played.success:
            record["steps"].append(len(played.motion.actions))
        else:
            record["failed"].append(seed)


def row_of(record: dict[str, Any], task: str, split: str) -> dict[str, Any]:
    share = 1 - len(record["failed"]) / record["done"]
    steps = sorted(record["steps"])
    row = {
        "name": f"{task}, {split}", "value": share, "unit": "success", "n": record["done"], "failed": record["failed"],
        "median_steps": steps[len(steps) // 2] if steps else None,
    }  # fmt: skip
    # Of what was mistaken some is brought about all the same before the expert comes, which is not counted.
    return row if split == MENDING else row | {"goal": GOAL, "holds": share >= GOAL}


def speed(copies: int, mode: str, steps: int) -> float:
    """Steps a second of all copies together, with random actions."""
    shared = {"shared_memory": False} if mode == "async" else None
    envs = gymnasium.make_vec(IDS["pick-place"], copies, mode, shared)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    start = time.perf_counter()
    for _ in range(steps):
        envs.step(envs.action_space.sample())
    seconds = time.perf_counter() - start
    envs.close()
    return copies * steps / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="of each task (train); a fourth for test")
    parser.add_argument("--quick", action="store_true", help="25 seeds")
    parser.add_argument("--json", type=Path, help="write the rows to this file, and go on from what is in it")
    options = parser.parse_args()
    seeds = 25 if options.quick else options.seeds
    report: dict[str, Any] = {"code": code(), "episodes": {}}
    if options.json and options.json.exists():
        earlier = json.loads(options.json.read_text())
        if earlier.get("code") == report["code"]:
            report = earlier
    episodes = report["episodes"]
    for reached in range(EVERY, seeds + EVERY, EVERY):  # all tasks in step, so that a run cut short tells of each
        for task, split, count in wanted(min(reached, seeds)):
            record = episodes.setdefault(f"{task}, {split}", {"done": 0, "failed": [], "steps": []})
            measure(record, task, split, count)
        if options.json:
            report["rows"] = [row_of(episodes[f"{task}, {split}"], task, split) for task, split, _ in wanted(seeds)]
            write_bytes(options.json, json_bytes(report, indent=2))
    rows = [row_of(episodes[f"{task}, {split}"], task, split) for task, split, _ in wanted(seeds)]
    for row in rows:
        print(f"{row['name']:20} {row['value']:7.1%} of {row['n']:4}   median {row['median_steps']} steps", flush=True)
    for copies, mode in ((1, "sync"), (8, "sync"), (2, "async"), (8, "async")):
        rate = speed(copies, mode, 30 if options.quick else 120)
        rows.append({"name": f"{copies} environments, {mode}", "value": rate, "unit": "steps a second"})
        print(f"{rows[-1]['name']:24} {rate:7.0f} steps a second", flush=True)
    report |= {"rows": rows, "machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    if options.json:
        write_bytes(options.json, json_bytes(report, indent=2))


if __name__ == "__main__":
    main()
