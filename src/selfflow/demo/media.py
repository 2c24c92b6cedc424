"""Pictures, clips and sounds as pieces of a page that needs no other file."""

from __future__ import annotations

import base64
from html import escape

import numpy as np

from selfflow.demo.page import data_uri
from selfflow.worlds.tabletop.export.video import wav_bytes

COLUMNS = 90  # of a wave


def picture_tag(picture: np.ndarray, described: str) -> str:
    height, width = picture.shape[:2]
    return f'<img src="{data_uri(picture)}" alt="{escape(described, quote=True)}" width="{width}" height="{height}">'


def clip_tag(clip: np.ndarray, fps: float, described: str) -> str:
    """A clip as one tall picture of all frames that a style sheet steps through: real time, then a rest at the end.

    Args:
        clip: uint8 `(f, H, W, 3)`.
        fps: frames a second.
    """
    frames, height, width = clip.shape[:3]
    sheet = data_uri(clip.reshape(frames * height, width, 3))
    style = (
        f"--frames:{frames};--seconds:{frames / fps:.3f}s;aspect-ratio:{width}/{height};background-image:url({sheet})"
    )
    return f'<div class="clip" role="img" aria-label="{escape(described, quote=True)}" style="{style}"></div>'


def sound_tag(sound: np.ndarray, rate: int, described: str) -> str:
    """A wave that is heard when it is pressed.

    Args:
        sound: float `(samples,)` in [-1, 1].
        rate: samples a second.
    """
    clipped = np.clip(np.nan_to_num(np.asarray(sound, np.float32)), -1, 1)
    address = "data:audio/wav;base64," + base64.b64encode(wav_bytes(clipped, rate)).decode()
    heights = [float(np.abs(part).max(initial=0.0)) ** 0.5 for part in np.array_split(clipped, COLUMNS)]
    bars = "".join(f"M{k + 0.5} {20 - 18 * h:.1f}V{20 + 18 * h + 0.4:.1f}" for k, h in enumerate(heights))
    return (
        f'<button type="button" class="sound" aria-label="{escape(f"play: {described}", quote=True)}" '
        f'style="--seconds:{len(clipped) / rate:.3f}s"><svg viewBox="0 0 {COLUMNS} 40" preserveAspectRatio="none" '
        f'aria-hidden="true"><path d="{bars}"/></svg></button><audio preload="auto" src="{address}"></audio>'
    )
