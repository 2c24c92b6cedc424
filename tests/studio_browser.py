"""Debian's chromium, quiet and offline, and the hands of those who drive the studio in it."""

from __future__ import annotations

import shutil
import threading
import time
from typing import Any

from studio_fake import COLOURS, Fake

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def launch(play: Any, **options: Any) -> Any:
    """A browser of that `sync_playwright()`."""
    return play.chromium.launch(executable_path=CHROMIUM, args=QUIET, **options)


# ------------------------------------------------------------------------------------------------------- as fixtures


def served():
    """`(fake, address)`, of scope module."""
    import uvicorn

    fake = Fake()
    server = uvicorn.Server(uvicorn.Config(fake.app(), host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield fake, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = server.force_exit = True
    thread.join(10)


def browser():
    """Of scope module."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = launch(play)
        yield browser
        browser.close()


def fake(served):
    """The fake server as new."""
    fake, _ = served
    fake.__init__()
    return fake


def visit(browser, served, fake):
    """Opens the studio in a browser of its own; what it complains of on its console fails the test."""
    from playwright.sync_api import expect

    expect.set_options(timeout=15_000)
    opened, complaints = [], []

    def go(**options):
        context = browser.new_context(
            **{"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"} | options
        )
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.goto(served[1])
        expect(page.locator("#prompt")).to_be_visible()
        expect(page.get_by_role("radio", name="Draw")).to_be_attached()
        opened.append(context)
        return page

    go.complaints = complaints
    yield go
    for context in opened:
        context.close()
    assert not complaints


# ---------------------------------------------------------------------------------------------------------- as hands


def shown(page, x=0.5, y=0.5):
    """The colour at a place of the canvas, given in shares of its sides."""
    return tuple(
        page.evaluate(
            "([x, y]) => { const c = document.getElementById('picture');"
            "return [...c.getContext('2d').getImageData(x * c.width, y * c.height, 1, 1).data].slice(0, 3); }",
            [x, y],
        )
    )


def colour_name(page):
    """The ball's colour: the name of the colour that occurs most among those there are."""
    return page.evaluate(
        """colours => {
          const c = document.getElementById('picture');
          const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
          const found = {};
          for (let i = 0; i < d.length; i += 4) {
            let best = null, least = 1e9;
            const n = Math.hypot(d[i], d[i + 1], d[i + 2]) || 1;
            for (const [name, k] of Object.entries(colours)) {
              const m = Math.hypot(...k), cos = (d[i] * k[0] + d[i + 1] * k[1] + d[i + 2] * k[2]) / n / m;
              if (1 - cos < least) [best, least] = [name, 1 - cos];
            }
            if (least < 0.004) found[best] = (found[best] ?? 0) + 1;
          }
          return Object.entries(found).sort((a, b) => b[1] - a[1])[0]?.[0] ?? null;
        }""",
        {name: list(c) for name, c in COLOURS.items()},
    )


def until(what, wanted, seconds=15.0):
    """Waits for a value to become the one that is wanted."""
    end = time.monotonic() + seconds
    while (found := what()) != wanted:
        assert time.monotonic() < end, f"{found!r} instead of {wanted!r}"
        time.sleep(0.02)


def final(page):
    """Waits for the frame to say that its picture is final."""
    frame = page.locator("#frame")
    until(lambda: (frame.get_attribute("data-stage"), frame.get_attribute("aria-busy")), ("final", "false"))


def type_prompt(page, text):
    page.locator("#prompt").fill(text)


def keep(page, entries):
    page.locator("#prompt").press("Enter")
    until(page.locator("#strip li").count, entries)


def draw(page, text, entries=None):
    type_prompt(page, text)
    until(lambda: page.locator("#picture").get_attribute("aria-label"), f"picture: {text}")
    final(page)
    if entries:
        keep(page, entries)


def mode(page, name):
    page.get_by_role("radio", name=name, exact=True).check()
