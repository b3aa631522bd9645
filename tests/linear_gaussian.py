"""A linear Gaussian problem, and the exact law of samplers that are affine on it.

The prior is a Gaussian of 16 pixels with variances from 1 to 0.01 along random directions; there
are 8 random measurements with noise 0.1, and ladders run from 80 to 0.002. Many a sampler is an
affine map of its random numbers there. So the law of its samples is known without drawing any: run
it once for each random number, with that one equal to 1 and the others 0.
"""

import math
from dataclasses import dataclass
from functools import cache

import torch
from helpers import generator
from torch import Tensor

from invdiff import Gaussian, Problem, karras, sample
from invdiff.operators import Matrix
from invdiff.priors.exact import ExactPosterior
from invdiff.priors.gaussian import GaussianPrior
from invdiff.rng import Rng

PIXELS, MEASURED, NOISE = 16, 8, 0.1


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


@cache
def gaussian(seed: int = 0, shape: tuple[int, ...] = (PIXELS,)) -> GaussianPrior:
    pixels = math.prod(shape)
    turn = torch.linalg.qr(normal(pixels, pixels, seed=seed))[0]
    spectrum = torch.logspace(0, -2, pixels, dtype=torch.float64)
    covariance = turn @ torch.diag(spectrum) @ turn.T
    mean = 0.3 * normal(*shape, seed=seed + 1)
    return GaussianPrior.dense(mean, 0.5 * (covariance + covariance.T))


@cache
def matrix_problem(seed: int = 0, rows: int = 1) -> Problem:
    operator = Matrix(normal(1, MEASURED, PIXELS, seed=seed + 2) / 4)
    x = gaussian(seed).draw(Rng(seed, list(range(rows)), 1))
    return Problem(
        operator(x) + NOISE * normal(rows, MEASURED, seed=seed + 3), operator, Gaussian(NOISE)
    )


class Impulses:
    """Random numbers with one of them 1 and all others 0: row 0 has none, the next are its turn.

    Step s and pixel p belong to row 1 + s * pixels + p.
    """

    def __init__(self, pixels: int, step: int = 0) -> None:
        self.pixels, self.step = pixels, step

    def at(self, step: int) -> "Impulses":
        return Impulses(self.pixels, step)

    def normal(self, like: Tensor) -> Tensor:
        numbers = torch.zeros_like(like)
        first = 1 + self.step * self.pixels
        numbers[first : first + self.pixels] = torch.eye(self.pixels, dtype=like.dtype)
        return numbers


@dataclass(frozen=True)
class Figures:
    """Mean error in posterior sd, trace ratio, divergence of the Gaussian fit, whitened ends."""

    mean_error: float
    trace: float
    divergence: float
    low: float
    high: float


def figures(mean: Tensor, covariance: Tensor, truth: ExactPosterior) -> Figures:
    exact_mean, exact = truth.mean[0], truth.covariance[0]
    factor = torch.linalg.cholesky(exact)
    half = torch.linalg.solve_triangular(factor, covariance, upper=False)
    values = torch.linalg.eigvalsh(torch.linalg.solve_triangular(factor, half.T, upper=False))
    shift = torch.linalg.solve_triangular(factor, (mean - exact_mean)[:, None], upper=False)
    logs = values.clamp(min=1e-300).log()
    divergence = 0.5 * (values.sum() - len(values) - logs.sum() + shift.square().sum())
    return Figures(
        float(((mean - exact_mean) / truth.std[0]).square().mean().sqrt()),
        float(covariance.trace() / exact.trace()),
        float(divergence),
        float(values.min()),
        float(values.max()),
    )


def law(sampler, steps: int, seed: int = 0) -> Figures:
    """Of the samples of an affine sampler: its mean and covariance, exactly."""
    problem, prior, ladder = matrix_problem(seed), gaussian(seed), karras(steps, 0.002, 80.0)
    rows = 1 + PIXELS * (steps + 1)
    part = problem.rows(torch.zeros(rows, dtype=torch.long))
    rng = Impulses(PIXELS)
    state = sampler.init(part, prior, ladder[0], rng)
    for i in range(steps):
        state, _ = sampler.step(state, ladder[i], ladder[i + 1], part, prior, rng.at(i + 1))
    error = state.x[1:] - state.x[0]
    return figures(state.x[0], error.T @ error, prior.posterior(problem))


def drawn(sampler, steps: int, samples: int) -> Figures:
    problem, prior = matrix_problem(), gaussian()
    ladder = karras(steps, 0.002, 80.0)
    posterior = sample(problem, prior, sampler, ladder, samples=samples, progress=False)
    x = posterior.x[0]
    return figures(x.mean(0), torch.cov(x.T), prior.posterior(problem))
