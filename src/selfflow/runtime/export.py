"""The network as native code: traced by `torch.export`, compiled ahead of time by inductor.

    selfflow export --model DIR -o steps.pt2            needs a C++ compiler, and takes two minutes or three
    Runtime.from_pretrained(DIR, exported="steps.pt2")  needs none

One package serves every number of samples, of tokens, and of remembered tokens. It holds a program for generated tokens
and one for reading known ones (two where texts have layers of their own). A package is made for one machine (its
instructions), one model and one dtype; beside it lies a `.json` that names them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from selfflow.nn import Transformer
from selfflow.runtime.engine import Engine, Layer, Space, Vectors
from selfflow.runtime.memory import fingerprint
from selfflow.train.checkpoint import write_json

STEP, LAYOUT = "step", "2"  # the layout is counted up when what programs take or give changes
Program = Callable[[list[Tensor]], Tensor]


class Blocks(nn.Module):
    """All blocks over tokens: `selfflow.runtime.engine`'s, in one function of tensors.

    Args:
        reads: leave keys and values of the tokens, which is all that the last block is then asked for.
    """

    def __init__(self, layers: Sequence[Layer], double: int, reads: bool) -> None:
        super().__init__()
        self.layers, self.doubles, self.reads = nn.ModuleList(layers), double, reads

    def forward(
        self, x: Tensor, first: tuple[Tensor, ...], rest: tuple[Tensor, ...], turn: Tensor, keys: list[Tensor],
        values: list[Tensor], bias: Tensor,
    ) -> Tensor:  # fmt: skip
        """`x (b, n, width)` to the same shape; its keys and values are left behind those remembered.

        Args:
            first, rest: what time says to the double blocks, and to those after them (`Engine.conditioning`).
            turn: `(2, b, n, 1, head_width / 2)`.
            keys, values: of each layer `(b, h, m + n, head_width)`, written in place (`Space`).
            bias: `(b, 1, 1, m + n)`.
        """
        m, layers = keys[0].shape[2] - x.shape[1], cast(Sequence[Layer], self.layers)
        for i, layer in enumerate(layers):
            vectors, kv = first if i < self.doubles else rest, (keys[i], values[i])
            if self.reads and i == len(layers) - 1:
                layer.keys_values(x, vectors, turn, kv, m)
            else:
                x = layer(x, vectors, turn, kv, m, bias)
        return x

    def flat(self, given: list[Tensor]) -> Tensor:
        """`forward` of a list of tensors, as native code takes them."""
        first, rest = (3 if layer.parallel else 6 for layer in (self.layers[0], self.layers[-1]))
        x, given, depth = given[0], given[1:], len(self.layers)
        vectors, (turn, *kv, bias) = given[: first + rest], given[first + rest :]
        return self(x, tuple(vectors[:first]), tuple(vectors[first:]), turn, kv[:depth], kv[depth:], bias)


class Exported:
    """What a package holds: programs by name, each a function of a list of tensors in the order of `Blocks.forward`."""

    def __init__(self, programs: Mapping[str, Program]) -> None:
        self.programs = dict(programs)

    def step(self, x: Tensor, vectors: Sequence[Vectors], turn: Tensor, space: Space) -> Tensor:
        """All blocks over generated tokens."""
        return self.run(STEP, x, vectors, turn, space)

    def read(self, stream: str, x: Tensor, vectors: Sequence[Vectors], turn: Tensor, space: Space) -> Tensor:
        """Keys and values of known tokens into the space; `stream` is `"text"` or `"media"`.

        Returns what the last block was given.
        """
        return self.run(stream if stream in self.programs else "media", x, vectors, turn, space)

    def run(self, name: str, x: Tensor, vectors: Sequence[Vectors], turn: Tensor, space: Space) -> Tensor:
        """A program by name."""
        bias = space.no_bias if space.bias is None else space.bias
        keys, values = zip(*space.layers, strict=True)
        return self.programs[name]([x, *vectors[0], *vectors[-1], turn, *keys, *values, bias])


def functions(engine: Engine) -> dict[str, Blocks]:
    """What is to be exported, by name."""
    double, layers = engine.config.double, engine.layers
    found = {STEP: Blocks(layers["media"], double, False), "media": Blocks(layers["media"], double, True)}
    return found | ({"text": Blocks(layers["text"], double, True)} if double else {})


def trace(engine: Engine, blocks: Blocks) -> torch.export.ExportedProgram:
    """The program for every size of samples, tokens and memory."""
    vectors, _ = engine.conditioning("media", 0.5)
    # Sizes that are usual, since loops are laid out for them; of samples three, so that one sample is not the rule
    # by which work is divided among threads.
    b, n, m, c = 3, 64, 80, engine.config
    space = Space(engine, b, m, n, True)
    keys, values = zip(*space.layers, strict=True)
    given = (
        engine.like.new_zeros(b, n, c.width), vectors[0], vectors[-1],
        torch.zeros(2, b, n, 1, c.width // c.heads // 2), list(keys), list(values), space.bias,
    )  # fmt: skip
    free = torch.export.Dim.AUTO
    room = [{0: free, 2: free}] * c.depth
    fixed = (None,) * len(vectors[0]), (None,) * len(vectors[-1])
    shapes = ({0: free, 1: free}, *fixed, {1: free, 2: free}, room, room, {0: free, 3: free})
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
    from torch._inductor.package import load_package, package_aoti

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
            # Tracing takes sizes to be above 1 and never equal; that the others serve too is seen to by `_check`.
            compiled[name] = aot_compile(
                program.module(check_guards=False), *program.example_inputs, options=dict(options)
            )
        package_aoti(str(temporary), compiled)
        _check(Exported({name: _called(load_package(str(temporary), name).loader) for name in compiled}), engine)
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

    return Exported({name: _called(load_package(str(path), name).loader) for name in found["programs"]})


def _called(loader: Any) -> Program:
    """A loaded program as a function of flat tensors: torch's own wrapper reads its signature anew at every call."""

    def program(given: list[Tensor]) -> Tensor:
        made: Tensor = loader.boxed_run(given)[0]
        return made

    return program


def _check(exported: Exported, engine: Engine) -> None:
    """Hold native code to the plain one, in the sizes that tracing treats apart; RuntimeError where it differs."""
    generator = torch.Generator().manual_seed(0)
    vectors, _ = engine.conditioning("media", 0.5)
    for b, n, m in ((1, 1, 0), (1, 64, 11), (2, 7, 1)):
        x = torch.randn(b, n, engine.config.width, generator=generator).to(engine.dtype)
        turn = engine.turn(torch.rand(b, n, 4, generator=generator))
        spaces = [Space(engine, b, m, n, True) for _ in range(2)]
        for name, blocks in functions(engine).items():
            sides = zip((exported, Exported({name: blocks.flat})), spaces, strict=True)
            one, two = (side.run(name, x, vectors, turn, space) for side, space in sides)
            gap = max(float((a - b).abs().mean() / b.abs().mean()) for a, b in ((one, two), (s.room for s in spaces)))
            if not gap < (0.02 if engine.dtype == torch.bfloat16 else 1e-4):
                raise RuntimeError(f"native code differs by {gap:.2g} from the network, for {b} × {n} tokens after {m}")


def _identity(of: str, dtype: torch.dtype) -> dict[str, str]:
    instructions = torch.backends.cpu.get_cpu_capability()
    return {
        "model": of, "dtype": str(dtype), "torch": torch.__version__, "instructions": instructions, "layout": LAYOUT
    }  # fmt: skip
