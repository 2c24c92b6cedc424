"""Text as tokens: a small byte-pair vocabulary learned from the captions, or the hidden states of a pretrained encoder.

Both are a `TextEncoder`: prompts in, `Tokens` out, and a `Modality` that tells the network how to embed them. Every
prompt begins with a start token, so the empty prompt, which guidance needs, is one token and not none.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from selfflow.nn.transformer import Modality
from selfflow.tokens import AXES, Tokens, lengths_to_mask, sequence_positions

COLUMN = AXES.index("column")
PAD, START = "<pad>", "<start>"
# What stands in quotes, with the space before it, and any other quote, so that no other part holds one; its letters.
QUOTED, LETTER = r'\s?"[^"]+"|\s?"', r'[^"\s](?=[^"]*")'
PITCH = 0.1  # between letters that have columns, of a picture's width: about what a sign on a table shows


class TextEncoder(Protocol):
    """Prompts to tokens."""

    modality: Modality

    def __call__(self, prompts: Sequence[str]) -> Tokens:
        """`(b, n)` indices or `(b, n, c)` values, padded to the longest prompt and masked."""
        ...

    def save(self, directory: Path) -> None:
        """Write what `load_text_encoder` needs."""
        ...


def checked(prompts: Sequence[str]) -> list[str]:
    """The prompts as a list, or one error naming the first that is no text."""
    prompts = list(prompts)
    for i, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise TypeError(f"prompt {i} is {type(prompt).__name__}; prompts are strings")
    if not prompts:
        raise ValueError("no prompt was given; use an empty string for an unconditional picture")
    return prompts


class BytePairs:
    """A byte-level BPE (Sennrich et al. 2016) over lower-cased text: any string has an encoding.

    Args:
        tokenizer: a `tokenizers.Tokenizer` with the special tokens `<pad>` and `<start>`.
        max_tokens: longest prompt kept, start token included; the rest is cut off.
        columns: what is spelled has columns, as if it were written across the middle of the picture.
    """

    FILE = "tokenizer.json"

    def __init__(self, tokenizer: Any, max_tokens: int = 64, columns: bool = False) -> None:
        self.tokenizer, self.max_tokens, self.columns = tokenizer, max_tokens, columns
        self.pad, self.start = (tokenizer.token_to_id(name) for name in (PAD, START))
        if self.pad is None or self.start is None:
            raise ValueError(f"the tokenizer lacks the special tokens {PAD} and {START}")
        self.modality = Modality(vocabulary=tokenizer.get_vocab_size())

    @classmethod
    def train(cls, captions: Iterable[str], vocabulary: int = 2048, max_tokens: int = 64) -> BytePairs:
        """Learn the merges from captions; the same captions give the same vocabulary."""
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

        if vocabulary < 260:
            raise ValueError(f"a vocabulary of {vocabulary} cannot hold 256 bytes and the special tokens; use ≥ 260")
        tokenizer = Tokenizer(models.BPE())
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=[PAD, START],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(captions, trainer)
        return cls(tokenizer, max_tokens)

    @property
    def spells(self) -> bool:
        """Whether what stands in quotes is told letter by letter."""
        return json.dumps(QUOTED) in self.tokenizer.to_str()

    def spell(self) -> None:
        """From now on tell what stands in quotes letter by letter, in tokens of the vocabulary as it is.

        Who is to write "SUN" has to know its letters, and a vocabulary of pieces hides them: one learned from captions
        has `on` in one piece and `sun` in two (characters against pieces in drawing text: Liu et al. 2022, 2212.10562).
        """
        from tokenizers import Regex, normalizers, pre_tokenizers

        # What stands apart must not get a space of its own, as `ByteLevel` would give it: the text gets its one before.
        self.tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip(right=False), normalizers.Prepend(" ")]
        )
        self.tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in (QUOTED, LETTER)]
            + [pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )

    def __call__(self, prompts: Sequence[str]) -> Tokens:
        encoded = self.tokenizer.encode_batch(checked(prompts), add_special_tokens=False)
        rows = [[self.start, *e.ids[: self.max_tokens - 1]] for e in encoded]
        lengths = torch.tensor([len(row) for row in rows])
        n = int(lengths.max())
        data = torch.tensor([row + [self.pad] * (n - len(row)) for row in rows])
        mask = None if bool((lengths == n).all()) else lengths_to_mask(lengths, n)
        places = sequence_positions(n).expand(len(rows), -1, -1)
        if self.columns and self.spells:
            places = places.clone()
            places[..., COLUMN] = torch.tensor([self._columns(e.tokens, n) for e in encoded])
        return Tokens(data, places, "text", mask)

    def _columns(self, tokens: Sequence[str], n: int) -> list[float]:
        """Of the start token, these, and padding to `n`: a letter's from the middle of what stands in its quotes.

        Which letter of a word one is takes counting, layer by layer; told, a patch may ask for the letter of its place.
        """
        columns = [0.0] * (1 + len(tokens))
        quotes = [i for i, token in enumerate(tokens, 1) if token.endswith('"')]
        for first, last in zip(quotes[::2], quotes[1::2], strict=False):
            for k in range(first + 1, last):
                columns[k] = PITCH * (k - (first + last) / 2)
        return (columns + [0.0] * n)[:n]

    def length(self, prompt: str) -> int:
        """How many tokens it becomes."""
        (text,) = checked([prompt])
        return 1 + min(self.max_tokens - 1, len(self.tokenizer.encode(text, add_special_tokens=False)))

    def save(self, directory: Path) -> None:
        temporary = directory / f".{self.FILE}.tmp"
        record = {"max_tokens": self.max_tokens, "tokenizer": json.loads(self.tokenizer.to_str())}
        if self.columns:
            record["columns"] = True
        temporary.write_text(json.dumps(record, ensure_ascii=False))
        os.replace(temporary, directory / self.FILE)

    @classmethod
    def load(cls, directory: Path) -> BytePairs:
        from tokenizers import Tokenizer

        path = directory / cls.FILE
        try:
            record = json.loads(path.read_text())
            tokenizer = Tokenizer.from_str(json.dumps(record["tokenizer"]))
            return cls(tokenizer, int(record["max_tokens"]), bool(record.get("columns", False)))
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} is missing; a model directory holds {cls.FILE}") from None
        except Exception as error:  # tokenizers raises bare Exception on a malformed vocabulary
            raise ValueError(f"{path} is not a tokenizer written by selfflow: {error}") from error


class Pretrained:
    """Hidden states of a pretrained `transformers` encoder, frozen (extra `text`).

    Args:
        name: hub id or directory.
        layers: hidden states concatenated along the channels, e.g. `(9, 18, 27)` as FLUX.2 does; -1 is the last.
        max_tokens: longest prompt kept.
    """

    FILE = "text_encoder.json"

    def __init__(self, name: str, layers: Sequence[int] = (-1,), max_tokens: int = 128) -> None:
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise ImportError(
                "a pretrained text encoder needs the extra `text`: pip install 'selfflow[text]'"
            ) from error
        self.name, self.layers, self.max_tokens = name, tuple(layers), max_tokens
        self.tokenizer = AutoTokenizer.from_pretrained(name)
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.tokenizer.padding_side = "right"
        self.model = AutoModel.from_pretrained(name).eval().requires_grad_(False)
        self.modality = Modality(channels=self.model.config.hidden_size * len(self.layers))

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str]) -> Tokens:
        # Encoders without a start token would turn "" into nothing; a space keeps one token there.
        texts = [p or " " for p in checked(prompts)]
        batch = self.tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=self.max_tokens)
        states = self.model(**batch, output_hidden_states=True).hidden_states
        data = torch.cat([states[i] for i in self.layers], dim=-1).float()
        mask = batch["attention_mask"].bool()
        places = sequence_positions(data.shape[1]).expand(len(data), -1, -1)
        return Tokens(data, places, "text", None if bool(mask.all()) else mask)

    def save(self, directory: Path) -> None:
        temporary = directory / f".{self.FILE}.tmp"
        temporary.write_text(json.dumps({"name": self.name, "layers": self.layers, "max_tokens": self.max_tokens}))
        os.replace(temporary, directory / self.FILE)

    @classmethod
    def load(cls, directory: Path) -> Pretrained:
        return cls(**json.loads((directory / cls.FILE).read_text()))


def load_text_encoder(directory: Path) -> TextEncoder:
    """The encoder a model directory was saved with."""
    return (Pretrained if (directory / Pretrained.FILE).exists() else BytePairs).load(directory)
