"""Ladders that a pilot run chooses: steps as long as the weights allow."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from invdiff.errors import NotFinite
from invdiff.ladder import check_ladder
from invdiff.priors.base import Prior
from invdiff.problem import Problem
from invdiff.rng import Rng
from invdiff.smc import effective_sample_size

__all__ = ["adaptive_ladder"]


def adaptive_ladder(
    problem: Problem,
    prior: Prior,
    sampler: Any,
    *,
    sigma_min: float,
    sigma_max: float,
    particles: int = 64,
    share: float = 0.7,
    shortest: float = 0.95,
    longest: float = 0.5,
    seed: int = 0,
) -> Tensor:
    r"""Levels from sigma_max to sigma_min, and 0, each the furthest that keeps the particles.

    A pilot with particles of its own walks down. From :math:`\sigma` it tries
    :math:`\sigma' = r \sigma` and takes the smallest r, by bisection, at which the effective
    sample size of one step's weights stays above ``share`` of the particles, for every item. The
    ladder is for the problem as a whole: pass it to ``sample``, whose results stay independent of
    chunks and order.

    The effective sample size sees what the proposal misses, not what the model's step misses, so
    the longest step is bounded too.

    Arguments:
        problem: The measurements.  prior: The prior.
        sampler: A particle sampler with a ``threshold``, such as ``TDS()``.
        sigma_min: The last level above 0.  sigma_max: The first.
        particles: The pilot's particles per item.
        share: The fraction of the particles that a step must keep.
        shortest: The largest ratio of two levels: a step this short is taken in any case.
        longest: The smallest ratio of two levels.
        seed: The pilot's random numbers.

    Raises:
        TypeError: The sampler has no weights.
        ValueError: The arguments are out of range.
        NotFinite: The pilot diverged.

    (Del Moral, Doucet and Jasra, An adaptive sequential Monte Carlo method for approximate
    Bayesian computation, 2012; here on the noise levels.)
    """
    _check(sampler, sigma_min, sigma_max, particles, share, shortest, longest)
    sampler = replace(sampler, threshold=1.0)  # each step's weights alone
    rows = problem.rows(torch.arange(len(problem)).repeat_interleave(particles))
    rng = Rng(seed, [f"pilot {i}" for i in range(len(problem))], particles)
    levels = [float(sigma_max)]
    state = sampler.init(rows, prior, _level(sigma_max), rng.at(0))

    def attempt(ratio: float) -> tuple[Any, float]:
        then = max(ratio * levels[-1], sigma_min)
        after, _ = sampler.step(
            state, _level(levels[-1]), _level(then), rows, prior, rng.at(len(levels))
        )
        kept = effective_sample_size(after.log_w.reshape(-1, particles)) / particles
        return after, float(kept.min())

    while levels[-1] > sigma_min:
        low, high = math.log(longest), math.log(shortest)
        after, kept = attempt(longest)
        if not kept >= share:
            after, last = attempt(shortest)
            for _ in range(6):
                middle = 0.5 * (low + high)
                tried, kept = attempt(math.exp(middle))
                if kept >= share:
                    high, after = middle, tried
                else:
                    low = middle
            kept = last
        else:
            high = low
        if not math.isfinite(kept):
            raise NotFinite(
                f"The pilot's weights are not finite below sigma = {levels[-1]:.4g}. Start from a "
                "larger sigma_max, or use fewer measurements at a time."
            )
        levels.append(max(math.exp(high) * levels[-1], sigma_min))
        state = after
    return check_ladder(torch.tensor([*levels, 0.0], dtype=torch.float64))


def _level(sigma: float) -> Tensor:
    return torch.tensor(sigma, dtype=torch.float64)


def _check(
    sampler: Any,
    sigma_min: float,
    sigma_max: float,
    particles: int,
    share: float,
    shortest: float,
    longest: float,
) -> None:
    if not hasattr(sampler, "threshold"):
        raise TypeError(f"{sampler!r} has no weights to adapt to. Use TDS or the like.")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"sigma_min={sigma_min}, sigma_max={sigma_max}: expected 0 < min < max.")
    if particles < 2 or not 0 < share < 1 or not 0 < longest <= shortest < 1:
        raise ValueError(
            f"particles={particles}, share={share}, longest={longest}, shortest={shortest}: "
            "expected 2 or more particles, and shares with 0 < longest <= shortest < 1."
        )
