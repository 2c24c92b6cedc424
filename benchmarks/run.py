"""Benchmarks: every claim about cost, as a ratio measured side by side in this run.

    python benchmarks/run.py [--quick] [--json FILE] [--threads N]

About five minutes on two quiet cores, under forty seconds with `--quick` (fewer rounds, smaller batches: rougher);
after either comes the short form of every benchmark of the tabletop, `benchmarks/tabletop_*.py`, which alone take long.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from memory import peak_memory
from realtime import realtime
from sampling import cached_sampling
from selfflow.config import to_dict
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import Engine
from steps import against_peer, growth, per_token_cost, self_flow_cost
from subjects import CONFIG, SEED, TEXT_TOKENS
from timing import Row, machine, table
from worlds import tabletop_plan


def plan(quick: bool, engine: Engine) -> dict[str, Callable[[], list[Row]]]:
    """What is run, by name."""
    fm, sf = "flow_matching", "self_flow"
    if quick:
        return {
            "self_flow": lambda: self_flow_cost(engine, [8], 4),
            "peer": lambda: against_peer(4, 2, ("bf16",)),
            "per_token": lambda: per_token_cost(engine, 8, 2),
            "sampling": lambda: cached_sampling(engine, [0, 1], 4, 2),
            "memory": lambda: peak_memory(4, [(fm, False), (sf, False)]),
            "growth": lambda: growth(engine, [8, 16], 256, 2),
            "realtime": lambda: realtime(2),
            **tabletop_plan(),
        }
    return {
        "self_flow": lambda: self_flow_cost(engine, [8, 32], 10),
        "peer": lambda: against_peer(16, 6, ("fp32", "bf16")),
        "per_token": lambda: per_token_cost(engine, 16, 10),
        "sampling": lambda: cached_sampling(engine, [0, 1, 4], 10, 5),
        "memory": lambda: peak_memory(32, [(fm, False), (sf, False), (fm, True), (sf, True)]),
        "growth": lambda: growth(engine, [8, 16, 32], 1024, 5),
        "realtime": lambda: realtime(6),
        **tabletop_plan(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller batches")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; with 1, CPU time is measured")
    parser.add_argument("--only", nargs="*", help="names of benchmarks to run")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    engine = Engine("cpu", threads=arguments.threads)
    benchmarks = plan(arguments.quick, engine)
    if unknown := sorted(set(arguments.only or ()) - set(benchmarks)):
        parser.error(f"unknown benchmarks {unknown}; choose among {', '.join(benchmarks)}")
    facts = {**machine(), "precision": "bf16" if engine.bf16 else "fp32"}
    settings = {
        "seed": SEED,
        "quick": arguments.quick,
        "network": to_dict(CONFIG)["network"],
        "picture": to_dict(CONFIG)["picture"],
        "text_tokens": TEXT_TOKENS,
    }
    rows: dict[str, list[Row]] = {}
    began = time.monotonic()
    for name, benchmark in benchmarks.items():
        if arguments.only is not None and name not in arguments.only:
            continue
        print(f"{name} …", file=sys.stderr, flush=True)
        rows[name] = benchmark()
        if arguments.json:  # after each, so that a run cut short keeps what it has
            results = {k: [{**asdict(row), "holds": row.holds} for row in found] for k, found in rows.items()}
            seconds = round(time.monotonic() - began, 1)
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            write_json(arguments.json, {"machine": facts, "settings": settings, "seconds": seconds, "results": results})
    print(table([row for found in rows.values() for row in found]))
    print(f"\n{json.dumps(facts)}\n{time.monotonic() - began:.0f} s, seed {SEED}, network {settings['network']}")


if __name__ == "__main__":
    main()
