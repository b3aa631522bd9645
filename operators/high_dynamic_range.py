"""High dynamic range: a photograph that is too bright for its sensor."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from invdiff.operators.base import Operator

__all__ = ["HighDynamicRange"]


@dataclass(frozen=True, eq=False, repr=False)
class HighDynamicRange(Operator):
    r"""Amplifies and clips, :math:`A(x)_i = \min(\max(s x_i, l), h)`: not linear.

    On images in [-1, 1], s = 2, l = -1 and h = 1 are the published choice (RED-diff, DAPS),
    where everything outside the middle half of the range is lost. The derivative is s where
    nothing is clipped, 0 where it is.

    Arguments:
        shape: The shape of an image, (channels, height, width).
        scale: The amplification s, positive.
        low: The smallest value that is measured.
        high: The largest.

    Raises:
        ValueError: The scale is not positive, or low is not below high.
    """

    shape: tuple[int, ...]
    scale: float = 2.0
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0 or not self.low < self.high:
            raise ValueError(
                f"scale is {self.scale}, low {self.low} and high {self.high}; expected scale > 0 "
                "and low < high."
            )

    @property
    def domain(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def range(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def linear(self) -> bool:
        return False

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        clipped = [min(max(self.scale * end, self.low), self.high) for end in (low, high)]
        return clipped[0], clipped[1]

    def _forward(self, x: Tensor) -> Tensor:
        return (self.scale * x).clamp(self.low, self.high)
