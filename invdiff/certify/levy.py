"""Sparse Lévy processes: signals of 64 samples, six laws of increments, four operators, 25 dB.

Reference for the setting: Zach et al., a benchmark of posterior samplers on Lévy processes, 2026.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from invdiff.certify.case import Case, Truth
from invdiff.certify.gibbs import Gibbs
from invdiff.ladder import karras
from invdiff.noise import Gaussian
from invdiff.operators.matrix import Matrix
from invdiff.priors.increments import BernoulliLaplace, Gauss, Increments, Laplace, Student
from invdiff.priors.levy import LevyPrior
from invdiff.problem import Problem
from invdiff.rng import Rng

__all__ = ["LAWS", "OPERATORS", "levy_case"]

_TIMES, _DECIBELS = 64, 25.0
_CHAINS, _BURN_IN, _DRAWS, _THIN = 8, 100, 250, 2  # 2000 draws an item, all but independent

LAWS: dict[str, Increments] = {
    "gauss": Gauss(0.25),
    "laplace": Laplace(1.0),
    "student1": Student(1),
    "student2": Student(2),
    "student3": Student(3),
    "bernoulli": BernoulliLaplace(0.1, 1.0),
}


def identity(generator: torch.Generator) -> Tensor:
    """Every sample, (64, 64)."""
    return torch.eye(_TIMES, dtype=torch.float64)


def convolution(generator: torch.Generator) -> Tensor:
    """The valid part of a convolution with a Gaussian of 13 taps and standard deviation 2."""
    taps = torch.exp(-torch.arange(-6, 7, dtype=torch.float64).square() / 8)
    rows = torch.zeros(_TIMES - 12, _TIMES, dtype=torch.float64)
    for start, row in enumerate(rows):
        row[start : start + 13] = taps / taps.sum()
    return rows


def sampling(generator: torch.Generator) -> Tensor:
    """Half of the samples, at random, and the last among them.

    Beyond the last observed sample a walk is free: with heavy tails it would have no mean.
    """
    chosen = torch.randperm(_TIMES - 1, generator=generator)[: _TIMES // 2 - 1].sort().values
    picked = torch.cat([chosen, torch.tensor([_TIMES - 1])])
    return torch.eye(_TIMES, dtype=torch.float64)[picked]


def fourier(generator: torch.Generator) -> Tensor:
    """The mean, and 11 of the 20 lowest frequencies, orthonormal: cosines, then sines."""
    frequency = 1 + torch.randperm(20, generator=generator)[:11].sort().values
    phase = 2 * math.pi * frequency[:, None].double() * torch.arange(_TIMES) / _TIMES
    mean = torch.full((1, _TIMES), _TIMES**-0.5, dtype=torch.float64)
    return torch.cat([mean, math.sqrt(2 / _TIMES) * torch.cat([phase.cos(), phase.sin()])])


OPERATORS: dict[str, Callable[[torch.Generator], Tensor]] = {
    "identity": identity,
    "convolution": convolution,
    "sampling": sampling,
    "fourier": fourier,
}


def levy_case(law: str, operator: str, items: int, seed: int) -> Case:
    r"""Measurements of random walks, and their posterior by Gibbs sampling.

    The noise lies 25 dB below the median energy of a measurement. Gold standard: 2000 draws for
    each measurement, so the Monte-Carlo error of its mean is about 0.02 posterior standard
    deviations.

    Arguments:
        law: A key of ``LAWS``.  operator: A key of ``OPERATORS``.
        items: The measurements, all by one operator.
        seed: Of the operator, the signals, the noise and the gold standard.

    Raises:
        ValueError: An unknown law or operator.
    """
    if law not in LAWS or operator not in OPERATORS:
        raise ValueError(
            f"No case of law {law!r} and operator {operator!r}: expected one of {list(LAWS)} and "
            f"one of {list(OPERATORS)}."
        )
    generator = torch.Generator().manual_seed(seed)
    prior = LevyPrior(LAWS[law], _TIMES)
    matrix = OPERATORS[operator](generator)
    sigma = _noise_level(prior, matrix)
    images = prior.draw(Rng(seed, range(items), 1))
    clean = images @ matrix.T
    y = clean + sigma * Rng(seed, range(items), 1, step=1).normal(clean)
    problem = Problem(y, Matrix(matrix[None]), Gaussian(sigma))
    truth = _gold(prior, problem, generator)
    # From noise that hides the largest posterior mean to noise well below the narrowest marginals,
    # within the levels of the prior: with heavy tails a signal may be beyond all of them.
    high = min(prior.sigma_max, 30 * float(truth.mean.square().mean(1).max().sqrt()))
    low = max(prior.sigma_min, 0.1 * float(truth.std.quantile(0.05)))
    return Case(
        name=f"levy-{law}-{operator}",
        title=f"Random walks, {prior.law}, {operator}, 25 dB",
        problem=problem,
        prior=prior,
        images=images,
        truth=truth,
        ladder=lambda steps: karras(steps, low, high),
    )


def _noise_level(prior: LevyPrior, matrix: Tensor) -> float:
    """The standard deviation 25 dB below the median energy of 4096 clean measurements."""
    clean = prior.draw(Rng(0, range(4096), 1)) @ matrix.T
    energy = float(clean.square().mean(1).median())
    return math.sqrt(energy / 10 ** (_DECIBELS / 10))


def _gold(prior: LevyPrior, problem: Problem, generator: torch.Generator) -> Truth:
    run = Gibbs(prior, problem, _CHAINS).run(_BURN_IN, _DRAWS, _THIN, generator)
    return Truth(run.mean, run.covariance, run.signals.flatten(1, 2))
