"""The network as native code: traced by `torch.export`, compiled ahead of time by inductor.

    selfflow export --model DIR -o steps.pt2            needs a C++ compiler, and takes two minutes or three
    Runtime.from_pretrained(DIR, exported="steps.pt2")  needs none

One package serves every number of samples, of tokens above one, and of remembered tokens. It holds a program for
generated tokens and one for reading known ones (two where texts have layers of their own). A package is made for one
machine (its instructions), one model and one dtype; beside it lies a `.json` that names them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfflow.nn import Transformer
from selfflow.nn.layers import KeysValues
from selfflow.runtime.engine import Engine, Layer
from selfflow.runtime.memory import fingerprint
from selfflow.train.checkpoint import write_json

STEP, LAYOUT = "step", "2"  # the layout is counted up when what programs take or give changes
Program = Callable[..., Tensor]


class Blocks(nn.Module):
    """All blocks over tokens, as a pure function.

    Args:
        reads: give keys and values of the tokens, of which the last block gives nothing else; not their features.
    """

    def __init__(self, layers: Sequence[Layer], double: int, reads: bool) -> None:
        super().__init__()
        self.layers, self.doubles, self.reads = nn.ModuleList(layers), double, reads

    def forward(
        self, x: Tensor, first: tuple[Tensor, ...], rest: tuple[Tensor, ...], turn: Tensor, past: Tensor, bias: Tensor
    ) -> Tensor:
        """`x (b, n, width)` to the same shape, or to keys and values `(layers, 2, b, h, n, head_width)`.

        Args:
            first, rest: what time says to the double blocks, and to those after them (`Engine.conditioning`).
            turn: `(2, b, n, 1, head_width / 2)`.
            past: `(layers, 2, b, h, m, head_width)`.
            bias: `(b, 1, 1, m + n)`.
        """
        found = []
        for i, layer in enumerate(self.layers):
            vectors = first if i < self.doubles else rest
            if self.reads and i == len(self.layers) - 1:
                found.append(layer.keys_values(x, vectors, turn))
                break
            y, q, k, v = layer.heads_of(x, vectors, turn)
            k, v = k.to(x.dtype).contiguous(), v.contiguous()
            found.append((k, v))
            seen = attend_apart(q.to(x.dtype), (past[i, 0], past[i, 1]), (k, v), bias)
            x = layer.finish(x, y, seen, vectors)
        if self.reads:
            return torch.stack([torch.stack([k.to(x.dtype), v]) for k, v in found])
        return x


def attend_apart(q: Tensor, past: KeysValues, own: KeysValues, bias: Tensor) -> Tensor:
    """Attention of scaled queries `(b, h, n, w)` over what is remembered and over its own tokens; `(b, h, n, w)`.

    A softmax over both together, though they are never joined: weights are divided by their sum at the end. So nothing
    that is remembered is copied.
    """
    m, scores = past[0].shape[2], list[Tensor]()
    for (keys, _), part in ((past, bias[..., :m]), (own, bias[..., m:])):
        scores.append((q @ keys.transpose(2, 3)).float() + part)
    top = torch.maximum(*(s.amax(dim=-1, keepdim=True) for s in scores))
    weights = [(s - top).exp() for s in scores]
    total = weights[0].sum(dim=-1, keepdim=True) + weights[1].sum(dim=-1, keepdim=True)
    seen = [(w.to(q.dtype) @ values).float() for w, (_, values) in zip(weights, (past, own), strict=True)]
    return ((seen[0] + seen[1]) / total).to(q.dtype)


class Exported:
    """What a package holds, or the functions it is made from."""

    def __init__(self, programs: Mapping[str, Program]) -> None:
        self.programs = dict(programs)

    def step(self, *given: Any) -> Tensor:
        """See `Blocks`."""
        return self.programs[STEP](*given)

    def read(self, stream: str, *given: Any) -> Tensor:
        """See `Blocks`; `stream` is `"text"` or `"media"`."""
        return self.programs.get(stream, self.programs["media"])(*given)


def functions(engine: Engine) -> dict[str, Blocks]:
    """What is to be exported, by name."""
    double, layers = engine.config.double, engine.layers
    found = {STEP: Blocks(layers["media"], double, False), "media": Blocks(layers["media"], double, True)}
    return found | ({"text": Blocks(layers["text"], double, True)} if double else {})


def trace(engine: Engine, blocks: Blocks) -> torch.export.ExportedProgram:
    """The program for every size above 1 of samples, tokens and memory."""
    vectors, _ = engine.conditioning("media", 0.5)
    # Sizes that are usual, since loops are laid out for them; of samples three, so that one sample is not the rule
    # by which work is divided among threads.
    b, n, m, c, dtype = 3, 64, 80, engine.config, engine.dtype
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
        return torch.export.export(blocks, given, dynamic_shapes=shapes)


def export_steps(net: Transformer, path: str | Path, dtype: torch.dtype = torch.float32) -> Path:
    """Write the package, and beside it a `.json` that says what it is of.

    Raises:
        ValueError: for a name that does not end in `.pt2`, or a network that is not on the CPU.
        RuntimeError: where no C++ compiler is found.
    """
    from torch._inductor import aot_compile
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler
    from torch._inductor.package import package_aoti

    path = Path(path)
    if path.suffix != ".pt2" or net.frequencies.device.type != "cpu":
        raise ValueError(f"packages end in .pt2 and are made on the CPU; got {path}, {net.frequencies.device}")
    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise RuntimeError("to export, a C++ compiler is needed (g++ or clang++); none was found") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.tmp.pt2")
    # Weights become constants, so that oneDNN's blocked form of them is made now and not at every call. The number of
    # threads is asked for at every call: with one the code is the same, but for loops over one.
    options = {"freezing": True, "cpp.dynamic_threads": True, "cpp.threads": 2, "aot_inductor.package": True}
    engine, compiled = Engine(net, dtype, paired=False, pack=False), dict[str, Any]()
    with torch.no_grad():
        for name, blocks in functions(engine).items():
            program = trace(engine, blocks)
            compiled[name] = aot_compile(program.module(), *program.example_inputs, options=dict(options))
        package_aoti(str(temporary), compiled)
    os.replace(temporary, path)
    write_json(path.with_suffix(".json"), _identity(fingerprint(net), dtype) | {"programs": list(compiled)})
    return path


def load_steps(path: str | Path, of: str, dtype: torch.dtype) -> Exported:
    """What `export_steps` wrote.

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
    from torch._inductor.package import load_package

    return Exported({name: load_package(str(path), name) for name in found["programs"]})


def _identity(of: str, dtype: torch.dtype) -> dict[str, str]:
    instructions = torch.backends.cpu.get_cpu_capability()
    return {
        "model": of, "dtype": str(dtype), "torch": torch.__version__, "instructions": instructions, "layout": LAYOUT
    }  # fmt: skip
