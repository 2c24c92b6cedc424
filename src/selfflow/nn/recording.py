"""CUDA graphs: work recorded once and played with a single launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Run = Callable[[], object]
# Takes what is to be recorded, which reads and writes tensors that stay; returns what plays it.
Record = Callable[[Run], Run]


def cuda_record(run: Run, pool: Any = None) -> Run:
    """Record as a CUDA graph, after two rehearsals on a stream of their own (as torch asks for).

    Recordings that share a `pool` share their memory: none may still need what it made when another is played.
    """
    current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
    aside.wait_stream(current)
    with torch.cuda.stream(aside):
        for _ in range(2):
            run()
    current.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        run()
    return graph.replay
