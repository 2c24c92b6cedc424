"""The page of a trained model: one file of HTML that needs no other, readable by day and by night."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from selfflow.demo.exhibits import ALONE, FLOOR, MADE, TRUE, Exhibit, House, Piece, Room
from selfflow.demo.gallery_style import SCRIPT, STYLE
from selfflow.demo.media import clip_tag, picture_tag, sound_tag
from selfflow.demo.page import duration

TOLD = 2  # faults told below a card; the title of its mark names all of them


def page(house: House) -> str:
    """The page as HTML."""
    shown = [room for room in house.rooms if room.exhibits]
    links = "".join(f'<a href="#{_anchor(r)}">{escape(r.name)}</a>' for r in shown)
    steps = sum(int(t["steps"]) for t in house.trainings)
    samples = sum(int(t["samples"]) for t in house.trainings)
    hours = sum(float(t["hours"]) for t in house.trainings)
    facts = [("Parameters", f"{house.parameters / 1e6:.1f} million")]
    if house.trainings:
        facts += [("Trained", f"{steps:,} steps, {samples:,} samples"), ("In", _hours(hours, house))]
    facts += [("This page took", duration(house.seconds))]
    listed = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts)
    other = " (in the first room, another has)" if any(room.name == ALONE for room in shown) else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>selfflow: one small model, every task</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<p class="kicker">selfflow · {escape(house.name)}</p>
<h1>One small model, every task</h1>
<p class="lead">A single network, trained one way, has just made everything marked <b class="made">made</b> on this
page{other}: pictures, edits, clips, sounds, a robot’s moves and a world’s next frames. Beside each stand the truth and
a floor, which is what needs no understanding at all. Nothing was picked: seeds and test cases were fixed beforehand,
and checkers that learn nothing say what is wrong.</p>
<dl>{listed}</dl>
<p class="controls"><label><input type="checkbox" id="still"> hold clips still</label></p>
<nav aria-label="tasks">{links}<a href="#figures">Figures</a><a href="#about">About the model</a></nav>
</header>
{"".join(_room(room) for room in house.rooms)}
{_figures(house)}
{_about(house)}
<footer><code>./run demo</code> makes this page again; <code>./run demo --train</code> trains two small models from
nothing and compares them.</footer>
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _anchor(room: Room) -> str:
    return "".join(c if c.isalnum() else "-" for c in room.name.lower())


def _hours(hours: float, house: House) -> str:
    """How long, and of what machine where all trainings had the same."""
    machines = {str(t["machine"]).split(",")[0] for t in house.trainings}
    long = duration(3600 * hours) if hours < 1 else f"{hours:.1f} h"
    return f"{long} of {machines.pop()}" if len(machines) == 1 else long


def _room(room: Room) -> str:
    if not room.exhibits:
        return (
            f'<section><h2>{escape(room.name)}</h2><p class="note">Not shown: {escape(room.missing)}</p></section>'
            if room.missing
            else ""
        )
    cards = "\n".join(_card(exhibit) for exhibit in room.exhibits)
    seconds = f"{room.seconds:.1f} s" if room.seconds < 10 else duration(room.seconds)
    seconds = seconds.replace(" ", "\N{NO-BREAK SPACE}")
    return f"""<section id="{_anchor(room)}">
<div class="head"><div><h2>{escape(room.name)}</h2>
<p class="note">{escape(room.about)}{f" Floor: {escape(room.floor)}." if room.floor else ""} Made and checked in
{seconds}.</p></div>{_meter(room)}</div>
<div class="cards" style="--columns:{_columns(room)}">
{cards}
</div>
</section>
"""


def _columns(room: Room) -> int:
    """Cards side by side on a wide page: as many as are still legible, and, where that can be, no row cut short."""
    most = {1: 8, 2: 5}.get(max(len(e.pieces) for e in room.exhibits), 4)
    count = len(room.exhibits)
    return next((n for n in range(most, 2, -1) if count % n == 0), most)


def _meter(room: Room) -> str:
    """Where what was made lies between floor and truth."""
    made, floor, true = (room.share(role) for role in (MADE, FLOOR, TRUE))
    if made is None or not room.measure:
        return ""
    marks = "".join(
        f'<i class="{name}" style="left:{100 * share:.1f}%"></i>'
        for name, share in (("floor", floor), ("true", true))
        if share is not None
    )
    legend = " · ".join(
        f"<span>{name} {100 * share:.0f} %</span>"
        for name, share in (("floor", floor), ("true", true))
        if share is not None
    )
    return (
        f'<figure class="meter"><figcaption><b>{100 * made:.0f} %</b> {escape(room.measure)}</figcaption>'
        f'<div class="scale" role="img" aria-label="made {100 * made:.0f} percent">'
        f'<span style="width:{100 * made:.1f}%"></span>{marks}</div><p class="note">{legend}</p></figure>'
    )


def _card(exhibit: Exhibit) -> str:
    """Four rows, some of them empty: title, what was given, the pieces, the faults. They line up along a shelf."""
    given = "".join(_piece(p, exhibit.asked) for p in exhibit.given)
    pieces = "".join(_piece(p, exhibit.asked) for p in exhibit.pieces)
    return (
        f'<article><h3>{escape(exhibit.asked)}</h3><div class="shown">{given}</div>'
        f'<div class="pieces n{len(exhibit.pieces)}">{pieces}</div><p class="faults">{_faults(exhibit)}</p></article>'
    )


def _piece(piece: Piece, asked: str) -> str:
    described, parts = f"{piece.name}: {asked}", []
    if piece.picture is not None:
        parts.append(picture_tag(piece.picture, described))
    if piece.clip is not None:
        parts.append(clip_tag(piece.clip, piece.fps, described))
    if piece.sound is not None:
        parts.append(sound_tag(piece.sound, piece.rate, described))
    return (
        f'<figure class="{piece.role}">{"".join(parts)}<figcaption><span class="name">{escape(piece.name)}</span>'
        f"{_mark(piece)}</figcaption></figure>"
    )


def _mark(piece: Piece) -> str:
    if piece.verdict is None:
        return ""
    value, said = piece.verdict.value, piece.verdict.said
    if value is None:
        return f' <span class="mark">{escape(said)}</span>'
    title = escape("; ".join((said, *piece.verdict.faults)), quote=True)
    if not piece.verdict.faults and value == 1:
        return f' <span class="mark right" title="{title}">✓</span>'
    return f' <span class="mark" title="{title}">{f"{100 * value:.0f} %" if value else "✗"}</span>'


def _faults(exhibit: Exhibit) -> str:
    """What is wrong with what was made, in the checker's words."""
    found = [f for p in exhibit.pieces if p.role == MADE and p.verdict for f in p.verdict.faults]
    more = f"; and {len(found) - TOLD} more" if len(found) > TOLD else ""
    return escape("; ".join(found[:TOLD])) + more


# ------------------------------------------------------------------------------------------------------------ figures


def _figures(house: House) -> str:
    evaluation: Mapping[str, Any] = house.evaluation
    if not evaluation:
        return """<section id="figures"><h2>Figures</h2>
<p>A page shows a few cases of each task. For figures with intervals:</p>
<pre><code>selfflow evaluate --suite all --quick --json all.json</code></pre></section>
"""
    rows = []
    for name, f in evaluation["figures"].items():
        suite, _, figure = name.partition(": ")
        interval = f" <small>[{_number(f['low'])}, {_number(f['high'])}]</small>" if "low" in f and "high" in f else ""
        floor, ceiling, note = _number(f.get("floor", f.get("chance"))), _number(f.get("ceiling")), f.get("note", "")
        mark = ' class="beaten"' if f.get("beats_floor") else ""
        rows.append(
            f'<tr><th scope="row"><small>{escape(suite)}</small> {escape(figure)}</th>'
            f"<td{mark}>{_number(f['value'])}{interval}</td><td>{floor}</td><td>{ceiling}</td>"
            f'<td>{f.get("count", "")}</td><td class="why">{escape(str(note))}</td></tr>'
        )
    options = ", ".join(f"{k} {v}" for k, v in evaluation.get("options", {}).items())
    return f"""<section id="figures"><h2>Figures</h2>
<p class="note">Of all held-out suites, measured when these weights were released (<code>selfflow evaluate --suite
{escape(str(evaluation.get("suite", "all")))}</code>, {escape(options)}). Brackets hold 95 % intervals;
a mark says that the whole interval is better than the floor.</p>
<div class="wide"><table><thead><tr><td></td><th scope="col">value</th><th scope="col">floor</th>
<th scope="col">ceiling</th><th scope="col">n</th><td></td></tr></thead><tbody>
{chr(10).join(rows)}
</tbody></table></div></section>
"""


def _number(x: Any) -> str:
    return "–" if x is None else f"{float(x):.3g}"


def _about(house: House) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(a)}</th><td class="why">{escape(b)}</td><td class="why">{escape(c)}</td></tr>'
        for a, b, c in house.licences
    )
    table = (
        '<div class="wide"><table><thead><tr><th scope="col">data</th><th class="why" scope="col">licence</th>'
        f'<th class="why" scope="col">attribution</th></tr></thead><tbody>{rows}</tbody></table></div>'
        if rows
        else ""
    )
    licence = f" The weights are given on the terms of {escape(house.licence)}." if house.licence else ""
    trained = "".join(
        f"<li>{escape(str(t['recipe']))} by {escape(str(t['objective']))}: {int(t['steps']):,} steps, "
        f"{int(t['samples']):,} samples, {float(t['hours']):.2f} h on {escape(str(t['machine']))}</li>"
        for t in house.trainings
    )
    return f"""<section id="about"><h2>About the model</h2>
<p>{escape(house.name)} is a transformer of {house.parameters / 1e6:.1f} million parameters. By
Self-Flow a student sees its data at two noise levels at once, its own moving average sees the cleaner one, and the
student must denoise <em>and</em> foretell what its average sees; by flow matching it only denoises. Every
task here is the same call with other tokens known; there is no pretrained encoder, and no second model.</p>
{f"<ul>{trained}</ul>" if trained else ""}
<p>It is small and was trained briefly: read its failures as such. It draws {house.size}² pixels and knows what its
training data show, nothing else. Nothing was done to make it refuse or to make it fair.{licence}</p>
{table}
<h3 class="next">Use it, go on with it, or begin anew</h3>
<pre><code>selfflow generate "a red ball" -o ball.png
selfflow generate --video --audio "a rubber ball falls on the table" -o ball.mp4
selfflow act --env pick-place -o episode.mp4
selfflow train micro-all --out out/all --init weights/micro-all  # go on from these weights
selfflow train micro-all --out out/all                           # from nothing
./run demo --train                                               # Self-Flow beside flow matching, small</code></pre>
</section>
"""
