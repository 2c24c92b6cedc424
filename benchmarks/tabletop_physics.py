"""Is the physics of the tabletop sound, and how fast is it? Overlaps, escapes, drift, energy, speed; on one core.

    python benchmarks/tabletop_physics.py [--quick] [--json FILE]

Two minutes, ten seconds with `--quick` (a tenth of the seeds). Every row says what must hold, and whether it does.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

from selfflow.worlds.tabletop.draw import draw
from selfflow.worlds.tabletop.export.files import json_bytes, write_bytes
from selfflow.worlds.tabletop.geometry import bounds, opening, stood
from selfflow.worlds.tabletop.motion import MOTIONS, draw_motion
from selfflow.worlds.tabletop.pairs import PAIR_KINDS, matched_pair
from selfflow.worlds.tabletop.physics import World, overlap, simulate
from selfflow.worlds.tabletop.scene import (
    GRAVITY,
    MADE_OF,
    PHYSICS_HZ,
    SIZES,
    TABLE,
    Scene,
    Thing,
    between,
    generator,
)

PIXEL = 1 / 64  # m
Row = dict[str, object]


def row(name: str, value: float, unit: str, n: int, holds: bool | None = None) -> Row:
    return {"name": name, "value": round(value, 6), "unit": unit, "n": n, "holds": holds}


def speed(count: int) -> list[Row]:
    """Processor time, for the machine may be shared."""
    scenes = [draw(seed, count=5) for seed in range(20)]
    began = time.process_time()
    for scene in scenes:
        World(scene).step(1.0)
    steps = len(scenes) * PHYSICS_HZ / (time.process_time() - began)
    rows = [row("steps of 1/480 s, five things", steps, "1/s", len(scenes))]
    total = 0.0
    for name in MOTIONS:
        began = time.process_time()
        for seed in range(count):
            draw_motion(seed, name)
        spent = time.process_time() - began
        total += spent
        rows.append(row(f"motions drawn: {name}", count / spent, "1/s", count))
    rows.append(row("motions drawn: all", count * len(MOTIONS) / total, "1/s", count * len(MOTIONS)))
    first = [draw_motion(seed, MOTIONS[seed % len(MOTIONS)]).frames[0] for seed in range(count)]
    began = time.process_time()
    for scene in first:
        simulate(scene, 16)
    rows.append(row("motions simulated", count / (time.process_time() - began), "1/s", count))
    began = time.process_time()
    for seed in range(count):
        matched_pair(seed, PAIR_KINDS[seed % len(PAIR_KINDS)])
    rows.append(row("matched pairs drawn", count / (time.process_time() - began), "1/s", count))
    return rows


def solid(count: int) -> list[Row]:
    """The deepest overlap in any frame of drawn motions, and things that have left the picture through its borders."""
    deepest, out = [], 0
    for seed in range(count):
        motion = draw_motion(seed, MOTIONS[seed % len(MOTIONS)])
        deepest.append(max(overlap(frame) for frame in motion.frames))
        for thing in motion.frames[-1].things:
            left, bottom, right, top = bounds(thing)
            out += left < -0.01 or right > 1.01 or top > 1.01 or bottom < TABLE - 0.01
    deepest.sort()
    most = deepest[-1]
    return [
        row("deepest overlap in a motion, median", 1000 * deepest[count // 2], "mm", count),
        row("deepest overlap of all", 1000 * most, "mm", count, most < 0.004),
        row("deepest overlap of all at 64 pixels", most / PIXEL, "px", count, most < PIXEL),
        row("things outside the picture", out, "", count, out == 0),
    ]


def escapes(throws: int) -> list[Row]:
    """Small balls thrown about in cups and glasses at up to 4 m/s, as fast as a fall through the picture."""
    rng, through, tried = generator(0), 0, 0
    vessels = [
        stood(Thing(kind, "red", size, material=material))
        for kind in ("cup", "glass")
        for size in SIZES
        for material in MADE_OF[kind]
    ]
    roomy = [v for v in vessels if (hollow := opening(v)) and hollow[2] - hollow[0] > SIZES["small"] + 0.006]
    for _ in range(throws):
        for vessel in roomy:
            for material in MADE_OF["ball"]:
                through += _through(vessel, material, between(rng, 0.0, 2 * math.pi), between(rng, 1.0, 4.0))
                tried += 1
    return [row("balls through the wall of a cup or glass", through, "", tried, through == 0)]


def _through(vessel: Thing, material: str, direction: float, speed: float) -> bool:
    """Whether a ball that starts in the hollow is ever outside without having come over the rim."""
    hollow = opening(vessel)
    assert hollow is not None
    left, bottom, right, rim = hollow
    ball = Thing("ball", "blue", "small", x=(left + right) / 2, y=bottom + 0.08, material=material)
    velocity = (speed * math.cos(direction), speed * math.sin(direction), 0.0)
    world = World(Scene((ball, vessel)), velocities={0: velocity})
    half, height = (right - left) / 2, rim - vessel.y
    within = True
    for _ in range(PHYSICS_HZ // 2):
        world.step(1 / PHYSICS_HZ)
        ball, now = world.scene().things
        c, s = math.cos(now.angle), math.sin(now.angle)
        x, y = c * (ball.x - now.x) + s * (ball.y - now.y), c * (ball.y - now.y) - s * (ball.x - now.x)
        if y > height:
            within = False  # over the rim, and free to go
        elif within and (abs(x) > half or y < 0.0):
            return True
        elif not within and abs(x) < half and y > 0.0:
            within = True
    return False


def rest(count: int) -> list[Row]:
    """How far things that `draw` laid by arithmetic move in two seconds."""
    drift, turn, sounds = [], 0.0, 0
    for seed in range(count):
        scene = draw(seed)
        world = World(scene)
        world.step(2.0)
        sounds += len(world.contacts)
        pairs = list(zip(scene.things, world.scene().things, strict=True))
        drift.append(max(math.hypot(a.x - b.x, a.y - b.y) for a, b in pairs))
        turn = max(turn, *(abs(a.angle - b.angle) for a, b in pairs if a.kind != "ball"), 0.0)
    drift.sort()
    still = sum(d < PIXEL for d in drift) / count
    return [
        row("drift of drawn scenes in 2 s, median", 1000 * drift[count // 2], "mm", count),
        row("drift of drawn scenes in 2 s, most", drift[-1] / PIXEL, "px", count, drift[-1] < PIXEL),
        row("drawn scenes that drift by less than a pixel", still, "share", count, still == 1.0),
        row("most turned", math.degrees(turn), "degrees", count),
        row("contacts heard in drawn scenes at rest", sounds, "", count, sounds == 0),
    ]


def energy(count: int) -> list[Row]:
    """The largest rise of energy from frame to frame after a lift and a throw, as a share of what there was to lose."""
    rng, worst = generator(1), 0.0
    for seed in range(count):
        scene = draw(seed)
        lifted = Scene(tuple(thing.at(thing.x, thing.y + 0.1) for thing in scene.things))
        throw = {k: (between(rng, -1, 1), between(rng, -1, 1), between(rng, -3, 3)) for k in range(len(lifted.things))}
        world, lowest = World(lifted, velocities=throw), World(scene).energy()
        before = first = world.energy()
        for _ in range(20):
            world.step(0.05)
            now = world.energy()
            worst = max(worst, (now - before) / (first - lowest))
            before = now
    return [row("largest rise of energy in 50 ms, of that at the start", worst, "share", count, worst < 0.01)]


def fall() -> list[Row]:
    """The acceleration of a falling ball, by its place after 0.3 s."""
    ball = Thing("ball", "red", "small", y=0.9)
    world = World(Scene((ball,)))
    world.step(0.3)
    g = 2 * (0.9 - world.scene().things[0].y) / 0.3**2
    return [row("acceleration of a fall", g, "m/s²", 1, abs(g - GRAVITY) < 0.05)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the seeds")
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).with_suffix(".json"), help="write the figures there"
    )
    arguments = parser.parse_args()
    part = 10 if arguments.quick else 1
    rows = [
        *speed(60 // part),
        *solid(300 // part),
        *escapes(50 // part),
        *rest(200 // part),
        *energy(200 // part),
        *fall(),
    ]
    for each in rows:
        verdict = {None: "", True: "holds", False: "FAILS"}[each["holds"]]  # type: ignore[index]
        print(f"{each['name']:58} {each['value']:>12,.4g} {each['unit']:8} n = {each['n']:<5} {verdict}")
    write_bytes(arguments.json, json_bytes({"rows": rows}, indent=2))


if __name__ == "__main__":
    main()
