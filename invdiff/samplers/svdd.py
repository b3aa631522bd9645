"""Soft value-based decoding: the best of a few next steps, again and again.

Reference: Li et al., Derivative-free guidance in continuous and discrete diffusion models with
soft value-based decoding, 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from invdiff.diffusion import ancestral, extrapolate
from invdiff.linalg import expand
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.samplers.annealed import anneal, annealed
from invdiff.samplers.base import Info, Kind, prior_noise

__all__ = ["SVDD"]


class Chosen(NamedTuple):
    """Images x with what is known at them; every field leads with the row axis."""

    x: Tensor
    x0: Tensor  # D(x)
    slope: Tensor  # the change of x0 per unit of -ln sigma, over the last step
    constant: Tensor  # the annealed likelihood's


@dataclass(frozen=True)
class SVDD:
    r"""Of M reverse steps of the prior, takes one with probability :math:`\propto e^{v / \alpha}`.

    The value :math:`v_\sigma(x) = \log N(y; A D(x), W^{-1} + v(\sigma) A A^*)` is the
    log-likelihood of the clean estimate, with the prior's error variance; for nonlinear operators
    the log-likelihood is tempered to match. No derivative is taken, of the network or of the
    operator, and samples are independent. One of few candidates is all that guidance can do:
    biased towards the prior where data are precise, and by the choice where they are not.

    Arguments:
        candidates: M, the evaluations of the prior per step and sample.
        temperature: :math:`\alpha`; 1 weighs the data as they are, 0 would take the best.

    Raises ValueError for fewer than one candidate, or a temperature not above 0.
    """

    candidates: int = 10
    temperature: float = 1.0

    kind: ClassVar[Kind] = "approximate"
    needs_linear: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.candidates < 1 or not 0 < self.temperature < math.inf:
            raise ValueError(f"{self}: expected 1 candidate or more, and a temperature above 0.")

    def init(self, problem: Problem, prior: Prior, sigma: Tensor, rng: Rng) -> Chosen:
        x = prior_noise(problem, sigma, rng)
        x0, variance = prior(x, sigma), float(prior.error_variance(sigma))
        constant = anneal(problem, x0, variance, particles=1).constant
        return Chosen(x, x0, torch.zeros_like(x0), constant)

    def step(
        self,
        state: Chosen,
        sigma: Tensor,
        sigma_next: Tensor,
        problem: Problem,
        prior: Prior,
        rng: Rng,
    ) -> tuple[Chosen, Info]:
        chi2 = {"chi2": problem.chi2(state.x0)}
        if sigma_next == 0:
            return state._replace(x=state.x0), chi2
        target = extrapolate(state.x0, state.slope, sigma, sigma_next)
        plain = ancestral(state.x, target, sigma, sigma_next)
        size = (len(state.x), self.candidates, *state.x.shape[1:])
        x = plain.mean[:, None] + plain.std * rng.normal(state.x.new_empty(size))
        x0 = prior(x.flatten(0, 1), sigma_next).reshape(size)
        likelihood, variance = annealed(problem, state.constant), prior.error_variance(sigma_next)
        values = [likelihood.value(one, float(variance)) for one in x0.unbind(1)]
        log_odds = torch.stack(values, 1) / self.temperature
        rows, pick = torch.arange(len(x), device=x.device), _choose(log_odds, rng)
        broken = expand(log_odds.isnan().any(1), state.x)  # or a choice would hide it
        chosen = torch.where(broken, torch.nan, x0[rows, pick])
        slope = (chosen - state.x0) / torch.log(sigma / sigma_next)
        return Chosen(x[rows, pick], chosen, slope, state.constant), chi2


def _choose(log_odds: Tensor, rng: Rng) -> Tensor:
    """One index per row, (b,), with probabilities softmax(log_odds), (b, choices)."""
    point = torch.special.ndtr(rng.normal(log_odds[:, :1]))
    passed = log_odds.softmax(1).cumsum(1) < point
    pick: Tensor = passed.sum(1).clamp(max=log_odds.shape[1] - 1)
    return pick
