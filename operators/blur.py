"""Blur: convolution with a kernel, Gaussian, of motion or any other."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from invdiff.errors import NotFinite, ShapeError
from invdiff.operators.base import Operator

__all__ = ["Blur", "Boundary"]


class Boundary(Enum):
    """What lies beyond the border of an image.

    CIRCULAR: the opposite side (DiffPIR, and deepinv's BlurFFT).
    REFLECT: the mirror image, the edge pixel once (DPS and DAPS, by ``ReflectionPad2d``).
    ZERO: nothing (DDRM's deblurring).
    VALID: unknown, so only pixels whose neighbours are all known are measured: the measurement is
    smaller than the image by the size of the kernel less one. What a camera does.
    """

    CIRCULAR = "circular"
    REFLECT = "reflect"
    ZERO = "zero"
    VALID = "valid"

    def __repr__(self) -> str:
        return f"Boundary.{self.name}"


@dataclass(frozen=True, eq=False, repr=False)
class Blur(Operator):
    r"""The convolution :math:`(A x)_i = \sum_j k_j x_{i - j}`, j = 0 at the kernel's centre.

    By fast Fourier transforms, so its cost hardly depends on the size of the kernel; the adjoint
    is exact. Codes that correlate (DPS and all that call ``conv2d``) use ``kernel.flip(-2, -1)``.

    Arguments:
        shape: The shape (channels, height, width) of the image.
        kernel: (1 or b, 1 or channels, rows, columns), odd numbers of rows and columns: one for
            all items or one for each, one for all channels or one for each. See
            ``gaussian_kernel`` and ``motion_kernel``.
        boundary: What lies beyond the border.

    Raises:
        ShapeError: The shapes do not fit, or the kernel is too large for the boundary.
        TypeError: The kernel is not real.
        NotFinite: The kernel has NaN or infinite entries.
    """

    shape: tuple[int, int, int]
    kernel: Tensor
    boundary: Boundary

    def __post_init__(self) -> None:
        kernel = tuple(self.kernel.shape)
        if len(kernel) != 4 or len(self.shape) != 3 or kernel[1] not in (1, self.shape[0]):
            raise ShapeError(
                f"The kernel has shape {kernel} for images of shape {self.shape}, expected (1 or "
                "items, 1 or channels, rows, columns) and (channels, height, width). Add the "
                "leading axes: kernel[None, None]."
            )
        if kernel[2] % 2 == 0 or kernel[3] % 2 == 0:
            raise ShapeError(
                f"The kernel has {kernel[2:]} pixels, expected odd numbers: its centre is a pixel."
                " Add a row or a column of zeros on the side where the centre shall be."
            )
        if any(
            size < self._smallest(length)
            for size, length in zip(self.shape[1:], kernel[2:], strict=True)
        ):
            raise ShapeError(
                f"The kernel of {kernel[2:]} pixels is too large for the image of {self.shape[1:]}"
                f" pixels with {self.boundary}. Crop the kernel."
            )
        if not self.kernel.is_floating_point():
            raise TypeError(f"The kernel has dtype {self.kernel.dtype}, expected a real one.")
        if not bool(torch.isfinite(self.kernel).all()):
            raise NotFinite("The kernel has NaN or infinite entries, expected finite numbers.")

    def _smallest(self, length: int) -> int:
        """The smallest image that a kernel of ``length`` pixels fits."""
        padded = self.boundary in (Boundary.REFLECT, Boundary.ZERO)
        return length // 2 + 1 if padded else length

    @property
    def domain(self) -> tuple[int, ...]:
        return tuple(self.shape)

    @property
    def range(self) -> tuple[int, ...]:
        if self.boundary is not Boundary.VALID:
            return self.domain
        rows, columns = self.kernel.shape[2:]
        return self.shape[0], self.shape[1] - rows + 1, self.shape[2] - columns + 1

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        if self.boundary is Boundary.ZERO:
            low, high = min(low, 0.0), max(high, 0.0)
        kernel = self.kernel.double()
        above, below = (part.sum((-2, -1)) for part in (kernel.clamp(min=0), kernel.clamp(max=0)))
        least, most = above * low + below * high, above * high + below * low
        return float(least.min()), float(most.max())

    def _margins(self) -> tuple[int, int]:
        """How many mirrored pixels are added on every side."""
        if self.boundary is not Boundary.REFLECT:
            return 0, 0
        return self.kernel.shape[2] // 2, self.kernel.shape[3] // 2

    def _period(self) -> list[int]:
        """The lengths of the transforms: no shorter than what wraps around nowhere it matters."""
        sizes = [size + 2 * m for size, m in zip(self.shape[1:], self._margins(), strict=True)]
        if self.boundary is Boundary.CIRCULAR:
            return sizes
        if self.boundary is Boundary.ZERO:
            sizes = [n + k // 2 for n, k in zip(sizes, self.kernel.shape[2:], strict=True)]
        return [next_fast_len(size, real=True) for size in sizes]

    def _spectrum(self, like: Tensor) -> Tensor:
        """The kernel's transform, moved to where the first measured pixel is number 0."""
        rows, columns = self.kernel.shape[2:]
        period = self._period()
        kernel = like.new_zeros(*self.kernel.shape[:2], *period)
        kernel[..., :rows, :columns] = self.kernel.to(like)
        if self.boundary in (Boundary.CIRCULAR, Boundary.ZERO):
            first = rows // 2, columns // 2
        else:
            first = rows - 1, columns - 1
        spectrum: Tensor = torch.fft.rfft2(kernel.roll((-first[0], -first[1]), (-2, -1)))
        return spectrum

    def _forward(self, x: Tensor) -> Tensor:
        period = self._period()
        for axis, margin in zip((-2, -1), self._margins(), strict=True):
            x = _reflect(x, margin, axis)
        image: Tensor = torch.fft.rfft2(x, s=period) * self._spectrum(x)
        _, rows, columns = self.range
        blurred: Tensor = torch.fft.irfft2(image, s=period)[..., :rows, :columns]
        return blurred.contiguous()

    def _adjoint(self, y: Tensor) -> Tensor:
        period = self._period()
        image: Tensor = torch.fft.rfft2(y, s=period) * self._spectrum(y).conj()
        back: Tensor = torch.fft.irfft2(image, s=period)
        for axis, margin in zip((-2, -1), self._margins(), strict=True):
            back = back.narrow(axis, 0, self.shape[axis] + 2 * margin)
            back = _reflect_adjoint(back, margin, axis)
        return back.contiguous()


def _reflect(x: Tensor, margin: int, axis: int) -> Tensor:
    size = x.shape[axis]
    before = x.narrow(axis, 1, margin).flip(axis)
    after = x.narrow(axis, size - 1 - margin, margin).flip(axis)
    return torch.cat([before, x, after], axis)


def _reflect_adjoint(y: Tensor, margin: int, axis: int) -> Tensor:
    """Adds every mirrored pixel to the one it came from."""
    size = y.shape[axis] - 2 * margin
    x = y.narrow(axis, margin, size).clone()
    x.narrow(axis, 1, margin).add_(y.narrow(axis, 0, margin).flip(axis))
    end = x.narrow(axis, size - 1 - margin, margin)
    end.add_(y.narrow(axis, margin + size, margin).flip(axis))
    return x
