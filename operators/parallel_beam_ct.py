"""Computed tomography with parallel rays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from invdiff.operators.base import Operator
from invdiff.operators.ct_geometry import ParallelBeamGeometry, Projection
from invdiff.operators.ct_matrix import MatrixPair, system_matrix

__all__ = ["ParallelBeamCT"]


@dataclass(frozen=True, eq=False, repr=False)
class ParallelBeamCT(Operator):
    r"""Line integrals :math:`(A x)_{\theta u} = \int x \,\mathrm{d}l` along parallel rays.

    Images (1, rows, columns) are attenuations in 1/mm, measurements (1, views, detectors) are
    dimensionless. Row 0 is +y; the ray of detector u is x cos(theta) + y sin(theta) = u, and
    angles run counter-clockwise (``ParallelBeamGeometry``). The adjoint is exact.

    Arguments:
        image_shape: Rows and columns of the image.
        views: How many, equally spaced over [0, pi); or the angles themselves in radians.
        pixel_size: The side of a pixel in mm; pixels are square.
        detectors: How many; None takes as many as cover the diagonal of the image, so that no
            pixel leaves the view under any angle.
        detector_spacing: In mm; None takes the size of a pixel.
        kernel: How a ray meets the pixels.

    Raises:
        ShapeError, ValueError: If the geometry is not one; see ``ParallelBeamGeometry``.
    """

    image_shape: tuple[int, int]
    views: int | tuple[float, ...]
    pixel_size: float
    detectors: int | None = None
    detector_spacing: float | None = None
    kernel: Projection = Projection.LINEAR

    def __post_init__(self) -> None:
        def settle(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        # The defaults become numbers here, so that the repr (the provenance) holds them all.
        settle("image_shape", tuple(int(n) for n in self.image_shape))
        if not isinstance(self.views, int):
            settle("views", tuple(float(angle) for angle in self.views))
        if self.detector_spacing is None:
            settle("detector_spacing", self.pixel_size)
        if self.detectors is None:
            covering = self._geometry(1).diagonal() / self._geometry(1).detector_spacing
            settle("detectors", math.ceil(covering))
        self._geometry(self.detectors or 0)

    def _geometry(self, detectors: int) -> ParallelBeamGeometry:
        angles = self.views
        if isinstance(angles, int):
            angles = tuple(math.pi * view / angles for view in range(angles))
        assert self.detector_spacing is not None
        return ParallelBeamGeometry(
            self.image_shape,
            angles,
            self.pixel_size,
            detectors,
            self.detector_spacing,
            self.kernel,
        )

    @cached_property
    def geometry(self) -> ParallelBeamGeometry:
        """Where rays and pixels are, with every default settled."""
        assert self.detectors is not None
        return self._geometry(self.detectors)

    @property
    def domain(self) -> tuple[int, ...]:
        return (1, *self.image_shape)

    @property
    def range(self) -> tuple[int, ...]:
        return (1, len(self.geometry.angles), self.geometry.detectors)

    def _matrices(self, like: Tensor) -> MatrixPair:
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        return system_matrix(self.geometry, dtype, like.device)

    def _forward(self, x: Tensor) -> Tensor:
        pair = self._matrices(x)
        return pair(x.to(pair.matrix.dtype).flatten(1)).reshape(-1, *self.range).to(x.dtype)

    def _adjoint(self, y: Tensor) -> Tensor:
        pair = self._matrices(y)
        return pair.T(y.to(pair.matrix.dtype).flatten(1)).reshape(-1, *self.domain).to(y.dtype)
