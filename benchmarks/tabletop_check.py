"""How far the checkers of tabletop pictures can be trusted.

    python benchmarks/tabletop_check.py [--quick] [--json FILE]

True renders of drawn scenes must be read without fault; scenes broken on purpose must not be. Both are measured on
clean pictures, under noise (standard deviation 8 of 255) and under blur (radius 0.7 pixels), at 64 pixels, and at 48
and 32 for information. A run that is stopped goes on where it was: counts are kept in the JSON file after every chunk.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from selfflow.worlds.tabletop.check import physics_faults, score_edit, score_reference, score_text
from selfflow.worlds.tabletop.claim import describe, judge, resolved
from selfflow.worlds.tabletop.corrupt import CORRUPTIONS, blurred, corrupt, corrupt_picture, noisy
from selfflow.worlds.tabletop.draw import draw
from selfflow.worlds.tabletop.export.files import json_bytes, write_bytes
from selfflow.worlds.tabletop.language import parse
from selfflow.worlds.tabletop.render import render
from selfflow.worlds.tabletop.scene import KINDS, Scene
from selfflow.worlds.tabletop.tasks import EDIT_KINDS, draw_edit, draw_reference

COUNT, FEWER, QUICK, CHUNK = 1000, 300, 5, 25
FIRST_SEED = 5_000_000  # far from those the checkers were made with
CONDITIONS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "clean": lambda picture, seed: picture,
    "noise": noisy,
    "blur": lambda picture, seed: blurred(picture),
}
NEEDED = {"wrong word": "sign", "extra finger": "hand", "missing finger": "hand", "sixth finger": "hand"}
NEEDED |= {"wrong pose": "doll", "missing limb": "doll", "extra limb": "doll"}
BY_PHYSICS = ("interpenetrated", "floating")
TRUE_AT_LEAST, CAUGHT_AT_LEAST = 0.99, 0.95


def read_right(kind: str, condition: str, size: int, seed: int) -> bool | None:
    """Whether a true scene with such a thing is read without any fault; None if this seed has none."""
    scene = draw(seed)
    if all(thing.kind != kind for thing in scene.things):
        return None
    return score_text(CONDITIONS[condition](render(scene, size), seed), describe(scene)).value == 1


def caught(corruption: str, condition: str, size: int, seed: int) -> bool | None:
    """Whether a scene broken this way is found out; None if this seed's cannot be broken so."""
    scene: Scene = draw(seed, 3 if corruption in ("swapped places", "wrong relation") else None)
    if corruption in NEEDED and all(thing.kind != NEEDED[corruption] for thing in scene.things):
        return None
    try:
        picture = corrupt_picture(scene, corruption.removesuffix(" (no caption)"), seed, size)
    except ValueError:
        return None
    picture = CONDITIONS[condition](picture, seed)
    if corruption.endswith(" (no caption)"):
        return bool(physics_faults(picture))
    return score_text(picture, describe(scene)).value < 1


def edit_right(kind: str, condition: str, size: int, seed: int) -> bool:
    """Whether a true edit is without fault."""
    edit = draw_edit(seed, kind)
    after = CONDITIONS[condition](render(edit.after, size), seed)
    return score_edit(render(edit.before, size), after, edit.instruction).value == 1


def copy_caught(kind: str, condition: str, size: int, seed: int) -> bool:
    """Whether the input, copied, scores nothing."""
    edit = draw_edit(seed, kind)
    before = render(edit.before, size)
    return score_edit(before, CONDITIONS[condition](before, seed), edit.instruction).value == 0


def reference_right(_: str, condition: str, size: int, seed: int) -> bool:
    """Whether a true composition of referenced things is without fault."""
    task = draw_reference(seed)
    picture = CONDITIONS[condition](render(task.target, size), seed)
    return score_reference([render(scene, size) for scene in task.scenes], picture, task.text).value == 1


def stranger_caught(corruption: str, condition: str, size: int, seed: int) -> bool | None:
    """Whether a composition with one thing other than the referenced one is found out; None if the text still holds."""
    task = draw_reference(seed)
    try:
        broken = corrupt(task.target, corruption, seed)
    except ValueError:
        return None
    shown = [scene.things[0] for scene in task.scenes]
    if not judge(resolved(parse(task.text), shown), broken.things).faults:
        return None  # another size of a thing whose size no picture shows and no word tells
    picture = CONDITIONS[condition](render(broken, size), seed)
    return score_reference([render(scene, size) for scene in task.scenes], picture, task.text).value < 1


JUDGES: dict[str, Callable[[str, str, int, int], bool | None]] = {
    "true": read_right,
    "broken": caught,
    "true edit": edit_right,
    "input copied": copy_caught,
    "true reference": reference_right,
    "broken reference": stranger_caught,
}


def jobs(quick: bool) -> list[tuple[str, str, str, int, int]]:
    """`(what, of, condition, size, count)`, the most important first."""
    full, fewer = (QUICK, QUICK) if quick else (COUNT, FEWER)
    broken = (*CORRUPTIONS, *(f"{name} (no caption)" for name in BY_PHYSICS))
    found = [("true", kind, "clean", 64, full) for kind in KINDS]
    found += [("broken", name, "clean", 64, full) for name in broken]
    for condition in CONDITIONS:
        found += [(what, kind, condition, 64, fewer) for what in ("true edit", "input copied") for kind in EDIT_KINDS]
        found += [("true reference", "all", condition, 64, fewer)]
        found += [
            ("broken reference", name, condition, 64, fewer) for name in ("wrong colour", "wrong kind", "wrong size")
        ]
    for condition in ("noise", "blur"):
        found += [("true", kind, condition, 64, full) for kind in KINDS]
        found += [("broken", name, condition, 64, fewer) for name in broken]
    found += [("true", kind, "clean", size, fewer) for size in (48, 32) for kind in KINDS]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} pictures of each, nothing kept between runs")
    parser.add_argument("--count", type=int, help="pictures of each at most")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    rows: dict[str, dict[str, object]] = {}
    if options.json.exists() and not options.quick:
        rows = {row["name"]: row for row in json.loads(options.json.read_text())["rows"]}
    for what, of, condition, size, count in jobs(options.quick):
        name = f"{what}: {of}, {condition}, {size} px"
        row = rows.setdefault(name, {"name": name, "right": 0, "n": 0, "next": FIRST_SEED, "wrong": [], "seconds": 0.0})
        count = min(count, options.count or count)
        while int(str(row["n"])) < count:
            _advance(row, what, of, condition, size, min(count, int(str(row["n"])) + CHUNK))
            row |= {"value": int(str(row["right"])) / int(str(row["n"])), "unit": "share", "holds": None}
            if size == 64 and condition == "clean":
                goal = TRUE_AT_LEAST if what.startswith("true") else CAUGHT_AT_LEAST
                row |= {"goal": goal, "holds": float(str(row["value"])) >= goal}
            write_bytes(options.json, json_bytes({"rows": list(rows.values())}, indent=2))
        print(f"{name:55s} {100 * float(str(row['value'])):6.2f} %  of {row['n']}", flush=True)


def _advance(row: dict, what: str, of: str, condition: str, size: int, count: int) -> None:
    began = time.process_time()
    judge = JUDGES[what]
    while row["n"] < count:
        seed = row["next"]
        row["next"] += 1
        right = judge(of, condition, size, seed)
        if right is None:
            continue
        row["n"] += 1
        row["right"] += right
        if not right:
            row["wrong"] = [*row["wrong"], seed][:20]
    row["seconds"] = round(row["seconds"] + time.process_time() - began, 2)


if __name__ == "__main__":
    main()
