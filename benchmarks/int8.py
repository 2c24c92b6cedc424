"""Weights in eight bits: whether they pay on this CPU, and what they cost in quality.

    python benchmarks/int8.py [--threads N] [--rounds 24] [--samples 32] [--model DIR] [--json FILE]

**Time**: everything of one pass of `micro` that is multiplied by weights (of its eight blocks queries, keys and values,
the way out of attention, the SwiGLU with its `silu` and product), for 64 and 256 rows, in turn, in one process:

- as the runtime does it, in its dtype, packed;
- int8 by `torch._int_mm`: weights scaled by channel, activations by token, scales found and applied at every call;
- int8 by oneDNN's `qlinear_pointwise`, which torch's own quantised layers call: weights by channel, activations by
  call, as unsigned bytes (of signed ones it has a reference kernel only, two thousand times slower);
- both once more without finding scales and casting: what would be left if that were free;
- fp8 (e4m3) by `torch._scaled_mm`.

**Quality**: the velocity of a trained model on held-out scenes of the tabletop with the weights of its blocks, and what
they are multiplied by, rounded as above and computed in float32: so the error is that of rounding alone. Reported are
the error relative to float32's velocity, root of the mean square over samples and times, and by how much the mean
squared error to the true velocity rises. Beside it the runtime's bf16.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfflow import flow
from selfflow.bundled import model_or_bundled
from selfflow.config import Config
from selfflow.data.scenes import TabletopScenes
from selfflow.modalities.pixels import to_values
from selfflow.pipeline import Pipeline
from selfflow.recipes import micro
from selfflow.runtime import Runtime
from selfflow.runtime.engine import GatedMLP, Weight
from selfflow.train.checkpoint import write_json
from selfflow.train.engine import fast_dtype
from timing import interleaved, machine

SEED, ROWS, LEVELS = 0, (64, 256), (0.1, 0.3, 0.5, 0.7, 0.9)
INT8, FP8 = 127.0, 448.0  # the largest number of each
Product = Callable[[Tensor], Tensor]


def scale_of(x: Tensor, largest: float, dim: int | None = -1) -> Tensor:
    """By what to divide so that the largest magnitude, along `dim` or of all, becomes `largest`; float32."""
    most = x.abs().amax() if dim is None else x.abs().amax(dim, keepdim=True)
    # In bf16 a quotient could be rounded up to 128, which a signed byte takes for -128.
    return most.float().clamp(min=1e-12) / largest


def int8(x: Tensor, dim: int | None = -1) -> Tensor:
    """Rounded to 255 levels, in x's own units."""
    scale = scale_of(x, INT8, dim)
    return (x / scale).round() * scale


def fp8(x: Tensor, dim: int | None = -1) -> Tensor:
    """Rounded to what e4m3 holds, in x's own units."""
    scale = scale_of(x, FP8, dim)
    return (x / scale).to(torch.float8_e4m3fn).float() * scale


# --------------------------------------------------------------------------------------------------------------- time


def by_int_mm(weight: Tensor, alone: bool = False) -> Product:
    """`weight (out, in)` float32, in int8."""
    scale = scale_of(weight, INT8)
    packed, by_channel = (weight / scale).round().to(torch.int8).t(), scale.t()

    def product(x: Tensor) -> Tensor:
        by_token = scale_of(x, INT8)
        return (torch._int_mm((x / by_token).round().to(torch.int8), packed) * (by_token * by_channel)).to(x.dtype)

    return (lambda x: torch._int_mm(x, packed)) if alone else product


def by_onednn(weight: Tensor, rows: int, dtype: torch.dtype, alone: bool = False) -> Product:
    """The same by oneDNN, from bytes to `dtype`."""
    scale, zeros = scale_of(weight, INT8), torch.zeros(len(weight), dtype=torch.int32)
    signed = (weight / scale).round().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(signed, [rows, weight.shape[1]])
    middle, channels = torch.full((1,), 128, dtype=torch.int32), scale.flatten()

    def multiply(x: Tensor, by: Tensor) -> Tensor:
        given = (packed, channels, zeros, None, 1.0, 0, dtype, "none", [], "")
        return torch.ops.onednn.qlinear_pointwise.tensor(x, by, middle, *given)

    def product(x: Tensor) -> Tensor:
        by = scale_of(x, INT8, None).reshape(1)
        return multiply(((x / by).round() + 128).to(torch.uint8), by)

    one = torch.ones(1)
    return (lambda x: multiply(x, one)) if alone else product


def by_scaled_mm(weight: Tensor) -> Product:
    """In fp8."""
    scale = scale_of(weight, FP8)
    packed, by_channel = (weight / scale).to(torch.float8_e4m3fn).t(), scale.t().contiguous()

    def product(x: Tensor) -> Tensor:
        by_token = scale_of(x, FP8)
        rounded = (x / by_token).to(torch.float8_e4m3fn)
        return torch._scaled_mm(rounded, packed, scale_a=by_token, scale_b=by_channel, out_dtype=torch.bfloat16)

    return product


def block_of(
    weights: Sequence[Tensor], make: Callable[[Tensor], Product], mlp: bool
) -> Callable[[Tensor, Tensor], None]:
    """All products of one block; where `mlp` is False bytes go in, and none becomes another's input."""
    qkv, project, gate_up, down = (make(w) for w in weights)

    def run(x: Tensor, inner: Tensor) -> None:
        qkv(x)
        project(x)
        both = gate_up(x)
        if mlp:
            gate, up = both.chunk(2, dim=-1)
            inner = F.silu(gate) * up
        down(inner)

    return run


def passes(config: Config, rows: int, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """Name → all products of one pass."""
    width, depth = config.network.width, config.network.depth
    hidden = round(config.network.mlp_ratio * width)
    torch.manual_seed(SEED)
    shapes = ((3 * width, width), (width, width), (2 * hidden, width), (width, hidden))
    weights = [[torch.randn(shape) * shape[1] ** -0.5 for shape in shapes] for _ in range(depth)]
    x, inner = torch.randn(rows, width).to(dtype), torch.randn(rows, hidden).to(dtype)

    def usual(qkv: Tensor, project: Tensor, gate_up: Tensor, down: Tensor) -> Callable[[Tensor, Tensor], None]:
        first, second = Weight(qkv.to(dtype)), Weight(project.to(dtype))
        mlp = GatedMLP(gate_up.to(dtype), down.to(dtype))

        def run(x: Tensor, _: Tensor) -> None:
            first(x)
            second(x)
            mlp(x)

        return run

    onednn = partial(by_onednn, rows=rows, dtype=dtype)
    signed = [(30 * y.float()).clamp(-INT8, INT8).to(torch.int8) for y in (x, inner)]
    unsigned = [(y.to(torch.int16) + 128).to(torch.uint8) for y in signed]
    ways: dict[str, tuple[list[Any], Sequence[Tensor]]] = {
        "runtime": ([usual(*w) for w in weights], (x, inner)),
        "int8, int_mm": ([block_of(w, by_int_mm, True) for w in weights], (x, inner)),
        "int8, oneDNN": ([block_of(w, onednn, True) for w in weights], (x, inner)),
        "int8, int_mm, products alone": ([block_of(w, partial(by_int_mm, alone=True), False) for w in weights], signed),
        "int8, oneDNN, products alone": ([block_of(w, partial(onednn, alone=True), False) for w in weights], unsigned),
        "fp8, scaled_mm": ([block_of(w, by_scaled_mm, True) for w in weights], (x.bfloat16(), inner.bfloat16())),
    }

    def through(blocks: list[Any], given: Sequence[Tensor]) -> None:
        for block in blocks:
            block(*given)

    return {name: torch.inference_mode()(partial(through, *way)) for name, way in ways.items()}


def times(config: Config, rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of each way for each number of rows, and the runtime's time over them."""
    cells, dtype = [], fast_dtype("cpu")
    for rows in ROWS:
        seconds = interleaved(passes(config, rows, dtype), rounds, 2, {"fp8, scaled_mm": min(rounds, 3)})
        middle = {name: 1000 * float(torch.tensor(s).median()) for name, s in seconds.items()}
        for name, ms in middle.items():
            ratio = round(middle["runtime"] / ms, 3)
            cells.append({"rows": rows, "how": name, "p50": round(ms, 3), "runtime_over_it": ratio})
            print(f"{rows:4} rows  {name:32} {ms:9.2f} ms   runtime over it {ratio:6.2f} ×", flush=True)
    return cells


# ------------------------------------------------------------------------------------------------------------ quality

# What rounds weights, by channel, and what rounds activations.
ROUNDINGS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor] | None]] = {
    "int8 weights": (int8, None),
    "int8, activations by token": (int8, int8),
    "int8, activations by call": (int8, partial(int8, dim=None)),
    "fp8 weights": (fp8, None),
    "fp8, activations by token": (fp8, fp8),
}


class Rounded(nn.Module):
    """A linear layer with rounded weights and inputs, computed in float32."""

    def __init__(self, linear: nn.Linear, weights: Callable[[Tensor], Tensor], inputs: Any) -> None:
        super().__init__()
        self.bias, self.inputs = linear.bias, inputs
        self.weight = nn.Parameter(weights(linear.weight.detach()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x if self.inputs is None else self.inputs(x), self.weight, self.bias)


def rounded(model: str | Path, weights: Callable[[Tensor], Tensor], inputs: Any) -> Pipeline:
    """The model with the products of all its blocks rounded."""
    pipe = Pipeline.from_pretrained(model)
    for parent in list(pipe.net.blocks.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, Rounded(child, weights, inputs))
    return pipe


@torch.inference_mode()
def velocities(pipe: Pipeline, texts: list[str], data: Any, noise: Tensor) -> Tensor:
    """At every level the velocity of every sample, `(levels, b, n, c)`."""
    field = pipe.velocity(texts, data[:1].with_data(torch.zeros_like(data.data[:1])))
    found = []
    for level in LEVELS:
        t = torch.tensor(level)
        found.append(field(flow.interpolate(data.data, noise, t.expand(len(noise))), t).float())
    return torch.stack(found)


def quality(model: str | Path, samples: int) -> list[dict[str, Any]]:
    """Of each rounding the relative error of the velocity, and the rise of the error to the true one."""
    plain = Pipeline.from_pretrained(model)
    scenes = TabletopScenes(samples, plain.config.picture.size, "test", SEED)
    texts = [scenes[i].text for i in range(samples)]
    data = plain.modalities.encode_pictures(to_values([scenes[i].picture for i in range(samples)]))
    noise = torch.randn(data.data.shape, generator=torch.Generator().manual_seed(SEED))
    truth, exact = flow.velocity(data.data, noise), velocities(plain, texts, data, noise)
    usual, cells = float((exact - truth).square().mean()), []
    ways: dict[str, Callable[[], Pipeline]] = {"runtime, bf16": lambda: Runtime(plain, torch.bfloat16)}
    ways |= {name: partial(rounded, model, *how) for name, how in ROUNDINGS.items()}
    for name, make in ways.items():
        said = velocities(make(), texts, data, noise)
        each = [float((a - b).norm() / b.norm()) for a, b in zip(said, exact, strict=True)]
        loss = float((said - truth).square().mean())
        cells.append(
            {
                "how": name, "relative_error": float((said - exact).norm() / exact.norm()),
                "by_level": dict(zip(map(str, LEVELS), each, strict=True)), "loss": loss, "loss_float32": usual,
                "loss_rise": loss / usual - 1,
            }
        )  # fmt: skip
        cell = cells[-1]
        print(f"{name:32} error {cell['relative_error']:8.3%}   loss {cell['loss_rise']:+8.3%}", flush=True)
    return cells


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=24, help="0 leaves time out")
    parser.add_argument("--samples", type=int, default=32, help="held-out scenes; 0 leaves quality out")
    parser.add_argument("--model", type=Path, help="a model of the tabletop; the bundled micro-all by default")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; with 1, CPU time is measured")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args(arguments)
    torch.set_num_threads(a.threads)
    model = model_or_bundled(a.model)
    found: dict[str, Any] = {"machine": machine(), "rounds": a.rounds, "samples": a.samples, "model": model.name}
    for name, measure in (
        ("time", partial(times, micro(), a.rounds) if a.rounds else None),
        ("quality", partial(quality, model, a.samples) if a.samples else None),
    ):
        if measure is not None:
            found[name] = measure()
            if a.json:
                write_json(a.json, found)


if __name__ == "__main__":
    main()
