"""The shared steps, against exact Gaussian flows. No Monte Carlo: covariances are propagated."""

import math

import pytest
import torch
from helpers import generator, small_prior
from torch.utils._python_dispatch import TorchDispatchMode

from invdiff.diffusion import ancestral, denoise_vjp, extrapolate, renoise, share
from invdiff.diffusion import number as as_number
from invdiff.ladder import geometric

F64 = torch.float64


def number(value):
    return torch.tensor(value, dtype=F64)


def final_variance(steps: int, scheme: str, variance: float = 1.0) -> float:
    """The variance at the last level above 0, when the first has its exact law.

    x is a linear function of independent normal numbers: the start and one more per step. A row
    holds their coefficients, so that the package's own functions propagate the variance exactly.
    """
    ladder = geometric(steps, 0.01, 10.0)[:-1]
    x = torch.zeros(1, steps + 1, dtype=F64)
    x[0, 0] = (variance + ladder[0] ** 2).sqrt()
    before, slope = None, torch.zeros_like(x)
    for i in range(steps - 1):
        sigma, sigma_next = ladder[i], ladder[i + 1]
        clean = variance / (variance + sigma**2) * x
        if before is not None:
            slope = (clean - before) / torch.log(ladder[i - 1] / sigma)
        before = clean
        target, error = clean, 0.0
        if scheme == "multistep":
            target = extrapolate(clean, slope, sigma, sigma_next)
        if scheme == "spread":
            error = variance * sigma**2 / (variance + sigma**2)
        step = ancestral(x, target, sigma, sigma_next, error)
        x = step.mean.clone()
        x[0, i + 1] = step.std
    return float(x.square().sum() / (variance + ladder[-1] ** 2))


def slope_of(scheme: str) -> float:
    errors = [abs(final_variance(steps, scheme) - 1) for steps in (100, 200, 400)]
    return math.log2(errors[0] / errors[2]) / 2


def test_plain_ancestral_steps_lose_variance_of_first_order():
    assert slope_of("plain") == pytest.approx(1, abs=0.15)
    assert final_variance(50, "plain") < 0.95


def test_multistep_is_of_second_order():
    assert slope_of("multistep") == pytest.approx(2, abs=0.2)
    assert abs(final_variance(100, "multistep") - 1) < 0.1 * abs(final_variance(100, "plain") - 1)


def test_error_variance_makes_gaussian_steps_exact():
    """However few: the step is then the true reverse transition."""
    for steps in (3, 10, 100):
        assert final_variance(steps, "spread") == pytest.approx(1, abs=1e-12)


def test_transition_of_the_joint_gaussian():
    """p(x' | x, x0) of x = x' + noise, x' = x0 + sigma' n: mean and variance by conditioning."""
    x, x0 = number([[1.3]]), number([[0.4]])
    step = ancestral(x, x0, number(2.0), number(0.5))
    precision = 1 / 0.25 + 1 / (4 - 0.25)
    assert float(step.std**2) == pytest.approx(1 / precision)
    assert float(step.mean) == pytest.approx((0.4 / 0.25 + 1.3 / 3.75) / precision)
    assert float(share(number(2.0), number(0.5))) == pytest.approx(1 - 1 / 16)


def test_last_step_is_the_mean():
    x, x0 = torch.ones(2, 3), torch.zeros(2, 3)
    step = ancestral(x, x0, number(0.1), number(0.0), number(0.5))
    assert torch.equal(step.mean, x0)
    assert float(step.std) == 0
    assert torch.equal(extrapolate(x0, x, number(0.1), number(0.0)), x0)


def test_log_ratio_is_of_two_normal_densities():
    mean = torch.randn(2, 4, 3, generator=generator(0), dtype=F64)
    first = ancestral(mean, mean * 0, number(1.0), number(0.7))
    second = ancestral(mean, mean * 0.5, number(1.0), number(0.7))
    x = torch.randn(2, 4, 3, generator=generator(1), dtype=F64)
    a, b = (torch.distributions.Normal(one.mean, one.std) for one in (first, second))
    expected = (a.log_prob(x) - b.log_prob(x)).flatten(1).sum(1)
    assert torch.allclose(first.log_ratio(second, x), expected)
    assert first.log_ratio(second, x.float()).dtype == F64
    noise = torch.ones(2, 4, 3, dtype=F64)
    assert torch.equal(first.draw(noise), first.mean + first.std)


def test_renoise():
    x0, direction = torch.zeros(1, 1000), torch.ones(1, 1000)
    noise = torch.full((1, 1000), 2.0)
    assert torch.allclose(renoise(x0, direction, 3.0, noise, 0.0), 3 * direction)
    assert torch.allclose(renoise(x0, direction, 3.0, noise, 1.0), 3 * noise)
    mixed = renoise(x0, direction, 1.0, noise, 0.6)
    assert torch.allclose(mixed, 0.8 * direction + 0.6 * noise)


def test_denoise_vjp():
    prior = small_prior()
    x = torch.randn(2, 6, generator=generator(0), dtype=F64)
    clean, vjp = denoise_vjp(prior, x, number(0.5))
    c = prior.covariance
    jacobian = c @ torch.linalg.inv(c + 0.25 * torch.eye(6, dtype=F64))
    u = torch.randn(2, 6, generator=generator(1), dtype=F64)
    assert torch.allclose(clean, prior(x, number(0.5)))
    assert torch.allclose(vjp(u), u @ jacobian)
    assert torch.allclose(vjp(2 * u), 2 * u @ jacobian)  # as often as one likes
    assert not clean.requires_grad
    assert not x.requires_grad
    with torch.no_grad():
        assert torch.allclose(denoise_vjp(prior, x, number(0.5))[1](u), u @ jacobian)


def test_number_is_no_operation():
    class Counting(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            self.calls += 1
            return function(*arguments, **(options or {}))

    level = number(0.3)
    with Counting() as seen:
        assert as_number(level) == 0.3
        assert seen.calls == 0
        float(level)
        assert seen.calls == 1
