r"""A scan seen from the rotation axis: the angle of every view, and its rays' distances.

A line in the plane is :math:`x \cos\theta + y \sin\theta = t`. The rays of a source at the
distance :math:`\rho` from the axis, under the angle :math:`\beta`, are those with
:math:`\theta = \beta - \gamma, t = \rho \sin\gamma`, where :math:`\gamma` is the angle between
the ray and the line to the axis. The same line is seen from
:math:`\beta + \pi - 2 \gamma`, with :math:`-\gamma`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from invdiff.operators.ct_geometry import Beam, Geometry
from invdiff.operators.ct_rays import rays

__all__ = ["Orbit", "orbit"]

ROUNDING = 1e-6  # relative to the radius: what scanners' files round to


@dataclass(frozen=True, eq=False)
class Orbit:
    """A geometry's views, in the plane.

    Arguments:
        angles: Of the views, (views,): theta of parallel rays, or beta; radians.
        distance: The signed distance t of every ray from the axis, (views, cells), mm.
        radius: The distance of the source from the axis, mm; infinite for parallel rays.
        spacing: The width of a cell, at right angles to parallel rays, mm.
        depth: The distance from the source to the detector's line, or to the arc, mm.
        obliquity: What a ray's filter is multiplied by, (cells,): the distance from the source to
            the point of the ray that is nearest to the axis, over ``depth``.
    """

    angles: np.ndarray
    distance: np.ndarray
    radius: float
    spacing: float
    depth: float
    obliquity: np.ndarray


def orbit(geometry: Geometry) -> Orbit:
    """The orbit of a scan in the plane.

    Raises:
        ValueError: If the cells' width (of parallel rays) is not the same in all views, source and
            detector do not turn rigidly about the axis, or the source passes the image's corners.
    """
    lines = rays(geometry, np.arange(geometry.views * geometry.detectors[0]))
    origin, direction = (a.reshape(*geometry.sinogram_shape, 2) for a in lines)
    distance = origin[..., 0] * direction[..., 1] - origin[..., 1] * direction[..., 0]
    if geometry.beam is Beam.PARALLEL:
        return _parallel(geometry, distance)
    return _circle(geometry, distance, -(origin[0] * direction[0]).sum(axis=-1))


def _parallel(geometry: Geometry, distance: np.ndarray) -> Orbit:
    ray, _, step = geometry.array.reshape(-1, 3, 2).swapaxes(0, 1)
    ray = ray / np.linalg.norm(ray, axis=1, keepdims=True)
    spacing = np.abs(step[:, 0] * ray[:, 1] - step[:, 1] * ray[:, 0])
    _same("the width of the cells", spacing, spacing[0])
    angles = np.arctan2(-ray[:, 0], ray[:, 1])
    ones = np.ones(geometry.detectors[0])
    return Orbit(angles, distance, np.inf, float(spacing[0]), np.inf, ones)


def _circle(geometry: Geometry, distance: np.ndarray, nearest: np.ndarray) -> Orbit:
    """``nearest`` (cells,): how far from the source the rays pass the axis, mm."""
    source, centre, step = geometry.array.reshape(-1, 3, 2).swapaxes(0, 1)
    radius, half = float(np.linalg.norm(source[0])), geometry.diagonal() / 2
    if not radius > half:
        raise ValueError(
            f"The source is {radius:.4g} mm from the axis, expected more than half the image's "
            f"diagonal, {half:.4g} mm. Reconstruct a smaller image."
        )
    angles = np.arctan2(source[:, 0], -source[:, 1])
    for name, vectors in (("source", source), ("detector", centre), ("cells' step", step)):
        _same(f"the {name}, seen in the source's frame,", _turned(vectors, -angles), radius)
    width, towards = np.linalg.norm(step[0]), centre[0] - source[0]
    depth = abs(towards[0] * step[0, 1] - towards[1] * step[0, 0]) / width
    if geometry.arc:
        depth = np.linalg.norm(towards)
    return Orbit(angles, distance, radius, float(width), float(depth), nearest / depth)


def _turned(vectors: np.ndarray, angles: np.ndarray) -> np.ndarray:
    cosine, sine = np.cos(angles), np.sin(angles)
    x, y = vectors.T
    return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1)


def _same(what: str, values: np.ndarray, scale: float) -> None:
    change = float(np.abs(values - values[0]).max())
    if change > ROUNDING * scale:
        raise ValueError(
            f"The scan is not a circular one: {what} changes by up to {change:.4g} mm from view "
            "to view. Analytic reconstruction needs source and detector to turn as one about the "
            "axis; use an iterative one."
        )
