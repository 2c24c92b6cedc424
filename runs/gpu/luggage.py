"""Data packs for a machine that takes 64 MiB: only what training reads, compressed as hard as it goes, and back again.

    python runs/gpu/luggage.py pack --packs PACKS --out data/packs      # here, two minutes: 136 MB become 57
    python3 runs/gpu/luggage.py unpack --packs data/packs --out /tmp/packs      # there, seconds; numpy and the
                                                                                 # standard library suffice

What is held out (emoji, recordings and hands of the test splits) and what no source reads (keypoints of PushT) travels
as nothing: the arrays keep their shapes, so the packs open as ever, and training draws the very same samples.
"""

from __future__ import annotations

import argparse
import io
import lzma
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

Arrays = dict[str, np.ndarray]
UNREAD = ("keypoint", "n_contacts")  # of PushT


def without(arrays: Arrays, data: str, gone: np.ndarray) -> Arrays:
    """Records laid end to end in `arrays[data]`, those that are gone having no length."""
    offsets = arrays["offsets"]
    parts = [
        arrays[data][a:b] if not g else arrays[data][:0] for a, b, g in zip(offsets, offsets[1:], gone, strict=False)
    ]
    ends = np.cumsum([0, *map(len, parts)]).astype(offsets.dtype)
    return arrays | {data: np.concatenate(parts), "offsets": ends}


def emoji(arrays: Arrays) -> Arrays:
    return without(arrays, "data", arrays["split"] != 0)


def hands(arrays: Arrays) -> Arrays:
    return without(arrays, "data", arrays["test"] != 0)


def digits(arrays: Arrays) -> Arrays:
    """Sound as differences, high and low bytes apart: a fifth smaller. Held-out recordings are silent, not short."""
    audio, offsets = arrays["audio"].copy(), arrays["offsets"]
    for i in np.flatnonzero(arrays["test"]):
        audio[offsets[i] : offsets[i + 1]] = 0
    changes = np.diff(audio, prepend=audio[:1] * 0)  # int16 wraps round, and back again
    rest = {k: v for k, v in arrays.items() if k != "audio"}
    return rest | {"high": (changes >> 8).astype(np.int8), "low": (changes & 255).astype(np.uint8)}


def digits_back(arrays: Arrays) -> Arrays:
    changes = (arrays.pop("high").astype(np.int16) << 8) | arrays.pop("low")
    return arrays | {"audio": np.cumsum(changes, dtype=np.int16)}


def pusht(arrays: Arrays) -> Arrays:
    return {k: v for k, v in arrays.items() if k not in UNREAD}


FILES: dict[str, tuple[Callable[[Arrays], Arrays], Callable[[Arrays], Arrays]]] = {
    "emoji64/emoji64.npz": (emoji, dict),
    "emoji64/emoji64_pairs.npz": (dict, dict),
    "fsdd8k/fsdd8k.npz": (digits, digits_back),
    "pusht64/pusht64_center.npz": (pusht, dict),
    "pusht64/pusht64_x356.npz": (pusht, dict),
    "signdigits64/signdigits64.npz": (hands, dict),
    "sonicpi_cc0_16k/sonicpi16k.npz": (dict, dict),
    "lpc64/lpc64.npz": (dict, dict),
}
TEXTS = ("emoji64/captions.jsonl", "lpc64/AUTHORS.txt", "lpc64/lpc64.py")


def pack(packs: Path, out: Path, skip: set[str]) -> int:
    """Write `out`; returns its bytes."""
    total = 0
    for name, (change, _) in FILES.items():
        if name.split("/")[0] in skip:
            continue
        with np.load(packs / name) as found:
            arrays = change(dict(found))
        for key, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            total += _write(out / f"{name}.{key}.xz", buffer.getvalue())
        print(f"{name}: {total / 1e6:.1f} MB so far", flush=True)
    for name in TEXTS:
        if name.split("/")[0] not in skip:
            total += _write(out / f"{name}.xz", (packs / name).read_bytes())
    return total


def _write(path: Path, data: bytes) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    window = 1 << (27 if len(data) > 50e6 else 24)  # clips repeat themselves over many frames
    small = lzma.compress(data, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": window}])
    path.write_bytes(small)
    return len(small)


def _read(path: Path) -> np.ndarray:
    return np.load(io.BytesIO(lzma.decompress(path.read_bytes())), allow_pickle=False)


def _restore(packs: Path, out: Path, name: str) -> str:
    arrays = {
        p.name[len(Path(name).name) + 1 : -3]: _read(p) for p in (packs / name).parent.glob(f"{Path(name).name}.*")
    }
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    # PushT reads its pictures from the compressed file; stored plainly they would take 600 MB in every process.
    (np.savez_compressed if name.startswith("pusht64/") else np.savez)(out / name, **FILES[name][1](arrays))
    return name


def unpack(packs: Path, out: Path) -> None:
    """The packs as they were, but for what was left behind."""
    there = [n for n in FILES if list((packs / n).parent.glob(f"{Path(n).name}.*"))]
    with ProcessPoolExecutor() as pool:
        for name in pool.map(_restore, [packs] * len(there), [out] * len(there), there):
            print(f"{name} restored", flush=True)
    for name in TEXTS:
        if (packs / f"{name}.xz").exists():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(lzma.decompress((packs / f"{name}.xz").read_bytes()))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pack", "unpack"))
    parser.add_argument("--packs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--skip", nargs="*", default=[], help="packs to leave out, such as sonicpi_cc0_16k")
    a = parser.parse_args(arguments)
    if a.what == "pack":
        shutil.rmtree(a.out, ignore_errors=True)
        print(f"{pack(a.packs, a.out, set(a.skip)) / 1e6:.1f} MB")
    else:
        unpack(a.packs, a.out)


if __name__ == "__main__":
    main()
