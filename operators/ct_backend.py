"""What computes the products of a CT operator: the interface, and its derivatives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from invdiff.operators.ct_geometry import Geometry
from invdiff.operators.ct_kernel import Projection

__all__ = ["Backend", "Projector"]


@dataclass(frozen=True)
class Backend(ABC):
    """A way to compute A x and A* y; it holds no data, and says what it cannot do."""

    @property
    @abstractmethod
    def exact(self) -> bool:
        """Whether the back-projection is the adjoint of the projection to rounding error."""

    @abstractmethod
    def refuses(self, geometry: Geometry, kernel: Projection) -> str | None:
        """Why this backend cannot do this geometry, with what to do instead; None: it can."""

    @abstractmethod
    def project(self, geometry: Geometry, kernel: Projection, x: Tensor) -> Tensor:
        """Line integrals (b, *sinogram_shape) of images (b, *image_shape), without derivatives."""

    @abstractmethod
    def backproject(self, geometry: Geometry, kernel: Projection, y: Tensor) -> Tensor:
        """The adjoint: images of sinograms, without derivatives."""


class Projector(NamedTuple):
    """A geometry and what computes with it: A, or with ``transposed`` A*."""

    backend: Backend
    geometry: Geometry
    kernel: Projection
    transposed: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """The product with every row of x, differentiable any number of times."""
        result: Tensor = _Product.apply(x, self)
        return result

    @property
    def T(self) -> Projector:
        """The other one of A and A*."""
        return self._replace(transposed=not self.transposed)

    def compute(self, x: Tensor) -> Tensor:
        """The product, in the precision that the backend has, as the type of x."""
        multiply = self.backend.backproject if self.transposed else self.backend.project
        return multiply(self.geometry, self.kernel, x.detach()).to(x.dtype)


class _Product(torch.autograd.Function):
    """A linear map: its derivative is itself, and its adjoint derivative its transpose."""

    @staticmethod
    def forward(x: Tensor, projector: Projector) -> Tensor:
        return projector.compute(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.projector = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.projector.T(gradient), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        result: Tensor = ctx.projector(tangent)
        return result

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int, None], x: Tensor, projector: Projector
    ) -> tuple[Tensor, int]:
        rows = x.movedim(in_dims[0], 0)
        result = projector(rows.flatten(0, 1))
        return result.unflatten(0, rows.shape[:2]), 0
