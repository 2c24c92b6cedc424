"""How often the checkers of clips and sounds are right: true ones that pass, broken ones that are caught.

    python benchmarks/tabletop_av.py [--quick] [--count N] [--faults N] [--minutes M] [--json FILE]

Clips are those of `motion.draw_motion` at 64 pixels from seed 0 on, clean, with mild noise and with blur; the checkers
were made with seeds from 10000 on. A clip or sound that cannot be broken some way, so that it shows, is left out of
that row. What is found is kept, seed by seed, in a file beside the JSON: a run that is stopped goes on where it was,
unless a checker has changed since.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import selfflow.worlds.tabletop as tabletop
from selfflow.worlds.tabletop.check_clip import score_clip
from selfflow.worlds.tabletop.check_sound import judge_seen, moments_seen, score_sound
from selfflow.worlds.tabletop.corrupt import blurred, noisy
from selfflow.worlds.tabletop.corrupt_motion import MOTION_FAULTS, SOUND_FAULTS, corrupt_motion, corrupt_sound
from selfflow.worlds.tabletop.motion import draw_motion
from selfflow.worlds.tabletop.render import render_clip
from selfflow.worlds.tabletop.scene import SOUND_HZ
from selfflow.worlds.tabletop.sound import synthesise

CLEAN, MILD, CAUGHT = 0.99, 0.97, 0.95
SAVED = 25  # seeds after which the figures are written
SOURCES = ("check_clip", "check_sound", "corrupt_motion", "hear", "impacts", "look", "motion", "sound", "track")


def goal_of(name: str) -> float:
    if not name.startswith("true"):
        return CAUGHT
    return MILD if name.endswith(("noise", "blur")) else CLEAN


def measured(seed: int, faults: bool) -> Iterator[tuple[str, bool]]:
    """What is measured of one motion: (row, whether the checker is right)."""
    motion = draw_motion(seed)
    clip, sound = render_clip(motion, 64), synthesise(motion)
    yield "true clips pass", score_clip(clip).value == 1
    yield "true clips pass, noise", score_clip(noisy(clip, seed)).value == 1
    yield "true clips pass, blur", score_clip(np.stack([blurred(frame) for frame in clip])).value == 1
    seen = moments_seen(clip)  # once for all sounds: `score_av` is these two steps
    yield "true sounds pass, contacts known", score_sound(sound, SOUND_HZ, motion).value == 1
    yield "true sounds pass, contacts seen", judge_seen(sound, SOUND_HZ, seen).value == 1
    if not faults:
        return
    for kind in MOTION_FAULTS:
        try:
            wrong = corrupt_motion(motion, kind, seed)
        except ValueError:
            continue
        yield f"clip caught: {kind}", score_clip(render_clip(wrong, 64)).value < 1
    for kind in SOUND_FAULTS:
        for contacts in ("known", "seen"):
            try:
                broken = corrupt_sound(motion, kind, seed, plain=contacts == "seen")
            except ValueError:
                continue
            if contacts == "known":
                score = score_sound(broken, SOUND_HZ, motion)
            else:
                score = judge_seen(broken, SOUND_HZ, seen)
            yield f"sound caught, contacts {contacts}: {kind}", score.value < 1


def version() -> str:
    """A digest of the code that is measured."""
    folder = Path(tabletop.__file__).parent
    return hashlib.sha256(b"".join((folder / f"{name}.py").read_bytes() for name in SOURCES)).hexdigest()[:12]


def kept(path: Path, code: str) -> dict[int, dict[str, Any]]:
    """What earlier runs of this code have found, by seed."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return {row["seed"]: row for row in found if row["code"] == code}


def figures(found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    right: dict[str, list[bool]] = {}
    for seed in sorted(found):
        for name, value in found[seed]["right"]:
            right.setdefault(name, []).append(value)
    rows = []
    for name in sorted(right, key=lambda name: (not name.startswith("true"), name)):
        value, goal = float(np.mean(right[name])), goal_of(name)
        rows.append({"name": name, "value": value, "n": len(right[name]), "goal": goal, "holds": value >= goal})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 clips")
    parser.add_argument("--count", type=int, default=1000, help="true clips")
    parser.add_argument("--faults", type=int, default=300, help="how many of them are broken in every way")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many; a later run goes on")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    a = parser.parse_args()
    count = 20 if a.quick else a.count
    code, state, end = version(), a.json.with_name(f".{a.json.stem}.rows"), time.monotonic() + 60 * a.minutes
    found = kept(state, code)
    todo = [k for k in range(count) if k not in found or (k < a.faults and not found[k]["faults"])]
    with state.open("a", encoding="utf-8") as file:
        for done, seed in enumerate(tqdm(todo, "clips", unit="clip")):
            if time.monotonic() > end:
                break
            right = [[name, bool(value)] for name, value in measured(seed, seed < a.faults)]
            found[seed] = {"seed": seed, "code": code, "faults": seed < a.faults, "right": right}
            file.write(json.dumps(found[seed]) + "\n")
            file.flush()
            if done % SAVED == SAVED - 1:
                write(a.json, figures(found))
    rows = figures({seed: row for seed, row in found.items() if seed < count})
    write(a.json, rows)
    for r in rows:
        print(f"{r['name']:50} {r['value']:.3f}  n = {r['n']:5}  goal {r['goal']:g}  {'' if r['holds'] else 'missed'}")
    if all(seed in found for seed in range(count)):
        state.unlink()


if __name__ == "__main__":
    main()
