"""DDNM+ and DDRM: noises of a step add up to the next level, in every direction.

The denoiser knows the truth; what is left is the noise of the step.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from linear_gaussian import MEASURED, NOISE, PIXELS, Impulses, gaussian, matrix_problem, normal
from torch import Tensor

from invdiff import Gaussian, Problem, singular
from invdiff.rng import Rng
from invdiff.samplers.ddnm import DDNMPlus
from invdiff.samplers.ddrm import DDRM

ROUNDING = 1e-8  # sums of float64 products


@dataclass(frozen=True)
class Omniscient:
    """A prior of one image."""

    truth: Tensor

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.truth.expand_as(x)


def noise_of_a_step(sampler, problem: Problem, sigma: float, sigma_next: float) -> Tensor:
    """Cov[x' - truth] when y and x are the truth with independent noise, (pixels, pixels)."""
    truth = gaussian().draw(Rng(2, [0], 1))
    clean, levels = problem.operator(truth), problem.noise.sigma
    rows = 1 + PIXELS + PIXELS + MEASURED  # nothing; fresh noise; noise of x; noise of y
    x, y = truth.repeat(rows, 1), clean.repeat(rows, 1)
    x[1 + PIXELS : 1 + 2 * PIXELS] += sigma * torch.eye(PIXELS, dtype=torch.float64)
    y[1 + 2 * PIXELS :] += levels * torch.eye(MEASURED, dtype=torch.float64)
    part = Problem(y, problem.operator, problem.noise)
    state = sampler.init(part, Omniscient(truth), torch.tensor(sigma), Rng(0, range(rows), 1))
    level, following = (torch.tensor(s, dtype=torch.float64) for s in (sigma, sigma_next))
    moved, _ = sampler.step(
        state._replace(x=x), level, following, part, Omniscient(truth), Impulses(PIXELS)
    )
    error = moved.x - truth
    assert float(error[0].abs().max()) < ROUNDING  # without noise nothing moves
    return error.T @ error


@dataclass(frozen=True)
class Louder(DDNMPlus):
    """Adds the full noise to directions that the data have already made noisy."""

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        moved, info = super().step(state, sigma, sigma_next, problem, prior, rng)
        system, noise = singular.singular_system(problem), rng.normal(state.x)
        extra = 0.1 * sigma_next * system.lift(system.project(noise))
        return moved._replace(x=moved.x + extra), info


@pytest.mark.parametrize("sampler", [DDNMPlus(), DDNMPlus(1.0), DDNMPlus(0.0), DDRM(),
                                     DDRM(0.3, 0.6)], ids=repr)  # fmt: skip
@pytest.mark.parametrize("noise", ["even", "uneven"])
def test_noise_of_a_step_is_the_next_level(sampler, noise):
    """In every direction, known better or worse than that level (0.02 to 0.9 of 0.05 to 3)."""
    problem = matrix_problem()
    if noise == "uneven":
        levels = 0.05 + 0.2 * normal(1, MEASURED, seed=4).abs()
        problem = replace(problem, noise=Gaussian(levels))
    for sigma_next in (2.0, 0.3, 0.05):
        covariance = noise_of_a_step(sampler, problem, 2.5, sigma_next)
        expected = sigma_next**2 * torch.eye(PIXELS, dtype=torch.float64)
        assert float((covariance - expected).abs().max()) < ROUNDING
    assert float(noise_of_a_step(sampler, problem, 2.5, 0.0).abs().max()) < ROUNDING


def test_louder_noise_is_seen():
    covariance = noise_of_a_step(Louder(), matrix_problem(), 2.5, 0.3)
    assert float((covariance - 0.09 * torch.eye(PIXELS)).abs().max()) > 1e-3


def test_ddrm_starts_with_the_noise_of_its_level():
    """With noise of the data on top of it, sigma^2 in every direction, around y where seen."""
    problem, level = matrix_problem(), torch.tensor(2.5)
    rows = 1 + PIXELS + MEASURED
    y = torch.zeros(rows, MEASURED, dtype=torch.float64)
    y[1 + PIXELS :] = NOISE * torch.eye(MEASURED, dtype=torch.float64)
    part = Problem(y, problem.operator, problem.noise)
    x = DDRM().init(part, gaussian(), level, Impulses(PIXELS)).x
    expected = 6.25 * torch.eye(PIXELS, dtype=torch.float64)
    assert float((x.T @ x - expected).abs().max()) < ROUNDING
