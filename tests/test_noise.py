"""Log-likelihoods against closed forms of SciPy, and what cannot have come from a noise."""

import math

import numpy as np
import pytest
import torch
from helpers import generator
from scipy.stats import norm, poisson

from invdiff import Gaussian, NotFinite, Poisson
from invdiff.noise import require_finite

F64 = torch.float64
Y = torch.randn(3, 5, generator=generator(0), dtype=F64)
MEAN = torch.randn(3, 5, generator=generator(1), dtype=F64)


@pytest.mark.parametrize("sigma", [0.3, torch.tensor([[0.1], [0.5], [2.0]], dtype=F64)])
def test_gaussian(sigma):
    expected = norm.logpdf(Y.numpy(), MEAN.numpy(), np.asarray(sigma))
    assert np.allclose(Gaussian(sigma).log_likelihood(Y, MEAN).numpy(), expected, atol=1e-12)
    assert torch.equal(Gaussian(sigma).center(Y), Y)
    precision = torch.broadcast_to(Gaussian(sigma).precision(Y), Y.shape)
    assert np.allclose(precision.numpy(), 1 / np.broadcast_to(np.asarray(sigma), (3, 5)) ** 2)


def test_gaussian_complex():
    """sigma is the deviation of the real part, and of the imaginary part: two numbers."""
    y, mean = torch.complex(Y, MEAN), torch.complex(MEAN, Y.flip(0))
    expected = norm.logpdf(y.real.numpy(), mean.real.numpy(), 0.3)
    expected = expected + norm.logpdf(y.imag.numpy(), mean.imag.numpy(), 0.3)
    value = Gaussian(0.3).log_likelihood(y, mean)
    assert not value.is_complex()
    assert np.allclose(value.numpy(), expected, atol=1e-12)


def test_gaussian_at_raw_scale():
    """k-space of 1e-7 in float32."""
    y, mean = 1e-7 * Y.float(), 1e-7 * MEAN.float()
    expected = norm.logpdf(1e-7 * Y.numpy(), 1e-7 * MEAN.numpy(), 3e-8)
    assert np.allclose(Gaussian(3e-8).log_likelihood(y, mean).numpy(), expected, rtol=1e-4)


def test_poisson():
    counts = torch.tensor([[0.0, 1.0, 4.0, 170.0]], dtype=F64)
    mean = torch.tensor([[0.5, 0.02, 0.1, 9.0]], dtype=F64)
    noise = Poisson(20.0)
    expected = poisson.logpmf(counts.numpy(), 20 * mean.numpy())
    assert np.allclose(noise.log_likelihood(counts, mean).numpy(), expected, rtol=1e-10)
    assert torch.equal(noise.center(counts), counts / 20)
    assert noise.precision(counts).tolist() == [[400.0, 400.0, 100.0, 400 / 170]]


def test_poisson_at_and_below_zero():
    zero = torch.zeros(1, dtype=F64)
    noise = Poisson(2.0)
    assert float(noise.log_likelihood(zero, zero)) == 0
    assert float(noise.log_likelihood(zero + 1, zero)) == -math.inf
    assert float(noise.log_likelihood(zero, zero - 1)) == -math.inf


def test_rows():
    sigma = torch.tensor([[0.1], [0.5], [2.0]], dtype=F64)
    index = torch.tensor([2, 2, 0])
    assert torch.equal(Gaussian(sigma).rows(index).sigma, sigma[index])
    for shared in (0.3, torch.tensor(0.3), torch.full((1, 5), 0.3)):
        assert Gaussian(shared).rows(index).sigma is shared
    assert Poisson(2.0).rows(index) == Poisson(2.0)


def test_repr():
    assert eval(repr(Gaussian(0.3)), {"Gaussian": Gaussian}).sigma == 0.3
    assert eval(repr(Poisson(0.3)), {"Poisson": Poisson}) == Poisson(0.3)
    one, other = Gaussian(torch.tensor([[0.1], [0.5]])), Gaussian(torch.tensor([[0.1], [0.4]]))
    assert repr(one) != repr(other)
    assert "0.1..0.5" in repr(one)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, torch.tensor([1.0, 0.0])])
def test_gaussian_refuses(sigma):
    with pytest.raises(ValueError, match="expected positive and finite"):
        Gaussian(sigma)


@pytest.mark.parametrize("shape", [(3,), (5,), (3, 4), (2, 5), (1, 3, 5)])
def test_gaussian_refuses_shapes_that_might_mean_something_else(shape):
    """(n,) against (n, n) would broadcast, with items taken for pixels."""
    with pytest.raises(ValueError, match="Lead with 1"):
        Gaussian(torch.ones(shape)).check(Y)
    with pytest.raises(ValueError, match="Lead with 1"):
        Gaussian(torch.ones(5)).check(torch.zeros(5, 5))


def test_poisson_refuses():
    with pytest.raises(ValueError, match="above zero"):
        Poisson(0.0)
    for bad in (
        torch.tensor([[-1.0]]),
        torch.tensor([[0.5]]),
        torch.zeros(1, 1, dtype=torch.complex64),
    ):
        with pytest.raises(ValueError, match="Pass the counts themselves"):
            Poisson(1.0).check(bad)


def test_require_finite_names_items():
    y = Y.clone()
    y[1, 2], y[2, 0] = math.nan, math.inf
    with pytest.raises(NotFinite, match=r"2 entries.*items \[1, 2\]"):
        require_finite(y, "measurement")
    with pytest.raises(NotFinite, match=r"items \[1, 2\]"):
        require_finite(torch.complex(Y, y), "measurement")
