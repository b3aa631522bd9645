"""Any linear map of small images, given as a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from invdiff.errors import NotFinite, ShapeError
from invdiff.operators.base import Operator

__all__ = ["Matrix"]


@dataclass(frozen=True, eq=False, repr=False)
class Matrix(Operator):
    r"""Multiplies the pixels of an image, in row-major order, by a real matrix :math:`M`.

    Arguments:
        matrix: :math:`M`, (1 or b, measured, pixels): one for all items, or one for each.
        shape: The shape of an image, with ``pixels`` entries; (pixels,) if None.

    Raises:
        ShapeError: The matrix has not three axes, or its columns are not the image's pixels.
        TypeError: The matrix is complex, or of an integer dtype.
        NotFinite: The matrix has NaN or infinite entries.
    """

    matrix: Tensor
    shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.matrix.ndim != 3 or self.matrix.shape[2] != prod(self.domain):
            raise ShapeError(
                f"The matrix has shape {tuple(self.matrix.shape)} for images of shape "
                f"{self.shape}, expected (1 or items, measured, pixels). Add a leading axis: "
                "matrix[None]."
            )
        if not self.matrix.is_floating_point():
            raise TypeError(f"The matrix has dtype {self.matrix.dtype}, expected a real one.")
        if not bool(torch.isfinite(self.matrix).all()):
            raise NotFinite("The matrix has NaN or infinite entries, expected finite numbers.")

    @property
    def domain(self) -> tuple[int, ...]:
        return (self.matrix.shape[-1],) if self.shape is None else tuple(self.shape)

    @property
    def range(self) -> tuple[int, ...]:
        return (self.matrix.shape[1],)

    def _forward(self, x: Tensor) -> Tensor:
        return (self.matrix.to(x) @ x.flatten(1)[..., None])[..., 0]

    def _adjoint(self, y: Tensor) -> Tensor:
        image = (self.matrix.to(y).mT @ y[..., None])[..., 0]
        return image.reshape(-1, *self.domain)
