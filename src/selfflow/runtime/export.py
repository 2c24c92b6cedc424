"""A step of the network as native code: traced by `torch.export`, compiled ahead of time by inductor.

    selfflow export --model DIR -o steps.pt2            needs a C++ compiler, and takes a minute or two
    Runtime.from_pretrained(DIR, exported="steps.pt2")  needs none

One package serves every number of samples, of tokens, and of remembered tokens above one. It holds the blocks for
generated tokens, which is where the time goes; texts and references are read as ever. A package is made for one machine
(its instructions), one model and one dtype; beside it lies a `.json` that names them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfflow.nn import Transformer
from selfflow.runtime.engine import Engine, Layer
from selfflow.runtime.memory import fingerprint
from selfflow.train.checkpoint import write_json


class Steps(nn.Module):
    """All blocks over generated tokens, as a pure function."""

    def __init__(self, layers: Sequence[Layer], double: int) -> None:
        super().__init__()
        self.layers, self.doubles = nn.ModuleList(layers), double

    def forward(
        self, x: Tensor, first: tuple[Tensor, ...], rest: tuple[Tensor, ...], turn: Tensor, past: Tensor, bias: Tensor
    ) -> Tensor:
        """`x (b, n, width)` to the same shape.

        Args:
            first, rest: what time says to the double blocks, and to those after them (`Engine.conditioning`).
            turn: `(2, b, n, 1, head_width / 2)`.
            past: `(layers, 2, b, h, m, head_width)`.
            bias: `(b, 1, 1, m + n)`.
        """
        for i, layer in enumerate(self.layers):
            kv = F.pad(past[i], (0, 0, 0, x.shape[1]))
            x = layer(x, first if i < self.doubles else rest, turn, (kv[0], kv[1]), past.shape[4], bias)
        return x


def trace(engine: Engine) -> torch.export.ExportedProgram:
    """The program of a step, for every size above 1 of samples, tokens and memory."""
    vectors, _ = engine.conditioning("media", 0.5)
    b, n, m, c, dtype = 2, 8, 4, engine.config, engine.dtype
    head = c.width // c.heads
    given = (
        torch.zeros(b, n, c.width, dtype=dtype), vectors[0], vectors[-1], torch.zeros(2, b, n, 1, head // 2),
        torch.zeros(c.depth, 2, b, c.heads, m, head, dtype=dtype), torch.zeros(b, 1, 1, m + n, dtype=dtype),
    )  # fmt: skip
    any_size = torch.export.Dim.AUTO
    shapes = (
        {0: any_size, 1: any_size}, (None,) * len(vectors[0]), (None,) * len(vectors[-1]), {1: any_size, 2: any_size},
        {2: any_size, 4: any_size}, {0: any_size, 3: any_size},
    )  # fmt: skip
    with torch.no_grad():
        return torch.export.export(Steps(list(engine.layers["media"]), c.double), given, dynamic_shapes=shapes)


def export_steps(net: Transformer, path: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write the package, and beside it a `.json` that says what it is of.

    Raises:
        ValueError: for a name that does not end in `.pt2`, or a network that is not on the CPU.
        RuntimeError: where no C++ compiler is found.
    """
    from torch._inductor import aoti_compile_and_package
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    path = Path(path)
    if path.suffix != ".pt2" or net.frequencies.device.type != "cpu":
        raise ValueError(f"packages end in .pt2 and are made on the CPU; got {path}, {net.frequencies.device}")
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise RuntimeError("to export, a C++ compiler is needed (g++ or clang++); none was found") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp.pt2")
    with torch.no_grad():
        program = trace(Engine(net, dtype, paired=False, pack=False))
        # Weights become constants, so that oneDNN's blocked form of them is made now and not at every call.
        aoti_compile_and_package(program, package_path=str(temporary), inductor_configs={"freezing": True})
    os.replace(temporary, path)
    write_json(path.with_suffix(".json"), _identity(fingerprint(net), dtype))
    return path


def load_steps(path: str | Path, of: str, dtype: torch.dtype) -> Callable[..., Tensor]:
    """What `export_steps` wrote, as a function.

    Raises:
        FileNotFoundError: when package or `.json` is missing.
        ValueError: when it is of another model, dtype, torch or machine, naming both.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; make it with `selfflow export`")
    try:
        found = json.loads(path.with_suffix(".json").read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path.with_suffix('.json')} is missing: it says what {path.name} is of") from None
    wanted: dict[str, Any] = _identity(of, dtype)
    if wrong := [f"{key} {found.get(key)}, not {value}" for key, value in wanted.items() if found.get(key) != value]:
        raise ValueError(f"{path} does not fit: it is of {'; '.join(wrong)}. Make it anew with `selfflow export`")
    from torch._inductor import aoti_load_package

    loaded: Callable[..., Tensor] = aoti_load_package(str(path))
    return loaded


def _identity(of: str, dtype: torch.dtype) -> dict[str, str]:
    instructions = torch.backends.cpu.get_cpu_capability()
    return {"model": of, "dtype": str(dtype), "torch": torch.__version__, "instructions": instructions}
