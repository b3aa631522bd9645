"""Coil sensitivity maps: simulated, and estimated from the centre of k-space.

References:
    | The NMR phased array (Roemer et al., 1990), for the sum-of-squares normalisation
    | https://doi.org/10.1002/mrm.1910160203
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.cartesian_mri import ifft2c

__all__ = ["birdcage_maps", "maps_from_calibration"]


def birdcage_maps(coils: int, height: int, width: int, radius: float = 1.5) -> Tensor:
    """Simulated maps of coils on a circle around the field of view, complex64 (1, coils, h, w).

    Each coil's magnitude falls off as one over the distance, its phase turns with the direction;
    the root of the sum of squares over the coils is one in every pixel. ``radius`` is in half
    fields of view. Pixel centres are at (i + 1/2) / size, so a finer grid samples the same maps.
    """
    angle = 2 * math.pi * torch.arange(coils, dtype=torch.float64)[:, None, None] / coils
    row = ((torch.arange(height, dtype=torch.float64) + 0.5) / height * 2 - 1)[None, :, None]
    column = ((torch.arange(width, dtype=torch.float64) + 0.5) / width * 2 - 1)[None, None, :]
    x, y = column - radius * torch.cos(angle), row - radius * torch.sin(angle)
    maps = torch.polar(1 / torch.hypot(x, y), torch.atan2(y, x) - angle)
    maps = maps / maps.abs().square().sum(0, keepdim=True).sqrt()
    return maps[None].to(torch.complex64)


def maps_from_calibration(kspace: Tensor, width: int) -> Tensor:
    """Maps from the central ``width`` x ``width`` samples of k-space (b, coils, height, width).

    The centre is weighted by a Hann window and transformed to low-resolution coil images, which
    are divided by the root of their sum of squares. The maps leave a phase per pixel free; it is
    fixed relative to the *virtual coil*, the combination of coils with the most energy (its
    weights turned so that the first coil's is real): the virtual coil's map is real and positive.
    Every row is estimated by itself. Gives complex (b, coils, height, width).

    Raises:
        ShapeError: If k-space has not four axes or the centre is wider than k-space.
        ValueError: If the centre holds no signal.
    """
    if kspace.ndim != 4 or not 2 <= width <= min(kspace.shape[2:]):
        raise ShapeError(
            f"k-space has shape {tuple(kspace.shape)} and the calibration width is {width}; "
            "expected (items, coils, height, width) and 2 <= width <= height, width."
        )
    height, columns = kspace.shape[2:]
    top, left = height // 2 - width // 2, columns // 2 - width // 2
    centre = torch.zeros_like(kspace)
    inside = (slice(None), slice(None), slice(top, top + width), slice(left, left + width))
    centre[inside] = kspace[inside] * _hann(width, kspace.device).to(kspace.real.dtype)
    images = ifft2c(centre)
    rss = images.abs().square().sum(1, keepdim=True).sqrt()
    peak = rss.amax(dim=(1, 2, 3), keepdim=True)
    if not bool((peak > 0).all()):
        raise ValueError(
            f"The central {width} x {width} samples of k-space are zero in a row; expected "
            "measured calibration lines. Check the mask, the width and the centring."
        )
    # A relative floor: k-space comes at any scale, 1e-7 included.
    maps = images / rss.clamp_min(1e-6 * peak)
    flat = images.flatten(2)
    _, vectors = torch.linalg.eigh(flat @ flat.mH)
    weights = vectors[:, :, -1]
    weights = weights * torch.exp(-1j * weights[:, :1].angle())
    virtual = (weights.conj()[:, :, None, None] * images).sum(1, keepdim=True)
    return maps * torch.exp(-1j * virtual.angle())


def _hann(width: int, device: torch.device) -> Tensor:
    """A separable Hann window that is one at index width // 2 and positive everywhere."""
    t = torch.arange(width, dtype=torch.float64, device=device) - width // 2
    window = torch.cos(math.pi * t / (width + 1)).square()
    return window[:, None] * window[None, :]
