"""The exact priors and posteriors, held to independent formulas and to numerical integration.

They are the truth that samplers are measured against, so nothing here uses their own code paths:
joint Gaussians are conditioned by block formulas, densities integrated on grids. Statistical
tests have fixed seeds; |z| < 4.5 on at most 100 numbers fails by chance in 1 of 1500 draws.
"""

import math

import numpy as np
import pytest
import torch
from helpers import DenseOperator, covariance, generator
from scipy.stats import multivariate_normal, norm

from invdiff import Gaussian, Problem
from invdiff.operators import AsComplex, CartesianMRI, Inpainting
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.mixture import GaussianMixturePrior
from invdiff.rng import Rng

F64 = torch.float64


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=F64)


def dense_prior(shape=(1, 2, 3)) -> GaussianPrior:
    pixels = math.prod(shape)
    mean = torch.linspace(-1, 1, pixels, dtype=F64).reshape(shape)
    return GaussianPrior.dense(mean, covariance(pixels, 3))


def stationary_prior(shape=(2, 4, 5)) -> GaussianPrior:
    rows, columns = torch.fft.fftfreq(shape[1], dtype=F64), torch.fft.fftfreq(shape[2], dtype=F64)
    spectrum = 1 / (0.05 + rows[:, None] ** 2 + 2 * columns**2)
    mean = torch.linspace(-1, 1, math.prod(shape), dtype=F64).reshape(shape)
    return GaussianPrior.stationary(mean, spectrum.expand(shape))


def mixture_prior(shape=(1, 2, 3)) -> GaussianMixturePrior:
    pixels = math.prod(shape)
    means = torch.randn(3, *shape, generator=generator(1), dtype=F64)
    covariances = torch.stack([covariance(pixels, seed) for seed in (4, 5, 6)])
    return GaussianMixturePrior(torch.tensor([0.2, 0.3, 0.5], dtype=F64), means, covariances)


def one_dimensional() -> GaussianMixturePrior:
    """Two modes on the line, at -1 and 2, of unequal width."""
    return GaussianMixturePrior(
        torch.tensor([1.0, 3.0], dtype=F64),  # not normalised on purpose
        torch.tensor([[-1.0], [2.0]], dtype=F64),
        torch.tensor([[[0.25]], [[0.04]]], dtype=F64),
    )


def one_dimensional_density(x: np.ndarray) -> np.ndarray:
    return 0.25 * norm.pdf(x, -1, 0.5) + 0.75 * norm.pdf(x, 2, 0.2)


GRID = np.linspace(-6, 7, 40001)
STEP = GRID[1] - GRID[0]


@pytest.mark.parametrize("prior", [dense_prior(), stationary_prior()], ids=["dense", "stationary"])
@pytest.mark.parametrize("sigma", [1e-3, 0.3, 20.0])
def test_gaussian_denoiser_is_dense_algebra(prior, sigma):
    x = torch.randn(4, *prior.mean.shape, generator=generator(0), dtype=F64)
    c, mean = prior.covariance, prior.mean.flatten()
    gain = c @ torch.linalg.inv(c + sigma**2 * torch.eye(len(c), dtype=F64))
    expected = mean + (x.flatten(1) - mean) @ gain.T
    assert torch.allclose(prior(x, number(sigma)).flatten(1), expected, rtol=0, atol=1e-9)
    error = torch.trace(c - gain @ c) / len(c)
    assert float(prior.error_variance(number(sigma))) == pytest.approx(float(error), rel=1e-6)


def test_stationary_covariance_is_the_spectrum_s():
    """Against a sum of cosines, written down by hand."""
    prior = stationary_prior((1, 4, 5))
    spectrum = prior.variances.reshape(4, 5).numpy()
    expected = np.zeros((20, 20))
    for a in range(20):
        for b in range(20):
            dr, dc = a // 5 - b // 5, a % 5 - b % 5
            for k in range(4):
                for m in range(5):
                    phase = 2 * math.pi * (k * dr / 4 + m * dc / 5)
                    expected[a, b] += spectrum[k, m] * math.cos(phase) / 20
    assert np.allclose(prior.covariance.numpy(), expected, atol=1e-12)


def test_sigma_per_row():
    x = torch.randn(3, 1, 2, 3, generator=generator(0), dtype=F64)
    levels = torch.tensor([0.1, 1.0, 5.0], dtype=F64)
    for prior in (dense_prior(), mixture_prior()):
        together = prior(x, levels)
        alone = torch.cat([prior(x[i : i + 1], levels[i]) for i in range(3)])
        assert torch.allclose(together, alone, rtol=0, atol=1e-12)
        assert prior.error_variance(levels).shape == (3,)


@pytest.mark.parametrize("sigma", [0.05, 0.7, 8.0])
def test_mixture_denoiser_is_an_integral(sigma):
    """E[x0 | x] = int x0 p(x0) N(x; x0, sigma^2) / int p(x0) N(x; x0, sigma^2), on a grid."""
    prior = one_dimensional()
    for x in (-3.0, -0.7, 0.6, 1.4, 2.2):
        joint = one_dimensional_density(GRID) * norm.pdf(x, GRID, sigma)
        expected = (GRID * joint).sum() / joint.sum()
        at = torch.tensor([[x]], dtype=F64)
        assert float(prior(at, number(sigma))) == pytest.approx(expected, abs=1e-8)
        density = float(prior.log_density(at, number(sigma)))
        assert density == pytest.approx(math.log(joint.sum() * STEP), abs=1e-8)


@pytest.mark.parametrize("sigma", [0.05, 0.7, 8.0])
def test_mixture_denoiser_is_its_score(sigma):
    """Tweedie: D(x) = x + sigma^2 grad log p_sigma(x)."""
    prior = mixture_prior()
    x = torch.randn(5, 1, 2, 3, generator=generator(2), dtype=F64).requires_grad_(True)
    (score,) = torch.autograd.grad(prior.log_density(x, number(sigma)).sum(), x)
    expected = x.detach() + sigma**2 * score
    gap = (prior(x.detach(), number(sigma)) - expected).abs().max()
    assert float(gap) < 1e-10 * max(1, sigma**2)


def test_one_component_is_the_gaussian():
    gaussian = dense_prior()
    mixture = GaussianMixturePrior(
        torch.ones(1, dtype=F64), gaussian.mean[None], gaussian.covariance[None]
    )
    x = torch.randn(4, 1, 2, 3, generator=generator(0), dtype=F64)
    for sigma in (0.1, 2.0):
        gap = mixture(x, number(sigma)) - gaussian(x, number(sigma))
        assert float(gap.abs().max()) < 1e-12
        errors = mixture.error_variance(number(sigma)), gaussian.error_variance(number(sigma))
        assert float(errors[0]) == pytest.approx(float(errors[1]), rel=1e-10)


def test_equal_covariances_are_no_special_case():
    """Modes 20 apart of equal covariance, against the same with the last bit of one changed.

    The first take a route of their own, in common axes. Densities are of order 1e4, so rounding
    leaves 1e-11 of them, and 1e-3 of float32's.
    """
    pixels = 6
    means = 20 * torch.randn(4, pixels, generator=generator(2), dtype=F64)
    equal = covariance(pixels, 3).expand(4, -1, -1)
    other = equal.clone()
    other[0] *= 1 + 1e-14
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64)
    fast, slow = (GaussianMixturePrior(weights, means, c) for c in (equal, other))
    x = 20 * torch.randn(9, pixels, generator=generator(3), dtype=F64)
    levels = torch.linspace(0.1, 3, 9, dtype=F64)
    for sigma in (number(1e-3), number(5.0), levels):
        assert torch.allclose(fast(x, sigma), slow(x, sigma), atol=1e-9, rtol=0)
        densities = fast.log_density(x, sigma), slow.log_density(x, sigma)
        assert torch.allclose(*densities, rtol=1e-10)
        gap = fast(x.float(), sigma) - slow(x, sigma)
        assert float(gap.abs().max()) < 1e-4
    flat = GaussianMixturePrior(weights, means, torch.zeros(4, pixels, pixels, dtype=F64))
    assert flat._rotated is None  # atoms: expanded squares would lose all digits


@pytest.mark.parametrize(
    "prior",
    [dense_prior(), stationary_prior((1, 2, 3)), mixture_prior()],
    ids=["dense", "stationary", "mixture"],
)
def test_draws_have_the_prior_s_moments(prior):
    """Every pixel's mean, and every entry of the covariance, within 4.5 standard errors."""
    count = 20000
    x = prior.draw(Rng(11, list(range(count // 100)), 100)).flatten(1)
    if isinstance(prior, GaussianPrior):
        mean, c = prior.mean.flatten(), prior.covariance
    else:
        flat = prior.means.flatten(1)
        mean = prior.weights @ flat
        centred = flat - mean
        c = torch.einsum("j,jn,jm->nm", prior.weights, centred, centred)
        c = c + torch.einsum("j,jnm->nm", prior.weights, prior.covariances)
    z = (x.mean(0) - mean) / (c.diagonal() / count).sqrt()
    assert float(z.abs().max()) < 4.5
    products = torch.einsum("bn,bm->bnm", x - mean, x - mean)
    z = (products.mean(0) - c) / (products.std(0) / count**0.5)
    assert float(z.abs().max()) < 4.5


@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_error_variance_against_monte_carlo(sigma):
    count = 20000
    gaussian, mixture = dense_prior(), mixture_prior()
    for prior in (gaussian, mixture):
        rng = Rng(3, list(range(count // 100)), 100)
        x0 = prior.draw(rng)
        noisy = x0 + sigma * torch.randn(x0.shape, generator=generator(9), dtype=F64)
        errors = (prior(noisy, number(sigma)) - x0).square().flatten(1).mean(1)
        predicted = float(prior.error_variance(number(sigma)))
        z = (float(errors.mean()) - predicted) / float(errors.std() / count**0.5)
        assert z < 4.5  # a mixture's is an upper bound
        if prior is gaussian:
            assert z > -4.5


def problem_for(prior, items=2, seed=0, measured=4) -> Problem:
    pixels = math.prod(prior.means.shape[1:] if hasattr(prior, "means") else prior.mean.shape)
    matrix = torch.randn(items, measured, pixels, generator=generator(seed), dtype=F64)
    y = torch.randn(items, measured, generator=generator(seed + 1), dtype=F64)
    sigma = 0.2 + torch.rand(items, measured, generator=generator(seed + 2), dtype=F64)
    return Problem(y, DenseOperator(matrix), Gaussian(sigma))


def flat_mixture() -> GaussianMixturePrior:
    whole = mixture_prior()
    return GaussianMixturePrior(whole.weights, whole.means.flatten(1), whole.covariances)


def joint_update(mean, c, a, noise, y):
    """Conditions the joint Gaussian of (x, y) by Schur complement of its precision, in NumPy."""
    n = len(mean)
    joint = np.block([[c, c @ a.T], [a @ c, a @ c @ a.T + noise]])
    precision = np.linalg.inv(joint)
    posterior = np.linalg.inv(precision[:n, :n])
    shift = -posterior @ precision[:n, n:] @ (y - a @ mean)
    evidence = multivariate_normal(a @ mean, joint[n:, n:]).logpdf(y)
    return mean + shift, posterior, evidence


def test_posterior_against_the_joint_gaussian():
    """Different matrices and different noise per item and per entry."""
    prior = flat_mixture()
    problem = problem_for(prior)
    exact = prior.posterior(problem)
    for i in range(2):
        a, y = problem.operator.matrix[i].numpy(), problem.y[i].numpy()
        noise = np.diag(problem.noise.sigma[i].numpy() ** 2)
        parts = [
            joint_update(prior.means[j].numpy(), prior.covariances[j].numpy(), a, noise, y)
            for j in range(3)
        ]
        joint = np.log(prior.weights.numpy()) + np.array([part[2] for part in parts])
        evidence = np.logaddexp.reduce(joint)
        weights = np.exp(joint - evidence)
        assert float(exact.log_evidence[i]) == pytest.approx(evidence, abs=1e-9)
        assert np.allclose(exact.weights[i].numpy(), weights, atol=1e-9)
        mean = sum(w * part[0] for w, part in zip(weights, parts, strict=True))
        assert np.allclose(exact.mean[i].numpy(), mean, atol=1e-9)
        second = sum(
            w * (part[1] + np.outer(part[0], part[0]))
            for w, part in zip(weights, parts, strict=True)
        )
        assert np.allclose(exact.covariance[i].numpy(), second - np.outer(mean, mean), atol=1e-9)
        variance = np.diag(second - np.outer(mean, mean))
        assert np.allclose(exact.std[i].numpy() ** 2, variance, atol=1e-9)


def test_posterior_against_quadrature_on_a_line():
    prior = one_dimensional()
    problem = Problem(
        torch.tensor([[0.9, 0.2]], dtype=F64),
        DenseOperator(torch.tensor([[[0.7], [-0.4]]], dtype=F64)),
        Gaussian(torch.tensor([[0.8, 0.5]], dtype=F64)),
    )
    joint = one_dimensional_density(GRID) * norm.pdf(0.9, 0.7 * GRID, 0.8)
    joint = joint * norm.pdf(0.2, -0.4 * GRID, 0.5)
    total = joint.sum() * STEP
    mean = (GRID * joint).sum() * STEP / total
    variance = ((GRID - mean) ** 2 * joint).sum() * STEP / total
    exact = prior.posterior(problem)
    assert float(exact.log_evidence) == pytest.approx(math.log(total), abs=1e-8)
    assert float(exact.mean) == pytest.approx(mean, abs=1e-8)
    assert float(exact.covariance) == pytest.approx(variance, abs=1e-8)


def test_posterior_against_importance_sampling():
    """Draws of the prior weighted by ``Problem.log_likelihood``: |z| < 4.5 for mean, evidence."""
    prior = flat_mixture()
    problem = problem_for(prior, items=1, measured=2)
    exact = prior.posterior(problem)
    count = 50000
    x = prior.draw(Rng(2, list(range(count // 100)), 100))
    index = torch.zeros(count, dtype=torch.long)
    operator = DenseOperator(problem.operator.matrix)
    many = Problem(problem.y[index], operator, Gaussian(problem.noise.sigma[index]))
    weights = many.log_likelihood(x).exp()
    z = (weights.mean().log() - exact.log_evidence[0]) * weights.mean() * count**0.5
    assert abs(float(z / weights.std())) < 4.5
    share = weights / weights.sum()
    mean = share @ x
    error = (share.square() @ (x - mean).square()).sqrt()
    assert float(((mean - exact.mean[0]) / error).abs().max()) < 4.5


def test_unobserved_entries_change_nothing():
    prior = dense_prior((1, 3, 4))
    mask = torch.rand(2, 1, 3, 4, generator=generator(8)) < 0.5
    operator = Inpainting(mask)
    y = torch.randn(2, 1, 3, 4, generator=generator(1), dtype=F64)
    exact = prior.posterior(Problem(y, operator, Gaussian(0.3)))
    other = prior.posterior(Problem(torch.where(mask, y, 17.0), operator, Gaussian(0.3)))
    assert torch.equal(exact.mean, other.mean)
    assert torch.equal(exact.log_evidence, other.log_evidence)
    for i in range(2):
        kept = mask[i].flatten()
        a = torch.eye(12, dtype=F64)[kept].numpy()
        mean, c, evidence = joint_update(
            prior.mean.flatten().numpy(),
            prior.covariance.numpy(),
            a,
            0.09 * np.eye(len(a)),
            y[i].flatten()[kept].numpy(),
        )
        assert np.allclose(exact.mean[i].flatten().numpy(), mean, atol=1e-9)
        assert np.allclose(exact.covariance[i].numpy(), c, atol=1e-9)
        assert float(exact.log_evidence[i]) == pytest.approx(evidence, abs=1e-9)


def test_complex_measurement():
    """MRI of a complex image in two channels: real and imaginary parts each have noise sigma."""
    prior = dense_prior((2, 2, 3))
    maps = torch.randn(1, 2, 2, 3, generator=generator(5), dtype=torch.complex128)
    mask = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0]], dtype=F64)[None, None]
    operator = CartesianMRI(maps, mask) @ AsComplex((1, 2, 3))
    clean = operator(prior.draw(Rng(0, [0], 1)))
    noise = torch.randn(clean.shape, generator=generator(6), dtype=torch.complex128)
    observed = operator.observed
    y = (clean + 0.2 * 2**0.5 * noise) * observed
    exact = prior.posterior(Problem(y, operator, Gaussian(0.2)))
    unit = torch.eye(12, dtype=F64).reshape(12, 2, 2, 3)
    columns = torch.cat([operator(unit[j : j + 1]).flatten(1) for j in range(12)])
    seen = torch.broadcast_to(observed, clean.shape).flatten().numpy()
    a = columns.T.numpy()[seen]
    data = y.flatten().numpy()[seen]
    a, data = np.concatenate([a.real, a.imag]), np.concatenate([data.real, data.imag])
    mean, c, evidence = joint_update(
        prior.mean.flatten().numpy(), prior.covariance.numpy(), a, 0.04 * np.eye(len(a)), data
    )
    assert np.allclose(exact.mean[0].flatten().numpy(), mean, atol=1e-8)
    assert np.allclose(exact.covariance[0].numpy(), c, atol=1e-8)
    assert float(exact.log_evidence[0]) == pytest.approx(evidence, abs=1e-7)


def test_exact_draws_have_the_posterior_s_moments():
    prior = flat_mixture()
    exact = prior.posterior(problem_for(prior, items=1, measured=1))
    count = 20000
    x = exact.draw(count, generator(4))[0]
    z = (x.mean(0) - exact.mean[0]) / (exact.covariance[0].diagonal() / count).sqrt()
    assert float(z.abs().max()) < 4.5
    products = torch.einsum("bn,bm->bnm", x - exact.mean[0], x - exact.mean[0])
    z = (products.mean(0) - exact.covariance[0]) / (products.std(0) / count**0.5)
    assert float(z.abs().max()) < 4.5


def test_refuses_what_is_no_covariance():
    mean = torch.zeros(2)
    with pytest.raises(ValueError, match="symmetric matrix without negative eigenvalues"):
        GaussianPrior.dense(mean, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="asymmetry"):
        GaussianPrior.dense(mean, torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="covariance has shape"):
        GaussianPrior.dense(mean, torch.eye(3))
    with pytest.raises(ValueError, match="even"):
        GaussianPrior.stationary(torch.zeros(1, 3, 3), torch.arange(9.0).reshape(1, 3, 3))
    with pytest.raises(ValueError, match="above zero"):
        GaussianMixturePrior(torch.zeros(1), torch.zeros(1, 2), torch.eye(2)[None])
    with pytest.raises(ValueError, match="Weights and covariances have shapes"):
        GaussianMixturePrior(torch.ones(2), torch.zeros(1, 2), torch.eye(2)[None])
