"""Resampling and effective sample size."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from helpers import generator

from invdiff.rng import Rng
from invdiff.smc import (
    Multinomial,
    Residual,
    Stratified,
    Systematic,
    effective_sample_size,
    log_mean,
    resample,
    weight_info,
)


class Given:
    """Random numbers that a test chose."""

    def __init__(self, numbers):
        self.numbers = numbers

    def uniform(self, count=None):
        return self.numbers


def systematic_resampling(log_w, uniform):
    return Systematic()(log_w, Given(uniform))


LOG_W = 2 * torch.randn(7, 16, generator=generator(0), dtype=torch.float64)


def test_effective_sample_size():
    weights = LOG_W.softmax(1)
    assert torch.allclose(effective_sample_size(LOG_W), 1 / weights.square().sum(1))
    assert torch.allclose(effective_sample_size(LOG_W - 1e5), effective_sample_size(LOG_W))
    equal = effective_sample_size(torch.zeros(2, 8))
    assert equal.dtype == torch.float64
    assert torch.allclose(equal, torch.full((2,), 8.0, dtype=torch.float64))
    one = torch.full((1, 8), -float("inf"), dtype=torch.float64)
    one[0, 3] = -2000.0
    assert float(effective_sample_size(one)) == pytest.approx(1)


def counts(ancestors):
    return torch.nn.functional.one_hot(ancestors, ancestors.shape[1]).sum(1).double()


@pytest.mark.parametrize("seed", range(10))
def test_every_particle_is_chosen_floor_or_one_more(seed):
    source = generator(seed)
    log_w = 3 * torch.randn(20, 16, generator=source, dtype=torch.float64)
    uniform = torch.rand(20, generator=source, dtype=torch.float64)
    ancestors = systematic_resampling(log_w, uniform)
    expected = 16 * log_w.softmax(1)
    chosen = counts(ancestors)
    assert ((chosen - expected).abs() < 1 + 1e-9).all()
    assert (chosen.sum(1) == 16).all()
    assert (ancestors.diff() >= 0).all()


def test_unbiased():
    """The mean over a fine grid of the uniform number is an integral, with error below 1/grid."""
    grid = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    ancestors = systematic_resampling(LOG_W[:1].expand(4000, -1), grid)
    expected = 16 * LOG_W[0].softmax(0)
    assert torch.allclose(counts(ancestors).mean(0), expected, rtol=0, atol=1 / 2000)


def test_extremes_stay_in_range():
    top = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    for log_w in (torch.zeros(2, 1000), LOG_W[:2], LOG_W[:2] * 1e4):
        ancestors = systematic_resampling(log_w, top)
        assert 0 <= int(ancestors.min()) <= int(ancestors.max()) < log_w.shape[1]
    assert torch.equal(
        systematic_resampling(torch.zeros(1, 9), torch.zeros(1))[0], torch.arange(9)
    )


def test_items_do_not_see_each_other():
    uniform = torch.rand(7, generator=generator(1), dtype=torch.float64)
    together = systematic_resampling(LOG_W, uniform)
    alone = [systematic_resampling(LOG_W[i : i + 1], uniform[i : i + 1]) for i in range(7)]
    assert torch.equal(together, torch.cat(alone))
    sick = LOG_W.clone()
    sick[2] = float("nan")
    kept = [0, 1, 3, 4, 5, 6]
    assert torch.equal(systematic_resampling(sick, uniform)[kept], together[kept])


# Every scheme.

SCHEMES = [Systematic(), Stratified(), Residual(), Multinomial()]
F64 = torch.float64


def numbers_for(scheme, rows: int, k: int, seed: int = 0):
    """Uniform numbers (rows,) or (rows, k), whichever the scheme asks for."""
    several = isinstance(scheme, (Stratified, Multinomial))
    return torch.rand((rows, k) if several else (rows,), generator=generator(seed), dtype=F64)


def integral(scheme, log_w, grid: int):
    """The mean counts over all uniform numbers, by midpoints; exact to 1/grid per number.

    The places of Stratified and Multinomial are independent: each number is moved alone, and a
    place's mean is that of one choice. Sorting does not change counts.
    """
    ticks = (torch.arange(grid, dtype=F64) + 0.5) / grid
    rows = log_w.expand(grid, -1)
    k = log_w.shape[1]
    several = isinstance(scheme, (Stratified, Multinomial))
    numbers = ticks[:, None].expand(grid, k) if several else ticks
    return counts(scheme(rows, Given(numbers))).mean(0)


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_counts_are_unbiased(scheme):
    expected = 16 * LOG_W[0].softmax(0)
    tolerance = 16 / 4000  # each of at most 16 numbers moves across an edge within one tick
    assert torch.allclose(integral(scheme, LOG_W[:1], 4000), expected, rtol=0, atol=tolerance)


class Rounded(Residual):
    """Gives what is left to the heaviest: biased."""

    def __call__(self, log_w, rng):
        k = log_w.shape[1]
        sure = torch.floor(k * log_w.softmax(1))
        sure[torch.arange(len(log_w)), log_w.argmax(1)] += k - sure.sum(1)
        return torch.repeat_interleave(torch.arange(k).repeat(len(log_w)),
                                       sure.flatten().long()).reshape(log_w.shape)  # fmt: skip


def test_bias_is_seen():
    expected = 16 * LOG_W[0].softmax(0)
    assert float((integral(Rounded(), LOG_W[:1], 10) - expected).abs().max()) > 0.3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_how_far_counts_stray(scheme, seed):
    """Floor or one more; Stratified one either side of that; Multinomial as it likes."""
    log_w = 3 * torch.randn(20, 16, generator=generator(seed), dtype=F64)
    ancestors = scheme(log_w, Given(numbers_for(scheme, 20, 16, seed + 100)))
    expected, chosen = 16 * log_w.softmax(1), counts(ancestors)
    assert ancestors.shape == (20, 16)
    assert (chosen.sum(1) == 16).all()
    assert (ancestors.diff() >= 0).all()
    gap = (chosen - expected).abs()
    if isinstance(scheme, (Systematic, Residual)):
        assert (gap < 1 + 1e-9).all()
    if isinstance(scheme, Residual):
        assert (chosen >= torch.floor(expected)).all()
    if isinstance(scheme, Stratified):
        assert (gap < 2 + 1e-9).all()


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_schemes_keep_equal_weights_and_stay_in_range(scheme):
    top, low = (torch.full((2,), value, dtype=F64) for value in (1 - 2**-53, 0.0))
    several = isinstance(scheme, (Stratified, Multinomial))
    for numbers in (top, low):
        given = Given(numbers[:, None].expand(2, 7) if several else numbers)
        for log_w in (torch.zeros(2, 7, dtype=F64), LOG_W[:2, :7], LOG_W[:2, :7] * 1e4):
            ancestors = scheme(log_w, given)
            assert 0 <= int(ancestors.min()) <= int(ancestors.max()) < 7
    if not isinstance(scheme, Multinomial):
        equal = scheme(torch.zeros(2, 7, dtype=F64), Given(numbers_for(scheme, 2, 7)))
        assert torch.equal(equal, torch.arange(7).expand(2, 7))


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_schemes_are_per_item(scheme):
    numbers = numbers_for(scheme, 7, 16)
    together = scheme(LOG_W, Given(numbers))
    alone = [scheme(LOG_W[i : i + 1], Given(numbers[i : i + 1])) for i in range(7)]
    assert torch.equal(together, torch.cat(alone))
    sick = LOG_W.clone()
    sick[2] = float("nan")
    kept = [0, 1, 3, 4, 5, 6]
    assert torch.equal(scheme(sick, Given(numbers))[kept], together[kept])
    assert eval(repr(scheme)) == scheme


# Resampling a state.


class State(NamedTuple):
    x: torch.Tensor
    mark: torch.Tensor
    log_w: torch.Tensor
    log_evidence: torch.Tensor


def state(k: int = 16) -> State:
    log_w = LOG_W[:, :k].flatten()
    rows = len(log_w)
    x = torch.arange(rows, dtype=F64)[:, None] * torch.ones(3, dtype=F64)
    return State(x, torch.arange(rows), log_w, torch.arange(7, dtype=F64).repeat_interleave(k))


@pytest.mark.parametrize("scheme", [None, *SCHEMES], ids=repr)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_resampling_keeps_the_evidence(scheme, threshold):
    """To rounding: what an item's weights lose, log_evidence gains."""
    before = state()
    after = resample(before, Rng(0, range(7), 16), threshold, scheme)
    low = effective_sample_size(LOG_W) < threshold * 16
    assert low.any() if threshold else not low.any()
    told = weight_info(after, 16)
    assert torch.allclose(
        told["log_evidence"], weight_info(before, 16)["log_evidence"], rtol=0, atol=1e-13
    )
    assert torch.allclose(told["log_evidence"], log_mean(LOG_W) + torch.arange(7), atol=1e-13)
    assert torch.equal(after.mark.double()[:, None].expand(-1, 3), after.x)  # fields move together
    assert torch.equal(after.mark.reshape(7, 16) // 16, torch.arange(7)[:, None].expand(7, 16))
    weights = after.log_w.reshape(7, 16)
    assert (weights[low] == 0).all()
    assert torch.equal(weights[~low], LOG_W[~low])
    assert torch.equal(after.mark.reshape(7, 16)[~low], before.mark.reshape(7, 16)[~low])
    assert torch.allclose(told["ess"][low], torch.tensor(16.0, dtype=F64))


# A particle filter with a known answer: x' = a x + noise of variance q, y = x + one of r.

A, Q, R = 0.9, 0.5, 0.3
Y = torch.tensor([0.3, -0.8, 1.1, 0.2, -0.5], dtype=F64)


def exact_log_evidence() -> float:
    """By the Kalman recursion."""
    mean, variance, total = 0.0, 1.0, 0.0
    for y in Y.tolist():
        mean, variance = A * mean, A**2 * variance + Q
        total += -0.5 * math.log(2 * math.pi * (variance + R)) - (y - mean) ** 2 / (
            2 * (variance + R)
        )
        gain = variance / (variance + R)
        mean, variance = mean + gain * (y - mean), (1 - gain) * variance
    return total


@dataclass(frozen=True)
class Dropped:
    """Forgets the weights that resampling absorbs."""

    scheme: Systematic = Systematic()  # noqa: RUF009


def filtered(scheme, items: int = 300, k: int = 24) -> torch.Tensor:
    """Independent estimates of the evidence itself, relative to the exact one, (items,)."""
    rng = Rng(1, range(items), k)
    x = rng.normal(torch.empty(items * k, 1, dtype=F64))
    zero = torch.zeros(items * k, dtype=F64)
    now = State(x, zero, zero, zero)
    for step, y in enumerate(Y):
        rng = rng.at(step + 1)
        drop = isinstance(scheme, Dropped)
        now = resample(now, rng, 0.5, Systematic() if drop else scheme)
        if drop:
            now = now._replace(log_evidence=zero)
        x = A * now.x + Q**0.5 * rng.normal(now.x)
        log_likelihood = -0.5 * math.log(2 * math.pi * R) - (y - x[:, 0]) ** 2 / (2 * R)
        now = now._replace(x=x, log_w=now.log_w + log_likelihood)
    return torch.exp(weight_info(now, k)["log_evidence"] - exact_log_evidence())


def deviation(estimates: torch.Tensor) -> float:
    """In standard errors of the mean of 300: beyond 4 by chance in 1 of 10000 runs."""
    return float((estimates.mean() - 1) / (estimates.std() / len(estimates) ** 0.5))


@pytest.mark.parametrize("scheme", SCHEMES, ids=repr)
def test_the_evidence_is_unbiased(scheme):
    estimates = filtered(scheme)
    assert abs(deviation(estimates)) < 4
    assert float(estimates.std()) < 0.6


def test_a_biased_filter_is_seen():
    assert abs(deviation(filtered(Rounded()))) > 4
    assert abs(deviation(filtered(Dropped()))) > 4
