"""Conjugate gradients: row by row, at any scale, for real and complex numbers."""

import pytest
import torch
from helpers import DenseOperator, generator

from invdiff import DDS, Gaussian, Problem
from invdiff.linalg import as_matrix, cg, expand, inner, squared_norm
from invdiff.operators import AsComplex, CartesianMRI, ParallelBeamCT, birdcage_maps

F64, C128 = torch.float64, torch.complex128


def definite(rows: int, size: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Hermitian matrices with condition numbers of about 100, another in every row."""
    root = torch.randn(rows, size, size, generator=generator(seed), dtype=dtype)
    return root @ root.mH / size + 0.1 * torch.eye(size, dtype=dtype)


def apply(matrix: torch.Tensor):
    return lambda x: (matrix @ x[..., None])[..., 0]


@pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
@pytest.mark.parametrize("scale", [1e-20, 1e-7, 1.0, 1e7])
def test_cg_against_a_dense_solve(dtype, scale):
    matrix = definite(4, 8, dtype)
    b = scale * torch.randn(4, 8, generator=generator(1), dtype=dtype)
    solved = cg(apply(matrix), b, tolerance=1e-12, iterations=50)
    expected = torch.linalg.solve(matrix, b)
    error = squared_norm(solved.x - expected).sqrt() / squared_norm(expected).sqrt()
    assert float(error.max()) < 1e-10
    assert float(solved.residual.max()) <= 1e-12


@pytest.mark.parametrize("scale", [1e-25, 1e-7, 1e7, 1e25])
def test_cg_scales_in_float32(scale):
    """Squares of 1e-25 underflow and of 1e25 overflow in float32."""
    matrix = definite(4, 8, torch.float32)
    b = torch.randn(4, 8, generator=generator(1))
    plain, scaled = cg(apply(matrix), b).x, cg(apply(matrix), scale * b).x
    error = squared_norm(scaled / scale - plain).sqrt() / squared_norm(plain).sqrt()
    assert float(error.max()) < 1e-4


def test_reported_residual_is_the_true_one():
    matrix = definite(3, 8, F64)
    b = torch.randn(3, 8, generator=generator(1), dtype=F64)
    solved = cg(apply(matrix), b, tolerance=0.0, iterations=4)
    true = squared_norm(b - apply(matrix)(solved.x)) / squared_norm(b)
    assert torch.allclose(solved.residual, true.sqrt(), rtol=1e-6)
    assert solved.iterations.tolist() == [4, 4, 4]


def test_a_row_is_solved_as_if_alone():
    """Rows of other difficulty and scale, one of them done at once, one of them broken."""
    matrix = definite(5, 8, F64)
    matrix[0] = torch.eye(8, dtype=F64)  # one iteration
    b = torch.randn(5, 8, generator=generator(1), dtype=F64)
    b[1] *= 1e-9
    b[2] = 0
    sick = b.clone()
    sick[4, 3] = float("nan")
    healthy, mixed = (cg(apply(matrix), one, tolerance=1e-8) for one in (b, sick))
    assert healthy.iterations[0] == 1
    assert healthy.iterations[2] == 0
    assert torch.equal(healthy.x[2], torch.zeros(8, dtype=F64))
    assert torch.equal(mixed.x[:4], healthy.x[:4])
    assert torch.isnan(mixed.x[4]).all()  # not the zero it began with
    for row in range(4):
        alone = cg(apply(matrix[row : row + 1]), b[row : row + 1], tolerance=1e-8)
        # A batched product of another shape rounds in another order.
        assert torch.allclose(alone.x[0], healthy.x[row], rtol=1e-12, atol=0)


def test_a_batch_wide_stopping_test_would_be_seen():
    """The same solver with one inner product for the batch misses the small row by its size."""
    matrix = definite(2, 8, F64)
    b = torch.randn(2, 8, generator=generator(1), dtype=F64)
    b[1] *= 1e-9
    x, r = torch.zeros_like(b), b.clone()
    p = r.clone()
    while r.norm() > 1e-8 * b.norm():
        step = r.norm() ** 2 / (p * apply(matrix)(p)).sum()
        x, before = x + step * p, r.norm() ** 2
        r = r - step * apply(matrix)(p)
        p = r + r.norm() ** 2 / before * p
    expected = torch.linalg.solve(matrix, b)
    errors = (x - expected).norm(dim=1) / expected.norm(dim=1)
    ours = (cg(apply(matrix), b, tolerance=1e-8).x - expected).norm(dim=1) / expected.norm(dim=1)
    assert float(errors[1]) > 1e-2 > 1e-5 > float(ours[1])


def test_starting_point():
    matrix = definite(3, 8, F64)
    b = torch.randn(3, 8, generator=generator(1), dtype=F64)
    expected = torch.linalg.solve(matrix, b)
    started = cg(apply(matrix), b, expected, tolerance=1e-9)
    assert started.iterations.tolist() == [0, 0, 0]
    assert torch.allclose(started.x, expected)


def test_indefinite_matrix_stops():
    """No negative curvature is followed: the row stays finite and says that it is unsolved."""
    matrix = torch.diag(torch.tensor([1.0, -1.0], dtype=F64))[None]
    solved = cg(apply(matrix), torch.tensor([[0.5, 1.0]], dtype=F64))
    assert torch.isfinite(solved.x).all()
    assert float(solved.residual) >= 1
    assert float(solved.iterations) == 0


def test_inner_products():
    a = torch.randn(2, 3, 4, generator=generator(0), dtype=C128)
    b = torch.randn(2, 3, 4, generator=generator(1), dtype=C128)
    expected = torch.stack(
        [torch.vdot(u.flatten(), v.flatten()).real for u, v in zip(a, b, strict=True)]
    )
    assert torch.allclose(inner(a, b), expected)
    assert torch.allclose(squared_norm(a), a.abs().square().sum((1, 2)))
    assert expand(torch.ones(2), a).shape == (2, 1, 1)


def test_as_matrix():
    matrix = torch.randn(3, 4, 6, generator=generator(0), dtype=F64)
    assert torch.equal(as_matrix(DenseOperator(matrix)), matrix)


# Regularised solves of whole problems, in raw units.


def mri():
    mask = torch.rand(1, 1, 8, 8, generator=generator(3)) < 0.6
    return CartesianMRI(birdcage_maps(4, 8, 8), mask.float()) @ AsComplex((1, 8, 8))


def ct():
    return ParallelBeamCT((8, 8), 6, 1.0)


@pytest.mark.parametrize("make", [mri, ct], ids=["multi-coil MRI", "CT"])
@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e7])
def test_regularised_solve_at_raw_scale(make, scale):
    """(A* A + s^2) x = A* y with data of 1e-7 (raw k-space) and 1e7, float32: error < 1e-4.

    The operator keeps its units, so image and right-hand side carry the scale. Float32 and
    a condition number below 1e3 leave 1e-4 when the relative residual is 1e-6.
    """
    operator, weight = make(), 1.0
    a = as_matrix(operator)[0]
    x = torch.randn(2, *operator.domain, generator=generator(4))
    y = scale * operator(x)
    b = operator.adjoint(y)
    solved = cg(
        lambda u: operator.adjoint(operator(u)) + weight * u, b, tolerance=1e-6, iterations=200
    )
    flat = torch.cat([y.flatten(1).real, y.flatten(1).imag], 1) if y.is_complex() else y.flatten(1)
    normal = a.T @ a + weight * torch.eye(a.shape[1], dtype=F64)
    expected = torch.linalg.solve(normal, (flat.double() @ a).T).T
    error = (solved.x.flatten(1) - expected).norm(dim=1) / expected.norm(dim=1)
    assert float(error.max()) < 1e-4


@pytest.mark.parametrize("make", [mri, ct], ids=["multi-coil MRI", "CT"])
@pytest.mark.parametrize("scale", [1e-7, 1.0, 1e7])
def test_dds_proximal_step_at_raw_scale(make, scale):
    """DDS's step with y, A and sigma in other units: the image must not notice, to 1e-4."""
    operator, sampler = make(), DDS(cg_iterations=200, cg_tolerance=1e-6)
    x = torch.randn(2, *operator.domain, generator=generator(4))
    clean = operator(x)
    noise = torch.randn(clean.shape, generator=generator(5), dtype=clean.dtype)
    problem = Problem(scale * (clean + 0.1 * noise), scale * operator, Gaussian(0.1 * scale))
    x0 = torch.randn(2, *operator.domain, generator=generator(6))
    variance = torch.tensor(0.02, dtype=F64)
    found = sampler._proximal(x0, variance, problem).flatten(1)
    size = x[0].numel()
    a = as_matrix(operator)[0]
    y = (clean + 0.1 * noise).flatten(1)
    flat = torch.cat([y.real, y.imag], 1) if y.is_complex() else y
    observed = operator.observed
    weight = torch.ones(a.shape[0], dtype=F64)
    if observed is not None:
        seen = torch.broadcast_to(observed, clean.shape)[0].flatten().double()
        weight = torch.cat([seen, seen])
    weight = weight / 0.01
    normal = a.T @ (weight[:, None] * a) + torch.eye(size, dtype=F64) / 0.02
    right = (weight * flat.double()) @ a + x0.flatten(1).double() / 0.02
    expected = torch.linalg.solve(normal, right.T).T
    error = (found - expected).norm(dim=1) / expected.norm(dim=1)
    assert float(error.max()) < 1e-4
