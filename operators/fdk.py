"""Feldkamp's reconstruction of a cone beam that goes round in a circle.

Reference:
    Practical cone-beam algorithm (Feldkamp, Davis and Kress, 1984)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from invdiff.operators.ct import RayTransform
from invdiff.operators.ct_analytic import filtered_backprojection
from invdiff.operators.ct_backprojection import Slices
from invdiff.operators.ct_geometry import Beam, Geometry
from invdiff.operators.ct_rays import rays
from invdiff.operators.ct_windows import Window, ram_lak

__all__ = ["fdk"]


def fdk(
    operator: RayTransform, y: Tensor, window: Window = ram_lak, incomplete: bool = False
) -> Tensor:
    r"""Attenuations in 1/mm, (b, 1, slices, rows, columns), from a cone beam.

    ``fbp`` of every row of the detector, with each ray also weighted by the cosine of its
    elevation, and backprojected along the cone. Exact in the plane of the source (where it is
    ``fbp``) and for objects that do not change along the axis; elsewhere the values fall off with
    the cone's angle. Flat and cylindrical detectors, offsets, short scans as for ``fbp``.

    Arguments:
        operator: A ``CTOperator`` of volumes.
        y: Line integrals (b, 1, detector rows, views, cells).
        window: ``ram_lak``, ``shepp_logan``, ``cosine``, ``hann``, or any function of the
            frequency (1 at Nyquist).
        incomplete: Whether to reconstruct also when angles or sides of the slices were not seen.

    Raises:
        ShapeError: If y does not fit.
        ValueError: If the orbit is no circle about the axis (a helix), the detector tilted, or
            (unless ``incomplete``) the scan incomplete.
    """
    geometry = operator.geometry
    plane = _plane(geometry)
    operator._check(y, operator.range, operator.complex_range, "measurement")
    slices, elevation = _slices(geometry, y.device), _elevation(geometry)
    found = filtered_backprojection(plane, y[:, 0], window, incomplete, elevation, slices)
    return found[:, None]


def _plane(geometry: Geometry) -> Geometry:
    """The scan of the plane of the source."""
    if geometry.dimensions != 3 or geometry.beam is not Beam.DIVERGENT:
        raise ValueError(
            f"The scan is {geometry}, expected a cone beam of a volume. Use fbp for images; the "
            "slices of a volume in parallel rays are rows of a batch."
        )
    parts = geometry.array.reshape(-1, 4, 3)
    scale = np.linalg.norm(parts[0, 0])
    heights = parts[:, :2, 2]
    rise = float(np.ptp(heights, axis=0).max())
    if rise > 1e-6 * scale:
        raise ValueError(
            f"Source or detector rise by {rise:.4g} mm, but Feldkamp's algorithm is for circular "
            "orbits. For a helix use an iterative reconstruction."
        )
    tilt = max(np.abs(parts[:, 2, 2]).max(), np.abs(parts[:, 3, :2]).max())
    if tilt > 1e-6 * np.linalg.norm(parts[0, 2:], axis=1).min() or np.ptp(parts[:, 3, 2]) > 0:
        raise ValueError(
            "The rows of the detector are not in planes across the axis, or their spacing "
            "changes. Feldkamp's algorithm needs an upright detector; use an iterative one."
        )
    vectors = tuple(tuple(view[:3, :2].ravel()) for view in parts)
    shape, size = geometry.image_shape[1:], geometry.pixel_size[1:]
    return Geometry(shape, size, geometry.detectors[1:], geometry.beam, vectors, geometry.arc)


def _elevation(geometry: Geometry) -> np.ndarray:
    """The cosine of every ray's angle to the plane, (detector rows, 1, cells)."""
    rows, views, cells = geometry.sinogram_shape
    first = np.arange(rows)[:, None] * views * cells + np.arange(cells)
    direction = rays(geometry, first.ravel()).direction
    cosine: np.ndarray = np.hypot(direction[:, 0], direction[:, 1]).reshape(rows, 1, cells)
    return cosine


def _slices(geometry: Geometry, device: torch.device) -> Slices:
    source, detector, _, up = geometry.array[0].reshape(4, 3)[:, 2]
    depth = geometry.image_shape[0]
    z = torch.arange(depth, dtype=torch.float64, device=device) - (depth - 1) / 2
    height = geometry.pixel_size[0] * z
    return Slices(height, float(source), float(detector), float(up), geometry.detectors[0])
