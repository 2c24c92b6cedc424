"""Which numbers a sound should become: raw frames, MDCT coefficients, or these companded.

    python benchmarks/audio_tokens.py [--clips 100] [--json FILE] [--figure FILE]

Every candidate is levelled to a standard deviation of 0.5 over all sounds. Then: how well its tokens come back, exactly
and with Gaussian errors of 0.05 on every value, which is what a generative model makes; how heavy their tails are; and
how few directions and values hold their energy. (What a network learns to say in them is measured by `audio_trial.py`.)
Needs the packs fsdd8k and sonicpi_cc0_16k.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio_trial import Digits
from selfflow.data import packs
from selfflow.modalities.audio import Audio, normalise, resample
from selfflow.pictures import save_png
from selfflow.tokens import Tokens
from selfflow.train.checkpoint import write_json
from selfflow.worlds.tabletop.tasks import example

STD, ERROR = 0.5, 0.05


class Frames(Audio):
    """The waveform itself, cut into hops: what the transform has to beat."""

    def tokens(self, wave: Tensor, start: float = 0.0) -> Tokens:
        tokens = super().tokens(wave, start)
        padded = torch.nn.functional.pad(wave, (0, tokens.data[0].numel() - wave.shape[1]))
        return tokens.with_data(padded.reshape(tokens.data.shape) / self.level)

    def waveform(self, data: Tensor, samples: int) -> Tensor:
        return (data * self.level).flatten(1)[:, :samples]


CANDIDATES = {
    "raw frames": Frames(power=1),
    "MDCT": Audio(power=1, slope=0),
    "MDCT, tilt": Audio(power=1, slope=1),
    "MDCT, tilt, power .7": Audio(power=0.7, slope=1),
    "MDCT, power .5": Audio(power=0.5, slope=0),
    "MDCT, half tilt, power .5": Audio(),
    "MDCT, tilt, power .5": Audio(power=0.5, slope=1),
    "MDCT, tilt, power .33": Audio(power=1 / 3, slope=1),
}


def sonicpi() -> list[Tensor]:
    """The named sounds at 16 kHz; the pack stores zigzag second differences in two byte planes."""
    z = packs.read_npz(packs.find("sonicpi_cc0_16k") / "sonicpi16k.npz")
    u = (z["hi"].astype(np.uint16) << 8) | z["lo"]
    differences = ((u >> 1) ^ (np.uint16(0) - (u & 1))).view(np.int16)
    samples = np.cumsum(np.cumsum(differences, dtype=np.int16), dtype=np.int16).astype(np.float32) / 32768
    return [torch.from_numpy(samples[a:b]) for a, b in pairwise(z["offsets"])]


def sounds(count: int, digits: Digits) -> dict[str, list[Tensor]]:
    """At most `count` clips of each kind, normalised, `(1, samples)`."""
    chosen = np.random.default_rng(0)
    found = {
        "digits, 8 kHz": digits.waves,
        "named sounds": sonicpi(),
        "tabletop": [torch.from_numpy(example("clip", seed, size=16).sound) for seed in range(count)],
    }
    some = {
        name: [normalise(waves[i][None]) for i in chosen.permutation(len(waves))[:count]]
        for name, waves in found.items()
    }
    some["digits, 16 kHz"] = [resample(w, 8_000, 16_000) for w in some["digits, 8 kHz"]]
    some["named sounds, 8 kHz"] = [resample(w, 16_000, 8_000) for w in some["named sounds"]]
    some["tabletop, 8 kHz"] = [resample(w, 16_000, 8_000) for w in some["tabletop"]]
    return some


def at(audio: Audio, corpus: str) -> Audio:
    """For the rate of the corpus, with tokens of 20 ms."""
    return replace(audio, rate=8_000, hop=160) if "8 kHz" in corpus else audio


def levelled(audio: Audio, corpora: dict[str, list[Tensor]]) -> Audio:
    """With the level that gives tokens a standard deviation of `STD` over the corpora, each counting the same."""
    squares = [
        torch.cat([at(audio, name).tokens(w).data.flatten() for w in corpora[name]]).square().mean()
        for name in ("digits, 8 kHz", "named sounds", "tabletop")
    ]
    std = float(torch.stack(squares).mean().sqrt())
    return replace(audio, level=float(f"{audio.level * (std / STD) ** (1 / audio.power):.2g}"))


def spectrum_db(wave: Tensor, window: int = 512) -> Tensor:
    """Power in dB `(bins, frames)`."""
    padded = torch.nn.functional.pad(wave[0], (0, max(0, window - wave.shape[1])))
    s = torch.stft(padded, window, window // 4, window=torch.hann_window(window), return_complex=True)
    return 10 * torch.log10(s.abs().square() + 1e-10)


def log_spectral_distance(a: Tensor, b: Tensor, depth: float = 60) -> float:
    """Root mean square difference of spectra in dB over bins, then the mean over frames.

    What lies more than `depth` below the loudest bin of `a` counts as lying just there.
    """
    x, y = spectrum_db(a), spectrum_db(b)
    floor = x.max() - depth
    return float((x.clamp_min(floor) - y.clamp_min(floor)).square().mean(dim=0).sqrt().mean())


def snr(a: Tensor, b: Tensor) -> float:
    """Signal over error, dB."""
    return float(10 * torch.log10(a.square().sum() / (a - b).square().sum().clamp_min(1e-20)))


def measure(audio: Audio, waves: list[Tensor]) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    rows, found = [], []
    for wave in waves:
        data, samples = audio.tokens(wave).data, wave.shape[1]
        noisy = data + ERROR * torch.randn(data.shape, generator=generator)
        back = audio.waveform(noisy, samples)
        clean = snr(wave, audio.waveform(data, samples))
        found.append((clean, snr(wave, back), log_spectral_distance(wave, back)))
        rows.append(data[0])
    values = torch.cat(rows)
    energy = values.square().flatten().sort(descending=True).values.cumsum(0)
    spread = torch.linalg.eigvalsh(torch.cov(values.T).double()).clamp_min(1e-12)
    share = spread / spread.sum()
    clean, noisy, distance = np.mean(found, axis=0)
    return {
        "std": float(values.std()),
        "kurtosis": float(values.pow(4).mean() / values.square().mean() ** 2),
        "effective_rank": float(torch.exp(-(share * share.log()).sum())) / audio.hop,
        "values_for_99": float((energy < 0.99 * energy[-1]).float().mean()),
        "snr": clean,
        "snr_noisy": noisy,
        "lsd_noisy": distance,
    }


COLOURS = np.array([(0, 0, 8), (60, 15, 110), (190, 55, 90), (250, 150, 40), (252, 250, 180)], dtype=float)


def picture_of(wave: Tensor, rate: int, depth: float = 70) -> np.ndarray:
    """A spectrogram, uint8 `(128, 160, 3)`: time to the right, frequency upwards, `depth` dB from black to bright."""
    from PIL import Image

    window = 512 * rate // 16_000
    db = spectrum_db(torch.nn.functional.pad(wave, (0, max(0, int(0.8 * rate) - wave.shape[1]))), window)
    shade = ((db - db.max()) / depth + 1).clamp(0, 1).numpy()[::-1]
    grey = np.asarray(Image.fromarray((shade * 255).astype(np.uint8)).resize((160, 128))) / 255
    return np.stack([np.interp(grey, np.linspace(0, 1, 5), COLOURS[:, c]) for c in range(3)], -1).astype(np.uint8)


def figure(path: Path, candidates: dict[str, Audio], corpora: dict[str, list[Tensor]], default: str) -> None:
    """One sound of each kind: as it is, through the default exactly, and with errors on the tokens of three."""
    from PIL import Image, ImageDraw

    columns = [("original", "", 0.0), ("back from tokens", default, 0.0)]
    columns += [(f"error .05: {name}", name, ERROR) for name in (default, "MDCT, tilt", "raw frames")]
    rows = [("digits, 16 kHz", 1), ("named sounds", 5), ("tabletop", 3)]
    sheet = Image.new("RGB", (164 * len(columns), 146 * len(rows)), "white")
    write = ImageDraw.Draw(sheet)
    for r, (corpus, i) in enumerate(rows):
        wave = corpora[corpus][i % len(corpora[corpus])][:, :16_000]
        for c, (title, name, error) in enumerate(columns):
            shown = wave
            if name:
                audio = candidates[name]
                data = audio.tokens(wave).data
                noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(0))
                shown = audio.waveform(data + error * noise, wave.shape[1])
            sheet.paste(Image.fromarray(picture_of(shown, 16_000)), (164 * c, 146 * r + 16))
            write.text((164 * c + 2, 146 * r + 2), title if c else f"{corpus}, original", fill="black")
    save_png(sheet.quantize(64), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__)
    parser.add_argument("--clips", type=int, default=40, help="of each kind of sound")
    parser.add_argument("--json", type=Path, default=here.with_suffix(".json"))
    parser.add_argument("--figure", type=Path, default=here.parents[1] / "docs" / "figures" / "audio_tokens.png")
    a = parser.parse_args()
    digits = Digits()
    corpora = sounds(a.clips, digits)
    candidates = {name: levelled(audio, corpora) for name, audio in CANDIDATES.items()}
    result: dict[str, Any] = {"clips": a.clips, "error": ERROR, "candidates": {}}
    for name, audio in candidates.items():
        table = {corpus: measure(at(audio, corpus), waves) for corpus, waves in corpora.items()}
        result["candidates"][name] = {"level": audio.level, "slope": audio.slope, "power": audio.power, "sounds": table}
        print(f"\n{name}: level {audio.level:g}")
        for corpus, m in table.items():
            print(f"  {corpus:22}" + "".join(f"  {key} {value:7.2f}" for key, value in m.items()), flush=True)
    default = next(name for name, audio in CANDIDATES.items() if audio == Audio())
    figure(a.figure, candidates, corpora, default)
    write_json(a.json, result)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
