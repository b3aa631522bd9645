"""Training crops of complex images: reproducible, on their range, smooth where they must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from invdiff.datasets import mr_crops
from invdiff.datasets.mr_crops import MRCrops, planes_of, remap, shading, smooth_phase


def magnitudes(value: float | None = None) -> list[np.ndarray]:
    """Two images of squares, or of one value."""
    images = np.zeros((2, 48, 56), np.float16)
    images[:, 8:40, 10:50] = 0.6
    images[0, 20:30, 20:30] = 1.2
    return list(images if value is None else np.full_like(images, value))


def source(**options) -> MRCrops:
    return MRCrops([magnitudes(), magnitudes()[:1]], [0.7, 0.3], **options)


def test_crops_depend_on_the_generator_only():
    first = source().draw(np.random.default_rng(3), 6, 32)
    assert torch.equal(first, source().draw(np.random.default_rng(3), 6, 32))
    assert not torch.equal(first, source().draw(np.random.default_rng(4), 6, 32))
    assert first.shape == (6, 2, 32, 32)
    assert first.dtype == torch.float32


def test_magnitudes_are_on_their_range():
    crops = source(noisy=0.0).draw(np.random.default_rng(0), 300, 24)
    magnitude = crops.square().sum(1).sqrt()
    assert float(magnitude.max()) <= 1.0001 * mr_crops.LARGEST
    assert 0.7 < float(magnitude.flatten(1).max(1).values.quantile(0.5)) < 1.1


def test_the_phase_leaves_the_magnitude_alone():
    """The same seed draws the same magnitude, with and without a phase."""
    for seed in range(20):
        real = source(real=1.0, noisy=0.0).draw(np.random.default_rng(seed), 1, 32)
        turned = source(real=0.0, noisy=0.0).draw(np.random.default_rng(seed), 1, 32)
        assert not real[:, 1].any()
        torch.testing.assert_close(turned.square().sum(1).sqrt(), real[:, 0], rtol=1e-5, atol=1e-6)


def test_a_share_of_the_crops_has_no_phase():
    """400 crops, each real with probability 0.15: 60 +- 7.1; 4.5 deviations are 7e-6."""
    crops = source(noisy=0.0).draw(np.random.default_rng(1), 400, 16)
    count = int((crops[:, 1] == 0).flatten(1).all(1).sum())
    assert abs(count - 60) < 33


def test_noise_has_the_stated_strength():
    """Of air nothing but the noise is left: 32^2 draws give its deviation to 2.2 %."""
    air = MRCrops([magnitudes(0.0)], [1.0], noisy=1.0)
    deviation = air.draw(np.random.default_rng(2), 200, 32).flatten(2).std(2)
    assert float(deviation.min()) > 0.002 * 0.9
    assert float(deviation.max()) < 0.015 * 1.1
    quiet = MRCrops([magnitudes(0.0)], [1.0], noisy=0.0)
    assert not quiet.draw(np.random.default_rng(2), 20, 32).any()


def test_contrasts_keep_air_black_and_are_not_all_monotone():
    grid = np.linspace(0, 1, 32)
    rising = 0
    for seed in range(200):
        values = remap(grid, np.random.default_rng(seed))
        assert abs(values[0]) < 1e-6
        assert values.min() >= 0
        assert values.max() == pytest.approx(1, abs=1e-5)
        assert np.abs(np.diff(values)).max() < 0.45  # a curve, not a step
        rising += bool((np.diff(values) >= 0).all())
    assert 40 < rising < 180


def test_shading_is_smooth_and_has_mean_one():
    r"""Each of three waves has a slope of at most pi/100 per pixel, times at most 0.5."""
    for seed in range(50):
        field = np.log(shading(64, np.random.default_rng(seed)))
        assert abs(field.mean()) < 1e-9
        for axis in (0, 1):
            assert np.abs(np.diff(field, axis=axis)).max() < 3 * 0.5 * np.pi / 100


def test_the_phase_is_smooth_and_covers_the_circle():
    phases = [smooth_phase(64, np.random.default_rng(seed)) for seed in range(200)]
    steps = [max(np.abs(np.diff(p, axis=axis)).max() for axis in (0, 1)) for p in phases]
    assert np.quantile(steps, 0.95) < 0.2
    assert max(steps) < 0.5
    centre = np.array([np.exp(1j * p[32, 32]) for p in phases])
    assert abs(centre.mean()) < 0.3  # 200 uniform angles: above 0.3 with probability 1.5e-8


def test_planes_without_tissue_are_dropped_and_small_ones_extended():
    volume = np.zeros((10, 60, 40), np.float16)
    volume[3:6, 5:55, 5:35] = 0.8
    planes = planes_of(volume, (0,), 48)
    assert len(planes) == 3 * len(mr_crops.SCALES)
    assert {plane.shape for plane in planes} == {(60, 48), (48, 48)}
    assert all(plane.max() == pytest.approx(0.8, abs=0.1) for plane in planes)
    assert not planes[0][:, 40:].any()


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.5, 0.5]])
def test_a_pool_without_weight_is_refused(weights):
    with pytest.raises(ValueError, match="Each pool of images needs a weight"):
        MRCrops([magnitudes(), magnitudes()], weights)
    with pytest.raises(ValueError, match="no empty pool"):
        MRCrops([magnitudes(), []], [0.5, 0.5])
