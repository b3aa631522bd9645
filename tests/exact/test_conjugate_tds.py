"""ConjugateTDS: exact for Gaussian priors at any number of levels; moves and ladders with it.

On a Gaussian prior the proposal is the posterior's own kernel, so every weight must be the
evidence: there is nothing statistical about it, and a wrong factor anywhere shows.
"""

import math

import pytest
import torch
from helpers import PIXELS, covariance, generator, small_prior, small_problem

from invdiff import TDS, Gaussian, Poisson, Problem, geometric, karras, sample
from invdiff.adaptive import adaptive_ladder
from invdiff.moments import Moments, log_peak, moments, updated, whitened_matrix
from invdiff.operators import AsComplex, Identity, Inpainting, Matrix
from invdiff.priors.exact import exact_posterior
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.rejuvenation import metropolis
from invdiff.rng import Rng
from invdiff.samplers import conjugate_tds
from invdiff.samplers.base import Image
from invdiff.samplers.conjugate_tds import ConjugateTDS

LEVEL = torch.tensor(0.7, dtype=torch.float64)


def mixture() -> GaussianMixturePrior:
    means = torch.randn(3, PIXELS, generator=generator(2), dtype=torch.float64)
    covariances = torch.stack([covariance(PIXELS, seed) for seed in range(3)])
    return GaussianMixturePrior(torch.tensor([0.2, 0.5, 0.3]).double(), means, covariances)


class Bare:
    """A prior without a covariance of its own: Tweedie's is taken, by derivatives."""

    def __init__(self, prior):
        self.prior = prior

    def __call__(self, x, sigma):
        return self.prior(x, sigma)


@pytest.mark.parametrize("prior", [small_prior(), mixture()], ids=["gaussian", "mixture"])
def test_covariance_is_tweedies(prior):
    x = 2 * torch.randn(4, PIXELS, generator=generator(1), dtype=torch.float64)
    own, derived = moments(prior, x, LEVEL), moments(Bare(prior), x, LEVEL)
    assert torch.allclose(own.mean, derived.mean, atol=1e-12)
    assert torch.allclose(own.covariance, derived.covariance, atol=1e-12)


def test_stationary_covariance_is_tweedies():
    frequencies = torch.fft.fftfreq(4).abs()
    spectrum = 1 / (1 + 9 * (frequencies[:, None] ** 2 + frequencies**2))
    prior = GaussianPrior.stationary(torch.zeros(1, 4, 4), spectrum[None])
    x = torch.randn(2, 1, 4, 4, generator=generator(1), dtype=torch.float64)
    own, derived = moments(prior, x, LEVEL), moments(Bare(prior), x, LEVEL)
    assert torch.allclose(own.covariance, derived.covariance, atol=1e-12)


def measured(kind: str) -> Problem:
    source = generator(3)
    noise = torch.tensor([[0.2], [0.5]], dtype=torch.float64)
    if kind == "per item":
        return small_problem(items=2, sigma=noise)
    if kind == "inpainting":
        mask = torch.tensor([[1.0, 0, 1], [0, 1, 1]]).reshape(1, 1, 2, 3)
        y = torch.randn(2, 1, 2, 3, generator=source, dtype=torch.float64) * mask
        return Problem(y, Inpainting(mask), Gaussian(0.3))
    operator = Identity((1, 1, 3), is_complex=True) @ AsComplex((1, 1, 3))
    y = torch.randn(2, 1, 1, 3, generator=source, dtype=torch.complex128)
    return Problem(y, operator, Gaussian(0.3))


@pytest.mark.parametrize("kind", ["per item", "inpainting", "complex"])
def test_update_is_bayes(kind):
    """Against the exact posterior of the same Gaussian, computed another way."""
    problem = measured(kind)
    shape = problem.operator.domain
    mean = torch.linspace(-0.5, 1, PIXELS, dtype=torch.float64)
    cov = covariance(PIXELS)
    one = torch.ones(1, dtype=torch.float64)
    truth = exact_posterior(one, mean.reshape(1, *shape), cov[None], problem)
    given = Moments(mean.expand(2, -1), cov.expand(2, -1, -1))
    data = updated(given, problem, whitened_matrix(problem))
    assert torch.allclose(mean + data.shift, truth.mean.flatten(1), atol=1e-12)
    assert torch.allclose(cov - data.root.mT @ data.root, truth.covariance, atol=1e-12)
    assert torch.allclose(data.log_evidence, truth.log_evidence, atol=1e-11)


def test_peak_of_a_gaussian():
    problem = small_problem()
    x = torch.zeros(3, PIXELS, dtype=torch.float64)
    expected = problem.log_likelihood(x) + 0.5 * problem.misfit(x)
    assert torch.allclose(log_peak(problem), expected)


@pytest.mark.parametrize("levels", [2, 5, 20])
@pytest.mark.parametrize("moves", [0, 1])
def test_every_weight_is_the_evidence(levels, moves):
    problem, prior = small_problem(), small_prior()
    posterior = sample(
        problem, prior, ConjugateTDS(moves=moves), geometric(levels, 0.01, 30.0),
        samples=5, seed=1, progress=False,
    )  # fmt: skip
    exact = prior.posterior(problem).log_evidence
    # The first step takes the prior's moments given x = 0 at sigma_max: off by C / sigma_max^2.
    assert float((posterior.log_w - exact[:, None]).abs().max()) < 1e-3
    assert float((posterior.log_evidence - exact).abs().max()) < 1e-3


def test_samples_are_exact_with_two_levels():
    """4000 draws in 6 dimensions: the statistic n |m - mu|^2_C is chi-square, 6; 40 is 5e-7.

    The whitened covariance's eigenvalues lie within 1 +- 2.3 sqrt(6 / 4000) nearly always.
    """
    problem, prior = small_problem(items=1), small_prior()
    draws = sample(
        problem, prior, ConjugateTDS(), geometric(2, 0.5, 30.0), samples=4000, progress=False
    ).x[0]
    truth = prior.posterior(problem)
    factor = torch.linalg.cholesky(truth.covariance[0])
    white = torch.linalg.solve_triangular(factor, (draws - truth.mean[0]).T, upper=False)
    assert float(4000 * white.mean(1).square().sum()) < 40
    values = torch.linalg.eigvalsh(white @ white.T / 4000)
    assert 0.9 < float(values.min())
    assert float(values.max()) < 1.1


def drop_root(given, problem, matrix):
    data = updated(given, problem, matrix)
    return data._replace(root=0 * data.root)


def drop_determinant(given, problem, matrix):
    data = updated(given, problem, matrix)
    return data._replace(log_evidence=data.log_evidence + 0.1)


def half_shift(given, problem, matrix):
    data = updated(given, problem, matrix)
    return data._replace(shift=0.5 * data.shift)


@pytest.mark.parametrize("broken", [drop_root, drop_determinant, half_shift])
def test_broken_updates_are_seen(broken, monkeypatch):
    monkeypatch.setattr(conjugate_tds, "updated", broken)
    with pytest.raises(AssertionError):
        test_every_weight_is_the_evidence(5, 0)


def test_mixture_evidence_and_weights():
    """500 particles: each log-evidence within 4 of its standard errors, from 20 filters.

    The mean of the evidence itself is unbiased but for the levels' length, 0.02 here.
    """
    prior, task = mixture(), small_problem(items=1)
    truth = prior.posterior(task)
    many = task.rows(torch.zeros(20, dtype=torch.long))
    posterior = sample(
        many, prior, ConjugateTDS(), karras(30, 0.01, 20.0), samples=100, progress=False
    )
    gap = posterior.log_evidence - truth.log_evidence
    error = float(gap.std()) / math.sqrt(len(gap))
    assert error < 0.05
    assert abs(float(gap.mean())) < 0.02 + 4 * error
    means = posterior.mean - truth.mean
    z = means.mean(0) / (means.std(0) / math.sqrt(20))
    assert float((means.mean(0) / truth.std[0]).abs().max()) < 0.05 + 4 * 0.05
    assert float(z.abs().max()) < 6  # 6 pixels, 19 degrees of freedom: 1 in 20000


def test_moves_leave_the_posterior_alone():
    """As above, with moves: their target is the same."""
    prior, task = mixture(), small_problem(items=1)
    truth = prior.posterior(task)
    many = task.rows(torch.zeros(10, dtype=torch.long))
    posterior = sample(
        many, prior, ConjugateTDS(moves=2), karras(15, 0.02, 20.0), samples=100, progress=False
    )
    gap = (posterior.mean.mean(0) - truth.mean[0]) / truth.std[0]
    assert float(gap.abs().max()) < 0.2
    ratio = float(posterior.spread.square().mean(0).sum() / truth.std[0].square().sum())
    assert 0.85 < ratio < 1.15


def test_metropolis_keeps_a_target():
    """A discrete target over 3 places: proportions after one move from the target itself."""
    target = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    rng = Rng(0, range(300), 100, 1)
    start = torch.multinomial(target, 30000, True, generator=generator(0))
    there = torch.randint(3, (30000,), generator=generator(1))
    ratio = target[there].log() - target[start].log()
    (moved,) = metropolis(Image(start), Image(there), ratio, rng)
    share = torch.bincount(moved, minlength=3) / 30000
    # Standard error 0.003; 5 of them, over three places: false alarm below 2e-6.
    assert float((share - target).abs().max()) < 0.015
    assert 0.4 < float((moved != start).double().mean()) < 0.6
    (all_moved,) = metropolis(Image(start), Image(there), torch.full((30000,), 1e9), rng)
    assert torch.equal(all_moved, there)
    (none,) = metropolis(Image(start), Image(there), torch.full((30000,), torch.nan), rng)
    assert torch.equal(none, start)


def test_poisson_noise_is_weighed():
    """One pixel, counts of 9: posterior mean by quadrature, where the Gaussian's is off by 0.1 sd.

    4000 particles: standard error 0.016 sd; bound 0.07.
    """
    prior = GaussianPrior.dense(torch.full((1,), 12.0), torch.full((1, 1), 9.0))
    problem = Problem(torch.full((1, 1), 6.0).double(), Identity((1,)), Poisson(1.0))
    grid = torch.linspace(0.5, 30, 20000, dtype=torch.float64)
    log_density = 6 * grid.log() - grid - (grid - 12) ** 2 / 18
    weight = log_density.softmax(0)
    mean = float(weight @ grid)
    std = math.sqrt(float(weight @ (grid - mean) ** 2))
    posterior = sample(
        problem, prior, ConjugateTDS(), geometric(5, 0.05, 100.0), samples=4000, progress=False
    )
    assert abs(float(posterior.mean[0, 0]) - mean) < 0.07 * std
    gaussian = float(posterior.x.mean())
    assert abs(gaussian - mean) > 0.07 * std


# Ladders.


def test_adaptive_ladder_takes_the_longest_steps_where_weights_are_equal():
    ladder = adaptive_ladder(
        small_problem(), small_prior(), ConjugateTDS(), sigma_min=0.1, sigma_max=3.2, particles=8
    )
    assert torch.allclose(ladder, torch.tensor([3.2, 1.6, 0.8, 0.4, 0.2, 0.1, 0.0]).double())


def test_adaptive_ladder_keeps_the_particles():
    """Of the steps on the ladder, all but the shortest possible keep their share."""
    problem, prior = small_problem(items=1, sigma=0.05), small_prior()
    options = {"sigma_min": 0.05, "sigma_max": 10.0, "particles": 200}
    ladder = adaptive_ladder(problem, prior, TDS(), share=0.8, **options)
    coarse = adaptive_ladder(problem, prior, TDS(), share=0.4, **options)
    assert len(ladder) > len(coarse)
    again = (
        sample(
            problem, prior, TDS(threshold=1.0), ladder, samples=200, seed=3, progress=False
        ).trace["ess"][:-1]
        / 200
    )  # other random numbers than the pilot's
    assert float(again.min()) > 0.6
    assert float((ladder[1:-1] / ladder[:-2]).min()) >= 0.5 - 1e-12


def test_adaptive_ladder_refuses():
    problem, prior = small_problem(), small_prior()
    with pytest.raises(TypeError, match="has no weights"):
        adaptive_ladder(problem, prior, Image(problem.y), sigma_min=0.1, sigma_max=1.0)
    with pytest.raises(ValueError, match="0 < min < max"):
        adaptive_ladder(problem, prior, TDS(), sigma_min=2.0, sigma_max=1.0)
    with pytest.raises(ValueError, match="expected 2 or more"):
        adaptive_ladder(problem, prior, TDS(), sigma_min=0.1, sigma_max=1.0, particles=1)


def test_moves_are_a_count():
    with pytest.raises(ValueError, match="moves is -1"):
        ConjugateTDS(moves=-1)


def test_matrix_of_shared_rows_is_one():
    problem = Problem(
        torch.zeros(5, 4).double(), Matrix(torch.ones(1, 4, PIXELS).double()), Gaussian(0.5)
    )
    assert torch.equal(whitened_matrix(problem), torch.full((1, 4, PIXELS), 2.0).double())
