"""The suites `digits` and `continue-sound`: is the digit that was asked for heard, in the voice that was asked for, or
had begun?

A small classifier of spectrograms, trained on the official training split, listens. What it hears in the held-out
recordings is the ceiling.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from selfflow.evaluate.judge import Judge, trained
from selfflow.evaluate.measures import chosen, distances, draw_sheet, held_out, in_turn, mean, opened, share
from selfflow.evaluate.protocol import Figure, Options
from selfflow.evaluate.tabletop_report import in_batches, require, shifted

BANDS = 40
TOP = 4000.0  # Hz: the recordings hold nothing above
BEGUN = 0.25  # of a recording that is to be continued
REFERENCE = 600  # real recordings that distances are taken to


class Speaker(Protocol):
    """What `digits` needs of a model; `config.audio.rate` is that of its sounds."""

    @property
    def config(self) -> Any: ...

    def speak(self, texts: Sequence[str], seconds: float, **sampling: Any) -> np.ndarray:
        """n captions to sounds float32 `(n, seconds · rate)` in [-1, 1]."""
        ...


def digits_suite(pipe: Speaker, options: Options) -> dict[str, Any]:
    """Figures of a model that speaks digits: every second prompt names the speaker as well.

    Ceiling: the held-out recordings that the prompts are of. Floor: recordings of other prompts. The distances are of
    the classifier's features to recordings of the training split; their floor is the true recordings played backwards.

    Raises:
        PackMissing: without the pack fsdd8k.
        ValueError: for a model without sound.
    """
    from selfflow.data.digits import FORMS, WORDS

    speak = require(pipe, "speak", "digits", "texts, seconds")
    source, samples = recordings(pipe, "digits", options)
    rate, seconds = pipe.config.audio.rate, pipe.config.data.seconds
    digits = np.array([s.meta["digit"] for s in samples])
    names = speakers(source)
    voices = np.array([names.index(s.meta["speaker"]) for s in samples])
    rows = np.arange(len(samples))  # the digits in turn: each is asked for with and without a voice
    named = (rows + rows // len(WORDS)) % 2 == 1
    texts = [
        FORMS[1 if told else 0].format(word=WORDS[s.meta["digit"]], speaker=s.meta["speaker"])
        for s, told in zip(samples, named, strict=True)
    ]
    made = np.stack(in_batches(lambda rows, **sampling: speak(rows, seconds, **sampling), (texts,), options))
    true = np.stack([s.sound for s in samples])
    if made.shape != true.shape:
        raise ValueError(f"the model spoke sounds of shape {made.shape}; {true.shape} were asked for")

    training = opened("digits", pipe, "train", seconds=seconds, rate=rate, variants=1)
    judge = listener(training, names)
    heard = {"made": log_mel(made, rate), "true": log_mel(true, rate), "back": log_mel(true[:, ::-1], rate)}
    found = {name: judge.judge(x) for name, x in heard.items()}
    said, real = found["made"][1], found["true"][1]
    figures = {
        "digit recognised": share(
            said[:, 0] == digits, chance=0.1, ceiling=real[:, 0] == digits,
            floor=real[:, 0] == np.array(shifted(list(digits))),
        ),
    }  # fmt: skip
    if named.any():
        figures["speaker recognised"] = share(
            (said[:, 1] == voices)[named], chance=1 / len(names), ceiling=(real[:, 1] == voices)[named],
            floor=(real[:, 1] == np.array(shifted(list(voices))))[named], note="of prompts that name one",
        )  # fmt: skip
    for digit in sorted(set(digits.tolist())):
        rows = digits == digit
        figures[f"digit recognised, {WORDS[digit]}"] = share(
            said[rows, 0] == digit, chance=0.1, ceiling=real[rows, 0] == digit
        )
    others = np.stack([training[i].sound for i in chosen(len(training), REFERENCE, options.seed)])
    reference = judge.judge(log_mel(others, rate))[0]
    figures |= distances(found["made"][0], found["true"][0], found["back"][0], reference, options)

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [(_drawn(heard["true"][i]), f"true: {texts[i]}"), (_drawn(heard["made"][i]), WORDS[said[i, 0]])]

    draw_sheet([panels(i) for i in range(len(samples))], options)
    return {"figures": figures, "heard": said[:, 0].tolist(), "asked": digits.tolist()}


class Continuer(Protocol):
    """What `continue-sound` needs of a model; `config.audio.rate` is that of its sounds."""

    @property
    def config(self) -> Any: ...

    def continue_sound(self, sounds: np.ndarray, seconds: float, texts: Sequence[str], **sampling: Any) -> np.ndarray:
        """Sounds float32 `(n, k)` and n captions to sounds `(n, k + seconds · rate)` that begin with them."""
        ...


def continue_sound_suite(pipe: Continuer, options: Options) -> dict[str, Any]:
    """Figures of a model that hears the first `BEGUN` of a held-out recording, and is told which digit it is of.

    The text says the digit, the beginning whose voice it is; the error is that of the rest, as `log_mel` hears it.
    Ceiling: the recordings. Floors, of which the best is the one to beat: the beginning, then silence; the beginning,
    then the rest of another recording.

    Raises:
        PackMissing: without the pack fsdd8k.
        ValueError: for a model without sound.
    """
    from selfflow.data.digits import FORMS, WORDS

    go_on = require(pipe, "continue_sound", "continue-sound", "sounds, seconds, texts")
    source, samples = recordings(pipe, "continue-sound", options)
    rate, true = source.rate, np.stack([s.sound for s in samples])
    known = round(BEGUN * true.shape[1])
    texts = [FORMS[0].format(word=WORDS[s.meta["digit"]]) for s in samples]
    rest = (true.shape[1] - known) / rate
    made = np.stack(
        in_batches(
            lambda heard, said, **sampling: go_on(heard, rest, said, **sampling), (true[:, :known], texts), options
        )
    )
    if made.shape != true.shape:
        raise ValueError(f"the model continued to sounds of shape {made.shape}; {true.shape} were asked for")
    names = speakers(source)
    judge = listener(opened("digits", pipe, "train", seconds=pipe.config.data.seconds, rate=rate, variants=1), names)
    floors = {
        "then silence": np.pad(true[:, :known], ((0, 0), (0, true.shape[1] - known))),
        "then another recording": np.concatenate([true[:, :known], np.stack(shifted(list(true)))[:, known:]], axis=1),
    }
    heard = {name: log_mel(x, rate) for name, x in {"made": made, "true": true, **floors}.items()}
    said = {name: judge.answers(x) for name, x in heard.items()}
    figures = dict[str, Figure]()
    for question, (what, count) in enumerate((("digit", 10), ("speaker", len(names)))):
        right = np.array([s.meta[what] if what == "digit" else names.index(s.meta[what]) for s in samples])
        hits = {name: answers[:, question] == right for name, answers in said.items()}
        best = max((int(hits[name].sum()), name) for name in floors)[1]
        figures[f"{what} recognised"] = share(
            hits["made"], chance=1 / count, floor=hits[best], ceiling=hits["true"], note=f"floor: {best}"
        )
    after = slice(known * 100 // rate + 1, None)  # a frame every 10 ms
    errors = {name: np.abs(x - heard["true"])[..., after].mean(axis=(1, 2, 3)) for name, x in heard.items()}
    best = min((float(errors[name].mean()), name) for name in floors)[1]
    note = "of the rest, in log energy by band, lower is better"
    figures["error of the rest"] = mean(
        errors["made"], options, floor=errors[best], ceiling=errors["true"], note=f"{note}; floor: {best}"
    )
    figures |= {f"floor: {name}": mean(errors[name], options, note=note, judged=False) for name in floors}

    def panels(i: int) -> list[tuple[np.ndarray, str]]:
        return [
            (_drawn(heard["true"][i]), f"true: {texts[i]}"),
            (_drawn(heard["made"][i]), WORDS[said["made"][i, 0]]),
        ]

    draw_sheet([panels(i) for i in range(len(samples))], options)
    return {"figures": figures, "heard": said["made"][:, 0].tolist()}


def speakers(source: Any) -> list[str]:
    """Whose voices a pack holds, in the order that their labels number."""
    return sorted({str(name) for name in source.pack["speakers"]})


def recordings(pipe: Any, suite: str, options: Options) -> tuple[Any, list[Any]]:
    """The test split as the model hears it, and recordings of it, the digits in turn.

    Raises:
        PackMissing: without the pack fsdd8k.
        ValueError: for a model without sound.
    """
    rate, seconds = pipe.config.audio.rate, pipe.config.data.seconds
    if not rate:
        raise ValueError(f"suite {suite} needs a model with sound; this one's configuration gives audio no rate")
    source = held_out("digits", pipe, seconds=seconds, rate=rate)
    samples = [source[i] for i in range(len(source))]
    return source, [samples[i] for i in in_turn([s.meta["digit"] for s in samples], options.samples, options.seed)]


def listener(source: Any, names: Sequence[str]) -> Judge:
    """The classifier of digits and speakers, trained on a source of spoken digits."""

    def data() -> tuple[np.ndarray, np.ndarray]:
        samples = [source[i] for i in range(len(source))]
        labels = np.array([(s.meta["digit"], names.index(s.meta["speaker"])) for s in samples])
        return log_mel(np.stack([s.sound for s in samples]), source.rate), labels

    settings = {"source": source.name, "rate": source.rate, "count": len(source), "size": len(source[0].sound)}
    settings |= {"speakers": list(names), "bands": BANDS}
    return trained("digits", settings, lambda: Judge(1, (10, len(names))), data, epochs=14, change=_changed)


def _changed(x: Tensor, generator: torch.Generator) -> Tensor:
    """Spectrograms a little later or earlier, noisier, and with a band missing."""
    later = int(torch.randint(-8, 9, (), generator=generator))
    x = x.roll(later, dims=3) + 0.15 * torch.randn(x.shape, generator=generator)
    band = int(torch.randint(0, BANDS - 4, (), generator=generator))
    x[:, :, band : band + 4] = x.mean()
    return x


def log_mel(sounds: np.ndarray, rate: int) -> np.ndarray:
    """Sounds `(n, samples)` to float32 `(n, 1, BANDS, frames)`: log energy in mel bands every 10 ms.

    Louder is the same.

    Raises:
        ValueError: for another shape, or values that are not finite.
    """
    wave = torch.from_numpy(np.ascontiguousarray(sounds, np.float32))
    if wave.ndim != 2 or not bool(wave.isfinite().all()):
        raise ValueError(f"sounds are finite (n, samples), not {tuple(wave.shape)}, or hold NaN or infinity")
    size = 2 ** int(np.ceil(np.log2(0.025 * rate)))
    spectrum = torch.stft(
        wave, size, rate // 100, window=torch.hann_window(size), return_complex=True, pad_mode="constant"
    ).abs().square()  # fmt: skip
    energy = _filters(size, rate) @ spectrum
    typical = energy.mean(dim=(1, 2), keepdim=True)
    decibels = (energy / typical.clamp_min(1e-12) + 1e-4).log()
    return (decibels / 3)[:, None].numpy()


@lru_cache(maxsize=4)
def _filters(size: int, rate: int) -> Tensor:
    """Triangles `(BANDS, size / 2 + 1)` evenly spaced on the mel scale (O'Shaughnessy 1987) up to `TOP`."""
    top = min(TOP, rate / 2)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + top / 700), BANDS + 2) / 2595) - 1)
    frequency = np.arange(size // 2 + 1) * rate / size
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequency - low) / (middle - low), (high - frequency) / (high - middle)
    return torch.from_numpy(np.minimum(rising, falling).clip(0)).float()


def _drawn(spectrogram: np.ndarray) -> np.ndarray:
    """A spectrogram as a picture, low frequencies at the bottom."""
    values = spectrogram[0, ::-1]
    grey = ((values - values.min()) / max(float(np.ptp(values)), 1e-6) * 255).astype(np.uint8)
    return np.repeat((255 - grey)[..., None], 3, axis=2)
