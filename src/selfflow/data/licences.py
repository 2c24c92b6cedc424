"""Whose data a source shows, and on what terms: from the packs' own READMEs. A model card names them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class Licence(NamedTuple):
    """Terms of a source.

    Attributes:
        name: of the licence, or of several.
        attribution: words that must be kept; empty when none are asked for.
        share_alike: whether what is made of it keeps the licence.
    """

    name: str
    attribution: str
    share_alike: bool = False


GENERATED = Licence("Apache-2.0", "")
"""Tabletop: drawn by this package."""

PACKS = {
    "lpc64": Licence(
        "CC BY-SA 3.0 / GPL 3.0",
        "Liberated Pixel Cup characters by the artists named in the pack's AUTHORS.txt (Luke Mehl, Johannes Sjölund, "
        "Joe White, Matthew Krohn and others), opengameart.org, through jrconway3/Universal-LPC-spritesheet",
        True,
    ),
    "fsdd8k": Licence("CC BY-SA 4.0", "Free Spoken Digit Dataset, Z. Jackson et al.", True),
    "sonicpi_cc0_16k": Licence("CC0 1.0", ""),
    "pusht64": Licence("MIT", "Chi et al., Diffusion Policy, RSS 2023; (c) 2023 Columbia AI and Robotics Lab"),
    "signdigits64": Licence(
        "Apache-2.0",
        "Sign Language Digits Dataset, Mavi 2020, arXiv:2011.08927, students of Turkey Ankara Ayrancı Anadolu High "
        "School; resized",
    ),
    "fruits360_rot64": Licence("CC BY-SA 4.0", "Copyright (c) 2017- Mihai Oltean, Fruits-360 dataset", True),
}

_FLUENT = Licence("MIT", "Fluent Emoji, (c) Microsoft Corporation, MIT")
EMOJI = {
    "noto": Licence("Apache-2.0", "Noto Emoji, (c) Google LLC"),
    "twemoji": Licence("CC BY 4.0", "Twemoji graphics (c) Twitter, Inc and other contributors, CC BY 4.0"),
    "openmoji": Licence(
        "CC BY-SA 4.0",
        "All emojis designed by OpenMoji - the open-source emoji and icon project. License: CC BY-SA 4.0",
        True,
    ),
    "blobmoji": Licence("Apache-2.0", "Blobmoji (C1710/blobmoji), based on Noto Emoji (c) Google"),
    "fluent_3d": _FLUENT,
    "fluent_color": _FLUENT,
    "fluent_flat": _FLUENT,
}
_NAMES = Licence("Unicode License v3", "names and keywords (c) Unicode, Inc.")


def emoji_licence(styles: Collection[str]) -> Licence:
    """The terms of emoji in these styles together."""
    terms = [*dict.fromkeys(EMOJI[style] for style in EMOJI if style in styles), _NAMES]
    return Licence(
        ", ".join(dict.fromkeys(term.name for term in terms)),
        "; ".join(term.attribution for term in terms),
        any(term.share_alike for term in terms),
    )
