"""The bridge to deepinv: same numbers, and nothing leaks between calls."""

import threading

import pytest
import torch
from helpers import generator

from invdiff.errors import ShapeError
from invdiff.operators import AsComplex, Bicubic, FromDeepinv, as_deepinv

physics = pytest.importorskip("deepinv.physics")
SHAPE = (1, 6, 6)


def kernel(value: float) -> torch.Tensor:
    k = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0 - value, value], [0.0, 0.0, 0.0]])
    return k[None, None]


def mask(seed: int) -> torch.Tensor:
    return (torch.rand(1, *SHAPE, generator=generator(seed)) < 0.5).float()


def image(rows: int = 2, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(rows, *SHAPE, generator=generator(0), dtype=dtype)


def test_same_numbers():
    blur = physics.Blur(kernel(0.3), padding="circular")
    A = FromDeepinv(blur, SHAPE)
    x = image()
    assert torch.equal(A(x), blur.A(x))
    assert torch.equal(A.adjoint(x), blur.A_adjoint(x))
    assert A.range == SHAPE


# Every way in which a physics takes another parameter, for three kinds of parameters.
LEAKS = {
    "blur": (
        lambda: physics.Blur(kernel(0.3), padding="circular"),
        lambda p: p.A(image(), filter=kernel(0.9)),
    ),
    "blur-fft": (
        lambda: physics.BlurFFT(SHAPE, kernel(0.3)),
        lambda p: p.A(image(), filter=kernel(0.9)),
    ),
    "blur-adjoint": (
        lambda: physics.Blur(kernel(0.3), padding="circular"),
        lambda p: p.A_adjoint(image(), filter=kernel(0.9)),
    ),
    "inpainting": (
        lambda: physics.Inpainting(SHAPE, mask=mask(1)),
        lambda p: p.A(image(), mask=mask(2)),
    ),
    "inpainting-update": (
        lambda: physics.Inpainting(SHAPE, mask=mask(1)),
        lambda p: p.update(mask=mask(2)),
    ),
    "inpainting-in-place": (
        lambda: physics.Inpainting(SHAPE, mask=mask(1)),
        lambda p: p.mask.zero_(),
    ),
    "downsampling": (
        lambda: physics.Downsampling(SHAPE, filter=kernel(0.3), factor=2, padding="circular"),
        lambda p: p.A(image(), filter=kernel(0.9)),
    ),
    "prox": (
        lambda: physics.Blur(kernel(0.3), padding="circular"),
        lambda p: p.prox_l2(image(), image(), gamma=1.0, max_iter=3),
    ),
}


@pytest.mark.parametrize("name", LEAKS)
def test_parameters_do_not_leak(name):
    """deepinv keeps the parameter of the last call; the operator does not see it."""
    make, disturb = LEAKS[name]
    theirs = make()
    A, before_them = FromDeepinv(theirs, SHAPE), FromDeepinv(make(), SHAPE)
    x, shown = image(), repr(A)
    expected, double = A(x), A(x.double())
    y = expected.clone()
    back = A.adjoint(y)
    disturb(theirs)  # changes the original for good
    if name != "prox":
        assert not torch.allclose(theirs.A(x), expected)
    assert torch.equal(A(x), expected)
    assert torch.equal(A.adjoint(y), back)
    assert torch.equal(A(x.double()), double)
    assert repr(A) == shown
    assert A == before_them
    if name != "prox":
        assert A != FromDeepinv(theirs, SHAPE)


def test_the_copy_is_out_of_reach():
    A = FromDeepinv(physics.Blur(kernel(0.3), padding="circular"), SHAPE)
    assert not hasattr(A, "physics")
    with pytest.raises(TypeError):
        A(image(), filter=kernel(0.9))


def test_calls_leave_the_physics_and_the_operator_alone():
    """Both ways: the operator's calls change neither the original nor, between them, itself."""
    theirs = physics.Inpainting(SHAPE, mask=mask(1))
    kept = {name: value.clone() for name, value in theirs.state_dict().items()}
    A = FromDeepinv(theirs, SHAPE)
    first = A(image())
    A(image().double())
    A.adjoint(first)
    A.linearize(image())
    assert torch.equal(A(image()), first)
    assert all(torch.equal(kept[name], value) for name, value in theirs.state_dict().items())


def test_two_operators_of_one_physics_in_two_threads():
    """Each keeps the mask that the physics had when it was made, whatever runs beside it."""
    theirs = physics.Inpainting(SHAPE, mask=mask(1))
    one = FromDeepinv(theirs, SHAPE)
    theirs.update(mask=mask(2))
    two = FromDeepinv(theirs, SHAPE)
    x = image(8)
    wrong = []

    def work(operator, expected):
        for _ in range(300):
            theirs.A(x, mask=mask(3))  # a third party meddles meanwhile
            if not torch.equal(operator(x), expected):
                wrong.append(operator)

    threads = [
        threading.Thread(target=work, args=(one, x * mask(1))),
        threading.Thread(target=work, args=(two, x * mask(2))),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_adapter_without_a_copy_would_leak():
    """What the tests above are for: the physics itself fails them."""
    theirs = physics.Blur(kernel(0.3), padding="circular")
    before = theirs.A(image())
    theirs.A(image(), filter=kernel(0.9))
    assert not torch.allclose(theirs.A(image()), before)


def test_an_unmatched_adjoint_says_so():
    wrong = physics.LinearPhysics(A=lambda x: x, A_adjoint=lambda y: 1.1 * y)
    assert not FromDeepinv(wrong, SHAPE).adjoint_exact
    right = physics.LinearPhysics(A=lambda x: 2 * x, A_adjoint=lambda y: 2 * y)
    assert FromDeepinv(right, SHAPE).adjoint_exact


def test_nonlinear_physics():
    """Derivatives come from autograd: here of the square, and of a fog over two planes."""
    A = FromDeepinv(physics.Physics(A=lambda x: x.square() + 1), SHAPE)
    assert not A.linear
    x, u = image(dtype=torch.float64), image(dtype=torch.float64).flip(0)
    value, vjp = A.linearize(x)
    assert torch.equal(value, x.square() + 1)
    assert torch.allclose(vjp(u), 2 * x * u, atol=1e-15)
    with pytest.raises(TypeError, match="linearize"):
        A.adjoint(u)
    with pytest.raises(TypeError, match="not linear"):
        _ = A.H


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature:UserWarning")
def test_phase_retrieval_of_deepinv():
    """Complex images, a real measurement, also from two real channels: finite differences."""
    theirs = physics.RandomPhaseRetrieval(m=50, img_size=SHAPE, rng=torch.Generator())
    A = FromDeepinv(theirs, SHAPE, is_complex=True) @ AsComplex(SHAPE)
    assert not A.linear
    assert not A.complex_range
    x = torch.randn(2, *A.domain, generator=generator(1), dtype=torch.float64)
    direction = torch.randn(2, *A.domain, generator=generator(2), dtype=torch.float64)
    assert A(x).dtype == torch.float64
    value, vjp = A.linearize(x)
    assert torch.allclose(A(x.float()).double(), value, rtol=1e-4)
    slope = (A(x + 1e-5 * direction) - A(x - 1e-5 * direction)) / 2e-5
    u = torch.randn(value.shape, generator=generator(3), dtype=torch.float64)
    gap = (u * slope).flatten(1).sum(1) - (direction * vjp(u)).flatten(1).sum(1)
    assert (gap.abs() / (u.norm() * slope.norm())).max() < 1e-8


def fourier() -> FromDeepinv:
    return FromDeepinv(
        physics.LinearPhysics(
            A=lambda x: torch.fft.fft2(x, norm="ortho")[..., :4],
            A_adjoint=lambda y: torch.fft.ifft2(torch.nn.functional.pad(y, (0, 2)), norm="ortho"),
        ),
        SHAPE,
    )


def test_complex_measurements():
    """The adjoint among real images is the real part of the complex one."""
    A = fourier()
    assert A.complex_range
    assert A.range == (1, 6, 4)
    assert A.adjoint_exact
    x = image(dtype=torch.float64)
    y = torch.randn(2, *A.range, generator=generator(4), dtype=torch.complex128)
    left = (A(x).conj() * y).real.flatten(1).sum(1)
    right = (x * A.adjoint(y)).flatten(1).sum(1)
    assert (left - right).abs().max() < 1e-13
    assert not A.adjoint(y).is_complex()
    with pytest.raises(TypeError, match="complex64"):
        A.adjoint(y.real.contiguous())


def test_refusals():
    with pytest.raises(TypeError, match="Physics"):
        FromDeepinv(torch.nn.Identity(), SHAPE)
    blur = physics.Blur(kernel(0.3), padding="circular")
    with pytest.raises(TypeError, match="stacked"):
        FromDeepinv(physics.StackedLinearPhysics([blur, blur]), SHAPE)
    masks = torch.cat([mask(1), mask(2)])
    with pytest.raises(ShapeError, match="shared"):
        FromDeepinv(physics.Inpainting(SHAPE, mask=masks), SHAPE)


def test_our_operator_there():
    A = Bicubic((1, 8, 8), 2)
    there = as_deepinv(A)
    x, y = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 4, 4)
    assert torch.equal(there(x), A(x))  # no noise
    assert torch.equal(there.A_adjoint(y), A.adjoint(y))
    assert torch.equal(FromDeepinv(there, (1, 8, 8))(x), A(x))
