"""Surprise: the model's own loss on what is known. The suites `surprise` (clips that cannot be) and `sync` (sounds that
do not belong).

No figure here needs sampling: the noise is fixed, and the loss says how well the model knew what came.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfflow.choosing import errors
from selfflow.data.sample import Sample
from selfflow.evaluate.measures import chosen, held_out, share
from selfflow.evaluate.protocol import Figure, Options, seed_of
from selfflow.evaluate.tabletop_clips import surprise
from selfflow.evaluate.tabletop_report import require, shifted
from selfflow.tasks import named

SURPRISE_LEVELS = (0.25, 0.5, 0.75)
LATER = (0.1, 0.2, 0.4)  # seconds by which a clip comes too late for its sound
SILENT = 1e-3  # root mean square below which there is nothing to be in step


@torch.inference_mode()
def known_loss(
    pipe: Any,
    task: str,
    samples: Sequence[Sample],
    seed: int = 0,
    levels: Sequence[float] = SURPRISE_LEVELS,
    batch: int = 16,
) -> np.ndarray:
    """The velocity loss of each sample `(n,)`, mean over levels and over the tokens that the task generates.

    All samples see the same noise, which depends on (seed, level) alone, so that two that are alike but for what is to
    be judged are compared on that alone. Where a task generates several modalities, their means are added.

    Args:
        pipe: a `selfflow.pipeline.Pipeline`: its modalities, `remember` and `field` are used.
        task: of `selfflow.tasks`, with nothing known in part.
        samples: of one shape, with everything the task knows and generates.
        levels: times in (0, 1); 1 is noise.

    Raises:
        ValueError: for levels out of range, or samples that lack what the task needs.
    """
    if bad := [t for t in levels if not 0 < t < 1]:
        raise ValueError(f"levels {bad} are outside (0, 1)")
    job, losses = named(task), list[Tensor]()
    for start in range(0, len(samples), batch):
        streams = pipe.modalities.streams(samples[start : start + batch], job, pipe.device)
        generated, known = job.split(streams)
        velocity, total = pipe.field(generated, [pipe.remember(known)]), torch.zeros((), device=pipe.device)
        for level in levels:
            generator = torch.Generator().manual_seed(seed_of("surprise", seed, f"{level:.6f}"))
            for error in errors(velocity, generated, level, generator):
                total = total + error.mean(dim=1) / len(levels)
        losses.append(total.double().cpu())
    return torch.cat(losses).numpy()


def clip_loss(
    pipe: Any, clips: np.ndarray, texts: Sequence[str], fps: float, seed: int = 0, task: str = "animate"
) -> np.ndarray:
    """The loss `(n,)` of known clips uint8 `(n, f, H, W, 3)`: given nothing (task `clip`) or the first frame."""
    samples = [
        Sample(f"clip/{i}", None, text, clip=clip, fps=fps)
        for i, (clip, text) in enumerate(zip(clips, texts, strict=True))
    ]  # fmt: skip
    return known_loss(pipe, task, samples, seed)


def sound_loss(
    pipe: Any, clips: Sequence[np.ndarray], fps: float, sounds: Sequence[np.ndarray], rate: int, texts: Sequence[str],
    seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """The loss `(n,)` of known sounds float32 `(samples,)` given their clips: of the task `dub`."""
    rows = zip(clips, sounds, texts, strict=True)
    samples = [
        Sample(f"sound/{i}", None, text, clip=clip, fps=fps, sound=np.asarray(sound, np.float32), sound_rate=rate)
        for i, (clip, sound, text) in enumerate(rows)
    ]
    return known_loss(pipe, "dub", samples, seed)


def surprise_suite(pipe: Any, options: Options) -> dict[str, Any]:
    """How often a clip that can be has a lower loss than one that cannot, and is otherwise the same; by broken law.

    Pairs of `worlds.tabletop.pairs`, `options.pairs` of each kind, without caption: given nothing, and given the first
    frame, which the two share. Chance is one half.

    Raises:
        ImportError: without the extra `world`.
        ValueError: for no pairs, or a model whose loss cannot be asked for.
    """
    require(pipe, "field", "surprise", "template, memories")
    from selfflow.worlds.tabletop.scene import FPS

    if not options.pairs:
        raise ValueError("pairs is 0; the suite surprise consists of pairs")
    figures = {}
    for task, name in (("clip", "surprise"), ("animate", "surprise given the first frame")):

        def loss(clips: np.ndarray, texts: Sequence[str], seed: int, task: str = task) -> list[float]:
            return clip_loss(pipe, clips, texts, FPS, seed, task).tolist()

        found = surprise(loss, pipe.config.picture.size, options)
        figures[name] = _share(list(found.values()), "the possible clip has the lower loss")
        figures |= {name + kind.removeprefix("surprise"): _share([figure]) for kind, figure in found.items()}
    return {"figures": figures}


def _share(figures: Sequence[Figure], note: str = "") -> Figure:
    """How many pairs of all figures are right, a tie being half of one, with the interval of a share."""
    return share([hit for figure in figures for hit in figure.each or ()], chance=0.5, note=note)


def sync_suite(pipe: Any, options: Options) -> dict[str, Any]:
    """How often a clip's own sound has a lower loss, given the clip, than one that does not belong to it.

    The same sound, given the clip as it was and later by `LATER` seconds (its first frame held before it): were the
    sound delayed instead, it would begin with silence, which is easy in itself. Or another clip's sound: of exchanged
    sounds two clips are taken together, each with its own against each with the other's, for the same reason. Chance
    is one half. Silent clips are passed over.

    Raises:
        ImportError: without the extra `world`.
        ValueError: for a model without sound, or too few clips that sound.
    """
    require(pipe, "field", "sync", "template, memories")
    source = held_out("tabletop-clip", pipe)
    samples = [source[i] for i in chosen(len(source), options.samples, options.seed)]
    samples = [s for s in samples if sounds_at_all(s.sound)]
    if len(samples) < 2:
        raise ValueError(f"{len(samples)} of {options.samples} clips sound; ask for more samples")
    clips, sounds, texts = [s.clip for s in samples], [s.sound for s in samples], [s.text for s in samples]
    fps, rate = samples[0].fps, samples[0].sound_rate

    def loss(heard: Sequence[np.ndarray], seen: Sequence[np.ndarray] = clips) -> np.ndarray:
        return sound_loss(pipe, seen, fps, heard, rate, texts, options.seed)

    own, figures = loss(sounds), dict[str, Figure]()
    for seconds in LATER:
        held = max(1, round(seconds * fps))
        late = loss(sounds, [np.concatenate([np.repeat(c[:1], held, 0), c])[: len(c)] for c in clips])
        figures[f"in step rather than {seconds:g} s early"] = share(lower(own, late), chance=0.5)
    # Two clips exchange sounds when each of a ring has the next one's, and the next one has its.
    forth = loss(shifted(sounds))
    back = loss([sounds[-1], *sounds[:-1]])
    pair = lower(own + np.array(shifted(list(own))), forth + np.array(shifted(list(back))))
    figures["own sounds rather than exchanged"] = share(pair, chance=0.5, note="pairs of clips that follow each other")
    return {"figures": figures}


def sounds_at_all(sound: np.ndarray) -> bool:
    """Whether anything is heard: its root mean square lies above `SILENT`."""
    return bool(np.sqrt(np.mean(np.square(sound, dtype=np.float64))) > SILENT)


def lower(losses: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Where the loss is lower than the other; of those that are equal, every second."""
    return (losses < others) | ((losses == others) & (np.arange(len(losses)) % 2 == 0))
