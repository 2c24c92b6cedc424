"""An oracle for the published network, written from its description, in its own conventions, without our modules.

Plain tensor arithmetic on the state dict: clock `u = 1 - t`, latents `(b, c, h, w)`, tokens in its channel orders,
output `data - noise`. Agreement with `SiT` on weights without zeros therefore checks the layout, the conventions and
the network at once. The published weights themselves are not available to the tests.
"""

import math

import torch
from torch import Tensor

from selfflow.official import SiT, SiTConfig

SMALL = SiTConfig(depth=3, width=48, heads=4, classes=10, grid=4, frequencies=32)


def random_weights(config: SiTConfig, dtype: torch.dtype = torch.float32, seed: int = 0) -> dict[str, Tensor]:
    """Every tensor random, gates too: a zero gate would hide whatever it multiplies."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in SiT(config).state_dict().items()}
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        scale = 0.2 if len(shape) < 2 or "table" in name or "pos" in name else shape[-1] ** -0.5
        weights[name] = (torch.randn(shape, generator=generator) * scale).to(dtype)
    return weights


def network(config: SiTConfig = SMALL, dtype: torch.dtype = torch.float32) -> tuple[SiT, dict[str, Tensor]]:
    weights = random_weights(config, dtype)
    with torch.device("meta"):
        model = SiT(config)
    model.load_state_dict(weights, assign=True)
    return model.eval(), weights


def inputs(config: SiTConfig, b: int = 3, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(b, config.channels, config.side, config.side, generator=generator).to(dtype)
    t = torch.rand(b, config.tokens, generator=generator).to(dtype)
    return latent, t, torch.randint(0, config.classes + 1, (b,), generator=generator)


def tokens_of(config: SiTConfig, latent: Tensor) -> Tensor:
    return config.patches.tokens(latent).data


def latent_of(config: SiTConfig, tokens: Tensor) -> Tensor:
    return config.patches.pictures(tokens, config.side, config.side)


def oracle_linear(w: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def oracle_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def oracle_silu(x: Tensor) -> Tensor:
    return x / (1 + (-x).exp())


def oracle_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def oracle_attention(w: dict[str, Tensor], name: str, x: Tensor, heads: int) -> Tensor:
    b, n, d = x.shape
    q, k, v = oracle_linear(w, f"{name}.qkv", x).reshape(b, n, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(d // heads), dim=-1)
    return oracle_linear(w, f"{name}.proj", (weights @ v).transpose(1, 2).reshape(b, n, d))


def oracle(
    w: dict[str, Tensor], config: SiTConfig, latent: Tensor, u: Tensor, labels: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """`data - noise`, `(b, c, h, w)`, and the output of every block; `u (b, n)` is 0 on noise and 1 on data."""
    b, c, p, g = len(latent), config.channels, config.patch, config.grid
    # (b, c, h, p1, w, p2) -> (b, h, w, c, p1, p2)
    tokens = latent.reshape(b, c, g, p, g, p).permute(0, 2, 4, 1, 3, 5).reshape(b, g * g, c * p * p)
    x = oracle_linear(w, "x_embedder.proj", tokens) + w["pos_embed"]

    half = config.frequencies // 2
    angles = torch.stack([u * 10_000 ** (-i / half) for i in range(half)], dim=-1)
    times = oracle_linear(w, "t_embedder.mlp.0", torch.cat([angles.cos(), angles.sin()], dim=-1))
    condition = oracle_linear(w, "t_embedder.mlp.2", oracle_silu(times))
    condition = oracle_silu(condition + w["y_embedder.embedding_table.weight"][labels][:, None])

    outputs = []
    for i in range(config.depth):
        name = f"blocks.{i}"
        shift, scale, gate, shift2, scale2, gate2 = oracle_linear(w, f"{name}.adaLN_modulation.1", condition).chunk(
            6, -1
        )
        x = x + gate * oracle_attention(w, f"{name}.attn", oracle_norm(x) * (1 + scale) + shift, config.heads)
        hidden = oracle_gelu(oracle_linear(w, f"{name}.mlp.fc1", oracle_norm(x) * (1 + scale2) + shift2))
        x = x + gate2 * oracle_linear(w, f"{name}.mlp.fc2", hidden)
        outputs.append(x)

    shift, scale = oracle_linear(w, "final_layer.adaLN_modulation.1", condition).chunk(2, -1)
    emitted = oracle_linear(w, "final_layer.linear", oracle_norm(x) * (1 + scale) + shift)
    # (b, h, w, p, q, 2c) -> (b, 2c, h, p, w, q); the upper half of the channels is dropped
    picture = emitted.reshape(b, g, g, p, p, 2 * c).permute(0, 5, 1, 3, 2, 4).reshape(b, 2 * c, g * p, g * p)
    return picture[:, :c], outputs


def published_loop(
    w: dict[str, Tensor], config: SiTConfig, noises: list[Tensor], labels: Tensor, scale: float, low: float, high: float
) -> Tensor:
    """The published sampler in its own clock on the oracle, `(b, c, h, w)`; `noises[0]` is the start."""

    def ahead(x: Tensor, u: float) -> Tensor:
        us = torch.full((len(x), config.tokens), u)
        conditional = oracle(w, config, x, us, labels)[0]
        if scale == 1 or not low <= 1 - u <= high:
            return conditional
        unconditional = oracle(w, config, x, us, torch.full_like(labels, config.classes))[0]
        return unconditional + scale * (conditional - unconditional)

    x, steps = noises[0], len(noises)
    du = 0.96 / (steps - 1)
    for i in range(steps - 1):
        u = i * du
        t = 1 - u
        v = ahead(x, u)
        score = (u * v - x) / t
        x = x + (v + t * score) * du + math.sqrt(2 * t * du) * noises[i + 1]
    v = ahead(x, 0.96)
    return x + (v + 0.04 * (0.96 * v - x) / 0.04) * 0.04


def published_moments(steps: int, mean: float, deviation: float) -> tuple[float, float]:
    """Mean and variance the published steps lead to from N(0, 1): each step is affine in x."""
    m, variance, du = 0.0, 1.0, 0.96 / (steps - 1)
    for i in range(steps):
        u = i * du
        t, step = 1 - u, du if i < steps - 1 else 0.04
        gain = -(t - u * deviation**2) / (u**2 * deviation**2 + t**2)  # of w = data - noise
        offset = mean - gain * u * mean
        slope, shift = gain + u * gain - 1, offset + u * offset  # of w + t · score = w + u·w - x
        m, variance = m + step * (slope * m + shift), variance * (1 + step * slope) ** 2
        variance += 2 * t * du if i < steps - 1 else 0
    return m, variance
