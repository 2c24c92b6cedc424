"""Does a model know more colours than eight? Stills asked for in them, read by Tabletop's checker.

    python benchmarks/tones.py [--model weights/micro-all] [--samples 96] [--steps 25] [--json benchmarks/tones.json]

Captions of `tabletop-tones` that training does not have (another seed, nothing held out: what is asked is whether
colours by their names are known), those of them that say a tone. Told: facts right and pictures without fault, of the
model, of the true pictures (the ceiling: the reader takes some tones for others), of the same with one colour the
nearest other paint (which ought to fail, and now and then passes), and of the true pictures of other captions (the
floor); and of the model by tone, over what is asked for in it. Without a model the reader alone is
measured. One thread.
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
from selfflow.worlds.tabletop.paints import apart
from selfflow.worlds.tabletop.render import render
from selfflow.worlds.tabletop.scene import PAINTS, TONES, Scene

SEED, BATCH, SIZE = 77, 16, 64


def asked(sample: Sample) -> set[str]:
    """The tones that a caption says."""
    return {phrase.colour for phrase in parse(sample.text).phrases if phrase.colour in TONES}


def scores(source: Any, samples: list[Sample], pictures: list[np.ndarray]) -> list[float]:
    return [source.judge(sample, picture).value for sample, picture in zip(samples, pictures, strict=True)]


def told(values: list[float]) -> dict[str, float]:
    return {"facts right": float(np.mean(values)), "without fault": float(np.mean([value == 1 for value in values]))}


def nearly(scene: Scene, k: int, size: int) -> np.ndarray:
    """The picture of a scene in which the things of one colour have the nearest that no thing has."""
    old = scene.things[k % len(scene.things)].colour
    free = [paint for paint in PAINTS if all(paint != thing.colour for thing in scene.things)]
    near = min(free, key=lambda paint: apart(paint, old))
    things = tuple(replace(thing, colour=near) if thing.colour == old else thing for thing in scene.things)
    return render(replace(scene, things=things), size)


def drawn(pipe: Pipeline, samples: list[Sample], steps: int) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    for k in tqdm(range(0, len(samples), BATCH)):
        some = [replace(sample, picture=np.zeros_like(sample.picture)) for sample in samples[k : k + BATCH]]
        generator = torch.Generator().manual_seed(k)
        found += [one.picture for one in pipe.solve("picture", some, steps=steps, generator=generator)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    torch.set_num_threads(1)
    pipe = None if a.model is None else Pipeline.from_pretrained(a.model)
    size = SIZE if pipe is None else pipe.config.picture.size
    source: Any = open_named("tabletop-tones", size, count=4 * a.samples, seed=SEED)
    samples = [sample for sample in (source[i] for i in range(len(source))) if asked(sample)][: a.samples]
    true = [sample.picture for sample in samples]
    near = [nearly(sample.meta["truth"], k, size) for k, sample in enumerate(samples)]
    found: dict[str, Any] = {
        "samples": len(samples),
        "ceiling, true pictures": told(scores(source, samples, true)),
        "one colour the nearest other": told(scores(source, samples, near)),
        "floor, those of other captions": told(scores(source, samples, true[1:] + true[:1])),
    }
    if pipe is not None:
        values = scores(source, samples, drawn(pipe, samples, a.steps))
        right, of = Counter[str](), Counter[str]()
        for sample, value in zip(samples, values, strict=True):
            of.update(asked(sample))
            right.update(asked(sample) if value == 1 else ())
        found |= {"model": str(a.model), "steps": a.steps, "drawn": told(values)}
        found["without fault by tone"] = {tone: [right[tone], of[tone]] for tone in TONES if of[tone]}
    for name, value in found.items():
        print(f"{name}: {value}")
    if a.json:
        write_json(a.json, found)


if __name__ == "__main__":
    main()
