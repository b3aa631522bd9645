"""Monte-Carlo guided diffusion.

Reference: Cardoso et al., Monte Carlo guided diffusion for Bayesian linear inverse problems, 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from invdiff.diffusion import ancestral, extrapolate
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.annealed import Coordinates
from invdiff.samplers.base import Info, Kind
from invdiff.singular import SingularSystem, singular_system
from invdiff.smc import Resampling, Systematic, resample, weight_info

__all__ = ["MCGDiff"]


class Pinned(NamedTuple):
    """Particles x with all that is known at them; every field leads with the row axis."""

    x: Tensor
    x0: Tensor  # D(x)
    slope: Tensor  # the change of x0 per unit of -ln sigma, over the last step
    log_w: Tensor
    log_evidence: Tensor


@dataclass(frozen=True)
class MCGDiff:
    r"""Weighted particles that meet each number of the data at the level of its own noise.

    In the singular basis of the whitened operator, :math:`y_i / s_i` is an exact observation of
    the coordinate :math:`z_i` of x at the level :math:`\tau_i = 1 / s_i`, where the noise of the
    data is that of the diffusion. Above it, particles are steered and weighed by the potential

    .. math:: g_\sigma(z) = N\bigl(y_i / s_i;\; z_i,\; \sigma^2 - (1 - \kappa)\, \tau_i^2\bigr)

    The step that passes :math:`\tau_i` goes through it: down to the observation, weighed by its
    density, and on from there. Below, the coordinate is free. Proposals are the exact Gaussians,
    weights their integrals. As particles and levels grow, the particles converge to the posterior
    and ``log_evidence`` to log p(y).

    The operator must be linear and its singular system known (``invdiff.singular``). The ladder
    should end below the smallest :math:`\tau_i`: the last step, to 0, does not hold on to data.

    Arguments:
        kappa: How much wider than needed the potential is, in units of :math:`\tau_i^2`.
        threshold: The fraction of the particles below which an item is resampled.
        resampling: How ancestors are chosen, from ``invdiff.smc``.

    Raises ValueError if kappa is negative or not finite.
    """

    kappa: float = 1e-4
    threshold: float = 0.5
    resampling: Resampling = field(default_factory=Systematic)

    kind: ClassVar[Kind] = "exact"
    needs_linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.kappa < math.inf:
            raise ValueError(f"kappa is {self.kappa}, expected 0 or more.")

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Pinned:
        system, level = singular_system(problem), float(sigma)
        noise = rng.normal(problem.y.real.new_empty(len(problem), *problem.operator.domain))
        origin, zero = torch.zeros_like(noise), torch.zeros_like(system.data)
        # One step leads here from infinite noise, whose clean estimate is 0 in these units.
        given = self._meet(system, zero, zero, math.inf, level)
        x = given.draw(system, origin, zero, level, noise)
        x0 = prior(x, sigma)
        # The potentials are densities of y / s, and say nothing of what is not seen.
        seen, data = system.values > 0, system.data.double()
        scale = torch.where(seen, system.values, 1).double().log()
        normaliser = (0.5 * data.square() * seen - scale).sum(1)
        log_w = given.log_density + problem.log_likelihood(origin).double() + normaliser
        return Pinned(x, x0, torch.zeros_like(x0), log_w, torch.zeros_like(log_w))

    def step(
        self,
        state: Pinned,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Pinned, Info]:
        state = resample(state, rng, self.threshold, self.resampling)
        system = singular_system(problem)
        target = extrapolate(state.x0, state.slope, sigma, sigma_next)
        plain = ancestral(state.x, target, sigma, sigma_next)
        z, clean = system.project(state.x), system.project(target)
        given = self._meet(system, z, clean, float(sigma), float(sigma_next))
        log_w = state.log_w + given.log_density
        if sigma_next == 0:
            state = state._replace(x=target, log_w=log_w)
            return state, weight_info(state, rng.particles)
        projected = system.project(plain.mean)
        x = given.draw(system, plain.mean, projected, float(plain.std), rng.normal(state.x))
        x0 = prior(x, sigma_next)
        slope = (x0 - state.x0) / torch.log(sigma / sigma_next)
        state = Pinned(x, x0, slope, log_w, state.log_evidence)
        return state, weight_info(state, rng.particles)

    def _meet(
        self, system: SingularSystem, z: Tensor, clean: Tensor, sigma: float, sigma_next: float
    ) -> Coordinates:
        """The coordinates at the next level, from z at sigma and their clean estimates, (b, r).

        Its density is the integral of the way down times the next potential, over this one.
        """
        tau = 1 / system.values.double()  # infinite for what is not seen
        datum = (system.inverse() * system.data).double()
        z, clean = z.double(), clean.double()
        ahead, passing = tau < sigma_next, (tau >= sigma_next) & (tau < sigma)
        # The level that the data are met at, or stand for: the end of the step if they are free.
        level = torch.where(passing, tau, sigma_next)
        mean, variance = _down(z, clean, sigma, level)
        width = torch.where(ahead, sigma_next**2 - (1 - self.kappa) * tau**2, 0)
        total = torch.where(ahead | passing, variance + width, 1)
        now = torch.where(ahead | passing, sigma**2 - (1 - self.kappa) * tau**2, 1)
        gain = _log_normal(datum - mean, total) - (
            _log_normal(datum - z, now) if sigma < math.inf else 0
        )
        log_density = torch.where(ahead | passing, gain, 0).sum(1)
        steered = mean + variance / total * (datum - mean), variance * width / total
        beyond = _down(datum, clean, torch.where(passing, tau, 1), sigma_next)
        mean = torch.where(ahead, steered[0], torch.where(passing, beyond[0], mean))
        mean = torch.where(tau.isnan(), torch.nan, mean)  # neither ahead nor passing: not free
        variance = torch.where(ahead, steered[1], torch.where(passing, beyond[1], variance))
        like = system.data
        return Coordinates(mean.to(like), variance.sqrt().to(like), log_density)


def _down(
    z: Tensor, clean: Tensor, sigma: float | Tensor, sigma_next: float | Tensor
) -> tuple[Tensor, Tensor]:
    """The mean and the variance of the ancestral step."""
    kept = torch.as_tensor(sigma_next / sigma, dtype=torch.float64) ** 2
    return clean + kept * (z - clean), torch.as_tensor(sigma_next) ** 2 * (1 - kept)


def _log_normal(residual: Tensor, variance: Tensor) -> Tensor:
    return -0.5 * (residual.square() / variance + variance.log())
