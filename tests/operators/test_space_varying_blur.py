"""A blur between kernels: weights, points of light, and the kernels it passes through."""

import pytest
import torch
from helpers import generator

from invdiff.errors import ShapeError
from invdiff.operators import Blur, Boundary, gaussian_kernel, space_varying_blur
from invdiff.operators.space_varying_blur import interpolation_weights

pytest.importorskip("deepinv.physics")
F64 = torch.float64
SHAPE = (2, 21, 25)


def kernels() -> torch.Tensor:
    return torch.rand(2, 3, 5, 3, generator=generator(1), dtype=F64)


def test_weights_are_a_partition_of_one():
    weights = interpolation_weights((2, 3), (21, 25))
    assert weights.shape == (6, 21, 25)
    assert weights.min() >= 0
    assert torch.allclose(weights.sum(0), torch.ones(21, 25, dtype=F64), atol=1e-14)
    for node, place in enumerate([(r, c) for r in (0, 20) for c in (0, 12, 24)]):
        assert weights[node][place] == 1
    assert interpolation_weights((1, 1), (4, 5)).tolist() == [[[1.0] * 5] * 4]


@pytest.mark.parametrize("name", ["CIRCULAR", "REFLECT", "VALID"])
def test_is_the_sum_of_blurs_of_weighted_images(name):
    """Against our own convolutions, in either precision; deepinv's are float32 at heart."""
    boundary = Boundary[name]
    x = torch.randn(2, *SHAPE, generator=generator(0), dtype=F64)
    A = space_varying_blur(SHAPE, kernels(), boundary)
    weights = interpolation_weights((2, 3), SHAPE[1:])
    expected = sum(
        Blur(SHAPE, kernel[None, None], boundary)(weight * x)
        for kernel, weight in zip(kernels().flatten(0, 1), weights, strict=True)
    )
    assert torch.allclose(A(x), expected, atol=1e-12)
    assert torch.allclose(A(x.float()).double(), expected, atol=1e-5)
    assert A.adjoint_exact
    back = sum(
        weight * Blur(SHAPE, kernel[None, None], boundary).adjoint(expected)
        for kernel, weight in zip(kernels().flatten(0, 1), weights, strict=True)
    )
    assert torch.allclose(A.adjoint(expected), back, atol=1e-12)


def test_a_point_of_light_shows_the_kernel_of_its_place():
    A = space_varying_blur(SHAPE, kernels(), Boundary.CIRCULAR)
    x = torch.zeros(1, *SHAPE, dtype=F64)
    x[:, 1, 0, 12] = 1  # the second node
    found = A(x)[0, 1].roll((2, 1 - 12), (0, 1))[:5, :3]
    assert torch.allclose(found, kernels()[0, 1], atol=1e-12)


def test_equal_kernels_are_a_plain_blur():
    kernel = gaussian_kernel(0.7)
    A = space_varying_blur(SHAPE, kernel.expand(2, 2, -1, -1), Boundary.REFLECT)
    x = torch.randn(2, *SHAPE, generator=generator(0), dtype=F64)
    assert torch.allclose(A(x), Blur(SHAPE, kernel, Boundary.REFLECT)(x), atol=1e-12)


def test_refusals():
    with pytest.raises(ShapeError, match="grid rows"):
        space_varying_blur(SHAPE, torch.ones(2, 3, 4, 3), Boundary.VALID)
    with pytest.raises(ValueError, match="ZERO"):
        space_varying_blur(SHAPE, kernels(), Boundary.ZERO)
