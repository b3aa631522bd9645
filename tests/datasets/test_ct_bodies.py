"""CT phantoms: Hounsfield units where they belong, the same from the same seed."""

import numpy as np
import pytest

from invdiff.datasets.ct_bodies import head_slice, head_volume, torso_slice, torso_volume
from invdiff.datasets.ct_painter import Painter
from invdiff.errors import ShapeError

SHAPE = (24, 40, 48)
VOLUMES = [(head_volume, (9.0, 6.0, 5.0)), (torso_volume, (16.0, 8.0, 9.0))]


@pytest.mark.parametrize(("make", "spacing"), VOLUMES, ids=["head", "torso"])
def test_volumes(make, spacing):
    volume = make(3, SHAPE, spacing)
    assert volume.hu.shape == SHAPE
    assert volume.hu.dtype == np.float32
    assert -1024 <= volume.hu.min() < -950
    assert 300 < volume.hu.max() <= 3071
    assert np.array_equal(make(3, SHAPE, spacing).hu, volume.hu)
    assert not np.array_equal(make(4, SHAPE, spacing).hu, volume.hu)
    corners = volume.hu[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.mean() == pytest.approx(-1000, abs=10)
    middle = np.array([(n - 1) / 2 for n in SHAPE])
    assert np.allclose(volume.affine @ (*middle, 1), (0, 0, 0, 1))
    assert np.allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), spacing)


def test_neighbouring_slices_belong_together():
    volume = head_volume(0, (60, 48, 40), (3.0, 5.0, 5.0), noise=0.0)
    near = np.abs(np.diff(volume.hu[20:50], axis=0)).mean()
    far = np.abs(volume.hu[20:35] - volume.hu[35:50]).mean()
    assert near < 0.3 * far


def test_lungs_are_air_and_the_spine_is_bone():
    volume = torso_volume(1, (20, 70, 100), (20.0, 4.0, 4.0), noise=0.0)
    assert volume.hu[14, 35, 50 - 19] < -700
    assert volume.hu[14, 35, 50 + 19] < -700
    assert volume.hu[:, 45:60, 46:54].max() > 400


def test_noise_has_the_declared_strength():
    """A tenth of the pixels are air in every slice; the spread there is that of the noise."""
    still = torso_volume(2, (4, 64, 64), (30.0, 8.0, 8.0), noise=0.0)
    noisy = torso_volume(2, (4, 64, 64), (30.0, 8.0, 8.0), noise=12.0)
    inside = still.hu > -800
    assert (noisy.hu - still.hu)[inside].std() == pytest.approx(12, rel=0.1)


@pytest.mark.parametrize("make", [head_slice, torso_slice])
def test_slices(make):
    one = make(5, size=64)
    assert one.shape == (64, 64)
    assert one.dtype == np.float32
    assert np.array_equal(one, make(5, size=64))
    assert not np.array_equal(one, make(6, size=64))
    assert one[:2, :2].mean() < -900
    assert one.max() > 200


def test_an_ellipsoid_has_its_volume():
    """Semi-axes 30, 20, 40 mm in 2 mm voxels: soft edges keep the volume to 2 %."""
    painter = Painter(0, (60, 40, 50), (2.0, 2.0, 2.0))
    painter.paint(0.0, (5.0, -3.0, 4.0), (30.0, 20.0, 40.0))
    filled = (painter.hu + 1000).sum() / 1000 * 8
    assert filled == pytest.approx(4 / 3 * np.pi * 30 * 20 * 40, rel=0.02)
    before = painter.hu.copy()
    painter.paint(500.0, (500.0, 0.0, 0.0), (10.0, 10.0, 10.0))
    assert np.array_equal(painter.hu, before)


def test_wrong_shapes_are_refused():
    for shape, spacing in (((4, 4), (1, 1)), ((4, 4, 0), (1.0, 1, 1)), ((4, 4, 4), (1.0, 0, 1))):
        with pytest.raises(ShapeError, match="positive"):
            head_volume(0, shape, spacing)
