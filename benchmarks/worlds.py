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

from selfflow.evaluate.pages import fill
from timing import Row

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "tabletop.md"


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
    return [row_of(part, row) for row in (worst(rows) if part == "check" else rows)]


def row_of(part: str, row: dict[str, Any]) -> Row:
    """A row as the tabletop's benchmarks write it: name, value, and perhaps unit, goal, n and whether it holds."""
    note = f"n = {row['n']}" if "n" in row else ""
    return Row(f"{part}: {row['name']}", row["value"], row.get("unit", ""), goal_of(row), note, held=row.get("holds"))


def goal_of(row: dict[str, Any]) -> str:
    """What a row's value is held against: it is to reach its `goal`, or to stay within its `limit`."""
    return f"≥ {row['goal']:g}" if "goal" in row else f"≤ {row['limit']:g}" if "limit" in row else ""


def parted(name: str) -> tuple[str, str, str]:
    """What was checked, of which kind, and under which condition, of a row of `tabletop_check`."""
    what, rest = name.split(": ", 1)
    of, condition = rest.split(", ", 1)
    return what, of, condition


def worst(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of all kinds that were checked alike, the one that went worst."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        what, _, condition = parted(row["name"])
        groups.setdefault((what, condition), []).append(row)
    found = []
    for (what, condition), alike in groups.items():
        least = min(alike, key=lambda row: row["value"])
        name = f"{what}, {condition}, the worst of {len(alike)}: {parted(least['name'])[1]}"
        held = None if least["holds"] is None else all(row["holds"] for row in alike)
        found.append({**least, "name": name, "holds": held})
    return found


def figures() -> str:
    """The rows of every `benchmarks/tabletop_*.json`, as tables in Markdown."""
    lines = []
    for path in sorted(HERE.glob("tabletop_*.json")):
        rows = json.loads(path.read_text(encoding="utf-8")).get("rows")
        if rows is None:  # still being measured
            continue
        part = path.stem.removeprefix("tabletop_")
        lines += [f"### {part}", "", *(check_table(rows) if part == "check" else plain_table(rows)), ""]
    return "\n".join(lines)


def plain_table(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each row."""
    lines = ["| | measured | | goal | n | |", "|---|---|---|---|---|---|"]
    for row in rows:
        value = "" if row["value"] is None else format(row["value"], ",.0f" if row["value"] >= 1000 else ".4g")
        held = {True: "holds", False: "**missed**"}.get(row.get("holds"), "")
        unit, count = row.get("unit", ""), row.get("n", "")
        lines.append(f"| {row['name']} | {value} | {unit} | {goal_of(row)} | {count} | {held} |")
    return lines


def check_table(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each kind, a column for each condition: the share that is right, and of how many."""
    conditions = list(dict.fromkeys(parted(row["name"])[2] for row in rows))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    goals: dict[str, float] = {}
    for row in rows:
        what, of, condition = parted(row["name"])
        missed = "**" if row["holds"] is False else ""
        text = f"{missed}{100 * row['value']:.4g} %{missed} of {row['n']}"
        cells.setdefault((what, of), {})[condition] = text
        if "goal" in row:
            goals[what] = row["goal"]
    lines = [f"| | goal, clean | {' | '.join(conditions)} |", "|---" * (len(conditions) + 2) + "|"]
    for (what, of), found in cells.items():
        goal = f"≥ {100 * goals[what]:g} %" if what in goals else ""
        shares = " | ".join(found.get(condition, "") for condition in conditions)
        lines.append(f"| {what}: {of} | {goal} | {shares} |")
    return lines


if __name__ == "__main__":
    fill(PAGE, figures())
