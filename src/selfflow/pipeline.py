"""Pipeline: a trained network and all it takes to use it. Prompts in, pictures out; or any task of `selfflow.tasks`.

The calling convention is that of diffusers. What lies in a model directory: `selfflow.model_directory`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from selfflow import choosing, flow, sample
from selfflow.building import build_modalities, build_network
from selfflow.config import Config, to_dict
from selfflow.modalities.action import Quantiles
from selfflow.modalities.audio_latents import AudioLatents
from selfflow.modalities.pixels import to_pixels, to_values
from selfflow.modalities.streams import less_known
from selfflow.modalities.text import TextEncoder, checked, load_text_encoder
from selfflow.model_directory import (
    BODIES,
    CARD,
    CODEC,
    CONFIG,
    SOUND_CODEC,
    directory_of,
    load_quantiles,
    read_config,
)
from selfflow.nn import Memory, Transformer
from selfflow.performing import Performing
from selfflow.tasks import named
from selfflow.times import Times, schedule
from selfflow.tokens import Chain, Tokens
from selfflow.weight_files import load_weights, write_weights

MOST_PIXELS = 2048 * 2048


@dataclass(frozen=True)
class PipelineOutput:
    """`images`: a list of PIL pictures, or a `(b, H, W, 3)` uint8 array, or a `(b, 3, H, W)` tensor in [-1, 1]."""

    images: Any


class Pipeline(Performing):
    """A model at work: called with text it draws pictures; `solve` does every task, `Performing` has them by name.

    Args:
        net: the network, already holding its weights.
        text: prompts to tokens.
        config: the run it came from.
        dtype: what the network computes in; weights, sampler and noise stay float32. bf16 is several times faster where
            the hardware has it, and changes pictures by a few levels of 255.
        quantiles: how the actions and states of each body are scaled.
    """

    def __init__(
        self,
        net: Transformer,
        text: TextEncoder,
        config: Config,
        dtype: torch.dtype = torch.float32,
        quantiles: Quantiles | None = None,
    ) -> None:
        self.net, self.text, self.config, self.dtype = net.eval(), text, config, dtype
        self.modalities = build_modalities(config, text, quantiles)
        self.patches = self.modalities.visual

    # ------------------------------------------------------------------------------------------------- load and save

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Pipeline:
        """Load from a directory, or from the Hugging Face hub by id.

        Raises:
            FileNotFoundError: when there is no such directory and no such id, or a file is missing.
            ValueError: when a file is damaged or does not fit the network, naming what and where; for a device that is
                not there.
        """
        checked_device(device)  # before anything is loaded
        directory = directory_of(name)
        config = read_config(directory)
        text = load_text_encoder(directory)
        net = build_network(config, text)
        load_weights(net, directory)
        return cls(net, text, config, dtype, load_quantiles(directory)).to(device)

    def save_pretrained(self, directory: str | Path, card: str | None = None) -> Path:
        """Write a model directory; each file appears whole or not at all."""
        directory = Path(directory)
        write_weights(self.net.state_dict(), directory)
        self.text.save(directory)
        if self.modalities.codec is not None:
            self.modalities.codec.save(directory / CODEC)
        if isinstance(self.modalities.audio, AudioLatents) and self.modalities.audio.learned:
            self.modalities.audio.codec.save(directory / SOUND_CODEC)
        bodies = self.modalities.quantiles.to_dict()
        for name, content in (
            (CONFIG, json.dumps(to_dict(self.config), indent=2) + "\n"),
            (BODIES, json.dumps(bodies, indent=2) + "\n" if bodies else None),
            (CARD, card),
        ):
            if content is not None:
                (directory / f".{name}.tmp").write_text(content)
                os.replace(directory / f".{name}.tmp", directory / name)
        return directory

    def push_to_hub(
        self, repo_id: str, card: str | None = None, private: bool = False, token: str | None = None
    ) -> str:
        """Save and upload to the Hugging Face hub; returns the address of the commit."""
        import tempfile

        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as directory:
            self.save_pretrained(directory, card)
            return str(api.upload_folder(repo_id=repo_id, folder_path=directory))

    def to(self, device: str | torch.device) -> Pipeline:
        """Compute there. Raises ValueError for a device that is not there."""
        self.net.to(checked_device(device))
        return self

    def computing(self) -> torch.autocast:
        """The context the network runs in."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    # ------------------------------------------------------------------------------------------------------ generate

    @torch.inference_mode()
    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str = "",
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        internal_guidance: float | None = None,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        sampler: Literal["flow_map", "euler", "heun", "sde"] | None = None,
        shift: float | None = None,
        output_type: Literal["pil", "np", "pt"] = "pil",
        callback: Callable[[int, Tensor], bool | None] | None = None,
        choices: int = 1,
    ) -> PipelineOutput:
        """Draw pictures.

        Args:
            prompt: one, or one per picture.
            negative_prompt: what guidance leads away from.
            height, width: in pixels, multiples of the patch; the training size by default.
            num_inference_steps: sampling steps.
            guidance_scale: 1 is none.
            internal_guidance: see `field`; 1 is none.
            generator: CPU generators, one or one per picture (prompt by prompt); the same seed gives the same picture
                on every device.
            sampler: by default `flow_map` of a model that is one, else `euler`. The others take the velocity that a
                flow map says at r = t, in which its teacher's guidance is contained.
            callback: `(step, pictures (b, 3, H, W))`, the present guess of the clean pictures; True ends sampling.
            choices: how often each picture is drawn; the one the model finds likeliest is kept (`selfflow.choosing`).
                The first draw is the only one of 1.

        Raises:
            ValueError, TypeError: for prompts, sizes or numbers out of range, saying what would be right.
        """
        defaults, size = self.config.sampling, self.config.picture.size
        height, width = size if height is None else height, size if width is None else width
        kind = self._sampler(sampler, tuple(sample.SAMPLERS))
        steps = defaults.steps if num_inference_steps is None else num_inference_steps
        guidance = defaults.guided("picture") if guidance_scale is None else guidance_scale
        if height * width > MOST_PIXELS:
            raise ValueError(f"{height} × {width} pixels asked for; at most {MOST_PIXELS} pixels are drawn at once")
        if not 1 <= num_images_per_prompt <= 1024:
            raise ValueError(f"pictures per prompt {num_images_per_prompt} asked for; 1 to 1024 are drawn at once")
        check_sampling(steps, guidance)
        choosing.check_choices(choices)
        prompts = checked([prompt] if isinstance(prompt, str) else prompt)
        if height % self.modalities.cell or width % self.modalities.cell:
            self.patches.grid(height, width)  # names what would be right
        template = self.patches.tokens(torch.zeros(1, self.patches.channels, *self.modalities.inner(height, width)))
        b = len(prompts) * num_images_per_prompt
        generators = _generators(generator, b)
        shape, draws = (b, *template.data.shape[1:]), num_images_per_prompt * choices
        noise = choosing.noises(shape, generators, choices).to(self.device)
        memories = self._prompted(prompts, negative_prompt, guidance, draws)
        places, scales = template.repeat(len(noise)), [guidance] * (len(memories) - 1)
        velocity = self.field(places, memories, scales, guidance_interval, internal_guidance)

        def show(data: Tensor) -> Tensor:
            return self.modalities.pictures(data, height, width)

        watch = None if callback is None else choosing.Watch(callback, show, choices)
        times = schedule(steps, defaults.shifted("picture") if shift is None else shift)
        extra: dict[str, Any] = {"callback": watch}
        if kind == "sde":
            extra["draws"] = lambda x: choosing.noises(shape, generators, choices).to(x.device)
        data = self.integrate(kind, velocity, noise, times, **extra)
        if watch is not None and watch.ended:  # before it was done: nothing to choose from
            data = data[::choices]
        elif choices > 1:
            led_from_nothing = len(memories) > 1 and not negative_prompt
            untold = memories[1] if led_from_nothing else self.read([""]).repeat(len(data))
            data = self._likeliest(places, data, memories[0], untold, choices)
        return PipelineOutput(_finish(show(data), output_type))

    def velocity(
        self,
        prompts: Sequence[str],
        template: Tokens,
        negative_prompt: str = "",
        guidance: float = 1.0,
        interval: tuple[float, float] | None = None,
        internal: float | None = None,
    ) -> Callable[..., Tensor]:
        """The guided velocity `(x (b, n, c), t) -> (b, n, c)` of some prompts; text is read once, here.

        With guidance, both sides share one network call of twice the batch.
        """
        memories = self._prompted(prompts, negative_prompt, guidance)
        template = template if template.batch == len(prompts) else template.repeat(len(prompts))
        return self.field(template, memories, [guidance] * (len(memories) - 1), interval, internal)

    def _prompted(self, prompts: Sequence[str], negative_prompt: str, guidance: float, repeat: int = 1) -> list[Memory]:
        """Memories `(b · repeat, …)` of the prompts and, with guidance, of what it leads away from."""
        memories = [self.read(prompts).repeat(repeat)]
        if guidance != 1:
            memories.append(self.read([negative_prompt]).repeat(len(prompts) * repeat))
        return memories

    def field(
        self,
        template: Tokens,
        memories: Sequence[Memory],
        scales: Sequence[float] = (),
        interval: tuple[float, float] | None = None,
        internal: float | None = None,
    ) -> Callable[..., Tensor]:
        """The guided velocity `(x (b, n, c), t) -> (b, n, c)` of tokens in the places of `template`.

        Of a flow map it also takes r, `(x, t, r) -> (b, n, c)`, and is then the mean velocity of the jump there.

        Args:
            memories: of all that is known, then of less and less (without text, then without references too).
            scales: how far to lead from each memory to the one before it; 1 is none. With one scale this is
                classifier-free guidance, with two that of InstructPix2Pix (Brooks et al. 2022, eq. 3). All sides share
                one call of the network.
            interval: times in which guidance acts; outside, only the first memory counts.
            internal: how far to lead from the velocity said at mid depth to that of the last block, at all times
                (internal guidance; one output layer more, no second pass); 1 is none, the configuration's by default.

        Raises:
            ValueError: for a bad interval, or internal guidance of a network that says nothing at mid depth.
        """
        low, high = sample.check_interval(interval or self.config.sampling.guidance_interval)
        inner = self._internal(internal)
        template, led = template.to(self.device), {} if inner == 1 else {"internal_guidance": inner}

        def against(memory: Memory) -> Callable[..., Tensor]:
            places = template.repeat(memory.batch // template.batch)

            def velocity(x: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
                noisy = places.with_data(x.repeat(places.batch // len(x), 1, 1))
                target = None if r is None else r.to(x.device).expand(noisy.batch)
                with self.computing():
                    return self.net(noisy, Times.shared(t.to(x.device).expand(noisy.batch), target), memory, **led)[0]

            return velocity

        alone = against(memories[0])
        if len(memories) == 1:
            return alone
        together = against(Memory.stack(memories))

        def velocity(x: Tensor, t: Tensor, r: Tensor | None = None) -> Tensor:
            if not low <= float(t) <= high:
                return alone(x, t, r)
            return flow.lead(together(x, t, r).chunk(len(memories)), scales)

        return velocity

    def _internal(self, internal: float | None) -> float:
        """How far to lead from mid depth, checked."""
        inner = self.config.sampling.internal_guidance if internal is None else internal
        check_sampling(1, inner)
        if inner != 1 and not self.config.network.mid:
            raise ValueError(
                f"internal_guidance {inner} takes a network that says a velocity at mid depth (network.mid > 0, "
                "trained with objective.mid_weight); this one has none: leave it at 1"
            )
        return inner

    def integrate(
        self, sampler: str, velocity: Callable[..., Tensor], noise: Tensor, times: Tensor, **options: Any
    ) -> Tensor:
        """Data from noise by a sampler of `selfflow.sample`. Times stay on the CPU: reading one waits for no GPU."""
        return sample.SAMPLERS[sampler](velocity, noise, times, **options)

    # --------------------------------------------------------------------------------------------------- every task

    @torch.inference_mode()
    def solve(
        self,
        task: str,
        samples: Sequence[Any],
        *,
        keep: Mapping[str, Tensor] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        reference_guidance: float = 1.0,
        interval: tuple[float, float] | None = None,
        internal_guidance: float | None = None,
        shift: float | None = None,
        sampler: Literal["flow_map", "euler", "heun"] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        callback: Callable[[int, dict[str, Tokens]], bool | None] | None = None,
        choices: int = 1,
    ) -> list[Any]:
        """Do a task: the samples again, holding what was generated.

        Args:
            task: a name in `selfflow.tasks.TASKS`.
            samples: `selfflow.data.sample.Sample` of one shape; what is to be generated stands there as zeros.
            keep: stream → `(n,)` or `(b, n)` bool, what is known of streams that are known in part.
            steps, guidance, interval, internal_guidance, shift: of sampling; the configuration's by default.
            reference_guidance: how far to lead from no references to the references given; 1 is none.
            generator: CPU generators, one or one per sample.
            callback: `(step, streams)` with the present guess; True ends sampling.
            choices: how often each sample is drawn; the draw the model finds likeliest is kept (`selfflow.choosing`).
                The first draw is the only one of 1.

        Raises:
            ValueError: for an unknown task, samples that lack what it needs, or numbers out of range.
        """
        defaults, job = self.config.sampling, named(task)
        steps = defaults.steps if steps is None else steps
        guidance = defaults.guided(task) if guidance is None else guidance
        check_sampling(steps, guidance, reference_guidance)
        choosing.check_choices(choices)
        if not samples:
            raise ValueError(f"{task} was given no samples")
        kind = self._sampler(sampler, ("euler", "heun", "flow_map"))
        checked([s.text for s in samples])
        streams = self.modalities.streams(samples, job, self.device)
        template, known = job.split(streams, keep)
        empty = self.text([""] * len(samples)).to(self.device) if guidance != 1 or choices > 1 else None
        sides, scales = less_known(job, streams, keep, empty, guidance, reference_guidance)
        memories = [self.remember(side).repeat(choices) for side in (known, *sides)]
        draws = template.each(choices)
        velocity = self.field(draws, memories, scales, interval, internal_guidance)
        noise = choosing.noises(tuple(template.data.shape), _generators(generator, len(samples)), choices)

        def show(data: Tensor) -> dict[str, Tokens]:
            return job.join(streams, keep, template.with_data(data))

        watch = None if callback is None else choosing.Watch(callback, show, choices)
        times = schedule(steps, defaults.shifted(task) if shift is None else shift)
        data = self.integrate(kind, velocity, noise.to(self.device), times, callback=watch)
        if watch is not None and watch.ended:  # before it was done: nothing to choose from
            data = data[::choices]
        elif choices > 1:
            untold = None  # what is known besides says what is likely
            if all(isinstance(part, Tokens) and part.modality == "text" for part in known):
                read = memories[1:]
                if guidance == 1:
                    bare = less_known(job, streams, keep, empty, guidance=0)[0]
                    read = [self.remember(side).repeat(choices) for side in bare]
                untold = read[0] if read else None
            data = self._likeliest(draws, data, memories[0], untold, choices)
        return self.modalities.samples(show(data), samples, keep)

    def _likeliest(self, draws: Tokens, data: Tensor, told: Any, untold: Any | None, choices: int) -> Tensor:
        """Of the data `(b · choices, n, c)` drawn in the places of `draws` the best of each sample, `(b, n, c)`.

        Args:
            told, untold: memories of all that is known, and of all but the text.
        """
        made = draws.with_data(data)
        doubts = [
            None if memory is None else choosing.doubt(self.field(made, [memory], internal=1.0), made)
            for memory in (told, untold)
        ]
        assert doubts[0] is not None
        return data[choosing.likeliest(doubts[0], doubts[1], choices)]

    def _sampler(self, name: str | None, possible: tuple[str, ...]) -> str:
        """The sampler asked for, or the model's own."""
        is_map = self.config.network.target_time
        name = name or ("flow_map" if is_map else "euler")
        if name not in possible:
            raise ValueError(f"unknown sampler {name!r}; choose one of {sorted(possible)}")
        if name == "flow_map" and not is_map:
            raise ValueError(
                "this model is no flow map, which the sampler 'flow_map' needs: distil one with `selfflow distill`, "
                "or choose 'euler' or 'heun'"
            )
        return name

    def held_out_velocity_loss(
        self, samples: Sequence[Any], levels: Sequence[float], seed: int = 0
    ) -> dict[float, tuple[float, float]]:
        """Mean squared velocity error on captioned pictures at each noise level, with its standard error.

        Args:
            samples: with `id`, `picture` (uint8 `(H, W, 3)`, all of one size) and `text`.
            levels: times in [0, 1]; 1 is noise.
            seed: of the noise, which depends on (seed, id, level) only: models are compared on the same inputs.
        """
        from selfflow.evaluate.velocity_loss import velocity_loss

        pictures = to_values([s.picture for s in samples])
        data = self.modalities.encode_pictures(pictures)

        def predict(x_t: Tensor, t: Tensor, rows: slice) -> Tensor:
            memory = self.read([s.text for s in samples[rows]])
            with self.computing():
                velocity, _ = self.net(data[rows].with_data(x_t).to(self.device), t.to(self.device), memory)
            return velocity.to(x_t.device)

        return velocity_loss(predict, data.data, [s.id for s in samples], levels, seed)

    def read(self, prompts: Sequence[str]) -> Memory:
        """Memory of some prompts."""
        return self.remember([self.text(prompts).to(self.device)])

    def remember(self, known: Sequence[Tokens | Chain]) -> Memory:
        """Memory of what is known."""
        with self.computing():
            memory = self.net.read(known)
        assert memory is not None
        return memory


def checked_device(name: str | torch.device) -> torch.device:
    """The device of that name, if this machine has it and this build of torch can use it; else ValueError."""
    try:
        return torch.empty(0, device=name).device
    except (AssertionError, ImportError, RuntimeError) as error:  # which one it is depends on the device
        there = ["cpu"]
        if kind := torch.accelerator.current_accelerator(check_available=True):
            there += [f"{kind.type}:{i}" for i in range(torch.accelerator.device_count())]
        cause = str(error).split("\n")[0].split(". ")[0]
        raise ValueError(f"there is no device {str(name)!r} here ({cause}); choose one of {', '.join(there)}") from None


def check_sampling(steps: int, *scales: float) -> None:
    """Refuse numbers that no sampler can use."""
    if not 1 <= steps <= 10_000:
        raise ValueError(f"steps {steps} must be 1 to 10 000")
    if not all(np.isfinite(scale) for scale in scales):
        raise ValueError(f"guidance_scale is {', '.join(map(str, scales))}; it must be finite, 1 for none")


def _generators(
    generator: torch.Generator | list[torch.Generator] | None, b: int
) -> torch.Generator | list[torch.Generator] | None:
    for g in generator if isinstance(generator, list) else [generator]:
        if g is not None and g.device.type != "cpu":
            raise ValueError("generators must live on the CPU, so that one seed gives one picture on every device")
    if isinstance(generator, list) and len(generator) != b:
        raise ValueError(f"{len(generator)} generators were given for {b} pictures; give one, or one per picture")
    return generator


def _finish(pictures: Tensor, output_type: str) -> Any:
    if output_type == "pt":
        return pictures
    array = to_pixels(pictures)
    if output_type == "np":
        return array
    if output_type == "pil":
        from PIL import Image

        return [Image.fromarray(picture) for picture in array]
    raise ValueError(f"unknown output_type {output_type!r}; choose 'pil', 'np' or 'pt'")
