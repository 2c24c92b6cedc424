"""A picture or clip of every object, task and failure that the checkers catch, with a page that shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..geometry import stood
from ..render import render, render_clip
from ..scene import (
    COLOURS,
    CONTROL_HZ,
    FPS,
    FRAMES,
    KINDS,
    MADE_OF,
    POSES,
    SIZES,
    SOUND_HZ,
    WORDS,
    Motion,
    Scene,
    Thing,
)
from .files import whole, write_bytes

SIZE = 128  # pixels a side of what is shown
READ = 64  # pixels a side of what the checkers read
RULE = np.full((SIZE, 4, 3), 255, np.uint8)  # between what stands side by side
TRIES = 400
INVERSE = {"solidity": (1, 2), "support": (1, 3)}  # seeds of pairs of which one half and the other are


@dataclass(frozen=True)
class Entry:
    """One line of the page.

    Attributes:
        name: of the file, without suffix.
        frames: uint8 `(H, W, 3)` each; one makes a picture.
        text: what is seen.
        faults: what the checker says of it.
        fps: frames a second.
    """

    name: str
    frames: list[np.ndarray]
    text: str
    faults: tuple[str, ...] = ()
    fps: int = FPS


Section = tuple[str, str, Callable[[], Iterator[Entry]]]


def write_gallery(directory: str | Path, progress: bool = True) -> Path:
    """Write every picture as WebP, and README.md that shows them. Returns the page.

    Nothing is drawn twice differently: the same version of the package gives the same pictures.
    """
    directory = Path(directory)
    page = [
        "# Gallery of the tabletop",
        "",
        "Written by `selfflow tabletop gallery`. The guide is [here](../tabletop.md).",
        "",
    ]
    for title, note, entries in tqdm(SECTIONS, "gallery", disable=not progress):
        page += [f"## {title}", "", note, ""]
        rows = []
        for entry in entries():
            _save(directory / f"{entry.name}.webp", entry)
            rows.append(f"| ![{entry.name}]({entry.name}.webp) | {entry.text} | {'; '.join(entry.faults)} |")
        said = "what the checker says" if any(not row.endswith("|  |") for row in rows) else ""
        page += [f"| | | {said} |", "|---|---|---|", *rows, ""]
    return write_bytes(directory / "README.md", "\n".join(page).encode())


def _save(path: Path, entry: Entry) -> None:
    first, *rest = (Image.fromarray(frame) for frame in entry.frames)
    with whole(path) as temporary:
        if rest:
            first.save(
                temporary, "WEBP", save_all=True, append_images=rest, duration=round(1000 / entry.fps), loop=0,
                quality=70, method=6,
            )  # fmt: skip
        else:
            first.save(temporary, "WEBP", quality=90, method=6)


def _beside(*pictures: np.ndarray) -> np.ndarray:
    parts = [part for picture in pictures for part in (RULE, picture)]
    return np.concatenate(parts[1:], axis=1)


def _row(things: list[Thing]) -> np.ndarray:
    """Things in the middle of a picture each, side by side."""
    return _beside(*(render(Scene((stood(thing, 0.5),)), SIZE) for thing in things))


def _thing(kind: str, colour: str = "blue", **more: object) -> Thing:
    """A thing of a kind with what the kind needs."""
    needs: dict[str, object] = {"sign": {"word": "HI"}, "hand": {"fingers": 3}}.get(kind, {})  # type: ignore[assignment]
    return Thing(kind, colour, **{**needs, **more})  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ objects


def _objects() -> Iterator[Entry]:
    for kind, colour in zip(KINDS, (*COLOURS, "red"), strict=True):
        yield Entry(
            f"object-{kind}", [_row([_thing(kind, colour, size=size) for size in SIZES])], f"{kind}: {', '.join(SIZES)}"
        )
    yield Entry("colours", [_row([_thing("ball", colour) for colour in COLOURS])], ", ".join(COLOURS))
    for kind in ("ball", "box", "cup"):
        names = ", ".join(MADE_OF[kind])
        yield Entry(
            f"materials-{kind}", [_row([_thing(kind, "red", material=m) for m in MADE_OF[kind]])], f"{kind} of {names}"
        )
    poses = [_thing("doll", "green", limbs=limbs, size="large") for limbs in POSES.values()]
    yield Entry("poses", [_row(poses)], "; ".join(POSES))
    yield Entry(
        "fingers", [_row([_thing("hand", "orange", fingers=n) for n in range(6)])], "a hand raises 0 to 5 fingers"
    )
    signs = [_thing("sign", "yellow", word=word) for word in WORDS]
    for part, words in (("1", signs[:8]), ("2", signs[8:])):
        yield Entry(f"words-{part}", [_row(words)], ", ".join(sign.word for sign in words))


# -------------------------------------------------------------------------------------------------------------- tasks


def _stills() -> Iterator[Entry]:
    from ..tasks import example

    for seed in range(8):
        case = example("still", seed, size=SIZE)
        yield Entry(f"still-{seed}", [_shown(case.picture)], case.text)


def _edits() -> Iterator[Entry]:
    from ..tasks import EDIT_KINDS, changed, draw_edit

    for kind in EDIT_KINDS:
        edit = draw_edit(1, kind)
        mask = np.repeat(changed(edit, SIZE)[..., None], 3, axis=2).astype(np.uint8) * 255
        pictures = _beside(render(edit.before, SIZE), render(edit.after, SIZE), mask)
        yield Entry(f"edit-{kind.replace(' ', '-')}", [pictures], f"“{edit.instruction}”: before, after, what changes")


def _references() -> Iterator[Entry]:
    from ..tasks import draw_reference

    for count in (2, 3):
        reference = draw_reference(count, count)
        pictures = [render(scene, SIZE) for scene in (*reference.scenes, reference.target)]
        yield Entry(f"reference-{count}", [_beside(*pictures)], f"{count} references and “{reference.text}”")


def _motions() -> Iterator[Entry]:
    from ..motion import MOTIONS, draw_motion

    for name in MOTIONS:
        yield Entry(f"motion-{name}", _frames(draw_motion(3, name, frames=2 * FRAMES)), _told(draw_motion(3, name)))


def _robot() -> Iterator[Entry]:
    from ..robot import TASKS, rollout

    for task in TASKS:
        played = rollout(task, 3)
        frames = [render(scene, SIZE) for scene in played.motion.frames[:: FPS // CONTROL_HZ]]
        yield Entry(f"robot-{task}", frames, f"{task}: “{played.instruction}”", fps=CONTROL_HZ)


# ----------------------------------------------------------------------------------------------------------- failures


def _broken_stills() -> Iterator[Entry]:
    from ..check import physics_faults, score_text
    from ..corrupt import CORRUPTIONS, PICTURE_CORRUPTIONS, corrupt, corrupt_picture
    from ..draw import draw
    from ..language import caption
    from ..scene import generator

    for number, kind in enumerate(CORRUPTIONS):
        for seed in range(TRIES * number, TRIES * (number + 1)):  # another scene for each
            scene = draw(seed)
            try:
                if kind in PICTURE_CORRUPTIONS:
                    broken, shown = (corrupt_picture(scene, kind, seed, size) for size in (READ, SIZE))
                else:
                    wrong = corrupt(scene, kind, seed)
                    broken, shown = render(wrong, READ), render(wrong, SIZE)
            except ValueError:  # nothing in the scene can be broken that way
                continue
            text = caption(scene, generator(seed, 1))
            said = (*score_text(broken, text).faults, *(str(fault) for fault in physics_faults(broken)))
            faults = tuple(dict.fromkeys(said))
            if faults:
                name = f"failure-{kind.replace(' ', '-')}"
                yield Entry(name, [_beside(render(scene, SIZE), shown)], f"{kind}: “{text}”", faults[:3])
                break


def _broken_motions() -> Iterator[Entry]:
    from ..check_clip import score_clip
    from ..corrupt_motion import MOTION_FAULTS, corrupt_motion
    from ..motion import draw_motion

    for kind in MOTION_FAULTS:
        for seed in range(TRIES):
            motion = draw_motion(seed)
            try:
                broken = corrupt_motion(motion, kind, seed)
            except ValueError:
                continue
            faults = score_clip(render_clip(broken, READ), FPS).faults
            if faults:
                pairs = [_beside(a, b) for a, b in zip(_frames(motion), _frames(broken), strict=True)]
                yield Entry(f"failure-{kind.replace(' ', '-')}", pairs, f"{kind}, at the right", faults[:2])
                break


def _broken_sounds() -> Iterator[Entry]:
    from ..check_sound import score_sound
    from ..corrupt_motion import SOUND_FAULTS, corrupt_sound
    from ..motion import draw_motion
    from ..sound import synthesise

    for kind in SOUND_FAULTS:
        for seed in range(TRIES):
            motion = draw_motion(seed)
            try:
                broken = corrupt_sound(motion, kind, seed)
            except ValueError:
                continue
            faults = score_sound(broken, SOUND_HZ, motion).faults
            if faults:
                strip = _beside(*(render(scene, SIZE) for scene in motion.frames[::4]))
                rows = (strip, _wave(synthesise(motion), strip.shape[1]), _wave(broken, strip.shape[1]))
                yield Entry(
                    f"failure-sound-{kind.replace(' ', '-')}", [np.concatenate(rows)], f"{kind}: true above", faults[:2]
                )
                break


def _pairs() -> Iterator[Entry]:
    from ..pairs import PAIR_KINDS, STILL_KINDS, matched_pair, matched_stills

    for kind in PAIR_KINDS:
        for part, seed in zip(("", "-inverse"), INVERSE.get(kind, (1,)), strict=False):
            pair = matched_pair(seed, kind)
            frames = [_beside(a, b) for a, b in zip(_frames(pair.possible), _frames(pair.impossible), strict=True)]
            yield Entry(f"pair-{kind}{part}", frames, f"{kind}{part and ', inverse'}: alike until frame {pair.first}")
    for kind in STILL_KINDS:
        stills = matched_stills(1, kind)
        yield Entry(f"pair-still-{kind}", [_beside(*(render(scene, SIZE) for scene in stills))], f"{kind}, still")


def _frames(motion: Motion) -> list[np.ndarray]:
    return list(render_clip(motion, SIZE))


def _told(motion: Motion) -> str:
    from ..language import caption_motion
    from ..scene import generator

    return f"{motion.name}: “{caption_motion(motion, generator(0))}”"


def _shown(picture: np.ndarray | None) -> np.ndarray:
    assert picture is not None
    return picture


def _wave(sound: np.ndarray, columns: int) -> np.ndarray:
    """The loudness of a sound in time, as a picture."""
    loud = np.array([block.max(initial=0.0) for block in np.array_split(np.abs(sound), columns)]).clip(0, 1) ** 0.5
    drawn = np.abs(np.linspace(1, -1, SIZE // 2))[:, None] <= loud
    return np.where(drawn[..., None], (40, 70, 160), (250, 250, 250)).astype(np.uint8)


SECTIONS: tuple[Section, ...] = (
    ("Objects", "What there is, with its colours, sizes, materials, poses, fingers and words.", _objects),
    ("Stills", "Scenes and what is said of them.", _stills),
    ("Edits", "An instruction, before and after.", _edits),
    ("References", "Single things, and the scene that a text composes of them.", _references),
    ("Motions", "Clips with captions; each has its sound.", _motions),
    ("Robot", "The scripted expert at its four tasks.", _robot),
    ("Pictures that are wrong", "True at the left, broken at the right.", _broken_stills),
    ("Clips that are wrong", "True at the left, broken at the right.", _broken_motions),
    ("Sounds that are wrong", "The clip, its true sound, and the broken one.", _broken_sounds),
    ("Matched pairs", "Possible at the left, impossible at the right: which one surprises a model?", _pairs),
)
