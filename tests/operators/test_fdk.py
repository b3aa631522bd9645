"""Feldkamp's reconstruction: fans in the central plane, balls, cylinders, and no circles."""

import dataclasses
import importlib
import math

import numpy as np
import pytest
import torch
from ct_shapes import chords, errors, grid, scan

from invdiff.errors import ShapeError
from invdiff.operators import CTOperator, Geometry, fbp, fdk, hann
from invdiff.operators.ct_rays import rays

SHAPE = (3, 64, 64)
SOURCE = {"source_to_axis": 160.0, "source_to_detector": 260.0, "pixel_size": 1.0}
FAN = 2 * math.asin(32 * 2**0.5 / 160)
DETECTOR = {"detectors": (13, 100), "detector_spacing": (1.6, 1.6)}


def cone(views=180, shape=SHAPE, **more):
    return Geometry.cone(shape, views, **{**SOURCE, **DETECTOR, **more})


def reconstruct(geometry, y=None, **more):
    y = scan(geometry) if y is None else y
    return fdk(CTOperator(geometry), y, hann, **more)[0, 0].numpy()


@pytest.mark.parametrize("arc", [False, True])
def test_the_central_plane_is_a_fan(arc):
    """The same numbers, whatever is above and below."""
    geometry = cone(30, arc=arc, lateral_shift=2.0)
    y = torch.randn(2, 1, 13, 30, 100, generator=torch.Generator().manual_seed(0)).double()
    plane = {"detectors": 100, "detector_spacing": 1.6, "lateral_shift": 2.0, "arc": arc}
    flat = CTOperator(Geometry.fan(SHAPE[1:], 30, **SOURCE, **plane))
    found = fdk(CTOperator(geometry), y)[:, :, 1]
    assert torch.allclose(found, fbp(flat, y[:, :, 6]), atol=1e-12)


@pytest.mark.parametrize("arc", [False, True])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"detector_offset": (1.1, 3.3)},
        {"lateral_shift": 4.3},
        {"views": 130, "span": math.pi + FAN, "start": 0.3},
        {"detectors": (13, 60), "detector_offset": (0.0, 30.0)},
    ],
    ids=["whole", "offset", "shift", "short", "half a detector"],
)
def test_balls_have_their_attenuation(arc, more):
    """In their central plane: bias below 0.1 %, single pixels 1 % (rms)."""
    geometry = cone(arc=arc, **more)
    bias, rms, outside, streaks = errors(geometry, reconstruct(geometry)[1])
    assert bias < 1e-3
    assert rms < 0.01
    assert outside < 2e-3
    assert streaks < 0.02


def cylinder():
    """A wide cone, its line integrals of an endless cylinder, and of the disc in its plane."""
    tall = {"detectors": (61, 100), "detector_offset": (0.7, 0.0), "pixel_size": (12.0, 1.0, 1.0)}
    geometry = cone(60, **tall)
    lines = rays(geometry, np.arange(math.prod(geometry.sinogram_shape)))
    flat = np.hypot(*lines.direction[:, :2].T)
    x, y = lines.origin[:, :2].T - [[5.0], [-4.0]]
    distance = (x * lines.direction[:, 1] - y * lines.direction[:, 0]) / flat
    length = 2 * np.sqrt(np.maximum(18.0**2 - distance**2, 0)) / flat
    plane = Geometry.fan(SHAPE[1:], 60, **SOURCE, detectors=100, detector_spacing=1.6)
    disc = torch.from_numpy(chords(plane, (5.0, -4.0), 18.0))[None, None]
    return (
        reconstruct(geometry, torch.from_numpy(length.reshape(1, 1, *geometry.sinogram_shape))),
        fbp(CTOperator(plane), disc, hann)[0, 0].numpy(),
    )


def test_what_does_not_change_along_the_axis_is_exact():
    """Slices 12 mm above and below the source's plane, 4 degrees of cone: each is the fan's."""
    slices, expected = cylinder()
    assert np.allclose(slices, expected, atol=1e-12)


def test_the_elevation_is_needed(monkeypatch):
    """Without, the slices above and below would be wrong by more than 0.2 %."""
    module = importlib.import_module("invdiff.operators.fdk")
    monkeypatch.setattr(module, "_elevation", lambda geometry: 1.0)
    slices, expected = cylinder()
    assert np.abs(slices[0] - expected).max() > 2e-3 * expected.max()


def test_a_ball_above_the_plane_is_where_it_is():
    """Its middle at z = 4 mm, between -12 and 12, one slice every 4 mm: right within 1 %."""
    tall = {"detectors": (41, 100), "pixel_size": (4.0, 1.0, 1.0)}
    geometry = cone(120, (7, 64, 64), **tall)
    y = chords(geometry, (5.0, -4.0, 4.0), 11.0)
    found = reconstruct(geometry, torch.from_numpy(y)[None, None])
    x, up = grid(geometry)
    profile = found[:, np.hypot(x - 5, up + 4) < 5].mean(axis=1)
    assert profile[4] == pytest.approx(1, abs=0.01)
    assert profile[3] == pytest.approx(profile[5], abs=0.01)
    assert profile[2] == pytest.approx(profile[6], abs=0.05)
    assert profile[1] < 0.05


def test_slices_and_views_in_chunks(monkeypatch):
    whole = reconstruct(cone(20))
    monkeypatch.setattr("invdiff.operators.ct_backprojection.NUMBERS", 2 * 64 * 64 * 9)
    assert np.allclose(reconstruct(cone(20)), whole, atol=1e-15)


def test_what_is_no_circular_orbit():
    helix = Geometry.helical(SHAPE, 40, turns=2.0, pitch=5.0, **SOURCE, **DETECTOR)
    with pytest.raises(ValueError, match=r"rise by .* helix"):
        reconstruct(helix)
    geometry = cone(8)
    tilted = [list(view) for view in geometry.vectors]
    for view in tilted:
        view[9:] = [0.1, 0.0, 1.5]
    with pytest.raises(ValueError, match="upright detector"):
        reconstruct(dataclasses.replace(geometry, vectors=tuple(map(tuple, tilted))))


def test_refusals():
    with pytest.raises(ValueError, match="Use fbp for images"):
        flat = Geometry.parallel((8, 8), 4, pixel_size=1.0)
        fdk(CTOperator(flat), torch.zeros(1, 1, *flat.sinogram_shape))
    with pytest.raises(ValueError, match="wide gaps"):
        reconstruct(cone(60, span=2.0))
    with pytest.raises(ShapeError):
        fdk(CTOperator(cone(4)), torch.zeros(1, 13, 4, 100))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda():
    y = scan(cone()).float()
    on_host, on_device = (fdk(CTOperator(cone()), data, hann) for data in (y, y.cuda()))
    assert on_device.is_cuda
    assert (on_device.cpu() - on_host).abs().max() < 1e-5 * on_host.abs().max()
