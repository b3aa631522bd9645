"""Diffusion posterior sampling.

Reference: Chung et al., Diffusion posterior sampling for general noisy inverse problems, 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from invdiff.curvature import bend
from invdiff.diffusion import denoise_vjp, number
from invdiff.integrators import Estimate
from invdiff.linalg import expand, squared_norm
from invdiff.problem import Problem
from invdiff.samplers.guided import Guided, Place

__all__ = ["DPS", "Guidance", "guidance"]


@dataclass(frozen=True)
class DPS(Guided):
    r"""Steps down the gradient of the data misfit, taken through the denoiser.

    .. math:: x_0' = D(x) - \zeta\, \sigma^2 \frac{m}{2} \nabla_x \log \|y - A D(x)\|_W^2

    followed by a reverse step towards :math:`x_0'`. The gradient of a norm divided by the norm
    itself, per row, is the paper's normalised step; with :math:`\sigma^2 m` in front it is the
    likelihood score whose noise level is estimated from the residual, so ``step_size`` = 1 needs
    no retuning for other sizes, scales, noise levels or numbers of steps. A step that would pass
    the misfit's minimum along its own direction is shortened to reach it.

    Any differentiable operator. Biased: docs/certificate.md says by how much.

    Arguments:
        step_size: :math:`\zeta`.
        integrator: The reverse step; ``Ancestral()`` with the spread of x0 by default.
    """

    step_size: float = 1.0

    def estimate(self, place: Place) -> Estimate:
        problem, scale = place.problem, self.step_size * number(place.sigma) ** 2
        x0, vjp = denoise_vjp(place.prior, place.x, place.sigma)
        pull = guidance(problem, x0, vjp, place.reach * scale)
        return Estimate(
            x0.addcdiv(pull.gradient, expand(pull.limit, x0), value=scale), {"chi2": pull.chi2}
        )


class Guidance(NamedTuple):
    """The gradient of the log-likelihood in x (b, *shape), its divisor and chi2, (b,)."""

    gradient: Tensor
    limit: Tensor
    chi2: Tensor


def guidance(
    problem: Problem, x0: Tensor, vjp: Callable[[Tensor], Tensor], length: float
) -> Guidance:
    r"""The pull of the data on x, through the denoiser: :math:`g = J^T A^* W (y - A D(x))`.

    It is divided by the largest of 1, :math:`\chi^2 = \|r\|_W^2 / m`, which reads the noise level
    off the residual, and :math:`\ell\, \|A J g\|_W^2 / \|g\|^2`: beyond that, a step of ``length``
    :math:`\ell` would pass the minimum of the linearised misfit along g.

    J is the Jacobian of the denoiser, taken as symmetric, which it is for an exact one.
    """
    value, adjoint = problem.operator.linearize(x0)
    residual = problem.center - value
    weighted = problem.precision * residual
    chi2 = (weighted.conj() * residual).real.flatten(1).sum(1) / problem.measured
    gradient = vjp(adjoint(weighted))
    size = squared_norm(gradient)
    overshoot = length * bend(problem, x0, vjp(gradient)) / torch.where(size > 0, size, 1)
    return Guidance(gradient, torch.maximum(chi2, overshoot).clamp(min=1), chi2)
