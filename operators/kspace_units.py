"""Field of view and scale of k-space, each changed in an explicit way."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.operators.coil_combination import root_sum_of_squares
from invdiff.operators.coil_maps import calibration_block
from invdiff.operators.fourier import fftc, ifft2c, ifftc

__all__ = ["ScaledKSpace", "remove_oversampling", "scale_kspace"]


class ScaledKSpace(NamedTuple):
    """k-space divided by a factor per item, (b,); multiply by it to get back."""

    kspace: Tensor
    factor: Tensor


def remove_oversampling(kspace: Tensor, size: int, axis: int = -2) -> Tensor:
    """k-space of the central ``size`` pixels along a readout: the rest of its view is dropped.

    Transforms are orthonormal, so image values and the noise's sigma stay. The axis must be fully
    measured; a mask keeps one row of it for ``size`` rows.

    Raises ValueError if ``size`` exceeds the axis or is not positive.
    """
    length = kspace.shape[axis]
    if not 1 <= size <= length:
        raise ValueError(f"{size} pixels were asked for, of a readout of {length}.")
    images = ifftc(kspace, (axis,)).narrow(axis, length // 2 - size // 2, size)
    return fftc(images, (axis,))


def scale_kspace(kspace: Tensor, calibration_width: int, quantile: float = 0.99) -> ScaledKSpace:
    """k-space in which a bright pixel is about 1, whatever the scanner's unit.

    The factor is the ``quantile`` of the magnitude (root sum of squares over coils) of the image
    of the central ``calibration_width`` x ``calibration_width`` samples, which are never
    undersampled. The noise's sigma is to be divided by it, images are to be multiplied by it.

    Arguments:
        kspace: Complex (b, coils, height, width).
        calibration_width: The side of the fully measured centre.
        quantile: In [0, 1].

    Raises:
        ShapeError, TypeError, NotFinite, ValueError: As ``calibration_block`` does.
    """
    height, width = kspace.shape[-2:]
    block = calibration_block(kspace, calibration_width)
    # The orthonormal transform of a part is as much brighter as it is smaller.
    share = (calibration_width**2 / (height * width)) ** 0.5
    magnitude = share * root_sum_of_squares(ifft2c(block)).flatten(1).double()
    factor = torch.quantile(magnitude, quantile, dim=1)
    return ScaledKSpace(kspace / factor.to(kspace.real.dtype)[:, None, None, None], factor)
