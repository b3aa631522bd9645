"""Operators made of operators: the adjoint, one after another, in other units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.around import AroundOperator
from invdiff.operators.base import Operator

__all__ = ["Adjoint", "Composition", "Scaled"]


@dataclass(frozen=True, eq=False, repr=False)
class Adjoint(Operator):
    r"""The adjoint :math:`A^*` of a linear operator."""

    operator: Operator

    @property
    def domain(self) -> tuple[int, ...]:
        return self.operator.range

    @property
    def range(self) -> tuple[int, ...]:
        return self.operator.domain

    @property
    def complex_domain(self) -> bool:
        return self.operator.complex_range

    @property
    def complex_range(self) -> bool:
        return self.operator.complex_domain

    @property
    def adjoint_exact(self) -> bool:
        return self.operator.adjoint_exact

    def _forward(self, x: Tensor) -> Tensor:
        return self.operator._adjoint(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.operator._forward(y)


@dataclass(frozen=True, eq=False, repr=False)
class Composition(Operator):
    r"""First ``inner``, then ``outer``: :math:`x \mapsto A (B x)`, with :math:`(AB)^* = B^* A^*`.

    Raises ShapeError when what ``inner`` gives is not what ``outer`` takes.
    """

    outer: Operator
    inner: Operator

    def __post_init__(self) -> None:
        gives = (self.inner.range, self.inner.complex_range)
        takes = (self.outer.domain, self.outer.complex_domain)
        if gives != takes:
            kind = {True: "complex", False: "real"}
            raise ShapeError(
                f"{self.inner} gives {kind[gives[1]]} arrays of shape {gives[0]}, but "
                f"{self.outer} takes {kind[takes[1]]} arrays of shape {takes[0]}. "
                "Compose matching operators."
            )

    @property
    def domain(self) -> tuple[int, ...]:
        return self.inner.domain

    @property
    def range(self) -> tuple[int, ...]:
        return self.outer.range

    @property
    def complex_domain(self) -> bool:
        return self.inner.complex_domain

    @property
    def complex_range(self) -> bool:
        return self.outer.complex_range

    @property
    def linear(self) -> bool:
        return self.outer.linear and self.inner.linear

    @property
    def adjoint_exact(self) -> bool:
        return self.outer.adjoint_exact and self.inner.adjoint_exact

    @property
    def observed(self) -> Tensor | None:
        return self.outer.observed

    def bounds(self, low: float, high: float) -> tuple[float, float] | None:
        inside = self.inner.bounds(low, high)
        return None if inside is None else self.outer.bounds(*inside)

    def normal(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        outer = self.outer.normal(weight)
        return lambda x: self.inner._adjoint(outer(self.inner._forward(x)))

    def _forward(self, x: Tensor) -> Tensor:
        return self.outer._forward(self.inner._forward(x))

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.inner._adjoint(self.outer._adjoint(y))


@dataclass(frozen=True, eq=False, repr=False)
class Scaled(AroundOperator):
    """An operator times a real number: a change of the measurement's units."""

    factor: float

    def bounds(self, low: float, high: float) -> tuple[float, float] | None:
        inside = self.operator.bounds(low, high)
        if inside is None:
            return None
        ends = sorted(self.factor * end for end in inside)
        return ends[0], ends[1]

    def normal(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        return self.operator.normal(self.factor**2 * weight)

    def _forward(self, x: Tensor) -> Tensor:
        return self.factor * self.operator._forward(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.factor * self.operator._adjoint(y)
