"""A network of pictures in one kind of token goes on in another, its layers translated and not drawn anew.

A network that has learned to see patches of pixels need not learn to see again because its patches are now told in
latents. Where both kinds cut pictures into the same patches, one is nearly a linear map of the other, found by least
squares on pictures; what the first layer does with a token, and the last says, goes through that map. What remains is
to learn what is not linear, and that noise lies otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selfflow.building import build_modalities, pictures_like, sound_like
from selfflow.config import Config
from selfflow.data.sample import DecodeError
from selfflow.modalities.looks import look_alike
from selfflow.modalities.pixels import to_values
from selfflow.modalities.streams import Modalities
from selfflow.modalities.text import BytePairs, TextEncoder
from selfflow.model_directory import read_config
from selfflow.nn import Modality
from selfflow.weight_files import read_weights

SPOKEN = ("head", "mid_head")
LETTERS = "embed.text.weight"
# Of what a network may have gained since the model that it is begun with: it begins as it is made.
GAINED = ("target.", "copying.", "matching.", "stencils.", "mid_", "places.", "numbers.")
GLIMPSE = 768  # pictures on which maps between tokens are fitted: some fifty thousand patches
log = logging.getLogger(__name__)


def begun(
    config: Config, init: Path, text: TextEncoder, sources: Sequence[Any]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors with which a run of `config` goes on from the model `init`, and prefixes of those drawn anew.

    Layers of pictures are translated where that can be; those of another sound are drawn anew. What only one of the two
    has layers for, a clip in tokens of its own, actions, is begun or left out.

    Args:
        text: the run's.
        sources: what it learns from; where too little is to be seen in it, layers of pictures are drawn anew, too.
    """
    before, state, anew = read_config(init), read_weights(init), tuple[str, ...]()
    old, new = build_modalities(before, text), build_modalities(config, text)
    had, has = old.layers(), new.layers()
    if not config.network.build(has).stencils:
        state = {name: x for name, x in state.items() if not name.startswith("stencils.")}  # nothing is printed here
    for name in sorted(had.keys() ^ has.keys()):
        lacks, done = ("", "left out") if name in had else ("no ", "drawn anew")
        log.warning("%s has %s%s: its layers are %s", init, lacks, name, done)
        anew += tuple(
            f"{part}.{name}."
            for part in ("embed", *SPOKEN, "copying.gates", "matching.looks", "matching.gates", "places.maps")
        )
    if config.audio.rate and before.audio.rate and not sound_like(config, before):
        log.warning("%s has other tokens of sound: the layers of sound are drawn anew", init)
        anew += tuple(f"{part}.audio." for part in ("embed", *SPOKEN))
    if not pictures_like(config, before):
        if had.get("visual") != has.get("visual"):
            other = ("matching.", "stencils.")  # of windows and pixels that are no more
            state = {name: x for name, x in state.items() if not name.startswith(other)}
        pictures = glimpse(sources) if translatable(old, new) else None
        if pictures is not None and enough(old, new, pictures):
            log.warning("%s has other tokens of pictures: its layers are translated", init)
            state = translated(state, old, new, pictures)
        else:
            log.warning("%s has other tokens of pictures: the layers of pictures are drawn anew", init)
            names = dict.fromkeys(m.name for both in (old, new) for m in (both.visual, both.moving))
            anew += tuple(f"{part}.{name}." for name in names for part in ("embed", *SPOKEN))
            # A gate is of a frame of a token, whatever it shows.
            deep = [n for n in names if _copied(had.get(n)) != _copied(has.get(n))]
            anew += tuple(f"copying.gates.{name}." for name in deep)
    if config.text.looks and not before.text.looks and isinstance(text, BytePairs):
        state |= {LETTERS: look_alike(state[LETTERS], text)}
    return state, anew


def _copied(modality: Modality | None) -> int:
    """Frames of a token that may be copied, each with a gate of its own."""
    return modality.channels // modality.frame if modality is not None and modality.copies else 0


def glimpse(sources: Sequence[Any], count: int = GLIMPSE) -> Tensor | None:
    """About `count` pictures of what samples of all sources show, `(n, 3, H, W)` in [-1, 1]; None if nothing."""
    found = []
    for source in sources:
        each = -(-count // len(sources))
        for i in range(0, len(source), max(1, len(source) // each)):
            try:
                sample = source[i]
            except DecodeError as error:
                log.warning("left out sample %d of %s: %s", i, source.name, error)
                continue
            picture = sample.picture if sample.clip is None else sample.clip[i % len(sample.clip)]
            if picture is None:
                break  # a source of sound
            found.append(picture)
    return to_values(found) if found else None


def linear_fit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """`y ≈ x @ weight.T + bias` by least squares, of `(n, a)` and `(n, b)`: weight `(b, a)` and bias `(b,)`, float64.

    Raises:
        ValueError: for fewer pairs than a map has numbers of each output.
    """
    if len(x) != len(y) or len(x) <= x.shape[1]:
        raise ValueError(f"{len(x)} and {len(y)} tokens fit no map of {x.shape[1]} numbers; give more pictures")
    a, b = x.double(), y.double()
    mean_a, mean_b = a.mean(dim=0), b.mean(dim=0)
    a, b = a - mean_a, b - mean_b
    gram = a.T @ a / len(a)
    # Numbers that hardly vary, such as blue where nothing is blue, must not blow the map up.
    gram += 1e-6 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, a.T @ b / len(a)).T
    return weight, mean_b - weight @ mean_a


def translatable(old: Modalities, new: Modalities) -> bool:
    """Whether pictures and clips are cut alike by both, and their clean data is what is predicted."""
    return (
        old.cell == new.cell
        and old.joins == new.joins == 1
        and old.moving.frames == new.moving.frames
        and all(m.prediction == "data" for m in (old.visual, new.visual))
    )


def enough(old: Modalities, new: Modalities, pictures: Tensor) -> bool:
    """Whether pictures `(n, 3, H, W)` have more patches than either kind of token has numbers."""
    height, width = pictures.shape[-2:]
    patches = len(pictures) * (height // old.cell) * (width // old.cell)
    return patches > max(m.visual.modality.channels for m in (old, new))


def translated(state: dict[str, Tensor], old: Modalities, new: Modalities, pictures: Tensor) -> dict[str, Tensor]:
    """Weights of a network of `old` tokens as those of one of `new` tokens.

    Args:
        state: name → tensor.
        pictures: `(n, 3, H, W)` in [-1, 1], on which the maps are fitted.
    """
    seen, told = (m.encode_pictures(pictures).data.flatten(0, 1).cpu() for m in (old, new))
    back, forth = linear_fit(told, seen), linear_fit(seen, told)
    result = dict(state)
    for name in dict.fromkeys((old.visual.name, old.moving.name)):
        depth = old.moving.frames if name == old.moving.name else 1

        def whole(fit: tuple[Tensor, Tensor], depth: int = depth) -> tuple[Tensor, Tensor]:
            """Of a token that is several frames deep: each frame by itself."""
            return torch.block_diag(*[fit[0]] * depth), fit[1].repeat(depth)

        for part in ("embed", *SPOKEN):
            names = f"{part}.{name}.weight", f"{part}.{name}.bias"
            if names[0] not in state:
                continue
            weight, bias = (state[n].double() for n in names)
            if part == "embed":  # old tokens are `back` of new ones
                turn, offset = whole(back)
                changed = weight @ turn, bias + weight @ offset
            else:  # new tokens are `forth` of old ones
                turn, offset = whole(forth)
                changed = turn @ weight, turn @ bias + offset
            result |= {n: value.to(state[n].dtype) for n, value in zip(names, changed, strict=True)}
    return result
