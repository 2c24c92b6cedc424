"""How the page looks. Colours are named once for light and once for dark."""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --ink: #1d1f21; --soft: #63676b; --line: #e2dfd8; --card: #ffffff;
  --c0: #0b6e73; --c1: #c05a12; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181a; --ink: #e9e6df; --soft: #a0a4a8; --line: #33373a; --card: #1e2123;
    --c0: #5cc4c4; --c1: #f0a05a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 3rem 1.25rem 4rem; }
h1 { font-size: 2.1rem; line-height: 1.15; margin: 0 0 .75rem; letter-spacing: -.015em; }
h2 { font-size: 1.3rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; font-weight: 600; color: var(--soft); margin: 1.5rem 0 .6rem; }
h4 { font-size: 1rem; font-weight: 500; margin: 0 0 .6rem; line-height: 1.35; }
section { border-top: 1px solid var(--line); padding-top: 1.75rem; margin-top: 2.25rem; }
p, .lead { max-width: 44rem; }
.lead { font-size: 1.15rem; }
.note, figcaption, footer { color: var(--soft); font-size: .9rem; }
dl { display: flex; flex-wrap: wrap; gap: .75rem 2.5rem; margin: 1.25rem 0 .5rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-weight: 600; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19.5rem), 1fr)); gap: 1rem; }
article { display: flex; flex-direction: column; justify-content: space-between; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px; padding: .9rem; }
.three { display: grid; grid-template-columns: repeat(3, 1fr); gap: .6rem; }
figure { margin: 0; }
.three img { display: block; width: 100%; height: auto; aspect-ratio: 1; image-rendering: pixelated;
  border-radius: 5px; }
.three figcaption { font-size: .78rem; line-height: 1.3; margin-top: .35rem; }
.mark { color: var(--ink); font-variant-numeric: tabular-nums; white-space: nowrap; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .75rem 0; min-width: 34rem; }
th, td { text-align: right; padding: .45rem .9rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; }
th[scope="row"] { text-align: left; font-weight: 500; padding-left: 0; white-space: normal; }
td small { color: var(--soft); }
section > figure { max-width: 44rem; margin: 1rem 0 1.75rem; }
svg { width: 100%; height: auto; display: block; }
svg text { font-size: 12px; fill: var(--soft); }
.grid { stroke: var(--line); stroke-width: 1; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
.c0 { stroke: var(--c0); }
.c1 { stroke: var(--c1); stroke-dasharray: 7 3; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem;
  overflow-x: auto; max-width: 44rem; }
code { font: .92em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
footer { border-top: 1px solid var(--line); margin-top: 2.5rem; padding-top: 1rem; }
"""
