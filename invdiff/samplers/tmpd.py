"""Tweedie moment projected diffusions.

Reference: Boys et al., Tweedie moment projected diffusions for inverse problems, 2023.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from invdiff.diffusion import denoise_vjp, number
from invdiff.integrators import Estimate
from invdiff.samplers.guided import Guided, Place

__all__ = ["TMPD"]


@dataclass(frozen=True)
class TMPD(Guided):
    r"""As MMPS, with the covariance of the data replaced by the diagonal of its row sums.

    .. math:: x_0' = D(x) + \sigma^2 J^T A^* (W^{-1} + \mathrm{diag}(c))^{-1} (y - A D(x)), \quad
              c = \max(0, A\, \sigma^2 J^T A^* 1)

    with the Jacobian J of the denoiser: two derivatives of it per level and no linear system.
    The row sums are those of no covariance where entries are negative; they can be negative
    themselves, and count as 0. Where they are far below the true variances, a step overshoots:
    good for operators and images with positive correlations, such as averages of smooth images.

    The operator must be linear. Biased.

    Arguments:
        integrator: The reverse step.
    """

    needs_linear: ClassVar[bool] = True

    def estimate(self, place: Place) -> Estimate:
        problem, a = place.problem, place.problem.operator
        noise = number(place.sigma) ** 2
        x0, vjp = denoise_vjp(place.prior, place.x, place.sigma)
        seen = (problem.precision > 0).to(problem.precision)
        ones = torch.complex(seen, seen) if problem.y.is_complex() else seen
        spread = noise * a(vjp(a.adjoint(ones)))
        residual = problem.residual(x0)
        weighted = _weigh(problem.precision, spread, residual)
        chi2 = (problem.precision * residual.abs().square()).flatten(1).sum(1) / problem.measured
        return Estimate(x0.add(vjp(a.adjoint(weighted)), alpha=noise), {"chi2": chi2})


def _weigh(precision: Tensor, spread: Tensor, residual: Tensor) -> Tensor:
    """The residual over 1/W + max(0, c); real and imaginary parts have variances of their own."""
    if residual.is_complex():
        parts = (_weigh(precision, spread.real, residual.real),
                 _weigh(precision, spread.imag, residual.imag))  # fmt: skip
        return torch.complex(*parts)
    return precision * residual / (1 + precision * spread.clamp(min=0))
