"""Decomposed diffusion sampling.

Reference: Chung, Lee and Ye, Decomposed diffusion sampler for accelerating large-scale inverse
problems, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from invdiff.curvature import hessian_trace
from invdiff.diffusion import renoise
from invdiff.linalg import cg, expand
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.base import Info, Kind, prior_noise

__all__ = ["DDS"]


class Corrected(NamedTuple):
    r"""x (b, *shape), and the trace of :math:`A^* W A` of each row's data term (b,)."""

    x: Tensor
    trace: Tensor


@dataclass(frozen=True)
class DDS:
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
        eta: The share of fresh noise, in [0, 1], in the convention of DDRM.
        cg_iterations: The largest number of conjugate-gradient steps per level.
        cg_tolerance: The relative residual at which they stop.
    """

    data_weight: float = 1.0
    eta: float = 0.85
    cg_iterations: int = 30
    cg_tolerance: float = 1e-3

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = True

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Corrected:
        x = prior_noise(problem, sigma, rng)
        return Corrected(x, hessian_trace(problem, rng.signs(x)))

    def step(
        self,
        state: Corrected,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Corrected, Info]:
        x0 = prior(state.x, sigma)
        # The prior's own estimate of the noise: the data's correction must not leak into it.
        direction = (state.x - x0) / sigma
        shown = (problem.misfit(x0) - problem.measured) / state.trace
        variance = torch.maximum(prior.error_variance(sigma).to(shown), shown)
        corrected = self._proximal(x0, expand(self.data_weight * variance, x0), problem)
        x = renoise(corrected, direction, sigma_next, rng.normal(x0), self.eta)
        return state._replace(x=x), {"chi2": problem.chi2(corrected)}

    def _proximal(self, x0: Tensor, variance: Tensor, problem: Problem) -> Tensor:
        a, weight = problem.operator, problem.precision
        correction = cg(
            lambda u: u + variance * a.adjoint(weight * a(u)),
            variance * a.adjoint(weight * problem.residual(x0)),
            tolerance=self.cg_tolerance,
            iterations=self.cg_iterations,
        )
        return x0 + correction.x
