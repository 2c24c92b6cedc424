"""`python -m selfflow.demo`: show what the bundled model does; or train two small ones, draw, score. Writes a page."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import tyro

from selfflow.bundled import bundled_model
from selfflow.demo.show import demo
from selfflow.demo.training import Stopped
from selfflow.demo.visit import visit
from selfflow.recipes import nano
from selfflow.train.run import with_overrides


def main(
    train: Annotated[bool, tyro.conf.arg(aliases=["--from-scratch"])] = False, model: Path | None = None,
    out: Path = Path("demo/out"), page: Path = Path("demo/index.html"), steps: int | None = None, seed: int = 0,
    samples: int = 32, open: bool = False,
) -> None:  # fmt: skip
    """Show what a trained model does, every task beside the truth; without weights, or with --train, train Self-Flow
    and flow matching side by side from nothing and compare them.

    Ctrl-C stops a training with a checkpoint; the same command goes on from there.

    Args:
        train: Train from nothing, whether there are weights or not.
        model: Model directory to show; the bundled weights by default.
        out: Directory of both runs, when training.
        page: The page to write.
        steps: Optimiser steps of each run (in place of the recipe's), when training.
        seed: Of weights, data, noise and pictures.
        samples: How many held-out captions to score, when training.
        open: Open the page in a browser at the end.
    """
    shown = model or (None if train else bundled_model())
    try:
        if train or shown is None:
            if not train:
                print("No weights come with this copy; training two small models from nothing.")
            written = demo(with_overrides(nano(), steps=steps, seed=seed, threads=1), out, page, samples)
        else:
            print(f"Asking {shown} for everything it can do …")
            written = visit(shown, page, seed)
    except Stopped as stopped:
        print(f"\nStopped: {stopped}. The same command goes on from there.", file=sys.stderr)
        raise SystemExit(130) from None
    except (ValueError, OSError, RuntimeError) as error:
        print(f"demo: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"\nThe page: {written}")
    if open:
        webbrowser.open(written.as_uri())


if __name__ == "__main__":
    tyro.cli(main, prog="python -m selfflow.demo")
