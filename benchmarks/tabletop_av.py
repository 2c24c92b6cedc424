"""How often the checkers of clips and sounds are right: true ones that pass, broken ones that are caught.

    python benchmarks/tabletop_av.py [--quick] [--json FILE] [--count N]

Clips are those of `motion.draw_motion` at 64 pixels, clean, with mild noise and with blur.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from selfflow.worlds.tabletop.check_clip import score_clip
from selfflow.worlds.tabletop.check_sound import score_av, score_sound
from selfflow.worlds.tabletop.corrupt import blurred, noisy
from selfflow.worlds.tabletop.corrupt_motion import MOTION_FAULTS, SOUND_FAULTS, corrupt_motion, corrupt_sound
from selfflow.worlds.tabletop.motion import draw_motion
from selfflow.worlds.tabletop.render import render_clip
from selfflow.worlds.tabletop.scene import FPS, SOUND_HZ, Motion
from selfflow.worlds.tabletop.sound import synthesise

CLEAN, CAUGHT = 0.99, 0.95


def row(name: str, right: list[bool], goal: float) -> dict[str, Any]:
    value = float(np.mean(right)) if right else float("nan")
    return {"name": name, "value": value, "n": len(right), "goal": goal, "holds": value >= goal}


def broken(make: Callable[[Motion, str, int], Any], motion: Motion, kind: str, seed: int) -> Any:
    """The motion or sound broken that way, or None where nothing in it can be."""
    try:
        return make(motion, kind, seed)
    except ValueError:
        return None


def measure(count: int) -> list[dict[str, Any]]:
    found: dict[tuple[str, float], list[bool]] = {}

    def note(name: str, goal: float, right: bool) -> None:
        found.setdefault((name, goal), []).append(right)

    for seed in tqdm(range(count), "clips", unit="clip"):
        motion = draw_motion(seed)
        clip, sound = render_clip(motion, 64), synthesise(motion)
        note("true clips pass", CLEAN, score_clip(clip).value == 1)
        note("true clips pass, noise", CLEAN, score_clip(np.stack([noisy(f, seed) for f in clip])).value == 1)
        note("true clips pass, blur", CLEAN, score_clip(np.stack([blurred(f) for f in clip])).value == 1)
        note("true sounds pass, contacts known", CLEAN, score_sound(sound, SOUND_HZ, motion).value == 1)
        note("true sounds pass, contacts seen", CLEAN, score_av(clip, FPS, sound, SOUND_HZ).value == 1)
        for kind in MOTION_FAULTS:
            other = broken(corrupt_motion, motion, kind, seed)
            if other is not None:
                note(f"clip caught: {kind}", CAUGHT, score_clip(render_clip(other, 64)).value < 1)
        for kind in SOUND_FAULTS:
            other = broken(corrupt_sound, motion, kind, seed)
            if other is not None:
                note(f"sound caught, contacts known: {kind}", CAUGHT, score_sound(other, SOUND_HZ, motion).value < 1)
                note(f"sound caught, contacts seen: {kind}", CAUGHT, score_av(clip, FPS, other, SOUND_HZ).value < 1)
    return [row(name, right, goal) for (name, goal), right in found.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 clips")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    a = parser.parse_args()
    rows = measure(20 if a.quick else a.count)
    for r in rows:
        print(f"{r['name']:50} {r['value']:.3f}  n = {r['n']:5}  goal {r['goal']:g}  {'' if r['holds'] else 'missed'}")
    temporary = a.json.with_name(f".{a.json.name}.tmp")
    temporary.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, a.json)


if __name__ == "__main__":
    main()
