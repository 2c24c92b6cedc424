"""Samples as streams of tokens, and back: the one place where data of every kind meets the network.

A request is a sample too: what is to be generated stands in it as zeros of the right size, which only say where the
tokens go. So training and use take one path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from selfflow.modalities.action import Actions, Quantiles
from selfflow.modalities.audio import Audio
from selfflow.modalities.audio_latents import AudioLatents
from selfflow.modalities.pixels import to_pixels, to_values
from selfflow.modalities.text import TextEncoder
from selfflow.modalities.visual import Patches
from selfflow.nn.transformer import Modality
from selfflow.tasks import Streams, Task
from selfflow.tokens import Chain, Tokens, stack

MOST_REFERENCES = 10


class Modalities:
    """Everything a model perceives and makes.

    Args:
        text: prompts to tokens.
        visual: pictures.
        moving: clips, by default as pictures are. Where their tokens are several frames deep they need layers of their
            own: a picture that filled such a token with copies would be seen through several draws of noise at once.
        audio: sound, or None for a model without.
        action, state: of robots and players, or None.
        quantiles: how each body's actions and states are scaled.
        codec: between pixels and what `visual` sees; None for pixels. One that joins frames makes clips of its latent
            frames: the first frame alone, then `time_factor` to a token.

    Raises:
        ValueError: for a codec that joins frames with tokens that are several deep.
    """

    def __init__(
        self,
        text: TextEncoder,
        visual: Patches,
        moving: Patches | None = None,
        audio: Audio | AudioLatents | None = None,
        action: Actions | None = None,
        state: Actions | None = None,
        quantiles: Quantiles | None = None,
        codec: Any = None,
    ) -> None:
        self.text, self.visual, self.moving = text, visual, moving or visual
        self.audio, self.codec = audio, codec
        self.action, self.state, self.quantiles = action, state, quantiles or Quantiles()
        self.joins = 1 if codec is None else int(codec.time_factor)
        if self.joins > 1 and self.moving.frames > 1:
            raise ValueError(
                f"the codec joins {self.joins} frames and a token holds {self.moving.frames} latent ones; make it 1"
            )

    @property
    def computes(self) -> bool:
        """Whether a network takes part in making tokens: that is done where it is, not by those who draw samples."""
        latents = self.codec is not None or (self.audio is not None and self.audio.learned)
        return latents or not self.text.modality.vocabulary

    @property
    def cell(self) -> int:
        """Side of what one visual token shows, in pixels: sizes of pictures are multiples of it."""
        return self.visual.patch * (1 if self.codec is None else int(self.codec.factor))

    @property
    def depth(self) -> int:
        """Frames of a clip in one moment (the tokens of one time), the first moment excepted."""
        return max(self.joins, self.moving.frames)

    @property
    def lead(self) -> int:
        """Frames in the first moment: as many as in any, but 1 where a codec joins frames."""
        return 1 if self.joins > 1 else self.depth

    def moments(self, frames: int) -> int:
        """How many moments a clip of so many frames has; `lead + k · depth` frames fill theirs."""
        return 1 - (self.lead - frames) // self.depth

    def past(self, frames: int) -> int:
        """How many of the last of so many frames fill whole moments: at least those of the first moment, even where
        there are fewer."""
        return max(self.lead, self.lead + (frames - self.lead) // self.depth * self.depth)

    def layers(self) -> dict[str, Modality]:
        """Name → what the network needs to know of it."""
        own = {"audio": self.audio, "action": self.action, "state": self.state}
        found = {"text": self.text.modality, "visual": self.visual.modality}
        found[self.moving.name] = self.moving.modality
        return found | {name: m.modality for name, m in own.items() if m is not None}

    # -------------------------------------------------------------------------------------------- samples to streams

    def streams(
        self, samples: Sequence[Any], task: Task, device: torch.device | str = "cpu"
    ) -> dict[str, Tokens | Sequence[Tokens]]:
        """What the task looks at, of samples of one shape (`selfflow.data.sample.Sample`).

        Raises:
            ValueError: when a sample lacks what the task needs, naming sample and task.
        """
        found: dict[str, Tokens | Sequence[Tokens]] = {}
        for name in task.streams:
            missing = [s.id for s in samples if not _has(s, name)]
            if missing and name in task.optional:
                continue
            if missing:
                raise ValueError(f"{task.name} needs {name}, which sample {missing[0]!r} does not have")
            if name == "references":
                found[name] = self._references(samples, device)
            elif name == "visual":
                found[name] = self._visual(samples, device).to(device)
            else:
                found[name] = getattr(self, f"_{name}")(samples).to(device)
        return found

    def _text(self, samples: Sequence[Any]) -> Tokens:
        return self.text([s.text for s in samples])

    def _references(self, samples: Sequence[Any], device: torch.device | str) -> list[Tokens]:
        """Reference r of every sample; where a sample has fewer, tokens that nobody sees."""
        most = max(len(s.references) for s in samples)
        if most > MOST_REFERENCES:
            raise ValueError(f"{most} references were given; at most {MOST_REFERENCES} are looked at")
        every = [p for s in samples for p in s.references]
        alike = len(every) == most * len(samples) and len({p.shape for p in every}) == 1
        alike = alike and self.codec is None
        whole = self.visual.tokens(to_values(every)) if alike else None  # as is usual, and takes a fifth of the time
        groups = []
        for r in range(most):
            if whole is not None:
                places = whole.positions[r::most].clone()
                places[..., 3] = r + 1.0
                groups.append(replace(whole, data=whole.data[r::most], positions=places).to(device))
                continue
            there = torch.tensor([len(s.references) > r for s in samples])
            filler = next(s.references[r] for s in samples if len(s.references) > r)
            pictures = [s.references[r] if len(s.references) > r else np.zeros_like(filler) for s in samples]
            if len({p.shape for p in pictures}) == 1:
                tokens = self.visual.tokens(self._encoded(to_values(pictures)), index=r + 1.0)
            else:
                one_by_one = (self.visual.tokens(self._encoded(to_values([p])), index=r + 1.0) for p in pictures)
                tokens = stack(list(one_by_one))
            if not bool(there.all()):
                tokens = replace(tokens, mask=tokens.full_mask & there[:, None])
            groups.append(tokens.to(device))
        return groups

    def _first(self, samples: Sequence[Any]) -> Tokens:
        frames = [s.picture if s.clip is None else s.clip[0] for s in samples]
        return self.encode_pictures(to_values(frames))

    def _visual(self, samples: Sequence[Any], device: torch.device | str = "cpu") -> Tokens:
        # Bytes travel, a quarter of what values weigh, and are cut into tokens where there is room. (A codec stays.)
        where = device if self.codec is None else "cpu"
        if samples[0].clip is None:
            return self.encode_pictures(to_values([s.picture for s in samples], where))
        clips, fps = to_values([s.clip for s in samples], where), _rate(samples, "fps")
        times = self.codec.latent_times(clips.shape[1], fps) if self.joins > 1 else None
        return self.moving.clip_tokens(self._encoded(clips), fps, times=times)

    def _audio(self, samples: Sequence[Any]) -> Tokens:
        if self.audio is None:
            raise ValueError("this model has no sound; its configuration gives no audio")
        if (rate := _rate(samples, "sound_rate")) != self.audio.rate:
            raise ValueError(f"sound comes at {rate} samples a second; this model hears {self.audio.rate}")
        return self.audio.tokens(torch.from_numpy(np.stack([s.sound for s in samples])).float())

    def _action(self, samples: Sequence[Any]) -> Tokens:
        return self._control(samples, "actions", self.action)

    def _state(self, samples: Sequence[Any]) -> Tokens:
        """The state at the first moment: what a policy knows when it decides."""
        return self._control(samples, "states", self.state, 1)

    def _control(self, samples: Sequence[Any], what: str, modality: Actions | None, count: int | None = None) -> Tokens:
        if modality is None:
            raise ValueError(f"this model has no {what}; its configuration gives no control")
        rows = [self.quantiles.normalise(s.body, what, np.asarray(getattr(s, what))[:count]) for s in samples]
        return modality.tokens(torch.from_numpy(np.stack(rows)).float(), _rate(samples, "control_hz"))

    # -------------------------------------------------------------------------------------------- streams to samples

    def samples(
        self, made: Mapping[str, Tokens], asked: Sequence[Any], keep: Mapping[str, Tensor] | None = None
    ) -> list[Any]:
        """The samples asked for, holding what was made: pictures and clips uint8, sound and actions float32.

        Args:
            keep: stream → `(n,)` or `(b, n)` bool, which of its tokens were known.
        """
        changes: list[dict[str, Any]] = [{} for _ in asked]

        def give(field: str, values: Iterable[Any]) -> None:
            for change, value in zip(changes, values, strict=True):
                change[field] = value

        for name, tokens in made.items():
            first = asked[0]
            if name == "visual" and first.clip is None:
                give("picture", to_pixels(self.pictures(tokens.data, *first.picture.shape[:2])))
            elif name == "visual":
                give("clip", to_pixels(self.clip(tokens.data, *first.clip.shape[:3])))
            elif name == "audio":
                assert self.audio is not None
                begins = None if keep is None or "audio" not in keep else self._begins(tokens, asked, keep["audio"])
                wave = self.audio.waveform(tokens.data, len(first.sound), begins)
                give("sound", list(wave.clamp(-1, 1).cpu().numpy()))
            elif name == "action":
                assert self.action is not None
                width = first.actions.shape[1]
                values = self.action.values(tokens.data, width).cpu().numpy()
                give(
                    "actions",
                    [self.quantiles.restore(s.body, "actions", v) for s, v in zip(asked, values, strict=True)],
                )
        return [replace(sample, **change) for sample, change in zip(asked, changes, strict=True)]

    def _begins(self, tokens: Tokens, asked: Sequence[Any], known: Tensor) -> Tensor | None:
        """The samples `(b, k)` of the tokens with which all sounds begin and that were known; None where none were."""
        assert self.audio is not None
        all_know = known.expand(len(asked), -1).all(dim=0)
        count = int(all_know.long().cumprod(dim=0).sum()) * self.audio.hop
        if not count:
            return None
        return torch.from_numpy(np.stack([s.sound[:count] for s in asked])).float().to(tokens.data.device)

    def pictures(self, data: Tensor, height: int, width: int) -> Tensor:
        """Token values `(b, n, c)` to pictures `(b, 3, height, width)` in [-1, 1] (nearly)."""
        return self._decoded(self.visual.pictures(data, *self.inner(height, width)))

    def clip(self, data: Tensor, frames: int, height: int, width: int) -> Tensor:
        """Token values `(b, n, c)` to clips `(b, frames, 3, height, width)`."""
        count = self.codec.latent_frames(frames) if self.joins > 1 else frames
        return self._decoded(self.moving.clip(data, count, *self.inner(height, width)))[:, :frames]

    def encode_pictures(self, values: Tensor) -> Tokens:
        """Pictures `(b, 3, H, W)` in [-1, 1] to tokens."""
        return self.visual.tokens(self._encoded(values))

    def inner(self, height: int, width: int) -> tuple[int, int]:
        """Height and width, in what `visual` cuts into patches, of a picture of so many pixels."""
        factor = 1 if self.codec is None else self.codec.factor
        return height // factor, width // factor

    def _encoded(self, values: Tensor) -> Tensor:
        return values if self.codec is None else self.codec.encode(values)

    def _decoded(self, values: Tensor) -> Tensor:
        return values if self.codec is None else self.codec.decode(values)


def _has(sample: Any, stream: str) -> bool:
    match stream:
        case "references":
            return len(sample.references) > 0
        case "visual" | "first":
            return sample.picture is not None or sample.clip is not None
        case "audio":
            return sample.sound is not None
        case "action":
            return sample.actions is not None
        case "state":
            return sample.states is not None
    return True


def _rate(samples: Sequence[Any], name: str) -> float:
    rates = {getattr(s, name) for s in samples}
    if len(rates) != 1 or not next(iter(rates)) > 0:
        raise ValueError(f"samples of one batch share one {name} above 0; these have {sorted(rates)}")
    return next(iter(rates))


def less_known(
    task: Task,
    streams: Streams,
    keep: Mapping[str, Tensor] | None,
    empty: Tokens | None,
    guidance: float,
    reference_guidance: float = 1.0,
) -> tuple[list[list[Tokens | Chain]], list[float]]:
    """What guidance leads away from: the task without its text, then without its references too.

    Args:
        empty: tokens of the empty prompt, as many as there are samples; needed when `guidance` is not 1.
        guidance, reference_guidance: how far to lead from each to the one before it; 1 leaves it out, as does a task
            that does not know the stream.

    Returns:
        `(sides, scales)`, as many of both: what is known of each, and how far to lead from it.
    """
    sides, scales = list[list[Tokens | Chain]](), list[float]()
    without = replace(task, optional=("references", *task.optional))
    text = empty if "text" in task.known and guidance != 1 else None
    if text is not None:
        sides.append(without.split(hidden(streams, text), keep)[1])
        scales.append(guidance)
    if "references" in task.known and reference_guidance != 1:
        sides.append(without.split(hidden(streams, text, references=True), keep)[1])
        scales.append(reference_guidance)
    return sides, scales


def _nobody(gone: Tensor) -> bool:
    """Whether none is gone, where a look costs nothing: a GPU would have to be waited for."""
    return gone.device.type == "cpu" and not bool(gone.any())


def without_text(text: Tokens, gone: Tensor, empty: Tokens) -> Tokens:
    """Texts `(b, n)` with some of them, `gone (b,)` bool, replaced by the empty prompt `(1, m)`."""
    if _nobody(gone):
        return text
    b = text.batch
    return stack([text, empty])[torch.arange(b, device=gone.device).masked_fill(gone, b)]


def without_references(references: Sequence[Tokens], gone: Tensor) -> list[Tokens]:
    """References of which some samples, `gone (b,)` bool, see none."""
    return [unseen(tokens, gone) for tokens in references]


def unseen(tokens: Tokens, gone: Tensor) -> Tokens:
    """Tokens `(b, n)` that some samples, `gone (b,)` bool, do not see."""
    return tokens if _nobody(gone) else replace(tokens, mask=tokens.full_mask & ~gone[:, None])


def hidden(streams: Streams, text: Tokens | None = None, references: bool = False) -> dict[str, Any]:
    """Streams with the text replaced or the references left out: the other sides of guidance."""
    out = dict(streams)
    if text is not None and "text" in out:
        out["text"] = text
    if references:
        out.pop("references", None)
    return out
