"""Noise levels that share out evenly what the data say."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from invdiff.integrators import sde_dpm_solver_2m
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.reverse import reverse
from invdiff.rng import Rng
from invdiff.singular import singular_system

__all__ = ["equal_information", "split_levels"]

_POINTS = 2048


def equal_information(
    problem: Problem,
    prior: Prior,
    steps: int,
    *,
    sigma_max: float | None = None,
    draws: int = 16,
    seed: int = 0,
) -> Tensor:
    r"""Levels between which the data's widened likelihood changes equally, then 0, (steps + 1,).

    In the singular coordinates of :math:`W^{1/2} A`, let x be Gaussian with the prior's mean and
    variances v, and d the data minus their mean. Given data widened to variances
    :math:`r_i = 1 + \sigma^2 s_i^2`, the log weight of one of its draws changes by a standard
    deviation of

    .. math:: \left( \sum_i \left( \frac{2 \sigma^2 s_i^2}{r_i} \right)^2 \left( \tfrac12 h_i^2 +
              \frac{h_i r_i d_i^2}{(r_i + v_i s_i^2)^2} \right) \right)^{1/2}
              \mathrm{d} \ln \sigma, \qquad h_i = \frac{v_i s_i^2}{r_i + v_i s_i^2}.

    Steps have equal shares of its integral, the last one, to 0, among them. For samplers that
    weigh by such likelihoods: ``AFDPS``; and ``SplitSMC``, by ``split_levels``.

    Arguments:
        problem: With a linear operator; at each level, the item whose weights change most counts.
        prior: Mean and variances are those of draws, by its reverse process.
        steps: Levels before the final 0; float64, on the host.
        sigma_max: The first level; the prior's highest if None.
        draws: Of the prior, for each item.
        seed: Of the draws.

    Raises:
        ValueError: Less than 2 steps or draws, a level that is not positive and finite, an
            operator that is zero or whose singular values are out of reach.
        TypeError: The operator is not linear.
    """
    top = prior.sigma_max if sigma_max is None else sigma_max
    if steps < 2 or draws < 2 or not 0 < top < math.inf:
        raise ValueError(
            f"steps={steps}, draws={draws}, sigma_max={top}: expected 2 or more steps and draws, "
            "and a positive first level."
        )
    square, variance, gap = _coordinates(problem, prior, top, draws, seed)
    largest = float(square.max()) ** 0.5
    if largest == 0:
        raise ValueError("The operator is zero: its data say nothing at any level.")
    low = min(1e-3 / largest, 1e-3 * top)
    log_sigma = torch.linspace(math.log(low), math.log(top), _POINTS, dtype=torch.float64)
    rate = torch.stack([_rate(x, square, variance, gap) for x in (2 * log_sigma).exp().tolist()])
    total = torch.cumulative_trapezoid(rate, log_sigma)
    total = torch.cat([total.new_zeros(1), total])
    share = torch.linspace(0, 1, steps + 1, dtype=torch.float64)[1:-1] * total[-1]
    place = torch.searchsorted(total, share).clamp(1, _POINTS - 1)
    fraction = (share - total[place - 1]) / (total[place] - total[place - 1])
    found = log_sigma[place - 1].lerp(log_sigma[place], fraction).exp()
    ends = torch.tensor([0.0, top], dtype=torch.float64)
    return torch.cat([ends[:1], found, ends[1:]]).flip(0)


def split_levels(
    problem: Problem,
    prior: Prior,
    steps: int,
    *,
    sigma_max: float | None = None,
    draws: int = 16,
    seed: int = 0,
) -> Tensor:
    r"""The ladder of ``SplitSMC``, (steps + 1,): equal steps of the data, down to the posterior.

    With u the levels of ``equal_information``, the last of them 0, it is
    :math:`\sigma = ((u^2 + \|W^{1/2} A\|^{-2}) / 2)^{1/2}`, then 0: all weights are met at the
    last but one level, and the sweep there has the posterior for its target.

    Arguments and errors are those of ``equal_information``; of all items, the one whose data are
    the most precise sets the lowest level.
    """
    top = prior.sigma_max if sigma_max is None else sigma_max
    largest = float(singular_system(problem).values.max())
    # Data that say nothing even at the first level have their noise split at half of it.
    own = min(1 / largest if largest > 0 else 0.0, 0.5 * top)
    widest = math.sqrt(2 * top**2 - own**2) if top > 0 else top
    widths = equal_information(problem, prior, steps - 1, sigma_max=widest, draws=draws, seed=seed)
    return torch.cat([((widths.square() + own**2) / 2).sqrt(), widths[-1:]])


def _coordinates(
    problem: Problem, prior: Prior, top: float, draws: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The squared singular values, the prior's variances and the data's squared distances."""
    items = len(problem)
    rows = problem.rows(torch.arange(items).repeat_interleave(draws))
    rng = Rng(seed, [f"draw {k}" for k in range(items)], draws)
    like = problem.y.real.new_empty(len(rows), *problem.operator.domain)
    sigma = torch.tensor(top, dtype=torch.float64)
    x = reverse(prior, top * rng.normal(like), sigma, sde_dpm_solver_2m(), 30, rng)
    system = singular_system(rows)
    found = system.project(x).double().cpu()
    shared = len(system.values) == 1  # then all draws speak of the same coordinates
    found = found[None] if shared else found.reshape(items, draws, -1)
    values = system.values.double().cpu()[:: 1 if shared else draws]
    data = system.data.double().cpu()[::draws]
    gap = (data - values * found.mean(1)).square()
    return values.square(), found.var(1), gap


def _rate(level: float, square: Tensor, variance: Tensor, gap: Tensor) -> Tensor:
    spread = 1 + level * square
    total = spread + variance * square
    share = variance * square / total
    change = (2 * level * square / spread).square()
    return (change * (0.5 * share**2 + share * spread * gap / total**2)).sum(1).sqrt().amax()
