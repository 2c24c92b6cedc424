"""The page of the demonstration: one file of HTML that needs no other, readable by day and by night."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, floor, log10

import numpy as np

from selfflow.demo.style import STYLE

POINTS = 160  # of a curve
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 560, 250, 46, 12, 34


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: of the method, as a reader should see it.
        directory: of the model, as a command names it.
        steps, seconds, parameters: taken, spent, of the network.
        velocity_loss: step by step.
        cosine: step by step; empty where there is no teacher.
    """

    name: str
    directory: str
    steps: int
    seconds: float
    parameters: int
    velocity_loss: Sequence[float]
    cosine: Sequence[float] = ()


@dataclass(frozen=True)
class Drawn:
    """A picture, uint8 `(H, W, 3)`, the share of its caption's facts that it shows, and what is wrong with it."""

    picture: np.ndarray
    score: float
    faults: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A caption with one picture of each run, in their order, and a real one."""

    caption: str
    drawn: Sequence[Drawn]
    real: Drawn


@dataclass(frozen=True)
class Score:
    """A line of the table: a figure of each run with its 95 % interval, and what to compare it with."""

    name: str
    values: Sequence[tuple[float, float, float]]
    floor: float | None = None
    ceiling: float | None = None
    percent: bool = True


@dataclass(frozen=True)
class Demo:
    """All that the page shows: `groups` are headings with their rows, `count` is how many captions were scored."""

    runs: Sequence[Run]
    groups: Sequence[tuple[str, Sequence[Row]]]
    scores: Sequence[Score]
    count: int


def page(demo: Demo) -> str:
    """The page as HTML.

    Raises:
        ValueError: for a row that has not one picture of every run.
    """
    for _, rows in demo.groups:
        for row in rows:
            if len(row.drawn) != len(demo.runs):
                raise ValueError(f"{row.caption!r} has {len(row.drawn)} pictures for {len(demo.runs)} runs")
    first = demo.runs[0]
    losses = [(run.name, run.velocity_loss) for run in demo.runs]
    cosines = [(run.name, run.cosine) for run in demo.runs if len(run.cosine)]
    names = " and ".join(escape(run.name) for run in demo.runs)
    taken = "; ".join(f"{escape(run.name)} {duration(run.seconds)}" for run in demo.runs)
    pictures = "".join(_group(heading, rows, demo.runs) for heading, rows in demo.groups)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Self-Flow, side by side</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<h1>Self-Flow, side by side</h1>
<p class="lead">Two networks have just learned, on this computer and from nothing, to draw what a caption says: one by
Self-Flow, which learns to represent and to generate together, and one by plain flow matching.</p>
<dl>
<div><dt>Time</dt><dd>{taken}</dd></div>
<div><dt>Steps each</dt><dd>{first.steps:,}</dd></div>
<div><dt>Parameters each</dt><dd>{first.parameters / 1e6:.1f} million</dd></div>
</dl>
<p class="note">Same first weights, same captioned pictures in the same order, same number of steps; below, each pair of
drawn pictures began from the same noise.</p>
</header>
<section>
<h2>Captions and pictures</h2>
{pictures}
</section>
<section>
<h2>What the pictures show</h2>
{_scores(demo)}
<p class="note">A reader of pictures that learns nothing checks each fact of a caption: which things, how many, their
colour, size and place. The {demo.count} captions are held out: each says something that no training caption says, such
as a colour on a kind of thing that never had it. Ceiling: real pictures of those captions. Floor: real pictures of
other captions. Brackets hold 95 % intervals over the captions.</p>
<p><strong>One seed and a few minutes do not show which method is better.</strong> Other seeds would move these figures,
and what Self-Flow learns beside generating is meant to pay over far longer runs. Read them as: both train, both follow
the caption, and this is how far minutes go.</p>
</section>
<section>
<h2>Training</h2>
<figure>{_chart(losses, "velocity loss", logarithmic=True)}
<figcaption>Velocity loss on training batches, smoothed. Self-Flow’s pictures carry two noise levels at once, so its
curve is of another task and not to be held against the other; the held-out loss above is one task for
both.</figcaption></figure>
{_cosine(cosines)}
</section>
<section>
<h2>Next</h2>
<p>Draw something else with the model you have just trained:</p>
<pre><code>selfflow generate --model {escape(first.directory)} "a red ball" -o ball.png</code></pre>
<p>Train a larger one on 64 × 64 emoji:</p>
<pre><code>selfflow train micro --out out/micro</code></pre>
<p><code>docs/</code> explains the method, your own data and your own training loop. Things are balls, boxes, cups and
glasses, medium or large, in red, orange, yellow, green, cyan, blue, purple or pink.</p>
</section>
<footer>{names}, {first.steps:,} steps each. <code>./run demo</code> makes this page again.</footer>
</main>
</body>
</html>
"""


def duration(seconds: float) -> str:
    """`"4 min 7 s"`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def smooth(values: Sequence[float], window: int) -> np.ndarray:
    """The mean of each value and its neighbours, `window` steps in all; the ends use what there is of them."""
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=float))])
    here = np.arange(len(values))
    low = np.maximum(0, here - window // 2)
    high = np.minimum(len(values), here + window // 2 + 1)
    return (sums[high] - sums[low]) / (high - low)


def data_uri(picture: np.ndarray) -> str:
    """A picture as a PNG within an address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


# ----------------------------------------------------------------------------------------------------------- pictures


def _group(heading: str, rows: Sequence[Row], runs: Sequence[Run]) -> str:
    cards = "\n".join(_card(row, runs) for row in rows)
    return f'<h3>{escape(heading)}</h3>\n<div class="cards">\n{cards}\n</div>\n'


def _card(row: Row, runs: Sequence[Run]) -> str:
    cells = [_cell(run.name, drawn, row.caption) for run, drawn in zip(runs, row.drawn, strict=True)]
    cells.append(_cell("real", row.real, row.caption))
    return f'<article><h4>{escape(row.caption)}</h4><div class="three">{"".join(cells)}</div></article>'


def _cell(name: str, drawn: Drawn, caption: str) -> str:
    said = "every fact right" if drawn.score == 1 else f"{100 * drawn.score:.0f} % of the facts right"
    title = escape(said + "".join(f"; {fault}" for fault in drawn.faults))
    mark = (
        ""
        if name == "real"
        else f' <span class="mark">{"✓" if drawn.score == 1 else f"{100 * drawn.score:.0f} %"}</span>'
    )
    picture, described = data_uri(drawn.picture), escape(f"{name}: {caption}")
    return (
        f'<figure title="{title}"><img src="{picture}" alt="{described}" width="96" height="96">'
        f"<figcaption>{escape(name)}{mark}</figcaption></figure>"
    )


# ------------------------------------------------------------------------------------------------------------- scores


def _scores(demo: Demo) -> str:
    head = "".join(f'<th scope="col">{escape(run.name)}</th>' for run in demo.runs)
    body = "\n".join(
        f'<tr><th scope="row">{escape(s.name)}</th>'
        + "".join(f"<td>{_value(v, s)} <small>[{_value(a, s)}, {_value(b, s)}]</small></td>" for v, a, b in s.values)
        + f"<td>{_value(s.floor, s)}</td><td>{_value(s.ceiling, s)}</td></tr>"
        for s in demo.scores
    )
    return (
        f'<div class="wide"><table><thead><tr><td></td>{head}<th scope="col">floor</th><th scope="col">ceiling</th>'
        f"</tr></thead><tbody>\n{body}\n</tbody></table></div>"
    )


def _value(value: float | None, score: Score) -> str:
    return "–" if value is None else f"{100 * value:.0f} %" if score.percent else f"{value:.3f}"


# ------------------------------------------------------------------------------------------------------------- curves


def _cosine(cosines: Sequence[tuple[str, Sequence[float]]]) -> str:
    if not cosines:
        return ""
    return (
        f"<figure>{_chart(cosines, 'cosine')}\n<figcaption>Self-Flow only: how well the student, which sees some "
        "tokens noisier, foretells the features of its own slowly moving average, which sees all of them cleaner. "
        "1 is perfect.</figcaption></figure>"
    )


def _chart(series: Sequence[tuple[str, Sequence[float]]], label: str, logarithmic: bool = False) -> str:
    """Curves over steps as SVG, with axes and a legend; smoothed over a twenty-fifth of the run."""
    last = max(len(values) for _, values in series)
    curves = [(name, _points(values, max(1, last // 25))) for name, values in series]
    heights = np.concatenate([y for _, (_, y) in curves])
    if logarithmic:
        heights = np.maximum(heights, 1e-6)
        ticks = _log_ticks(float(heights.min()), float(heights.max()))
    else:
        ticks = _ticks(min(0.0, float(heights.min())), max(1e-6, float(heights.max())))

    def across(step: np.ndarray | float) -> np.ndarray:
        return _LEFT + (np.asarray(step) - 1) / max(1, last - 1) * (_WIDTH - _LEFT - 12)

    def up(value: np.ndarray | float) -> np.ndarray:
        v, low, high = np.maximum(value, 1e-6) if logarithmic else np.asarray(value), ticks[0], ticks[-1]
        if logarithmic:
            v, low, high = np.log(v), float(np.log(low)), float(np.log(high))
        return _HEIGHT - _BOTTOM - (v - low) / (high - low) * (_HEIGHT - _BOTTOM - _TOP)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label, quote=True)} over steps">']
    for tick in ticks:
        y = float(up(tick))
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 12}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in (t for t in _ticks(0, last, 5) if t <= last):
        x = float(across(max(1, tick)))
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{_WIDTH - 12}" y="{_HEIGHT - 2}" text-anchor="end">steps</text>')
    for i, (_, (at, values)) in enumerate(curves):
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across(at), up(values), strict=True))
        parts.append(f'<polyline class="curve c{i}" points="{line}"/>')
    for i, (name, _) in enumerate(curves):
        # Losses fall and cosines rise: each leaves a corner free.
        y = _TOP + 14 + 18 * i if logarithmic else _HEIGHT - _BOTTOM - 14 - 18 * i
        x = _WIDTH - 150
        parts.append(f'<line class="curve c{i}" x1="{x}" x2="{x + 22}" y1="{y - 4:.1f}" y2="{y - 4:.1f}"/>')
        parts.append(f'<text x="{x + 30}" y="{y:.1f}">{escape(name)}</text>')
    parts.append("</svg>")
    return "".join(parts)


def _points(values: Sequence[float], window: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `POINTS` (step, smoothed value), ends included."""
    kept = np.unique(np.linspace(0, len(values) - 1, POINTS).round().astype(int))
    return kept + 1, smooth(values, window)[kept]


def _ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that enclose [low, high]."""
    raw = (high - low) / (most - 1)
    unit = 10.0 ** floor(log10(raw))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= raw * 0.999)
    return [round(k * step, 10) for k in range(floor(low / step), ceil(round(high / step, 6)) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that enclose [low, high]."""
    all_ticks = [m * 10.0**e for e in range(floor(log10(low)) - 1, ceil(log10(high)) + 1) for m in (1, 2, 5)]
    ticks = [round(a, 10) for a, b in pairwise([*all_ticks, 10 * all_ticks[-1]]) if b > low and a < high]
    return [*ticks, round(next(t for t in all_ticks if t >= high * 0.999), 10)]
