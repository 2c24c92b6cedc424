"""Does a model know more colours than eight? Stills asked for in them, read by Tabletop's checker.

    python benchmarks/tones.py --model weights/micro-all [--samples 96] [--steps 25] [--json benchmarks/tones.json]

Captions of `tabletop-tones` that training does not have (another seed, nothing held out: what is asked is whether
colours by their names are known), those of them that say a tone. Told: facts right and pictures without fault, of the
model, of the true pictures (the ceiling: the reader takes some tones for others) and of the true pictures of other
captions (the floor); and of the model by tone, over what is asked for in it. One thread.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from selfflow.data.registry import open_named
from selfflow.data.sample import Sample
from selfflow.pipeline import Pipeline
from selfflow.train.checkpoint import write_json
from selfflow.worlds.tabletop.language import parse
from selfflow.worlds.tabletop.scene import TONES

SEED, BATCH = 77, 16


def asked(sample: Sample) -> set[str]:
    """The tones that a caption says."""
    return {phrase.colour for phrase in parse(sample.text).phrases if phrase.colour in TONES}


def read(source: Any, samples: list[Sample], pictures: list[np.ndarray]) -> dict[str, float]:
    values = [source.judge(sample, picture).value for sample, picture in zip(samples, pictures, strict=True)]
    return {"facts right": float(np.mean(values)), "without fault": float(np.mean([value == 1 for value in values]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    torch.set_num_threads(1)
    pipe = Pipeline.from_pretrained(a.model)
    source: Any = open_named("tabletop-tones", pipe.config.picture.size, count=4 * a.samples, seed=SEED)
    samples = [sample for sample in (source[i] for i in range(len(source))) if asked(sample)][: a.samples]
    drawn: list[np.ndarray] = []
    for k in tqdm(range(0, len(samples), BATCH)):
        some = [replace(sample, picture=np.zeros_like(sample.picture)) for sample in samples[k : k + BATCH]]
        generator = torch.Generator().manual_seed(k)
        drawn += [one.picture for one in pipe.solve("picture", some, steps=a.steps, generator=generator)]
    true = [sample.picture for sample in samples]
    right, of = Counter[str](), Counter[str]()
    for sample, picture in zip(samples, drawn, strict=True):
        of.update(asked(sample))
        right.update(asked(sample) if source.judge(sample, picture).value == 1 else ())
    found = {
        "model": str(a.model),
        "samples": len(samples),
        "steps": a.steps,
        "drawn": read(source, samples, drawn),
        "ceiling, true pictures": read(source, samples, true),
        "floor, those of other captions": read(source, samples, true[1:] + true[:1]),
        "without fault by tone": {tone: [right[tone], of[tone]] for tone in TONES if of[tone]},
    }
    for name, value in found.items():
        print(f"{name}: {value}")
    if a.json:
        write_json(a.json, found)


if __name__ == "__main__":
    main()
