"""Which images make one volume, in which order, and where it lies in the patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from invdiff.datasets.dicom_limits import DicomError
from invdiff.datasets.dicom_planes import Plane

__all__ = ["Stack", "split_into_volumes", "stack"]

TOLERANCE = 1e-2  # of the slice spacing, for positions
ANGLE = 1e-4  # of direction cosines; they are written with six digits or so
LENGTH = 1e-4  # relative, of pixel spacings


@dataclass(frozen=True, eq=False)
class Stack:
    r"""The planes of a volume in the order of their positions.

    Arguments:
        planes: Along the normal (row direction) x (column direction).
        affine: :math:`(k, i, j, 1) \mapsto (x, y, z, 1)`: slice, row and column to LPS in mm.
        spacing: Of slices, rows and columns in mm.
    """

    planes: tuple[Plane, ...]
    affine: np.ndarray
    spacing: tuple[float, float, float]


def split_into_volumes(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Planes of the same series, frame of reference, echo, b-value, time and type.

    Acquisitions are told apart only where they repeat each other's positions: the slices of a
    step-and-shoot scan are acquisitions of their own.
    """
    groups: dict[tuple[str, ...], list[Plane]] = defaultdict(list)
    for plane in planes:
        groups[plane.group].append(plane)
    volumes: list[list[Plane]] = []
    for group in groups.values():
        positions = {tuple(round(x, 3) for x in plane.position) for plane in group}
        acquisitions: dict[str, list[Plane]] = defaultdict(list)
        for plane in group:
            acquisitions[plane.acquisition].append(plane)
        repeated = len(positions) < len(group)
        volumes += acquisitions.values() if repeated else [group]
    return volumes


def stack(planes: Sequence[Plane], allow_tilt: bool = False) -> Stack:
    """Sorts the planes of one volume by position.

    Arguments:
        planes: At least one. The slice spacing of a single one is its thickness.
        allow_tilt: Accept slices that are shifted within their plane, each by the same step, as
            with a tilted gantry; the affine is then sheared.

    Raises:
        DicomError: If sizes, orientations or pixel spacings differ, positions repeat, slices are
            missing or unevenly spaced, or shifted.
    """
    _check_alike(planes)
    rows, columns = _directions(planes[0])
    normal = np.cross(rows, columns)
    heights = np.array([np.dot(plane.position, normal) for plane in planes])
    order = np.argsort(heights, kind="stable")
    ordered = [planes[i] for i in order]
    positions = np.array([plane.position for plane in ordered])
    if len(ordered) == 1:
        distance = _thickness(ordered[0])
        step = distance * normal
    else:
        _check_gaps(ordered, heights[order])
        step = (positions[-1] - positions[0]) / (len(ordered) - 1)
        distance = float(step @ normal)
        _check_line(ordered, positions, step, normal, allow_tilt)
    row_spacing, column_spacing = planes[0].spacing
    affine = np.eye(4)
    affine[:3] = np.stack(
        [step, row_spacing * columns, column_spacing * rows, positions[0]], axis=1
    )
    return Stack(tuple(ordered), affine, (distance, row_spacing, column_spacing))


def _check_alike(planes: Sequence[Plane]) -> None:
    first = planes[0]
    for plane in planes[1:]:
        pair = f"({first.label} and {plane.label})"
        if plane.shape != first.shape:
            raise DicomError(f"Images of different sizes in one volume {pair}. Separate them.")
        if not np.allclose(plane.orientation, first.orientation, rtol=0, atol=ANGLE):
            raise DicomError(
                f"Images of different orientations in one volume {pair}: scouts or rotating "
                "projections. Separate them."
            )
        if not np.allclose(plane.spacing, first.spacing, rtol=LENGTH, atol=0):
            raise DicomError(
                f"Images of different pixel spacings in one volume {pair}. Separate them."
            )


def _directions(plane: Plane) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along a row and along a column, after checking that they are."""
    rows, columns = np.reshape(plane.orientation, (2, 3))
    gram = np.array([rows @ rows, columns @ columns, rows @ columns])
    if not np.allclose(gram, [1, 1, 0], rtol=0, atol=1e-3):
        raise DicomError(
            f"The directions of rows and columns of {plane.label} are not orthogonal unit vectors."
        )
    if not min(plane.spacing) > 0:
        raise DicomError(f"The pixel spacing of {plane.label} is not positive.")
    rows = rows / np.linalg.norm(rows)
    columns = columns - (columns @ rows) * rows
    return rows, columns / np.linalg.norm(columns)


def _thickness(plane: Plane) -> float:
    if plane.thickness is None or not plane.thickness > 0:
        raise DicomError(
            f"There is a single image, {plane.label}, without a slice thickness: the spacing of "
            "slices is unknown. Give all the images of the series."
        )
    return plane.thickness


def _check_gaps(planes: Sequence[Plane], heights: np.ndarray) -> None:
    """Positions along the normal: all different, and equally far apart."""
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    for k, gap in enumerate(gaps):
        pair = f"{planes[k].label} and {planes[k + 1].label}"
        if gap <= max(TOLERANCE * usual, 1e-6):
            raise DicomError(f"Duplicates: {pair} lie at the same position. Remove one of them.")
    for k, gap in enumerate(gaps):
        if abs(gap - usual) > TOLERANCE * usual:
            missing = round(gap / usual) - 1
            reason = f"about {missing} slices missing" if missing > 0 else "uneven spacing"
            raise DicomError(
                f"The slices {planes[k].label} and {planes[k + 1].label} lie {gap:.4g} mm apart, "
                f"but the usual distance is {usual:.4g} mm: {reason}. Complete the series."
            )


def _check_line(
    planes: Sequence[Plane],
    positions: np.ndarray,
    step: np.ndarray,
    normal: np.ndarray,
    allow_tilt: bool,
) -> None:
    """All on one line with equal steps, and that line along the normal."""
    spacing = float(step @ normal)
    off = np.linalg.norm(positions - positions[0] - np.arange(len(planes))[:, None] * step, axis=1)
    if off.max() > TOLERANCE * spacing:
        raise DicomError(
            f"The position of {planes[int(off.argmax())].label} is {off.max():.3g} mm off the "
            "line of the others: the slices are shifted or unevenly spaced."
        )
    shift = float(np.linalg.norm(step - spacing * normal))
    if shift > TOLERANCE * spacing and not allow_tilt:
        raise DicomError(
            f"Each slice is shifted by {shift:.3g} mm within its plane (a tilted gantry). Pass "
            "allow_tilt=True for a sheared volume, or resample the series."
        )
