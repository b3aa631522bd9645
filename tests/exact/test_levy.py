"""The exact denoiser of random walks: closed form, brute force, derivative, and robustness."""

import math

import numpy as np
import pytest
import torch
from helpers import generator
from scipy import integrate, stats
from scipy.signal import fftconvolve

from invdiff.errors import ShapeError
from invdiff.priors.base import Prior
from invdiff.priors.gaussian import GaussianPrior
from invdiff.priors.increments import BernoulliLaplace, Gauss, Increments, Laplace, Student
from invdiff.priors.lattice import lattice_for
from invdiff.priors.levy import LevyPrior
from invdiff.priors.smoothing import posterior_moments
from invdiff.rng import Rng

LAWS = [Gauss(0.25), Laplace(1.0), Student(1), Student(2), Student(3), BernoulliLaplace(0.1, 1.0)]
SIGMAS = [0.01, 0.1, 0.5, 2.0, 10.0, 50.0, 100.0]


def noisy(prior, sigma, rows, seed=0):
    x = prior.draw(Rng(seed, range(rows), 1))
    return x, x + sigma * torch.randn(x.shape, generator=generator(seed), dtype=torch.float64)


def brownian(times=64):
    time = torch.arange(1, times + 1, dtype=torch.float64)
    return GaussianPrior.dense(
        torch.zeros(times).double(), 0.25 * torch.minimum(time[:, None], time)
    )


def brute_force(law, z, sigma, spacing):
    """E[x | z] for one walk z (times,), by sums on one fine grid wide enough for all of it."""
    half = int((np.abs(z).max() + 7 * sigma) / spacing)
    x = spacing * np.arange(-half, half + 1)
    lags = torch.from_numpy(spacing * np.arange(-2 * half, 2 * half + 1))
    mass = (1 - law.atom) * spacing * law.log_density(lags).exp().numpy()
    mass[2 * half] += 1 - mass.sum() if law.light_tailed else 0.0  # the atom, and a kink's error
    likelihood = np.exp(-0.5 * ((x - z[:, None]) / sigma) ** 2)

    def move(message):
        moved = fftconvolve(message, mass)[2 * half : 4 * half + 1]
        return np.maximum(moved, 0) / moved.max()

    predicted = [mass[half : 3 * half + 1]]
    for weight in likelihood[:-1]:
        predicted.append(move(predicted[-1] * weight))
    backwards, means = np.ones_like(x), []
    for weight, message in zip(likelihood[::-1], predicted[::-1], strict=True):
        share = message * weight * backwards
        means.append((share @ x) / share.sum())
        backwards = move(backwards * weight)
    return np.array(means[::-1])


@pytest.mark.parametrize("sigma", SIGMAS)
def test_brownian_motion_has_the_gaussian_denoiser(sigma):
    prior = LevyPrior(Gauss(0.25))
    _, z = noisy(prior, sigma, 16)
    level = torch.tensor(sigma, dtype=torch.float64)
    error = (prior(z, level) - brownian()(z, level)) / sigma
    assert float(error.square().mean().sqrt()) < 3e-4  # measured: at most 7e-5


@pytest.mark.parametrize("law", LAWS[1:], ids=repr)
@pytest.mark.parametrize("sigma", [0.05, 0.5, 2.0, 20.0])
def test_the_denoiser_matches_brute_force(law, sigma):
    prior = LevyPrior(law, 24)
    x, z = noisy(prior, sigma, 64, seed=1)
    keep = z[x.abs().amax(1) < max(20, 8 * sigma)][:3]  # what the grid can hold
    denoised = prior(keep, torch.tensor(sigma, dtype=torch.float64)).numpy()
    spacing = min(sigma / (50 if law.atom else 12), 0.05)
    expected = np.stack([brute_force(law, walk, sigma, spacing) for walk in keep.numpy()])
    error = (denoised - expected) / sigma
    assert math.sqrt((error**2).mean()) < 3e-4  # measured: at most 1e-4
    wrong = prior(keep, torch.tensor(1.02 * sigma, dtype=torch.float64)).numpy()
    assert math.sqrt((((wrong - expected) / sigma) ** 2).mean()) > 3e-4 or sigma < 0.1


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("sigma", [0.1, 1.0, 30.0])
def test_the_jacobian_is_the_posterior_covariance(law, sigma):
    prior = LevyPrior(law)
    _, z = noisy(prior, sigma, 1, seed=2)
    level = torch.tensor(sigma, dtype=torch.float64)
    rows = z.expand(64, -1).clone().requires_grad_(True)
    (jacobian,) = torch.autograd.grad(
        prior(rows, level), rows, torch.eye(64, dtype=torch.float64), retain_graph=True
    )
    torch.testing.assert_close(jacobian, jacobian.T, rtol=0, atol=1e-8)
    _, variance = posterior_moments(z, sigma, lattice_for(law, 64, sigma))
    torch.testing.assert_close(jacobian.diagonal(), variance[0] / sigma**2, rtol=1e-8, atol=0)
    direction = torch.randn(1, 64, generator=generator(3), dtype=torch.float64)
    step = 1e-3 * sigma * direction
    slope = (prior(z + step, level) - prior(z - step, level)) / (2e-3 * sigma)
    # Second differences, and the truncation of windows, which a step can move by one point.
    torch.testing.assert_close(slope[0], jacobian @ direction[0], rtol=0, atol=3e-4)


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("sigma", [0.1, 1.0, 30.0])
def test_the_whole_covariance_is_the_jacobian(law, sigma):
    """One sweep of 64 messages against 64 products with the Jacobian: equal to rounding."""
    prior, level = LevyPrior(law), torch.tensor(sigma, dtype=torch.float64)
    rng = Rng(0, range(5), 1)
    x = prior.draw(rng)
    x = (x + sigma * rng.normal(x)).requires_grad_(True)
    clean = prior(x, level)
    columns = [
        torch.autograd.grad(clean, x, unit.expand_as(x), retain_graph=True)[0]
        for unit in torch.eye(64, dtype=torch.float64)
    ]
    expected = sigma**2 * torch.stack(columns, 2)
    covariance = prior.conditional_covariance(x.detach(), level)
    assert float((covariance - expected).abs().max()) < 1e-9 * float(expected.abs().max())
    sick = x.detach().clone()
    sick[1, 3] = math.nan
    kept = prior.conditional_covariance(sick, level)
    assert torch.isnan(kept[1]).all()
    assert torch.equal(kept[[0, 2, 3, 4]], covariance[[0, 2, 3, 4]])


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_the_error_variance_is_the_error(law):
    prior = LevyPrior(law)
    for sigma in (0.07, 0.7, 7.0):
        level = torch.tensor(sigma, dtype=torch.float64)
        x, z = noisy(prior, sigma, 200, seed=4)
        measured = (x - prior(z, level)).square().mean(1)
        error = float(measured.mean() - prior.error_variance(level))
        # Five standard errors, and 10 % for the averages that error_variance itself rests on.
        assert abs(error) < 5 * float(measured.std()) / 200**0.5 + 0.1 * float(measured.mean())
    levels = torch.logspace(-4, 5, 40, dtype=torch.float64)
    variances = prior.error_variance(levels)
    assert bool((variances <= levels**2 * (1 + 1e-12)).all())
    assert bool((variances.diff() >= 0).all())
    assert prior.error_variance(torch.tensor(1.0)).shape == ()


def test_the_error_variance_of_brownian_motion():
    prior, exact = LevyPrior(Gauss(0.25)), brownian()
    levels = torch.logspace(-3, 2.5, 30, dtype=torch.float64)
    torch.testing.assert_close(
        prior.error_variance(levels), exact.error_variance(levels), rtol=0.03, atol=0
    )  # power laws between levels


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_rows_do_not_see_each_other(law):
    prior = LevyPrior(law)
    _, z = noisy(prior, 1.0, 6)
    sigma = torch.tensor([0.1, 1.0, 0.1, 20.0, 1.0, 1.0], dtype=torch.float64)
    z[4, 3] = math.nan
    together = prior(z, sigma)
    for row in (0, 1, 2, 3, 5):
        alone = prior(z[row : row + 1], sigma[row])
        torch.testing.assert_close(together[row], alone[0], rtol=0, atol=1e-9)
    assert bool(together[4].isnan().all())
    single = prior(z[:1].float(), sigma[0])
    assert single.dtype == torch.float32
    torch.testing.assert_close(single[0].double(), together[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("law", LAWS, ids=repr)
@pytest.mark.parametrize("sigma", [0.3, 10.0, 300.0])
def test_wild_inputs_give_finite_results_and_derivatives(law, sigma):
    prior = LevyPrior(law)
    z = torch.randn(4, 64, generator=generator(5), dtype=torch.float64)
    z = (z * torch.tensor([[1e-6], [1e2], [1e4], [1e6]]) * sigma).requires_grad_(True)
    clean = prior(z, torch.tensor(sigma, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(clean.sum(), z)
    assert bool(clean.isfinite().all()) and bool(gradient.isfinite().all())


def drawn(law):
    return LevyPrior(law, 500).draw(Rng(1, range(40), 1)).diff(dim=1).flatten()


@pytest.mark.parametrize(
    ("law", "reference"),
    [
        (Gauss(0.25), stats.norm(scale=0.5)),
        (Laplace(2.0), stats.laplace(scale=2.0)),
        (Student(1), stats.t(1)),
        (Student(3), stats.t(3)),
    ],
    ids=["gauss", "laplace", "student1", "student3"],
)
def test_laws_are_what_they_say(law, reference):
    u = np.linspace(-6, 6, 41)
    density = law.log_density(torch.from_numpy(u)).exp().numpy()
    np.testing.assert_allclose(density, reference.pdf(u), rtol=1e-12)
    for frequency in (0.0, 0.3, 2.0):
        wave = integrate.quad(reference.pdf, 0, np.inf, weight="cos", wvar=frequency)
        value = law.characteristic(np.array(frequency))
        np.testing.assert_allclose(value, 2 * wave[0], atol=1e-6)
    np.testing.assert_allclose(law.tail(3.0), 2 * reference.sf(3.0), rtol=1e-10)
    # False alarms: 1e-4; a scale wrong by 10 % is seen.
    increments = drawn(law)
    assert stats.kstest(increments, reference.cdf).pvalue > 1e-4
    assert stats.kstest(1.1 * increments, reference.cdf).pvalue < 1e-4


def test_jumps_come_at_their_rate():
    increments = drawn(BernoulliLaplace(0.1, 2.0))
    jumps = increments[increments != 0]
    assert stats.binomtest(len(jumps), len(increments), 0.1).pvalue > 1e-4
    assert stats.kstest(jumps, stats.laplace(scale=2.0).cdf).pvalue > 1e-4


def test_the_prior_describes_itself():
    prior = LevyPrior(Student(2), 64)
    assert isinstance(prior, Prior) and isinstance(prior.law, Increments)
    assert repr(prior) == "LevyPrior(law=Student(degrees=2), times=64)"
    assert prior.sha256 != LevyPrior(Student(3), 64).sha256
    assert 0 < prior.sigma_min < 0.01 and 100 < prior.sigma_max < 1e5
    prior.check_shape((64,))
    with pytest.raises(ShapeError, match="shape"):
        prior.check_shape((63,))
    with pytest.raises(ValueError, match="sigma"):
        prior(torch.zeros(1, 64), torch.tensor(0.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Gauss(0.0),
        lambda: Laplace(-1.0),
        lambda: Student(0),
        lambda: BernoulliLaplace(0.0, 1.0),
        lambda: BernoulliLaplace(0.1, math.inf),
        lambda: LevyPrior(Gauss(1.0), 1),
    ],
)
def test_impossible_parameters_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()
