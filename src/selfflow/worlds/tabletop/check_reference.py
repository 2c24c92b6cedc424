"""Whether a picture shows the things of other pictures, as a text puts them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from .check_text import judged
from .claim import Claim, Phrase, judge, resolved, told
from .language import parse
from .read import Seen, read_scene
from .verdict import Score, check_read


def score_reference(references: Sequence[np.ndarray], picture: np.ndarray, text: str) -> Score:
    """How well a picture keeps the identity of referenced things, and shows what the text says of them.

    Args:
        references: 1 to 10 pictures, uint8 (size, size, 3), of one thing each.
        picture: uint8 (size, size, 3).
        text: a caption in which "from picture 1" and so on refer to them.

    Returns:
        As `score_text`, for the text with each reference told in full: kind, colour, size, word, raised fingers and
        pose of the thing that its picture shows. `facts` has the `references` read as well, and of them alone, wherever
        they stand: `identity kept`, the share of those spoken of that are there with all of that right, and `looks
        right`, the share of those properties that are. Both are None where the text speaks of no picture.

    Raises:
        ValueError: for what is no picture, for one that shows no thing, for no text of this language, and for one of
            a colour that is not read.
    """
    shown: list[Seen] = []
    for number, reference in enumerate(references, start=1):
        things = read_scene(reference)
        if not things:
            raise ValueError(f"reference picture {number} shows nothing; it must show one thing")
        shown.append(max(things, key=lambda thing: thing.fit))
    said, things = parse(text), read_scene(picture)
    check_read(phrase.colour for phrase in said.phrases)
    claim = resolved(said, shown)
    score = judged(claim, things, len(picture))
    defined = [full for brief, full in zip(said.phrases, claim.phrases, strict=True) if brief.picture is not None]
    return Score(score.value, score.faults, {**score.facts, "references": shown, **_identity(defined, things)})


def _identity(defined: Sequence[Phrase], things: Sequence[Seen]) -> dict[str, float | None]:
    if not defined:
        return {"identity kept": None, "looks right": None}
    found = Counter(defined) & Counter(told(thing) for thing in things)
    looks = Claim(tuple(defined))
    # What nobody asked for counts in the score; here it is no fact, as when there is nothing.
    right, of = judge(looks, things).true, judge(looks, ()).total
    return {"identity kept": found.total() / len(defined), "looks right": right / of}
