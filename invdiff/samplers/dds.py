"""Decomposed diffusion sampling.

Reference: Chung, Lee and Ye, Decomposed diffusion sampler for accelerating large-scale inverse
problems, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from invdiff.curvature import hessian_trace
from invdiff.diffusion import number
from invdiff.integrators import Estimate, Integrator, Renoise
from invdiff.linalg import cg, expand
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.guided import Guided, Place

__all__ = ["DDS"]


@dataclass(frozen=True)
class DDS(Guided):
    r"""Corrects the clean estimate by conjugate gradients, then re-noises it.

    .. math:: x_0' = \arg\min_x \tfrac12 \|y - A x\|_W^2
              + \tfrac{1}{2 \gamma v} \|x - D(x_\sigma)\|^2, \quad
              v = \max\left(v(\sigma), \frac{\|y - A D\|_W^2 - m}{\mathrm{tr}(A^* W A)}\right)

    W is the inverse noise variance, :math:`v(\sigma)` the error variance that the prior declares.
    The second value is the error that the data show: m is what noise alone would leave of the
    misfit. Where the prior is worse than it says, as on images unlike its training data, the data
    count for more. So ``data_weight`` :math:`\gamma` = 1 weighs both by their errors, at any scale
    of the data. No derivative of the network is taken. The operator must be linear.

    Means are good; some directions come out too narrow (docs/certificate.md).

    Arguments:
        data_weight: :math:`\gamma`, the multiple of the statistical weight of the data.
        cg_iterations: The largest number of conjugate-gradient steps per level.
        cg_tolerance: The relative residual at which they stop.
        integrator: The reverse step; ``Renoise(0.85)``, DDRM's eta, by default.
    """

    data_weight: float = 1.0
    cg_iterations: int = 30
    cg_tolerance: float = 1e-3
    integrator: Integrator = field(default=Renoise(0.85), kw_only=True)

    needs_linear: ClassVar[bool] = True

    def prepare(self, problem: Problem, prior: Prior, rng: Rng) -> Tensor:
        r"""The trace of :math:`A^* W A`, (b, 1)."""
        probe = rng.signs(problem.y.real.new_empty(len(problem), *problem.operator.domain))
        return hessian_trace(problem, probe)[:, None]

    def estimate(self, place: Place) -> Estimate:
        problem, sigma = place.problem, place.sigma
        x0 = place.prior(place.x, sigma)
        shown = (problem.misfit(x0) - problem.measured) / place.constants[:, 0]
        variance = torch.maximum(place.prior.error_variance(sigma).to(shown), shown)
        corrected = self._proximal(x0, expand(self.data_weight * variance, x0), problem)
        # The prior's own estimate of the noise: the data's correction must not leak into it.
        noise = (place.x - x0) / number(sigma)
        return Estimate(corrected, {"chi2": problem.chi2(corrected)}, noise)

    def _proximal(self, x0: Tensor, variance: Tensor, problem: Problem) -> Tensor:
        pull = problem.operator.adjoint(problem.precision * problem.residual(x0))
        correction = cg(
            lambda u: u + variance * problem.normal(u),
            variance * pull,
            tolerance=self.cg_tolerance,
            iterations=self.cg_iterations,
        )
        return x0 + correction.x
