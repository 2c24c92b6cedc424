"""What happens next: the things of a scene as rigid bodies under gravity, by pymunk (Chipmunk), in SI units.

Every solid part of `geometry` is a shape; a thing is one body, a doll five (torso with head, and four limbs on pivots).
Masses are areas times `DENSITY`. The table is fixed; walls out of sight at x = 0 and x = 1 keep things in the picture.

The world advances in steps of 1/`PHYSICS_HZ` s, each solved in `SUBSTEPS` parts: what falls from the top of the picture
moves 4 mm in one, less than any wall is thick, so nothing tunnels and overlaps stay far below a pixel. Their length
never varies: Chipmunk warm-starts a longer one with impulses that its solver cannot take back, which adds energy.
A run is a function of the scene, the velocities and the commands alone, bit for bit: Chipmunk numbers its shapes and
orders its contacts per space, nothing is random, and contacts are sorted before they are read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

try:
    import pymunk
    from pymunk import batch
except ImportError as error:  # pragma: no cover
    raise ImportError("the physics of the tabletop needs pymunk: pip install 'selfflow[world]'") from error

from .geometry import Capsule, Disc, Part, Shape, parts
from .gripper import FINGERS, Gantry
from .scene import (
    FPS,
    GRAVITY,
    MAX_THINGS,
    PHYSICS_HZ,
    TABLE,
    Contact,
    Motion,
    Scene,
    Thing,
    check_fps,
    check_frames,
)

# Of a thing as seen from the side, kg/m²: metal is hollow here, for stacks of moderate mass ratios are stable.
DENSITY = {"rubber": 20.0, "wood": 15.0, "glass": 30.0, "metal": 45.0}
# Of one of two surfaces that meet; the pair has the product.
FRICTION = {"rubber": 1.1, "wood": 0.8, "glass": 0.65, "metal": 0.7}
RESTITUTION = {"rubber": 0.87, "wood": 0.60, "glass": 0.55, "metal": 0.50}
TABLE_FRICTION, TABLE_RESTITUTION = 0.9, 0.85
ROLLING = 0.03  # rolling resistance of balls: torque over weight times radius

SUBSTEPS = 2
ITERATIONS = 25
SLOP = 0.0004  # overlap that is left alone, m
BIAS_RATE = 60.0  # 1/s, at which the rest of an overlap is pushed apart

# Dolls: (least, greatest) angle of arms and legs from straight down, outwards; spring and damping over mass · length.
LIMITS = ((-0.4, 2.9), (-0.4, 2.9), (-0.3, 1.4), (-0.3, 1.4))
STIFFNESS, DAMPING = 90.0, 0.8

# Contacts: approaches slower than this or weaker than this are rest, and those of a pair within this time are one.
MIN_SPEED, MIN_IMPULSE, MERGE = 0.05, 0.003, 0.03

TABLE_INDEX, GRIPPER_INDEX, WALL_INDEX = -1, -2, -3

Velocity = tuple[float, float, float]
_BODY_FIELDS = batch.BodyFields.POSITION | batch.BodyFields.VELOCITY | batch.BodyFields.ANGULAR_VELOCITY
_WEIGHTS = np.array([0.0, 0.0, 1.0, 1.0, 0.1])  # of changes of those fields
_IDS = batch.ArbiterFields.BODY_A_ID | batch.ArbiterFields.BODY_B_ID | batch.ArbiterFields.CONTACT_COUNT
_ARBITER_FIELDS = (
    _IDS
    | batch.ArbiterFields.TOTAL_IMPULSE
    | batch.ArbiterFields.NORMAL
    | batch.ArbiterFields.POINT_A_1
    | batch.ArbiterFields.POINT_A_2
)


def collider(shape: Shape, body: pymunk.Body) -> pymunk.Shape:
    """A shape of `geometry`, in its thing's frame, on a body of pymunk."""
    if isinstance(shape, Disc):
        return pymunk.Circle(body, shape.r, (shape.x, shape.y))
    if isinstance(shape, Capsule):
        return pymunk.Segment(body, shape.a, shape.b, shape.r)
    return pymunk.Poly(body, shape.points, radius=shape.r)


class World:
    """A scene that can be stepped.

    Args:
        scene: at time 0. Things that overlap are pushed apart.
        gripper: add a gripper even if the scene shows none; a scene that shows one always has it.
        velocities: of things at time 0, by index: m/s, m/s and radians/s. The others rest.
        passing: pairs of things that go through one another, as nothing can; for `pairs`.

    Attributes:
        time: seconds since the start.
        contacts: so far, in order of time.

    Raises:
        ValueError: for velocities of things that are not there or that are not three finite numbers.
    """

    def __init__(
        self,
        scene: Scene,
        gripper: bool = False,
        velocities: Mapping[int, Velocity] | None = None,
        passing: Collection[tuple[int, int]] = (),
    ) -> None:
        self._start = scene
        self._things = list(scene.things)
        self._passing = frozenset(frozenset(pair) for pair in passing)
        self._floating: set[int] = set()
        self._turning: dict[int, tuple[tuple[float, float], float]] = {}
        self._substeps = 0
        self._owed = 0.0
        self.contacts: list[Contact] = []
        self._open: dict[tuple[int, int], int] = {}  # the latest contact of each pair
        self._space = space = pymunk.Space()
        space.gravity = (0.0, -GRAVITY)
        space.iterations = ITERATIONS
        space.collision_slop = SLOP
        space.collision_bias = math.exp(-BIAS_RATE)
        space.collision_persistence = 1
        self._owner: dict[int, int] = {}  # id of a body: index of its thing
        self._bodies = [self._add_thing(index, thing) for index, thing in enumerate(scene.things)]
        self._add_surface(TABLE_INDEX, (-1.0, TABLE - 0.5), (2.0, TABLE - 0.5))
        self._add_surface(WALL_INDEX, (-0.5, -1.0), (-0.5, 3.0))
        self._add_surface(WALL_INDEX, (1.5, -1.0), (1.5, 3.0))
        self._gantry = Gantry(space, scene.gripper) if gripper or scene.gripper is not None else None
        if self._gantry is not None:
            self._owner.update((body.id, GRIPPER_INDEX) for body in self._gantry.bodies)
        self._push(velocities or {})
        self._buffer, self._arbiters = batch.Buffer(), batch.Buffer()
        self._index_bodies()

    @property
    def time(self) -> float:
        return self._substeps / (PHYSICS_HZ * SUBSTEPS)

    def step(self, seconds: float) -> None:
        """Advance by that time, to the nearest 1/`PHYSICS_HZ` s; what is left over is owed to the next call."""
        if not 0.0 <= seconds < math.inf:
            raise ValueError(f"cannot step {seconds} s; choose 0 or more")
        self._owed += seconds * PHYSICS_HZ
        count = round(self._owed)
        self._owed -= count
        dt = 1 / (PHYSICS_HZ * SUBSTEPS)
        for _ in range(count * SUBSTEPS):
            if self._gantry is not None:
                self._gantry.drive(dt)
            for index in self._floating:
                for body in self._bodies[index]:
                    body.force = (0.0, body.mass * GRAVITY)
            for index, (pivot, spin) in self._turning.items():
                body = self._bodies[index][0]
                arm = (body.local_to_world(body.center_of_gravity) - pivot).rotated(spin * dt / 2)
                body.velocity, body.angular_velocity = (-spin * arm.y, spin * arm.x), spin
            self._space.step(dt)
            self._substeps += 1
            self._listen(dt)

    def command(self, x: float, y: float, opening: float) -> None:
        """Send the gripper towards a place; it goes there at limited speed, and stops at what resists.

        Args:
            x, y: of its middle and finger tips, m.
            opening: between its fingers, m. All three are clamped to the ranges of `Gripper`.

        Raises:
            ValueError: without a gripper, or for a target that is not finite.
        """
        if self._gantry is None:
            raise ValueError("this world has no gripper to command; make it with World(scene, gripper=True)")
        if not all(math.isfinite(value) for value in (x, y, opening)):
            raise ValueError(f"the gripper cannot go to x {x}, y {y}, opening {opening}; they must be finite")
        self._gantry.command(x, y, opening)

    def turn(self, index: int, pivot: tuple[float, float], spin: float) -> None:
        """From now on a thing turns about a point, m, at that rate, radians/s, as if a hand held it; no doll can."""
        if not 0 <= index < len(self._bodies) or len(self._bodies[index]) > 1:
            raise ValueError(f"there is no thing {index} of one body to turn among {len(self._bodies)}")
        self._bodies[index][0].body_type = pymunk.Body.KINEMATIC
        self._turning[index] = (pivot, spin)

    def suspend(self, index: int, velocity: Velocity) -> None:
        """From now on a thing has that velocity and no weight, as nothing can; for `pairs`."""
        self._floating.add(index)
        self._push({index: velocity})

    def replace(self, index: int, thing: Thing | None) -> None:
        """Put another thing, or the same elsewhere, in place of one, which keeps its velocity; for `pairs`.

        Args:
            index: of the thing; the number of things adds one, at rest.
            thing: None takes it away, which only the last thing can be.

        Raises:
            ValueError: for an index that is not there, or for taking away another than the last.
        """
        last = len(self._things) - 1
        if not 0 <= index <= last + (thing is not None) or (thing is None and index < last):
            raise ValueError(f"cannot put {thing} in place of thing {index} of {last + 1}")
        velocity = (0.0, 0.0, 0.0)
        if index <= last:
            old = self._bodies[index]
            velocity = (*old[0].velocity, old[0].angular_velocity)
            joints = [joint for joint in self._space.constraints if joint.a in old or joint.b in old]
            self._space.remove(*joints, *(shape for shape in self._space.shapes if shape.body in old), *old)
        self._things[index : index + 1] = [] if thing is None else [thing]
        self._bodies[index : index + 1] = [] if thing is None else [self._add_thing(index, thing)]
        if thing is not None:
            self._push({index: velocity})
        self._index_bodies()

    def scene(self) -> Scene:
        """The same things as they are now, poses rounded to 1e-6 m and radians."""
        things = tuple(_posed(thing, bodies) for thing, bodies in zip(self._things, self._bodies, strict=True))
        gripper = self._start.gripper if self._gantry is None else self._gantry.gripper()
        return replace(self._start, things=things, gripper=gripper)

    def energy(self) -> float:
        """Of all things, J: of motion, of height above y = 0, and of the springs of dolls."""
        total = 0.0
        for body in (body for bodies in self._bodies for body in bodies):
            if body.body_type != pymunk.Body.DYNAMIC:
                continue  # what is turned has whatever energy it takes
            height = body.local_to_world(body.center_of_gravity).y
            speed, spin = body.velocity.length, body.angular_velocity
            total += body.mass * (speed**2 / 2 + GRAVITY * height) + body.moment * spin**2 / 2
        for spring in self._space.constraints:
            if isinstance(spring, pymunk.DampedRotarySpring):
                total += spring.stiffness * (spring.a.angle - spring.b.angle - spring.rest_angle) ** 2 / 2
        return total

    # ------------------------------------------------------------------------------------------------ building
    def _add_surface(self, index: int, a: tuple[float, float], b: tuple[float, float]) -> None:
        """A static capsule, half a metre thick on either side: too deep to pass."""
        body = pymunk.Body(body_type=pymunk.Body.STATIC)
        shape = pymunk.Segment(body, a, b, 0.5)
        shape.friction, shape.elasticity = TABLE_FRICTION, TABLE_RESTITUTION
        shape.filter = pymunk.ShapeFilter(mask=pymunk.ShapeFilter.ALL_MASKS() ^ FINGERS)
        self._space.add(body, shape)
        self._owner[body.id] = index

    def _body(self, index: int, thing: Thing, solids: list[Part], at: tuple[float, float], angle: float) -> pymunk.Body:
        """A body of those parts, its origin at a place."""
        body = pymunk.Body()
        shapes = [collider(part.shape, body) for part in solids]
        for shape in shapes:
            shape.density = DENSITY[thing.material]
            shape.friction, shape.elasticity = FRICTION[thing.material], RESTITUTION[thing.material]
            shape.filter = self._filter(index)
        self._space.add(body, *shapes)
        body.angle, body.position = angle, at
        self._owner[body.id] = index
        return body

    def _filter(self, index: int) -> pymunk.ShapeFilter:
        """The parts of a thing do not meet one another, nor what they pass through."""
        passed = [other for pair in self._passing if index in pair for other in pair if other != index]
        mask = pymunk.ShapeFilter.ALL_MASKS() ^ sum(FINGERS << (other + 1) for other in passed)
        return pymunk.ShapeFilter(index + 1, FINGERS << (index + 1), mask)

    def _add_thing(self, index: int, thing: Thing) -> list[pymunk.Body]:
        solids = [part for part in parts(thing) if part.solid]
        limbs = [part for part in solids if part.role.endswith((" arm", " leg"))]
        body = self._body(index, thing, [p for p in solids if p not in limbs], (thing.x, thing.y), thing.angle)
        if thing.kind == "ball":
            resistance = pymunk.SimpleMotor(self._space.static_body, body, 0.0)
            resistance.max_force = ROLLING * body.mass * GRAVITY * thing.extent / 2
            self._space.add(resistance)
        return [body, *(self._add_limb(index, thing, body, k, part) for k, part in enumerate(limbs))]

    def _add_limb(self, index: int, thing: Thing, torso: pymunk.Body, k: int, part: Part) -> pymunk.Body:
        """Limb k of a doll, on a pivot with a spring to its pose and stops; its own frame hangs from the pivot."""
        assert isinstance(part.shape, Capsule)
        (ax, ay), (bx, by), r = part.shape.a, part.shape.b, part.shape.r
        length, side = math.hypot(bx - ax, by - ay), (-1, 1)[k % 2]
        pose = side * thing.limbs[k]
        hanging = replace(part, shape=Capsule((0.0, 0.0), (0.0, -length), r))
        limb = self._body(index, thing, [hanging], torso.local_to_world((ax, ay)), thing.angle + pose)
        pivot = pymunk.PivotJoint(torso, limb, (ax, ay), (0.0, 0.0))
        pivot.error_bias = math.exp(-200.0)
        scale = limb.mass * length
        # An arm's spring also bears its weight, so that a doll keeps the arms it is drawn with; legs stand.
        lift = GRAVITY / 2 * math.sin(thing.angle + pose) / STIFFNESS if k < 2 else 0.0
        # Chipmunk measures the spring's angle as torso minus limb.
        spring = pymunk.DampedRotarySpring(torso, limb, -pose - lift, STIFFNESS * scale, DAMPING * scale)
        low, high = sorted(side * angle for angle in LIMITS[k])
        stops = pymunk.RotaryLimitJoint(torso, limb, min(low, pose), max(high, pose))
        self._space.add(pivot, spring, stops)
        return limb

    def _index_bodies(self) -> None:
        self._buffer.clear()
        batch.get_space_bodies(self._space, batch.BodyFields.BODY_ID, self._buffer)
        self._row = {int(i): row for row, i in enumerate(np.frombuffer(self._buffer.int_buf(), np.uintp))}
        self._motion = self._read()

    def _push(self, velocities: Mapping[int, Velocity]) -> None:
        for index, velocity in velocities.items():
            if not 0 <= index < len(self._bodies):
                raise ValueError(f"there is no thing {index} to push among {len(self._bodies)}")
            if len(velocity) != 3 or not all(math.isfinite(v) for v in velocity):
                raise ValueError(f"the velocity of thing {index} is {velocity}; give finite x and y m/s and radians/s")
            vx, vy, spin = velocity
            torso = self._bodies[index][0]
            centre = torso.local_to_world(torso.center_of_gravity)
            for body in self._bodies[index]:
                arm = body.local_to_world(body.center_of_gravity) - centre
                body.velocity = (vx - spin * arm.y, vy + spin * arm.x)
                body.angular_velocity = spin

    # ------------------------------------------------------------------------------------------------ contacts
    def _read(self) -> np.ndarray:
        """`(bodies, 5)`: x, y, and velocities of every body."""
        self._buffer.clear()
        batch.get_space_bodies(self._space, _BODY_FIELDS, self._buffer)
        return np.frombuffer(self._buffer.float_buf()).reshape(-1, 5).copy()

    def _listen(self, dt: float) -> None:
        """Record the contacts of the step just made, if anything was struck in it."""
        before, self._motion = self._motion, self._read()
        # Rest and free flight change a velocity by no more than gravity does; a spin's change counts at 10 cm.
        if (np.abs(self._motion - before) * _WEIGHTS).max(initial=0.0) < MIN_SPEED / 4 + GRAVITY * dt:
            return
        self._arbiters.clear()
        batch.get_space_arbiters(self._space, _ARBITER_FIELDS, self._arbiters)
        ids = np.frombuffer(self._arbiters.int_buf(), np.uintp).reshape(-1, 3).tolist()
        values = np.frombuffer(self._arbiters.float_buf()).reshape(-1, 8).tolist()
        struck: dict[tuple[int, int], list[tuple[float, float, float, float]]] = {}
        for (a, b, count), (jx, jy, nx, ny, *points) in zip(ids, values, strict=True):
            if count == 0:  # two that are not moved, whatever they meet
                continue
            # The lower index first, but what is no thing last.
            pair = sorted((self._owner[a], self._owner[b]), key=lambda i: i if i >= 0 else MAX_THINGS - i)
            va, vb = before[self._row[a]].tolist(), before[self._row[b]].tolist()
            speed, x, y = max(
                (_approach(va, vb, nx, ny, px, py), px, py) for px, py in (points[0:2], points[2:4])[:count]
            )
            if pair[0] >= 0 and speed > MIN_SPEED:
                struck.setdefault((pair[0], pair[1]), []).append((speed, x, y, abs(jx * nx + jy * ny)))
        # Chipmunk lists its contacts by address; sorted, they are the same in every process.
        for between, hits in sorted(struck.items()):
            self._record(between, sorted(hits))

    def _record(self, pair: tuple[int, int], hits: list[tuple[float, float, float, float]]) -> None:
        speed, x, y, _ = hits[-1]
        impulse = sum(hit[3] for hit in hits)
        latest = self._open.get(pair)
        if latest is not None and self.time - self.contacts[latest].time < MERGE:
            earlier = self.contacts[latest]
            self.contacts[latest] = replace(earlier, impulse=earlier.impulse + impulse, speed=max(earlier.speed, speed))
        elif impulse >= MIN_IMPULSE:
            self._open[pair] = len(self.contacts)
            self.contacts.append(Contact(self.time, *pair, impulse, speed, x, y))


def _approach(a: list[float], b: list[float], nx: float, ny: float, x: float, y: float) -> float:
    """Speed at which two bodies (rows of `World._read`) come together at a point along the normal from a to b, m/s."""
    ax, ay = a[2] - a[4] * (y - a[1]), a[3] + a[4] * (x - a[0])
    bx, by = b[2] - b[4] * (y - b[1]), b[3] + b[4] * (x - b[0])
    return (ax - bx) * nx + (ay - by) * ny


def _posed(thing: Thing, bodies: list[pymunk.Body]) -> Thing:
    torso, *limbs = bodies
    angles = tuple(round((-1, 1)[k % 2] * (limb.angle - torso.angle), 6) for k, limb in enumerate(limbs))
    x, y = torso.position
    return replace(thing, x=round(x, 6), y=round(y, 6), angle=round(torso.angle, 6), limbs=angles)


def settle(scene: Scene, seconds: float = 2.0) -> Scene:
    """The scene after that many seconds."""
    world = World(scene)
    world.step(seconds)
    return world.scene()


def simulate(
    scene: Scene, frames: int, fps: float = FPS, velocities: Mapping[int, Velocity] | None = None, name: str = ""
) -> Motion:
    """What happens to a scene that is let go.

    Args:
        scene: the first frame.
        frames, fps: how many, and how many a second.
        velocities: see `World`.
        name: of the motion.

    Raises:
        ValueError: for fewer than one frame or an fps that is not positive and finite; see `World`.
    """
    check_frames(frames)
    check_fps(fps)
    world = World(scene, velocities=velocities)
    scenes = [world.scene()]
    for _ in range(frames - 1):
        world.step(1 / fps)
        scenes.append(world.scene())
    return Motion(name, tuple(scenes), tuple(world.contacts))


def overlap(scene: Scene) -> float:
    """How deep two solids (things, table, side walls, gripper) go into one another at most, m; 0 if none do."""
    space = World(scene)._space
    space.step(1e-9)  # finds the contacts, and moves nothing
    found = batch.Buffer()
    batch.get_space_arbiters(space, batch.ArbiterFields.DISTANCE_1 | batch.ArbiterFields.DISTANCE_2, found)
    return max(0.0, -float(np.frombuffer(found.float_buf()).min(initial=0.0)))
