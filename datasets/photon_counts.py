"""Simulated photon counts of CT scans: on a finer grid, and by another projector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import interpolate

from invdiff.errors import ShapeError
from invdiff.operators import Geometry, Projection, project_once
from invdiff.transmission import Transmission

__all__ = ["SimulatedCounts", "simulate_counts"]


class SimulatedCounts(NamedTuple):
    """Counts (b, 1, *sinogram_shape), float64, and the noise that they have.

    Of both, ``invdiff.Problem(counts, CTOperator(geometry), noise)``; or, of
    ``noise.log_data(counts)``, one with line integrals and Gaussian noise.
    """

    counts: torch.Tensor
    noise: Transmission


def simulate_counts(
    attenuation: np.ndarray,
    geometry: Geometry,
    photons: float,
    seeds: Sequence[int],
    electronic: float = 0.0,
    finer: int = 4,
) -> SimulatedCounts:
    r"""A scan of attenuations in 1/mm, (b, *image_shape), with one seed for each.

    Images are interpolated linearly to pixels ``finer`` times smaller and projected along strips
    as wide as a cell, whereas reconstruction interpolates along thin rays on the given grid (no
    inverse crime). Volumes have thin rays in both, on different grids. Then

    .. math:: N \sim \mathrm{Poisson}(I_0 e^{-p}) + s_e n.

    The noise of an image depends on its seed alone, not on the other images.

    Arguments:
        attenuation: The images.
        geometry: Of the scan, on the images' own grid.
        photons: :math:`I_0` of every ray.
        seeds: As many as images.
        electronic: :math:`s_e`, the standard deviation of the detector's own noise, in counts.
        finer: How many times smaller the simulation's pixels are, along every axis.

    Raises:
        ShapeError: If images, seeds and geometry do not fit together.
        ValueError: If attenuations are negative or not finite (Hounsfield units are no
            attenuations), or photons or electronic are not possible.
    """
    if attenuation.shape != (len(seeds), *geometry.image_shape):
        raise ShapeError(
            f"The attenuations have shape {attenuation.shape}, and there are {len(seeds)} seeds; "
            f"expected (images, *{geometry.image_shape}), and one seed for each image."
        )
    if not (np.isfinite(attenuation).all() and (attenuation >= 0).all()):
        raise ValueError(
            f"The attenuations lie in [{attenuation.min()}, {attenuation.max()}], expected finite "
            "numbers of at least 0, in 1/mm. Convert Hounsfield units with hu_to_attenuation."
        )
    noise = Transmission(photons, electronic)
    kernel = Projection.STRIP if geometry.dimensions == 2 else Projection.LINEAR
    fine, counts = geometry.finer(finer), []
    for image, seed in zip(attenuation, seeds, strict=True):
        integrals = project_once(fine, _enlarge(image, finer), kernel).astype(np.float64)
        generator = np.random.Generator(np.random.Philox(seed))
        drawn = generator.poisson(photons * np.exp(-integrals)).astype(np.float64)
        if electronic:
            drawn += electronic * generator.standard_normal(drawn.shape)
        counts.append(torch.from_numpy(drawn))
    return SimulatedCounts(torch.stack(counts)[:, None], noise)


def _enlarge(image: np.ndarray, factor: int) -> np.ndarray:
    """Linear interpolation between pixel centres; the outermost half pixels are constant."""
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32))[None, None]
    mode = "bilinear" if image.ndim == 2 else "trilinear"
    enlarged = interpolate(pixels, scale_factor=factor, mode=mode, align_corners=False)[0, 0]
    return np.asarray(enlarged)
