"""The bridge between real priors and complex measurements."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.operators.base import Operator

__all__ = ["AsComplex"]


@dataclass(frozen=True, eq=False, repr=False)
class AsComplex(Operator):
    r"""Joins real and imaginary channels, :math:`A (u, v) = u + i v`.

    A real image (2 c, *rest), whose first c channels are the real parts, gives the complex image
    (c, *rest). The map is linear over the real numbers only, so its adjoint is that of the *real*
    inner product :math:`\mathrm{Re} \langle \cdot, \cdot \rangle` on complex arrays:
    :math:`A^* z = (\mathrm{Re}\, z, \mathrm{Im}\, z)`. A composition ``operator @ AsComplex()``
    inherits this: it is real-linear, and its adjoint gives real arrays.

    Arguments:
        shape: The shape of the complex image, such as (1, 128, 128).
    """

    shape: tuple[int, ...]

    @property
    def domain(self) -> tuple[int, ...]:
        return (2 * self.shape[0], *self.shape[1:])

    @property
    def range(self) -> tuple[int, ...]:
        return self.shape

    @property
    def complex_range(self) -> bool:
        return True

    def _forward(self, x: Tensor) -> Tensor:
        real, imaginary = x.chunk(2, dim=1)
        return torch.complex(real, imaginary)

    def _adjoint(self, y: Tensor) -> Tensor:
        return torch.cat([y.real, y.imag], dim=1)
