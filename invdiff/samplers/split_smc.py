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
from invdiff.ladder import karras
from invdiff.linalg import expand
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.reverse import follow
from invdiff.rng import Rng
from invdiff.samplers.annealed import anneal
from invdiff.samplers.base import Info, Kind, prior_noise
from invdiff.singular import SingularSystem, singular_system
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

    .. math:: \pi_\sigma(x) \propto p(x)\, N(y; A x, W^{-1} + u A A^*), \qquad
              u = \max(0, \sigma^2 - \|W^{1/2} A\|^{-2})

    is what :math:`p(x)\, N(z; x, \sigma^2)\, N(y; A z, W^{-1} + (u - \sigma^2) A A^*)` leaves
    for x: of the noise of the data, as much as is white on the image is given to z. A sweep draws
    z given x, exactly, and x given z, by the prior's reverse process from level sigma, so it
    leaves :math:`\pi_\sigma` as it is. From level to level the weight is a ratio of likelihoods,
    in closed form: neither the prior's density nor an approximation of :math:`p(x_0 \mid x)`
    enters.
    At :math:`\sigma = \|W^{1/2} A\|^{-1}` the posterior itself is swept, at last more often; a
    ladder that ends above has what is left of u taken back by the last weight. As the particles
    and the steps of the reverse process grow, the particles converge to the posterior, and
    ``log_evidence`` to log p(y), for any prior and on any ladder.

    It is the one for priors far from Gaussian, where the twists of ``TDS`` and ``ConjugateTDS``
    mislead; those need fewer evaluations where they do not. A level costs ``sweeps`` times
    ``denoising_steps`` evaluations. ``split_levels`` makes its ladder: levels need to be close
    where the data say much.

    Arguments:
        sweeps: The sweeps at each level.
        last_sweeps: Those of the posterior itself, at the end, if the last level has u = 0.
        denoising_steps: The steps of the reverse process in a sweep.
        last_steps: Its steps in the last sweeps, whose errors stay.
        first_steps: Its steps at the first level, where it draws from the prior.
        integrator: Their rule, with noise; ``sde_dpm_solver_2m()`` by default.
        threshold: The fraction of the particles below which an item is resampled.
        resampling: How ancestors are chosen, from ``invdiff.smc``.

    Raises ValueError for less than one sweep or step.
    """

    sweeps: int = 2
    last_sweeps: int = 8
    denoising_steps: int = 10
    last_steps: int = 20
    first_steps: int = 30
    integrator: Integrator = field(default_factory=sde_dpm_solver_2m)
    threshold: float = 0.5
    resampling: Resampling = field(default_factory=Systematic)

    kind: ClassVar[Kind] = "exact"
    needs_linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        sweeps, steps = (self.sweeps, self.last_sweeps), (self.denoising_steps, self.last_steps)
        if min(*sweeps, *steps, self.first_steps) < 1:
            raise ValueError(f"{self}: expected 1 sweep and 1 step or more.")

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Clean:
        noise = prior_noise(problem, sigma, rng)
        ladder = _descent(sigma, prior.sigma_min, self.first_steps)
        x = follow(prior, noise, ladder, self.integrator, rng)
        constant = anneal(problem, x, 0.0, rng.particles).constant
        level = _Level.of(problem, sigma)
        value = level.log_likelihood(x, constant)
        return Clean(x, value, constant, value, torch.zeros_like(value))

    def step(
        self,
        state: Clean,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Clean, Info]:
        level = _Level.of(problem, sigma_next)
        sharper = level.log_likelihood(state.x, state.constant)
        log_w = state.log_w + sharper - state.log_likelihood
        state = state._replace(log_likelihood=sharper, log_w=log_w)
        info = weight_info(state, rng.particles)
        if sigma_next == 0:
            return self._finish(state, sigma, problem, prior, rng), info
        state = resample(state, rng, self.threshold, self.resampling)
        lowest = max(prior.sigma_min, level.sigma / _DEPTH)
        ladder = _descent(sigma_next, lowest, self.denoising_steps)
        x = self._sweep(state.x, level, prior, ladder, self.sweeps, rng)
        return state._replace(x=x, log_likelihood=level.log_likelihood(x, state.constant)), info

    def _sweep(
        self, x: Tensor, level: _Level, prior: Prior, ladder: Tensor, sweeps: int, rng: Rng
    ) -> Tensor:
        for _ in range(sweeps):
            z = level.draw(x, rng.normal(x))
            x = follow(prior, z, ladder, self.integrator, rng)
        return x

    def _finish(
        self, state: Clean, sigma: Tensor, problem: Problem, prior: Prior, rng: Rng
    ) -> Clean:
        """Sweeps the posterior at the lowest level; rows that are widened there stay."""
        level = _Level.of(problem, sigma)
        swept = (level.widening == 0).expand(len(state.x), 1)[:, 0]
        if not bool(swept.any()):
            return state
        fresh = resample(state, rng, self.threshold, self.resampling)
        ladder = _descent(sigma, prior.sigma_min, self.last_steps)
        x = self._sweep(fresh.x, level, prior, ladder, self.last_sweeps, rng)
        value = level.log_likelihood(x, state.constant)
        fresh = fresh._replace(x=x, log_likelihood=value)
        return Clean(
            *(
                torch.where(expand(swept, new), new, old)
                for new, old in zip(fresh, state, strict=True)
            )
        )


@dataclass(frozen=True, eq=False)
class _Level:
    """The target of a level, in the singular coordinates of the whitened data."""

    system: SingularSystem
    sigma: float
    widening: Tensor  # u, (1 or b, 1)

    @classmethod
    def of(cls, problem: Problem, sigma: Tensor) -> _Level:
        system, level = singular_system(problem), number(sigma)
        largest = system.values.amax(1, keepdim=True)
        # The comparison is exact where the level was made to be 1 / largest, up to rounding.
        wide = level * largest > 1 + 1e-6
        return cls(system, level, torch.where(wide, level**2 - largest**-2, 0.0))

    def log_likelihood(self, x: Tensor, constant: Tensor) -> Tensor:
        """log N(y; A x, W^-1 + u A A*), (b,), float64; the constant makes it that of y."""
        spread = (1 + self.widening * self.system.values**2).double()
        squares = self.system.residual(x).double().square() / spread + spread.log()
        return constant - 0.5 * squares.sum(1)

    def draw(self, x: Tensor, noise: Tensor) -> Tensor:
        """z given x and y, (b, *shape): Bayes' rule on every coordinate, N(x, sigma^2) beyond."""
        values, std = self.system.values, self.sigma
        # What z leaves of the data's noise: 0 at the largest singular value, but for rounding.
        rest = (1 + (self.widening - std**2) * values**2).clamp(min=0)
        total = rest + (std * values) ** 2
        shift = std**2 * values / total * self.system.residual(x)
        shrink = std * ((rest / total).sqrt() - 1) * self.system.project(noise)
        return x.add(noise, alpha=std) + self.system.lift(shift + shrink)


_DEPTH = 30.0  # how far below its level a sweep goes on the way; the last sweeps go all the way


def _descent(sigma: Tensor, lowest: float, steps: int) -> Tensor:
    """Levels of a reverse process from sigma on: short steps first.

    There the denoiser's mean of many clean images says least about a single one. Of random walks
    with jumps, 10 steps keep 90 % of the variance given z, where Karras' levels keep 80 %.
    """
    if steps == 1 or float(sigma) <= 1.01 * lowest:  # no room for levels between
        return torch.stack([sigma, torch.zeros_like(sigma)])
    return karras(steps, lowest, float(sigma), 3.0)
