"""How far a restored picture or sound is from the true one: what small autoencoders are trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def gradient_distance(restored: Tensor, true: Tensor, scales: int = 3) -> Tensor:
    """Mean absolute error of differences between neighbouring pixels, at full size, half, quarter, …; `(n, c, H, W)`.

    A plain error prefers blur to an edge that is a pixel off; this one asks for edges. Its mean over the scales is
    returned; scales at which a side would be below 2 are left out.
    """
    error, distances = restored - true, []
    for _ in range(scales):
        if min(error.shape[-2:]) < 2:
            break
        distances.append((error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2)
        error = F.avg_pool2d(error, 2)
    if not distances:
        raise ValueError(f"pictures of {tuple(true.shape)} are too small to have differences")
    return torch.stack(distances).mean()


def spectral_distance(restored: Tensor, true: Tensor, windows: Sequence[int] = (2048, 512, 128)) -> Tensor:
    """Mean absolute error of log magnitudes, over short-time Fourier transforms of several windows; `(b, samples)`.

    10⁻⁴ is added to each magnitude (white noise of size 1 has magnitudes near 1), so that near silence counts as
    silence. Windows longer than the sound are left out. After Yamamoto et al. 2019 (1910.11480), without the linear
    term.
    """
    distances = []
    for window in windows:
        if window > true.shape[-1]:
            continue
        shape = torch.hann_window(window, device=true.device)
        a, b = (_log_magnitudes(x.float(), shape) for x in (restored, true))
        distances.append((a - b).abs().mean())
    if not distances:
        raise ValueError(f"sounds of {tuple(true.shape)} are shorter than every window of {tuple(windows)}")
    return torch.stack(distances).mean()


def psnr(restored: Tensor, true: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each sample `(b, …)` in dB, `(b,)`. Values lie in [-1, 1], so the peak is 2."""
    error = (restored.float() - true.float()).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(4 / error.clamp_min(1e-12))


def _log_magnitudes(x: Tensor, window: Tensor) -> Tensor:
    spectrum = torch.stft(x, len(window), len(window) // 4, window=window, return_complex=True)
    # Of the sum of squares, not `abs`: its gradient at 0 is finite.
    power = torch.view_as_real(spectrum).square().sum(dim=-1) / window.square().sum()
    return torch.log10((power + 1e-12).sqrt() + 1e-4)
