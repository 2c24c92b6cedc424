"""Training steps: Self-Flow against flow matching, gathered against per-token levels, ours against a package's."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from peer import PeerMissing, peer_step
from selfflow.times import Draws
from selfflow.train.engine import Engine, Precision
from subjects import CONFIG, PATCHES, SEED, TEXT_TOKENS, TrainingStep, pictures, text_tokens, training_step
from timing import Row, compared, interleaved


def flops(step: TrainingStep) -> int:
    """Floating-point operations of the matrix products in forward and backward of one step."""
    # The counter does not know the CPU's fused attention: written out, attention is matrix products and is counted.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, step.engine.autocast():
        step.loss(0).backward()
    step.optimizer.zero_grad(set_to_none=True)
    return counter.get_total_flops()


def self_flow_cost(engine: Engine, batches: list[int], rounds: int) -> list[Row]:
    """What the second time, the head and the teacher cost over flow matching; and what arithmetic alone would."""
    rows = []
    for batch in batches:
        steps = {kind: training_step(kind, batch, engine) for kind in ("flow_matching", "self_flow")}
        ratio, details = compared(interleaved(steps, rounds), "self_flow", "flow_matching")
        floor = flops(steps["self_flow"]) / flops(steps["flow_matching"])
        rows.append(
            Row(
                f"Self-Flow step / flow-matching step, batch {batch}", ratio, target="≤ 1.35",
                note=f"counted arithmetic: {floor:.2f}", details={**details, "batch": batch, "flops_ratio": floor},
            )
        )  # fmt: skip
    return rows


def per_token_cost(engine: Engine, batch: int, rounds: int) -> list[Row]:
    """Two levels gathered, against the same levels given as `(b, n)`: every token's modulation computed for itself."""
    gathered, naive = (training_step("self_flow", batch, engine) for _ in range(2))
    naive.module.net.accepts_times = False  # the objective then hands the student `(b, n)` times, nothing else changes
    ratio, details = compared(interleaved({"naive": naive, "gathered": gathered}, rounds), "naive", "gathered")
    rows = [Row("per-token levels / two levels, training step", ratio, details={**details, "batch": batch})]

    owner = gathered.module
    data, known = PATCHES.tokens(pictures(batch)), [text_tokens(batch)]
    times = owner.times(batch, len(data), Draws.at(SEED, 0))

    def forward(t: object) -> None:
        with torch.inference_mode(), engine.autocast():
            owner.net(data, t, known)

    actions = {"naive": lambda: forward(times.per_token), "gathered": lambda: forward(times)}
    ratio, details = compared(interleaved(actions, 2 * rounds), "naive", "gathered")
    return [*rows, Row("per-token levels / two levels, forward", ratio, details={**details, "batch": batch})]


def against_peer(batch: int, rounds: int, precisions: tuple[Precision, ...]) -> list[Row]:
    """A Self-Flow step of `rectified-flow-pytorch` over ours, neither with text (see `peer`), at equal precision.

    With both precisions there is one more row: theirs in fp32 over ours in bf16, which is what each does unasked on a
    CPU with bf16 products. It compares two products as they come, not two implementations, and so has no target.
    """
    what = "rectified-flow-pytorch / ours, Self-Flow step"
    ours, theirs = {}, {}
    for precision in precisions:
        engine = Engine("cpu", precision)
        ours[precision] = training_step("self_flow", batch, engine, text=False)
        try:
            theirs[precision], parameters = peer_step(batch, engine)
        except PeerMissing as error:
            return [Row(what, None, target="≥ 2.5", note=str(error))]
    actions = {f"theirs {p}": step for p, step in theirs.items()} | {f"ours {p}": step for p, step in ours.items()}
    seconds = interleaved(actions, rounds)
    work = flops(theirs[precision]) / flops(ours[precision])
    sizes = {"theirs": parameters, "ours": ours[precision].module.net.parameter_count}
    rows = []
    for p in precisions:
        ratio, details = compared(seconds, f"theirs {p}", f"ours {p}")
        details |= {"batch": batch, "parameters": sizes, "flops_ratio": work}
        rows.append(Row(f"{what}, {p}", ratio, target="≥ 2.5", note=f"counted arithmetic: {work:.2f}", details=details))
    if {"fp32", "bf16"} <= set(precisions):
        ratio, details = compared(seconds, "theirs fp32", "ours bf16")
        rows.append(Row(f"{what}, theirs fp32, ours bf16", ratio, note="each as it comes", details=details))
    return rows


def growth(engine: Engine, sides: list[int], tokens: int, rounds: int) -> list[Row]:
    """Cost per token as a sample has more of them, the batch shrinking so that their total stays the same."""
    patch = CONFIG.picture.patch
    steps = {
        str(side * side): training_step("self_flow", tokens // (side * side), engine, side=side * patch)
        for side in sides
    }
    seconds = interleaved(steps, rounds)
    first = next(iter(steps))
    rows = []
    for n in list(steps)[1:]:
        ratio, details = compared(seconds, n, first)
        text = TEXT_TOKENS * tokens
        details["text_tokens"] = {k: text // int(k) for k in (first, n)}
        rows.append(Row(f"Self-Flow step per picture token, {n} tokens / {first} tokens", ratio, details=details))
    return rows
