"""How singular vectors are kept: as an operator where it is orthogonal, else in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.operators.base import Operator

__all__ = ["Dense", "RowOrthogonal", "SingularSystem", "real_numbers"]


@dataclass(frozen=True, eq=False, repr=False)
class SingularSystem(ABC):
    r"""The decomposition :math:`W^{1/2} A = U S V^*` of a problem, real numbers throughout.

    What the data do not see is ``x - lift(project(x))`` and the directions of value 0: the null
    space needs no basis. Nothing that is computed through ``project`` and ``lift`` with functions
    of ``values`` depends on the choice among equal singular vectors.

    Arguments:
        values: The singular values, (1 or b, r), not negative, in no order.
        data: :math:`U^* W^{1/2} y`, (b, r).
    """

    values: Tensor
    data: Tensor

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """V* x, (b, r), for images x (b, *domain)."""

    @abstractmethod
    def lift(self, coefficients: Tensor) -> Tensor:
        """V c, (b, *domain), for coefficients c (b, r)."""

    def residual(self, x: Tensor) -> Tensor:
        r""":math:`U^* W^{1/2} (y - A x)`, (b, r)."""
        return self.data - self.values * self.project(x)

    def inverse(self) -> Tensor:
        """1 over the values, (1 or b, r); 0 where a value is 0."""
        seen = self.values > 0
        return torch.where(seen, 1 / torch.where(seen, self.values, 1), self.values)


@dataclass(frozen=True, eq=False, repr=False)
class RowOrthogonal(SingularSystem):
    """Where A A* is diagonal, U is the identity and V* is A with its rows normalised.

    ``scale`` (1 or b, *range) normalises them. So inpainting, mean pooling and single-coil
    Fourier masks need no matrix, at any size and for any noise.
    """

    operator: Operator
    scale: Tensor

    def project(self, x: Tensor) -> Tensor:
        return real_numbers(self.scale * self.operator(x))

    def lift(self, coefficients: Tensor) -> Tensor:
        shape = (-1, *self.operator.range)
        if self.operator.complex_range:
            pairs = coefficients.reshape(*shape, 2).contiguous()
            return self.operator.adjoint(self.scale * torch.view_as_complex(pairs))
        return self.operator.adjoint(self.scale * coefficients.reshape(shape))


@dataclass(frozen=True, eq=False, repr=False)
class Dense(SingularSystem):
    """Singular vectors in memory, (groups, pixels, r): rows with the same matrix share them."""

    vectors: Tensor
    shape: tuple[int, ...]

    def project(self, x: Tensor) -> Tensor:
        return self._grouped(x.flatten(1), self.vectors)

    def lift(self, coefficients: Tensor) -> Tensor:
        return self._grouped(coefficients, self.vectors.mT).reshape(-1, *self.shape)

    def _grouped(self, rows: Tensor, matrices: Tensor) -> Tensor:
        grouped = rows.reshape(len(matrices), -1, rows.shape[1])
        return torch.bmm(grouped, matrices).flatten(0, 1)


def real_numbers(values: Tensor) -> Tensor:
    """(b, *range) as real numbers (b, r)."""
    return (torch.view_as_real(values) if values.is_complex() else values).flatten(1)
