"""Phantoms of ellipses: closed forms against independent quadrature."""

import math

import numpy as np
import pytest
import torch

from invdiff.datasets.ellipses import (
    Ellipse,
    line_integrals,
    random_ellipses,
    rasterise,
    shepp_logan,
    spectrum,
)
from invdiff.datasets.mr_phantom import analytic_kspace, band_limited, mr_head, wave_maps
from invdiff.operators import Geometry
from invdiff.operators.fourier import fft2c, ifft2c

TWO = (Ellipse(1.3, (3.0, -5.0), (20.0, 11.0), 0.4), Ellipse(-0.4, (-6.0, 2.0), (4.0, 9.0), -1.0))


def points(ellipses):
    """Points and weights of Gauss rules in polar coordinates: the integral of a phantom times f.

    Spectrally accurate: 48 radii and 160 angles give 1e-12 of functions of a few periods.
    """
    nodes, weights = np.polynomial.legendre.leggauss(48)
    radius, angle = (nodes + 1) / 2, 2 * np.pi * np.arange(160) / 160
    u, v = (radius[:, None] * turn(angle) for turn in (np.cos, np.sin))
    measure = (weights / 2 * radius)[:, None] * np.full(160, 2 * np.pi / 160)
    parts = []
    for ellipse in ellipses:
        a, b = ellipse.axes
        c, s = math.cos(ellipse.turn), math.sin(ellipse.turn)
        x = ellipse.centre[0] + c * a * u - s * b * v
        y = ellipse.centre[1] + s * a * u + c * b * v
        parts.append([part.ravel() for part in (x, y, ellipse.value * a * b * measure)])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("k", [(0.0, 0.0), (1e-12, 0.0), (0.01, 0.02), (-0.11, 0.07), (0.2, -0.3)])
def test_spectrum_is_the_fourier_integral(k):
    x, y, weights = points(TWO)
    expected = weights @ np.exp(-2j * np.pi * (k[0] * x + k[1] * y))
    found = spectrum(TWO, np.array(k[0]), np.array(k[1]))
    assert abs(found - expected) < 1e-9 * weights.sum()


def test_kspace_of_coils_is_the_fourier_integral_of_map_times_phantom():
    """All coils, at some frequencies of a grid with an odd and an even side."""
    shape, pixel = (24, 21), 2.5
    maps = wave_maps(3, 60.0, seed=4)
    kspace = analytic_kspace(TWO, maps, shape, pixel)
    norm = math.sqrt(shape[0] * shape[1]) * pixel**2
    x, y, weights = points(TWO)
    seen = maps.at(x, y) * weights / norm
    for row, column in [(r, c) for r in range(0, 24, 5) for c in range(0, 21, 6)]:
        ky = -(row - 12) / (24 * pixel)  # rows run against y
        kx = (column - 10) / (21 * pixel)
        expected = seen @ np.exp(-2j * np.pi * (kx * x + ky * y))
        assert abs(kspace[:, row, column] - expected).max() < 1e-9 * abs(kspace).max()


def test_kspace_is_that_of_the_rasterised_phantom_at_low_frequencies():
    """The discrete transform of a fine raster of the same view: its pixels are 8 times smaller."""
    shape, pixel, finer = (32, 40), 2.0, 8
    fine = (shape[0] * finer, shape[1] * finer)
    # The pixel centres that the transform has: index n // 2 is the origin.
    image = rasterise(TWO, fine, pixel / finer, 4, centre=(fine[0] // 2, fine[1] // 2))
    numeric = fft2c(torch.from_numpy(image)).numpy() / finer
    middle = numeric[fine[0] // 2 - 16 : fine[0] // 2 + 16, fine[1] // 2 - 20 : fine[1] // 2 + 20]
    exact = band_limited(TWO, shape, pixel)
    # Pixels of 0.25 mm act as a sinc, 1 % at these frequencies; edges are right to a 16th pixel.
    assert abs(middle - exact).max() < 4e-3 * abs(exact).max()


def test_image_of_the_coils_is_map_times_phantom():
    """Inside, away from edges, up to ringing of a few per cent."""
    ellipses = (Ellipse(1.0, (0.0, 0.0), (60.0, 80.0)),)
    maps = wave_maps(6, 240.0, seed=1)
    shape, pixel = (96, 96), 2.5
    images = ifft2c(torch.from_numpy(analytic_kspace(ellipses, maps, shape, pixel))).numpy()
    y = -(np.arange(96) - 48)[:, None] * pixel
    x = (np.arange(96) - 48)[None, :] * pixel
    expected = maps.at(x, y)
    inside = ellipses[0].radius(x, y) < 0.7
    error = abs(images - expected)[:, inside].max()
    assert error < 0.06 * abs(expected[:, inside]).max()
    assert abs(images[:, ellipses[0].radius(x, y) > 1.4]).max() < 0.08


def test_maps_are_like_those_of_coils_around_the_object():
    """Mean sum of squares one, all different, smooth: strong only near the coils."""
    maps = wave_maps(8, 240.0, seed=0)
    axis = np.linspace(-120, 120, 24)
    values = maps.at(axis[None, :], axis[:, None])
    total = (abs(values) ** 2).sum(0)
    assert total.mean() == pytest.approx(1, abs=1e-9)
    assert 0.2 < total.min() < total.max() < 8
    gram = np.einsum("cxy,dxy->cd", values, values.conj())
    scale = np.sqrt(np.diag(gram).real)
    assert (abs(gram / np.outer(scale, scale)) - np.eye(8)).max() < 0.98
    again = wave_maps(8, 240.0, seed=0)
    assert np.array_equal(again.weights, maps.weights)
    assert not np.array_equal(wave_maps(8, 240.0, seed=1).weights, maps.weights)


def test_chords_of_a_disc():
    disc = (Ellipse(0.5, (2.0, -3.0), (10.0, 10.0)),)
    scan = Geometry.parallel((8, 8), [0.0, math.pi / 2], pixel_size=1.0, detectors=41)
    u = np.arange(41) - 20.0
    for view, centre in ((0, 2.0), (1, -3.0)):
        expected = np.sqrt(np.maximum(100 - (u - centre) ** 2, 0))
        assert np.allclose(line_integrals(disc, scan)[view], expected, atol=1e-12)


@pytest.mark.parametrize("beam", ["parallel", "fan"])
def test_line_integrals_by_summing_along_the_rays(beam):
    """Points every 0.01 mm along each ray: two edges per ellipse, 0.02 mm each at most."""
    if beam == "parallel":
        scan = Geometry.parallel((9, 9), 7, pixel_size=5.0, detector_offset=1.0)
    else:
        place = {"source_to_axis": 90.0, "source_to_detector": 150.0}
        scan = Geometry.fan((9, 9), 7, pixel_size=5.0, **place)
    exact = line_integrals(TWO, scan)
    parts = scan.array.reshape(-1, 3, 2)
    t = np.arange(-200, 200, 0.01)
    for view in range(0, 7, 2):
        for cell in range(0, scan.detectors[0], 3):
            ray, centre, step = parts[view]
            place = centre + (cell - (scan.detectors[0] - 1) / 2) * step
            along = ray if beam == "parallel" else place - ray
            along = along / np.linalg.norm(along)
            x, y = place[:, None] + t * along[:, None]
            values = sum(e.value * (e.radius(x, y) <= 1) for e in TWO)
            assert exact[view, cell] == pytest.approx(0.01 * values.sum(), abs=0.05)


def test_sinogram_of_the_operator_agrees():
    """The projector on a fine raster: within its interpolation error."""
    from invdiff.operators import CTOperator

    scan = Geometry.parallel((128, 128), 9, pixel_size=0.5)
    image = torch.from_numpy(rasterise(TWO, (128, 128), 0.5, 4)).float()[None, None]
    found = CTOperator(scan)(image)[0, 0].numpy()
    exact = line_integrals(TWO, scan)
    assert np.abs(found - exact).mean() < 0.01 * exact.max()


def test_arcs_and_volumes_are_refused():
    place = {"source_to_axis": 90.0, "source_to_detector": 150.0}
    arc = Geometry.fan((9, 9), 7, pixel_size=5.0, arc=True, **place)
    with pytest.raises(ValueError, match="straight detectors"):
        line_integrals(TWO, arc)


def test_area_of_the_raster():
    """64 points a pixel: the area to 1e-3."""
    image = rasterise(TWO[:1], (64, 64), 1.0)
    a, b = TWO[0].axes
    assert image.sum() == pytest.approx(1.3 * math.pi * a * b, rel=1e-3)
    row, column = np.unravel_index(
        np.argmax(rasterise((Ellipse(1, (20, 10), (1, 1)),), (64, 64), 1.0)), (64, 64)
    )
    assert abs(31.5 - row - 10) < 1
    assert abs(column - 31.5 - 20) < 1


def test_named_phantoms():
    original, high = shepp_logan(200, "original"), shepp_logan()
    assert len(original) == len(high) == 10
    image = rasterise(original, (64, 64), 200 / 64)
    assert image.max() == pytest.approx(2.0, abs=0.02)
    assert rasterise(high, (64, 64), 200 / 64).max() == pytest.approx(1.0, abs=0.02)
    assert image[32, 32] == pytest.approx(1.02, abs=0.02)
    with pytest.raises(KeyError):
        shepp_logan(200, "other")
    assert random_ellipses(3) == random_ellipses(3)
    assert random_ellipses(3) != random_ellipses(4)
    assert len(random_ellipses(0, 5)) == 6
    with pytest.raises(ValueError, match="half axes"):
        Ellipse(1.0, (0, 0), (1.0, 0.0))


def test_head_has_the_contrast_that_its_times_give():
    """White matter is brighter than grey under T1 weighting, fluid the brightest under T2."""
    t1 = rasterise(mr_head(), (120, 120), 2.0)
    t2 = rasterise(mr_head(4.0, 0.1), (120, 120), 2.0)
    at = {"white": (58, 84), "fluid": (50, 68), "grey": (58, 90)}
    assert t1[at["white"]] > t1[at["grey"]] > t1[at["fluid"]] > 0.05
    assert t2[at["fluid"]] > t2[at["grey"]] > t2[at["white"]] > 0.05
    assert t1.min() > -1e-12
