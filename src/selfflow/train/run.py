"""Put a configuration together and train it: sources, vocabulary, network, objective, hooks."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from selfflow.building import build_modalities, build_network, patches_of
from selfflow.card import model_card, steps_said
from selfflow.codecs.cache import CachedCodec
from selfflow.config import Config, FewStepsConfig, from_dict, to_dict
from selfflow.data import DecodeError, Sample
from selfflow.data.echo import Echo
from selfflow.data.encoded import Encoding
from selfflow.data.opening import open_mixture, open_mixture_loader, open_source, open_training, read_captions
from selfflow.data.processes import ProcessLoader
from selfflow.modalities.action import Quantiles
from selfflow.modalities.looks import look_alike
from selfflow.modalities.text import BytePairs, Pretrained, TextEncoder
from selfflow.model_directory import BODIES, CARD, load_quantiles, read_config
from selfflow.nn import Transformer
from selfflow.objectives import (
    Alignment,
    Auxiliary,
    CleanData,
    FlowMap,
    FlowMatching,
    LayerSync,
    NegativeAware,
    OnPolicy,
    Progressive,
    Repa,
    SelfFlow,
    Standardise,
)
from selfflow.pipeline import Pipeline
from selfflow.tasks import DRIVEN
from selfflow.train import checkpoint
from selfflow.train.arithmetic import add, change
from selfflow.train.encoders import load_encoder
from selfflow.train.engine import Engine
from selfflow.train.history import HISTORY, RUN, carried, history_of, training
from selfflow.train.judged import PrepareJudged
from selfflow.train.task import Prepare, PrepareGuided
from selfflow.train.trainer import METRICS, Trainer, TrainState
from selfflow.train.translation import GAINED, LETTERS, begun
from selfflow.weight_files import has_weights, load_weights, weight_files

log = logging.getLogger(__name__)
GRAIN = 16  # lengths are multiples of it where steps are recorded


def build_objective(config: Config, text: TextEncoder, device: torch.device | str = "cpu") -> FlowMatching:
    """The objective of a run with freshly drawn weights: the same seed gives the same student, whatever the kind.

    It comes on the CPU; `device` is where it will train, and where REPA's encoder is put.
    """
    torch.manual_seed(config.train.seed)
    net, o, width, steps = build_network(config, text), config.objective, config.network.width, config.train.steps
    net.checkpointing = config.train.checkpointing
    if o.kind == "flow_map":
        return build_flow_map(config, net)
    if bool(config.network.mid) != bool(o.mid_weight):
        raise ValueError(
            f"network.mid is {config.network.mid} and objective.mid_weight {o.mid_weight}: a velocity at mid depth "
            "takes both, a block and a weight"
        )
    student, teacher = o.layers(config.network.depth)
    channels = {name: m.channels for name, m in net.config.modalities.items() if m.prediction}
    auxiliary: dict[str, Auxiliary] = {}
    if o.sync_weight:
        auxiliary["sync"] = LayerSync(student, teacher, o.sync_weight)
    if o.clean_weight:
        auxiliary["clean"] = CleanData(width, student, channels, o.clean_weight)
    options: dict[str, Any] = {
        "density": o.density, "ema_decay": o.ema_decay, "modalities": o.modalities, "ema_warmup": o.ema_warmup,
        "mid_weight": o.mid_weight, "auxiliary": auxiliary,
        "copying_weight": o.copying_weight if config.network.copying else 0.0,
    }  # fmt: skip
    if o.kind == "flow_matching":
        return FlowMatching(net, **options)
    if o.kind == "negative_aware":
        return NegativeAware(net, o.reward.strength, **options)
    acts = (round(o.gamma_from * steps), None if o.gamma_until == 1 else round(o.gamma_until * steps))
    options["alignment"] = Alignment(o.tokens, o.gap_from, o.gap_power, acts)
    features, encoder = width, None
    if o.kind == "repa":
        encoder = load_encoder(o.encoder, patches_of(config), device)
        features = encoder.width
    if o.target != "raw":
        options["target"] = Standardise(features, o.target, tuple(channels), o.momentum, o.shrinkage)
    if encoder is not None:
        return Repa(net, width, student, encoder, features, o.gamma, **options)
    return SelfFlow(
        net, width, student, teacher, o.gamma, o.mask_ratio, o.plain_share, min_gap=o.min_gap, **options
    )  # fmt: skip


def build_flow_map(config: Config, net: Transformer) -> FlowMap:
    """The objective that distils a model to few steps; its weights are to be loaded into all its networks.

    Raises:
        ValueError: for a network that cannot be told where to jump, or options that distillation has no use for.
    """
    if not config.network.target_time:
        raise ValueError("network.target_time is False: a flow map is told where to jump; set it to True")
    o, f = config.objective, config.objective.few_steps
    usual = FewStepsConfig()
    idle = [f"objective.{name}" for name in ("mid_weight", "sync_weight", "clean_weight") if getattr(o, name)]
    idle += ["network.mid"] * bool(config.network.mid)
    own = {"midpoint": ("narrow", "widen", "ends"), "on-policy": ("served", "finest"), "progressive": ("ladder",)}
    other = [name for method, names in own.items() if method != f.method for name in names]
    idle += [f"objective.few_steps.{name}" for name in other if getattr(f, name) != getattr(usual, name)]
    if idle:
        raise ValueError(f"{', '.join(idle)}: distillation by {f.method!r} has no use for it; leave it at its default")
    options: dict[str, Any] = {
        "interval": f.interval, "ema_decay": o.ema_decay, "ema_warmup": o.ema_warmup, "modalities": o.modalities,
    }  # fmt: skip
    if f.method == "progressive":
        return Progressive(net, config.train.steps, f.ladder, config.sampling.shift, **options)
    options |= {"dual": f.dual, "density": o.density}
    if f.method == "on-policy":
        return OnPolicy(net, config.train.steps, f.served, f.finest, config.sampling.shift, **options)
    return FlowMap(net, config.train.steps, narrow=f.narrow, widen=f.widen, ends=f.ends, **options)


def open_text(config: Config, directory: Path, captions: Callable[[], Any]) -> TextEncoder:
    """The run's text encoder: from its directory, or made now and saved there.

    The vocabulary may be another run's; how much of a prompt is kept, whether quotes are to be spelled, and in columns,
    is for this configuration to say.
    """
    t = config.text
    if t.pretrained:
        return Pretrained(t.pretrained, t.layers, t.max_tokens)
    if not (directory / BytePairs.FILE).exists():
        BytePairs.train(captions(), t.vocabulary, t.max_tokens).save(directory)
    text = BytePairs.load(directory)
    if t.spelled and not text.spells:
        text.spell()
        text.save(directory)
    if t.columns and not text.columns:
        text.columns = True
        text.save(directory)
    text.max_tokens = t.max_tokens
    return text


def train(
    config: Config,
    directory: Path,
    progress: bool = True,
    until: int | None = None,
    init: Path | None = None,
    watch: Sequence[Callable[[TrainState], None]] = (),
    like: tuple[Path, Path] | None = None,
) -> TrainState:
    """Train in `directory`, or go on where its last checkpoint stopped.

    Leaves there: `run.json` (configuration, machine), `metrics.jsonl`, `checkpoints/`, `samples/`, and the EMA weights
    as a model directory that `Pipeline.from_pretrained` opens.

    Args:
        init: a model directory whose weights and vocabulary to begin with, in a directory that holds no run yet.
        until: stop (with a checkpoint) after this step, as if interrupted; the schedule still runs to `train.steps`.
        watch: called after every step.
        like: an earlier model and what was made of it by training: what that changed is added to the weights to begin
            with (of a flow map not to its teacher's).

    Raises:
        ValueError: when the directory belongs to another configuration, naming the fields that differ; for a flow map
            without a model to begin with.
        FileNotFoundError: when `init` or one of `like` is no model. What is refused, in the first step at the latest,
            leaves the directory as it was.
    """
    begins = checkpoint.latest(directory / "checkpoints") is None
    if begins and init is None and config.objective.kind == "flow_map":
        raise ValueError("a flow map is distilled from a model; say which with --init, or use `selfflow distill`")
    if begins and init is not None:
        weight_files(init)  # a name mistyped is told before a vocabulary of its own is made
    directory.mkdir(parents=True, exist_ok=True)
    _same_run(config, directory)
    c = config.train
    engine = Engine(c.device, c.precision, c.parallel, c.threads)
    trainer: Trainer | None = None
    try:
        with _as_it_was(directory, lambda: begins and engine.is_main and not (trainer and trainer.step)):
            trainer, write = _set_up(config, directory, engine, init if begins else None, progress, until, watch, like)
            if engine.is_main:
                checkpoint.write_json(directory / RUN, {"config": to_dict(config), "machine": engine.describe()})
            state = trainer.run()
        # Stopped between two checkpoints, or killed last time between a checkpoint and its model.
        if engine.is_main and not engine.sharded and _published(directory) != state.step:
            write(state)
        engine.barrier()  # who leaves while others still speak to it may keep them waiting for ever
    finally:
        if config.data.processes and trainer is not None:
            trainer.loader.close()
        if trainer is not None and isinstance(trainer.prepare, PrepareJudged):
            trainer.prepare.judging.close()
        engine.close()
        if trainer is not None:
            _keep_latents(trainer.prepare)
    if engine.sharded and engine.is_main and trainer.last_checkpoint is not None:
        export(directory, trainer.last_checkpoint)
    return state


def _set_up(
    config: Config,
    directory: Path,
    engine: Engine,
    init: Path | None,
    progress: bool,
    until: int | None,
    watch: Sequence[Callable[[TrainState], None]],
    like: tuple[Path, Path] | None,
) -> tuple[Trainer, Callable[[TrainState], None]]:
    """The trainer of a run, and what writes its model; `init` is None in a run that goes on."""
    c = config.train
    _anchors_and_jumps(config, engine.world_size)
    sources = open_mixture(config.data, config.picture.size, "train", c.seed)
    different = list({id(source): source for source, _ in sources}.values())
    for source, part in sources:
        if part.task in DRIVEN and hasattr(source, "check_width"):
            source.check_width(config.control.width)
    if engine.is_main:
        if init is not None:
            for name in (BytePairs.FILE, BODIES):
                if (init / name).exists():
                    (directory / name).write_bytes((init / name).read_bytes())
            led = [*training(init, read_config(init)), *(carried(*like) if like else [])]
            checkpoint.write_json(directory / HISTORY, led)
        each = config.text.captions // len(different)
        open_text(config, directory, lambda: chain.from_iterable(read_captions(s, each) for s in different))
        fit_quantiles(different, directory)
    engine.barrier()
    text, quantiles = open_text(config, directory, list), load_quantiles(directory)
    objective = build_objective(config, text, engine.device)
    networks = [objective.net, objective.ema, *([objective.teacher] if isinstance(objective, FlowMap) else [])]
    if init is not None:
        tensors, anew = begun(config, init, text, different)
        for net in networks:
            load_weights(net, init, new=GAINED, anew=anew, state=tensors)
        if like is not None:
            changed = change(init, *like)
            for net in (objective.net, objective.ema):
                add(net, changed)
    elif config.text.looks and isinstance(text, BytePairs):
        for net in networks:
            weight = net.get_parameter(LETTERS)
            weight.data.copy_(look_alike(weight.data.cpu(), text))
    if c.compile:
        for net in networks:
            cast(Transformer, net).compile_blocks()

    def write(state: TrainState) -> None:
        pipe = _pipeline(state.objective, text, config, quantiles)
        pipe.save_pretrained(directory, model_card(config, state.step, history_of(directory)))

    def publish(state: TrainState) -> None:
        due = state.step == state.steps or state.step % c.save_every == 0 or state.step == until
        if due and engine.is_main and not engine.sharded:
            write(state)

    hooks = [publish, *watch]
    if c.sample_every and not engine.sharded and engine.is_main:
        hooks.append(SampleGrid(config, text))
    grain = GRAIN if c.record else 1
    latents = Path(config.data.cache) / "latents" if config.data.cache else None
    several = {name: practice.draws for name, practice in config.objective.modalities.items()}
    modalities = build_modalities(config, text, quantiles, latents)
    prepare = Prepare(modalities, c.text_drop, c.reference_drop, grain, several, c.state_drop)
    if isinstance(objective, FlowMap):
        f = config.objective.few_steps
        prepare = PrepareGuided(
            modalities, c.text_drop, c.reference_drop, grain, f.guidance, f.reference_guidance, f.tasks, c.state_drop
        )
    if isinstance(objective, NegativeAware):
        if config.data.processes:
            raise ValueError(
                f"data.processes is {config.data.processes}: they draw and encode samples, and here the model itself "
                "draws them; set it to 0"
            )
        pipe = _pipeline(objective, text, config, quantiles, torch.bfloat16 if engine.bf16 else torch.float32)
        prepare = PrepareJudged(
            modalities, pipe, sources, config.objective.reward, text_drop=c.text_drop,
            reference_drop=c.reference_drop, draws=several, state_drop=c.state_drop,
        )  # fmt: skip
    loader = open_batches(config, sources, prepare, engine)
    trainer = Trainer(
        objective, loader, prepare, directory, engine, config.optim,
        c.steps, c.accumulate, c.seed, c.save_every, hooks, progress, until, c.record, balance=c.balance,
    )  # fmt: skip
    return trainer, write


def _anchors_and_jumps(config: Config, world: int) -> None:
    """Refuse to distil a flow map with so few samples that processes would do different things.

    Of two rows of the batch one is an anchor and one jumps: with a single row a process has one of both, runs other
    networks than its neighbour, whose shards it waits for, and tells other losses.
    """
    c, o = config.train, config.objective
    if o.kind != "flow_map" or o.few_steps.method == "progressive":
        return
    each = c.batch_size // (world * c.accumulate) if world > 1 else c.batch_size
    if each < 2:
        raise ValueError(
            f"train.batch_size {c.batch_size} over {world} processes and train.accumulate {c.accumulate} leaves {each} "
            "at a time; a flow map needs an anchor and a jump, so 2 or more"
        )


def _keep_latents(prepare: Any) -> None:
    """Write those that do not fill a shard yet."""
    for codec in (prepare.modalities.codec, getattr(prepare.modalities.audio, "codec", None)):
        if isinstance(codec, CachedCodec):
            codec.cache.flush()


@contextmanager
def _as_it_was(directory: Path, begins: Callable[[], bool]) -> Iterator[None]:
    """Where a run fails that `begins`, undo what it wrote: a corrected command starts anew.

    What a step needs and lacks, a picture that does not divide into patches, shows in the first one at the latest.
    """
    names = (BytePairs.FILE, BODIES, HISTORY, RUN, METRICS) if begins() else ()
    before = {path: path.read_bytes() if path.exists() else None for path in (directory / name for name in names)}
    try:
        yield
    except BaseException:
        for path, content in before.items() if begins() else ():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
        raise


def _published(directory: Path) -> int | None:
    """The step whose model the directory holds; None where it holds none."""
    card = directory / CARD
    return steps_said(card.read_text(encoding="utf-8")) if card.exists() and has_weights(directory) else None


def open_batches(config: Config, sources: Sequence[tuple[Any, Any]], prepare: Prepare, engine: Engine) -> Any:
    """The loader of a run: in this process, or drawn and encoded by others, and used again where asked."""
    c, d, rank, world = config.train, config.data, engine.rank, engine.world_size
    if d.echo > 1 and world > 1:
        raise ValueError(
            f"data.echo is {d.echo}: what is used again depends on how fast each of the {world} processes is fed, and "
            "they would train different tasks in one step; set it to 1"
        )
    loader = open_mixture_loader(sources, c.batch_size, c.accumulate, c.seed, d.workers, rank, world)
    if not d.processes:
        return loader
    make: Callable[[], Any] = partial(
        open_training, d, config.picture.size, c.batch_size, c.accumulate, c.seed, rank, world
    )
    if not prepare.modalities.computes:
        make = partial(Encoding.opened, make, prepare.encode)
    elif d.echo > 1:
        raise ValueError("data.echo repeats tokens, and here a network makes them as the training goes; set it to 1")
    drawn = ProcessLoader(make, loader, d.processes)
    return drawn if d.echo == 1 else Echo(drawn, d.echo, int(d.held * 2**30), engine.device, c.seed)


def teacher_of(directory: Path) -> tuple[Config, str]:
    """The configuration of a model to distil, and its name with the first figures of its weights' SHA-256.

    Raises:
        FileNotFoundError: when there is no model.
    """
    config, digest = read_config(directory), hashlib.sha256()
    for path in weight_files(directory):
        digest.update(path.read_bytes())
    return config, f"{config.name} ({digest.hexdigest()[:12]})"


def export(directory: Path, path: Path | None = None) -> Path:
    """Write the EMA weights of a checkpoint, sharded or not, as a model directory; needs one process.

    Raises:
        FileNotFoundError: when the directory holds no checkpoint.
    """
    objective, text, config, step = load_objective(directory, path)
    pipe = _pipeline(objective, text, config, load_quantiles(directory))
    return pipe.save_pretrained(directory, model_card(config, step, history_of(directory)))


def load_objective(directory: Path, path: Path | None = None) -> tuple[FlowMatching, TextEncoder, Config, int]:
    """The objective of a run as a checkpoint (the last by default) holds it, its text encoder, and the step.

    Raises:
        FileNotFoundError: when the directory holds no checkpoint.
    """
    path = path or checkpoint.latest(directory / "checkpoints")
    if path is None:
        raise FileNotFoundError(f"{directory} holds no checkpoint to export")
    config = from_dict(Config, json.loads((directory / RUN).read_text())["config"])
    text = open_text(config, directory, list)
    objective = build_objective(config, text)
    return objective, text, config, int(checkpoint.load(path, objective)["step"])


def _pipeline(
    objective: nn.Module,
    text: TextEncoder,
    config: Config,
    quantiles: Quantiles | None = None,
    dtype: torch.dtype = torch.float32,
) -> Pipeline:
    return Pipeline(cast(Transformer, objective.ema), text, config, dtype, quantiles)


def fit_quantiles(sources: Sequence[Any], directory: Path, count: int = 200) -> None:
    """Write how each body's actions and states are scaled, from `count` samples of each source that has any.

    By quantiles, but for the values that a source declares raw: `raw = {"actions": (6,), "states": (6,)}`, places in an
    action, in a state, as for a gripper that is told 0 or 1. No source of ours does. Tabletop's gripper is told a width
    in metres, 0 to 0.26: raw it would reach the network at an eighth of the size of its neighbours, and count as little
    in the loss.

    What the directory has already, of the model that a run begins with or of its own beginning, stays as it is: the
    network has learned in these units. Added is what is missing. A source is of one body.
    """
    known = load_quantiles(directory).bodies
    rows: dict[str, dict[str, list[np.ndarray]]] = {}
    raw: dict[str, dict[str, tuple[int, ...]]] = {}
    for source in sources:
        if not hasattr(source, "__getitem__"):
            continue
        places = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int).tolist()
        samples = _readable(source, places)
        first = next(samples, None)
        if first is None or first.actions is None or not _unscaled(first, known):
            continue
        for sample in chain([first], samples):
            for what, own in _unscaled(sample, known).items():
                rows.setdefault(sample.body, {}).setdefault(what, []).append(own)
                if declared := getattr(source, "raw", {}).get(what):
                    raw.setdefault(sample.body, {})[what] = tuple(declared)
    values = {body: {what: np.concatenate(found) for what, found in kinds.items()} for body, kinds in rows.items()}
    if values:
        fitted = Quantiles.fit(values, raw).bodies
        both = {body: {**known.get(body, {}), **fitted.get(body, {})} for body in dict.fromkeys([*known, *fitted])}
        checkpoint.write_json(directory / BODIES, Quantiles(both).to_dict())


def _unscaled(sample: Any, known: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What a sample has of actions and states that `known`, by body, does not scale yet."""
    found = {what: getattr(sample, what) for what in ("actions", "states") if what not in known.get(sample.body, {})}
    return {what: values for what, values in found.items() if values is not None}


def _readable(source: Any, places: Iterable[int]) -> Iterator[Sample]:
    """The samples at those places, without those that cannot be read."""
    for i in places:
        with suppress(DecodeError):
            yield source[i]


def _same_run(config: Config, directory: Path) -> None:
    """Refuse to go on in a directory that was begun otherwise. What may change: length, looks, and machine."""
    path = directory / RUN
    if not path.exists():
        return
    told = json.loads(path.read_text())
    if "config" not in told:
        raise ValueError(f"{directory} holds a run of another kind, a codec's; give another --out")
    found = from_dict(Config, told["config"])
    free = {"steps", "accumulate", "save_every", "sample_every", "device", "precision", "parallel", "threads"}
    free |= {"compile", "checkpointing", "record", "workers", "processes", "echo", "held", "cache"}
    free |= {"cooldown"}  # a run at a constant rate may be brought to an end whenever one likes
    free |= {f"sampling.{key}" for key in to_dict(config)["sampling"]}
    few = config.objective.few_steps
    if config.objective.kind == "flow_map" and few.method != "midpoint":
        free -= {"sampling.shift"}  # of the schedules whose steps are learned
    different = [
        f"{part}.{key} was {before!r}, is {after!r}"
        for part, values in to_dict(found).items()
        if isinstance(values, dict)
        for key, before in values.items()
        if not free & {key, f"{part}.{key}"} and (after := to_dict(config)[part][key]) != before
    ]
    if different:
        raise ValueError(
            f"{directory} holds a run of another configuration ({'; '.join(different)}); "
            "give another --out, or the same options to go on with it"
        )


class SampleGrid:
    """A hook: every `sample_every` steps, pictures of eight held-out captions from the EMA, one seed throughout."""

    def __init__(self, config: Config, text: TextEncoder, count: int = 8) -> None:
        self.config, self.text = config, text
        try:
            source = open_source(config.data, config.picture.size, "test")
        except ValueError:  # no test split: captions it trains on
            source = open_source(config.data, config.picture.size, "train")
        if not hasattr(source, "__getitem__"):
            self.held_out = list(islice(source, count))
            return
        # A broken record costs its place on the sheet, not the run.
        self.held_out = [*_readable(source, np.linspace(0, len(source) - 1, count).astype(int).tolist())]

    def __call__(self, state: TrainState) -> None:
        if state.step % self.config.train.sample_every:
            return
        from selfflow.evaluate.grid import sheet

        prompts = [s.text for s in self.held_out]
        pipe = _pipeline(state.objective, self.text, self.config)
        pictures = pipe(prompts, generator=torch.Generator().manual_seed(0), output_type="np").images
        directory = state.directory / "samples"
        directory.mkdir(exist_ok=True)
        true = [s.picture for s in self.held_out]
        sheet([*pictures, *true], [*prompts, *["real"] * len(true)], len(prompts), directory / f"{state.step:07d}.png")


def with_overrides(config: Config, **options: Any) -> Config:
    """The configuration with some fields of `train` replaced; None leaves one as it is."""
    given = {k: v for k, v in options.items() if v is not None}
    return dataclasses.replace(config, train=dataclasses.replace(config.train, **given))
