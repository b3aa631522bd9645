"""CT geometries: what the constructors mean, and what is refused."""

import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

from invdiff.errors import ShapeError
from invdiff.operators import Beam, Geometry
from invdiff.operators.ct_rays import cells_at, rays

FAN = {"pixel_size": 0.5, "source_to_axis": 100.0, "source_to_detector": 150.0}
CONE = {**FAN, "detectors": (5, 7), "detector_spacing": (1.5, 0.9)}
MAKERS = {
    "parallel": lambda: Geometry.parallel((20, 30), 6, pixel_size=0.5, detector_offset=0.2),
    "fan": lambda: Geometry.fan((20, 30), 6, **FAN, detector_offset=3.0, lateral_shift=-2.0),
    "arc": lambda: Geometry.fan((20, 30), 6, **FAN, arc=True, detector_offset=3.0),
    "cone": lambda: Geometry.cone((8, 20, 30), 6, **CONE, detector_offset=(2.0, 3.0)),
    "helical": lambda: Geometry.helical((8, 20, 30), 6, turns=2.0, pitch=4.0, **CONE),
}


@pytest.fixture(params=MAKERS)
def geometry(request):
    return MAKERS[request.param]()


def test_json_pickle_and_hash(geometry):
    again = Geometry.from_json(geometry.to_json())
    assert again == geometry
    assert again.vectors == geometry.vectors
    assert hash(again) == hash(geometry)
    assert pickle.loads(pickle.dumps(geometry)) == geometry
    assert geometry != MAKERS["parallel"]().finer(2)
    assert len(repr(geometry)) < 250
    assert geometry.key[:12] in repr(geometry)


def test_the_key_is_the_same_in_another_process():
    script = (
        "from invdiff.operators import Geometry;"
        "print(Geometry.fan((20, 30), 6, pixel_size=0.5, source_to_axis=100,"
        "source_to_detector=150, detector_offset=3, lateral_shift=-2).key)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == MAKERS["fan"]().key, done.stderr


def test_any_number_changes_the_key():
    one = Geometry.parallel((20, 30), 6, pixel_size=0.5, detectors=40, detector_spacing=0.5)
    other = Geometry.parallel((20, 30), 6, pixel_size=0.5, detectors=40, detector_spacing=0.6)
    assert one.key != other.key
    assert one == Geometry.parallel((20, 30), 6, pixel_size=(0.5, 0.5), detectors=40)


@pytest.mark.parametrize("arc", [False, True])
def test_a_fan_ray_is_a_parallel_ray(arc):
    """With the angle phi within the fan: u = R sin(phi) + shift cos(phi) under a - phi."""
    angle, spacing, offset, shift = 0.7, 0.9, 3.0, -2.0
    geometry = Geometry.fan(
        *((20, 30), (angle,)),
        **FAN,
        detectors=9,
        detector_spacing=spacing,
        detector_offset=offset,
        lateral_shift=shift,
        arc=arc,
    )
    t = (np.arange(9) - 4) * spacing + offset
    phi = t / 150 if arc else np.arctan(t / 150)
    found = rays(geometry, np.arange(9))
    theta = angle - phi
    direction = np.stack([-np.sin(theta), np.cos(theta)], axis=1)
    assert np.abs(found.direction - direction).max() < 1e-14
    u = (found.origin * np.stack([np.cos(theta), np.sin(theta)], axis=1)).sum(1)
    assert np.abs(u - (100 * np.sin(phi) + shift * np.cos(phi))).max() < 1e-12


def test_helical_rays_rise():
    """By hand: the source's height, and a ray to the upper row."""
    geometry = Geometry.helical((8, 20, 30), 4, turns=2.0, pitch=6.0, **CONE)
    views = geometry.array.reshape(4, 4, 3)
    assert np.allclose(
        views[:, 0, 2], [-4.5, -1.5, 1.5, 4.5]
    )  # 12 mm in 2 turns, half a turn each
    assert np.allclose(geometry.angles, np.arange(4) * math.pi)
    last_row_of_first_view = np.ravel_multi_index((4, 0, 3), geometry.sinogram_shape)
    found = rays(geometry, np.array([last_row_of_first_view]))
    assert np.allclose(found.origin, [[0, -100, -4.5]])
    assert np.allclose(found.direction * math.hypot(150, 3), [[0, 150, 3]])


def test_an_arc_is_evenly_spaced_in_angle():
    """And its rows are rings of one cylinder about the source."""
    geometry = Geometry.cone((8, 20, 30), (0.3,), **CONE, arc=True, detector_offset=(2.0, 3.0))
    found = rays(geometry, np.arange(35)).direction.reshape(5, 7, 3)
    level = np.arctan2(found[..., 1], found[..., 0])
    assert np.allclose(np.diff(level, axis=1), -0.9 / 150)
    rise = found[..., 2] / np.hypot(found[..., 0], found[..., 1])
    assert np.allclose(rise, ((np.arange(5) - 2) * 1.5 + 2)[:, None] / 150)


@pytest.mark.parametrize("name", ["parallel", "fan", "arc"])
def test_cells_and_rays_agree(name):
    """A point on a ray is cast on that ray's cell."""
    geometry = MAKERS[name]()
    cells = geometry.detectors[0]
    for view in range(geometry.views):
        found = rays(geometry, view * cells + np.arange(cells))
        middle = -(found.origin * found.direction).sum(1, keepdims=True)  # nearest to the axis
        at = found.origin + (middle + 3.0) * found.direction
        assert np.abs(cells_at(geometry, view, *at.T) - np.arange(cells)).max() < 1e-9


@pytest.mark.parametrize("arc", [False, True])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_the_default_detector_sees_every_pixel(arc, offset):
    """Corners are cast on it, and one cell fewer on each side would be too few."""
    fan = Geometry.fan((20, 30), 200, **FAN, arc=arc, detector_offset=offset)
    parallel = Geometry.parallel((20, 30), 200, pixel_size=0.5, detector_offset=offset)
    for geometry in (fan, parallel):
        corners = np.array([(x, y) for x in (-7.5, 7.5) for y in (-5, 5)]).T
        cast = np.stack([cells_at(geometry, view, *corners) for view in range(200)])
        assert cast.min() >= -0.5
        assert cast.max() <= geometry.detectors[0] - 0.5
        if not offset:
            assert cast.min() < 0.5 + 0.05
            assert cast.max() > geometry.detectors[0] - 1.55


def test_angles():
    assert np.allclose(
        Geometry.parallel((9, 9), 4, pixel_size=1.0, start=0.1, span=2.0).angles,
        0.1 + np.arange(4) / 2,
    )
    assert np.allclose(
        Geometry.fan((9, 9), 5, **FAN, start=-1.0).angles, -1 + np.arange(5) * 2 * math.pi / 5
    )
    given = (0.3, 0.1, 2.0)
    assert np.allclose(Geometry.cone((3, 9, 9), given, **CONE).angles, given)


def test_finer_pixels_and_the_same_rays():
    geometry = MAKERS["cone"]()
    fine = geometry.finer(3)
    assert fine.image_shape == (24, 60, 90)
    assert np.allclose(fine.pixel_size, 0.5 / 3)
    assert fine.vectors == geometry.vectors
    assert fine.diagonal() == pytest.approx(geometry.diagonal())


def test_pixels_may_differ_along_the_axes():
    geometry = Geometry.parallel((20, 30), 4, pixel_size=(0.5, 2.0))
    assert not geometry.square_pixels
    assert geometry.diagonal() == pytest.approx(math.hypot(10, 60))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Geometry.parallel((8, 8), 180 * (1.0,) + (90.0,), pixel_size=1.0), ValueError,
         "deg2rad"),
        (lambda: Geometry.parallel((8, 8), 0, pixel_size=1.0), ValueError, "at least one"),
        (lambda: Geometry.parallel((8, 8), (0.0, math.nan), pixel_size=1.0), ValueError, "finite"),
        (lambda: Geometry.parallel((8, 8), 3, pixel_size=-1.0), ValueError, "mm"),
        (lambda: Geometry.parallel((8, 8), 3, pixel_size=(1.0, 1.0, 1.0)), ValueError, "2 posit"),
        (lambda: Geometry.parallel((8, 8), 3, pixel_size="1 mm"), ValueError, "mm"),
        (lambda: Geometry.parallel((8, 8), 3, pixel_size=1.0, detectors=0), ShapeError, "cells"),
        (lambda: Geometry.parallel((8, 8), 3, pixel_size=1.0, detector_spacing=0.0), ValueError,
         "detector_spacing"),
        (lambda: Geometry.parallel((8,), 3, pixel_size=1.0), ShapeError, "rows, columns"),
        (lambda: Geometry.parallel((8, 0), 3, pixel_size=1.0), ShapeError, "at least 1"),
        # Metres instead of millimetres: the source is within the image.
        (lambda: Geometry.fan((200, 200), 3, pixel_size=1.0, source_to_axis=0.57,
                              source_to_detector=1.04), ValueError, "mm"),
        (lambda: Geometry.fan((200, 200), 3, pixel_size=1.0, source_to_axis=90.0, detectors=9,
                              source_to_detector=200.0), ValueError, "outside the image"),
        (lambda: Geometry.fan((8, 8), 3, **FAN, detector_spacing=-1.0), ValueError, "detector_sp"),
        (lambda: Geometry.cone((8, 8), 3, **CONE), ShapeError, r"expected \(cells,\)"),
        (lambda: Geometry.cone((8, 8, 8), 3, **CONE | {"detectors": (4,)}), ShapeError, "rows, c"),
        (lambda: Geometry.helical((8, 8, 8), 0, turns=1.0, pitch=1.0, **CONE), ValueError, "0 a"),
        (lambda: Geometry.helical((8, 8, 8), 9, turns=1.0, pitch=0.0, **CONE), ValueError, "pit"),
        (lambda: Geometry.parallel((8, 8), 9, pixel_size=1.0, span=180.0), ValueError, "radians"),
        (lambda: Geometry.helical((8, 8, 8), 9, turns=0.0, pitch=1.0, **CONE), ValueError, "turn"),
        (lambda: Geometry((8, 8), (1.0, 1.0), (9,), Beam.PARALLEL, ()), ShapeError, "one view"),
        (lambda: Geometry((8, 8), (1.0, 1.0), (9,), Beam.PARALLEL, ((0, 1, 0, 0, 0, 1),)),
         ValueError, "degenerate"),
        (lambda: Geometry((8, 8), (1.0, 1.0), (9,), Beam.PARALLEL, ((0, 1, 0, 0, 1, 0),), True),
         ValueError, "arc=False"),
        (lambda: Geometry((8, 8), (1.0, 1.0), (9,), Beam.DIVERGENT, ((0, -9, 0, 9, 1, 1),), True),
         ValueError, "right angles"),
        (lambda: Geometry.from_json("[1, 2]"), ValueError, "to_json"),
        (lambda: Geometry.from_json(json.dumps({"beam": "parallel"})), ValueError, "to_json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_refusals(make, error, message):
    with pytest.raises(error, match=message):
        make()
