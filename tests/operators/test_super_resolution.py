"""Super-resolution protocols against their definitions."""

import numpy as np
import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.operators import Bicubic, MeanPooling
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
