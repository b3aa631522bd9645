"""The classical reconstruction that a prior has to beat: total variation.

References:
    | Nonlinear total variation based noise removal algorithms (Rudin, Osher and Fatemi, 1992)
    | Fast gradient-based algorithms for constrained total variation image denoising and deblurring
    | problems (Beck and Teboulle, 2009), https://doi.org/10.1109/TIP.2009.2028250
    | Adaptive restart for accelerated gradient schemes (O'Donoghue and Candès, 2015)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.data_term import curvature_bound, data_precision
from invdiff.linalg import expand, inner, squared_norm
from invdiff.operators.base import Operator

__all__ = ["TunedWeight", "total_variation", "tune_tv_weight", "tv", "tv_objective"]


class TunedWeight(NamedTuple):
    """The weight with the smallest mean squared error, and the errors of all that were tried."""

    weight: float
    errors: dict[float, float]


def total_variation(x: Tensor) -> Tensor:
    """The isotropic total variation of each row of x (b, channels, height, width), (b,).

    Channels are coupled: the edge of a pixel is one vector over both directions and all channels.
    """
    return _gradient(x).square().sum(dim=(1, 2)).sqrt().flatten(1).sum(1)


def tv_objective(
    operator: Operator, y: Tensor, sigma: float | Tensor, weight: float, x: Tensor
) -> Tensor:
    r""":math:`\frac12 \|(A x - y) / \sigma\|^2 + w\, \mathrm{TV}(x)` per row, (b,)."""
    misfit = squared_norm((operator(x) - y) * data_precision(operator, y, sigma).sqrt())
    return misfit / 2 + weight * total_variation(x)


def tv(
    operator: Operator,
    y: Tensor,
    sigma: float | Tensor,
    weight: float,
    iterations: int = 300,
    nonnegative: bool = False,
) -> Tensor:
    r"""The image of least misfit and total variation, (b, channels, height, width).

    .. math:: \min_x \tfrac12 \|(A x - y) / \sigma\|^2 + w\, \mathrm{TV}(x)

    by accelerated proximal gradients (FISTA) with restart; the inner total-variation problem is
    solved in its dual, from where the last one ended. Nothing crosses rows.

    The inner problem is solved here and not by scikit-image or deepinv, because it must not be
    stopped by one test over the whole batch, and must start where the last one ended.

    Arguments:
        operator: Linear, with real images of three axes. For MRI, ``A @ AsComplex(...)``.
        y: The measurement (b, *range).
        sigma: The noise's standard deviation, per real number; broadcasts against y.
        weight: The weight w, in one over the unit of the image.
        iterations: The number of outer iterations: 300 bring the objective to 1e-3 of its
            minimum where the weight matches the noise; a far smaller weight takes more.
        nonnegative: Whether the image must not be negative.

    Raises:
        TypeError: If the operator is not linear or its images are complex.
        ValueError: If sigma or the weight is not positive.
    """
    if not operator.linear or operator.complex_domain or len(operator.domain) != 3:
        raise TypeError(
            f"{operator} is not linear, or its images are not real with three axes. "
            "Compose it with AsComplex for complex images."
        )
    precision = data_precision(operator, y, sigma)
    if not (weight > 0 and bool(torch.isfinite(precision).all())):
        raise ValueError(f"weight is {weight}; expected weight > 0 and sigma > 0, both finite.")
    hessian, matched = operator.normal(precision), operator.adjoint(precision * y)
    step = 1 / curvature_bound(hessian, matched)
    x = torch.zeros_like(matched)
    dual = torch.zeros_like(_gradient(x))
    ahead, momentum = x, torch.ones_like(step)
    for _ in range(iterations):
        target = ahead - expand(step, x) * (hessian(ahead) - matched)
        new, dual = _denoise(target, weight * step, dual, nonnegative)
        # Momentum that points uphill is dropped, row by row.
        uphill = inner(ahead - new, new - x) > 0
        momentum = torch.where(uphill, torch.ones_like(momentum), momentum)
        grown = (1 + (1 + 4 * momentum**2).sqrt()) / 2
        ahead = new + expand((momentum - 1) / grown, x) * (new - x)
        x, momentum = new, grown
    return x


def tune_tv_weight(
    operator: Operator,
    y: Tensor,
    sigma: float | Tensor,
    truth: Tensor,
    weights: Sequence[float],
    iterations: int = 300,
    nonnegative: bool = False,
) -> TunedWeight:
    """The best of ``weights`` for the images ``truth`` (b, *domain) measured as ``y``.

    To be called with other images than the ones to reconstruct. Raises ValueError without weights.
    """
    if not weights:
        raise ValueError("There are no weights to choose from. Give at least one.")
    errors = {}
    for weight in weights:
        x = tv(operator, y, sigma, weight, iterations, nonnegative)
        errors[weight] = (x - truth).square().mean().item()
    return TunedWeight(min(errors, key=lambda weight: errors[weight]), errors)


def _denoise(
    target: Tensor, weight: Tensor, dual: Tensor, nonnegative: bool, iterations: int = 10
) -> tuple[Tensor, Tensor]:
    r""":math:`\arg\min_x \frac12 \|x - t\|^2 + w\, \mathrm{TV}(x)` from the last dual."""

    def primal(dual: Tensor) -> Tensor:
        x = target + expand(weight, target) * _divergence(dual)
        return x.clamp_min(0) if nonnegative else x

    ahead, momentum = dual, 1.0
    for _ in range(iterations):
        # 8 is the square of the largest singular value of the gradient.
        new = ahead + _gradient(primal(ahead)) / (8 * expand(weight, ahead))
        new = new / new.square().sum(dim=(1, 2), keepdim=True).sqrt().clamp_min(1)
        grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / grown * (new - dual)
        dual, momentum = new, grown
    return primal(dual), dual


def _gradient(x: Tensor) -> Tensor:
    """Forward differences (b, 2, channels, height, width), zero beyond the border."""
    result = torch.zeros(len(x), 2, *x.shape[1:], dtype=x.dtype, device=x.device)
    result[:, 0, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    result[:, 1, :, :, :-1] = x[:, :, :, 1:] - x[:, :, :, :-1]
    return result


def _divergence(p: Tensor) -> Tensor:
    """Minus the adjoint of ``_gradient``."""
    down, right = p[:, 0, :, :-1], p[:, 1, :, :, :-1]
    result = torch.zeros_like(p[:, 0])
    result[:, :, :-1] += down
    result[:, :, 1:] -= down
    result[:, :, :, :-1] += right
    result[:, :, :, 1:] -= right
    return result
