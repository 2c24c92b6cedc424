"""At which noise is what was asked for lost? True samples are noised to time t, restored by the model, and judged.

    python benchmarks/restoring.py --model weights/micro-all [--what digits|text] [--samples 80] [--json FILE]

At t = 1 nothing of the truth is left and this is the suite `digits` or `tabletop-text`; at small t the model has only
details to say. The time from which on the judge disagrees says where training fails: at large t what is meant, at small
t how it sounds or looks. Digits need the pack fsdd8k.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfflow import flow, sample
from selfflow.data.digits import FORMS, WORDS
from selfflow.data.sample import Sample
from selfflow.data.scenes import TabletopScenes
from selfflow.evaluate.digits_suite import listener, log_mel, recordings, speakers
from selfflow.evaluate.measures import opened
from selfflow.evaluate.protocol import Options
from selfflow.pipeline import Pipeline
from selfflow.tasks import named
from selfflow.times import schedule
from selfflow.train.checkpoint import write_json
from selfflow.worlds.tabletop.check import score_text

TIMES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
Verdicts = dict[str, float]


class Restoring(Pipeline):
    """Begins at time `t` from the data that the request holds, instead of from noise."""

    t = 1.0
    data: Tensor

    def integrate(self, sampler: str, velocity: Any, noise: Tensor, times: Tensor, **options: Any) -> Tensor:
        x = flow.interpolate(self.data, noise, torch.full((len(noise),), self.t))
        times = schedule(len(times) - 1, self.config.sampling.shift, start=self.t)
        return sample.SAMPLERS[sampler](velocity, x, times, **options)


def digits(pipe: Pipeline, count: int) -> tuple[str, list[Sample], Callable[[Sequence[Sample]], Verdicts]]:
    """Held-out recordings, and which share of sounds is heard as the digit asked for."""
    source, chosen = recordings(pipe, "digits", Options(samples=count, seed=1))
    shape = {"seconds": pipe.config.data.seconds, "rate": pipe.config.audio.rate}
    judge = listener(opened("digits", pipe, "train", variants=1, **shape), speakers(source))
    asked = [replace(s, text=FORMS[0].format(word=WORDS[s.meta["digit"]])) for s in chosen]
    true = np.array([s.meta["digit"] for s in asked])

    def verdicts(made: Sequence[Sample]) -> Verdicts:
        heard = judge.answers(log_mel(np.stack([s.sound for s in made]), pipe.config.audio.rate))[:, 0]
        each = {WORDS[d]: float((heard == d)[true == d].mean()) for d in sorted(set(true.tolist()))}
        return {"all": float((heard == true).mean()), **each}

    return "sound", asked, verdicts


def text(pipe: Pipeline, count: int) -> tuple[str, list[Sample], Callable[[Sequence[Sample]], Verdicts]]:
    """Held-out scenes of the table, and which share of their captions' facts is seen."""
    source = TabletopScenes(count, pipe.config.picture.size, "test", 1)
    asked = [source[i] for i in range(count)]

    def verdicts(made: Sequence[Sample]) -> Verdicts:
        scores = [score_text(m.picture, s.text) for m, s in zip(made, asked, strict=True)]
        whole = float(np.mean([score.value == 1 for score in scores]))
        return {"facts right": float(np.mean([score.value for score in scores])), "all right": whole}

    return "picture", asked, verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="weights/micro-all")
    parser.add_argument("--what", choices=("digits", "text"), default="digits")
    parser.add_argument("--samples", type=int, default=80)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    pipe = Restoring.from_pretrained(a.model, dtype=torch.bfloat16)
    task, asked, verdicts = {"digits": digits, "text": text}[a.what](pipe, a.samples)
    pipe.data = named(task).split(pipe.modalities.streams(asked, named(task)), None)[0].data
    result: dict[str, Any] = {"model": a.model, "what": a.what, "samples": len(asked), "steps": a.steps, "found": {}}

    def tell(name: str, made: Sequence[Sample]) -> None:
        result["found"][name] = verdicts(made)
        print(f"{name:10}" + "".join(f"  {k} {v:.2f}" for k, v in result["found"][name].items()), flush=True)

    tell("the truth", asked)
    for t in TIMES:
        pipe.t = t
        tell(f"t = {t}", pipe.solve(task, asked, steps=a.steps, generator=torch.Generator().manual_seed(5)))
    if a.json:
        write_json(a.json, result)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
