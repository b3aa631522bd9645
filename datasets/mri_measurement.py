"""A multi-coil Cartesian MRI measurement of one or more items, ready to be reconstructed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch

from invdiff.datasets.kspace import KSpace
from invdiff.datasets.measurement_checks import (
    check_array,
    check_items,
    check_number,
    check_provenance,
    check_sigma,
)
from invdiff.errors import ShapeError
from invdiff.noise import Gaussian
from invdiff.operators.cartesian_mri import CartesianMRI
from invdiff.operators.complex import AsComplex
from invdiff.problem import Problem

__all__ = ["MRIMeasurement"]


@dataclass(frozen=True, eq=False)
class MRIMeasurement:
    """k-space of n items (slices, say) on one grid, and its noise.

    Transforms are centred and orthonormal: frequency zero is at the index n // 2 of each axis.

    Arguments:
        items: The items' names, all different. Randomness follows them.
        data: Complex (n, coils, rows, columns), zero where nothing was measured.
        sigma: The standard deviation of the noise of *each real component*, independent in all
            samples and coils: the axes of ``data``, each of its size or 1.
        mask: Where it was measured, bool (1 or n, rows, columns).
        maps: Coil sensitivities, complex (1 or n, coils, rows, columns); None: estimated from the
            fully measured centre.
        scale: ``data`` was divided by it: images times it are in the scanner's unit.
        pixel_size: Of the image in mm (between rows, between columns), if it is known.
        truth: The complex images (n, rows, columns) in the unit of ``data``, if they are known.
        provenance: How the measurement was made, plain values; nothing that names a patient.

    Raises:
        ShapeError, TypeError, ValueError: If the parts are not what they must be.
    """

    modality: ClassVar[str] = "mri"

    items: tuple[str, ...]
    data: np.ndarray
    sigma: np.ndarray
    mask: np.ndarray
    maps: np.ndarray | None = None
    scale: float = 1.0
    pixel_size: tuple[float, float] | None = None
    truth: np.ndarray | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(self.items))
        check_items(self.items, len(self.data) if self.data.ndim else 0)
        check_array("k-space", self.data, "c", (len(self), None, None, None))
        check_sigma(self.sigma, self.data.shape)
        self._check_mask()
        coils, *space = self.data.shape[1:]
        if self.maps is not None:
            shared = 1 if len(self.maps) == 1 else len(self)
            check_array("The maps", self.maps, "c", (shared, coils, *space))
        check_number("scale", self.scale, 1e-30, 1e30)
        for length in self.pixel_size or ():
            check_number("pixel_size", length, 1e-4, 1e3)
        if self.pixel_size is not None and len(self.pixel_size) != 2:
            raise ShapeError(f"pixel_size has {len(self.pixel_size)} numbers, expected 2, in mm.")
        if self.truth is not None:
            check_array("The truth", self.truth, "c", (len(self), *space))
        check_provenance(self.provenance)

    def _check_mask(self) -> None:
        space = self.data.shape[2:]
        if self.mask.dtype != bool or self.mask.shape not in ((1, *space), (len(self), *space)):
            raise ShapeError(
                f"The mask has dtype {self.mask.dtype} and shape {self.mask.shape}, expected bool "
                f"and {(1, *space)} or {(len(self), *space)}."
            )
        if not self.mask.any(axis=(1, 2)).all():
            raise ValueError("The mask of an item is empty: nothing was measured. Check it.")
        if (self.data * ~self.mask[:, None]).any():
            raise ValueError(
                "k-space is not zero where the mask says that nothing was measured. Check that "
                "both have the same orientation."
            )

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:  # a name may name a patient
        return f"MRIMeasurement({len(self)} items, data {self.data.shape})"

    @classmethod
    def from_kspace(cls, scan: KSpace, item: str) -> Self:
        """That of a k-space file, as one item of this name."""
        sigma = np.full((1, 1, 1, 1), scan.sigma)
        maps = None if scan.maps is None else scan.maps[None]
        return cls((item,), scan.kspace[None], sigma, scan.mask[None] != 0, maps)

    def operator(self) -> CartesianMRI:
        """The operator of all items, with the given maps or each centre's by ESPIRiT.

        Raises ValueError if there are no maps and a centre is too small (``KSpace.operator``).
        """
        if self.maps is None:
            masks = np.broadcast_to(self.mask, (len(self), *self.data.shape[2:]))
            # The noise's sigma plays no part in maps.
            scans = [
                KSpace(y.astype(np.complex64), 1.0, mask)
                for y, mask in zip(self.data, masks, strict=True)
            ]
            maps = torch.cat([scan.operator().maps for scan in scans])
        else:
            maps = torch.from_numpy(self.maps.astype(np.complex64))
        mask = torch.from_numpy(self.mask.astype(np.float32))[:, None]
        return CartesianMRI(maps, mask)

    def problem(self) -> Problem:
        """The inverse problem of all items, complex64; images (n, 2, rows, columns)."""
        y = torch.from_numpy(self.data.astype(np.complex64))
        sigma = torch.from_numpy(self.sigma.astype(np.float32))
        return Problem(y, self.operator() @ AsComplex((1, *y.shape[2:])), Gaussian(sigma))
