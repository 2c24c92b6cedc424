"""One transformer, two calls: `read` the known tokens into memory, then `forward` the noisy ones against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from selfflow import flow
from selfflow.nn import rotary
from selfflow.nn.copying import Copying, copying_loss
from selfflow.nn.layers import Block, Modulation, TimeEmbedding, modulate
from selfflow.nn.matching import Matching, Windows
from selfflow.nn.memory import Memory
from selfflow.nn.places import Numbers, Places
from selfflow.nn.stencils import Stencils
from selfflow.nn.taking import Taken
from selfflow.times import Times, as_times
from selfflow.tokens import Chain, Tokens, stack

# Standard deviation of data about its mean, for `flow.velocity_from_residual`: pictures in [-1, 1] and whitened latents
# lie between 0.4 and 1, and a factor of two either way changes little (it only scales what the network has to say).
DATA_STD = 0.5
# Below this time a data prediction is no longer divided by t but by this (see `flow.velocity_from_data`).
DATA_FLOOR = 0.05
RGB = 3
_GRAPHS = 32  # that `torch.compile` may make of a block before it gives up; a mixture of all tasks takes a dozen


Prediction = Literal["velocity", "data", "residual"]


@dataclass(frozen=True)
class Modality:
    """In and out of the network for one kind of token.

    Attributes:
        channels: width of a token's values; 0 for vocabulary indices.
        vocabulary: number of indices; 0 for values.
        prediction: what the output layer predicts of a generated token: its `"velocity"`, its clean `"data"`, or the
            `"residual"` that a linear guess leaves (`flow.velocity_from_residual`); each is converted to velocity
            before it leaves the network. None for tokens that are only ever known.
        frame: how many of a token's values are one frame of it, which generated tokens that predict `"data"` may copy
            (`TransformerConfig.copying`); 0 where nothing is.
        side: of a frame of a token in pixels of red, green and blue, windows of which may be matched
            (`TransformerConfig.matching`); 0 where it is no square of such.
    """

    channels: int = 0
    vocabulary: int = 0
    prediction: Prediction | None = None
    frame: int = 0
    side: int = 0

    def __post_init__(self) -> None:
        if (self.channels > 0) == (self.vocabulary > 0):
            raise ValueError(f"a modality has either channels or a vocabulary; got {self}")
        if self.prediction not in (None, *get_args(Prediction)) or (self.prediction and not self.channels):
            raise ValueError(f"prediction is one of {get_args(Prediction)} or None, and needs channels; got {self}")
        if self.side and self.frame != RGB * self.side**2:
            raise ValueError(f"a square of {self.side} pixels has {RGB * self.side**2} values; got {self}")

    @property
    def copies(self) -> bool:
        """Whether its generated tokens may copy known ones."""
        return bool(self.frame) and self.prediction == "data"


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of the network.

    Attributes:
        modalities: name → `Modality`.
        width, depth, heads: of the residual stream; number of blocks; attention heads. width / heads is at least 16
            and a multiple of 8.
        mlp_ratio: hidden width of the SwiGLU MLP over `width`.
        double: how many of the first blocks keep one set of weights for text and one for everything else
            (FLUX's "double" blocks). Because a call holds tokens of one kind, this merely selects weights.
        parallel: the blocks after those compute attention and MLP in parallel (FLUX's "single" blocks).
        mid: a second set of output layers says the velocity after this block, 1-indexed; 0 for none (internal
            guidance, Zhou et al. 2025, 2512.24176).
        target_time: the network is a flow map: told a second time r it says the mean velocity of a jump from t to r,
            `(x_t - x_r) / (t - r)`. Only generated tokens are told, so memory serves every jump.
        copying: generated tokens of pictures and clips may take over what is known (`selfflow.nn.copying`).
        matching: generated patches of pictures, of red, green and blue, may take over any window of a known one
            (`selfflow.nn.matching`).
        stencils: what stands in quotes may be printed on generated pictures of patches as matching has them
            (`selfflow.nn.stencils`).
        places: features are told where their token is, besides rotary positions (`selfflow.nn.places`).
        numbers: those of references are told which from the second on, as loudly as what they show (the same).
    """

    modalities: dict[str, Modality] = field(default_factory=dict)
    width: int = 320
    depth: int = 8
    heads: int = 5
    mlp_ratio: float = 3.0
    double: int = 0
    parallel: bool = False
    mid: int = 0
    target_time: bool = False
    copying: bool = False
    matching: bool = False
    stencils: bool = False
    places: bool = False
    numbers: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not divisible by {self.heads} heads")
        if not 0 <= self.double <= self.depth or self.depth < 1:
            raise ValueError(f"depth {self.depth} must be ≥ 1 and hold the {self.double} double blocks")
        if not 0 <= self.mid < self.depth:
            raise ValueError(f"mid {self.mid} must be a block before the last of {self.depth}, or 0 for none")
        if self.copying and (self.depth < 2 or len(self.frames) != 1):
            raise ValueError(
                f"copying needs two blocks and data predicted in frames of one size; this network has {self.depth} "
                f"blocks and frames of {sorted(self.frames) or 'none'}"
            )
        if (self.matching or self.stencils) and (self.depth < 2 or not self.side):
            raise ValueError(
                f"matching and stencils need two blocks and pictures whose data is predicted in square patches of red, "
                f"green and blue, one a token; this network has {self.depth} blocks and predicts "
                f"{sorted(self.modalities)} in frames of {sorted(self.frames) or 'none'}"
            )

    @property
    def patches(self) -> list[str]:
        """The modalities of which a token is one patch of pixels, to be copied."""
        return [name for name, m in self.modalities.items() if m.side and m.copies and m.frame == m.channels]

    @property
    def side(self) -> int:
        """Of such a patch; 0 where there are none."""
        return self.modalities[self.patches[0]].side if self.patches else 0

    @property
    def frames(self) -> set[int]:
        """The sizes of frames that may be copied."""
        return {m.frame for m in self.modalities.values() if m.copies}


class DoubleBlock(nn.Module):
    """The same block twice, with weights of their own for text and for everything else."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.text = Block(width, heads, mlp_ratio, parallel=False)
        self.media = Block(width, heads, mlp_ratio, parallel=False)

    def forward(self, stream: str, *args: object) -> tuple[Tensor, Tensor, Tensor]:
        return (self.text if stream == "text" else self.media)(*args)


class Transformer(nn.Module):
    """Velocities of noisy tokens, given memory of the known ones."""

    frequencies: Tensor
    accepts_times = True  # objectives pass `Times` (few levels, gathered) rather than a `(b, n)` tensor

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width, args = config.width, (config.width, config.heads, config.mlp_ratio)
        self.checkpointing = self.compiled = False
        self.time = TimeEmbedding(width)
        self.embed = nn.ModuleDict()
        self.head = nn.ModuleDict()
        for name, m in config.modalities.items():
            self.embed[name] = nn.Embedding(m.vocabulary, width) if m.vocabulary else nn.Linear(m.channels, width)
            if m.prediction:
                self.head[name] = nn.Linear(width, m.channels)
        self.blocks = nn.ModuleList(
            [
                DoubleBlock(*args) if i < config.double else Block(*args, parallel=config.parallel)
                for i in range(config.depth)
            ]
        )
        kinds = ["text", "media"] * (config.double > 0) + ["single"] * (config.double < config.depth)
        self.modulation = nn.ModuleDict(
            {kind: Modulation(width, 3 if kind == "single" and config.parallel else 6) for kind in kinds}
        )
        self.last = Modulation(width, 2)
        if config.mid:
            with torch.random.fork_rng(devices=[]):  # one seed gives the same network with and without it
                self.mid_last = Modulation(width, 2)
                heads = {name: nn.Linear(width, m.channels) for name, m in config.modalities.items() if m.prediction}
                self.mid_head = nn.ModuleDict(heads)
        if config.target_time:
            with torch.random.fork_rng(devices=[]):
                self.target = TimeEmbedding(width)
        self.places: Places | None = None
        if config.places:
            with torch.random.fork_rng(devices=[]):
                self.places = Places(width, config.modalities)
        self.numbers: Numbers | None = None
        if config.numbers:
            with torch.random.fork_rng(devices=[]):
                self.numbers = Numbers(width)
        self.copying: Copying | None = None
        if config.copying:
            copies = {n: m.channels for n, m in config.modalities.items() if m.copies}
            with torch.random.fork_rng(devices=[]):
                self.copying = Copying(width, width // config.heads, config.frames.pop(), copies)
        self.matching: Matching | None = None
        if config.matching:
            with torch.random.fork_rng(devices=[]):
                self.matching = Matching(width, width // config.heads, config.side, RGB, config.patches)
        self.stencils: Stencils | None = None
        if config.stencils:
            letters = config.modalities["text"].vocabulary
            with torch.random.fork_rng(devices=[]):
                self.stencils = Stencils(width, config.side, RGB, config.patches, letters)
        self.register_buffer("frequencies", rotary.frequencies(width // config.heads), persistent=False)
        if self.frequencies.device.type != "meta":
            self.init_weights()

    def init_weights(self) -> None:
        """Every block starts as the identity and the output as zero: the projections back into the stream are zero."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                back = ("project", "down", "outward")
                out = ("modulation", "last", "head", "mid_", "target.outer")
                if name.endswith(back) or name.startswith(out):
                    nn.init.zeros_(module.weight)
                else:
                    nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1.0)
        if self.places is not None:
            self.places.init_weights()
        if self.numbers is not None:
            self.numbers.init_weights()
        if self.copying is not None:
            self.copying.init_weights()
        if self.matching is not None:
            self.matching.init_weights()
        if self.stencils is not None:
            self.stencils.init_weights()

    @property
    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())

    @property
    def partial(self) -> bool:
        """Whether some task leaves parameters without a gradient: its samples lack a modality, have nothing to copy, it
        jumps nowhere, or the last block reads text only as far as its keys and values."""
        c = self.config
        takes = c.copying or c.matching or c.stencils
        return len(c.modalities) > 2 or takes or c.target_time or c.double == c.depth

    def compile_blocks(self, **options: Any) -> None:
        """`torch.compile` each block in place, with its options: one graph serves them all, so it stays short. Two for
        what is read and what is generated, two more where no gradient is taken, and a few for what is rare (a single
        token): lengths and batches are symbols, and there is always a mask."""
        self.compiled = True
        limit = torch._dynamo.config.recompile_limit
        torch._dynamo.config.recompile_limit = max(limit, _GRAPHS)
        for block in self.blocks:
            block.compile(**options)

    # ------------------------------------------------------------------------------------------------------- reading

    def read(
        self, known: Sequence[Tokens | Chain], past: Memory | None = None, layers: int | None = None
    ) -> Memory | None:
        """Keys and values of known tokens (t = 0): text of text, each reference of itself, a frame of its past.

        Each element of `known` attends to itself and to `past` only, never to its neighbours in the list, so a
        reference reads the same in any company; those of one shape are read in one pass. The links of a `Chain` also
        attend to the links before them.

        Args:
            known: groups of tokens; an empty sequence gives None.
            past: what these tokens may look back on (the earlier frames of a rollout). Not part of the result:
                append with `past + new`.
            layers: read only this many layers (a teacher needs no more).
        """
        memory: Memory | None = None
        for group in known if past is not None else _together(known):
            seen = past
            for tokens in group.links if isinstance(group, Chain) else (group,):
                several = tokens if isinstance(tokens, list) else [tokens]
                tokens = several[0] if len(several) == 1 else stack(several)
                times = Times.shared(torch.zeros(tokens.batch, device=tokens.data.device))
                rotation = rotary.angles(tokens.positions, self.frequencies)
                embedded = self.time(times.levels)
                passed = self._layers(tokens, times, embedded, rotation, seen, layers, read_only=True)
                features, keys, values = zip(*passed, strict=True)
                if len(keys) == len(self.blocks):
                    last = features[-1]  # what the last block was given
                    more = [] if self.copying is None else [self.copying.read(tokens, last, rotation)]
                    more += [] if self.stencils is None else [self.stencils.read(tokens, last)]
                    more += [] if self.matching is None else [self.matching.read(tokens, last)]
                    keys, values = (*keys, *(key for key, _ in more)), (*values, *(value for _, value in more))
                new = Memory(keys, values, tokens.mask).side_by_side(len(several))
                memory = new if memory is None else memory + new
                seen = new if seen is None else seen + new
        return memory

    # ----------------------------------------------------------------------------------------------------- generating

    def forward(
        self,
        noisy: Tokens,
        t: Tensor | Times,
        memory: Memory | Sequence[Tokens | Chain] | None = None,
        taps: Sequence[int] = (),
        stop: bool = False,
        mid: bool = False,
        internal_guidance: float = 1.0,
        clean: Tensor | None = None,
    ) -> tuple[Tensor | None, list[Tensor]]:
        """Velocity of every noisy token, and the features asked for.

        Args:
            noisy: `x_t`, `(b, n, c)` values, of one modality or of several joined.
            t: `(b,)`, `(b, n)` or `Times`; 0 is clean, 1 is noise. Of a flow map, `Times` with targets ask for the mean
                velocity of the jump to them.
            memory: from `read`, or the known tokens themselves, which are then read here. Those of b / k samples serve
                b noisy ones, k in a row each: several draws of noise for one reading (`Practice.draws`).
            taps: 1-indexed blocks whose output `(b, n, width)` is returned, in the order asked for.
            stop: end after the last tapped block; the velocity is then None. Exact, and a teacher's whole cost.
            mid: return the velocity said at mid depth too, `(b, n, c)`, after the features.
            internal_guidance: w, how far to lead from the velocity said at mid depth to that of the last block,
                `mid + w · (last - mid)`; 1 is none. Costs one output layer, no second pass.
            clean: the clean data, `(b, n, c)`: also return, last of all, how wrong the odds of copying are, `(b, n)`
                (`selfflow.nn.copying.copying_loss`).

        Returns:
            `(velocity (b, n, c) float32 or None, [features])`; the velocity of channels that a joined modality does
            not have is 0.

        Raises:
            ValueError: for times of another batch or length, taps beyond the blocks, tokens that are only ever known,
                memory of another batch, targets given to a network that is no flow map, and for what is asked of mid
                depth of a network without output layers there.
        """
        depth, two = len(self.blocks), mid or internal_guidance != 1
        if two and (stop or not self.config.mid):
            raise ValueError("this network says no velocity at mid depth: it needs a config with mid > 0, and no stop")
        if any(not 1 <= tap <= depth for tap in taps) or (stop and not taps):
            raise ValueError(f"taps are {tuple(taps)}; they must be blocks from 1 to {depth}, at least one with stop")
        if not stop and (only_known := [s.modality for s in noisy.spans if s.modality not in self.head]):
            raise ValueError(f"{only_known[0]!r} is only ever known; this network generates {sorted(self.head)}")
        layers = max(taps) if stop else depth
        times = as_times(t)
        b, n = noisy.batch, len(noisy)
        given = (times.levels[:, 0] if times.which is None else times.which).shape
        if times.levels.shape[0] != b or (times.which is not None and given != (b, n)):
            raise ValueError(
                f"times of shape {tuple(given)} were given for {b} samples of {n} tokens; give one per sample (b,) or "
                "one per token (b, n)"
            )
        if not isinstance(memory, Memory | None):
            # Of the class: FSDP2 wraps the instance's own, which gathers weights and lets go of them when it returns.
            memory = Transformer.read(self, memory, layers=layers)
            if memory is not None and b % memory.batch == 0:
                memory = memory.repeat(b // memory.batch)
        if memory is not None and memory.batch != b:
            raise ValueError(f"memory of {memory.batch} samples was given for {b} noisy ones")
        embedded, rotation = self._embedded(times), rotary.angles(noisy.positions, self.frequencies)
        features: dict[int, Tensor] = {}
        for i, (x, _, _) in enumerate(self._layers(noisy, times, embedded, rotation, memory, layers), start=1):
            if i in taps or (two and i == self.config.mid):
                features[i] = x
        tapped = [features[tap] for tap in taps]
        if stop:
            return None, tapped
        y, found, windows, letters = modulate(x, *self.last(embedded, times)), None, None, None
        if self.copying is not None and memory is not None:
            found = self.copying.find(y, rotation, memory.keys[depth], memory.values[depth], memory.mask)
        if (
            self.matching is not None and memory is not None and memory.keys[-1].shape[1]
            and any(span.modality in self.matching.gates for span in noisy.spans)
        ):  # fmt: skip
            windows = self.matching.windows(memory.keys[-1], memory.values[-1])
        if self.stencils is not None and memory is not None:
            letters = memory.values[depth + (self.copying is not None)][:, :, 0, 0]
        velocity, taken, wrong = self._velocity(noisy, y, times.per_token, self.head, found, windows, letters, clean)
        if two:
            x = modulate(features[self.config.mid], *self.mid_last(embedded, times))
            early, *_ = self._velocity(noisy, x, times.per_token, self.mid_head, found, windows, letters, taken=taken)
            velocity = velocity if internal_guidance == 1 else flow.lead([velocity, early], [internal_guidance])
            tapped += [early] * mid
        return velocity, tapped if wrong is None else [*tapped, wrong]

    def enter(self, tokens: Tokens, dtype: torch.dtype | None = None) -> Tensor:
        """What the first block is given of some tokens, `(b, n, width)`.

        Args:
            dtype: of the layers, the values they are given and the result; by default values are given as they are, and
                the result is float32.

        Raises:
            ValueError: for a modality that the network does not know.
        """
        if unknown := [s.modality for s in tokens.spans if s.modality not in self.embed]:
            raise ValueError(f"unknown modality {unknown[0]!r}; this network knows {sorted(self.embed)}")
        parts = []
        for part in tokens.split():
            values = dtype is not None and part.data.is_floating_point()
            x = self.embed[part.modality](part.data.to(dtype) if values else part.data)
            if self.places is not None:
                x = x + self.places(part.modality, part.positions).to(x.dtype)
            if self.numbers is not None and self.config.modalities[part.modality].prediction:  # words have places
                x = x + self.numbers(part.positions).to(x.dtype)
            parts.append(x)
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).to(dtype or torch.float32)

    def _embedded(self, times: Times) -> Tensor:
        """`(b, k, width)` of each level, and of the jump that starts from it."""
        embedded = self.time(times.levels)
        if times.targets is None:
            return embedded
        if not self.config.target_time:
            raise ValueError("this network is no flow map and cannot be told where to jump: train one by distillation")
        # Times the interval: a jump of no length adds nothing, so that r = t is the velocity field whatever was
        # learned, and a short one adds little, as the mean velocity differs from the velocity by O(t - r).
        interval = times.levels - times.targets
        return embedded + interval[..., None] * self.target(interval)

    def _velocity(
        self, noisy: Tokens, x: Tensor, t: Tensor, head: nn.ModuleDict, found: Tensor | None = None,
        windows: Windows | None = None, letters: Tensor | None = None, clean: Tensor | None = None,
        taken: Mapping[str, Taken] | None = None,
    ) -> tuple[Tensor, dict[str, Taken], Tensor | None]:  # fmt: skip
        """What the output layers `head` say of features `x (b, n, width)`, as a velocity.

        Args:
            found: what is to be copied; None copies nothing.
            windows: of known pictures, to be matched; None matches nothing.
            letters: `(b, m)`, codes of what the texts hold (`Stencils.read`); None prints nothing.
            clean: the data, to know what was rightly copied.
            taken: what was taken over and how surely, by modality, as it was returned for the last block. At mid depth
                as much is, and nothing is learned of it: what is led from there is what the network draws itself.

        Returns:
            the velocity, what was taken over, and `(b, n)` how wrong the odds of copying are (`copying_loss`), None
            without `clean`.
        """
        out, wrong, used, start = list[Tensor](), list[Tensor](), dict[str, Taken](), 0
        for part in noisy.split():
            cut, name = slice(start, start := start + len(part)), part.modality
            y, x_t, t_part = x[:, cut], part.data, t if t.shape[1] == 1 else t[:, cut]
            said = head[name](y).float()
            if clean is not None:
                wrong.append(said.new_zeros(said.shape[:2]))
            matched, printed, copied = (None, None, None) if taken is None else taken[name].detached()
            if self.matching is not None and name in self.matching.gates and windows is not None:
                matched = matched or self.matching.take(name, y, said, x_t, t_part, windows)
                said = self.matching.mix(said, *matched)
            if self.copying is not None and name in self.copying.gates and found is not None:
                own = found[:, cut]
                copied = copied or (own, self.copying.odds(name, y, said, own, x_t, t_part))
                if clean is not None:
                    wrong[-1] = copying_loss(copied[1], own, clean[:, cut, : said.shape[-1]])
                said = self.copying.mix(said, *copied)
            if self.stencils is not None and name in self.stencils.gates and letters is not None and part.grid:
                if taken is None:
                    true = None if clean is None else clean[:, cut]
                    laid = self.stencils.take(name, y, said, x_t, t_part, letters, part.grid, true)
                    printed, missed = laid or (None, None)
                    wrong[-1:] = wrong[-1:] if missed is None else [wrong[-1] + missed]
                said = said if printed is None else self.stencils.mix(said, *printed)
            used[name] = Taken(matched, printed, copied)
            match self.config.modalities[name].prediction:
                case "data":
                    said = flow.velocity_from_data(x_t.float(), said, t_part, DATA_FLOOR)
                case "residual":
                    said = flow.velocity_from_residual(x_t.float(), said, t_part, DATA_STD)
            out.append(F.pad(said, (0, noisy.data.shape[-1] - said.shape[-1])) if noisy.joined else said)
        return torch.cat(out, dim=1), used, torch.cat(wrong, dim=1) if wrong else None

    def _layers(
        self,
        tokens: Tokens,
        times: Times,
        embedded: Tensor,
        rotation: tuple[Tensor, Tensor],
        memory: Memory | None,
        layers: int | None,
        read_only: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Run the blocks one by one over one group of tokens: after each, `(x, keys, values)`.

        With `read_only` nobody wants x of the last of them: its keys and values are all that is computed there.
        """
        x = self.enter(tokens)
        stream = "text" if tokens.modality == "text" else "media"
        mask = None
        if self.compiled or tokens.mask is not None or (memory is not None and memory.mask is not None):
            own = tokens.full_mask
            # A sample without a third reference has one of padding only: that reads itself, unseen by the others.
            own = own | ~own.any(dim=1, keepdim=True)
            seen = own if memory is None else torch.cat([memory.full_mask, own], dim=1)
            mask = seen[:, None, None]
        modulation = {kind: m(embedded, times) for kind, m in self.modulation.items() if kind in (stream, "single")}
        blocks = self.blocks[:layers]
        for i, block in enumerate(blocks):
            past = None if memory is None else (memory.keys[i], memory.values[i])
            double = i < self.config.double
            args = (x, modulation[stream if double else "single"], rotation, past, mask)
            if self.compiled:
                _as_symbols(*args)
            run, ends = partial(block, stream) if double else block, read_only and i + 1 == len(blocks)
            if self.checkpointing and torch.is_grad_enabled():
                x, k, v = checkpoint(run, *args, ends, use_reentrant=False)
            else:
                x, k, v = run(*args, ends)
            yield x, k, v


def _together(known: Sequence[Tokens | Chain]) -> list[Any]:
    """Groups in their order, neighbours of one modality and shape as a list: what may be read in one pass."""
    runs: list[Any] = []
    for group in known:
        last = runs[-1][0] if runs and isinstance(runs[-1], list) else None
        if isinstance(group, Chain):
            runs.append(group)
        elif last is not None and (last.modality, last.data.shape) == (group.modality, group.data.shape):
            runs[-1].append(group)
        else:
            runs.append([group])
    return runs


def _as_symbols(
    x: Tensor,
    modulation: Sequence[Tensor],
    rotation: tuple[Tensor, Tensor],
    past: tuple[Tensor, Tensor] | None,
    mask: Tensor | None,
) -> None:
    """Tell `torch.compile` that batch and length of a block's arguments vary (those that are 1 stay so)."""
    for axis, tensors in ((1, (x, *modulation, *rotation, *(past or ()))), (3, () if mask is None else (mask,))):
        for tensor in tensors:
            for varies in (0, axis):
                if tensor.shape[varies] > 1:
                    torch._dynamo.maybe_mark_dynamic(tensor, varies)
