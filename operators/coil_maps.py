"""Coil sensitivity maps: simulated, and estimated from the centre of k-space.

References:
    | The NMR phased array (Roemer et al., 1990), for the sum-of-squares normalisation
    | https://doi.org/10.1002/mrm.1910160203
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.errors import NotFinite, ShapeError
from invdiff.operators.cartesian_mri import ifft2c

__all__ = [
    "birdcage_maps",
    "calibration_block",
    "central_block",
    "centre",
    "embed",
    "maps_from_calibration",
    "relative_to_virtual_coil",
    "virtual_coil",
]


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
        TypeError: If k-space is not complex.
        NotFinite: If the centre has NaN or infinite samples.
        ValueError: If the centre has samples that were not measured.
    """
    block = calibration_block(kspace, width)
    block = block / block.abs().amax(dim=(1, 2, 3), keepdim=True)  # or squares of 1e-25 vanish
    window = _hann(width, kspace.device).to(kspace.real.dtype)
    images = ifft2c(embed(block * window, *kspace.shape[2:]))
    rss = images.abs().square().sum(1, keepdim=True).sqrt()
    peak = rss.amax(dim=(1, 2, 3), keepdim=True)
    return relative_to_virtual_coil(images / rss.clamp_min(1e-6 * peak), virtual_coil(block))


def calibration_block(kspace: Tensor, width: int) -> Tensor:
    """The central (b, coils, width, width) samples, which must all have been measured.

    Raises what ``maps_from_calibration`` raises.
    """
    block = central_block(kspace, width)
    missing = int((block == 0).all(1).sum())
    if missing:
        raise ValueError(
            f"{missing} of the central {width} x {width} samples of k-space are zero in every "
            "coil; expected measured calibration lines. Check the mask, the width (a smaller "
            "one?) and the centring."
        )
    return block


def central_block(kspace: Tensor, width: int) -> Tensor:
    """The central (b, coils, width, width) samples, zero where nothing was measured.

    Raises what ``maps_from_calibration`` raises, except for missing samples.
    """
    if kspace.ndim != 4 or not 2 <= width <= min(kspace.shape[2:]):
        raise ShapeError(
            f"k-space has shape {tuple(kspace.shape)} and the calibration width is {width}; "
            "expected (items, coils, height, width) and 2 <= width <= height, width."
        )
    if not kspace.is_complex():
        raise TypeError(
            f"k-space has dtype {kspace.dtype}, expected complex numbers. Two real channels "
            "become complex with torch.complex(real, imaginary)."
        )
    block = centre(kspace, width)
    if not bool(torch.isfinite(block).all()):
        raise NotFinite(
            f"The central {width} x {width} samples of k-space have NaN or infinite values; "
            "expected finite numbers. Set samples that were not measured to zero."
        )
    return block


def embed(block: Tensor, height: int, width: int) -> Tensor:
    """Central samples (..., w, w) in a k-space (..., height, width) of zeros."""
    whole = block.new_zeros(*block.shape[:-2], height, width)
    centre(whole, block.shape[-1]).copy_(block)
    return whole


def relative_to_virtual_coil(maps: Tensor, weights: Tensor) -> Tensor:
    """Maps (b, coils, h, w) with the phase that makes the virtual coil's map real, positive."""
    virtual = (weights.conj()[:, :, None, None] * maps).sum(1, keepdim=True)
    return maps * torch.exp(-1j * virtual.angle())


def virtual_coil(block: Tensor) -> Tensor:
    """The weights (b, coils) of the combination of coils with the most energy in a block.

    They are the first eigenvector of the covariance of the Hann-weighted samples, turned so that
    the first coil's weight is real: where that one vanishes, any other turn would do as well.
    """
    window = _hann(block.shape[-1], block.device)
    samples = (block.to(torch.complex128) * window).flatten(2)
    _, vectors = torch.linalg.eigh(samples @ samples.mH)
    weights: Tensor = vectors[:, :, -1]
    return (weights * torch.exp(-1j * weights[:, :1].angle())).to(block.dtype)


def centre(kspace: Tensor, width: int) -> Tensor:
    """A view of the central samples of the last two axes."""
    top, left = (n // 2 - width // 2 for n in kspace.shape[-2:])
    return kspace[..., top : top + width, left : left + width]


def _hann(width: int, device: torch.device) -> Tensor:
    """A separable Hann window that is one at index width // 2 and positive everywhere."""
    t = torch.arange(width, dtype=torch.float64, device=device) - width // 2
    window = torch.cos(math.pi * t / (width + 1)).square()
    return window[:, None] * window[None, :]
