"""Figures in the documentation: what stands between two markers of a page is written by a script from its JSON.

The words around are written by hand, and a test holds that every page is what its script writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from selfflow.worlds.tabletop.export.files import write_bytes


def filled(page: str, content: str, name: str = "figures") -> str:
    """The page with `content` between `<!-- name -->` and `<!-- end of name -->`, in place of what stood there.

    Raises:
        ValueError: when the page has not each marker once, the one before the other.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(end) < page.index(begin):
        raise ValueError(f"the page needs {begin} once and {end} once after it; write both where the figures belong")
    before, after = page[: page.index(begin)], page[page.index(end) :]
    return "{}{}\n\n{}\n\n{}".format(before, begin, content.strip("\n"), after)


def fill(path: Path, content: str, name: str = "figures") -> None:
    """`filled`, of a file: written to a temporary name, then renamed."""
    page = filled(path.read_text(encoding="utf-8"), content, name)
    write_bytes(path, page.encode())


def markdown(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, *rows]
    said = [f"| {' | '.join(map(str, line))} |".replace("|  |", "| |").replace("|  |", "| |") for line in lines]
    return "\n".join([said[0], "|---" * len(head) + "|", *said[1:]])


def plus_minus(x: Mapping[str, Any], digits: int, scale: float = 1.0, mark: bool = False) -> str:
    """`mean ± half` of an `interval`, both `scale` times; with `mark` in bold where the interval leaves 0 out."""
    mean, half = scale * x["mean"], x["half"]
    if half is None:
        return minus(f"{mean:.{digits}f}")
    said = minus(f"{mean:.{digits}f} ± {scale * half:.{digits}f}")
    return f"**{said}**" if mark and abs(mean) > scale * half else said


def minus(number: str) -> str:
    """With a minus sign in place of the hyphen, and without one before zero."""
    negative = number.startswith("-") and any(digit in "123456789" for digit in number.split(" ")[0])
    return ("−" if negative else "") + number.removeprefix("-")
