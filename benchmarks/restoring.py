"""At which noise is what makes a digit lost? Recordings are noised to time t, restored by the model, and listened to.

    python benchmarks/restoring.py --model weights/micro-all [--samples 80] [--json FILE]

At t = 1 nothing of the recording is left and this is the suite `digits`; at small t the model has only details to say.
The time from which on digits are misheard says where training fails: at large t the word, at small t how it sounds.
Needs the pack fsdd8k.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfflow import flow, sample
from selfflow.data.digits import FORMS, WORDS
from selfflow.evaluate.digits_suite import listener, log_mel
from selfflow.evaluate.measures import held_out, in_turn, opened
from selfflow.pipeline import Pipeline
from selfflow.times import schedule

TIMES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)


class Restoring(Pipeline):
    """Begins at time `t` from the data that the request holds, instead of from noise."""

    t = 1.0
    data: Tensor

    def integrate(self, sampler: str, velocity: Any, noise: Tensor, times: Tensor, **options: Any) -> Tensor:
        x = flow.interpolate(self.data, noise, torch.full((len(noise),), self.t))
        times = schedule(len(times) - 1, self.config.sampling.shift, start=self.t)
        return sample.SAMPLERS[sampler](velocity, x, times, **options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="weights/micro-all")
    parser.add_argument("--samples", type=int, default=80)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    pipe = Restoring.from_pretrained(a.model)
    shape = {"seconds": pipe.config.data.seconds, "rate": pipe.config.audio.rate}
    training, test = opened("digits", pipe, "train", variants=1, **shape), held_out("digits", pipe, **shape)
    names = sorted({str(name) for name in training.pack["speakers"]})
    judge = listener(training, names)
    recordings = [test[i] for i in range(len(test))]
    recordings = [recordings[i] for i in in_turn([s.meta["digit"] for s in recordings], a.samples, 1)]
    asked = [replace(s, text=FORMS[0].format(word=WORDS[s.meta["digit"]])) for s in recordings]
    waves, digits = np.stack([s.sound for s in asked]), np.array([s.meta["digit"] for s in asked])
    pipe.data = pipe.modalities.audio.tokens(torch.from_numpy(waves)).data
    result: dict[str, Any] = {"model": a.model, "samples": len(asked), "steps": a.steps, "recognised": {}}

    def tell(name: str, made: np.ndarray) -> None:
        heard = judge.answers(log_mel(made, pipe.config.audio.rate))[:, 0]
        right = {WORDS[d]: float((heard == d)[digits == d].mean()) for d in sorted(set(digits.tolist()))}
        result["recognised"][name] = {"all": float((heard == digits).mean()), **right}
        print(f"{name:12}" + "".join(f"  {k} {v:.2f}" for k, v in result["recognised"][name].items()), flush=True)

    tell("recordings", waves)
    for t in TIMES:
        pipe.t = t
        made = pipe.solve("sound", asked, steps=a.steps, generator=torch.Generator().manual_seed(5))
        tell(f"t = {t}", np.stack([s.sound for s in made]))
    if a.json:
        temporary = a.json.with_name(f".{a.json.name}.tmp")
        temporary.write_text(json.dumps(result, indent=1) + "\n")
        os.replace(temporary, a.json)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
