"""What does it bring to draw several times and keep what the model itself finds likeliest? (`selfflow.choosing`)

    python benchmarks/choosing.py --model weights/micro-all [--steps N] [--samples 24] [--json benchmarks/choosing.json]

Held-out captions, edits and compositions of three references, `--draws` of each, by three seeds, each with prompts and
noises of its own. Told for 1, 2, 4 … draws: how right the draw is that is kept (facts, score, identity; and the share
without fault), beside the floor, a draw taken blindly, the ceiling, the best one by the checker, and what the same work
does otherwise: one draw in as many more steps. Then the other ways to choose (both terms of the score, and each by
itself), and the share of the work that looking with both takes. One thread; resumes where the JSON ends.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selfflow import choosing
from selfflow.data.scenes import TabletopScenes
from selfflow.data.tabletop_tasks import TabletopTask
from selfflow.evaluate.protocol import seed_of
from selfflow.pipeline import Pipeline
from selfflow.tasks import named
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from selfflow.worlds.tabletop.check import score_edit, score_reference, score_text

TASKS = ("picture", "edit", "compose")
SEEDS = 3
SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "both": choosing.score,
    "doubt alone": lambda told, untold: told,
    "what the text explains alone": lambda told, untold: told - untold,
}  # of what is least
RULE = {"picture": "both", "edit": "doubt alone", "compose": "doubt alone"}  # what `Pipeline.solve` goes by


def asked(task: str, count: int, size: int, seed: int) -> list[Any]:
    source: Any
    if task == "picture":
        source = TabletopScenes(count, size, "test", 1000 + seed)
    elif task == "edit":
        source = TabletopTask("edit", count, size, "test", 1000 + seed)
    else:
        source = TabletopTask("reference", count, size, "test", 1000 + seed, counts=(3,))
    return [source[i] for i in range(count)]


def right(task: str, sample: Any, picture: np.ndarray) -> tuple[float, bool]:
    """How right a picture is, in [0, 1], and whether it is without fault."""
    if task == "picture":
        score = score_text(picture, sample.text)
    elif task == "edit":
        score = score_edit(sample.references[0], picture, sample.text)
    else:
        score = score_reference(sample.references, picture, sample.text)
        return float(score.facts["identity kept"]), not score.faults  # type: ignore[arg-type]
    return score.value, not score.faults


def doubts(pipe: Pipeline, task: str, samples: Sequence[Any]) -> np.ndarray:
    job = named(task)
    generated, known = job.split(pipe.modalities.streams(samples, job, pipe.device))
    return choosing.doubt(pipe.field(generated, [pipe.remember(known)], internal=1.0), generated).numpy()


def measured(pipe: Pipeline, task: str, seed: int, samples: int, draws: int, steps: int | None) -> dict[str, Any]:
    """Of one task and seed: `(samples, draws)` values and doubts, the same of one longer draw, and seconds."""
    job = "picture" if task == "picture" else "edit"
    wanted = asked(task, samples, pipe.config.picture.size, seed)
    found: dict[str, list[Any]] = {"value": [], "whole": [], "told": [], "untold": []}
    seconds = {"drawing": 0.0, "looking": 0.0}

    def draw(number: int, steps: int | None) -> list[Any]:
        begun, made = time.process_time(), list[Any]()
        for first in range(0, samples, 16):
            some = wanted[first : first + 16]
            seeds = [seed_of("choosing", task, seed, first + i, number) for i in range(len(some))]
            generators = [torch.Generator().manual_seed(s) for s in seeds]
            made += pipe.solve(job, some, steps=steps, generator=generators)
        seconds["drawing"] += time.process_time() - begun
        return made

    for number in range(draws):
        made = draw(number, steps)
        begun = time.process_time()
        with torch.inference_mode():
            for name, seen in (("told", made), ("untold", [replace(m, text="") for m in made])):
                some = [doubts(pipe, job, seen[i : i + 16]) for i in range(0, samples, 16)]
                found[name].append(np.concatenate(some).astype(float).round(6).tolist())
        seconds["looking"] += time.process_time() - begun
        scores = [right(task, w, m.picture) for w, m in zip(wanted, made, strict=True)]
        found["value"].append([round(v, 5) for v, _ in scores])
        found["whole"].append([bool(w) for _, w in scores])
    times = draws * (1 + seconds["looking"] / seconds["drawing"])
    several = {name: round(s, 2) for name, s in seconds.items()}
    begun = seconds["drawing"]
    longer = draw(0, round((steps or pipe.config.sampling.steps) * times))
    scores = [right(task, w, m.picture) for w, m in zip(wanted, longer, strict=True)]
    return found | {
        "seconds": several | {"one draw in more steps": round(seconds["drawing"] - begun, 2)},
        "longer": {"times the steps": round(times, 2), "value": [round(v, 5) for v, _ in scores],
                   "whole": [bool(w) for _, w in scores]},
    }  # fmt: skip


def summary(task: str, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of one task, over its seeds: means, each seed's, and the 95 % interval of what choosing adds, by prompt."""
    value, whole, told, untold = (
        [np.array(part[name], float) for part in parts] for name in ("value", "whole", "told", "untold")
    )
    draws, counts = len(value[0]), [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= len(value[0])]

    def kept(n: int, how: str) -> list[np.ndarray]:
        return [SCORES[how](a[:n], b[:n]).argmin(axis=0) for a, b in zip(told, untold, strict=True)]

    def taken(table: list[np.ndarray], rows: list[np.ndarray]) -> list[np.ndarray]:
        return [t[r, np.arange(t.shape[1])] for t, r in zip(table, rows, strict=True)]

    def told_of(values: list[np.ndarray], wholes: list[np.ndarray]) -> dict[str, Any]:
        each = [[round(float(x.mean()), 4) for x in pair] for pair in zip(values, wholes, strict=True)]
        means = [float(np.concatenate(x).mean()) for x in (values, wholes)]
        return {"value": means[0], "whole": means[1], "by seed": each}

    result: dict[str, Any] = {"blindly": told_of([v.mean(axis=0) for v in value], [w.mean(axis=0) for w in whole])}
    for how in SCORES:
        some = counts if how == RULE[task] else counts[-1:]
        result[how] = {str(n): told_of(taken(value, kept(n, how)), taken(whole, kept(n, how))) for n in some}
    result["best by the checker"] = {
        str(n): told_of([v[:n].max(axis=0) for v in value], [w[:n].max(axis=0) for w in whole]) for n in counts
    }
    longer = (
        [np.array(part["longer"]["value"]) for part in parts],
        [np.array(part["longer"]["whole"], float) for part in parts],
    )
    result["one draw in more steps"] = told_of(*longer) | {"times": parts[0]["longer"]["times the steps"]}
    rng = np.random.default_rng(0)
    for name, table in (("value", value), ("whole", whole)):
        gain = np.concatenate(
            [t - v.mean(axis=0) for t, v in zip(taken(table, kept(draws, RULE[task])), table, strict=True)]
        )
        means = gain[rng.integers(0, len(gain), (4000, len(gain)))].mean(axis=1)
        result[f"gain in {name} of {draws}"] = [float(gain.mean()), *np.quantile(means, [0.025, 0.975]).tolist()]
    spent = [part["seconds"] for part in parts]
    result["looking, of all work"] = sum(s["looking"] for s in spent) / sum(s["looking"] + s["drawing"] for s in spent)
    return result


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="the model's own by default")
    parser.add_argument("--samples", type=int, default=24, help="of each task and seed")
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--json", type=Path)
    a = parser.parse_args(given)
    torch.set_num_threads(1)
    pipe = Pipeline.from_pretrained(a.model, dtype=fast_dtype("cpu"))
    about = {
        "model": a.model.name, "steps": a.steps or pipe.config.sampling.steps, "samples": a.samples, "draws": a.draws,
        "seeds": SEEDS, "levels": choosing.LEVELS,
    }  # fmt: skip
    about = json.loads(json.dumps(about))
    result: dict[str, Any] = {"about": about, "tasks": {}, "parts": {}}
    if a.json and a.json.exists() and (before := json.loads(a.json.read_text()))["about"] == about:
        result |= before  # what is kept in the repository has no parts
    for task in a.tasks:
        for seed in range(SEEDS):
            if (name := f"{task}, {seed}") not in result["parts"]:
                result["parts"][name] = measured(pipe, task, seed, a.samples, a.draws, a.steps)
                if a.json:
                    write_json(a.json, result)
        one = result["tasks"][task] = summary(task, [result["parts"][f"{task}, {seed}"] for seed in range(SEEDS)])
        print(f"{task}: {a.samples} × {SEEDS}; looking is {100 * one['looking, of all work']:.0f} % of the work")
        rows = {"blindly": one["blindly"], "one draw in more steps": one["one draw in more steps"]}
        for how in (*SCORES, "best by the checker"):
            rows |= {f"{how}, of {n}": row for n, row in one[how].items()}
        for label, row in rows.items():
            print(f"  {label:40} {row['value']:.3f}  without fault {row['whole']:.3f}  by seed {row['by seed']}")
        for name in ("value", "whole"):
            mean, low, high = one[f"gain in {name} of {a.draws}"]
            print(f"  choosing of {a.draws} adds {mean:+.3f} [{low:+.3f}, {high:+.3f}] to the {name}", flush=True)
        if a.json:
            write_json(a.json, result)


if __name__ == "__main__":
    main()
