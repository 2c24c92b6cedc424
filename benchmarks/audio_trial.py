"""What a network learns to say: a small flow learns spoken digits in lapped transforms or in mel spectrograms.

    python benchmarks/audio_trial.py [--steps 2000] [--seeds 3] [--json FILE]

The same network, batches, noise and steps of both, over several seeds, and the transform again with twice the steps,
which is more than the time of the other. A classifier that was trained on recordings listens to 200 digits of each. The
floor is chance, the ceiling real recordings of the test split and the same through the tokens and back. Needs the pack
fsdd8k.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selfflow import flow, sample
from selfflow.codecs import load_codec
from selfflow.data import packs
from selfflow.modalities.audio import Audio, normalise, resample
from selfflow.modalities.audio_latents import AudioLatents
from selfflow.nn import Modality, Transformer, TransformerConfig
from selfflow.times import schedule
from selfflow.tokens import Tokens
from selfflow.train.checkpoint import write_json
from selfflow.train.optimizer import Optim, build_optimizers, set_rate

RATE, SAMPLES = 16_000, 7_680  # 0.48 s, 24 tokens


class Digits:
    """The pack fsdd8k: `waves` at 8 kHz as recorded, and cut to one length at 16 kHz, `train` and `test`."""

    def __init__(self) -> None:
        z = packs.read_npz(packs.find("fsdd8k") / "fsdd8k.npz")
        samples = torch.from_numpy(z["audio"].astype(np.float32) / 32768)
        self.waves = [samples[a:b] for a, b in pairwise(z["offsets"])]
        clips = [resample(normalise(w), 8_000, RATE)[:SAMPLES] for w in self.waves]
        whole = torch.stack([F.pad(w, (0, SAMPLES - len(w))) for w in clips])
        test, labels = torch.from_numpy(z["test"]).bool(), torch.from_numpy(z["label"]).long()
        self.train, self.test = (whole[~test], labels[~test]), (whole[test], labels[test])


def heard(waves: Tensor) -> Tensor:
    """Log energies `(b, 40, frames)` in bands as wide as hearing's, below 4 kHz."""
    s = torch.stft(waves, 512, 160, window=torch.hann_window(512), return_complex=True).abs().square()
    hertz = torch.arange(257) * RATE / 512
    mel = 2595 * torch.log10(1 + hertz / 700)
    centres = torch.linspace(50, 2140, 40)[:, None]
    return torch.log((1 - (mel - centres).abs() / 53.6).clamp_min(0) @ s + 1e-3)


class Listener(nn.Module):
    """A small convolutional classifier; `features` are what its last layer sees."""

    def __init__(self) -> None:
        super().__init__()
        widths = (40, 64, 64, 64)
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 5, 2, 2) for a, b in pairwise(widths))
        self.leave = nn.Linear(128, 10)

    def features(self, x: Tensor) -> Tensor:
        x = x / 3
        for layer in self.layers:
            x = F.relu(layer(x))
        return torch.cat([x.mean(2), x.amax(2)], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.features(x))


def listener(digits: Digits, epochs: int = 12) -> Listener:
    """A classifier trained on the train split."""
    torch.manual_seed(0)
    judge, (waves, labels) = Listener(), digits.train
    x = heard(waves)
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.05)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            shifted = torch.roll(x[rows], int(torch.randint(-6, 7, ())), 2) + 0.3 * torch.randn(len(rows), 40, 1)
            F.cross_entropy(judge(shifted), labels[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
    return judge.eval().requires_grad_(False)


def accuracy(judge: Listener, waves: Tensor, labels: Tensor) -> float:
    return float((judge(heard(waves)).argmax(1) == labels).float().mean())


def frechet(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of Gaussians fitted to features `(n, f)`."""
    a, b = a.double(), b.double()
    ca, cb = torch.cov(a.T), torch.cov(b.T)
    roots = torch.linalg.eigvals(ca @ cb).real.clamp_min(0).sqrt().sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + ca.trace() + cb.trace() - 2 * roots)


def trial(
    audio: Audio | AudioLatents, digits: Digits, judge: Listener, steps: int, seed: int = 0, batch: int = 16
) -> dict[str, float]:
    """Train a label-conditional flow of 0.6M parameters in the tokens of `audio`, generate 200 digits, and listen.

    Returns the classifier's accuracy on them, the Fréchet distance to test clips in its features, the explained
    variance of held-out tokens at t = 0.5, and the seconds of training.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    modalities = {"label": Modality(vocabulary=10), "audio": audio.modality}
    net = Transformer(TransformerConfig(modalities, width=96, depth=3, heads=3))
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    optim = Optim(kind="muon", learning_rate=2e-3, warmup=20, cooldown=0.4)
    optimizers = build_optimizers(net, optim)

    def label(rows: Tensor) -> Tokens:
        return Tokens(rows[:, None], torch.zeros(len(rows), 1, 4), "label")

    waves, labels = digits.train
    began = time.perf_counter()
    for step in range(steps):
        rows = torch.randint(0, len(waves), (batch,), generator=generator)
        tokens = audio.tokens(waves[rows])
        t = torch.rand(batch, generator=generator)
        noise = torch.randn(tokens.data.shape, generator=generator)
        velocity, _ = net(tokens.with_data(flow.interpolate(tokens.data, noise, t)), t, [label(labels[rows])])
        (velocity - flow.velocity(tokens.data, noise)).square().mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), optim.clip)
        set_rate(optimizers, optim, optim.rate(step, steps))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        average.update_parameters(net)
    seconds = time.perf_counter() - began

    with torch.no_grad():
        trained = average.module.eval()
        test, truth = digits.test
        tokens = audio.tokens(test)
        noise, half = torch.randn(tokens.data.shape, generator=generator), torch.full((len(test),), 0.5)
        x = flow.interpolate(tokens.data, noise, half)
        guess = flow.data_from_velocity(x, trained(tokens.with_data(x), half, [label(truth)])[0], half)
        explained = 1 - (guess - tokens.data).square().mean() / tokens.data.var()

        asked = torch.arange(10).repeat(20)
        places = audio.tokens(torch.zeros(len(asked), SAMPLES))
        memory = trained.read([label(asked)])

        def velocity_at(x: Tensor, t: Tensor) -> Tensor:
            return trained(places.with_data(x), t.expand(len(x)), memory)[0]

        start = torch.randn(places.data.shape, generator=generator)
        made = normalise(audio.waveform(sample.heun(velocity_at, start, schedule(12)), SAMPLES))
        features = [judge.features(heard(normalise(w))) for w in (made, test)]
        return {
            "accuracy": accuracy(judge, made, asked),
            "frechet": frechet(*features),
            "explained": float(explained),
            "seconds": seconds,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000, help="of training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    a = parser.parse_args()
    digits = Digits()
    judge, (test, truth) = listener(digits), digits.test
    mdct, mel = Audio(), AudioLatents(load_codec("mel"))
    arms = {"MDCT": (mdct, a.steps), "mel": (mel, a.steps), "MDCT, twice the steps": (mdct, 2 * a.steps)}
    train = judge.features(heard(normalise(digits.train[0])))
    real = {
        "accuracy": accuracy(judge, test, truth),
        "frechet of train to test": frechet(train, judge.features(heard(normalise(test)))),
    }
    for name, audio in (("MDCT", mdct), ("mel", mel)):
        back = torch.cat([audio.waveform(audio.tokens(w).data, SAMPLES) for w in test.split(50)])
        real[f"accuracy, {name} and back"] = accuracy(judge, normalise(back), truth)
    result: dict[str, Any] = {"steps": a.steps, "seeds": a.seeds, "real": real, "arms": {name: [] for name in arms}}
    print("".join(f"  {k} {v:.3f}" for k, v in real.items()), flush=True)
    for seed in range(a.seeds):
        for name, (audio, steps) in arms.items():
            result["arms"][name].append(trial(audio, digits, judge, steps, seed))
            found = result["arms"][name][-1]
            print(f"seed {seed}  {name:22}" + "".join(f"  {k} {v:.3f}" for k, v in found.items()), flush=True)
            write_json(a.json, result)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
