"""Split Gibbs sweeps within sequential Monte Carlo: exact without a guess at p(x0 | x).

The moves are those of Wu et al., Principled probabilistic imaging using diffusion models as
plug-and-play priors, 2024; the frame is that of Del Moral, Doucet and Jasra, Sequential Monte
Carlo samplers, 2006. To combine them, which needs no density of the prior, is this package's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from invdiff.diffusion import number
from invdiff.integrators import Integrator, sde_dpm_solver_2m
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.reverse import reverse
from invdiff.rng import Rng
from invdiff.samplers.annealed import Widened, anneal
from invdiff.samplers.base import Info, Kind, prior_noise
from invdiff.smc import Resampling, Systematic, resample, weight_info

__all__ = ["SplitSMC"]


class Clean(NamedTuple):
    """Images without noise (b, *shape), their widened log-likelihood, and their weights, (b,)."""

    x: Tensor
    log_likelihood: Tensor
    constant: Tensor
    log_w: Tensor
    log_evidence: Tensor


@dataclass(frozen=True)
class SplitSMC:
    r"""Weighted clean images, moved by split Gibbs sweeps while the data sharpen.

    .. math:: \pi_\sigma(x) \propto p(x)\, N(y; A x, W^{-1} + \sigma^2 A A^*)

    is what :math:`p(x)\, p(y \mid z)\, N(z; x, \sigma^2)` leaves for x. A sweep draws z given x,
    exactly, and x given z, by the prior's reverse process from level sigma, so it leaves
    :math:`\pi_\sigma` as it is. From level to level the weight is a ratio of likelihoods, in
    closed form: neither the prior's density nor an approximation of :math:`p(x_0 \mid x)` enters.
    From the last level to 0 the weight takes the widening back. As the particles and the steps of
    the reverse process grow, the particles converge to the posterior, and ``log_evidence`` to
    log p(y), for any prior and on any ladder.

    It is the one for priors far from Gaussian, where the twists of ``TDS`` and ``ConjugateTDS``
    mislead; those need fewer evaluations where they do not. A level costs ``sweeps`` times
    ``denoising_steps``. ``equal_information`` makes its ladder: levels need to be close where the
    data say much.

    Arguments:
        sweeps: The sweeps at each level.
        denoising_steps: The steps of the reverse process in a sweep.
        first_steps: Its steps at the first level, where it draws from the prior.
        integrator: Their rule, with noise; ``sde_dpm_solver_2m()`` by default.
        threshold: The fraction of the particles below which an item is resampled.
        resampling: How ancestors are chosen, from ``invdiff.smc``.

    Raises ValueError for less than one sweep or step.
    """

    sweeps: int = 4
    denoising_steps: int = 10
    first_steps: int = 30
    integrator: Integrator = field(default_factory=sde_dpm_solver_2m)
    threshold: float = 0.5
    resampling: Resampling = field(default_factory=Systematic)

    kind: ClassVar[Kind] = "exact"
    needs_linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if min(self.sweeps, self.denoising_steps, self.first_steps) < 1:
            raise ValueError(f"{self}: expected 1 sweep and 1 step or more.")

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Clean:
        noise = prior_noise(problem, sigma, rng)
        x = reverse(prior, noise, sigma, self.integrator, self.first_steps, rng)
        level = number(sigma) ** 2
        likelihood = anneal(problem, x, level, rng.particles)
        value = likelihood.value(x, level)
        return Clean(x, value, likelihood.constant, value, torch.zeros_like(value))

    def step(
        self,
        state: Clean,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Clean, Info]:
        likelihood = Widened(problem, state.constant)
        level = number(sigma_next) ** 2
        sharper = likelihood.value(state.x, level)
        log_w = state.log_w + sharper - state.log_likelihood
        state = state._replace(log_likelihood=sharper, log_w=log_w)
        info = weight_info(state, rng.particles)
        if level == 0:
            return state, info
        state = resample(state, rng, self.threshold, self.resampling)
        x = state.x
        for _ in range(self.sweeps):
            z = _fit(likelihood, x, level**0.5, rng)
            x = reverse(prior, z, sigma_next, self.integrator, self.denoising_steps, rng)
        return state._replace(x=x, log_likelihood=likelihood.value(x, level)), info


def _fit(likelihood: Widened, x: Tensor, std: float, rng: Rng) -> Tensor:
    """A draw of N(x, std^2) given the data, (b, *shape)."""
    projected = likelihood.system.project(x)
    given = likelihood.posterior(projected, std, 0.0)
    return given.draw(likelihood.system, x, projected, std, rng.normal(x))
