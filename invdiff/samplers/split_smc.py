"""Split Gibbs sweeps within sequential Monte Carlo: exact without a guess at p(x0 | x).

The split is that of Wu et al., Principled probabilistic imaging using diffusion models as
plug-and-play priors, 2024; the frame is that of Del Moral, Doucet and Jasra, Sequential Monte
Carlo samplers, 2006. To combine them, which needs no density of the prior, and to walk between
the halves of a sweep by the score of the noisy prior, is this package's own; for the prior alone
such walks are those of Saremi and Hyvärinen, Neural empirical Bayes, 2019.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from invdiff.integrators import Integrator, sde_dpm_solver_2m
from invdiff.ladder import karras
from invdiff.langevin import underdamped
from invdiff.linalg import expand
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.reverse import follow
from invdiff.rng import Rng
from invdiff.samplers.annealed import anneal
from invdiff.samplers.base import Info, Kind, prior_noise
from invdiff.smc import Resampling, Systematic, resample, weight_info
from invdiff.split_target import SplitTarget

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
              u = \max(0, 2 \sigma^2 - \|W^{1/2} A\|^{-2})

    is what :math:`p(x)\, N(z; x, \sigma^2)\, N(y; A z, W^{-1} + (u - \sigma^2) A A^*)` leaves
    for x: of the noise of the data, at most half is given to z. A sweep draws z given x, exactly;
    walks z, with momentum, by the score of the noisy prior, :math:`(D(z) - z) / \sigma^2`, and of
    the data; and draws x given z, by the prior's reverse process from level sigma. All three
    leave :math:`\pi_\sigma` as it is, up to the length of their steps. Whatever the prior, the log
    density of z is nowhere curved more than :math:`2 / \sigma^2`, so that one length serves all.
    From level to level the weight is a ratio of likelihoods, in closed form: neither the prior's
    density nor an approximation of :math:`p(x_0 \mid x)` enters.
    At :math:`\sigma = \|W^{1/2} A\|^{-1} / \sqrt 2` the posterior itself is swept, with a longer
    walk; a ladder that ends above has what is left of u taken back by the last weight. As the
    particles and the steps of the reverse process grow and those of the walk get short, the
    particles converge to the posterior, and ``log_evidence`` to log p(y), for any prior and on
    any ladder.

    It is the one for priors far from Gaussian, where the twists of ``TDS`` and ``ConjugateTDS``
    mislead; those need fewer evaluations where they do not. A level costs ``moves + 1 +
    denoising_steps`` evaluations. ``split_levels`` makes its ladder: levels need to be close
    where the data say much.

    Arguments:
        moves: The steps of the walk at each level; 0 for the sweep of Wu et al.
        last_moves: Those in the posterior itself, at the end, if the last level has u = 0.
        length: Of a step, in units of sigma, below :math:`\sqrt 2` for stability.
        persistence: What a step of the walk keeps of its velocity; 0 to 1, below 1.
        denoising_steps: The steps of the reverse process in a sweep.
        last_steps: Its steps in the last sweep, whose errors stay.
        first_steps: Its steps at the first level, where it draws from the prior.
        integrator: Their rule, with noise; ``sde_dpm_solver_2m()`` by default.
        threshold: The fraction of the particles below which an item is resampled.
        resampling: How ancestors are chosen, from ``invdiff.smc``.

    Raises ValueError for numbers of steps, a length or a persistence outside these ranges.
    """

    moves: int = 20
    last_moves: int = 200
    length: float = 0.7
    persistence: float = 0.97
    denoising_steps: int = 10
    last_steps: int = 40
    first_steps: int = 30
    integrator: Integrator = field(default_factory=sde_dpm_solver_2m)
    threshold: float = 0.5
    resampling: Resampling = field(default_factory=Systematic)

    kind: ClassVar[Kind] = "exact"
    needs_linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        steps = self.denoising_steps, self.last_steps, self.first_steps
        if min(steps) < 1 or min(self.moves, self.last_moves) < 0:
            raise ValueError(
                f"{self}: expected 1 step or more of each kind, and no negative moves."
            )
        if not (0 < self.length < 2**0.5 and 0 <= self.persistence < 1):
            raise ValueError(
                f"{self}: expected a length above 0 and below 1.41, where the walk is stable, and "
                "a persistence from 0 to 1, below 1."
            )

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Clean:
        noise = prior_noise(problem, sigma, rng)
        ladder = _descent(sigma, prior.sigma_min, self.first_steps)
        x = follow(prior, noise, ladder, self.integrator, rng)
        constant = anneal(problem, x, 0.0, rng.particles).constant
        level = SplitTarget.of(problem, sigma)
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
        level = SplitTarget.of(problem, sigma_next)
        sharper = level.log_likelihood(state.x, state.constant)
        log_w = state.log_w + sharper - state.log_likelihood
        state = state._replace(log_likelihood=sharper, log_w=log_w)
        info = weight_info(state, rng.particles)
        if sigma_next == 0:
            return self._finish(state, sigma, problem, prior, rng), info
        state = resample(state, rng, self.threshold, self.resampling)
        lowest = max(prior.sigma_min, level.sigma / _DEPTH)
        ladder = _descent(sigma_next, lowest, self.denoising_steps)
        x = self._sweep(state.x, level, prior, ladder, self.moves, rng)
        return state._replace(x=x, log_likelihood=level.log_likelihood(x, state.constant)), info

    def _sweep(
        self, x: Tensor, level: SplitTarget, prior: Prior, ladder: Tensor, moves: int, rng: Rng
    ) -> Tensor:
        def force(z: Tensor) -> Tensor:
            return (prior(z, ladder[0]) - z).div_(level.sigma**2).add_(level.slope(z))

        z = level.draw(x, rng.normal(x))
        z = underdamped(z, force, self.length * level.sigma, self.persistence, moves, rng)
        return follow(prior, z, ladder, self.integrator, rng)

    def _finish(
        self, state: Clean, sigma: Tensor, problem: Problem, prior: Prior, rng: Rng
    ) -> Clean:
        """Sweeps the posterior at the lowest level; rows that are widened there stay."""
        level = SplitTarget.of(problem, sigma)
        swept = (level.widening == 0).expand(len(state.x), 1)[:, 0]
        if not bool(swept.any()):
            return state
        fresh = resample(state, rng, self.threshold, self.resampling)
        ladder = _descent(sigma, prior.sigma_min, self.last_steps)
        x = self._sweep(fresh.x, level, prior, ladder, self.last_moves, rng)
        value = level.log_likelihood(x, state.constant)
        fresh = fresh._replace(x=x, log_likelihood=value)
        return Clean(
            *(
                torch.where(expand(swept, new), new, old)
                for new, old in zip(fresh, state, strict=True)
            )
        )


_DEPTH = 30.0  # how far below its level a sweep goes on the way; the last sweeps go all the way


def _descent(sigma: Tensor, lowest: float, steps: int) -> Tensor:
    """Levels of a reverse process from sigma on: short steps first.

    There the denoiser's mean of many clean images says least about a single one. Of random walks
    with jumps, 10 steps keep 90 % of the variance given z, where Karras' levels keep 80 %.
    """
    if steps == 1 or float(sigma) <= 1.01 * lowest:  # no room for levels between
        return torch.stack([sigma, torch.zeros_like(sigma)])
    return karras(steps, lowest, float(sigma), 3.0)
