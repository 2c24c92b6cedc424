"""Tabletop: captioned still scenes of simple things on a table, drawn from an integer seed.

    scene = draw(17)                                  # which things, where
    picture = render(scene, 32)                       # uint8 (32, 32, 3)
    words = caption(scene, generator(17))             # true of the picture
    verdict = score(picture, parse(words))            # verdict.score == 1.0, verdict.faults == ()

The package stands alone (numpy and Pillow), so a scene can be drawn, described and checked where there is no torch.
"""

from .check import Seen, read, score
from .claim import Claim, Phrase, Relation, Verdict, describe, judge
from .language import WORDS, caption, parse
from .render import render
from .scene import COLOURS, KINDS, SIZES, Scene, Thing, draw, generator
from .split import SPLITS, held_out, novel, split

__all__ = [
    "COLOURS",
    "KINDS",
    "SIZES",
    "SPLITS",
    "WORDS",
    "Claim",
    "Phrase",
    "Relation",
    "Scene",
    "Seen",
    "Thing",
    "Verdict",
    "caption",
    "describe",
    "draw",
    "generator",
    "held_out",
    "judge",
    "novel",
    "parse",
    "read",
    "render",
    "score",
    "split",
]
