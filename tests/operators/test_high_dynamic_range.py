"""Amplify and clip: values, derivative, bounds."""

import pytest
import torch

from invdiff.operators import HighDynamicRange


def test_published_definition():
    A = HighDynamicRange((1, 2, 3))
    x = torch.tensor([[[[-1.0, -0.5, -0.2], [0.1, 0.5, 0.9]]]])
    assert torch.equal(A(x), torch.clip(2 * x, -1, 1))
    assert A.bounds(-1, 1) == (-1, 1)
    assert A.bounds(-0.25, 0.1) == (-0.5, 0.2)
    assert HighDynamicRange((1, 2, 3), 4.0, 0.0, 2.0)(x).tolist() == [
        [[[0.0, 0.0, 0.0], [pytest.approx(0.4), 2.0, 2.0]]]
    ]


def test_derivative_is_exact():
    A = HighDynamicRange((1, 2, 3), scale=3.0)
    x = torch.tensor([[[[-0.9, -0.3, -0.2], [0.1, 0.32, 0.9]]]], dtype=torch.float64)
    value, vjp = A.linearize(x)
    u = torch.arange(1.0, 7.0, dtype=torch.float64).reshape(1, 1, 2, 3)
    assert torch.equal(value, A(x))
    assert vjp(u).flatten().tolist() == [0, 6, 9, 12, 15, 0]
    assert not A.linear
    with pytest.raises(TypeError, match="linearize"):
        A.adjoint(u)


def test_refusals():
    with pytest.raises(ValueError, match="scale"):
        HighDynamicRange((1, 2, 3), 0.0)
    with pytest.raises(ValueError, match="low"):
        HighDynamicRange((1, 2, 3), 2.0, 1.0, 1.0)
