"""Low-resolution coil maps: what they refuse, and that nothing depends on units."""

import math

import pytest
import torch

from invdiff.errors import NotFinite, ShapeError
from invdiff.operators import birdcage_maps, maps_from_calibration
from invdiff.operators.cartesian_mri import fft2c
from invdiff.operators.coil_maps import calibration_block, virtual_coil


@pytest.fixture
def kspace():
    """A smooth object that fills the field of view of four coils, 20 x 24."""
    row, column = torch.meshgrid(torch.arange(20.0), torch.arange(24.0), indexing="ij")
    image = 1 + 0.5 * torch.cos(row / 3) * torch.sin(column / 4)
    return fft2c(birdcage_maps(4, 20, 24) * image)


def test_block_lies_around_the_centre():
    """Index n // 2 has frequency zero, also in blocks and images of odd sizes."""
    for shape, width in (((20, 24), 8), ((21, 25), 7), ((20, 25), 3)):
        kspace = torch.ones(1, 2, *shape, dtype=torch.complex64)
        kspace[..., shape[0] // 2, shape[1] // 2] = 5
        block = calibration_block(kspace, width)
        assert block.shape == (1, 2, width, width)
        assert (block[..., width // 2, width // 2] == 5).all()


@pytest.mark.parametrize("scale", [1e-25, 1e-7, 1e7, 1e25])
def test_scale_does_not_matter(kspace, scale):
    """To 1e-5: single precision; squares of 1e-25 would underflow there."""
    expected = maps_from_calibration(kspace, 12)
    assert (maps_from_calibration(scale * kspace, 12) - expected).abs().max() < 1e-5


def test_virtual_coil_has_the_most_energy(kspace):
    """By the singular vectors of the weighted block, and with a real first weight."""
    block = calibration_block(kspace.to(torch.complex128), 9)
    weights = virtual_coil(block)
    t = torch.arange(9, dtype=torch.float64) - 4
    window = torch.cos(math.pi * t / 10) ** 2
    samples = (block * (window[:, None] * window)).flatten(2)[0]
    left, _, _ = torch.linalg.svd(samples, full_matrices=False)
    assert abs(abs(torch.vdot(left[:, 0], weights[0])) - 1) < 1e-12
    assert abs(weights[0, 0].imag) < 1e-12
    assert weights[0, 0].real > 0


def test_missing_lines_are_counted(kspace):
    """One line of eight that was not measured used to pass for a measured one."""
    kspace[..., 11, :] = 0
    with pytest.raises(ValueError, match=r"8 of the central 8 x 8 .* zero in every coil"):
        maps_from_calibration(kspace, 8)
    kspace[:, 1] = 1  # measured by one coil: the others are silent, not missing
    assert maps_from_calibration(kspace, 8).isfinite().all()


def test_bad_numbers_are_refused(kspace):
    with pytest.raises(TypeError, match="expected complex"):
        maps_from_calibration(kspace.abs(), 8)
    with pytest.raises(ShapeError, match="expected"):
        maps_from_calibration(kspace, 22)
    kspace[0, 0, 10, 12] = math.inf
    with pytest.raises(NotFinite, match="expected finite"):
        maps_from_calibration(kspace, 8)
