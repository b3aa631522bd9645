"""Inpainting: only some pixels are measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.base import Operator

__all__ = ["Inpainting"]


@dataclass(frozen=True, eq=False, repr=False)
class Inpainting(Operator):
    r"""Keeps the pixels where the mask is one, :math:`A x = m \odot x`.

    The measurement has the shape of the image; pixels that are not measured are zero in it, and
    ``observed`` tells them apart from measured zeros.

    Arguments:
        mask: Zeros and ones, (1 or b, channels, height, width). A mask that all channels share is
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
    def random(cls, shape: tuple[int, int, int], keep: float, seed: int) -> Self:
        """Keeps round(keep * height * width) pixels, in all channels of (channels, height, width).

        Raises ValueError if ``keep`` is not in (0, 1].
        """
        if not 0 < keep <= 1:
            raise ValueError(f"keep is {keep}, but must be a share of the pixels, in (0, 1].")
        channels, height, width = shape
        order = np.random.Generator(np.random.Philox(seed)).permutation(height * width)
        mask = torch.zeros(height * width, dtype=torch.bool)
        mask[torch.from_numpy(order[: max(1, round(keep * height * width))])] = True
        return cls(mask.reshape(1, 1, height, width).repeat(1, channels, 1, 1))

    @classmethod
    def box(
        cls,
        shape: tuple[int, int, int],
        size: tuple[int, int],
        corner: tuple[int, int] | None = None,
    ) -> Self:
        """Hides a box of ``size`` (rows, columns) whose upper left pixel is ``corner``.

        The box is centred if ``corner`` is None. Raises ValueError if it leaves the image.
        """
        channels, height, width = shape
        top, left = corner or ((height - size[0]) // 2, (width - size[1]) // 2)
        inside = 0 <= top <= top + size[0] <= height and 0 <= left <= left + size[1] <= width
        if not inside or min(size) < 1:
            raise ValueError(
                f"The box of {size} pixels at {(top, left)} does not fit into the image of "
                f"{(height, width)} pixels. Choose a smaller box or another corner."
            )
        mask = torch.ones(1, channels, height, width, dtype=torch.bool)
        mask[:, :, top : top + size[0], left : left + size[1]] = False
        return cls(mask)

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
