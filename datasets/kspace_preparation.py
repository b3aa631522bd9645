"""From raw multi-coil k-space to what is reconstructed: white, cropped, fewer coils."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from invdiff.datasets.kspace import KSpace
from invdiff.operators.coil_compression import compress_coils
from invdiff.operators.coil_noise import border_samples, noise_covariance, whiten
from invdiff.operators.kspace_units import remove_oversampling

__all__ = ["Prepared", "check_white", "prepare"]

LARGEST = 1e20  # samples in units of the noise; single precision ends at 3e38


class Prepared(NamedTuple):
    """A slice ready for reconstruction; the part of its energy that is left in its coils."""

    kspace: KSpace
    energy: float


def prepare(
    kspace: np.ndarray, mask: np.ndarray, readout: int, coils: int, noise: Tensor | None = None
) -> Prepared:
    """Whitens, drops the readout's oversampling, and compresses the coils, in this order.

    The result has sigma = 1 per real component, so its images are in units of the noise.

    Arguments:
        kspace: One raw slice (coils, rows, columns), zero where nothing was measured.
        mask: The measured columns, (columns,).
        readout: The rows to keep of the oversampled ones.
        coils: The most virtual coils.
        noise: The noise of the coils, complex (1, coils, samples); the border of k-space if None.

    Raises:
        ShapeError, TypeError, ValueError: What the single steps and ``KSpace`` do; ValueError if
            k-space is absurd in units of the noise.
    """
    raw = torch.from_numpy(kspace)[None]
    samples = np.broadcast_to(mask.astype(bool), kspace.shape[1:])
    if noise is None:
        noise = border_samples(raw, torch.from_numpy(samples.copy()))
    white = whiten(raw, noise_covariance(noise))
    check_white(white)
    small = remove_oversampling(white, readout)
    compressed = compress_coils(small, min(coils, kspace.shape[0]))
    kept = np.broadcast_to(mask.astype(bool), (readout, mask.size)).copy()
    values = compressed.kspace[0].numpy() * kept  # the transform's rounding off the mask
    return Prepared(KSpace(values, 1.0, kept), float(compressed.energy[0]))


def check_white(kspace: Tensor) -> None:
    """Raises ValueError if whitened k-space is not finite, or would not be after a transform."""
    if not bool((kspace.abs() < LARGEST).all()):
        raise ValueError(
            f"k-space in units of its noise is beyond {LARGEST:g}: the noise scan, or the border "
            "of k-space that stands in for it, is almost zero. Check it."
        )
