"""A multi-coil Cartesian MRI measurement as one npz file.

==================  =================================================================
``kspace``          complex (coils, rows, columns), frequency zero at the centre index,
                    zero where nothing was measured
``sigma``           standard deviation of the noise of *each real component* of k-space
``mask``            zeros and ones (rows, columns); optional: where k-space is not zero
``maps``            complex coil sensitivities (coils, rows, columns); optional: estimated
                    from the fully measured centre by ESPIRiT
``format_version``  1
==================  =================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from invdiff.datasets.npz import read_npz, write_npz
from invdiff.datasets.sinogram import check_version, read_number
from invdiff.errors import ShapeError
from invdiff.operators import CartesianMRI, espirit_maps

__all__ = ["KSpace"]

VERSION = 1
LIMIT = 2 * 1024**3  # bytes, unpacked
WIDEST = 32  # central samples for coil maps; more cost time and add nothing


@dataclass(frozen=True, eq=False)
class KSpace:
    """Measured k-space of one slice; see the table above.

    Raises:
        ShapeError, TypeError, ValueError: If arrays do not fit each other, or hold what they
            must not.
    """

    kspace: np.ndarray
    sigma: float
    mask: np.ndarray
    maps: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_complex("kspace", self.kspace)
        if not 0 < self.sigma < np.inf:
            raise ValueError(
                f"sigma is {self.sigma}, expected the positive standard deviation of each real "
                "component of k-space. Estimate it from a noise scan or the corners of k-space."
            )
        if self.mask.shape != self.kspace.shape[1:]:
            raise ShapeError(
                f"The mask has shape {self.mask.shape}, expected {self.kspace.shape[1:]}."
            )
        if self.mask.dtype.kind not in "biuf" or not np.isin(self.mask, (0, 1)).all():
            raise ValueError("The mask must hold zeros and ones only. Threshold it first.")
        if not self.mask.any():
            raise ValueError("The mask is empty: it says that nothing was measured. Check it.")
        if (self.kspace * (self.mask == 0)).any():
            raise ValueError(
                "k-space is not zero where the mask says that nothing was measured. Check that "
                "both have the same orientation."
            )
        if self.maps is not None:
            _check_complex("maps", self.maps)
            if self.maps.shape != self.kspace.shape:
                raise ShapeError(
                    f"The maps have shape {self.maps.shape}, expected {self.kspace.shape}, one "
                    "per coil on the image's grid. Estimate them from this scan."
                )

    @property
    def calibration_width(self) -> int:
        """The side of the largest centred square that was measured completely (0 if none)."""
        rows, columns = (n // 2 for n in self.mask.shape)
        width = 0
        while width < min(self.mask.shape):
            half = (width + 1) // 2
            top, left = rows - half, columns - half
            if not self.mask[top : top + width + 1, left : left + width + 1].all():
                break
            width += 1
        return width

    def operator(self) -> CartesianMRI:
        """The operator of this measurement, with the given maps or the centre's by ESPIRiT.

        No pixel is cropped: outside of the object the data say that there is no signal.

        Raises ValueError if there are no maps and fewer than 8 x 8 central samples.
        """
        if self.maps is not None:
            maps = torch.from_numpy(self.maps)[None]
        else:
            width = self.calibration_width
            if width < 8:
                raise ValueError(
                    f"There are no coil maps, and only {width} x {width} central samples to "
                    "estimate them from, expected at least 8 x 8. Store maps in the file."
                )
            kernel = min(6, width // 2)
            samples = torch.from_numpy(self.kspace)[None]
            maps = espirit_maps(samples, min(width, WIDEST), kernel, crop=0.0).maps
        return CartesianMRI(maps, torch.from_numpy(self.mask.astype(np.float32))[None, None])

    def save(self, path: str | Path) -> None:
        """Writes the file whole or not at all. Raises OSError."""
        arrays = {
            "kspace": self.kspace,
            "sigma": np.asarray(self.sigma),
            "mask": self.mask,
            "format_version": np.asarray(VERSION),
        }
        write_npz(path, arrays if self.maps is None else arrays | {"maps": self.maps})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads and checks a file; raises OSError, ShapeError, TypeError or ValueError."""
        required = ("kspace", "sigma", "format_version")
        arrays = read_npz(path, required, ("mask", "maps"), limit=LIMIT)
        check_version(arrays["format_version"], VERSION)
        kspace = arrays["kspace"]
        _check_complex("kspace", kspace)
        mask = arrays.get("mask", (kspace != 0).any(axis=0))
        return cls(kspace, read_number(arrays, "sigma"), mask, arrays.get("maps"))


def _check_complex(name: str, array: np.ndarray) -> None:
    if array.ndim != 3 or array.size == 0:
        raise ShapeError(
            f"{name} has shape {array.shape}, expected (coils, rows, columns). "
            "Store one slice per file; a single coil keeps its axis."
        )
    if array.dtype.kind != "c":
        raise TypeError(
            f"{name} has dtype {array.dtype}, expected complex numbers. Magnitude images (such as "
            "those of DICOM files) are not k-space."
        )
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise ValueError(
            f"{name} holds {bad} values that are NaN or infinite, expected none. "
            "Set samples that were not measured to zero."
        )
