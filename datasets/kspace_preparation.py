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

__all__ = ["Prepared", "prepare"]


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
        ShapeError, TypeError, ValueError: What the single steps and ``KSpace`` do.
    """
    raw = torch.from_numpy(kspace)[None]
    samples = np.broadcast_to(mask.astype(bool), kspace.shape[1:])
    if noise is None:
        noise = border_samples(raw, torch.from_numpy(samples.copy()))
    white = whiten(raw, noise_covariance(noise))
    small = remove_oversampling(white, readout)
    compressed = compress_coils(small, min(coils, kspace.shape[0]))
    kept = np.broadcast_to(mask.astype(bool), (readout, mask.size)).copy()
    values = compressed.kspace[0].numpy() * kept  # the transform's rounding off the mask
    return Prepared(KSpace(values, 1.0, kept), float(compressed.energy[0]))
