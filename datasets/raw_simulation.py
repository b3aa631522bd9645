"""A simulated raw MRI scan, as scanners store it: oversampled readout, correlated noise."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from invdiff.datasets.fastmri import write_fastmri
from invdiff.datasets.ismrmrd_header import EncodingLimits, Header, Space
from invdiff.datasets.mri_scene import central_kspace, complex_scene
from invdiff.operators.coil_maps import birdcage_maps

__all__ = ["RawScan", "simulate_raw_mri"]


class RawScan(NamedTuple):
    """One raw slice.

    Attributes:
        kspace: Complex64 (coils, 2 rows, columns), the readout sampled twice as densely.
        mask: The measured columns, bool (columns,).
        covariance: Of the coils' noise, per real component, complex128 (coils, coils).
        truth: The complex image (rows, columns), without maps.
    """

    kspace: np.ndarray
    mask: np.ndarray
    covariance: np.ndarray
    truth: np.ndarray

    def header(self, pixel_size: float = 1.0) -> Header:
        """The header that a scanner would write; pixels are squares of this size in mm."""
        rows, columns = self.truth.shape
        wide, high = columns * pixel_size, rows * pixel_size
        return Header(
            Space((2 * rows, columns, 1), (2 * high, wide, 5.0)),
            Space((rows, columns, 1), (high, wide, 5.0)),
            EncodingLimits(0, columns - 1, columns // 2),
        )

    def save(self, path: str | Path) -> None:
        """Writes it as a fastMRI file of one slice. Raises what ``write_fastmri`` does."""
        write_fastmri(path, self.kspace[None], self.header(), self.mask)


def simulate_raw_mri(
    magnitude: np.ndarray, mask: np.ndarray, noise: float, seed: int, coils: int = 8
) -> RawScan:
    """A raw multi-coil scan of a magnitude image (rows, columns).

    The scene and its coils are those of ``simulate_mri``. The readout covers twice the field of
    view, empty outside of the image. The noise of every coil has the standard deviation ``noise``
    in each real component; neighbouring samples are independent, coils are correlated at random.

    Raises:
        ValueError: If the image is not a finite real array, or the mask does not fit it.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    scene, truth = complex_scene(magnitude, 1.0, generator)
    rows, columns = truth.shape[2:]
    mask = np.asarray(mask).astype(bool)
    if mask.shape != (columns,):
        raise ValueError(f"The mask has shape {mask.shape}, expected ({columns},): its columns.")
    maps = birdcage_maps(coils, 2 * rows, 2 * columns).to(torch.complex128)
    view = torch.nn.functional.pad(maps * scene, (0, 0, rows, rows))
    clean = central_kspace(view)[0].numpy()
    lower = np.eye(coils) + _complex_normal(generator, (coils, coils)) / (2 * coils**0.5)
    lower *= noise / np.linalg.norm(lower, axis=1, keepdims=True)
    white = _complex_normal(generator, clean.shape)
    kspace = mask * (clean + np.tensordot(lower, white, 1))
    image = truth[0, 0].to(torch.complex64).numpy()
    return RawScan(kspace.astype(np.complex64), mask, lower @ lower.conj().T, image)


def _complex_normal(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Independent parts of unit variance each."""
    parts = generator.standard_normal((2, *shape))
    normal: np.ndarray = parts[0] + 1j * parts[1]
    return normal
