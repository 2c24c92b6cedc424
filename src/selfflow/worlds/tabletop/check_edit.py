"""Whether a picture is the edit that an instruction asks for: the instruction followed, and all the rest unchanged.

Copying the input leaves the rest unchanged and follows nothing; it scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .check_physics import faults_of
from .check_text import malformed
from .geometry import bounds
from .instruct import Instruction, parse_instruction
from .pixels import averaged, grown
from .read import Seen, read_scene
from .relations import carried, supports
from .render import EDGE, FRONT, silhouette
from .scene import Thing
from .verdict import Score, check_picture, check_read

SAME = 32.0  # of 255: by how much the mean of 3 x 3 pixels may change and still count as unchanged
SPARED = 0.02  # share of the pixels to be left alone that may change all the same
_AROUND = 0.06  # metres beside a thing that its shadow darkens
_STAYED = 0.03  # metres within which a thing is where it was


def score_edit(before: np.ndarray, after: np.ndarray, instruction: str | Instruction) -> Score:
    """How well one picture is another, edited.

    Args:
        before, after: uint8 (size, size, 3), of the same size.
        instruction: of this world's language (`instruct`).

    Returns:
        The share of what the instruction asks for, times the share of all else that is as it was. `facts`: `followed`
        and `kept`, those shares; `changed`, the share of pixels changed away from the things concerned; `before` and
        `after`, what was read. An instruction that speaks of nothing seen in `before` scores 0.

    Raises:
        ValueError: for what is no picture, for two sizes, for no instruction of this language, or for one of a
            colour that is not read.
    """
    check_picture(before)
    check_picture(after)
    if before.shape != after.shape:
        raise ValueError(f"the pictures before and after differ in size: {before.shape} and {after.shape}")
    asked = parse_instruction(instruction) if isinstance(instruction, str) else instruction
    check_read([asked.colour, *(phrase.colour for phrase in asked.phrases)])
    old, new = read_scene(before), read_scene(after)
    facts = {"followed": 0.0, "kept": 0.0, "changed": 0.0, "before": old, "after": new}
    try:
        untouched, checks = asked.done(old, old), asked.done(old, new)
    except ValueError as error:
        return Score(0.0, (f"in the picture before, {error}",), facts)
    # What is false of a mere copy is what the instruction asks for.
    wanted = {_about(fault) for right, fault in untouched if not right}
    lost = {f"the {old[i]} is gone" for i in asked.named(old)[:1]}
    faults = [fault for right, fault in checks if not right]
    failed = [fault for fault in faults if _about(fault) in wanted or fault in lost]
    followed = 0.0 if lost & set(failed) else 1 - len(failed) / max(len(wanted), 1)

    known = {str(fault).split(" is ")[0] for fault in faults_of(old, len(before))}
    broken = [str(f) for f in faults_of(new, len(after)) if str(f).split(" is ")[0] not in known] + malformed(new)
    changed = _changed(before, after, _concerned(asked, old, new))
    if changed > SPARED:
        broken.append(f"{100 * changed:.0f} % of the pixels that were to stay have changed")
    spoilt = [fault for fault in faults if fault not in failed] + broken
    others = max(len(checks) - len(wanted), 0) + 1 + max(len(broken) - (changed > SPARED), 0)  # the pixels are one
    kept = 1 - min(1.0, len(spoilt) / max(others, 1))
    facts |= {"followed": followed, "kept": kept, "changed": changed}
    return Score(max(0.0, followed * kept), (*failed, *spoilt), facts)


def _about(fault: str) -> str:
    """What a fault is about, without what is there instead."""
    return fault.split(";")[0]


def _concerned(asked: Instruction, old: Sequence[Seen], new: Sequence[Seen]) -> list[Thing]:
    """The things before that may change, and those after that are none of the others."""
    named = list(asked.named(old))
    moving = named if asked.kind == "swap" else named[:1] if asked.target is not None else []
    held = supports(old)
    moving += [load for i in moving for load in carried(held, i)]
    rest = [thing for i, thing in enumerate(old) if i not in moving]

    def known(thing: Thing) -> bool:
        return any(
            (thing.kind, thing.colour) == (other.kind, other.colour)
            and abs(thing.x - other.x) < _STAYED
            and abs(thing.y - other.y) < _STAYED
            for other in rest
        )

    return [*(old[i] for i in dict.fromkeys(moving)), *(thing for thing in new if not known(thing))]


def _changed(before: np.ndarray, after: np.ndarray, concerned: Sequence[Thing]) -> float:
    """The share of pixels that have changed, of those away from the things concerned and their shadows."""
    one, two = averaged(before).astype(np.float32), averaged(after).astype(np.float32)
    size = len(one)
    free = np.zeros((size, size), bool)
    height = 1 - (np.arange(size) + 0.5) / size
    for thing in concerned:
        free |= silhouette(thing, size) > 0.02
        left, _, right, _ = bounds(thing, solid=False)
        rows = (height < EDGE + 1 / size) & (height > FRONT - 1 / size)
        columns = slice(max(0, int((left - _AROUND) * size)), max(0, int((right + _AROUND) * size) + 1))
        free[rows, columns] = True
    stays = ~grown(grown(grown(free)))
    if not stays.any():
        return 0.0
    difference = np.abs(_smooth(two - one)).max(axis=-1)
    return float((difference[stays] > SAME).mean())


def _smooth(values: np.ndarray) -> np.ndarray:
    """The mean of 3 x 3 pixels."""
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
