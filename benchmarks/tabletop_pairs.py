"""Can trivial statistics of pixels tell a possible clip from its impossible twin? They should not: a test of surprise
that they pass measures no knowledge of physics.

    python benchmarks/tabletop_pairs.py [--quick] [--json FILE] [--count N]

Two questions for every kind of pair and every cue, such as the mean difference from frame to frame:

- *alone*: one clip at a time, is it possible? By the best single threshold, 5-fold cross-validated over pairs.
- *paired*: which of the two has more? By the best direction, cross-validated likewise. A surprise test compares the two
  clips of a pair, so this is the harder question.

A row is the cue that does best; chance is 0.5, and the best of several cues is a little above it by luck. 400 pairs of
each kind at 32 pixels, 40 with `--quick`; stopped, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from selfflow.worlds.tabletop.export.files import json_bytes, write_bytes
from selfflow.worlds.tabletop.pairs import PAIR_KINDS, STILL_KINDS, matched_pair, matched_stills
from selfflow.worlds.tabletop.render import render, render_clip

SIZE, FOLDS, FIRST_SEED = 32, 5, 7_000_000
LEAK = 0.58  # accuracy above which a cue gives the answer away
MANY, LUCK = 200, 0.08  # pairs below which chance alone lifts the best of the cues by so much
EVERY = 20  # pairs between two savings


def cues(clip: np.ndarray) -> dict[str, float]:
    """Trivial statistics of a clip, uint8 (frames, size, size, 3); of a still, one frame, those of space alone."""
    values = clip.astype(np.float32) / 255
    across, down = np.diff(values, axis=2), np.diff(values, axis=1)
    found = {
        "brightness": values.mean(),
        "contrast": values.std(),
        "total variation": np.abs(across).mean() + np.abs(down).mean(),
        "edge energy": (across**2).mean() + (down**2).mean(),
    }
    if len(values) > 1:
        change = np.abs(np.diff(values, axis=0))
        each = change.mean(axis=(1, 2, 3))
        found |= {
            "frame difference, mean": each.mean(),
            "frame difference, largest": each.max(),
            "frame difference, last": each[-4:].mean(),
            "pixel's largest difference": change.max(),
            "jerk": np.abs(np.diff(each)).max(),
            "last frame against first": np.abs(values[-1] - values[0]).mean(),
            "brightness, end less beginning": (values[-1] - values[0]).mean(),
        }
    return {name: float(value) for name, value in found.items()}


def alone(possible: np.ndarray, impossible: np.ndarray) -> float:
    """Cross-validated accuracy of the best threshold on one statistic, (pairs,) each."""
    right = 0
    for test in _folds(len(possible)):
        values = np.concatenate([possible[~test], impossible[~test]])
        broken = np.arange(len(values)) >= np.count_nonzero(~test)
        order = np.argsort(values, kind="stable")
        # Counts right if everything up to here is called possible, and all after it impossible.
        up = np.concatenate([[0], np.cumsum(np.where(broken[order], -1, 1))])
        at = int(np.abs(up).argmax())
        ranked = np.concatenate([[-np.inf], values[order], [np.inf]])
        threshold, sign = (ranked[at] + ranked[at + 1]) / 2, 1 if up[at] >= 0 else -1
        if not np.isfinite(threshold):
            threshold = ranked[at]
        right += int(np.count_nonzero((possible[test] <= threshold) == (sign > 0)))
        right += int(np.count_nonzero((impossible[test] > threshold) == (sign > 0)))
    return right / (2 * len(possible))


def paired(possible: np.ndarray, impossible: np.ndarray) -> float:
    """Cross-validated accuracy of naming the one with more, or the one with less; equal ones are half right."""
    more = np.sign(impossible - possible)
    right = 0.0
    for test in _folds(len(more)):
        way = 1 if more[~test].sum() >= 0 else -1
        right += float(((1 + way * more[test]) / 2).sum())
    return right / len(more)


def _folds(count: int) -> list[np.ndarray]:
    return [np.arange(count) % FOLDS == fold for fold in range(FOLDS)]


def measured(kind: str, seed: int) -> list[dict[str, float]]:
    """The cues of a possible and an impossible one."""
    if kind.startswith("still, "):
        return [cues(render(scene, SIZE)[None]) for scene in matched_stills(seed, kind.removeprefix("still, "))]
    pair = matched_pair(seed, kind)
    return [cues(render_clip(motion, SIZE)) for motion in (pair.possible, pair.impossible)]


def rows_of(kind: str, found: list[list[dict[str, float]]]) -> list[dict[str, Any]]:
    rows = []
    limit = LEAK if len(found) >= MANY else round(LEAK + LUCK, 2)
    for how, judge in (("alone", alone), ("paired", paired)):
        shares = {name: judge(*(np.array([pair[k][name] for pair in found]) for k in (0, 1))) for name in found[0][0]}
        best = max(shares, key=lambda name: shares[name])
        rows.append(
            {
                "name": f"{kind}, {how}: {best}",
                "value": shares[best],
                "unit": "accuracy",
                **({"limit": limit} if how == "alone" else {}),
                "n": len(found),
                "holds": shares[best] <= limit if how == "alone" else None,
                "cues": {name: round(share, 3) for name, share in shares.items()},
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="40 pairs of each, nothing kept between runs")
    parser.add_argument("--count", type=int, default=400, help="pairs of each kind")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    count = 40 if options.quick else options.count
    kinds = (*PAIR_KINDS, *(f"still, {kind}" for kind in STILL_KINDS))
    found: dict[str, list[list[dict[str, float]]]] = {kind: [] for kind in kinds}
    kept = options.json.with_suffix(".pairs")  # the cues so far, until all are measured
    if kept.exists() and not options.quick:
        found |= json.loads(kept.read_text())
    for kind in kinds:
        while len(found[kind]) < count:
            found[kind].append(measured(kind, FIRST_SEED + len(found[kind])))
            if not options.quick and len(found[kind]) % EVERY == 0:
                write_bytes(kept, json_bytes(found))
    rows = [row for kind in kinds for row in rows_of(kind, found[kind])]
    for row in rows:
        verdict = {None: "", True: "holds", False: "LEAKS"}[row["holds"]]
        print(f"{row['name']:64} {row['value']:.3f}  n = {row['n']:4}  {verdict}")
    write_bytes(options.json, json_bytes({"rows": rows}, indent=2))
    kept.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
