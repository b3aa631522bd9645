"""A parallel-beam CT measurement with all that is needed to reconstruct it, as one npz file.

=====================  ==============================================================
``sinogram``           line integrals (views, detectors), floating point, dimensionless
``sigma``              their standard deviation, a scalar or one per ray
``angles``             of the views, radians, counter-clockwise
``detector_spacing``   mm
``image_shape``        rows and columns of the image to reconstruct
``pixel_size``         of that image, mm
``water``              attenuation of water, 1/mm (to give Hounsfield units)
``format_version``     1
=====================  ==============================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from invdiff.datasets.npz import read_npz, write_npz
from invdiff.errors import ShapeError
from invdiff.operators import ParallelBeamCT, Projection

__all__ = ["Sinogram"]

VERSION = 1
LIMIT = 1024**3  # bytes, unpacked
KEYS = ("sinogram", "sigma", "angles", "detector_spacing", "image_shape", "pixel_size", "water")


@dataclass(frozen=True, eq=False)
class Sinogram:
    """Line integrals and the geometry they were measured in; see the table above.

    Raises:
        ShapeError, TypeError, ValueError: If anything is missing, of the wrong kind, not finite,
            or absurd.
    """

    sinogram: np.ndarray
    sigma: np.ndarray
    angles: np.ndarray
    detector_spacing: float
    image_shape: tuple[int, int]
    pixel_size: float
    water: float = 0.02

    def __post_init__(self) -> None:
        _check_integrals(self.sinogram)
        _check_sigma(self.sigma, self.sinogram.shape)
        _check_angles(self.angles, len(self.sinogram))
        for name, low, high in (
            ("detector_spacing", 1e-4, 1e3),
            ("pixel_size", 1e-4, 1e3),
            ("water", 1e-5, 1.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(
                    f"{name} is {value}, expected a number in [{low}, {high}]. Check its unit: "
                    "lengths are in mm, attenuations in 1/mm."
                )
        if len(self.image_shape) != 2 or not all(1 <= n <= 8192 for n in self.image_shape):
            raise ShapeError(
                f"image_shape is {self.image_shape}, expected (rows, columns), each 1 to 8192."
            )

    def operator(self, kernel: Projection = Projection.LINEAR) -> ParallelBeamCT:
        """The operator that reconstructs this measurement; images are in 1/mm."""
        return ParallelBeamCT(
            self.image_shape,
            tuple(float(angle) for angle in self.angles),
            self.pixel_size,
            self.sinogram.shape[1],
            self.detector_spacing,
            kernel,
        )

    def save(self, path: str | Path) -> None:
        """Writes the file whole or not at all. Raises OSError."""
        arrays = {name: np.asarray(getattr(self, name)) for name in KEYS}
        write_npz(path, arrays | {"format_version": np.asarray(VERSION)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads and checks a file; raises OSError, ShapeError, TypeError or ValueError."""
        arrays = read_npz(path, (*KEYS, "format_version"), limit=LIMIT)
        check_version(arrays["format_version"], VERSION)
        shape = arrays["image_shape"]
        if shape.shape != (2,) or not np.issubdtype(shape.dtype, np.integer):
            raise ShapeError(f"image_shape is {shape!r}, expected two whole numbers.")
        return cls(
            arrays["sinogram"],
            arrays["sigma"],
            arrays["angles"],
            read_number(arrays, "detector_spacing"),
            (int(shape[0]), int(shape[1])),
            read_number(arrays, "pixel_size"),
            read_number(arrays, "water"),
        )


def check_version(found: np.ndarray, expected: int) -> None:
    """Raises ValueError if the file was written in another version of its format."""
    if found.shape != () or found != expected:
        raise ValueError(
            f"It has another format_version than {expected}. "
            "It was written by another version of the package: write it again."
        )


def read_number(arrays: dict[str, np.ndarray], name: str) -> float:
    """The array ``name`` as one real number; raises ValueError if it is not one."""
    value = arrays[name]
    if value.shape != () or value.dtype.kind not in "fiu" or not np.isfinite(value):
        raise ValueError(f"{name} is {value!r}, expected one finite real number.")
    return float(value)


def _check_integrals(sinogram: np.ndarray) -> None:
    if sinogram.ndim != 2 or sinogram.size == 0:
        raise ShapeError(
            f"The sinogram has shape {sinogram.shape}, expected (views, detectors). "
            "Store one slice per file."
        )
    if sinogram.dtype.kind != "f":
        raise TypeError(
            f"The sinogram has dtype {sinogram.dtype}, expected floating-point line integrals. "
            "Raw counts N become line integrals by log(N0 / N), N0 being the unattenuated count."
        )
    bad = int(sinogram.size - np.isfinite(sinogram).sum())
    if bad:
        raise ValueError(
            f"The sinogram holds {bad} values that are NaN or infinite, expected none. "
            "Rays without counts: set a finite value and a large sigma."
        )
    low, high = sinogram.min(), sinogram.max()
    if low < -5 or high > 50:
        raise ValueError(
            f"The line integrals range from {low:.3g} to {high:.3g}, expected about 0 to 15. They "
            "are dimensionless: take logarithms of counts, and use 1/mm with lengths in mm."
        )


def _check_sigma(sigma: np.ndarray, shape: tuple[int, ...]) -> None:
    if sigma.shape not in ((), shape):
        raise ShapeError(f"sigma has shape {sigma.shape}, expected () or {shape}.")
    if sigma.dtype.kind != "f" or not (np.isfinite(sigma).all() and (sigma > 0).all()):
        raise ValueError(
            f"sigma has dtype {sigma.dtype} and ranges from {sigma.min()} to {sigma.max()}, "
            "expected finite positive floating-point numbers: the standard deviation of the line "
            "integrals."
        )


def _check_angles(angles: np.ndarray, views: int) -> None:
    if angles.shape != (views,):
        raise ShapeError(f"angles has shape {angles.shape}, expected one per view, ({views},).")
    if angles.dtype.kind != "f" or not np.isfinite(angles).all():
        raise ValueError(f"angles has dtype {angles.dtype}, expected finite floating point.")
    if np.abs(angles).max() > 4 * np.pi:
        raise ValueError(
            f"The largest angle is {np.abs(angles).max():.4g}, expected radians, within two turns."
            " Convert degrees with numpy.deg2rad."
        )
