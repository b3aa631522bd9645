"""The centred orthonormal Fourier transform: frequency zero and the origin at index n // 2."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["centring_phase", "fft2c", "fftc", "ifft2c", "ifftc"]


def fftc(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    r"""The centred orthonormal Fourier transform over ``axes``, for even and odd sizes n.

    .. math:: \hat x_k = n^{-1/2} \sum_j x_j e^{-2 \pi i (k - c)(j - c) / n}, \quad
              c = \lfloor n / 2 \rfloor
    """
    shifted = torch.fft.ifftshift(x, dim=axes)
    result: Tensor = torch.fft.fftshift(torch.fft.fftn(shifted, dim=axes, norm="ortho"), dim=axes)
    return result


def ifftc(y: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The inverse, and the adjoint, of ``fftc``."""
    shifted = torch.fft.ifftshift(y, dim=axes)
    result: Tensor = torch.fft.fftshift(torch.fft.ifftn(shifted, dim=axes, norm="ortho"), dim=axes)
    return result


def fft2c(x: Tensor) -> Tensor:
    """``fftc`` over the last two axes."""
    return fftc(x, (-2, -1))


def ifft2c(y: Tensor) -> Tensor:
    """The inverse, and the adjoint, of ``fft2c``."""
    return ifftc(y, (-2, -1))


def centring_phase(shape: tuple[int, ...], like: Tensor) -> Tensor:
    r"""The factors p of modulus one and of this shape with ``fftc(x) == p * fftn(p * x)``.

    Along one axis :math:`p_j = e^{2 \pi i c (j - c / 2) / n}`, since
    :math:`e^{-2 \pi i (k - c)(j - c) / n} = p_k\, e^{-2 \pi i k j / n}\, p_j`. So a centred
    transform takes two products, which often fold into others, in place of the copies of two
    shifts. Complex, in the dtype and on the device of ``like``.
    """
    phase = torch.ones((), dtype=torch.complex128)
    for n in shape:
        c = n // 2
        # Whole numbers modulo 2 n first: the angle is exact for any size.
        turns = (c * (2 * torch.arange(n) - c)) % (2 * n)
        line = torch.polar(torch.ones(n, dtype=torch.float64), math.pi * turns.double() / n)
        phase = phase[..., None] * line
    return phase.to(like)
