"""How often the checkers of clips, sounds and captions of motions are right: true ones pass, broken ones are caught.

    python benchmarks/tabletop_av.py [--quick] [--count N] [--faults N] [--least N] [--part K/N] [--json FILE]

Clips are those of `motion.draw_motion` at 64 pixels from seed 50000 on, clean, with mild noise and with blur; the
checkers were made with seeds from 10000 to 41000. A clip that cannot be broken some way, so that it shows, is left out
of that row; of faults that few clips can have, more clips are drawn, of motions that can, until there are `--least`.
What is found is kept, seed by seed, in a file beside the JSON: a run that is stopped goes on where it was, unless a
checker has changed since. Several runs, each with its part, share the work; one without gathers it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import selfflow.worlds.tabletop as tabletop
from selfflow.worlds.tabletop.check_clip import score_clip, score_track
from selfflow.worlds.tabletop.check_sound import Moment, judge_seen, moments_seen, moments_tracked, score_sound
from selfflow.worlds.tabletop.check_story import score_story, tell
from selfflow.worlds.tabletop.corrupt import blurred, noisy
from selfflow.worlds.tabletop.corrupt_motion import MOTION_FAULTS, SOUND_FAULTS, corrupt_motion, corrupt_sound
from selfflow.worlds.tabletop.corrupt_story import STORY_FAULTS, corrupt_story
from selfflow.worlds.tabletop.export.files import json_bytes, write_bytes
from selfflow.worlds.tabletop.language import caption_motion, parse
from selfflow.worlds.tabletop.motion import MOTIONS, draw_motion
from selfflow.worlds.tabletop.read import read_scene
from selfflow.worlds.tabletop.render import render_clip
from selfflow.worlds.tabletop.scene import FPS, SOUND_HZ, Motion, generator
from selfflow.worlds.tabletop.sound import synthesise
from selfflow.worlds.tabletop.track import read_clip

CLEAN, MILD, CAUGHT = 0.99, 0.97, 0.95
FIRST, MORE = 50_000, 100_000  # seeds: of the clips, and of the more that are drawn for rare faults
SOURCES = ("check_clip", "check_sound", "check_story", "corrupt_motion", "corrupt_story", "happen", "hear", "impacts")
SOURCES += ("look", "motion", "narrate", "read", "sound", "track", "turn")
ABLE = {
    "clip caught: gain energy": ("drop",),
    "clip caught: slow gravity": ("drop", "pour"),
    "caption caught: other way": ("roll", "push", "topple"),
}


def goal_of(name: str) -> float:
    if not name.startswith("true"):
        return CAUGHT
    return MILD if name.endswith(("noise", "blur")) else CLEAN


def measured(seed: int, faults: bool) -> Iterator[tuple[str, bool]]:
    """What is measured of one motion: (row, whether the checker is right)."""
    motion = draw_motion(seed)
    clip, sound = render_clip(motion, 64), synthesise(motion)
    claim = parse(caption_motion(motion, generator(seed, 7)))
    conditions = {"": clip, ", noise": noisy(clip, seed), ", blur": np.stack([blurred(frame) for frame in clip])}
    for condition, shown in conditions.items():
        track = read_clip(shown, FPS)
        yield f"true clips pass{condition}", score_track(track).value == 1
        told = tell(track, read_scene(shown[0]), read_scene(shown[-1]), claim)
        yield f"true captions pass{condition}", told.value == 1
        if not condition:
            seen = moments_tracked(track, clip[0])  # `score_av` is this and `judge_seen`
    yield "true sounds pass, contacts known", score_sound(sound, SOUND_HZ, motion).value == 1
    yield "true sounds pass, contacts seen", judge_seen(sound, SOUND_HZ, seen).value == 1
    for row in FAULTS if faults else ():
        if (caught := is_caught(row, motion, clip, seed, seen)) is not None:
            yield row, caught


FAULTS = [f"clip caught: {kind}" for kind in MOTION_FAULTS]
FAULTS += [f"sound caught, contacts {known}: {kind}" for kind in SOUND_FAULTS for known in ("known", "seen")]
FAULTS += [f"caption caught: {kind}" for kind in STORY_FAULTS]


def is_caught(row: str, motion: Motion, clip: np.ndarray, seed: int, seen: list[Moment] | None = None) -> bool | None:
    """Whether a fault of a motion is caught; None where it has none of that kind."""
    what, kind = row.split(": ")
    try:
        if what == "clip caught":
            return score_clip(render_clip(corrupt_motion(motion, kind, seed), 64)).value < 1
        if what == "caption caught":
            return score_story(clip, corrupt_story(motion, kind, seed)).value < 1
        broken = corrupt_sound(motion, kind, seed, plain=what.endswith("seen"))
    except ValueError:
        return None
    if what.endswith("known"):
        return score_sound(broken, SOUND_HZ, motion).value < 1
    return judge_seen(broken, SOUND_HZ, seen or moments_seen(clip)).value < 1


def more(row: str, index: int) -> tuple[int, list[tuple[str, bool]]]:
    """One more motion of a kind that may have a fault: its seed, and what is measured of it, if anything."""
    seed = MORE * (1 + FAULTS.index(row)) + 50_000 + index
    names = ABLE.get(row, MOTIONS)
    motion = draw_motion(seed, names[index % len(names)])
    caught = is_caught(row, motion, render_clip(motion, 64), seed)
    return seed, [] if caught is None else [(row, caught)]


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 clips")
    parser.add_argument("--count", type=int, default=1000, help="true clips")
    parser.add_argument("--faults", type=int, default=200, help="how many of them are broken in every way")
    parser.add_argument("--least", type=int, default=200, help="clips of every fault, as many more as are needed")
    parser.add_argument("--part", default="0/1", help="K/N: every Nth clip from the Kth on")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    a = parser.parse_args()
    part, parts = map(int, a.part.split("/"))
    count, least = (20, 0) if a.quick else (a.count, a.least)
    code, state = version(), a.json.with_name(f".{a.json.stem}.rows")
    found = kept(state, code)
    seeds = range(FIRST, FIRST + count)
    faulty = set(seeds[: a.faults])
    todo = [k for k in seeds[part::parts] if k not in found or (k in faulty and not found[k]["faults"])]
    with state.open("a", encoding="utf-8") as file:

        def keep(seed: int, right: list[tuple[str, bool]], faults: bool) -> None:
            rows = [[name, bool(value)] for name, value in right]
            found[seed] = {"seed": seed, "code": code, "faults": faults, "right": rows}
            file.write(json.dumps(found[seed]) + "\n")
            file.flush()

        for seed in tqdm(sorted(todo, key=lambda k: k not in faulty), "clips", unit="clip"):
            keep(seed, list(measured(seed, seed in faulty)), seed in faulty)
        for number, row in enumerate(FAULTS):
            if number % parts != part:
                continue
            index = sum(MORE * (1 + number) <= seed < MORE * (2 + number) for seed in found)
            while sum(name == row for one in kept(state, code).values() for name, _ in one["right"]) < least:
                seed, right = more(row, index)
                keep(seed, right, True)
                index += 1
    if parts > 1:
        return
    rows = figures({seed: row for seed, row in found.items() if seed in seeds or seed >= MORE})
    write_bytes(a.json, json_bytes({"rows": rows}, indent=2))
    for r in rows:
        print(f"{r['name']:50} {r['value']:.3f}  n = {r['n']:5}  goal {r['goal']:g}  {'' if r['holds'] else 'missed'}")
    state.unlink()


if __name__ == "__main__":
    main()
