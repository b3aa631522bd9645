"""SplitSMC: its sweeps leave the widened posterior alone, its weights follow the data down.

Statistical tests: fixed seeds. Chi-square statistics of d independent numbers are compared with
bounds that noise passes once in a million runs, and the broken kernels with the same bounds. The
prior's reverse process is the only approximation; it has enough steps for its bias to stay below
the noise of the test.
"""

from dataclasses import dataclass

import pytest
import torch
from helpers import PIXELS, covariance, generator, small_prior, small_problem

from invdiff import Gaussian, Problem, SplitSMC, equal_information, geometric, sample
from invdiff.information import split_levels
from invdiff.operators import Matrix
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.rng import Rng
from invdiff.samplers import split_smc
from invdiff.samplers.annealed import Widened, anneal
from invdiff.samplers.split_smc import Clean

F64 = torch.float64
DRAWS = 4000
LIMIT = 48  # chi-square of 6 numbers exceeds it with probability 1e-8, of 21 with 7e-4


def covariance_of(problem: Problem, variance: float) -> torch.Tensor:
    """sigma^2 + variance A A^T: of one item's data, widened."""
    matrix = problem.operator.matrix[0]
    noise = problem.noise.sigma**2 * torch.eye(len(matrix), dtype=F64)
    return noise + variance * matrix @ matrix.T


def widened(problem: Problem, variance: float) -> Problem:
    """The same data with noise of that covariance, whitened: one item."""
    matrix = problem.operator.matrix[0]
    white = torch.linalg.inv(torch.linalg.cholesky(covariance_of(problem, variance)))
    return Problem(problem.y @ white.T, Matrix((white @ matrix)[None]), Gaussian(1.0))


def distance(x: torch.Tensor, mean: torch.Tensor, cov: torch.Tensor) -> tuple[float, float]:
    """n |m - mu|^2_C, chi-square of 6, and n |S - 1|^2 / 2 of the whitened S: chi-square of 21."""
    factor = torch.linalg.cholesky(cov)
    white = torch.linalg.solve_triangular(factor, (x - mean).T, upper=False)
    spread = white @ white.T / len(x) - torch.eye(len(cov), dtype=F64)
    return float(len(x) * white.mean(1).square().sum()), float(len(x) * spread.square().sum() / 2)


class Loose(split_smc.SplitTarget):
    """z without half of its noise: the image stays too close to where it was."""

    def draw(self, x, noise):
        return super().draw(x, 0.5 * noise)


class Wide(split_smc.SplitTarget):
    """z with the whole level for its widening, as if the data had no noise to give."""

    def draw(self, x, noise):
        whole = torch.full_like(self.widening, self.sigma**2)
        return super(Wide, Wide(self.system, self.sigma, whole)).draw(x, noise)


class Lax(split_smc.SplitTarget):
    """The walk feels half of the data."""

    def slope(self, z):
        return 0.5 * super().slope(z)


def given(problem: Problem, sigma: float) -> float:
    """u, by its definition."""
    matrix = problem.operator.matrix[0] / problem.noise.sigma
    return max(0.0, 2 * sigma**2 - 1 / float(torch.linalg.matrix_norm(matrix, 2)) ** 2)


@pytest.mark.parametrize(
    ("sigma", "moves", "kernel"),
    [
        (0.6, 0, None), (0.6, 0, Loose), (0.6, 25, None), (0.6, 25, Lax),
        (0.05, 0, None), (0.05, 0, Loose), (0.05, 0, Wide), (0.05, 25, None), (0.05, 25, Lax),
    ],
    ids=[
        "widened", "widened, half noise", "widened walk", "widened walk, half the data",
        "posterior", "half noise", "wide", "walk", "walk, half the data",
    ],
)  # fmt: skip
def test_a_sweep_leaves_its_target_as_it_is(kernel, moves, sigma, monkeypatch):
    prior, problem = small_prior(), small_problem(items=1)
    level, u = torch.tensor(sigma, dtype=F64), given(problem, sigma)
    assert (u > 0) == (sigma == 0.6)
    truth = prior.posterior(widened(problem, u))
    x = truth.draw(DRAWS, generator(5))[0]
    rows = problem.rows(torch.zeros(DRAWS, dtype=torch.long))
    constant = anneal(rows, x, 0.0, DRAWS).constant
    value = split_smc.SplitTarget.of(rows, level).log_likelihood(x, constant)
    log_density = torch.distributions.MultivariateNormal(
        x @ problem.operator.matrix[0].T, covariance_of(problem, u)
    ).log_prob(problem.y)
    assert torch.allclose(value, log_density, rtol=1e-9, atol=1e-9)
    zero = torch.zeros(DRAWS, dtype=F64)
    state = Clean(x, value, constant, zero, zero)
    if kernel is not None:
        monkeypatch.setattr(split_smc, "SplitTarget", kernel)
    steps = {"denoising_steps": 60, "last_steps": 60, "threshold": 0.0}
    sampler = SplitSMC(moves=moves, last_moves=moves, **steps)
    levels = (level, level) if u > 0 else (level, 0 * level)
    for step in range(1, 7):  # errors of a kernel add up
        state, info = sampler.step(state, *levels, rows, prior, Rng(0, [0], DRAWS, step=step))
    assert torch.equal(state.log_w, zero)  # nothing was sharpened
    assert float(info["ess"][0]) == pytest.approx(DRAWS)
    assert not torch.equal(state.x, x)
    found = distance(state.x, truth.mean[0], truth.covariance[0])
    assert (max(found) < LIMIT) == (kernel is None), found


def bimodal() -> GaussianMixturePrior:
    means = torch.stack([torch.full((PIXELS,), -1.5), torch.full((PIXELS,), 1.5)]).double()
    covariances = torch.stack([0.3 * covariance(PIXELS, 0), 0.6 * covariance(PIXELS, 1)])
    return GaussianMixturePrior(torch.tensor([0.3, 0.7], dtype=F64), means, covariances)


@dataclass(frozen=True)
class Forgetful(SplitSMC):
    """Takes the weight of the last step for granted: the widening stays."""

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        after, info = super().step(state, sigma, sigma_next, problem, prior, rng)
        return (after._replace(log_w=state.log_w) if sigma_next == 0 else after), info


@dataclass(frozen=True)
class Unweighted(SplitSMC):
    """PnP-DM: the same sweeps without weights."""

    def step(self, state, sigma, sigma_next, problem, prior, rng):
        after, info = super().step(state, sigma, sigma_next, problem, prior, rng)
        return after._replace(log_w=torch.zeros_like(after.log_w)), info


@pytest.mark.parametrize("sampler", [SplitSMC, Forgetful, Unweighted])
def test_two_modes(sampler):
    """Mode weights, mean and evidence of 12 independent filters of 300 particles.

    One measurement that hardly tells the modes apart; |z| < 5 of the filters' own scatter.
    """
    prior = bimodal()
    row = torch.tensor([[1.0, 0.5, -0.5, 0, 0, 0], [0, 0, 1.0, -1.0, 0.5, 0]], dtype=F64)[None]
    y = torch.tensor([[0.3, 0.2]], dtype=F64).expand(12, -1)
    problem = Problem(y, Matrix(row), Gaussian(0.15))
    posterior = sample(
        problem, prior, sampler(denoising_steps=16, first_steps=60),
        geometric(8, 0.15, 30.0), samples=300, seed=3, progress=False,
    )  # fmt: skip
    truth = prior.posterior(problem)
    high = (posterior.x.mean(2) > 0).double()
    exact_high = (truth.draw(40000, generator(1))[0].mean(1) > 0).double().mean()
    share = (posterior.weights * high).sum(1)
    along = torch.einsum("n,ikn->ik", row[0, 0], posterior.x)
    mean = (posterior.weights * along).sum(1)
    spread = (posterior.weights * (along - mean[:, None]).square()).sum(1)
    exact_spread = row[0, 0] @ truth.covariance[0] @ row[0, 0]
    gaps = {
        "mode": z(share - exact_high),
        "mean": z(mean - (truth.mean[0] * row[0, 0]).sum()),
        "spread": z(spread - exact_spread),
        "evidence": z(posterior.log_evidence - truth.log_evidence),
    }
    if sampler is SplitSMC:
        assert max(gaps.values()) < 5, gaps
    else:
        assert gaps["spread"] > 5, gaps


def z(gaps: torch.Tensor) -> float:
    return float(gaps.mean().abs() / (gaps.std() / len(gaps) ** 0.5 + 1e-12))


def test_evidence_of_gaussians():
    """8 items: |z| < 5 of their own scatter, which is about 0.25; and no item far off."""
    prior, problem = small_prior(), small_problem(items=8)
    ladder = split_levels(problem, prior, 12, sigma_max=30.0)
    posterior = sample(problem, prior, SplitSMC(), ladder, samples=200, seed=1, progress=False)
    gap = posterior.log_evidence - prior.posterior(problem).log_evidence
    assert z(gap) < 5
    assert float(gap.abs().max()) < 1


def test_steps_of_equal_information():
    """The weights of exact draws of each level vary about as much from level to level."""
    prior = GaussianPrior.dense(torch.zeros(PIXELS, dtype=F64), 4 * covariance(PIXELS))
    problem = small_problem(items=1)
    ladder = equal_information(problem, prior, 14, sigma_max=50.0, draws=2000)
    assert ladder.dtype == F64
    assert len(ladder) == 15
    assert float(ladder[0]) == 50.0
    assert float(ladder[-1]) == 0
    assert bool((ladder.diff() < 0).all())
    rows = problem.rows(torch.zeros(DRAWS, dtype=torch.long))
    found = []
    for now, then in zip(ladder[1:-1].tolist(), ladder[2:].tolist(), strict=True):
        x = prior.posterior(widened(problem, now**2)).draw(DRAWS, generator(2))[0]
        likelihood = anneal(rows, x, now**2, DRAWS)
        assert isinstance(likelihood, Widened)
        found.append(float((likelihood.value(x, then**2) - likelihood.value(x, now**2)).std()))
    # A step is not infinitesimal, so the shares are equal only roughly.
    assert max(found) < 1.5 * min(found), found
    finer = equal_information(problem, prior, 28, sigma_max=50.0, draws=2000)
    assert torch.allclose(finer[2::2], ladder[1:], rtol=1e-3)


def test_split_levels():
    """u of all levels but the last has equal information, and the last positive one has none."""
    prior, problem = small_prior(), small_problem(items=3)
    matrices = problem.operator.matrix / problem.noise.sigma
    own = 1 / float(torch.linalg.matrix_norm(matrices, 2).max())
    ladder = split_levels(problem, prior, 9, sigma_max=20.0)
    assert ladder.shape == (10,) and bool((ladder.diff() < 0).all())
    assert float(ladder[0]) == pytest.approx(20.0)
    assert float(ladder[-2]) == pytest.approx(own / 2**0.5)
    widths = equal_information(problem, prior, 8, sigma_max=(800 - own**2) ** 0.5)
    assert torch.allclose(2 * ladder[:-1].square() - own**2, widths.square(), atol=1e-9)
    for row in range(3):
        level = split_smc.SplitTarget.of(problem.rows(torch.tensor([row])), ladder[-2])
        assert float(level.widening) == 0
    vague = Problem(problem.y, problem.operator, Gaussian(1e4))
    ladder = split_levels(vague, prior, 5, sigma_max=20.0)
    assert bool((ladder.diff() < 0).all()) and float(ladder[-2]) == pytest.approx(10 / 2**0.5)


def test_the_walk_is_given_the_gradient_of_the_density_of_z():
    r"""By finite differences of log N(y; A z, W^-1 + (u - sigma^2) A A*), at three levels."""
    problem = small_problem(items=1)
    z = torch.randn(1, PIXELS, dtype=F64, generator=generator(3))
    for sigma in (0.6, 0.1, 0.01):
        level = split_smc.SplitTarget.of(problem, torch.tensor(sigma, dtype=F64))
        noise = covariance_of(problem, float(level.widening) - sigma**2)

        def log_density(z, noise=noise):
            mean = z @ problem.operator.matrix[0].T
            return torch.distributions.MultivariateNormal(mean, noise).log_prob(problem.y)

        step = 1e-5 * torch.eye(PIXELS, dtype=F64)
        numeric = (log_density(z + step) - log_density(z - step)) / 2e-5
        assert torch.allclose(level.slope(z)[0], numeric, rtol=1e-6, atol=1e-6)
        curvature = torch.linalg.eigvalsh(
            problem.operator.matrix[0].T @ torch.linalg.solve(noise, problem.operator.matrix[0])
        )
        assert float(curvature.max()) <= (1 + 1e-9) / sigma**2


def test_zero_operators_and_bad_numbers_are_refused():
    prior, problem = small_prior(), small_problem(items=1)
    with pytest.raises(ValueError, match="steps=1"):
        equal_information(problem, prior, 1)
    with pytest.raises(ValueError, match="sigma_max=-1"):
        equal_information(problem, prior, 5, sigma_max=-1)
    blind = Problem(problem.y, Matrix(torch.zeros(1, 4, PIXELS, dtype=F64)), Gaussian(1.0))
    with pytest.raises(ValueError, match="say nothing"):
        equal_information(blind, prior, 5)
    for wrong in ({"denoising_steps": 0}, {"last_steps": 0}, {"moves": -1}, {"last_moves": -1}):
        with pytest.raises(ValueError, match="1 step or more"):
            SplitSMC(**wrong)
    for wrong in ({"length": 0.0}, {"length": 1.5}, {"persistence": 1.0}, {"persistence": -0.1}):
        with pytest.raises(ValueError, match="stable"):
            SplitSMC(**wrong)
