"""The network laid out for sampling: weights in the dtype it computes in, few kernels, keys and values in place.

What it computes is what `selfflow.nn.Transformer` computes, from the same weights; the tests hold it to that. What
differs is what training needs and sampling does not:

- all tokens of a call have one time, so modulation is a few vectors, which the affine part of a LayerNorm applies; they
  depend on the time only and are kept from one request to the next;
- query and key are normalised, scaled and turned together. On a CPU the pairs that rotary positions turn stand side by
  side (the rows of the weights are put in that order once), so a turn is one product of complex numbers;
- keys and values of new tokens are written behind those remembered, into a `Space` made once per request; nothing is
  joined anew in every block of every step;
- the last block of a read gives keys and values only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfflow import flow
from selfflow.nn import Transformer, rotary
from selfflow.nn.layers import Block, KeysValues
from selfflow.nn.matching import Windows
from selfflow.nn.transformer import DoubleBlock
from selfflow.runtime.memory import Piece
from selfflow.times import Times
from selfflow.tokens import Tokens

# A CPU multiplies plain matrices for attention while the scores fit in this many bytes. At 256 queries and 2816 keys
# (bf16, one core) that takes 6.3 ms where the fused kernel takes 10.4; beyond, memory counts for more.
PLAIN_BYTES = 64 << 20
# The sum of e to the power of so many scores is still far from what float32 and bfloat16 hold, e^88.
LARGEST_SCORE = 60.0
Vectors = tuple[Tensor, ...]


class Space:
    """Room for the keys and values of `m` remembered tokens and, behind them, of `n` new ones.

    Args:
        engine: whose network reads and writes it.
        b, m, n: samples, remembered tokens of the one that knows most, new tokens.
        masked: whether samples may know less than m.
        own: `(b, n)` bool, False where a new token pads; None when all are real.
        p: remembered tokens with windows to be matched, of the sample that knows most of them.

    Attributes:
        layers: for each layer keys and values, `(b, h, m + n, head_width)`.
        bias: `(b, 1, 1, m + n)`, 0 where a token is real and minus infinity where it pads; None when all are real.
        copied: `(b, m, engine.copies)` float32, zeros where a token pads; None of a network that copies nothing.
        windows: of the p tokens; None where there are none.
        codes: `(b, m)` float32, of letters to be printed, 0 for all else; None of a network that prints nothing.
        prints: whether there is any letter among what it was filled with.
    """

    def __init__(
        self, engine: Engine, b: int, m: int, n: int, masked: bool, own: Tensor | None = None, p: int = 0
    ) -> None:
        like = engine.like
        depth, _, heads, _, width = like.shape
        # What pads is multiplied by a weight of 0, so it must be a number.
        make = like.new_zeros if masked else like.new_empty
        self.room = make(depth, 2, b, heads, m + n, width)
        self.layers = [(kv[0], kv[1]) for kv in self.room]
        self.remembered = m
        self.bias = like.new_zeros(b, 1, 1, m + n) if masked or own is not None else None
        self.own = None if own is None else own | ~own.any(dim=1, keepdim=True)  # padding alone sees itself
        self.copied = torch.zeros(b, m, engine.copies, device=like.device) if engine.copies else None
        self.windows = engine.room_for_windows(b, p) if p else None
        self.codes = None if engine.net.stencils is None else torch.zeros(b, m, device=like.device)
        self.prints = False

    @cached_property
    def no_bias(self) -> Tensor:
        """A bias of zeros, for native code, which always adds one."""
        return self.room.new_zeros(self.room.shape[2], 1, 1, self.room.shape[4])

    @staticmethod
    def of(engine: Engine, rows: Sequence[Sequence[Piece]], n: int, own: Tensor | None = None) -> Space:
        """Exactly the room that these samples take, filled."""
        lengths = [sum(len(piece) for piece in row) for row in rows]
        return Space(engine, len(rows), max(lengths), n, len(set(lengths)) > 1, own, most_windows(rows)).fill(rows)

    def fill(self, rows: Sequence[Sequence[Piece]]) -> Space:
        """Pieces side by side, for each of b samples its own; what is left is masked."""
        if self.bias is not None:
            self.bias.zero_()
            if self.own is not None:
                self.bias[..., self.remembered :].masked_fill_(~self.own[:, None, None], float("-inf"))
        if self.windows is not None:
            self.windows.there.zero_()
        if self.codes is not None:
            self.codes.zero_()
            self.prints = printing(rows)
        for i, row in enumerate(rows):
            start = first = 0
            for piece in row:
                self.room[:, :, i, :, start : start + len(piece)] = piece.kv
                if self.copied is not None and piece.copied is not None:
                    self.copied[i, start : start + len(piece)] = piece.copied
                if self.windows is not None and piece.windows is not None:
                    self.windows.put(i, first, piece.windows)
                    first += len(piece)
                if self.codes is not None and piece.codes is not None:
                    self.codes[i, start : start + len(piece)] = piece.codes
                start += len(piece)
            if self.copied is not None:
                self.copied[i, start:] = 0
            if self.bias is not None:
                self.bias[i, ..., start : self.remembered] = float("-inf")
        return self


def printing(rows: Sequence[Sequence[Piece]]) -> bool:
    """Whether any sample has letters to print: where they are sought, the host has to look."""
    return any(piece.codes is not None and bool(piece.codes.any()) for row in rows for piece in row)


def most_windows(rows: Sequence[Sequence[Piece]]) -> int:
    """The number of tokens with windows that the sample has which knows most of them."""
    return max(sum(len(piece) for piece in row if piece.windows is not None) for row in rows)


class Weight(nn.Module):
    """A matrix `(out, in)` to multiply tokens by; in bf16 on a CPU in the blocked form that oneDNN computes with.

    A plain matrix is brought into that form at every call, which at 64 tokens costs a quarter of the product's time.
    """

    matrix: Tensor
    bias: Tensor | None

    def __init__(self, matrix: Tensor, pack: bool = True, bias: Tensor | None = None) -> None:
        super().__init__()
        self.packed = pack and matrix.device.type == "cpu" and matrix.dtype == torch.bfloat16 and packs()
        matrix = torch.ops.mkldnn._reorder_linear_weight(matrix) if self.packed else matrix.contiguous()
        self.register_buffer("matrix", matrix)
        self.register_buffer("bias", bias)

    @staticmethod
    def of(linear: nn.Linear, dtype: torch.dtype, pack: bool) -> Weight:
        """A layer's weights, bias included."""
        bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        return Weight(linear.weight.detach().to(dtype), pack, bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.packed:
            return torch.ops.mkldnn._linear_pointwise(x, self.matrix, self.bias, "none", [], "")
        return F.linear(x, self.matrix, self.bias)


def packs() -> bool:
    """Whether this torch has oneDNN's packed linear layers, which it uses in what it compiles."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class GatedMLP(nn.Module):
    """SwiGLU: `down(silu(gate(x)) · up(x))`."""

    def __init__(self, gate_up: Tensor, down: Tensor, pack: bool = True) -> None:
        super().__init__()
        self.down = Weight(down, pack)
        self.packed = self.down.packed
        self.parts = nn.ModuleList([Weight(w, pack) for w in (gate_up.chunk(2) if self.packed else [gate_up])])

    def forward(self, x: Tensor) -> Tensor:
        if self.packed:  # silu and the product happen while the result is still in a register
            gate, up = (part.matrix for part in self.parts)
            inner = torch.ops.mkldnn._linear_pointwise(x, gate, None, "swish", [], "")
            return self.down(torch.ops.mkldnn._linear_pointwise.binary(x, inner, up, None, "mul"))
        a, b = self.parts[0](x).chunk(2, dim=-1)
        return self.down(F.silu(a) * b)


class Layer(nn.Module):
    """One block, with one stream's weights. `paired` and `pack`: see `Engine`."""

    gains: Tensor

    def __init__(self, block: Block, dtype: torch.dtype, paired: bool, pack: bool) -> None:
        super().__init__()
        self.parallel, self.heads, self.pack = block.parallel, block.heads, pack
        names = ("inward", "outward") if block.parallel else ("qkv", "project", "gate_up", "down")
        found = [getattr(block, name).weight.detach().to(dtype) for name in names]
        if block.parallel:
            inward, outward = found
            width = inward.shape[1]
            found = [inward[: 3 * width], outward[:, :width], inward[3 * width :], outward[:, width:]]
        qkv, project, gate_up, down = found
        width, head = qkv.shape[1], qkv.shape[1] // block.heads
        pairs = torch.arange(head, device=qkv.device)
        if paired:
            pairs = pairs.reshape(2, head // 2).T.flatten()  # 0, w/2, 1, w/2 + 1 …
        places = torch.arange(2 * width, device=qkv.device).reshape(-1, head)[:, pairs].flatten()
        qkv = torch.cat([qkv[: 2 * width][places], qkv[2 * width :]])
        self.qkv, self.project = Weight(qkv, pack), Weight(project, pack)
        self.mlp = GatedMLP(gate_up, down, pack)
        self.kv = Weight(qkv[width:].clone(), pack)
        # 1 / sqrt(head width), by which attention scales its scores, goes into the queries.
        gains = [block.q_norm.weight.detach().float() * head**-0.5, block.k_norm.weight.detach().float()]
        # No score is larger than the product of a query's and a key's length, which their norms bound.
        largest = float(head * gains[0].abs().max() * gains[1].abs().max())
        self.bounded = not pack and qkv.device.type == "cpu" and largest < LARGEST_SCORE
        if self.bounded:
            gains[0] = gains[0] / math.log(2)
        gains = [g[pairs].expand(block.heads, head) for g in gains]
        self.register_buffer("gains", torch.cat(gains).contiguous())

    def forward(self, x: Tensor, vectors: Vectors, turn: Tensor, kv: KeysValues, m: int, bias: Tensor | None) -> Tensor:
        """`x (b, n, width)` to the same shape; its keys and values are left in `kv` behind the first m."""
        shift, scale, gate, *mlp = vectors
        y = F.layer_norm(x, x.shape[-1:], scale, shift)
        qkv = self.qkv(y).unflatten(-1, (3 * self.heads, -1))  # (b, n, 3h, w)
        both = self._turned(qkv[:, :, : 2 * self.heads], self.gains, turn)
        keys, values = kv
        keys[:, :, m:] = both[:, :, self.heads :].transpose(1, 2)
        values[:, :, m:] = qkv[:, :, 2 * self.heads :].transpose(1, 2)
        queries = torch.empty_like(keys[:, :, m:]).copy_(both[:, :, : self.heads].transpose(1, 2))
        if self.bounded:
            seen = attend_bounded(queries, keys, values, bias)
        else:
            fused = None if self.pack else x.device.type != "cpu"  # a compiler cannot decide by size
            seen = attend(queries, keys, values, bias, fused)
        seen = self.project(seen.transpose(1, 2).flatten(2))
        if self.parallel:
            return torch.addcmul(x, gate, seen + self.mlp(y))
        x = torch.addcmul(x, gate, seen)
        shift, scale, gate = mlp
        return torch.addcmul(x, gate, self.mlp(F.layer_norm(x, x.shape[-1:], scale, shift)))

    def keys_values(self, x: Tensor, vectors: Vectors, turn: Tensor, kv: KeysValues, m: int) -> None:
        """Only the keys and values: all that is wanted of the last block of a read."""
        shift, scale, *_ = vectors
        fused = self.kv(F.layer_norm(x, x.shape[-1:], scale, shift)).unflatten(-1, (2 * self.heads, -1))
        keys, values = kv
        keys[:, :, m:] = self._turned(fused[:, :, : self.heads], self.gains[self.heads :], turn).transpose(1, 2)
        values[:, :, m:] = fused[:, :, self.heads :].transpose(1, 2)

    @staticmethod
    def _turned(x: Tensor, gains: Tensor, turn: Tensor) -> Tensor:
        """Normalised, scaled and turned, float32; `x (b, n, heads, w)`."""
        x = F.rms_norm(x.float(), x.shape[-1:], eps=1e-6) * gains
        if turn.is_complex():
            return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(-2)
        (a, b), (cos, sin) = x.chunk(2, dim=-1), turn.unbind(0)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def attend(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, fused: bool | None = None) -> Tensor:
    """Attention of scaled queries `(b, h, n, w)` over keys and values `(b, h, s, w)`; `(b, h, n, w)`.

    `fused` is whether by torch's kernel; None decides by device and size.
    """
    b, h, n, w = q.shape
    s = keys.shape[2]
    if fused is None:
        fused = q.device.type != "cpu" or b * h * n * s * q.element_size() > PLAIN_BYTES
    if fused:
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=bias, scale=1.0)
    q, keys, values = (x.reshape(b * h, -1, w) for x in (q, keys, values))
    if bias is None:
        scores = torch.bmm(q, keys.transpose(1, 2))
    elif torch.compiler.is_compiling():  # which adds it on the way to the softmax
        scores = torch.bmm(q, keys.transpose(1, 2)) + bias.expand(b, h, 1, s).reshape(b * h, 1, s)
    else:
        scores = torch.baddbmm(bias.expand(b, h, 1, s).reshape(b * h, 1, s), q, keys.transpose(1, 2))
    return torch.bmm(scores.softmax(dim=-1), values).unflatten(0, (b, h))


def attend_bounded(q: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """`attend` for a compiler: scores are of base 2 and below `LARGEST_SCORE` / ln 2.

    Where none can overflow, the largest need not be looked for: of the softmax's three passes over the scores one is
    left, and the products are divided by its sum, which is shorter by the number of keys.
    """
    b, h, s = *q.shape[:2], keys.shape[2]
    q, keys, values = (x.reshape(b * h, -1, x.shape[-1]) for x in (q, keys, values))
    scores = torch.bmm(q, keys.transpose(1, 2)).float()
    if bias is not None:
        scores = scores + bias.expand(b, h, 1, s).reshape(b * h, 1, s)
    weights = torch.exp2(scores)
    seen = torch.bmm(weights.to(values.dtype), values) / weights.sum(dim=-1, keepdim=True)
    return seen.to(values.dtype).unflatten(0, (b, h))


def keep_freed() -> None:
    """Have the C library keep what is freed, up to 64 MB, for the next to ask.

    glibc gives large blocks back to the system and takes them anew, page by page, at every call: attention of 256
    queries over 2827 keys then takes 14.6 ms in place of 8.0. Where "large" begins it learns from the largest block
    (below 32 MB) that was ever freed. Elsewhere this does nothing.
    """
    torch.empty((32 << 20) - (64 << 10), dtype=torch.uint8)


class Engine:
    """A copy of a network's weights, and the two things that sampling asks of them.

    Args:
        net: the network; it is left alone and may be changed afterwards without effect here.
        dtype: what is computed in. Times, sampler and velocities stay float32.
        pack: whether weights are packed for oneDNN (`Weight`); what is to be traced or compiled wants them plain.
        paired: whether the two numbers that rotary positions turn together lie side by side, which lets a CPU multiply
            complex numbers; compilers want the two halves apart. By default on a CPU that is not to compile.
        compiled: options of `torch.compile`, for the layers; one graph serves them all. None compiles nothing.
    """

    def __init__(
        self, net: Transformer, dtype: torch.dtype = torch.float32, paired: bool | None = None,
        compiled: Mapping[str, Any] | None = None, pack: bool = True,
    ) -> None:  # fmt: skip
        pack = pack and compiled is None
        self.dtype, self.config = dtype, net.config
        on_cpu = net.frequencies.device.type == "cpu"
        if on_cpu:
            keep_freed()
        self.paired = (on_cpu and compiled is None) if paired is None else paired
        self.exported: Any = None  # see `selfflow.runtime.export`
        self.net = deepcopy(net).eval().requires_grad_(False)
        laid_out: dict[int, Layer] = {}
        self.layers: dict[str, list[Layer]] = {"text": [], "media": []}
        for block in self.net.blocks.children():
            for stream, layers in self.layers.items():
                own: Any = getattr(block, stream) if isinstance(block, DoubleBlock) else block
                if id(own) not in laid_out:
                    laid_out[id(own)] = Layer(own, dtype, self.paired, pack)
                layers.append(laid_out[id(own)])
        self.net.blocks = nn.ModuleList()  # their weights live in the layers now
        if compiled is not None:
            for layer in laid_out.values():
                layer.compile(**compiled)
        parts, copying, matching = [self.net.embed, self.net.head], self.net.copying, self.net.matching
        if self.config.mid:
            parts.append(self.net.mid_head)
        if copying is not None:
            parts.append(copying.gates)
        for each in (matching, self.net.stencils):
            parts += [] if each is None else [each.looks, each.gates]
        if self.net.stencils is not None:
            parts.append(self.net.stencils.where)
        for taking in (copying, matching):
            for name in ("query", "key") if taking is not None else ():
                setattr(taking, name, Weight.of(getattr(taking, name), dtype, pack))
        for part in parts:
            for name, module in part.items():
                part[name] = Weight.of(module, dtype, pack) if isinstance(module, nn.Linear) else module.to(dtype)

    @property
    def device(self) -> torch.device:
        return self.net.frequencies.device

    @property
    def alike(self) -> bool:
        """Whether a product gives each row the same bits whatever the number of rows.

        Those of oneDNN in bf16 do (tested); kernels for float32 and on GPUs are chosen by that number, too.
        """
        return self.layers["media"][0].qkv.packed

    @property
    def like(self) -> Tensor:
        """An empty piece of memory: `(layers, 2, h, 0, head_width)`."""
        c = self.config
        return torch.empty(c.depth, 2, c.heads, 0, c.width // c.heads, dtype=self.dtype, device=self.device)

    @property
    def copies(self) -> int:
        """How many numbers a known token hands on to who copies it, its key included; 0 of a network that does not."""
        copying = self.net.copying
        return 0 if copying is None else copying.key_width + copying.values + 1

    def room_for_windows(self, b: int, p: int) -> Windows:
        """Of p tokens of b samples, none of them there yet."""
        matching = self.net.matching
        assert matching is not None
        return matching.room(b, p, self.dtype, self.device)

    # --------------------------------------------------------------------------------------------------------- inputs

    def conditioning(self, stream: str, t: float, r: float | None = None) -> tuple[list[Vectors], list[Vectors]]:
        """What time says to the blocks and to the output layers, of tokens of a stream (`"text"` or `"media"`).

        Scales and gates come with their 1 added. It depends on the time (of a flow map also on r, where it jumps to)
        and on nothing else.
        """
        net = self.net
        given = [torch.full((1,), float(x), device=self.device) for x in ((t,) if r is None else (t, r))]
        times = Times.shared(*given)
        embedded = net._embedded(times)
        kinds = {}
        for kind in (stream, "single"):
            if kind in net.modulation:
                parts = [p.flatten() for p in net.modulation[kind](embedded, times)]
                for first in range(0, len(parts), 3):  # shift, scale, gate
                    parts[first + 1], parts[first + 2] = 1 + parts[first + 1], 1 + parts[first + 2]
                kinds[kind] = tuple(p.to(self.dtype).contiguous() for p in parts)
        ends = list[Vectors]()  # the last output layer's, then that at mid depth where there is one
        for end in (net.last, net.mid_last) if self.config.mid else (net.last,):
            shift, scale = (p.flatten() for p in end(embedded, times))
            ends.append(((1 + scale).to(self.dtype), shift.to(self.dtype)))
        each = [kinds[stream if i < self.config.double else "single"] for i in range(self.config.depth)]
        return each, ends

    def turn(self, positions: Tensor) -> Tensor:
        """By what keys and queries at these places are turned: complex numbers `(b, n, 1, head_width / 2)`.

        Where pairs are apart, their real and imaginary parts, `(2, b, n, 1, head_width / 2)`.
        """
        parts = rotary.angles(positions, self.net.frequencies)
        return torch.complex(*parts) if self.paired else torch.stack(parts)

    # ---------------------------------------------------------------------------------------------------------- calls

    def read(self, tokens: Tokens, pasts: Sequence[Sequence[Piece]], vectors: list[Vectors]) -> list[Piece]:
        """Keys and values of the known tokens `(b, n, …)`, none of them padding, of each of b samples by itself.

        Where products are `alike`, not a bit of one sample depends on how many are read with it.

        Args:
            pasts: what each looks back on, all of one length; not part of the result.
            vectors: `conditioning` at time 0.
        """
        stream = "text" if tokens.modality == "text" else "media"
        space = Space.of(self, pasts, len(tokens))
        x, turn, m = self.net.enter(tokens, self.dtype), self.turn(tokens.positions), space.remembered
        if self.exported is not None:
            x = self.exported.read(stream, x, vectors, turn, space)
        else:
            *layers, last = self.layers[stream]
            for i, layer in enumerate(layers):
                x = layer(x, vectors[i], turn, space.layers[i], m, None)
            last.keys_values(x, vectors[-1], turn, space.layers[-1], m)
        copied: Sequence[Tensor | None] = [None] * tokens.batch
        windows: Sequence[Windows | None] = [None] * tokens.batch
        if self.net.copying is not None:  # its keys are of what the last block was given
            keys, values = self.net.copying.read(tokens, x, self._rotation(turn))
            copied = torch.cat([keys.float(), values], dim=-1)[:, :, 0].unbind(0)
        if self.net.matching is not None and self.net.matching.has_windows(tokens):
            keys, values = self.net.matching.read(tokens, x)
            windows = self.net.matching.windows(keys.to(self.dtype), values).unbind()
        codes: Sequence[Tensor | None] = [None] * tokens.batch
        if self.net.stencils is not None and tokens.modality == "text":
            codes = self.net.stencils.read(tokens, x)[1][:, :, 0, 0].unbind(0)
        rooms = zip(space.room.unbind(2), copied, windows, codes, strict=True)
        return [Piece(kv[..., m:, :].contiguous(), own, seen, told) for kv, own, seen, told in rooms]

    def velocity(
        self, noisy: Tokens, t: Tensor, conditioning: tuple[list[Vectors], list[Vectors]], turn: Tensor, space: Space,
        internal: float = 1.0,
    ) -> Tensor:  # fmt: skip
        """Velocity of every noisy token, `(b, n, c)` float32; `t` is `(1, 1)`, the time that `conditioning` is of.

        `internal` is how far to lead from what is said at mid depth (`Transformer.forward`); 1 is none.
        """
        vectors, ends = conditioning
        x, m, middle = self.net.enter(noisy, self.dtype), space.remembered, None
        if self.exported is not None and internal == 1:  # it says nothing at mid depth
            x = self.exported.step(x, vectors, turn, space)
        else:
            for i, layer in enumerate(self.layers["media"], start=1):
                x = layer(x, vectors[i - 1], turn, space.layers[i - 1], m, space.bias)
                middle = x if i == self.config.mid else middle
        y, found = self._end(x, ends[0]), None
        if self.net.copying is not None and space.copied is not None:
            keys, values = space.copied[:, :, None].split([self.net.copying.key_width, self.net.copying.values + 1], -1)
            found = self.net.copying.find(y, self._rotation(turn), keys, values, None)
        windows, codes = space.windows, space.codes if space.prints else None
        said, taken, _ = self.net._velocity(noisy, y, t, self.net.head, found, windows, codes)
        if internal == 1:
            return said
        assert middle is not None
        early, *_ = self.net._velocity(
            noisy, self._end(middle, ends[1]), t, self.net.mid_head, found, windows, codes, taken=taken
        )
        return flow.lead([said, early], [internal])

    @staticmethod
    def _end(x: Tensor, end: Vectors) -> Tensor:
        """Features as an output layer is given them."""
        scale, shift = end
        return F.layer_norm(x, x.shape[-1:], scale, shift)

    @staticmethod
    def _rotation(turn: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of a `turn`, `(b, n, 1, head_width / 2)` each."""
        cos, sin = (turn.real, turn.imag) if turn.is_complex() else turn.unbind(0)
        return cos, sin
