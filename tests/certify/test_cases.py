"""The problems: their truth against independent numerics, and their published set-ups."""

from __future__ import annotations

import math

import pytest
import torch
from helpers import generator

from invdiff.certify.cases import Benchmark, benchmarks, find_benchmarks
from invdiff.certify.gaussian import OPERATORS, anisotropic, gaussian_images
from invdiff.certify.mixtures import image_mixture, lattice, truth_of
from invdiff.linalg import as_matrix
from invdiff.priors.exact import ExactPosterior
from invdiff.priors.mixture import GaussianMixturePrior


@pytest.mark.parametrize("operator", OPERATORS)
def test_gaussian_truth_solves_the_normal_equations(operator: str) -> None:
    """(A* W A + C^-1) m = A* W y + C^-1 m0, to the rounding of single-precision data."""
    case = gaussian_images("test", operator, 8, 0.05, items=3, draws=400)
    matrix, problem, prior = as_matrix(case.problem.operator)[0], case.problem, case.prior
    y, weight = problem.y.flatten(1), problem.precision.flatten(1)[0].double()
    if y.is_complex():
        y, weight = torch.cat([y.real, y.imag], 1), torch.cat([weight, weight])
    inverse = torch.linalg.inv(prior.covariance)
    curvature = matrix.T @ (weight[:, None] * matrix) + inverse
    right = (weight * y.double()) @ matrix + inverse @ prior.mean.flatten()
    mean = torch.linalg.solve(curvature, right.T).T
    assert torch.allclose(case.truth.mean.flatten(1), mean, atol=1e-5)
    covariance = torch.linalg.inv(curvature).expand(3, -1, -1)
    assert torch.allclose(case.truth.covariance, covariance, atol=1e-6)


def test_draws_have_the_exact_moments_and_halves_are_apart() -> None:
    case = anisotropic("test", 4, draws=20000)
    flat, mean = case.truth.draws.flatten(2), case.truth.mean.flatten(1)
    # Five standard errors of 20000 draws with standard deviations up to 1.
    assert torch.allclose(flat.mean(1), mean, atol=5 / 20000**0.5)
    centred = flat - flat.mean(1, keepdim=True)
    found = centred.mT @ centred / 20000
    assert torch.allclose(found, case.truth.covariance, atol=5 * 2**0.5 / 20000**0.5)
    assert torch.equal(torch.cat([case.truth.reference, case.truth.spare], 1), flat)


def test_anisotropic_is_as_described() -> None:
    case = anisotropic("test", 2, draws=10)
    values = torch.linalg.eigvalsh(case.prior.covariance)
    assert torch.allclose(values, torch.logspace(-2, 0, 16, dtype=torch.float64))
    assert case.problem.operator.range == (8,)
    assert case.ladder(20)[0] == pytest.approx(80) and case.ladder(20)[-2] == pytest.approx(0.002)


def test_the_lattice_is_as_published() -> None:
    case = lattice("test", 8, 2, seed=1, draws=10)
    prior = case.prior
    assert prior.means.shape == (25, 8)
    assert torch.equal(prior.means[:, :2], prior.means[:, 6:])
    assert {tuple(mean) for mean in prior.means[:, :2].tolist()} == {
        (-8.0 * i, -8.0 * j) for i in range(-2, 3) for j in range(-2, 3)
    }
    assert torch.equal(prior.covariances[3], torch.eye(8).double())
    assert float(prior.weights.sum()) == pytest.approx(1)
    singular = torch.linalg.svdvals(as_matrix(case.problem.operator)[0])
    assert float(singular.max()) < 1 and len(singular) == 2
    assert float(case.problem.noise.sigma) < singular.max()
    other = lattice("test", 8, 2, seed=2, draws=10)
    assert not torch.equal(other.prior.weights, prior.weights)
    assert not torch.equal(other.problem.y, case.problem.y)


def test_singular_values_and_noise_shares_are_uniform() -> None:
    """Means of 200 uniform numbers within five standard errors of a half."""
    cases = [lattice("test", 8, 1, seed, draws=2) for seed in range(200)]
    singular = [float(torch.linalg.svdvals(as_matrix(c.problem.operator)[0])[0]) for c in cases]
    shares = [float(c.problem.noise.sigma) / s for c, s in zip(cases, singular, strict=True)]
    for numbers in (singular, shares):
        assert torch.tensor(numbers).mean() == pytest.approx(0.5, abs=5 / (12 * 200) ** 0.5)
        assert 0 < min(numbers) < max(numbers) < 1


def test_responsibilities_are_bayes_rule() -> None:
    """Against torch's normal densities; the exact draws' average is the exact weight."""
    case = image_mixture("test", 4, 3, 0.1, items=3, draws=4000)
    exact = case.prior.posterior(case.problem)
    x = case.truth.draws[:, :50]
    normal = torch.distributions.MultivariateNormal(exact.means, exact.covariances)
    joint = normal.log_prob(x.flatten(2).transpose(0, 1)[:, :, None]) + exact.weights.log()
    belongs = case.truth.modes.responsibilities(x)
    assert torch.allclose(belongs, joint.softmax(-1).transpose(0, 1), atol=1e-9)
    found = case.truth.modes.responsibilities(case.truth.draws).mean(1)
    # Five standard errors of 4000 probabilities, whose standard deviation is at most a half.
    assert torch.allclose(found, case.truth.modes.weights, atol=2.5 / 4000**0.5)


def test_a_mode_without_weight_is_no_trouble() -> None:
    eye = torch.eye(2, dtype=torch.float64)
    means = torch.tensor([[[0.0, 0.0], [1e3, 0.0]]], dtype=torch.float64)
    weights, evidence = torch.tensor([[1.0, 0.0]]).double(), torch.zeros(1).double()
    exact = ExactPosterior(weights, means, eye.expand(1, 2, 2, 2), evidence, (2,))
    truth = truth_of(exact, 10)
    assert torch.allclose(
        truth.modes.responsibilities(truth.draws)[..., 0], torch.ones(1, 10).double()
    )


def test_shared_covariances_change_nothing() -> None:
    """The prior rotates once if all covariances are equal; nudging one takes the general way."""
    case = image_mixture("test", 4, 3, 0.1, items=2, draws=2)
    prior, x = case.prior, torch.randn(5, 1, 4, 4, generator=generator(0), dtype=torch.float64)
    nudge = 1e-13 * torch.eye(16, dtype=torch.float64) * torch.tensor([0.0, 1, 2])[:, None, None]
    general = GaussianMixturePrior(prior.weights, prior.means, prior.covariances + nudge)
    assert prior._eigen[0].shape[0] == 1 and general._eigen[0].shape[0] == 3
    for sigma in (0.01, 1.0, 50.0):
        level = torch.tensor(sigma, dtype=torch.float64)
        assert torch.allclose(prior(x, level), general(x, level), atol=1e-8)
        assert torch.allclose(prior.log_density(x, level), general.log_density(x, level))


def test_every_problem_has_a_name_of_its_own_and_enough_draws() -> None:
    known = benchmarks()
    assert all(name == each.name for name, each in known.items())
    assert {"mixture-80-4", "gaussian-mri-1024-noisy", "anisotropic", "two-modes"} <= set(known)
    quick = [each for each in known.values() if each.quick]
    assert [each.name for each in find_benchmarks([], quick=True)] == [q.name for q in quick]
    assert [each.name for each in find_benchmarks([], quick=False)] == list(known)
    for each in quick:
        items, samples = each.size(quick=True)
        cases = each.build(2)
        assert cases[0].truth.spare.shape[1] >= max(samples, 96)  # 12 filters of 8 particles
        assert items <= each.items
    with pytest.raises(ValueError, match="no problem 'nope'"):
        find_benchmarks(["nope"], quick=True)


def test_items_do_not_depend_on_how_many_there_are() -> None:
    few, many = (anisotropic("test", items, draws=4) for items in (2, 3))
    assert torch.equal(few.problem.y, many.problem.y[:2])


def test_a_finite_posterior_has_unsupported_axes() -> None:
    """Draws of two atoms in three dimensions: one axis, and no statistic divides by zero."""
    case = anisotropic("test", 2, draws=40)
    flat = torch.zeros(2, 16, 16, dtype=torch.float64)
    flat[:, 0, 0] = 0.25
    truth = type(case.truth)(case.truth.mean, flat, case.truth.draws)
    assert truth.supported.sum(1).tolist() == [1, 1]
    assert bool(torch.isfinite(truth.whitening).all())
    assert math.isclose(float(truth.whitening[0].abs().sum()), 2.0)


def test_sizes() -> None:
    asked = Benchmark("x", lambda items: [], 100, 200)
    assert asked.size(quick=False) == (100, 200)
    assert asked.size(quick=True) == (20, 40)
