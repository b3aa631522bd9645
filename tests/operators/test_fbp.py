"""Filtered backprojection: discs with known line integrals, closed forms, and ASTRA."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from ct_shapes import BALLS, errors, grid, scan
from scipy.integrate import quad

from invdiff.errors import ShapeError
from invdiff.operators import (
    Beam,
    CTOperator,
    Geometry,
    ParallelBeamCT,
    cosine,
    fbp,
    hann,
    project_once,
    ram_lak,
    shepp_logan,
)
from invdiff.operators import ct_weights as weights_module
from invdiff.operators.ct_filter import ramp_filter
from invdiff.operators.ct_orbit import Orbit, orbit
from invdiff.operators.ct_weights import angles_of, ray_weights

SHAPE, TURN = (64, 64), 2 * math.pi
SOURCE = {"source_to_axis": 160.0, "source_to_detector": 260.0, "pixel_size": 1.0}
FAN = 2 * math.asin(32 * 2**0.5 / 160)
GOLDEN = [float(k * 2.399963 % TURN) for k in range(150)]
WINDOWS = (ram_lak, shepp_logan, cosine, hann)


def parallel(views=120, **more):
    return Geometry.parallel(SHAPE, views, **{"pixel_size": 1.0, **more})


def fan(views=240, **more):
    return Geometry.fan(SHAPE, views, **{**SOURCE, **more})


def reconstruct(geometry, window=hann, **more):
    return fbp(CTOperator(geometry), scan(geometry), window, **more)[0, 0].numpy()


SCANS = {
    "half turn": lambda: parallel(),
    "turn, odd views": lambda: parallel(181, span=TURN),
    "overscan": lambda: parallel(170, span=math.radians(250)),
    "golden angles": lambda: parallel(GOLDEN),
    "offset": lambda: parallel(detector_offset=3.3),
    "coarse cells": lambda: parallel(detector_spacing=1.3),
    "half a detector": lambda: parallel(240, span=TURN, detectors=45, detector_offset=15.2),
    "flat pixels": lambda: Geometry.parallel((80, 64), 120, pixel_size=(0.8, 1.0)),
} | {
    f"{name}, {'arc' if arc else 'line'}": lambda arc=arc, more=more: fan(arc=arc, **more)
    for arc in (False, True)
    for name, more in {
        "fan": {},
        "fan, offset": {"detector_offset": 4.3},
        "fan, shift": {"lateral_shift": 6.3},
        "fan, quarter cell": {"detector_offset": 0.25 * 260 / 160},
        "fan, short": {"views": 160, "span": math.pi + FAN, "start": 0.3},
        "fan, short, clockwise": {"views": 160, "span": -math.pi - FAN},
        "fan, short, shift": {"views": 160, "span": math.pi + FAN, "lateral_shift": 6.3},
        "fan, 300 degrees": {"views": 200, "span": math.radians(300)},
        "fan, half a detector": {"detectors": 45, "detector_offset": 25.0},
        "fan, other half": {"detectors": 45, "detector_offset": -25.0},
    }.items()
}


@pytest.mark.parametrize("name", SCANS)
def test_discs_have_their_attenuation(name):
    """Bias below 0.1 %; single pixels, with their streaks, 1 % (rms). No scale is fitted."""
    geometry = SCANS[name]()
    bias, rms, outside, streaks = errors(geometry, reconstruct(geometry))
    assert bias < 1e-3
    assert rms < 0.01
    assert outside < 2e-3
    assert streaks < 0.02


@pytest.mark.parametrize("arc", [False, True])
def test_parkers_shares_are_needed(arc, monkeypatch):
    """With half for every ray of a short scan, the discs are off by more than 10 %."""
    monkeypatch.setattr(
        weights_module, "_short", lambda scan, *_: np.full(scan.distance.shape, 0.5)
    )
    geometry = fan(160, span=math.pi + FAN, arc=arc)
    assert errors(geometry, reconstruct(geometry))[1] > 0.1


@pytest.mark.parametrize("more", [{"span": math.pi + FAN, "start": 0.4}, {"span": 5.0}])
def test_a_line_measured_twice_counts_once(more):
    """Cells half a view's step apart: the same line is the ray of a whole view and cell."""
    steps = 180
    views = round(more["span"] / TURN * steps)
    alpha = math.pi / steps
    arc = {"arc": True, "detectors": 33, "detector_spacing": 260 * alpha}
    geometry = fan(views, **arc, **{**more, "span": views * TURN / steps})
    found = ray_weights(geometry, orbit(geometry), False) / (TURN / steps)
    for view in range(views):
        for cell in range(33):
            other = (view + steps // 2 - (cell - 16)) % steps  # beta + pi - 2 gamma
            twice = found[other, 32 - cell] if other < views else 0.0
            assert found[view, cell] + twice == pytest.approx(1, abs=1e-9)


def test_a_displaced_detector_counts_every_line_once():
    distance = np.linspace(-10, 40, 51)
    t = np.broadcast_to(distance, (36, 51))
    made = Orbit(np.arange(36) * TURN / 36, t, np.inf, 1.0, np.inf, np.ones(51))
    found = ray_weights(parallel(), made, False) / (TURN / 36)
    assert np.allclose(found[:, :21] + found[:, 20::-1], 1, atol=1e-12)
    assert np.allclose(found[:, 20:], 1, atol=1e-12)


def test_views_stand_for_half_the_way_to_their_neighbours():
    """In any order, and with 0.1 once from each side."""
    found = angles_of(np.array([0.1, 3.0, 0.7, 1.5, 0.1 + math.pi]), math.pi)
    around = 0.1 + math.pi - 3.0
    both, *others = found.weight[[0, 4]].sum(), *found.weight[1:4]
    assert np.allclose([both, *others], [(0.6 + around) / 2, (1.5 + around) / 2, 0.7, 1.15])
    assert found.missing == 0


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.__name__)
def test_windows(window):
    """Their noise: white noise of variance 1 gets the variance int f^2 W^2 df (f to 1/2)."""
    assert window(torch.zeros(())) == pytest.approx(1)
    expected = {ram_lak: 1, shepp_logan: 2 / math.pi, cosine: 0, hann: 0}[window]
    assert float(window(torch.ones(()))) == pytest.approx(expected, abs=1e-7)
    impulse = torch.zeros(2049, dtype=torch.float64)
    impulse[1024] = 1
    power, _ = quad(lambda f: 2 * (f * float(window(torch.tensor(2 * f)))) ** 2, 0, 0.5)
    # The response to an impulse has tails of 1 / n^2, cut at 1024.
    assert ramp_filter(impulse, 1.0, window).square().sum() == pytest.approx(power, rel=1e-6)


@pytest.mark.parametrize("radius", [math.inf, 50.0])
def test_the_ramp_has_its_samples_in_space(radius):
    impulse = torch.zeros(41, dtype=torch.float64)
    impulse[20] = 1
    n = torch.arange(-20, 21, dtype=torch.float64)
    u = 0.7 * n if math.isinf(radius) else radius * torch.sin(0.7 * n / radius)
    expected = torch.where(n % 2 == 1, -0.7 / (math.pi * u) ** 2, 0.0)
    expected[20] = 1 / (4 * 0.7)
    found = ramp_filter(impulse, 0.7, ram_lak, radius)
    assert torch.allclose(found, expected, atol=1e-14)


def astra_fbp(geometry, y, name):
    import astra

    rays = astra.create_proj_geom("parallel", 1.0, geometry.detectors[0], geometry.angles)
    projector = astra.create_projector("linear", rays, astra.create_vol_geom(*SHAPE))
    sinogram = astra.data2d.create("-sino", rays, y[0, 0].float().numpy())
    image = astra.data2d.create("-vol", astra.create_vol_geom(*SHAPE))
    settings = astra.astra_dict("FBP")
    settings.update(ProjectorId=projector, ProjectionDataId=sinogram, ReconstructionDataId=image)
    settings["option"] = {"FilterType": name}
    algorithm = astra.algorithm.create(settings)
    astra.algorithm.run(algorithm)
    found = astra.data2d.get(image)
    astra.algorithm.delete(algorithm)
    astra.data2d.delete([sinogram, image])
    astra.projector.delete(projector)
    return found


@pytest.mark.parametrize("window", WINDOWS, ids=lambda window: window.__name__)
def test_the_filter_is_astras(window):
    """Followed by the adjoint, as ASTRA does, it gives ASTRA's image: measured gaps 3e-4.

    The adjoints differ by that at the image's rim; the filters by 1e-7 of the impulse.
    """
    pytest.importorskip("astra")
    A = ParallelBeamCT(SHAPE, 60, 1.0)
    y = scan(A.geometry)
    found = math.pi / 60 * A.adjoint(ramp_filter(y, 1.0, window))[0, 0].numpy()
    expected = astra_fbp(A.geometry, y, window.__name__.replace("_", "-"))
    middle = slice(8, -8)
    gap = found[middle, middle] - expected[middle, middle]
    assert np.linalg.norm(gap) < 5e-4 * np.linalg.norm(expected)


def test_better_than_astras_on_measured_strips():
    """Interpolation between cells is closer to the truth than the adjoint of a projector."""
    pytest.importorskip("astra")
    geometry = parallel(60)
    x, y = grid(geometry.finer(4))
    discs = [value * (np.hypot(x - c[0], y - c[1]) < r) for c, r, value in BALLS]
    fine = np.sum(discs, axis=0).astype(np.float32)
    truth = fine.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    data = torch.from_numpy(project_once(geometry.finer(4), fine).copy())[None, None]
    ours = fbp(CTOperator(geometry), data)[0, 0].numpy()
    theirs = astra_fbp(geometry, data, "ram-lak")
    assert np.square(ours - truth).mean() < np.square(theirs - truth).mean()


@pytest.mark.parametrize("arc", [False, True])
def test_a_far_source_is_parallel(arc):
    """At 1e6 mm rays differ by up to 2e-3 of a cell, and so do images of white noise."""
    far = {"source_to_axis": 1e6, "source_to_detector": 1e6, "detectors": 92, "arc": arc}
    near = parallel(90, span=TURN, detectors=92)
    y = torch.randn(1, 1, 90, 92, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one = fbp(CTOperator(fan(90, **far)), y)
    assert torch.allclose(one, fbp(CTOperator(near), y), rtol=0, atol=0.01 * float(one.std()))


@pytest.mark.parametrize("more", [{"detector_offset": 5.3}, {"lateral_shift": 5.3}])
@pytest.mark.parametrize("make", [parallel, fan, lambda **m: fan(arc=True, **m)])
def test_offsets_do_not_move_the_image(make, more):
    """Other rays of the same discs: the images differ by sampling alone, 5e-3 rms of the disc."""
    gap = reconstruct(make()) - reconstruct(make(**more))
    smooth = (
        np.abs(np.hypot(*(a - c for a, c in zip(grid(make()), BALLS[0][0], strict=False))) - 16)
        > 3
    )
    assert np.sqrt(np.square(gap[smooth]).mean()) < 0.02 * 0.02


def test_order_and_repetition_of_views_do_not_matter():
    angles = np.linspace(0, TURN, 50, endpoint=False) + 0.1
    shuffled = np.random.default_rng(0).permutation(angles)
    one = reconstruct(fan(list(angles)))
    assert np.allclose(reconstruct(fan(list(shuffled))), one, atol=1e-12)
    assert np.allclose(reconstruct(fan([*angles, *angles])), one, atol=1e-12)


def test_rows_of_a_batch_and_derivatives():
    """Rows are what they are alone; the derivative is the transpose (the map is linear)."""
    A = CTOperator(fan(20))
    source = torch.Generator().manual_seed(0)
    y = torch.randn(3, *A.range, generator=source, dtype=torch.float64, requires_grad=True)
    found = fbp(A, y)
    assert torch.allclose(found[1:2], fbp(A, y[1:2]), atol=1e-14)
    x = torch.randn(found.shape, generator=source, dtype=torch.float64)
    (back,) = torch.autograd.grad((x * found).sum(), y)
    assert float((back * y.detach()).sum()) == pytest.approx(float((x * found.detach()).sum()))
    single = fbp(A, y.detach().float())
    assert single.dtype == torch.float32
    assert (single - found).abs().max() < 1e-5 * found.abs().max()


def test_memory_is_bounded(monkeypatch):
    """Views in chunks of any size give the same sum."""
    import invdiff.operators.ct_backprojection as module

    whole = reconstruct(fan(37))
    monkeypatch.setattr(module, "NUMBERS", 3 * 64 * 64 * 9)
    assert np.allclose(reconstruct(fan(37)), whole, atol=1e-15)


@pytest.mark.parametrize(
    "make",
    [
        lambda: parallel(100, span=2.5),
        lambda: fan(100, span=math.pi),
        lambda: fan([*np.linspace(0, 2, 50), *np.linspace(3, 5, 50)]),
    ],
    ids=["limited angle", "short fan", "two ranges"],
)
def test_missing_angles_are_refused(make):
    geometry = make()
    with pytest.raises(ValueError, match=r"wide gaps between the angles.*incomplete=True"):
        reconstruct(geometry)
    found = reconstruct(geometry, incomplete=True)
    x, y = grid(geometry)
    inside = np.hypot(x - BALLS[0][0][0], y - BALLS[0][0][1]) < 12
    assert 0.004 < found[inside].mean() < 0.03


@pytest.mark.parametrize(
    "make",
    [
        lambda: parallel(detectors=50),
        lambda: parallel(detectors=45, detector_offset=15.2),
        lambda: fan(160, span=math.pi + FAN, detectors=45, detector_offset=25.0),
        lambda: fan(detectors=20, detector_offset=80.0),
    ],
    ids=["too small", "half a turn", "short", "axis not seen"],
)
def test_truncated_scans_are_refused(make):
    with pytest.raises(ValueError, match=r"The detector sees rays up to.*incomplete=True"):
        reconstruct(make())
    assert np.isfinite(reconstruct(make(), incomplete=True)).all()


def test_what_is_no_circular_scan():
    geometry = fan(8)
    bent = [list(view) for view in geometry.vectors]
    bent[3][0] += 1.0
    with pytest.raises(ValueError, match="not a circular one"):
        reconstruct(dataclasses.replace(geometry, vectors=tuple(map(tuple, bent))))
    cells = [list(view) for view in parallel(8).vectors]
    cells[2][4:] = [1.1 * n for n in cells[2][4:]]
    with pytest.raises(ValueError, match="width of the cells"):
        reconstruct(dataclasses.replace(parallel(8), vectors=tuple(map(tuple, cells))))
    close = Geometry(SHAPE, (1.0, 1.0), (60,), Beam.DIVERGENT, ((0, -40, 0, 60, 2, 0),))
    with pytest.raises(ValueError, match="half the image's diagonal"):
        reconstruct(close)


def test_wrong_shapes():
    A = CTOperator(fan(20))
    with pytest.raises(ShapeError):
        fbp(A, torch.zeros(A.range))
    volume = Geometry.cone((4, 8, 8), 20, **SOURCE, detectors=(4, 16), detector_spacing=(2.0, 2.0))
    with pytest.raises(ValueError, match="Use fdk"):
        fbp(CTOperator(volume), torch.zeros(1, 1, *volume.sinogram_shape))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["half turn", "fan, line", "fan, short, arc"])
def test_cuda(name):
    geometry = SCANS[name]()
    y = scan(geometry).float()
    on_host = fbp(CTOperator(geometry), y, hann)
    on_device = fbp(CTOperator(geometry), y.cuda(), hann)
    assert on_device.is_cuda
    assert (on_device.cpu() - on_host).abs().max() < 1e-5 * on_host.abs().max()
