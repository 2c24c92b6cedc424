"""One binary message: a little-endian 32-bit length, a JSON header, and the bytes of its parts in order."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Part:
    """Bytes with what they are.

    Attributes:
        name: `picture`, `clip`, `sound`; of worlds `real` and `dream`.
        mime: `image/png`, `image/rgb` (rows of uint8 RGB), `audio/wav`.
        about: width, height, frames, fps, rate, seconds, hash: what there is of them.
    """

    name: str
    mime: str
    data: bytes
    about: Mapping[str, Any] = field(default_factory=dict)

    def header(self) -> dict[str, Any]:
        """What the header of a message says of it."""
        return {"name": self.name, "mime": self.mime, "bytes": len(self.data), **self.about}


def pack(header: Mapping[str, Any], parts: Sequence[Part]) -> bytes:
    """The message."""
    text = json.dumps({**header, "parts": [part.header() for part in parts]}, allow_nan=False).encode()
    return b"".join([LENGTH.pack(len(text)), text, *(part.data for part in parts)])


def unpack(message: bytes) -> tuple[dict[str, Any], list[Part]]:
    """The inverse of `pack`, for clients written in Python.

    Raises:
        ValueError: for a message whose lengths do not add up.
    """
    if len(message) < LENGTH.size:
        raise ValueError(f"a message of {len(message)} bytes has no header")
    end = LENGTH.size + LENGTH.unpack_from(message)[0]
    if end > len(message):
        raise ValueError(f"the header ends at byte {end} of a message of {len(message)}")
    header = json.loads(message[LENGTH.size : end])
    parts = []
    for about in header.pop("parts"):
        about = dict(about)
        name, mime, count = about.pop("name"), about.pop("mime"), about.pop("bytes")
        parts.append(Part(name, mime, message[end : end + count], about))
        end += count
    if end != len(message):
        raise ValueError(f"the parts end at byte {end} of a message of {len(message)}")
    return header, parts
