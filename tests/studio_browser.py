"""Debian's chromium, quiet and offline, for those who drive the studio."""

from __future__ import annotations

import shutil
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def launch(play: Any, **options: Any) -> Any:
    """A browser of that `sync_playwright()`."""
    return play.chromium.launch(executable_path=CHROMIUM, args=QUIET, **options)
