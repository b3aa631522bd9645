"""The bridge to deepinv: same numbers, and nothing leaks between calls."""

import pytest
import torch

from invdiff.operators import Bicubic, FromDeepinv, as_deepinv

physics = pytest.importorskip("deepinv.physics")


def kernel(value: float) -> torch.Tensor:
    k = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0 - value, value], [0.0, 0.0, 0.0]])
    return k[None, None]


def test_same_numbers():
    blur = physics.Blur(kernel(0.3), padding="circular")
    A = FromDeepinv(blur, (1, 6, 6))
    x = torch.randn(2, 1, 6, 6)
    assert torch.equal(A(x), blur.A(x))
    assert torch.equal(A.adjoint(x), blur.A_adjoint(x))
    assert A.range == (1, 6, 6)


def test_parameters_do_not_leak():
    """deepinv keeps the parameter of the last call; the copy does not see it."""
    blur = physics.Blur(kernel(0.3), padding="circular")
    A = FromDeepinv(blur, (1, 6, 6))
    x, before = torch.randn(1, 1, 6, 6), repr(A)
    expected = A(x)
    blur.A(x, filter=kernel(0.9))  # changes the original for good
    assert not torch.allclose(blur.A(x), expected)
    assert torch.equal(A(x), expected)
    assert repr(A) == before
    assert A != FromDeepinv(blur, (1, 6, 6))


def test_an_unmatched_adjoint_says_so():
    wrong = physics.LinearPhysics(A=lambda x: x, A_adjoint=lambda y: 1.1 * y)
    assert not FromDeepinv(wrong, (1, 6, 6)).adjoint_exact
    right = physics.LinearPhysics(A=lambda x: 2 * x, A_adjoint=lambda y: 2 * y)
    assert FromDeepinv(right, (1, 6, 6)).adjoint_exact


def test_nonlinear_physics_are_refused():
    with pytest.raises(TypeError, match="LinearPhysics"):
        FromDeepinv(physics.Physics(A=torch.exp), (1, 6, 6))


def test_our_operator_there():
    A = Bicubic((1, 8, 8), 2)
    there = as_deepinv(A)
    x, y = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 4, 4)
    assert torch.equal(there(x), A(x))  # no noise
    assert torch.equal(there.A_adjoint(y), A.adjoint(y))
    assert torch.equal(FromDeepinv(there, (1, 8, 8))(x), A(x))
