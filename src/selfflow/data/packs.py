"""Data packs: where they are, and how their records are read."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from selfflow.data.sample import DecodeError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MOST_PIXELS = 64_000_000


class PackMissing(FileNotFoundError):
    """A data pack is not on this machine; the message says where it was looked for."""


def find(name: str) -> Path:
    """The directory of a data pack.

    Looked for in `$SELFFLOW_DATA`, then in `data` and `../shared/data` beside the working directory and the checkout.
    """
    root = Path(__file__).resolve().parents[3]
    places = [Path(p) for p in (os.environ.get("SELFFLOW_DATA"),) if p]
    places += [base / part for base in (Path.cwd(), root) for part in ("data", "../shared/data")]
    for place in places:
        if (place / name).is_dir():
            return (place / name).resolve()
    looked = ", ".join(dict.fromkeys(str(p) for p in places))
    raise PackMissing(
        f"the data pack {name} is not here (looked in {looked}); set SELFFLOW_DATA to the packs' directory"
    )


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an `.npz`; pickled objects are refused.

    Raises:
        FileNotFoundError, ValueError: naming the file, when it is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise ValueError(f"{path} is damaged: {error}") from error


def decode_picture(data: bytes, name: str) -> np.ndarray:
    """Bytes of a picture file as uint8 `(H, W, 3)` RGB, upright; transparency is laid on white.

    Raises:
        DecodeError: when Pillow cannot read them, or the picture is absurdly large.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as file:
            if file.width * file.height > MOST_PIXELS:
                raise DecodeError(f"{name} has {file.width} × {file.height} pixels, more than {MOST_PIXELS}")
            image = _upright(file)
            if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 8, which turns most of them white
                grey = (np.asarray(image).astype(np.uint32) + 128) // 257
                return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                white = Image.new("RGBA", image.size, "white")
                return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
            return np.asarray(image.convert("RGB"))
    except DecodeError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, ValueError, SyntaxError, struct.error …
        raise DecodeError(f"{name} is no readable picture: {error}") from error


def _upright(image: Picture) -> Picture:
    """Turned as the camera says it was held."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged note of the camera is no reason to lose the picture
        return image


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """The centre square of a picture at `size × size` pixels (Lanczos)."""
    from PIL import Image

    height, width = picture.shape[:2]
    if (height, width) == (size, size):
        return picture
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cropped = Image.fromarray(picture[top : top + side, left : left + side])
    return np.asarray(cropped.resize((size, size), Image.Resampling.LANCZOS))
