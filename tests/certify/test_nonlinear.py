"""The truths of the nonlinear cases, held to independent quadrature and closed forms."""

import math

import numpy as np
import pytest
import torch
from helpers import generator, small_prior, small_problem
from scipy.integrate import dblquad, quad
from scipy.stats import kstest, multivariate_normal, norm

from invdiff import Gaussian, Problem
from invdiff.certify.nonlinear import (
    Square,
    grid_truth,
    phase_of_atoms,
    phase_of_two_pixels,
    square,
)
from invdiff.operators import Matrix
from invdiff.priors.mixture import GaussianMixturePrior

F64 = torch.float64
CASES = {"square": square, "two": phase_of_two_pixels, "atoms": phase_of_atoms}
DRAWS = 400


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param](request.param, 6, DRAWS)


def test_is_well_formed(case):
    items, shape = len(case.problem), case.problem.operator.domain
    truth, modes = case.truth, case.truth.modes
    pixels = math.prod(shape)
    assert items == 6
    assert case.images.shape == truth.mean.shape == (items, *shape)
    assert truth.draws.shape == (items, DRAWS, *shape)
    assert truth.covariance.shape == (items, pixels, pixels)
    assert torch.isfinite(truth.log_evidence).all()
    assert torch.allclose(modes.weights.sum(1), torch.ones(items, dtype=F64))
    belongs = modes.responsibilities(truth.draws)
    assert belongs.shape == (items, DRAWS, modes.weights.shape[1])
    assert (belongs.sum(-1) == 1).all()
    assert not case.problem.operator.linear
    case.prior.check_shape(shape)
    ladder = case.ladder(20)
    assert len(ladder) == 21
    assert float(ladder[-2]) >= 0.99 * case.prior.sigma_min
    again = CASES[case.name](case.name, 6, DRAWS)
    assert torch.equal(again.truth.draws, truth.draws)
    assert torch.equal(again.problem.y, case.problem.y)


def test_draws_have_the_moments(case):
    """Means within 4.5 standard errors, variances within 4.5 of theirs, from the draws' own
    fourth moments; mode weights too, by the larger of 4.5 binomial deviations and 2 draws."""
    draws, truth = case.truth.draws.flatten(2), case.truth
    mean, variance = truth.mean.flatten(1), truth.std.flatten(1).square()
    error = (draws.mean(1) - mean).abs()
    assert (error <= 4.5 * (variance / DRAWS).sqrt() + 1e-9).all()
    squares = (draws - mean[:, None]).square()
    assert ((squares.mean(1) - variance).abs() <= 4.5 * squares.std(1) / DRAWS**0.5 + 0.02).all()
    weights = truth.modes.weights
    found = truth.modes.responsibilities(truth.draws).mean(1)
    bound = 4.5 * (weights * (1 - weights) / DRAWS).sqrt() + 2 / DRAWS
    assert ((found - weights).abs() <= bound).all()


def test_images_are_where_they_should_be(case):
    """chi2 at the images averages 1: 4.5 standard deviations of a chi-square mean."""
    chi2 = case.problem.chi2(case.images.to(case.problem.y.dtype))
    count = float(case.problem.measured.sum())
    assert abs(float(chi2.mean()) - 1) < 4.5 * math.sqrt(2 / count) + 0.6 * (case.name == "square")


def test_square_is_an_integral():
    case = square("square", 4, 2000)
    assert float(case.problem.y[0]) == 1
    for item in range(4):
        y = float(case.problem.y[item])

        def joint(x, y=y):
            return norm.pdf(x) * norm.pdf(y, x**2, 0.5)

        evidence = 2 * quad(joint, 0, 8, epsabs=1e-13)[0]
        second = 2 * quad(lambda x: x**2 * joint(x), 0, 8, epsabs=1e-13)[0] / evidence
        assert float(case.truth.log_evidence[item]) == pytest.approx(math.log(evidence), abs=1e-7)
        assert float(case.truth.covariance[item]) == pytest.approx(second, abs=1e-7)
        assert abs(float(case.truth.mean[item])) < 1e-9
        assert case.truth.modes.weights[item].tolist() == pytest.approx([0.5, 0.5], abs=1e-9)
        grid = np.linspace(-7, 7, 4001)
        cumulative = np.cumsum(joint(grid)) / joint(grid).sum()
        draws = case.truth.draws[item].flatten().numpy()
        found = kstest(draws, lambda x: np.interp(x, grid, cumulative))  # noqa: B023
        assert found.pvalue > 1e-4


def test_two_pixels_are_an_integral():
    case = phase_of_two_pixels("two", 2, 10)
    prior, y = case.prior, case.problem.y[0].flatten().double().numpy()
    means, spread = prior.means.flatten(1).numpy(), prior.covariances[0].numpy()

    def joint(second, first):
        weights = (0.5, 0.3, 0.2)
        at = [first, second]
        density = sum(
            w * multivariate_normal.pdf(at, m, spread) for w, m in zip(weights, means, strict=True)
        )
        padded = np.zeros((2, 4))
        padded[0, :2] = at
        amplitudes = np.abs(np.fft.fft2(padded, norm="ortho")).flatten()
        return density * norm.pdf(y, amplitudes, 0.2).prod()

    # The largest of the four regions, where no mode is cut: above x1 = x2 and above x1 = -x2.
    whole = math.exp(float(case.truth.log_evidence[0]))
    inside = dblquad(joint, 0, 5, lambda a: -a, lambda a: a, epsabs=1e-7 * whole, epsrel=1e-5)[0]
    assert float(case.truth.modes.weights[0, 3]) == pytest.approx(inside / whole, abs=1e-4)


def test_grid_agrees_with_the_closed_form():
    """A linear operator of two pixels: the conjugate update, to the accuracy of the grid."""
    matrix = torch.tensor([[[1.0, 0.4], [-0.2, 0.7]]], dtype=F64)
    y = torch.tensor([[0.8, -0.4], [0.1, 0.3]], dtype=F64)
    problem = Problem(y, Matrix(matrix), Gaussian(1.0))
    prior = GaussianMixturePrior(
        torch.ones(1, dtype=F64), torch.zeros(1, 2, dtype=F64), 0.5 * torch.eye(2, dtype=F64)[None]
    )
    exact = prior.posterior(problem)
    axis = torch.linspace(-6, 6, 301, dtype=F64)
    level = torch.zeros((), dtype=F64)

    def halves(x):
        return torch.stack([(x[:, 0] > 0).double(), (x[:, 0] <= 0).double()], 1)

    found = grid_truth(problem, lambda x: prior.log_density(x, level), axis, halves, 5)
    assert torch.allclose(found.mean, exact.mean, atol=1e-9)
    assert torch.allclose(found.covariance, exact.covariance, atol=1e-9)
    assert torch.allclose(found.log_evidence, exact.log_evidence, atol=1e-9)
    # The published numbers of this problem.
    assert found.mean[0].tolist() == pytest.approx([0.2906, -0.0134], abs=1e-4)
    assert found.covariance[0].diagonal().tolist() == pytest.approx([0.3317, 0.3806], abs=1e-4)


def test_atoms_leave_something_to_find():
    """Several photographs stay possible; the true atom is among the likely ones."""
    case = phase_of_atoms("atoms", 16, 10)
    weights = case.truth.modes.weights
    assert 2 < float((1 / weights.square().sum(1)).median()) < 8
    posterior = case.prior.posterior(case.problem).weights
    true = case.prior.nearest(case.images)
    chance = posterior[torch.arange(16), true].mean()
    assert 0.05 < float(chance) < 0.8
    assert len(case.prior.atoms) == 256
    assert -1 <= case.prior.value_range[0] < case.prior.value_range[1] <= 1


def test_square_operator():
    operator = Square((3,))
    x = torch.randn(2, 3, generator=generator(0), dtype=F64)
    value, vjp = operator.linearize(x)
    assert torch.equal(value, x**2)
    assert torch.allclose(vjp(torch.ones_like(x)), 2 * x)
    assert operator.bounds(-1, 3) == (0, 9)
    assert operator.bounds(-3, -2) == (4, 9)
    assert eval(repr(operator)) == operator


def test_a_wrong_prior_is_seen():
    """The closed form must be able to contradict the grid."""
    problem, prior = small_problem(1), small_prior()
    wrong = Problem(problem.y, problem.operator, Gaussian(0.6))
    assert (prior.posterior(wrong).mean - prior.posterior(problem).mean).abs().max() > 0.01
