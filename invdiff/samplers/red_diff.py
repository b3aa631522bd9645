"""Regularisation by denoising diffusion.

Reference: Mardani et al., A variational perspective on solving inverse problems with diffusion
models, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.base import Info, Kind, prior_noise

__all__ = ["REDDiff"]


class Descent(NamedTuple):
    """The estimate x, Adam's two moments (b, *shape), and the steps taken (b,)."""

    x: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor


@dataclass(frozen=True)
class REDDiff:
    r"""Finds one image by stochastic descent; the ladder is the order of the noise levels.

    .. math:: g = -A^* W (y - A \mu) + \frac{\lambda}{\sigma^2} (\mu - D(\mu + \sigma \xi))

    The second term is minus the score of the prior smoothed by :math:`\sigma`, so the estimate
    tends to a mode of the posterior. Adam's step is ``rate`` times the root of the prior's error
    variance: it shrinks with what is still unknown.

    A point estimator. The spread of several runs measures the optimiser, not the posterior.

    Arguments:
        rate: The step in units of the prior's error.
        prior_weight: :math:`\lambda`; 1 is the posterior's own balance.
        momentum: Adam's decay rates.
    """

    rate: float = 0.2
    prior_weight: float = 1.0
    momentum: tuple[float, float] = (0.9, 0.99)

    kind: ClassVar[Kind] = "point"
    needs_linear: ClassVar[bool] = False

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Descent:
        x = prior(prior_noise(problem, sigma, rng), sigma)  # the prior's mean, nearly
        zero = torch.zeros_like(x)
        return Descent(x, zero, zero, torch.zeros(len(x), dtype=torch.float64, device=x.device))

    def step(
        self,
        state: Descent,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Descent, Info]:
        value, vjp = problem.operator.linearize(state.x)
        residual = problem.center - value
        weighted = problem.precision * residual
        clean = prior(state.x + sigma * rng.normal(state.x), sigma)
        gradient = self.prior_weight * (state.x - clean) / sigma**2 - vjp(weighted)
        slow, fast = self.momentum
        first = slow * state.first + (1 - slow) * gradient
        second = fast * state.second + (1 - fast) * gradient**2
        taken = float(state.steps[0]) + 1  # the same for all rows
        size = (second / (1 - fast**taken)).sqrt()
        direction = first / (1 - slow**taken) / torch.where(size > 0, size, 1)
        x = state.x - self.rate * prior.error_variance(sigma).sqrt() * direction
        chi2 = (weighted.conj() * residual).real.flatten(1).sum(1) / problem.measured
        return Descent(x, first, second, state.steps + 1), {"chi2": chi2}
