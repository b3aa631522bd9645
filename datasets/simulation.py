"""Simulated measurements: on a finer grid, and by another projector, than any reconstruction."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from invdiff.datasets.hounsfield import hu_to_attenuation
from invdiff.datasets.kspace import KSpace
from invdiff.datasets.mri_scene import central_kspace, complex_scene
from invdiff.datasets.photon_counts import simulate_counts
from invdiff.datasets.sinogram import Sinogram
from invdiff.operators import (
    ParallelBeamCT,
    birdcage_maps,
    cartesian_mask,
)

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
    electronic: float = 0.0,
) -> SimulatedCT:
    r"""A parallel-beam scan of an image (rows, columns) in Hounsfield units, as line integrals.

    ``simulate_counts`` with detectors as wide as the given pixels that cover the diagonal, and
    ``views`` over [0, pi); attenuations below zero are set to zero. The counts N (never below
    one) become

    .. math:: y = \ln(I_0 / N), \quad \sigma^2 = (N + s_e^2) / N^2.

    Warns if more than one ray in a thousand has no photon.

    Arguments:
        hu: The image in Hounsfield units.
        pixel_size: Of the image, mm.
        views: How many.
        photons: :math:`I_0` of every ray.
        water: The attenuation of water in 1/mm; see ``water_attenuation``.
        seed: Of the noise.
        finer: How many times smaller the simulation's pixels are.
        electronic: :math:`s_e`, the standard deviation of the detector's own noise, in counts.

    Raises what ``hu_to_attenuation``, ``ParallelBeamCT`` and ``simulate_counts`` raise.
    """
    attenuation = np.maximum(hu_to_attenuation(hu, water), 0)
    rows, columns = attenuation.shape
    geometry = ParallelBeamCT((rows, columns), views, pixel_size).geometry
    made = simulate_counts(attenuation[None], geometry, photons, [seed], electronic, finer)
    data = made.noise.log_data(made.counts)
    sigma = torch.as_tensor(data.noise.sigma)
    sinogram = Sinogram(
        data.y[0, 0].float().numpy(),
        sigma[0, 0].float().numpy(),
        math.pi * np.arange(views) / views,
        pixel_size,
        (rows, columns),
        pixel_size,
        water,
    )
    return SimulatedCT(sinogram, float(data.starved[0]))


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
    generator = np.random.Generator(np.random.Philox(seed))
    scene, truth = complex_scene(magnitude, phase, generator)
    rows, columns = truth.shape[2:]
    pattern = cartesian_mask((rows, columns), acceleration, center_fraction, seed)
    maps = birdcage_maps(coils, 2 * rows, 2 * columns).to(torch.complex128)
    clean = central_kspace(maps * scene)
    parts = generator.standard_normal((2, coils, rows, columns)) * noise
    noisy = clean[0] + torch.complex(*torch.from_numpy(parts))
    kspace = (pattern.mask[0] * noisy).to(torch.complex64)
    measured = KSpace(kspace.numpy(), noise, pattern.mask[0, 0].numpy().astype(bool))
    image = truth[0, 0].to(torch.complex64).numpy()
    return SimulatedMRI(measured, image, pattern.acceleration)
