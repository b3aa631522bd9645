"""Inpainting: only some pixels are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.base import Operator
from invdiff.operators.inpainting_masks import Seed, box_mask, random_pixel_mask

__all__ = ["Inpainting"]


@dataclass(frozen=True, eq=False, repr=False)
class Inpainting(Operator):
    r"""Keeps the pixels where the mask is one, :math:`A x = m \odot x`.

    The measurement has the shape of the image; pixels that are not measured are zero in it, and
    ``observed`` tells them apart from measured zeros.

    Arguments:
        mask: Zeros and ones, (1 or b, channels, height, width), such as the functions of
            ``inpainting_masks`` draw. A mask that all channels share is
            ``mask.expand(-1, 3, -1, -1)``.

    Raises:
        ShapeError: If the mask has not four axes.
        ValueError: If it holds anything but zeros and ones.
    """

    mask: Tensor

    def __post_init__(self) -> None:
        if self.mask.ndim != 4:
            raise ShapeError(
                f"The mask has shape {tuple(self.mask.shape)}, but must be (1 or items, channels, "
                "height, width). Add the leading axes: mask[None]."
            )
        if not bool(((self.mask == 0) | (self.mask == 1)).all()):
            raise ValueError(
                f"The mask holds values from {self.mask.min().item()} to {self.mask.max().item()},"
                " but must hold zeros and ones only. Threshold it first."
            )

    @classmethod
    def random(cls, shape: tuple[int, int, int], keep: float, seed: Seed) -> Self:
        """Keeps random pixels: ``random_pixel_mask``."""
        return cls(random_pixel_mask(shape, keep, seed))

    @classmethod
    def box(
        cls,
        shape: tuple[int, int, int],
        size: tuple[int, int],
        corner: tuple[int, int] | None = None,
    ) -> Self:
        """Hides a box: ``box_mask``."""
        return cls(box_mask(shape, size, corner))

    @property
    def kept(self) -> Tensor:
        """The share of the pixels that is measured, (1 or b,)."""
        return self.mask.flatten(1).double().mean(1)

    @property
    def domain(self) -> tuple[int, ...]:
        return tuple(self.mask.shape[1:])

    @property
    def range(self) -> tuple[int, ...]:
        return self.domain

    @property
    def observed(self) -> Tensor:
        return self.mask.bool()

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        return min(low, 0.0), max(high, 0.0)

    def _forward(self, x: Tensor) -> Tensor:
        return x * self.mask.to(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self._forward(y)
