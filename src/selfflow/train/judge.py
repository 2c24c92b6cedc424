"""Training of a judge (`selfflow.nn.judge`): the model draws, whoever can reads what came, and the judge learns of it.

    selfflow judge --model weights/micro-all --out out/judge

Each sample of the model's own training data that ends in a picture is drawn several times. Where its source can read
pictures (`judge(sample, picture) → Score`, as Tabletop's can) that is the truth; where none can, the true picture
stands among the draws and is the right one: odds of that are what a draw's likelihood under the data is over that
under the model (Azadi et al. 2018, 1810.06758), by which draws may be chosen, too. What is held out is never drawn.

A run leaves `draws/`, `checkpoints/` and `metrics.jsonl`, and at last `judge.safetensors`, to be laid beside the
weights, and `judge.json`: of draws it did not learn from, how often the one it chooses is right.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from selfflow.config import to_dict
from selfflow.data.drawn import Drawn, Shard
from selfflow.data.loader import Batch
from selfflow.data.mixture import Ingredient
from selfflow.data.opening import open_mixture, open_mixture_loader
from selfflow.nn.judge import Judge, checked_tasks
from selfflow.objectives.verdicts import Found, Verdicts
from selfflow.pipeline import Pipeline
from selfflow.tasks import named
from selfflow.times import Draws
from selfflow.tokens import Tokens
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import Engine
from selfflow.train.optimizer import Optim
from selfflow.train.trainer import Trainer, TrainState

RUN, FIGURES = "run.json", "judge.json"
_APART = 16  # one shard in so many is not learned from
_AT_ONCE = 32  # draws made in one call


@dataclass(frozen=True)
class JudgeConfig:
    """How a judge is made.

    Attributes:
        samples, draws: how many are drawn, and how often each.
        tasks: of whose pictures it is to be the judge. Edits are not among them unless told: what is wrong with these
            shows in the comparison with what they change, and the doubt sees it sooner (docs/evidence.md).
        steps: of drawing them; fewer than in use do, for what is wrong is wrong alike. 0 takes the model's own.
        together: samples of a file of draws, and of a step of learning.
        rank: of the differences from the network (`selfflow.nn.judge`).
        epochs: passes over the draws.
        learning_rate: of AdamW, falling to 0.
        seed: of samples, noise and order.
    """

    samples: int = 4096
    draws: int = 4
    tasks: tuple[str, ...] = ("picture",)
    steps: int = 8
    together: int = 16
    rank: int = 32
    epochs: float = 3.0
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"samples": 1, "draws": 2, "steps": 0, "together": 1, "rank": 1}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name} is {getattr(self, name)}; it is {bound} or more")
        checked_tasks(self.tasks)
        if not (self.epochs > 0 and self.learning_rate > 0):
            raise ValueError(f"epochs {self.epochs} and learning_rate {self.learning_rate} are above 0")


Parts = Sequence[tuple[Any, Ingredient]]


def parts_of(pipe: Pipeline, config: JudgeConfig) -> list[tuple[Any, Ingredient]]:
    """What a model was trained on and ends in pictures that are to be judged.

    Raises:
        ValueError: when nothing does.
        PackMissing: when none of it is here.
    """
    data = pipe.config.data
    if data.mixture:
        asked = [text for text in data.mixture if Ingredient.parse(text).task in config.tasks]
        if not asked:
            raise ValueError(f"no part of the model's data is of {', '.join(config.tasks)}: {', '.join(data.mixture)}")
        data = replace(data, mixture=asked)
    return open_mixture(data, pipe.config.picture.size, "train", config.seed)


# --------------------------------------------------------------------------------------------------------- the draws


@dataclass(frozen=True)
class Planned:
    """A shard to be drawn: of which part, which samples."""

    part: int
    indices: range
    path: Path


def plan(parts: Parts, config: JudgeConfig, directory: Path) -> list[Planned]:
    """The shards of a run: a part of each drawn by weight, its samples in their order."""
    rng, used, found = random.Random(f"judge/{config.seed}"), [0] * len(parts), []
    for number in range(-(-config.samples // config.together)):
        (part,) = rng.choices(range(len(parts)), [ingredient.weight for _, ingredient in parts])
        indices = range(used[part], used[part] + config.together)
        used[part] += config.together
        found.append(Planned(part, indices, directory / f"{number:06d}.npz"))
    return found


def draw(pipe: Pipeline, source: Any, task: str, indices: Sequence[int], config: JudgeConfig, seed: int) -> Shard:
    """Some samples of a source, each drawn several times, and what is to be thought of each draw."""
    samples = [source[i % len(source)] for i in indices]
    blank = [replace(sample, picture=np.zeros_like(sample.picture)) for sample in samples]
    makes = config.draws - (not hasattr(source, "judge"))  # where nobody can read them the true picture is one
    at_once, made = max(1, _AT_ONCE // config.draws), list[Any]()
    for first in range(0, len(blank), at_once):
        made += pipe.solve(
            task, blank[first : first + at_once], steps=config.steps or None, choices=makes, every=True,
            generator=torch.Generator().manual_seed(1000 * seed + first),
        )  # fmt: skip
    drawn = [[s.picture for s in made[i : i + makes]] for i in range(0, len(made), makes)]
    if hasattr(source, "judge"):
        scores = [[source.judge(sample, p) for p in own] for sample, own in zip(samples, drawn, strict=True)]
        score = np.array([[s.value for s in own] for own in scores], np.float32)
        right = np.array([[s.value == 1 and not s.faults for s in own] for own in scores])
    else:
        drawn = [[sample.picture, *own] for sample, own in zip(samples, drawn, strict=True)]
        right = np.zeros((len(samples), config.draws), bool)
        right[:, 0] = True
        score = right.astype(np.float32)
    return Shard(source.name, task, np.array([i % len(source) for i in indices]), np.array(drawn), right, score)


def draw_all(pipe: Pipeline, parts: Parts, config: JudgeConfig, shards: Sequence[Planned], progress: bool) -> None:
    """Draw what is missing of a plan."""
    todo = [(i, shard) for i, shard in enumerate(shards) if not shard.path.exists()]
    bar = tqdm(
        todo, desc="drawing", unit="file", disable=not progress, initial=len(shards) - len(todo), total=len(shards)
    )
    for number, shard in bar:
        source, ingredient = parts[shard.part]
        draw(pipe, source, ingredient.task, shard.indices, config, config.seed * 100_000 + number).save(shard.path)


# ---------------------------------------------------------------------------------------------------------- learning


class PrepareDrawn:
    """Batches of `Drawn` samples to pictures and `Found`: what is known of each is read once, by who draws."""

    def __init__(self, pipe: Pipeline) -> None:
        self.pipe = pipe

    @torch.no_grad()
    def __call__(
        self, batch: Batch, draws: Draws | None = None, device: torch.device | str = "cpu"
    ) -> tuple[Tokens, Any]:
        samples, task, pipe = batch.samples, named(batch.task), self.pipe
        shown = [replace(s, picture=p, references=()) for s in samples for p in s.meta["draws"]]
        made = pipe.modalities.streams(shown, named("picture"), device)["visual"]
        assert isinstance(made, Tokens)
        _, known = task.split(pipe.modalities.streams(samples, task, device))
        truth = torch.tensor(np.stack([[s.meta["right"], s.meta["score"]] for s in samples]), dtype=torch.float32)
        count = made.batch // len(samples)
        truth = truth.transpose(1, 2).flatten(0, 1)
        return made, Found(pipe.remember(known).repeat(count), truth.to(device), count)


def train_judge(
    model: str | Path,
    out: Path,
    config: JudgeConfig | None = None,
    artist: str | Path | None = None,
    init: Path | None = None,
    progress: bool = True,
    until: int | None = None,
    parts: Callable[[Pipeline, JudgeConfig], Parts] = parts_of,
    threads: int = 0,
) -> TrainState:
    """Make a judge for a model, or go on where the directory stopped.

    Args:
        model: directory or hub id of the model that is to have a judge.
        artist: who draws, where another does so sooner: what was distilled from the model.
        init: a model directory whose judge is begun with; it has to be of the same shape, not of the same weights.
        until: stop with a checkpoint after this step of learning, as if interrupted.
        parts: the data.

    Raises:
        ValueError: when the directory was begun with other options, or `init` has no judge that fits.
    """
    config, out = config or JudgeConfig(), Path(out)
    engine = Engine(parallel="ddp", threads=threads)
    dtype = torch.bfloat16 if engine.bf16 else torch.float32
    try:
        pipe = Pipeline.from_pretrained(model, str(engine.device), dtype)
        pipe.net.requires_grad_(False)
        if engine.is_main:
            _same_run(out, {"judge": to_dict(config), "artist": None if artist is None else str(artist)})
        data = list(parts(pipe, config))
        shards = plan(data, config, out / "draws")
        painter = pipe if artist is None else Pipeline.from_pretrained(artist, str(engine.device), dtype)
        draw_all(painter, data, config, shards[engine.rank :: engine.world_size], progress and engine.is_main)
        engine.barrier()
        torch.manual_seed(config.seed)
        judge = Judge(pipe.net, config.rank, tasks=config.tasks)
        if init is not None:
            _begin(judge, init)
        learned = [shard for i, shard in enumerate(shards) if i % _APART != _APART - 1] or shards
        steps = max(1, round(config.epochs * len(learned)))
        trainer = Trainer(
            Verdicts(judge.to(engine.device)), _loader(data, learned, config, engine), PrepareDrawn(pipe), out, engine,
            Optim("adamw", config.learning_rate, (0.9, 0.98), 0.01, warmup=min(30, steps), cooldown=1.0), steps,
            seed=config.seed, save_every=50, progress=progress, until=until,
        )  # fmt: skip
        state = trainer.run()
        if engine.is_main and state.step == steps:
            judge.save(out)
            apart = [shard for i, shard in enumerate(shards) if i % _APART == _APART - 1]
            pipe.judge = judge.settled()
            write_json(out / FIGURES, figures(pipe, data, apart, config))
        return state
    finally:
        engine.close()


def _begin(judge: Judge, init: Path) -> None:
    """Take over another model's judge."""
    from safetensors.torch import load_file

    from selfflow.nn.judge import FILE

    if not (init / FILE).exists():
        raise ValueError(f"{init} has no judge ({FILE}) to begin with")
    judge.load_learned(load_file(init / FILE))


def _same_run(out: Path, told: dict[str, Any]) -> None:
    path, told = out / RUN, json.loads(json.dumps(told))  # which knows no tuples
    if path.exists() and (before := json.loads(path.read_text(encoding="utf-8"))) != told:
        raise ValueError(f"{out} was begun with {before}, not {told}; give another --out, or the same options to go on")
    write_json(path, told)


def _loader(data: Parts, shards: Sequence[Planned], config: JudgeConfig, engine: Engine) -> Any:
    """One step a shard's worth of samples, of one part; a part as often as it was drawn."""
    found = []
    for number, (source, ingredient) in enumerate(data):
        if paths := [shard.path for shard in shards if shard.part == number]:
            drawn = Drawn(source, ingredient.task, paths, config.together)
            found.append((drawn, replace(ingredient, weight=float(len(paths)))))
    return open_mixture_loader(found, config.together, 1, config.seed, 0, engine.rank, engine.world_size)


@torch.inference_mode()
def figures(pipe: Pipeline, data: Parts, shards: Sequence[Planned], config: JudgeConfig) -> dict[str, Any]:
    """Of each part: samples, and how often a draw is right: any, the one the judge chooses, the best there is; `told`
    is how often a right draw has more odds than a wrong one, of all pairs."""
    prepare, found = PrepareDrawn(pipe), dict[str, tuple[list[Tensor], list[Tensor]]]()
    for shard in shards:
        source, ingredient = data[shard.part]
        drawn = Drawn(source, ingredient.task, [shard.path], config.together)
        made, asked = prepare(Batch([drawn[i] for i in range(len(drawn))], task=ingredient.task), None, pipe.device)
        said, truth = found.setdefault(drawn.name, ([], []))
        said.append(pipe.judged(made, asked.memory)[:, 0].float().cpu().unflatten(0, (-1, config.draws)))
        truth.append(asked.truth[:, 0].cpu().unflatten(0, (-1, config.draws)))
    return {name: _told(torch.cat(said), torch.cat(truth)) for name, (said, truth) in sorted(found.items())}


def _told(said: Tensor, truth: Tensor) -> dict[str, float | None]:
    """Of log odds and truth, `(samples, draws)`."""
    right, wrong = said[truth > 0.5], said[truth <= 0.5]
    ahead = (right[:, None] > wrong).float() + (right[:, None] == wrong).float() / 2
    return {
        "samples": len(said),
        "blindly": float(truth.mean()),
        "chosen": float(truth.gather(1, said.argmax(dim=1, keepdim=True)).mean()),
        "best": float(truth.amax(dim=1).mean()),
        "told": float(ahead.mean()) if ahead.numel() else None,
    }


def command(
    out: Path,
    model: Path | None = None,
    artist: Path | None = None,
    init: Path | None = None,
    until: int | None = None,
    quiet: bool = False,
    config: JudgeConfig = JudgeConfig(),
) -> None:
    """Make a judge, who chooses among a model's draws; or go on where --out stopped.

    Args:
        out: Directory of the run; holds draws, checkpoints, and at last the judge.
        model: Directory of the model that is to have one; the bundled weights by default.
        artist: Who draws, where another does so sooner: what was distilled from the model.
        init: A model directory whose judge is begun with.
        until: Stop with a checkpoint after this step of learning, as if interrupted.
        quiet: No progress bar.
        config: How much, how often, how fast.
    """
    from selfflow.bundled import model_or_bundled

    chosen = model_or_bundled(model)
    state = train_judge(chosen, out, config, artist, init, not quiet, until)
    if state.engine.is_main:
        print(f"{out}: step {state.step} of {state.steps}")
        if (out / FIGURES).exists():
            print((out / FIGURES).read_text(encoding="utf-8"), end="")
            print(f"Lay {out}/judge.safetensors beside the weights ({chosen}): --choices then goes by it.")
