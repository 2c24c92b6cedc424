"""The studio on a real server in a real browser: its screenshots, and how long a keystroke takes to become a picture.

    python benchmarks/studio_shots.py --model DIR [--out docs/studio] [--json FILE] [--only shots|latency]

Starts `selfflow serve`, drives Debian's chromium through every flow of docs/studio.md, and writes PNGs of at most
150 KB. Latency is measured by the page itself, from the time stamp of the keystroke to the frame after which the
finished picture is on the screen: key by key (each waits for its picture), and typed without waiting, where a
keystroke that is overtaken counts for nothing and the one that overtook it counts. Needs playwright, chromium and the
extra `serve`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from timing import machine

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from studio_browser import CHROMIUM, launch

LARGEST = 150_000  # bytes of a screenshot
GOAL_MS = 250.0  # keystroke to final picture, p95
SENTENCES = (
    "a red ball left of a blue box",
    "two yellow books",
    "a large green cup",
    "a smiling face behind a white bottle",
)


@contextlib.contextmanager
def serving(model: Path, threads: int) -> Iterator[str]:
    """The address of a server with an empty history."""
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "selfflow.cli", "serve", "--model", str(model), "--port", "0", "--data", data]
        if threads:
            command += ["--threads", str(threads)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if "ready at" in line:
                    yield line.split("ready at ")[1].strip()
                    break
            else:
                raise RuntimeError(f"the server ended with status {process.wait()} before it was ready")
        finally:
            process.terminate()
            process.wait(20)


class Studio:
    """A page of the studio, and what a maker does on it."""

    def __init__(self, browser: Any, address: str, out: Path | None = None, **options: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}} | options)
        self.page = self.context.new_page()
        self.out = out
        self.page.set_default_timeout(120_000)
        self.page.add_init_script(
            "globalThis.finals = []; document.addEventListener('studio:final', e => finals.push(e.detail));"
        )
        self.page.goto(address)
        self.page.get_by_role("radio", name="Draw").wait_for(state="attached")
        self.page.wait_for_timeout(300)

    def mode(self, name: str) -> None:
        self.page.get_by_role("radio", name=name, exact=True).check()
        self.page.wait_for_timeout(400)
        if name != "Worlds":
            self.rest()

    def until(self, holds: str, given: Any = None, seconds: float = 180.0) -> None:
        """Asks again and again: the page's policy lets nobody wait inside it."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(holds, given):
            if time.monotonic() > end:
                raise TimeoutError(f"{holds} did not come true in {seconds:g} s")
            time.sleep(0.02)

    def finals(self) -> int:
        return int(self.page.evaluate("finals.length"))

    def rest(self, since: int = -1) -> None:
        """Until nothing is on its way and, given a count of finals, there was one more."""
        if since >= 0:
            self.until("n => finals.length > n", since)
        self.until("() => document.getElementById('frame').getAttribute('aria-busy') !== 'true'")
        self.page.wait_for_timeout(150)

    def say(self, text: str) -> None:
        """Types it, and waits for what it asks for to be finished."""
        self.page.locator("#prompt").fill(text)
        if self.page.locator("#stage").is_visible() and self.page.locator("body").get_attribute("data-mode") != "sound":
            label = "t => document.getElementById('picture').getAttribute('aria-label').endsWith(': ' + t)"
            self.until(label, text)
        else:
            self.until("() => document.getElementById('frame').dataset.state === 'heard'")
        self.rest()

    def keep(self) -> None:
        count = self.page.locator("#strip li").count()
        self.page.locator("#prompt").press("Enter")
        self.until("n => document.querySelectorAll('#strip li').length > n", count)
        self.page.wait_for_timeout(200)

    def press(self, *keys: str) -> None:
        self.page.evaluate("document.activeElement?.blur()")
        for key in keys:
            self.page.keyboard.press(key)

    def shot(self, name: str) -> None:
        assert self.out is not None
        self.page.wait_for_timeout(250)
        write_small(Image.open(io.BytesIO(self.page.screenshot(animations="disabled"))), self.out / f"{name}.png")
        print(f"{name}.png", flush=True)


def write_small(picture: Image.Image, path: Path) -> None:
    """As PNG of at most `LARGEST` bytes, with fewer colours where that is needed."""
    for colours in (None, 256, 128, 64):
        out = io.BytesIO()
        shown = picture.convert("RGB")
        (shown if colours is None else shown.quantize(colours, dither=Image.Dither.NONE)).save(
            out, "PNG", optimize=True
        )
        if out.tell() <= LARGEST:
            break
    path.write_bytes(out.getvalue())


def shots(browser: Any, address: str, out: Path) -> None:
    """Every flow, one picture each."""
    out.mkdir(parents=True, exist_ok=True)
    studio = Studio(browser, address, out, color_scheme="light")
    page = studio.page
    studio.shot("empty")
    for text in ("a red ball left of a blue box", "a red ball left of a green box", "a yellow book on a table"):
        studio.say(text)
        studio.keep()
    studio.press("z", "z")
    studio.rest()
    studio.say("a red ball behind a blue box")
    studio.keep()
    studio.shot("draw")
    before = studio.finals()
    studio.press("r")
    studio.rest(before)
    page.locator("#strip button").last.drag_to(page.locator(".slot.free"))
    studio.rest()
    studio.shot("references")
    page.get_by_role("button", name="Remove reference").click()
    page.get_by_role("button", name="Remove reference").click()
    studio.mode("Edit")
    studio.say("make the ball green")
    studio.press("c")
    studio.shot("words")
    studio.press("Escape")
    studio.mode("Mask")
    box = page.locator("#overlay").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.38 * box["height"], steps=8)
    page.mouse.up()
    studio.say("a small yellow ball")
    studio.shot("mask")
    studio.mode("Grow")
    for side, key in (("right", "ArrowRight"), ("left", "ArrowLeft")):
        for _ in range(2):
            page.get_by_role("slider", name=f"Grow {side}").press(key)
    studio.rest()
    page.locator("#prompt").fill("a red ball on a table")
    studio.rest()
    studio.shot("grow")
    studio.mode("Draw")
    studio.mode("Motion")
    page.get_by_label("With sound").check()
    studio.say("a rubber ball falls on the table")
    page.get_by_label("Time").fill("8")
    studio.shot("motion")
    studio.keep()
    studio.mode("Sound")
    studio.say("a glass ball falls on the table")
    studio.shot("sound")
    studio.keep()
    worlds(studio)
    studio.mode("Draw")
    studio.press("?")
    studio.shot("keys")
    studio.context.close()
    for name, options in (
        ("dark", {"color_scheme": "dark"}),
        ("phone", {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}),
    ):
        other = Studio(browser, address, out, **options)
        other.say("a large green cup")
        other.shot(name)
        other.context.close()


def worlds(studio: Studio) -> None:
    """Driven for a while; then the policy, half-way through."""
    page = studio.page
    studio.mode("Worlds")
    page.get_by_role("button", name="Start").click()
    studio.until("() => document.getElementById('readout').textContent.includes('frames a second')")
    page.keyboard.down("ArrowRight")
    page.wait_for_timeout(1200)
    page.keyboard.up("ArrowRight")
    page.keyboard.down("ArrowDown")
    page.wait_for_timeout(800)
    studio.shot("worlds")
    page.keyboard.up("ArrowDown")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("radio", name="Instruct").check()
    page.get_by_role("button", name="Carry out").click()
    studio.until("() => /step [1-9]/.test(document.getElementById('readout').textContent)")
    page.wait_for_timeout(500)
    studio.shot("robot")


def figures(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Milliseconds: percentiles from keystroke to screen, the medians of the model's share and of all the rest."""
    seen = sorted(row["ms"] for row in rows)
    return {
        "pictures": len(seen),
        "p50_ms": round(statistics.median(seen), 1),
        "p95_ms": round(seen[min(len(seen) - 1, int(0.95 * len(seen)))], 1),
        "most_ms": round(seen[-1], 1),
        "model_p50_ms": round(statistics.median(row["server"] for row in rows), 1),
        "rest_p50_ms": round(statistics.median(row["ms"] - row["server"] for row in rows), 1),
    }


def latency(browser: Any, address: str, steps: int | None, pause_ms: int = 120) -> dict[str, Any]:
    """Keystroke to final picture: one key after the other, and typed at a fast typist's pace."""
    found: dict[str, Any] = {}
    for name in ("key by key", "typed"):
        studio = Studio(browser, address)
        prompt = studio.page.locator("#prompt")
        if steps:
            studio.page.get_by_label("Steps").fill(str(steps))
        studio.say("warm")
        studio.page.evaluate("finals.length = 0")
        for sentence in SENTENCES:
            prompt.fill("")
            studio.page.wait_for_timeout(100)
            for letter in sentence:
                before = studio.finals()
                studio.page.keyboard.type(letter)
                if name == "typed":
                    time.sleep(pause_ms / 1e3)
                elif letter != " ":  # a space at the end asks for nothing new
                    studio.rest(before)
            studio.rest()
        found[name] = figures(studio.page.evaluate("finals"))
        studio.context.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("docs/studio"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", choices=["shots", "latency"])
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[0], help="of the model, each in its turn; 0 is the server's choice"
    )
    parser.add_argument("--steps", type=int, help="sampling steps for the latency; the model's own by default")
    given = parser.parse_args()
    if CHROMIUM is None:
        raise SystemExit("chromium is not installed; apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = launch(play)
        if given.only != "latency":
            with serving(given.model, given.threads[0]) as address:
                shots(browser, address, given.out)
        if given.only != "shots":
            report: dict[str, Any] = {"machine": machine(), "goal_p95_ms": GOAL_MS, "steps": given.steps}
            for threads in given.threads:
                with serving(given.model, threads) as address:
                    name = "keystroke_to_picture" + (f", {threads} threads" if threads else "")
                    report[name] = latency(browser, address, given.steps)
            report["load"] = os.getloadavg()[0]
            print(json.dumps(report, indent=2))
            if given.json:
                from selfflow.train.checkpoint import write_json

                write_json(given.json, report)
        browser.close()


if __name__ == "__main__":
    main()
