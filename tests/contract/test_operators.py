"""What every operator must hold, whatever it measures."""

import math
import pickle

import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.linalg import inner
from invdiff.operators import (
    AsComplex,
    AstraCPU,
    Bicubic,
    BicubicProtocol,
    Blur,
    Boundary,
    CartesianMRI,
    CTOperator,
    FromDeepinv,
    Geometry,
    Identity,
    Inpainting,
    MeanPooling,
    NonCartesianMRI,
    Operator,
    ParallelBeamCT,
    Projection,
    birdcage_maps,
    gaussian_kernel,
    motion_kernel,
    radial_trajectory,
    space_varying_blur,
    spiral_trajectory,
)

ROWS = 3


def mri(items: int = 1) -> CartesianMRI:
    generator = torch.Generator().manual_seed(3)
    maps = birdcage_maps(4, 7, 10)
    if items > 1:
        maps = maps * torch.rand(items, 4, 1, 1, generator=generator)
    return CartesianMRI(maps, (torch.rand(items, 1, 7, 10, generator=generator) < 0.5).float())


def mri_volume(items: int = 1) -> CartesianMRI:
    """Complete readouts along the rows of each slice, coils two at a time."""
    generator = torch.Generator().manual_seed(5)
    maps = torch.randn(1, 3, 5, 4, 6, generator=generator, dtype=torch.complex64)
    mask = (torch.rand(items, 1, 5, 1, 6, generator=generator) < 0.5).expand(items, 1, 5, 4, 6)
    return CartesianMRI(maps, mask, coil_chunk=2)


def mri_sets(items: int = 1) -> CartesianMRI:
    generator = torch.Generator().manual_seed(6)
    maps = torch.randn(items, 2, 4, 7, 10, generator=generator, dtype=torch.complex64)
    return CartesianMRI(maps, torch.rand(1, 1, 7, 10, generator=generator) < 0.5)


def non_cartesian(items: int = 1) -> NonCartesianMRI:
    maps = birdcage_maps(4, 7, 10)
    if items == 1:
        return NonCartesianMRI(maps, spiral_trajectory(2, 30, 2))
    scales = torch.linspace(0.5, 1, items, dtype=torch.float64)
    return NonCartesianMRI(maps, scales[:, None, None, None] * radial_trajectory(5, 12))


def random_mask(items: int) -> Inpainting:
    generator = torch.Generator().manual_seed(4)
    return Inpainting(torch.rand(items, 2, 7, 10, generator=generator) < 0.5)


def blur() -> FromDeepinv:
    import deepinv

    kernel = torch.tensor([[0.0, 0.1, 0.2], [0.3, 0.2, 0.0], [0.1, 0.1, 0.0]])
    return FromDeepinv(deepinv.physics.Blur(kernel[None, None], padding="circular"), (1, 8, 8))


def motion_blur() -> Blur:
    kernels = torch.cat([motion_kernel(7, 4, (1, item)) for item in range(ROWS)])
    return Blur((2, 8, 12), kernels, Boundary.REFLECT)


def lens() -> FromDeepinv:
    kernels = torch.cat([gaussian_kernel((s, 0.6)).float() for s in (0.7, 0.75, 0.8, 0.85)])
    return space_varying_blur((2, 9, 12), kernels.reshape(2, 2, 7, 5), Boundary.VALID)


SCANNER = {"pixel_size": 0.8, "source_to_axis": 40.0, "source_to_detector": 60.0}
PANEL = {"detectors": (5, 9), "detector_spacing": (1.1, 1.3)}
MAKERS = {
    "identity": lambda: Identity((2, 5, 6)),
    "identity-complex": lambda: Identity((1, 5, 6), is_complex=True),
    "inpainting": lambda: random_mask(1),
    "inpainting-items": lambda: random_mask(ROWS),
    "mean-pooling": lambda: MeanPooling((2, 8, 12), 4),
    "bicubic": lambda: Bicubic((2, 8, 12), 2),
    "bicubic-ddrm": lambda: Bicubic((2, 9, 12), 3, BicubicProtocol.DDRM),
    "bicubic-torch": lambda: Bicubic((2, 8, 12), 2, BicubicProtocol.TORCH),
    "blur-circular": lambda: Blur((2, 8, 12), gaussian_kernel(0.8), Boundary.CIRCULAR),
    "blur-items": motion_blur,
    "blur-valid": lambda: Blur((2, 8, 12), motion_kernel(7, 4, 1), Boundary.VALID),
    "blur-zero": lambda: Blur((2, 8, 12), gaussian_kernel((0.5, 1.3)), Boundary.ZERO),
    "ct-linear": lambda: ParallelBeamCT((9, 12), 7, 0.8, detector_spacing=1.1),
    "ct-strip": lambda: ParallelBeamCT((9, 12), (0.1, 0.5, 2.0), 0.8, kernel=Projection.STRIP),
    "ct-oblong": lambda: CTOperator(Geometry.parallel((9, 12), 7, pixel_size=(0.8, 1.1))),
    "ct-fan": lambda: CTOperator(Geometry.fan((9, 12), 7, **SCANNER)),
    "ct-fan-arc": lambda: CTOperator(Geometry.fan((9, 12), 7, **SCANNER, arc=True)),
    "ct-cone": lambda: CTOperator(Geometry.cone((4, 5, 6), 7, **SCANNER, **PANEL)),
    "ct-helical": lambda: CTOperator(
        Geometry.helical((4, 5, 6), 9, turns=1.5, pitch=2.0, **SCANNER, **PANEL)
    ),
    "ct-astra-cpu": lambda: ParallelBeamCT((9, 12), 7, 0.8, backend=AstraCPU()),
    "mri": mri,
    "mri-items": lambda: mri(ROWS),
    "mri-sets": lambda: mri_sets(ROWS),
    "mri-volume": mri_volume,
    "mri-volume-items": lambda: mri_volume(ROWS),
    "mri-spiral": non_cartesian,
    "mri-radial-items": lambda: non_cartesian(ROWS),
    "as-complex": lambda: AsComplex((1, 7, 10)),
    "mri-real": lambda: mri(ROWS) @ AsComplex((1, 7, 10)),
    "scaled": lambda: 2.5 * Bicubic((2, 8, 12), 2),
    "composed": lambda: MeanPooling((2, 4, 6), 2) @ Bicubic((2, 8, 12), 2),
    "adjoint": lambda: ParallelBeamCT((9, 12), 7, 0.8).H,
    "deepinv": blur,
    "deepinv-space-varying": lens,
}
REBUILT = (
    *("identity", "identity-complex", "mean-pooling", "bicubic"),
    *("ct-linear", "ct-strip", "ct-astra-cpu"),
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Matrices that these tests build stay out of the user's cache."""
    monkeypatch.setenv("INVDIFF_CACHE", str(tmp_path))


@pytest.fixture(params=MAKERS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def operator(name: str) -> Operator:
    return MAKERS[name]()


def draw(shape, is_complex, dtype=torch.float32, rows=ROWS, seed=0):
    """Zero-mean vectors: with positive ones a wrong adjoint goes unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    dtype = (
        (torch.complex64 if dtype == torch.float32 else torch.complex128) if is_complex else dtype
    )
    return torch.randn(rows, *shape, generator=generator, dtype=dtype)


def image(operator, dtype=torch.float32, seed=0):
    return draw(operator.domain, operator.complex_domain, dtype, seed=seed)


def measurement(operator, dtype=torch.float32, seed=1):
    return draw(operator.range, operator.complex_range, dtype, seed=seed)


def rounding(operator) -> float:
    """Of float64 data. ASTRA computes in float32, whatever the data; all else in their type."""
    return 1e-6 if getattr(operator, "backend", None) == AstraCPU() else 1e-12


# Rounding of a sum of a few hundred products, relative to the norms: 1e-7 and 1e-16 times a few.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_adjoint_is_the_adjoint(operator, dtype, tolerance):
    x, y = image(operator, dtype), measurement(operator, dtype)
    forward, back = operator(x), operator.adjoint(y)
    if operator.complex_domain == operator.complex_range:
        left = (forward.conj() * y).flatten(1).sum(1)
        right = (x.conj() * back).flatten(1).sum(1)
    else:  # linear over the reals only
        left, right = inner(forward, y), inner(x, back)
    scale = forward.flatten(1).norm(dim=1) * y.flatten(1).norm(dim=1)
    assert scale.min() > 0
    assert ((left - right).abs() / scale).max() <= max(tolerance, rounding(operator))
    assert operator.adjoint_exact


def test_normal_map_is_the_adjoint_of_the_weighted_forward(operator):
    """With one weight, with one per row, and with one per number, some of them zero."""
    x = image(operator, torch.float64)
    generator = torch.Generator().manual_seed(7)
    every = torch.rand(ROWS, *operator.range, generator=generator, dtype=torch.float64)
    each = every.flatten(1)[:, :1].reshape(-1, *[1] * len(operator.range))
    for weight in (
        torch.ones_like(every),
        2.5 * torch.ones_like(each[:1]),
        each,
        (every - 0.3).relu(),
    ):
        expected = operator.adjoint(weight * operator(x))
        found = operator.normal(weight)(x)
        assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


def test_is_linear(operator):
    a, b = image(operator, torch.float64), image(operator, torch.float64, seed=5)
    gap = operator(2 * a - 3 * b) - (2 * operator(a) - 3 * operator(b))
    assert gap.abs().max() <= rounding(operator) * operator(a).abs().max()


def test_shapes_and_dtypes(operator):
    for dtype in (torch.float32, torch.float64):
        for output, shape, is_complex in (
            (operator(image(operator, dtype)), operator.range, operator.complex_range),
            (
                operator.adjoint(measurement(operator, dtype)),
                operator.domain,
                operator.complex_domain,
            ),
        ):
            assert output.shape == (ROWS, *shape)
            assert output.is_complex() == is_complex
            assert (output.real if is_complex else output).dtype == dtype


def test_rows_do_not_see_each_other(operator):
    """Up to the rounding of batched products: 1e-6 of the largest value."""
    x = image(operator)
    together = operator(x)
    for row in range(ROWS):
        index = torch.tensor([row])
        alone = operator.rows(index)(x[index])
        assert (alone - together[index]).abs().max() <= 1e-6 * together.abs().max()
    order = torch.tensor([2, 0])
    again = operator.rows(order)(x[order])
    assert (again - together[order]).abs().max() <= 1e-6 * together.abs().max()


def test_rows_of_shared_parameters_is_the_operator_itself(operator):
    if operator.items is None:
        assert operator.rows(torch.tensor([0, 0, 1, 2])) == operator
    else:
        assert operator.items == ROWS
        assert operator.rows(torch.tensor([0, 0, 1, 2])).items == 4


def test_observed_marks_what_carries_data(operator):
    if operator.observed is None:
        return
    assert operator.observed.dtype == torch.bool
    assert operator.observed.shape[1:] == operator.range
    assert 0 < operator.observed.float().mean() < 1
    hidden = ~operator.observed.expand(ROWS, *operator.range)
    assert (operator(image(operator))[hidden] == 0).all()


def test_linearize(operator):
    x, u = image(operator), measurement(operator)
    value, vjp = operator.linearize(x)
    assert torch.equal(value, operator(x))
    assert torch.equal(vjp(u), operator.adjoint(u))


def test_autograd_agrees_with_the_adjoint(operator):
    x = image(operator, torch.float64).requires_grad_(True)
    u = measurement(operator, torch.float64)
    (gradient,) = torch.autograd.grad(operator(x), x, u)
    assert (gradient - operator.adjoint(u)).abs().max() <= 1e-12 * gradient.abs().max()


def test_adjoint_operator(operator):
    x, y = image(operator), measurement(operator)
    assert operator.H.domain == operator.range
    assert operator.H.range == operator.domain
    assert torch.equal(operator.H(y), operator.adjoint(y))
    assert torch.equal(operator.H.H(x), operator(x))


def test_composition_and_scale_agree_with_the_matrices(operator):
    """Normal equations through ``@`` and ``*``, against products of dense matrices."""
    if operator.complex_domain != operator.complex_range:
        return
    one = operator.rows(torch.tensor([0])) if operator.items else operator
    n = math.prod(operator.domain)
    eye = torch.eye(n, dtype=image(operator, torch.float64).dtype).reshape(n, *operator.domain)
    columns = torch.cat([one(column[None]) for column in eye]).flatten(1)
    x = image(operator, torch.float64)[:1]
    expected = 0.5 * (x.flatten(1) @ columns @ columns.mH)
    found = (0.5 * (one.H @ one))(x).flatten(1)
    assert (found - expected).abs().max() <= rounding(operator) * expected.abs().max()


def test_equality_hash_and_repr(name, operator):
    twin = MAKERS[name]()
    assert twin == operator
    assert hash(twin) == hash(operator)
    assert repr(twin) == repr(operator)
    assert operator != Identity((9, 9, 9))
    assert operator != 2.0 * operator
    if name in REBUILT:
        assert eval(repr(operator)) == operator


def test_pickle(name, operator):
    if name.startswith("deepinv"):
        pytest.skip("deepinv's physics hold lambdas, which cannot be pickled")
    x = image(operator)
    copy = pickle.loads(pickle.dumps(operator))
    assert copy == operator
    assert torch.equal(copy(x), operator(x))


def test_inputs_and_operator_stay_as_they_were(operator):
    x, y, before = image(operator), measurement(operator), repr(operator)
    kept_x, kept_y = x.clone(), y.clone()
    operator(x).zero_()  # the output is no view of the input either
    operator.adjoint(y).zero_()
    assert torch.equal(x, kept_x)
    assert torch.equal(y, kept_y)
    assert repr(operator) == before


def test_wrong_inputs_are_refused(operator):
    x = image(operator)
    with pytest.raises(ShapeError, match=r"x\[None\]"):
        operator(x[0])
    with pytest.raises(ShapeError, match="Pass an array of shape"):
        operator(torch.cat([x, x], dim=-1))
    with pytest.raises(TypeError, match="dtype"):
        operator(torch.zeros(x.shape, dtype=torch.int64))
    with pytest.raises(TypeError, match="dtype"):
        operator(x.real.contiguous() if x.is_complex() else torch.complex(x, x))
    with pytest.raises(ShapeError):
        operator.adjoint(measurement(operator)[0])
    if operator.items is not None:
        with pytest.raises(ShapeError, match=r"operator\.rows"):
            operator(x[:2])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_cpu(operator):
    if isinstance(operator, NonCartesianMRI):
        pytest.importorskip("cufinufft")
    x = image(operator)
    found = operator.to("cuda")(x.to("cuda")).cpu()
    assert (found - operator(x)).abs().max() <= 1e-5 * found.abs().max()


def test_a_wrong_adjoint_is_caught():
    """The test above must be able to fail: one pixel too far, and it does."""

    class Shifted(Bicubic):
        def _adjoint(self, y):
            return torch.roll(super()._adjoint(y), 1, dims=-1)

    with pytest.raises(AssertionError):
        test_adjoint_is_the_adjoint(Shifted((2, 8, 12), 2), torch.float32, 1e-6)
