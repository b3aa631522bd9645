"""Volumes of soft ellipsoids in Hounsfield units."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from invdiff.datasets.ct_phantoms import reconstruction_noise
from invdiff.errors import ShapeError

__all__ = ["CTVolume", "Painter", "noisy"]

AIR = -1000.0


@dataclass(frozen=True, eq=False)
class CTVolume:
    """Hounsfield units, float32 (slices, rows, columns), with the spacing of each axis in mm.

    Row 0 is the front of the patient, column 0 the right side, slice 0 the lowest.
    """

    hu: np.ndarray = field(repr=False)
    spacing: tuple[float, float, float]

    @property
    def affine(self) -> np.ndarray:
        """(slice, row, column, 1) to (left, posterior, superior, 1) in mm, the middle at 0."""
        slices, rows, columns = self.hu.shape
        dk, di, dj = self.spacing
        affine = np.zeros((4, 4))
        affine[0, 2], affine[1, 1], affine[2, 0], affine[3, 3] = dj, di, dk, 1
        middle = np.array([dj * (columns - 1), di * (rows - 1), dk * (slices - 1)]) / 2
        affine[:3, 3] = -middle
        return affine


class Painter:
    """A volume in HU on a grid of mm: x to the left, y to the back, z up, the middle at 0.

    Arguments:
        seed: Of all random numbers.
        shape: (slices, rows, columns).
        spacing: Of them, in mm.

    Raises:
        ShapeError: If they are not three positive numbers.
    """

    def __init__(
        self, seed: int, shape: tuple[int, int, int], spacing: tuple[float, float, float]
    ) -> None:
        if len(shape) != 3 or len(spacing) != 3 or min(shape) < 1 or not min(spacing) > 0:
            raise ShapeError(
                f"shape is {shape} and spacing {spacing}, expected (slices, rows, columns) and "
                "their spacing in mm, all positive."
            )
        self.rng = np.random.default_rng((seed, 3))
        self.spacing = spacing
        axes = [
            d * (np.arange(n, dtype=np.float32) - (n - 1) / 2)
            for n, d in zip(shape, spacing, strict=True)
        ]
        self.z, self.y, self.x = axes[0], axes[1], axes[2]
        self.hu = np.full(shape, AIR, np.float32)

    def uniform(self, low: float, high: float) -> float:
        """One number between low and high."""
        return float(self.rng.uniform(low, high))

    def paint(self, hu: float, centre: tuple[float, ...], axes: tuple[float, ...]) -> None:
        """Puts a value inside an ellipsoid, (x, y, z) in mm, with an edge of a pixel's width."""
        box, squares = [], []
        for axis, middle, half in zip((self.x, self.y, self.z), centre, axes, strict=True):
            reach = half + 2 * self.spacing[2]
            near = np.flatnonzero(np.abs(axis - middle) <= reach)
            if len(near) == 0:
                return
            box.append(slice(near[0], near[-1] + 1))
            squares.append(((axis[box[-1]] - middle) / half) ** 2)
        x, y, z = squares
        radius = np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :])
        distance = (radius - 1) * min(axes)
        mask = np.clip(0.5 - distance / (2 * self.spacing[2]), 0, 1)
        part = self.hu[box[2], box[1], box[0]]
        part += mask.astype(np.float32) * (np.float32(hu) - part)

    def finished(self, noise: float) -> CTVolume:
        """The volume, with independent noise of this standard deviation in every slice."""
        slices = np.stack([noisy(plane, self.rng, noise) for plane in self.hu])
        return CTVolume(slices, self.spacing)


def noisy(hu: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """A slice with noise of filtered backprojection, within what 12 bits hold; float32."""
    size = max(hu.shape)
    added = noise * reconstruction_noise(rng, size, 0.3)[: hu.shape[0], : hu.shape[1]]
    return np.clip(hu + added, -1024, 3071).astype(np.float32)
