"""`python -m selfflow.demo`: train both, draw, score, write the page."""

from __future__ import annotations

import sys
import webbrowser
from pathlib import Path

import tyro

from selfflow.demo.show import demo
from selfflow.demo.training import Stopped
from selfflow.recipes import nano
from selfflow.train.run import with_overrides


def main(
    out: Path = Path("demo/out"), page: Path = Path("demo/index.html"), steps: int | None = None, seed: int = 0,
    samples: int = 32, open: bool = False,
) -> None:  # fmt: skip
    """Train Self-Flow and flow matching side by side from nothing, and show what each draws on one page.

    Ctrl-C stops both with a checkpoint; the same command goes on from there.

    Args:
        out: Directory of both runs.
        page: The page to write.
        steps: Optimiser steps of each run (in place of the recipe's).
        seed: Of weights, data, noise and pictures.
        samples: How many held-out captions to score.
        open: Open the page in a browser at the end.
    """
    try:
        written = demo(with_overrides(nano(), steps=steps, seed=seed, threads=1), out, page, samples)
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
