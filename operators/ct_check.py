"""What a CT geometry must be, before anything is computed with it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from invdiff.errors import ShapeError

if TYPE_CHECKING:
    from invdiff.operators.ct_geometry import Geometry

__all__ = ["check", "lengths"]


def lengths(name: str, value: Any, count: int) -> tuple[float, ...]:
    """``count`` positive lengths in mm, from as many or from one for all; raises ValueError."""
    given = value if isinstance(value, tuple | list) else (value,) * count
    real = all(isinstance(n, int | float | np.number) for n in given)
    if len(given) != count or not real or not all(0 < n < math.inf for n in given):
        expected = "a positive length" if count == 1 else f"{count} positive lengths"
        raise ValueError(f"{name} is {value!r}, expected {expected} in mm.")
    return tuple(float(n) for n in given)


def check(geometry: Geometry) -> None:
    """Raises ShapeError or ValueError, saying what is wrong with the geometry."""
    _check_shapes(geometry)
    _check_numbers(geometry)
    _check_views(geometry)
    if geometry.beam.name == "DIVERGENT":
        _check_sources(geometry)
    elif geometry.arc:
        raise ValueError(
            "arc is True with parallel rays, but an arc lies about a source. Use arc=False."
        )


def _check_shapes(geometry: Geometry) -> None:
    shape, detectors = geometry.image_shape, geometry.detectors
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ShapeError(
            f"image_shape is {shape}, expected (rows, columns) or (slices, rows, columns), all at "
            "least 1."
        )
    if len(detectors) != len(shape) - 1 or min(detectors) < 1:
        expected = "(cells,)" if len(shape) == 2 else "(rows, cells)"
        raise ShapeError(
            f"The detector count is {detectors}, expected {expected}, all at least 1, for an "
            f"image of shape {shape}."
        )
    width = 6 if len(shape) == 2 else 12
    if not geometry.vectors or any(len(row) != width for row in geometry.vectors):
        raise ShapeError(
            f"There are {len(geometry.vectors)} views, with vectors of lengths "
            f"{sorted({len(row) for row in geometry.vectors})}; expected at least one view, and "
            f"{width} numbers per view for an image of shape {shape}."
        )


def _check_numbers(geometry: Geometry) -> None:
    if len(geometry.pixel_size) != geometry.dimensions:
        raise ShapeError(
            f"pixel_size is {geometry.pixel_size}, expected one number per axis of the image, "
            f"whose shape is {geometry.image_shape}."
        )
    lengths("pixel_size", geometry.pixel_size, geometry.dimensions)
    if not np.isfinite(geometry.array).all():
        raise ValueError(
            "Some vectors are not finite. Check the angles, distances and offsets they come from."
        )


def _check_views(geometry: Geometry) -> None:
    """A ray must cross the detector, and its cells must not coincide."""
    d = geometry.dimensions
    parts = geometry.array.reshape(geometry.views, -1, d)
    ray = parts[:, 0] if geometry.beam.name == "PARALLEL" else parts[:, 1] - parts[:, 0]
    # In the plane, and in space: the volume that ray and steps span, relative to their lengths.
    edges = np.concatenate([ray[:, None], parts[:, 2:]], axis=1)
    size = np.prod(np.linalg.norm(edges, axis=2), axis=1)
    flat = np.abs(np.linalg.det(edges)) <= 1e-9 * size
    if flat.any():
        raise ValueError(
            f"{int(flat.sum())} views (first: {int(flat.argmax())}) are degenerate: the ray lies "
            "in the detector, or a vector is zero. Check distances and detector spacing (mm)."
        )
    if geometry.arc:
        step, others = parts[:, 2], np.concatenate([ray[:, None], parts[:, 3:]], axis=1)
        cosines = np.einsum("vi,vki->vk", step, others)
        scale = np.linalg.norm(step, axis=1)[:, None] * np.linalg.norm(others, axis=2)
        if (np.abs(cosines) > 1e-6 * scale).any():
            raise ValueError(
                "The step along an arc must be at right angles to the line from the source to "
                "the detector's centre and to the step between rows. Check the vectors."
            )


def _check_sources(geometry: Geometry) -> None:
    sources = geometry.array[:, : geometry.dimensions]
    # Image axes run backwards compared with x, y, z.
    half = np.array(geometry.image_shape[::-1]) * np.array(geometry.pixel_size[::-1]) / 2
    inside = (np.abs(sources) <= half).all(axis=1)
    if inside.any():
        raise ValueError(
            f"The source of {int(inside.sum())} views (first: {int(inside.argmax())}, at "
            f"{tuple(sources[inside][0])} mm) lies within the image, which reaches "
            f"{tuple(half)} mm. Give distances in mm, and the source outside the image."
        )
