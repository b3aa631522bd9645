"""The identity: every pixel is measured directly (denoising)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invdiff.operators.base import Operator

__all__ = ["Identity"]


@dataclass(frozen=True, eq=False, repr=False)
class Identity(Operator):
    r"""Measures the image itself, :math:`A x = x`.

    Arguments:
        shape: The shape of an image, such as (1, 64, 48); also that of a measurement.
        is_complex: Whether images are complex.
    """

    shape: tuple[int, ...]
    is_complex: bool = False

    @property
    def domain(self) -> tuple[int, ...]:
        return self.shape

    @property
    def range(self) -> tuple[int, ...]:
        return self.shape

    @property
    def complex_domain(self) -> bool:
        return self.is_complex

    @property
    def complex_range(self) -> bool:
        return self.is_complex

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        return low, high

    def _forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.clone()
