"""The twisted diffusion sampler.

Reference: Wu et al., Practical and asymptotically exact conditional sampling in diffusion models,
2023.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from invdiff.covariance import Covariance, TweedieCovariance
from invdiff.diffusion import ancestral, denoise_vjp, extrapolate
from invdiff.linalg import cg, inner
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.base import Info, Kind, prior_noise
from invdiff.smc import Resampling, Systematic, resample, weight_info

__all__ = ["TDS"]


class Twisted(NamedTuple):
    """Particles x with all that is known at them; every field leads with the row axis."""

    x: Tensor
    x0: Tensor  # D(x)
    slope: Tensor  # the change of x0 per unit of -ln sigma, over the last step
    shift: Tensor  # sigma^2 times the gradient of the log twist
    shift_slope: Tensor  # the same change of the shift
    log_twist: Tensor
    log_w: Tensor
    log_evidence: Tensor  # what earlier resampling has absorbed; the same for an item's rows


@dataclass(frozen=True)
class TDS:
    r"""Weighted particles, steered and weighed by a look-ahead likelihood.

    The twist is :math:`\psi_\sigma(x) = N(y; A D(x), W^{-1} + A V A^*)`, with a model
    :math:`V` of the covariance of x0 given x. Particles move by the reverse step of the prior
    towards :math:`D(x) + \sigma^2 \nabla \log \psi_\sigma(x)` and are weighed by

    .. math:: w = \frac{p(x' \mid x)\, \psi_{\sigma'}(x')}{q(x' \mid x)\, \psi_\sigma(x)}

    with the exact likelihood at the last level. As particles and levels grow, the weighted
    particles converge to the posterior, and ``log_evidence`` to log p(y). Weights are float64;
    an item is resampled, systematically, when its effective sample size falls below a threshold.

    The operator must be linear. All particles of an item run together.

    Arguments:
        covariance: The model of V: ``TweedieCovariance()``, exact for an exact denoiser, one
            derivative of it per conjugate-gradient step; or ``IsotropicCovariance()``, the
            prior's error variance, which costs nothing and needs many more particles.
        threshold: The fraction of the particles below which an item is resampled.
        resampling: How ancestors are chosen, from ``invdiff.smc``.
        cg_iterations: The largest number of conjugate-gradient steps per twist.
        cg_tolerance: The relative residual at which they stop.
    """

    covariance: Covariance = field(default_factory=TweedieCovariance)
    threshold: float = 0.5
    resampling: Resampling = field(default_factory=Systematic)
    cg_iterations: int = 50
    cg_tolerance: float = 1e-4

    kind: ClassVar[Kind] = "exact"
    needs_linear: ClassVar[bool] = True

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Twisted:
        x = prior_noise(problem, sigma, rng)
        x0, shift, log_twist = self._twist(x, sigma, problem, prior)
        flat, zero = torch.zeros_like(x0), torch.zeros_like(log_twist)
        return Twisted(x, x0, flat, shift, flat, log_twist, log_twist, zero)

    def step(
        self,
        state: Twisted,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Twisted, Info]:
        state = resample(state, rng, self.threshold, self.resampling)
        target = extrapolate(state.x0, state.slope, sigma, sigma_next)
        plain = ancestral(state.x, target, sigma, sigma_next)
        if sigma_next == 0:
            state = self._finish(state, plain.mean, problem)
            return state, weight_info(state, rng.particles)
        shift = extrapolate(state.shift, state.shift_slope, sigma, sigma_next)
        twisted = ancestral(state.x, target + shift, sigma, sigma_next)
        x = twisted.draw(rng.normal(state.x))
        x0, shift, log_twist = self._twist(x, sigma_next, problem, prior)
        fall = torch.log(sigma / sigma_next)
        slopes = (x0 - state.x0) / fall, (shift - state.shift) / fall
        log_w = state.log_w + plain.log_ratio(twisted, x) + log_twist - state.log_twist
        state = Twisted(x, x0, slopes[0], shift, slopes[1], log_twist, log_w, state.log_evidence)
        return state, weight_info(state, rng.particles)

    def _twist(
        self, x: Tensor, sigma: Tensor, problem: Problem, prior: Prior
    ) -> tuple[Tensor, Tensor, Tensor]:
        a, root = problem.operator, problem.precision.sqrt()
        x0, vjp = denoise_vjp(prior, x, sigma)
        spread = self.covariance.at(prior, sigma, vjp)
        residual = root * problem.residual(x0)
        solved = cg(
            lambda u: u + root * a(spread(a.adjoint(root * u))),
            residual,
            tolerance=self.cg_tolerance,
            iterations=self.cg_iterations,
        ).x
        # Without its normaliser: any positive function of x is a valid twist.
        log_twist = -0.5 * inner(_double(residual), _double(solved))
        return x0, sigma**2 * vjp(a.adjoint(root * solved)), log_twist

    def _finish(self, state: Twisted, x: Tensor, problem: Problem) -> Twisted:
        log_likelihood = problem.log_likelihood(x).double()
        log_w = state.log_w + log_likelihood - state.log_twist
        return state._replace(x=x, x0=x, log_twist=log_likelihood, log_w=log_w)


def _double(values: Tensor) -> Tensor:
    return values.to(torch.complex128 if values.is_complex() else torch.float64)
