"""What operators that change one thing about another have in common: all the rest."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invdiff.operators.base import Operator

__all__ = ["AroundOperator"]


@dataclass(frozen=True, eq=False, repr=False)
class AroundOperator(Operator):
    """Spaces, linearity and bounds of another operator; a subclass says what it does to images."""

    operator: Operator

    @property
    def domain(self) -> tuple[int, ...]:
        return self.operator.domain

    @property
    def range(self) -> tuple[int, ...]:
        return self.operator.range

    @property
    def complex_domain(self) -> bool:
        return self.operator.complex_domain

    @property
    def complex_range(self) -> bool:
        return self.operator.complex_range

    @property
    def linear(self) -> bool:
        return self.operator.linear

    @property
    def adjoint_exact(self) -> bool:
        return self.operator.adjoint_exact

    @property
    def observed(self) -> Tensor | None:
        return self.operator.observed

    def bounds(self, low: float, high: float) -> tuple[float, float] | None:
        return self.operator.bounds(low, high)
