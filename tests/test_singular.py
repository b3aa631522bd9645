"""The singular system against torch.linalg.svd and dense algebra.

Tolerances: 1e-10 for float64, where sums of at most 200 products round by 1e-14.
"""

from dataclasses import replace

import pytest
import torch
from helpers import DenseOperator, Saturating, generator, small_problem

from invdiff import Gaussian, Problem, singular
from invdiff.linalg import as_matrix
from invdiff.metering import MeteredOperator
from invdiff.operators import (
    AsComplex,
    CartesianMRI,
    Identity,
    Inpainting,
    Matrix,
    MeanPooling,
    birdcage_maps,
)
from invdiff.singular import singular_system, small_singular_system
from invdiff.singular_vectors import Dense, RowOrthogonal, SingularSystem

TOLERANCE = 1e-10


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def problem_of(operator, rows=3, sigma=0.3, seed=1) -> Problem:
    x = normal(rows, *operator.domain, seed=seed)
    clean = operator(x)
    noise = normal(*clean.shape, seed=seed + 1)
    y = clean + 0.3 * noise
    if operator.observed is not None:
        y = y * operator.observed
    return Problem(y, operator, Gaussian(sigma))


def single_coil(size=6):
    mask = torch.zeros(1, 1, size, size)
    mask[..., ::2] = 1
    maps = torch.ones(1, 1, size, size, dtype=torch.complex128)
    return CartesianMRI(maps, mask) @ AsComplex((1, size, size))


def multi_coil(size=6):
    mask = torch.zeros(1, 1, size, size)
    mask[..., ::2] = 1
    maps = birdcage_maps(3, size, size).to(torch.complex128)
    return CartesianMRI(maps, mask) @ AsComplex((1, size, size))


def uneven(*shape: int) -> torch.Tensor:
    """Another noise level for every number."""
    return 0.1 + normal(*shape, seed=9).abs()


CASES = {
    "identity": (lambda: problem_of(Identity((2, 4, 4))), RowOrthogonal),
    "inpainting": (lambda: problem_of(Inpainting.random((1, 5, 5), 0.4, seed=3)), RowOrthogonal),
    "inpainting-uneven": (
        lambda: problem_of(Inpainting.random((1, 5, 5), 0.4, seed=3), sigma=uneven(3, 1, 5, 5)),
        RowOrthogonal,
    ),
    "pooling": (lambda: problem_of(MeanPooling((2, 6, 6), 3)), RowOrthogonal),
    "pooling-uneven": (
        lambda: problem_of(MeanPooling((2, 6, 6), 3), sigma=uneven(1, 2, 2, 2)),
        RowOrthogonal,
    ),
    "fourier": (lambda: problem_of(single_coil()), RowOrthogonal),
    "coils": (lambda: problem_of(multi_coil()), Dense),
    "matrix": (lambda: problem_of(Matrix(normal(1, 8, 16))), Dense),
    "matrix-uneven": (lambda: problem_of(Matrix(normal(1, 8, 16)), sigma=uneven(3, 8)), Dense),
    "tall": (lambda: problem_of(Matrix(normal(1, 12, 5))), Dense),
    "low-rank": (
        lambda: problem_of(Matrix(normal(1, 8, 3) @ normal(1, 3, 16, seed=4))),
        Dense,
    ),
    "per-item": (small_problem, Dense),
}


def whitened(problem: Problem) -> torch.Tensor:
    """W^{1/2} A, (b, m, n)."""
    root = problem.precision.expand(problem.y.shape).flatten(1).sqrt()
    if problem.y.is_complex():
        root = torch.cat([root, root], 1)
    return root[..., None] * as_matrix(problem.operator)


def assert_decomposes(problem: Problem, system: SingularSystem) -> None:
    """B = U S V*: through every function of it that a sampler can use."""
    b = whitened(problem)
    rows, shape = len(problem), problem.operator.domain
    expected = torch.linalg.svdvals(b)
    found = system.values.expand(rows, -1).sort(1, descending=True).values
    length = min(found.shape[1], expected.shape[1])
    assert float((found[:, :length] - expected[:, :length]).abs().max()) < TOLERANCE
    assert float(found[:, length:].abs().sum()) == 0
    x = normal(rows, *shape, seed=5)
    flat = x.flatten(1)[..., None]
    normal_image = system.lift(system.values**2 * system.project(x))  # B* B x
    assert float((normal_image.flatten(1) - (b.mT @ b @ flat)[..., 0]).abs().max()) < 1e-8
    residual = problem.residual(x)
    pull = system.lift(system.values * system.residual(x))  # A* W (y - A x)
    direct = problem.operator.adjoint(problem.precision * residual)
    assert float((pull - direct).abs().max()) < 1e-8
    solved = system.lift(system.inverse() * system.residual(x))
    center = problem.center.flatten(1)
    center = torch.cat([center.real, center.imag], 1) if center.is_complex() else center
    root = problem.precision.expand(problem.y.shape).flatten(1).sqrt()
    root = torch.cat([root, root], 1) if problem.y.is_complex() else root
    white = (root * center)[..., None] - b @ flat
    pseudo = (torch.linalg.pinv(b, rtol=1e-10) @ white)[..., 0]
    assert float((solved.flatten(1) - pseudo).abs().max()) < 1e-8
    # Where the values are positive, the vectors are orthonormal.
    seen = (system.values > 0).expand(rows, -1)
    c = normal(*seen.shape, seed=6) * seen
    back = system.project(system.lift(c)) * seen
    assert float((back - c).abs().max()) < TOLERANCE


@pytest.mark.parametrize("name", CASES)
def test_against_dense_algebra(name):
    make, kind = CASES[name]
    problem = make()
    system = singular_system(problem)
    assert isinstance(system, kind)
    assert_decomposes(problem, system)


class Shrunk(RowOrthogonal):
    """Forgets that rows of an average have not length one."""

    def project(self, x):
        return 1.01 * super().project(x)


def test_a_wrong_system_is_seen():
    problem = problem_of(MeanPooling((2, 6, 6), 3))
    good = singular_system(problem)
    with pytest.raises(AssertionError):
        assert_decomposes(problem, Shrunk(good.values, good.data, good.operator, good.scale))
    dense = singular_system(small_problem())
    with pytest.raises(AssertionError):
        assert_decomposes(small_problem(), replace(dense, vectors=dense.vectors.roll(1, 1)))


def test_rows_share_what_is_equal():
    problem = small_problem().rows(torch.arange(3).repeat_interleave(4))
    system = singular_system(problem)
    assert system.vectors.shape[0] == 3
    assert_decomposes(problem, system)
    irregular = small_problem().rows(torch.tensor([0, 0, 1, 2, 2]))
    assert singular_system(irregular).vectors.shape[0] == 5
    assert_decomposes(irregular, singular_system(irregular))
    shared = problem_of(Matrix(normal(1, 8, 16)), rows=5)
    assert singular_system(shared).vectors.shape[0] == 1


def test_computed_once_and_counted():
    problem = small_problem()
    metered = MeteredOperator(problem.operator)
    problem = replace(problem, operator=metered)
    system = singular_system(problem)
    # Two probes forth and back for each of 3 rows; then 6 columns of 3 matrices.
    assert metered.counts == {"forward": 2 * 3 + 6 * 3, "adjoint": 2 * 3}
    assert singular_system(problem) is system
    assert metered.counts["forward"] == 24


def test_nan_stays_in_its_row():
    problem = small_problem()
    matrix = problem.operator.matrix.clone()
    matrix[1, 0, 0] = float("nan")
    sick = singular_system(replace(problem, operator=DenseOperator(matrix)))
    well = singular_system(problem)
    assert torch.isnan(sick.values[1]).all()
    gap = (sick.values - well.values)[[0, 2]].abs().max()
    assert float(gap) < TOLERANCE


def test_single_precision():
    problem = small_problem(dtype=torch.float32)
    system = singular_system(problem)
    x = torch.ones(3, 6)
    assert system.project(x).dtype == system.values.dtype == system.data.dtype == torch.float32


def test_what_it_refuses(monkeypatch):
    with pytest.raises(TypeError, match="must be linear"):
        singular_system(small_problem(kind=Saturating))
    large = problem_of(Matrix(normal(1, 40, 30)), rows=2)
    monkeypatch.setattr(singular, "SMALL", 10_000)
    assert small_singular_system(large) is None
    monkeypatch.setattr(singular, "LIMIT", 20_000)
    with pytest.raises(ValueError, match=r"\(40,\) x \(30,\) numbers.*conjugate gradients"):
        singular_system(large)
    monkeypatch.setattr(singular, "LIMIT", 50_000)
    assert singular_system(large) is small_singular_system(large)  # known by now
