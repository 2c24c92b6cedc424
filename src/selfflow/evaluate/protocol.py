"""What every suite shares: its options, its figures, and pictures drawn with one fixed seed per prompt."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from selfflow.choosing import check_choices
from selfflow.evaluate.features import FeatureFunction


@dataclass(frozen=True)
class Options:
    """How to run a suite.

    Attributes:
        samples: held-out prompts.
        steps, guidance: of the sampler; None leaves the pipeline's own.
        choices: draws of each sample, of which the model keeps the likeliest (`selfflow.choosing`).
        seed: of the choice of prompts, the noise of the pictures, and every random draw of the metrics.
        noise: above 0, of the same prompts from other noise: what a model differs by from itself.
        batch: pictures drawn at once.
        sheet: PNG to write with prompts, generated and true pictures; None writes none.
        pairs: of a possible and an impossible picture or clip, of each kind, for the surprise test; 0 leaves it out.
        sheet_rows: how many prompts the sheet shows.
        features: pictures to features; None is the suite's own (MobileNetV2).
        progress: show progress bars.

    Raises:
        ValueError: for counts below 1, a negative seed or noise.
    """

    samples: int = 256
    steps: int | None = None
    guidance: float | None = None
    choices: int = 1
    seed: int = 0
    noise: int = 0
    batch: int = 32
    sheet: Path | None = None
    sheet_rows: int = 32
    pairs: int = 32
    features: FeatureFunction | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        for name, value, least in (
            ("samples", self.samples, 2), ("batch", self.batch, 1), ("sheet_rows", self.sheet_rows, 1),
            ("seed", self.seed, 0), ("noise", self.noise, 0), ("pairs", self.pairs, 0),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"{name} is {value}; it must be {least} or more")
        check_choices(self.choices)

    @property
    def drawn(self) -> str:
        """What the noise of everything that is made is seeded with, beside its own name."""
        return f"{self.seed}" + f", noise {self.noise}" * (self.noise > 0)

    @property
    def sampling(self) -> dict[str, Any]:
        """What is said of the sampler, by the names that `solve` has; what is left to the model is not there."""
        given = {"steps": self.steps, "guidance": self.guidance, "choices": self.choices if self.choices > 1 else None}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Figure:
    """One result, with what it has to be compared with.

    Attributes:
        value: the figure.
        low, high: its 95 % interval.
        chance: what blind guessing gets, by arithmetic.
        floor: what a picture chosen without regard to the prompt gets, measured on the same samples; or, exactly, what
            nothing can fall below.
        ceiling: what real pictures get under the same protocol, measured.
        count: how many samples it is an average of.
        note: anything needed to read it, e.g. that lower is better.
        judged: False of what is itself a floor or a control, or what doing nothing is best at: it is there to be
            compared with, and beats nothing.
        each: what the value is the mean of, one a sample, in the order of the prompts; None for a sample that does
            not count. Two evaluations of the same prompts can be compared sample by sample. Not given where the value
            is no mean.
        floor_each: the same of a floor that was measured.
        margin: the 95 % interval of value - floor where the floor was measured, of the same samples in pairs.
        errors: of a PSNR, the mean squared error of each sample, in levels.
    """

    value: float
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    floor: float | None = None
    ceiling: float | None = None
    count: int | None = None
    note: str = ""
    judged: bool = True
    each: list[float | None] | None = None
    floor_each: list[float | None] | None = None
    margin: list[float] | None = None
    errors: list[float | None] | None = None

    @property
    def beats_floor(self) -> bool | None:
        """Whether the whole interval is better than floor and chance alike; None where neither is known, or not judged.

        A floor measured on a dozen samples may lie below chance, or just below the value, by luck: so chance counts as
        well, and of a measured floor the interval of the difference. Less is better where the note says so.
        """

        def over(bar: float) -> list[float] | None:
            return None if self.low is None or self.high is None else [self.low - bar, self.high - bar]

        gaps = [] if self.floor is None else [self.margin or over(self.floor)]
        gaps += [] if self.chance is None else [over(self.chance)]
        if not self.judged or not gaps or None in gaps:
            return None
        less = "lower is better" in self.note
        return all(high < 0 if less else low > 0 for low, high in filter(None, gaps))

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Figure:
        """A figure from its JSON, whatever else stands there: it is judged as it was."""
        return cls(**{f.name: stored[f.name] for f in fields(cls) if f.name in stored})


def each_of(values: Iterable[Any]) -> list[float | None]:
    """Results by sample for `Figure.each`: five digits are enough; None for what is not finite."""
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in map(float, values)]


class PicturePipe(Protocol):
    """The part of `selfflow.pipeline.Pipeline` that suites use; anything with these three members can be evaluated."""

    @property
    def config(self) -> Any: ...

    @property
    def held_out_velocity_loss(self) -> Callable[..., dict[float, tuple[float, float]]]:
        """`(samples, levels, seed) -> {level: (mean, standard error)}`; see `selfflow.evaluate.velocity_loss`."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...


def seed_of(*parts: object) -> int:
    """A seed in [0, 2^63) that depends on every part, and on nothing else: not on order, batch or machine."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def draw_pictures(pipe: PicturePipe, prompts: Sequence[str], ids: Sequence[str], options: Options) -> np.ndarray:
    """Pictures for prompts, uint8 `(n, H, W, 3)`: picture i starts from the noise of (`options.drawn`, `ids[i]`)."""
    from tqdm import tqdm

    pictures, chosen = [], {} if options.choices == 1 else {"choices": options.choices}
    for start in tqdm(range(0, len(prompts), options.batch), "pictures", unit="batch", disable=not options.progress):
        rows = slice(start, start + options.batch)
        generators = [torch.Generator().manual_seed(seed_of(options.drawn, i)) for i in ids[rows]]
        drawn = pipe(
            list(prompts[rows]), num_inference_steps=options.steps, guidance_scale=options.guidance,
            generator=generators, output_type="np", **chosen,
        ).images  # fmt: skip
        pictures.append(np.asarray(drawn))
    return np.concatenate(pictures)
