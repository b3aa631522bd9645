"""Multi-coil magnetic resonance imaging on a Cartesian grid.

References:
    | SENSE: Sensitivity encoding for fast MRI (Pruessmann et al., 1999)
    | https://doi.org/10.1002/(SICI)1522-2594(199911)42:5<952::AID-MRM16>3.0.CO;2-S
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from invdiff.errors import ShapeError
from invdiff.operators.base import Operator

__all__ = ["CartesianMRI", "fft2c", "ifft2c"]


@dataclass(frozen=True, eq=False, repr=False)
class CartesianMRI(Operator):
    r"""Coil maps, centred orthonormal Fourier transform, mask: :math:`(Ax)_c = m F (s_c x)`.

    Images are complex (1, height, width), measurements complex (coils, height, width), zero where
    nothing was measured. Frequency zero is at index (height // 2, width // 2).

    Arguments:
        maps: Coil sensitivities, complex (1 or b, coils, height, width).
        mask: Zeros and ones, real or bool (1 or b, 1, height, width).

    Raises:
        ShapeError: If the two do not fit each other.
        TypeError: If the maps are not complex or the mask is.
    """

    maps: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        maps, mask = tuple(self.maps.shape), tuple(self.mask.shape)
        fits = len(maps) == 4 and len(mask) == 4 and mask[1:] == (1, *maps[2:])
        if not fits or (maps[0] != mask[0] and 1 not in (maps[0], mask[0])):
            raise ShapeError(
                f"The maps have shape {maps} and the mask {mask}; expected (1 or items, coils, "
                "height, width) and (1 or items, 1, height, width)."
            )
        if not self.maps.is_complex() or self.mask.is_complex():
            raise TypeError(
                f"The maps have dtype {self.maps.dtype} and the mask {self.mask.dtype}; expected "
                "complex maps and a real mask."
            )
        if not bool(((self.mask == 0) | (self.mask == 1)).all()):
            raise ValueError("The mask must hold zeros and ones only. Threshold it first.")

    @property
    def domain(self) -> tuple[int, ...]:
        return (1, *self.maps.shape[2:])

    @property
    def range(self) -> tuple[int, ...]:
        return tuple(self.maps.shape[1:])

    @property
    def complex_domain(self) -> bool:
        return True

    @property
    def complex_range(self) -> bool:
        return True

    @property
    def observed(self) -> Tensor:
        return self.mask.bool().expand(-1, *self.range)

    def _forward(self, x: Tensor) -> Tensor:
        return self.mask.to(x.device, x.real.dtype) * fft2c(self.maps.to(x) * x)

    def _adjoint(self, y: Tensor) -> Tensor:
        coils = ifft2c(self.mask.to(y.device, y.real.dtype) * y)
        return (self.maps.to(y).conj() * coils).sum(1, keepdim=True)


def fft2c(x: Tensor) -> Tensor:
    """The centred orthonormal Fourier transform over the last two axes."""
    shifted = torch.fft.ifftshift(x, dim=(-2, -1))
    result: Tensor = torch.fft.fftshift(torch.fft.fft2(shifted, norm="ortho"), dim=(-2, -1))
    return result


def ifft2c(y: Tensor) -> Tensor:
    """The inverse, and the adjoint, of ``fft2c``."""
    shifted = torch.fft.ifftshift(y, dim=(-2, -1))
    result: Tensor = torch.fft.fftshift(torch.fft.ifft2(shifted, norm="ortho"), dim=(-2, -1))
    return result
