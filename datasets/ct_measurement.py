"""A CT measurement of one or more items, with all that is needed to reconstruct it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch

from invdiff.datasets.measurement_checks import (
    check_array,
    check_items,
    check_number,
    check_provenance,
    check_sigma,
)
from invdiff.datasets.sinogram import Sinogram
from invdiff.noise import Gaussian
from invdiff.operators.ct import CTOperator
from invdiff.operators.ct_geometry import Geometry
from invdiff.operators.ct_kernel import Projection
from invdiff.problem import Problem

__all__ = ["CTMeasurement"]


@dataclass(frozen=True, eq=False)
class CTMeasurement:
    """Line integrals of n items in one geometry, and their noise.

    Arguments:
        items: The items' names, all different. Randomness follows them.
        data: Line integrals ln(N0 / N), dimensionless, floating point, (n, views, cells), or
            (n, detector rows, views, cells) of volumes.
        sigma: Their standard deviation: the axes of ``data``, each of its size or 1.
        geometry: Where pixels and rays are, in mm.
        water: The attenuation of water in 1/mm, to give Hounsfield units.
        truth: The images that were scanned, if they are known: 1/mm, (n, *image_shape).
        provenance: How the measurement was made, plain values; nothing that names a patient.

    Raises:
        ShapeError, TypeError, ValueError: If the parts are not what they must be.
    """

    modality: ClassVar[str] = "ct"

    items: tuple[str, ...]
    data: np.ndarray
    sigma: np.ndarray
    geometry: Geometry
    water: float = 0.02
    truth: np.ndarray | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(self.items))
        check_items(self.items, len(self.data) if self.data.ndim else 0)
        check_array("The sinogram", self.data, "f", (len(self), *self.geometry.sinogram_shape))
        low, high = float(self.data.min()), float(self.data.max())
        if low < -5 or high > 50:
            raise ValueError(
                f"The line integrals range from {low:.3g} to {high:.3g}, expected about 0 to 15. "
                "Take logarithms of counts, and use 1/mm with lengths in mm."
            )
        check_sigma(self.sigma, self.data.shape)
        check_number("water", self.water, 1e-5, 1.0)
        if self.truth is not None:
            shape = (len(self), *self.geometry.image_shape)
            check_array("The truth", self.truth, "f", shape)
        check_provenance(self.provenance)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:  # a name may name a patient
        return f"CTMeasurement({len(self)} items, data {self.data.shape}, {self.geometry!r})"

    @classmethod
    def from_sinogram(cls, scan: Sinogram, item: str) -> Self:
        """That of a sinogram file, as one item of this name."""
        sigma = scan.sigma if scan.sigma.ndim else scan.sigma.reshape(1, 1)
        geometry = scan.operator().geometry
        return cls((item,), scan.sinogram[None], sigma[None], geometry, scan.water)

    def operator(self, kernel: Projection = Projection.LINEAR) -> CTOperator:
        """The operator that reconstructs this measurement; images are in 1/mm."""
        return CTOperator(self.geometry, kernel)

    def problem(self, kernel: Projection = Projection.LINEAR) -> Problem:
        """The inverse problem of all items, float32; images (n, 1, *image_shape) in 1/mm."""
        y = torch.from_numpy(np.ascontiguousarray(self.data, np.float32))[:, None]
        sigma = torch.from_numpy(np.ascontiguousarray(self.sigma, np.float32))[:, None]
        return Problem(y, self.operator(kernel), Gaussian(sigma))
