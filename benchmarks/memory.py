"""Peak memory of a training step, each in a fresh process: `python benchmarks/memory.py KIND BATCH [checkpointing]`.

The figure is the highest resident set while training less the resident set before the network was built: weights, their
average, gradients, optimiser state, activations, and what the allocator holds on to.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from timing import Row

STEPS = 2


def resident(peak: bool) -> int:
    """Bytes this process has in memory, now or at most so far."""
    status = Path("/proc/self/status")
    if status.exists():
        key = "VmHWM:" if peak else "VmRSS:"
        return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith(key))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(kind: str, batch: int, checkpointing: bool) -> float:
    """Megabytes (10⁶ bytes) of a few training steps in this process."""
    import torch

    from selfflow.train.engine import Engine
    from subjects import training_step

    torch.set_num_threads(1)
    engine = Engine("cpu")
    before = resident(peak=False)
    step = training_step(kind, batch, engine, checkpointing=checkpointing)
    for _ in range(STEPS):
        step()
    return (resident(peak=True) - before) / 1e6


def peak_memory(batch: int, kinds: list[tuple[str, bool]]) -> list[Row]:
    """One row for each `(objective, checkpointing)`, in megabytes, with its ratio to the first."""
    rows: list[Row] = []
    for kind, checkpointing in kinds:
        command = [sys.executable, __file__, kind, str(batch), *["checkpointing"] * checkpointing]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
        name = f"peak memory, {kind.replace('_', ' ')} step, batch {batch}{', checkpointing' if checkpointing else ''}"
        if done.returncode:
            rows.append(Row(name, None, "MB", note=done.stderr.strip().splitlines()[-1]))
            continue
        value = float(done.stdout)
        first = rows[0].value if rows else value
        note = f"{value / first:.2f} × the first" if rows and first else ""
        rows.append(Row(name, value, "MB", note=note, details={"batch": batch}))
    return rows


if __name__ == "__main__":
    print(measure(sys.argv[1], int(sys.argv[2]), "checkpointing" in sys.argv[3:]))
