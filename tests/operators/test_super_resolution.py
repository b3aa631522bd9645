"""Super-resolution protocols against their definitions."""

import numpy as np
import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.operators import Bicubic, BicubicProtocol, MeanPooling
from invdiff.operators.super_resolution import bicubic_matrix


def imresize_one(signal: np.ndarray, factor: int, index: int) -> float:
    """One sample of the textbook formula, written as sums over a mirrored signal (1-based)."""

    def cubic(t: float) -> float:
        t = abs(t)
        if t <= 1:
            return 1.5 * t**3 - 2.5 * t**2 + 1
        return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t <= 2 else 0.0

    n = len(signal)
    position = (index + 1) * factor + 0.5 * (1 - factor)
    total = weight = 0.0
    for j in range(-4 * factor, n + 4 * factor):
        w = cubic((position - j) / factor)
        mirrored = j
        while not 1 <= mirrored <= n:
            mirrored = 1 - mirrored if mirrored < 1 else 2 * n + 1 - mirrored
        total += w * signal[mirrored - 1]
        weight += w
    return total / weight


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_is_imresize(factor):
    signal = np.random.default_rng(0).normal(size=4 * factor)
    expected = [imresize_one(signal, factor, i) for i in range(4)]
    assert np.allclose(bicubic_matrix(4 * factor, factor) @ signal, expected, atol=1e-12)


def test_bicubic_known_weights():
    """Halving: the eight weights of an inner pixel, by hand from the cubic at odd quarters / 2."""
    weights = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    row = bicubic_matrix(16, 2)[3]
    assert np.allclose(row[3:11], weights, atol=1e-12)
    assert np.allclose(np.delete(row, range(3, 11)), 0)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_bicubic_keeps_constants_and_inner_ramps(factor):
    matrix = bicubic_matrix(8 * factor, factor)
    assert np.allclose(matrix.sum(1), 1, atol=1e-12)
    centres = (np.arange(8) + 0.5) * factor - 0.5
    found = matrix @ np.arange(8.0 * factor)
    assert np.allclose(found[2:-2], centres[2:-2], atol=1e-9)


def test_bicubic_acts_on_both_axes():
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    rows, columns = torch.from_numpy(bicubic_matrix(8, 4)), torch.from_numpy(bicubic_matrix(12, 4))
    expected = torch.einsum("ih,jw,bchw->bcij", rows, columns, x)
    assert torch.allclose(Bicubic((3, 8, 12), 4)(x), expected, atol=1e-12)


def ddrm_matrix(size: int, factor: int) -> np.ndarray:
    """DDRM's construction: 4 * factor taps around every stride, mirrored, summed tap by tap."""
    taps = np.array([_cubic((t - 2 * factor + 0.5) / factor) for t in range(4 * factor)])
    matrix = np.zeros((size // factor, size))
    for row in range(size // factor):
        middle = factor // 2 + row * factor
        for tap, weight in enumerate(taps / taps.sum()):
            pixel = middle - 2 * factor + tap
            pixel = -pixel - 1 if pixel < 0 else pixel
            pixel = 2 * size - 1 - pixel if pixel >= size else pixel
            matrix[row, pixel] += weight
    return matrix


def _cubic(t: float, a: float = -0.5) -> float:
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_ddrm_bicubic(factor):
    """It is imresize's for even factors, and half a pixel off for odd ones."""
    found = bicubic_matrix(6 * factor, factor, BicubicProtocol.DDRM)
    assert np.allclose(found, ddrm_matrix(6 * factor, factor), atol=1e-12)
    same = np.allclose(found, bicubic_matrix(6 * factor, factor), atol=1e-12)
    assert same == (factor % 2 == 0)
    ramp = found @ np.arange(6.0 * factor)
    centres = (np.arange(6) + 0.5) * factor - 0.5 * (1 + factor % 2)
    assert np.allclose(ramp[2:-2], centres[2:-2], atol=1e-9)
    # DDRM sets singular values below 0.03 to zero; there are none.
    assert np.linalg.svd(found, compute_uv=False).min() > 0.2


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_torch_bicubic(factor):
    """Float64 weights in both: equal to rounding. Against imresize only the border differs."""
    x = torch.randn(2, 3, 8 * factor, 6 * factor, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(x, size=(8, 6), mode="bicubic", antialias=True)
    shape = (3, 8 * factor, 6 * factor)
    found = Bicubic(shape, factor, BicubicProtocol.TORCH)(x)
    assert torch.allclose(found, expected, atol=1e-13)
    imresize = Bicubic(shape, factor)(x)
    inside = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(found[inside], imresize[inside], atol=1e-13)
    assert torch.allclose(found, imresize, atol=1e-3) == (factor == 1)


@pytest.mark.parametrize("protocol", BicubicProtocol, ids=lambda protocol: protocol.name)
def test_protocols_keep_constants_and_are_named(protocol):
    operator = Bicubic((1, 15, 12), 3, protocol)
    assert torch.allclose(operator(torch.ones(1, 1, 15, 12)), torch.ones(()), atol=1e-6)
    assert eval(repr(operator)) == operator
    assert repr(protocol) in repr(operator)


def test_mean_pooling_is_the_mean_of_blocks():
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    expected = torch.nn.functional.avg_pool2d(x, 4)
    assert torch.allclose(MeanPooling((3, 8, 12), 4)(x), expected, atol=1e-12)
    assert MeanPooling((3, 8, 12), 4).bounds(-1, 1) == (-1, 1)
    assert Bicubic((3, 8, 12), 4).bounds(-1, 1) is None


@pytest.mark.parametrize("kind", [MeanPooling, Bicubic])
def test_the_factor_must_divide_the_image(kind):
    with pytest.raises(ShapeError, match="Crop or pad"):
        kind((1, 9, 8), 2)
    with pytest.raises(ShapeError, match="Crop or pad"):
        kind((1, 8, 8), 0)
    with pytest.raises(ShapeError, match="channels"):
        kind((8, 8), 2)
