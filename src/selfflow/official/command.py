"""The two commands around the published checkpoint: import it, sample from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro

from selfflow.official.checkpoint import import_official, load_official
from selfflow.official.pictures import PUBLISHED_VAE, decode, load_vae
from selfflow.official.sampler import Sampling, sample_latents
from selfflow.official.shards import Shards


def import_official_command(checkpoint: tyro.conf.Positional[Path], directory: tyro.conf.Positional[Path]) -> Path:
    """Convert the published ImageNet checkpoint to a directory that `sample-official` reads.

    Args:
        checkpoint: the published file, selfflow_imagenet256.pt.
        directory: where to write; absent or empty.
    """
    import_official(checkpoint, directory)
    print(f"{directory}: imported and checked. Its licence is that of the original release: read it there.")
    return directory


def sample_official_command(
    model: Path,
    out: Path,
    classes: list[int] | None = None,
    n: int = 16,
    steps: int = 250,
    sampler: Literal["sde", "ode"] = "sde",
    guidance: float = 1.0,
    guidance_low: float = 0.0,
    guidance_high: float = 0.7,
    seed: int = 31,
    vae: str | None = PUBLISHED_VAE,
    batch: int = 16,
    device: str = "auto",
    shift: float = 1.0,
    order: Literal[1, 2] = 1,
) -> Path:
    """Sample pictures of ImageNet classes into one `.npz` for the ADM evaluator. An interrupted run resumes.

    Args:
        model: directory made by `import-official`.
        out: directory for the shards and the merged samples.npz (arr_0 pictures uint8 (n, H, W, 3), arr_1 classes).
        classes: class numbers, taken in turn; every class equally often when absent.
        n: how many samples.
        steps: sampling steps.
        sampler: the published SDE sampler, or the ODE.
        guidance: scale of classifier-free guidance; 1 is none.
        guidance_low: guidance starts to act at this time (1 is noise, 0 is data) ...
        guidance_high: ... and acts up to this one.
        seed: of all noise; a sample does not depend on the batch it is drawn in.
        vae: autoencoder, a directory or a hub id; without one, latents.npz is written instead of pictures.
        batch: samples at a time.
        device: cpu, cuda, or auto. The network runs in bfloat16 on cuda, as published, and in float32 elsewhere.
        shift: time shift of the ODE; more than 1 spends more steps near noise.
        order: of the ODE: 1 is Euler, 2 is Heun, with twice the evaluations.
    """
    from tqdm import tqdm

    from selfflow.pipeline import checked_device

    method = {1: "euler", 2: "heun"}.get(order, f"ode of order {order}") if sampler == "ode" else sampler
    settings = Sampling(method, steps, guidance, guidance_low, guidance_high, shift, seed=seed)  # type: ignore[arg-type]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    checked_device(device)
    network = load_official(model, device)
    autoencoder = load_vae(vae, device) if vae is not None else None
    labels = balanced_labels(n, range(network.config.classes) if classes is None else classes)
    half = torch.device(device).type == "cuda"
    request = dataclasses.asdict(settings) | {"model": str(model), "vae": vae, "classes": classes, "bfloat16": half}
    shards = Shards(out, n, request)
    for numbers in tqdm(list(shards.missing(batch)), desc=f"batches of {n} samples", disable=None):
        some = labels[numbers.start : numbers.stop]
        latents = sample_latents(network, torch.from_numpy(some), settings, first=numbers.start, bfloat16=half)
        samples = latents.cpu().numpy() if autoencoder is None else decode(autoencoder, latents)
        shards.write(numbers, samples, some)
    return shards.merge("latents.npz" if autoencoder is None else "samples.npz")


def balanced_labels(n: int, classes: Sequence[int]) -> np.ndarray:
    """`n` labels, int64, that use each class ⌊n / classes⌋ times, and what remains spread evenly over them."""
    if not len(classes):
        raise ValueError("no classes given; leave them out to sample every class equally often")
    rounds, rest = divmod(n, len(classes))
    places = [*range(len(classes))] * rounds + [i * len(classes) // rest for i in range(rest)]
    return np.array(classes, dtype=np.int64)[places]
