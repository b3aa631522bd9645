"""MRI: the transform against numpy, and coil maps against the truth."""

import math

import numpy as np
import pytest
import torch

from invdiff.errors import ShapeError
from invdiff.operators import (
    AsComplex,
    CartesianMRI,
    birdcage_maps,
    maps_from_calibration,
)
from invdiff.operators.fourier import fft2c, ifft2c


@pytest.mark.parametrize("shape", [(8, 8), (7, 10), (5, 9)])
def test_transform_is_centred_and_orthonormal(shape):
    """By the defining sum: frequency zero and the origin are both at index n // 2."""
    x = torch.randn(1, *shape, dtype=torch.complex128)
    grid = [
        np.exp(-2j * np.pi * np.outer(f, f) / n) / math.sqrt(n)
        for n, f in ((n, np.arange(n) - n // 2) for n in shape)
    ]
    expected = grid[0] @ x[0].numpy() @ grid[1].T
    assert np.allclose(fft2c(x)[0].numpy(), expected, atol=1e-12)
    assert torch.allclose(ifft2c(fft2c(x)), x)


def test_one_full_coil_is_the_transform():
    A = CartesianMRI(torch.ones(1, 1, 6, 8, dtype=torch.complex64), torch.ones(1, 1, 6, 8))
    x = torch.randn(2, 1, 6, 8, dtype=torch.complex64)
    assert torch.allclose(A(x), fft2c(x))
    assert torch.allclose(A.adjoint(A(x)), x, atol=1e-6)


def test_normalised_maps_make_a_full_scan_invertible():
    A = CartesianMRI(birdcage_maps(5, 12, 10), torch.ones(1, 1, 12, 10))
    x = torch.randn(1, 1, 12, 10, dtype=torch.complex64)
    assert torch.allclose(A.adjoint(A(x)), x, atol=1e-6)


def test_mri_refusals():
    maps = birdcage_maps(4, 6, 8)
    with pytest.raises(ShapeError, match="expected"):
        CartesianMRI(maps, torch.ones(1, 1, 8, 6))
    with pytest.raises(ShapeError, match="expected"):
        CartesianMRI(maps.repeat(2, 1, 1, 1), torch.ones(3, 1, 6, 8))
    with pytest.raises(TypeError, match="complex maps"):
        CartesianMRI(maps.real, torch.ones(1, 1, 6, 8))
    with pytest.raises(ValueError, match="zeros and ones"):
        CartesianMRI(maps, torch.full((1, 1, 6, 8), 0.3))
    one_empty = torch.ones(2, 1, 6, 8)
    one_empty[1] = 0
    with pytest.raises(ValueError, match="empty"):
        CartesianMRI(maps, one_empty)
    with pytest.raises(ValueError, match="coil_chunk"):
        CartesianMRI(maps, torch.ones(1, 1, 6, 8), coil_chunk=0)
    with pytest.raises(ShapeError, match="depth"):
        CartesianMRI(maps, torch.ones(1, 1, 2, 3, 6, 8))


def test_as_complex():
    x = torch.randn(2, 4, 3, 3)
    z = AsComplex((2, 3, 3))(x)
    assert torch.equal(z.real, x[:, :2])
    assert torch.equal(z.imag, x[:, 2:])


def test_birdcage_maps():
    maps = birdcage_maps(8, 20, 24)
    assert maps.shape == (1, 8, 20, 24)
    assert torch.allclose(maps.abs().square().sum(1), torch.ones(1, 20, 24), atol=1e-5)
    # A grid twice as fine samples the same maps: the mean of 2 x 2 is close to the coarse value,
    # up to the curvature of the maps within a pixel, near the coils.
    fine = birdcage_maps(8, 40, 48).reshape(1, 8, 20, 2, 24, 2).mean((3, 5))
    assert (fine - maps).abs().max() < 0.02


def object_of_phase(size: int) -> torch.Tensor:
    t = torch.linspace(-1, 1, size, dtype=torch.float64)
    inside = (t[None, :] ** 2 + (t[:, None] / 0.8) ** 2 < 0.7).double()
    x = inside * (1 + 0.3 * torch.cos(9 * t)[None, :])
    return torch.polar(x, 0.8 * t[:, None].expand(size, size))[None, None].to(torch.complex64)


def test_maps_from_the_centre_are_close_to_the_truth():
    """Coherence |<estimate, truth>| over the coils, inside the object: 0.99 mean with 24 lines.

    (Without noise 0.9998 was measured for smooth coils; an edge of the object costs the rest.)
    """
    x, truth = object_of_phase(96), birdcage_maps(8, 96, 96)
    estimate = maps_from_calibration(fft2c(truth * x), 24)
    inside = x[0, 0].abs() > 0
    coherence = (estimate.conj() * truth).sum(1).abs()[0][inside]
    assert coherence.mean() > 0.999
    assert coherence.min() > 0.95
    rss = estimate.abs().square().sum(1)[0][inside]
    assert (rss - 1).abs().max() < 1e-5


def test_maps_do_not_depend_on_the_scale_or_the_batch():
    """Within the object to 1e-3; outside, float32 rounding decides the phase of nothing."""
    x = object_of_phase(48)
    inside = x[0].abs() > 0
    kspace = fft2c(birdcage_maps(4, 48, 48) * x)
    alone = maps_from_calibration(kspace, 16)
    pair = maps_from_calibration(torch.cat([torch.randn_like(kspace), 1e-7 * kspace]), 16)
    assert ((pair[1] - alone[0]) * inside).abs().max() < 1e-3
    turned = maps_from_calibration(kspace * (0.6 + 0.8j), 16)
    # A phase of the whole data belongs to the image, not to the maps.
    assert ((turned - alone) * inside).abs().max() < 1e-3


def test_calibration_refusals():
    with pytest.raises(ShapeError, match="calibration width"):
        maps_from_calibration(torch.zeros(1, 2, 8, 8, dtype=torch.complex64), 9)
    with pytest.raises(ValueError, match="zero"):
        maps_from_calibration(torch.zeros(1, 2, 8, 8, dtype=torch.complex64), 4)
