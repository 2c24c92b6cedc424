"""What of what is said and shown is held out: `tabletop_split.py [--quick] [--json FILE]`.

Of the instructions of the suite `tabletop-edit`, how many themselves say something held out, and how many a training
instruction says word for word; of the scenes in which the robot is trained, how many begin with two kinds side by side
that are held out so. Ten seconds of one core; a tenth of the examples with `--quick`.
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from selfflow.evaluate.protocol import Options
from selfflow.evaluate.tabletop_report import examples
from selfflow.worlds.tabletop.export.files import json_bytes, write_bytes
from selfflow.worlds.tabletop.robot import TASKS, draw_start
from selfflow.worlds.tabletop.split import novel, split
from selfflow.worlds.tabletop.tasks import example, parse_instruction

SIZE = 16  # of pictures that nobody looks at, pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the examples")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    options = parser.parse_args()
    few = 10 if options.quick else 1
    test, train, starts = 480 // few, 1200 // few, 500 // few
    asked = [case.text for case in examples("edit", SIZE, Options(samples=test))]
    known = [example("edit", seed, SIZE).text for seed in range(train)]
    said = [sum(novel(parse_instruction(text)) for text in texts) for texts in (asked, known)]
    again = sum(text in set(known) for text in asked)
    shown = {task: sum(split(draw_start(task, i).scene) == "test" for i in range(starts)) for task in TASKS}
    every = starts * len(TASKS)
    rows = [
        {"name": "edits, test: the instruction says something held out", "value": said[0] / test, "n": test},
        {"name": "edits, train: the same", "value": said[1] / train, "limit": 0, "n": train, "holds": said[1] == 0},
        {"name": f"edits, test: said word for word by one of {train} of training", "value": again / test, "n": test},
        *(
            {"name": f"{task}, train: begins with a held-out pair side by side", "value": count / starts, "n": starts}
            for task, count in shown.items()
        ),
        {"name": "robot, train: the same", "value": sum(shown.values()) / every, "n": every},
    ]
    for row in rows:
        print(f"{row['value']:7.3f}  {row['name']}")
    if options.json:
        write_bytes(options.json, json_bytes({"machine": platform.processor() or platform.machine(), "rows": rows}, 2))


if __name__ == "__main__":
    main()
