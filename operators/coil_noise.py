"""The noise of receiver coils: its covariance, and k-space in which it is white.

References:
    | The NMR phased array (Roemer et al., 1990), https://doi.org/10.1002/mrm.1910160203
    | Advances in sensitivity encoding with arbitrary k-space trajectories
    | (Pruessmann et al., 2001), https://doi.org/10.1002/mrm.1241
"""

from __future__ import annotations

import torch
from torch import Tensor

from invdiff.errors import ShapeError

__all__ = ["border_samples", "noise_covariance", "whiten"]


def noise_covariance(noise: Tensor) -> Tensor:
    r"""The covariance of the coils' noise *per real component*, complex (b, coils, coils).

    .. math:: \Psi = \frac{1}{2 n} \sum_{j=1}^n \eta_j \eta_j^*

    so a coil's variance on the diagonal is that of the real part, and of the imaginary part.

    Arguments:
        noise: Complex (b, coils, samples) without signal: a noise scan, whose covariance is to be
            multiplied by the ratio of its dwell time to that of the scan, or ``border_samples``.

    Raises:
        ShapeError: If there are not three axes.
        TypeError: If the noise is not complex.
        ValueError: If there are fewer samples than coils.
    """
    if noise.ndim != 3:
        raise ShapeError(
            f"The noise has shape {tuple(noise.shape)}; expected (b, coils, samples)."
        )
    if not noise.is_complex():
        raise TypeError(f"The noise has dtype {noise.dtype}; expected complex numbers.")
    coils, samples = noise.shape[1:]
    if samples < coils:
        raise ValueError(
            f"{samples} samples of {coils} coils have no invertible covariance; expected at least "
            "as many samples as coils, and a hundred times as many for 10 % of precision."
        )
    return noise @ noise.mH / (2 * samples)


def border_samples(kspace: Tensor, mask: Tensor, share: float = 0.05) -> Tensor:
    """The measured samples in the border of k-space, (1, coils, samples), to serve as noise.

    Where the image's details have faded only noise is left. What signal there is raises the
    variance: it is an upper bound.

    Arguments:
        kspace: One item (1, coils, height, width).
        mask: Where it was measured, zeros and ones (height, width).
        share: The width of the border on each side, of the height and of the width.

    Raises:
        ShapeError: If the two do not fit.
        ValueError: If the border was not measured, or share is not in (0, 1/2).
    """
    if kspace.ndim != 4 or len(kspace) != 1 or tuple(mask.shape) != tuple(kspace.shape[2:]):
        raise ShapeError(
            f"k-space has shape {tuple(kspace.shape)} and the mask {tuple(mask.shape)}; expected "
            "(1, coils, height, width) and (height, width)."
        )
    if not 0 < share < 0.5:
        raise ValueError(f"share is {share}, expected a part of each side, in (0, 1/2).")
    border = torch.ones_like(mask, dtype=torch.bool)
    inside = tuple(slice(round(share * n), n - round(share * n)) for n in mask.shape)
    border[inside] = False
    chosen = border & mask.bool()
    if not bool(chosen.any()):
        raise ValueError(
            f"Nothing was measured in the border ({share} of each side) of k-space. Raise the "
            "share, or take the noise from a noise scan."
        )
    return kspace[:, :, chosen]


def whiten(kspace: Tensor, covariance: Tensor) -> Tensor:
    r"""k-space :math:`L^{-1} y` with :math:`\Psi = L L^*`, (b, coils, *space): unit noise.

    Afterwards the noise of different coils is independent, and sigma, the standard deviation of
    *each real component*, is 1. Coil maps belong to whitened data if estimated from them.

    Arguments:
        kspace: Complex (b, coils, *space).
        covariance: Per real component (1 or b, coils, coils), from ``noise_covariance``.

    Raises:
        ShapeError: If the two do not fit.
        ValueError: If the covariance is not positive definite.
    """
    coils = kspace.shape[1]
    if covariance.ndim != 3 or tuple(covariance.shape[1:]) != (coils, coils):
        raise ShapeError(
            f"The covariance has shape {tuple(covariance.shape)}; expected (1 or b, {coils}, "
            f"{coils}) for k-space of shape {tuple(kspace.shape)}."
        )
    lower, failed = torch.linalg.cholesky_ex(covariance.to(torch.complex128))
    if bool(failed.any()):
        raise ValueError(
            "The noise covariance is not positive definite: a coil is missing, doubled, or the "
            "noise has too few samples. Drop that coil or give more noise."
        )
    flat = kspace.flatten(2)
    white: Tensor = torch.linalg.solve_triangular(lower, flat.to(lower.dtype), upper=False)
    return white.to(kspace.dtype).reshape(kspace.shape)
