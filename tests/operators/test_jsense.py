"""JSENSE: small and incomplete calibration blocks, against the truth and the other estimates."""

import math

import pytest
import torch

from invdiff.errors import NotFinite, ShapeError
from invdiff.operators import birdcage_maps, jsense_maps, maps_from_calibration
from invdiff.operators.cartesian_mri import fft2c

SIZE = 64


def scan(noise=2e-3):
    """A textured ellipse in a smooth phase and six coils, on a grid twice as fine."""
    t = torch.linspace(-1, 1, 2 * SIZE + 1, dtype=torch.float64)[:-1]
    radius = (t[:, None] ** 2 / 0.7 + t**2 / 0.5).sqrt()
    texture = 1 + 0.3 * torch.cos(14 * t)[:, None] * torch.sin(11 * t)
    image = torch.polar(torch.sigmoid(30 * (0.9 - radius)) * texture, 0.7 * t[:, None] + 0 * t)
    maps = birdcage_maps(6, 2 * SIZE, 2 * SIZE).to(torch.complex128)
    half = slice(SIZE // 2, SIZE // 2 + SIZE)
    kspace = fft2c(maps * image)[..., half, half] / 2
    generator = torch.Generator().manual_seed(0)
    kspace = kspace + noise * torch.randn(kspace.shape, generator=generator, dtype=kspace.dtype)
    inside = image[::2, ::2].abs() > 0.3
    return kspace.to(torch.complex64), maps[..., ::2, ::2], inside


@pytest.fixture(scope="module")
def measured():
    return scan()


def loss(maps, truth, inside):
    """One minus the mean coherence with the truth in the object."""
    return float(1 - (maps.to(truth).conj() * truth).sum(1).abs()[0][inside].mean())


@pytest.mark.parametrize(("width", "kernel", "limit"), [(24, 8, 1e-4), (10, 6, 1e-3)])
def test_maps_are_the_true_ones(measured, width, kernel, limit):
    """And at least four times closer to them than low-resolution maps of the same samples."""
    kspace, truth, inside = measured
    maps = jsense_maps(kspace, width, kernel)
    assert maps.shape == kspace.shape
    assert maps.dtype == kspace.dtype
    assert loss(maps, truth, inside) < limit
    simple = loss(maps_from_calibration(kspace, width), truth, inside)
    assert loss(maps, truth, inside) < simple / 4
    assert (maps.abs().square().sum(1) - 1).abs().max() < 1e-5


def test_missing_samples_are_no_harm(measured):
    """Two fifths of the centre, at random, and 10 x 10 complete samples."""
    kspace, truth, inside = measured
    kept = torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(1)) < 0.4
    kept[SIZE // 2 - 5 : SIZE // 2 + 5, SIZE // 2 - 5 : SIZE // 2 + 5] = True
    assert loss(jsense_maps(kspace * kept, 32), truth, inside) < 2e-4
    with pytest.raises(ValueError, match="zero in every coil"):
        jsense_maps(kspace * kept, 32, kernel=14)


def test_scale_and_batch_change_nothing(measured):
    """In the object to 1e-3: ten rounds carry single precision's rounding on."""
    kspace, _, inside = measured
    alone = jsense_maps(kspace, 16)
    pair = jsense_maps(torch.cat([kspace.flip(1), 1e-7 * kspace]), 16)
    assert ((pair[1] - alone[0]) * inside).abs().max() < 1e-3


def test_phase_is_that_of_the_low_resolution_maps(measured):
    kspace, _, inside = measured
    low = maps_from_calibration(kspace, 24)
    product = (low.conj() * jsense_maps(kspace, 24)).sum(1)[0][inside]
    assert product.angle().abs().median() < 0.02


def test_refusals(measured):
    kspace = measured[0]
    for wrong in ({"kernel": 17}, {"kernel": 1}, {"rounds": 0}, {"iterations": 0}):
        with pytest.raises(ValueError, match="expected 2 <= kernel <= width"):
            jsense_maps(kspace, 16, **wrong)
    with pytest.raises(ShapeError, match="expected"):
        jsense_maps(kspace[0], 16)
    with pytest.raises(NotFinite, match="expected finite"):
        jsense_maps(kspace * math.nan, 16)
