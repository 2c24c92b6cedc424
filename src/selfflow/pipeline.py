"""Pipeline: a trained network and all it takes to use it. Prompts in, pictures out.

A model directory holds `config.json`, `model.safetensors` (the EMA weights), the text encoder's file and a `README.md`
(model card). The calling convention is that of diffusers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from selfflow import sample
from selfflow.config import Config, from_dict, to_dict
from selfflow.modalities.text import TextEncoder, checked, load_text_encoder
from selfflow.modalities.visual import Patches
from selfflow.nn import Memory, Transformer
from selfflow.times import schedule
from selfflow.tokens import Tokens

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
MOST_PIXELS = 2048 * 2048


@dataclass(frozen=True)
class PipelineOutput:
    """`images`: a list of PIL pictures, or a `(b, H, W, 3)` uint8 array, or a `(b, 3, H, W)` tensor in [-1, 1]."""

    images: Any


class Pipeline:
    """Text to pictures.

    Args:
        net: the network, already holding its weights.
        text: prompts to tokens.
        config: the run it came from.
        dtype: what the network computes in; weights, sampler and noise stay float32. bf16 is several times faster where
            the hardware has it, and changes pictures by a few levels of 255.
    """

    def __init__(self, net: Transformer, text: TextEncoder, config: Config, dtype: torch.dtype = torch.float32) -> None:
        self.net, self.text, self.config, self.dtype = net.eval(), text, config, dtype
        self.patches = patches_of(config)

    # ------------------------------------------------------------------------------------------------- load and save

    @classmethod
    def from_pretrained(cls, name: str | Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Pipeline:
        """Load from a directory, or from the Hugging Face hub by id.

        Raises:
            FileNotFoundError: when there is no such directory and no such id, or a file is missing.
            ValueError: when a file is damaged or does not fit the network, naming what and where.
        """
        directory = _directory(name)
        try:
            config = from_dict(Config, json.loads((directory / CONFIG).read_text()))
        except FileNotFoundError:
            raise FileNotFoundError(f"{directory} is no model directory: it has no {CONFIG}") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{directory / CONFIG} is not valid JSON: {error}") from error
        text = load_text_encoder(directory)
        net = build_network(config, text)
        load_weights(net, directory / WEIGHTS)
        return cls(net, text, config, dtype).to(device)

    def save_pretrained(self, directory: str | Path, card: str | None = None) -> Path:
        """Write a model directory; each file appears whole or not at all."""
        from safetensors.torch import save_file

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        temporary = directory / f".{WEIGHTS}.tmp"
        state = {k: v.detach().cpu().contiguous() for k, v in self.net.state_dict().items()}
        save_file(state, temporary, metadata={"format": "pt"})
        os.replace(temporary, directory / WEIGHTS)
        self.text.save(directory)
        for name, content in ((CONFIG, json.dumps(to_dict(self.config), indent=2) + "\n"), (CARD, card)):
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
        self.net.to(device)
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
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        sampler: Literal["euler", "heun", "sde"] = "euler",
        shift: float | None = None,
        output_type: Literal["pil", "np", "pt"] = "pil",
        callback: Callable[[int, Tensor], bool | None] | None = None,
    ) -> PipelineOutput:
        """Draw pictures.

        Args:
            prompt: one, or one per picture.
            negative_prompt: what guidance leads away from.
            height, width: in pixels, multiples of the patch; the training size by default.
            num_inference_steps: sampling steps.
            guidance_scale: 1 is none.
            generator: CPU generators, one or one per picture (prompt by prompt); the same seed gives the same picture
                on every device.
            callback: `(step, pictures (b, 3, H, W))`, the present guess of the clean pictures; True ends sampling.

        Raises:
            ValueError, TypeError: for prompts, sizes or numbers out of range, saying what would be right.
        """
        defaults, size = self.config.sampling, self.config.picture.size
        height, width = size if height is None else height, size if width is None else width
        steps = defaults.steps if num_inference_steps is None else num_inference_steps
        guidance = defaults.guidance if guidance_scale is None else guidance_scale
        if height * width > MOST_PIXELS:
            raise ValueError(f"{height} × {width} pixels asked for; at most {MOST_PIXELS} pixels are drawn at once")
        if not 1 <= steps <= 10_000 or not 1 <= num_images_per_prompt <= 1024:
            raise ValueError(
                f"steps {steps} must be 1 to 10 000, pictures per prompt {num_images_per_prompt} 1 to 1024"
            )
        if not np.isfinite(guidance):
            raise ValueError(f"guidance_scale is {guidance}; it must be finite, 1 for none")
        if sampler not in sample.SAMPLERS:
            raise ValueError(f"unknown sampler {sampler!r}; choose one of {sorted(sample.SAMPLERS)}")
        prompts = checked([prompt] if isinstance(prompt, str) else prompt)
        template = self.patches.tokens(torch.zeros(1, self.patches.channels, height, width))
        b = len(prompts) * num_images_per_prompt
        generators = _generators(generator, b)
        noise = sample.seeded_noise((b, *template.data.shape[1:]), generators).to(self.device)
        velocity = self.velocity(prompts, template, negative_prompt, guidance, guidance_interval, num_images_per_prompt)

        def report(step: int, t: Tensor, x: Tensor, data: Tensor) -> bool | None:
            return callback(step, self.patches.pictures(data, height, width)) if callback else None

        times = schedule(steps, defaults.shift if shift is None else shift)
        extra = {}
        if sampler == "sde":
            extra["draws"] = lambda x: sample.seeded_noise(tuple(x.shape), generators).to(x.device)
        data = sample.SAMPLERS[sampler](velocity, noise, times.to(self.device), callback=report, **extra)
        return PipelineOutput(_finish(self.patches.pictures(data, height, width), output_type))

    def velocity(
        self,
        prompts: Sequence[str],
        template: Tokens,
        negative_prompt: str = "",
        guidance: float = 1.0,
        interval: tuple[float, float] | None = None,
        repeat: int = 1,
    ) -> sample.Velocity:
        """The guided velocity `(x (b, n, c), t) -> (b, n, c)` of some prompts; text is read once, here.

        With guidance, both sides share one network call of twice the batch.
        """
        memory = self.read(prompts)
        memory = None if memory is None else memory.repeat(repeat)
        b = len(prompts) * repeat

        def against(memory: Memory | None, copies: int) -> sample.Velocity:
            def velocity(x: Tensor, t: Tensor) -> Tensor:
                rows = len(x) * copies
                noisy = Tokens(
                    x.repeat(copies, 1, 1), template.positions.to(x.device).expand(rows, -1, -1),
                    template.modality,
                )  # fmt: skip
                with self.computing():
                    return self.net(noisy, t.to(x.device).expand(rows), memory)[0]

            return velocity

        if guidance == 1:
            return against(memory, 1)
        unread = self.read([negative_prompt])
        assert memory is not None
        assert unread is not None
        both = against(Memory.stack([memory, unread.repeat(b)]), 2)
        conditional = against(memory, 1)
        low, high = interval or self.config.sampling.guidance_interval
        sample.guided(conditional, conditional, guidance, (low, high))  # refuses a bad interval

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            if not low <= float(t) <= high:
                return conditional(x, t)
            v, v_u = both(x, t).chunk(2)
            return v_u + guidance * (v - v_u)

        return velocity

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

        pictures = torch.from_numpy(np.stack([s.picture for s in samples])).permute(0, 3, 1, 2).float() / 127.5 - 1
        data = self.patches.tokens(pictures)

        def predict(x_t: Tensor, t: Tensor, rows: slice) -> Tensor:
            memory = self.read([s.text for s in samples[rows]])
            with self.computing():
                velocity, _ = self.net(data[rows].with_data(x_t).to(self.device), t.to(self.device), memory)
            return velocity.to(x_t.device)

        return velocity_loss(predict, data.data, [s.id for s in samples], levels, seed)

    def read(self, prompts: Sequence[str]) -> Memory | None:
        """Memory of some prompts."""
        with self.computing():
            return self.net.read([self.text(prompts).to(self.device)])


def patches_of(config: Config) -> Patches:
    """The picture modality of a run."""
    return Patches(config.picture.patch, prediction=config.picture.prediction)


def build_network(config: Config, text: TextEncoder) -> Transformer:
    """The network of a run, freshly initialised."""
    return Transformer(config.network.build({"text": text.modality, "visual": patches_of(config).modality}))


def load_weights(net: torch.nn.Module, path: Path) -> None:
    """Load safetensors strictly.

    Raises:
        ValueError: listing every missing, unexpected or misshapen tensor, or saying that the file is damaged.
    """
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing; a model directory holds {WEIGHTS}") from None
    except Exception as error:  # safetensors raises its own SafetensorError
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from error
    own = net.state_dict()
    problems = [f"missing {k}" for k in own.keys() - state.keys()]
    problems += [f"unexpected {k}" for k in state.keys() - own.keys()]
    problems += [
        f"{k} has shape {tuple(state[k].shape)}, not {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if own[k].shape != state[k].shape
    ]
    if problems:
        raise ValueError(f"{path} does not fit the network: " + "; ".join(sorted(problems)))
    net.load_state_dict(state)


def _directory(name: str | Path) -> Path:
    if Path(name).is_dir():
        return Path(name)
    if str(name).count("/") != 1 or str(name).startswith((".", "/", "~")):
        raise FileNotFoundError(f"{name} is neither a directory nor a hub id of the form 'owner/name'")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(str(name), allow_patterns=["*.json", "*.safetensors", "*.md"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        raise FileNotFoundError(f"{name} is no directory here, and the hub did not give it: {error}") from error


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
    array = to_uint8(pictures)
    if output_type == "np":
        return array
    if output_type == "pil":
        from PIL import Image

        return [Image.fromarray(picture) for picture in array]
    raise ValueError(f"unknown output_type {output_type!r}; choose 'pil', 'np' or 'pt'")


def to_uint8(pictures: Tensor) -> np.ndarray:
    """`(b, 3, H, W)` in [-1, 1] to `(b, H, W, 3)` uint8, rounded to nearest."""
    scaled = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return scaled.permute(0, 2, 3, 1).cpu().numpy()
