"""The procedural CT slices: reproducible, in Hounsfield units, with the tissues of a body."""

from __future__ import annotations

import math

import numpy as np
import pytest

from invdiff.datasets.ct_phantoms import (
    Canvas,
    draw_slice,
    reconstruction_noise,
    spectrum_noise,
)


@pytest.fixture(scope="module")
def slices() -> np.ndarray:
    return np.stack([draw_slice(seed, 96) for seed in range(24)])


def flat_canvas(size: int = 65, pixel: float = 1.0) -> Canvas:
    canvas = Canvas(np.random.default_rng(0), size, pixel, (0.0, 0.0), 1.0, 0.0)
    axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * pixel
    canvas.x, canvas.y = np.meshgrid(axis, axis)  # without the random turn
    return canvas


def test_a_slice_is_a_function_of_its_seed(slices):
    again = draw_slice(5, 96)
    assert again.dtype == np.float32
    assert again.shape == (96, 96)
    assert np.array_equal(again, slices[5])
    pairs = [(i, j) for i in range(24) for j in range(i)]
    assert not any(np.array_equal(slices[i], slices[j]) for i, j in pairs)


def test_slices_are_finite_hounsfield_units(slices):
    assert np.isfinite(slices).all()
    assert slices.min() >= -1024
    assert 1000 < slices.max() <= 3071


def test_every_slice_shows_a_body_and_all_show_its_tissues(slices):
    assert all((image > -900).mean() > 0.03 for image in slices)
    ranges = {
        "air": (-1024, -950),
        "lung": (-900, -700),
        "fat": (-130, -70),
        "water": (-5, 25),
        "muscle": (35, 75),
        "spongy bone": (150, 400),
        "cortical bone": (700, 2000),
    }
    for tissue, (low, high) in ranges.items():
        share = ((slices > low) & (slices < high)).mean()
        assert share > 0.004, tissue


def test_close_ups_and_overviews_are_both_drawn(slices):
    """Views wholly inside the body have no air at the border; overviews have it all around."""
    border = np.concatenate(
        [slices[:, 0], slices[:, -1], slices[:, :, 0], slices[:, :, -1]], axis=1
    )
    air = (border < -900).mean(axis=1)
    assert (air > 0.8).any()
    assert (air < 0.4).any()


def test_noise_has_unit_variance_no_mean_and_the_stated_spectrum():
    rng = np.random.default_rng(0)
    for field in (reconstruction_noise(rng, 128, 0.25), spectrum_noise(rng, 128, 5.0, 1.5)):
        assert field.std() == pytest.approx(1, abs=1e-3)
        assert abs(field.mean()) < 1e-4
    power = np.mean(
        [np.abs(np.fft.fft2(reconstruction_noise(rng, 64, 0.25))) ** 2 for _ in range(200)], 0
    )
    f = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None])
    at = (f > 0.05) & (f < 0.35)
    law = f * np.exp(-2 * (f / 0.25) ** 2)
    ratio = power[at] / law[at]
    assert ratio.std() / ratio.mean() < 0.15


def test_distances_of_simple_shapes_are_exact():
    canvas = flat_canvas()
    x, y = canvas.x, canvas.y
    disc = canvas.ellipse(3, -2, 10, 10, wobble=0.0)
    np.testing.assert_allclose(disc, np.hypot(x - 3, y + 2) - 10, atol=2e-4)
    stick = canvas.capsule(-5, 0, 5, 0, 2, 2)
    beyond = np.maximum(np.abs(x) - 5, 0)
    np.testing.assert_allclose(stick, np.hypot(beyond, y) - 2, atol=1e-4)


def test_painting_covers_the_area_of_the_shape():
    canvas = flat_canvas(129, 0.5)
    canvas.paint(canvas.ellipse(0, 0, 20, 12, turn=0.4, wobble=0.0), 40.0)
    area = float(((canvas.hu + 1000) / 1040).sum()) * 0.25
    assert area == pytest.approx(math.pi * 20 * 12, rel=0.01)
    assert canvas.hu[64, 64] == 40
    assert canvas.hu[0, 0] == -1000


def test_a_bone_has_a_dense_shell_around_a_spongy_inside():
    canvas = flat_canvas(129, 0.5)
    distance = canvas.ellipse(0, 0, 20, 20, wobble=0.0)
    canvas.bone(distance, 3.0, 1000.0, 200.0)
    shell = canvas.hu[(distance > -1.5) & (distance < -1.1)]
    inside = canvas.hu[distance < -10]
    assert shell.mean() > 600
    assert inside.mean() == pytest.approx(200, rel=0.2)
    assert inside.std() > 10
