"""Residuals and coverage: exact counts, and figures of draws whose law is known."""

import numpy as np
import pytest
import torch
from helpers import generator
from torch import Tensor

from invdiff import Gaussian, Problem, ShapeError
from invdiff.operators import Identity, Inpainting
from invdiff.report import Calibration, Residuals, interval_coverage, residual_statistics
from invdiff.report.residuals import EDGES

SIGMA, SIDE = 0.3, 100


def noisy(noise: Tensor) -> Residuals:
    """Residuals of the truth when this noise, of one item, is added to it."""
    operator = Identity(tuple(noise.shape[1:]))
    truth = torch.randn(noise.shape, generator=generator(1), dtype=torch.float64)
    return residual_statistics(Problem(truth + noise, operator, Gaussian(SIGMA)), truth)


def normal(seed: int = 0) -> Tensor:
    return torch.randn(1, 1, SIDE, SIDE, generator=generator(seed), dtype=torch.float64)


def scores(found: Residuals) -> np.ndarray:
    """Mean, deviation, tail and correlations, in units of their standard errors."""
    n, tail = found.numbers, 0.0026998
    return np.array(
        [
            found.mean * n**0.5,
            (found.deviation - 1) * (2 * n) ** 0.5,
            (found.beyond_3 - tail) / (tail / n) ** 0.5,
            *(value * n**0.5 for _, value in found.correlation),
        ]
    )


def test_right_noise_gives_standard_residuals() -> None:
    """Five figures within 4.5 standard errors: a false alarm in 30,000 seeds."""
    found = noisy(SIGMA * normal())
    assert found.numbers == SIDE**2
    assert [axis for axis, _ in found.correlation] == [1, 2]
    assert np.abs(scores(found)).max() < 4.5


@pytest.mark.parametrize("fault", ["level", "bias", "stripes", "tails"])
def test_wrong_noise_is_noticed(fault: str) -> None:
    n = normal()
    wrong = {
        "level": 1.1 * n,
        "bias": n + 0.1,
        "stripes": (n + n.roll(1, -1)) / 2**0.5,
        "tails": n * torch.where(normal(3) > 1.5, 2.0, 0.87),
    }
    assert np.abs(scores(noisy(SIGMA * wrong[fault]))).max() > 4.5


def test_only_what_was_measured_counts() -> None:
    mask = (torch.rand(1, 1, 20, 30, generator=generator(4)) < 0.5).double()
    operator = Inpainting(mask)
    y = torch.randn(1, 1, 20, 30, generator=generator(5), dtype=torch.float64)
    x = torch.randn(2, 1, 20, 30, generator=generator(6), dtype=torch.float64)
    found = residual_statistics(Problem(mask * y, operator, Gaussian(0.5)), x)
    r = ((mask * y - mask * x) / 0.5).numpy()
    seen = np.broadcast_to(mask.numpy() > 0, r.shape)
    assert found.numbers == seen.sum()
    assert np.isclose(found.mean, r[seen].mean())
    assert np.isclose(found.deviation, r[seen].std())
    pairs = [
        r[k, 0, i, j] * r[k, 0, i, j + 1]
        for k in range(2)
        for i in range(20)
        for j in range(29)
        if seen[k, 0, i, j] and seen[k, 0, i, j + 1]
    ]
    assert np.isclose(dict(found.correlation)[2], np.mean(pairs) / (r[seen] ** 2).mean())


def test_complex_numbers_count_twice_and_outliers_stay() -> None:
    operator = Identity((1, 3), is_complex=True)
    y = torch.tensor([[[1 + 100j, 0, 0.3j]]], dtype=torch.complex128)
    found = residual_statistics(Problem(y, operator, Gaussian(1.0)), torch.zeros_like(y))
    assert found.numbers == sum(found.counts) == 6
    assert found.counts[-1] == 1
    assert len(found.counts) == len(EDGES) - 1
    assert np.isclose(found.beyond_3, 1 / 6)


def coverage_scores(scale: float, k: int = 9, pixels: int = 20000) -> np.ndarray:
    rng = np.random.default_rng(0)
    points = interval_coverage(scale * rng.normal(size=(k, pixels)), rng.normal(size=pixels))
    nominal, observed = np.array(points).T
    assert np.allclose(nominal, [(k + 1 - 2 * i) / (k + 1) for i in (4, 3, 2, 1)])
    return (observed - nominal) / np.sqrt(nominal * (1 - nominal) / pixels)


def test_exchangeable_draws_are_covered_as_promised() -> None:
    """Four figures within 4.5 standard errors: a false alarm in 37,000 seeds."""
    assert np.abs(coverage_scores(1.0)).max() < 4.5


def test_narrow_and_wide_samples_are_noticed() -> None:
    assert coverage_scores(0.9).min() < -4.5
    assert coverage_scores(1.1).max() > 4.5


def test_an_equal_truth_is_inside() -> None:
    """Air that all samples and the truth agree on."""
    assert interval_coverage(np.zeros((4, 5)), np.zeros(5)) == ((0.2, 1.0), (0.6, 1.0))
    assert interval_coverage(np.zeros((4, 5)), np.ones(5)) == ((0.2, 0.0), (0.6, 0.0))


def test_refusals() -> None:
    with pytest.raises(ShapeError, match="k of at least 2"):
        interval_coverage(np.zeros((1, 5)), np.zeros(5))
    with pytest.raises(ShapeError, match="truth"):
        interval_coverage(np.zeros((3, 5)), np.zeros(4))
    with pytest.raises(ValueError, match="pairs in"):
        Calibration(((0.9, 1.2),), "none", 1.0, 3)
    with pytest.raises(ValueError, match="patients"):
        Calibration(((0.9, 0.9),), "none", 1.0, 0)
