"""Documentation that runs: the page on one's own loop, executed as printed."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_your_own_loop():
    page = (ROOT / "docs" / "your-own-loop.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) == 3
    assert len([line for line in blocks[1].splitlines() if line.strip()]) < 20  # as the page promises
    names: dict = {}
    for block in blocks:
        exec(compile(block, "docs/your-own-loop.md", "exec"), names)
    first, last = names["history"][0], names["history"][-1]
    assert last["loss_velocity"] < 0.7 * first["loss_velocity"]
    assert {"loss_representation", "cosine", "rank_student", "rank_teacher"} <= last.keys()
    # The data is one point: samples must come close to it, closer than noise does.
    error = (names["generated"] - names["data"][:4]).square().mean()
    assert error < 0.6 * (names["torch"].randn(4, 16, 8) - names["data"][:4]).square().mean()


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "runs" / "gpu" / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def anchors(page):
    """What GitHub calls the headings of a page: in lower case, with hyphens, without what is no letter or digit."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_into_pages_lead_to_headings():
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target, anchor in re.findall(r"\]\(([^)#:]*\.md)?#([^)]+)\)", page.read_text()):
            there = page.parent / target if target else page
            assert anchor in anchors(there), f"{page.name} links to #{anchor} of {there.name}, which has none such"
