"""The checkers of pictures: from pixels alone, without the simulator's truth, a score and in words what is wrong.

`read_scene` says what is there; the others hold that against a caption, against physics, against an instruction and the
picture before it, and against pictures of single things.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from .check_edit import score_edit
from .check_physics import REFERENCE_SIZE, faults_of
from .check_reference import score_reference
from .check_text import score_text
from .read import Seen, read_scene
from .scene import Thing
from .verdict import Fault, Score

__all__ = ["Fault", "Score", "Seen", "physics_faults", "read_scene", "score_edit", "score_reference", "score_text"]


def physics_faults(picture_or_seen: np.ndarray | Sequence[Thing]) -> list[Fault]:
    """Solids inside one another and things that rest on nothing, in pixels of the picture (of 64, for things read).

    The list is empty when all is possible.
    """
    if not isinstance(picture_or_seen, Sequence) or not all(isinstance(one, Thing) for one in picture_or_seen):
        picture = cast(np.ndarray, picture_or_seen)
        return faults_of(read_scene(picture), len(picture))
    return faults_of(picture_or_seen, REFERENCE_SIZE)
