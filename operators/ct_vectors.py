"""The per-view vectors of circular scans: where source, detector and its cells are.

At the angle a the rays travel along (-sin a, cos a), and cells follow each other across, along
(cos a, sin a). So the central ray of a cell at u is x cos a + y sin a = u for parallel rays, and
the sinogram of a fan tends to the parallel one as its source moves away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = [
    "cells_to_cover",
    "cone_vectors",
    "fan_vectors",
    "parallel_vectors",
    "view_angles",
]


def view_angles(
    views: int | Sequence[float], start: float, span: float, several_turns: bool = False
) -> np.ndarray:
    """``views`` angles evenly over [start, start + span), or the given ones; radians.

    Raises:
        ValueError: If there are none, they are not finite, or they look like degrees (which is
            not checked for scans of several turns).
    """
    if isinstance(views, int):
        angles = start + span * np.arange(views) / max(views, 1)
    else:
        angles = np.asarray(views, dtype=np.float64).reshape(-1)
    if not angles.size or not np.isfinite(angles).all():
        raise ValueError(
            f"There are {angles.size} angles, or some are not finite. "
            "Give at least one finite angle in radians."
        )
    if not several_turns and np.abs(angles).max() > 4 * math.pi:
        raise ValueError(
            f"The largest angle is {np.abs(angles).max():.4g}, expected radians, within two turns."
            " Convert degrees with numpy.deg2rad; several turns need a pitch."
        )
    return angles


def parallel_vectors(angles: np.ndarray, spacing: float, offset: float) -> np.ndarray:
    """Rows (ray, detector centre, step), (views, 6)."""
    along, across = _frame(angles)
    return np.concatenate([along, offset * across, spacing * across], axis=1)


def fan_vectors(
    angles: np.ndarray,
    source_to_axis: float,
    source_to_detector: float,
    spacing: float,
    offset: float,
    shift: float,
    arc: bool,
) -> np.ndarray:
    """Rows (source, detector centre, step), (views, 6); the offset of an arc is arc length."""
    along, across = _frame(angles)
    source = shift * across - source_to_axis * along
    if arc:
        turn = offset / source_to_detector
        towards = math.cos(turn) * along + math.sin(turn) * across
        step = math.cos(turn) * across - math.sin(turn) * along
        centre = source + source_to_detector * towards
    else:
        step = across
        centre = source + source_to_detector * along + offset * across
    return np.concatenate([source, centre, spacing * step], axis=1)


def cone_vectors(
    fan: np.ndarray, heights: np.ndarray, spacing: float, offset: float
) -> np.ndarray:
    """Rows (source, detector centre, step across, step up), (views, 12), of a fan that rises."""
    zero, rise = np.zeros_like(heights), heights + offset
    upwards = np.broadcast_to([0.0, 0.0, spacing], (len(fan), 3))
    columns = [fan[:, 0:2], heights[:, None], fan[:, 2:4], rise[:, None], fan[:, 4:6]]
    return np.concatenate([*columns, zero[:, None], upwards], axis=1)


def cells_to_cover(
    radius: float, source_to_axis: float, source_to_detector: float, spacing: float, arc: bool
) -> int:
    """How many cells see the whole circle of this radius about the axis.

    Raises:
        ValueError: If the source is not outside the circle.
    """
    if not radius < source_to_axis:
        raise ValueError(
            f"The source is {source_to_axis} mm from the axis, but the image reaches "
            f"{radius:.6g} mm. Give source_to_axis in mm, larger than half the image's diagonal."
        )
    fan = math.asin(radius / source_to_axis)
    half = source_to_detector * (fan if arc else math.tan(fan))
    return math.ceil(2 * half / spacing - 1e-9)


def _frame(angles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.stack([-sine, cosine], axis=1), np.stack([cosine, sine], axis=1)
