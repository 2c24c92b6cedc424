"""A directory of pictures with captions in `metadata.jsonl`: the Hugging Face image-folder convention."""

from __future__ import annotations

import csv
import io
import json
import operator
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from selfflow.data.packs import decode_picture, square
from selfflow.data.sample import DecodeError, Sample


class ImageFolder:
    """Pictures named by a metadata file, each with a caption.

    Args:
        directory: holds `metadata.jsonl` or `metadata.csv`, whose records have `file_name` (relative to it) and a text.
        size: pictures are cropped to their centre square and resized to this many pixels.
        caption_key: the field that holds the caption.

    Raises:
        FileNotFoundError: when the directory or its metadata is missing.
        ValueError: naming the line that is no record, lacks a key, or names a file outside the directory.
    """

    def __init__(self, directory: Path, size: int, caption_key: str = "text") -> None:
        if not 8 <= size <= 4096:
            raise ValueError(f"size {size} is not between 8 and 4096 pixels")
        self.directory, self.size = Path(directory), size
        self.name = self.directory.resolve().name
        self.files: list[str] = []
        self.texts: list[str] = []
        for line, record in _records(self.directory):
            missing = [key for key in ("file_name", caption_key) if not isinstance(record.get(key), str)]
            if missing:
                raise ValueError(f"{line} has no text under {missing}; it has {sorted(record)}")
            file = PurePosixPath(record["file_name"])
            if file.is_absolute() or ".." in file.parts:
                raise ValueError(f"{line} names {file}, which lies outside {self.directory}")
            if "\0" in str(file):
                raise ValueError(f"{line} names {str(file)!r}, which no file can be called")
            self.files.append(str(file))
            self.texts.append(record[caption_key])
        if not self.files:
            raise ValueError(f"{self.directory} has metadata without a single record")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Sample:
        index = operator.index(index)
        if not 0 <= index < len(self.files):
            raise IndexError(f"index {index} of {len(self.files)} pictures")
        path = self.directory / self.files[index]
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DecodeError(f"{path} cannot be read: {error.strerror}") from error
        picture = square(decode_picture(data, str(path)), self.size)
        return Sample(f"{self.name}/{self.files[index]}", picture, self.texts[index])

    def captions(self) -> Iterator[str]:
        """All captions, without opening a picture."""
        return iter(self.texts)


def _records(directory: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Each record with the words to name it in an error."""
    lines, table = directory / "metadata.jsonl", directory / "metadata.csv"
    if lines.exists():
        # Not splitlines: JSON strings may hold other separators, such as U+2028, as they are.
        for number, line in enumerate(_text(lines).split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{lines}, line {number},"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where} is not JSON: {error.msg}") from error
            if not isinstance(record, dict):
                raise ValueError(f"{where} is no object with file_name and a caption")
            yield where, record
    elif table.exists():
        reader = csv.DictReader(io.StringIO(_text(table), newline=""), restkey="surplus columns")
        try:
            for record in reader:
                yield f"{table}, line {reader.line_num},", record
        except csv.Error as error:
            raise ValueError(f"{table}, line {reader.line_num}, is not CSV: {error}") from error
    else:
        raise FileNotFoundError(f"{directory} holds neither metadata.jsonl nor metadata.csv")


def _text(file: Path) -> str:
    """A text file, with or without a byte-order mark."""
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8: byte {error.start} {error.reason}") from error
