"""Trials: trainings that are compared over seeds, kept between commands, and told on a page of the documentation."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selfflow.config import Config
from selfflow.evaluate.pages import fill
from selfflow.train.checkpoint import write_json


def arguments(
    description: str | None, name: str, summary: str = "the summary; a figure is put beside it"
) -> argparse.ArgumentParser:
    """A parser of what every such script takes; `summary` says where it is written."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out") / name, help="runs; kept between commands")
    parser.add_argument("--json", type=Path, default=None, help=summary)
    parser.add_argument("--page", type=Path, help="train nothing: draw this summary, and write it to docs/evidence.md")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--progress", action="store_true")
    parser.add_argument("--quick", action="store_true", help="seconds: to see that it works")
    return parser


def finished(directory: Path, config: Config) -> dict[str, Any] | None:
    """The figures of a run that is done, its `result.json`; None where it is not.

    Raises:
        SystemExit: when it is of another configuration.
    """
    path = directory / "result.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    if found["config"] != json.loads(json.dumps(asdict(config))):
        raise SystemExit(f"{directory} holds a run of other options; give another --out, or the same options")
    return found


def write_summary(a: argparse.Namespace, key: str, summary: dict[str, Any]) -> None:
    """The summary under `key`, with the options it is of; places say nothing."""
    options = {k: str(v) for k, v in vars(a).items() if k not in ("out", "json", "page")}
    write_json(a.json, {"options": options, key: summary})


def publish(
    path: Path, key: str, page: Path, name: str,
    table: Callable[[dict[str, Any]], str], show: Callable[[dict[str, Any], Path], None],
) -> None:  # fmt: skip
    """Draw the figures of a summary beside it, and write its table between the markers `name` of a page."""
    summary = json.loads(path.read_text(encoding="utf-8"))[key]
    show(summary, path.with_suffix(".png"))
    fill(page, table(summary), name)
