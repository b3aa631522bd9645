"""The split into data and prior against dense linear algebra."""

import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from helpers import MEASURED, PIXELS, DenseOperator, Saturating, generator, small_problem
from torch import Tensor

from invdiff import Gaussian, Problem
from invdiff.operators import Inpainting, Operator
from invdiff.report import range_null, range_null_split

VARIANCE = 0.7


@dataclass(frozen=True, eq=False, repr=False)
class ComplexMatrix(Operator):
    """A complex matrix (1, m, n) of complex images."""

    matrix: Tensor

    @property
    def domain(self) -> tuple[int, ...]:
        return (self.matrix.shape[2],)

    @property
    def range(self) -> tuple[int, ...]:
        return (self.matrix.shape[1],)

    complex_domain = complex_range = True

    def _forward(self, x: Tensor) -> Tensor:
        return (self.matrix.to(x) @ x[..., None])[..., 0]

    def _adjoint(self, y: Tensor) -> Tensor:
        return (self.matrix.to(y).mH @ y[..., None])[..., 0]


@dataclass(frozen=True, eq=False, repr=False)
class Gappy(DenseOperator):
    """A matrix whose last measurement is missing."""

    @property
    def observed(self) -> Tensor:
        return torch.arange(self.matrix.shape[1])[None] < self.matrix.shape[1] - 1


def images(problem: Problem) -> Tensor:
    size = (len(problem), *problem.operator.domain)
    return torch.randn(size, generator=generator(5), dtype=torch.float64)


def dense_gain(problem: Problem, variance: float) -> Tensor:
    """G (b, n, n) by the singular value decomposition of the whitened matrix."""
    matrix = problem.precision.sqrt()[..., None] * problem.operator.matrix
    _, s, vh = torch.linalg.svd(matrix.expand(len(problem), -1, -1), full_matrices=False)
    gain = (
        (s > 1e-10).double() if math.isinf(variance) else variance * s**2 / (1 + variance * s**2)
    )
    return vh.mH @ (gain[..., None] * vh)


@pytest.fixture(params=["singular vectors", "conjugate gradients"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "conjugate gradients":
        monkeypatch.setattr(range_null, "small_singular_system", lambda problem: None)
    return request.param


@pytest.mark.parametrize("kind", [DenseOperator, Gappy])
@pytest.mark.parametrize("variance", [1e-4, VARIANCE, 1e8, math.inf])
def test_split_is_that_of_the_dense_decomposition(way: str, kind: type, variance: float) -> None:
    problem = small_problem(kind=kind)
    image, gain = images(problem), dense_gain(problem, variance)
    split = range_null_split(problem, image, variance, probes=1, tolerance=1e-13)
    expected = (gain @ image[..., None])[..., 0]
    # Rounding times the condition of 1 + v A* W A, some 1e10 at most in these.
    assert torch.allclose(split.data, expected, atol=1e-6 if variance == 1e8 else 1e-9)
    assert torch.allclose(split.data + split.prior, image, atol=1e-14)
    if way == "singular vectors":
        share = gain.diagonal(dim1=1, dim2=2)
        assert split.probes == 0
        assert torch.allclose(split.share, share, atol=1e-10)
        assert torch.allclose(split.fraction, share.mean(1), atol=1e-10)


def test_projection_is_that_of_the_pseudoinverse() -> None:
    problem = small_problem()
    image, matrix = images(problem), problem.operator.matrix
    expected = torch.linalg.pinv(matrix) @ matrix @ image[..., None]
    split = range_null_split(problem, image, math.inf)
    assert torch.allclose(split.data, expected[..., 0], atol=1e-10)
    # The data say nothing about the rest, and its dimension is what is left.
    assert problem.operator(split.prior).abs().max() < 1e-12
    assert torch.allclose(split.fraction, torch.full((3,), MEASURED / PIXELS).double())


def test_share_is_the_variance_that_the_data_remove() -> None:
    problem = small_problem()
    split = range_null_split(problem, images(problem), VARIANCE)
    matrix = problem.operator.matrix
    precision = torch.eye(PIXELS) / VARIANCE + matrix.mT @ (problem.precision[..., None] * matrix)
    left = torch.linalg.inv(precision).diagonal(dim1=1, dim2=2)
    assert torch.allclose(split.share, 1 - left / VARIANCE, atol=1e-12)


def test_noise_decides_what_the_data_determine() -> None:
    shares = [
        range_null_split(problem, images(problem), VARIANCE).fraction
        for problem in (small_problem(sigma=sigma) for sigma in (0.01, 0.3, 3.0, 100.0))
    ]
    assert all((a > b).all() for a, b in pairwise(shares))
    assert shares[-1].max() < 0.01


def test_complex_images() -> None:
    parts = torch.randn(2, 1, 4, 6, generator=generator(2), dtype=torch.float64)
    operator = ComplexMatrix(torch.complex(*parts))
    image = torch.complex(*torch.randn(2, 2, 6, generator=generator(3), dtype=torch.float64))
    problem = Problem(operator(image), operator, Gaussian(0.3))
    split = range_null_split(problem, image, VARIANCE, probes=4, tolerance=1e-13)
    gain = dense_gain(problem, VARIANCE)
    assert torch.allclose(split.data, (gain @ image[..., None])[..., 0], atol=1e-11)
    assert not split.share.is_complex()


def test_inpainting_needs_no_matrix() -> None:
    """G is diagonal, so that random signs give it exactly."""
    mask = (torch.rand(1, 1, 24, 17, generator=generator(0)) < 0.4).double()
    operator = Inpainting(mask)
    image = torch.randn(2, 1, 24, 17, generator=generator(1), dtype=torch.float64)
    split = range_null_split(Problem(operator(image), operator, Gaussian(0.5)), image, 2.0)
    gain = mask * 2.0 / (2.0 + 0.25)
    assert split.probes > 0
    assert torch.allclose(split.share, gain.expand_as(image), atol=1e-12)
    assert torch.allclose(split.data, gain * image, atol=1e-12)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-3])
def test_error_is_no_larger_than_the_residual(
    tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(range_null, "small_singular_system", lambda problem: None)
    problem = small_problem(sigma=0.02)
    image, gain = images(problem), dense_gain(problem, VARIANCE)
    split = range_null_split(problem, image, VARIANCE, probes=1, tolerance=tolerance)
    error = (split.data - (gain @ image[..., None])[..., 0]).norm(dim=1) / image.norm(dim=1)
    assert (error <= split.residual * (1 + 1e-9)).all()
    assert (split.residual <= tolerance).all()


def deviations(seed: int, probes: int = 512) -> Tensor:
    """Of the estimated shares, in units of their standard error, (3, 6)."""
    problem = small_problem()
    gain = dense_gain(problem, VARIANCE)
    split = range_null_split(problem, images(problem), VARIANCE, probes=probes, seed=seed)
    share = gain.diagonal(dim1=1, dim2=2)
    variance = gain.square().sum(2) - share.square()  # of one probe
    return (split.share - share).abs() / (variance / probes).sqrt()


def test_probes_estimate_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """18 numbers within 4.5 standard errors: a false alarm in 8000 seeds, and the seed is fixed.

    CG's error of 1 % at most adds less than 0.01 sqrt(512) = 0.23 to a norm over six pixels.
    """
    monkeypatch.setattr(range_null, "small_singular_system", lambda problem: None)
    assert deviations(0).max() < 4.5


def test_probes_that_are_not_random_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(range_null, "small_singular_system", lambda problem: None)
    monkeypatch.setattr(range_null.Rng, "signs", lambda self, like: torch.ones_like(like))
    assert deviations(0).max() > 4.5


def test_rows_do_not_mix(way: str) -> None:
    problem = small_problem()
    image = images(problem)
    whole = range_null_split(problem, image, VARIANCE, probes=2, tolerance=1e-12)
    last = problem.rows(torch.tensor([2]))
    alone = range_null_split(last, image[2:], VARIANCE, probes=2, tolerance=1e-12)
    assert torch.allclose(whole.data[2], alone.data[0], atol=1e-10)


def test_refusals() -> None:
    problem = small_problem()
    with pytest.raises(ValueError, match="positive variance"):
        range_null_split(problem, images(problem), 0.0)
    with pytest.raises(ValueError, match="at least 1 probe"):
        range_null_split(problem, images(problem), 1.0, probes=0)
    bent = small_problem(kind=Saturating)
    with pytest.raises(TypeError, match="not linear"):
        range_null_split(bent, images(bent), 1.0)
