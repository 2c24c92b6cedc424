"""How the page of a model looks and sounds. Colours are named once for light and once for dark."""

STYLE = """
:root { color-scheme: light dark; --paper: #f7f5f0; --ink: #1b1d1f; --soft: #5f6468; --line: #ddd9cf; --card: #ffffff;
  --made: #0b6e73; --true: #4d5a66; --floor: #b0632a; --right: #1d7a3f; --shade: #ebe7de; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #131517; --ink: #ece9e2; --soft: #a3a8ad; --line: #2f3336; --card: #1b1e20;
    --made: #5fc9c4; --true: #a9b6c3; --floor: #eaa06a; --right: #74d294; --shade: #26292c; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
h1 { font-size: clamp(2rem, 5vw, 3rem); line-height: 1.08; margin: 0 0 1rem; letter-spacing: -.025em; }
h2 { font-size: 1.45rem; line-height: 1.2; margin: 0 0 .35rem; letter-spacing: -.01em; }
h3 { font-size: .98rem; font-weight: 500; margin: 0 0 .7rem; line-height: 1.35; }
h3.next { font-size: 1.05rem; font-weight: 600; margin: 1.75rem 0 .6rem; }
.kicker { color: var(--made); font-weight: 600; font-size: .85rem; letter-spacing: .04em; margin: 0 0 .5rem; }
.lead { font-size: 1.15rem; max-width: 47rem; margin: 0 0 1.5rem; }
p { max-width: 47rem; }
b.made { color: var(--made); }
.note, footer, .faults { color: var(--soft); font-size: .88rem; line-height: 1.45; }
.note { margin: 0; }
dl { display: flex; flex-wrap: wrap; gap: .75rem 2.75rem; margin: 0 0 1rem; }
dt { color: var(--soft); font-size: .82rem; }
dd { margin: 0; font-weight: 600; }
.controls { margin: 0 0 1rem; font-size: .9rem; color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .45rem; }
nav a { color: var(--ink); text-decoration: none; font-size: .88rem; padding: .25rem .75rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 99px; }
nav a:hover, nav a:focus-visible { border-color: var(--made); color: var(--made); }
section { border-top: 1px solid var(--line); padding-top: 2rem; margin-top: 2.75rem; }
.head { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 1rem 3rem; margin-bottom: 1.25rem; }
.head > div { flex: 1 1 24rem; }
.meter { margin: 0; flex: 0 1 17rem; min-width: 13rem; font-size: .9rem; }
.meter b { color: var(--made); font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.scale { position: relative; height: 8px; border-radius: 4px; background: var(--shade); margin: .35rem 0 .4rem; }
.scale span { display: block; height: 100%; border-radius: 4px; background: var(--made); }
.scale i { position: absolute; top: -4px; width: 2px; height: 16px; margin-left: -1px; border-radius: 1px; }
.scale i.floor { background: var(--floor); }
.scale i.true { background: var(--true); }
.meter .note span:first-child { color: var(--floor); }
.cards { display: grid; gap: 0 1rem; grid-template-columns: repeat(auto-fill,
  minmax(min(100%, max(12rem, (100% - (var(--columns) - 1) * 1rem) / var(--columns))), 1fr)); }
article { display: grid; grid-row: span 4; grid-template-rows: subgrid; margin-bottom: 1rem;
  background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; padding: 1rem; }
.pieces { display: grid; gap: .65rem; grid-template-columns: repeat(3, 1fr); align-content: start; }
.pieces.n1 { grid-template-columns: 1fr; }
.pieces.n2 { grid-template-columns: repeat(2, 1fr); }
.shown { display: flex; gap: .5rem; margin-bottom: .8rem; padding-bottom: .8rem;
  border-bottom: 1px dashed var(--line); }
.shown:empty { margin: 0; padding: 0; border: 0; }
.shown figure { width: 22%; max-width: 4.5rem; }
figure { margin: 0; }
article img, .clip { display: block; width: 100%; height: auto; aspect-ratio: 1; image-rendering: pixelated;
  border-radius: 6px; background-color: var(--shade); }
.made img, .made .clip { box-shadow: 0 0 0 2px var(--made); }
figcaption { font-size: .8rem; line-height: 1.3; margin-top: .4rem; color: var(--soft); }
.made .name { color: var(--made); font-weight: 600; }
.floor .name { color: var(--floor); }
.meter figcaption { font-size: .9rem; margin: 0; }
.mark { color: var(--ink); font-variant-numeric: tabular-nums; white-space: nowrap; }
.mark.right { color: var(--right); font-weight: 700; }
.faults { margin: .6rem 0 0; }
.faults:empty { margin: 0; }
.clip { background-size: 100% calc(100% * var(--frames)); background-position: 0 0;
  animation: play calc(var(--seconds) * 1.5) steps(var(--frames), jump-none) infinite; }
@keyframes play { 0% { background-position: 0 0; } 66.7%, 100% { background-position: 0 100%; } }
:root:has(#still:checked) .clip { animation-play-state: paused; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; }
  .clip { animation-play-state: paused; } .clip:hover { animation-play-state: running; } }
.sound { display: block; position: relative; width: 100%; height: 46px; margin-top: .5rem; padding: 3px 6px;
  cursor: pointer;
  background: var(--shade); border: 1px solid var(--line); border-radius: 6px; color: var(--true); overflow: hidden; }
figure > .sound:first-child { margin-top: 0; }
.made .sound { color: var(--made); border-color: var(--made); }
.floor .sound { color: var(--floor); }
.sound:hover, .sound:focus-visible { border-color: currentColor; }
.sound svg { display: block; width: 100%; height: 100%; }
.sound path { stroke: currentColor; stroke-width: .8; fill: none; vector-effect: none; }
.sound::after { content: ""; position: absolute; inset: 0 100% 0 0; background: currentColor; opacity: .18; }
.sound.on::after { right: 0; transition: right var(--seconds) linear; }
:focus-visible { outline: 2px solid var(--made); outline-offset: 2px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .9rem 0; font-size: .9rem;
  width: 100%; }
th, td { text-align: right; padding: .4rem .8rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; }
thead th:first-child, th[scope="row"], td.why, th.why { text-align: left; white-space: normal; }
th[scope="row"] { font-weight: 500; padding-left: 0; min-width: 13rem; }
th[scope="row"] small { display: block; color: var(--soft); }
td.why { color: var(--soft); font-size: .85rem; min-width: 11rem; }
td.beaten::before { content: "✓ "; color: var(--right); font-weight: 700; }
td small { color: var(--soft); }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1rem;
  overflow-x: auto; }
code { font: .88em/1.6 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
footer { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: 1rem; }
"""

# A sound is heard alone, and the clip above it, if there is one, begins with it.
SCRIPT = """
for (const button of document.querySelectorAll("button.sound")) {
  const audio = button.nextElementSibling, clip = button.closest("figure").querySelector(".clip");
  button.addEventListener("click", () => {
    const again = button.classList.contains("on");
    for (const other of document.querySelectorAll("audio")) { other.pause(); other.currentTime = 0; }
    if (!again) audio.play();
  });
  audio.addEventListener("playing", () => {
    button.classList.add("on");
    if (clip) for (const motion of clip.getAnimations()) { motion.currentTime = 1000 * audio.currentTime; }
  });
  for (const name of ["pause", "ended"]) audio.addEventListener(name, () => button.classList.remove("on"));
}
"""
