"""The rays of a CT geometry, one per entry of the sinogram."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from invdiff.operators.ct_geometry import Beam, Geometry

__all__ = ["Rays", "cells_at", "rays"]


class Rays(NamedTuple):
    """Lines ``origin + t direction`` in mm, (n, 2 or 3) each; directions have length one.

    Rays of a divergent beam begin at their origin, the source; parallel ones have no beginning.
    """

    origin: np.ndarray
    direction: np.ndarray


def rays(geometry: Geometry, index: np.ndarray) -> Rays:
    """The rays of the entries ``index`` (n,) of the flattened sinogram, float64."""
    *row, view, cell = np.unravel_index(index, geometry.sinogram_shape)
    parts = geometry.array.reshape(geometry.views, -1, geometry.dimensions)[view]
    first, centre, step = parts[:, 0], parts[:, 1], parts[:, 2]
    across = (cell - (geometry.detectors[-1] - 1) / 2)[:, None]
    upwards = np.zeros_like(first)
    if row:
        upwards = (row[0] - (geometry.detectors[0] - 1) / 2)[:, None] * parts[:, 3]
    if geometry.beam is Beam.PARALLEL:
        return Rays(centre + across * step + upwards, _unit(first))
    if geometry.arc:
        target = _on_arc(first, centre, step, across, _unit(parts[:, 3]) if row else None)
    else:
        target = centre + across * step
    return Rays(first, _unit(target + upwards - first))


def _on_arc(
    source: np.ndarray,
    centre: np.ndarray,
    step: np.ndarray,
    across: np.ndarray,
    axis: np.ndarray | None,
) -> np.ndarray:
    """Cells on the circle about the source, or about the axis through it."""
    towards, lifted = centre - source, np.zeros_like(source)
    if axis is not None:
        lifted = (towards * axis).sum(axis=1, keepdims=True) * axis
        towards = towards - lifted
    radius = np.linalg.norm(towards, axis=1, keepdims=True)
    width = np.linalg.norm(step, axis=1, keepdims=True)
    turn = across * width / radius
    sideways = step * (radius / width)
    found: np.ndarray = source + lifted + np.cos(turn) * towards + np.sin(turn) * sideways
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def cells_at(geometry: Geometry, view: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """On which cell the ray through each point (x, y) of the plane lands; 1.5 is between 1 and 2.

    For images (2-D geometries) only. Cells are extended beyond the ends of the detector.
    """
    first, centre, step = geometry.array[view].reshape(3, 2)
    points = np.stack([x, y], axis=-1)
    if geometry.beam is Beam.PARALLEL:
        across = _cross(points - centre, first) / _cross(step, first)
    elif geometry.arc:
        towards, radius = centre - first, np.linalg.norm(centre - first)
        width = np.linalg.norm(step)
        ray = points - first
        across = np.arctan2(ray @ step * (radius / width), ray @ towards) * (radius / width)
    else:
        ray = points - first
        across = -_cross(centre - first, ray) / _cross(step, ray)
    found: np.ndarray = across + (geometry.detectors[0] - 1) / 2
    return found


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    crossed: np.ndarray = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return crossed
