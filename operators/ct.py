"""Computed tomography in any geometry."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.operators.base import Operator
from invdiff.operators.ct_astra_cpu import AstraCPU
from invdiff.operators.ct_astra_cuda import AstraCUDA
from invdiff.operators.ct_backend import Backend, Projector
from invdiff.operators.ct_geometry import Geometry
from invdiff.operators.ct_kernel import Projection
from invdiff.operators.ct_matrix import SystemMatrix, matrix_bytes

__all__ = ["CTOperator", "RayTransform"]


class RayTransform(Operator):
    """What every CT operator is: a geometry, a kernel and a backend, whatever its own fields."""

    geometry: Geometry
    kernel: Projection
    backend: Backend | None

    @property
    def domain(self) -> tuple[int, ...]:
        return (1, *self.geometry.image_shape)

    @property
    def range(self) -> tuple[int, ...]:
        return (1, *self.geometry.sinogram_shape)

    @property
    def adjoint_exact(self) -> bool:
        if self.backend is not None:
            return self.backend.exact
        kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        possible = [self._possible(torch.device(kind)) for kind in kinds]
        return all(backends[0].exact for backends in possible if backends)

    def chosen(self, device: torch.device | str = "cpu") -> Backend:
        """What computes for data on this device: ``backend``, or else the first that can.

        The sparse matrix, if it fits into its share of memory; or else ASTRA, on the data's kind
        of device. Raises ValueError if there is none, with the reasons.
        """
        if self.backend is not None:
            return self.backend
        possible = self._possible(torch.device(device))
        if not possible:
            reasons = " ".join(
                f"{backend!r}: {backend.refuses(self.geometry, self.kernel)}"
                for backend in _candidates(torch.device(device))
            )
            raise ValueError(f"No backend on {device} can compute {self}. {reasons}")
        return possible[0]

    def describe(self, device: torch.device | str = "cpu") -> str:
        """One line: rays, pixels, and what computes on this device, for people to read."""
        geometry, backend = self.geometry, self.chosen(device)
        memory = ""
        if isinstance(backend, SystemMatrix):
            memory = f", about {matrix_bytes(geometry, self.kernel) / 1e6:.0f} MB"
        return (
            f"{geometry.views} views x {_times(geometry.detectors)} cells "
            f"({geometry.beam.value}), {_times(geometry.image_shape)} pixels of "
            f"{_times(geometry.pixel_size)} mm; {backend!r} on {device}, "
            f"adjoint {'exact' if backend.exact else 'not exact'}{memory}"
        )

    def _possible(self, device: torch.device) -> list[Backend]:
        return [
            backend
            for backend in _candidates(device)
            if backend.refuses(self.geometry, self.kernel) is None
        ]

    def _projector(self, device: torch.device) -> Projector:
        return Projector(self.chosen(device), self.geometry, self.kernel)

    def _forward(self, x: Tensor) -> Tensor:
        return self._projector(x.device)(x[:, 0])[:, None]

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._projector(y.device).T(y[:, 0])[:, None]

    def _check_backend(self) -> None:
        reason = self.backend and self.backend.refuses(self.geometry, self.kernel)
        if reason:
            raise ValueError(f"{self.backend!r} cannot compute this scan. {reason}")


@dataclass(frozen=True, eq=False, repr=False)
class CTOperator(RayTransform):
    r"""Line integrals :math:`(A x)_i = \int x \,\mathrm{d}l` along the rays of a scan.

    Images (1, *image_shape) are attenuations in 1/mm, measurements (1, *sinogram_shape) are
    dimensionless: (1, views, cells), or for volumes (1, detector rows, views, cells).

    Arguments:
        geometry: Where rays and pixels are.
        kernel: How a ray meets the pixels. Strips (images only) are for simulation.
        backend: What computes the products; None: ``chosen`` says, for the device of the data.

    Raises:
        ValueError: If the backend cannot compute this geometry. In use, if no backend can.
    """

    geometry: Geometry
    kernel: Projection = Projection.LINEAR
    backend: Backend | None = None

    def __post_init__(self) -> None:
        self._check_backend()


def _candidates(device: torch.device) -> tuple[Backend, ...]:
    return SystemMatrix(), AstraCUDA() if device.type == "cuda" else AstraCPU()


def _times(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)
