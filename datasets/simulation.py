"""Simulated measurements: on a finer grid, and by another projector, than any reconstruction."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from invdiff.datasets.hounsfield import hu_to_attenuation
from invdiff.datasets.kspace import KSpace
from invdiff.datasets.sinogram import Sinogram
from invdiff.operators import (
    ParallelBeamCT,
    ParallelBeamGeometry,
    Projection,
    birdcage_maps,
    cartesian_mask,
)
from invdiff.operators.cartesian_mri import fft2c, ifft2c
from invdiff.operators.ct_matrix import project_once

__all__ = ["SimulatedCT", "SimulatedMRI", "simulate_ct", "simulate_mri"]


class SimulatedCT(NamedTuple):
    """A CT measurement; ``starved`` is the share of rays with no photon at all."""

    sinogram: Sinogram
    starved: float


class SimulatedMRI(NamedTuple):
    """An MRI measurement and the complex image (rows, columns) behind it."""

    kspace: KSpace
    truth: np.ndarray
    acceleration: float


def simulate_ct(
    hu: np.ndarray,
    pixel_size: float,
    views: int,
    photons: float,
    water: float,
    seed: int,
    finer: int = 4,
) -> SimulatedCT:
    r"""A parallel-beam scan of an image (rows, columns) in Hounsfield units.

    The image is interpolated linearly to pixels ``finer`` times smaller and projected along
    strips as wide as a detector, whereas reconstruction interpolates along thin rays on the given
    grid (no inverse crime). Detectors are as wide as the given pixels and cover the diagonal;
    ``views`` cover [0, pi). Attenuations below zero are set to zero. Then

    .. math:: N \sim \mathrm{Poisson}(I_0 e^{-p}), \quad y = \ln(I_0 / \max(N, 1)),
              \quad \sigma = 1 / \sqrt{\max(N, 1)}

    with ``photons`` :math:`I_0` per ray, keyed by ``seed``. ``pixel_size`` is in mm, ``water``
    in 1/mm. Raises what ``hu_to_attenuation`` and ``ParallelBeamCT`` raise.
    """
    attenuation = np.maximum(hu_to_attenuation(hu, water), 0)
    rows, columns = attenuation.shape
    coarse = ParallelBeamCT((rows, columns), views, pixel_size).geometry
    fine = ParallelBeamGeometry(
        (rows * finer, columns * finer),
        coarse.angles,
        pixel_size / finer,
        coarse.detectors,
        coarse.detector_spacing,
        Projection.STRIP,
    )
    integrals = project_once(fine, _enlarge(attenuation, finer).numpy()).astype(np.float64)
    generator = np.random.Generator(np.random.Philox(seed))
    drawn = generator.poisson(photons * np.exp(-integrals))
    counts = np.maximum(drawn, 1).astype(np.float64)
    sinogram = Sinogram(
        np.log(photons / counts).astype(np.float32),
        (1 / np.sqrt(counts)).astype(np.float32),
        np.array(coarse.angles),
        coarse.detector_spacing,
        coarse.image_shape,
        pixel_size,
        water,
    )
    return SimulatedCT(sinogram, float((drawn < 1).mean()))


def simulate_mri(
    magnitude: np.ndarray,
    acceleration: float,
    noise: float,
    seed: int,
    coils: int = 8,
    center_fraction: float = 0.08,
    phase: float = 1.0,
) -> SimulatedMRI:
    """A multi-coil Cartesian scan of a magnitude image (rows, columns).

    The image is interpolated linearly to a grid twice as fine, given a smooth random phase (of
    ``phase`` radians, standard deviation), multiplied by birdcage maps on that grid and
    transformed; the centre of its k-space is what an ideal scanner samples. The truth is the
    image of that centre without maps: band-limited, as any scan is. Complex noise has the
    standard deviation ``noise`` in each real component, in the unit of the image (the transforms
    are orthonormal). Maps are not part of the result: they are estimated from the data.

    Raises:
        ShapeError, TypeError or ValueError: If the image is not a finite real (rows, columns)
            array, or the sampling pattern is impossible (``cartesian_mask``).
    """
    image = np.asarray(magnitude)
    if image.ndim != 2 or image.dtype.kind not in "fiu" or not np.isfinite(image).all():
        raise ValueError(
            f"The image has shape {image.shape} and dtype {image.dtype}; expected a finite real "
            "array (rows, columns)."
        )
    rows, columns = image.shape
    generator = np.random.Generator(np.random.Philox(seed))
    pattern = cartesian_mask((rows, columns), acceleration, center_fraction, seed)
    fine = _enlarge(image, 2).to(torch.float64)
    angle = phase * _smooth_field(fine.shape[0], fine.shape[1], generator)
    complex_fine = torch.polar(fine, angle)[None, None]
    maps = birdcage_maps(coils, 2 * rows, 2 * columns).to(torch.complex128)
    clean = _centre(fft2c(maps * complex_fine))
    parts = generator.standard_normal((2, coils, rows, columns)) * noise
    noisy = clean[0] + torch.complex(*torch.from_numpy(parts))
    kspace = (pattern.mask[0] * noisy).to(torch.complex64)
    truth = ifft2c(_centre(fft2c(complex_fine)))[0, 0].to(torch.complex64)
    measured = KSpace(kspace.numpy(), noise, pattern.mask[0, 0].numpy().astype(bool))
    return SimulatedMRI(measured, truth.numpy(), pattern.acceleration)


def _enlarge(image: np.ndarray, factor: int) -> Tensor:
    """Linear interpolation between pixel centres; the outermost half pixels are constant."""
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32))[None, None]
    return interpolate(pixels, scale_factor=factor, mode="bilinear", align_corners=False)[0, 0]


def _centre(kspace: Tensor) -> Tensor:
    """The inner half of k-space, scaled so that images keep their values."""
    rows, columns = kspace.shape[-2] // 2, kspace.shape[-1] // 2
    top, left = rows - rows // 2, columns - columns // 2
    return kspace[..., top : top + rows, left : left + columns] / 2


def _smooth_field(rows: int, columns: int, generator: np.random.Generator) -> Tensor:
    """Waves of up to two periods per image with random amplitudes, standard deviation one."""
    y = np.arange(rows)[:, None] / rows
    x = np.arange(columns)[None, :] / columns
    field = np.zeros((rows, columns))
    for down in range(3):
        for right in range(3):
            amplitude, shift = generator.standard_normal(), generator.uniform(0, 2 * math.pi)
            wave = np.cos(math.pi * (down * y + right * x) + shift)
            field += amplitude / (1 + down**2 + right**2) * wave
    field -= field.mean()
    return torch.from_numpy(field / field.std())
