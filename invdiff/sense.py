"""The linear reconstruction of parallel imaging: regularised least squares.

References:
    | SENSE: Sensitivity encoding for fast MRI (Pruessmann et al., 1999)
    | Advances in sensitivity encoding with arbitrary k-space trajectories
    | (Pruessmann et al., 2001), https://doi.org/10.1002/mrm.1241
"""

from __future__ import annotations

import math

from torch import Tensor

from invdiff.data_term import data_precision
from invdiff.linalg import cg
from invdiff.operators.base import Operator

__all__ = ["sense_cg"]


def sense_cg(
    operator: Operator,
    y: Tensor,
    sigma: float | Tensor,
    weight: float,
    iterations: int = 100,
    tolerance: float = 1e-5,
) -> Tensor:
    r"""Tikhonov-regularised least squares by conjugate gradients, (b, *domain).

    .. math:: \min_x \tfrac12 \|(A x - y) / \sigma\|^2 + \tfrac{w}{2} \|x\|^2

    For coil maps and a mask it is SENSE. For white Gaussian images of variance 1 / w it is the
    posterior mean.

    Arguments:
        operator: Linear; of real or of complex images.
        y: The measurements (b, *range).
        sigma: The standard deviation of each real component, broadcasting to y.
        weight: w, in 1 / (unit of the image) squared.
        iterations: The most iterations.
        tolerance: The relative residual of the normal equations at which a row stops.

    Raises:
        TypeError: If the operator is not linear.
        ValueError: If sigma or the weight is not positive and finite.
    """
    if not operator.linear:
        raise TypeError(f"{operator} is not linear; least squares by CG need a linear operator.")
    precision = data_precision(operator, y, sigma)
    if not (0 < weight < math.inf and bool(precision.isfinite().all())):
        raise ValueError(f"weight is {weight}; expected weight > 0 and sigma > 0, both finite.")
    hessian = operator.normal(precision)
    matched = operator.adjoint(precision * y)
    solved = cg(
        lambda u: hessian(u) + weight * u, matched, tolerance=tolerance, iterations=iterations
    )
    return solved.x
