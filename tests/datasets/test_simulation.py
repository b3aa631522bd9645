"""Simulated measurements: the noise is what it says, and no grid is shared."""

import numpy as np
import pytest
import torch

from invdiff.datasets.hounsfield import attenuation_to_hu, hu_to_attenuation
from invdiff.datasets.simulation import simulate_ct, simulate_mri
from invdiff.linalg import cg
from invdiff.operators import fbp, hann
from invdiff.operators.cartesian_mri import fft2c


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INVDIFF_CACHE", str(tmp_path))


def slice_in_hu(size: int = 48) -> np.ndarray:
    t = np.linspace(-1, 1, size)
    r = np.hypot(t[None, :], t[:, None])
    return np.where(r < 0.8, 40.0, -1000.0) + np.where(r < 0.3, 600.0, 0.0)


def test_noise_is_as_declared():
    """Two seeds differ by noise alone, of variance 2 in units of sigma (4 standard errors)."""
    first, second = (
        simulate_ct(slice_in_hu(), 2.0, 40, 2e4, 0.02, seed).sinogram for seed in (0, 1)
    )
    z = (first.sinogram - second.sinogram) / first.sigma
    assert abs((z**2).mean() / 2 - 1) < 4 * np.sqrt(2 / z.size)
    assert abs(z.mean()) < 4 * np.sqrt(2 / z.size)
    again = simulate_ct(slice_in_hu(), 2.0, 40, 2e4, 0.02, 0).sinogram
    assert np.array_equal(again.sinogram, first.sinogram)


def test_the_operator_explains_the_data():
    """chi2 of the truth is near 1: the two projectors differ by less than the noise here."""
    hu = slice_in_hu()
    made = simulate_ct(hu, 2.0, 30, 2e3, 0.02, 0).sinogram
    x = torch.from_numpy(hu_to_attenuation(hu).astype(np.float32))[None, None]
    misfit = (made.operator()(x)[0, 0].numpy() - made.sinogram) / made.sigma
    assert 0.9 < (misfit**2).mean() < 1.3


def test_reconstructs_in_place():
    """FBP of the simulation lies on the image: right place, right value."""
    hu = slice_in_hu(64)
    made = simulate_ct(hu, 1.5, 180, 1e7, 0.02, 0).sinogram
    y = torch.from_numpy(made.sinogram)[None, None]
    found = attenuation_to_hu(fbp(made.operator(), y, hann)[0, 0].numpy())
    assert np.corrcoef(found.ravel(), hu.ravel())[0, 1] > 0.98  # edges are blurred
    for shift in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        assert np.abs(found - hu).mean() < np.abs(np.roll(found, shift, (0, 1)) - hu).mean()
    assert abs(np.median(found[hu == 640.0]) - 640) < 30


def test_starved_rays_are_counted():
    thick = np.where(slice_in_hu() > -500, 3000.0, -1000.0)
    made = simulate_ct(thick, 3.0, 12, 100.0, 0.02, 0)
    assert 0.05 < made.starved < 0.9
    assert np.isfinite(made.sinogram.sinogram).all()
    assert made.sinogram.sigma.max() == 1
    assert simulate_ct(slice_in_hu(), 1.0, 12, 1e5, 0.02, 0).starved == 0


def test_mri_noise_and_truth():
    """sigma is per real component; the maps' energy is one, so coils add up to the truth."""
    image = np.clip(1.2 - np.hypot(*np.meshgrid(*[np.linspace(-1.5, 1.5, 32)] * 2)), 0, 1)
    quiet, noisy = (simulate_mri(image, 2, noise, 0) for noise in (1e-9, 0.05))
    gap = (noisy.kspace.kspace - quiet.kspace.kspace)[:, quiet.kspace.mask]
    count = gap.size
    assert abs(gap.real.std() / 0.05 - 1) < 4 / np.sqrt(2 * count)
    assert abs(gap.imag.std() / 0.05 - 1) < 4 / np.sqrt(2 * count)
    assert noisy.kspace.sigma == 0.05
    assert not noisy.kspace.kspace[:, ~noisy.kspace.mask].any()
    assert quiet.acceleration == pytest.approx(2)
    assert np.abs(np.abs(quiet.truth) - image).mean() < 0.02
    assert np.angle(quiet.truth[np.abs(quiet.truth) > 0.3]).std() > 0.3  # it has a phase


def test_mri_full_scan_gives_the_truth():
    """Root sum of squares of all coils, fully sampled, is |truth| up to coils bending it: 2 %."""
    image = np.clip(1.2 - np.hypot(*np.meshgrid(*[np.linspace(-1.5, 1.5, 32)] * 2)), 0, 1)
    made = simulate_mri(image, 1, 1e-9, 3)
    coils = fft2c(torch.from_numpy(made.kspace.kspace).conj()).conj()  # the inverse transform
    rss = coils.abs().square().sum(0).sqrt().numpy()
    assert np.abs(rss - np.abs(made.truth)).max() < 0.02


def test_mri_operator_explains_the_data():
    """With maps from its own centre, least squares comes within 10 % of the truth."""
    t = np.linspace(-1, 1, 64)
    image = (np.hypot(t[None, :], t[:, None]) < 0.7) * (1 + 0.2 * np.cos(6 * t))[None, :]
    made = simulate_mri(image, 2, 0.002, 1, center_fraction=0.3)
    A = made.kspace.operator()
    y = torch.from_numpy(made.kspace.kspace)[None]
    # Maps from data fix a phase of their own, so the image is compared by its magnitude.
    x = cg(lambda u: A.adjoint(A(u)) + 1e-3 * u, A.adjoint(y)).x
    gap = x[0, 0].abs().numpy() - np.abs(made.truth)
    assert np.linalg.norm(gap) < 0.1 * np.linalg.norm(made.truth)


def test_mri_refuses_what_is_no_image():
    with pytest.raises(ValueError, match="finite real"):
        simulate_mri(np.ones((8, 8), np.complex64), 2, 0.1, 0)
    with pytest.raises(ValueError, match="finite real"):
        simulate_mri(np.ones((2, 8, 8)), 2, 0.1, 0)
