"""Configuration: plain frozen dataclasses, one per part, that turn into JSON and back without loss."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from selfflow.nn.transformer import Modality, Prediction, TransformerConfig
from selfflow.objectives.base import Practice
from selfflow.tasks import DRIVEN, named
from selfflow.times import Density
from selfflow.train.engine import Parallel, Precision
from selfflow.train.optimizer import Optim

T = TypeVar("T")


@dataclass(frozen=True)
class DataConfig:
    """What to train on.

    Attributes:
        source: `"tabletop"` (embedded scenes, no download), `"emoji"` (the emoji64 pack), a directory of pictures with
            `metadata.jsonl`, or `"hub:NAME"` to stream a data set with `datasets`.
        kinds, sizes: of things that tabletop scenes show; all when empty.
        most: things in a tabletop scene, 1 to 3.
        mixture: in place of one source, several with a task each: `SOURCE:TASK:WEIGHT`, such as `emoji:picture:2`
            (sources in `selfflow.data.registry`, tasks in `selfflow.tasks`). Every micro-batch is of one of them.
        lerobot: directories of data sets in LeRobot's format, each a source of the mixture named `lerobot/` and its
            directory, such as `lerobot/cups:act` (docs/robots.md).
        cameras: which camera of these is shown: the first of those named here that a data set has; none need be named
            where it has one.
        hz: their frames, states and actions a second: what was recorded divided by a whole number; 0 takes all.
        frames, seconds: length of clips, and of sounds that do not belong to a clip.
        count, simulated: samples of each of Tabletop's tasks in a mixture: pictures, and what has to be simulated
            (clips, robots). A run of many millions wants more of both than one of thousands.
        permissive_only: leave out sources under share-alike licences.
        image_key: column of a streamed data set (a directory's metadata name files in `file_name`).
        text_key: column of a directory's metadata or of a streamed data set.
        workers: threads that read ahead, per source; 0 reads in the loop. A streamed data set is read in the loop.
        processes: that draw whole batches ahead, in place of threads: for sources that are computed, such as
            Tabletop, on a machine with cores to spare. 0 draws in this process.
        echo: how often a batch is used, on average, at most: more than once only while `processes` have not drawn the
            next, in new mixtures and with new noise (`selfflow.data.echo`). 1 waits, and repeats nothing.
        held: GiB of batches kept for it on the device that trains.
        cache: a directory in which what is slow to make is kept for later epochs and runs: what Tabletop draws, and, of
            a run with codecs, latents (docs/codecs.md). Empty keeps the former in memory, and encodes every time.
    """

    source: str = "tabletop"
    kinds: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    most: int = 3
    mixture: tuple[str, ...] = ()
    lerobot: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    hz: float = 0.0
    frames: int = 16
    seconds: float = 0.8
    count: int = 20_000
    simulated: int = 20_000
    permissive_only: bool = False
    image_key: str = "image"
    text_key: str = "text"
    workers: int = 0
    processes: int = 0
    echo: int = 1
    held: float = 8.0
    cache: str = ""

    def __post_init__(self) -> None:
        if (self.cameras or self.hz) and not self.lerobot:
            raise ValueError(
                f"data.cameras {self.cameras} and data.hz {self.hz} are of the data sets in data.lerobot, which names "
                "none"
            )
        if self.echo < 1 or not self.held > 0 or (self.echo > 1 and not self.processes):
            raise ValueError(
                f"data.echo {self.echo} and data.held {self.held}: a batch is used once or more while data.processes "
                f"({self.processes}; with echo, 1 or more) draw the next, and what is held takes room"
            )


@dataclass(frozen=True)
class TextConfig:
    """How prompts become tokens: a BPE learned from the captions, or a pretrained encoder.

    Attributes:
        vocabulary: size of the learned vocabulary.
        max_tokens: longest prompt kept.
        captions: how many are read, of all sources together, to learn the vocabulary.
        spelled: whether what stands in quotes is told letter by letter (`BytePairs.spell`).
        columns: whether those letters have columns (`BytePairs`).
        looks: whether their embeddings begin as what they look like (`selfflow.modalities.looks`).
        pretrained: hub id or directory of a `transformers` encoder; empty to learn a BPE.
        layers: its hidden states to concatenate.
    """

    vocabulary: int = 2048
    max_tokens: int = 32
    captions: int = 20_000
    spelled: bool = False
    columns: bool = False
    looks: bool = False
    pretrained: str = ""
    layers: tuple[int, ...] = (-1,)


@dataclass(frozen=True)
class PictureConfig:
    """Pictures and clips: side in pixels, side of a patch, frames of a clip in one, what the network predicts of it.

    `codec` is a directory or a name for `selfflow.codecs.load_codec`; empty for pixels. With one that joins frames,
    `frames` is 1: the codec says how many frames of a clip are in one token.
    """

    size: int = 64
    patch: int = 8
    frames: int = 1
    prediction: Prediction = "data"
    codec: str = ""


@dataclass(frozen=True)
class AudioConfig:
    """Sound: samples a second, samples a token, and what the network predicts of one. A rate of 0 means no sound.

    `codec` is `"mel"` (`selfflow.codecs.mel`: nearly what was heard comes back, and a network learns it far sooner), or
    the directory of a codec of sound (`selfflow train codec-sound`), for that rate and hop; empty for the transform of
    `selfflow.modalities.audio`, of which every sample comes back.
    """

    rate: int = 0
    hop: int = 320
    prediction: Prediction = "data"
    codec: str = ""


@dataclass(frozen=True)
class ControlConfig:
    """Actions and states: the channels of a token, which hold those of every body. A width of 0 means neither."""

    width: int = 0
    prediction: Prediction = "data"


@dataclass(frozen=True)
class NetworkConfig:
    """Shape of the transformer: see `selfflow.nn.TransformerConfig`.

    Of a model of latents, which have no windows in pixels, `matching` and `stencils` are off whatever it says here, and
    so are `stencils` where texts are no tokens of a vocabulary.
    """

    width: int = 320
    depth: int = 8
    heads: int = 5
    mlp_ratio: float = 3.0
    double: int = 0
    parallel: bool = False
    mid: int = 0
    target_time: bool = False
    copying: bool = False
    matching: bool = False
    stencils: bool = False
    places: bool = False
    numbers: bool = False

    def build(self, modalities: dict[str, Modality]) -> TransformerConfig:
        shape = dataclasses.asdict(self)
        matching, stencils = shape.pop("matching"), shape.pop("stencils")
        config = TransformerConfig(modalities, **shape)
        pixels, spelled = config.side > 0, "text" in modalities and modalities["text"].vocabulary > 0
        return dataclasses.replace(config, matching=matching and pixels, stencils=stencils and pixels and spelled)


Distillation = Literal["midpoint", "on-policy", "progressive"]


@dataclass(frozen=True)
class FewStepsConfig:
    """How a model is distilled to few steps: see `selfflow.objectives.flow_map`.

    Attributes:
        method: `"midpoint"`, a flow map that serves any number of steps; `"on-policy"`, one taught where its own steps
            lead it; or `"progressive"`, down a ladder of numbers.
        guidance, reference_guidance, interval: of the teacher, baked into the student.
        tasks: name → guidance, of tasks that are led otherwise.
        dual: two noise levels a sample where velocities are learned, as in Self-Flow. As the objective's density of
            times it is of no use to `"progressive"`, which learns none.
        narrow, widen, ends: which jumps are practised when (`FlowMap`).
        ladder: of `Progressive`.
        served, finest: of `OnPolicy`.
        teacher: what was distilled, for the model card.
    """

    method: Distillation = "midpoint"
    guidance: float = 1.0
    reference_guidance: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    tasks: dict[str, float] = field(default_factory=dict)
    dual: bool = True
    narrow: float = 0.1
    widen: float = 0.5
    ends: float = 0.25
    ladder: tuple[int, ...] = (16, 8, 4)
    served: tuple[int, ...] = (4, 4, 2, 1)
    finest: int = 12
    teacher: str = ""


def _check_least(group: str, config: object, least: Mapping[str, int]) -> None:
    """Raise ValueError where a field of a group is less than it may be."""
    for name, fewest in least.items():
        if (value := getattr(config, name)) < fewest:
            raise ValueError(f"{group}.{name} is {value}; it must be {fewest} or more")


@dataclass(frozen=True)
class RewardConfig:
    """How a model learns from judged draws of its own: `selfflow.objectives.negative_aware`, `selfflow.train.judged`.

    Attributes:
        draws: of each sample, by the moving average.
        steps, guidance: of sampling them; fewer and less than one would use, for each costs as much as the next.
        noises: at which each draw is learned from.
        truth: whether the true picture counts as one more draw, without fault.
        strength: β: the smaller, the further a draw leads.
        processes: that judge, where one would keep a GPU waiting; 0 judges in the process that trains.
    """

    draws: int = 6
    steps: int = 8
    guidance: float = 1.0
    noises: int = 2
    truth: bool = False
    strength: float = 1.0
    processes: int = 0

    def __post_init__(self) -> None:
        least = {"draws": 1 if self.truth else 2, "steps": 1, "noises": 1}
        _check_least("objective.reward", self, least)


@dataclass(frozen=True)
class ObjectiveConfig:
    """Which objective, and its constants: see `selfflow.objectives`.

    Attributes:
        density, mask_ratio, plain_share, min_gap: which noise levels a sample has.
        ema_decay, ema_warmup: of the average, which is the teacher and what one samples from.
        gamma, gamma_from, gamma_until: weight of the representation loss, and the shares of the run between which it
            acts.
        student_layer, teacher_layer: 0 stands for 0.3 and 0.7 of the depth.
        tokens, gap_from, gap_power: which tokens that loss counts, and how much (`Alignment`).
        target, momentum, shrinkage: what it asks of the teacher's features (`Standardise`).
        mid_weight: of the velocity loss at mid depth; `network.mid` says where.
        copying_weight: of the cross entropy of what is copied, of a network that copies (`network.copying`).
        encoder: whose features REPA aligns with (`selfflow.train.encoders.load_encoder`).
        sync_weight: of `LayerSync`, from the student's layer to the teacher's, in one pass.
        clean_weight: of `CleanData` at the student's layer.
        modalities: those trained otherwise.
        few_steps: of `flow_map`.
        reward: of `negative_aware`.
    """

    kind: Literal["self_flow", "flow_matching", "repa", "flow_map", "negative_aware"] = "self_flow"
    density: Density = field(default_factory=Density)
    ema_decay: float = 0.9999
    gamma: float = 0.8
    mask_ratio: float = 0.25
    plain_share: float = 0.0
    student_layer: int = 0
    teacher_layer: int = 0
    modalities: dict[str, Practice] = field(default_factory=dict)
    ema_warmup: bool = False
    min_gap: float = 0.0
    gamma_from: float = 0.0
    gamma_until: float = 1.0
    tokens: Literal["all", "noisier"] = "all"
    gap_from: float = 0.0
    gap_power: float = 0.0
    target: Literal["raw", "centred", "whitened"] = "raw"
    momentum: float = 0.9
    shrinkage: float = 0.1
    mid_weight: float = 0.0
    copying_weight: float = 0.1
    sync_weight: float = 0.0
    clean_weight: float = 0.0
    encoder: str = "mobilenet"
    few_steps: FewStepsConfig = field(default_factory=FewStepsConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.gamma_from <= self.gamma_until <= 1:
            raise ValueError(f"gamma acts from {self.gamma_from} until {self.gamma_until}; give rising shares of a run")

    def layers(self, depth: int) -> tuple[int, int]:
        """Student and teacher layer, 1-indexed."""
        return self.student_layer or max(1, round(0.3 * depth)), self.teacher_layer or max(1, round(0.7 * depth))


@dataclass(frozen=True)
class TrainConfig:
    """How long, how much at a time, and how often to look.

    Attributes:
        steps, batch_size: optimiser steps, and samples in each over all processes.
        accumulate: micro-batches a step is split into.
        seed: of weights, order, times, noise and caption drops.
        text_drop, reference_drop, state_drop: share of captions replaced by the empty prompt; of samples whose
            references, and whose state, are hidden. A model that is to act or plan without a state needs the last.
        save_every, sample_every: steps between checkpoints and between sample grids (0: none).
        device, precision, parallel: see `selfflow.train.engine.Engine`.
        threads: CPU threads; 0 leaves torch's choice.
        compile, checkpointing: `torch.compile` of the blocks; recompute activations in the backward pass.
        record: forward and backward as CUDA graphs, one for each shape (`selfflow.train.recorded`): for small networks
            on one GPU, which wait for their launches.
        balance: each task of a mixture is taught in units of its own loss (`selfflow.train.balance`).
    """

    steps: int = 1000
    batch_size: int = 64
    accumulate: int = 1
    seed: int = 0
    text_drop: float = 0.1
    reference_drop: float = 0.1
    state_drop: float = 0.0
    save_every: int = 250
    sample_every: int = 0
    device: str = "auto"
    precision: Precision = "auto"
    parallel: Parallel = "auto"
    threads: int = 0
    compile: bool = False
    checkpointing: bool = False
    record: bool = False
    balance: bool = False

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch_size": 1, "accumulate": 1, "save_every": 1, "sample_every": 0, "threads": 0}
        _check_least("train", self, least)
        for name in ("text_drop", "reference_drop", "state_drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"train.{name} is {getattr(self, name)}; a share lies in [0, 1]")
        if self.record and (self.compile or self.checkpointing):
            raise ValueError("train.record goes with neither train.compile nor train.checkpointing; set one of them")


@dataclass(frozen=True)
class SamplingConfig:
    """Defaults of a pipeline.

    Attributes:
        steps: of the sampler.
        guidance: scale of guidance over text; 1 is none.
        guidance_interval: times in which it acts.
        shift: of the schedule (Self-Flow: 1.78 for pictures).
        internal_guidance: leads from the velocity said at mid depth to the last; other than 1 (none) it takes
            `network.mid`.
        tasks: name → guidance, of tasks that are led otherwise. Who acts, and what is seen then, is not led at all
            unless it stands here.
        shifts: name → shift, of tasks with a schedule of their own: what is decided at high noise, such as what a
            picture from words shows, gains by more steps there; what is said exactly, such as an action, loses.

    Raises:
        ValueError: for a task that does not exist, or a shift that is not above 0.
    """

    steps: int = 50
    guidance: float = 3.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    shift: float = 1.78
    internal_guidance: float = 1.0
    tasks: dict[str, float] = field(default_factory=dict)
    shifts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.tasks, *self.shifts):
            named(name)
        if wrong := {k: v for k, v in self.shifts.items() if not 0 < v < float("inf")}:
            raise ValueError(f"a shift of times is above 0 and finite; sampling.shifts is {wrong}")

    @property
    def otherwise(self) -> dict[str, float]:
        """Name → guidance of every task that is not led by `guidance`."""
        return dict.fromkeys(DRIVEN, 1.0) | self.tasks

    def guided(self, task: str) -> float:
        """The guidance of a task."""
        return self.otherwise.get(task, self.guidance)

    def shifted(self, task: str) -> float:
        """The shift of a task's schedule."""
        return self.shifts.get(task, self.shift)


@dataclass(frozen=True)
class Config:
    """A whole run."""

    name: str = "micro"
    data: DataConfig = field(default_factory=DataConfig)
    text: TextConfig = field(default_factory=TextConfig)
    picture: PictureConfig = field(default_factory=PictureConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: Optim = field(default_factory=Optim)
    train: TrainConfig = field(default_factory=TrainConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        if self.train.record and self.network.stencils:
            raise ValueError("train.record cannot record what network.stencils look for in texts; set one of them")


def to_dict(value: Any) -> dict[str, Any]:
    """A dataclass as JSON-ready dictionaries."""
    return dataclasses.asdict(value)


def from_dict(cls: type[T], values: dict[str, Any], where: str = "config") -> T:
    """The inverse of `to_dict`.

    Raises:
        ValueError: naming the first key that is unknown or has the wrong kind of value.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} must be an object with the fields of {cls.__name__}, not {values!r}")
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - names):
        raise ValueError(f"{where} has unknown fields {unknown}; {cls.__name__} knows {sorted(names)}")
    return cls(**{key: _convert(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = typing.get_args(hint)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * len(value)
        if len(kinds) != len(value):
            raise ValueError(f"{where} is {value!r}; it must be {hint}")
        return tuple(_convert(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict and isinstance(value, dict):
        return {k: _convert(typing.get_args(hint)[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is Literal:
        accepted = value in typing.get_args(hint)
    elif origin in (typing.Union, types.UnionType):
        return next(
            (_convert(h, value, where) for h in typing.get_args(hint) if _fits(h, value)), value
        )  # the dataclass itself checks what remains
    else:
        accepted = _fits(hint, value)
    if not accepted:
        raise ValueError(f"{where} is {value!r}; it must be {getattr(hint, '__name__', hint)}")
    return float(value) if hint is float else value


def _fits(hint: Any, value: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if typing.get_origin(hint) in (tuple, dict):
        return isinstance(value, (list, tuple) if typing.get_origin(hint) is tuple else dict)
    return isinstance(value, hint) if isinstance(hint, type) else True
