"""What computes: the choice, the agreement of backends, derivatives, batches, threads, guards."""

import math
import threading

import pytest
import torch

from invdiff.operators import (
    AstraCPU,
    AstraCUDA,
    CTOperator,
    Geometry,
    ParallelBeamCT,
    Projection,
    SystemMatrix,
)
from invdiff.operators.ct_astra import check_filled, unfilled

STRIP = Projection.STRIP
PARALLEL = Geometry.parallel((24, 31), 11, pixel_size=0.7, detector_spacing=0.9, start=0.02)
FAN = Geometry.fan(
    (24, 31), 11, pixel_size=0.7, source_to_axis=60.0, source_to_detector=100.0, lateral_shift=1.0
)
ARC = Geometry.fan(
    (24, 31), 11, pixel_size=0.7, source_to_axis=60.0, source_to_detector=100.0, arc=True
)
OBLONG = Geometry.parallel((24, 31), 11, pixel_size=(0.7, 0.8))
CONE = Geometry.cone(
    *((6, 8, 7), 5),
    pixel_size=1.0,
    source_to_axis=60.0,
    source_to_detector=100.0,
    detectors=(5, 9),
    detector_spacing=(2.0, 2.0),
)
OPERATORS = {
    "matrix-parallel": CTOperator(PARALLEL),
    "matrix-strip": CTOperator(PARALLEL, STRIP),
    "matrix-fan": CTOperator(FAN),
    "matrix-arc-strip": CTOperator(ARC, STRIP),
    "matrix-cone": CTOperator(CONE),
    "astra-parallel": CTOperator(PARALLEL, backend=AstraCPU()),
    "astra-strip": CTOperator(PARALLEL, STRIP, AstraCPU()),
    "astra-fan": CTOperator(FAN, backend=AstraCPU()),
}


@pytest.fixture(params=OPERATORS)
def operator(request):
    return OPERATORS[request.param]


def draw(shape, rows, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, *shape, generator=generator, dtype=dtype)


def smooth(geometry):
    """A Gaussian bump off the centre, (1, 1, rows, columns)."""
    y, x = torch.meshgrid(torch.arange(24) - 9.0, torch.arange(31) - 17.0, indexing="ij")
    return torch.exp(-(x**2 + y**2) / 30)[None, None]


# ASTRA adds up positions in float32; of a fan it has another kernel, equal on smooth images only.
@pytest.mark.parametrize(
    ("geometry", "kernel", "tolerance", "smooth_tolerance"),
    [
        pytest.param(PARALLEL, Projection.LINEAR, 1e-4, 1e-5, id="parallel"),
        pytest.param(PARALLEL, STRIP, 1e-4, 1e-5, id="strip"),
        pytest.param(FAN, Projection.LINEAR, None, 0.02, id="fan"),
    ],
)
def test_backends_agree(geometry, kernel, tolerance, smooth_tolerance):
    matrix, astra = CTOperator(geometry, kernel), CTOperator(geometry, kernel, AstraCPU())
    x, y = smooth(geometry), draw(matrix.range, 2)
    gap = matrix(x) - astra(x)
    assert gap.norm() < smooth_tolerance * matrix(x).norm()
    if tolerance is not None:
        noise = draw(matrix.domain, 2)
        assert (matrix(noise) - astra(noise)).abs().max() < tolerance * matrix(noise).abs().max()
        gap = matrix.adjoint(y) - astra.adjoint(y)
        assert gap.abs().max() < tolerance * matrix.adjoint(y).abs().max()


def test_adjoint_against_the_dense_matrix(operator):
    """Column by column; the adjoint is its transpose, on noise."""
    n = math.prod(operator.domain)
    columns = torch.cat([operator(one) for one in torch.eye(n).reshape(n, 1, *operator.domain)])
    dense = columns.flatten(1)  # (n, m)
    y = draw(operator.range, 3)
    expected = y.flatten(1) @ dense.T
    gap = operator.adjoint(y).flatten(1) - expected
    assert gap.abs().max() < 2e-6 * expected.abs().max()


def test_a_batch_is_bitwise_its_rows(operator):
    x = draw(operator.domain, 5)
    y = operator(x)
    for row in range(5):
        assert torch.equal(operator(x[row : row + 1])[0], y[row])
        assert torch.equal(operator.adjoint(y[row : row + 1])[0], operator.adjoint(y)[row])


def test_rows_do_not_leak(operator):
    x = torch.zeros(4, *operator.domain)
    x[2] = draw(operator.domain, 1)[0]
    y = operator(x)
    back = operator.adjoint(y)
    for row in (0, 1, 3):
        assert y[row].abs().max() == 0
        assert back[row].abs().max() == 0
    assert y[2].abs().max() > 0


def test_strided_and_empty_batches(operator):
    x = draw(operator.domain, 6)
    assert torch.equal(operator(x[::2]), operator(x[::2].contiguous()))
    turned = x.transpose(-1, -2).contiguous().transpose(-1, -2)
    assert torch.equal(operator(turned), operator(x))
    assert operator(x[:0]).shape == (0, *operator.range)
    assert operator.adjoint(operator(x[:0])).shape == (0, *operator.domain)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # by jvp
def test_derivatives(operator):
    x, u = draw(operator.domain, 2), draw(operator.range, 2)
    leaf = x.clone().requires_grad_(True)
    value = operator(leaf)
    (gradient,) = torch.autograd.grad(value, leaf, u, create_graph=True)
    assert torch.equal(gradient, operator.adjoint(u))
    (twice,) = torch.autograd.grad(operator(leaf).square().sum(), leaf, create_graph=True)
    (third,) = torch.autograd.grad(twice, leaf, x)
    expected = 2 * operator.adjoint(operator(x))
    assert (third - expected).abs().max() <= 1e-5 * expected.abs().max()
    value, tangent = torch.func.jvp(operator, (x,), (2 * x,))
    assert torch.allclose(tangent, 2 * value, rtol=1e-5, atol=1e-5)
    (back,) = torch.func.vjp(operator, x)[1](u)
    assert torch.equal(back, operator.adjoint(u))
    one_by_one = torch.func.vmap(lambda image: operator(image[None])[0])(x)
    assert torch.equal(one_by_one, value)
    along = torch.func.vmap(lambda image: operator(image), in_dims=1, out_dims=1)(x[:, None])
    assert torch.equal(along[:, 0], value)
    jacobian = torch.func.jacrev(lambda image: (operator(image) * u[:1]).sum())(x[:1])
    assert torch.equal(jacobian, operator.adjoint(u[:1]))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # by jvp
@pytest.mark.parametrize("geometry", [PARALLEL, FAN, CONE], ids=["parallel", "fan", "cone"])
def test_gradcheck(geometry):
    """Second derivatives in float64, where the matrix computes in float64."""
    small = Geometry(
        tuple(4 for _ in geometry.image_shape),
        *(geometry.pixel_size, tuple(3 for _ in geometry.detectors), geometry.beam),
        geometry.vectors[:2],
    )
    A = CTOperator(small)
    x = draw(A.domain, 2, dtype=torch.float64).requires_grad_(True)
    assert torch.autograd.gradcheck(A, (x,))
    assert torch.autograd.gradgradcheck(lambda x: A(x).square(), (x,))


@pytest.mark.parametrize("backend", [SystemMatrix(), AstraCPU()], ids=repr)
def test_threads_do_not_disturb_each_other(backend):
    """Two geometries in eight threads at once, bitwise what they give alone."""
    operators = [CTOperator(g, backend=backend) for g in (PARALLEL, FAN)]
    x = draw(operators[0].domain, 3)
    expected = [A.adjoint(A(x)) for A in operators]
    found: dict[int, bool] = {}

    def work(k):
        A, right = operators[k % 2], expected[k % 2]
        found[k] = all(torch.equal(A.adjoint(A(x)), right) for _ in range(5))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == dict.fromkeys(range(8), True)


def test_several_threads_give_the_same(monkeypatch):
    """ASTRA's rows are spread over as many threads as torch has."""
    A = CTOperator(PARALLEL, backend=AstraCPU())
    x = draw(A.domain, 5)
    alone = A(x)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(A(x), alone)


def test_the_choice(monkeypatch):
    small = ParallelBeamCT((12, 12), 3, 1.0)
    assert small.chosen() == SystemMatrix()
    assert small.chosen("cuda") == SystemMatrix()
    assert small.adjoint_exact
    assert "SystemMatrix() on cpu, adjoint exact, about" in small.describe()
    monkeypatch.setenv("INVDIFF_MATRIX_BYTES", "1000")
    assert small.chosen() == AstraCPU()
    assert small.chosen("cuda") == AstraCUDA()
    assert "AstraCPU() on cpu, adjoint exact" in small.describe()
    assert "AstraCUDA() on cuda, adjoint not exact" in small.describe("cuda")
    assert small.adjoint_exact == (not torch.cuda.is_available())
    assert small(torch.ones(1, 1, 12, 12)).sum() > 0
    for geometry in (ARC, CONE):  # neither fits, and ASTRA has none of them here
        with pytest.raises(ValueError, match=r"No backend on cpu.*INVDIFF_MATRIX_BYTES"):
            CTOperator(geometry)(torch.ones(1, 1, *geometry.image_shape))
    assert CTOperator(CONE).chosen("cuda") == AstraCUDA()


def test_the_choice_can_be_overridden():
    A = ParallelBeamCT((12, 12), 3, 1.0, backend=AstraCPU())
    assert A.chosen() == A.chosen("cuda") == AstraCPU()
    assert eval(repr(A)) == A
    assert A != ParallelBeamCT((12, 12), 3, 1.0)
    assert not ParallelBeamCT((12, 12), 3, 1.0, backend=AstraCUDA()).adjoint_exact


def test_the_matrix_budget_is_checked_first(monkeypatch):
    monkeypatch.setenv("INVDIFF_MATRIX_BYTES", "1000")
    with pytest.raises(ValueError, match="INVDIFF_MATRIX_BYTES"):
        CTOperator(PARALLEL, backend=SystemMatrix())


@pytest.mark.parametrize(
    ("geometry", "kernel", "backend", "message"),
    [
        pytest.param(CONE, STRIP, SystemMatrix(), "LINEAR", id="matrix-volume-strip"),
        pytest.param(CONE, Projection.LINEAR, AstraCPU(), "AstraCUDA", id="cpu-volume"),
        pytest.param(ARC, Projection.LINEAR, AstraCPU(), "flat", id="cpu-arc"),
        pytest.param(FAN, STRIP, AstraCPU(), "SystemMatrix", id="cpu-fan-strip"),
        pytest.param(OBLONG, Projection.LINEAR, AstraCPU(), "square", id="cpu-oblong"),
        pytest.param(OBLONG, STRIP, AstraCPU(), "square", id="cpu-oblong-strip"),
        pytest.param(PARALLEL, STRIP, AstraCUDA(), "strips", id="cuda-strip"),
        pytest.param(ARC, Projection.LINEAR, AstraCUDA(), "flat", id="cuda-arc"),
        pytest.param(OBLONG, Projection.LINEAR, AstraCUDA(), "square", id="cuda-oblong"),
    ],
)
def test_refusals(geometry, kernel, backend, message):
    with pytest.raises(ValueError, match=message):
        CTOperator(geometry, kernel, backend)


def test_nan_is_seen_where_astra_wrote_nothing():
    source = torch.ones(3, 2, 2)
    result = unfilled((3, 4, 5), source.device)
    assert result.isnan().all()
    with pytest.raises(RuntimeError, match="3 of 3"):
        check_filled(result, source)
    result[:] = 0
    check_filled(result, source)
    result[1] = torch.nan
    with pytest.raises(RuntimeError, match="1 of 3"):
        check_filled(result, source)
    source[1, 0, 0] = torch.inf  # a diverged row is reported by who knows what it is
    check_filled(result, source)


def test_a_silent_failure_of_astra_is_not_silent(monkeypatch):
    import astra

    A = CTOperator(PARALLEL, backend=AstraCPU())
    monkeypatch.setattr(astra.projector, "direct_FP", lambda *_, out: out)
    with pytest.raises(RuntimeError, match="unwritten"):
        A(draw(A.domain, 2))


def test_diverged_rows_pass_through(operator):
    x = draw(operator.domain, 2)
    x[1] = torch.nan
    y = operator(x)
    assert y[0].isfinite().all()
    assert y[1].isnan().any()
