"""What every operator must hold, whatever it measures."""

import math
import pickle

import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.linalg import inner
from invdiff.operators import (
    AsComplex,
    Bicubic,
    CartesianMRI,
    FromDeepinv,
    Identity,
    Inpainting,
    MeanPooling,
    Operator,
    ParallelBeamCT,
    Projection,
    birdcage_maps,
)

ROWS = 3


def mri(items: int = 1) -> CartesianMRI:
    generator = torch.Generator().manual_seed(3)
    maps = birdcage_maps(4, 7, 10)
    if items > 1:
        maps = maps * torch.rand(items, 4, 1, 1, generator=generator)
    return CartesianMRI(maps, (torch.rand(items, 1, 7, 10, generator=generator) < 0.5).float())


def random_mask(items: int) -> Inpainting:
    generator = torch.Generator().manual_seed(4)
    return Inpainting(torch.rand(items, 2, 7, 10, generator=generator) < 0.5)


def blur() -> FromDeepinv:
    import deepinv

    kernel = torch.tensor([[0.0, 0.1, 0.2], [0.3, 0.2, 0.0], [0.1, 0.1, 0.0]])
    return FromDeepinv(deepinv.physics.Blur(kernel[None, None], padding="circular"), (1, 8, 8))


MAKERS = {
    "identity": lambda: Identity((2, 5, 6)),
    "identity-complex": lambda: Identity((1, 5, 6), is_complex=True),
    "inpainting": lambda: random_mask(1),
    "inpainting-items": lambda: random_mask(ROWS),
    "mean-pooling": lambda: MeanPooling((2, 8, 12), 4),
    "bicubic": lambda: Bicubic((2, 8, 12), 2),
    "ct-linear": lambda: ParallelBeamCT((9, 12), 7, 0.8, detector_spacing=1.1),
    "ct-strip": lambda: ParallelBeamCT((9, 12), (0.1, 0.5, 2.0), 0.8, kernel=Projection.STRIP),
    "mri": mri,
    "mri-items": lambda: mri(ROWS),
    "as-complex": lambda: AsComplex((1, 7, 10)),
    "mri-real": lambda: mri(ROWS) @ AsComplex((1, 7, 10)),
    "scaled": lambda: 2.5 * Bicubic((2, 8, 12), 2),
    "composed": lambda: MeanPooling((2, 4, 6), 2) @ Bicubic((2, 8, 12), 2),
    "adjoint": lambda: ParallelBeamCT((9, 12), 7, 0.8).H,
    "deepinv": blur,
}
REBUILT = ("identity", "identity-complex", "mean-pooling", "bicubic", "ct-linear", "ct-strip")


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
    assert ((left - right).abs() / scale).max() <= tolerance
    assert operator.adjoint_exact


def test_is_linear(operator):
    a, b = image(operator, torch.float64), image(operator, torch.float64, seed=5)
    gap = operator(2 * a - 3 * b) - (2 * operator(a) - 3 * operator(b))
    assert gap.abs().max() <= 1e-12 * operator(a).abs().max()


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
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


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
    if name == "deepinv":
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
