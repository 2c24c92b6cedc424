"""Files of clients, in and out: what comes in is checked before it is decoded, and leaves without its metadata."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from typing import Any

import numpy as np

from selfflow.data.packs import decode_picture
from selfflow.data.sample import DecodeError
from selfflow.serve.limits import Limits, Refused

PICTURES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
FORMATS = {"png": "PNG", "jpeg": "JPEG", "jpg": "JPEG", "webp": "WEBP"}


def check_picture(data: bytes, limits: Limits) -> None:
    """Read the header only: is it a PNG, JPEG or WebP of bearable size?

    Raises:
        Refused: saying what it is instead.
    """
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures; we refuse them
            with Image.open(io.BytesIO(data), formats=tuple(PICTURES)) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise Refused("too_large", f"a picture of far more than {limits.upload_pixels} pixels") from None
    except Exception:  # Pillow's readers raise OSError, ValueError, SyntaxError, struct.error …
        raise Refused("bad_request", "this is no readable PNG, JPEG or WebP picture") from None
    if width * height > limits.upload_pixels or min(width, height) < 1:
        raise Refused(
            "too_large", f"a picture of {width} × {height} pixels; at most {limits.upload_pixels} are decoded"
        )


def read_picture(data: bytes, limits: Limits) -> np.ndarray:
    """uint8 `(H, W, 3)`: upright, transparency on white, of an animation the first picture.

    Raises:
        Refused: for anything that is no picture, or too large a one.
    """
    check_picture(data, limits)
    try:
        return decode_picture(data, "this picture")
    except DecodeError as error:
        raise Refused("bad_request", str(error)) from None


def read_mask(data: bytes, limits: Limits) -> np.ndarray:
    """bool `(H, W)`: True where to paint anew. Where a picture has transparency, that says so; else white does.

    Raises:
        Refused: as `read_picture`.
    """
    from PIL import Image

    check_picture(data, limits)
    try:
        with Image.open(io.BytesIO(data), formats=tuple(PICTURES)) as image:
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                alpha = np.asarray(image.convert("RGBA"))[..., 3]
                if (alpha < 255).any():
                    return alpha < 128
            return np.asarray(image.convert("L")) >= 128
    except Exception:
        raise Refused("bad_request", "this mask is no readable picture") from None


def whole_cells(picture: np.ndarray, cell: int, pixels: int) -> np.ndarray:
    """A picture `(h, w, 3)` or a mask `(h, w)` of at most so many pixels, scaled down where it has more, whose sides
    are multiples of `cell`, cut at the centre. Never stretched.

    Raises:
        Refused: for one that is narrower than a cell.
    """
    height, width = picture.shape[:2]
    if height * width > pixels:
        share = (pixels / (height * width)) ** 0.5
        picture = resized(picture, max(cell, round(height * share)), max(cell, round(width * share)))
        height, width = picture.shape[:2]
    if min(height, width) < cell:
        raise Refused("bad_request", f"a picture of {width} × {height} pixels; its sides need at least {cell}")
    rows, columns = height // cell * cell, width // cell * cell
    top, left = (height - rows) // 2, (width - columns) // 2
    return np.ascontiguousarray(picture[top : top + rows, left : left + columns])


def fitted(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture `(h, w, 3)` or a mask `(h, w)` scaled to cover that size and cut at the centre; never stretched."""
    h, w = picture.shape[:2]
    if (h, w) == (height, width):
        return picture
    share = max(height / h, width / w)
    big = resized(picture, max(height, round(h * share)), max(width, round(w * share)))
    top, left = (big.shape[0] - height) // 2, (big.shape[1] - width) // 2
    return np.ascontiguousarray(big[top : top + height, left : left + width])


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Lanczos; masks by the nearest pixel."""
    from PIL import Image

    if picture.dtype == bool:
        return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def picture_bytes(picture: np.ndarray, kind: str = "png", metadata: Mapping[str, str] | None = None) -> bytes:
    """uint8 `(H, W, 3)` as a file: png (with text metadata, if any), jpeg or webp."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    buffer, options = io.BytesIO(), dict[str, Any]()
    if kind == "png":
        info = PngInfo()
        for key, value in (metadata or {}).items():
            info.add_itxt(key, value)
        options = {"pnginfo": info, "compress_level": 3}
    elif kind == "webp":
        options = {"quality": 95}
    else:
        options = {"quality": 95, "subsampling": 0}
    Image.fromarray(picture).save(buffer, FORMATS[kind], **options)
    return buffer.getvalue()


def stacked(clip: np.ndarray) -> np.ndarray:
    """Frames `(f, H, W, 3)` one below the other `(f · H, W, 3)`."""
    return clip.reshape(-1, *clip.shape[2:])


def read_wav(data: bytes, limits: Limits) -> tuple[np.ndarray, int]:
    """A wav of 16 bits as float32 `(samples,)`, its channels mixed, and its samples a second.

    Raises:
        Refused: for anything else, or one that is too long.
    """
    try:
        with wave.open(io.BytesIO(data), "rb") as file:
            channels, width, rate, count = file.getparams()[:4]
            if width != 2 or not 1 <= channels <= 8 or not 1000 <= rate <= 192_000:
                raise Refused("bad_request", f"a wav of {8 * width} bits, {channels} channels, {rate} Hz; give 16 bits")
            if count > limits.seconds * rate:
                raise Refused("too_large", f"a sound of {count / rate:.1f} s; at most {limits.seconds:g} s")
            values = np.frombuffer(file.readframes(count), "<i2")
    except (wave.Error, EOFError, ValueError, RuntimeError):
        raise Refused("bad_request", "this is no readable 16-bit wav file") from None
    if not len(values) or len(values) % channels:
        raise Refused("bad_request", "this wav file is empty or cut short")
    return (values.reshape(-1, channels).mean(axis=1) / 32768).astype(np.float32), rate
