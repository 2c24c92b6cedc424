"""Data sets of the Hugging Face hub (or of any kind `datasets` reads), streamed: no download of the whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from selfflow.data.loader import Batch, share
from selfflow.data.packs import decode_picture, square
from selfflow.data.sample import DecodeError, Sample

log = logging.getLogger(__name__)


class HubStream:
    """Captioned pictures of a data set, in its own order, for ever, with a state to resume from.

    Args:
        name: of the data set, e.g. `"owner/name"`, or a builder such as `"imagefolder"` with `data_dir`.
        split: e.g. `"train"`.
        image_key, text_key: columns.
        size: pictures are cropped to their centre square and resized to this many pixels.
        options: further arguments of `datasets.load_dataset`.

    Raises:
        ImportError: without the extra `data`.
        ValueError: when a column is missing, naming those there are.
    """

    def __init__(
        self, name: str, split: str = "train", image_key: str = "image", text_key: str = "text", size: int = 64,
        **options: Any,
    ) -> None:  # fmt: skip
        try:
            import datasets
        except ImportError as error:
            raise ImportError("streaming needs the extra `data`: pip install 'selfflow[data]'") from error
        if not 8 <= size <= 4096:
            raise ValueError(f"size {size} is not between 8 and 4096 pixels")
        self.name, self.size, self.image_key, self.text_key = name, size, image_key, text_key
        stream = datasets.load_dataset(name, split=split, streaming=True, **options)
        columns = stream.column_names
        if columns is not None and (missing := {image_key, text_key} - set(columns)):
            raise ValueError(f"{name} has no columns {sorted(missing)}; it has {sorted(columns)}")
        if isinstance((stream.features or {}).get(image_key), datasets.Image):
            # Bytes, not decoded pictures: a broken one then costs its record and not the stream.
            stream = stream.cast_column(image_key, datasets.Image(decode=False))
        self.stream, self.epoch, self.number = stream, 0, 0
        self._start = stream.state_dict()
        self._named = 0

    def __iter__(self) -> Iterator[Sample]:
        """Samples of one epoch from the present state on; broken ones raise nothing here but are None to `records`."""
        return (sample for sample in self.records() if sample is not None)

    def records(self) -> Iterator[Sample | None]:
        """One epoch; None stands for a record that could not be read."""
        for record in self.stream:
            self.number += 1
            try:
                sample = self._sample(record, f"{self.name}/{self.number - 1}")
            except DecodeError as error:
                sample, self._named = None, self._named + 1
                if self._named <= 10:  # a broken disk must not fill another with its log
                    log.warning("skipped a record of %s: %s", self.name, error)
            yield sample

    def captions(self) -> Iterator[str]:
        """Captions of one epoch, without its pictures."""
        records = self.stream.select_columns([self.text_key])
        return (record[self.text_key] for record in records if isinstance(record[self.text_key], str))

    def _sample(self, record: dict[str, Any], name: str) -> Sample:
        value: Any = record.get(self.image_key)
        text = record.get(self.text_key)
        if not isinstance(text, str):
            raise DecodeError(f"{name} has no text under {self.text_key!r}")
        if isinstance(value, dict):
            value = value.get("bytes") or _read(value.get("path"), name)
        if isinstance(value, bytes):
            return Sample(name, square(decode_picture(value, name), self.size), text)
        try:
            picture = np.asarray(value.convert("RGB") if hasattr(value, "convert") else value)
        except Exception as error:
            raise DecodeError(f"{name} is no readable picture: {error}") from error
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise DecodeError(f"{name} is {picture.dtype} of shape {picture.shape}, not an RGB picture")
        return Sample(name, square(picture, self.size), text)

    def rewind(self, epoch: int) -> None:
        """Begin an epoch. (A stream resumed from a state would begin every epoch there.)"""
        self.epoch, self.number = epoch, 0
        self.stream.load_state_dict(self._start)

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "number": self.number, "stream": self.stream.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epoch, self.number = state["epoch"], state["number"]
        self.stream.load_state_dict(state["stream"])


def _read(path: str | None, name: str) -> bytes:
    """Bytes of a file that a record names: a path, or one inside an archive or a repository (`zip://…`, `hf://…`)."""
    from datasets.utils.file_utils import xopen

    try:
        with xopen(path or "", "rb") as file:
            return file.read()
    except (OSError, KeyError, ValueError) as error:
        raise DecodeError(f"{name} cannot be read: {error}") from error


class StreamLoader:
    """Endless batches from a stream, in its order; the interface of `selfflow.data.loader.Loader`.

    Every process reads the whole stream and keeps its own rows, so that several equal one.
    """

    def __init__(self, source: HubStream, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.source, self.batch_size, self.rows = source, batch_size, share(batch_size, rank, world_size)
        self.skipped = 0
        source.rewind(0)  # captions may have been read from it
        self._records = source.records()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        samples: list[Sample] = []
        skipped = in_a_row = 0
        while len(samples) < self.batch_size:
            try:
                sample = next(self._records)
            except StopIteration:
                if self.source.number == 0:
                    raise ValueError(f"{self.source.name} holds no records") from None
                self.source.rewind(self.source.epoch + 1)
                self._records = self.source.records()
                continue
            if sample is None:
                skipped, in_a_row = skipped + 1, in_a_row + 1
                if in_a_row == 100:
                    raise ValueError(f"100 records in a row of {self.source.name} cannot be read; is it intact?")
            else:
                samples.append(sample)
                in_a_row = 0
        self.skipped += skipped
        return Batch(samples[self.rows], skipped)

    def state_dict(self) -> dict[str, Any]:
        return {"source": self.source.state_dict(), "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skipped = state["skipped"]
        self.source.load_state_dict(state["source"])
        self._records = self.source.records()
