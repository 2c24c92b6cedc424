"""Clips as mp4 (H.264, with AAC sound), sound as wav.

mp4 needs PyAV (`pip install 'selfflow[video]'`); wav needs nothing.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..scene import check_fps
from ..sound import check_rate
from .files import whole, write_bytes

QUALITY = 12  # constant rate factor of x264, 0 to 51: at 64 pixels a side bytes are few and blur is dear


def check_mp4(path: str | Path) -> None:
    """Whether a clip can be written there, for who asks before it is made.

    Raises:
        ValueError: for another suffix than .mp4.
        ImportError: without PyAV, saying how to install it.
    """
    if Path(path).suffix.lower() != ".mp4":
        raise ValueError(f"{path} does not end in .mp4; clips are written as mp4")
    _av()


def check_wav(path: str | Path) -> None:
    """The same of a sound. Raises ValueError for another suffix than .wav."""
    if Path(path).suffix.lower() != ".wav":
        raise ValueError(f"{path} does not end in .wav; sounds are written as wav")


def write_mp4(
    path: str | Path,
    clip: np.ndarray,
    fps: int,
    sound: np.ndarray | None = None,
    sound_rate: int = 16_000,
    *,
    quality: int = QUALITY,
    keyframes: int = 12,
    pixels: str = "yuv420p",
) -> Path:
    """Write a clip, and its sound, whole or not at all; what is decoded has exactly as many frames.

    Args:
        path: a file ending in .mp4.
        clip: uint8 `(frames, H, W, 3)`.
        fps: frames a second.
        sound: float `(samples,)` in [-1, 1], or none.
        sound_rate: samples a second.
        quality: constant rate factor of x264, 0 (best) to 51.
        keyframes: at least one in so many frames can be decoded by itself.
        pixels: `"yuv420p"`, which every player shows, halves the resolution of colour and needs even H and W;
            `"yuv444p"` keeps it, and PyAV, ffmpeg and VLC read it.

    Raises:
        ValueError: for another suffix, shape, dtype, odd sides, no frames, or sound out of range.
        ImportError: without PyAV, saying how to install it.
    """
    check_mp4(path)
    with whole(path) as temporary, temporary.open("wb") as file:
        _encode(file, [clip], fps, sound, sound_rate, quality, keyframes, pixels)
    return Path(path)


def write_film(path: str | Path, clips: Iterable[np.ndarray], fps: int, *, keyframes: int = 12) -> Path:
    """Write clips of one size as a single one, each when it comes, so that they need not be held together.

    Arguments and errors as of `write_mp4`; ValueError, too, for a clip of another size than the first.
    """
    check_mp4(path)
    with whole(path) as temporary, temporary.open("wb") as file:
        _encode(file, clips, fps, None, 0, QUALITY, keyframes, "yuv420p")
    return Path(path)


def mp4_bytes(
    clip: np.ndarray, fps: int, sound: np.ndarray | None = None, sound_rate: int = 16_000, pixels: str = "yuv420p"
) -> bytes:
    """What `write_mp4` writes."""
    buffer = io.BytesIO()
    _encode(buffer, [clip], fps, sound, sound_rate, QUALITY, 12, pixels)
    return buffer.getvalue()


def read_mp4(
    path: str | Path | BinaryIO, most: int | None = None
) -> tuple[np.ndarray, float, np.ndarray | None, int | None]:
    """A clip uint8 `(frames, H, W, 3)`, its frames a second, its sound float32 `(samples,)` and samples a second.

    Without a sound track the last two are None. AAC is made of blocks, so that the sound may be up to 1024 samples
    longer than what was written.

    Args:
        most: frames; a longer film is refused once so many are decoded.

    Raises:
        ValueError: for a file that holds no pictures, or more than `most`.
    """
    av = _av()
    with av.open(str(path) if isinstance(path, (str, Path)) else path) as container:
        stream = next(iter(container.streams.video), None)
        pace = stream and (stream.average_rate or stream.guessed_rate)
        if not pace:
            raise ValueError(f"{path} holds no pictures that follow each other; give a clip")
        frames, sounds, rate = list[np.ndarray](), list[np.ndarray](), None
        for frame in container.decode(*container.streams.video[:1], *container.streams.audio[:1]):
            if isinstance(frame, av.VideoFrame):
                if len(frames) == most:
                    raise ValueError(f"{path} has more than {most} frames; give a shorter clip")
                frames.append(frame.to_ndarray(format="rgb24"))
            else:
                rate = frame.sample_rate
                sounds.append(frame.to_ndarray().astype(np.float32).mean(0))
    if not frames:
        raise ValueError(f"{path} holds no pictures that can be decoded")
    return np.stack(frames), float(pace), np.concatenate(sounds) if sounds else None, rate


def write_wav(path: str | Path, sound: np.ndarray, sound_rate: int = 16_000) -> Path:
    """Write a sound, float `(samples,)` in [-1, 1], as 16-bit wav.

    Raises ValueError for another suffix, and for what is no sound: empty, not one channel, not finite, out of range.
    """
    check_wav(path)
    return write_bytes(path, wav_bytes(sound, sound_rate))


def wav_bytes(sound: np.ndarray, sound_rate: int = 16_000) -> bytes:
    """What `write_wav` writes."""
    samples = np.round(_checked_sound(sound) * 32767).astype("<i2")
    check_rate(sound_rate)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound_rate)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def read_wav(path: str | Path | BinaryIO) -> tuple[np.ndarray, int]:
    """Samples float32 `(samples,)` in [-1, 1] of a 16-bit wav of one channel, and its samples a second.

    Raises ValueError for another kind of wav, and for what is none.
    """
    try:
        with wave.open(str(path) if isinstance(path, (str, Path)) else path, "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        cause = str(error) or "it is empty or cut short"
        raise ValueError(f"{path} is no wav that can be read ({cause}); give one of 16-bit integers") from None
    if (channels, width) != (1, 2):
        raise ValueError(f"{path} has {channels} channels of {8 * width} bits; 1 of 16 is read")
    return np.frombuffer(data, "<i2").astype(np.float32) / 32767, rate


def check_clip(clip: np.ndarray) -> np.ndarray:
    """The clip, if it is uint8 `(frames, H, W, 3)` with at least one frame; else ValueError."""
    clip = np.asarray(clip)
    if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3 or not clip.size:
        raise ValueError(f"a clip is uint8 (frames, H, W, 3) with at least one frame, not {clip.dtype} {clip.shape}")
    return clip


def check_even(clip: np.ndarray) -> np.ndarray:
    """The clip, if its sides are even, as yuv420p needs them; else ValueError."""
    if clip.shape[1] % 2 or clip.shape[2] % 2:
        raise ValueError(f"a clip of {clip.shape[2]} by {clip.shape[1]} pixels; mp4 in yuv420p needs even sides")
    return clip


def _pictures(first: np.ndarray, others: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The pictures of the first clip, then of the others, which are as large."""
    yield from first
    for clip in others:
        if check_clip(clip).shape[1:] != first.shape[1:]:
            raise ValueError(f"clips of {first.shape[1:]} and {clip.shape[1:]}; a film has pictures of one size")
        yield from clip


def _checked_sound(sound: np.ndarray) -> np.ndarray:
    sound = np.asarray(sound)
    if sound.ndim != 1 or not len(sound) or sound.dtype.kind != "f":
        raise ValueError(f"a sound is float (samples,) with at least one sample, not {sound.dtype} {sound.shape}")
    if not np.isfinite(sound).all() or np.abs(sound).max() > 1:
        raise ValueError(f"a sound lies in [-1, 1]; this one reaches {np.abs(sound).max()}")
    return sound


def _av() -> Any:
    try:
        import av
    except ImportError:
        raise ImportError("reading and writing mp4 needs PyAV: pip install 'selfflow[video]'") from None
    return av


def _encode(
    file: BinaryIO,
    clips: Iterable[np.ndarray],
    fps: int,
    sound: np.ndarray | None,
    rate: int,
    quality: int,
    keyframes: int,
    pixels: str,
) -> None:
    av, clips = _av(), iter(clips)
    clip = check_clip(next(clips, np.zeros((0, 2, 2, 3), np.uint8)))
    if pixels == "yuv420p":
        check_even(clip)
    sound = None if sound is None else _checked_sound(sound).astype(np.float32)
    check_fps(fps)
    if fps < 1 or int(fps) != fps:
        raise ValueError(f"{fps} frames a second; choose a whole number of at least 1")
    if sound is not None:
        check_rate(rate)
    # The same clip shall give the same bytes: no dates (bitexact), one thread, and no looking ahead (B-frames,
    # macroblock tree), which in x264 reads memory it never wrote when pictures are smaller than 48 pixels.
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=int(fps))
        video.height, video.width, video.pix_fmt = clip.shape[1], clip.shape[2], pixels
        video.options = {"crf": str(quality), "g": str(keyframes), "threads": "1", "bf": "0", "x264-params": "mbtree=0"}
        audio = None
        if sound is not None:
            audio = container.add_stream("aac", rate=rate, layout="mono", options={"flags": "+bitexact"})
            audio.bit_rate = 96_000
        for i, picture in enumerate(_pictures(clip, clips)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = i
            container.mux(video.encode(frame))
        container.mux(video.encode())
        if audio is not None and sound is not None:
            samples = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
            samples.sample_rate, samples.pts = rate, 0
            container.mux(audio.encode(samples))
            container.mux(audio.encode())
