"""Liberated Pixel Cup characters: layers of pixel art that compose to more than 10⁹ of them, and their words.

A character is drawn back to front from one item a slot (body, hair, legs …). An item is a sheet of palette indices,
which recoloured items share, and a palette. The pack's `lpc64.npz` holds sheets, palettes and what items are called.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from selfflow.data.packs import find, read_npz
from selfflow.worlds.tabletop.scene import pick

SIDE = 64
DIRECTIONS = ("up", "left", "down", "right")
ANIMATIONS = ("walk", "slash", "spellcast", "thrust", "shoot", "hurt")
SKELETON = "skeleton"

_ORDER = (
    "cape_behind", "body", "eyes", "ears", "legs", "feet", "torso", "armor", "hands", "facial", "hair", "head",
    "cape_front", "weapon", "arrow",
)  # fmt: skip
_ORDER_BEHIND = ("weapon", "arrow", *(slot for slot in _ORDER if slot not in ("weapon", "arrow")))  # seen from behind
# What may be missing from an animation's sheets without the character looking wrong.
_SPARE = ("hair", "facial", "eyes", "ears", "cape_front", "cape_behind")

SKIN = {
    "light": "light-skinned", "tanned": "tanned", "tanned2": "deeply tanned", "dark": "dark-skinned",
    "dark2": "very dark-skinned", "darkelf": "violet-skinned dark elf", "darkelf2": "grey-skinned dark elf",
    "orc": "green orc", "red_orc": "red orc", "skeleton": "skeleton",
}  # fmt: skip
_HAIR = {
    "bangs": "short banged", "bangslong": "long banged", "bangslong2": "wavy banged", "bangsshort": "cropped banged",
    "bunches": "bunched", "jewfro": "curly", "longhawk": "long mohawk", "longknot": "long knotted",
    "messy1": "messy", "messy2": "spiky messy", "page": "page-cut", "page2": "full page-cut", "pixie": "pixie-cut",
    "ponytail2": "high ponytail", "shorthawk": "short mohawk", "shortknot": "short knotted",
    "shoulderl": "left-shoulder", "shoulderr": "right-shoulder", "swoop": "swooped", "xlong": "extra-long",
    "xlongknot": "extra-long knotted",
}  # fmt: skip
_FACE = {
    "beard": "a beard", "bigstache": "a big moustache", "fiveoclock": "stubble", "frenchstache": "a French moustache",
    "mustache": "a moustache",
}  # fmt: skip
VERB = {
    "walk": "walking", "slash": "slashing", "spellcast": "casting a spell", "thrust": "thrusting", "shoot": "shooting",
    "hurt": "falling down hurt", "stand": "standing",
}  # fmt: skip
TO = {"up": "facing away", "left": "facing left", "down": "facing the viewer", "right": "facing right"}
_WEAPON = {"slash": ("dagger", "wand"), "thrust": ("spear",), "shoot": ("bow", "recurve bow", "great bow")}
_MASS = ("chain mail", "leather armor", "plate armor")  # said without an article
_PLURAL = ("pants", "greaves")
_WHOLE = ("robe", "dress")  # worn without legwear
_PLAIN = {
    "black", "blonde", "blue", "brown", "gold", "gray", "green", "pink", "purple", "redhead", "white", "raven",
    "brunette", "ruby-red", "light-blonde", "dark-blonde", "white-blonde", "white-cyan",
}  # fmt: skip
_ASKED = {
    "hair": "give them", "head": "put on", "torso": "change the top to", "legs": "change the legwear to",
    "feet": "change the footwear to",
}  # fmt: skip


class Character(NamedTuple):
    """`"male"` or `"female"`, and slot → item."""

    sex: str
    parts: Mapping[str, int]


class Characters:
    """The pack, and what can be drawn of it.

    Attributes:
        clips: (animation, direction) → (column of `available`, first frame of a sheet, frames). `walk` begins with a
            standing frame; `hurt` has one direction, down.
    """

    def __init__(self, directory: Path) -> None:
        found = read_npz(directory / "lpc64.npz")
        self.maps, self.palettes, self.available = found["maps"], found["palettes"], found["available"]
        self.map_of, self.palette_of = found["item_map"], found["item_palette"]
        self.slot, self.sex, self.name, self.colour = (found[k].tolist() for k in ("slot", "sex", "name", "colour"))
        self.clips: dict[tuple[str, str], tuple[int, int, int]] = {}
        for column, clip in enumerate(found["clips"].tolist()):
            animation, direction, first, frames = clip.split(":")
            self.clips[animation, direction] = column, int(first), int(frames)
        self._items: dict[tuple[str, str], list[int]] = {}
        for item, place in enumerate(zip(self.sex, self.slot, strict=True)):
            self._items.setdefault(place, []).append(item)

    def items(self, sex: str, slot: str, wanted: Callable[[int], bool] = lambda item: True) -> list[int]:
        return [item for item in self._items.get((sex, slot), []) if wanted(item)]

    # ------------------------------------------------------------------------------------------------------- drawing

    def draw(self, rng: np.random.Generator, split: str, animation: str = "walk", weapon: bool = True) -> Character:
        """A character of a split, all of whose clothes are drawn for the animation; with what it needs in hand."""
        while True:
            character = self._dressed(rng, animation if weapon else "")
            if self.split_of(character) == split and self.drawn(character, animation):
                return character

    def _dressed(self, rng: np.random.Generator, armed_for: str) -> Character:
        sex = pick(rng, ("male", "female"))
        parts: dict[str, int] = {}

        def wear(slot: str, wanted: Callable[[int], bool] = lambda item: True) -> None:
            if options := self.items(sex, slot, wanted):
                parts[slot] = pick(rng, options)

        wear("body")
        skin = self.colour[parts["body"]]
        if skin != SKELETON:
            wear("eyes")
            if rng.random() < 0.2:
                wear("ears", lambda item: self.colour[item] == skin and self.name[item] == "elvenears")
            if rng.random() < 0.9:
                wear("hair", lambda item: self.colour[item] in _PLAIN)
            if sex == "male" and rng.random() < 0.35:
                colour = self.colour[parts["hair"]] if "hair" in parts else "black"
                wear("facial", lambda item: self.colour[item] == colour)
        wear("torso")
        if self.name[parts["torso"]] not in _WHOLE:
            wear("legs")
        wear("feet")
        if rng.random() < 0.25:
            wear("armor")
        if rng.random() < 0.3:
            wear("head")
        if sex == "female" and rng.random() < 0.25:
            behind = pick(rng, self.items(sex, "cape_behind"))
            kind = self.name[behind], self.colour[behind]
            if front := self.items(sex, "cape_front", lambda item: (self.name[item], self.colour[item]) == kind):
                parts |= {"cape_behind": behind, "cape_front": front[0]}
        if armed_for in _WEAPON:
            wear("weapon", lambda item: self.name[item] in _WEAPON[armed_for])
            if armed_for == "shoot":
                wear("arrow")
        return Character(sex, parts)

    def split_of(self, character: Character) -> str:
        """`"test"` for a tenth of the combinations of sex, skin, hair style and garment, by a hash, else `"train"`.
        Each of them by itself is seen in training."""
        parts = character.parts
        hair = self.name[parts["hair"]] if "hair" in parts else "-"
        words = "|".join([character.sex, self.colour[parts["body"]], hair, self.name[parts["torso"]]])
        return "test" if int(hashlib.sha1(f"lpc64:{words}".encode()).hexdigest()[:8], 16) % 10 == 0 else "train"

    def drawn(self, character: Character, animation: str) -> bool:
        """Whether everything worn has a sheet for the animation, in all its directions."""
        columns = [column for (name, _), (column, _, _) in self.clips.items() if name == animation]
        worn = [item for slot, item in character.parts.items() if slot not in _SPARE]
        return bool(self.available[np.ix_(worn, columns)].all())

    def frames(self, character: Character, animation: str, direction: str, which: Sequence[int]) -> np.ndarray:
        """uint8 `(len(which), 64, 64, 3)` on white: the frames of those numbers."""
        _, first, _ = self.clips[animation, direction]
        canvas = np.full((len(which) * SIDE * SIDE, 3), 255, np.float32)
        for slot in _ORDER_BEHIND if direction == "up" else _ORDER:
            item = character.parts.get(slot)
            if item is None:
                continue
            sheet = self.maps[self.map_of[item]]
            inked = np.concatenate([sheet[first + frame].ravel() for frame in which])
            places = np.flatnonzero(inked)  # index 0 of every palette is clear
            colours = self.palettes[self.palette_of[item]][inked[places]].astype(np.float32)
            opacity = colours[:, 3:] / 255
            canvas[places] = canvas[places] * (1 - opacity) + colours[:, :3] * opacity
        return (canvas + 0.5).astype(np.uint8).reshape(-1, SIDE, SIDE, 3)

    # --------------------------------------------------------------------------------------------------------- words

    def word(self, slot: str, item: int) -> str:
        """What an item is called, with its article."""
        colour = self.colour[item].replace("-", " ").replace("redhead", "red").rstrip("2")
        name = self.name[item]
        if slot == "hair":
            return f"{colour} {_HAIR.get(name, name)} hair"
        if slot == "facial":
            return _FACE[name]
        bare = name in _MASS or name in _PLURAL or slot in ("feet", "hands")
        return f"{colour} {name}" if bare else f"a {colour} {name}"

    def who(self, character: Character) -> str:
        """The looks of a character: `"a tanned man with brown plain hair, wearing a teal tunic and black shoes"`."""
        parts = character.parts
        skin = SKIN[self.colour[parts["body"]]]
        text = f"a {skin}" if skin == SKELETON else f"a {skin} {'man' if character.sex == 'male' else 'woman'}"
        if "ears" in parts:
            text += " with elf ears"
        if head := [self.word(slot, parts[slot]) for slot in ("hair", "facial") if slot in parts]:
            text += (" and " if "ears" in parts else " with ") + " and ".join(head)
        slots = [slot for slot in ("torso", "armor", "legs", "feet", "head", "cape_front") if slot in parts]
        worn = [self.word(slot, parts[slot]) for slot in slots]
        text += ", wearing " + ", ".join(worn[:-1]) + (" and " if len(worn) > 1 else "") + worn[-1]
        return text + (f", holding {self.word('weapon', parts['weapon'])}" if "weapon" in parts else "")

    def caption(self, character: Character, animation: str, direction: str, turned: bool = False) -> str:
        """Looks, what is done, and which way; `turned` says the same the other way round."""
        done = VERB[animation] + ("" if animation == "hurt" else f", {TO[direction]}")
        who = self.who(character)
        return f"{done.replace(', ', ' and ')}, {who}" if turned else f"{who}, {done}"

    # --------------------------------------------------------------------------------------------------------- edits

    def edit(self, rng: np.random.Generator, character: Character) -> tuple[Character, str] | None:
        """The character with one thing changed, and the instruction; None when the thing drawn cannot be changed."""
        sex, parts = character.sex, dict(character.parts)
        slot = pick(rng, ("hair", "torso", "legs", "feet", "head", "body", "eyes"))
        if slot == "head" and "head" in parts and rng.random() < 0.5:
            removed = parts.pop("head")
            return Character(sex, parts), f"remove the {self.name[removed]}"
        if slot in ("body", "eyes", "hair") and self.colour[parts["body"]] == SKELETON:
            return None
        if slot == "legs" and "legs" not in parts:
            return None
        options = self.items(sex, slot, lambda item: item != parts.get(slot) and self._may(slot, item))
        if not options:
            return None
        parts[slot] = pick(rng, options)
        colour, name = self.colour[parts[slot]], self.name[parts[slot]]
        if slot == "body":
            if "ears" in parts:
                same = self.items(sex, "ears", lambda i: self.name[i] == "elvenears" and self.colour[i] == colour)
                if not same:
                    return None
                parts["ears"] = same[0]
            return Character(sex, parts), f"change the skin to {SKIN[colour]}"
        if slot == "eyes":
            return Character(sex, parts), f"make the eyes {colour}"
        if slot == "torso":
            if name in _WHOLE:
                parts.pop("legs", None)
            elif "legs" not in parts:
                return None
        return Character(sex, parts), f"{_ASKED[slot]} {self.word(slot, parts[slot])}"

    def _may(self, slot: str, item: int) -> bool:
        if slot == "hair":
            return self.colour[item] in _PLAIN
        return slot != "body" or self.colour[item] != SKELETON


@lru_cache(maxsize=1)
def _characters(directory: Path) -> Characters:
    return Characters(directory)


def characters(directory: Path | None = None) -> Characters:
    """The pack, read once a process (115 MB of memory). Raises PackMissing when it is not here."""
    return _characters(Path(directory or find("lpc64")))
