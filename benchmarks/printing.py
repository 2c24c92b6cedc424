"""What does printing words cost a request? Signs and edits of words beside what bears none, in the runtime.

    python benchmarks/printing.py [--model weights/micro-all-few] [--rounds 30] [--threads 1] [--json FILE]

A request is whole and in process: text in, uint8 array out, 4 passes, a word of its own each, references in memory.
Words are sought as they are (`nn/stencils.py`: products with every place by frequency, means by running sums) and, in
the same run, directly (a convolution and a pool of the stencil's size), by turns; both find the same. Told: medians and
95 % in milliseconds, and what a word costs over the request without one. With one thread CPU time is measured, so that
other processes hardly count.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from selfflow.data.sample import Sample
from selfflow.nn.stencils import FLAT, Stencils, Word
from selfflow.runtime import Runtime
from selfflow.train.checkpoint import write_json
from selfflow.worlds.tabletop.tasks import example
from timing import interleaved, machine, summary

STEPS, LENGTH = 4, 4
ASKED = {
    "picture": ("picture", "a medium red box number {0}"),
    "sign": ("picture", 'a medium red sign saying "{0}"'),
    "edit": ("edit", "paint the sign blue number {0}"),
    "edit of a word": ("edit", 'write "{0}" on the sign'),
}
WITHOUT = {"sign": "picture", "edit of a word": "edit"}


def directly(_: Stencils, picture: Tensor, word: Word, sizes: Sequence[Tensor]) -> list[Tensor]:
    """`Stencils._explained`, place by place."""
    shares = []
    for units in sizes:
        h, w = units.shape[2:]
        inked = F.conv2d(picture[:, None], units).square().sum(dim=0)
        mean, square = F.avg_pool2d(torch.stack([picture, picture.square()]), (h, w), stride=1)
        total = h * w * ((square - mean.square()).sum(dim=0) + FLAT)
        shares.append((inked / total).clamp(max=0.995))
    return shares


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("weights/micro-all-few"))
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args(arguments)
    torch.set_num_threads(a.threads)
    runtime, sought = Runtime.from_pretrained(a.model), Stencils._explained
    size = runtime.config.picture.size
    before = example("edit", 0, size, kinds=("change word",)).before
    assert before is not None  # of an edit
    words = map("".join, itertools.product("ACEGIKMOQSUWY", repeat=LENGTH))
    empty = Sample("0", np.zeros((size, size, 3), np.uint8), "")

    def request(how: Callable[..., list[Tensor]], name: str) -> None:
        task, text = ASKED[name]
        seen = (before,) if task == "edit" else ()
        asked = replace(empty, text=text.format(next(words)), references=seen)
        Stencils._explained = how  # type: ignore[method-assign]
        runtime.solve(task, [asked], steps=STEPS, guidance=1.0, generator=torch.Generator().manual_seed(0))

    actions: dict[str, Callable[[], object]] = {name: partial(request, sought, name) for name in ASKED}
    actions |= {f"{name}, directly": partial(request, directly, name) for name in WITHOUT}
    try:
        seconds = interleaved(actions, a.rounds, warmup=3)
    finally:
        Stencils._explained = sought  # type: ignore[method-assign]
    rows: dict[str, Any] = {name: summary(values) for name, values in seconds.items()}
    for name in actions:
        if plain := WITHOUT.get(name.removesuffix(", directly")):
            pairs = [one / other for one, other in zip(seconds[name], seconds[plain], strict=True)]
            rows[name]["over the one without"] = round(statistics.median(pairs), 2)
        print(f"{name}: {rows[name]}")
    if a.json:
        write_json(a.json, {"model": str(a.model), "steps": STEPS, "machine": machine(), "milliseconds": rows})


if __name__ == "__main__":
    main()
