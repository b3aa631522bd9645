"""Counts of photons: closed forms, and moments summed over all counts (no sampling)."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import poisson

from invdiff import Gaussian, Problem
from invdiff.operators import CTOperator, Geometry
from invdiff.transmission import Transmission

F64 = torch.float64
I0, S = 1e5, 5.0


def every_measurement(rate, electronic):
    """Measurements and their probabilities: all counts, and 101 nodes of the normal noise."""
    counts = np.arange(int(rate + 12 * math.sqrt(rate)) + 40)
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    if electronic == 0:
        nodes, weights = np.zeros(1), np.ones(1)
    y = counts[:, None] + electronic * nodes
    probability = poisson.pmf(counts, rate)[:, None] * (weights / weights.sum())
    return torch.from_numpy(y), torch.from_numpy(probability)


def test_log_likelihood_is_poissons():
    y = torch.tensor([[0.0, 3.0, 180.0, 99500.0]], dtype=F64)
    p = torch.tensor([[11.0, 10.0, 6.3, 0.01]], dtype=F64)
    expected = poisson.logpmf(y.numpy(), I0 * np.exp(-p.numpy()))
    assert np.allclose(Transmission(I0).log_likelihood(y, p).numpy(), expected, rtol=1e-9)
    # In float32 a million counts would leave an error of 1 without the sums in float64.
    many = torch.tensor([[1e6, 1e6 + 1500.0]])
    near = torch.tensor([[0.001, 0.0005]])
    expected = poisson.logpmf(many.double().numpy(), 1.001e6 * np.exp(-near.double().numpy()))
    found = Transmission(1.001e6).log_likelihood(many, near)
    assert found.dtype == torch.float32
    assert np.allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("electronic", [0.0, S])
def test_derivatives(electronic):
    """Of the rate L = I0 exp(-p): L - L k / m with k = y + s^2 and m = L + s^2, and its own."""
    y = torch.tensor([[0.0, 12.0, 400.0, 5e4]], dtype=F64)
    p = torch.tensor([[9.5, 8.0, 5.0, 0.8]], dtype=F64, requires_grad=True)
    value = Transmission(I0, electronic).log_likelihood(y, p)
    (slope,) = torch.autograd.grad(value.sum(), p, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), p)
    rate, k, m = I0 * torch.exp(-p.detach()), y + electronic**2, I0 * torch.exp(-p) + electronic**2
    m = m.detach()
    assert torch.allclose(slope.detach(), rate * (1 - k / m), rtol=1e-10, atol=1e-9)
    assert torch.allclose(curvature, -rate * (1 - k * electronic**2 / m**2), rtol=1e-10)
    if electronic == 0:
        assert torch.allclose(curvature, -rate, rtol=1e-10)


@pytest.mark.parametrize("rate", [2.0, 18.0, 183.0])
@pytest.mark.parametrize("electronic", [0.0, S])
def test_the_gradient_is_unbiased(electronic, rate):
    """E[score] = 0 at the true p, and E[score^2] = L^2 / (L + s^2), the inverse variance.

    With electronic noise a measurement below -s^2 counts as -s^2: at five standard deviations,
    that is 1e-7 of the score.
    """
    y, probability = every_measurement(rate, electronic)
    p = torch.full_like(y, math.log(I0 / rate), requires_grad=True)
    value = Transmission(I0, electronic).log_likelihood(y, p)
    (score,) = torch.autograd.grad(value.sum(), p)
    information = rate**2 / (rate + electronic**2)
    assert abs(float((probability * score).sum())) < 1e-5 * math.sqrt(information)
    found = float((probability * score.square()).sum())
    assert found == pytest.approx(information, rel=1e-4)


@pytest.mark.parametrize(
    ("rate", "bias", "low"), [(400, 0.0013, 0.002), (183, 0.0031, 0.005), (34, 0.027, 0.064)]
)
def test_how_good_the_logarithm_is(rate, bias, low):
    """Its bias, and by how much the expected counts predict too low a deviation; measured.

    The predictions from the measured counts, which is what ``precision`` gives, are nearer: 1 %.
    """
    y, probability = every_measurement(rate, S)
    noise = Transmission(I0, S)
    p, variance = noise.center(y), 1 / noise.precision(y)
    mean = float((probability * p).sum())
    deviation = float((probability * (p - mean).square()).sum().sqrt())
    assert mean - math.log(I0 / rate) == pytest.approx(bias, rel=0.05)
    assert 1 - math.sqrt(rate + S**2) / rate / deviation == pytest.approx(low, rel=0.2)
    predicted = float((probability * variance).sum().sqrt())
    assert predicted == pytest.approx(deviation, rel=0.01)
    without = float((probability / Transmission(I0).precision(y)).sum().sqrt())
    assert without < 0.98 * deviation  # the electronic noise is needed


def test_the_quadratic_is_the_likelihoods():
    """Near the measured p, to third order: a tenth of a deviation away, 1e-4."""
    y = torch.tensor([[1e4]], dtype=F64)
    noise = Transmission(I0)
    top = noise.center(y)
    away = top + 0.1 * noise.precision(y).rsqrt()
    fall = noise.log_likelihood(y, top) - noise.log_likelihood(y, away)
    assert float(fall) == pytest.approx(0.005, rel=1e-3)


def test_log_data():
    y = torch.tensor([[[100.0, 1e4, 7.0, 1.0]], [[5.0, 5.0, 5.0, 5.0]]])
    noise = Transmission(I0, 2.0)
    data = noise.log_data(y)
    assert torch.allclose(data.y, torch.log(I0 / y))
    assert torch.allclose(torch.as_tensor(data.noise.sigma), (y + 4).sqrt() / y)
    assert isinstance(data.noise, Gaussian)
    assert data.starved.tolist() == [0, 0]
    with pytest.warns(UserWarning, match=r"25\.00% of the rays have no photon"):
        data = noise.log_data(y - 1)
    assert data.starved.tolist() == [0.25, 0]
    assert torch.isfinite(data.y).all()
    assert float(data.y[0, 0, 3]) == pytest.approx(math.log(I0))


def test_a_problem_of_counts():
    """The gradient through a problem is A*(L - y); at the truth chi2 is 1 within 4 deviations."""
    A = CTOperator(Geometry.parallel((12, 12), 20, pixel_size=2.0))
    source = torch.Generator().manual_seed(0)
    x = 0.03 * torch.rand(1, *A.domain, generator=source, dtype=F64)
    rate = I0 * torch.exp(-A(x))
    y = torch.poisson(rate, generator=source)
    problem = Problem(y, A, Transmission(I0))
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(problem.log_likelihood(leaf).sum(), leaf)
    assert torch.allclose(gradient, A.adjoint(rate - y), rtol=1e-9, atol=1e-9)
    assert abs(float(problem.chi2(x)) - 1) < 4 * math.sqrt(2 / y.numel())
    wrong = Problem(y, A, Transmission(1.05 * I0))
    assert abs(float(wrong.chi2(x)) - 1) > 4 * math.sqrt(2 / y.numel())


def test_rows_and_repr():
    air = torch.tensor([[[1e4, 2e4]], [[3e4, 4e4]]])
    noise, index = Transmission(air, 3.0), torch.tensor([1, 1, 0])
    assert torch.equal(noise.rows(index).photons, air[index])
    assert noise.rows(index).electronic == 3.0
    shared = Transmission(air[:1])
    assert shared.rows(index) is shared
    assert eval(repr(Transmission(I0, S)), {"Transmission": Transmission}).photons == I0
    assert repr(noise) != repr(Transmission(air + 1, 3.0))
    assert torch.equal(noise.to("cpu").photons, air)
    y = torch.tensor([[[100.0, 100.0]], [[100.0, 100.0]]])
    assert torch.allclose(noise.center(y), torch.log(air / y))


def test_refusals():
    for photons in (0.0, -1.0, math.nan, torch.tensor([1.0, 0.0])):
        with pytest.raises(ValueError, match="air scan"):
            Transmission(photons)
    for electronic in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="detector's own noise"):
            Transmission(I0, electronic)
    for bad in ([[-1.0]], [[0.5]], [[1j]]):
        with pytest.raises(ValueError, match="Pass the counts"):
            Transmission(I0).check(torch.tensor(bad))
    Transmission(I0, S).check(torch.tensor([[-1.0, 0.5]]))
    with pytest.raises(ValueError, match="up to 300000 counts"):
        Transmission(I0).check(torch.tensor([[3e5]]))
    with pytest.raises(ValueError, match="photons has shape"):
        Transmission(torch.ones(4)).check(torch.ones(2, 4))
