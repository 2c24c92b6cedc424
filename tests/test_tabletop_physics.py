"""Physics of the tabletop: free fall, rest, solidity, energy, dolls, gripper, contacts, the same bits every time."""

import hashlib
import math
import subprocess
import sys
from itertools import pairwise

import pytest

pytest.importorskip("pymunk")

from selfflow.worlds.tabletop.geometry import bounds, opening, placed, stood
from selfflow.worlds.tabletop.physics import World, overlap, settle, simulate
from selfflow.worlds.tabletop.scene import GRAVITY, KINDS, MADE_OF, TABLE, Gripper, Scene, Thing


def thing(kind, size="small", x=0.5, **more):
    word = "GO" if kind == "sign" else ""
    return stood(Thing(kind, "red", size, word=word, **more), x)


def above(falling, height):
    return falling.at(falling.x, falling.y + height - bounds(falling)[1])


def test_a_thing_falls_by_half_g_t_squared():
    ball = thing("ball").at(0.5, 0.85)
    world = World(Scene((ball,)))
    world.step(0.25)
    assert world.time == 0.25
    assert ball.y - world.scene().things[0].y == pytest.approx(GRAVITY * 0.25**2 / 2, abs=0.002)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_stays_where_it_is(kind):
    for size in ("small", "large"):
        before = thing(kind, size)
        after = settle(Scene((before,)), 1.0).things[0]
        assert math.hypot(after.x - before.x, after.y - before.y) < 0.002
        assert abs(after.angle) < 0.01
        assert after.limbs == pytest.approx(before.limbs, abs=0.02)


def test_a_stack_stays():
    box, book = thing("box", "medium"), thing("book", "small")
    cup = stood(thing("cup"), 0.5, bounds(stood(book, 0.5, bounds(box)[3]))[3])
    before = Scene((box, stood(book, 0.5, bounds(box)[3]), cup))
    after = settle(before)
    assert all(math.hypot(a.x - b.x, a.y - b.y) < 0.002 for a, b in zip(before.things, after.things, strict=True))


@pytest.mark.parametrize("kind", ["cup", "glass"])
@pytest.mark.parametrize("material", MADE_OF["ball"])
def test_the_fastest_ball_stays_in_the_vessel(kind, material):
    vessel = thing(kind, "large")
    left, bottom, right, _ = opening(vessel)
    ball = thing("ball", material=material).at(0.5, 0.92)
    world = World(Scene((ball, vessel)), velocities={0: (0.0, -4.0, 0.0)})
    for _ in range(40):
        world.step(0.025)
        now, hollow = world.scene().things[0], world.scene().things[1]
        if now.y < bounds(hollow)[3] - 0.075:
            left, bottom, right, _ = opening(hollow)
            assert left < now.x - 0.07
            assert right > now.x + 0.07
            assert bottom < now.y - 0.07


def test_overlap_measures_penetration():
    box = thing("box")
    apart = Scene((box, box.at(box.x + 0.2, box.y)))
    sunk = Scene((box, box.at(box.x + 0.15 - 0.02, box.y)))
    assert overlap(apart) < 1e-6
    assert overlap(sunk) == pytest.approx(0.02, abs=1e-6)
    assert overlap(Scene((box.at(0.5, box.y - 0.03),))) == pytest.approx(0.03, abs=1e-6)


def test_what_overlaps_is_pushed_apart():
    box = thing("box")
    assert overlap(settle(Scene((box.at(box.x, box.y - 0.02),)), 0.2)) < 0.001


def test_a_hard_impact_overlaps_by_less_than_a_pixel_and_energy_never_rises():
    scene = Scene((thing("box", "medium"), thing("ball").at(0.53, 0.85), above(thing("book", x=0.2), 0.6)))
    world = World(scene)
    energy = world.energy()
    for _ in range(120):
        world.step(1 / 120)
        assert overlap(world.scene()) < 0.005
        assert world.energy() <= energy + 0.002
        energy = world.energy()


def test_rubber_bounces_higher_than_metal():
    tops = []
    for material in ("rubber", "metal"):
        world = World(Scene((thing("ball", material=material).at(0.5, 0.6),)))
        world.step(0.4)
        heights = []
        for _ in range(20):
            world.step(0.02)
            heights.append(world.scene().things[0].y)
        tops.append(max(heights))
    assert tops[0] > tops[1] + 0.03


def test_walls_keep_a_fast_ball_in_the_picture():
    motion = simulate(Scene((thing("ball"),)), 30, velocities={0: (4.0, 0.0, 0.0)})
    assert all(bounds(frame.things[0])[2] < 1.005 for frame in motion.frames)
    assert -3 in {contact.second for contact in motion.contacts}


def test_a_doll_that_falls_moves_its_limbs_and_keeps_them():
    doll = above(Thing("doll", "red", "medium", x=0.5, angle=0.9), 0.55)
    world = World(Scene((doll,)))
    moved = 0.0
    for _ in range(20):
        world.step(0.05)
        now = world.scene().things[0]
        moved = max(moved, *(abs(a - b) for a, b in zip(now.limbs, doll.limbs, strict=True)))
        assert all(-0.6 < angle < 3.1 for angle in now.limbs)
        for limb, part in zip(world._bodies[0][1:], placed(now)[:4], strict=True):
            assert math.dist(limb.position, part.shape.a) < 0.004  # the pivots hold
    assert moved > 0.1


def test_contacts_are_first_touches_with_speed_and_impulse():
    ball = thing("ball").at(0.5, TABLE + 0.075 + 0.2)
    world = World(Scene((ball,)))
    world.step(0.3)
    (contact,) = world.contacts
    speed = math.sqrt(2 * GRAVITY * 0.2)
    assert contact.time == pytest.approx(math.sqrt(2 * 0.2 / GRAVITY), abs=0.005)
    assert (contact.first, contact.second) == (0, -1)
    assert contact.speed == pytest.approx(speed, rel=0.02)
    mass = 20.0 * math.pi * 0.075**2
    assert contact.impulse == pytest.approx(mass * speed * (1 + 0.87 * 0.85), rel=0.02)
    assert (contact.x, contact.y) == pytest.approx((0.5, TABLE), abs=0.005)


def test_contacts_of_a_pair_within_30_ms_are_one():
    box = above(Thing("box", "red", "small", x=0.5, angle=0.05), TABLE + 0.15)
    world = World(Scene((box, thing("plate", x=0.2), above(thing("cup", x=0.2), 0.5))))
    world.step(1.0)
    latest = {}
    for contact in world.contacts:
        pair = contact.first, contact.second
        assert contact.time - latest.get(pair, -1.0) >= 0.03
        assert contact.speed > 0.05
        assert contact.impulse >= 0.003
        latest[pair] = contact.time
    assert len(world.contacts) > 5


def test_rest_makes_no_contacts():
    world = World(Scene((thing("box"), thing("doll", x=0.2), thing("cup", x=0.8))))
    world.step(1.0)
    assert world.contacts == []


def test_steps_of_any_length_add_up():
    scene = Scene((thing("ball").at(0.5, 0.8),))
    one, many = World(scene), World(scene)
    one.step(0.5)
    for _ in range(37):
        many.step(0.5 / 37)
    assert one.scene() == many.scene()
    assert one.contacts == many.contacts


@pytest.mark.parametrize(
    ("kind", "size"), [("ball", "small"), ("ball", "medium"), ("box", "large"), ("glass", "small")]
)
def test_the_gripper_lifts_carries_and_sets_down(kind, size):
    held = thing(kind, size, x=0.3)
    world = World(Scene((held,)), gripper=True)

    def go(x, y, fingers, seconds):
        for _ in range(round(seconds * 10)):
            world.command(x, y, fingers)
            world.step(0.1)

    # A large box leaves a centimetre on either side; others are taken off centre.
    x, tip = 0.3 + (0.0 if size == "large" else 0.012), max(TABLE, bounds(held)[3] - 0.15)
    go(x, tip, 0.36, 1.0)
    go(x, tip, 0.0, 0.6)
    go(x, tip + 0.25, 0.0, 0.7)
    assert world.scene().things[0].y == pytest.approx(held.y + 0.25, abs=0.03)
    go(0.7, tip + 0.25, 0.0, 0.9)
    now = world.scene()
    assert now.things[0].x == pytest.approx(now.gripper.x, abs=0.005)
    go(0.7, tip, 0.0, 0.7)
    go(0.7, tip, 0.36, 0.5)
    now = world.scene().things[0]
    assert (now.x, now.y) == pytest.approx((0.7, held.y), abs=0.015)
    assert -2 in {contact.second for contact in world.contacts}


def test_the_gripper_keeps_its_speed_and_stops_at_what_it_squeezes():
    world = World(Scene((thing("box"),), gripper=Gripper(0.2, 0.8, 0.36)))
    world.command(0.9, 0.8, 0.36)
    at = [world.scene().gripper.x]
    for _ in range(20):
        world.step(0.05)
        at.append(world.scene().gripper.x)
    assert max(b - a for a, b in pairwise(at)) < 0.0505
    assert at[-1] == pytest.approx(0.9, abs=0.001)
    squeezing = World(Scene((thing("box"),), gripper=Gripper(0.5, TABLE, 0.3)))
    squeezing.command(0.5, TABLE, 0.0)
    squeezing.step(1.0)
    assert squeezing.scene().gripper.opening == pytest.approx(0.15, abs=0.002)


SAME = """
import hashlib
from selfflow.worlds.tabletop.motion import draw_motion
for name in {names!r}:
    draw_motion(5, name)
motion = draw_motion(3, "topple")
print(hashlib.sha256(repr(motion).encode()).hexdigest())
"""


def test_the_same_bits_in_every_process_whatever_ran_before():
    digests = set()
    for names in ((), ("drop", "push")):
        code = SAME.format(names=names)
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        digests.add(run.stdout.strip())
    from selfflow.worlds.tabletop.motion import draw_motion

    digests.add(hashlib.sha256(repr(draw_motion(3, "topple")).encode()).hexdigest())
    assert len(digests) == 1


def test_bad_input_gets_one_clear_error():
    scene = Scene((thing("ball"),))
    with pytest.raises(ValueError, match=r"no gripper to command"):
        World(scene).command(0.5, 0.5, 0.1)
    with pytest.raises(ValueError, match=r"opening nan; they must be finite"):
        World(scene, gripper=True).command(0.5, 0.5, math.nan)
    with pytest.raises(ValueError, match=r"cannot step -1"):
        World(scene).step(-1.0)
    with pytest.raises(ValueError, match=r"no thing 3 to push among 1"):
        World(scene, velocities={3: (0.0, 0.0, 0.0)})
    with pytest.raises(ValueError, match=r"velocity of thing 0 is \(inf"):
        World(scene, velocities={0: (math.inf, 0.0, 0.0)})
    with pytest.raises(ValueError, match=r"0 frames; choose a whole number, 1 or more"):
        simulate(scene, 0)
    with pytest.raises(ValueError, match=r"0 frames a second"):
        simulate(scene, 2, fps=0)
    with pytest.raises(ValueError, match=r"in place of thing 4 of 1"):
        World(scene).replace(4, None)
