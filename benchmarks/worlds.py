"""The tabletop's own benchmarks, each `benchmarks/tabletop_*.py` in a process of its own and in its short form.

Without `--quick` each of them is the whole validation; with `--json benchmarks/tabletop_NAME.json` its figures stay.
Run itself, this file copies all of those into docs/tabletop.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from timing import Row

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "tabletop.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def tabletop_plan() -> dict[str, Callable[[], list[Row]]]:
    """What is run, by name."""
    return {path.stem: partial(measured, path) for path in sorted(HERE.glob("tabletop_*.py"))}


def measured(path: Path) -> list[Row]:
    """The rows of one benchmark; if it fails, one row without a figure that says so."""
    part = path.stem.removeprefix("tabletop_")
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "rows.json"
        command = [sys.executable, str(path), "--quick", "--json", str(report)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not report.exists():
            said = (done.stderr.strip() or "wrote no figures").splitlines()[-1]
            return [Row(f"tabletop {part}", None, note=said, held=False)]
        rows = json.loads(report.read_text(encoding="utf-8"))["rows"]
    return [row_of(part, row) for row in rows]


def row_of(part: str, row: dict[str, Any]) -> Row:
    """A row as the tabletop's benchmarks write it: name, value, and perhaps unit, goal, n and whether it holds."""
    goal = f"≥ {row['goal']:g}" if "goal" in row else ""
    note = f"n = {row['n']}" if "n" in row else ""
    return Row(f"{part}: {row['name']}", row["value"], row.get("unit", ""), goal, note, held=row.get("holds"))


def figures() -> str:
    """The rows of every `benchmarks/tabletop_*.json`, as tables in Markdown."""
    lines = []
    for path in sorted(HERE.glob("tabletop_*.json")):
        rows = json.loads(path.read_text(encoding="utf-8")).get("rows")
        if rows is None:  # still being measured
            continue
        lines += [f"### {path.stem.removeprefix('tabletop_')}", ""]
        lines += ["| | measured | | goal | n | |", "|---|---|---|---|---|---|"]
        for row in rows:
            value = "" if row["value"] is None else format(row["value"], ",.0f" if row["value"] >= 1000 else ".4g")
            goal = f"≥ {row['goal']:g}" if "goal" in row else ""
            held = {True: "holds", False: "**missed**"}.get(row.get("holds"), "")
            lines.append(f"| {row['name']} | {value} | {row.get('unit', '')} | {goal} | {row.get('n', '')} | {held} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    temporary = PAGE.with_name(f".{PAGE.name}.tmp")
    temporary.write_text(f"{before}{BEGIN}\n\n{figures()}{END}{rest.split(END)[1]}", encoding="utf-8")
    temporary.replace(PAGE)
