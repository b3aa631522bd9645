"""Sparse reconstruction: least squares with an L1 penalty on wavelet coefficients.

The transform is that of PyWavelets, on the host: ``pip install invdiff[mri]``.

References:
    | Sparse MRI (Lustig, Donoho and Pauly, 2007), https://doi.org/10.1002/mrm.21391
    | A fast iterative shrinkage-thresholding algorithm (Beck and Teboulle, 2009)
    | Wavelet restoration of medical images with random shifts (Figueiredo and Nowak, 2003)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from invdiff.data_term import curvature_bound, data_precision
from invdiff.linalg import expand, inner
from invdiff.operators.base import Operator

__all__ = ["l1_wavelet", "shrink_wavelets", "wavelet_norm"]


def l1_wavelet(
    operator: Operator,
    y: Tensor,
    sigma: float | Tensor,
    weight: float,
    iterations: int = 100,
    wavelet: str = "db4",
    levels: int = 4,
    seed: int | None = 0,
) -> Tensor:
    r"""The image of least misfit and fewest wavelets, (b, channels, height, width).

    .. math:: \min_x \tfrac12 \|(A x - y) / \sigma\|^2 + w \|\Psi x\|_1

    by accelerated proximal gradients (FISTA) with restart, for real or complex images. The
    channels of a coefficient are one vector: for two real channels the modulus of a complex
    coefficient, as for a complex image. The coarsest averages are not penalised.

    Every iteration shifts the image at random before its transform ("cycle spinning"): the fixed
    grid of an orthogonal transform would show. Without (``seed`` None) the minimum is exact.

    Arguments:
        operator: Linear, with images (channels, height, width).
        y: The measurements (b, *range).
        sigma: The standard deviation of each real component, broadcasting to y.
        weight: w, in 1 / (unit of the image).
        iterations: How many.
        wavelet: An orthogonal wavelet, by PyWavelets' name.
        levels: Of the transform; images are padded with zeros to a multiple of 2 ** levels. The
            longest filter must be shorter than the smaller side.
        seed: Of the shifts; None for none.

    Raises:
        ImportError: If PyWavelets is not installed.
        TypeError: If the operator is not linear, or of other images.
        ValueError: If sigma or the weight is not positive and finite, or there are too many
            levels.
    """
    if not operator.linear or len(operator.domain) != 3:
        raise TypeError(f"{operator} is not linear, or its images have not three axes.")
    precision = data_precision(operator, y, sigma)
    if not (0 < weight < math.inf and bool(precision.isfinite().all())):
        raise ValueError(f"weight is {weight}; expected weight > 0 and sigma > 0, both finite.")
    hessian, matched = operator.normal(precision), operator.adjoint(precision * y)
    step = 1 / curvature_bound(hessian, matched)
    generator = None if seed is None else np.random.Generator(np.random.Philox(seed))
    x = ahead = torch.zeros_like(matched)
    momentum = torch.ones_like(step)
    for _ in range(iterations):
        target = ahead - expand(step, x) * (hessian(ahead) - matched)
        shift = (0, 0) if generator is None else tuple(generator.integers(2**levels, size=2))
        moved = torch.roll(_padded(target, levels), shift, (-2, -1))
        moved = shrink_wavelets(moved, weight * step, wavelet, levels)
        back = torch.roll(moved, (-shift[0], -shift[1]), (-2, -1))
        new = back[..., : x.shape[-2], : x.shape[-1]]
        # Momentum that points uphill is dropped, row by row.
        uphill = inner(ahead - new, new - x) > 0
        momentum = torch.where(uphill, torch.ones_like(momentum), momentum)
        grown = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        ahead = new + expand((momentum - 1) / grown, x) * (new - x)
        x, momentum = new, grown
    return x


def shrink_wavelets(x: Tensor, threshold: Tensor, wavelet: str, levels: int) -> Tensor:
    r""":math:`\arg\min_u \frac12 \|u - x\|^2 + t \|\Psi u\|_1` for a threshold t per row, (b,).

    The sides of x (b, channels, height, width) must be multiples of 2 ** levels.
    """
    limit = threshold.detach().cpu().numpy()[:, None, None, None]
    array = x.detach().cpu().numpy()
    average, *details = _transform(array, wavelet, levels)
    shrunk = [tuple(_shrink(part, limit) for part in level) for level in details]
    found = _pywt().waverec2([average, *shrunk], wavelet, "periodization", axes=(-2, -1))
    return torch.from_numpy(found.astype(array.dtype, copy=False)).to(x.device)


def wavelet_norm(x: Tensor, wavelet: str = "db4", levels: int = 4) -> Tensor:
    r""":math:`\|\Psi x\|_1` of each row without shifts, (b,); sides as for ``shrink_wavelets``."""
    _, *details = _transform(x.detach().cpu().numpy(), wavelet, levels)
    sums = sum(_modulus(part).sum(axis=(1, 2, 3)) for level in details for part in level)
    return torch.from_numpy(np.asarray(sums))


def _transform(array: np.ndarray, wavelet: str, levels: int) -> list[Any]:
    pywt = _pywt()
    most = pywt.dwt_max_level(min(array.shape[-2:]), wavelet)
    if not 1 <= levels <= most:
        raise ValueError(
            f"{levels} levels of {wavelet} were asked for; expected 1 to {most} for sides of "
            f"{array.shape[-2:]} pixels."
        )
    found: list[Any] = pywt.wavedec2(array, wavelet, "periodization", levels, axes=(-2, -1))
    return found


def _shrink(part: np.ndarray, limit: np.ndarray) -> np.ndarray:
    size = _modulus(part)
    kept = np.maximum(size - limit, 0) / np.where(size > 0, size, 1)
    shrunk: np.ndarray = part * kept.astype(size.dtype)
    return shrunk


def _modulus(part: np.ndarray) -> np.ndarray:
    """Over the channels, (b, 1, height, width)."""
    modulus: np.ndarray = np.sqrt((np.abs(part) ** 2).sum(axis=1, keepdims=True))
    return modulus


def _padded(x: Tensor, levels: int) -> Tensor:
    down, right = (-n % 2**levels for n in x.shape[-2:])
    return torch.nn.functional.pad(x, (0, right, 0, down))


def _pywt() -> Any:
    try:
        import pywt
    except ImportError:
        raise ImportError(
            "Wavelets need PyWavelets. Install it with: pip install invdiff[mri]"
        ) from None
    return pywt
