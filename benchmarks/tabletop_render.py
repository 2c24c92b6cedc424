"""How many pictures and clips of the Tabletop one core draws: `tabletop_render.py [--quick] [--json FILE]`.

Time is the processor's, of this process alone, so that a busy machine counts little against it; arrays are small
enough that numpy uses one thread. Drawing the scenes and simulating the motions is not in it.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from selfflow.worlds.tabletop.draw import draw
from selfflow.worlds.tabletop.export.files import json_bytes, write_bytes
from selfflow.worlds.tabletop.motion import draw_motion
from selfflow.worlds.tabletop.render import render, render_clip
from selfflow.worlds.tabletop.scene import FRAMES

ROUNDS = 5


def per_second(work: Callable, items: Sequence) -> float:
    """Items done in a second of processor time, after one to warm up: the median of `ROUNDS` rounds."""
    work(items[0])
    rates = []
    for part in range(ROUNDS):
        start = time.process_time()
        for item in items[part::ROUNDS]:
            work(item)
        rates.append(len(items[part::ROUNDS]) / (time.process_time() - start))
    return float(np.median(rates))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the scenes")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    few = 10 if options.quick else 1
    scenes = [draw(seed) for seed in range(2000 // few)]
    crowded = [draw(seed, count=6) for seed in range(500 // few)]
    motions = [draw_motion(seed, frames=FRAMES) for seed in range(100 // few)]
    things = np.mean([len(scene.things) for scene in scenes])
    moving = np.mean([len(motion.frames[0].things) for motion in motions])
    rows = [
        {"name": f"stills, 64 px, {things:.1f} things on average", "value": per_second(render, scenes), "goal": 500},
        {"name": "stills, 64 px, 6 things", "value": per_second(render, crowded), "goal": 500},
        {
            "name": f"clips of {FRAMES} frames, 64 px, {moving:.1f} each",
            "value": per_second(render_clip, motions),
            "goal": 40,
        },
        {"name": "stills, 256 px", "value": per_second(lambda s: render(s, 256), scenes[: 300 // few])},
        {"name": "stills, 512 px", "value": per_second(lambda s: render(s, 512), scenes[: 100 // few])},
    ]
    for row in rows:
        row |= {"unit": "a second and core"} | ({"holds": row["value"] >= row["goal"]} if "goal" in row else {})
        verdict = f"goal {row['goal']}: {'holds' if row['holds'] else 'MISSED'}" if "goal" in row else ""
        print(f"{row['name']:48} {row['value']:8.0f} a second and core   {verdict}")
    if options.json:
        report = {"rows": rows, "machine": platform.processor() or platform.machine(), "numpy": np.__version__}
        write_bytes(options.json, json_bytes(report, indent=2))


if __name__ == "__main__":
    main()
