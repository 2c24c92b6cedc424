"""A tour of a trained model: every kind of task, asked for with seeds fixed beforehand, beside truth and floor."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from selfflow.data.packs import PackMissing
from selfflow.demo.exhibits import ALONE, FLOOR, GIVEN, MADE, TRUE, Exhibit, Piece, Room, Verdict
from selfflow.evaluate.protocol import seed_of
from selfflow.evaluate.tabletop_report import shifted
from selfflow.evaluate.world_suite import psnr
from selfflow.worlds.tabletop.verdict import Score

CHOICES = 4  # draws of what is hardest, of which the model keeps one; a whole tour takes a quarter of a minute longer
CHOSEN = f"Each is drawn {CHOICES} times, and what the model itself finds likeliest is shown."
SHOWN = 128  # side in pixels of robot episodes on the page, whatever the model looks at
EMOJI = (  # the first that are drawn at random from the pack's held-out ones: asked for where the pack is absent
    "reminder ribbon, blob style",
    "horse racing, Twemoji flat style",
    "person taking bath, medium-dark skin tone, Twemoji flat style",
    "person, medium skin tone, bald, Twemoji flat style",
    "woman surfing, medium-dark skin tone, blob style",
    "woman bowing, medium skin tone, flat modern style",
    "flag, Kyrgyzstan, OpenMoji outlined style",
    "boxing glove, flat modern style",
)
DIGITS = tuple(f"a man saying {word}" for word in ("zero", "two", "five", "seven", "nine"))


def tour(
    pipe: Any, seed: int = 0, scale: float = 1.0, said: Callable[[str], None] = print, painter: Any | None = None
) -> list[Room]:
    """The rooms of a model, each made now; a room whose task it cannot do says why.

    Args:
        pipe: a `selfflow.pipeline.Pipeline` of a model for every task.
        seed: of the noise, and of the choice of what is asked.
        scale: shares of exhibits to make; 1 is the whole tour, a small number one of each.
        said: told the name and the time of every room.
        painter: another model, of emoji alone, which has the first room.
    """
    rooms = []
    alone = [(lambda _, seed, scale: emoji(painter, seed, scale, alone=True), ALONE)]
    for make, name in (
        *(alone if painter is not None else []),
        (typed, "Pictures from words"),
        (held_out, "Words that no training caption said"),
        (emoji, "Emoji"),
        (edits, "Edits"),
        (among, "One of several pictures, changed"),
        (compositions, "Pictures composed of others"),
        (clips, "Clips"),
        (animations, "Pictures set in motion"),
        (films, "Clips with their sound"),
        (dubs, "Sound for a silent clip"),
        (digits, "Spoken digits"),
        (robot, "A robot that is told what to do"),
        (dreams, "A world imagined"),
    ):
        begun = time.monotonic()
        try:
            room = make(pipe, seed, scale)
        except (PackMissing, ImportError, ValueError) as error:
            room = Room(name, "", missing=str(error))
        seconds = time.monotonic() - begun
        rooms.append(Room(name, room.about, room.exhibits, room.measure, room.floor, seconds, room.missing))
        said(f"{name}: {room.missing or f'{seconds:.0f} s'}")
    return rooms


def _few(count: int, scale: float) -> int:
    return max(1, round(count * scale))


def _generators(count: int, *seed: object) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed_of("demo", *seed, i)) for i in range(count)]


def _facts(score: Score, names: str = "facts right") -> Verdict:
    share = round(100 * score.value)
    return Verdict(score.value, f"all {names}" if not score.faults else f"{share} % of {names}", score.faults)


def _pieces(pictures: Sequence[np.ndarray], scores: Sequence[Score], names: str = "facts right") -> list[Piece]:
    """A picture that was made, the true one and the floor, each with what a checker says of it."""
    roles = ((MADE, "made"), (TRUE, "true"), (FLOOR, "floor"))
    told = zip(roles, pictures, scores, strict=True)
    return [Piece(role, name, picture, verdict=_facts(score, names)) for (role, name), picture, score in told]


# ----------------------------------------------------------------------------------------------------------- pictures


def typed(pipe: Any, seed: int, scale: float) -> Room:
    """Captions that somebody would type first."""
    from selfflow.demo.show import TYPED
    from selfflow.worlds.tabletop.render import render

    size = pipe.config.picture.size
    rows = TYPED[: _few(len(TYPED), scale)]
    about = "Typed by hand. A reader of pictures that learns nothing checks every fact of the caption."
    return _pictures(pipe, [t for t, _ in rows], [render(s, size) for _, s in rows], about, ("typed", seed))


def held_out(pipe: Any, seed: int, scale: float) -> Room:
    """Captions of the test split."""
    from selfflow.data.scenes import TabletopScenes

    source = TabletopScenes(_few(6, scale), pipe.config.picture.size, "test", seed=seed)
    samples = [source[i] for i in range(len(source))]
    about = (
        "Each says something that no training caption says, such as a colour on a kind of thing that never had it. "
        f"The first of the test set, as they come. {CHOSEN}"
    )
    true = [s.picture for s in samples if s.picture is not None]
    return _pictures(pipe, [s.text for s in samples], true, about, ("held out", seed), choices=CHOICES)


def _pictures(
    pipe: Any, texts: list[str], true: list[np.ndarray], about: str, seed: tuple[object, ...], **sampling: Any
) -> Room:
    from selfflow.worlds.tabletop.check import score_text

    made = pipe(texts, generator=_generators(len(texts), *seed), output_type="np", **sampling).images
    found = [
        Exhibit(text, _pieces((m, t, f), [score_text(picture, text) for picture in (m, t, f)]))
        for text, m, t, f in zip(texts, made, true, shifted(true), strict=True)
    ]
    return Room("", about, found, "facts right", "the true picture of another caption")


def emoji(pipe: Any, seed: int, scale: float, alone: bool = False) -> Room:
    """Emoji from words; true ones beside them where their pack is here."""
    asked: list[tuple[str, np.ndarray | None]]
    try:
        from selfflow.data.emoji import Emoji

        source = Emoji("test_combo", size=pipe.config.picture.size)
        rows = np.random.default_rng(seed).permutation(len(source))[: _few(8, scale)]
        asked = [(s.text, s.picture) for s in (source[int(i)] for i in rows)]
        about = "Drawn at random from held-out pairs of a thing and a style. Nothing here checks them but your eyes."
    except PackMissing:
        asked = [(text, None) for text in EMOJI[: _few(8, scale)]]
        about = (
            "Drawn at random from held-out pairs of a thing and a style. Nothing here checks them but your eyes; true "
            "ones are shown beside them where the emoji pack is installed."
        )
    if alone:
        millions = sum(p.numel() for p in pipe.net.parameters()) / 1e6
        about += (
            f" Another model, of {millions:.0f} million parameters, that learned nothing else: what one of this size "
            "draws once it has seen enough of one thing."
        )
        if pipe.config.network.target_time:
            about += f" It was distilled: each is drawn in {pipe.config.sampling.steps} passes of the network."
    made = pipe([t for t, _ in asked], generator=_generators(len(asked), "emoji", seed), output_type="np").images
    found = []
    for (text, true), picture in zip(asked, made, strict=True):
        beside = [] if true is None else [Piece(TRUE, "true", true)]
        found.append(Exhibit(text, [Piece(MADE, "made", picture), *beside]))
    return Room("", about, found)


# -------------------------------------------------------------------------------------------------------------- edits


def edits(pipe: Any, seed: int, scale: float) -> Room:
    """One picture and an instruction."""
    from selfflow.worlds.tabletop.check import score_edit
    from selfflow.worlds.tabletop.tasks import example

    cases = [example("edit", 24_000 * (seed + 1) + i, pipe.config.picture.size, "test") for i in range(_few(6, scale))]
    texts, before = [c.text for c in cases], [_there(c.before) for c in cases]
    made = pipe.edit(np.stack(before), texts, generator=_generators(len(cases), "edit", seed), choices=CHOICES)
    found = []
    for case, old, new in zip(cases, before, made, strict=True):
        pictures = (new, _there(case.picture), old)
        pieces = _pieces(pictures, [score_edit(old, p, case.text) for p in pictures], "checks right")
        found.append(Exhibit(case.text, pieces, [Piece(GIVEN, "given", old)]))
    about = f"Was the instruction followed, and is the rest unchanged? One of each kind, from the test set. {CHOSEN}"
    return Room("", about, found, "checks right", "the picture given, unchanged")


def among(pipe: Any, seed: int, scale: float) -> Room:
    """Several pictures and an instruction for one of them, which its number names."""
    from selfflow.data.among import TabletopAmong
    from selfflow.worlds.tabletop.check import score_edit

    source = TabletopAmong(64, pipe.config.picture.size, "test", seed)
    cases = [(source[i], source.edits.text(i)) for i in range(1, 2 * _few(4, scale), 2)]  # those that are changed
    texts, shown = [c.text for c, _ in cases], [list(c.references) for c, _ in cases]
    made = pipe.compose(shown, texts, generator=_generators(len(cases), "among", seed), choices=CHOICES)
    found = []
    for (case, instruction), given, new in zip(cases, shown, made, strict=True):
        meant = given[case.meta["number"] - 1]
        pictures = (new, case.picture, meant)
        pieces = _pieces(pictures, [score_edit(meant, p, instruction) for p in pictures], "checks right")
        found.append(Exhibit(case.text, pieces, [Piece(GIVEN, f"{i + 1}", p) for i, p in enumerate(given)]))
    about = f"Was the right picture found, the instruction followed, and is the rest unchanged? {CHOSEN}"
    return Room("", about, found, "checks right", "the picture that is meant, unchanged")


def compositions(pipe: Any, seed: int, scale: float) -> Room:
    """One, two and three reference pictures."""
    from selfflow.worlds.tabletop.check import score_reference
    from selfflow.worlds.tabletop.tasks import example

    wanted = [1, 3, 2, 3][: _few(4, scale)]
    cases, number = [], 1_000_000 * (seed + 1)
    while wanted:
        case = example("reference", number, pipe.config.picture.size, "test")
        if len(case.references or ()) in wanted:
            wanted.remove(len(case.references or ()))
            cases.append(case)
        number += 1
    cases.sort(key=lambda c: len(c.references or ()))
    texts, shown = [c.text for c in cases], [list(c.references or ()) for c in cases]
    made = pipe.compose(shown, texts, generator=_generators(len(cases), "reference", seed), choices=CHOICES)
    found = []
    for case, given, new in zip(cases, shown, made, strict=True):
        pictures = (new, _there(case.picture), given[0])
        pieces = _pieces(pictures, [score_reference(given, p, case.text) for p in pictures], "checks right")
        found.append(Exhibit(case.text, pieces, [Piece(GIVEN, f"{i + 1}", p) for i, p in enumerate(given)]))
    about = (
        "Things keep what their pictures show of them, and stand as the words say. One to ten pictures may be given. "
        f"{CHOSEN}"
    )
    return Room("", about, found, "checks right", "the first picture given")


# -------------------------------------------------------------------------------------------------------------- clips


def _films(seed: int, first: int, count: int, pipe: Any) -> list[Any]:
    """Clips with sound of the test split, one of each motion in turn."""
    from selfflow.worlds.tabletop.tasks import example

    size, frames = pipe.config.picture.size, pipe.config.data.frames
    return [example("clip", 24_000 * (seed + 1) + first + i, size, "test", frames=frames) for i in range(count)]


def clips(pipe: Any, seed: int, scale: float) -> Room:
    """Captions to clips."""
    cases = _films(seed, 0, _few(3, scale), pipe)
    frames, fps = _there(cases[0].clip).shape[0], cases[0].fps
    made = pipe.clip([c.text for c in cases], frames, fps, generator=_generators(len(cases), "clip", seed))
    about = "A reader follows the things from frame to frame: none may vanish, jump, float or go through another."
    return _moving(cases, made, about)


def animations(pipe: Any, seed: int, scale: float) -> Room:
    """First frames and captions to clips."""
    cases = _films(seed, 3, _few(3, scale), pipe)
    first, fps = np.stack([_there(c.clip)[0] for c in cases]), cases[0].fps
    frames = len(_there(cases[0].clip))
    texts = [c.text for c in cases]
    made = pipe.animate(first, texts, frames, fps, generator=_generators(len(cases), "animate", seed))
    return _moving(cases, made, "The first frame is given, and what happens is told.", first)


def _moving(cases: Sequence[Any], made: np.ndarray, about: str, first: np.ndarray | None = None) -> Room:
    from selfflow.evaluate.tabletop_clips import score_film

    found = []
    for i, (case, clip) in enumerate(zip(cases, made, strict=True)):
        true = _there(case.clip)
        other = _there(shifted(cases)[i].clip) if first is None else np.repeat(true[:1], len(true), axis=0)
        pieces = [
            Piece(role, name, clip=c, fps=case.fps, verdict=_facts(score_film(c, case.text), "checks right"))
            for role, name, c in ((MADE, "made", clip), (TRUE, "true", true), (FLOOR, "floor", other))
        ]
        given = [] if first is None else [Piece(GIVEN, "given", first[i])]
        found.append(Exhibit(case.text, pieces, given))
    floor = "the true clip of another caption" if first is None else "the first frame, held still"
    return Room("", about, found, "checks right", floor)


def films(pipe: Any, seed: int, scale: float) -> Room:
    """Captions to clips and their sound, made together."""
    from selfflow.evaluate.tabletop_clips import score_film
    from selfflow.worlds.tabletop.check_sound import score_av

    def verdict(clip: np.ndarray, sound: np.ndarray, case: Any) -> Verdict:
        fit, moved = score_av(clip, case.fps, sound, rate), score_film(clip, case.text)
        return _facts(Score(min(fit.value, moved.value), (*moved.faults, *fit.faults)), "checks right")

    cases, rate = _films(seed, 6, _few(3, scale), pipe), pipe.config.audio.rate
    frames, fps = len(_there(cases[0].clip)), cases[0].fps
    made, heard = pipe.clip_and_sound(
        [c.text for c in cases], frames, fps, rate, generator=_generators(len(cases), "film", seed)
    )
    found = []
    for i, case in enumerate(cases):
        true, other = (_there(case.clip), _there(case.sound)), _there(shifted(cases)[i].sound)
        options = ((MADE, "made", made[i], heard[i]), (TRUE, "true", *true), (FLOOR, "floor", true[0], other))
        found.append(Exhibit(case.text, [
            Piece(role, name, None, c, case.fps, s, rate, verdict(c, s, case)) for role, name, c, s in options
        ]))  # fmt: skip
    about = (
        "Sight and sound from the same words, in one pass. Press a wave to hear it. Does one fit the other, and the "
        "clip its caption? The worse of the two counts."
    )
    return Room("", about, found, "checks right", "the true clip with another one’s sound")


def dubs(pipe: Any, seed: int, scale: float) -> Room:
    """True clips, to their sound."""
    from selfflow.worlds.tabletop.check_sound import score_av

    cases, rate = _films(seed, 0, _few(3, scale), pipe), pipe.config.audio.rate
    seen = np.stack([_there(c.clip) for c in cases])
    generator = _generators(len(cases), "dub", seed)
    heard = pipe.sound(seen, cases[0].fps, [c.text for c in cases], rate, generator=generator)
    found = []
    for i, case in enumerate(cases):
        true, other = _there(case.sound), _there(shifted(cases)[i].sound)
        options = ((MADE, "made", heard[i]), (TRUE, "true", true), (FLOOR, "floor", other))
        found.append(Exhibit(case.text, [
            Piece(role, name, None, seen[i], case.fps, s, rate,
                  _facts(score_av(seen[i], case.fps, s, rate), "sounds in place"))
            for role, name, s in options
        ]))  # fmt: skip
    about = "The clip is given and stays as it is; a listener holds every stroke against what is seen."
    return Room("", about, found, "sounds in place", "another clip’s sound")


def digits(pipe: Any, seed: int, scale: float) -> Room:
    """Digits, spoken."""
    if not (rate := pipe.config.audio.rate):
        raise ValueError("this model has no sound")
    texts, seconds = list(DIGITS[: _few(len(DIGITS), scale)]), pipe.config.data.seconds
    true: dict[str, np.ndarray] = {}
    about = "Said by nobody. True recordings stand beside them where their pack is installed."
    try:
        from selfflow.data.digits import WORDS
        from selfflow.data.registry import open_named

        source = open_named("digits", pipe.config.picture.size, "test", seconds=seconds, rate=rate)
        for i in range(len(source)):
            sample = source[i]
            true.setdefault(WORDS[sample.meta["digit"]], _there(sample.sound))
        about = "Said by nobody, beside held-out recordings. How often a listener recognises them, the figures say."
    except PackMissing:
        pass
    heard = pipe.speak(texts, seconds, generator=_generators(len(texts), "digits", seed))
    found = []
    for text, sound in zip(texts, heard, strict=True):
        spoken = true.get(text.rsplit(" ", 1)[1])
        beside = [] if spoken is None else [Piece(TRUE, "true", sound=spoken, rate=rate)]
        found.append(Exhibit(text, [Piece(MADE, "made", sound=sound, rate=rate), *beside]))
    return Room("", about, found)


# --------------------------------------------------------------------------------------------------- robots and worlds


def robot(pipe: Any, seed: int, scale: float) -> Room:
    """One episode of each task of the robot, in closed loop."""
    from selfflow.worlds.tabletop.robot import TASKS, Expert

    names = TASKS[: _few(len(TASKS), scale)]
    seeds = [seed_of("demo", "robot", name, seed) % 2**31 for name in names]
    rng = np.random.default_rng(seed)
    policy, size = pipe.policy(seed=seed), pipe.config.picture.size
    made, texts = _play(names, seeds, size, policy)
    true, _ = _play(names, seeds, 16, lambda *_: None, Expert)
    floor, _ = _play(names, seeds, 16, lambda images, *_: rng.uniform(-1, 1, (len(images), 3)))
    found = []
    for i, text in enumerate(texts):
        options = ((MADE, "policy", made[i]), (TRUE, "expert", true[i]), (FLOOR, "floor", floor[i]))
        found.append(Exhibit(text, [
            Piece(role, name, clip=clip, fps=10.0, verdict=Verdict(float(done), "done" if done else "not done"))
            for role, name, (clip, done) in options
        ]))  # fmt: skip
    about = (
        "It sees the picture and its gripper, decides sixteen moves at once, carries out eight and looks again. The "
        "scripted expert knows where everything is. Unseen scenes, six seconds each at most."
    )
    return Room("", about, found, "episodes done", "moves drawn at random")


def _play(
    names: Sequence[str], seeds: Sequence[int], size: int, act: Callable[..., Any], expert: Any = None
) -> tuple[list[tuple[np.ndarray, bool]], list[str]]:
    """Frames and success of each episode, and its instruction; they run side by side."""
    from selfflow.worlds.tabletop.render import render
    from selfflow.worlds.tabletop.robot import MAX_STEPS, TabletopEnv

    envs = [TabletopEnv(name, size, split="test") for name in names]
    seen = [env.reset(seed=seed)[0] for env, seed in zip(envs, seeds, strict=True)]
    experts = [expert(env) for env in envs] if expert else []
    frames, running = [[render(env.scene, SHOWN)] for env in envs], [True] * len(envs)
    for step in range(MAX_STEPS):
        if not any(running):
            break
        actions = act(
            np.stack([o["image"] for o in seen]), np.stack([o["proprioception"] for o in seen]),
            [o["instruction"] for o in seen], step,
        )  # fmt: skip
        for i, env in enumerate(envs):
            if running[i]:
                seen[i], _, ended, late, _ = env.step(experts[i].act() if experts else actions[i])
                running[i] = not (ended or late)
                frames[i].append(render(env.scene, SHOWN))
    films = [(np.stack(f), env.success) for f, env in zip(frames, envs, strict=True)]
    return films, [o["instruction"] for o in seen]


def dreams(pipe: Any, seed: int, scale: float) -> Room:
    """Windows of robot episodes: the first frame and the actions, to what is seen."""
    from selfflow.data.tabletop_tasks import TabletopTask

    count, frames = _few(3, scale), pipe.config.data.frames
    source = TabletopTask("robot", 8 * count, pipe.config.picture.size, "test", seed + 77, frames)
    samples = [source[8 * i + 2] for i in range(count)]  # episodes of several tasks, where the arm is on its way
    true, actions = np.stack([_there(s.clip) for s in samples]), np.stack([_there(s.actions) for s in samples])
    hz, texts = samples[0].control_hz, [s.text for s in samples]
    made = pipe.imagine(true[:, 0], texts, actions, "tabletop", hz, generator=_generators(count, "imagine", seed))
    found = []
    for text, m, t in zip(texts, made, true, strict=True):
        still = np.repeat(t[:1], len(t), axis=0)
        pieces = []
        for role, name, clip in ((MADE, "imagined", m), (TRUE, "simulator", t), (FLOOR, "floor", still)):
            error = psnr(np.square(clip[1:].astype(np.float32) - t[1:]).mean())
            said = "the truth" if role == TRUE else f"{error:.1f} dB"
            pieces.append(Piece(role, name, clip=clip, fps=hz, verdict=Verdict(None, said)))
        found.append(Exhibit(text, pieces, [Piece(GIVEN, "first frame", t[0])]))
    about = (
        "Given the first frame and what the gripper does, what will be seen? Nearness to the simulator in decibels: "
        "more is better, and less than the floor means that holding still would have been the better guess."
    )
    return Room("", about, found, "", "the first frame, held still")


def _there(array: Any) -> np.ndarray:
    assert array is not None
    return np.asarray(array)
