"""Atoms: sums written out, integrals on grids, and the limits of a narrow Gaussian mixture.

Statistical tests have fixed seeds; |z| < 4.5 on at most 30 numbers fails by chance in 1 of 5000.
"""

import math

import numpy as np
import pytest
import torch
from helpers import MEASURED, DenseOperator, Saturating, generator
from scipy.stats import norm

from invdiff import Gaussian, Problem
from invdiff.errors import ShapeError
from invdiff.noise import Poisson
from invdiff.operators.phase_retrieval import PhaseRetrieval
from invdiff.priors.atoms import AtomsPrior
from invdiff.priors.base import Prior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.rng import Rng

F64 = torch.float64
SHAPE = (1, 2, 3)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=F64)


def prior(count: int = 5) -> AtomsPrior:
    atoms = torch.randn(count, *SHAPE, generator=generator(1), dtype=F64)
    return AtomsPrior(atoms, torch.arange(1.0, count + 1))


def line() -> AtomsPrior:
    """The three atoms of the published toy problem."""
    atoms = torch.tensor([[-1.8], [0.2], [2.2]], dtype=F64)
    return AtomsPrior(atoms, torch.tensor([1.0, 2.0, 1.0]))


def images(count: int = 4) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=generator(2), dtype=F64)


def flat_problem(kind=DenseOperator, items: int = 3) -> Problem:
    matrix = torch.randn(items, MEASURED, 6, generator=generator(3), dtype=F64)
    y = torch.randn(items, MEASURED, generator=generator(4), dtype=F64)
    return Problem(y, kind(matrix), Gaussian(0.7))


def flat_prior() -> AtomsPrior:
    whole = prior()
    return AtomsPrior(whole.atoms.flatten(1), whole.weights)


def test_is_a_prior():
    assert isinstance(prior(), Prior)
    assert prior().value_range == (float(prior().atoms.min()), float(prior().atoms.max()))
    assert prior().sha256 != prior(4).sha256
    assert AtomsPrior(prior().atoms).sha256 != prior().sha256
    assert "atoms=5, shape=(1, 2, 3)" in repr(prior())
    prior().check_shape(SHAPE)
    with pytest.raises(ShapeError, match="describes images"):
        prior().check_shape((1, 3, 2))


@pytest.mark.parametrize("sigma", [1e-4, 0.3, 1.0, 50.0])
def test_denoiser_is_the_sum(sigma):
    given, x = prior(), images()
    share = given.weights.double() / given.weights.sum()
    for k in range(len(x)):
        distance = (x[k] - given.atoms).square().flatten(1).sum(1).numpy()
        log_joint = np.log(share.numpy()) - distance / (2 * sigma**2)
        weights = np.exp(log_joint - log_joint.max())
        weights = torch.from_numpy(weights / weights.sum())
        expected = torch.einsum("a,a...->...", weights, given.atoms)
        assert (given(x, number(sigma))[k] - expected).abs().max() < 1e-11


@pytest.mark.parametrize("sigma", [0.2, 1.0, 6.0])
def test_denoiser_is_its_score(sigma):
    """Tweedie: D(x) = x + sigma^2 grad log p(x); and J is symmetric, through autograd."""
    x = images().requires_grad_(True)
    density = prior().log_density(x, number(sigma))
    (score,) = torch.autograd.grad(density.sum(), x)
    assert torch.allclose(prior()(x, number(sigma)), x + sigma**2 * score, atol=1e-11)
    one = images()[:1]
    jacobian = torch.autograd.functional.jacobian(lambda u: prior()(u, number(sigma)), one)
    jacobian = jacobian.reshape(6, 6)
    assert torch.allclose(jacobian, jacobian.T, atol=1e-12)


def test_density_is_normalised():
    grid = torch.linspace(-9, 9, 20001, dtype=F64)
    for sigma in (0.05, 1.0):
        density = line().log_density(grid[:, None], number(sigma)).exp()
        mixed = sum(
            w * norm.pdf(grid.numpy(), a, sigma)
            for w, a in ((0.25, -1.8), (0.5, 0.2), (0.25, 2.2))
        )
        assert np.abs(density.numpy() - mixed).max() < 1e-12


def test_a_narrow_mixture_agrees():
    """Gaussians of variance 1e-12 around the atoms: the same denoiser to about 1e-10."""
    given = prior()
    narrow = 1e-12 * torch.eye(6, dtype=F64).expand(5, 6, 6)
    mixture = GaussianMixturePrior(given.weights.double(), given.atoms, narrow)
    for sigma in (0.1, 2.0):
        gap = given(images(), number(sigma)) - mixture(images(), number(sigma))
        assert gap.abs().max() < 1e-8
    wide, wider = (p.error_variance(number(200.0)) for p in (given, mixture))
    assert float(wide) == pytest.approx(float(wider), rel=1e-9)


def test_precision_and_sigma_per_row():
    x, levels = images(), torch.tensor([0.1, 0.5, 1.0, 9.0], dtype=F64)
    together = prior()(x, levels)
    alone = torch.cat([prior()(x[i : i + 1], levels[i]) for i in range(4)])
    assert torch.allclose(together, alone, atol=1e-13)
    assert prior().error_variance(levels).shape == (4,)
    # Small levels in single precision: the exponents are differences of numbers of 1e6.
    near = (prior().atoms[:2] + 1e-4).float()
    assert prior()(near, number(1e-3)).dtype == torch.float32
    assert (prior()(near, number(1e-3)) - prior().atoms[:2]).abs().max() < 1e-6


@pytest.mark.parametrize("kind", [DenseOperator, Saturating])
def test_posterior_is_bayes_rule(kind):
    problem, given = flat_problem(kind), flat_prior()
    found = given.posterior(problem)
    share = (given.weights.double() / given.weights.sum()).numpy()
    for item in range(3):
        joint = []
        for atom, weight in zip(given.atoms, share, strict=True):
            value = problem.operator.matrix[item] @ atom
            value = value.tanh() if kind is Saturating else value
            joint.append(weight * norm.pdf(problem.y[item], value, 0.7).prod())
        joint = np.array(joint)
        assert float(found.log_evidence[item]) == pytest.approx(math.log(joint.sum()), abs=1e-10)
        weights = joint / joint.sum()
        assert np.allclose(found.weights[item], weights, atol=1e-12)
        atoms = given.atoms.numpy()
        mean = weights @ atoms
        assert np.allclose(found.mean[item], mean, atol=1e-12)
        covariance = (atoms - mean).T @ np.diag(weights) @ (atoms - mean)
        assert np.allclose(found.covariance[item], covariance, atol=1e-12)
        assert np.allclose(found.std[item] ** 2, np.diag(covariance), atol=1e-12)


def test_posterior_agrees_with_a_narrow_mixture():
    """The closed form of Gaussian mixtures, for a linear operator."""
    given, problem = flat_prior(), flat_problem()
    narrow = 1e-12 * torch.eye(6, dtype=F64).expand(5, 6, 6)
    other = GaussianMixturePrior(given.weights.double(), given.atoms, narrow).posterior(problem)
    found = given.posterior(problem)
    assert torch.allclose(found.weights, other.weights, atol=1e-9)
    assert torch.allclose(found.log_evidence, other.log_evidence, atol=1e-9)


def test_posterior_of_other_noise_and_masks():
    atoms = torch.rand(4, 6, generator=generator(6), dtype=F64)
    matrix = torch.rand(1, MEASURED, 6, generator=generator(7), dtype=F64)
    y = torch.tensor([[3.0, 0.0, 5.0, 2.0]])
    found = AtomsPrior(atoms).posterior(Problem(y, DenseOperator(matrix), Poisson(2.0)))
    rate = 2 * (atoms @ matrix[0].T)
    log_joint = (y.double() * rate.log() - rate).sum(1)
    assert torch.allclose(found.weights[0], log_joint.softmax(0), atol=1e-12)


def test_denoise_given_is_bayes_rule():
    """E[x0 | x, y] is the denoiser of the prior whose weights are the posterior's."""
    problem, given, x = flat_problem(Saturating), flat_prior(), images(3).flatten(1)
    found = given.denoise_given(problem)(x, number(0.8))
    for item in range(3):
        weights = given.posterior(problem).weights[item]
        expected = AtomsPrior(given.atoms, weights)(x[item : item + 1], number(0.8))
        assert torch.allclose(found[item], expected[0], atol=1e-11)


def test_likelihood_score_is_the_gradient():
    """grad log p(y | x_sigma) by finite differences of sum_i r_i(x) p(y | x_i)."""
    problem, given = flat_problem(Saturating, 1), flat_prior()
    x, sigma = images(1).flatten(1), 0.8
    log_likelihood = given.posterior(problem)
    ratio = log_likelihood.weights / (given.weights.double() / given.weights.sum())

    def log_p(at):
        joint = given._exponents(at, number(sigma).reshape(1, 1) ** 2, given._log_weights)
        return ((joint.softmax(1) * ratio).sum(1)).log()

    score = (given.denoise_given(problem)(x, number(sigma)) - given(x, number(sigma))) / sigma**2
    for j in range(6):
        step = torch.zeros_like(x)
        step[0, j] = 1e-5
        slope = float(log_p(x + step) - log_p(x - step)) / 2e-5
        assert float(score[0, j]) == pytest.approx(slope, abs=1e-8)


def test_error_variance_bounds_the_integral():
    """On a line the error is an integral; the bound lies above, and meets it at both ends."""
    given, grid = line(), torch.linspace(-60, 60, 60001, dtype=F64)[:, None]
    step = float(grid[1, 0] - grid[0, 0])
    for sigma in (0.15, 0.3, 0.6, 1.0, 2.0, 5.0):
        level = number(sigma)
        clean = given(grid, level)[:, 0].numpy()
        exact = 0.0
        for w, a in ((0.25, -1.8), (0.5, 0.2), (0.25, 2.2)):
            density = norm.pdf(grid[:, 0].numpy(), a, sigma)
            exact += w * ((clean - a) ** 2 * density).sum() * step
        bound = float(given.error_variance(level))
        assert exact <= bound * (1 + 1e-6)
        assert bound < 2.5 * exact
        if sigma >= 5:
            assert bound < 1.05 * exact
    assert float(given.error_variance(number(1e3))) == pytest.approx(2.0, rel=1e-4)
    assert float(given.error_variance(number(0.01))) < 1e-300


def test_draws_have_the_weights():
    rows = 4000
    drawn = line().draw(Rng(0, [0], rows))
    for atom, weight in ((-1.8, 0.25), (0.2, 0.5), (2.2, 0.25)):
        count = int((drawn == atom).sum())
        assert abs(count - rows * weight) < 4.5 * math.sqrt(rows * weight * (1 - weight))
    posterior = line().posterior(_toy())
    sample = posterior.draw(rows, generator(1))
    assert sample.shape == (1, rows, 1)
    for k in range(3):
        weight = float(posterior.weights[0, k])
        count = int((sample == line().atoms[k]).sum())
        assert abs(count - rows * weight) < 4.5 * math.sqrt(rows * weight * (1 - weight)) + 1


def _toy() -> Problem:
    identity = DenseOperator(torch.ones(1, 1, 1, dtype=F64))
    return Problem(torch.tensor([[-0.9]], dtype=F64), identity, Gaussian(1.0))


def test_nearest():
    given = prior()
    assert given.nearest(given.atoms + 0.01).tolist() == [0, 1, 2, 3, 4]
    assert AtomsPrior(given.atoms, torch.tensor([1e-9, 1, 1, 1, 1])).nearest(
        given.atoms
    ).tolist() == [0, 1, 2, 3, 4]


def test_phase_retrieval_of_atoms():
    """An atom and its negative cannot be told apart, whatever the data."""
    base = torch.randn(3, 1, 4, 4, generator=generator(8), dtype=F64)
    given = AtomsPrior(torch.cat([base, -base]), torch.tensor([1.0, 1, 1, 3, 1, 1]))
    operator = PhaseRetrieval((1, 4, 4))
    y = operator(base[:1]) + 0.3 * torch.randn(1, 1, 8, 8, generator=generator(9), dtype=F64)
    weights = given.posterior(Problem(y, operator, Gaussian(0.3))).weights[0]
    assert float(weights[3] / weights[0]) == pytest.approx(3.0)
    assert float(weights[4] / weights[1]) == pytest.approx(1.0)


def test_refusals():
    with pytest.raises(ValueError, match="at least two"):
        AtomsPrior(torch.ones(1, 3))
    with pytest.raises(ShapeError, match="one number per atom"):
        AtomsPrior(torch.ones(2, 3), torch.ones(3))
    with pytest.raises(ValueError, match="above zero"):
        AtomsPrior(torch.ones(2, 3), torch.tensor([1.0, 0.0]))
