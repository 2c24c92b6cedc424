"""Every source by its name, with what can be learned from it: `open_named("sprites-play", size=32)`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from selfflow.data.packs import PackMissing, find
from selfflow.data.sample import Source
from selfflow.worlds.tabletop.scene import check_known

_STILL = ("picture", "inpaint", "outpaint")
_MOVING = ("clip", "animate", "continue")
_HEARD = ("sound", "continue-sound")
_DRIVEN = ("act", "plan", "imagine", "inverse")
_MANY = (7, 8, 9, 10)  # references: apart from fewer, as each batch would cost what its largest sample does
_SEVERAL = (2, 2, 3)  # things of a still: those of one are learned first, and captions that relate need several
_WRITTEN = (1, 1, 2)  # signs of a still: of the others one in six to nine has a sign, and letters take many
_ALIKE = (2, 2, 3, 4)  # references, two of which at least are of one kind
LEROBOT = "lerobot/"  # begins the names of the user's own data sets
MISTAKEN = 0.08  # m: half a thing's width, and about as far as a policy of few samples errs


class Entry(NamedTuple):
    """One source.

    Attributes:
        factory: takes keyword arguments of the class: size, split, seed and, of what moves, frames.
        tasks: names of `selfflow.tasks` for which its samples have what is needed.
        description: one line.
        pack: the data pack it reads; empty for Tabletop, and for what is the user's own.
        moving: whether it has `frames`.
    """

    factory: Callable[..., Any]
    tasks: tuple[str, ...]
    description: str
    pack: str = ""
    moving: bool = False


def _of(path: str, **fixed: Any) -> Callable[..., Any]:
    """A factory that imports its class when it is called."""
    module, name = path.split(":")

    def make(**options: Any) -> Any:
        return getattr(import_module(f"selfflow.data.{module}"), name)(**(fixed | options))

    return make


def _tabletop(task: str, **fixed: Any) -> Callable[..., Any]:
    return _of("tabletop_tasks:TabletopTask", task=task, **fixed)


def _emoji(split: str = "train", seed: int = 0, **options: Any) -> Any:
    """Single emoji; their test is of held-out combinations of concept and style, as everywhere."""
    check_known("split", split, ("train", "test"))
    from selfflow.data.emoji import Emoji

    return Emoji({"train": "train", "test": "test_combo"}[split], **options)


SOURCES: dict[str, Entry] = {
    "tabletop-still": Entry(_tabletop("still"), _STILL, "captioned tabletop scenes"),
    "tabletop-things": Entry(
        _tabletop("still", counts=_SEVERAL, name="tabletop-things"), _STILL, "captioned scenes of 2 or 3 things"
    ),
    "tabletop-signs": Entry(
        _tabletop("still", counts=_WRITTEN, kinds=("sign",), name="tabletop-signs"), _STILL, "captioned scenes of signs"
    ),
    "tabletop-within": Entry(
        _of("within:TabletopWithin"), _STILL, "captioned scenes of things of every kind in cups and glasses"
    ),
    "tabletop-edit": Entry(_tabletop("edit"), ("edit",), "tabletop scenes before and after an instruction"),
    "tabletop-words": Entry(
        _tabletop("edit", kinds=("change word",), name="tabletop-words"), ("edit",), "signs before and after a new word"
    ),
    "tabletop-tones": Entry(
        _tabletop("still", tones=True, name="tabletop-tones"), _STILL, "captioned scenes in many colours"
    ),
    "tabletop-tones-edit": Entry(
        _tabletop("edit", tones=True, name="tabletop-tones-edit"),
        ("edit",),
        "scenes in many colours, before and after an instruction",
    ),
    "tabletop-tones-reference": Entry(
        _tabletop("reference", tones=True, name="tabletop-tones-reference"),
        ("edit",),
        "scenes in many colours, composed of 1 to 6 pictures of things",
    ),
    "tabletop-near": Entry(_of("near:TabletopNear", task="still"), ("picture",), "signs seen from near"),
    "tabletop-near-words": Entry(
        _of("near:TabletopNear", task="edit"), ("edit",), "signs seen from near, before and after a new word"
    ),
    "tabletop-among": Entry(_of("among:TabletopAmong"), ("edit",), "one of 2 to 4 pictures, changed or as it is"),
    "tabletop-reference": Entry(_tabletop("reference"), ("edit",), "scenes composed of 1 to 6 pictures of things"),
    "tabletop-many": Entry(
        _tabletop("reference", counts=_MANY, name="tabletop-many"), ("edit",), "scenes composed of 7 to 10 pictures"
    ),
    "tabletop-alike": Entry(
        _tabletop("reference", counts=_ALIKE, alike=True, name="tabletop-alike"),
        ("edit",),
        "scenes composed of 2 to 4 pictures, two of which show things of one kind",
    ),
    "tabletop-spare": Entry(
        _tabletop("reference", counts=_ALIKE, spare=True, name="tabletop-spare"),
        ("edit",),
        "scenes composed of some of 2 to 4 pictures, of which the others show things of the same kinds",
    ),
    "tabletop-clip": Entry(
        _tabletop("clip"),
        (*_MOVING, *_HEARD, "clip+sound", "animate+sound", "dub", "visualise"),
        "things that fall, roll and topple, with their sound",
        moving=True,
    ),
    "tabletop-robot": Entry(_tabletop("robot"), (*_MOVING, *_DRIVEN), "a gripper that does as it is told", moving=True),
    "tabletop-recover": Entry(
        _tabletop("robot", mistaken=MISTAKEN, name="tabletop-recover"),
        (*_MOVING, *_DRIVEN),
        "the gripper, mending what somebody who saw badly has done",
        moving=True,
    ),
    "emoji": Entry(_emoji, _STILL, "22,545 emoji in seven styles", "emoji64"),
    "emoji-edits": Entry(_of("emoji_edits:EmojiEdits"), ("edit",), "emoji before and after an instruction", "emoji64"),
    "emoji-styles": Entry(_of("emoji_edits:EmojiStyles"), ("edit",), "emoji in a style told or shown", "emoji64"),
    "sprites-clip": Entry(
        _of("sprites:Sprites", task="clip"), _MOVING, "sprite characters in six animations", "lpc64", True
    ),
    "sprites-edit": Entry(_of("sprites:Sprites", task="edit"), ("edit",), "sprite characters dressed anew", "lpc64"),
    "sprites-view": Entry(
        _of("sprites:Sprites", task="view"), ("edit",), "sprite characters seen from another side", "lpc64"
    ),
    "sprites-play": Entry(
        _of("sprites:Sprites", task="play"),
        (*_MOVING, "imagine", "inverse"),
        "sprite characters steered with four keys",
        "lpc64",
        True,
    ),
    "digits": Entry(_of("digits:SpokenDigits"), _HEARD, "ten spoken digits, six speakers", "fsdd8k"),
    "sounds": Entry(_of("sounds:NamedSounds"), _HEARD, "195 named sounds", "sonicpi_cc0_16k"),
    "pusht": Entry(
        _of("pusht:PushT"),
        (*_MOVING, *_DRIVEN),
        "357 human demonstrations of pushing a T",
        "pusht64",
        True,
    ),
    "hands": Entry(_of("hands:Hands"), _STILL, "2,062 photographs of hands that sign digits", "signdigits64"),
    "fruits": Entry(
        _of("turntables:Turntables"),
        (*_MOVING, "imagine", "inverse"),
        "154 fruits turned on a turntable",
        "fruits360_rot64",
        True,
    ),
}


def lerobot(directories: Sequence[str], cameras: Sequence[str] = (), hz: float = 0.0) -> dict[str, Entry]:
    """Data sets in LeRobot's format as sources, each named `lerobot/` and its directory.

    Args:
        directories, cameras, hz: see `selfflow.data.lerobot.LeRobot`.

    Raises:
        ValueError: for two directories of one name, or a name that no part of a mixture can have.
    """
    found = dict[str, Entry]()
    for directory in directories:
        name = f"{LEROBOT}{Path(os.path.abspath(directory)).name}"  # of a link its own name, not its target's
        if name in found or ":" in name:
            raise ValueError(f"data.lerobot names {directory}: rename it, since a name is taken once and has no colon")
        make = _of("lerobot:LeRobot", directory=Path(directory), cameras=tuple(cameras), hz=hz, name=name)
        found[name] = Entry(make, (*_MOVING, *_DRIVEN), f"demonstrations in {directory}", moving=True)
    return found


def open_named(
    name: str,
    size: int = 64,
    split: str = "train",
    frames: int = 16,
    *,
    seed: int = 0,
    permissive_only: bool = False,
    sources: Mapping[str, Entry] = SOURCES,
    **options: Any,
) -> Source:
    """The source of that name.

    Args:
        name: of `sources`.
        size: pixels.
        split: `"train"` or `"test"`.
        frames: of its clips, where it has any.
        seed: of what it draws.
        permissive_only: refuse share-alike data; of the emoji leave out the share-alike style only.
        sources: those there are.
        options: more of the class's own.

    Raises:
        PackMissing: when its data pack is not here.
        ValueError: for an unknown name, bad options, or share-alike data where only permissive is wanted.
    """
    check_known("source", name, tuple(sources))
    entry = sources[name]
    if entry.moving:
        options["frames"] = frames
    if permissive_only:
        from selfflow.data.licences import PACKS

        if entry.pack == "emoji64":
            options["permissive_only"] = True
        elif entry.pack and PACKS[entry.pack].share_alike:
            raise ValueError(f"{name} is share-alike ({PACKS[entry.pack].name}), and permissive_only is set")
    source: Source = entry.factory(size=size, split=split, seed=seed, **options)
    return source


def available(
    names: Iterable[str] = tuple(SOURCES), permissive_only: bool = False, sources: Mapping[str, Entry] = SOURCES
) -> tuple[list[str], dict[str, str]]:
    """Which of these sources can be opened here, and of the others why not: `([name, …], {name: reason})`."""
    from selfflow.data.licences import PACKS

    found, missing = list[str](), dict[str, str]()
    for name in names:
        check_known("source", name, tuple(sources))
        pack = sources[name].pack
        if permissive_only and pack in PACKS and PACKS[pack].share_alike:
            missing[name] = f"share-alike ({PACKS[pack].name})"
            continue
        try:
            if pack:
                find(pack)
            found.append(name)
        except PackMissing as error:
            missing[name] = str(error)
    return found, missing
