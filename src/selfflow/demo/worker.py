"""One of the two trainings, as a process of its own: `python -m selfflow.demo.worker CONFIG.json DIRECTORY`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from selfflow.config import Config, from_dict
from selfflow.train.run import train


def main(config: Path, directory: Path) -> None:
    """Train the configuration of a JSON file in a directory, or go on there; the parent shows the progress."""
    train(from_dict(Config, json.loads(config.read_text())), directory, progress=False)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
