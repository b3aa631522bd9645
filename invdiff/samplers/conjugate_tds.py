"""The twisted diffusion sampler with conjugate steps: exact at any number of levels for Gaussians.

The framework is Wu et al., Practical and asymptotically exact conditional sampling in diffusion
models, 2023; the moments are those of Rozet et al., 2024, and Boys et al., 2023. That the steps
take the whole covariance, in the model and in the proposal, is this package's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from invdiff.diffusion import number
from invdiff.moments import (
    Moments,
    Updated,
    apply,
    cholesky,
    log_determinant,
    log_peak,
    moments,
    solve,
    updated,
    whitened_matrix,
)
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rejuvenation import metropolis
from invdiff.rng import Rng
from invdiff.samplers.base import Info, Kind
from invdiff.smc import Resampling, Systematic, resample, weight_info

__all__ = ["ConjugateTDS"]


class Conditioned(NamedTuple):
    """Particles with the moments of x0 before and after the data; rows lead.

    ``covariance`` and ``root`` are empty, (b, 0, 0), where all particles share them.
    """

    x: Tensor
    mean: Tensor
    covariance: Tensor
    shift: Tensor
    root: Tensor
    log_twist: Tensor
    log_w: Tensor
    log_evidence: Tensor


@dataclass(frozen=True)
class ConjugateTDS:
    r"""Weighted particles whose steps and weights know the whole covariance of x0 given x.

    With :math:`D, C` the mean and the covariance of x0 given x, :math:`D', C'` the same after the
    data, as if the law of x0 given x were Gaussian, and :math:`\phi = 1 - (\sigma'/\sigma)^2`,

    .. math:: p(x' \mid x) = N(x + \phi (D - x),\ \sigma'^2 \phi + \phi^2 C), \qquad
              q(x' \mid x) = N(x + \phi (D' - x),\ \sigma'^2 \phi + \phi^2 C')

    are the model's step and the proposal, and the twist is the evidence of the data under N(D, C).
    For a Gaussian prior both are exact over steps of any length, and all weights are equal. For
    others the weights correct the proposal, and the model's step tends to the prior's with the
    levels: as particles and levels grow, the particles converge to the posterior and
    ``log_evidence`` to log p(y). ``TDS`` has the same limit, but takes a multiple of the identity
    for the covariances of its steps: it needs many more levels and particles to get there.

    For linear operators and images of up to about a thousand pixels: every particle has a dense
    matrix, but where the prior's covariance is the same for all. The particles of an item run
    together.

    Arguments:
        threshold: The fraction of the particles below which an item is resampled.
        resampling: How ancestors are chosen, from ``invdiff.smc``.
        moves: Metropolis moves of every particle at every level: up to a level twice as noisy by
            fresh noise, down again by the proposal. Each costs two more looks at the prior.

    Raises:
        ValueError: ``moves`` is negative.
    """

    threshold: float = 0.5
    resampling: Resampling = field(default_factory=Systematic)
    moves: int = 0

    kind: ClassVar[Kind] = "exact"
    needs_linear: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.moves < 0:
            raise ValueError(f"moves is {self.moves}, expected a count of 0 or more.")

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Conditioned:
        # One step from infinite noise, with the moments that the prior has at its largest level.
        zero = problem.y.real.new_zeros(len(problem), *problem.operator.domain)
        given = moments(prior, zero, sigma)
        data = updated(given, problem, whitened_matrix(problem))
        level = number(sigma) ** 2
        x, log_ratio = _move(given.mean, given, data, level, 1.0, rng)
        state = self._look(x.reshape(zero.shape).to(zero), sigma, problem, prior)
        return state._replace(log_w=log_ratio + state.log_twist)

    def step(
        self,
        state: Conditioned,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Conditioned, Info]:
        state = resample(state, rng, self.threshold, self.resampling)
        for _ in range(self.moves):
            state = self._restart(state, sigma, problem, prior, rng)
        given, data = self._known(state, sigma, problem, prior)
        then = number(sigma_next)
        share = 1 - (then / number(sigma)) ** 2
        middle = (1 - share) * state.x.flatten(1).double() + share * state.mean
        x, log_ratio = _move(middle, given, data, then**2 * share, share, rng)
        image = x.reshape(state.x.shape).to(state.x)
        if then == 0:
            # A draw of the conjugate posterior: of weight 1, but for noise that is not Gaussian.
            gaussian = log_peak(problem) - 0.5 * problem.misfit(image).double()
            gap = problem.log_likelihood(image).double() - gaussian
            final = state._replace(x=image, log_w=state.log_w + gap)
            return final, weight_info(final, rng.particles)
        fresh = self._look(image, sigma_next, problem, prior)
        log_w = state.log_w + log_ratio + fresh.log_twist - state.log_twist
        fresh = fresh._replace(log_w=log_w, log_evidence=state.log_evidence)
        return fresh, weight_info(fresh, rng.particles)

    def _restart(
        self, state: Conditioned, sigma: Tensor, problem: Problem, prior: Prior, rng: Rng
    ) -> Conditioned:
        """Leaves the density of the prior at this level times the twist as it is.

        Given x one level up, by fresh noise, both the state and the proposal are weighed by
        model times twist over proposal, as in any other step.
        """
        above, share = 2 * sigma, 0.75
        high = state.x + (above**2 - sigma**2).sqrt().to(state.x) * rng.normal(state.x)
        given = moments(prior, high, above)
        data = updated(given, problem, whitened_matrix(problem))
        flat = (1 - share) * high.flatten(1).double() + share * given.mean
        level = number(sigma) ** 2 * share
        x, log_ratio = _move(flat, given, data, level, share, rng)
        proposal = self._look(x.reshape(state.x.shape).to(state.x), sigma, problem, prior)
        proposal = proposal._replace(log_w=state.log_w, log_evidence=state.log_evidence)
        back = _log_ratio(state.x.flatten(1).double() - flat, given, data, level, share)
        gain = log_ratio + proposal.log_twist - back - state.log_twist
        return metropolis(state, proposal, gain, rng)

    def _look(self, x: Tensor, sigma: Tensor, problem: Problem, prior: Prior) -> Conditioned:
        given = moments(prior, x, sigma)
        data = updated(given, problem, whitened_matrix(problem))
        zero, none = torch.zeros_like(data.log_evidence), x.new_empty(len(x), 0, 0).double()
        shared = len(data.root) < len(x)
        covariance, root = (none, none) if shared else (given.covariance, data.root)
        if len(covariance) < len(root):
            covariance = covariance.expand(len(root), -1, -1)
        return Conditioned(
            x, given.mean, covariance, data.shift, root, data.log_evidence, zero, zero
        )

    def _known(
        self, state: Conditioned, sigma: Tensor, problem: Problem, prior: Prior
    ) -> tuple[Moments, Updated]:
        """What was seen at the state's particles."""
        if state.root.shape[1]:
            data = Updated(state.shift, state.root, state.log_twist)
            return Moments(state.mean, state.covariance), data
        given = moments(prior, state.x, sigma)
        return given, updated(given, problem, whitened_matrix(problem))


def _move(
    middle: Tensor, given: Moments, data: Updated, level: float, share: float, rng: Rng
) -> tuple[Tensor, Tensor]:
    """A draw of the proposal (b, n), and the log of the model's density over the proposal's."""
    factors = _factors(given, data, level, share)
    noise = rng.normal(middle)
    change = share * data.shift + apply(factors[1], noise)
    white = solve(factors[0], change)
    return middle + change, _density(noise, factors[1]) - _density(white, factors[0])


def _log_ratio(
    change: Tensor, given: Moments, data: Updated, level: float, share: float
) -> Tensor:
    """The same ratio at a given distance (b, n) from the model's mean."""
    model, proposal = _factors(given, data, level, share)
    noise = solve(proposal, change - share * data.shift)
    return _density(noise, proposal) - _density(solve(model, change), model)


def _factors(given: Moments, data: Updated, level: float, share: float) -> tuple[Tensor, Tensor]:
    """The Cholesky factors of the model's and the proposal's covariance."""
    model = share**2 * given.covariance
    # At level 0 the covariance may be singular; this much noise changes no digit that matters.
    tiny = 1e-12 * given.covariance.diagonal(dim1=1, dim2=2).amax(1)[:, None]
    model.diagonal(dim1=1, dim2=2).add_(level + share**2 * tiny)
    return cholesky(model), cholesky(model - share**2 * data.root.mT @ data.root)


def _density(white: Tensor, factor: Tensor) -> Tensor:
    """Minus the log of a Gaussian density at L times ``white``, but for a constant, (b,)."""
    return 0.5 * white.square().sum(1) + log_determinant(factor)
