"""Feynman-Kac steering: samples of the prior, chosen along the way by their likelihood.

Reference: Singhal et al., A general framework for inference-time scaling and steering of diffusion
models, 2025.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from invdiff.diffusion import ancestral, extrapolate
from invdiff.linalg import expand
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.annealed import anneal, annealed
from invdiff.samplers.base import Info, Kind, prior_noise
from invdiff.smc import Resampling, Systematic, resample, weight_info

__all__ = ["Difference", "FKSteering", "Max", "Sum"]


class Potential(Protocol):
    """What a particle is weighed by, from its rewards so far."""

    def gain(self, reward: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The log-potential (b,), and what to remember (b,), after a reward (b,).

        The memory of the first reward is NaN.
        """
        ...


@dataclass(frozen=True)
class Difference:
    """The growth of the reward: its product is the last reward, nothing remains to correct."""

    def gain(self, reward: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return reward - memory.nan_to_num(), reward


@dataclass(frozen=True)
class Max:
    """The best reward so far."""

    def gain(self, reward: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        best = torch.fmax(reward, memory)
        return best, best


@dataclass(frozen=True)
class Sum:
    """The sum of all rewards so far."""

    def gain(self, reward: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        total = reward + memory.nan_to_num()
        return total, total


class Steered(NamedTuple):
    """Particles x with all that is known at them; every field leads with the row axis."""

    x: Tensor
    x0: Tensor  # D(x)
    slope: Tensor  # the change of x0 per unit of -ln sigma, over the last step
    constant: Tensor  # the annealed likelihood's
    memory: Tensor  # the potential's
    spent: Tensor  # the log of all potentials so far
    log_w: Tensor
    log_evidence: Tensor


@dataclass(frozen=True)
class FKSteering:
    r"""Weighted samples of the prior: no derivative, of the network or of the operator.

    Particles take the reverse steps of the prior. The reward of one at x is the log-likelihood of
    its clean estimate, :math:`r_\sigma(x) = \log N(y; A D(x), W^{-1} + v(\sigma) A A^*)` with the
    prior's error variance :math:`v`; for nonlinear operators the log-likelihood is tempered to
    match. Potentials made of the rewards weigh the particles, and the last step divides by all of
    them and multiplies by the likelihood itself:

    .. math:: w = p(y \mid x_0) \prod_\sigma G_\sigma \Big/ \prod_\sigma G_\sigma

    with resampling in between. So the particles converge to the posterior as they and the levels
    grow, whatever the potential, and ``log_evidence`` to log p(y). They come from the prior:
    precise data need many of them.

    Arguments:
        potential: ``Difference()``, ``Max()`` or ``Sum()``.
        interval: Rewards are looked at every so many steps. With ``Max()`` and ``Sum()`` every
            look sharpens the choice: 1 in a few dozen.
        threshold: The fraction of the particles below which an item is resampled.
        resampling: How ancestors are chosen, from ``invdiff.smc``.

    Raises ValueError if the interval is below 1.
    """

    potential: Potential = field(default_factory=Difference)
    interval: int = 1
    threshold: float = 0.5
    resampling: Resampling = field(default_factory=Systematic)

    kind: ClassVar[Kind] = "exact"
    needs_linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError(f"interval is {self.interval}, expected 1 step or more.")

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Steered:
        x = prior_noise(problem, sigma, rng)
        x0, variance = prior(x, sigma), float(prior.error_variance(sigma))
        likelihood = anneal(problem, x0, variance, particles=1)
        reward = likelihood.value(x0, variance)
        gain, memory = self.potential.gain(reward, torch.full_like(reward, torch.nan))
        flat, zero = torch.zeros_like(x0), torch.zeros_like(gain)
        return Steered(x, x0, flat, likelihood.constant, memory, gain, gain, zero)

    def step(
        self,
        state: Steered,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Steered, Info]:
        state = resample(state, rng, self.threshold, self.resampling)
        if sigma_next == 0:
            gain = problem.log_likelihood(state.x0).double() - state.spent
            log_w = state.log_w + gain
            # Images do not depend on the data but by choice: a NaN there would not reach them.
            x = torch.where(expand(log_w.isnan(), state.x0), torch.nan, state.x0)
            state = state._replace(x=x, log_w=log_w)
            return state, weight_info(state, rng.particles)
        target = extrapolate(state.x0, state.slope, sigma, sigma_next)
        x = ancestral(state.x, target, sigma, sigma_next).draw(rng.normal(state.x))
        x0 = prior(x, sigma_next)
        slope = (x0 - state.x0) / torch.log(sigma / sigma_next)
        state = state._replace(x=x, x0=x0, slope=slope)
        if rng.step % self.interval == 0:
            variance = float(prior.error_variance(sigma_next))
            reward = annealed(problem, state.constant).value(x0, variance)
            gain, memory = self.potential.gain(reward, state.memory)
            state = state._replace(
                memory=memory, spent=state.spent + gain, log_w=state.log_w + gain
            )
        return state, weight_info(state, rng.particles)
